"""The report as a page: what an officer reads on a screen, and what a browser prints.

It carries everything that it needs and a policy that lets it load nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Any

from appliance.audit.catalogue import checks
from appliance.audit.checklists import GUIDES
from appliance.audit.controls import ANSWERED
from appliance.audit.dated import KOREA, korean_day
from appliance.audit.edition import Unavailable
from appliance.audit.formats import summary
from appliance.audit.outcome import STATUSES
from appliance.audit.redact import redacted_edition
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
from appliance.text import printable, text

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    import jinja2

    from appliance.audit.catalogue import Item, Words
    from appliance.audit.edition import Edition
    from appliance.audit.outcome import ControlResult, Shown, Status
    from appliance.text import Language, Text

#: As reports show them: what is right, then the worst first.
SHOWN_ORDER: tuple[Status, ...] = ("pass", "fail", "unknown", "exception", "manual", "not-applicable")
TONES: dict[Status, str] = {
    "pass": "good",
    "fail": "bad",
    "unknown": "dim",
    "exception": "let",
    "manual": "ask",
    "not-applicable": "none",
}
#: Of these a report says how they are mended.
TO_MEND = frozenset({"fail", "unknown", "manual", "exception"})
#: And of these, by whom.
MENDABLE = frozenset({"fail", "unknown"})
#: A digest is compared by eye, in groups.
_GROUP = 8


def render(edition: Edition) -> bytes:
    """Return the page."""
    edition = closed(edition)
    style, script = data("brand.css") + page_rule(edition) + data("report.css"), data("report.js")
    told = world(edition.language).get_template("report.html.j2")
    return told.render(
        **content(edition),
        style=style,
        script=script,
        policy=f"default-src 'none'; style-src '{_source(style)}'; script-src '{_source(script)}'",
    ).encode()


def closed(edition: Edition) -> Edition:
    """Return the edition as it may be shown: of a redacted one nothing else can reach a template."""
    return redacted_edition(edition) if edition.redacted else edition


def content(edition: Edition) -> dict[str, Any]:
    """Return what templates speak of."""
    result = edition.result
    return {
        "edition": edition,
        "result": result,
        "redacted": edition.redacted,
        "headlines": [one.render(edition.language) for one in summary.headlines(edition)],
        "difference": summary.difference(edition),
        "points": summary.line(edition),
        "grades": summary.by_grade(edition),
        "earlier": summary.earlier(edition)[-summary.POINTS_MOST :],
        "turns_most": summary.TURNS_MOST,
        "urgent": summary.urgent(result),
        "asked": sum(one.applies for guide in result.guides for one in guide.controls),
        "titles": {name: getattr(one.title, edition.language) for name, one in checks().checks.items()},
        "answers": ANSWERED,
        "areas": checks().areas,
        "statuses": STATUSES,
        "shown_order": SHOWN_ORDER,
        "tones": TONES,
        "to_mend": TO_MEND,
        "mendable": MENDABLE,
        "limits": [name for name in LABELS if name.startswith("limit_")],
        "language": edition.language,
    }


def world(language: Language) -> jinja2.Environment:
    """Return what renders the templates: words of one language, and nothing of the server is ever markup."""
    try:
        import jinja2  # noqa: PLC0415 - only the controller environment has it
    except ModuleNotFoundError as error:
        raise Unavailable(
            text("the Python package {package} is not installed here", package="jinja2")
        ) from error

    found = jinja2.Environment(
        loader=jinja2.FunctionLoader(data),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    found.globals.update(_words_of(language))
    found.filters.update(
        day=_day,
        moment=_moment,
        grouped=_grouped,
        by_guide=_by_guide,
        by_status=_by_status,
        out_of_scope=_out_of_scope,
    )
    return found


def page_rule(edition: Edition) -> str:
    """Return the rule of a printed page: what stands in its margins, the document's own grade on each."""
    language, result = edition.language, edition.result
    grade = f"{_say(LABELS, language, 'report_grade')} {result.report_grade}"
    grade += f" ({_say(GRADE_WORDS, language, result.report_grade)})"
    name = [_say(LABELS, language, "title"), *([] if edition.redacted else [result.host])]
    name += [_say(LABELS, language, "redacted")] if edition.redacted else []
    mark = [f"{_say(LABELS, language, 'taken')} {_day(result.taken)}"]
    if edition.record and edition.head:
        head = _grouped(edition.head[: 4 * _GROUP])
        mark.append(f"{_say(LABELS, language, 'number')} {edition.record.number}: SHA-256 {head} ...")
    corners = {"top-left": " · ".join(name), "top-right": grade, "bottom-left": " · ".join(mark)}
    boxes = "".join(f"@{corner} {{ content: {_css_string(words)}; }}" for corner, words in corners.items())
    return f'@page {{ {boxes} @bottom-right {{ content: counter(page) " / " counter(pages); }} }}\n'


def _css_string(words: str) -> str:
    """Spell words so that they end neither a string of CSS nor a style element."""
    plain = (one if one.isalnum() or one in " .,()·/:-" else f"\\{ord(one):x} " for one in printable(words))
    return f'"{"".join(plain)}"'


# --- Words -------------------------------------------------------------------------------------------------


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
    return {**found, "say": partial(_in, language)}


def _say(table: dict[str, Text], language: Language, name: str) -> str:
    return table[name].render(language)


def _in(language: Language, words: object) -> str:
    """Return words in a language; what an institution wrote it wrote in one."""
    return words if isinstance(words, str) else str(getattr(words, language))


def _day(taken: datetime) -> str:
    return f"{korean_day(taken)}"


def _moment(taken: datetime) -> str:
    return f"{taken.astimezone(KOREA):%Y-%m-%d %H:%M} KST"


def _grouped(digest: str | None) -> str:
    found = digest or "-"
    return " ".join(found[start : start + _GROUP] for start in range(0, len(found), _GROUP))


def _by_guide(items: Iterable[Item]) -> list[tuple[str, str]]:
    """Return the numbers of controls by their guides' labels, each guide once."""
    found: dict[str, list[str]] = {}
    for one in sorted(items, key=lambda one: GUIDES.index(one.guide) if one.guide in GUIDES else len(GUIDES)):
        found.setdefault(one.label, []).append(one.id)
    return [(label, ", ".join(ids)) for label, ids in found.items()]


def _by_status(shown: Iterable[Shown]) -> list[tuple[Status, list[Shown]]]:
    """Return what checks show of a control, the worst first."""
    found: dict[Status, list[Shown]] = {}
    for one in shown:
        found.setdefault(one.status, []).append(one)
    return sorted(found.items(), key=lambda one: STATUSES.index(one[0]))


def _out_of_scope(controls: Iterable[ControlResult]) -> list[tuple[Words | None, list[ControlResult]]]:
    """Return controls that do not apply and that no check looks at, by the reason why."""
    found: dict[Words | None, list[ControlResult]] = {}
    for one in controls:
        if one.status == "not-applicable" and not one.evidence:
            found.setdefault(one.open.reason if one.open else None, []).append(one)
    return list(found.items())


def _source(told: str) -> str:
    """Return the content's digest as a content security policy spells it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(told.encode()).digest()).decode()


def data(name: str) -> str:
    """Return a template or a style sheet."""
    return resources.files("appliance.audit").joinpath("data", name).read_text("utf-8")
