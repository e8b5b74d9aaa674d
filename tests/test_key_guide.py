"""The custodian's guide, line by line as it is printed: every ``sh`` block, in order, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from bundle.folder import roots
from bundle.keys import show
from bundle.pack import build_carrier
from tests.world import World

PROJECT = Path(__file__).parents[1]
GUIDE = PROJECT / "docs" / "ko" / "keys.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BUNDLE = re.compile(r"dist/demo-(1\.([0-9])\.0)\.tar")
#: What a person types at a prompt comes from the environment here; nothing else of a line is changed.
_TYPED = {
    "python3 build.py": f"{sys.executable} {PROJECT / 'build.py'}",
    "openssl pkcs8 ": "openssl pkcs8 -passout env:BANIP_PASSPHRASE ",
    "openssl pkey -in ": "openssl pkey -passin env:BANIP_PASSPHRASE -in ",
    "openssl dgst -sha256 -sign ": "openssl dgst -passin env:BANIP_PASSPHRASE -sha256 -sign ",
}


def _build(folder: Path, version: str, counter: int) -> None:
    """Build the bundle that a block goes on with, unsigned, as `build.py build` would."""
    (folder / "dist").mkdir(exist_ok=True)
    world = World(version=version, counter=counter)
    expires = datetime.now(timezone.utc) + timedelta(days=700)
    path = folder / "dist" / f"demo-{version}.tar"
    build_carrier(path, roots(folder / "keys"), world.release, world.open_blob, expires=expires)


def _type(folder: Path, block: str) -> str:
    for words, typed in _TYPED.items():
        block = block.replace(words, typed)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        input="y\n",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "LC_ALL": "C.UTF-8", "BANIP_PASSPHRASE": "five words that nobody guesses"},
    )
    assert done.returncode == 0, block + done.stdout + done.stderr
    return done.stdout


@pytest.mark.real
def test_every_line_of_the_guide_does_what_it_says(tmp_path: Path) -> None:
    said = {}
    for block in _BLOCK.findall(GUIDE.read_text("utf-8")):
        for version, minor in _BUNDLE.findall(block):
            if not (tmp_path / "dist" / f"demo-{version}.tar").exists():
                _build(tmp_path, version, int(minor) + 1)
        said[block.splitlines()[0]] = _type(tmp_path, block)
    assert len(said) > 10
    ring = show(tmp_path / "keys")
    assert (ring.root_version, ring.draft) == (3, None)
    assert [name for name, _ in ring.release_keys] == ["release-3.pub.pem"]
    assert [name for name, _ in ring.retired] == ["release-1.pub.pem", "release-2.pub.pem"]
    assert not [path for path in (tmp_path / "keys").rglob("*.pem") if b"PRIVATE" in path.read_bytes()]
    assert "Verified OK" in said["sha256sum root-1.bin"]
    (openssls,) = (words for line, words in said.items() if line.startswith("openssl genpkey"))
    park = openssls.split()[0]
    assert park in {key_id for _, key_id in ring.root_keys}
    assert ring.highest is not None
    assert ring.highest.counter == 2


def test_the_guide_names_every_option_of_a_rotation() -> None:
    words = GUIDE.read_text("utf-8")
    asked = [sys.executable, str(PROJECT / "build.py"), "keys", "rotate", "--help"]
    said = subprocess.run(asked, capture_output=True, text=True, check=True, cwd=PROJECT).stdout
    options = set(re.findall(r"(?m)^  (--[a-z-]+)", said)) - {
        "--keys",
        "--passphrase-file",
        "--json",
        "--lang",
    }
    assert len(options) > 8
    assert not [option for option in options if option not in words]
