"""Where wheels come from: the manifest's sources, or else what pip is configured to use on this machine.

pip's configuration is the build machine's configuration. uv does not read it, so it is put into uv's words.
An index or folders that a manifest names stand alone; extra indexes alone stand beside the machine's own.
"""

from __future__ import annotations

import ast
import os
import re
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bundle.workshop import Event

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from bundle.sources import Sources
    from bundle.workshop import Report

_DEFAULT = ""  # no address named: the client's own default index
_CREDENTIALS = re.compile(r"//[^/@\s]+@")
#: What must not leak from the caller's shell into a resolution that the sources decide.
_UV_CHOICES = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")
_TIMEOUT_S = 10
_PAUSES_S: tuple[float, ...] = (0.5, 1)  # names and links come and go


@dataclass(frozen=True, slots=True)
class Index:
    """Indexes and folders of wheels; ``index`` is None where none may be asked, "" for their own default.

    ``silent``: extra indexes of the manifest that did not answer and are left out, without ``https://``.
    """

    index: str | None
    extra_indexes: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    certificates: str | None = None
    silent: tuple[str, ...] = ()

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


def find_index(sources: Sources, project: Path, report: Report | None = None) -> Index:
    """Return the places that the manifest names, and this machine's where it names none.

    A named extra index that does not answer is reported and left out: it may have a mirror on this machine,
    and what only it has is then not found, never replaced, because digests and versions are pinned.
    """
    own = _pip_configuration()
    if sources.index is None and not sources.find_links:
        index = _own(own)
    else:
        links = tuple(link if "://" in link else str(project / link) for link in sources.find_links)
        # Folders alone mean those folders alone.
        alone = sources.index is None and not sources.extra_indexes
        index = Index(None if alone else sources.index or _DEFAULT, (), links, own.get("cert"))
    return _with_extra(index, sources.extra_indexes, report or (lambda _: None))


def _own(own: Mapping[str, str]) -> Index:
    none = own.get("no-index", "").lower() in {"1", "true", "yes"}
    return Index(
        None if none else own.get("index-url", _DEFAULT),
        tuple(own.get("extra-index-url", "").split()),
        tuple(own.get("find-links", "").split()),
        own.get("cert"),
    )


def _with_extra(index: Index, named: tuple[str, ...], report: Report) -> Index:
    answering, silent = [], []
    for address in named:
        reason = _silence(address, index.certificates)
        if reason is None:
            answering.append(address)
        else:
            name = address.partition("://")[2]
            silent.append(name)
            report(Event("unanswered", name, detail=reason))
    return replace(index, extra_indexes=(*index.extra_indexes, *answering), silent=tuple(silent))


def _silence(address: str, certificates: str | None, pauses_s: tuple[float, ...] = _PAUSES_S) -> str | None:
    """Return why an index does not answer, after several tries; a refusal is an answer, a fault is none."""
    request = urllib.request.Request(f"{address.rstrip('/')}/", method="HEAD")  # noqa: S310 - the manifest's
    context = ssl.create_default_context(cafile=certificates)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context):  # noqa: S310
            return None
    except urllib.error.HTTPError as error:
        if error.code < 500:  # noqa: PLR2004 - of HTTP: from here on the server's own fault
            return None
        reason = str(error)
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        reason = str(getattr(error, "reason", error))
    if not pauses_s:
        return masked(reason)
    time.sleep(pauses_s[0])
    return _silence(address, certificates, pauses_s[1:])


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
