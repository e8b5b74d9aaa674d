"""``make demo``: build, sign, carry in, install, upgrade, fail and return, roll back, uninstall, as typed.

Everything is real: wheels from the index, throw-away keys (2 of 3), a disposable closed server that boots
systemd and has no way out. Root is needed for that server alone; without it the demo stops after the
bundle is verified, imported into a private root and planned, and says what it left out.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.carried import VERSION_1, VERSION_2, VERSION_3_UNHEALTHY, Media, Workshop
from tests.closed_server import closed_server, why_not
from tests.onsite import PYZ, answer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.closed_server import ClosedServer


class Transcript:
    """Shows what is typed and what is answered, on the screen and in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def say(self, line: str) -> None:
        """Write a line."""
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        self._file.write(f"{line}\n")

    def heading(self, words: str) -> None:
        """Begin a part."""
        self.say(f"\n== {words}")

    def command(self, argv: tuple[object, ...], done: subprocess.CompletedProcess[str]) -> None:
        """Show a command, what it said and, where it is not 0, its exit code."""
        self.say(f"$ {shlex.join(map(str, argv))}")
        for line in (done.stderr + done.stdout).splitlines():  # how it went, then how it ended
            self.say(line)
        if done.returncode:
            self.say(f"[exit {done.returncode}]")


class OnlineSide:
    """The builder's machine."""

    def __init__(self, transcript: Transcript, workshop: Workshop) -> None:
        self._transcript, self._workshop = transcript, workshop

    def type(self, *argv: object) -> None:
        """Type a command of ``build.py``."""
        done = self._workshop.run(*argv)
        self._transcript.command(("python", "build.py", *argv), done)

    def make(self, stick: Path) -> Media:
        """Make the keys and three versions; show the first one step by step."""
        shown, workshop = self._transcript, self._workshop
        workshop.create_keys()
        for change in (VERSION_3_UNHEALTHY, VERSION_2):
            workshop.build(change, stick)
        workshop.restore(VERSION_1)
        # Relative to the workshop, as a person would type them.
        manifest, keys, words = Path("manifests/minimal.yaml"), Path("keys"), Path("passphrase")
        out = Path(os.path.relpath(stick, workshop.folder))
        bundle = out / "minimal-1.0.0.tar"
        shown.heading("Online: names become digests, content is collected, one bundle is built and signed")
        self.type("check", manifest)
        self.type("lock", manifest)
        self.type("collect", manifest)
        self.type("build", manifest, "--keys", keys, "--out", out)
        self.type("sign", bundle, "--key", keys / "release-1.pem", "--passphrase-file", words)
        self.type("verify", bundle, "--keys", keys)
        shown.heading("The paper that travels apart from the stick")
        self.type("packet", bundle)
        names = (f"minimal-{change.version}.tar" for change in (VERSION_1, VERSION_2, VERSION_3_UNHEALTHY))
        return Media(stick, workshop, *(stick / name for name in names))


class OnSite:
    """The operator in the machine room."""

    def __init__(self, transcript: Transcript, server: ClosedServer) -> None:
        self._transcript, self._server = transcript, server

    def type(self, *argv: str) -> None:
        """Type a command on the closed server."""
        self._transcript.command(argv, self._server.exec(*argv, check=False))

    def ask(self) -> None:
        """Show which release the service answers for."""
        told = answer(self._server)
        wheel = told["packages"]["itsdangerous"]
        self._transcript.say(f"# the service answers: release {told['release']}, itsdangerous {wheel}")

    def walk(self, media: Media) -> None:
        """Do what the operator guide says, once through."""
        heading = self._transcript.heading
        heading("First contact: one file, copied, compared with the paper, run from the disk")
        self.type("cp", "/media/usb/appliance.pyz", PYZ)
        self.type("sha256sum", PYZ)
        self.type("python3", "-I", PYZ, "verify", f"/media/usb/{media.first.name}")
        heading("Install, and install again")
        self.type("python3", "-I", PYZ, "install", f"/media/usb/{media.first.name}")
        self.ask()
        self.type("appliance", "install", f"/media/usb/{media.first.name}")
        heading("Upgrade: only what is new is read")
        self.type("appliance", "plan", f"/media/usb/{media.second.name}")
        self.type("appliance", "upgrade", f"/media/usb/{media.second.name}")
        self.ask()
        heading("An upgrade that does not become healthy returns by itself")
        self.type("appliance", "upgrade", f"/media/usb/{media.unhealthy.name}")
        self.ask()
        heading("Roll back, without a medium")
        self.type("appliance", "rollback")
        self.ask()
        self.type("appliance", "status")
        heading("Uninstall: data, state and logs stay")
        self.type("appliance", "uninstall", "--yes")
        self.type("find", "/var/lib/banip", "-maxdepth", "1")
        heading("Attempts to leave the closed server")
        attempts = self._server.attempts()
        self._transcript.say("\n".join(map(str, attempts)) if attempts else "0 attempts were counted")


def without_a_server(transcript: Transcript, media: Media, why: str) -> None:
    """Do what needs neither root nor a server, and name what was not done."""
    with tempfile.TemporaryDirectory(dir=media.folder.parent) as folder:
        pyz = shutil.copy(media.pyz, Path(folder) / "appliance.pyz")
        for command in ("verify", "import", "preflight", "plan"):
            argv = ("python3", "-I", pyz, "--root", f"{folder}/root", command, media.first)
            done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
            transcript.command(argv, done)
    transcript.heading("Not done here: boot a closed server, install, upgrade, return, roll back, uninstall")
    transcript.say(f"because {why}")


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="banip-demo-") as folder:
        yield Path(folder)


def main() -> None:
    """Run the demo; ``--keep FOLDER`` leaves bundles and keys there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="leave bundles and throw-away keys in this folder")
    parser.add_argument("--transcript", type=Path, default=Path("dist/demo.txt"))
    options = parser.parse_args()
    options.transcript.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    transcript = Transcript(options.transcript)
    with _folder(options.keep) as folder:
        media = OnlineSide(transcript, Workshop(folder / "workshop")).make(folder / "stick")
        why = why_not("nspawn")
        if why is not None:
            without_a_server(transcript, media, why)
            return
        with closed_server(media=media.folder) as server:
            OnSite(transcript, server).walk(media)
    transcript.say(f"\nThis session is in {options.transcript}")


if __name__ == "__main__":
    main()
