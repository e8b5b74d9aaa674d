"""`python -m tests.closed_server shell|run`: a closed server to look around in, removed when you leave.

`python -m tests.closed_server end` removes those that were kept (`make demo DEMO=--keep`).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from tests.closed_server import ClosedServerError, NspawnServer, QemuServer, closed_server
from tests.closed_server.holding import end_kept


def main() -> int:
    """Boot, run one command or a shell, say what tried to leave."""
    parser = argparse.ArgumentParser(prog="python -m tests.closed_server", description=__doc__)
    parser.add_argument("what", choices=["shell", "run", "end"])
    parser.add_argument("--backend", choices=["nspawn", "qemu"], default="nspawn")
    parser.add_argument("--media", type=Path, help="folder to show read-only at /media/usb")
    options, command = sys.argv[1:], []
    if "--" in options:
        at = options.index("--")
        options, command = options[:at], options[at + 1 :]
    told = parser.parse_args(options)
    if told.what == "run" and not command:
        parser.error("run what? `run [options] -- command ...`")
    if told.what == "end":
        sys.stdout.writelines(f"removed: {token}\n" for token in end_kept())
        return 0
    try:
        with closed_server(told.backend, media=told.media) as server:
            if told.what == "shell":
                code = _shell(server) if isinstance(server, NspawnServer) else _lines(server)
            else:
                done = server.exec(*command, check=False)
                sys.stdout.write(done.stdout)
                sys.stderr.write(done.stderr)
                code = done.returncode
            for attempt in server.attempts():
                sys.stderr.write(f"tried to leave: {attempt}\n")
    except ClosedServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return code


def _shell(server: NspawnServer) -> int:
    """Hand the terminal over."""
    argv = server.entrance("/bin/bash", "-l", env={"TERM": os.environ.get("TERM", "dumb")})
    return subprocess.run(argv, check=False).returncode


def _lines(server: QemuServer) -> int:
    """Run line by line: a guest's serial port is no terminal."""
    for line in sys.stdin:
        done = server.exec("sh", "-c", line, check=False)
        sys.stdout.write(done.stdout + done.stderr)
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
