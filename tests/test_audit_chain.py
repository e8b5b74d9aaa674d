"""The chain of audits: what is taken out, swapped, forged or lost is found; a kill breaks nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.audit.catalogue import Words
from appliance.audit.chain import Ledger, breaks, pages, rebuilt
from appliance.audit.outcome import AuditResult
from appliance.audit.reading.audits import audit_chain, earlier_audits
from appliance.audit.report import pretty
from appliance.audit.seal import key_path, link_of, own_key, unseal
from appliance.audit.survey import survey
from appliance.errors import AlreadyRunning
from appliance.release import Server
from tests.sealing import facts_on, result_on, sealed_on
from tests.test_main import python

if TYPE_CHECKING:
    from appliance.audit.seal import Link
    from appliance.audit.survey import Survey
    from appliance.text import Event

PROJECT = Path(__file__).parent.parent
DAYS = 5
traced_only = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a root with five audits, which nobody changes."""
    root = tmp_path_factory.mktemp("audited") / "root"
    for day in range(DAYS):
        sealed_on(root, day)
    return root


@pytest.fixture
def root(audited: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(audited, tmp_path / "root"))


def looked_at(root: Path) -> Survey:
    return survey(Server(root))


def problems(root: Path) -> str:
    return "\n".join(f"{one.where}: {one.said}" for one in looked_at(root).problems)


def ledger(root: Path) -> Path:
    return root / "state" / "audits"


def folders(root: Path) -> list[Path]:
    return sorted((root / "log" / "audit").iterdir())


def numbers(root: Path) -> list[int]:
    return [link.record.number for link in looked_at(root).links]


def lines(root: Path) -> list[bytes]:
    return ledger(root).read_bytes().splitlines(keepends=True)


def next_audit(root: Path, day: int = DAYS) -> tuple[Link, list[str]]:
    said: list[Event] = []
    link = sealed_on(root, day, said=said).link
    return link, [str(one.words) for one in said if one.name == "chain"]


def forget_in_log(root: Path) -> None:
    (root / "state" / "journal").unlink()


# --- A chain that holds ------------------------------------------------------------------------------------


def test_the_ledger_is_the_records_one_after_another(audited: Path) -> None:
    records = [(folder / "record.json").read_bytes() for folder in folders(audited)]
    assert b"".join(records) == ledger(audited).read_bytes()
    assert ledger(audited).stat().st_mode & 0o777 == 0o600
    found = looked_at(audited)
    assert found.problems == ()
    assert [link.record.number for link in found.links] == [1, 2, 3, 4, 5]
    heads = [link.head for link in found.links]
    assert [link.record.previous for link in found.links] == [None, *heads[:-1]]
    assert list(found.whole) == heads


def test_the_operation_log_names_every_head(audited: Path) -> None:
    entries = Server(audited).state.journal.entries()
    heads = [entry.facts["head"] for entry in entries if entry.event == "audited"]
    assert heads == [link.head for link in looked_at(audited).links]
    assert entries[0].facts["counts"] == dict(result_on(0).counts)


def test_old_folders_may_go(root: Path) -> None:
    for folder in folders(root)[:3]:
        shutil.rmtree(folder)
    assert problems(root) == ""
    link, said = next_audit(root)
    assert (link.record.number, said) == (DAYS + 1, [])


def test_what_changed_since_the_last_audit_of_the_grade_is_in_the_next(root: Path) -> None:
    """An audit of another grade in between is no measure; the one before it is."""
    sealed_on(root, DAYS, "C")
    facts = msgspec.structs.replace(
        facts_on(DAYS + 1), ssh=type(facts_on(0).ssh)(source="sshd -T", unread="no")
    )
    from appliance.audit.report import Wish, write_audit  # noqa: PLC0415
    from appliance.audit.result import audit  # noqa: PLC0415

    found = write_audit(Server(root), facts, audit(facts, "S"), Wish("ko", ()))
    assert found.history.comparison is not None
    assert found.history.comparison.earlier.number == DAYS
    changed = {one.id: (one.before, one.after) for one in found.history.comparison.changes}
    assert changed["host.root-remote-login"] == ("pass", "unknown")
    assert any(name.startswith("kisa/") for name in changed)
    assert [(one.number, one.grade) for one in found.history.trend] == [
        *((number, "S") for number in (1, 2, 3, 4, 5)),
        (6, "C"),
    ], "of the other grade the newest audit stands beside"
    assert {one.grade for one in found.history.trend if one.number != 6} == {"S"}


