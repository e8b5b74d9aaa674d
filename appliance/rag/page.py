"""The web page's files, read once from beside this module: nothing of it comes from anywhere else."""

from __future__ import annotations

from importlib import resources

_KINDS = {
    "index.html": "text/html; charset=utf-8",
    "app.js": "text/javascript; charset=utf-8",
    "view.js": "text/javascript; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


def page_files() -> dict[str, tuple[str, bytes]]:
    """Return media type and content of every file by its address."""
    folder = resources.files("appliance.rag").joinpath("web")
    found = {f"/web/{name}": (kind, folder.joinpath(name).read_bytes()) for name, kind in _KINDS.items()}
    found["/"] = found.pop("/web/index.html")
    return found
