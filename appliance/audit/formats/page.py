"""The report as a page: what an officer reads on a screen.

It carries everything that it needs and a policy that lets it load nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from appliance.audit.catalogue import checks
from appliance.audit.controls import ANSWERED
from appliance.audit.outcome import STATUSES
from appliance.audit.words import (
    ANSWER_WORDS,
    ANSWERED_WORDS,
    DECISION_WORDS,
    DIRECTION_WORDS,
    GRADE_WORDS,
    IMPORTANCE_WORDS,
    LABELS,
    STANDING_WORDS,
    STATUS_WORDS,
)

if TYPE_CHECKING:
    from appliance.audit.edition import Edition
    from appliance.audit.outcome import AuditResult, Result
    from appliance.text import Language, Text

_URGENT = ("high", "medium", "low")


def render(edition: Edition) -> bytes:
    """Return the page."""
    import jinja2  # noqa: PLC0415 - only the controller environment has it

    result, language = edition.result, edition.language
    style, script = _data("report.css"), _data("report.js")
    loader = jinja2.FunctionLoader(_data)
    world = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    world.globals.update(_words_of(language))
    told = world.get_template("report.html.j2").render(
        result=result,
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src '{_source(style)}'; script-src '{_source(script)}'",
        urgent=_urgent(result),
        asked=sum(one.applies for guide in result.guides for one in guide.controls),
        titles={one.id: getattr(one.title, language) for one in result.results},
        answers=ANSWERED,
        areas=checks().areas,
        statuses=STATUSES,
        language=language,
    )
    return told.encode()


def _urgent(result: AuditResult) -> list[Result]:
    """Return what failed, the important first."""
    failed = [one for one in result.results if one.status in {"fail", "unknown"}]
    return sorted(failed, key=lambda one: _URGENT.index(one.importance))


def _words_of(language: Language) -> dict[str, Any]:
    tables = {
        "status_word": STATUS_WORDS,
        "answered_word": ANSWERED_WORDS,
        "importance_word": IMPORTANCE_WORDS,
        "grade_word": GRADE_WORDS,
        "standing_word": STANDING_WORDS,
        "answer_word": ANSWER_WORDS,
        "direction_word": DIRECTION_WORDS,
        "decision_word": DECISION_WORDS,
        "label": LABELS,
    }
    found: dict[str, Any] = {name: partial(_say, table, language) for name, table in tables.items()}
    return {**found, "say": lambda words: getattr(words, language)}


def _say(table: dict[str, Text], language: Language, name: str) -> str:
    return table[name].render(language)


def _source(content: str) -> str:
    """Return the content's digest as a content security policy spells it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _data(name: str) -> str:
    return resources.files("appliance.audit").joinpath("data", name).read_text("utf-8")
