"""An audit's folder: whatever is changed in it is found, by us, by openssl, by the lines of the document."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.audit.edition import History
from appliance.audit.facts import AuditFacts, facts_from_bytes
from appliance.audit.formats import FORMATS, Format, Unavailable
from appliance.audit.outcome import AuditResult
from appliance.audit.report import Wish, formats_named, pretty, write_audit
from appliance.audit.result import audit
from appliance.audit.seal import (
    ALWAYS,
    PUBLIC_KEY,
    SIGNATURE,
    SUMS,
    AuditKey,
    key_path,
    own_key,
    seal,
    unseal,
)
from appliance.errors import BadInput, BanipError, Tampered, Untrusted
from appliance.format import sha256_hex
from appliance.release import Server
from appliance.text import text
from tests.sealing import NOTE, facts_on, result_on, sealed_on
from tests.test_main import python

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.audit.edition import Edition
    from appliance.audit.report import Written
    from appliance.text import Event

PROJECT = Path(__file__).parents[1]
DOCUMENT = PROJECT / "docs" / "ko" / "audit.md"
CORE = sorted({*ALWAYS, SUMS, SIGNATURE, "history.json"})


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return sealed_on(tmp_path / "root", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Give a folder that nobody changes, and the name of its key."""
    root = tmp_path_factory.mktemp("whole") / "root"
    folder = sealed_on(root, 0).folder
    return folder, unseal(folder).key


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def resealed(folder: Path, key: AuditKey, **changed: bytes) -> None:
    """Sign a folder again, as root could with a key."""
    kept = {
        name: data for name, data in contents(folder).items() if name not in {SUMS, SIGNATURE, PUBLIC_KEY}
    }
    for name, content in seal({**kept, **changed}, key).items():
        (folder / name).write_bytes(content)


def openssl(*words: object, **options: object) -> subprocess.CompletedProcess[bytes]:
    argv = ["openssl", *map(str, words)]
    return subprocess.run(argv, capture_output=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


# --- What is written ---------------------------------------------------------------------------------------


def test_the_folder_holds_everything_and_is_roots_alone(written: Written) -> None:
    assert sorted(contents(written.folder)) == sorted([*CORE, "note.txt"])
    assert written.folder.name == "20261101T093000Z"
    assert written.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in written.folder.iterdir()} == {0o600}
    again = msgspec.json.decode((written.folder / "facts.json").read_bytes(), type=AuditFacts)
    assert audit(again, "S") == result_on(0)
    found = msgspec.json.decode((written.folder / "audit.json").read_bytes(), type=AuditResult)
    assert found == result_on(0)


def test_the_report_says_its_number_and_head(written: Written) -> None:
    record = (written.folder / "record.json").read_bytes()
    assert (written.folder / "note.txt").read_text().splitlines()[1] == sha256_hex(record)
    assert written.link.head == sha256_hex(record)


def test_openssl_and_sha256sum_find_it_whole(written: Written) -> None:
    done = openssl(
        "dgst", "-sha256", "-verify", PUBLIC_KEY, "-signature", SIGNATURE, SUMS, cwd=written.folder
    )
    assert (done.returncode, done.stdout) == (0, b"Verified OK\n")
    sums = subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=written.folder, check=False)
    assert sums.returncode == 0


def test_the_key_is_made_once_is_p_256_and_stays_roots(tmp_path: Path, written: Written) -> None:
    path = key_path(tmp_path / "root")
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.parent.parent.stat().st_mode & 0o777 == 0o700
    assert b"prime256v1" in openssl("pkey", "-in", path, "-noout", "-text").stdout
    der = openssl("pkey", "-pubin", "-in", written.folder / PUBLIC_KEY, "-outform", "DER").stdout
    assert sha256_hex(der) == written.link.record.key
    before = path.read_bytes()
    sealed_on(tmp_path / "root", 1)
    assert path.read_bytes() == before
    secret = "".join(before.decode().split("\n")[1:-2])
    for place in (tmp_path / "root" / "log", tmp_path / "root" / "state"):
        for file in place.rglob("*"):
            assert not file.is_file() or secret[20:60].encode() not in file.read_bytes()


def test_a_damaged_key_seals_nothing(tmp_path: Path) -> None:
    path = key_path(tmp_path / "root")
    path.parent.mkdir(parents=True)
    path.write_text("no key")
    with pytest.raises(Tampered, match="audit key"):
        sealed_on(tmp_path / "root", 0)
    assert not [one for one in (tmp_path / "root").rglob("*") if one.name == SUMS]


