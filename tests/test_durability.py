"""What a power cut and a kill leave behind, seen from the kernel's side.

A real process imports a real carrier under strace. The trace shows in which order content, names and folders
became durable; a killed server keeps its page cache and would hide a missing fsync. Then the same work is
killed, or refused by the disk, on entering each of its changing system calls, one after the other.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.errors import Tampered
from appliance.format import sha256_hex
from appliance.state import FirstContact, State
from appliance.store import Store
from appliance.verify import Floor
from tests.world import NOW, Generation, World, key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.verify import Trust, TrustedBundle

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

PROJECT = Path(__file__).parent.parent
CHANGES = (
    "chmod,fchmod,fchmodat,fdatasync,fsync,ftruncate,link,linkat,mkdir,mkdirat,openat,pwrite64,"
    "rename,renameat,renameat2,symlink,symlinkat,syncfs,unlink,unlinkat,write"
)
#: Calls by which the work changes the disk; a test below keeps the list true.
KILLED_AT = frozenset(
    {"chmod", "fchmod", "fsync", "ftruncate", "mkdir", "pwrite64"}
    | {"rename", "symlink", "syncfs", "unlink", "write"}
)

#: What an install does in this layer, step by step; done again, it ends the same.
WORK = """
import sys
from datetime import datetime, timezone
from pathlib import Path
from appliance.errors import BanipError
from appliance.media import open_carrier
from appliance.state import FirstContact, State
from appliance.intake import import_bundle
from appliance.store import Store, replace_link, write_file
from appliance.verify import Floor, first_trust, verify
from appliance.format import sha256_hex

NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)

def work(root: Path, first: FirstContact) -> None:
    state = State(root, lambda: NOW)
    with state.lock("install"):
        state.journal.append("started")
        trust = state.trust() or first_trust(first.root, first.product, first.site)
        with open_carrier(root.parent / "demo-1.0.0.tar") as carrier:
            bundle = verify(carrier, trust, reference_time=NOW)
            carrier.check_layout(bundle.release)
            if state.trust() is None:
                state.adopt(first)
            state.accept_roots(bundle.new_roots)
            import_bundle(bundle, carrier, Store(root / "store"), lambda _: None)
        state.journal.append("done", step="import")
        write_file(root / "unit", b"[Service]")
        replace_link(root / "current", "store")
        state.journal.append("done", step="switch")
        state.keep(Floor(bundle.release.counter, sha256_hex(bundle.release_json)))
        state.journal.append("finished")

root = Path(sys.argv[1])
try:
    work(root, FirstContact((root.parent / "root.json").read_bytes(), "demo", None))
except BanipError as error:
    sys.exit(error.exit_code)
"""
#: The remedy for damaged state.
ADOPT = """
import sys
from datetime import datetime, timezone
from pathlib import Path
from appliance.state import FirstContact, State

root = Path(sys.argv[1])
state = State(root, lambda: datetime(2026, 6, 1, tzinfo=timezone.utc))
with state.lock("adopt"):
    state.adopt(FirstContact((root.parent / "root.json").read_bytes(), "demo", None))
    state.journal.append("adopted")
