"""A value that does not fit is told of in words of ours, whatever msgspec says of it."""

from __future__ import annotations

import re
from datetime import date  # noqa: TC003 - msgspec resolves annotations at run time
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct

from appliance.document import document_from_bytes, typed
from appliance.format import Sha256  # noqa: TC001 - as above
from appliance.problems import BadInputs


class Entry(Struct, forbid_unknown_fields=True):
    """One member of every kind that a person's file has."""

    name: Annotated[str, Meta(min_length=1, max_length=3)]
    answer: Literal["yes", "no"] = "no"
    port: Annotated[int, Meta(ge=1, le=9)] = 1
    share: float = 0.5
    day: date | None = None
    paths: Annotated[tuple[str, ...], Meta(min_length=1, max_length=2)] = ("a",)
    sha256: Sha256 = "0" * 64
    holds: bool = True
    inner: dict[str, bool] = {}


class File(Struct, forbid_unknown_fields=True):
    """A list of them."""

    entries: tuple[Entry, ...]


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ("answer: 'no'", "$.entries[0]", "name is missing"),
        ("name: ''", "$.entries[0].name", "this is empty"),
        ("name: abcd", "$.entries[0].name", "its length has to be at most 3"),
        ("name: 1", "$.entries[0].name", "text belongs here, and this is a whole number"),
        ("nane: a", "$.entries[0].nane", "nothing here is called nane"),
        ("{name: a, answer: maybe}", "$.entries[0].answer", "'maybe' is none of the words"),
        ("{name: a, port: 0}", "$.entries[0].port", "it has to be at least 1"),
        ("{name: a, port: 'x'}", "$.entries[0].port", "a whole number belongs here, and this is text"),
        ("{name: a, share: true}", "$.entries[0].share", "a number belongs here, and this is true or false"),
        ("{name: a, day: 2026-02-31}", "$.entries[0].day", "no date of the calendar"),
        ("{name: a, day: 7}", "$.entries[0].day", "a date (2026-12-31) belongs here"),
        ("{name: a, paths: []}", "$.entries[0].paths", "this is empty"),
        ("{name: a, paths: b}", "$.entries[0].paths", "a list belongs here, and this is text"),
        ("{name: a, sha256: b}", "$.entries[0].sha256", "no SHA-256: 64 digits"),
        ("{name: a, inner: [b]}", "$.entries[0].inner", "members (name: value) belongs here"),
    ],
)
def test_what_does_not_fit_is_named_by_line_place_and_meaning(line: str, place: str, said: str) -> None:
    (problem,) = refused(f"entries:\n  - {line}\n").problems
    assert problem.where == f"x.yaml:2: {place}"
    assert said in problem.said.render("en")
    korean = problem.said.render("ko")
    assert re.search("[가-힣]", korean), korean
    assert not re.search(r"Expected|Object|Invalid|got|`", korean), korean


def test_every_blank_is_named_by_its_line_and_many_are_counted() -> None:
    told = refused("entries:\n  - name: ~\n    day: ~\n  - name: ~\n").problems
    assert [one.where for one in told] == [
        "x.yaml:2: $.entries[0].name",
        "x.yaml:3: $.entries[0].day",
        "x.yaml:4: $.entries[1].name",
    ]
    many = refused("entries:\n" + "  - name: ~\n" * 30).problems
    assert len(many) == 21
    assert "10 more" in many[-1].said.render("en")


def refused(content: str) -> BadInputs:
    document: Any = document_from_bytes(content.encode(), "x.yaml", plain_dates=True)
    with pytest.raises(BadInputs) as caught:
        typed(document, File)
    return caught.value


@pytest.mark.parametrize(
    ("line", "place", "said"),
    [
        ('"b - at c": 1', "$.entries[0].b - at c", "nothing here is called b - at c;"),
        ('"b\\nc": 1', "$.entries[0].b\nc", "nothing here is called b\\nc;"),
        ('"b got `null": 1', "$.entries[0].b got `null", "nothing here is called b got `null;"),
        ('"": 1', "$.entries[0].", "nothing here is called ;"),
        ("answer: 'b - at c'", "$.entries[0].answer", "'b - at c' is none of the words"),
        ("answer: 'b - at `$.name` - at c'", "$.entries[0].answer", "'b - at `$.name` - at c' is none"),
        ('answer: "b\\nc"', "$.entries[0].answer", "'b\\nc' is none of the words"),
    ],
)
def test_what_a_person_wrote_is_no_part_of_our_sentence(line: str, place: str, said: str) -> None:
    (problem,) = refused(f"entries:\n  - name: a\n    day: ~\n    {line}\n").problems
    assert problem.where.endswith(place)
    assert said in problem.said.render("en")
    assert not re.search(r"Object|Invalid", problem.said.render("ko"))
