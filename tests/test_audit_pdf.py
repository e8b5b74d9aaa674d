"""The PDF as people get it: pages, words that can be selected, the grade on each, nothing fetched."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from markupsafe import escape
from pypdf import PdfReader

from appliance.audit.edition import Unavailable
from appliance.audit.formats import pdf
from tests import audited

if TYPE_CHECKING:
    from pypdf.generic import Destination

    from appliance.text import Language

LACKING = pdf.missing_packages(pdf.LIBRARIES)
FONTS = pdf.korean_fonts()
PROJECT = Path(__file__).parent.parent
set_in_type = pytest.mark.skipif(
    bool(LACKING) or not FONTS, reason=f"a PDF needs {', '.join(LACKING) or pdf.KOREAN_FONT}"
)
HOSTILE = '</style><script>alert(1)</script><img src="file:///etc/hostname">'


@cache
def made(language: Language = "ko", *, redacted: bool = False) -> bytes:
    return pdf.render(audited.edition(language, redacted=redacted))


def reader(content: bytes) -> PdfReader:
    return PdfReader(io.BytesIO(content))


def texts(content: bytes) -> list[str]:
    """Return the words of each page, as poppler finds them; pypdf cannot read the encoding of such fonts."""
    asked = subprocess.run(["pdftotext", "-raw", "-", "-"], input=content, capture_output=True, check=True)
    return asked.stdout.decode().split("\f")[:-1]


def squeezed(told: str) -> str:
    return re.sub(r"\s+", "", told)


def outline(found: list[Any]) -> list[str]:
    return [name for one in found for name in (outline(one) if isinstance(one, list) else [_title(one)])]


def _title(one: Destination) -> str:
    return str(one.title)


# --- What is set in type, whether or not this machine can --------------------------------------------------


@pytest.mark.parametrize("language", ["ko", "en"])
def test_it_says_all_that_the_page_says(language: Language) -> None:
    told = pdf.paper(audited.edition(language)).replace("\u2060", "")
    result = audited.result()
    for one in result.results:
        assert f'id="{one.id}"' in told
        for words in (one.title, one.expected):
            assert str(escape(getattr(words, language))) in told
    for guide in result.guides:
        titles = {one.id: escape(one.title.replace("･", "·")) for one in guide.controls if one.applies}
        assert all(f"<b>{name}</b> {title}" in told for name, title in titles.items())


def test_korean_words_stay_whole_and_can_be_found() -> None:
    told = pdf.paper(audited.edition())
    assert "보\u2060안\u2060담\u2060당\u2060관" in told
    assert "120\u2060일" in told
    headings = "".join(re.findall(r"<h2>.*?</h2>", told, re.DOTALL))
    assert headings
    assert "\u2060" not in headings, "the outline takes them as they are"
    assert "\u2060" not in "".join(re.findall(r"<[^>]*>", told))


def test_what_the_server_says_of_itself_is_never_markup_nor_style() -> None:
    named = msgspec.structs.replace(audited.result(), host=HOSTILE)
    told = pdf.paper(replace(audited.edition(), result=named))
    assert told.count("</style>") == 1
    assert "<img" not in told
    assert "<script" not in told


def test_what_is_missing_is_named_with_what_serves_instead() -> None:
    assert pdf.missing_packages({"libnobody.so.7": "libnobody7"}) == (*LACKING[:0], *_without(), "libnobody7")
    with pytest.raises(Unavailable, match=r"libnobody7, fonts-nanum.*audit\.html can be printed"):
        pdf._require(("libnobody7",), ())


def _without() -> tuple[str, ...]:
    return tuple(name for name in LACKING if name == "weasyprint")


def test_without_a_korean_font_there_is_no_pdf_full_of_boxes(tmp_path: Path) -> None:
    bare = tmp_path / "fonts.conf"
    bare.write_text("<?xml version='1.0'?><!DOCTYPE fontconfig SYSTEM 'fonts.dtd'><fontconfig></fontconfig>")
    script = "from appliance.audit.formats import pdf; from tests import audited; "
    script += "pdf.render(audited.edition())"
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env={**os.environ, "FONTCONFIG_FILE": str(bare), "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Unavailable" in ran.stderr
    assert "fonts-nanum" in ran.stderr


# --- What it looks like ------------------------------------------------------------------------------------


@pytest.mark.real
@set_in_type
def test_every_page_has_its_number_and_the_documents_grade() -> None:
    told = texts(made())
    assert len(told) > 20
    for number, words in enumerate(told, 1):
        assert f"{number} / {len(told)}" in words
        assert "이 문서의 등급 S (민감)" in words
        assert "ai-server-01" in words


@pytest.mark.real
@set_in_type
def test_the_first_page_is_the_managers() -> None:
    first = squeezed(texts(made())[0])
    edition = audited.edition()
    assert edition.head
    for words in ("영역별점수", "안내서별", "등급별", "지난점검이후", "점수의흐름", "새로취약", edition.head):
        assert words in first
    for guide in edition.result.guides:
        assert f"{squeezed(guide.label)}{guide.score}" in first


@pytest.mark.real
@set_in_type
def test_words_can_be_selected_and_the_outline_leads_to_them() -> None:
    told = squeezed("".join(texts(made())))
    for one in audited.result().results:
        assert squeezed(one.title.ko) in told, one.id
        assert squeezed(one.observed.ko) in told, one.id
    names = outline(reader(made()).outline)
    assert any(name.startswith(f"전체 점검 결과 {len(audited.result().results)} ") for name in names), names
    assert any(name.startswith("N2SF 1.0") for name in names)


@pytest.mark.real
@set_in_type
def test_it_says_in_its_properties_what_it_is() -> None:
    about = reader(made()).metadata
    assert about
    assert about.title
    assert about.title.startswith("보안 점검 보고서 · ai-server-01")
    assert about.subject
    assert str(audited.edition().head) in about.subject
    assert about.creation_date == audited.result().taken


@pytest.mark.real
@set_in_type
def test_the_same_edition_gives_the_same_bytes() -> None:
    assert pdf.render(audited.edition()) == made()


@pytest.mark.real
@set_in_type
def test_no_letter_is_a_box(caplog: pytest.LogCaptureFixture) -> None:
    """Hangul is set in a font that has it, and there is no sign that no font has."""
    pdf.render(audited.edition())
    assert not [words for words in caplog.messages if "notdef" in words]
    fonts = {
        str(font.get_object()["/BaseFont"])
        for one in reader(made()).pages
        for font in one["/Resources"]["/Font"].values()  # type: ignore[index]
    }
    assert any("Nanum" in name or "Noto" in name for name in fonts), fonts


@pytest.mark.real
@set_in_type
@pytest.mark.parametrize("place", ["file:///etc/hostname", "http://127.0.0.1/", "data:image/png;base64,AA=="])
@pytest.mark.parametrize(
    "form", ["<img src='{}'>", "<link rel=stylesheet href='{}'>", "<p style='background:url({})'>"]
)
def test_nothing_is_fetched_while_it_is_made(form: str, place: str) -> None:
    with pytest.raises(RuntimeError, match="Error fetching"):
        pdf.typeset(f"<html><body>{form.format(place)}</body></html>")


@pytest.mark.real
@set_in_type
def test_every_page_of_a_redacted_one_says_so() -> None:
    for words in texts(made(redacted=True)):
        assert "반출용 축약본" in words
        assert "이 문서의 등급 S (민감)" in words
        assert "ai-server-01" not in words