"""
EVENTS = ["started", "done", "done", "finished"]


@dataclass(frozen=True)
class Bench:
    """A folder with a carrier and the first root in it, and any number of server roots beside them."""

    folder: Path
    bundle: TrustedBundle
    first_root: bytes

    def root(self, name: str) -> Path:
        path = self.folder / name
        path.mkdir()
        return path

    def work(self, root: Path, *strace: str, script: str = WORK) -> int:
        """Do the work, under strace if it is given options; return the exit code."""
        tracer = ["strace", "-f", "-qq", "--seccomp-bpf", *strace] if strace else []
        done = subprocess.run(
            [*tracer, sys.executable, "-c", script, str(root)],
            cwd=PROJECT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        return done.returncode

    def trace(self, root: Path, script: str = WORK) -> list[str]:
        """Do the work and return what it asked of the kernel, a call a line."""
        output = self.folder / f"{root.name}.trace"
        options = ("-y", "-s", "0", "-o", str(output), "-e", f"trace={CHANGES}")
        assert self.work(root, *options, script=script) == 0
        return list(whole_calls(output.read_text("utf-8").splitlines()))


def whole_calls(trace: Iterable[str]) -> Iterator[str]:
    """Put the two halves of calls together that another thread interrupted, where they end."""
    begun: dict[str, str] = {}
    for line in trace:
        thread, _, call = line.partition(" ")
        if call.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>").rstrip()
        elif match := re.match(r" *<\.\.\. \w+ resumed>(.*)", call):
            yield begun.pop(thread) + match[1]
        else:
            yield line


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    world = World(
        files={"bom.cdx.json": b"{}", "models/tiny/weights.bin": bytes(range(256)) * 8000},
        wheels={"controller": {"controller-1.0-py3-none-any.whl": b"a wheel"}},
    )
    world.rotate(Generation([key("root-1"), key("root-3")], [key("release-1")]))
    folder = tmp_path_factory.mktemp("bench")
    world.carrier(folder)
    (folder / "root.json").write_bytes(world.root(1))
    return Bench(folder, world.trusted(), world.root(1))


# --- The order of fsync and rename ------------------------------------------------------------------------

_CALL = re.compile(r"^(?:[0-9]+\s+)?(\w+)\((.*)\)\s+= ([0-9]+)")
_DESCRIPTOR = re.compile(r"^[0-9]+<(/[^>]*)>")
_QUOTED = re.compile(r'"([^"]*)"')


@dataclass
class Disk:
    """What a power cut might still take back, by the strictest reading of POSIX.

    Content is durable after fsync of the file, a name after fsync of its folder, and nothing before; syncfs
    counts for what lies below the folder that it was asked for, or one fsync too few would hide behind it.
    """

    root: str
    content: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def is_final(self, path: str) -> bool:
        """Tell whether anybody will rely on this name: not on a part, a ``.new`` or the lock."""
        return path.startswith(f"{self.root}/") and not path.endswith((".part", ".new", "/lock"))

    def name(self, path: str) -> None:
        if self.is_final(path):
            self.names.add(path)

    def change(self, path: str) -> None:
        self._refuse_before_the_journal(path)
        self.faults += [f"{path} changes before {each} is durably gone" for each in sorted(self.removed)]
        if path.startswith(self.root) and not path.endswith("/lock"):
            self.content.add(path)

    def sync(self, path: str) -> None:
        self.content.discard(path)
        self.names = {name for name in self.names if str(Path(name).parent) != path}
        self.removed = {name for name in self.removed if str(Path(name).parent) != path}

    def sync_below(self, folder: str) -> None:
        for known in (self.content, self.names, self.removed):
            known -= {path for path in known if path.startswith(f"{folder}/")}

    def remove(self, path: str) -> None:
        self._refuse_before_the_journal(path)
        self.content.discard(path)
        if self.is_final(path):
            self.removed.add(path)

    def rename(self, old: str, new: str) -> None:
        self._refuse_before_the_journal(new)
        if old in self.content:
            self.faults.append(f"{new} got its name before its content was durable")
        self.content.discard(old)
        self.name(new)

    def write(self, path: str) -> None:
        if path.endswith("/journal"):
            open_ends = sorted({*self.content, *self.names} - {path})
            self.faults += [f"the journal goes on before {each} is durable" for each in open_ends]
        self.change(path)

    def end(self) -> None:
        rest = sorted({*self.content, *self.names, *self.removed})
        self.faults += [f"{each} is not durable in the end" for each in rest]

    def _refuse_before_the_journal(self, path: str) -> None:
        journal = f"{self.root}/state/journal"
        if journal in {*self.content, *self.names} and path != journal:
            self.faults.append(f"{path} changes before the journal's line about it is durable")


def faults(trace: Iterable[str], root: Path, existing: Iterable[str] = ()) -> list[str]:
    """Return where the trace claims more than a power cut would leave; ``existing`` were durable before."""
    disk = Disk(str(root), opened=set(existing))
    for line in trace:
        match = _CALL.match(line)
        if match is not None:  # calls that failed changed nothing
            _apply(disk, match[1], match[2])
    disk.end()
    return disk.faults


def _apply(disk: Disk, call: str, arguments: str) -> None:
    descriptor, quoted = _DESCRIPTOR.match(arguments), _QUOTED.findall(arguments)
    path = descriptor[1] if descriptor else quoted[-1] if quoted else ""
    if call in {"write", "pwrite64"}:
        disk.write(path)
    elif call in {"ftruncate", "fchmod", "chmod", "fchmodat"}:
        disk.change(path)
    elif call in {"fsync", "fdatasync"}:
        disk.sync(path)
    elif call == "syncfs":
        disk.sync_below(path)
    elif call.startswith("rename"):
        disk.rename(quoted[0], quoted[1])
    elif call == "openat":
        if "O_CREAT" in arguments and path not in disk.opened:
            disk.name(path)
        disk.opened.add(path)
    elif call.startswith("unlink"):
        disk.remove(path)
    elif call.startswith(("mkdir", "symlink", "link")):
        disk.name(path)


@pytest.fixture(scope="module")
def traced(bench: Bench) -> tuple[Path, list[str]]:
    root = bench.root("traced")
    return root, bench.trace(root)


def synced_paths(trace: Iterable[str], calls: str = "fsync") -> list[tuple[int, str]]:
    """Return each fsync's line number and path."""
    pattern = rf"\b(?:{calls})\([0-9]+<([^>]*)>"
    matches = ((number, re.search(pattern, line)) for number, line in enumerate(trace))
    return [(number, match[1]) for number, match in matches if match]


