"""The commands of those who hold keys, as they are typed: several people, several machines, one paper."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import build
from appliance.format import sha256_hex
from bundle.folder import roots
from bundle.pack import build_carrier, inspect
from bundle.pair import encrypted_pem, public_pem
from tests.typed import interrupted
from tests.world import World, key

pytestmark = pytest.mark.real

BUILD = Path(__file__).parents[1] / "build.py"
PASSPHRASE = "five words that nobody guesses"
CUSTODIANS = ("kim", "lee", "park")


@dataclass(frozen=True)
class Said:
    """What a command left: exit code, and both streams."""

    code: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out.splitlines()[-1])["result"]
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Desk:
    """A folder in which somebody types."""

    folder: Path

    def type(self, *argv: object, code: int = 0) -> Said:
        out, err = io.StringIO(), io.StringIO()
        ended = 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                build.main([str(each) for each in argv])
            except SystemExit as error:
                ended = int(error.code or 0)
        said = Said(ended, out.getvalue(), err.getvalue())
        assert said.code == code, said
        return said

    def json(self, *argv: object, code: int = 0) -> Said:
        return self.type(*argv, "--json", code=code)

    def bundle(self, counter: int = 1, content: bytes = b"one") -> Path:
        """Build an unsigned bundle of the product in the key folder."""
        world = World(product="tiny", version=f"1.0.{counter}", counter=counter)
        world.files["models/tiny/config.json"] = content
        path = self.folder / f"tiny-{counter}-{content.decode()}.tar"
        expires = datetime.now(timezone.utc) + timedelta(days=700)
        build_carrier(path, roots(self.folder / "keys"), world.release, world.open_blob, expires=expires)
        return path


def _pair(folder: Path, name: str) -> None:
    (folder / f"{name}.pem").write_bytes(encrypted_pem(key(name), PASSPHRASE.encode()))
    (folder / f"{name}.pub.pem").write_bytes(public_pem(key(name).public_key))


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a desk where three people keep root keys and two keep release keys, both of which must sign."""
    folder = tmp_path_factory.mktemp("desk")
    for name in (*CUSTODIANS, "han", "seo", "new"):
        _pair(folder, name)
    made = Desk(folder)
    named = [word for name in CUSTODIANS for word in ("--root-key", f"{name}.pub.pem")]
    named += ["--release-key", "han.pub.pem", "--release-key", "seo.pub.pem", "--release-threshold", "2"]
    with pytest.MonkeyPatch.context() as monkeypatch:
        _sit_down(folder, monkeypatch)
        made.type("keys", "create", "--product", "tiny", *named)
        made.type("keys", "rotate", "--key", "kim.pem", "--key", "lee.pem")
    return folder


def _sit_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BANIP_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")


