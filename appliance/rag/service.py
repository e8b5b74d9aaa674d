"""The Banip API at its smallest: which release answers, and whether its model is fit to serve.

Endpoints: ``GET /health`` (200 or 503) and ``GET /v1/release``. The API in full is ``api.py``, which needs
more packages than the smallest bundle carries.
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
    release = read_release(folder)
    app = bare_app(release)

    @app.get("/health")
    def health() -> JSONResponse:
        fault = model_fault(folder, release, model)
        state = {"status": "ok" if fault is None else "unfit", "release": release.id}
        return JSONResponse(
            state | ({"fault": fault} if fault else {}), status_code=200 if fault is None else 503
        )

    @app.get("/v1/release")
    def describe() -> dict[str, Any]:
        return release_facts(release, model)

    return app


def bare_app(release: Release, lifespan: Any = None) -> FastAPI:  # noqa: ANN401 - FastAPI's own type
    """Return an application without routes: FastAPI's own pages would fetch scripts from the internet."""
    return FastAPI(
        title="Banip",
        version=release.version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
    )


def read_release(folder: Path) -> Release:
    """Return what the release in a folder states about itself."""
    return release_from_bytes((folder / "metadata" / "release.json").read_bytes())


def release_facts(release: Release, model: str) -> dict[str, Any]:
    """Return what answers: the release, the digests of its model, the packages of this environment."""
    return {
        "release": release.id,
        "version": release.version,
        "counter": release.counter,
        "model": {"name": model, "files": _digests(release, model)},
        "packages": {found.name: found.version for found in metadata.distributions()},
    }


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
