"""The catalogues as data: our checks, and the numbers and titles of the guides that they stand for.

Of the guides only indices are here: number, title, grade or importance, edition. Which item a check is
evidence for is our judgement; whether an item is met is the institution's.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import Literal

import msgspec

from appliance.format import Grade, Value

Importance = Literal["high", "medium", "low"]
AREAS_OF_GUIDES = {"kisa": "KISA 2026", "n2sf": "N2SF 1.0", "nis": "NIS AI 2025"}
_FILES = {
    "kisa": ("kisa_unix_2026.csv", "kisa_web_2026.csv"),
    "n2sf": ("n2sf_1.0.csv",),
    "nis": ("nis_ai_2025.csv",),
}


class Words(Value, frozen=True):
    """The same words in both languages."""

    ko: str
    en: str

    def of(self, **values: str) -> Words:
        """Return the words with values put into their braces."""
        return Words(ko=self.ko.format(**values), en=self.en.format(**values))


class Check(Value, frozen=True):
    """What is said about a check; ``limits``: its threshold for each grade.

    ``full``: items of guides of which this check, with the others that name them, leaves nothing to ask. Of
    all others it shows a part: what its title and expectation say.
    """

    title: Words
    area: str
    importance: Importance
    grades: str
    automatic: bool
    kisa: tuple[str, ...]
    n2sf: tuple[str, ...]
    nis: tuple[str, ...]
    full: tuple[str, ...]
    expected: Words
    remedy: Words
    limits: dict[Grade, str] = msgspec.field(default_factory=dict)


class Checks(Value, frozen=True):
    """``checks.json``."""

    format: Literal[1]
    areas: dict[str, Words]
    checks: dict[str, Check]


class Item(Value, frozen=True):
    """An item of a guide; ``about`` is its importance (KISA) or the grades that it applies to (N2SF)."""

    guide: str
    id: str
    title: str
    about: str = ""


@cache
def checks() -> Checks:
    """Return our checks."""
    return msgspec.json.decode(_data("checks.json"), type=Checks)


@cache
def items() -> dict[str, dict[str, Item]]:
    """Return the items of every guide by its short name and their number."""
    return {
        guide: {item.id: item for name in names for item in _items(guide, name)}
        for guide, names in _FILES.items()
    }


def _items(guide: str, name: str) -> tuple[Item, ...]:
    rows = csv.DictReader(_data(name).splitlines())
    return tuple(Item(AREAS_OF_GUIDES[guide], row["id"], row["title"], _about(row)) for row in rows)


def _about(row: dict[str, str]) -> str:
    if "importance" in row:
        return row["importance"]
    return "".join(grade for grade in "CSO" if row.get(f"grade_{grade.lower()}") == "1")


def _data(name: str) -> str:
    return resources.files("appliance.audit").joinpath("data", name).read_text("utf-8")