@pytest.fixture
def desk(furnished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Give a copy of the desk, and sit down at it."""
    folder = tmp_path / "desk"
    shutil.copytree(furnished, folder)
    _sit_down(folder, monkeypatch)
    return Desk(folder)


def test_a_custodian_makes_a_pair_that_nobody_overwrites(desk: Desk) -> None:
    made = desk.json("keys", "new", "cho.pem").result
    assert Path("cho.pem").stat().st_mode & 0o777 == 0o600
    public = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", "cho.pub.pem", "-outform", "DER"],
        capture_output=True,
        check=True,
    ).stdout
    assert sha256_hex(public) == made["key_id"]
    before = Path("cho.pem").read_bytes()
    assert "never overwritten" in desk.type("keys", "new", "cho.pem", code=2).err
    Path("cho.pem").rename("elsewhere.pem")
    desk.type("keys", "new", "cho.pem", code=2)  # the public half is another pair's
    assert Path("elsewhere.pem").read_bytes() == before


@pytest.mark.parametrize("name", ["cho", "cho.key", "cho.pub.pem", ".pem"])
def test_a_pair_has_names_that_tell_its_halves_apart(desk: Desk, name: str) -> None:
    before = sorted(desk.folder.iterdir())
    desk.type("keys", "new", name, code=2)
    assert sorted(desk.folder.iterdir()) == before


def test_a_private_key_is_not_taken_for_a_public_one(desk: Desk) -> None:
    words = ("--product", "other", "--keys", "other", "--root-key", "kim.pem", "--root-threshold", "1")
    assert "stays with its custodian" in desk.type("keys", "create", *words, code=2).err
    assert not Path("other").exists()


def test_a_key_folder_of_custodians_holds_no_private_key(desk: Desk) -> None:
    assert not [path for path in Path("keys").rglob("*.pem") if b"PRIVATE" in path.read_bytes()]
    assert desk.json("keys", "show").result["root_version"] == 1


# --- A release, by two people elsewhere


def test_a_release_is_signed_by_two_people_on_two_machines(desk: Desk) -> None:
    bundle = desk.bundle()
    exported = desk.json("sign", bundle, "--export", "tiny.bin").result
    assert exported["exported_sha256"] == sha256_hex(Path("tiny.bin").read_bytes())
    assert (exported["signed_by"], exported["lacking"]) == ([], 2)
    shown = desk.type("keys", "sign", "tiny.bin", "--key", "han.pem", "--yes")
    assert "a release, counter 1" in shown.out
    assert inspect(bundle).release_sha256 in shown.out
    (made,) = Path().glob("tiny.bin.*.sig")
    assert "1 more of the release keys must sign" in desk.type("sign", bundle, "--signature", made).out
    desk.type("verify", bundle, code=10)
    words = ("-sign", "seo.pem", "-passin", "env:BANIP_PASSPHRASE", "-out", "seo.sig", "tiny.bin")
    subprocess.run(["openssl", "dgst", "-sha256", *words], check=True)
    assert desk.json("sign", bundle, "--signature", "seo.sig").result["lacking"] == 0
    desk.type("verify", bundle)


def test_a_signature_by_nobody_who_may_sign_changes_nothing(desk: Desk) -> None:
    bundle = desk.bundle()
    desk.type("sign", bundle, "--export", "tiny.bin")
    desk.type("keys", "sign", "tiny.bin", "--key", "kim.pem", "--yes")  # a root key: no release key
    before = bundle.read_bytes()
    (made,) = Path().glob("tiny.bin.*.sig")
    refused = desk.json("sign", bundle, "--signature", made, code=2).events[-1]
    assert "none of the keys that may sign here" in refused["happened"]
    assert sha256_hex(Path("tiny.bin").read_bytes()) in refused["expected"]
    assert bundle.read_bytes() == before


def test_signing_with_no_key_at_all_says_what_to_name(desk: Desk) -> None:
    assert "--key" in desk.type("sign", desk.bundle(), code=2).err
    Path("some.bin").touch()
    assert "--key" in desk.type("keys", "sign", "some.bin", code=2).err


def test_a_custodian_is_asked_and_may_say_no(desk: Desk) -> None:
    desk.type("sign", desk.bundle(), "--export", "tiny.bin")

    def answer(words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, BUILD, "keys", "sign", "tiny.bin", "--key", "han.pem", "--lang", "ko"],
            input=words,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "BANIP_PASSPHRASE": PASSPHRASE},
        )

    for words, said in (("n\n", "바꾼 것은 없습니다"), ("", "답할 사람이 없습니다")):
        refused = answer(words)
        assert refused.returncode == 2
        assert "카운터 1" in refused.stderr
        assert said in refused.stderr
        assert not list(Path().glob("*.sig"))
    request, key_file = Path("tiny.bin").absolute(), Path("han.pem").absolute()
    code, shown = interrupted(
        *(sys.executable, BUILD, "keys", "sign", request, "--key", key_file),
        env={**os.environ, "BANIP_PASSPHRASE": PASSPHRASE},
    )
    assert (code, "run the same command again" in shown) == (130, True), shown
    assert not list(Path().glob("*.sig"))
    assert answer("y\n").returncode == 0
    assert len(list(Path().glob("*.sig"))) == 1


def test_nobody_to_type_a_passphrase_says_how_to_give_it(desk: Desk) -> None:
    del desk
    done = subprocess.run(
        [sys.executable, BUILD, "keys", "create", "--product", "tiny", "--keys", "new-keys"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "BANIP_PASSPHRASE"},
        start_new_session=True,  # no terminal behind it either
    )
    assert done.returncode == 2
    assert "--passphrase-file or BANIP_PASSPHRASE" in done.stderr
    assert not Path("new-keys").exists()


# --- The ledger


def test_a_counter_that_was_exported_is_never_given_to_another_release(desk: Desk) -> None:
    desk.type("sign", desk.bundle(), "--export", "tiny.bin")
    other = desk.bundle(content=b"two")
    before = other.read_bytes()
    for words in (("--key", "han.pem"), ("--export", "other.bin")):
        refused = desk.type("sign", other, *words, code=2)
        assert "raise the counter" in refused.err
    assert other.read_bytes() == before
    assert not Path("other.bin").exists()


def test_a_custodians_signature_counts_in_the_ledger_of_the_folder_that_names_the_key(desk: Desk) -> None:
    desk.type("sign", desk.bundle(), "--export", "one.bin")
    other = desk.bundle(content=b"two")
    Path("keys").rename("away")  # exported on a machine that has no ledger
    desk.type("sign", other, "--export", "two.bin")
    Path("away").rename("keys")
    desk.type("keys", "sign", "two.bin", "--key", "han.pem", "--yes", code=2)
    desk.type("keys", "sign", "two.bin", "--key", "kim.pem", "--yes")  # none of the folder's release keys
    assert len(list(Path().glob("*.sig"))) == 1


def test_signing_says_which_root_the_bundle_carries_and_whom_it_replaces(desk: Desk) -> None:
    before = desk.bundle(1)
    first = desk.type("sign", before, "--key", "han.pem")
    assert "root version 1, the first: it replaces none" in first.out
    assert "key folder" not in first.err
    desk.type("keys", "rotate", "--valid-days", "400", "--key", "kim.pem", "--key", "lee.pem")
    after = desk.type("sign", desk.bundle(2), "--key", "han.pem")
    assert "root version 2: every server that sees it trusts it in the place of root version 1" in after.out
    assert "key folder" not in after.err
    late = desk.json("sign", before, "--key", "seo.pem")
    assert late.result["root_version"] == 1
    assert any("other roots than the key folder keys has" in one.get("warning", "") for one in late.events)


@pytest.mark.parametrize(("language", "said"), [("ko", "tiny의 키: keys"), ("en", "keys of tiny in keys")])
def test_language_and_json_may_stand_before_the_command_and_after_it(
    desk: Desk, language: str, said: str
) -> None:
    show = ("keys", "show")
    for words in (("--lang", language, *show), (*show, "--lang", language), (*show, f"--lang={language}")):
        assert desk.type(*words).out.endswith(f"{said}\n")
        assert json.loads(desk.type("--json", *words).out)["said"] == said


def test_a_lower_counter_is_warned_of(desk: Desk) -> None:
    desk.type("sign", desk.bundle(5), "--key", "han.pem")
    said = desk.type("sign", desk.bundle(4), "--key", "han.pem")
    assert "warning: counter 4 is lower than 5" in said.err
    assert [
        each for each in desk.json("sign", desk.bundle(3), "--key", "han.pem").events if "warning" in each
    ]
    assert desk.json("keys", "show").result["highest"]["counter"] == 5


def test_a_named_folder_must_be_a_key_folder_and_of_this_product(desk: Desk) -> None:
    bundle = desk.bundle()
    assert "no key folder" in desk.type("sign", bundle, "--key", "han.pem", "--keys", "nowhere", code=2).err
    words = ("--root-key", "kim.pub.pem", "--root-threshold", 1, "--release-key", "han.pub.pem")
    desk.type("keys", "create", "--product", "other", "--keys", "other", *words)
    assert "another product" in desk.type("sign", bundle, "--key", "han.pem", "--keys", "other", code=2).err


def test_a_wrong_passphrase_uses_up_no_counter(desk: Desk) -> None:
    Path("wrong").write_text("not it\n", "utf-8")
    desk.type("sign", desk.bundle(), "--key", "han.pem", "--passphrase-file", "wrong", code=2)
    desk.type("sign", desk.bundle(), "--key", "kim.pem", code=2)  # a root key
    assert desk.json("keys", "show").result["highest"] is None


# --- Rotation


def test_a_release_key_is_replaced_by_people_on_other_machines(desk: Desk) -> None:
    opened = desk.type("keys", "rotate", "--replace", "release-2=new.pub.pem", "--export", "root-2.bin")
    assert "root version 1: 0 of its keys have signed, 2 must" in opened.out
    shown = desk.type("keys", "sign", "root-2.bin", "--key", "kim.pem", "--yes").out
    assert "to be signed: root version 2" in shown
    assert key("new").public_key.keyid in shown
    words = ("-sign", "park.pem", "-passin", "env:BANIP_PASSPHRASE", "-out", "park.sig", "root-2.bin")
    subprocess.run(["openssl", "dgst", "-sha256", *words], check=True)
    (kims,) = Path().glob("root-2.bin.*.sig")
    assert desk.json("keys", "rotate", "--signature", kims).result["finished"] is None
    assert desk.json("keys", "show").result["draft"]["quorums"][0]["lacking"] == 1
    done = desk.json("keys", "rotate", "--signature", "park.sig").result
    assert (done["finished"], done["ring"]["root_version"], done["ring"]["draft"]) == (2, 2, None)
    assert key("new").public_key.keyid in {key_id for _, key_id in done["ring"]["release_keys"]}
    bundle = desk.bundle(2)
    desk.type("sign", bundle, "--key", "seo.pem", code=2)  # revoked
    desk.type("sign", bundle, "--key", "han.pem", "--key", "new.pem")
    desk.type("verify", bundle)


def test_several_signatures_may_follow_one_option_as_a_shell_writes_them(desk: Desk) -> None:
    desk.type("keys", "rotate", "--valid-days", "400", "--export", "root-2.bin")
    for name in ("kim", "lee"):
        desk.type("keys", "sign", "root-2.bin", "--key", f"{name}.pem", "--yes")
    both = sorted(Path().glob("root-2.bin.*.sig"))
    assert "no option" in desk.type("keys", "rotate", *both, code=2).err
    assert desk.json("keys", "rotate", "--signature", *both).result["finished"] == 2
    bundle = desk.bundle()
    desk.type("sign", bundle, "--export", "tiny.bin")
    for name in ("han", "seo"):
        desk.type("keys", "sign", "tiny.bin", "--key", f"{name}.pem", "--yes")
    assert (
        desk.json("sign", bundle, "--signature", *sorted(Path().glob("tiny.bin.*.sig"))).result["lacking"]
        == 0
    )


def test_a_draft_is_discarded_with_a_word_on_what_was_exported(desk: Desk) -> None:
    desk.type("keys", "rotate", "--valid-days", "100", "--export", "root-2.bin")
    assert "destroyed too" in desk.type("keys", "rotate", "--discard").out
    assert desk.json("keys", "rotate", "--discard").result == {"discarded": False}
    desk.type("keys", "rotate", "--discard", "--key", "kim.pem", code=2)
    desk.type("keys", "rotate", code=2)


def test_a_root_that_expires_soon_is_warned_of_when_a_bundle_is_signed(desk: Desk) -> None:
    desk.type("keys", "rotate", "--valid-days", "89", "--key", "kim.pem", "--key", "lee.pem")
    said = desk.type("sign", desk.bundle(), "--key", "han.pem")
    assert "warning: root version 2 expires in 8" in said.err
    assert "keys rotate --valid-days" in said.err
    assert "keys rotate --valid-days" in desk.type("keys", "show").out
    desk.type("keys", "rotate", "--valid-days", "100", "--key", "kim.pem", "--key", "lee.pem")
    assert "warning" not in desk.type("sign", desk.bundle(), "--key", "han.pem").err


# --- The paper


def test_the_paper_has_every_fingerprint_to_copy_and_to_read_aloud(desk: Desk) -> None:
    desk.type("sign", desk.bundle(3), "--key", "han.pem")
    paper = desk.type("keys", "show").out
    for name in (*CUSTODIANS, "han", "seo"):
        key_id = key(name).public_key.keyid
        assert key_id in paper
        assert " ".join(key_id[at : at + 4] for at in range(0, 32, 4)) in paper
    (root,) = roots(Path("keys"))
    assert sha256_hex(root) in paper
    assert "루트 버전 / root version: 1" in paper
    assert "3 (tiny-1.0.3-c3" in paper
    assert "days left" in paper


def test_the_page_to_print_says_the_same_and_has_room_for_names(desk: Desk) -> None:
    desk.type("keys", "rotate", "--valid-days", "100")
    desk.type("keys", "show", "--html", "keys.html")
    page = Path("keys.html").read_text("utf-8")
    assert all(key(name).public_key.keyid in page for name in CUSTODIANS)
    assert "참석한 키 보관자 / custodians present" in page
    assert "루트 버전 2 초안" in page
    assert "http" not in page.split("<body>")[0]


def test_the_paper_is_facts_for_a_program(desk: Desk) -> None:
    facts = desk.json("keys", "show").result
    assert (facts["product"], facts["root_version"], facts["highest"], facts["draft"]) == (
        "tiny",
        1,
        None,
        None,
    )
    assert facts["days_left"] in {3649, 3650}
    assert facts["roots"] == [{"version": 1, "sha256": sha256_hex(roots(Path("keys"))[0])}]
    assert [name for name, _ in facts["release_keys"]] == ["release-1.pub.pem", "release-2.pub.pem"]


@pytest.mark.parametrize(
    "command", ["keys new", "keys create", "keys rotate", "keys sign", "keys show", "sign"]
)
def test_every_command_explains_itself_with_an_example(desk: Desk, command: str) -> None:
    words = desk.type(*command.split(), "--help").out
    assert "--json" in words
    assert f"python build.py {command}" in words
    if command in {"keys sign", "sign"}:
        assert "ledger" in words
