"""The report as an HWPX document, the form in which Korean offices file one.

Real paragraphs and tables, no pictures of them. Nothing on this server renders HWPX: how it looks is seen in
Hancom Office only. The same edition gives the same bytes.
"""

from __future__ import annotations

import io
import zipfile
from datetime import timezone
from typing import TYPE_CHECKING, Any

from appliance.audit.formats.hwpx_body import MARGIN_MM, Body, Cell, Styles
from appliance.audit.formats.page import closed
from appliance.audit.formats.rows import (
    CHANGE_COLUMNS,
    COLUMNS,
    DECISION_COLUMNS,
    SHOWN_ORDER,
    TREND_COLUMNS,
    change_rows,
    changed_title,
    check_rows,
    decision_rows,
    item_rows,
    trend_rows,
    urgent_rows,
)
from appliance.audit.formats.voice import (
    NOTHING,
    Voice,
    about,
    graded,
    limits,
    needs,
    share,
    signed,
    title,
    warnings,
)
from appliance.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.audit.edition import Edition
    from appliance.audit.formats.rows import Row
    from appliance.text import Text

_PACKAGE = "python-hwpx"
_LETTERS: dict[str, dict[str, Any]] = {
    "text": {"size": 10},
    "title": {"size": 20, "bold": True},
    "heading": {"size": 13, "bold": True},
    "grade": {"size": 11, "bold": True, "color": "#8C1512"},
    "bold": {"size": 9, "bold": True},
    "small": {"size": 8.5},
}
_PARAGRAPHS: dict[str, dict[str, Any]] = {
    "text": {"alignment": "LEFT", "line_spacing_percent": 150},
    "centre": {"alignment": "CENTER", "line_spacing_percent": 130},
    "cell": {"alignment": "LEFT", "line_spacing_percent": 130},
    "heading": {
        "alignment": "LEFT",
        "line_spacing_percent": 150,
        "spacing_before_pt": 12,
        "spacing_after_pt": 4,
        "outline_level": 1,
        "keep_with_next": True,
    },
}
_FILLS: dict[str, str | None] = {
    "cell": None,
    "head": "#E8EBF0",
    "pass": "#E3F1E5",
    "fail": "#F8D3D0",
    "unknown": "#DCDFE4",
    "exception": "#FBE6C2",
    "manual": "#DDE8F7",
    "not-applicable": None,
}
_SIGNED_HEIGHT, _OPINION_HEIGHT = 4_200, 8_500
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
_MIMETYPE, _SECTION, _PREVIEW = "mimetype", "Contents/section0.xml", "Preview/PrvText.txt"


def render(edition: Edition) -> bytes:
    """Return the document. ``Unavailable`` without python-hwpx."""
    try:
        from hwpx import HwpxDocument  # noqa: PLC0415 - heavy, and only the controller environment has it
    except ImportError as error:
        raise needs(_PACKAGE) from error

    edition = closed(edition)
    voice = Voice(edition.language)
    document = HwpxDocument.new()
    body = Body(_styles(document))
    _write(body, edition, voice)
    taken = edition.result.taken.astimezone(timezone.utc)
    document.parts.clear_document_metadata(timestamp=f"{taken:%Y-%m-%dT%H:%M:%SZ}")
    document.parts.set_document_metadata(title=title(edition, voice), creator="Banip")
    parts = _parts(document.to_bytes())
    head = f"{title(edition, voice)} · {graded(edition, voice)}"
    foot = f"{edition.result.host} · {edition.head or NOTHING} · "
    section = body.section(parts[_SECTION].decode(), head, foot)
    parts[_SECTION] = section.encode()
    parts[_PREVIEW] = head.encode()
    return _packed(parts)


def _styles(document: Any) -> Styles:  # noqa: ANN401 - HwpxDocument, heavy to import
    """Put the styles into the document's header, and return how it numbers them."""
    document.page.setup(
        paper_size="A4", orientation="PORTRAIT", margin_left_mm=MARGIN_MM, margin_right_mm=MARGIN_MM
    )
    paragraphs = {}
    for name, form in _PARAGRAPHS.items():
        paragraph = document.add_paragraph("", inherit_style=False)
        document.styles.apply_paragraph_format(paragraphs=[paragraph], **form)
        paragraphs[name] = str(paragraph.para_pr_id_ref)
    return Styles(
        letters={name: document.styles.ensure_run(**form) for name, form in _LETTERS.items()},
        paragraphs=paragraphs,
        borders={
            name: document.styles.ensure_border_fill(border_color="#8A929C", fill_color=fill)
            for name, fill in _FILLS.items()
        },
    )


