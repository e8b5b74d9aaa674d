"""The test bed's hand inside a QEMU guest: runs commands that arrive on virtio-serial ports.

Not part of the product.

Standard library only. One command at a time on each port, in a cgroup of its own, killed when it ends, when
the other side hangs up, and never left over for the next. Frames both ways are one letter, a length (32 bit,
big endian) and the data: host: R request (JSON: argv, env), I standard input (empty: its end). Guest: O, E
output, X exit code. A conversation begins with GREETING and a token on both sides, so that remains of an
interrupted one are skipped.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
import time
from pathlib import Path

GREETING = b"\x00banip-bed-hello\x00"
TOKEN_BYTES = 16
HEADER_BYTES = 5
CHUNK = 1 << 16
IDLE_S = 0.05
OWN_CGROUP = "/sys/fs/cgroup" + Path("/proc/self/cgroup").read_text().strip().rpartition(":")[2]


class HungUp(Exception):
    """The host's side of the port is closed."""


class Port:
    """One virtio-serial port as a stream of frames."""

    def __init__(self, device: Path) -> None:
        """Open it; the device lets one process in."""
        self._fd = os.open(device, os.O_RDWR | os.O_NONBLOCK)
        self._poll = select.poll()
        self._arrived = bytearray()

    def fileno(self) -> int:
        """For poll."""
        return self._fd

    def greet(self) -> None:
        """Wait for somebody, skipping what an interrupted conversation left in the pipe, and answer."""
        whole = len(GREETING) + TOKEN_BYTES
        while True:
            at = self._arrived.find(GREETING)
            if at >= 0 and len(self._arrived) >= at + whole:
                greeting = bytes(self._arrived[at : at + whole])
                del self._arrived[: at + whole]
                self._put(greeting)
                return
            del self._arrived[: at if at >= 0 else max(0, len(self._arrived) - len(GREETING))]
            time.sleep(0 if self._read() else IDLE_S)

    def receive(self) -> tuple[bytes, bytes]:
        """Wait for a frame; raises HungUp."""
        while (frame := self.ready()) is None:
            self._fill()
        return frame

    def ready(self) -> tuple[bytes, bytes] | None:
        """Take a frame that has arrived whole."""
        if len(self._arrived) < HEADER_BYTES:
            return None
        end = HEADER_BYTES + int.from_bytes(self._arrived[1:HEADER_BYTES], "big")
        if len(self._arrived) < end:
            return None
        kind, data = bytes(self._arrived[:1]), bytes(self._arrived[HEADER_BYTES:end])
        del self._arrived[:end]
        return kind, data

    def read_some(self) -> None:
        """Take in what is there without waiting; raises HungUp."""
        if not self._read():
            self.confirm_hung_up()

    def _read(self) -> bool:
        """Read once; False when the host's side is closed."""
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return True
        self._arrived += data
        return bool(data)

    def confirm_hung_up(self) -> None:
        """Raise HungUp if the host's side is closed and stays so.

        The kernel tells of the last caller's leaving in a work queue of its own, at times after the next
        caller's first bytes. A real hang-up in the middle of a command lasts: the host waits for `idle`
        before it calls here again.
        """
        for _ in range(4):
            self._poll.register(self._fd, 0)
            if not self._poll.poll(0):
                return
            time.sleep(IDLE_S)
        raise HungUp

    def send(self, kind: bytes, data: bytes) -> None:
        """Send a frame; raises HungUp."""
        self._put(kind + len(data).to_bytes(4, "big") + data)

    def _fill(self) -> None:
        self._wait(select.POLLIN)
        self.read_some()

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            self._wait(select.POLLOUT)
            with contextlib.suppress(BlockingIOError):
                view = view[os.write(self._fd, view[:CHUNK]) :]

    def _wait(self, event: int) -> None:
        self._poll.register(self._fd, event)
        for _, seen in self._poll.poll():
            if seen & select.POLLHUP and not seen & select.POLLIN & event:
                self.confirm_hung_up()


