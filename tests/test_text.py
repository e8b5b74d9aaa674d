"""Every sentence that an operator reads exists in English and in Korean, with the same values in it."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING

import pytest

from appliance.text import Text, choose_language, printable, text

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parent.parent
CATALOGUE = PROJECT / "appliance" / "korean.json"
HANGUL = re.compile("[\uac00-\ud7a3]")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One call of ``text()``: ``template`` is None where it is no literal, ``values`` where it has ``**``."""

    where: str
    template: str | None
    values: frozenset[str] | None


@cache
def catalogue() -> dict[str, str]:
    return dict(_pairs())


def _pairs() -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = json.loads(
        CATALOGUE.read_text("utf-8"), object_pairs_hook=lambda pairs: pairs
    )
    return pairs


@cache
def sentences() -> tuple[Sentence, ...]:
    paths = [*PROJECT.glob("appliance/**/*.py"), *PROJECT.glob("bundle/**/*.py"), PROJECT / "build.py"]
    return tuple(
        sentence
        for path in sorted(paths)
        if path.exists()
        for sentence in sentences_of(path.read_text("utf-8"), str(path.relative_to(PROJECT)))
    )


def sentences_of(source: str, name: str) -> Iterator[Sentence]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"text", "text.text"}:
            template = node.args[0] if len(node.args) == 1 else None
            yield Sentence(
                f"{name}:{node.lineno}",
                template.value
                if isinstance(template, ast.Constant) and isinstance(template.value, str)
                else None,
                None
                if any(word.arg is None for word in node.keywords)
                else frozenset(word.arg for word in node.keywords if word.arg),
            )


def placeholders(template: str) -> frozenset[str]:
    """Return the names in the braces, ``{name.part!r:>8}`` as ``name``; ValueError for a malformed one."""
    fields = [field for _, field, _, _ in Formatter().parse(template) if field is not None]
    return frozenset(re.split(r"[.\[]", field)[0] for field in fields)


def test_there_are_sentences_to_look_at() -> None:
    assert len(sentences()) > 20


def test_every_template_is_a_literal() -> None:
    assert not [sentence.where for sentence in sentences() if sentence.template is None]


