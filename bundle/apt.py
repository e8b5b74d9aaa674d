"""Real apt in a private folder: its own configuration, state and cache, for another machine than this one.

Nothing of this machine's dpkg is read or changed, and no right of root is needed. Of this machine's settings
only the way to the network is kept (proxies, certificates, how old an index may be). Source: apt.conf(5).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import Incomplete
from appliance.text import text
from bundle.index import masked
from bundle.workshop import ended

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from bundle.sources import AptSource

_KEPT = re.compile(
    r"Acquire::(https?|ForceIPv[46]|Check-Valid-Until|Check-Date|M(ax|in)-ValidTime)(::\S+)? .*;"
)
_INSTALL = re.compile(r"Inst (?P<name>\S+) (\[\S+\] )?\((?P<version>\S+) .*\[(?P<architecture>[a-z0-9]+)\]\)")
_FIELD = re.compile(r"^([A-Za-z0-9-]+):[ \t]*(.*(?:\n[ \t].*)*)$", re.MULTILINE)
_NOTHING = "/dev/null"
_LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class Chosen:
    """A package in the version that apt chose."""

    name: str
    version: str
    architecture: str

    @property
    def pinned(self) -> str:
        """Return it as apt takes a name that may mean nothing else."""
        return f"{self.name}={self.version}"


class Apt:
    """apt-get and apt-cache for one architecture and one set of sources, in a folder that stays."""

    def __init__(self, folder: Path, architecture: str, sources: Sequence[AptSource], project: Path) -> None:
        self._folder = folder
        for name in ("lists/partial", "cache/archives/partial", "log"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "nothing").write_bytes(b"")
        own = _sources(sources, project) if sources else ""
        (folder / "banip.sources").write_text(own, "utf-8")
        configuration = _configuration(folder, architecture, own_sources=bool(sources))
        with os.fdopen(
            os.open(folder / "apt.conf", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w"
        ) as file:
            file.write(configuration)  # a proxy's address may hold a password

    @property
    def files(self) -> Path:
        """Return where packages are once they are whole; those that lie there are not downloaded."""
        return self._folder / "cache" / "archives"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait for another run that uses the same folder."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def update(self) -> None:
        """Fetch the indexes; their signatures are apt's to check. Raises ``Incomplete`` where one fails."""
        self._run("apt-get", "update")

    def available(self) -> Iterator[dict[str, str]]:
        """Yield the fields of every package, each once, in the version that apt prefers."""
        stanzas = self._run("apt-cache", "dumpavail").split("\n\n")
        return (fields(stanza) for stanza in stanzas if stanza.strip())

    def choose(self, names: Iterable[str], *, upon: Path | None = None) -> tuple[Chosen, ...]:
        """Return what apt would install for these names: on nothing, or on the packages of a status file.

        Raises ``Incomplete`` with apt's own reason where there is no solution.
        """
        status = upon or self._folder / "nothing"
        said = self._run(
            "apt-get", "-o", f"Dir::State::status={status}", "--simulate", "install", "--", *sorted(names)
        )
        return tuple(
            Chosen(found["name"].partition(":")[0], found["version"], found["architecture"])
            for found in _INSTALL.finditer(said)
        )

    def show(self, chosen: Sequence[Chosen]) -> tuple[str, ...]:
        """Return the stanza of each from the archive's index. Raises ``Incomplete`` where it has none."""
        if not chosen:
            return ()
        said = self._run("apt-cache", "show", *(each.pinned for each in chosen))
        found: dict[tuple[str, str], str] = {}
        for stanza in filter(str.strip, said.split("\n\n")):
            told = fields(stanza)
            found.setdefault((told["Package"], told["Version"]), stanza)
        if gone := [each.pinned for each in chosen if (each.name, each.version) not in found]:
            raise Incomplete(text("apt refuses"), seen=f"the archive has no {', '.join(gone)}")
        return tuple(found[each.name, each.version] for each in chosen)

    def lacks(self, chosen: Chosen) -> str | None:
        """Return why this version cannot be had from the archive as it is now, or None."""
        try:
            self.show([chosen])
        except Incomplete as error:
            return str(error.seen)
        return None

    def status(self, installed: Sequence[Chosen]) -> Path:
        """Write a status file of a machine that has these packages, and return it."""
        path = self._folder / "base"
        lines = (
            "\nStatus: install ok installed\n" + stanza.strip() + "\n" for stanza in self.show(installed)
        )
        path.write_text("".join(lines), "utf-8")
        return path

    def download(self, pinned: Sequence[str], *, upon: Path) -> Iterator[None]:
        """Download packages into ``files``, going on with half ones; yield now and then while it runs.

        Several, because only apt's ``install`` goes on with half a file, and it wants what they depend on
        too: name everything that is carried. Raises ``Incomplete`` at the end where one failed.
        """
        words = ("--download-only", "--reinstall", "--yes", "install", "--", *pinned)
        argv = ["apt-get", "-q", "-o", f"Dir::State::status={upon}", *words]
        with (self._folder / "said").open("w+") as said:
            with subprocess.Popen(
                argv, env=self._environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
            ) as process:
                try:
                    while ended(process, _LOOK_S) is None:
                        yield
                finally:
                    process.terminate()
            if process.returncode != 0:
                said.seek(0)
                words_said = said.read()
                raise Incomplete(text("apt refuses"), seen=_reason(words_said, words_said))

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C.UTF-8"}

    def _run(self, program: str, *words: str) -> str:
        done = subprocess.run(
            [program, "-q", *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Incomplete(text("apt refuses"), seen=_reason(done.stdout, done.stderr))
        return done.stdout


def why_not() -> str | None:
    """Return why this machine cannot ask apt, or None."""
    missing = [name for name in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(name) is None]
    return f"{', '.join(missing)}: not installed" if missing else None


def fields(stanza: str) -> dict[str, str]:
    """Return the fields of a control stanza."""
    return dict(_FIELD.findall(stanza))


def _configuration(folder: Path, architecture: str, *, own_sources: bool) -> str:
    settings = {
        "Dir::State": f"{folder}/",
        "Dir::State::lists": f"{folder}/lists/",
        "Dir::State::status": f"{folder}/nothing",
        "Dir::State::extended_states": f"{folder}/extended_states",
        "Dir::Cache": f"{folder}/cache/",
        "Dir::Log": f"{folder}/log/",
        "Dir::Etc::main": _NOTHING,
        "Dir::Etc::parts": _NOTHING,
        "Dir::Etc::preferences": _NOTHING,
        "Dir::Etc::preferencesparts": _NOTHING,
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Install-Suggests": "false",
        # The whole point is to have what the target will have, whichever machine asks.
        "APT::Get::Always-Include-Phased-Updates": "true",
        "APT::Update::Error-Mode": "any",
        "APT::Sandbox::User": "root",  # the folder is private; apt's own user could not write there
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
    }
    if own_sources:
        settings |= {"Dir::Etc::sourcelist": f"{folder}/banip.sources", "Dir::Etc::sourceparts": _NOTHING}
    return "".join([*(f'{name} "{value}";\n' for name, value in settings.items()), *_kept()])


def _kept() -> Iterator[str]:
    """Yield this machine's settings of the network, as ``apt-config`` prints them."""
    done = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True)
    return (f"{line}\n" for line in done.stdout.splitlines() if _KEPT.fullmatch(line))


def _sources(sources: Sequence[AptSource], project: Path) -> str:
    """Return the sources in apt's own form. Source: sources.list(5), deb822."""
    stanzas = []
    for source in sources:
        # apt leaves what it finds by file: where it is; copy: is the same, fetched.
        uri = re.sub("^file://", "copy:", source.uri)
        stanza = {"Types": "deb", "URIs": uri, "Suites": " ".join(source.suites)}
        if source.components:
            stanza["Components"] = " ".join(source.components)
        if source.signed_by is not None:
            stanza["Signed-By"] = str(project / source.signed_by)
        if source.trusted:
            stanza["Trusted"] = "yes"
        stanzas.append("".join(f"{name}: {value}\n" for name, value in stanza.items()))
    return "\n".join(stanzas)


def _reason(said: str, complained: str) -> str:
    """Return apt's errors as one line; what it says before them explains a conflict."""
    lines = complained.splitlines()
    errors = [line.removeprefix("E: ") for line in lines if line.startswith("E:")] or lines
    unmet = [line.strip() for line in said.splitlines() if line.startswith(" ")]
    return masked(" ".join([*errors, *unmet]))[:600] or "apt gave no reason"