def calls(trace: Iterable[str]) -> Iterator[str]:
    matches = (re.match(r"^(?:[0-9]+\s+)?(\w+)\(", line) for line in trace)
    return (match[1] for match in matches if match)


def test_nothing_is_claimed_before_a_power_cut_would_leave_it(traced: tuple[Path, list[str]]) -> None:
    root, trace = traced
    assert faults(trace, root) == []


def test_the_trace_shows_every_final_name(traced: tuple[Path, list[str]], bench: Bench) -> None:
    root, trace = traced
    renamed = {_QUOTED.findall(line)[1] for line in trace if " rename(" in line}
    names = [f"store/blobs/sha256/{blob.sha256}" for blob in bench.bundle.release.blobs]
    names += [
        "state/roots/1.root.json",
        "state/roots/2.root.json",
        "state/binding.json",
        "state/counter.json",
    ]
    assert renamed == {str(root / name) for name in [*names, "unit", "current"]}
    assert sum("/state/journal>" in line and " write(" in line for line in trace) == len(EVENTS)


def test_a_file_s_fsync_that_is_left_out_is_seen(traced: tuple[Path, list[str]]) -> None:
    root, trace = traced
    synced = [number for number, path in synced_paths(trace) if not Path(path).is_dir()]
    assert len(synced) > len(EVENTS)
    synced += [number for number, path in synced_paths(trace, "syncfs") if path.endswith("/incoming")]
    unseen = [trace[number] for number in synced if not faults(trace[:number] + trace[number + 1 :], root)]
    assert unseen == []


def test_a_folder_whose_names_are_never_synced_is_seen(traced: tuple[Path, list[str]]) -> None:
    # Not each single fsync: the one after the last blob makes the names of all blobs before it durable.
    root, trace = traced
    folders = {path for _, path in synced_paths(trace) if Path(path).is_dir()}
    assert {str(root / "state" / "roots"), str(root / "store" / "blobs" / "sha256")} < folders
    for folder in folders:
        skipped = {number for number, path in synced_paths(trace) if path == folder}
        rest = [line for number, line in enumerate(trace) if number not in skipped]
        assert faults(rest, root), folder


