"""``make demo``: the whole RAG and vLLM stack, carried into a sealed server, asked, audited, as typed.

Everything is real: wheels from the index, models from a local hub through huggingface_hub, an image from a
local registry through skopeo, Debian packages through apt, throw-away keys (2 of 3), a disposable closed
server that boots systemd and has no way out. Small and made here: the models (random weights, so the answers
are nonsense and the sources are not), the documents, the guide in the image.

Root is needed for that server alone (mounts and namespaces); without it the demo stops after the bundle is
verified, imported into a private root and planned, and says what it left out.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.closed_server import closed_server, why_not
from tests.closed_server.root import cache
from tests.onsite import PYZ
from tests.proofs import (
    ProofFailed,
    check_nothing_is_stubbed,
    check_the_counter_counts,
    wait_until_it_answers,
)
from tests.samples import DEMO_QUESTION
from tests.stack import FIRST, Stack, sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.closed_server import EgressAttempt, NspawnServer

REPORTS = "/var/log/banip/audit"


class DemoFailed(Exception):
    """Something that the demo is there to show did not come out."""


class Transcript:
    """Shows what is typed and what is answered, while it happens, on the screen and in a file.

    The screen alone gets a line whenever nothing was said for ``silence_s``: it is at work, not stuck.
    """

    def __init__(self, path: Path, silence_s: float = 20) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("w", encoding="utf-8")
        self._began = self._said = time.monotonic()
        self._over = threading.Event()
        threading.Thread(target=self._break_silence, args=(silence_s,), daemon=True).start()

    def say(self, line: str) -> None:
        """Write a line."""
        self._said = time.monotonic()
        for stream in (sys.stdout, self._file):
            stream.write(f"{line}\n")
            stream.flush()

    def close(self) -> None:
        """End it."""
        self._over.set()
        self._file.close()

    def _break_silence(self, silence_s: float) -> None:
        shown = self._said
        while not self._over.wait(silence_s / 20):
            now = time.monotonic()
            if now - max(shown, self._said) >= silence_s:
                shown = now
                print(f"  ... at work for {now - self._said:.0f} s", flush=True)  # noqa: T201

    def heading(self, words: str) -> None:
        """Begin a part, with the minutes and seconds since the demo began."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        self.say(f"\n== {words}   [{minutes}:{seconds:02}]")

    def typed(self, argv: Sequence[object]) -> None:
        """Show a command before it runs."""
        self.say(f"$ {shlex.join(map(str, argv))}")

    def ended(self, argv: Sequence[object], code: int, *, allowed: Sequence[int] = (0,)) -> None:
        """Show an exit code that is not 0; one that is not expected ends the demo."""
        if code:
            self.say(f"[exit {code}]")
        if code not in allowed:
            message = f"{shlex.join(map(str, argv))} ended with {code}"
            raise DemoFailed(message)


def online(shown: Transcript, stack: Stack) -> Path:
    """Build and sign the release on this machine; return the bundle on the stick."""
    workshop, keys, words = stack.workshop, Path("keys"), Path("passphrase")
    out = Path(os.path.relpath(stack.stick, workshop.folder))
    bundle = out / stack.bundle(FIRST).name
    workshop.restore(FIRST)
    stack.wipe()  # a signed bundle is never overwritten, and the project may have changed since
    commands: list[tuple[object, ...]] = [
        ("keys", "create", "--product", workshop.product, "--keys", keys, "--passphrase-file", words),
        ("check", workshop.manifest),
        ("lock", workshop.manifest),
        ("collect", workshop.manifest),
        ("build", workshop.manifest, "--keys", keys, "--out", out),
        ("sign", bundle, "--key", keys / "release-1.pem", "--passphrase-file", words),
        ("verify", bundle, "--keys", keys),
        ("inspect", bundle),
    ]
    if workshop.keys.exists():
        commands = commands[1:]  # the keys of the run before: throw-away, but one supplier's
    with sources(stack):
        for argv in commands:
            shown.typed(("python", "build.py", *argv))
            shown.ended(argv, workshop.follow(shown.say, *argv))
    return stack.bundle(FIRST)