def test_a_format_that_cannot_be_made_here_is_left_out_and_said(tmp_path: Path) -> None:
    def cannot(_: Edition) -> bytes:
        raise Unavailable(text("there are no fonts"))

    said: list[Event] = []
    wish = Wish("ko", (NOTE, Format("pdf", "audit.pdf", cannot)))
    found = write_audit(Server(tmp_path), facts_on(0), result_on(0), wish, said.append)
    assert found.left_out == {"pdf": "there are no fonts"}
    assert "audit.pdf" not in contents(found.folder)
    (event,) = (one for one in said if one.name == "left-out")
    assert "no fonts" in event.words.render("ko")
    unseal(found.folder)


def test_a_format_nobody_knows_is_refused_and_all_are_the_default() -> None:
    assert formats_named(()) == FORMATS
    assert [one.name for one in formats_named(("html", "html"))] == ["html"]
    with pytest.raises(BadInput, match="no format docx"):
        formats_named(("docx",))


def test_two_audits_of_one_second_have_two_folders(tmp_path: Path) -> None:
    names = [sealed_on(tmp_path, 0).folder.name for _ in range(3)]
    assert names == ["20261101T093000Z", "20261101T093000Z-2", "20261101T093000Z-3"]


# --- What is found -----------------------------------------------------------------------------------------


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_anywhere_is_found(whole: tuple[Path, str], data: st.DataObject) -> None:
    folder, key = whole
    path = folder / data.draw(st.sampled_from(sorted(contents(folder))))
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    changed = bytes([before[place] ^ data.draw(st.integers(1, 255))])
    try:
        path.write_bytes(before[:place] + changed + before[place + 1 :])
        for expected in (None, key):
            with pytest.raises((Tampered, Untrusted)) as caught:
                unseal(folder, expected)
            assert str(folder) in str(caught.value.where)
    finally:
        path.write_bytes(before)
    unseal(folder, key)


@pytest.mark.parametrize("name", [*CORE, "note.txt"])
def test_a_missing_emptied_or_linked_file_is_found(written: Written, name: str) -> None:
    path, aside = written.folder / name, written.folder.parent / name
    path.rename(aside)
    for kind in ("missing", "emptied", "linked"):
        if kind == "emptied":
            path.touch()
        elif kind == "linked":
            path.unlink()
            path.symlink_to(aside)
        with pytest.raises(Tampered) as caught:
            unseal(written.folder)
        assert str(caught.value.where).startswith(str(written.folder)), kind


def test_a_file_that_nobody_signed_is_found(written: Written) -> None:
    (written.folder / "audit.hwpx").write_bytes(b"more")
    with pytest.raises(Tampered, match="not as it was sealed") as caught:
        unseal(written.folder)
    assert str(caught.value.where).endswith("audit.hwpx")


def test_a_pipe_in_the_place_of_a_file_does_not_hang(written: Written) -> None:
    (written.folder / "facts.json").unlink()
    os.mkfifo(written.folder / "facts.json")
    with pytest.raises(Tampered, match="not as it was sealed"):
        unseal(written.folder)


