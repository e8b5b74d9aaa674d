"""A tiny project to build from: one Python package, one role, a folder of wheels instead of an index.

Nothing in it needs the network: its build backend is its own, and its wheels are written by hand.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.manifest import CheckedManifest, check
from bundle.workshop import Event, Workshop

_BUILD = Path(__file__).parents[1] / "build.py"
NOWHERE = "http://127.0.0.1:9"  # loopback, where nobody listens

_BACKEND = """
import zipfile

def _put(archive, name, content):
    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = "tiny-1.0-py3-none-any.whl"
    metadata = ("Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\nLicense-Expression: MIT\\n"
                "Provides-Extra: controller\\nRequires-Dist: leaf; extra == 'controller'\\n")
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as archive:
        _put(archive, "tiny/__init__.py", open("tiny/__init__.py").read())
        _put(archive, "tiny-1.0.dist-info/METADATA", metadata)
        tags = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        _put(archive, "tiny-1.0.dist-info/WHEEL", tags)
        _put(archive, "tiny-1.0.dist-info/RECORD", "")
    return name
"""
_MANIFEST = """\
format: 1
product: tiny
version: 1.0.0
counter: 1
grade: O
target:
  os: debian-12
  architecture: x86_64
  python: "3.11"
  platform: x86_64-manylinux_2_36
sources:
  find_links: [wheels]
environments:
  api:
    projects:
      - path: .
    requirements:
      - leaf==1.0
models:
  greeting:
    generate:
      kind: random
      seed: one
      weights_bytes: 4096
      text: hello
playbooks:
  roles: [api]
variables:
  api_port: 8600
"""
_ROLE = """\
format: 1
owns:
  units: [banip-api.service]
health:
  - kind: unit
    unit: banip-api.service
"""


class TinyProject:
    """The project in a folder; change its files, then ask it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = folder / "manifests" / "tiny.yaml"
        self.write("manifests/tiny.yaml", _MANIFEST)
        self.write("pyproject.toml", _pyproject())
        self.write("backend.py", _BACKEND)
        self.write("tiny/__init__.py", "NUMBER = 1\n")
        self.write("playbooks/site.yml", "---\n")
        self.write("playbooks/roles/api/tasks/main.yml", "---\n")
        self.write("playbooks/roles/api/meta/banip.yaml", _ROLE)
        make_wheel(folder / "wheels", "leaf", "1.0")

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def edit(self, old: str, new: str, name: str = "manifests/tiny.yaml") -> None:
        content = (self.folder / name).read_text("utf-8")
        assert old in content
        self.write(name, content.replace(old, new, 1))

    def line_of(self, words: str, name: str = "manifests/tiny.yaml") -> int:
        lines = (self.folder / name).read_text("utf-8").splitlines()
        return next(number for number, line in enumerate(lines, start=1) if words in line)

    def check(self) -> CheckedManifest:
        return check(self.manifest)

    @property
    def workshop(self) -> Workshop:
        return Workshop(self.folder.resolve())


def make_wheel(
    folder: Path, name: str, version: str, tag: str = "py3-none-any", content: str = "X = 1\n"
) -> Path:
    """Write a wheel by hand; equal arguments, equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    files = {
        f"{name}/__init__.py": content,
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
        f"{name}-{version}.dist-info/RECORD": "",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in files.items():
            archive.writestr(zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0)), data)
    return path


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Events:
    """Remembers what was reported."""

    def __init__(self) -> None:
        self.seen: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.seen.append(event)

    def names(self, kind: str) -> list[str]:
        return [event.name for event in self.seen if event.kind == kind]


def _pyproject() -> str:
    return textwrap.dedent(
        """\
        [build-system]
        requires = []
        build-backend = "backend"
        backend-path = ["."]

        [project]
        name = "tiny"
        version = "1.0"
        """
    )


@dataclass(frozen=True, slots=True)
class Built:
    """What ``build.py`` made of a tiny project; ``paper`` is what ``build.py packet --json`` says."""

    bundle: Path
    pyz: Path
    paper: dict[str, Any]


def build_tiny(folder: Path) -> Built:
    """Go the whole way once with ``build.py``, as a person does: keys, lock, collect, build, sign, paper."""
    project = TinyProject(folder)
    bundle = folder / "dist" / "tiny-1.0.0.tar"
    for argv in (
        ("keys", "create", "--product", "tiny"),
        ("lock", project.manifest),
        ("collect", project.manifest),
        ("build", project.manifest, "--out", "dist"),
        ("sign", bundle, "--key", "keys/release-1.pem"),
        ("packet", bundle, "--json"),
    ):
        done = subprocess.run(
            [sys.executable, str(_BUILD), *map(str, argv)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "LC_ALL": "C.UTF-8", "BANIP_PASSPHRASE": "five words that nobody guesses"},
        )
    paper = json.loads(done.stdout.splitlines()[-1])["result"]
    return Built(bundle, bundle.parent / "appliance.pyz", paper)
