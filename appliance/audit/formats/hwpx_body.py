"""The body of an HWPX document, written from top to bottom: paragraphs, tables, running head and foot.

What is written here is OWPML (KS X 6101) as Hancom's own documents have it; the styles that it refers to and
the package around it are python-hwpx's. No line is laid out: an editor does that when it opens the document.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.sax.saxutils import escape

from appliance.text import printable

#: Width of the text in HWP units (1/7200 inch): A4 with 15 mm left and right.
TEXT_WIDTH = 51_024
MARGIN_MM = 15
_MARGIN = 4_252
_ROW_HEIGHT = 282
_LIST = (
    'textDirection="HORIZONTAL" lineWrap="BREAK" linkListIDRef="0" linkListNextIDRef="0" hasTextRef="0"'
    ' hasNumRef="0"'
)
_CELL_MARGIN = 'left="510" right="510" top="141" bottom="141"'


@dataclass(frozen=True, slots=True)
class Styles:
    """Styles by name, as the document's header numbers them: letters, paragraphs, borders with their fill."""

    letters: dict[str, str]
    paragraphs: dict[str, str]
    borders: dict[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table; ``columns``: how many it reaches over, ``height``: at least, in HWP units."""

    text: str
    border: str = "cell"
    letters: str = "small"
    paragraph: str = "cell"
    columns: int = 1
    height: int = _ROW_HEIGHT


class Body:
    """A section in the making."""

    def __init__(self, styles: Styles) -> None:
        self._styles = styles
        self._parts: list[str] = []
        self._ids = 0

    def paragraph(self, text: str, letters: str = "text", paragraph: str = "text") -> None:
        """Add a paragraph for each line."""
        self._parts.append(self._paragraph(text, letters, paragraph))

    def table(self, widths: tuple[int, ...], rows: list[list[Cell]], *, head: bool = True) -> None:
        """Add a table of these shares of the text's width; its head comes back on every page."""
        columns = _shared(TEXT_WIDTH, widths)
        lines = "".join(
            self._row(number, row, columns, head=head and number == 0) for number, row in enumerate(rows)
        )
        height = sum(max(cell.height for cell in row) for row in rows)
        self._parts.append(
            f'{self._open("text")}<hp:run charPrIDRef="{self._styles.letters["text"]}">'
            f'<hp:tbl id="{self._next()}" zOrder="0" numberingType="TABLE" textWrap="TOP_AND_BOTTOM"'
            ' textFlow="BOTH_SIDES" lock="0" dropcapstyle="None" pageBreak="CELL"'
            f' repeatHeader="{int(head)}" rowCnt="{len(rows)}" colCnt="{len(columns)}" cellSpacing="0"'
            f' borderFillIDRef="{self._styles.borders["cell"]}" noAdjust="0">'
            f'<hp:sz width="{TEXT_WIDTH}" widthRelTo="ABSOLUTE" height="{height}" heightRelTo="ABSOLUTE"'
            ' protect="0"/><hp:pos treatAsChar="0" affectLSpacing="0" flowWithText="1" allowOverlap="0"'
            ' holdAnchorAndSO="0" vertRelTo="PARA" horzRelTo="COLUMN" vertAlign="TOP" horzAlign="LEFT"'
            ' vertOffset="0" horzOffset="0"/><hp:outMargin left="0" right="0" top="141" bottom="141"/>'
            f"<hp:inMargin {_CELL_MARGIN}/>{lines}</hp:tbl><hp:t/></hp:run></hp:p>"
        )

    def section(self, empty: str, head: str, foot: str) -> str:
        """Return the section: that of an empty document with this body, its head and foot on every page.

        ``ValueError`` for an empty document that is not the one this was written against.
        """
        opened = re.match(r".*?<hs:sec[^>]*>", empty, re.DOTALL)
        settings = re.search(r"<hp:secPr.*?</hp:secPr>", empty, re.DOTALL)
        columns = re.search(r"<hp:ctrl><hp:colPr[^>]*/></hp:ctrl>", empty)
        if opened is None or settings is None or columns is None:
            message = "an empty document without section settings"
            raise ValueError(message)
        running = self._running("header", head, "TOP") + self._running("footer", foot, "BOTTOM")
        letters = self._styles.letters["small"]
        # Settings stand in a section's first paragraph. It has no words: some readers would lose them.
        begun = (
            f'{self._open("text")}<hp:run charPrIDRef="{letters}">{settings[0]}{columns[0]}{running}</hp:run>'
        )
        return f"{opened[0]}{begun}</hp:p>{''.join(self._parts)}</hs:sec>"

    # --- Parts ---------------------------------------------------------------------------------------------

    def _row(self, number: int, row: list[Cell], widths: list[int], *, head: bool) -> str:
        cells, column = [], 0
        for cell in row:
            width = sum(widths[column : column + cell.columns])
            cells.append(self._cell(cell, column, number, width, head=head))
            column += cell.columns
        return f"<hp:tr>{''.join(cells)}</hp:tr>"

    def _cell(self, cell: Cell, column: int, row: int, width: int, *, head: bool) -> str:
        border = self._styles.borders["head" if head else cell.border]
        letters, paragraph = ("bold", "centre") if head else (cell.letters, cell.paragraph)
        return (
            f'<hp:tc name="" header="{int(head)}" hasMargin="0" protect="0" editable="0" dirty="0"'
            f' borderFillIDRef="{border}">'
            f'<hp:subList id="" {_LIST} vertAlign="CENTER" textWidth="0" textHeight="0">'
            f"{self._paragraph(cell.text, letters, paragraph)}</hp:subList>"
            f'<hp:cellAddr colAddr="{column}" rowAddr="{row}"/>'
            f'<hp:cellSpan colSpan="{cell.columns}" rowSpan="1"/>'
            f'<hp:cellSz width="{width}" height="{cell.height}"/><hp:cellMargin {_CELL_MARGIN}/></hp:tc>'
        )

    def _paragraph(self, text: str, letters: str, paragraph: str) -> str:
        """Return a paragraph for each line: some readers lose breaks within one."""
        lines = printable(text).split("\n")
        return "".join(f"{self._open(paragraph)}{self._run(line, letters)}</hp:p>" for line in lines)

    def _open(self, paragraph: str) -> str:
        return (
            f'<hp:p id="{self._next()}" paraPrIDRef="{self._styles.paragraphs[paragraph]}" styleIDRef="0"'
            ' pageBreak="0" columnBreak="0" merged="0">'
        )

    def _run(self, text: str, letters: str) -> str:
        words = escape(printable(text).replace("\t", " "))
        return f'<hp:run charPrIDRef="{self._styles.letters[letters]}"><hp:t>{words}</hp:t></hp:run>'

    def _running(self, kind: str, text: str, align: str) -> str:
        """Return what stands on every page; the foot ends with the page's number."""
        counted = ""
        if kind == "footer":
            shape = '<hp:autoNumFormat type="DIGIT" userChar="" prefixChar="" suffixChar="" supscript="0"/>'
            page, total = (
                f'<hp:run charPrIDRef="{self._styles.letters["small"]}"><hp:ctrl><hp:autoNum num="1"'
                f' numType="{name}">{shape}</hp:autoNum></hp:ctrl></hp:run>'
                for name in ("PAGE", "TOTAL_PAGE")
            )
            counted = f"{page}{self._run(' / ', 'small')}{total}"
        return (
            f'<hp:ctrl><hp:{kind} id="{self._next()}" applyPageType="BOTH"><hp:subList id="" {_LIST}'
            f' vertAlign="{align}" textWidth="{TEXT_WIDTH}" textHeight="{_MARGIN}">{self._open("centre")}'
            f"{self._run(text, 'small')}{counted}</hp:p></hp:subList></hp:{kind}></hp:ctrl>"
        )

    def _next(self) -> int:
        self._ids += 1
        return self._ids


def _shared(whole: int, shares: tuple[int, ...]) -> list[int]:
    """Return a whole in these shares; nothing is lost by rounding."""
    total, given, found = sum(shares), 0, []
    for number in range(1, len(shares) + 1):
        until = whole * sum(shares[:number]) // total
        found.append(until - given)
        given = until
    return found
