"""Documents of every format are read as they stand; bad ones are refused by name, and hurt nobody."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
import zlib
from functools import cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import msgspec
import pytest
from pypdf import PdfReader, PdfWriter

from appliance.errors import BadInput
from appliance.rag import documents
from appliance.rag.documents import clean_name, read_document
from appliance.rag.parsing import PARSERS, said
from appliance.rag.passages import Block
from tests import samples
from tests.samples import PAGE, SAMPLES, content_of, sample
from tests.sources.hwp5 import COMPRESSED, LOCKED, compound_file, hwp5_file

if TYPE_CHECKING:
    from appliance.rag.passages import Passage
    from tests.samples import Sample

pytestmark = pytest.mark.real

PROJECT = Path(__file__).parent.parent
DOCUMENT = "0" * 64
HWP = content_of(sample("액체질소탱크-점검지침.hwp"))
HWPX = content_of(sample("비상대응-안내서.hwpx"))
DOCX = content_of(sample("보안위원회-회의록.docx"))


def pdf() -> bytes:
    """Return the sample PDF; a function, because Chromium should not start when tests are collected."""
    return content_of(sample("출장비-지급규정.pdf"))


def read(name: str, content: bytes) -> tuple[Passage, ...]:
    return read_document(DOCUMENT, name, "S", content)


def refused(name: str, content: bytes) -> str:
    """Read what must be refused; return what an operator is told."""
    with pytest.raises(BadInput) as caught:
        read(name, content)
    assert caught.value.where == name
    assert caught.value.remedy is not None
    return caught.value.happened.render("en")


DAMAGED = "the document is damaged, or no such document"
TOO_MUCH = "reading the document took more time or memory than a document may"
LOCKED_WORDS = "the document is locked by a password, a certificate or DRM"
NOT_ITS_ENDING = "the document is not what its ending says"


# --- What is read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("each", SAMPLES, ids=lambda each: each.name)
def test_every_sentence_and_every_row_of_a_document_is_read(each: Sample) -> None:
    found = read(each.name, content_of(each))
    whole = "\n".join(passage.text for passage in found)
    for part in each.parts:
        if isinstance(part, str):
            assert part.removeprefix("# ").strip() in whole
        elif not each.name.endswith(".pdf"):
            assert "\n".join(" | ".join(row) for row in part) in whole
    assert {(passage.name, passage.grade, passage.document) for passage in found} == {
        (each.name, "S", DOCUMENT)
    }


def test_every_format_has_a_sample() -> None:
    assert {PurePath(each.name).suffix for each in SAMPLES} == set(PARSERS)


def test_a_pdf_is_cited_by_page() -> None:
    found = read("규정.pdf", pdf())
    assert [each.place for each in found] == ["1쪽", "2쪽", "3쪽"]
    assert "93,000원" in found[1].text


def test_hwp_is_cited_by_section_paragraph_and_table() -> None:
    found = {each.place: each.text for each in read("안내서.hwpx", HWPX)}
    assert list(found) == ["1절 1~3문단", "표 1", "1절 4문단"]
    assert "정전 | 내선 7240 | 전기실 당직" in found["표 1"]


def test_headings_open_sections_in_docx_and_markdown() -> None:
    assert [each.place for each in read("회의록.docx", DOCX)] == ["1절 1~2문단", "2절 1~3문단", "3절 1~2문단"]
    markdown = read("안내.md", "# 하나\n\n글\n\n# 둘\n\n글".encode())
    assert [each.place for each in markdown] == ["1절 1~2문단", "2절 1~2문단"]


def test_text_in_a_box_a_note_and_a_nested_table_of_hwp_is_read() -> None:
    from hwpx import HwpxDocument  # noqa: PLC0415 - heavy

    document = HwpxDocument.new()
    document.add_paragraph("본문 글").add_footnote("각주 글")
    table = document.add_table(1, 2)
    table.set_cell_text(0, 0, "칸 글")
    inner = table.rows[0].cells[1].add_table(1, 1)
    inner.set_cell_text(0, 0, "안쪽 칸 글")
    whole = "\n".join(each.text for each in read("a.hwpx", document.to_bytes()))
    for words in ("본문 글", "각주 글", "칸 글", "안쪽 칸 글"):
        assert whole.count(words) >= 1
    assert whole.count("안쪽 칸 글") == 1


def test_a_merged_cell_of_docx_is_read_once() -> None:
    from docx import Document  # noqa: PLC0415 - heavy

    document = Document()
    table = document.add_table(rows=1, cols=3)
    table.cell(0, 0).merge(table.cell(0, 1)).text = "합친 칸"
    table.cell(0, 2).text = "홑칸"
    written = io.BytesIO()
    document.save(written)
    assert [each.text for each in read("a.docx", written.getvalue())] == ["합친 칸 | 홑칸"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp949"])
def test_text_is_read_in_the_encodings_that_koreans_use(encoding: str) -> None:
    assert read("a.txt", "점검 주기는 45일".encode(encoding))[0].text == "점검 주기는 45일"


def test_a_long_hwp_of_many_sectors_is_read_whole() -> None:
    paragraphs = [f"{number}번 항목은 {number * 7919}원이다." for number in range(3000)]
    for properties in (0, COMPRESSED):
        found = read("a.hwp", hwp5_file(paragraphs, properties=properties))
        assert "\n".join(each.text for each in found).split("\n") == paragraphs


def test_text_that_json_cannot_hold_is_read_without_it() -> None:
    parsed = said(lambda _: [Block("page", 1, "가\ud835나"), Block("page", 2, "\udc00")], b"")
    assert parsed.blocks == [Block("page", 1, "가나")]
    assert msgspec.json.encode(parsed)


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "whole"), [("a.hwp", HWP), ("a.hwpx", HWPX), ("a.docx", DOCX)])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_document_that_was_cut_off_is_refused(name: str, whole: bytes, share: float) -> None:
    assert refused(name, whole[: int(len(whole) * share)]) == DAMAGED


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_pdf_that_was_cut_off_is_refused_or_gives_only_what_it_said(share: float) -> None:
    found = attempted("a.pdf", pdf()[: int(len(pdf()) * share)])  # pypdf repairs what it can
    assert set(found) <= {each.text for each in read("a.pdf", pdf())}


def attempted(name: str, content: bytes) -> list[str]:
    """Return the texts of a document, none where it is refused by name; anything else is an error."""
    try:
        return [each.text for each in read(name, content)]
    except BadInput as error:
        return [] if error.where == name else ["refused without its name"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.hwp", HWPX),
        ("a.hwpx", HWP),
        ("a.pdf", DOCX),
        ("a.docx", b"%PDF-1.4"),
        ("a.pdf", b""),
        ("a.hwp", b"HWP Document File V3.00 \x1a"),
    ],
)
def test_a_document_under_a_wrong_ending_is_refused(name: str, content: bytes) -> None:
    assert refused(name, content) == NOT_ITS_ENDING


@pytest.mark.parametrize(("name", "content"), [("a.hwpx", DOCX), ("a.docx", HWPX)])
def test_an_archive_of_another_format_is_refused(name: str, content: bytes) -> None:
    assert refused(name, content) == DAMAGED


@pytest.mark.parametrize("name", ["a.exe", "a", ".hwp", "a.hwp.zip"])
def test_other_kinds_of_files_are_refused(name: str) -> None:
    assert refused(name, HWP) == "files of this kind are not taken in"


def test_a_locked_hwp_is_refused() -> None:
    assert refused("a.hwp", hwp5_file(["비밀"], properties=COMPRESSED | LOCKED)) == LOCKED_WORDS


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_a_locked_pdf_is_refused_and_one_that_only_forbids_printing_is_read(algorithm: str) -> None:
    assert refused("a.pdf", encrypted(pdf(), "비밀번호", algorithm)) == LOCKED_WORDS
    assert len(read("a.pdf", encrypted(pdf(), "", algorithm))) == 3


def encrypted(content: bytes, password: str, algorithm: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(content)))
    writer.encrypt(password, "owner", algorithm=algorithm)
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


def test_a_document_without_text_is_refused() -> None:
    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    written = io.BytesIO()
    writer.write(written)
    assert refused("scan.pdf", written.getvalue()) == "the document holds no text"
    assert refused("a.txt", b" \n ") == "the document holds no text"


def test_bytes_that_are_no_text_are_refused() -> None:
    assert refused("a.txt", bytes(range(256)) * 4) == DAMAGED
    assert refused("a.txt", b"\x00" * 100) == DAMAGED


def test_a_document_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(BadInput, match="too large"):
        read("a.txt", bytes(documents.FILE_MAX_BYTES + 1))


@pytest.mark.parametrize("name", ["a.hwpx", "a.docx"])
def test_an_archive_that_unpacks_to_more_than_it_may_is_refused(name: str) -> None:
    assert refused(name, bomb(claimed=None)) == TOO_MUCH


def test_an_archive_that_lies_about_its_size_is_refused() -> None:
    assert refused("a.docx", bomb(claimed=1000)) == DAMAGED


@cache
def bomb(claimed: int | None) -> bytes:
    """Return an archive with 300 MiB of zeros in it, whose directory claims another size if asked to."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", b"<a/>")
        archive.writestr("mimetype", b"application/hwp+zip")
        with archive.open("Contents/section0.xml", "w") as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    content = written.getvalue()
    if claimed is None:
        return content
    return content.replace(struct.pack("<I", 300 << 20), struct.pack("<I", claimed))


