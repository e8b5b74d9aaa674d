"""``make bench``: pack, verify and import against tar, hashlib, openssl and sha256sum, side by side.

Medians go into ``docs/benchmarks.md`` between its marks, and every single run into ``dist/bench/SIZE.json``.
``--small`` tries the harness with 200 MB and leaves the document alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from bench.content import FULL, SMALL
from bench.contests import PROJECT, SEED, Scene
from bench.machine import describe
from bench.race import extra_disk, medians, race
from bench.report import figures, page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.content import Mix
    from bench.race import Run

#: Content, bundle, what one contestant makes of it, and room for everybody else on the machine.
_DISK_TIMES = 3.5
_ROUNDS = 3


def main(argv: Sequence[str]) -> None:
    """Run the benchmark as the command line says."""
    asked = _parser().parse_args(argv)
    mix, name = (SMALL, "small") if asked.small else (FULL, "full")
    results = Path(asked.results).resolve()
    results.mkdir(parents=True, exist_ok=True)
    _refuse_lack_of_space(results, mix)
    facts = describe(results, asked.code) | {"command": " ".join(["make bench", f'BENCH="{" ".join(argv)}"'])}
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=results))
    try:
        scene = Scene(folder, mix, asked.code.resolve())
        facts["content"] = f"{scene.content_bytes / 1e9:.2f} GB in {len(scene.release.blobs)} files"
        _say(facts["content"])
        scene.set()
        contests = [one for one in scene.contests() if not asked.only or one.name in asked.only]
        runs = list(race(scene, contests, asked.rounds, _say))
        importing = [one for one in contests if one.name == "import"]
        extra = extra_disk(scene, importing[0]) if importing else None
    finally:
        shutil.rmtree(folder)
    said = figures(facts, contests, medians(runs), extra)
    _say(said)
    _save(results / f"{name}.json", facts, runs, extra)
    if asked.document is not None and not (asked.small or asked.only):
        asked.document.write_text(page(asked.document.read_text("utf-8"), said), "utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure speed against other tools.")
    parser.add_argument("--small", action="store_true", help="200 MB: to try the harness")
    parser.add_argument("--rounds", type=int, default=_ROUNDS, help="runs of each, cold and warm")
    parser.add_argument("--only", action="append", choices=["pack", "verify", "import", "look"])
    parser.add_argument("--code", type=Path, default=PROJECT, help="another checkout to measure")
    parser.add_argument(
        "--results", default=PROJECT / "dist" / "bench", help="folder, on the disk to measure"
    )
    parser.add_argument("--document", type=Path, default=PROJECT / "docs" / "benchmarks.md")
    return parser


def _refuse_lack_of_space(folder: Path, mix: Mix) -> None:
    needed = int(_DISK_TIMES * sum(mix.sizes(SEED).values()))
    free = shutil.disk_usage(folder).free
    _say(f"takes up to {needed / 1e9:.0f} GB below {folder}; free: {free / 1e9:.0f} GB")
    if free < needed:
        sys.exit("too little space: name a folder on another disk, BENCH='--results FOLDER'")


def _save(path: Path, facts: dict[str, str], runs: Sequence[Run], extra: float | None) -> None:
    found = {"facts": facts, "extra_disk": extra, "runs": [asdict(run) for run in runs]}
    path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
