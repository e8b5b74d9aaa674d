"""Several things that are wrong at once: people fix a file in one go, not error by error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import BadInput, BanipError, Incomplete
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appliance.text import Language, Text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where: ``file:line: $.path`` or the name of what was not had."""

    where: str
    said: Text

    def line(self, language: Language = "en") -> str:
        """Return the one line a person reads."""
        return f"{self.where}: {self.said.render(language)}"


class _Several(BanipError):
    """A headline and all its problems."""

    def __init__(self, happened: Text, problems: Sequence[Problem], remedy: Text | None = None) -> None:
        super().__init__(happened, remedy=remedy)
        self.problems = tuple(problems)

    def lines(self, language: Language = "en") -> list[str]:
        """Return one problem a line, then the headline and what to do."""
        return [problem.line(language) for problem in self.problems] + super().lines(language)

    def as_json(self, language: Language = "en") -> dict[str, object]:
        """Add ``problems`` to what every error says."""
        problems = [
            {"where": problem.where, "said": problem.said.render(language)} for problem in self.problems
        ]
        return super().as_json(language) | {"problems": problems}


class BadInputs(_Several, BadInput):
    """Everything that is wrong in what a person wrote."""

    def as_json(self, language: Language = "en") -> dict[str, object]:
        """Keep the stable name of the exit code's class."""
        return super().as_json(language) | {"error": BadInput.__name__}


class Incompletes(_Several, Incomplete):
    """Everything that could not be had."""

    def as_json(self, language: Language = "en") -> dict[str, object]:
        """Keep the stable name of the exit code's class."""
        return super().as_json(language) | {"error": Incomplete.__name__}


def refuse(name: str, problems: Sequence[Problem]) -> None:
    """Raise ``BadInputs`` with all the problems of a file, if there are any."""
    if problems:
        raise BadInputs(text("{name} is refused; errors: {count}", name=name, count=len(problems)), problems)
