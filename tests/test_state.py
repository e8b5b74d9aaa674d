"""What a server remembers: never silently replaced, never lowered, and worked on by one run at a time."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from tuf.api._payload import Root
from tuf.api.dsse import SimpleEnvelope

from appliance.clock import reference_time
from appliance.errors import AlreadyRunning, BadInput, Tampered, Untrusted
from appliance.format import envelope_to_bytes, sha256_hex
from appliance.journal import Journal
from appliance.state import FirstContact, State
from appliance.verify import Floor

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parent.parent
NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
ONE, TWO = "1" * 64, "2" * 64


def root_envelope(version: int, mark: str = "") -> bytes:
    root = Root(version=version, expires=NOON, unrecognized_fields={"mark": mark} if mark else {})
    return envelope_to_bytes(SimpleEnvelope.from_signed(root))


FIRST = FirstContact(root_envelope(1), "minimal", "seoul")


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(tmp_path, lambda: NOON)


@pytest.fixture
def adopted(state: State) -> State:
    state.adopt(FIRST)
    return state


# --- Trust ------------------------------------------------------------------------------------------------


def test_before_first_contact_nobody_is_trusted_and_nothing_is_written(state: State) -> None:
    assert state.trust() is None
    assert not state.folder.exists()


def test_first_contact_is_remembered_by_the_next_run(adopted: State, tmp_path: Path) -> None:
    del adopted
    trust = State(tmp_path).trust()
    assert trust is not None
    assert (trust.root, trust.product, trust.site, trust.floor) == (FIRST.root, "minimal", "seoul", None)


def test_a_binding_that_is_gone_while_a_counter_stands_is_damage_and_adopt_keeps_the_floor(
    adopted: State,
) -> None:
    adopted.keep(Floor(4, ONE))
    (adopted.folder / "binding.json").unlink()
    with pytest.raises(Tampered):
        adopted.trust()
    adopted.adopt(FIRST)
    trust = adopted.trust()
    assert trust is not None
    assert trust.floor == Floor(4, ONE)


def test_state_is_for_root_alone(adopted: State) -> None:
    adopted.keep(Floor(1, ONE))
    adopted.journal.append("started")
    with adopted.lock():
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in adopted.folder.rglob("*")}
    assert stat.S_IMODE(adopted.folder.stat().st_mode) == 0o700
    assert modes.pop("roots") == 0o700
    assert set(modes) == {"binding.json", "counter.json", "journal", "lock", "1.root.json"}
    assert set(modes.values()) == {0o600}


def test_newer_roots_are_trusted_from_the_moment_they_are_stored(adopted: State) -> None:
    adopted.accept_roots([root_envelope(2), root_envelope(3)])
    trust = adopted.trust()
    assert trust is not None
    assert trust.root == root_envelope(3)
    adopted.accept_roots([])
    assert adopted.trust() == trust


def test_a_root_that_was_accepted_can_be_asked_for_by_its_version(adopted: State) -> None:
    adopted.accept_roots([root_envelope(2)])
    assert [adopted.chain.root(version) for version in (1, 2, 3)] == [FIRST.root, root_envelope(2), None]


@pytest.mark.parametrize("version", [1, 3])
def test_a_root_that_does_not_follow_is_refused_and_changes_nothing(adopted: State, version: int) -> None:
    with pytest.raises(BadInput):
        adopted.accept_roots([root_envelope(version, "other")])
    trust = adopted.trust()
    assert trust is not None
    assert trust.root == FIRST.root


def test_the_counter_only_rises(adopted: State) -> None:
    for counter, digest in ((3, ONE), (2, TWO), (3, ONE)):
        adopted.keep(Floor(counter, digest))
        trust = adopted.trust()
        assert trust is not None
        assert trust.floor == Floor(3, ONE)


def test_one_counter_never_stands_for_two_releases(adopted: State) -> None:
    adopted.keep(Floor(3, ONE))
    with pytest.raises(Untrusted):
        adopted.keep(Floor(3, TWO))
    trust = adopted.trust()
    assert trust is not None
    assert trust.floor == Floor(3, ONE)


def test_a_server_that_trusts_nobody_keeps_nothing(state: State) -> None:
    with pytest.raises(BadInput, match="trusts nobody"):
        state.keep(Floor(1, ONE))
    assert not state.folder.exists()


@pytest.mark.parametrize(
    ("kept", "expected"),
    [
        ([], Floor(5, ONE)),
        ([Floor(4, TWO)], Floor(5, ONE)),
        ([Floor(4, TWO), Floor(6, TWO)], Floor(6, TWO)),
        ([Floor(5, TWO)], Floor(5, ONE)),  # the state's own word decides
    ],
)
def test_the_floor_is_the_highest_that_anything_proves(
    adopted: State, kept: list[Floor], expected: Floor
) -> None:
    adopted.keep(Floor(5, ONE))
    trust = adopted.trust(kept)
    assert trust is not None
    assert trust.floor == expected


def test_a_lost_counter_is_found_again_in_the_release_folders(adopted: State) -> None:
    adopted.keep(Floor(5, ONE))
    (adopted.folder / "counter.json").unlink()
    trust = adopted.trust([Floor(5, ONE)])
    assert trust is not None
    assert trust.floor == Floor(5, ONE)


def test_the_reference_time_is_never_before_what_was_accepted() -> None:
    dead_battery = datetime(1970, 1, 1, tzinfo=timezone.utc)
    assert reference_time(NOON, None) == NOON
    assert reference_time(dead_battery, NOON) == NOON
    assert reference_time(NOON, dead_battery) == NOON


# --- Damage -----------------------------------------------------------------------------------------------

FILES = ("binding.json", "counter.json", "roots/2.root.json")
DAMAGE = {
    "empty": b"",
    "zeros": bytes(64),
    "half": b'{"product":"mini',
    "another form": b'{"format":1}\n',
    "no text": b"\xff\xfe",
}


@pytest.fixture
def grown(adopted: State) -> State:
    adopted.accept_roots([root_envelope(2)])
    adopted.keep(Floor(5, ONE))
    return adopted


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named_with_its_remedy_and_stays_as_it_is(
    grown: State, name: str, damage: bytes
) -> None:
    (grown.folder / name).write_bytes(damage)
    with pytest.raises(Tampered) as refusal:
        grown.trust()
    assert refusal.value.where == grown.folder / name
    assert "appliance.pyz adopt" in str(refusal.value.remedy)
    assert (grown.folder / name).read_bytes() == damage


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_adopting_again_is_the_remedy(grown: State, name: str, damage: bytes) -> None:
    (grown.folder / name).write_bytes(damage)
    grown.adopt(FIRST)
    trust = grown.trust()
    assert trust is not None
    assert (trust.product, trust.site) == ("minimal", "seoul")


def test_a_root_file_of_another_version_is_damage(grown: State) -> None:
    (grown.folder / "roots" / "3.root.json").write_bytes(root_envelope(2))
    with pytest.raises(Tampered):
        grown.trust()


def test_a_binding_without_any_root_is_damage(adopted: State) -> None:
    (adopted.folder / "roots" / "1.root.json").unlink()
    with pytest.raises(Tampered):
        adopted.trust()


def test_adopting_the_same_first_root_again_forgets_no_revocation_and_no_counter(grown: State) -> None:
    before = grown.trust()
    grown.adopt(FIRST)
    assert grown.trust() == before


def test_adopting_another_product_starts_anew(grown: State) -> None:
    grown.adopt(FirstContact(root_envelope(1, "other"), "other", None))
    trust = grown.trust()
    assert trust is not None
    assert trust.root == root_envelope(1, "other")
    assert (trust.product, trust.site, trust.floor) == ("other", None, None)


def test_a_counter_of_another_product_is_damage(grown: State) -> None:
    path = grown.folder / "counter.json"
    path.write_bytes(path.read_bytes().replace(b"minimal", b"another"))
    with pytest.raises(Tampered):
        grown.trust()


# --- The lock ---------------------------------------------------------------------------------------------

_HOLDER = """
import sys
from pathlib import Path
from appliance.state import State
with State(Path(sys.argv[1])).lock("appliance install", int(sys.argv[2]) if len(sys.argv) > 2 else None):
    print("held", flush=True)
    sys.stdin.read()
