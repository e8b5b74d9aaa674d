"""The audit as documents: ``audit.json`` for programs, ``audit.html`` for people, from one result.

The page carries everything that it needs and a policy that lets it load nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.audit.catalogue import checks
from appliance.audit.result import STATUSES
from appliance.durable import make_folder, write_file
from appliance.text import text

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.facts import AuditFacts
    from appliance.audit.result import AuditResult, Result
    from appliance.text import Language, Text

REPORT_MODE = 0o600
STATUS_WORDS: dict[str, Text] = {
    "pass": text("pass"),
    "fail": text("fail"),
    "manual": text("to be confirmed"),
    "not-applicable": text("not applicable"),
    "unknown": text("not established"),
}
IMPORTANCE_WORDS: dict[str, Text] = {"high": text("high"), "medium": text("medium"), "low": text("low")}
GRADE_WORDS: dict[str, Text] = {"C": text("secret"), "S": text("sensitive"), "O": text("open")}
_URGENT = ("high", "medium", "low")


def write_reports(
    folder: Path, facts: AuditFacts, result: AuditResult, language: Language
) -> tuple[Path, ...]:
    """Write facts, result and page into a folder of that audit's time; return their paths, the page first."""
    place = folder / f"{result.taken:%Y%m%dT%H%M%SZ}"
    make_folder(place, mode=0o700)
    contents = {
        "audit.html": html(result, language).encode(),
        "audit.json": pretty(result),
        "facts.json": pretty(facts),
    }
    for name, content in contents.items():
        write_file(place / name, content, mode=REPORT_MODE)
    return tuple(place / name for name in contents)


def pretty(value: object) -> bytes:
    """Return JSON for people and programs: sorted keys, indented."""
    return msgspec.json.format(msgspec.json.encode(value, order="sorted"), indent=1) + b"\n"


def html(result: AuditResult, language: Language) -> str:
    """Return the page."""
    import jinja2  # noqa: PLC0415 - only the controller environment has it

    style, script = _data("report.css"), _data("report.js")
    loader = jinja2.FunctionLoader(_data)
    world = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    world.globals.update(_words_of(language))
    return world.get_template("report.html.j2").render(
        result=result,
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src '{_source(style)}'; script-src '{_source(script)}'",
        urgent=_urgent(result),
        areas=checks().areas,
        statuses=STATUSES,
        language=language,
    )


def _urgent(result: AuditResult) -> list[Result]:
    """Return what failed, the important first."""
    failed = [one for one in result.results if one.status in {"fail", "unknown"}]
    return sorted(failed, key=lambda one: _URGENT.index(one.importance))


def _words_of(language: Language) -> dict[str, Any]:
    def say(words: Text) -> str:
        return words.render(language)

    return {
        "status_word": lambda name: say(STATUS_WORDS[name]),
        "importance_word": lambda name: say(IMPORTANCE_WORDS[name]),
        "grade_word": lambda name: say(GRADE_WORDS[name]),
        "label": lambda name: say(LABELS[name]),
        "say": lambda words: getattr(words, language),
    }


def _source(content: str) -> str:
    """Return the content's digest as a content security policy spells it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _data(name: str) -> str:
    return resources.files("appliance.audit").joinpath("data", name).read_text("utf-8")


LABELS: dict[str, Text] = {
    "title": text("Security audit report"),
    "subtitle": text("Evidence and readiness of one server; the judgement is the institution's"),
    "host": text("Server"),
    "system": text("Operating system"),
    "release": text("Installed release"),
    "taken": text("Taken at"),
    "appliance": text("Auditing program"),
    "grade": text("Audited grade"),
    "report_grade": text("Grade of this document"),
    "score": text("Score"),
    "score_note": text("weighted by importance; what was not established counts as not passed"),
    "areas": text("By area"),
    "area": text("Area"),
    "urgent": text("To be mended first"),
    "nothing_urgent": text("Nothing failed."),
    "all": text("All checks"),
    "everything": text("all"),
    "search": text("Search id, title, observed value"),
    "check": text("Check"),
    "status": text("Status"),
    "importance": text("Importance"),
    "observed": text("Observed"),
    "expected": text("Expected"),
    "where": text("Where"),
    "items": text("Items of the guides"),
    "remedy": text("Remedy"),
    "shown": text("shown"),
    "limits": text("What this report does not say"),
    "limit_judgement": text(
        "It shows evidence from this server for items of the guides. Whether an item is met is decided by "
        "the institution and reviewed by the NIS; no line here is such a decision."
    ),
    "limit_partial": text(
        "A check is evidence for a part of an item. Items without a technical trace on this server "
        "(procedures, people, rooms, the network outside) are not in it."
    ),
    "limit_root": text(
        "Whoever is root on this server could forge it. Compare the operation log's last value with an "
        "earlier paper copy."
    ),
    "limit_crypto": text(
        "Banip brings no validated cryptographic module. Only the institution can name the one it uses."
    ),
    "limit_size": text(
        "Files above 8 MiB are compared by size unless the audit was asked to hash everything; byte code "
        "that Python writes is not compared."
    ),
    "limit_guides": text(
        "Guides: KISA 2026 (Unix servers), N2SF 1.0, NIS AI security guidebook 2025; numbers and titles only."
    ),
    "signature": text("Confirmation"),
    "officer": text("Security officer"),
    "operator": text("Operator"),
    "approver": text("Approver"),
    "name": text("Name"),
    "date": text("Date"),
    "sign": text("Signature"),
    "opinion": text("Opinion and exceptions"),
}
