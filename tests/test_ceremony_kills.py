"""A rotation that is killed, or refused by the disk, at each of its changing system calls."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.verify import follow_roots, trusted_root
from bundle.ceremony import throw_away
from bundle.folder import roots
from bundle.keys import create, load_signer, show
from tests.world import ROOT_EXPIRES

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
]

PROJECT = Path(__file__).parent.parent
CHANGES = "chmod,fchmod,fdatasync,fsync,ftruncate,mkdir,openat,pwrite64,rename,rmdir,unlink,unlinkat,write"
KILLED_AT = ("fchmod", "fsync", "mkdir", "rename", "rmdir", "unlink", "unlinkat", "write")
#: The keys' passphrase is short: what is tried here is the disk.
PASSPHRASE = b"x"

#: Replace the release key and renew, signed by two root keys, in one call.
ROTATE = """
import sys
from datetime import datetime, timezone
from pathlib import Path
from appliance.errors import BanipError
from bundle.ceremony import Change, rotate
from bundle.keys import load_signer

folder = Path(sys.argv[1])
signers = [load_signer(folder / f"root-{n}.pem", b"x") for n in (1, 2)]
change = Change(replace=(("release-1", None),), valid_days=3000)
try:
    now = datetime(2026, 6, 1, tzinfo=timezone.utc)
    step = rotate(folder, change, now=now, passphrase=b"x", signers=signers)
except BanipError as error:
    sys.exit(error.exit_code)
sys.exit(0 if step.finished == 2 else 99)
"""
#: Propose the same, unsigned, and throw it away.
DISCARD = """
import sys
from datetime import datetime, timezone
from pathlib import Path
from bundle.ceremony import Change, rotate, throw_away

