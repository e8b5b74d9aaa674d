"""Wheels: resolved by uv for the target, not for this machine; local projects are built here, once."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import tomllib
from packaging.pylock import PackageWheel, Pylock
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from uv import find_uv_bin

from appliance.errors import BadInput
from appliance.text import text
from bundle.index import masked
from bundle.local import file_sha256
from bundle.lock import LockedWheel, Unlocked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from packaging.pylock import Package

    from bundle.index import Index
    from bundle.manifest import TargetServer

#: 2020-01-01, a date that zip can say: part of what makes a wheel built twice the same bytes.
BUILD_EPOCH = "1577836800"
_OLDEST_GLIBC_MINOR = {"x86_64": 5, "aarch64": 17}
_OLDER_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_SIZE_THREADS = 8
_TIMEOUT_S = 30
_PAUSES_S = (1, 2, 4, 8)


@dataclass(frozen=True)
class WheelTarget:
    """The tags of wheels that the target takes, best first."""

    python: str
    uv_platform: str

    @property
    def platform(self) -> str:
        """Return the newest platform tag: ``manylinux_2_36_x86_64``."""
        return self.platforms[0]

    @property
    def folder(self) -> str:
        """Return the name of its folder in ``offline-wheels``: ``cp311-manylinux_2_36_x86_64``."""
        return f"{self._abi}-{self.platform}"

    @cached_property
    def platforms(self) -> tuple[str, ...]:
        """Return its platform tags, newest C library first."""
        architecture, _, glibc = self.uv_platform.partition("-manylinux_2_")
        found = []
        for minor in range(int(glibc), _OLDEST_GLIBC_MINOR[architecture] - 1, -1):
            found.append(f"manylinux_2_{minor}_{architecture}")
            if minor in _OLDER_NAMES:
                found.append(f"{_OLDER_NAMES[minor]}_{architecture}")
        return (*found, f"linux_{architecture}")

    @cached_property
    def tags(self) -> Mapping[Tag, int]:
        """Return every tag it takes with its rank, 0 the best."""
        version = tuple(map(int, self.python.split(".")))
        tags = [
            *cpython_tags(version, [self._abi], self.platforms),
            *compatible_tags(version, self._abi, self.platforms),
        ]
        return {tag: rank for rank, tag in reversed(list(enumerate(tags)))}

    @property
    def markers(self) -> dict[str, str]:
        """Return the environment in which dependency markers are evaluated."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.uv_platform.partition("-")[0],
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }

    def rank(self, filename: str) -> int | None:
        """Return how well a wheel fits, 0 best; None where it does not."""
        ranks = [self.tags[tag] for tag in parse_wheel_filename(filename)[3] if tag in self.tags]
        return min(ranks, default=None)

    @property
    def _abi(self) -> str:
        return "cp" + self.python.replace(".", "")


def wheel_target(target: TargetServer) -> WheelTarget:
    """Return the wheel tags of a target server."""
    return WheelTarget(target.python, target.platform)


def locked_wheel(path: Path, *, local: bool = False) -> LockedWheel:
    """Describe a wheel file."""
    name, version, *_ = parse_wheel_filename(path.name)
    return LockedWheel(
        filename=path.name,
        name=name,
        version=str(version),
        sha256=file_sha256(path),
        size_bytes=path.stat().st_size,
        local=local,
    )


# --- Building, once -----------------------------------------------------------------------------------------


def build_project(project: Path, out: Path, index: Index) -> Path:
    """Build the wheel of a local project into ``out``, the same bytes for the same sources."""
    argv = [
        *_uv("build"),
        *index.uv_options(),
        "--wheel",
        "--python",
        sys.executable,
        "--out-dir",
        str(out),
        str(project),
    ]
    return _build(argv, out, str(project), index.uv_environment())


def build_from_source(requirement: str, out: Path, index: Index) -> Path:
    """Build a wheel of a pinned name that exists only as source."""
    argv = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--wheel-dir", str(out)]
    argv += ["--no-binary", Requirement(requirement).name, requirement]
    return _build(argv, out, requirement, index.pip_environment())