def test_another_key_is_told_from_a_change(written: Written) -> None:
    expected = written.link.record.key
    other = AuditKey(ec.generate_private_key(ec.SECP256R1()))
    record = json.loads((written.folder / "record.json").read_bytes()) | {"key": other.name}
    line = (json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n").encode()
    resealed(written.folder, other, **{"record.json": line})
    assert unseal(written.folder).key == other.name, "a folder cannot prove whose key it is"
    with pytest.raises(Untrusted) as caught:
        unseal(written.folder, expected)
    assert (caught.value.expected, caught.value.seen) == (expected, other.name)


def test_a_record_of_other_facts_is_found_even_where_the_key_signed_it(
    tmp_path: Path, written: Written
) -> None:
    key = own_key(tmp_path / "root")
    assert key is not None
    resealed(written.folder, key, **{"facts.json": pretty(facts_on(3))})
    with pytest.raises(Tampered) as caught:
        unseal(written.folder)
    assert str(caught.value.where).endswith("record.json")


@pytest.mark.parametrize(
    "change",
    [
        lambda sums: sums.replace(b"  facts.json", b" *facts.json"),
        lambda sums: sums + sums,
        lambda sums: sums + b"0" * 64 + b"  ../outside\n",
        lambda sums: sums.replace(b"\n", b"\r\n"),
        lambda sums: b"".join(line for line in sums.splitlines(keepends=True) if b"facts.json" not in line),
        lambda _: b"",
    ],
)
def test_a_list_is_spelled_one_way_only(
    tmp_path: Path, written: Written, change: Callable[[bytes], bytes]
) -> None:
    key = own_key(tmp_path / "root")
    assert key is not None
    sums = change((written.folder / SUMS).read_bytes())
    (written.folder / SUMS).write_bytes(sums)
    (written.folder / SIGNATURE).write_bytes(key.sign(sums))
    with pytest.raises(Tampered) as caught:
        unseal(written.folder)
    assert str(caught.value.where).endswith(SUMS)


# --- The report again, anywhere ----------------------------------------------------------------------------


def report(tmp_path: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """Type it on a machine on which nothing of Banip is installed."""
    out = tmp_path / "again"
    return python(
        "-m", "appliance", "--root", tmp_path / "nothing", "--json", "audit", "report", "--out", out, *words
    )


def told(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_facts_judged_again_come_to_the_same_bytes(tmp_path: Path, written: Written) -> None:
    shutil.rmtree(tmp_path / "again", ignore_errors=True)
    done = report(tmp_path, written.folder, "--again", "--format", "html")
    assert done.returncode == 0, done.stdout + done.stderr
    found = told(done)["result"]
    assert isinstance(found, dict)
    assert found["head"] == written.link.head, "the same result is the same link"
    again = Path(found["folder"]) / "audit.json"
    assert again.read_bytes() == (written.folder / "audit.json").read_bytes()
    assert not (tmp_path / "nothing").exists()


def test_another_grade_is_judged_from_the_same_facts_and_is_in_no_chain(
    tmp_path: Path, written: Written
) -> None:
    key = tmp_path / "paper.pub"
    shutil.copy(written.folder / PUBLIC_KEY, key)
    done = report(tmp_path, written.folder, "--grade", "C", "--key", key, "--format", "html")
    assert done.returncode == 0, done.stdout + done.stderr
    found = told(done)["result"]
    assert isinstance(found, dict)
    assert (found["head"], found["verified"]) == (None, True)
    again = msgspec.json.decode((Path(found["folder"]) / "audit.json").read_bytes(), type=AuditResult)
    assert again == result_on(0, "C")


def test_a_report_in_the_other_language_is_of_the_same_result(tmp_path: Path, written: Written) -> None:
    done = report(tmp_path, written.folder, "--lang", "en", "--format", "html")
    assert done.returncode == 0, done.stdout + done.stderr
    found = told(done)["result"]
    assert isinstance(found, dict)
    assert 'lang="en"' in (Path(found["folder"]) / "audit.html").read_text()
    assert found["head"] == written.link.head


def test_a_bare_facts_file_is_judged_and_marked(tmp_path: Path, written: Written) -> None:
    done = report(tmp_path, written.folder / "facts.json", "--grade", "S", "--format", "html")
    assert done.returncode == 0, done.stdout + done.stderr
    found = told(done)["result"]
    assert isinstance(found, dict)
    assert (found["verified"], found["head"]) == (False, None)
    assert any(json.loads(line).get("event") == "unverified" for line in done.stdout.splitlines())


@pytest.mark.parametrize("name", ["facts.json", "audit.json", "record.json", "note.txt"])
def test_a_changed_folder_is_eleven_and_the_file_is_named(
    tmp_path: Path, written: Written, name: str
) -> None:
    with (written.folder / name).open("ab") as file:
        file.write(b" ")
    done = report(tmp_path, written.folder)
    assert done.returncode == 11
    assert str(told(done)["where"]).endswith(name)
    assert not (tmp_path / "again").exists()


def test_a_folder_of_another_server_is_ten_where_a_key_is_given(tmp_path: Path, written: Written) -> None:
    other = sealed_on(tmp_path / "other", 0)
    done = report(tmp_path, written.folder, "--key", other.folder / PUBLIC_KEY)
    assert done.returncode == 10
    assert told(done)["seen"] == written.link.record.key


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("no-such",), 2),
        (("facts.json", "--key", "k"), 2),
        ((".", "--format", "docx"), 2),
        (("korean.json",), 2),
    ],
)
def test_what_cannot_be_a_report_is_two(tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    (tmp_path / "korean.json").write_text("{}")
    (tmp_path / "facts.json").write_text("{}")
    source = tmp_path / words[0]
    assert report(tmp_path, source, *words[1:]).returncode == code


def test_history_is_kept_for_the_report_that_is_made_elsewhere(tmp_path: Path, written: Written) -> None:
    del written
    folder = sealed_on(tmp_path / "root", 1).folder
    history = msgspec.json.decode((folder / "history.json").read_bytes(), type=History)
    assert history.comparison is not None
    assert history.comparison.earlier.number == 1
    assert [one.number for one in history.trend] == [1]


# --- By hand -----------------------------------------------------------------------------------------------


def blocks() -> list[str]:
    (section,) = re.findall(r"(?ms)^## 9\. [^\n]*\n(.*?)(?=^## |\Z)", DOCUMENT.read_text("utf-8"))
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", section)


def by_hand(folder: Path, before: Path, key: Path) -> subprocess.CompletedProcess[str]:
    """Paste the document's lines into a plain ``sh``; only the three paths of its first block are changed."""
    lines = "".join(blocks())
    for name, path in (("AUDIT", folder), ("BEFORE", before), ("KEY", key)):
        lines, count = re.subn(rf"(?m)^{name}=.*$", f"{name}={path}", lines)
        assert count == 1
    return subprocess.run(
        ["env", "-i", "PATH=/usr/bin:/bin", "sh"],
        input=lines,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Give an audit, the one before it, and the key as it was kept on another medium."""
    before, folder = (sealed_on(tmp_path / "root", day).folder for day in (0, 1))
    return folder, before, Path(shutil.copy(folder / PUBLIC_KEY, tmp_path / "kept.pub"))


def test_the_lines_of_the_document_find_an_audit_whole(two: tuple[Path, Path, Path]) -> None:
    folder, _, key = two
    done = by_hand(*two)
    assert done.returncode == 0, done.stdout
    said = done.stdout.splitlines()
    assert said[0].split()[0] == unseal(folder).key
    assert "Verified OK" in said
    assert any(line.startswith(unseal(folder).link.head) for line in said)
    assert said[-1] == f"every line held for {folder}"
    assert key.read_bytes() == (folder / PUBLIC_KEY).read_bytes()


def _flip(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:40] + bytes([content[40] ^ 1]) + content[41:])


@pytest.mark.parametrize(
    "change",
    [
        lambda folder, _: _flip(folder / "facts.json"),
        lambda folder, _: _flip(folder / "record.json"),
        lambda folder, _: _flip(folder / SUMS),
        lambda folder, _: _flip(folder / SIGNATURE),
        lambda folder, _: (folder / "note.txt").unlink(),
        lambda folder, _: (folder / "more.pdf").touch(),
        lambda _, before: _flip(before / "record.json"),
    ],
)
def test_the_lines_of_the_document_stop_at_a_change(
    two: tuple[Path, Path, Path], change: Callable[[Path, Path], object]
) -> None:
    change(two[0], two[1])
    done = by_hand(*two)
    assert done.returncode != 0
    assert "STOPPED" in done.stdout
    assert "every line held" not in done.stdout


def test_the_lines_of_the_document_stop_at_another_key(tmp_path: Path, two: tuple[Path, Path, Path]) -> None:
    other = sealed_on(tmp_path / "other", 0).folder / PUBLIC_KEY
    done = by_hand(two[0], two[1], other)
    assert (done.returncode != 0, "STOPPED" in done.stdout) == (True, True)


def test_what_is_changed_is_a_banip_error_with_an_exit_code() -> None:
    assert issubclass(Tampered, BanipError)
    assert (Tampered.exit_code, Untrusted.exit_code) == (11, 10)


@pytest.mark.parametrize("taken", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-01-01T00:00:00"])
def test_facts_of_a_time_that_no_clock_shows_are_bad_input(taken: str) -> None:
    with pytest.raises(BadInput) as caught:
        facts_from_bytes(json.dumps({"taken": taken}).encode(), "facts.json")
    assert "$.taken" in str(caught.value.where)


def test_a_facts_file_that_is_a_pipe_is_bad_input_and_waits_for_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "facts.json")
    done = python("-m", "appliance", "--root", tmp_path / "root", "audit", "report", tmp_path / "facts.json")
    assert done.returncode == 2, done.stderr
