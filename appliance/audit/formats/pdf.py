"""The report on paper: a PDF with its own layout, made by WeasyPrint from text that this program wrote.

Nothing is fetched while it is made, neither from the network nor from the disk. The same edition gives the
same bytes where the same fonts are installed.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import re
import subprocess
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from appliance.audit.edition import Unavailable
from appliance.audit.formats import page
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from appliance.audit.edition import Edition

#: Libraries that no wheel carries, and the Debian and Ubuntu packages that do.
LIBRARIES = {
    "libpango-1.0.so.0": "libpango-1.0-0",
    "libpangoft2-1.0.so.0": "libpangoft2-1.0-0",
    "libharfbuzz-subset.so.0": "libharfbuzz-subset0",
}
KOREAN_FONT = "fonts-nanum"
_FONTS_TIMEOUT_S = 20
#: Places where Korean must not be broken: between syllables, and where a word goes on in another script. CSS
#: calls it ``word-break: keep-all``, which WeasyPrint does not know.
_WITHIN_A_WORD = re.compile(r"(?<=[가-힣A-Za-z0-9)%'])(?=[가-힣])|(?<=[가-힣])(?=[A-Za-z0-9(])")
#: What stands in tags, and headings, whose words also go into the outline, stays as it is.
_UNTOUCHED = re.compile(r"(<h[1-4][^>]*>.*?</h[1-4]>|<[^>]*>)", re.DOTALL)
_WORD_JOINER = "\u2060"
#: Signs that guides write and Korean fonts lack, and what stands for them.
_SIGNS = str.maketrans({"\uff65": "\u00b7"})


def render(edition: Edition) -> bytes:
    """Return the PDF. Raises ``Unavailable`` where its libraries or a Korean font are missing."""
    _require(missing_packages(LIBRARIES), korean_fonts())
    return typeset(paper(page.closed(edition)))


def typeset(told: str) -> bytes:
    """Set a page of HTML in type; whatever it refers to outside of itself ends this with an error.

    Meanwhile nobody looks for cycles among its million objects, which would be a fifth of the time.
    """
    from weasyprint import HTML  # noqa: PLC0415 - heavy, and only the controller environment has it
    from weasyprint.urls import FatalURLFetchingError, URLFetcher  # noqa: PLC0415 - as above

    fetcher = URLFetcher(allowed_protocols=(), fail_on_errors=True)
    identifier = hashlib.sha256(told.encode()).hexdigest()[:32].encode()
    try:
        with _no_collection():
            made: bytes = HTML(string=told, url_fetcher=fetcher).write_pdf(pdf_identifier=identifier)
    except FatalURLFetchingError as error:  # which is no Exception
        raise RuntimeError(str(error)) from error
    return made


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def paper(edition: Edition) -> str:
    """Return what is set in type: the same words as the page's, laid out for A4."""
    style = page.data("brand.css") + page.page_rule(edition) + page.data("paper.css")
    template = page.world(edition.language).get_template("paper.html.j2")
    told = template.render(**page.content(edition), style=style).translate(_SIGNS)
    head, body, rest = told.partition("<body>")
    parts = _UNTOUCHED.split(rest)
    parts[::2] = [_WITHIN_A_WORD.sub(_WORD_JOINER, part) for part in parts[::2]]
    return head + body + "".join(parts)


# --- What it needs -----------------------------------------------------------------------------------------


def missing_packages(libraries: Mapping[str, str]) -> tuple[str, ...]:
    """Return which packages are missing, by the libraries of theirs that cannot be loaded.

    Asked before WeasyPrint is imported: it prints advice for developers where one is not there.
    """
    missing = () if find_spec("weasyprint") else ("weasyprint",)
    return (*missing, *(package for name, package in libraries.items() if not _loads(name)))


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def korean_fonts() -> tuple[str, ...]:
    """Return the installed fonts with Hangul, as fontconfig names them; none where it is not here."""
    command = ("fc-list", ":lang=ko", "family")
    try:
        asked = subprocess.run(command, capture_output=True, check=True, timeout=_FONTS_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(sorted(asked.stdout.decode("utf-8", "replace").splitlines()))


def _require(missing: tuple[str, ...], fonts: tuple[str, ...]) -> None:
    """Refuse to make a PDF that would be empty or full of boxes."""
    wanted = (*missing, *(() if fonts else (KOREAN_FONT,)))
    if wanted:
        raise Unavailable(
            text(
                "a PDF needs {packages}, which is not installed here; audit.html can be printed instead",
                packages=", ".join(wanted),
            )
        )
