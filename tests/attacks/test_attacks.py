"""Every attack of the corpus, through the real command line: its exit code, its words, and no live write."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from appliance.__main__ import main
from appliance.errors import Untrusted
from tests.attacks import (
    content,
    freshness,
    members,
    names,
    neighbours,
    signatures,
    sizes,
    spellings,
)
from tests.attacks.corpus import ATTACKS, Attack, Scene, make_server, whole_world

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

pytestmark = pytest.mark.real

THEMES = {
    module.__name__.rpartition(".")[2]
    for module in (content, freshness, members, names, neighbours, signatures, sizes, spellings)
}
IN_PROCESS = [attack for attack in ATTACKS if attack.theme != "neighbours"]
BESIDE_PYZ = [attack for attack in ATTACKS if attack.theme == "neighbours"]

PROJECT = Path(__file__).parent.parent.parent
#: Control characters but line ends, other line ends, and what changes the direction of writing.
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
HANGUL = re.compile("[\uac00-\ud7a3]")
JOURNAL, LOCK, ROOTS = "state/journal", "state/lock", "state/roots"


# --- The runner


def tree(folder: Path) -> dict[str, tuple[object, ...]]:
    """Return every path below a folder with its kind, mode, times and content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        about = path.lstat()
        held = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (about.st_mode, about.st_uid, about.st_mtime_ns, held)
    return found


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command line in this process; return its exit code, and what it said on both streams."""
    umask = os.umask(0o022)
    try:
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
    finally:
        os.umask(umask)
    assert isinstance(ended.value.code, int)
    return ended.value.code, *capsys.readouterr()


@pytest.fixture(scope="module")
def first_contact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the real appliance.pyz of this checkout, once."""
    path = tmp_path_factory.mktemp("first-contact") / "appliance.pyz"
    path.write_bytes(neighbours.real_first_contact(whole_world().root(1)))
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the root of the scene's server, once."""
    folder = tmp_path_factory.mktemp("server") / "banip"
    make_server(folder)
    return folder


@pytest.fixture
def scene(server: Path, tmp_path: Path) -> Scene:
    return Scene.in_folder(tmp_path, server)


