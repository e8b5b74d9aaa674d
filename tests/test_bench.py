"""The harness of ``make bench``: contestants are held to equal outcomes; how fast they are, no test asks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.content import FULL, SMALL, TINY, pseudo_random
from bench.contests import SEED, Contestant, Scene
from bench.measure import ContestantFailed, forget, make_warm, measure
from bench.race import CACHES, WrongOutcome, extra_disk, medians, race
from bench.report import BEGIN, END, figures, page
from bundle.pack import inspect

DOCUMENT = Path(__file__).parent.parent / "docs" / "benchmarks.md"
ENVIRONMENT = dict(os.environ)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    made = Scene(tmp_path_factory.mktemp("scene").resolve(), TINY)
    made.set()
    return made


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def cell_of(one: Contestant) -> str:
    name = one.name.replace("|", "\\|")
    return f"**{name}**" if one.ours else name


@pytest.mark.real
def test_every_contestant_ends_with_the_same_content_and_all_of_them_are_in_the_tables(scene: Scene) -> None:
    contests = scene.contests()
    said: list[str] = []
    runs = list(race(scene, contests, 1, said.append, caches=("warm",)))
    assert len(runs) == len(said) == sum(len(contest.contestants) for contest in contests)
    found = medians(runs)
    both = {**found, **{(contest, name, "cold"): median for (contest, name, _), median in found.items()}}
    shown = figures({"date": "today"}, contests, both, 0.01)
    for contest in contests:
        assert f"### {contest.title}" in shown
        for one in contest.contestants:
            assert shown.count(f"| {cell_of(one)} |") == len(CACHES)
        assert any(one.ours for one in contest.contestants)
        assert {goal.against for goal in contest.goals} <= {one.name for one in contest.contestants}
    assert shown.count("reached") + shown.count("missed") > len(contests)


@pytest.mark.real
def test_a_contestant_that_leaves_something_out_is_found(scene: Scene) -> None:
    packing = scene.contests()[0]
    tar = next(one for one in packing.contestants if one.name == "tar -cf")
    (argv,) = tar.steps[0]
    lazy = replace(tar, steps=(((argv[0], f"--exclude={scene.digests[0]}", *argv[1:]),),))
    with pytest.raises(WrongOutcome, match="tar -cf: 10 files came out, not the 11"):
        list(race(scene, [replace(packing, contestants=(lazy,))], 1, lambda _: None, caches=("warm",)))


@pytest.mark.real
def test_extra_disk_is_what_an_import_takes_beyond_the_content(scene: Scene) -> None:
    importing = scene.contests()[2]
    assert 0 <= extra_disk(scene, importing) < 0.05
    (ours,) = (one for one in importing.contestants if one.ours)
    wasteful = replace(ours, steps=((("cp", str(scene.bundle), "copy"),), *ours.steps))
    assert extra_disk(scene, replace(importing, contestants=(wasteful,))) > 0.9


def test_the_hollow_bundle_says_that_it_is_200_gb(scene: Scene) -> None:
    contents = inspect(scene.hollow)
    assert contents.blob_bytes > 200e9
    assert contents.size_bytes == scene.hollow.stat().st_size
    assert contents.signed_by


def test_a_program_that_fails_is_no_contestant(tmp_path: Path) -> None:
    with pytest.raises(ContestantFailed, match="no such luck"):
        measure([(python("import sys; sys.exit('no such luck')"), ("cat",))], tmp_path, ENVIRONMENT)


def test_what_is_measured_is_the_sum_over_a_pipeline_and_over_its_steps(tmp_path: Path) -> None:
    spin = "import time\nwhile time.process_time() < 0.2: pass\n"
    seen = measure([(python(spin), python(spin)), (python(spin),)], tmp_path, ENVIRONMENT)
    assert seen.cpu_s >= 0.6
    assert seen.wall_s >= 0.4


def test_memory_is_each_programs_own_and_not_that_of_who_started_it(tmp_path: Path) -> None:
    ours = bytearray(os.urandom(100 * 2**20))
    sleep = "import time; time.sleep(0.3)"
    little = measure([(python(sleep),)], tmp_path, ENVIRONMENT).peak_rss_bytes
    large = f"kept = bytearray(b'x' * {60 * 2**20}); {sleep}"
    much = measure([(python(large), python(large))], tmp_path, ENVIRONMENT).peak_rss_bytes
    assert len(ours) > 60 * 2**20 > little > 0
    assert much > 2 * 60 * 2**20


def test_warm_is_in_the_cache_and_forgotten_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1_000_000))
    make_warm([path])
    assert cached_bytes(path) >= 1_000_000
    forget([path])
    assert cached_bytes(path) == 0 or file_system(path) == "tmpfs"


def cached_bytes(path: Path) -> int:
    return int(subprocess.check_output(["fincore", "--bytes", "--noheadings", "--output", "RES", path]))


def file_system(path: Path) -> str:
    return subprocess.check_output(["stat", "-f", "-c", "%T", path], text=True).strip()


def test_the_same_seed_gives_the_same_bytes() -> None:
    first = b"".join(map(bytes, pseudo_random("seed", 5_000_000)))
    assert (len(first), first[:6].hex()) == (5_000_000, "9b715a7c78a6")
    assert b"".join(map(bytes, pseudo_random("seed", 1_000))) == first[:1_000]
    assert b"".join(map(bytes, pseudo_random("other", 1_000))) != first[:1_000]


def test_the_full_mix_is_what_the_issue_asks_for() -> None:
    sizes = FULL.sizes(SEED)
    wheels = [size for name, size in sizes.items() if name.startswith("wheel")]
    assert sum(sizes.values()) >= 6e9
    assert (len(wheels), min(wheels) < 60_000, max(wheels) > 70_000_000) == (200, True, True)
    assert 100e6 < sum(SMALL.sizes(SEED).values()) < 300e6


def test_figures_replace_figures_and_nothing_else() -> None:
    before = f"# Speed\n\n{BEGIN}\nold\n{END}\n\nwhy\n"
    after = page(before, "new\n")
    assert after == f"# Speed\n\n{BEGIN}\n\nnew\n\n{END}\n\nwhy\n"
    assert page(after, "new\n") == after
    with pytest.raises(ValueError, match="figures"):
        page("# no marks\n", "new")


def test_the_document_has_its_marks() -> None:
    content = DOCUMENT.read_text("utf-8")
    assert page(content, "x").count("x") >= 1
