"""How far long work is, for a person: a bar on a terminal, ten lines elsewhere."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.chunks import Progress
    from appliance.text import Event, Text


@contextmanager
def bar_of_progress(what: str) -> Iterator[Callable[[Progress], None]]:
    """Draw a bar with speed and the time that is left."""
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
    from rich.progress import (  # noqa: PLC0415 - as above
        BarColumn,
        DownloadColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bar  # noqa: PLC0415 - as above

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(what)
        yield lambda done: bar.update(task, completed=done.bytes_done, total=done.bytes_total)


def lines_of_progress(say: Callable[[int, dict[str, int]], None]) -> Callable[[Progress], None]:
    """Say every tenth of the work, in percent and bytes: ten lines for any size, as this may go to a log."""
    last = 0

    def progress(done: Progress) -> None:
        nonlocal last
        percent = 100 * done.bytes_done // max(done.bytes_total, 1)
        if percent >= last + 10:
            last = percent - percent % 10
            say(last, {"bytes_done": done.bytes_done, "bytes_total": done.bytes_total})

    return progress


# --- Steps whose number nobody knows before ----------------------------------------------------------------

STEP_LINES_EVERY_S = 5.0


@contextmanager
def moving_line() -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being done, in one line that goes when all is done."""
    from rich.console import Console  # noqa: PLC0415 - only a terminal needs it

    with Console(stderr=True).status("") as status:
        yield status.update


def seldom(say: Callable[[Event], None]) -> Callable[[Event], None]:
    """Say a step only some seconds after the one said before, so that a log shows what is slow."""
    last = time.monotonic()

    def step(event: Event) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= STEP_LINES_EVERY_S:
            last = now
            say(event)

    return step


def read_from_medium(percent: int) -> Text:
    """Say how far a bundle is read."""
    return text("read {percent} % from the medium", percent=percent)