def test_a_compressed_stream_of_hwp_that_unpacks_without_end_is_refused() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    flood = b"".join(packer.compress(bytes(1 << 20)) for _ in range(600)) + packer.flush()
    header = hwp5_file(["가"])
    streams = {"FileHeader": header_of(header), "DocInfo": b"\x03\x00", "BodyText/Section0": flood}
    assert refused("a.hwp", compound_file(streams)) in {DAMAGED, TOO_MUCH}


def header_of(whole: bytes) -> bytes:
    start = whole.index(b"HWP Document File")
    return whole[start : start + 256]


def test_entities_that_grow_without_end_bring_nothing_in() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    found = attempted("a.docx", docx_with(f'<!ENTITY l0 "하하">{laughs}', "본문 &l11;"))
    assert "하하" not in "".join(found)


def test_an_entity_that_names_a_file_brings_nothing_in(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("남의 비밀", "utf-8")
    found = attempted("a.docx", docx_with(f'<!ENTITY x SYSTEM "{secret.as_uri()}">', "본문 &x;"))
    assert "비밀" not in "".join(found)


def docx_with(entities: str, words: str) -> bytes:
    """Return a document whose body declares entities and uses them."""
    name = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = f"<w:body><w:p><w:r><w:t>{words}</w:t></w:r></w:p></w:body>"
    xml = f'<?xml version="1.0"?><!DOCTYPE d [{entities}]><w:document xmlns:w="{name}">{body}</w:document>'
    return with_member(DOCX, "word/document.xml", xml.encode())


def with_member(whole: bytes, name: str, content: bytes) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(written, "w") as target:
        for member in source.namelist():
            target.writestr(member, content if member == name else source.read(member))
    return written.getvalue()


@pytest.mark.parametrize("name", ["a.hwp", "a.hwpx", "a.docx", "a.pdf"])
def test_damaged_bytes_are_read_or_refused_by_name_and_nothing_else(name: str) -> None:
    whole = {"a.hwp": HWP, "a.hwpx": HWPX, "a.docx": DOCX}.get(name) or pdf()
    chance = random.Random(name)  # noqa: S311 - the same damage every time
    for _ in range(4):
        damaged = bytearray(whole)
        for _ in range(20):
            damaged[chance.randrange(8, len(damaged))] = chance.randrange(256)
        assert attempted(name, bytes(damaged)) != ["refused without its name"]


def test_a_document_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "WALL_S", 0.01)
    assert refused("a.txt", "글".encode()) == TOO_MUCH


