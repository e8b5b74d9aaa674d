"""The process that opens a document: confined first, then it parses, then it is gone.

It reads the file from standard input and writes one JSON object to standard output: ``blocks``, or a
``fault`` and its ``detail``. Whatever a document makes a parser do, this process reaches no network, starts
no program, and has bounded time, memory and output; what it says is taken by ``documents.py`` as data.
"""

from __future__ import annotations

import ctypes
import io
import os
import platform
import resource
import struct
import sys
import warnings
import zipfile
from typing import TYPE_CHECKING

import msgspec

from appliance.rag.passages import Block, normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from xml.etree.ElementTree import Element  # what lxml's look like, as far as used here

    from docx.table import Table, _Cell

MEMORY_BYTES = 1 << 30
CPU_S = 60
OUTPUT_BYTES = 64 << 20
UNPACKED_BYTES = 256 << 20
MEMBERS = 10_000
OPEN_FILES = 64

#: Per machine: the AUDIT_ARCH of linux/audit.h, then socket, socketpair, connect, execve, execveat, clone,
#: clone3, kill, ptrace and io_uring_setup (the way round the others), from the kernel's tables of system
#: calls; x86_64 has fork and vfork besides.
_REFUSED_CALLS = {
    "x86_64": (0xC000003E, (41, 53, 42, 59, 322, 56, 435, 62, 101, 425, 57, 58)),
    "aarch64": (0xC00000B7, (198, 199, 203, 221, 281, 220, 435, 129, 117, 425)),
}
_X32_CALLS = 0x40000000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_KILL, _ALLOW, _REFUSE = 0x80000000, 0x7FFF0000, 0x00050001  # the last: EPERM
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h


PROTECTED, DAMAGED, TOO_MUCH = "protected", "damaged", "too much"


class Fault(Exception):
    """Why there are no blocks: ``PROTECTED``, ``DAMAGED`` or ``TOO_MUCH``; the detail is for a person."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class Parsed(msgspec.Struct, frozen=True):
    """What the process says: blocks, or a fault and its detail."""

    blocks: list[Block] = msgspec.field(default_factory=list)
    fault: str = ""
    detail: str = ""


def main(suffix: str) -> None:
    """Confine this process, then parse standard input as a file that ends in ``suffix``."""
    parse = PARSERS[suffix]
    content = sys.stdin.buffer.read()
    confine()
    with os.fdopen(1, "wb") as output:
        output.write(msgspec.json.encode(said(parse, content)))


def said(parse: Callable[[bytes], Iterable[Block]], content: bytes) -> Parsed:
    """Return what a parser made of a file, faults included."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a parser's warnings quote the document
            # Normal text can always be written as JSON: no half of a surrogate pair, as PDFs have them.
            blocks = (Block(b.kind, b.number, normalise(b.text), b.section) for b in parse(content))
            return Parsed([block for block in blocks if block.text])
    except Fault as fault:
        return Parsed(fault=fault.kind, detail=fault.detail)
    except (MemoryError, RecursionError) as error:
        return Parsed(fault=TOO_MUCH, detail=type(error).__name__)


# --- Confinement --------------------------------------------------------------------------------------------


def confine() -> None:
    """Give up, for good, what parsing does not need; raises OSError where the kernel does not play along."""
    for limit, value in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, OUTPUT_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    libc = ctypes.CDLL(None, use_errno=True)
    program = ctypes.create_string_buffer(_filter_program())
    length = (len(program) - 1) // 8
    header = struct.pack("@HP", length, ctypes.addressof(program))
    for words in (
        (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
        (_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.create_string_buffer(header), 0, 0),
    ):
        if libc.prctl(*words) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), "prctl")


