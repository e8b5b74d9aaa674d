"""What holds for a time, and what proves it: the shapes that all of an institution's files share."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from appliance.format import Sha256, Value
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.document import Place
    from appliance.text import Text

    #: Places in a file, and what is wrong at each.
    Faults = Iterator[tuple[Place, Text]]

#: No decision holds longer without somebody who decides it anew.
YEARS_MOST = 5
_YEARS = (1970, 9998)
#: A day ends when it ends in Korea, wherever and by whatever zone the server keeps its clock.
KOREA = timezone(timedelta(hours=9), "KST")
Day = date
Standing = Literal["in-force", "lapsed", "not-yet", "void"]
EvidenceName = Annotated[str, Meta(pattern=r"^[\w][\w. ()-]{0,120}$")]


class Dated(Value, frozen=True):
    """What holds for a time: from ``date`` to the end of ``expires``."""

    date: Day
    expires: Day

    def standing(self, day: Day) -> Standing:
        """Say whether it holds on a day."""
        if day > self.expires:
            return "lapsed"
        return "not-yet" if day < self.date else "in-force"


class Attached(Value, frozen=True):
    """A file by its digest: the proof of what somebody says."""

    file: EvidenceName
    sha256: Sha256


def is_of_a_clock(moment: datetime) -> bool:
    """Tell whether a clock may show a moment: beyond these years days cannot be counted in Korean time."""
    return moment.tzinfo is not None and _YEARS[0] <= moment.year <= _YEARS[1]


def korean_day(moment: datetime) -> Day:
    """Return the day in Korea."""
    return moment.astimezone(KOREA).date()


def korean_time(moment: datetime) -> str:
    """Return a time as clocks in Korea show it, and says so: people copy it onto paper."""
    return f"{moment.astimezone(KOREA):%Y-%m-%d %H:%M:%S} KST"


def date_faults(place: Place, one: Dated) -> Faults:
    """Yield what is wrong with the days of an entry, and with who answers for it."""
    if one.expires < one.date:
        yield (
            (*place, "expires"),
            text("it ends on {expires}, before it begins on {date}", expires=one.expires, date=one.date),
        )
    if (one.expires - one.date).days > YEARS_MOST * 366:
        words = text("it holds for more than {years} years, and is to be decided anew", years=YEARS_MOST)
        yield (*place, "expires"), words
    for name in ("approver", "by", "reason", "statement", "ticket"):
        if not getattr(one, name, "-").strip():
            yield (*place, name), text("nothing stands here but blanks")