class Group:
    """A cgroup for one command and everything it starts."""

    def __init__(self, name: str) -> None:
        """Make it."""
        self._folder = Path(OWN_CGROUP) / name
        self._folder.mkdir(exist_ok=True)

    def enter(self) -> None:
        """Move the calling process in."""
        (self._folder / "cgroup.procs").write_text("0")

    def kill(self) -> None:
        """SIGKILL all of it, wait until it is empty, remove it."""
        while True:
            (self._folder / "cgroup.kill").write_text("1")
            if "populated 0" in (self._folder / "cgroup.events").read_text():
                break
            time.sleep(0.01)
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class Worker(threading.Thread):
    """One port's conversations, one after the other."""

    def __init__(self, name: str, device: Path) -> None:
        """Open the port; `start` begins to serve it."""
        super().__init__(name=name, daemon=True)
        self._port = Port(device)
        self.idle = threading.Event()

    def run(self) -> None:
        """Serve for ever."""
        while True:
            self.idle.set()
            with contextlib.suppress(HungUp):
                self._port.greet()
                self.idle.clear()
                self._converse(Group(self.name))

    def _converse(self, group: Group) -> None:
        _, data = self._port.receive()
        request = json.loads(data)
        try:
            child = subprocess.Popen(
                request["argv"],
                env=request["env"],
                cwd="/",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=group.enter,  # noqa: PLW1509 - one write, nothing that takes a lock
                bufsize=0,
            )
        except OSError as error:
            group.kill()
            self._port.send(b"E", f"{error}\n".encode())
            self._port.send(b"X", b"127")
            return
        try:
            self._pump(child)
            code = child.wait()
        finally:
            group.kill()
            child.wait()
        self._port.send(b"X", str(code).encode())

    def _pump(self, child: subprocess.Popen[bytes]) -> None:
        """Carry input and output until both outputs have ended, however slow a reader on either side is."""
        assert child.stdin and child.stdout and child.stderr  # noqa: PT018 - pipes, by construction
        outputs = {child.stdout.fileno(): b"O", child.stderr.fileno(): b"E"}
        feed: int | None = child.stdin.fileno()
        os.set_blocking(child.stdin.fileno(), False)
        waiting, ended = bytearray(), False
        while outputs:
            poll = select.poll()
            for output in outputs:
                poll.register(output, select.POLLIN)
            # More input than the child takes waits in the pipe, not in memory; a hang-up is seen anyway.
            poll.register(self._port, select.POLLIN if len(waiting) < CHUNK else 0)
            if feed is not None and waiting:
                poll.register(feed, select.POLLOUT)
            for source, seen in poll.poll():
                if source == self._port.fileno() and seen == select.POLLHUP:
                    self._port.confirm_hung_up()
                if source in outputs:
                    if data := os.read(source, CHUNK):
                        self._port.send(outputs[source], data)
                    else:
                        del outputs[source]
                elif source == self._port.fileno():
                    self._port.read_some()
            while (frame := self._port.ready()) is not None:
                waiting += frame[1]
                ended = ended or not frame[1]
            feed = self._feed(child, feed, waiting, ended=ended)

    @staticmethod
    def _feed(
        child: subprocess.Popen[bytes], feed: int | None, waiting: bytearray, *, ended: bool
    ) -> int | None:
        """Give the child what it takes of its input; None once its input is closed."""
        if feed is None:
            waiting.clear()
            return None
        try:
            while waiting:
                del waiting[: os.write(feed, waiting[:CHUNK])]
        except BlockingIOError:
            return feed
        except BrokenPipeError:
            ended = True
        if ended and child.stdin:
            child.stdin.close()
            return None
        return feed


def serve_control(device: Path, workers: dict[str, Worker]) -> None:
    """Answer, on the control port, when a port has nothing left running: {"wait_idle": NAME} -> X."""
    port = Port(device)
    while True:
        with contextlib.suppress(HungUp):
            port.greet()
            while True:
                _, data = port.receive()
                if name := json.loads(data).get("wait_idle"):
                    workers[name].idle.wait()
                port.send(b"X", b"0")


def main() -> None:
    """Serve every port that the emulator named for us."""
    found = {
        (folder / "name").read_text().strip(): Path("/dev") / folder.name
        for folder in Path("/sys/class/virtio-ports").iterdir()
    }
    workers = {name: Worker(name, device) for name, device in found.items() if name.startswith("bed-exec")}
    for worker in workers.values():
        worker.start()
    serve_control(found["bed-control"], workers)


if __name__ == "__main__":
    main()
