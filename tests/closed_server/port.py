"""This machine's end of a guest's command.

`python -I port.py SOCKET`, the request as JSON in $BANIP_BED_REQUEST.

Its stdin, stdout, stderr and exit code become those of the command inside (protocol: `agent.py`), so that a
caller holds an ordinary process. SIGKILL it, and the guest kills the command.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading

GREETING = b"\x00banip-bed-hello\x00"  # agent.py says the same; that one cannot import this one
TOKEN_BYTES = 16
HEADER_BYTES = 5
CHUNK = 1 << 16


class Conversation:
    """A greeted connection to one port of the guest."""

    def __init__(self, path: str, timeout_s: float | None = None) -> None:
        """Connect and wait until the agent inside has answered; raises TimeoutError, ConnectionError."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout_s)
        self.socket.connect(path)
        greeting = GREETING + os.urandom(TOKEN_BYTES)
        self.socket.sendall(greeting)
        arrived = b""
        while greeting not in arrived:
            arrived += self._some()
        self._arrived = arrived.partition(greeting)[2]

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def send(self, kind: bytes, data: bytes) -> None:
        """Send one frame."""
        self.socket.sendall(kind + len(data).to_bytes(4, "big") + data)

    def receive(self) -> tuple[bytes, bytes]:
        """Wait for one frame; raises ConnectionError when the guest is gone."""
        return self._take(1), self._take(int.from_bytes(self._take(4), "big"))

    def _take(self, count: int) -> bytes:
        while len(self._arrived) < count:
            self._arrived += self._some()
        data, self._arrived = self._arrived[:count], self._arrived[count:]
        return data

    def _some(self) -> bytes:
        data = self.socket.recv(CHUNK)
        if not data:
            message = "the guest is gone"
            raise ConnectionError(message)
        return data


def _send_stdin(conversation: Conversation) -> None:
    """Carry standard input over; in a thread, so that a full pipe one way cannot stop the other."""
    with contextlib.suppress(OSError):
        while data := os.read(0, CHUNK):
            conversation.send(b"I", data)
        conversation.send(b"I", b"")


def _write_all(stream: int, data: bytes) -> None:
    while data:
        data = data[os.write(stream, data) :]


def main() -> None:
    """Run one command and end as it ended; 255 when the guest went away under it."""
    conversation = Conversation(sys.argv[1])
    conversation.send(b"R", os.environb[b"BANIP_BED_REQUEST"])
    threading.Thread(target=_send_stdin, args=(conversation,), daemon=True).start()
    while True:
        try:
            kind, data = conversation.receive()
        except ConnectionError:
            os._exit(255)
        if kind == b"X":
            code = int(data)
            if code < 0:
                with contextlib.suppress(OSError):  # SIGKILL has no handler to reset
                    signal.signal(-code, signal.SIG_DFL)
                os.kill(os.getpid(), -code)
            os._exit(code)  # not through the interpreter's end, which would wait for the thread's read
        _write_all(2 if kind == b"E" else 1, data)


if __name__ == "__main__":
    main()