def test_the_first_audit_of_another_grade_shows_no_difference_and_the_score_of_both(root: Path) -> None:
    found = sealed_on(root, DAYS, "C")
    assert found.history.comparison is None
    assert "no earlier audit of grade C" in (found.history.absent or Words("", "")).en
    assert [(one.number, one.grade) for one in found.history.trend] == [(5, "S")]
    back = sealed_on(root, DAYS + 1, "S").history
    assert back.comparison is not None
    assert (back.comparison.earlier.number, back.comparison.changes) == (5, ())


def test_nothing_is_compared_with_what_was_changed_or_is_gone(root: Path) -> None:
    newest, before = folders(root)[-1], folders(root)[-2]
    with (newest / "audit.json").open("ab") as file:
        file.write(b" ")
    found = sealed_on(root, DAYS)
    assert found.history.comparison is not None
    assert found.history.comparison.earlier.number == DAYS - 1
    assert found.history.absent is not None
    assert "is not what was signed" in found.history.absent.en
    assert before.exists()
    for folder in folders(root):
        shutil.rmtree(folder)
    gone = sealed_on(root, DAYS + 1).history
    assert (gone.comparison, gone.absent is None) == (None, False)


# --- A chain that does not ---------------------------------------------------------------------------------


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_line_taken_out_swapped_or_doubled_is_found(audited: Path, data: st.DataObject) -> None:
    rows = lines(audited)
    kind = data.draw(st.sampled_from(["take", "swap", "double"]))
    one, other = data.draw(st.lists(st.integers(0, DAYS - 1), min_size=2, max_size=2, unique=True))
    if kind == "take":
        del rows[min(one, DAYS - 2)]  # the newest line is the operation log's matter
    elif kind == "swap":
        rows[one], rows[other] = rows[other], rows[one]
    else:
        rows.insert(other, rows[one])
    assert list(breaks(pages(b"".join(rows), "x").links, "x")), (kind, one, other)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_flipped_byte_of_the_ledger_is_found(audited: Path, data: st.DataObject) -> None:
    before = ledger(audited).read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    changed = bytes([before[place] ^ data.draw(st.integers(1, 255))])
    try:
        ledger(audited).write_bytes(before[:place] + changed + before[place + 1 :])
        assert problems(audited)
    finally:
        ledger(audited).write_bytes(before)


def test_a_forged_line_is_found_by_its_successor_its_folder_and_the_log(root: Path) -> None:
    rows = lines(root)
    record = looked_at(root).links[2].record
    rows[2] = link_of(msgspec.structs.replace(record, score=100)).line
    ledger(root).write_bytes(b"".join(rows))
    said = problems(root)
    assert "4: this record names another head" in said
    assert "not in the ledger" in said
    assert "another head for record 3" in said


def test_a_chain_made_anew_with_the_servers_own_key_is_found_by_the_log_and_by_paper(root: Path) -> None:
    paper = looked_at(root).links[-1].head
    kept = (root / "state" / "journal").read_bytes()
    for place in (ledger(root), root / "state" / "journal"):
        place.unlink()
    shutil.rmtree(root / "log")
    for day in range(DAYS):
        sealed_on(root, day, "O")
    assert problems(root) == "", "whoever is root can make all of it"
    assert paper not in {link.head for link in looked_at(root).links}, "and paper says otherwise"
    (root / "state" / "journal").write_bytes(kept)
    assert "another head for record 5" in problems(root)


def test_a_folder_that_is_in_no_ledger_is_found(root: Path, tmp_path: Path) -> None:
    other = sealed_on(tmp_path / "other", 9).folder
    shutil.copytree(other, root / "log" / "audit" / other.name)
    assert "not in the ledger" in problems(root)


def test_a_folder_under_the_name_of_another_audit_is_found(root: Path) -> None:
    first, second, *_ = folders(root)
    aside = first.with_name("aside")
    for old, new in ((first, aside), (second, first), (aside, second)):
        old.rename(new)
    assert problems(root).count("it bears the name of another audit") == 2
    shutil.rmtree(second)
    shutil.copytree(first, first.with_name("20301121T234814Z"))
    assert problems(root).count("it bears the name of another audit") == 2


def test_an_audit_was_when_the_ledger_says_so_and_not_when_a_folder_is_named(root: Path) -> None:
    (root / "log" / "audit" / "20991231T000000Z").mkdir()
    assert max(earlier_audits(Server(root))).year == 2026
    assert len(earlier_audits(Server(root))) == DAYS


