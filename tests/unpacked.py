"""Reports read back without the libraries that wrote them: workbooks and documents as rows of text."""

from __future__ import annotations

import io
import re
import zipfile
from dataclasses import dataclass
from functools import cached_property
from xml.etree import ElementTree as ET

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_PARAGRAPH = "{http://www.hancom.co.kr/hwpml/2011/paragraph}"
_ESCAPED = re.compile(r"_x005F(_x[0-9A-Fa-f]{4}_)")


@dataclass(frozen=True)
class Workbook:
    """A workbook's parts: sheets by name, each cell by its reference."""

    parts: dict[str, bytes]

    @cached_property
    def names(self) -> list[str]:
        found = _tree(self.parts["xl/workbook.xml"])
        return [one.attrib["name"] for one in found.iter(f"{_MAIN}sheet")]

    def sheet(self, name: str) -> ET.Element:
        return _tree(self.parts[f"xl/worksheets/sheet{self.names.index(name) + 1}.xml"])

    def cells(self, name: str) -> dict[str, str | float]:
        return {one.attrib["r"]: self._value(one) for one in self.sheet(name).iter(f"{_MAIN}c") if len(one)}

    def rows(self, name: str) -> list[list[str | float]]:
        return [
            [self._value(one) for one in row.iter(f"{_MAIN}c")]
            for row in self.sheet(name).iter(f"{_MAIN}row")
        ]

    @cached_property
    def strings(self) -> list[str]:
        found = _tree(self.parts["xl/sharedStrings.xml"])
        return ["".join(one.itertext()) for one in found.iter(f"{_MAIN}si")]

    def _value(self, cell: ET.Element) -> str | float:
        value = cell.find(f"{_MAIN}v")
        if value is None or value.text is None:
            return ""
        if cell.get("t") == "s":
            return _ESCAPED.sub(r"\1", self.strings[int(value.text)])
        return float(value.text)


def _tree(content: bytes) -> ET.Element:
    return ET.fromstring(content)  # noqa: S314 - what this process has just written


def parts_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def workbook(content: bytes) -> Workbook:
    return Workbook(parts_of(content))


def hwpx_tables(content: bytes) -> list[list[list[str]]]:
    """Return the tables of a document, each as rows of cells."""
    section = _tree(parts_of(content)["Contents/section0.xml"])
    return [
        [[_lines(cell) for cell in row.iter(f"{_PARAGRAPH}tc")] for row in table.iter(f"{_PARAGRAPH}tr")]
        for table in section.iter(f"{_PARAGRAPH}tbl")
    ]


def hwpx_text(content: bytes) -> str:
    """Return all words of a document, running head and foot included."""
    return _lines(_tree(parts_of(content)["Contents/section0.xml"]))


def _lines(element: ET.Element) -> str:
    """Return a line for each paragraph, without the words of tables, heads and feet inside it."""
    own = f"{_PARAGRAPH}run/{_PARAGRAPH}t"
    found = element.iter(f"{_PARAGRAPH}p")
    return "\n".join("".join(words.text or "" for words in one.findall(own)) for one in found)