class OnSite:
    """The operator in the machine room."""

    def __init__(self, shown: Transcript, server: NspawnServer) -> None:
        self._shown, self._server = shown, server

    def type(self, *argv: str, allowed: Sequence[int] = (0,)) -> list[str]:
        """Type a command on the closed server; return the lines it said."""
        said: list[str] = []

        def tell(line: str) -> None:
            said.append(line)
            self._shown.say(line)

        self._shown.typed(argv)
        done = self._server.follow(*argv, on_line=tell, timeout_s=1800, check=False)
        self._shown.ended(argv, done.returncode, allowed=allowed)
        return said

    def install(self, bundle: Path) -> None:
        """Meet the one file, compare it with the paper, install."""
        self._shown.heading("On site: one file, copied, compared with the paper, run from the disk")
        self.type("cp", "/media/usb/appliance.pyz", PYZ)
        self.type("sha256sum", PYZ)
        self._shown.heading("Install: packages, environments, image, services; healthy or back")
        self.type("python3", "-I", PYZ, "install", f"/media/usb/{bundle.name}")
        self.type("appliance", "status")

    def ask(self) -> None:
        """Take the sample documents in and ask."""
        self._shown.heading("Documents in: .hwp, .hwpx, .pdf, .docx")
        self.type("appliance", "ingest", "--grade", "S", "/media/usb/documents")
        self._shown.heading("A question. The tiny model talks nonsense; the sources are what counts")
        said = self.type("appliance", "ask", DEMO_QUESTION.words)
        sources_said = [line for line in said if line.lstrip().startswith("[1]")]
        if not sources_said or DEMO_QUESTION.name not in sources_said[0]:
            message = f"the first source is not {DEMO_QUESTION.name}"
            raise DemoFailed(message)

    def audit(self, out: Path) -> None:
        """Restart everything, audit, and copy the report out."""
        self._shown.heading("All services again, from cold")
        self.type("systemctl", "restart", "banip-*.service")  # not those that wait for their timer
        wait_until_it_answers(self._server)
        self.type("appliance", "status")
        self._shown.heading("Audit against the checklists")
        self.type("appliance", "--lang", "ko", "audit", "integrity", allowed=(0, 3))
        self.type("appliance", "--lang", "ko", "audit", "--grade", "S", allowed=(0, 3))
        folder = max(self._server.exec("ls", REPORTS).stdout.split())  # named by time
        self.type("appliance", "--lang", "ko", "audit", "verify")
        for name in self._server.exec("ls", f"{REPORTS}/{folder}").stdout.split():
            self._server.copy_out(f"{REPORTS}/{folder}/{name}", out / name)


def sealed(shown: Transcript, attempts: Sequence[EgressAttempt]) -> None:
    """Say how often something tried to leave; more than never ends the demo."""
    shown.heading("Attempts to leave the closed server: install, serving, restart, audit")
    shown.say(f"{len(attempts)} attempts were counted")
    for attempt in attempts:
        shown.say(f"  {attempt}")
    if attempts:
        message = "the stack tried to leave the closed server"
        raise DemoFailed(message)


def on_a_closed_server(shown: Transcript, stack: Stack, bundle: Path, out: Path, *, keep: bool) -> None:
    """Carry the stick in and do what the operator guide says, once through."""
    shown.heading("A disposable closed server: systemd, no route, every attempt to leave is counted")
    with closed_server(media=stack.stick, in_memory=False, keep=keep) as server:
        shown.say(check_the_counter_counts(server))
        operator = OnSite(shown, server)
        operator.install(bundle)
        operator.ask()
        shown.heading("Nothing is stubbed")
        for proof in check_nothing_is_stubbed(server):
            shown.say(proof)
        operator.audit(out)
        sealed(shown, server.attempts())
        shown.say("behind the product's own firewall, " + check_the_counter_counts(server))


def without_a_server(shown: Transcript, bundle: Path, why: str) -> None:
    """Do what needs neither root nor a server, and name what was not done."""
    shown.heading("Without a closed server: verify, import into a private root, preflight, plan")
    with tempfile.TemporaryDirectory(dir=bundle.parent.parent) as folder:
        pyz = shutil.copy(bundle.parent / "appliance.pyz", Path(folder) / "appliance.pyz")
        for command in ("verify", "import", "preflight", "plan"):
            argv = ("python3", "-I", pyz, "--root", f"{folder}/root", command, bundle)
            shown.typed(argv)
            done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, check=False)
            for line in (done.stderr + done.stdout).splitlines():
                shown.say(line)
            # This machine need not be fit for the release: preflight and plan say so.
            shown.ended(argv, done.returncode, allowed=(0, 20))
    shown.heading("Not done here")
    shown.say("boot a closed server, first contact, install, ingest, ask, restart, audit, count what leaves")
    shown.say(f"because {why}")


def main() -> int:
    """Run the demo."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave the server running; it says how to end it",
    )
    parser.add_argument("--out", type=Path, default=Path("dist/demo"), help="where report and log go")
    options = parser.parse_args()
    os.environ.setdefault("LC_ALL", "C.UTF-8")
    shown = Transcript(options.out / "demo.txt")
    stack = Stack(cache() / "demo")
    try:
        shown.heading("Online: names become digests, content is collected, one bundle is built and signed")
        bundle = online(shown, stack)
        why = why_not("nspawn")
        if why is None:
            on_a_closed_server(shown, stack, bundle, options.out, keep=options.keep)
            shown.say(f"\nThe report: {options.out / 'audit.html'}")
        else:
            without_a_server(shown, bundle, why)
    except (DemoFailed, ProofFailed) as failure:
        shown.say(f"\nThe demo failed: {failure}")
        return 1
    else:
        shown.say(f"This session: {options.out / 'demo.txt'}")
        return 0
    finally:
        shown.close()


if __name__ == "__main__":
    sys.exit(main())
