"""Models from a hub, through huggingface_hub: pinned to a commit, every file by its SHA-256.

The hub is the manifest's, or ``HF_ENDPOINT``, or the public one. A token is read by the library from where
its own login command keeps it, and never enters a lock.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

# Read at import: without it the client asks the public hub who is calling, whatever hub it is given.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import httpx2
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from bundle.index import masked
from bundle.local import file_sha256
from bundle.lock import LockedFile, LockedModel, Unlocked

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

    from bundle.manifest import Model

#: What the client lets through when a hub is not there, answers nonsense, or cuts the line.
HUB_ERRORS = (httpx2.HTTPError, HfHubHTTPError, HFValidationError, OSError, ValueError, RuntimeError)
_SMALL_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Hub:
    """A hub, and the folder in which its client keeps what it downloads, so that it can resume."""

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

    def fetch(self, repository: str, commit: str, path: str) -> Path:
        """Download a file of a pinned commit, resuming what is there. Raises one of ``HUB_ERRORS``."""
        return Path(
            hf_hub_download(
                repository, path, revision=commit, cache_dir=str(self.cache), endpoint=self.endpoint
            )
        ).resolve()

    def _lock(self, name: str, model: Model) -> LockedModel | Unlocked:
        repository = model.hub or ""
        found = HfApi(endpoint=self.endpoint).model_info(
            repository, revision=model.revision or "main", files_metadata=True
        )
        if found.sha is None:
            return Unlocked(kind="model", name=f"{name} ({repository})", reason="the hub names no commit")
        wanted = [file for file in found.siblings or () if _enters(file.rfilename, model.exclude)]
        files = tuple(self._file(repository, found.sha, file) for file in wanted)
        return LockedModel(
            name=name, files=tuple(sorted(files, key=lambda file: file.path)), commit=found.sha
        )

    def _file(self, repository: str, commit: str, file: RepoSibling) -> LockedFile:
        if file.lfs is not None:
            return LockedFile(path=file.rfilename, sha256=file.lfs.sha256, size_bytes=file.lfs.size)
        if (file.size or 0) > _SMALL_BYTES:
            message = f"{file.rfilename} is large and the hub gives no SHA-256 of it"
            raise ValueError(message)
        path = self.fetch(repository, commit, file.rfilename)
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