def test_text_is_imported_under_its_own_name_and_made_by_its_own_function() -> None:
    found = []
    for path in [*PROJECT.glob("appliance/**/*.py"), *PROJECT.glob("bundle/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            renamed = isinstance(node, ast.ImportFrom) and any(
                alias.name == "text" and alias.asname for alias in node.names
            )
            built = isinstance(node, ast.Call) and ast.unparse(node.func) == "Text" and path.name != "text.py"
            if renamed or built:
                found.append(f"{path.relative_to(PROJECT)}:{getattr(node, 'lineno', 0)}")
    assert not found


def test_every_template_is_given_exactly_the_values_it_names() -> None:
    wrong = [
        f"{sentence.where}: {sorted(placeholders(sentence.template))} against {sorted(sentence.values)}"
        for sentence in sentences()
        if sentence.template is not None
        and sentence.values is not None
        and placeholders(sentence.template) != sentence.values
    ]
    assert not wrong


def test_every_sentence_has_its_korean() -> None:
    missing = {
        sentence.template: sentence.where
        for sentence in sentences()
        if sentence.template is not None and sentence.template not in catalogue()
    }
    assert not missing


def test_the_korean_names_the_same_values() -> None:
    wrong = {
        english: korean
        for english, korean in catalogue().items()
        if placeholders(english) != placeholders(korean)
    }
    assert not wrong


def test_the_korean_is_korean() -> None:
    wrong = [
        english
        for english, korean in catalogue().items()
        if re.search("[A-Za-z]{2}", re.sub(r"\{.*?\}", "", english)) and not HANGUL.search(korean)
    ]
    assert not wrong


def _words_of_the_program(name: str) -> Iterator[str]:
    """Yield what a guide says that the program prints: lines of screens, and the first column of refusals."""
    guide = (PROJECT / "docs" / "ko" / name).read_text("utf-8")
    for screen in re.findall(r"(?ms)^```\n(.*?)^```$", guide):
        if screen.startswith("#") and "cat >" not in screen:
            yield from (line.strip() for line in screen.splitlines() if not line.startswith("#"))
    for cell in re.findall(r"(?m)^\| (.+?) \(\d+\) \|", guide):
        yield from cell.split(" / ")


@pytest.mark.parametrize(("name", "least"), [("trust.md", 16), ("operator.md", 3)])
def test_a_guide_quotes_what_the_program_says(name: str, least: int) -> None:
    said = [
        re.sub(r"\\{.*?\\}", ".+", re.escape(korean))
        for korean in catalogue().values()
        if HANGUL.search(re.sub(r"\{.*?\}", "", korean))
    ]
    quoted = [line.removeprefix("조치: ") for line in _words_of_the_program(name) if HANGUL.search(line)]
    assert len(quoted) >= least
    wrong = [
        line
        for line in quoted
        if not line.startswith("위치: ")
        and not any(re.fullmatch(f"{pattern}(: [0-9a-f ]+)?", line) for pattern in said)
        and not any(korean.startswith(line.split("…")[0].strip()) for korean in catalogue().values())
    ]
    assert not wrong


def test_no_korean_is_left_over_or_stands_twice() -> None:
    used = {sentence.template for sentence in sentences()}
    assert not [english for english in catalogue() if english not in used]
    assert len(_pairs()) == len(catalogue())


def test_every_sentence_can_be_put_into_both_languages() -> None:
    for english in catalogue():
        filled = Text(english, dict.fromkeys(placeholders(english), 7))
        assert "{" not in filled.render("en").replace("{{", "")
        assert filled.render("ko")


def test_a_sentence_inside_a_sentence_follows_its_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.text._korean", lambda: {"one {what}": "하나 {what}", "two": "둘"})
    outer = text("one {what}", what=text("two"))
    assert outer.render("ko") == "하나 둘"
    assert outer.render("en") == str(outer) == "one two"


def test_a_sentence_without_korean_is_still_said_in_english() -> None:
    assert text("{n} words that nobody translated", n=5).render("ko") == "5 words that nobody translated"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, "en"),
        ({"LANG": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "TERM": "xterm-256color"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "TERM": "linux"}, "en"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "ko_KR.UTF-8", "LC_MESSAGES": "C"}, "en"),
        ({"LANG": "C", "LC_MESSAGES": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_MESSAGES": "ko_KR.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_US.UTF-8", "LC_ALL": "ko_KR.UTF-8"}, "ko"),
        ({"LANG": "ko_KR.UTF-8", "LC_ALL": ""}, "ko"),
    ],
)
def test_the_language_follows_the_locale_where_the_console_can_draw_it(
    environment: dict[str, str], expected: str
) -> None:
    assert choose_language(environment) == expected


def test_calls_are_seen_in_every_form_they_take() -> None:
    source = 'text("a" " {b}", b=1)\ntext(name)\ntext(f"{x}")\ntext("c", **more)\nresponse.text("no")\n'
    assert list(sentences_of(source, "x.py")) == [
        Sentence("x.py:1", "a {b}", frozenset({"b"})),
        Sentence("x.py:2", None, frozenset()),
        Sentence("x.py:3", None, frozenset()),
        Sentence("x.py:4", "c", None),
    ]
    assert placeholders("{a} {{no}} {b.c!r:>8} {d[0]}") == {"a", "b", "d"}


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b2J", r"\x9b2J"),
        ("bell\x07, delete\x7f, return\r", r"bell\x07, delete\x7f, return\r"),
        ("a\u202etxt.exe", r"a\u202etxt.exe"),
        ("\u2066a\u2069\u200f\u061c", r"\u2066a\u2069\u200f\u061c"),
        ("a\u2028b\u2029c\x85d", r"a\u2028b\u2029c\x85d"),
        ("no\u200bwidth\ufeff\u00ad", r"no\u200bwidth\ufeff\xad"),
        ("tag\U000e0041, private\ue000", r"tag\U000e0041, private\ue000"),
        ("no UTF-8: \udcff", r"no UTF-8: \udcff"),
        ("한글과　넓은 칸\u00a0그리고\n\t줄", "한글과　넓은 칸\u00a0그리고\n\t줄"),
    ],
)
def test_what_cannot_be_seen_is_spelled_out(raw: str, seen: str) -> None:
    assert printable(raw) == seen
    assert text("{name}", name=raw.replace("\n", " ")).render() == seen.replace("\n", " ")


def test_a_line_end_in_a_name_begins_no_line_of_ours() -> None:
    assert text("found {name}", name="a\n  remedy: run me").render() == r"found a\n  remedy: run me"
    assert text("two\nlines of {number:.1f}", number=2.0).render() == "two\nlines of 2.0"
