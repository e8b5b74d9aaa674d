"""Drafts of an institution's files, out of a sealed audit: what is here, and blanks for what only it can say.

A draft lists what was on the server, not what is approved. What is decided or signed (who approved, by which
paper, until when, what the answer is) is a blank, and the loader of the real files refuses a file with one:
no draft becomes a register or an answer by being put in its place. Of exceptions there are no drafts: who
accepts a fault argues for that one. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from appliance.audit.catalogue import checks
from appliance.audit.dated import korean_time
from appliance.audit.draft_registers import sections
from appliance.audit.draft_yaml import BLANK, Noted, blanks, document
from appliance.audit.registers import REGISTERS_FILE
from appliance.audit.words import STANDING_WORDS
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from appliance.audit.edition import Record
    from appliance.audit.facts import AuditFacts
    from appliance.audit.outcome import Attested, AuditResult, ControlResult, GuideResult, Open, Result
    from appliance.audit.seal import Link
    from appliance.text import Language

Kind = Literal["registers", "attestations"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FILES: Mapping[Kind, str] = {"registers": REGISTERS_FILE, "attestations": "attestations.yaml"}
_EVIDENCE = "/etc/banip/audit/evidence/"
_ANSWER = dict.fromkeys(("answer", "statement", "by", "date", "expires"), BLANK)
_CERTIFICATE = dict.fromkeys(("module", "number", "expires"), BLANK)


@dataclass(frozen=True, slots=True)
class Draft:
    """A file to go on with: its content, how many entries it has, and how many blanks are to be filled in."""

    kind: Kind
    content: str
    entries: int
    blanks: int

    @property
    def file(self) -> str:
        """Return the name by which the loader reads it once it is filled in."""
        return FILES[self.kind]


def _draft(kind: Kind, head: tuple[Text, ...], members: dict[str, object], language: Language) -> Draft:
    whole = {"format": 1, **members}
    return Draft(kind, document(head, whole, language), _entries(members), blanks(members))


def _entries(value: object) -> int:
    """Count what stands in lists: entries, not what they are made of."""
    value = value.value if isinstance(value, Noted) else value
    if isinstance(value, dict):
        return sum(map(_entries, value.values()))
    return len(value) if isinstance(value, list) else 0


def _origin(record: Record, grade: str) -> Iterator[Text]:
    yield text(
        "from audit no. {number} of {host}, release {release}, {date}",
        number=record.number,
        host=record.host,
        release=record.release,
        date=korean_time(record.taken),
    )
    yield text("grade of this file: {grade}", grade=grade)


def _use(kind: Kind) -> Iterator[Text]:
    yield text(
        "~ is a blank. While one is left, the whole file is refused, "
        "and the lines of the first twenty are told."
    )
    yield text(
        "When it is filled in, try it with: appliance audit coverage --site FOLDER, and put it at {path}",
        path=f"/etc/banip/audit/{FILES[kind]}",
    )


# --- Registers ---------------------------------------------------------------------------------------------


def registers_draft(facts: AuditFacts, link: Link, language: Language) -> Draft:
    """Return all registers with what an audit saw; ``link``: the audit's own."""
    head = (
        text("DRAFT of the registers. What stands here is what was on the server, not what is approved."),
        text("Entry by entry: approve it, or strike it out and take it from the server as well."),
        text("A register that is not ready is struck out as a whole; what it answers stays open."),
        text("file: the paper's name in {folder}; sha256: what sha256sum says of it.", folder=_EVIDENCE),
        *_use("registers"),
        *_origin(link.record, link.record.report_grade),
    )
    members: dict[str, object] = dict(sections(facts, link).items())
    return _draft("registers", head, members, language)


# --- Attestations ------------------------------------------------------------------------------------------


