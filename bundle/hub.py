"""Models from a hub, through huggingface_hub: pinned to a commit, every file by its SHA-256.

The hub is the manifest's, or ``HF_ENDPOINT``, or the public one. A token is read by the library from where
its own login command keeps it, and never enters a lock.

The library's own download (2.4) starts a file again whenever a call fails, and keeps a second copy of every
model in its cache. So only its parts are used: they ask for a file's place and read it on from where it broke
off; what has arrived goes into the store by its digest and leaves nothing behind.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

# Read at import: without it the client asks the public hub who is calling, whatever hub it is given.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import httpx2
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils._headers import build_hf_headers

from appliance.format import Blob, sha256_hex
from appliance.text import text
from bundle.index import masked
from bundle.local import file_sha256, is_release_path
from bundle.lock import LockedFile, LockedModel, Unlocked

if TYPE_CHECKING:
    from pathlib import Path

    from huggingface_hub.hf_api import RepoSibling

    from bundle.collection import Collection
    from bundle.manifest import Model

#: What the client lets through when a hub is not there, answers nonsense, or cuts the line.
HUB_ERRORS = (httpx2.HTTPError, HfHubHTTPError, HFValidationError, OSError, ValueError, RuntimeError)
_SMALL_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub, and the folder for what is on its way from there, so that a later run goes on with it."""

    endpoint: str | None
    cache: Path

    def lock(self, name: str, model: Model) -> LockedModel | Unlocked:
        """Pin a model to the commit its revision is now.

        Large files have their SHA-256 at the hub; of small ones it knows a git digest only: they are fetched.
        """
        try:
            return self._lock(name, model)
        except HUB_ERRORS as error:
            return Unlocked(kind="model", name=f"{name} ({model.hub})", reason=_reason(error))

    def collect(self, repository: str, model: LockedModel, run: Collection) -> None:
        """Bring the files of a locked model into the store; what cannot be had is a failure of the run."""
        for file in model.files:
            name = f"models/{model.name}/{file.path}"
            blob = Blob(sha256=file.sha256, size_bytes=file.size_bytes)
            commit = model.commit or ""
            if run.has(name, blob):
                self._place(repository, commit, file.path).unlink(missing_ok=True)  # lock may have fetched it
                continue
            try:
                path = self.fetch(repository, commit, file.path)
            except HUB_ERRORS as error:
                run.fail(name, text("the hub could not give it: {reason}", reason=_reason(error)))
                continue
            if not run.arrived(name, blob, path):
                run.fail(name, text("the hub gives other content than was locked"))
            path.unlink()  # it is in the store now; if it was other content, nobody may go on with it

    def fetch(self, repository: str, commit: str, path: str) -> Path:
        """Download a file of a pinned commit, going on with what is there. Raises one of ``HUB_ERRORS``."""
        whole = self._place(repository, commit, path)
        if whole.is_file():
            return whole
        part = whole.with_suffix(".part")
        part.parent.mkdir(parents=True, exist_ok=True)
        self._read_on(hf_hub_url(repository, path, revision=commit, endpoint=self.endpoint), part)
        return part.rename(whole)

    def _place(self, repository: str, commit: str, path: str) -> Path:
        return self.cache / sha256_hex(f"{repository}\n{commit}\n{path}".encode())

    def _read_on(self, url: str, part: Path) -> None:
        there = get_hf_file_metadata(url, endpoint=self.endpoint)
        headers = build_hf_headers()
        if urlsplit(there.location).netloc != urlsplit(url).netloc:
            headers.pop("authorization", None)  # the place is another server's, the token is the hub's
        part.touch()
        with part.open("r+b") as file:
            if there.size is not None and part.stat().st_size > there.size:
                file.truncate(0)
            file.seek(0, os.SEEK_END)
            http_get(there.location, file, resume_size=file.tell(), headers=headers, expected_size=there.size)

    def _lock(self, name: str, model: Model) -> LockedModel | Unlocked:
        repository = model.hub or ""
        found = HfApi(endpoint=self.endpoint).model_info(
            repository, revision=model.revision or "main", files_metadata=True
        )
        if found.sha is None:
            return Unlocked(kind="model", name=f"{name} ({repository})", reason="the hub names no commit")
        wanted = [file for file in found.siblings or () if _enters(file.rfilename, model.exclude)]
        if not wanted:
            return Unlocked(kind="model", name=f"{name} ({repository})", reason="no file of it is left")
        files = tuple(self._file(repository, found.sha, file) for file in wanted)
        return LockedModel(
            name=name, files=tuple(sorted(files, key=lambda file: file.path)), commit=found.sha
        )

    def _file(self, repository: str, commit: str, file: RepoSibling) -> LockedFile:
        if not is_release_path(file.rfilename):
            message = f"a release cannot have a file called {file.rfilename!r}: exclude it"
            raise ValueError(message)
        if file.lfs is not None:
            return LockedFile(path=file.rfilename, sha256=file.lfs.sha256, size_bytes=file.lfs.size)
        if (file.size or 0) > _SMALL_BYTES:
            message = f"{file.rfilename} is large and the hub gives no SHA-256 of it"
            raise ValueError(message)
        path = self.fetch(repository, commit, file.rfilename)  # and it waits there to be collected
        return LockedFile(path=file.rfilename, sha256=file_sha256(path), size_bytes=path.stat().st_size)


def _enters(path: str, exclude: tuple[str, ...]) -> bool:
    hidden = any(part.startswith(".") for part in path.split("/"))
    return not hidden and not any(fnmatch(path, pattern) for pattern in exclude)


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ or cause.__context__:
        cause = cause.__cause__ or cause.__context__ or cause
    words = str(error) or str(cause)
    return masked(" ".join(words.split()))[:300] or type(cause).__name__