def _build(argv: Sequence[str], out: Path, name: str, environment: Mapping[str, str]) -> Path:
    out.mkdir(parents=True)
    done = subprocess.run(
        argv,
        env={**environment, "SOURCE_DATE_EPOCH": BUILD_EPOCH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = sorted(out.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        raise BadInput(
            text("the wheel of {name} could not be built", name=name), seen=masked(done.stderr)[-2000:]
        )
    return wheels[0]


# --- Resolving ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wanted:
    """What goes into one environment: requirements as written, and wheels built here with their extras.

    ``excludes``: names that stay out although something in it requires them.
    """

    name: str
    requirements: tuple[str, ...]
    built: tuple[tuple[Path, tuple[str, ...]], ...]
    excludes: tuple[str, ...] = ()


def resolve(
    wanted: Wanted, target: WheelTarget, index: Index, work: Path
) -> tuple[tuple[LockedWheel, ...], tuple[Unlocked, ...]]:
    """Return the wheels of an environment, sorted by file name, and what could not be resolved.

    An environment that has no solution is unlocked as a whole, with uv's own reason.
    """
    work.mkdir(parents=True)
    wishes, excludes, lock = work / "requirements.in", work / "excludes.txt", work / "pylock.toml"
    wishes.write_text("".join(f"{line}\n" for line in _lines(wanted)), "utf-8")
    excludes.write_text("".join(f"{name}\n" for name in wanted.excludes), "utf-8")
    argv = [*_uv("pip"), "compile", "-q", "--no-header", "--no-annotate", "--format", "pylock.toml"]
    argv += ["--python", sys.executable, "--python-version", target.python]
    argv += ["--python-platform", target.uv_platform, "--only-binary", ":all:", *index.uv_options()]
    done = subprocess.run(
        [*argv, "--excludes", str(excludes), "-o", str(lock), str(wishes)],
        env=index.uv_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        reason = _reason(done.stderr) + _left_out(index)
        return (), (Unlocked(kind="environment", name=wanted.name, reason=reason),)
    return _choose(Pylock.from_dict(tomllib.loads(lock.read_text("utf-8"))), wanted, target, index, work)


def _lines(wanted: Wanted) -> Iterator[str]:
    yield from wanted.requirements
    for path, extras in wanted.built:
        chosen = f"[{','.join(extras)}]" if extras else ""
        yield f"{parse_wheel_filename(path.name)[0]}{chosen} @ {path.as_uri()}"


def _choose(
    pylock: Pylock, wanted: Wanted, target: WheelTarget, index: Index, work: Path
) -> tuple[tuple[LockedWheel, ...], tuple[Unlocked, ...]]:
    here = {parse_wheel_filename(path.name)[0]: path for path, _ in wanted.built}
    found = [locked_wheel(path, local=True) for path in here.values()]
    chosen, unlocked = [], []
    for package in pylock.packages:
        if canonicalize_name(package.name) in here or not _applies(package, target):
            continue
        wheel = _best(package, target)
        if wheel is None or "sha256" not in wheel.hashes:
            said = "no wheel for the target" if wheel is None else "the index gives no SHA-256"
            unlocked.append(Unlocked(kind="wheel", name=f"{package.name} {package.version}", reason=said))
        else:
            chosen.append((package, wheel))
    with ThreadPoolExecutor(_SIZE_THREADS) as threads:
        sizes = threads.map(lambda pair: _size_bytes(pair[1], index, work), chosen)
    for (package, wheel), size in zip(chosen, sizes, strict=True):
        if isinstance(size, str):
            unlocked.append(Unlocked(kind="wheel", name=f"{package.name} {package.version}", reason=size))
        else:
            found.append(_locked(package, wheel, size))
    return tuple(sorted(found, key=lambda wheel: wheel.filename)), tuple(unlocked)


def _applies(package: Package, target: WheelTarget) -> bool:
    return package.marker is None or package.marker.evaluate(target.markers)


def _best(package: Package, target: WheelTarget) -> PackageWheel | None:
    ranked = [(target.rank(wheel.filename), wheel.filename, wheel) for wheel in package.wheels or ()]
    fitting = [(rank, name, wheel) for rank, name, wheel in ranked if rank is not None]
    return min(fitting, key=lambda each: each[:2])[2] if fitting else None


def _locked(package: Package, wheel: PackageWheel, size_bytes: int) -> LockedWheel:
    return LockedWheel(
        filename=unquote(wheel.filename),
        name=canonicalize_name(package.name),
        version=str(package.version),
        sha256=wheel.hashes["sha256"],
        size_bytes=size_bytes,
    )


def _asked_length(
    request: urllib.request.Request, context: ssl.SSLContext, pauses_s: tuple[int, ...] = _PAUSES_S
) -> str | None:
    """Ask for a length, several times where the way there fails: names and links come and go."""
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S, context=context) as answer:  # noqa: S310
            length: str | None = answer.headers.get("Content-Length")
            return length
    except (urllib.error.URLError, TimeoutError) as error:
        if not pauses_s or isinstance(error, urllib.error.HTTPError):  # an answer will not change
            raise
    time.sleep(pauses_s[0])
    return _asked_length(request, context, pauses_s[1:])


def _size_bytes(wheel: PackageWheel, index: Index, work: Path) -> int | str:
    """Return the size as the index, the disk or the server says it, or why nobody does."""
    if wheel.size is not None:
        return wheel.size
    parts = urlsplit(wheel.url or "")
    if parts.scheme in {"", "file"}:
        return (work / (unquote(parts.path) or wheel.path or "")).stat().st_size
    context = ssl.create_default_context(cafile=index.certificates)
    request = urllib.request.Request(wheel.url or "", method="HEAD")  # noqa: S310 - the index named it
    try:
        size = _asked_length(request, context)
    except (urllib.error.URLError, TimeoutError) as error:
        return f"its size cannot be asked: {masked(str(error))}"
    return int(size) if size else "the index does not give its size"


def _reason(stderr: str) -> str:
    """Return uv's explanation as one line, without credentials, links and hints."""
    words = " ".join(stderr.split("\nhint:", maxsplit=1)[0].split())
    return masked(words)[:1000] or "uv gave no reason"


def _left_out(index: Index) -> str:
    return "".join(f"; the extra index {name} did not answer" for name in index.silent)


def _uv(command: str) -> list[str]:
    return [find_uv_bin(), command]
