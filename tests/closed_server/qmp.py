"""Just enough of QEMU's machine protocol to plug a disk in and pull it out."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

from tests.closed_server.interface import ClosedServerError

if TYPE_CHECKING:
    from pathlib import Path


class Monitor:
    """A connection to one emulator's monitor; raises ClosedServerError when a command is refused."""

    def __init__(self, path: Path) -> None:
        """Connect and leave negotiation mode."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(60)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self._events: list[dict[str, Any]] = []
        self.do("qmp_capabilities")

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()

    def do(self, command: str, **arguments: object) -> object:
        """Execute one command and return its answer; events that come in between are kept."""
        named = {key.replace("_", "-"): value for key, value in arguments.items()}
        self._socket.sendall(json.dumps({"execute": command, "arguments": named}).encode())
        while True:
            answer = json.loads(self._lines.readline())
            if "event" in answer:
                self._events.append(answer)
            elif "error" in answer:
                message = f"{command}: {answer['error']['desc']}"
                raise ClosedServerError(message)
            else:
                return answer["return"]

    def wait_deleted(self, device: str) -> None:
        """Wait until the guest has let go of a device."""
        while True:
            while self._events:
                event = self._events.pop(0)
                if event["event"] == "DEVICE_DELETED" and event["data"].get("device") == device:
                    return
            self._events.append(json.loads(self._lines.readline()))