folder = Path(sys.argv[1])
rotate(folder, Change(valid_days=3000), now=datetime(2026, 6, 1, tzinfo=timezone.utc))
sys.exit(0 if throw_away(folder) else 99)
"""


@dataclass(frozen=True)
class Bench:
    """A key folder, two of three root keys sign, of which every try gets a copy."""

    folder: Path

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.folder, self.folder.parent / name))

    def run(self, folder: Path, script: str, *strace: str) -> int:
        tracer = ["strace", "-f", "-qq", "--seccomp-bpf", *strace] if strace else []
        done = subprocess.run(
            [*tracer, sys.executable, "-c", script, str(folder)],
            cwd=PROJECT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            check=False,
            timeout=120,
        )
        return done.returncode

    def trace(self, name: str, script: str) -> list[str]:
        """Run it to its end on a copy; return its changing calls inside the key folder, and in all."""
        output = self.folder.parent / f"{name}.trace"
        options = ("-y", "-s", "0", "-o", str(output), "-e", f"trace={CHANGES}")
        assert self.run(self.copy(name), script, *options) == 0
        return output.read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("kills") / "keys"
    create(folder, "demo", passphrase=PASSPHRASE, expires=ROOT_EXPIRES)
    return Bench(folder)


@pytest.fixture(scope="module")
def traced(bench: Bench) -> list[str]:
    return bench.trace("traced", ROTATE)


def _calls(trace: list[str]) -> Counter[str]:
    found = (re.match(r"^(?:[0-9]+\s+)?(\w+)\(", line) for line in trace)
    return Counter(match[1] for match in found if match)


def _inside(line: str) -> bool:
    return "/traced" in line


def assert_old_or_new(folder: Path) -> None:
    """Check what holds at every moment: the folder can be shown, and its newest root is whole."""
    ring = show(folder)
    chain = roots(folder)
    assert ring.root_version == len(chain) in {1, 2}
    newest, _ = follow_roots(chain, chain[0])
    assert newest.version == len(chain)
    named = [name for name, _ in ring.release_keys]
    assert named == (["release-1.pem"] if len(chain) == 1 else ["release-2.pem"])
    load_signer(folder / named[0], PASSPHRASE)


def assert_the_same_words_end_it(bench: Bench, folder: Path) -> None:
    code = bench.run(folder, ROTATE)
    assert code in {0, 2}  # 2: the new root was there already, and names no release-1 any more
    ring = show(folder)
    assert (ring.root_version, ring.draft) == (2, None)
    assert [name for name, _ in ring.release_keys] == ["release-2.pem"]
    load_signer(folder / "release-2.pem", PASSPHRASE)
    assert not [path.name for path in folder.rglob("*") if "draft" in path.name or path.name.endswith(".new")]


def strike(bench: Bench, call: str, number: int, fault: str, expected: set[int]) -> None:
    folder = bench.copy(f"{call}-{fault.partition('=')[0]}-{number}")
    # As root, permissions hold nothing back: the fault is the kernel's own answer.
    code = bench.run(folder, ROTATE, "-o", "/dev/null", "-e", f"inject={call}:{fault}:when={number}")
    assert code in expected, (call, number, code)
    assert_old_or_new(folder)
    assert_the_same_words_end_it(bench, folder)
    shutil.rmtree(folder)


def test_a_rotation_changes_the_disk_by_no_other_calls(traced: list[str]) -> None:
    inside = _calls([line for line in traced if _inside(line)])
    assert set(inside) - {"openat"} == set(KILLED_AT)
    assert inside["rename"] >= 6


def test_the_draft_and_the_new_root_are_durable_before_they_have_their_names(traced: list[str]) -> None:
    position = {}
    for number, line in enumerate(traced):
        if match := re.search(r"\bfsync\([0-9]+<[^>]*/traced/([^>]+)>", line):
            position[match[1]] = number
    draft = next(n for n, line in enumerate(traced) if " rename(" in line and ".draft.new" in line)
    written = {name for name, number in position.items() if name.startswith(".draft.new") and number < draft}
    files = {"root.json", "change.json", "release-2.pem", "release-2.pub.pem"}
    assert written == {".draft.new", *(f".draft.new/{name}" for name in files)}
    root = next(n for n, line in enumerate(traced) if " rename(" in line and "/2.root.json" in line)
    assert position["roots/.2.root.json.new"] < root < position["roots"]
    moved = [n for n, line in enumerate(traced) if " rename(" in line and "/release-2." in line]
    assert len(moved) == 2
    assert max(moved) < root  # a root never names a key whose private half a power cut could take


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_rotation_killed_at_a_rename_ends_in_old_or_new(
    bench: Bench, traced: list[str], which: str
) -> None:
    count = _calls(traced)["rename"]
    strike(bench, "rename", 1 if which == "first" else count, "signal=SIGKILL", {-9, 137})


@pytest.mark.slow
@pytest.mark.parametrize("call", KILLED_AT)
def test_a_rotation_killed_at_every_call_ends_in_old_or_new(
    bench: Bench, traced: list[str], call: str
) -> None:
    count = _calls(traced)[call]
    assert count > 0
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        tries = range(1, count + 1)
        list(threads.map(lambda n: strike(bench, call, n, "signal=SIGKILL", {-9, 137}), tries))


@pytest.mark.slow
def test_a_full_disk_at_every_write_changes_nothing_that_counts(bench: Bench, traced: list[str]) -> None:
    for number in range(1, _calls(traced)["write"] + 1):
        strike(bench, "write", number, "error=ENOSPC", {1, 20})


@pytest.mark.slow
@pytest.mark.parametrize("call", ["fsync", "mkdir", "rename", "unlinkat"])
def test_throwing_a_draft_away_killed_at_every_call_leaves_it_or_not(bench: Bench, call: str) -> None:
    counts = _calls(bench.trace(f"discarded-{call}", DISCARD))
    for number in range(1, counts[call] + 1):
        folder = bench.copy(f"discard-{call}-{number}")
        kill = ("-o", "/dev/null", "-e", f"inject={call}:signal=SIGKILL:when={number}")
        assert bench.run(folder, DISCARD, *kill) in {-9, 137}
        assert_old_or_new(folder)
        throw_away(folder)
        ring = show(folder)
        assert (ring.root_version, ring.draft) == (1, None)
        assert trusted_root(roots(folder)[0]).version == 1
        assert {path.name for path in folder.iterdir()} == {path.name for path in bench.folder.iterdir()}
        shutil.rmtree(folder)
