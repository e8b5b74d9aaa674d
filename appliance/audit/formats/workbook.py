"""A workbook written from top to bottom: sheets that print, filter and hold text as text."""

from __future__ import annotations

import re
from datetime import timezone
from typing import TYPE_CHECKING

from appliance.audit.formats.voice import NOTHING, graded, title, when
from appliance.audit.words import STATUS_WORDS
from appliance.text import printable, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

    from appliance.audit.edition import Edition
    from appliance.audit.formats.voice import Voice

#: What Excel takes: UTF-16 units in a cell, characters of a sheet's name, of a header or footer.
CELL_MOST = 32_767
_NAME_MOST = 31
_MARGIN_TEXT_MOST = 80
_A4 = 9
_LINE_POINTS = 12.5
_HIGHEST_POINTS = 409
#: A column's width counts digits of 11 points; ours have 9.
_SMALL_LETTERS = 1.15
_FONT = "맑은 고딕"
_LINE = "#B8BEC6"
#: Fill and letters of a status; colours that stay apart in grey as well.
_TONES = {
    "pass": ("#E3F1E5", "#1D5B2A"),
    "fail": ("#F8D3D0", "#8C1512"),
    "unknown": ("#DCDFE4", "#33383F"),
    "exception": ("#FBE6C2", "#7A4A00"),
    "manual": ("#DDE8F7", "#1F4279"),
    "not-applicable": ("#FFFFFF", "#7A828C"),
}
_BOXED = {"border": 1, "border_color": _LINE, "text_wrap": True, "valign": "top"}
_STYLES: dict[str, dict[str, object]] = {
    "plain": {},
    "title": {"font_size": 14, "bold": True},
    "grade": {"bold": True, "font_color": "#8C1512"},
    "heading": {"font_size": 11, "bold": True, "bottom": 2, "bottom_color": "#33383F"},
    "small": {"font_size": 8, "font_color": "#555C66"},
    "head": {**_BOXED, "bold": True, "bg_color": "#E8EBF0", "align": "center", "valign": "vcenter"},
    "cell": _BOXED,
    "centre": {**_BOXED, "align": "center"},
    "number": {**_BOXED, "align": "center", "num_format": "0"},
    "large": {**_BOXED, "align": "center", "num_format": "0", "font_size": 20, "bold": True},
    "box": {**_BOXED, "bold": True},
    "wrapped": {"text_wrap": True, "valign": "top"},
}


class Book:
    """A workbook in the making, over XlsxWriter's."""

    def __init__(self, workbook: Workbook, edition: Edition, voice: Voice) -> None:
        self._book, self._edition, self._voice = workbook, edition, voice
        self._names: set[str] = set()
        self.styles = {name: workbook.add_format(self._font(found)) for name, found in _STYLES.items()}
        self.tones = {
            voice.of(STATUS_WORDS[status]): workbook.add_format({"bg_color": fill, "font_color": letters})
            for status, (fill, letters) in _TONES.items()
        }
        taken = edition.result.taken.astimezone(timezone.utc).replace(tzinfo=None)
        workbook.set_properties({"title": title(edition, voice), "author": "Banip", "created": taken})
        workbook.set_size(24_000, 15_000)

    def sheet(self, wanted: str) -> Sheet:
        """Add a sheet that prints on A4 across, as wide as the paper, marked with grade and chain."""
        sheet = self._book.add_worksheet(sheet_name(wanted, self._names))
        sheet.set_landscape()
        sheet.set_paper(_A4)
        sheet.set_margins(left=0.4, right=0.4, top=0.7, bottom=0.6)
        sheet.fit_to_pages(1, 0)
        sheet.hide_gridlines(2)
        edition, voice = self._edition, self._voice
        name = f"{title(edition, voice)} · {edition.result.host}"
        sheet.set_header(f"&L&8 {_margin(name)}&R&8 {_margin(graded(edition, voice))}")
        taken = when(edition.result.taken, edition)
        sheet.set_footer(f"&L&7 {_margin(edition.head or NOTHING)}&R&8 {_margin(taken)}   &P / &N")
        return Sheet(sheet, self)

    def fitting(self, value: str) -> str:
        """Return text that a cell can hold; where something is cut, the cell says so."""
        if _units(value) <= CELL_MOST:
            return value
        kept = value.encode("utf-16-le")[: 2 * (CELL_MOST - 100)].decode("utf-16-le", "ignore")
        left = len(value) - len(kept)
        cut = text("[cut here: {count} more characters, whole in audit.json]", count=left)
        return f"{kept} {self._voice.of(cut)}"

    def close(self) -> None:
        """Write what was made."""
        self._book.close()

    @staticmethod
    def _font(found: dict[str, object]) -> dict[str, object]:
        return {"font_name": _FONT, "font_size": 9, **found}


