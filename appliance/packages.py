"""Operating system packages, installed by the server's own apt out of the release's folder and nowhere else.

Packages only move forward: what is there in the wanted version or a newer one is left, nothing is downgraded
or removed, and no rollback comes here. A run that was killed is finished first by the next one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.durable import make_folder, remove_file, write_file
from appliance.errors import UnfitServer
from appliance.format import PACKAGES_FOLDER, PACKAGES_INDEX
from appliance.host import CLEAN_ENVIRONMENT, run
from appliance.text import text
from appliance.versions import lacking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from appliance.format import Package, Release
    from appliance.store import Store

#: How long another package manager (unattended-upgrades, or our own run that was killed) may hold the lock.
LOCK_TIMEOUT_S = 600
#: Scripts of packages ask nobody, keep what the site has changed, and tools beside apt stay out of it.
_ENVIRONMENT = {
    **CLEAN_ENVIRONMENT,
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBIAN_PRIORITY": "critical",
    "UCF_FORCE_CONFFOLD": "1",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",
}
#: The ways in which apt can fetch here: what is not in this folder does not exist for it, http least of all.
_METHODS = ("file", "copy", "store")
_TOLD_LINES = 15
_SET_UP = re.compile(r"Setting up ([a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)? ")
_UNIT = re.compile(r"\./(?:usr/)?lib/systemd/system/([^/ ]+\.(?:service|socket|timer|path))(?: -> .*)?$")
_SCRIPT = re.compile(r"\./etc/init\.d/([^/ ]+)$")


@dataclass(frozen=True, slots=True)
class Packages:
    """What apt works with on this server.

    ``scratch`` is ours alone and is removed; ``log`` gets the whole output, appended; ``machine`` is the root
    that is installed to, ``/`` but in tests.
    """

    scratch: Path
    log: Path
    machine: Path = Path("/")

    def installed(self) -> Mapping[str, str]:
        """Return version by name of what is installed whole; half-configured does not count.

        Nor does a package of a foreign architecture: a library of i386 serves no program of amd64.
        """
        native = {"all", run("dpkg", "--print-architecture").stdout.strip()}
        form = "${db:Status-Status}\t${Architecture}\t${Package}\t${Version}\n"
        told = run("dpkg-query", f"--root={self.machine}", "--show", f"--showformat={form}", check=False)
        rows = (line.split("\t") for line in told.stdout.splitlines())
        return {
            name: version for status, kind, name, version in rows if status == "installed" and kind in native
        }

    def install(
        self, release: Release, folder: Path, store: Store, progress: Callable[[str, int, int], None]
    ) -> tuple[Package, ...]:
        """Install what is lacking out of the release's ``folder``; return what that was.

        ``progress`` gets a package that is set up, how many are, and of how many. Raises ``UnfitServer`` with
        apt's own last words, ``Tampered`` for a package that changed on this disk.
        """
        wanted = lacking(release.packages, self.installed())
        if not wanted:
            _let_go(self._systemd)
            return ()
        for package in wanted:
            store.unchanged(package.sha256, package.path)
        store.unchanged({file.path: file.sha256 for file in release.files}[PACKAGES_INDEX], PACKAGES_INDEX)
        self._lay(folder)
        try:
            with _held_back(self._systemd, self._new_units(wanted, folder)):
                self._work(wanted, progress)
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)
        return wanted

    # --- apt and dpkg ----------------------------------------------------------------------------------

    def _work(self, wanted: Sequence[Package], progress: Callable[[str, int, int], None]) -> None:
        names, done = {package.name for package in wanted}, set[str]()

        def hear(line: str) -> None:
            found = _SET_UP.match(line)
            if found and found[1] in names - done:
                done.add(found[1])
                progress(found[1], len(done), len(names))

        self._finish_interrupted(hear)
        told = self._apt(hear, "update")
        # Each is named with its version: no pin of the site chooses another, and as they are marked as asked
        # for, no autoremove of the site takes them away. A package on hold stays a refusal of apt's.
        told = told or self._apt(hear, "install", *(f"{one.name}={one.version}" for one in wanted))
        left = lacking(wanted, self.installed())
        if left:
            raise self._failed(left, told)

    def _failed(self, left: Iterable[Package], told: str) -> UnfitServer:
        return UnfitServer(
            text("apt could not install the operating system packages of the release"),
            where=", ".join(f"{one.name} {one.version}" for one in left),
            seen=told or None,
            remedy=text(
                "nothing was switched and nothing is lost: remove the cause that apt names, or carry in a"
                " release with a repaired package, and run the command again; the whole output is in {log}",
                log=self.log,
            ),
        )

    def _finish_interrupted(self, hear: Callable[[str], None]) -> None:
        """Configure what a killed run left unpacked; apt refuses to work before that.

        A package that cannot be configured is no failure yet: the release may bring the repaired one.
        """
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while "locked by another process" in self._run(hear, "dpkg", *self._root(), "--configure", "-a"):
            if time.monotonic() >= deadline:
                return  # apt will say who holds it
            time.sleep(1)

    def _apt(self, hear: Callable[[str], None], *words: str) -> str:
        return self._run(hear, "apt-get", *(word for one in self._options() for word in ("-o", one)), *words)

    def _run(self, hear: Callable[[str], None], *argv: str) -> str:
        """Run a program; return nothing when it went well, else the last lines that it said."""
        last: deque[str] = deque(maxlen=_TOLD_LINES)
        with self.log.open("a", encoding="utf-8") as log, _started(argv) as child:
            for line in child.stdout or ():
                log.write(line)
                last.append(line.rstrip())
                hear(line)
        return "" if child.returncode == 0 else "\n".join(last) or f"{argv[0]}: {child.returncode}"

    def _root(self) -> tuple[str, ...]:
        """Return what makes dpkg work in another root: its scripts run here, and are told of it."""
        return () if self.machine == Path("/") else (f"--root={self.machine}", "--force-script-chrootless")

    def _options(self) -> tuple[str, ...]:
        """Return apt's settings: its own source, its own folders, no way out, no question, no way back.

        The rest of the server's settings stays in force: hooks that open a read-only /usr are needed here.
        """
        dpkg = (*self._root(), "--force-confdef", "--force-confold")
        return (
            *(() if self.machine == Path("/") else (f"Dir={self.machine}",)),
            f"Dir::Etc::SourceList={self.scratch}/sources.list",
            "Dir::Etc::SourceParts=/dev/null",
            f"Dir::State::Lists={self.scratch}/lists",
            f"Dir::Cache={self.scratch}/cache",
            f"Dir::Bin::Methods={self.scratch}/methods",
            # Nothing is fetched from anybody, so there is nothing to shield from what is fetched.
            "APT::Sandbox::User=root",
            "Acquire::Languages=none",
            "APT::Install-Recommends=false",
            "APT::Get::Assume-Yes=true",
            # What a killed dpkg left half-installed passes for installed otherwise.
            "APT::Get::ReInstall=true",
            "APT::Get::Remove=false",
            "APT::Get::AutomaticRemove=false",
            f"DPkg::Lock::Timeout={LOCK_TIMEOUT_S}",
            "Dpkg::Use-Pty=false",
            "quiet=1",
            *(f"DPkg::Options::={word}" for word in dpkg),
        )

    def _lay(self, folder: Path) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        make_folder(self.log.parent, mode=0o750)
        for name in ("lists/partial", "cache/archives/partial", "methods"):
            make_folder(self.scratch / name, mode=0o700)
        for method in _METHODS:
            (self.scratch / "methods" / method).symlink_to(f"/usr/lib/apt/methods/{method}")
        # Trusted without a signature of its own: each byte was hashed and is named by the signed release.
        source = f"deb [trusted=yes] file://{folder / PACKAGES_FOLDER} ./\n"
        (self.scratch / "sources.list").write_text(source, "utf-8")

    # --- Units that nobody asked for -------------------------------------------------------------------

    @property
    def _systemd(self) -> Path:
        return self.machine / "run/systemd"

    def _new_units(self, packages: Iterable[Package], folder: Path) -> tuple[str, ...]:
        """Return the units that come with packages which were not here before."""
        known = self.installed()
        units = (
            unit
            for package in packages
            if package.name not in known
            for unit in units_of(folder / package.path)
        )
        return tuple(dict.fromkeys(units))


def units_of(package: Path) -> Iterator[str]:
    """Yield the units that a .deb file brings; an init script counts as the unit that systemd makes of it."""
    for line in run("dpkg-deb", "--contents", str(package)).stdout.splitlines():
        path = line.split(maxsplit=5)[5]
        unit, script = _UNIT.match(path), _SCRIPT.match(path)
        if unit:
            yield unit[1]
        elif script:
            yield f"{script[1]}.service"


_PRESET = "system-preset/00-banip-packages.preset"


@contextmanager
def _held_back(systemd: Path, units: Iterable[str]) -> Iterator[None]:
    """Let none of the units start or be enabled meanwhile; which of them run later, the roles say.

    nginx would listen on port 80 and podman's timer would ask registries, before any role has spoken. Two
    means of systemd's own, because each leaves a gap. A preset decides what is enabled when a package is
    installed for the first time, so that nothing starts after a reboot either; but nginx's script starts it
    all the same. A runtime mask refuses every start. Both lie in /run, so that no reboot finds them, both
    name only these units, so that what else is installed behaves as ever, and the preset lists the masks for
    the next run, should this one be killed. (Not policy-rc.d: one file in /usr for all services, which a
    killed run would leave there for good, and which would keep running services from being restarted by
    their own upgrade. Not RUNLEVEL=1: scripts that speak to systemd do not look at it.)
    """
    masks = {unit: systemd / "system" / unit for unit in (*_held(systemd), *units)}
    ours = [unit for unit, mask in masks.items() if unit in _held(systemd) or not os.path.lexists(mask)]
    for folder in (systemd / "system", (systemd / _PRESET).parent):
        folder.mkdir(parents=True, exist_ok=True)
    write_file(systemd / _PRESET, "".join(f"disable {unit}\n" for unit in ours).encode())
    for unit in ours:
        if not os.path.lexists(masks[unit]):
            masks[unit].symlink_to("/dev/null")
    try:
        yield
    finally:
        _let_go(systemd)


def _held(systemd: Path) -> tuple[str, ...]:
    """Return the units that are held back now, or were when a run was killed."""
    preset = systemd / _PRESET
    lines = preset.read_text("utf-8").splitlines() if preset.exists() else ()
    return tuple(line.removeprefix("disable ") for line in lines)


def _let_go(systemd: Path) -> None:
    """Take preset and masks away, those of a killed run too."""
    if not (systemd / _PRESET).exists():
        return
    for unit in _held(systemd):
        mask = systemd / "system" / unit
        if mask.is_symlink():
            mask.unlink()
    remove_file(systemd / _PRESET)
    if systemd == Path("/run/systemd"):
        run("systemctl", "daemon-reload", check=False)


def _started(argv: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv,
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