def test_a_rename_before_its_sync_is_seen(traced: tuple[Path, list[str]]) -> None:
    root, trace = traced
    syncs = [number for number, _ in synced_paths(trace, "fsync|syncfs")]
    for number, line in enumerate(trace):
        if " rename(" in line and ".current.new" not in line:  # a link has no content to sync
            sync = max(each for each in syncs if each < number)
            earlier = [*trace[:sync], line, *trace[sync:number], *trace[number + 1 :]]
            assert any("before its content" in fault for fault in faults(earlier, root)), line


@pytest.mark.real
def test_a_large_blob_is_made_durable_as_it_grows(tmp_path: Path) -> None:
    # What a power cut takes back of it is bounded: synced every 32 MiB, and its name with the first of them.
    content = b"".join(number.to_bytes(2) * 2**19 for number in range(80))
    large = World(files={"bom.cdx.json": b"{}", "models/tiny/weights.bin": content})
    large.carrier(tmp_path)
    (tmp_path / "root.json").write_bytes(large.root(1))
    bench = Bench(tmp_path, large.trusted(), large.root(1))
    root = bench.root("large")
    trace = bench.trace(root)
    assert faults(trace, root) == []
    part = str(root / "store" / "incoming" / f"{sha256_hex(content)}.part")
    written = synced = most = covered = 0
    # The sync runs beside the writes, and covers what was written when it began: lines as they came.
    for line in (tmp_path / "large.trace").read_text("utf-8").splitlines():
        if re.search(rf" write\([0-9]+<{re.escape(part)}>", line):
            written += int(line.split(", ")[2].split()[0].rstrip(")"))
        elif re.search(rf" (fdatasync|fsync)\([0-9]+<{re.escape(part)}>", line):
            covered = written
        if re.search(r"(fdatasync|fsync)(\(.*\)| resumed>\)) += 0", line):
            synced = covered
        most = max(most, written - synced)
    assert written == len(content)
    assert 0 < most <= 64 * 2**20
    assert str(root / "store" / "incoming") in [path for _, path in synced_paths(trace)]


@pytest.fixture
def worn(bench: Bench) -> Iterator[Path]:
    """Return a root that trusts another product, has counted for it, and lost power in its journal."""
    root = bench.root("worn")
    state = State(root, lambda: NOW)
    strangers = Generation([key("stranger-1"), key("stranger-2")], [key("stranger")])
    state.adopt(FirstContact(World(generations=[strangers]).root(1), "other", None))
    state.keep(Floor(7, "7" * 64))
    state.journal.append("finished")
    with (state.folder / "journal").open("ab") as journal:
        journal.write(b'{"at":"2026')
    yield root
    shutil.rmtree(root)


def test_adopting_anew_is_as_careful_with_what_it_takes_away(bench: Bench, worn: Path) -> None:
    existing = [str(path) for path in worn.rglob("*")]
    trace = bench.trace(worn, ADOPT)
    assert faults(trace, worn, existing) == []
    removed = {match[1] for line in trace if (match := re.search(r'unlink\("[^"]*/([^/"]+)"\) += 0', line))}
    assert removed == {"binding.json", "1.root.json", "counter.json"}
    synced = [number for number, _ in synced_paths(trace)]
    torn = next(number for number, line in enumerate(trace) if re.search(r"ftruncate\(.*/journal>", line))
    (after_the_cut,) = (number for number in synced if number == torn + 1)
    assert "/journal>" in trace[after_the_cut]


def test_what_a_killed_run_left_is_made_durable_before_anything_builds_on_it(bench: Bench) -> None:
    root = bench.root("again")
    assert bench.work(root) == 0
    trace = bench.trace(root)
    order = [call for call in calls(trace) if call in {"syncfs", "write"}]
    assert order.index("syncfs") < order.index("write")
    assert not any("/store/" in line and " write(" in line for line in trace)  # all blobs are here


# --- Killed, or refused by the disk, at every call --------------------------------------------------------


