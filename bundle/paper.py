"""Papers: what is printed and compared by eye, Korean and English side by side, as text and as one page."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from appliance.text import Text

    #: A heading with its items; an item has one line or several, and no page may end in it.
    Section = tuple[str, Sequence[str]]

_LINE_DIGITS = 32


def both(words: Text) -> str:
    """Return words in Korean and in English, once where they are the same."""
    korean, english = words.render("ko"), words.render("en")
    return english if korean == english else f"{korean} / {english}"


def grouped(digest: str, group: int = 8) -> list[str]:
    """Return a digest in groups, 32 digits a line: of eight for the eye, of four to be read aloud."""
    lines = [digest[start : start + _LINE_DIGITS] for start in range(0, len(digest), _LINE_DIGITS)]
    return [" ".join(line[at : at + group] for at in range(0, len(line), group)) for line in lines]


def paper_text(sections: Iterable[Section]) -> str:
    """Return a paper as plain text."""
    lines = [line for title, items in sections for line in ["", f"== {title} ==", *items]]
    return "\n".join(lines[1:])


def paper_html(title: str, sections: Iterable[Section]) -> str:
    """Return a paper as one page to print, without anything that must be fetched."""
    written = "\n".join(
        f"<section><h2>{html.escape(heading)}</h2>{_items(items)}</section>" for heading, items in sections
    )
    return _PAGE.replace("TITLE", html.escape(title)).replace("SECTIONS", written)


def _items(items: Iterable[str]) -> str:
    return "".join(f"<pre>{html.escape(item)}</pre>" for item in items)


_PAGE = """<!doctype html>
<html lang="ko">
<head>
<meta charset="utf-8">
<title>TITLE</title>
<style>
@page { size: A4; margin: 15mm; }
body { font: 10pt/1.4 "Noto Sans KR", "Malgun Gothic", sans-serif; color: #000; background: #fff; }
h1 { font-size: 15pt; } h2 { font-size: 12pt; border-bottom: 1px solid #000; break-after: avoid; }
pre { font: 9pt/1.45 "Noto Sans Mono CJK KR", D2Coding, monospace; white-space: pre-wrap;
      margin: 0; min-height: 1.45em; break-inside: avoid; }
section { break-inside: auto; } section:nth-of-type(-n+4) { break-inside: avoid; }
</style>
</head>
<body>
<h1>TITLE</h1>
SECTIONS
</body>
</html>
"""