def test_a_clock_that_went_back_is_said_and_breaks_no_chain(root: Path) -> None:
    sealed_on(root, 0)
    code, _, said = verify(root)
    assert (code, "record 6 was taken before record 5" in said) == (0, True)


def test_a_folder_whose_seal_was_taken_off_is_found_and_one_from_before_the_chain_is_said(root: Path) -> None:
    older = root / "log" / "audit" / "20260101T000000Z"
    older.mkdir()
    (older / "audit.html").write_text("of an earlier version")
    assert problems(root) == ""
    assert looked_at(root).older == (older,)
    for path in folders(root)[3].iterdir():
        if path.name not in {"audit.json", "facts.json"}:
            path.unlink()
    assert "SHA256SUMS: it is missing" in problems(root)


def test_the_next_audit_names_what_does_not_hold(root: Path) -> None:
    assert audit_chain(Server(root)).faults == ()
    rows = lines(root)
    ledger(root).write_bytes(b"".join([*rows[:2], *rows[3:]]))
    found = audit_chain(Server(root))
    assert any("records 3 to 3 cannot be shown" in one for one in found.faults)
    assert found.records == DAYS - 1


# --- What is lost ------------------------------------------------------------------------------------------


def test_a_lost_ledger_comes_back_from_the_folders_and_is_said(root: Path) -> None:
    before = ledger(root).read_bytes()
    ledger(root).unlink()
    assert "the operation log knows record 5" in problems(root)
    link, said = next_audit(root)
    assert ledger(root).read_bytes() == before + link.line
    assert any("5 records that the ledger lacked" in one for one in said)
    assert problems(root) == ""
    (mended,) = (one for one in Server(root).state.journal.entries() if one.event == "audit-chain-mended")
    assert "5 records" in mended.facts["said"][0]


def test_an_older_ledger_that_was_put_back_is_brought_up_to_date(root: Path) -> None:
    before = ledger(root).read_bytes()
    ledger(root).write_bytes(b"".join(lines(root)[:2]))
    link, said = next_audit(root)
    assert ledger(root).read_bytes() == before + link.line
    assert any("3 records that the ledger lacked" in one for one in said)


def test_what_only_the_operation_log_knows_is_a_gap_and_no_number_comes_twice(root: Path) -> None:
    newest = looked_at(root).links[-1].head
    ledger(root).write_bytes(b"".join(lines(root)[:2]))
    for folder in folders(root)[2:]:
        shutil.rmtree(folder)
    link, said = next_audit(root)
    assert (link.record.number, link.record.previous) == (DAYS + 1, newest)
    assert any("of record 5 only the operation log is left" in one for one in said)
    assert "records 3 to 5 cannot be shown" in problems(root)
    again, said = next_audit(root, DAYS + 1)
    assert (again.record.number, again.record.previous, said) == (DAYS + 2, link.head, [])
    assert "records 3 to 5 cannot be shown" in problems(root), "it is never forgotten"


def test_ledger_and_log_lost_go_on_from_the_folders_that_are_left(root: Path) -> None:
    ledger(root).unlink()
    forget_in_log(root)
    for folder in folders(root)[:2]:
        shutil.rmtree(folder)
    link, said = next_audit(root)
    assert link.record.number == DAYS + 1
    assert said
    assert numbers(root) == [3, 4, 5, 6]
    assert "records 1 to 2 cannot be shown" in problems(root)


def test_key_ledger_and_log_lost_go_on_from_the_folders_under_another_key(root: Path) -> None:
    for folder in (root / "state", root / "secrets"):
        shutil.rmtree(folder)
    link, said = next_audit(root)
    assert (link.record.number, len(said)) == (DAYS + 1, 2)
    assert "6: the audit key is another one" in problems(root)


def test_everything_lost_but_the_key_is_said(root: Path) -> None:
    for folder in (root / "state", root / "log"):
        shutil.rmtree(folder)
    link, said = next_audit(root)
    assert link.record.number == 1
    assert any("no record of an audit" in one for one in said)


def test_a_damaged_ledger_is_kept_and_what_can_be_shown_goes_on(root: Path) -> None:
    rows = lines(root)
    broken = b"".join([*rows[:2], b"{}\n", *rows[3:]])
    ledger(root).write_bytes(broken)
    link, said = next_audit(root)
    (kept,) = Ledger(root / "state").set_aside()
    assert (root / "state" / kept).read_bytes() == broken
    assert any(kept in one for one in said)
    assert ledger(root).read_bytes() == b"".join(rows) + link.line, "record 3 is in its folder still"
    assert "put aside" in problems(root), "until a person has looked at it"