def _filter_program() -> bytes:
    """Return a seccomp filter (classic BPF): a foreign machine's calls kill, the refused ones get EPERM."""
    machine, calls = _REFUSED_CALLS[platform.machine()]
    steps = [
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_JUMP_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
        (_JUMP_AT_LEAST, len(calls) + 1, 0, _X32_CALLS),
        *((_JUMP_EQUAL, len(calls) - index, 0, call) for index, call in enumerate(calls)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


# --- One parser a kind --------------------------------------------------------------------------------------


def parse_text(content: bytes) -> Iterator[Block]:
    """Read text or Markdown in UTF-8, CP949 or UTF-16 with its mark; a line with ``#`` opens a section."""
    section, number = 1, 0
    for paragraph in _decoded(content).replace("\r\n", "\n").split("\n\n"):
        if paragraph.lstrip().startswith("#") and number:
            section, number = section + 1, 0
        if paragraph.strip():
            number += 1
            yield Block("paragraph", number, paragraph, section)


def _decoded(content: bytes) -> str:
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    for encoding in ("utf-16",) if marked else ("utf-8-sig", "cp949"):
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text
    raise Fault(DAMAGED, "neither UTF-8 nor CP949 text")


def parse_pdf(content: bytes) -> Iterator[Block]:
    """Read the text layer of a PDF, one block a page; a scanned page has none."""
    from pypdf import PdfReader  # noqa: PLC0415 - this process needs one parser only
    from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError  # noqa: PLC0415

    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise Fault(PROTECTED, "needs a password")
        for number, page in enumerate(reader.pages, 1):
            yield Block("page", number, page.extract_text())
    except (FileNotDecryptedError, DependencyError) as error:
        raise Fault(PROTECTED, str(error)) from error
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise Fault(DAMAGED, _named(error)) from error


def parse_docx(content: bytes) -> Iterator[Block]:
    """Read the body of a .docx: a heading opens a section, tables count through the document."""
    from docx import Document  # noqa: PLC0415 - as above
    from docx.text.paragraph import Paragraph  # noqa: PLC0415

    _refuse_bomb(content)
    section, number, tables = 1, 0, 0
    try:
        for item in Document(io.BytesIO(content)).iter_inner_content():
            if not isinstance(item, Paragraph):
                tables += 1
                yield Block("table", tables, _rows(_docx_rows(item)), section)
                continue
            if number and item.style is not None and (item.style.name or "").startswith("Heading"):
                section, number = section + 1, 0
            if item.text.strip():
                number += 1
                yield Block("paragraph", number, item.text, section)
    except (ValueError, KeyError, zipfile.BadZipFile, SyntaxError, AttributeError) as error:
        raise Fault(DAMAGED, _named(error)) from error


def _docx_rows(table: Table) -> Iterator[list[str]]:
    for row in table.rows:
        cells: list[_Cell] = []
        for cell in row.cells:
            if not cells or cell._tc is not cells[-1]._tc:  # noqa: SLF001 - a merged cell comes once a column
                cells.append(cell)
        yield [" ".join(cell.text.split()) for cell in cells]


def parse_hwp(content: bytes) -> Iterator[Block]:
    """Read a .hwpx or .hwp v5 file: its sections, paragraphs, tables, and the text in boxes and notes."""
    from hwpx import HwpxDocument  # noqa: PLC0415 - as above
    from hwpx.errors import Hwp5Error, HwpxError  # noqa: PLC0415

    if zipfile.is_zipfile(io.BytesIO(content)):
        _refuse_bomb(content)
    try:
        document = HwpxDocument.open(content)
    except Hwp5Error as error:
        guarded = error.code in {"hwp5-password", "hwp5-distribution", "hwp5-drm"}
        raise Fault(PROTECTED if guarded else DAMAGED, str(error)) from error
    except (HwpxError, ValueError, KeyError, zipfile.BadZipFile, SyntaxError, struct.error) as error:
        raise Fault(DAMAGED, _named(error)) from error
    tables = 0
    for section, part in enumerate(document.sections, 1):
        number = 0
        for paragraph in _children(part.element, "p"):
            text, found = _hwp_paragraph(paragraph)
            if text.strip():
                number += 1
                yield Block("paragraph", number, text, section)
            for table in found:
                tables += 1
                yield Block("table", tables, _rows(_hwp_rows(table)), section)


def _hwp_paragraph(paragraph: Element) -> tuple[str, list[Element]]:
    """Return the text of a paragraph, that of its boxes and notes after it, and its tables."""
    words: list[str] = []
    boxed: list[str] = []
    tables: list[Element] = []
    for part in (part for run in _children(paragraph, "run") for part in run):
        name = _local(part)
        if name == "t":
            words.append(_hwp_words(part))
        elif name == "tbl":
            tables.append(part)
        elif name != "secPr":
            boxed += [_hwp_flat(inner) for inner in _outermost(part, "p")]
    return "\n".join(["".join(words), *filter(None, boxed)]), tables


def _hwp_words(element: Element) -> str:
    words = [element.text or ""]
    for child in element:
        words.append({"tab": "\t", "lineBreak": "\n", "nbSpace": " ", "fwSpace": " "}.get(_local(child), ""))
        if _local(child) != "deleteBegin":
            words.append(child.tail or "")
    return "".join(words)


def _hwp_flat(paragraph: Element) -> str:
    """Return all text of a paragraph in a cell, a box or a note, with whatever is nested in it."""
    return " ".join(filter(None, (_hwp_words(t).strip() for t in paragraph.iter() if _local(t) == "t")))


def _hwp_rows(table: Element) -> Iterator[list[str]]:
    for row in _children(table, "tr"):
        yield [" ".join(_hwp_flat(p) for p in _outermost(cell, "p")) for cell in _children(row, "tc")]


def _outermost(element: Element, name: str) -> Iterator[Element]:
    """Yield the elements of that name below this one, none that stands in another of them."""
    for child in element:
        if _local(child) == name:
            yield child
        else:
            yield from _outermost(child, name)


def _children(element: Element, name: str) -> Iterator[Element]:
    return (child for child in element if _local(child) == name)


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""  # a comment has no name


def _rows(rows: Iterable[list[str]]) -> str:
    return "\n".join(" | ".join(cells) for cells in rows if any(cells))


def _refuse_bomb(content: bytes) -> None:
    """Refuse an archive that says it unpacks to more than it may; one that lies about it is cut there."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Fault(DAMAGED, _named(error)) from error
    if len(members) > MEMBERS or sum(member.file_size for member in members) > UNPACKED_BYTES:
        detail = f"unpacks to more than {UNPACKED_BYTES} bytes or {MEMBERS} files"
        raise Fault(TOO_MUCH, detail)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]


PARSERS: dict[str, Callable[[bytes], Iterator[Block]]] = {
    ".docx": parse_docx,
    ".hwp": parse_hwp,
    ".hwpx": parse_hwp,
    ".md": parse_text,
    ".pdf": parse_pdf,
    ".txt": parse_text,
}
