"""Every error says what happened, where, what was expected and seen, what to do; the class is the code."""

from __future__ import annotations

import json

import pytest

from appliance import errors
from appliance.errors import BanipError, Tampered
from appliance.text import text

CODES = {
    "AlreadyRunning": 4, "AuditFindings": 3, "BadInput": 2, "BanipError": 1, "Expired": 10, "Incomplete": 12,
    "Interrupted": 130, "Returned": 30, "Tampered": 11, "UnfitServer": 20, "UnreadableMedium": 13,
    "Untrusted": 10,
}  # fmt: skip


def classes() -> dict[str, type[BanipError]]:
    found = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, BanipError)
    ]
    return {each.__name__: each for each in found}


def test_each_class_has_the_exit_code_of_the_design() -> None:
    assert {name: each.exit_code for name, each in classes().items()} == CODES


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    for name, code in CODES.items():
        assert any(
            name in line.split() and str(code) in line.split() for line in (errors.__doc__ or "").splitlines()
        )


def test_a_person_reads_one_fact_a_line() -> None:
    error = Tampered(
        text("{name} is not what was signed", name="chunks.bin"),
        where="chunks.bin",
        expected=0,
        seen=text("no site name"),
        remedy=text("run the same command as root (sudo)"),
    )
    assert error.lines() == [
        "chunks.bin is not what was signed",
        "  where: chunks.bin",
        "  expected: 0",
        "  seen: no site name",
        "  remedy: run the same command as root (sudo)",
    ]
    assert str(error) == "chunks.bin is not what was signed"


def test_what_is_not_known_is_not_said() -> None:
    assert BanipError(text("yes")).lines() == ["yes"]
    assert BanipError(text("yes")).as_json() == {"error": "BanipError", "exit_code": 1, "happened": "yes"}


def test_in_korean_labels_and_nested_sentences_are_korean_too() -> None:
    error = Tampered(
        text("no site name"), seen=text("no site name"), where="x", expected=1, remedy=text("yes")
    )
    words = "\n".join(error.lines("ko"))
    assert "no site name" not in words
    for label in ("위치", "기대값", "실제값", "조치"):
        assert f"  {label}: " in words


@pytest.mark.parametrize("name", CODES)
def test_a_program_gets_the_same_facts_under_a_stable_name(name: str) -> None:
    error = classes()[name](text("yes"), where=7, seen=text("no"))
    told = json.loads(json.dumps(error.as_json()))
    assert told == {"error": name, "exit_code": CODES[name], "happened": "yes", "where": "7", "seen": "no"}


def test_no_fact_can_pass_for_another_or_steer_a_terminal() -> None:
    evil = Tampered(
        text("no {name}", name="\x1b]0;x\x07"), where="a\n  remedy: run me\u202e", seen="one\ntwo"
    )
    assert evil.lines() == [
        r"no \x1b]0;x\x07",
        "  where: a\n        remedy: run me\\u202e",
        "  seen: one\n      two",
    ]
    assert evil.as_json()["where"] == "a\n  remedy: run me\\u202e"
