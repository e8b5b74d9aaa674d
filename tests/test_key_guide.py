"""The custodian's guide, line by line as it is printed: every ``sh`` block, in order, in one folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from importlib import metadata
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


def _with_all_that_it_asks_for(names: set[str]) -> set[str]:
    found: set[str] = set()
    while names:
        found |= (name := {names.pop()})
        for asked in metadata.requires(*name) or ():
            if "extra ==" not in asked:
                names |= {re.split(r"[^A-Za-z0-9_.-]", asked)[0].lower()} - found
    return found


@pytest.mark.real
def test_what_the_guide_carries_to_an_offline_machine_is_enough(tmp_path: Path) -> None:
    guide = GUIDE.read_text("utf-8")
    (asked,) = re.findall(r"pip install --no-index --find-links wheels (.*)", guide)
    (carried,) = re.findall(r"grep -iE '\^\((.*?)\)==", guide)
    needed = _with_all_that_it_asks_for(set(asked.split()))
    assert needed - {"typing-extensions"} <= set(carried.split("|"))
    for name in carried.split("|"):
        for file in metadata.files(name) or ():
            place = tmp_path / file.parts[0]
            if ".." not in file.parts and not place.exists():
                place.symlink_to(metadata.distribution(name).locate_file(file.parts[0]))  # type: ignore[arg-type]
    path = [str(tmp_path), str(PROJECT)]
    start = f"import sys, runpy; sys.path[:0] = {path}; runpy.run_path(sys.argv.pop(1), run_name='__main__')"

    def typed(*words: object) -> str:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", start, PROJECT / "build.py", *map(str, words)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={"BANIP_PASSPHRASE": "five words that nobody guesses"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    typed("keys", "create", "--product", "demo")
    typed("keys", "rotate", "--valid-days", 400, "--export", "root-2.bin")
    typed("keys", "sign", "root-2.bin", "--key", "keys/root-1.pem", "--yes")
    _build(tmp_path, "1.0.0", 1)
    typed("sign", "dist/demo-1.0.0.tar", "--key", "keys/release-1.pem")
    assert "whole and trusted" in typed("verify", "dist/demo-1.0.0.tar")
    typed("inspect", "dist/demo-1.0.0.tar")


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
