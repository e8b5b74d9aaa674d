"""Python environments on the server, built at their final path out of wheels that are blobs.

No resolver and no network client takes part: the lock chose the wheels, ``pypa/installer`` unpacks them.
"""

from __future__ import annotations

import configparser
import csv
import errno
import shutil
import subprocess
import warnings
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from installer import install
from installer.destinations import SchemeDictionaryDestination
from installer.exceptions import InstallerError
from installer.records import InvalidRecordEntry
from installer.sources import WheelFile

from appliance.durable import sync_file_system, write_file
from appliance.errors import BanipError, Tampered, UnfitServer
from appliance.format import BUILD_AGAIN
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from appliance.format import Environment, Wheel
    from appliance.store import Store

COMPLETE = ".complete"
#: What zipfile and installer raise for a wheel that is none, or whose members would leave their folder.
_BAD_WHEEL = (
    *(ValueError, LookupError, AssertionError, NotImplementedError, RuntimeError, EOFError),
    *(FileExistsError, IsADirectoryError, NotADirectoryError),
    *(zipfile.BadZipFile, zlib.error, csv.Error, configparser.Error, InstallerError, InvalidRecordEntry),
)
_REASON_CHARACTERS = 500
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}


def build_environment(
    environment: Environment, store: Store, folder: Path, progress: Callable[[int, int], None]
) -> Path:
    """Build ``folder/<digest>`` and return it; an environment that is complete there is left as it is.

    ``progress`` gets wheels done and wheels in all. A folder without its ``.complete`` is the rest of a
    run that was cut off, and goes. Raises ``UnfitServer`` where the Python is missing, ``Tampered``.
    """
    home = folder / environment.digest
    if (home / COMPLETE).is_file():
        return home
    if home.exists():
        shutil.rmtree(home)
    python = _create(environment, home)
    for done, wheel in enumerate(environment.wheels, start=1):
        _install(wheel, store, home, environment.python)
        progress(done, len(environment.wheels))
    _compile(python, _site_packages(home, environment.python))
    sync_file_system(home)
    write_file(home / COMPLETE, f"{environment.digest}\n".encode(), mode=0o444)
    return home


def _create(environment: Environment, home: Path) -> Path:
    interpreter = shutil.which(f"python{environment.python}", path="/usr/bin:/usr/local/bin:/bin")
    if interpreter is None:
        raise UnfitServer(
            text("this server has no Python {version}", version=environment.python),
            remedy=text("install it from the operating system's own medium, then run the command again"),
        )
    home.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _run(interpreter, "-I", "-m", "venv", "--without-pip", str(home))
    return home / "bin" / "python"


def _site_packages(home: Path, version: str) -> Path:
    return home / "lib" / f"python{version}" / "site-packages"


def _install(wheel: Wheel, store: Store, home: Path, version: str) -> None:
    site = str(_site_packages(home, version))
    destination = SchemeDictionaryDestination(
        {
            "purelib": site,
            "platlib": site,
            "headers": str(home / "include" / wheel.filename.split("-")[0]),
            "scripts": str(home / "bin"),
            "data": str(home),
        },
        interpreter=str(home / "bin" / "python"),
        script_kind="posix",
    )
    content = store.unchanged(wheel.sha256, wheel.filename)
    with _naming_a_bad_wheel(wheel), zipfile.ZipFile(content) as archive:
        archive.filename = wheel.filename  # a blob is named by its digest; the signed name says what it is
        with warnings.catch_warnings():
            # numpy carries bytecode of its own, which is left out: a warning of no use to an operator.
            warnings.simplefilter("ignore", RuntimeWarning)
            install(WheelFile(archive), destination, {"INSTALLER": b"banip\n"})


@contextmanager
def _naming_a_bad_wheel(wheel: Wheel) -> Iterator[None]:
    """Turn what a wheel that no installer takes brings about into ``Tampered``; a full disk stays one."""
    try:
        yield
    except (*_BAD_WHEEL, OSError) as error:
        if not isinstance(error, _BAD_WHEEL) and error.errno not in {errno.ENAMETOOLONG, errno.EINVAL}:
            raise
        raise Tampered(
            text("a wheel of the release cannot be unpacked"),
            where=wheel.filename,
            seen=repr(error)[:_REASON_CHARACTERS],
            remedy=BUILD_AGAIN,
        ) from error


def _compile(python: Path, folder: Path) -> None:
    # Services may not write there. Some packages carry files that no Python compiles: that is no failure.
    subprocess.run(
        [str(python), "-I", "-m", "compileall", "-q", "-j", "0", str(folder)],
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )


def _run(*argv: object) -> None:
    done = subprocess.run(
        [str(word) for word in argv],
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise BanipError(
            text("a command that builds an environment failed"),
            where=" ".join(map(str, argv)),
            seen=done.stderr.strip()[-2000:],
        )