@pytest.mark.parametrize("attack", IN_PROCESS, ids=lambda attack: attack.name)
def test_it_is_refused_and_nothing_is_touched(
    attack: Attack, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = attack.spoil(scene) or scene.world.carrier(scene.medium)
    reading, writing = attack.commands
    root, before = scene.site.root, tree(scene.site.root)
    code, out, err = run(capsys, "--root", root, "--lang", "ko", reading, bundle)
    check_words(attack, code, out + err)
    assert differences(before, tree(root)) == set(), "who only reads, writes nothing"
    code, out, _ = run(capsys, "--root", root, "--json", writing, bundle)
    check_facts(attack, code, json.loads(out.splitlines()[-1]))
    check_tree(attack, scene, before)


def check_words(attack: Attack, code: int, words: str) -> None:
    """A person reads in Korean what to do, and no byte of the medium steers the terminal."""
    assert code == attack.exit_code, words
    assert HANGUL.search(words)
    assert not STEERING.search(words)
    assert len(words) < 4000
    assert words.count("\n  조치: ") == 1


def check_facts(attack: Attack, code: int, told: dict[str, object]) -> None:
    """A program gets the class of the error, the place, and the remedy."""
    assert (code, told["exit_code"], told["error"]) == (attack.exit_code, attack.exit_code, attack.error), (
        told
    )
    assert told["remedy"]
    assert "install" in attack.commands or told["where"]


def check_tree(attack: Attack, scene: Scene, before: Mapping[str, tuple[object, ...]]) -> None:
    """Only one journal line and the lock; where they may be, also verified roots, and true, signed blobs."""
    after = tree(scene.site.root)
    changed = differences(before, after) - {JOURNAL, LOCK}
    if attack.stores:
        changed -= set(stored(scene))
    if attack.new_roots:
        changed -= set(kept_roots(scene, attack.new_roots))
    assert changed == set()
    events = scene.site.journal()[1:]
    assert "imported" not in events
    if "install" in attack.commands or attack.stores or attack.exit_code == 1:
        assert len(events) <= 1
        return
    (*others, last) = scene.site.server.state.journal.entries()[1:]
    assert len(others) <= attack.new_roots
    assert (last.event, last.facts["exit_code"], last.facts["error"]) == (
        "refused",
        attack.exit_code,
        attack.error,
    )


def stored(scene: Scene) -> Iterator[str]:
    """Yield what the store may hold after a refusal: true and signed names, and parts that have none."""
    signed = {blob.sha256 for blob in scene.world.release.blobs}
    root = scene.site.root
    for path in sorted((root / "store").rglob("*")):
        name = str(path.relative_to(root))
        if path.is_dir():
            assert name in {"store/blobs", "store/blobs/sha256", "store/incoming"}
        elif path.parent.name == "incoming":
            assert (path.suffix, path.lstat().st_mode & 0o777) == (".part", 0o600)
        else:
            assert name == f"store/blobs/sha256/{path.name}"
            assert path.lstat().st_mode == 0o100444
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            assert path.name in signed
        yield name
    yield "store"


def kept_roots(scene: Scene, count: int) -> Iterator[str]:
    """Yield the names of newer roots, as carried: they count whatever becomes of the rest."""
    for version in range(3, 3 + count):
        path = scene.site.root / ROOTS / f"{version}.root.json"
        assert not path.exists() or path.read_bytes() == scene.world.root(version)
        yield f"{ROOTS}/{version}.root.json"
    yield ROOTS


def test_the_scene_that_nobody_touched_is_taken(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise the corpus would show nothing: every case spoils this."""
    bundle = scene.world.carrier(scene.medium)
    for command in ("verify", "import"):
        main(["--root", str(scene.site.root), command, str(bundle)])
        assert "demo-3.0.0-c3" in capsys.readouterr().out
    assert {path.name for path in (scene.site.root / "store/blobs/sha256").iterdir()} == set(
        scene.world.blobs
    )


def test_a_mirrored_signature_is_taken_for_it_says_nothing_else(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    """From (r, s) anybody can make (r, n - s): as valid, over the same bytes, by the same key (ECDSA)."""

    def mirrored(signature: bytes, _: bytes) -> bytes:
        r, s = decode_dss_signature(signature)
        return encode_dss_signature(r, signatures.N - s)

    before = scene.world.targets
    signatures.respell(scene.world, mirrored)
    bundle = scene.world.carrier(scene.medium)
    assert before not in bundle.read_bytes()
    main(["--root", str(scene.site.root), "verify", str(bundle)])
    assert "demo-3.0.0-c3" in capsys.readouterr().out


# --- Neighbours of appliance.pyz: the built file, run as an operator runs it


def run_pyz(attack: Attack, scene: Scene, pyz: Path, bundle: Path) -> subprocess.CompletedProcess[str]:
    """Run a copy of the file from a terminal whose folder is the medium."""
    place = neighbours.place_of(scene)
    copy = scene.medium.parent / attack.pyz
    target = place.medium / "appliance.pyz" if copy.is_symlink() else copy
    target.hardlink_to(pyz)
    there = {name: value.format(there=place.disk) for name, value in attack.environment.items()}
    return subprocess.run(
        [
            neighbours.system_python(),
            *attack.flags,
            copy,
            "--root",
            scene.site.root,
            *attack.commands,
            bundle,
        ],
        cwd=place.medium,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", **there},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("attack", BESIDE_PYZ, ids=lambda attack: attack.name)
def test_a_neighbour_is_not_read_and_changes_nothing(
    attack: Attack, scene: Scene, first_contact: Path
) -> None:
    attack.spoil(scene)
    (scene.site.root / "first-contact").mkdir(mode=0o700)
    before = tree(scene.site.root)
    done = run_pyz(attack, scene, first_contact, scene.world.carrier(scene.medium))
    assert done.returncode == attack.exit_code, done.stderr
    assert "Traceback" not in done.stderr
    assert not neighbours.place_of(scene).mark.exists()
    changed = differences(before, tree(scene.site.root)) - {JOURNAL, LOCK, "first-contact"}
    assert changed == set(), "and what was unpacked is gone"
    assert len(scene.site.journal()) == 1 + (attack.exit_code == Untrusted.exit_code)


def test_the_file_itself_takes_the_bundle_that_nobody_touched(scene: Scene, first_contact: Path) -> None:
    attack = next(attack for attack in BESIDE_PYZ if attack.exit_code == Untrusted.exit_code)
    done = run_pyz(attack, scene, first_contact, scene.world.carrier(scene.medium))
    assert (done.returncode, done.stdout) == (0, "demo-3.0.0-c3 is in the store\n"), done.stderr


def test_a_neighbour_would_leave_its_mark_where_it_is_read(scene: Scene) -> None:
    place = neighbours.place_of(scene)
    neighbours.PLANTED["a json.py"](place)
    subprocess.run([sys.executable, "-c", "import json"], cwd=place.disk, check=True)
    assert place.mark.exists()


# --- The corpus itself


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table in docs/design.md section 4."""

    words: str
    exit_code: int


@cache
def table() -> tuple[Row, ...]:
    section = (PROJECT / "docs/design.md").read_text("utf-8").partition("## 4. ")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines()]
    body = [line for line in cells if len(line) == 3][1:]
    return tuple(Row(words, int(code.split(",")[0])) for words, _, code in body)


#: What no bundle on a medium can bring about alone: who shows it.
ELSEWHERE = {
    "a .deb changed on the server's disk since": "test_packages_and_images.py",
    "an image's layer changed on the server's disk since": "test_packages_and_images.py",
    "podman reports another manifest than the signed one": "test_containers.py",
    "packages of another architecture; no apt; images and no podman": "test_preflight.py",
    "a package that asks for a downgrade or a removal, or that cannot be set up": "test_packages.py",
    "a release that does not become healthy": "test_journey.py",
    "an `appliance.pyz` with another first root than any memory here has": "test_rotation.py",
    "other digits than the new first root's": "test_rotation.py",
    "a medium that shows something else after it was verified, or while it is read": "test_faulty_media.py",
    "a copy for `--repair` that is another release (bad itself: its own code)": "test_faulty_media.py",
    "a clock before 1980, which ZIP and so Ansible cannot spell": "test_freshness.py",
}


def test_the_corpus_covers_every_row_of_the_table_and_nothing_else() -> None:
    rows = {row.words for row in table()}
    assert len(rows) == len(table()) > 30
    assert {attack.row for attack in ATTACKS} | ELSEWHERE.keys() == rows
    assert not {attack.row for attack in ATTACKS} & ELSEWHERE.keys()
    assert all((PROJECT / "tests" / name).exists() for name in ELSEWHERE.values())


def test_every_case_has_the_exit_code_of_its_row() -> None:
    codes = {row.words: row.exit_code for row in table()}
    assert [attack.name for attack in ATTACKS if codes[attack.row] != attack.exit_code] == []


def test_there_are_at_least_120_cases_each_with_a_name_of_its_own() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names)) >= 120
    assert {attack.theme for attack in ATTACKS} == set(THEMES)
    assert len(IN_PROCESS) >= 120


@pytest.mark.parametrize("kind", [kind for kind in names.KINDS if kind != "a name of a hundred bytes"])
def test_a_hostile_header_is_one_that_other_readers_take(kind: str) -> None:
    """What no reader would obey would be no attack."""
    assert names.readable(names.KINDS[kind])