def attestations_draft(
    result: AuditResult, record: Record, language: Language, guides: Collection[str] = ()
) -> Draft:
    """Return an entry for each item that is open for a person; ``guides``: of these alone, none: of all.

    An open check that is all that is left of some controls is one entry with them: one answer answers all.
    """
    head = (
        text("DRAFT of attestations: what is open for a person at grade {grade}.", grade=result.grade),
        text("answer: holds, does-not-hold or not-applicable; statement: what was looked at and found."),
        text("What you do not answer yet is struck out: the next draft lists it again."),
        text("What proves an answer may be added to it: evidence, a list of file and sha256."),
        *_use("attestations"),
        *_origin(record, result.report_grade),
    )
    chosen = [one for one in result.guides if not guides or one.guide in guides]
    by_check = dict[str, list[str]]()
    own, entries = {one.id: one for one in result.results if _is_open(one)}, list[Noted]()
    for guide, control in _open_controls(chosen):
        reference, check = f"{guide.guide}/{control.id}", _one_check(control)
        if check in own:
            by_check.setdefault(check, []).append(reference)
        else:
            entries.append(_asked(guide, control, reference, language))
    answered = [one for name, one in own.items() if name in by_check or not guides]
    entries += [_checked(one, by_check.get(one.id, []), language) for one in answered]
    return _draft("attestations", head, {"attestations": entries}, language)


def _is_open(one: Result) -> bool:
    """Tell whether a check waits for a person; what a register answers is not attested."""
    about = checks().checks.get(one.id)
    answered = one.attestation is not None and one.attestation.standing == "in-force"
    return one.status == "manual" and not answered and about is not None and not about.register


def _open_controls(guides: list[GuideResult]) -> Iterator[tuple[GuideResult, ControlResult]]:
    for guide in guides:
        yield from ((guide, one) for one in guide.controls if one.status == "manual" and not one.attested)


def _one_check(control: ControlResult) -> str | None:
    """Return the check whose answer is all that a control waits for, None where it is not one alone."""
    manual = [one.check for one in control.evidence if one.status == "manual"]
    return manual[0] if control.open is None and len(manual) == 1 else None


def _asked(guide: GuideResult, control: ControlResult, reference: str, language: Language) -> Noted:
    notes = [text("[{label} {id}] {title}", label=guide.label, id=control.id, title=control.title)]
    if control.open is not None:
        notes += _question(control.open, language)
    notes += _earlier(control.attestation)
    certified = any(_needs_certificate(one.check) for one in control.evidence)
    return _entry([reference], notes, certified=certified)


def _question(found: Open, language: Language) -> Iterator[Text]:
    yield text("why: {said}", said=getattr(found.reason, language))
    if found.ask is not None:
        yield text("question: {said}", said=getattr(found.ask, language))
    if found.look:
        yield text("look at: {names}", names=", ".join(getattr(one, language) for one in found.look))
    if found.registers:
        yield text("registers would answer it: {names}", names=", ".join(found.registers))


def _checked(one: Result, controls: list[str], language: Language) -> Noted:
    notes = [
        text("[{id}] {title}", id=one.id, title=getattr(one.title, language)),
        text("expected: {said}", said=getattr(one.expected, language)),
        text("seen: {said}", said=getattr(one.observed, language)),
    ]
    if one.where:
        notes.append(text("look at: {names}", names=one.where))
    notes += _earlier(one.attestation)
    return _entry([one.id, *controls], notes, certified=_needs_certificate(one.id))


def _earlier(given: Attested | None) -> Iterator[Text]:
    """Say how an answer stands that was given before and leaves the item open all the same."""
    if given is not None:
        yield text(
            "answered before by {by}, until {date}: {standing}",
            by=given.by,
            date=given.expires,
            standing=STANDING_WORDS[given.standing],
        )


def _needs_certificate(check: str) -> bool:
    about = checks().checks.get(check)
    return about is not None and about.needs_certificate


def _entry(references: list[str], notes: list[Text], *, certified: bool) -> Noted:
    entry: dict[str, object] = {"applies_to": tuple(references), **_ANSWER}
    if certified:
        told = text("of the validated module; strike it out where the answer is not holds")
        entry["certificate"] = Noted(_CERTIFICATE, (told,))
    return Noted(entry, tuple(notes))