def test_a_torn_last_line_never_was(root: Path) -> None:
    before = ledger(root).read_bytes()
    ledger(root).write_bytes(before + b'{"format":1,"num')
    assert problems(root) == ""
    link, said = next_audit(root)
    assert (ledger(root).read_bytes(), said) == (before + link.line, [])


def test_of_two_records_of_one_number_the_signed_one_counts(audited: Path) -> None:
    links = looked_at(audited).links
    forged = link_of(msgspec.structs.replace(links[-1].record, score=100))
    assert rebuilt([*links[:-1], forged], [links[-1]], {}) == links
    assert rebuilt([*links[:-1], forged], [], {}) == (*links[:-1], forged)
    assert rebuilt([forged], links, {DAYS: links[-1].head}) == links
    assert rebuilt([*links[:-1], forged], [], {DAYS: links[-1].head}) == links[:-1], "the log says otherwise"


def test_a_lost_key_is_replaced_and_that_is_said_for_ever(root: Path) -> None:
    before = own_key(root)
    key_path(root).unlink()
    assert "the audit key of this server is gone" in problems(root)
    link, said = next_audit(root)
    assert any("a new one is made" in one for one in said)
    assert before is not None
    assert link.record.key != before.name
    next_audit(root, DAYS + 1)
    assert "6: the audit key is another one" in problems(root)


def test_another_key_in_its_place_is_said(root: Path, tmp_path: Path) -> None:
    sealed_on(tmp_path / "other", 0)
    shutil.copy(key_path(tmp_path / "other"), key_path(root))
    assert "not the key of the newest record" in problems(root)
    _, said = next_audit(root)
    assert any("another one than that of the audit before" in one for one in said)


# --- Others at work ----------------------------------------------------------------------------------------


def test_audits_at_once_are_sealed_one_after_another(tmp_path: Path) -> None:
    result_on(0)
    with ThreadPoolExecutor(6) as threads:
        found = list(threads.map(lambda _: sealed_on(tmp_path / "root", 0), range(6)))
    assert sorted(one.link.record.number for one in found) == [1, 2, 3, 4, 5, 6]
    assert problems(tmp_path / "root") == ""
    assert len({one.folder for one in found}) == 6


def test_one_that_never_ends_is_four(root: Path) -> None:
    with Ledger(root / "state").hold(), pytest.raises(AlreadyRunning), Ledger(root / "state").hold(0):
        pass


def test_an_installation_at_work_does_not_stop_an_audit_and_the_next_one_enters_both(root: Path) -> None:
    with Server(root).state.lock("install"):
        link, said = next_audit(root)
    assert any("does not name this audit yet" in one for one in said)
    assert problems(root) == ""
    later, _ = next_audit(root, DAYS + 1)
    entries = Server(root).state.journal.entries()
    assert [one.facts["head"] for one in entries if one.event == "audited"][-2:] == [link.head, later.head]


def test_a_damaged_operation_log_does_not_stop_an_audit(root: Path) -> None:
    journal = root / "state" / "journal"
    journal.write_bytes(journal.read_bytes().replace(b"audited", b"auditee", 1))
    link, said = next_audit(root)
    assert link.record.number == DAYS + 1
    assert any("cannot vouch" in one for one in said)
    assert problems(root) == "", "its fault is the log's own"
    assert looked_at(root).mute is not None


# --- The command line --------------------------------------------------------------------------------------


def verify(root: Path, *words: object) -> tuple[int, dict[str, object], str]:
    done = python("-m", "appliance", "--root", root, "--json", "audit", "verify", *words)
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stdout


def test_verify_says_the_head_the_key_and_every_record(root: Path) -> None:
    code, found, said = verify(root)
    result, newest = found["result"], looked_at(root).links[-1]
    assert code == 0, said
    assert isinstance(result, dict)
    assert (result["records"], result["head"], result["key"]) == (DAYS, newest.head, newest.record.key)
    assert len([line for line in said.splitlines() if '"event":"record"' in line]) == DAYS


def test_verify_is_eleven_where_something_was_changed(root: Path) -> None:
    (folders(root)[1] / "note.txt").write_text("other")
    code, found, _ = verify(root)
    assert code == 11
    assert "note.txt" in json.dumps(found)
    code, found, _ = verify(root, folders(root)[1])
    assert (code, str(found["where"]).endswith("note.txt")) == (11, True)
    assert verify(root, folders(root)[2])[0] == 0