"""
_PARENT = """
import subprocess, sys
from pathlib import Path
from appliance.state import State
with State(Path(sys.argv[1])).lock("parent") as lock:
    child = subprocess.Popen(
        [sys.executable, "-c", sys.argv[2], sys.argv[1], str(lock.fileno())], pass_fds=[lock.fileno()]
    )
    print(child.pid, flush=True)
    child.wait()
"""


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", *arguments],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with start(_HOLDER, str(tmp_path)) as process:
        assert line_of(process) == "held"
        yield process
        process.kill()


def test_a_second_run_is_told_who_is_at_work(holder: subprocess.Popen[str], state: State) -> None:
    with pytest.raises(AlreadyRunning) as refusal, state.lock("appliance upgrade"):
        pass
    assert refusal.value.exit_code == 4
    assert f"process {holder.pid}: appliance install" in str(refusal.value)


def test_the_refused_run_does_not_blur_who_holds_the_lock(
    holder: subprocess.Popen[str], state: State
) -> None:
    for _ in range(2):
        with pytest.raises(AlreadyRunning, match=str(holder.pid)), state.lock("appliance upgrade"):
            pass


def test_a_killed_run_leaves_no_lock_behind(holder: subprocess.Popen[str], state: State) -> None:
    holder.kill()
    holder.wait()
    with state.lock("appliance upgrade"):
        pass


def test_the_lock_is_free_again_after_a_run(state: State) -> None:
    for _ in range(2):
        with state.lock():
            pass


def test_the_lock_outlives_a_killed_parent_in_the_child_that_works_on(state: State, tmp_path: Path) -> None:
    with start(_PARENT, str(tmp_path), _HOLDER) as parent:
        child = int(line_of(parent))
        assert line_of(parent) == "held"
        parent.kill()
        parent.wait()
        with pytest.raises(AlreadyRunning) as refusal, state.lock():
            pass
        assert f"process {child}: appliance install" in str(refusal.value)
        os.kill(child, signal.SIGKILL)
        assert parent.stdout is not None
        assert parent.stdout.read() == ""  # the child has ended: its end of the pipe is closed
    with state.lock():
        pass


def test_a_parent_that_ends_does_not_take_the_lock_from_its_child(state: State, tmp_path: Path) -> None:
    with state.lock("parent") as lock:
        descriptor = lock.fileno()
        child = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(tmp_path), str(descriptor)],
            cwd=PROJECT,
            pass_fds=[descriptor],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert line_of(child) == "held"
    with child:
        with pytest.raises(AlreadyRunning, match=str(child.pid)), state.lock():
            pass
        child.kill()
    with state.lock():
        pass


def test_a_child_does_not_pass_the_lock_on_to_what_it_starts(state: State) -> None:
    with state.lock() as lock:
        inherited = os.dup(lock.fileno())
        os.set_inheritable(inherited, True)  # noqa: FBT003 - its only spelling
        with state.lock(inherited=inherited) as inner:
            assert not os.get_inheritable(inner.fileno())


def test_a_descriptor_that_is_not_the_lock_is_refused(state: State, tmp_path: Path) -> None:
    with (tmp_path / "another").open("wb") as file:
        descriptor = os.dup(file.fileno())
        with pytest.raises(BadInput), state.lock(inherited=descriptor):
            pass
        os.close(descriptor)


# --- The journal ------------------------------------------------------------------------------------------


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state" / "journal", lambda: NOON)


def three_lines(journal: Journal) -> bytes:
    journal.append("started", operation="install")
    journal.append("done", step=0)
    journal.append("finished", outcome="install")
    return journal._path.read_bytes()


def test_a_line_says_when_what_and_follows_the_one_before(journal: Journal) -> None:
    raw = three_lines(journal)
    lines = raw.splitlines(keepends=True)
    assert [json.loads(line)["before"] for line in lines] == [
        sha256_hex(before) for before in (b"", *lines[:-1])
    ]
    entries = journal.entries()
    assert [entry.event for entry in entries] == ["started", "done", "finished"]
    assert [entry.number for entry in entries] == [0, 1, 2]
    assert {entry.at for entry in entries} == {NOON}
    assert entries[1].facts == {"step": 0}


def test_times_are_written_in_utc(tmp_path: Path) -> None:
    seoul = timezone(timedelta(hours=9))
    journal = Journal(tmp_path / "journal", lambda: datetime(2026, 5, 1, 21, tzinfo=seoul))
    journal.append("started")
    assert b'"at":"2026-05-01T12:00:00Z"' in (tmp_path / "journal").read_bytes()


_FACTS: Any = some.dictionaries(
    some.text(max_size=5), some.text() | some.integers(-(2**53), 2**53), max_size=3
)


@given(facts=some.lists(_FACTS, max_size=5))
@settings(max_examples=40)
def test_what_is_appended_is_read_back(facts: list[dict[str, object]]) -> None:
    with TemporaryDirectory() as folder:
        journal = Journal(Path(folder) / "journal", lambda: NOON)
        written = [journal.append("noted", **each) for each in facts]
        assert list(journal.entries()) == written
        assert [entry.facts for entry in written] == facts


def test_names_that_are_no_text_are_spelled_out(journal: Journal) -> None:
    journal.append("refused", bundle=os.fsdecode(b"stick-\xff.tar"), more=["\udcfe", {"\udcfd": 1}])
    assert journal.entries()[0].facts == {"bundle": "stick-\\udcff.tar", "more": ["\\udcfe", {"\\udcfd": 1}]}


def test_a_journal_cut_at_any_byte_opens_to_a_prefix_and_goes_on(journal: Journal) -> None:
    raw = three_lines(journal)
    entries = journal.entries()
    ends = [number + 1 for number, byte in enumerate(raw) if byte == ord("\n")]
    for cut in range(len(raw) + 1):
        journal._path.write_bytes(raw[:cut])
        whole = sum(end <= cut for end in ends)
        assert journal.entries() == entries[:whole]
        assert journal.append("resumed").number == whole
        assert [entry.event for entry in journal.entries()][whole:] == ["resumed"]


@pytest.mark.parametrize("torn", [bytes(40), bytes(40) + b"\n", b'{"at":"20\n', b"\xff\n", b"\n"])
def test_blocks_that_never_reached_the_disk_are_a_torn_line(journal: Journal, torn: bytes) -> None:
    raw = three_lines(journal)
    journal._path.write_bytes(raw + torn)
    assert len(journal.entries()) == 3
    journal.append("resumed")
    assert journal._path.read_bytes().startswith(raw + b'{"at"')
    assert len(journal.entries()) == 4


def _flip(raw: bytes) -> bytes:
    return raw.replace(b'"step":0', b'"step":1')


def _drop(raw: bytes) -> bytes:
    lines = raw.splitlines(keepends=True)
    return lines[0] + lines[2]


def _swap(raw: bytes) -> bytes:
    lines = raw.splitlines(keepends=True)
    return lines[1] + lines[0] + lines[2]


def _behead(raw: bytes) -> bytes:
    return b"".join(raw.splitlines(keepends=True)[1:])


def _insert(raw: bytes) -> bytes:
    lines = raw.splitlines(keepends=True)
    return lines[0] + b"nothing\n" + lines[1] + lines[2]


@pytest.mark.parametrize("change", [_flip, _drop, _swap, _behead, _insert])
def test_a_changed_journal_is_refused_and_not_added_to(journal: Journal, change: Any) -> None:  # noqa: ANN401
    changed = change(three_lines(journal))
    journal._path.write_bytes(changed)
    for read in (journal.entries, lambda: journal.append("resumed")):
        with pytest.raises(Tampered) as refusal:
            read()
        assert "appliance.pyz adopt" in str(refusal.value.remedy)
    assert journal._path.read_bytes() == changed


def test_adopting_sets_a_damaged_journal_aside_and_says_so(adopted: State) -> None:
    changed = _drop(three_lines(adopted.journal))
    (adopted.folder / "journal").write_bytes(changed)
    adopted.adopt(FIRST)
    (entry,) = adopted.journal.entries()
    assert entry.event == "journal-set-aside"
    assert (adopted.folder / str(entry.facts["kept"])).read_bytes() == changed


_APPEND = """
import sys
from pathlib import Path
from appliance.state import State
State(Path(sys.argv[1])).journal.append("done", by="child")
"""


def test_parent_and_child_write_one_journal(state: State, tmp_path: Path) -> None:
    with state.lock() as lock:
        state.journal.append("planned", by="parent")
        subprocess.run(
            [sys.executable, "-c", _APPEND, str(tmp_path)], cwd=PROJECT, pass_fds=[lock.fileno()], check=True
        )
        state.journal.append("finished", by="parent")
    assert [entry.facts["by"] for entry in state.journal.entries()] == ["parent", "child", "parent"]
