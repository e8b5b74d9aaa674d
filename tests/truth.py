"""``make audit-truth``: plants every fault on real servers, and writes down what each turned.

The table goes into ``docs/audit-truth.md`` between its marks. Rows of faults that were not planted this time
stay as they are, with the day on which they were seen.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from appliance.audit.catalogue import checks
from tests import hardened, onsite
from tests.audit.plants import ONE_WAY, PLANTS, Place, Plant

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from appliance.format import Grade
    from tests.closed_server import ClosedServer, Snapshot

    Verdicts = Mapping[str, tuple[str, str]]

DOCUMENT = Path(__file__).parent.parent / "docs" / "audit-truth.md"
BEGIN, END = "<!-- planted: begin (written by make audit-truth) -->", "<!-- planted: end -->"
HEAD = ("| fault | where | grade | what the audit then said | what else turned | seen on |", "|---" * 6 + "|")
START_HEAD = ("| where | grade | passed | all others | seen on |", "|---" * 5 + "|")
DEMO_LIMIT_S = 1500
#: All but the one that builds the whole stack first: ``make audit-truth TRUTH="--place demo"``.
QUICK: tuple[Place, ...] = ("server", "servers", "guest")


class Truth:
    """Verdicts of a server before anything was planted, and what each fault turns."""

    def __init__(self, server: ClosedServer) -> None:
        self.server = server
        self._before: dict[tuple[Grade, bool], Verdicts] = {}

    def before(self, grade: Grade = "S", *, contents: bool = False) -> Verdicts:
        """Return status and observation by check; the first to ask must have planted nothing yet."""
        if (grade, contents) not in self._before:
            self._before[grade, contents] = hardened.audited(self.server, grade, contents=contents)
        return self._before[grade, contents]

    def found(self, wanted: str, grade: Grade = "S", *, contents: bool = False) -> dict[str, str]:
        """Return the checks with that verdict before any fault, with what was seen."""
        before = self.before(grade, contents=contents)
        return {name: seen for name, (status, seen) in before.items() if status == wanted}

    def turned_by(self, one: Plant) -> dict[str, tuple[str, str]]:
        """Plant a fault, audit, take it away; return the verdicts that changed, before and after."""
        before = self.before(one.grade, contents=one.contents)
        self.server.exec("bash", "-ec", one.put)
        try:
            after = hardened.audited(self.server, one.grade, contents=one.contents)
        finally:
            self.server.exec("bash", "-ec", one.take)
        return _differing(before, after)

    def wrong(self, plants: Iterable[Plant]) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
        """Plant each by itself; return those that turned other verdicts than they should: seen, wanted."""
        found = {}
        for one in plants:
            turned = {name: after for name, (_, after) in self.turned_by(one).items()}
            if turned != one.turned:
                found[one.id] = (turned, one.turned)
        return found

    def left(self) -> dict[str, tuple[str, str]]:
        """Return what is not as it was before the first fault: some fault was not taken away whole."""
        return _differing(self.before(), hardened.audited(self.server, "S"))


def _differing(before: Verdicts, after: Verdicts) -> dict[str, tuple[str, str]]:
    return {
        name: (before[name][0], status) for name, (status, _) in after.items() if status != before[name][0]
    }


@contextmanager
def world(place: Place, stick: Path, settled: Snapshot) -> Iterator[ClosedServer]:
    """Boot the server on which the faults of a place are planted; the demo's is ``whole_stack``."""
    from tests.closed_server import closed_server  # noqa: PLC0415 - unit tests do without it

    if place == "guest":
        with closed_server("qemu", base=settled, whole_kernel=True) as guest:
            hardened.settle_guest(guest)
            yield guest
    else:
        with closed_server(base=settled, media=stick) as server:
            if place == "servers":
                hardened.add_servers(server)
            yield server


