"""Search with atheris: ``python -m tests.fuzz TARGET [libFuzzer's options]``; findings stay in ``.fuzz/``."""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["appliance", "json", "installer", "tuf"]):
    from tests.fuzz.targets import TARGETS, seeds


def main() -> None:
    """Lay the seeds into a folder of libFuzzer's and search."""
    program, name, *options = sys.argv
    folder = Path(".fuzz") / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds(name)):
        (folder / f"seed-{number}").write_bytes(seed)
    limits = ["-rss_limit_mb=1024", "-timeout=20", f"-artifact_prefix={folder}/found-"]
    atheris.Setup([program, *limits, *options, str(folder)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
