"""What a document becomes before it can be found: blocks as parsers see them, passages as people cite them.

A passage never reaches over a page, a section or a table: its place must stay true.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from appliance.format import Grade

PASSAGE_MAX_CHARACTERS = 800  # about 500 tokens of Korean: within every model's window, five to a prompt
PASSAGE_AIM_CHARACTERS = 400  # short paragraphs are joined until they come to this
_HEADER_MAX_CHARACTERS = 200
GRADES_RISING: tuple[Grade, ...] = ("O", "S", "C")

Kind = Literal["page", "paragraph", "table"]
_SENTENCE = re.compile(r"\S.*?(?:(?<=[.!?。…])\s+|\n+|$)", re.DOTALL)
#: By Unicode category: control characters; formats, lone surrogates and private characters.
_KEPT = {"Cc": " ", "Cf": "", "Cs": "", "Co": ""}
_BLANKS = re.compile(r"[^\S\n]+")


@dataclass(frozen=True, slots=True)
class Block:
    """One page, paragraph or table as it stands in the document; numbers count from 1."""

    kind: Kind
    number: int  # of the page, of the paragraph in its section, of the table in the document
    text: str
    section: int = 1


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that is found, cited and shown as a whole."""

    document: str  # SHA-256 of the file's bytes, 64 hexadecimal digits
    name: str  # the file's name as it was taken in
    grade: Grade
    number: int  # from 0, in the document's order
    place: str  # for people: "2쪽", "1절 3문단", "표 1"
    text: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found; scores compare within one search only, larger is better."""

    passage: Passage
    score: float


def readable_grades(clearance: Grade) -> tuple[Grade, ...]:
    """Return the grades that somebody with this clearance may read: O (공개) < S (민감) < C (기밀)."""
    return GRADES_RISING[: GRADES_RISING.index(clearance) + 1]


def normalise(text: str) -> str:
    """Return the text with Hangul composed (NFC), one kind of blank, no control or zero-width characters.

    A control character becomes a blank: that is what a PDF's blank often is whose font does not name it.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(_KEPT.get(unicodedata.category(c), c) if c != "\n" else c for c in text)
    text = unicodedata.normalize("NFC", text)  # last: what was between two halves of a syllable is gone now
    lines = (_BLANKS.sub(" ", line).strip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def passages_of(document: str, name: str, grade: Grade, blocks: Iterable[Block]) -> tuple[Passage, ...]:
    """Cut blocks into passages of at most ``PASSAGE_MAX_CHARACTERS``, none empty, nothing twice."""
    pieces = (piece for group in _groups(_cleaned(blocks)) for piece in _pieces(group))
    return tuple(
        Passage(document, name, grade, number, place, text) for number, (place, text) in enumerate(pieces)
    )


def _cleaned(blocks: Iterable[Block]) -> Iterator[Block]:
    for block in blocks:
        text = normalise(block.text)
        if text:
            yield Block(block.kind, block.number, text, block.section)


def _groups(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Join neighbouring short paragraphs of one section; pages and tables stand alone."""
    group: list[Block] = []
    for block in blocks:
        if group and not _joins(group, block):
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def _joins(group: Sequence[Block], block: Block) -> bool:
    length = sum(len(each.text) + 1 for each in group)
    return (
        block.kind == group[-1].kind == "paragraph"
        and block.section == group[-1].section
        and length < PASSAGE_AIM_CHARACTERS
        and length + len(block.text) <= PASSAGE_MAX_CHARACTERS
    )


def _pieces(group: Sequence[Block]) -> Iterator[tuple[str, str]]:
    text = "\n".join(block.text for block in group)
    header = text.partition("\n")[0] if group[0].kind == "table" else ""
    if not header or len(text) <= PASSAGE_MAX_CHARACTERS or len(header) > _HEADER_MAX_CHARACTERS:
        return ((_place(group), piece) for piece in cut(text, PASSAGE_MAX_CHARACTERS))
    # A row says little without the names of its columns: each piece of a table starts with them.
    rows = cut(text[len(header) :], PASSAGE_MAX_CHARACTERS - len(header) - 1)
    return ((_place(group), f"{header}\n{piece}") for piece in rows)


def _place(group: Sequence[Block]) -> str:
    first, last = group[0], group[-1]
    if first.kind == "page":
        return f"{first.number}쪽"
    if first.kind == "table":
        return f"표 {first.number}"
    numbers = str(first.number) if first is last else f"{first.number}~{last.number}"
    return f"{first.section}절 {numbers}문단"


def cut(text: str, limit: int) -> Iterator[str]:
    """Cut a text after lines and sentences, or hard where one is longer than ``limit`` characters."""
    piece = ""
    for sentence in _sentences(text, limit):
        if len(piece) + len(sentence.rstrip()) > limit:
            yield piece.strip()
            piece = ""
        piece += sentence
    if piece.strip():
        yield piece.strip()


def _sentences(text: str, limit: int) -> Iterator[str]:
    """Yield sentences and lines with the blanks that end them, none longer than ``limit`` without those."""
    for match in _SENTENCE.finditer(text):
        sentence = match.group()
        while len(sentence.rstrip()) > limit:
            yield sentence[:limit]
            sentence = sentence[limit:]
        yield sentence
