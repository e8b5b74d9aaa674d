"""Where wheels come from: the manifest's sources, or else what pip is configured to use on this machine.

pip's configuration is the build machine's configuration. uv does not read it, so it is put into uv's words.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bundle.manifest import Sources

_DEFAULT = ""  # no address named: the client's own default index
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
#: What must not leak from the caller's shell into a resolution that the sources decide.
_UV_CHOICES = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")


@dataclass(frozen=True, slots=True)
class Index:
    """Indexes and folders of wheels; ``index`` is None where none may be asked, "" for their own default."""

    index: str | None
    extra_indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    certificates: str | None = None

    def uv_options(self) -> tuple[str, ...]:
        """Return what uv takes from its command line only."""
        return ("--no-index",) if self.index is None else ()

    def uv_environment(self) -> dict[str, str]:
        """Return the process environment for uv; addresses stay off the command line, where others look."""
        environment = {name: value for name, value in os.environ.items() if name not in _UV_CHOICES}
        environment |= {"UV_NO_CONFIG": "1", "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
        # As for pip, all indexes are one: the best version wins, wherever it lies.
        environment["UV_INDEX_STRATEGY"] = "unsafe-best-match"
        if self.index:
            environment["UV_DEFAULT_INDEX"] = self.index
        if self.extra_indexes:
            environment["UV_INDEX"] = " ".join(self.extra_indexes)
        if self.find_links:
            environment["UV_FIND_LINKS"] = ",".join(self.find_links)
        if self.certificates:
            environment.setdefault("SSL_CERT_FILE", self.certificates)
        return environment

    def pip_environment(self) -> dict[str, str]:
        """Return the process environment for pip, which then looks at these places only."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PIP_") or name in {"PIP_DEFAULT_TIMEOUT", "PIP_PROXY", "PIP_CACHE_DIR"}
        }
        environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        environment |= {"PIP_NO_INPUT": "1", "NO_COLOR": "1"}
        if self.index is None:
            environment["PIP_NO_INDEX"] = "1"
        elif self.index:
            environment["PIP_INDEX_URL"] = self.index
        if self.extra_indexes:
            environment["PIP_EXTRA_INDEX_URL"] = " ".join(self.extra_indexes)
        if self.find_links:
            environment["PIP_FIND_LINKS"] = " ".join(self.find_links)
        if self.certificates:
            environment["PIP_CERT"] = self.certificates
        return environment


def find_index(sources: Sources, project: Path) -> Index:
    """Return the places that the manifest names, and this machine's where it names none."""
    own = _pip_configuration()
    certificates = own.get("cert")
    if sources.index is None and not sources.extra_indexes and not sources.find_links:
        return Index(
            None
            if own.get("no-index", "").lower() in {"1", "true", "yes"}
            else own.get("index-url", _DEFAULT),
            tuple(own.get("extra-index-url", "").split()),
            tuple(own.get("find-links", "").split()),
            certificates,
        )
    links = tuple(link if "://" in link else str(project / link) for link in sources.find_links)
    # Folders alone mean those folders alone.
    index = sources.index or (_DEFAULT if sources.extra_indexes else None)
    return Index(index, sources.extra_indexes, links, certificates)


def masked(words: str) -> str:
    """Return the words without credentials in addresses."""
    return _CREDENTIALS.sub("//***@", words)


def _pip_configuration() -> Mapping[str, str]:
    """Return pip's settings as ``pip download`` would see them: environment over download over global."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    found: dict[str, dict[str, str]] = {"global": {}, "download": {}, ":env:": {}}
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        found.get(section, {})[option] = str(ast.literal_eval(value))
    return {**found["global"], **found["download"], **found[":env:"]}
