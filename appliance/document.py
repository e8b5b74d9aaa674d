"""YAML that a person wrote, read so strictly that it means one thing, with the line of every value.

Plain data only: no anchors, aliases, tags or merge keys, no duplicate keys, and none of the words that
YAML 1.1 quietly turns into something else (``no``, ``0644``, ``12:30``, dates; where a file is read with
``plain_dates``, a date is the text that stands there).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import yaml

from appliance.misfit import misfit
from appliance.problems import Problem, refuse
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

DOCUMENT_MAX_BYTES = 1024 * 1024
_DEPTH_MAX = 32
_BLANKS_NAMED = 20
_DATE_TAG = "tag:yaml.org,2002:timestamp"
_PLAIN_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
#: libyaml's parser, several times as fast, where PyYAML was built with it: wheels are.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
Place = tuple[str | int, ...]
_STEPS = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
#: What msgspec says, and where; the same words may stand in what a person wrote, but not after the place.
_PLACED = re.compile(r"(.*?)(?: - at `(\$[^` ]*)`)?", re.DOTALL)
#: A member that nobody knows stands on a line of its own.
_STRANGE = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MAP, _LIST = yaml.MappingNode, yaml.SequenceNode
_WORDS: Mapping[str, re.Pattern[str]] = {
    "tag:yaml.org,2002:null": re.compile(r"null|~|"),
    "tag:yaml.org,2002:bool": re.compile(r"true|false"),
    "tag:yaml.org,2002:int": re.compile(r"-?(0|[1-9][0-9]*)"),
    "tag:yaml.org,2002:float": re.compile(r"-?[0-9]+\.[0-9]+"),
}


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file: its value, and the line (from 1) on which each place begins."""

    name: str
    value: Any
    lines: Mapping[Place, int] = field(repr=False)

    def problem(self, place: Iterable[str | int], said: Text) -> Problem:
        """Say that something is wrong at a place, as ``file:line: $.path: ...``."""
        place = tuple(place)
        known = next((place[:n] for n in range(len(place), -1, -1) if place[:n] in self.lines), ())
        return Problem(f"{self.name}:{self.lines.get(known, 1)}: {path_of(place)}", said)


def path_of(place: Iterable[str | int]) -> str:
    """Return a place in JSONPath's spelling: ``$.environments.api.requirements[0]``."""
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)


def read_document(path: Path, name: str, *, plain_dates: bool = False) -> Document:
    """Read a YAML file strictly. Raises ``BadInputs`` with every problem found; ``name`` is said in them."""
    try:
        raw = path.read_bytes()[: DOCUMENT_MAX_BYTES + 1]
    except OSError as error:
        refuse(name, [Problem(name, text("the file cannot be read: {error}", error=error.strerror))])
        raise
    return document_from_bytes(raw, name, plain_dates=plain_dates)


def document_from_bytes(raw: bytes, name: str, *, plain_dates: bool = False) -> Document:
    """Parse YAML bytes strictly. Raises ``BadInputs``."""
    if len(raw) > DOCUMENT_MAX_BYTES:
        refuse(name, [Problem(name, text("the file is larger than 1 MiB"))])
    reading = _Reading(name, plain_dates=plain_dates)
    node = None
    try:
        content = raw.decode("utf-8")
        refuse(name, list(_indirections(content, name)))
        node = yaml.compose(content, Loader=_LOADER)
    except UnicodeDecodeError:  # what Korean Windows editors save is CP949
        refuse(name, [Problem(name, text("the file is not UTF-8 text; save it as UTF-8"))])
    except (yaml.YAMLError, RecursionError) as error:
        refuse(name, [_syntax(error, name)])
    if node is None:
        refuse(name, [Problem(f"{name}:1", text("the file is empty"))])
    value = reading.value(node, ())
    refuse(name, reading.problems)
    return Document(name, value, reading.lines)