@contextmanager
def whole_stack() -> Iterator[ClosedServer]:
    """Build the demo's first release, or take what the last run left of it, and install it on a server."""
    from tests.closed_server import closed_server  # noqa: PLC0415 - unit tests do without it
    from tests.closed_server.root import cache  # noqa: PLC0415
    from tests.stack import FIRST, Stack, carry  # noqa: PLC0415

    stack = Stack(cache() / "demo")
    carry(stack, (FIRST,))
    with closed_server(media=stack.stick, in_memory=False) as server:
        onsite.first_contact(server, stack.stick / "appliance.pyz")
        bundle = f"/media/usb/{stack.bundle(FIRST).name}"
        server.exec("python3", "-I", onsite.PYZ, "install", bundle, timeout_s=DEMO_LIMIT_S)
        server.exec("appliance", "ingest", "--grade", "S", "/media/usb/documents", timeout_s=DEMO_LIMIT_S)
        yield server


# --- The table ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """What was seen of one fault, as it stands in the document."""

    plant: Plant
    turned: Mapping[str, tuple[str, str]]
    day: date

    @property
    def right(self) -> bool:
        """Tell whether the fault turned exactly what it should."""
        return {name: after for name, (_, after) in self.turned.items()} == self.plant.turned

    def line(self) -> str:
        """Return the row of the table."""
        wanted = self.plant.turned
        found = [
            f"`{name}` {self.turned[name][0]} → {after}"
            for name, after in sorted(wanted.items())
            if self.turned.get(name, ("", ""))[1] == after
        ]
        missed = [
            f"**not `{name}` {after}**" for name, after in sorted(wanted.items()) if not self._has(name)
        ]
        besides = [
            f"**`{name}` {before} → {after}**"
            for name, (before, after) in sorted(self.turned.items())
            if wanted.get(name) != after
        ]
        told = ", ".join([*found, *missed]) or "nothing, as it should"
        cells = (
            f"`{self.plant.id}`",
            self.plant.place,
            self.plant.grade,
            told,
            ", ".join(besides) or "nothing",
        )
        return f"| {' | '.join(cells)} | {self.day} |"

    def _has(self, name: str) -> bool:
        return self.turned.get(name, ("", ""))[1] == self.plant.turned[name]


@dataclass(frozen=True, slots=True)
class Start:
    """What a server was before any fault, as it stands in the document."""

    place: Place
    grade: Grade
    statuses: Mapping[str, str]
    day: date

    def line(self) -> str:
        """Return the row of the table; what is not named passed."""
        others = [f"`{name}` {status}" for name, status in sorted(self.statuses.items()) if status != "pass"]
        passed = len(self.statuses) - len(others)
        return f"| {self.place} | {self.grade} | {passed} | {', '.join(others)} | {self.day} |"


def starts_of(document: str) -> dict[str, str]:
    """Return the document's rows of servers before any fault, by place and grade."""
    found = re.finditer(r"^\| (\w+) \| ([SC]) \| \d+ \|.*\|$", _between_marks(document), re.MULTILINE)
    return {f"{one[1]} {one[2]}": one[0] for one in found}


def seen_one_way(document: str) -> set[str]:
    """Return the checks that the document does not show to pass and to fail as well."""
    starts = starts_of(document).values()
    at_start = [dict(re.findall(r"`([^`]+)` ([a-z-]+)", line)) for line in starts]
    fails = {name for one in at_start for name, status in one.items() if status == "fail"}
    passes = {name for name in checks().checks for one in at_start if name not in one}
    rows = rows_of(document)
    for one in PLANTS:
        if "**" not in rows.get(one.id, "**"):
            fails |= one.fails
            passes |= one.passes
    return checks().checks.keys() - (fails & passes)


def _between_marks(document: str) -> str:
    return document.partition(BEGIN)[2].partition(END)[0]


def rows_of(document: str) -> dict[str, str]:
    """Return the document's rows by the fault's name."""
    _, _, rest = document.partition(BEGIN)
    table = rest.partition(END)[0]
    return {
        one[1]: one[0] for one in re.finditer(r"^\| `([^`]+)` \| \w+ \| [SC] \|.*\|$", table, re.MULTILINE)
    }


