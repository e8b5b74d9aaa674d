"""The Banip API: what a server answers with. At this stage it says which release answers, and if it is fit.

Endpoints: ``GET /health`` (200 or 503) and ``GET /v1/release``.
"""

from __future__ import annotations

import json
import struct
from importlib import metadata
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import JSONResponse

from appliance.format import release_from_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.format import Release

_HEADER_MAX_BYTES = 100_000_000  # as the safetensors library itself


def create_app(folder: Path, model: str) -> FastAPI:
    """Make the application for the release in ``folder``, answering about the model of that name."""
    release = release_from_bytes((folder / "metadata" / "release.json").read_bytes())
    app = FastAPI(title="Banip", version=release.version, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health")
    def health() -> JSONResponse:
        fault = model_fault(folder, release, model)
        state = {"status": "ok" if fault is None else "unfit", "release": release.id}
        return JSONResponse(
            state | ({"fault": fault} if fault else {}), status_code=200 if fault is None else 503
        )

    @app.get("/v1/release")
    def describe() -> dict[str, Any]:
        return {
            "release": release.id,
            "version": release.version,
            "counter": release.counter,
            "model": {"name": model, "files": _digests(release, model)},
            "packages": {found.name: found.version for found in metadata.distributions()},
        }

    return app


def model_fault(folder: Path, release: Release, model: str) -> str | None:
    """Return why the model cannot serve, or None: every file is there, and the weights' header can be read.

    The header is the safetensors one: eight bytes of length (little endian), then JSON.
    """
    names = _digests(release, model)
    if not names:
        return f"the release has no model named {model}"
    for name in names:
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.suffix == ".safetensors" and not _has_header(path):
            return f"{name} has no safetensors header"
    return None


def _digests(release: Release, model: str) -> dict[str, str]:
    prefix = f"models/{model}/"
    return {file.path: file.sha256 for file in release.files if file.path.startswith(prefix)}


def _has_header(path: Path) -> bool:
    with path.open("rb") as weights:
        head = weights.read(8)
        if len(head) != struct.calcsize("<Q"):
            return False
        (length,) = struct.unpack("<Q", head)
        if length > min(path.stat().st_size - len(head), _HEADER_MAX_BYTES):
            return False
        try:
            return isinstance(json.loads(weights.read(length)), dict)
        except ValueError:
            return False
