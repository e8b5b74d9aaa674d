"""YAML that a person goes on with: comments between values, and blanks that no loader takes for an answer.

Every value is spelled by the YAML library, strings always in double quotes: a name such as ``no``, ``1e3`` or
one with a line's end in it is the same name when it is read again. A blank is ``~``, which is null, and what
has to be filled in has a type that null does not fit.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from appliance.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.text import Language, Text

#: What only a person can say.
BLANK = None
_STEP = 2


@dataclass(frozen=True, slots=True)
class Noted:
    """A value with the comments that stand above it."""

    value: Any
    notes: tuple[Text, ...] = ()


class _Spelling(yaml.SafeDumper):
    """Strings in double quotes, names of members bare, a blank as ``~``."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - PyYAML's signature
        """Write out again what stands twice: anchors are not allowed."""
        return True

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:  # noqa: ANN401, FBT001 - as above
        """Keep the names of members, which are ours and plain words, without quotes."""
        node = super().represent_mapping(tag, mapping, flow_style)
        for key, _ in node.value:
            key.style = None
        return node


def _string(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style='"')


def _blank(dumper: yaml.SafeDumper, _: None) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:null", "~")


_Spelling.add_representer(str, _string)
_Spelling.add_representer(type(None), _blank)


def document(head: tuple[Text, ...], members: Mapping[str, object], language: Language) -> str:
    """Return a whole file: comments that belong to all of it, then its members."""
    comments = [line for note in head for line in _comment(note, "", language)]
    return "\n".join([*comments, "", *_mapping(members, 0, language)]) + "\n"


def blanks(value: object) -> int:
    """Count what is to be filled in."""
    value = _bare(value)
    if isinstance(value, dict):
        return sum(map(blanks, value.values()))
    return sum(map(blanks, value)) if isinstance(value, list | tuple) else int(value is BLANK)


def _mapping(members: Mapping[str, object], indent: int, language: Language) -> Iterator[str]:
    pad = " " * indent
    for name, inner in members.items():
        yield from _notes(inner, pad, language)
        value = _bare(inner)
        if _is_laid_out(value):
            yield f"{pad}{name}:"
            yield from _laid_out(value, indent + _STEP, language)
        else:
            yield f"{pad}{name}: {_spelled(value)}"


def _sequence(items: list[object], indent: int, language: Language) -> Iterator[str]:
    pad = " " * indent
    for item in items:
        yield from _notes(item, pad, language)
        value = _bare(item)
        if _is_laid_out(value) and _has_more_to_say(value):
            first, *rest = _laid_out(value, indent + _STEP, language)
            yield f"{pad}- {first[indent + _STEP :]}"
            yield from rest
        else:
            yield f"{pad}- {_spelled(value)}"


def _has_more_to_say(value: object) -> bool:
    """Tell what does not fit on one line of a list: what has a blank or a comment in it."""
    if isinstance(value, dict | list):
        return any(map(_has_more_to_say, value.values() if isinstance(value, dict) else value))
    return value is BLANK or isinstance(value, Noted)


def _laid_out(value: Any, indent: int, language: Language) -> Iterator[str]:  # noqa: ANN401 - a mapping, a list
    written = _mapping if isinstance(value, dict) else _sequence
    yield from written(value, indent, language)


def _is_laid_out(value: object) -> bool:
    """Tell what takes lines of its own: a mapping, and a list; a tuple stands on one line."""
    return isinstance(value, dict | list) and bool(value)


def _bare(value: object) -> object:
    return value.value if isinstance(value, Noted) else value


def _notes(value: object, pad: str, language: Language) -> Iterator[str]:
    for note in value.notes if isinstance(value, Noted) else ():
        yield from _comment(note, pad, language)


def _comment(note: Text, pad: str, language: Language) -> Iterator[str]:
    """Yield the lines of a comment; what a value brings into it stays on its line, and is printable."""
    yield from (f"{pad}# {line}".rstrip() for line in note.render(language).split("\n"))


def _spelled(value: object) -> str:
    """Return a value on one line; what cannot be seen, or turns the direction of writing, is escaped."""
    words = _dumped(value, plain=True)
    return words if printable(words) == words else _dumped(value, plain=False)


def _dumped(value: object, *, plain: bool) -> str:
    words: str = yaml.dump(
        value,
        Dumper=_Spelling,
        default_flow_style=True,
        allow_unicode=plain,
        width=sys.maxsize,
        sort_keys=False,
    )
    return words.removesuffix("\n").removesuffix("\n...")
