"""Model folders: generated out of a seed, or from the project. ``hub`` has those that a hub serves."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from typing import TYPE_CHECKING

from appliance.store import PIECE_BYTES
from bundle.local import file_sha256, folder_files
from bundle.lock import LockedFile, LockedModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bundle.manifest import Generated

_HIDDEN_SIZE = 256
WEIGHTS_FILE = "model.safetensors"


def lock_folder(name: str, folder: Path) -> LockedModel:
    """Lock a model folder of the project as it is now. Raises ``BadInput`` for links and odd names."""
    files = [
        LockedFile(path=relative, sha256=file_sha256(path), size_bytes=path.stat().st_size)
        for relative, path in folder_files(folder).items()
    ]
    return LockedModel(name=name, files=tuple(files))


def lock_generated(name: str, generated: Generated) -> LockedModel:
    """Lock a generated model by making it, without writing it anywhere."""
    files = []
    for path in sorted(generated_files(generated)):
        digest, size_bytes = hashlib.sha256(), 0
        for piece in pieces(generated, path):
            digest.update(piece)
            size_bytes += len(piece)
        files.append(LockedFile(path=path, sha256=digest.hexdigest(), size_bytes=size_bytes))
    return LockedModel(name=name, files=tuple(files))


def pieces(generated: Generated, path: str) -> Iterator[bytes]:
    """Yield the content of one file of a generated model."""
    content = generated_files(generated)[path]
    if content is not None:
        yield content
    else:
        yield from _weights(generated)


def generated_files(generated: Generated) -> Mapping[str, bytes | None]:
    """Return the files of a generated model; None stands for the weights, which are made in pieces."""
    config = {"model_type": "random", "hidden_size": _HIDDEN_SIZE, "torch_dtype": "uint8"}
    vocabulary = {f"token{number}": number for number in range(_HIDDEN_SIZE)}
    tokenizer = {"version": "1.0", "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "token0"}}
    return {
        "config.json": _json(config),
        "greeting.txt": generated.text.encode(),
        "tokenizer.json": _json(tokenizer),
        WEIGHTS_FILE: None,
    }


def _weights(generated: Generated) -> Iterator[bytes]:
    """Yield a safetensors file of one random tensor. Source: safetensors' README, section Format."""
    rows = -(-generated.weights_bytes // _HIDDEN_SIZE)
    size_bytes = rows * _HIDDEN_SIZE
    tensor = {"dtype": "U8", "shape": [rows, _HIDDEN_SIZE], "data_offsets": [0, size_bytes]}
    header = json.dumps({"embed.weight": tensor}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    yield struct.pack("<Q", len(header)) + header
    numbers = random.Random(generated.seed)  # noqa: S311 - the same bytes everywhere is the point
    for start in range(0, size_bytes, PIECE_BYTES):
        yield numbers.randbytes(min(PIECE_BYTES, size_bytes - start))


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()
