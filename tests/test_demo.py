"""What the demo shows while it is at work; that it works is seen by running it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.demo import Transcript

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_long_silence_is_broken_on_the_screen_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, said = Transcript(tmp_path / "demo.txt", silence_s=0.2), ""
    shown.say("begun")
    for _ in range(100):
        said += capsys.readouterr().out
        if said.count("... at work for") >= 2:
            break
        time.sleep(0.1)
    shown.close()
    assert said.count("... at work for") >= 2
    assert (tmp_path / "demo.txt").read_text("utf-8") == "begun\n"
