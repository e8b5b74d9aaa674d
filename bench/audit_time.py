"""How long an audit takes on a server of grade S, fact by fact: ``python -m bench.audit_time`` (root).

Boots the test server of ``tests/hardened.py``, lets an integrity run hash everything once, audits a few times
as the installed command does, and prints the medians.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from bench.machine import describe
from tests import hardened
from tests.closed_server import closed_server

ROUNDS = 3
SHOWN_FROM_S = 0.05


def main() -> None:
    """Measure and print."""
    seconds: dict[str, list[float]] = {}
    whole, hashing = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        stick = hardened.carry(Path(folder))
        with closed_server(media=stick) as server:
            hardened.install(server)
            began = time.monotonic()
            server.exec("appliance", "audit", "integrity", check=False, timeout_s=600)
            hashing = time.monotonic() - began
            for _ in range(ROUNDS):
                began = time.monotonic()
                done = server.exec("appliance", "--json", "audit", check=False, timeout_s=600)
                whole.append(time.monotonic() - began)
                for told in map(json.loads, done.stdout.splitlines()):
                    if told.get("event") == "fact":
                        seconds.setdefault(told["facts"]["fact"], []).append(told["facts"]["seconds"])
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    lines = [f"{name}: {value}" for name, value in describe(Path.cwd(), Path.cwd()).items()]
    lines += [f"audit: {statistics.median(whole):.1f} s ({', '.join(f'{one:.1f}' for one in whole)})"]
    lines += [f"integrity run: {hashing:.1f} s"]
    lines += [
        f"  {name}: {value:.2f} s"
        for name, value in sorted(medians.items(), key=lambda one: -one[1])
        if value >= SHOWN_FROM_S
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
