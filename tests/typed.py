"""What a person types at one server in a private root: the real command line, in this process."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from appliance.__main__ import main
from appliance.release import Server, assemble, keep
from appliance.session import Session
from appliance.state import FirstContact
from tests.tiny import PROJECT, Site
from tests.world import NOW, World

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path


def interrupted(*argv: object, env: Mapping[str, str] = os.environ) -> tuple[int, str]:
    """Start a command, press Ctrl-C at the first question that it asks, and read how it ends."""
    with subprocess.Popen(
        # Where the tests run in the background, their children would ignore it.
        ["env", "--default-signal=INT", *map(str, argv)],
        cwd=PROJECT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as command:
        said = ""
        while command.stdout and "[y/N]" not in said and (one := command.stdout.read(1)):
            said += one
        command.send_signal(signal.SIGINT)
        rest, _ = command.communicate(timeout=30)
    return command.returncode, said + rest


@dataclass
class StoppedClock:
    """A clock that stands where a test puts it; ``told`` is what it was set to."""

    time: datetime = NOW
    told: list[datetime] = field(default_factory=list)

    def now(self) -> datetime:
        return self.time

    def set(self, to: datetime) -> bool:
        self.time = to
        self.told.append(to)
        return True


@dataclass(frozen=True)
class Done:
    """How a command ended, and the JSON lines that it told."""

    code: int
    lines: tuple[dict[str, Any], ...]

    @property
    def last(self) -> dict[str, Any]:
        """The result, or the error."""
        return self.lines[-1]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line.get("event") == name]


@dataclass
class Desk(Site):
    """A site at which a person types; ``pyz`` is the first contact file at hand, if any."""

    clock: StoppedClock = field(default_factory=StoppedClock)
    pyz: World | None = None

    @property
    def server(self) -> Server:
        return Server(self.root, self.clock)

    def type(self, *words: object) -> Done:
        """Type a command, and read how it ended."""
        out, error, mask = io.StringIO(), io.StringIO(), os.umask(0o022)
        code = 0
        try:
            with redirect_stdout(out), redirect_stderr(error):
                main(["--json", "--root", str(self.root), *map(str, words)], self._contact, self.clock)
        except SystemExit as ended:
            code = int(ended.code or 0)
        finally:
            os.umask(mask)
        assert not error.getvalue()
        return Done(code, tuple(json.loads(line) for line in out.getvalue().splitlines()))

    @property
    def _contact(self) -> FirstContact | None:
        if self.pyz is None:
            return None
        return FirstContact(self.pyz.root(1), self.pyz.product, self.pyz.site)

    def session(self, ask: Callable[[str], str] | None = None) -> Session:
        """Return what a command has; ``ask`` answers as the person at the terminal."""
        said: list[str] = []
        return Session(self.server, False, "en", self._contact, said.append, said.append, ask)  # noqa: FBT003

    def take(self, carrier: Path, accept_expired: str | None = None) -> Done:
        """Import a bundle; where that was accepted, make it what a healthy install leaves behind."""
        words = ["--accept-expired", accept_expired] if accept_expired else []
        done = self.type("import", *words, carrier)
        if done.code == 0:
            with self.session().judged(carrier, accept_expired) as (bundle, _):
                assemble(self.server, bundle)
                keep(self.server, bundle, self.now)
        return done

    def root_version(self) -> int:
        """The newest root that ``state`` holds."""
        return max(self.server.state.chain.versions(), default=0)

    def holds(self) -> dict[str, tuple[int, bytes]]:
        """Return every file under the root with its mode, but for the lock and the journal."""
        left_out = {self.server.state.folder / name for name in ("lock", "journal")}
        return {
            str(path.relative_to(self.root)): (path.stat().st_mode, path.read_bytes())
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path not in left_out
        }
