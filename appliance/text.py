"""What operators read, in Korean and in English.

Code writes the English template; ``korean.json`` beside this file holds the Korean one under it.
``tests/test_text.py`` keeps the two complete: every literal given to ``text()`` must have its Korean.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Language = Literal["ko", "en"]
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Text:
    """A sentence that is put into words only when somebody reads it."""

    template: str
    values: Mapping[str, object] = field(default_factory=dict)

    def render(self, language: Language = "en") -> str:
        """Put the sentence into words; nested ``Text`` values follow the same language."""
        template = _korean().get(self.template, self.template) if language == "ko" else self.template
        words = {
            name: value.render(language) if isinstance(value, Text) else _one_line(value)
            for name, value in self.values.items()
        }
        return printable(template.format(**words))

    def __str__(self) -> str:
        return self.render("en")


def printable(words: str) -> str:
    """Return words that steer no terminal, hide nothing, and that any console and JSON writer takes.

    Names on a medium come from anybody, and need not be valid UTF-8. What cannot be seen is spelled out:
    control characters (C0, C1), what changes the direction of writing, other line ends, unassigned ones. Line
    ends and tabs stay, and all kinds of spaces, because Korean texts use them.
    """
    if words.isprintable():
        return words
    return "".join(one if _is_plain(one) else _spelled_out(one) for one in words)


def _is_plain(one: str) -> bool:
    return one.isprintable() or one in "\n\t" or unicodedata.category(one) == "Zs"


def _spelled_out(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def _one_line(value: object) -> object:
    """Return a value as it stands in a sentence: a line's end in a name must not begin a line of ours."""
    return value if isinstance(value, int | float) else str(value).replace("\n", "\\n")


def text(template: str, /, **values: object) -> Text:
    """Make a ``Text``: ``template`` in ``str.format`` form, English, a literal."""
    return Text(template, values)


def kept(template: str, values: Mapping[str, object]) -> Text:
    """Make a ``Text`` again of what a file has kept of one: a sentence of ours, in either language.

    The file may be anybody's, and of another version. A sentence that this one does not know is said as it
    stands, and never formatted: its braces may ask for anything.
    """
    names = set(re.findall(r"\{(.*?)\}", template))
    known = template in _korean() and all(name.isidentifier() for name in names)
    if known and names <= values.keys():
        return Text(template, values)
    return Text("{names}", {"names": _PLACE.sub(lambda found: str(values.get(found[1], found[0])), template)})


@dataclass(frozen=True, slots=True)
class Event:
    """Something that an operator may want to see while it happens."""

    name: str
    words: Text
    facts: Mapping[str, Any] = field(default_factory=dict)


def choose_language(environment: Mapping[str, str] = os.environ) -> Language:
    """Choose Korean where ``LANG`` asks for it and the console can draw Hangul (not ``TERM=linux``)."""
    locale = environment.get("LC_ALL") or environment.get("LC_MESSAGES") or environment.get("LANG") or ""
    return "ko" if locale.startswith("ko") and environment.get("TERM") != "linux" else "en"


def human_bytes(count: int) -> str:
    """Return a size as people read it, in binary units."""
    size, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":  # noqa: PLR2004 - a binary unit
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


@cache
def _korean() -> Mapping[str, str]:
    catalogue: dict[str, str] = json.loads(
        resources.files("appliance").joinpath("korean.json").read_text("utf-8")
    )
    return catalogue


def spelled(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Spell out what UTF-8 cannot hold: names of files on a medium come from anybody."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {spelled(name): spelled(each) for name, each in value.items()}
    return [spelled(each) for each in value] if isinstance(value, list | tuple) else value