def _parts(package: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _packed(parts: Mapping[str, bytes]) -> bytes:
    """Return the package: its type first and plain, every file of the same day."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in {_MIMETYPE: parts[_MIMETYPE], **parts}.items():
            member = zipfile.ZipInfo(name, _FIRST_DAY)
            member.compress_type = zipfile.ZIP_STORED if name == _MIMETYPE else zipfile.ZIP_DEFLATED
            archive.writestr(member, content)
    return written.getvalue()


# --- The document ------------------------------------------------------------------------------------------


def _write(body: Body, edition: Edition, voice: Voice) -> None:
    body.paragraph(title(edition, voice), "title", "centre")
    for mark in (graded(edition, voice), *warnings(edition, voice)):
        body.paragraph(mark, "grade", "centre")
    body.paragraph(voice.label("subtitle"), "small", "centre")
    body.table(
        (3, 13),
        [[Cell(name, "head", "bold"), Cell(value)] for name, value in about(edition, voice)],
        head=False,
    )
    _write_scores(body, edition, voice)
    _write_history(body, edition, voice)
    _write_urgent(body, edition, voice)
    _write_guides(body, edition, voice)
    _write_checks(body, edition, voice)
    _write_decisions(body, edition, voice)
    _write_limits(body, edition, voice)


def _write_scores(body: Body, edition: Edition, voice: Voice) -> None:
    result = edition.result
    _heading(body, f"{voice.saying('counts')} ({len(result.results)})")
    statuses = [voice.status(one) for one in SHOWN_ORDER]
    counts = [str(result.counts[one]) for one in SHOWN_ORDER]
    body.table((1,) * 7, [_line(voice.label("score"), *statuses), _line(share(result.score), *counts)])
    body.paragraph(voice.label("score_note"), "small")
    _heading(body, voice.label("areas"))
    rows = [
        [Cell(voice.said(one.name)), *_line(share(one.share), f"{one.passed} / {one.counted}")]
        for one in result.scores
    ]
    body.table((8, 3, 3), [_line(*map(voice.label, ("area", "score")), voice.saying("passed")), *rows])
    _heading(body, voice.label("guides"))
    head = _line(voice.label("guide"), voice.label("guide_score"), *statuses, voice.label("attested"))
    scores = [
        [
            Cell(printable(one.label)),
            *_line(share(one.score), *(str(one.counts[status]) for status in SHOWN_ORDER), str(one.attested)),
        ]
        for one in result.guides
    ]
    body.table((5, 2, 2, 2, 2, 2, 2, 2, 3), [head, *scores])
    body.paragraph(voice.label("guide_score_note"), "small")


def _write_history(body: Body, edition: Edition, voice: Voice) -> None:
    heading = changed_title(edition, voice)
    if heading:
        _heading(body, heading)
    changes = change_rows(edition, voice)
    if changes:
        _table(body, CHANGE_COLUMNS, changes, (6, 2, 2, 8), voice)
    trend = trend_rows(edition, voice)
    if trend:
        _heading(body, voice.saying("trend"))
        _table(body, TREND_COLUMNS, trend, (2, 4, 5, 2, 2, 2, 2, 2, 2, 2), voice)


def _write_urgent(body: Body, edition: Edition, voice: Voice) -> None:
    rows = urgent_rows(edition.result, voice)
    _heading(body, f"{voice.label('urgent')} ({len(rows)})")
    if not rows:
        body.paragraph(voice.label("nothing_urgent"))
        return
    names = ("title", "weight", "status", "observed", "expected", "where", "remedy")
    _table(body, {name: COLUMNS[name] for name in names}, rows, (7, 3, 3, 9, 7, 6, 8), voice)


def _write_guides(body: Body, edition: Edition, voice: Voice) -> None:
    results = {one.id: one for one in edition.result.results}
    names = ("id", "title", "weight", "status", "observed", "note")
    for guide in edition.result.guides:
        own = f" ({voice.label('own_guide')})" if guide.own else ""
        _heading(body, printable(f"{guide.label}: {voice.said(guide.title)} {guide.edition}{own}"))
        for note in guide.notes:
            body.paragraph(voice.said(note), "small")
        rows = item_rows(guide, results, voice)
        _table(body, {name: COLUMNS[name] for name in names}, rows, (5, 9, 3, 3, 13, 10), voice)


def _write_checks(body: Body, edition: Edition, voice: Voice) -> None:
    _heading(body, voice.label("all"))
    names = ("id", "title", "weight", "status", "observed", "where")
    rows = check_rows(edition.result, voice)
    _table(body, {name: COLUMNS[name] for name in names}, rows, (9, 9, 3, 3, 12, 7), voice)


def _write_decisions(body: Body, edition: Edition, voice: Voice) -> None:
    rows = decision_rows(edition.result, voice)
    _heading(body, f"{voice.label('decisions')} ({len(rows)})")
    for file in edition.result.site_files:
        body.paragraph(f"{voice.label('site_files')}: {file.path} SHA-256 {file.sha256}", "small")
    if rows:
        _table(body, DECISION_COLUMNS, rows, (4, 8, 3, 4, 6, 9, 5, 8), voice)


def _write_limits(body: Body, edition: Edition, voice: Voice) -> None:
    _heading(body, voice.label("limits"))
    for one in limits(voice):
        body.paragraph(f"• {one}", "small")
    _heading(body, voice.label("signature"))
    for words in signed(edition, voice):
        body.paragraph(words, "small")
    offices = [voice.label(one) for one in ("operator", "officer", "approver")]
    empty = [
        [Cell(voice.label(one), "head", "bold"), *[Cell("", height=_SIGNED_HEIGHT)] * len(offices)]
        for one in ("name", "date", "sign")
    ]
    opinion = [
        Cell(voice.label("opinion"), "head", "bold"),
        Cell("", columns=len(offices), height=_OPINION_HEIGHT),
    ]
    body.table((3, 5, 5, 5), [[Cell(""), *(Cell(one) for one in offices)], *empty, opinion])


def _heading(body: Body, words: str) -> None:
    body.paragraph(words, "heading", "heading")


def _line(*values: str) -> list[Cell]:
    return [Cell(value, paragraph="centre") for value in values]


def _table(
    body: Body, columns: Mapping[str, Text], rows: Sequence[Row], widths: tuple[int, ...], voice: Voice
) -> None:
    head = [Cell(voice.of(label)) for label in columns.values()]
    body.table(widths, [head, *([_filled(row, name) for name in columns] for row in rows)])


def _filled(row: Row, name: str) -> Cell:
    """Return a cell of a row; a status has its colour, and its word beside it."""
    if name == "status" and row.status is not None:
        return Cell(row.cells[name], row.status, "bold", "centre")
    return Cell(row.cells[name], paragraph="centre" if name in {"weight", "before", "after"} else "cell")
