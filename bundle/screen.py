"""What long work looks like: a bar on a terminal, a line an event elsewhere, JSON lines for programs.

Writes only through the two functions that the command line gives it.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from appliance.text import human_bytes, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from appliance.errors import BanipError
    from appliance.store import Progress
    from appliance.text import Language, Text
    from bundle.workshop import Event

_WORDS: Mapping[str, Text] = {
    "resolved": text("resolved"),
    "built": text("built"),
    "cached": text("cached"),
    "fetched": text("fetched"),
    "made": text("made"),
    "copied": text("copied"),
    "failed": text("failed"),
    "unanswered": text("no answer"),
}
_STEP_PERCENT = 10


@dataclass(frozen=True, slots=True)
class Screen:
    """The voice of one command: results to ``write``, everything on the way there to ``write_aside``."""

    language: Language
    as_json: bool
    write: Callable[[str], None]
    write_aside: Callable[[str], None]
    terminal: bool = False

    def event(self, event: Event) -> None:
        """Show something that happened, as it happens."""
        if self.as_json:
            self._tell(
                {
                    "event": event.kind,
                    "name": event.name,
                    "size_bytes": event.size_bytes,
                    "detail": event.detail,
                }
            )
            return
        size = f", {human_bytes(event.size_bytes)}" if event.size_bytes else ""
        detail = f" ({event.detail})" if event.detail else ""
        self.write_aside(f"  {_WORDS[event.kind].render(self.language)}: {event.name}{size}{detail}")

    def result(self, said: Text, facts: Mapping[str, object], lines: Sequence[str] = ()) -> None:
        """Show how the command ended."""
        if self.as_json:
            self._tell({"result": facts, "said": said.render(self.language)})
            return
        for line in lines:
            self.write(line)
        self.write(said.render(self.language))

    def warning(self, said: Text, remedy: Text | None = None) -> None:
        """Show something that stops nothing now, and will later."""
        if self.as_json:
            told = {"warning": said.render(self.language)}
            self._tell(told if remedy is None else told | {"remedy": remedy.render(self.language)})
            return
        warning = text("warning: {said}", said=said)
        for line in (warning, remedy):
            if line is not None:
                self.write_aside(line.render(self.language))

    def error(self, error: BanipError) -> None:
        """Show an error; a program finds it as the last JSON line."""
        if self.as_json:
            self._tell(error.as_json(self.language))
        else:
            self.write_aside("\n".join(error.lines(self.language)))

    @contextmanager
    def progress(self, name: str) -> Iterator[Callable[[Progress], None]]:
        """Show how far a long pass over bytes is."""
        if self.as_json or not self.terminal:
            yield self._progress_lines(name)
            return
        from rich.console import Console  # noqa: PLC0415 - only a terminal needs it
        from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn  # noqa: PLC0415
        from rich.progress import Progress as Bar  # noqa: PLC0415

        with Bar(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(name)
            yield lambda done: bar.update(task, completed=done.bytes_done, total=done.bytes_total)

    def _progress_lines(self, name: str) -> Callable[[Progress], None]:
        shown = 0

        def progress(done: Progress) -> None:
            nonlocal shown
            percent = 100 * done.bytes_done // max(done.bytes_total, 1)
            if percent < shown + _STEP_PERCENT:
                return
            shown = percent - percent % _STEP_PERCENT
            if self.as_json:
                facts = {"bytes_done": done.bytes_done, "bytes_total": done.bytes_total}
                self._tell({"event": "progress", "name": name, **facts})
            else:
                self.write_aside(f"  {name}: {shown} %")

        return progress

    def _tell(self, value: object) -> None:
        self.write(msgspec.json.encode(value, enc_hook=str).decode())
