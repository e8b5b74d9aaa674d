"""The operator guides of ``docs/ko`` as pages, for the container image that serves them on the site."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from pathlib import Path

_STYLE = """
body{font:17px/1.7 "Noto Sans KR","NanumGothic",system-ui,sans-serif}
body{max-width:46rem;margin:2rem auto;padding:0 1rem}
pre{background:#f3f4f6;padding:.8rem;overflow-x:auto;border-radius:.4rem;line-height:1.45}
table{border-collapse:collapse}td,th{border:1px solid #cbd5e1;padding:.3rem .6rem;text-align:left}
h1,h2{line-height:1.3}code{font-family:"NanumGothicCoding",monospace}
"""
_PAGE = (
    '<!doctype html><html lang="ko"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    "<title>{title}</title><style>{style}</style><body>{body}</body></html>\n"
)


def write_guide(documents: Path, folder: Path) -> None:
    """Render every Markdown file of ``documents`` into ``folder``; the operator guide is its index."""
    folder.mkdir(parents=True, exist_ok=True)
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    for source in sorted(documents.glob("*.md")):
        words = source.read_text("utf-8")
        title = html.escape(words.partition("\n")[0].lstrip("# "))
        page = _PAGE.format(title=title, style=_STYLE, body=markdown.render(words))
        name = "index" if source.stem == "operator" else source.stem
        (folder / f"{name}.html").write_text(page.replace(".md)", ".html)"), "utf-8")