def assert_nothing_lies(bench: Bench, root: Path) -> None:
    """Check what holds at every moment of the work."""
    store, state = Store(root / "store"), State(root)
    assert store.check(lambda _: None) == ()
    events = [entry.event for entry in state.journal.entries()]
    assert events == EVENTS[: len(events)]
    assert events.count("done") == 0 or store.missing(bench.bundle.release.blobs) == ()
    assert events.count("done") < 2 or (root / "current").readlink() == Path("store")
    trust = state.trust()
    assert trust is None or trust.root in {bench.first_root, bench.bundle.roots[-1]}
    assert events != EVENTS or (trust is not None and trust.floor is not None)


def assert_done_again_it_ends_well(bench: Bench, root: Path) -> None:
    assert bench.work(root) == 0
    store, state = Store(root / "store"), State(root)
    trust = state.trust()
    assert trust is not None
    assert trust.floor is not None
    assert trust.root == bench.bundle.roots[-1]
    assert store.check(lambda _: None, bench.bundle.release.blobs) == ()
    assert [entry.event for entry in state.journal.entries()][-len(EVENTS) :] == EVENTS
    left = [path.name for path in root.rglob("*") if path.name.endswith((".part", ".new"))]
    assert left == []


def at_every(bench: Bench, call: str, count: int, fault: str, expected: set[int]) -> None:
    """Let the fault strike at the first, second ... call of a clean run, each on a fresh root."""

    def strike(number: int) -> None:
        root = bench.root(f"{call}-{fault.partition('=')[0]}-{number}")
        code = bench.work(root, "-o", "/dev/null", "-e", f"inject={call}:{fault}:when={number}")
        assert code in expected
        assert_nothing_lies(bench, root)
        assert_done_again_it_ends_well(bench, root)
        shutil.rmtree(root)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(strike, range(1, count + 1)))


def test_the_work_changes_the_disk_by_no_other_calls(traced: tuple[Path, list[str]]) -> None:
    assert set(calls(traced[1])) - {"openat"} == KILLED_AT


@pytest.mark.slow
@pytest.mark.parametrize("call", sorted(KILLED_AT))
def test_killed_at_every_call_nothing_lies_and_the_next_run_ends_well(
    bench: Bench, traced: tuple[Path, list[str]], call: str
) -> None:
    count = Counter(calls(traced[1]))[call]
    assert count > 0
    at_every(bench, call, count, "signal=SIGKILL", {-9, 137})


@pytest.mark.slow
def test_a_full_disk_at_every_write_is_an_unfit_server_that_recovers(
    bench: Bench, traced: tuple[Path, list[str]]
) -> None:
    at_every(bench, "write", Counter(calls(traced[1]))["write"], "error=ENOSPC", {20})


@pytest.mark.slow
def test_a_disk_that_fails_at_every_fsync_is_never_called_good(
    bench: Bench, traced: tuple[Path, list[str]]
) -> None:
    at_every(bench, "fsync", Counter(calls(traced[1]))["fsync"], "error=EIO", {1})


def trusted(root: Path) -> Trust | None:
    """Return whom a root trusts; one that was cut off in between trusts nobody."""
    try:
        return State(root).trust()
    except Tampered:
        return None


@pytest.mark.slow
def test_adopting_killed_at_every_call_never_mixes_two_products(bench: Bench, worn: Path) -> None:
    other = State(worn).trust()
    pristine = bench.folder / "pristine"
    shutil.copytree(worn, pristine)
    counts = Counter(calls(bench.trace(worn, ADOPT)))
    ours = State(worn).trust()
    assert other != ours
    for call in sorted(counts.keys() & KILLED_AT):
        for number in range(1, counts[call] + 1):
            root = bench.folder / f"adopt-{call}-{number}"
            shutil.copytree(pristine, root)
            kill = ("-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={number}")
            assert bench.work(root, *kill, script=ADOPT) in {-9, 137}
            assert trusted(root) in {other, None, ours}
            assert bench.work(root, script=ADOPT) == 0
            assert State(root).trust() == ours
            shutil.rmtree(root)
