"""What the parts of an OSCAL document share: identifiers, properties, words that cannot become markup."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime, time
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.audit.dated import KOREA
from appliance.audit.formats.voice import NOTHING
from appliance.format import sha256_hex
from appliance.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from appliance.audit.catalogue import Words
    from appliance.audit.edition import Edition
    from appliance.audit.formats.voice import Voice
    from appliance.audit.outcome import ControlResult, GuideResult, Result
    from appliance.text import Text

#: A name for what OSCAL has no word for. Nothing is there to be fetched.
NAMESPACE = "https://banip.invalid/ns/oscal"
_SPELLED = re.compile(r"[A-Za-z0-9가-힣-]")
_NUMBERED = re.compile(r"(.*)\(([A-Za-z0-9]+)\)")
#: What would make markup of words that come from the server.
_MARKUP = re.compile(r"([\\`*\[\]<>])")
_DAY_ENDS = time(23, 59, 59)

_Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Frame:
    """One document: what it is made from, and ``base``, from which its identifiers follow."""

    edition: Edition
    voice: Voice
    base: uuid.UUID

    # --- Identifiers ---------------------------------------------------------------------------------------

    def id(self, *parts: str) -> str:
        """Return the identifier of a thing in this audit."""
        return str(uuid.uuid5(self.base, "/".join(parts)))

    def party(self, name: str) -> str:
        """Return the identifier of a person or office."""
        return self.id("party", name)

    def control(self, guide: GuideResult, one: ControlResult) -> str:
        """Return the id of a control."""
        return control_token(guide.guide, one.id)

    @property
    def server(self) -> str:
        """Return the identifier of the server that was audited."""
        return self.id("server")

    @property
    def tool(self) -> str:
        """Return the identifier of the program that audited it."""
        return self.id("tool")

    def persons(self) -> list[str]:
        """Return who decided or answered something, each once."""
        result = self.edition.result
        held: list[Result | ControlResult] = list(result.results)
        held += [one for guide in result.guides for one in guide.controls]
        named = [one.by for one in result.decisions]
        named += [one.exception.approver for one in held if one.exception is not None]
        named += [one.attestation.by for one in held if one.attestation is not None]
        return list(dict.fromkeys(named))

    # --- Times ---------------------------------------------------------------------------------------------

    @property
    def taken(self) -> str:
        """Return when the facts were taken."""
        return self.edition.result.taken.isoformat()

    def day_begins(self, day: date) -> str:
        """Return the beginning of a day in Korea."""
        return datetime.combine(day, time(), KOREA).isoformat()

    def day_ends(self, day: date) -> str:
        """Return the end of a day in Korea."""
        return datetime.combine(day, _DAY_ENDS, KOREA).isoformat()

    # --- Words ---------------------------------------------------------------------------------------------

    def told(self, words: str) -> str:
        """Return words for a field that readers take as Markdown; never empty."""
        return _MARKUP.sub(r"\\\1", printable(words).strip()) or NOTHING

    def said(self, words: Words) -> str:
        """Return what is written in both languages."""
        return self.told(self.voice.said(words))

    def ours(self, words: Text) -> str:
        """Put our own words into the language."""
        return self.told(self.voice.of(words))

    def label(self, name: str) -> str:
        """Return a label of the report."""
        return self.told(self.voice.label(name))

    def line(self, words: str) -> str:
        """Return words for a field of one line; never empty."""
        return " ".join(printable(words).split()) or NOTHING

    # --- Properties ----------------------------------------------------------------------------------------

    def props(self, pairs: Iterable[tuple[str, str | None]]) -> list[_Object]:
        """Return properties of our own namespace; what is empty is left out."""
        return [{"name": name, "ns": NAMESPACE, "value": self.line(value)} for name, value in pairs if value]


def frame_of(edition: Edition, voice: Voice) -> Frame:
    """Return the frame of an edition: the same audit gives the same identifiers on any day."""
    seed = edition.head or sha256_hex(msgspec.json.encode(edition.result, order="sorted"))
    kind = "redacted" if edition.redacted else "whole"
    return Frame(edition, voice, uuid.uuid5(uuid.NAMESPACE_URL, f"{NAMESPACE}/{seed}/{kind}"))


def control_token(guide: str, control: str) -> str:
    """Return a control's id as OSCAL can spell it: ``N2SF-AC-1(2)`` of ``n2sf`` is ``n2sf-N2SF-AC-1.2``.

    Signs that it cannot spell are written as their number, so that no two controls share an id.
    """
    numbered = _NUMBERED.fullmatch(control)
    whole, tail = (numbered[1], f".{numbered[2]}") if numbered else (control, "")
    spelled = (one if _SPELLED.fullmatch(one) else f"_{ord(one):x}_" for one in whole)
    return f"{guide}-{''.join(spelled)}{tail}"
