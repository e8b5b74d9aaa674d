"""Contestants take turns: a round has each of them once cold and once warm, in an order that moves on."""

from __future__ import annotations

import statistics
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from bench.measure import make_cold, make_warm, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from bench.contests import Contest, Contestant, Scene
    from bench.measure import Measured

Cache = Literal["cold", "warm"]
CACHES: tuple[Cache, ...] = ("cold", "warm")


class WrongOutcome(Exception):
    """A contestant ended well and did not produce what it should have."""


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant once."""

    contest: str
    contestant: str
    cache: Cache
    round: int
    measured: Measured


@dataclass(frozen=True, slots=True)
class Median:
    """The median of each figure over the rounds, and the range of the wall clock."""

    wall_s: float
    fastest_s: float
    slowest_s: float
    cpu_s: float
    peak_rss_bytes: int


def race(
    scene: Scene,
    contests: Sequence[Contest],
    rounds: int,
    say: Callable[[str], None],
    caches: Sequence[Cache] = CACHES,
) -> Iterator[Run]:
    """Yield every run. In the first round what came out is compared too, outside of the clock.

    Raises ``WrongOutcome`` and ``ContestantFailed``.
    """
    for number in range(rounds):
        for contest in contests:
            for contestant in _turned(contest.contestants, number):
                for cache in caches:
                    run = Run(
                        contest.name, contestant.name, cache, number, _once(scene, contest, contestant, cache)
                    )
                    say(f"{number + 1}/{rounds} {_line(run)}")
                    yield run
                if number == 0:
                    _refuse_other_outcome(scene, contestant)
    scene.clear()


def _turned(contestants: Sequence[Contestant], by: int) -> Sequence[Contestant]:
    by %= len(contestants)
    return (*contestants[by:], *contestants[:by])


def _once(scene: Scene, contest: Contest, contestant: Contestant, cache: Cache) -> Measured:
    scene.clear()
    contest.prepare()
    (make_cold if cache == "cold" else make_warm)(contestant.reads)
    return measure(contestant.steps, scene.out, scene.environment)


def _refuse_other_outcome(scene: Scene, contestant: Contestant) -> None:
    found = contestant.outcome(scene.out)
    if found != scene.digests:
        message = f"{contestant.name}: {len(found)} files came out, not the {len(scene.digests)} that went in"
        raise WrongOutcome(message)


def _line(run: Run) -> str:
    seen = run.measured
    memory = f"{seen.peak_rss_bytes / 2**20:6.1f} MiB"
    times = f"{seen.wall_s:8.2f} s {seen.cpu_s:8.2f} s CPU"
    return f"{run.contest:7} {run.contestant:32} {run.cache} {times} {memory}"


def medians(runs: Iterable[Run]) -> dict[tuple[str, str, Cache], Median]:
    """Return the median of each contest, contestant and state of the cache."""
    of: dict[tuple[str, str, Cache], list[Measured]] = {}
    for run in runs:
        of.setdefault((run.contest, run.contestant, run.cache), []).append(run.measured)
    return {key: _median(several) for key, several in of.items()}


def _median(several: Sequence[Measured]) -> Median:
    walls = [one.wall_s for one in several]
    return Median(
        wall_s=statistics.median(walls),
        fastest_s=min(walls),
        slowest_s=max(walls),
        cpu_s=statistics.median(one.cpu_s for one in several),
        peak_rss_bytes=max(one.peak_rss_bytes for one in several),
    )


def extra_disk(scene: Scene, contest: Contest) -> float:
    """Import once more, watching the disk: return what it took at most beyond the content, as a part of it.

    Counted are allocated blocks of everything below the server's root, again and again.
    """
    (ours,) = (one for one in contest.contestants if one.ours)
    scene.clear()
    contest.prepare()
    peak = 0

    def watch() -> None:
        nonlocal peak
        peak = max(peak, _allocated_bytes(scene.out))

    measure(ours.steps, scene.out, scene.environment, watch)
    watch()
    scene.clear()
    return peak / scene.content_bytes - 1


def _allocated_bytes(folder: Path) -> int:
    # Files that get their name meanwhile make it complain, and count at one of their two names.
    done = subprocess.run(["du", "-s", "-B1", str(folder)], capture_output=True, text=True, check=False)
    return int(done.stdout.split()[0]) if done.stdout else 0
