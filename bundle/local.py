"""Files of the project that enter a bundle: playbooks, model folders, the sources of local projects.

Symbolic links are refused, so that nothing from outside the project can be named into a bundle. Hidden
files and Python's caches stay at home.
"""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import tomllib

from appliance.errors import BadInput
from appliance.format import RelativePath, canonical_json, sha256_hex
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bundle.manifest import CheckedManifest

_PATH = re.compile(get_args(RelativePath)[1].pattern)
_BUILD_FILES = re.compile(r"(pyproject\.toml|setup\.(py|cfg)|hatch_build\.py|(README|LICEN[CS]E|NOTICE).*)")


def file_sha256(path: Path) -> str:
    """Return the digest of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_files(folder: Path, inside: str = "") -> dict[str, Path]:
    """Return the files below a folder by their path in it (``inside/`` before), sorted.

    Raises ``BadInput`` for a link, for what is no regular file, and for a name that a release cannot have.
    """
    found = {}
    for path in sorted(_walk(folder)):
        relative = "/".join(part for part in (inside, path.relative_to(folder).as_posix()) if part)
        if path.is_symlink() or not path.is_file():
            raise BadInput(text("links and special files cannot enter a bundle"), where=path)
        if not is_release_path(relative):
            raise BadInput(text("a release cannot have a file of this name"), where=path)
        found[relative] = path
    return found


def is_release_path(path: str) -> bool:
    """Tell whether a release can have a file of that path."""
    return _PATH.fullmatch(path) is not None


def playbook_files(checked: CheckedManifest) -> dict[str, Path]:
    """Return the files that go to ``playbooks/`` of the release: those beside ``site.yml``, and the roles."""
    playbooks = checked.manifest.playbooks
    folder = checked.path(playbooks.folder)
    if not playbooks.roles:
        return {}
    found = {f"playbooks/{path.name}": path for path in sorted(folder.iterdir()) if _plain(path)}
    for role in playbooks.roles:
        found |= folder_files(folder / "roles" / role, f"playbooks/roles/{role}")
    return found


def source_digest(project: Path, tops: Iterable[str]) -> str:
    """Return one digest over everything that a local project's wheel is made from.

    ``tops``: its packages and modules, relative to the project, as ``wheel_tops`` found them.
    """
    files = {path.name: path for path in project.iterdir() if _BUILD_FILES.fullmatch(path.name)}
    for top in tops:
        here = project / top
        files |= {top: here} if here.is_file() else folder_files(here, top) if here.is_dir() else {}
    digests = {name: file_sha256(path) for name, path in files.items() if path.is_file()}
    return sha256_hex(canonical_json(digests))


def wheel_tops(project: Path, wheel: Path) -> tuple[str, ...]:
    """Return where in the project the packages and modules of its wheel come from.

    What hatch puts into packages from elsewhere (``force-include``) counts as well.
    """
    with zipfile.ZipFile(wheel) as archive:
        names = {name.split("/")[0] for name in archive.namelist()}
    tops = {top for name in names for top in (name, f"src/{name}") if (project / top).exists()}
    return tuple(sorted(tops | _forced(project)))


def _forced(project: Path) -> set[str]:
    file = project / "pyproject.toml"
    told: Any = tomllib.loads(file.read_text("utf-8")) if file.exists() else {}
    for key in ("tool", "hatch", "build", "targets", "wheel", "force-include"):
        told = told.get(key, {})
    return {path for path in told if (project / path).exists()}


def _walk(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        yield from (Path(here) / name for name in [*files, *links] if not name.startswith("."))


def _plain(path: Path) -> bool:
    if path.is_symlink():
        raise BadInput(text("links and special files cannot enter a bundle"), where=path)
    return path.is_file() and not path.name.startswith(".")