def page(document: str, seen: Iterable[Row | Start]) -> str:
    """Return the document with new rows in it. Raises ``ValueError`` where it has no marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(BEGIN)
    rows, starts = rows_of(document), starts_of(document)
    for one in seen:
        if isinstance(one, Row):
            rows[one.plant.id] = one.line()
        else:
            starts[f"{one.place} {one.grade}"] = one.line()
    parts = (begin, _words(), _table(HEAD, _of_plants(rows)), *_more(starts), end)
    return before + "\n\n".join(parts) + after


def _words() -> str:
    turned = {name for one in PLANTS for name in one.judged}
    return (
        f"{len(PLANTS)} faults, which turn {len(turned)} of {len(checks().checks)} checks. None of the others"
        " changed its verdict with any of them, unless a row says so."
    )


def _of_plants(rows: Mapping[str, str]) -> Iterator[str]:
    never = "| `{}` | {} | {} | **not planted yet** | | |"
    return (rows.get(one.id) or never.format(one.id, one.place, one.grade) for one in PLANTS)


def _more(starts: Mapping[str, str]) -> Iterator[str]:
    yield "### Before any fault"
    yield _table(START_HEAD, (starts[name] for name in sorted(starts)))
    yield "### What was seen one way only"
    yield _table(("| check | why |", "|---|---|"), (f"| `{name}` | {why} |" for name, why in ONE_WAY.items()))


def _table(head: tuple[str, str], rows: Iterable[str]) -> str:
    return "\n".join((*head, *rows))


# --- All of them -------------------------------------------------------------------------------------------


def planted(
    places: Iterable[Place], only: Collection[str], say: Callable[[str], None]
) -> Iterator[Row | Start]:
    """Plant every fault of these places; yields what was seen while it goes on."""
    with ExitStack() as held:
        made: tuple[Path, Snapshot] | None = None
        for place in places:
            chosen = [one for one in PLANTS if one.place == place and (not only or one.id in only)]
            if place != "demo" and chosen and made is None:
                stick = hardened.carry(Path(held.enter_context(tempfile.TemporaryDirectory())))
                made = (stick, hardened.hardened(stick))
            if chosen:
                with whole_stack() if made is None or place == "demo" else world(place, *made) as server:
                    yield from _planted_on(Truth(server), place, chosen, say)


def _planted_on(
    truth: Truth, place: Place, plants: Iterable[Plant], say: Callable[[str], None]
) -> Iterator[Row | Start]:
    grades: tuple[Grade, ...] = ("S", "C") if place == "server" else ("S",)
    for grade in grades:
        before = truth.before(grade, contents=place == "server")
        yield Start(place, grade, {name: status for name, (status, _) in before.items()}, _today())
    for one in plants:
        row = Row(one, truth.turned_by(one), _today())
        say(row.line())
        yield row
    if left := truth.left():
        say(f"not as it was before the first fault: {left}")


def _today() -> date:
    return date.today()  # noqa: DTZ011 - the day on which this machine's user runs it


def main() -> int:
    """Plant, print each row as it is seen, write the table; 1 where a fault turned other verdicts."""
    parser = argparse.ArgumentParser(prog="python -m tests.truth", description=__doc__)
    parser.add_argument(
        "--place", action="append", choices=get_args(Place), help="only there; may be repeated"
    )
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    parser.add_argument("fault", nargs="*", help="only these")
    told = parser.parse_args()
    rows = []
    for seen in planted(told.place or QUICK, told.fault, lambda line: print(line, flush=True)):  # noqa: T201
        # Written at once: an hour's work survives an interruption.
        told.document.write_text(page(told.document.read_text("utf-8"), [seen]), "utf-8")
        rows += [seen] if isinstance(seen, Row) else []
    return 0 if rows and all(one.right for one in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