def test_the_next_document_is_read_after_a_bad_one() -> None:
    for _ in range(documents.AT_ONCE + 1):  # each seat was given back
        refused("a.docx", DOCX[:1000])
    assert read("a.txt", "글".encode())[0].text == "글"


# --- What a parser may not do -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [
        ("pass", "fine"),
        ("import socket; socket.socket()", "PermissionError"),
        ("import socket; socket.socket(socket.AF_UNIX)", "PermissionError"),
        ("import socket; socket.socketpair()", "PermissionError"),
        ("import subprocess; subprocess.run(['true'])", "PermissionError"),
        ("os.execv('/bin/true', ['true'])", "PermissionError"),
        ("os.fork()", "PermissionError"),
        ("os.kill(os.getppid(), 0)", "PermissionError"),
        ("bytes(2 << 30)", "MemoryError"),
        ("import tempfile; tempfile.TemporaryFile().truncate(65 << 20)", "OSError"),
        ("list(map(os.dup, [0] * 100))", "OSError"),
    ],
)
def test_a_confined_process_cannot(attempt: str, outcome: str) -> None:
    program = (
        "import os; from appliance.rag.parsing import confine; confine()\n"
        f"try:\n  {attempt}\nexcept BaseException as error: print(type(error).__name__)\nelse: print('fine')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.returncode) == (outcome, 0), done.stderr


def test_a_confined_process_does_not_compute_for_ever() -> None:
    program = (
        "import resource; from appliance.rag import parsing; parsing.CPU_S = 1; parsing.confine()\n"
        "while True: pass"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=False, timeout=60)
    assert done.returncode < 0


# --- Names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("지침.hwp", "지침.hwp"),
        (unicodedata.normalize("NFD", "지침.hwp"), "지침.hwp"),
        ("../../etc/지침.hwp", "지침.hwp"),
        ("C:\\문서\\지침.hwp", "지침.hwp"),
        ("지침\x00\n.hwp", "지침 .hwp"),
    ],
)
def test_a_name_is_its_last_part(name: str, expected: str) -> None:
    assert clean_name(name) == expected


@pytest.mark.parametrize("name", ["", ".", "..", "/", "가" * 201, "\x00"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="cannot be the name"):
        clean_name(name)


def test_samples_are_written_under_their_names() -> None:
    with tempfile.TemporaryDirectory() as folder:
        paths = samples.write_samples(Path(folder) / "made")
        assert [path.name for path in paths] == [each.name for each in SAMPLES]
        assert all(path.read_bytes() for path in paths)
    assert PAGE not in "".join(each.name for each in SAMPLES)
