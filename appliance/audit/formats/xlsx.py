"""The report as a workbook: a summary, then one row per item in the layout that officers fill in.

Text only: no cell is a formula or a link, whatever it begins with, because much of it comes from the server
that was audited. The same edition gives the same bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

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
    signed,
    title,
    warnings,
    when,
)
from appliance.audit.formats.workbook import Book
from appliance.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from appliance.audit.edition import Edition
    from appliance.audit.formats.rows import Row
    from appliance.audit.formats.workbook import Sheet
    from appliance.text import Text

_PACKAGE = "XlsxWriter"
#: Widths in characters; what a person writes has room.
_WIDTHS = {
    "id": 10,
    "area": 13,
    "title": 22,
    "weight": 10,
    "status": 11,
    "observed": 36,
    "expected": 24,
    "where": 18,
    "remedy": 30,
    "owner": 9,
    "due": 9,
    "note": 28,
    "decision": 12,
    "applies_to": 26,
    "standing": 11,
    "until": 12,
    "by": 22,
    "reason": 40,
    "ticket": 16,
    "used_for": 26,
}
_CENTRED = frozenset({"weight", "status", "standing", "until", "decision"})
#: Number, area and title stay where they are while one scrolls to what is to be done.
_FROZEN_COLUMNS = 3
_SUMMARY_WIDTHS = (34, 20, *(11,) * 8)


def render(edition: Edition) -> bytes:
    """Return the workbook. ``Unavailable`` without XlsxWriter."""
    try:
        import xlsxwriter  # noqa: PLC0415 - only the controller environment has it
    except ImportError as error:
        raise needs(_PACKAGE) from error

    edition = closed(edition)
    voice, content = Voice(edition.language), io.BytesIO()
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    book = Book(xlsxwriter.Workbook(content, options), edition, voice)
    _write_summary(book.sheet(voice.saying("summary")), edition, voice)
    _write_guides(book, edition, voice)
    _write_checks(book, edition, voice)
    _write_decisions(book, edition, voice)
    _write_limits(book, edition, voice)
    book.close()
    return content.getvalue()


# --- The summary -------------------------------------------------------------------------------------------


def _write_summary(sheet: Sheet, edition: Edition, voice: Voice) -> None:
    sheet.widths(_SUMMARY_WIDTHS)
    sheet.line(title(edition, voice), style="title")
    for mark in (graded(edition, voice), *warnings(edition, voice)):
        sheet.line(mark, style="grade")
    sheet.line(voice.label("subtitle"), style="small")
    for label, value in about(edition, voice):
        sheet.beside([label], "head")
        sheet.wide(value, columns=9, style="cell", start=1)
    _write_counts(sheet, edition, voice)
    _write_areas(sheet, edition, voice)
    _write_guide_scores(sheet, edition, voice)
    _write_changes(sheet, edition, voice)
    _write_trend(sheet, edition, voice)
    _write_urgent(sheet, edition, voice)


def _write_counts(sheet: Sheet, edition: Edition, voice: Voice) -> None:
    _heading(sheet, f"{voice.saying('counts')} ({len(edition.result.results)})")
    sheet.cells([voice.label("score"), *(voice.status(one) for one in SHOWN_ORDER)], "head")
    score: str | int = NOTHING if edition.result.score is None else edition.result.score
    sheet.cells([score, *(edition.result.counts[one] for one in SHOWN_ORDER)], "large", height=32)
    sheet.line(voice.label("score_note"), style="small")


def _write_areas(sheet: Sheet, edition: Edition, voice: Voice) -> None:
    _heading(sheet, voice.label("areas"))
    sheet.cells([voice.label("area"), voice.label("score"), voice.saying("passed")], "head", height=28)
    styles = ("cell", "number", "centre")
    for one in edition.result.scores:
        of = f"{one.passed} / {one.counted}"
        sheet.cells([voice.said(one.name), NOTHING if one.share is None else one.share, of], styles)
    sheet.bars(1, len(edition.result.scores))


def _write_guide_scores(sheet: Sheet, edition: Edition, voice: Voice) -> None:
    _heading(sheet, voice.label("guides"))
    statuses = [voice.status(one) for one in SHOWN_ORDER]
    head = [voice.label("guide"), voice.label("guide_score"), *statuses]
    sheet.cells([*head, voice.saying("asked"), voice.label("attested")], "head", height=28)
    for one in edition.result.guides:
        counts = [one.counts[status] for status in SHOWN_ORDER]
        score = NOTHING if one.score is None else one.score
        row = [printable(one.label), score, *counts, sum(counts), one.attested]
        sheet.cells(row, ["cell", *["number"] * (len(row) - 1)])
    sheet.bars(1, len(edition.result.guides))
    sheet.wide(voice.label("guide_score_note"), columns=10, style="small")


def _write_changes(sheet: Sheet, edition: Edition, voice: Voice) -> None:
    heading = changed_title(edition, voice)
    if not heading:
        return
    _heading(sheet, heading)
    rows = change_rows(edition, voice)
    if not rows:
        return
    sheet.beside([voice.of(CHANGE_COLUMNS[name]) for name in ("id", "before", "after")], "head")
    sheet.wide(voice.of(CHANGE_COLUMNS["title"]), columns=7, style="head", start=3)
    for row in rows:
        sheet.beside([row.cells[name] for name in ("id", "before", "after")], ("cell", "centre", "centre"))
        sheet.wide(row.cells["title"], columns=7, style="cell", start=3)
    sheet.coloured(1, len(rows))
    sheet.coloured(2, len(rows))


def _write_trend(sheet: Sheet, edition: Edition, voice: Voice) -> None:
    rows = trend_rows(edition, voice)
    if not rows:
        return
    _heading(sheet, voice.saying("trend"))
    names = ["release", "taken", "number", "score", *SHOWN_ORDER]
    sheet.cells([voice.of(TREND_COLUMNS[name]) for name in names], "head", height=28)
    for row in rows:
        texts = [row.cells[name] for name in names[:2]]
        numbers = [_number(row.cells[name]) for name in names[2:]]
        sheet.cells([*texts, *numbers], ["cell", "cell", *["number"] * len(numbers)])
    sheet.bars(3, len(rows))


def _write_urgent(sheet: Sheet, edition: Edition, voice: Voice) -> None:
    rows = urgent_rows(edition.result, voice)
    _heading(sheet, f"{voice.label('urgent')} ({len(rows)})")
    if not rows:
        sheet.line(voice.label("nothing_urgent"))
        return
    sheet.beside([voice.label("check"), voice.label("status"), voice.label("importance")], "head")
    sheet.wide(voice.of(COLUMNS["remedy"]), columns=7, style="head", start=3)
    for row in rows:
        sheet.beside(
            [row.cells[name] for name in ("title", "status", "weight")], ("cell", "centre", "centre")
        )
        sheet.wide(row.cells["remedy"], columns=7, style="cell", start=3)
    sheet.coloured(1, len(rows))


def _heading(sheet: Sheet, value: str) -> None:
    sheet.skip()
    sheet.cells([value, *[""] * (len(_SUMMARY_WIDTHS) - 1)], "heading")


def _number(value: str) -> str | int:
    return int(value) if value.isascii() and value.isdigit() else value


# --- One row per item --------------------------------------------------------------------------------------


def _write_guides(book: Book, edition: Edition, voice: Voice) -> None:
    results = {one.id: one for one in edition.result.results}
    for guide in edition.result.guides:
        own = f" ({voice.label('own_guide')})" if guide.own else ""
        sheet = book.sheet(guide.label)
        _head(sheet, edition, voice, printable(f"{voice.said(guide.title)} {guide.edition}{own}"))
        for note in guide.notes:
            sheet.line(voice.said(note), style="small")
        _table(sheet, COLUMNS, item_rows(guide, results, voice), voice)


def _write_checks(book: Book, edition: Edition, voice: Voice) -> None:
    sheet = book.sheet(voice.label("all"))
    _head(sheet, edition, voice, voice.label("all"))
    _table(sheet, COLUMNS, check_rows(edition.result, voice), voice)


def _write_decisions(book: Book, edition: Edition, voice: Voice) -> None:
    sheet = book.sheet(voice.label("decisions"))
    _head(sheet, edition, voice, voice.label("decisions"))
    for file in edition.result.site_files:
        told = f"{voice.label('site_files')}: {file.path} SHA-256 {file.sha256}"
        sheet.line(printable(told), style="small")
    _table(sheet, DECISION_COLUMNS, decision_rows(edition.result, voice), voice)


def _write_limits(book: Book, edition: Edition, voice: Voice) -> None:
    sheet = book.sheet(voice.saying("limits_and_signatures"))
    sheet.widths([16, 34, 34, 34])
    sheet.line(title(edition, voice), style="title")
    sheet.line(graded(edition, voice), style="grade")
    sheet.skip()
    sheet.cells([voice.label("limits"), "", "", ""], "heading")
    for one in limits(voice):
        sheet.wide(f"• {one}", columns=4)
    sheet.skip()
    sheet.cells([voice.label("signature"), "", "", ""], "heading")
    for words in signed(edition, voice):
        sheet.wide(words, columns=4)
    sheet.cells(["", *(voice.label(one) for one in ("operator", "officer", "approver"))], "head")
    for name, height in (("name", 24), ("date", 24), ("sign", 48)):
        sheet.cells([voice.label(name), "", "", ""], "box", height=height)
    sheet.wide(voice.label("opinion"), columns=4, style="box", height=90)


def _head(sheet: Sheet, edition: Edition, voice: Voice, name: str) -> None:
    sheet.line(f"{title(edition, voice)} - {name}", style="title")
    host = f"{voice.label('host')}: {edition.result.host}"
    taken = f"{voice.label('taken')}: {when(edition.result.taken, edition)}"
    sheet.line(printable(f"{graded(edition, voice)} · {host} · {taken}"), style="grade")


def _table(sheet: Sheet, columns: Mapping[str, Text], rows: Sequence[Row], voice: Voice) -> None:
    """Write a table that can be filtered."""
    names = list(columns)
    sheet.widths([_WIDTHS[name] for name in names])
    sheet.table_head([voice.of(label) for label in columns.values()], _FROZEN_COLUMNS)
    styles = ["centre" if name in _CENTRED else "cell" for name in names]
    for row in rows:
        sheet.cells([row.cells[name] for name in names], styles)
    sheet.table_end(names.index("status") if "status" in names else None)
