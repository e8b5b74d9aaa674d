"""What msgspec says of a value that does not fit its type, as sentences of ours in both languages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Callable

_KINDS: dict[str, Text] = {
    "str": text("text"),
    "int": text("a whole number"),
    "float": text("a number"),
    "bool": text("true or false"),
    "array": text("a list"),
    "object": text("members (name: value)"),
    "null": text("a blank"),
    "date": text("a date (2026-12-31)"),
}


def _kind(name: str) -> Text | str:
    """Return the name of a type in words; of several (``date | null``) the first is what a person writes."""
    first = name.split(" | ", maxsplit=1)[0]
    return _KINDS.get(first, first)


def _limit(said: re.Match[str]) -> Text | str:
    number = said[2]
    if said[1] == ">=":
        return text("at least {number}", number=number)
    if said[1] == "<=":
        return text("at most {number}", number=number)
    return f"{said[1]} {number}"


#: Messages of msgspec 0.20 and 0.21, and what they mean to somebody who writes the file.
_SAYINGS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], Text]], ...] = (
    (
        re.compile(r"Object missing required field `(.+)`"),
        lambda said: text("{name} is missing", name=said[1]),
    ),
    (
        re.compile(r"Object contains unknown field `(.*)`", re.DOTALL),
        lambda said: text("nothing here is called {name}; is it misspelt?", name=said[1]),
    ),
    (
        re.compile(r"Invalid enum value (.+)", re.DOTALL),
        lambda said: text("{value} is none of the words that may stand here", value=said[1]),
    ),
    (
        re.compile(r"Invalid RFC3339 encoded date"),
        lambda _: text("this is no date of the calendar; write it like 2026-12-31"),
    ),
    (
        re.compile(r"Expected `(.+)`, got `(.+)`"),
        lambda said: text(
            "{wanted} belongs here, and this is {given}", wanted=_kind(said[1]), given=_kind(said[2])
        ),
    ),
    (
        re.compile(r"Expected `(?:str|array)` of length >= 1"),
        lambda _: text("this is empty"),
    ),
    (
        re.compile(r"Expected `(?:str|array)` of length (>=|<=) (\d+)"),
        lambda said: text("its length has to be {limit}", limit=_limit(said)),
    ),
    (
        re.compile(r"Expected `(?:int|float)` (>=|<=|>|<) (\S+)"),
        lambda said: text("it has to be {limit}", limit=_limit(said)),
    ),
    (
        re.compile(r"Expected `str` matching regex '\^\[0-9a-f\]\{64\}\$.*"),
        lambda _: text("this is no SHA-256: 64 digits, as sha256sum tells them"),
    ),
    (
        re.compile(r"Expected `str` matching regex (.+)"),
        lambda said: text("it has another form than {pattern}", pattern=said[1]),
    ),
)


def misfit(said: str) -> Text:
    """Return msgspec's message, its place taken off, in words of ours; one that is not known as it stands."""
    for pattern, told in _SAYINGS:
        found = pattern.fullmatch(said)
        if found:
            return told(found)
    return text("{names}", names=said)