def test_verify_of_nothing_is_no_success(tmp_path: Path) -> None:
    assert verify(tmp_path / "none")[0] == 12
    assert verify(tmp_path / "none", tmp_path / "no-such")[0] == 2
    assert not (tmp_path / "none").exists()


def test_verify_anywhere_goes_by_the_key_that_was_kept(root: Path, tmp_path: Path) -> None:
    folder = folders(root)[0]
    elsewhere = Path(shutil.copytree(folder, tmp_path / "stick" / folder.name))
    kept = shutil.copy(folder / "audit-key.pub", tmp_path / "kept.pub")
    nothing = tmp_path / "nothing"
    assert verify(nothing, elsewhere, "--key", kept)[0] == 0
    other = sealed_on(tmp_path / "other", 0).folder
    code, found, _ = verify(nothing, elsewhere, "--key", other / "audit-key.pub")
    assert (code, found["seen"]) == (10, unseal(folder).key)
    assert verify(root, "--key", other / "audit-key.pub")[0] == 10
    assert verify(nothing, elsewhere, "--key", elsewhere / "record.json")[0] == 2


def test_verify_of_folders_that_do_not_follow_one_another_is_eleven(root: Path, tmp_path: Path) -> None:
    """The server went back to an older state and was audited again: two records have one number."""
    taken = tmp_path / "taken"
    shutil.copytree(folders(root)[-1], taken)
    shutil.rmtree(folders(root)[-1])
    ledger(root).write_bytes(b"".join(lines(root)[:-1]))
    forget_in_log(root)
    next_audit(root)
    assert problems(root) == ""
    assert verify(tmp_path / "nothing", taken, folders(root)[-1])[0] == 11
    assert verify(root, taken)[0] == 11, "and the server's own ledger has another record"


@pytest.mark.real
@pytest.mark.timeout(600)
def test_an_audit_as_it_is_typed_is_sealed_chained_and_verified(tmp_path: Path) -> None:
    root = tmp_path / "root"
    heads: list[str] = []
    for number in (1, 2):
        done = python(
            "-m", "appliance", "--root", root, "--json", "audit", "--grade", "S", "--format", "html"
        )
        assert done.returncode in {0, 3}, done.stdout + done.stderr
        told = [json.loads(line) for line in done.stdout.splitlines()]
        (ended,) = (one["result"] for one in told if "result" in one)
        assert ended["number"] == number
        assert {Path(path).name for path in ended["reports"]} >= {"audit.html", "audit.json", "facts.json"}
        assert {one["facts"]["fact"] for one in told if one.get("event") == "fact"} >= {"host", "finds"}
        assert ended["previous"] == (heads[-1] if heads else None)
        heads.append(ended["head"])
        assert verify(root)[0] == 0
    again = msgspec.json.decode((Path(ended["folder"]) / "audit.json").read_bytes(), type=AuditResult)
    (chain,) = (one for one in again.results if one.id == "audit.chain")
    assert (chain.status, "1 records" in chain.observed.en) == ("pass", True)


# --- Killed ------------------------------------------------------------------------------------------------

CHANGES = "chmod,fchmod,fsync,ftruncate,link,mkdir,openat,pwrite64,rename,rmdir,syncfs,unlink,unlinkat,write"
KILLED_AT = ("fchmod", "fsync", "mkdir", "rename", "write")
SEAL = """
import sys
from pathlib import Path
import msgspec
from appliance.audit.facts import AuditFacts
from appliance.audit.formats import Format
from appliance.audit.outcome import AuditResult
from appliance.audit.report import Wish, write_audit
from appliance.errors import BanipError
from appliance.release import Server

folder = Path(sys.argv[1])
facts = msgspec.json.decode((folder.parent / "facts.json").read_bytes(), type=AuditFacts)
result = msgspec.json.decode((folder.parent / "audit.json").read_bytes(), type=AuditResult)
note = Format("note", "note.txt", lambda edition: str(edition.head).encode())
try:
    write_audit(Server(folder), facts, result, Wish("ko", (note,)))
except BanipError as error:
    sys.exit(error.exit_code)
"""