class Sheet:
    """A sheet that is written line by line; it remembers where it is."""

    def __init__(self, sheet: Worksheet, book: Book) -> None:
        self._sheet, self._book = sheet, book
        self._row = 0
        self._head = (0, 0)
        self._widths: list[float] = []
        self._beside = 0.0

    def widths(self, widths: Sequence[float]) -> None:
        """Set the columns' widths in characters."""
        self._widths = list(widths)
        for column, width in enumerate(widths):
            self._sheet.set_column(column, column, width)

    def line(self, value: str, style: str = "plain") -> None:
        """Write one line of text over the columns to its right."""
        self._text(0, value, style)
        self._row += 1

    def skip(self) -> None:
        """Leave a line empty."""
        self._row += 1

    def cells(self, values: Sequence[str | int], style: str | Sequence[str], height: float = 0) -> None:
        """Write a row, as high as its texts need; numbers stay numbers."""
        styles = [style] * len(values) if isinstance(style, str) else style
        wrapped = zip(values, styles, self._widths, strict=False)
        needed = [
            _height(one, width) for one, name, width in wrapped if isinstance(one, str) and _wraps(name)
        ]
        self._sheet.set_row(self._row, max(height, *needed, _LINE_POINTS + 2))
        for column, (value, name) in enumerate(zip(values, styles, strict=True)):
            if isinstance(value, str):
                self._text(column, value, name)
            else:
                self._sheet.write_number(self._row, column, value, self._book.styles[name])
        self._row += 1

    def wide(
        self, value: str, columns: int, style: str = "wrapped", height: float = 0, start: int = 0
    ) -> None:
        """Write text into one cell over several columns, as high as it needs."""
        needed = _height(value, sum(self._widths[start : start + columns]))
        self._sheet.set_row(self._row, max(height, needed, self._beside))
        self._beside = 0.0
        last = start + columns - 1
        self._sheet.merge_range(self._row, start, self._row, last, "", self._book.styles[style])
        self._text(start, value, style)
        self._row += 1

    def beside(self, values: Sequence[str], style: str | Sequence[str]) -> None:
        """Write cells into the row that comes next, which a wide text will end."""
        styles = [style] * len(values) if isinstance(style, str) else style
        for column, (value, name) in enumerate(zip(values, styles, strict=True)):
            self._text(column, value, name)
            self._beside = max(self._beside, _height(value, self._widths[column]))

    def bars(self, column: int, rows: int) -> None:
        """Show the scores in the rows just written as bars as well."""
        bar = {
            "type": "data_bar",
            "bar_solid": True,
            "bar_color": "#A9C4E4",
            "min_type": "num",
            "min_value": 0,
        }
        area = (self._row - rows, column, self._row - 1, column)
        self._sheet.conditional_format(*area, {**bar, "max_type": "num", "max_value": 100})

    def coloured(self, column: int, rows: int) -> None:
        """Colour the statuses in the rows just written."""
        area = (self._row - rows, column, self._row - 1, column)
        for word, tone in self._book.tones.items():
            rule = {"type": "cell", "criteria": "==", "value": f'"{word}"', "format": tone}
            self._sheet.conditional_format(*area, rule)

    # --- A table that can be filtered ----------------------------------------------------------------------

    def table_head(self, labels: Sequence[str], frozen_columns: int = 0) -> None:
        """Write the head of the sheet's table: it stays on the screen and comes back on every page."""
        self._head = (self._row, len(labels))
        self._sheet.repeat_rows(self._row)
        self._sheet.freeze_panes(self._row + 1, frozen_columns)
        self.cells(labels, "head", height=30)

    def table_end(self, status: int | None) -> None:
        """End the table: filters over all of it, and the statuses' colours in that column."""
        first, columns = self._head
        rows = self._row - first - 1
        self._sheet.autofilter(first, 0, self._row - 1, columns - 1)
        if rows:
            self._sheet.ignore_errors(
                {"number_stored_as_text": f"A{first + 2}:{chr(64 + columns)}{self._row}"}
            )
        if rows and status is not None:
            self.coloured(status, rows)

    def _text(self, column: int, value: str, style: str) -> None:
        """Write text and nothing but text, whatever it begins with; an empty cell hides no text beside it."""
        if value:
            self._sheet.write_string(self._row, column, self._book.fitting(value), self._book.styles[style])
        else:
            self._sheet.write_blank(self._row, column, None, self._book.styles[style])


def sheet_name(wanted: str, taken: set[str]) -> str:
    """Return a name that a workbook takes: short, without signs of its own, not there yet in any case."""
    name = re.sub(r"[\[\]:*?/\\]", " ", printable(wanted)).strip("' ")[:_NAME_MOST].strip("' ") or NOTHING
    found, number = name, 2
    while found.lower() in taken or found.lower() == "history":
        tail = f" ({number})"
        found, number = name[: _NAME_MOST - len(tail)] + tail, number + 1
    taken.add(found.lower())
    return found


def _margin(value: str) -> str:
    """Return text for a header or a footer, where an ampersand would be a command."""
    return printable(value)[:_MARGIN_TEXT_MOST].replace("\n", " ").replace("&", "&&")


def _units(value: str) -> int:
    """Return how long Excel finds a text, in UTF-16 units."""
    return len(value) if value.isascii() else len(value.encode("utf-16-le")) // 2


def _wraps(style: str) -> bool:
    return "text_wrap" in _STYLES[style]


def _height(value: str, width: float) -> float:
    """Return how high a text in a cell of this width needs to be, in points.

    Not every program fits a row to its text when it opens a workbook, so rows come with their heights.
    """
    most = width * _SMALL_LETTERS
    lines = sum(1 + int((_display_width(one) - 1) / most) for one in value.split("\n"))
    return min(_HIGHEST_POINTS, 2 + _LINE_POINTS * lines)


def _display_width(value: str) -> int:
    """Return how many columns of a fixed font a text takes: a Hangul syllable is two, as in this encoding."""
    return len(value.encode("cp949", "replace"))
