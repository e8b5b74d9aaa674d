"""Medians as tables for ``docs/benchmarks.md``, goals beside them, and every run as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.race import CACHES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.contests import Contest
    from bench.race import Cache, Median

    Medians = Mapping[tuple[str, str, Cache], Median]

BEGIN, END = "<!-- figures: begin (written by make bench) -->", "<!-- figures: end -->"
PEAK_RSS_MAX_BYTES = 128 * 2**20
EXTRA_DISK_MAX = 0.05
LOOK_MAX_S = 1.0


def page(document: str, figures: str) -> str:
    """Return the document with other figures between its marks. Raises ``ValueError`` where it has none."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(BEGIN)
    return f"{before}{BEGIN}\n\n{figures}\n{END}{after}"


def figures(
    facts: Mapping[str, str], contests: Sequence[Contest], found: Medians, extra_disk: float | None
) -> str:
    """Return the facts of the machine, a table for each contest, and which goals were reached."""
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items()), ""]
    for contest in contests:
        lines += [f"### {contest.title}", "", *_table(contest, found), ""]
    return "\n".join([*lines, "### Goals", "", *_goals(contests, found, extra_disk), ""])


def _table(contest: Contest, found: Medians) -> Iterator[str]:
    yield "| contestant | cache | median | fastest to slowest | processor time | peak memory |"
    yield "|---|---|---:|---:|---:|---:|"
    for cache in CACHES:
        for one in contest.contestants:
            seen = found[contest.name, one.name, cache]
            name = f"**{one.name}**" if one.ours else one.name
            name = name.replace("|", "\\|")
            spread = f"{seen.fastest_s:.2f} to {seen.slowest_s:.2f}"
            memory = f"{seen.peak_rss_bytes / 2**20:.0f} MiB"
            yield f"| {name} | {cache} | {seen.wall_s:.2f} s | {spread} | {seen.cpu_s:.2f} s | {memory} |"


def _goals(contests: Sequence[Contest], found: Medians, extra_disk: float | None) -> Iterator[str]:
    yield "| goal | cold | warm |"
    yield "|---|---|---|"
    for contest in contests:
        for words, cells in _of_contest(contest, found):
            yield f"| {words} | {' | '.join(cells)} |".replace("tar | split", "tar \\| split")
    if extra_disk is not None:
        cell = _cell(f"{100 * extra_disk:.2f} %", reached=extra_disk <= EXTRA_DISK_MAX)
        yield f"| import: extra disk at most {EXTRA_DISK_MAX:.0%} of the content | {cell} | |"


def _of_contest(contest: Contest, found: Medians) -> Iterator[tuple[str, list[str]]]:
    (first, *others) = [one for one in contest.contestants if one.ours]
    for goal in contest.goals:
        ratios = [
            found[contest.name, first.name, cache].wall_s / found[contest.name, goal.against, cache].wall_s
            for cache in CACHES
        ]
        if goal.times < 1:
            words = f"{first.name}: at least {1 / goal.times:.3g} x as fast as `{goal.against}`"
            cells = [_cell(f"{1 / ratio:.2f} x", reached=ratio <= goal.times) for ratio in ratios]
        else:
            words = f"{first.name}: at most {goal.times:.3g} x the time of `{goal.against}`"
            cells = [_cell(f"{ratio:.2f} x", reached=ratio <= goal.times) for ratio in ratios]
        yield words, cells
    for one in (first, *others):
        seen = [found[contest.name, one.name, cache] for cache in CACHES]
        if not contest.goals:
            yield (
                f"{one.name}: less than {LOOK_MAX_S:.0f} s",
                [_cell(f"{each.wall_s:.2f} s", reached=each.wall_s < LOOK_MAX_S) for each in seen],
            )
        peaks = [each.peak_rss_bytes for each in seen]
        yield (
            f"{one.name}: peak memory at most {PEAK_RSS_MAX_BYTES / 2**20:.0f} MiB",
            [_cell(f"{peak / 2**20:.0f} MiB", reached=peak <= PEAK_RSS_MAX_BYTES) for peak in peaks],
        )


def _cell(value: str, *, reached: bool) -> str:
    return f"{value}, reached" if reached else f"**{value}, missed**"