class _Reading:
    """One walk over the nodes, gathering values, lines and problems."""

    def __init__(self, name: str, *, plain_dates: bool) -> None:
        self.name, self.lines, self.problems = name, dict[Place, int](), list[Problem]()
        self._plain_dates = plain_dates

    def value(self, node: Any, place: Place) -> Any:  # noqa: ANN401 - PyYAML's nodes and YAML's values
        self.lines.setdefault(place, _line(node))
        if isinstance(node, _MAP):
            return self._mapping(node, place)
        if isinstance(node, _LIST):
            return [self.value(item, (*place, number)) for number, item in enumerate(node.value)]
        return self._scalar(node, place)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, content in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                self._say(key, place, text("a key must be a plain string; put it in quotes"))
                continue
            here = (*place, key.value)
            if key.value in found:
                self._say(
                    key, here, text("the key stands twice, first on line {line}", line=self.lines[here])
                )
                continue
            self.lines[here] = _line(key)
            found[key.value] = self.value(content, here)
        return found

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Any:  # noqa: ANN401
        if node.tag == "tag:yaml.org,2002:str":
            return node.value
        if self._plain_dates and node.tag == _DATE_TAG and _PLAIN_DATE.fullmatch(node.value):
            return node.value
        word = _WORDS.get(node.tag)
        if word is None or not word.fullmatch(node.value):
            return self._say(
                node, place, text("{value} means something else in YAML; put it in quotes", value=node.value)
            )
        return yaml.SafeLoader("").construct_object(node)

    def _say(self, node: yaml.Node, place: Place, said: Text) -> None:
        self.problems.append(Problem(f"{self.name}:{_line(node)}: {path_of(place)}", said))


def _line(node: Any) -> int:  # noqa: ANN401 - what was read has a mark; the stubs do not know
    return int(node.start_mark.line) + 1


def _indirections(content: str, name: str) -> Iterator[Problem]:
    depth = 0
    for event in yaml.parse(content, Loader=_LOADER):
        where = f"{name}:{_line(event)}"
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEPTH_MAX:  # the parser's time grows with the square of the depth
            yield Problem(where, text("nested deeper than {count} levels", count=_DEPTH_MAX))
            return
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            yield Problem(where, text("anchors and aliases are not allowed; write the value out"))
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag is not None:
            yield Problem(where, text("tags are not allowed: {tag}", tag=event.tag))


def _syntax(error: Exception, name: str) -> Problem:
    mark: Any = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = getattr(error, "problem", None) or str(error).splitlines()[0]
    told = text("{names}", names=said)
    if "tab character" in said:
        told = text("indented by a tab; YAML takes spaces")
    return Problem(f"{name}:{mark.line + 1 if mark else 1}", text("not valid YAML: {error}", error=told))


# --- Values of our own from a document -------------------------------------------------------------------

_T = TypeVar("_T")


def typed(document: Document, kind: type[_T]) -> _T:
    """Return the content as a value of a type. Raises ``BadInputs`` with the line that does not fit.

    Where that is a blank, all blanks are told: who fills a file in wants to know how much is left.
    """
    try:
        return msgspec.convert(document.value, kind)
    except msgspec.ValidationError as error:
        said, path = _PLACED.fullmatch(str(error)).groups("$")  # type: ignore[union-attr]
        if said.startswith("Expected") and said.endswith("got `null`"):
            refuse(document.name, list(_left_blank(document)))
        place = tuple(int(index) if index else name for name, index in _STEPS.findall(path))
        strange = _STRANGE.fullmatch(said)
        place += strange.groups() if strange else ()
        refuse(document.name, [document.problem(place, misfit(said))])
        raise


def _left_blank(document: Document) -> Iterator[Problem]:
    places = list(_blanks(document.value, ()))
    for place in places[:_BLANKS_NAMED]:
        yield document.problem(place, text("left blank; fill it in, or strike the entry out"))
    if len(places) > _BLANKS_NAMED:
        yield Problem(document.name, text("and {count} more blanks", count=len(places) - _BLANKS_NAMED))


def _blanks(value: object, place: Place) -> Iterator[Place]:
    """Yield every place that has no value (``~``), in the order of the file."""
    if value is None:
        yield place
    listed = value if isinstance(value, list) else ()
    members = value.items() if isinstance(value, dict) else enumerate(listed)
    for step, inner in members:
        yield from _blanks(inner, (*place, step))
