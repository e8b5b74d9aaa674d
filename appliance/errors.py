"""Everything that can go wrong, as one tree; the class decides the exit code.

::

    BanipError                 1   our bug, where nothing narrower fits
    +-- BadInput               2   a manifest, option or file that a person wrote
    +-- AuditFindings          3   the audit ran, and found something
    +-- AlreadyRunning         4   another run holds the lock
    +-- Untrusted             10   nobody we trust signed it, or it is not meant for this server now
    |   +-- Expired           10   its time is over; a person may take it all the same
    +-- Tampered              11   the signature holds, the content does not match it
    +-- Incomplete            12   something that should be there is missing
    +-- UnreadableMedium      13   the stick does not give its bytes
    +-- UnfitServer           20   this server (or this version) cannot take it
    +-- Returned              30   tried, failed, and back on the previous release
    +-- Interrupted          130   a person pressed Ctrl-C; 128 and the signal's number, as shells count
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from appliance.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from appliance.text import Language, Text


class BanipError(Exception):
    """What happened, what was expected and seen, where, and a remedy that works without internet.

    Several things (a tuple) come a line each; ``facts`` are for ``--json`` alone.
    """

    exit_code: ClassVar[int] = 1

    def __init__(  # noqa: PLR0913 - each is a line of what people read
        self,
        happened: Text,
        *,
        remedy: Text | None = None,
        expected: object = None,
        seen: object = None,
        where: object = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(str(happened))
        self.happened = happened
        self.remedy = remedy
        self.expected = expected
        self.seen = seen
        self.where = where
        self.facts = facts or {}

    def lines(self, language: Language = "en") -> list[str]:
        """Return what a person reads, one fact a line."""
        names = _LABELS[language]
        facts = (("where", self.where), ("expected", self.expected), ("seen", self.seen))
        found = [self.happened.render(language)]
        found += [f"  {names[name]}: {_words(value, language)}" for name, value in facts if value is not None]
        if self.remedy is not None:
            found.append(f"  {names['remedy']}: {self.remedy.render(language)}")
        return [_below(fact) for fact in found]

    def as_json(self, language: Language = "en") -> dict[str, object]:
        """Return the same facts for ``--json``; ``error`` is the class, a stable name."""
        facts = {"where": self.where, "expected": self.expected, "seen": self.seen, "remedy": self.remedy}
        return {
            "error": type(self).__name__,
            "exit_code": self.exit_code,
            "happened": self.happened.render(language),
            **{name: _words(value, language) for name, value in facts.items() if value is not None},
            **self.facts,
        }


class BadInput(BanipError):
    """A manifest, an option or a file that a person wrote is wrong."""

    exit_code = 2


class AuditFindings(BanipError):
    """The audit ran to its end and found something."""

    exit_code = 3


class AlreadyRunning(BanipError):
    """Another run holds the lock."""

    exit_code = 4


class Untrusted(BanipError):
    """Nobody we trust signed it, or it is not meant for this server, or not any more."""

    exit_code = 10


class Expired(Untrusted):
    """Its time is over; a person who types its id may take it all the same."""


class Tampered(BanipError):
    """The signature holds, and the content is not what was signed."""

    exit_code = 11


class Incomplete(BanipError):
    """Something that was promised is missing."""

    exit_code = 12


class UnreadableMedium(BanipError):
    """The medium does not give its bytes back."""

    exit_code = 13


class UnfitServer(BanipError):
    """The server, or its version of the appliance, cannot take the release."""

    exit_code = 20


class Returned(BanipError):
    """The new release failed and the previous state answers again."""

    exit_code = 30


class Interrupted(BanipError):
    """A person ended the run; nothing is lost, and the same command goes on."""

    exit_code = 130


_LABELS: dict[str, dict[str, str]] = {
    "en": {"where": "where", "expected": "expected", "seen": "seen", "remedy": "remedy"},
    "ko": {"where": "위치", "expected": "기대값", "seen": "실제값", "remedy": "조치"},
}


def _below(fact: str) -> str:
    """Set further lines of a fact below it: what a medium is called must not pass for a remedy of ours."""
    return fact.replace("\n", "\n      ")


def _words(value: object, language: Language) -> str:
    if isinstance(value, tuple):
        return "\n    ".join(_words(each, language) for each in value)
    render = getattr(value, "render", None)
    return printable(str(render(language) if render else value))
