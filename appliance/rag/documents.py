"""Documents that strangers made, read without trusting them: one short-lived, confined process a file.

What a file claims to be is its ending; its first bytes must agree. The process is ``parsing.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import msgspec

import appliance
from appliance.errors import BadInput
from appliance.rag.parsing import DAMAGED, OUTPUT_BYTES, PARSERS, PROTECTED, TOO_MUCH, Parsed
from appliance.rag.passages import normalise, passages_of
from appliance.text import text

if TYPE_CHECKING:
    from appliance.format import Grade
    from appliance.rag.passages import Passage
    from appliance.text import Text

FILE_MAX_BYTES = 64 << 20
WALL_S = 90
AT_ONCE = 2  # each may take ``parsing.MEMORY_BYTES``
NAME_MAX_CHARACTERS = 200

_OLE = bytes.fromhex("d0cf11e0a1b11ae1")
_FIRST_BYTES = {".docx": b"PK\x03\x04", ".hwp": _OLE, ".hwpx": b"PK\x03\x04"}
#: ``-I`` keeps the current folder and the environment out, so the process is told where this code is.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from appliance.rag.parsing import main; main(sys.argv[2])"
)
_seats = threading.BoundedSemaphore(AT_ONCE)


def read_document(document: str, name: str, grade: Grade, content: bytes) -> tuple[Passage, ...]:
    """Return the passages of a file; ``document`` is its id, ``name`` what its ending is taken from.

    Raises ``BadInput`` where it is no such file, damaged, protected, empty, or costs too much to read.
    """
    suffix = suffix_of(name)
    _refuse_by_its_bytes(name, suffix, content)
    parsed = _parsed(suffix, content)
    if parsed.fault:
        raise BadInput(_words(parsed.fault), where=name, seen=parsed.detail, remedy=_remedy(parsed.fault))
    passages = passages_of(document, name, grade, parsed.blocks)
    if not passages:
        raise BadInput(
            text("the document holds no text"),
            where=name,
            remedy=text("if it is a scan, run text recognition (OCR) over it, and take it in again"),
        )
    return passages


def clean_name(name: str) -> str:
    """Return the last part of a file name, in composed Hangul; raises ``BadInput`` where none is left."""
    last = normalise(PurePath(name.replace("\\", "/")).name).replace("\n", " ")
    if not last.strip(". ") or len(last) > NAME_MAX_CHARACTERS:
        expected = text("1 to {limit} characters", limit=NAME_MAX_CHARACTERS)
        raise BadInput(text("this cannot be the name of a document"), expected=expected, seen=name[:300])
    return last


def suffix_of(name: str) -> str:
    """Return the ending that says which parser reads a file; raises ``BadInput`` where none does."""
    suffix = PurePath(name).suffix.lower()
    if suffix not in PARSERS:
        raise BadInput(
            text("files of this kind are not taken in"),
            where=name,
            expected=", ".join(sorted(PARSERS)),
            seen=suffix or text("no ending"),
            remedy=text("save the document as one of these, and take it in again"),
        )
    return suffix


def _refuse_by_its_bytes(name: str, suffix: str, content: bytes) -> None:
    if len(content) > FILE_MAX_BYTES:
        raise BadInput(
            text("the document is too large"), where=name, expected=f"<= {FILE_MAX_BYTES}", seen=len(content)
        )
    # The PDF specification lets up to 1024 bytes stand before its mark.
    agrees = (
        b"%PDF-" in content[:1024] if suffix == ".pdf" else content.startswith(_FIRST_BYTES.get(suffix, b""))
    )
    if not agrees:
        raise BadInput(
            text("the document is not what its ending says"),
            where=name,
            expected=suffix,
            seen=content[:8].hex(" ") or text("an empty file"),
            remedy=text("open it in its program, save it again under its right ending, and take that in"),
        )


def _parsed(suffix: str, content: bytes) -> Parsed:
    """Run the process; whatever way it ends becomes a fault."""
    root = str(Path(appliance.__file__).parent.parent)
    argv = [sys.executable, "-I", "-c", _PROGRAM, root, suffix]
    # A memory file, not a pipe: RLIMIT_FSIZE holds for it, and nobody waits for anybody.
    with _seats, os.fdopen(os.memfd_create("parsed"), "rb") as said:
        try:
            ended = subprocess.run(
                argv,
                input=content,
                stdout=said.fileno(),
                stderr=subprocess.DEVNULL,  # it would quote the document
                env={"LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"},
                timeout=WALL_S,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            return Parsed(fault=TOO_MUCH, detail=f"> {WALL_S} s")
        if ended.returncode != 0:
            return Parsed(fault=TOO_MUCH if ended.returncode < 0 else DAMAGED, detail=f"({ended.returncode})")
        said.seek(0)
        try:
            return msgspec.json.decode(said.read(OUTPUT_BYTES), type=Parsed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return Parsed(fault=DAMAGED, detail="no answer")


def _words(fault: str) -> Text:
    if fault == PROTECTED:
        return text("the document is locked by a password, a certificate or DRM")
    if fault == TOO_MUCH:
        return text("reading the document took more time or memory than a document may")
    return text("the document is damaged, or no such document")


def _remedy(fault: str) -> Text:
    if fault == PROTECTED:
        return text("take the protection off in its program, and take it in again")
    return text("open it in its program, save it again, and take that in; split a very large one")