@dataclass(frozen=True)
class Bench:
    """A place where an audit is sealed in a process of its own; of each try's root there is a copy."""

    place: Path

    def run(self, root: Path, *strace: str) -> int:
        tracer = ["strace", "-f", "-qq", "--seccomp-bpf", *strace] if strace else []
        done = subprocess.run(
            [*tracer, sys.executable, "-c", SEAL, str(root)],
            cwd=PROJECT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
            timeout=120,
        )
        return done.returncode

    def root(self, name: str, start: str) -> Path:
        """Give a root: ``new``, or ``old`` with two audits."""
        return Path(shutil.copytree(self.place / start, self.place / name))


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    place = tmp_path_factory.mktemp("killed")
    (place / "facts.json").write_bytes(pretty(facts_on(2)))
    (place / "audit.json").write_bytes(pretty(result_on(2)))
    (place / "new").mkdir()
    for day in (0, 1):
        sealed_on(place / "old", day)
    return Bench(place)


def traced(bench: Bench, start: str) -> list[str]:
    root, output = bench.root(f"traced-{start}", start), bench.place / f"{start}.trace"
    if not output.exists():
        options = ("-y", "-s", "0", "-o", str(output), "-e", f"trace={CHANGES}")
        assert bench.run(root, *options) == 0
    shutil.rmtree(root)
    return output.read_text("utf-8").splitlines()


def _calls(trace: list[str]) -> Counter[str]:
    found = (re.match(r"^(?:[0-9]+\s+)?(\w+)\(", line) for line in trace)
    return Counter(match[1] for match in found if match)


KILL, FULL = "signal=SIGKILL", "error=ENOSPC"
ENDS = {KILL: {-9, 137}, FULL: {0, 1, 20}}


def strike(bench: Bench, start: str, call: str, number: int, fault: str = KILL) -> None:
    root = bench.root(f"{start}-{call}-{fault.partition('=')[0]}-{number}", start)
    code = bench.run(root, "-o", "/dev/null", "-e", f"inject={call}:{fault}:when={number}")
    assert code in ENDS[fault], (start, call, number, code)
    assert problems(root) == "", (start, call, number)
    seen = numbers(root)
    assert bench.run(root) == 0
    assert problems(root) == "", (start, call, number)
    assert numbers(root) == list(range(1, len(seen) + 2))
    assert not [path.name for path in folders(root) if path.name.startswith(".")]
    for folder in folders(root):
        unseal(folder)
    shutil.rmtree(root)


@pytest.mark.real
@traced_only
def test_all_is_durable_before_the_ledger_names_it_and_the_folder_has_its_name_last(bench: Bench) -> None:
    trace = traced(bench, "old")
    folder = r"/audit/\.20261103T093000Z\.new"
    written = [n for n, line in enumerate(trace) if re.search(rf"\bfsync\([0-9]+<[^>]*{folder}", line)]
    recorded = [n for n, line in enumerate(trace) if re.search(r"\bfsync\([0-9]+<[^>]*/state/audits>", line)]
    named = [
        n for n, line in enumerate(trace) if " rename(" in line and "/audit/.20261103T093000Z.new" in line
    ]
    logged = [n for n, line in enumerate(trace) if re.search(r"\bfsync\([0-9]+<[^>]*/state/journal>", line)]
    assert (len(recorded), len(named), len(logged)) == (1, 1, 1)
    assert max(written) < recorded[0] < named[0] < logged[0]
    files = {"facts.json", "audit.json", "record.json", "history.json", "note.txt", "SHA256SUMS"}
    synced = {name for name in files for n in written if f".new/{name}>" in trace[n]}
    assert synced == files


@pytest.mark.real
@traced_only
@pytest.mark.parametrize("start", ["new", "old"])
@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_an_audit_killed_at_its_last_call_leaves_a_chain_that_holds(
    bench: Bench, start: str, call: str
) -> None:
    strike(bench, start, call, _calls(traced(bench, start))[call])


@pytest.mark.slow
@pytest.mark.real
@traced_only
@pytest.mark.parametrize("start", ["new", "old"])
@pytest.mark.parametrize("call", KILLED_AT)
def test_an_audit_killed_at_every_call_leaves_a_chain_that_holds(bench: Bench, start: str, call: str) -> None:
    count = _calls(traced(bench, start))[call]
    assert count > 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        tries = range(1, count + 1)
        list(threads.map(lambda n: strike(bench, start, call, n), tries))


@pytest.mark.slow
@pytest.mark.real
@traced_only
def test_a_full_disk_at_every_write_leaves_a_chain_that_holds(bench: Bench) -> None:
    for number in range(1, _calls(traced(bench, "old"))["write"] + 1):
        strike(bench, "old", "write", number, FULL)
