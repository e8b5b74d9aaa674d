"""Tiny real things: wheels with a RECORD, and a server in a private root whose releases really run.

The ``controller`` wheel makes the environment find the appliance of this checkout, and brings a stand-in for
ansible-runner (no root, no systemd): its play says in ``data/answers`` which release answers, or fails.
"""

from __future__ import annotations

import base64
import hashlib
import io
import sysconfig
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.intake import import_bundle
from appliance.media import open_carrier
from appliance.operation import Operator
from appliance.release import Server, installed
from appliance.standing import read_standing
from appliance.state import FirstContact
from appliance.verify import verify
from tests.world import NOW, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from appliance.operation import Outcome
    from appliance.standing import Standing
    from appliance.text import Event
    from appliance.verify import Trust, TrustedBundle

PROJECT = Path(__file__).parent.parent
GOOD_PLAY, BROKEN_PLAY = b"- hosts: all\n", b"- hosts: all # broken\n"
ANSIBLE_RUNNER = b"""
import pathlib

class Run:
    def __init__(self, rc):
        self.rc = rc

def run(*, project_dir, playbook, extravars, event_handler, **rest):
    task = {"task": "say who answers", "task_path": "site.yml:2"}
    event_handler({"event": "playbook_on_task_start", "event_data": task, "stdout": "TASK"})
    if "broken" in (pathlib.Path(project_dir) / playbook).read_text():
        event_handler({"event": "runner_on_failed", "event_data": {**task, "res": {"msg": "a broken play"}}})
        return Run(2)
    answers = pathlib.Path(extravars["banip_data_folder"]) / "answers"
    release = extravars["banip_release"]
    changed = not answers.exists() or answers.read_text() != release
    answers.write_text(release)
    counts = {"ok": {"localhost": 1}, "changed": {"localhost": int(changed)}}
    event_handler({"event": "playbook_on_stats", "event_data": counts})
    return Run(0)
"""


def wheel(name: str, files: dict[str, bytes], entry_points: str = "", version: str = "1.0") -> bytes:
    """Return a wheel, the same bytes each time."""
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if entry_points:
        contents[f"{info}/entry_points.txt"] = f"[console_scripts]\n{entry_points}\n".encode()
    lines = [f"{path},sha256={_digest(data)},{len(data)}" for path, data in contents.items()]
    contents[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for path, data in contents.items():
            archive.writestr(zipfile.ZipInfo(path), data)
    return whole.getvalue()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def running_world() -> World:
    """Return a world whose releases can be installed in a private root."""
    paths = f"{sysconfig.get_path('purelib')}\n{PROJECT}\n".encode()
    controller = wheel("controller", {"here.pth": paths, "ansible_runner/__init__.py": ANSIBLE_RUNNER})
    world = World(wheels={"controller": {"controller-1.0-py3-none-any.whl": controller}})
    world.files["playbooks/site.yml"] = GOOD_PLAY
    return world


@dataclass
class Site:
    """A server in a private root that trusts a world; ``events`` is what it said."""

    root: Path
    events: list[Event] = field(default_factory=list)

    @property
    def server(self) -> Server:
        return Server(self.root)

    @property
    def now(self) -> str | None:
        """The release that was last marked good."""
        found = installed(self.server)
        return found.release if found else None

    @property
    def answers(self) -> str | None:
        """The release whose roles ran last."""
        path = self.server.data / "answers"
        return path.read_text() if path.exists() else None

    @property
    def current(self) -> str | None:
        """The release that ``current`` points at."""
        link = self.server.current
        return link.readlink().name if link.is_symlink() else None

    def journal(self) -> list[str]:
        return [entry.event for entry in self.server.state.journal.entries()]

    def adopt(self, world: World) -> None:
        self.server.state.adopt(FirstContact(world.root(1), world.product, world.site))

    def trust(self) -> Trust:
        trust = self.server.state.trust()
        assert trust is not None
        return trust

    def standing(self) -> Standing:
        return read_standing(self.server, None)

    def bring_in(self, carrier_path: Path, reference_time: datetime = NOW) -> TrustedBundle:
        with open_carrier(carrier_path) as carrier:
            bundle = verify(carrier, self.trust(), reference_time=reference_time)
            carrier.check_layout(bundle.release)
            import_bundle(bundle, carrier, self.server.store, lambda _: None)
        return bundle

    def install(self, carrier_path: Path) -> Outcome:
        bundle = self.bring_in(carrier_path)
        return self.operate(lambda operator: operator.apply(bundle))

    def operate(
        self, work: Callable[[Operator], Outcome], say: Callable[[Event], None] | None = None
    ) -> Outcome:
        with self.server.state.lock() as lock:
            return work(Operator(self.server, self.trust(), lock, say or self.events.append, {}))
