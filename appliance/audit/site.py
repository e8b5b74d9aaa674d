"""What an institution decides about its audit, in files of its own under ``/etc/banip/audit``.

::

    tailoring.yaml       thresholds of checks
    exceptions.yaml      faults that somebody accepts, and until when
    attestations.yaml    answers to manual items
    registers.yaml       what it approved: accounts, keys, ways in and out, documents, ...
    evidence/            files that attestations and registers name by digest
    checklists/*.yaml    its own checklists, and the text of a guide's clauses

No exception and no answer makes anything pass; a threshold decides as it is set, and every result that it
decides says so. All lapse by their dates, against the time at which the facts were taken.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from msgspec import Meta

from appliance.audit.catalogue import Checklist, Filled, Grades, Short, checks
from appliance.audit.checklists import guides, read_own
from appliance.audit.dated import Attached, Dated, Day, date_faults
from appliance.audit.registers import REGISTERS_FILE, Declared, Registers, register_faults
from appliance.document import DOCUMENT_MAX_BYTES, document_from_bytes, typed
from appliance.errors import BadInput
from appliance.format import Grade, Value, sha256_hex
from appliance.problems import refuse
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from appliance.audit.dated import Faults

AUDIT_FOLDER = Path("/etc/banip/audit")
Answer = Literal["holds", "does-not-hold", "not-applicable"]
#: A check by its id (``host.umask``), or a control by guide and number (``kisa/U-64``).
Reference = Annotated[str, Meta(pattern=r"^[\w.()/-]{1,90}$")]
References = Annotated[tuple[Reference, ...], Meta(min_length=1)]
_FILE_MODE = re.compile(r"0[0-7]{2,4}")
_EXTENDS = re.compile(rb"^extends:", re.MULTILINE)
_NUMBER = re.compile(r"[0-9]{1,9}(\.[0-9]{1,3})?")
NAMES = ("tailoring.yaml", "exceptions.yaml", "attestations.yaml", REGISTERS_FILE)
EVIDENCE_MOST_BYTES = 64 * 1024 * 1024


class Threshold(Dated, frozen=True, kw_only=True, omit_defaults=True):
    """A threshold of a check that the institution sets otherwise, for some grades or for all."""

    check: Short
    value: Short
    grades: Grades = "CSO"
    reason: Filled
    approver: Short


class AcceptedFault(Dated, frozen=True, kw_only=True):
    """An exception: a fault, or an open item, that somebody accepts for a time and answers for."""

    applies_to: References
    reason: Filled
    approver: Short
    ticket: Short


class Certificate(Value, frozen=True):
    """A certificate of the KCMVP for the cryptographic module in use."""

    module: Short
    number: Short
    expires: Day


class Attestation(Dated, frozen=True, kw_only=True, omit_defaults=True):
    """A person's answer to what no machine can judge."""

    applies_to: References
    answer: Answer
    statement: Filled
    by: Short
    evidence: tuple[Attached, ...] = ()
    certificate: Certificate | None = None


class Tailoring(Value, frozen=True):
    """``tailoring.yaml``."""

    format: Literal[1]
    thresholds: tuple[Threshold, ...] = ()


class Exceptions(Value, frozen=True):
    """``exceptions.yaml``."""

    format: Literal[1]
    exceptions: tuple[AcceptedFault, ...] = ()


class Attestations(Value, frozen=True):
    """``attestations.yaml``."""

    format: Literal[1]
    attestations: tuple[Attestation, ...] = ()


class SiteFile(Value, frozen=True):
    """A file that went into an audit, by its digest."""

    path: str
    sha256: str


class SiteRules(Value, frozen=True):
    """Everything that an institution decided; ``broken``: evidence whose file is not the one that was named.

    ``present``: evidence whose file was looked at and is. What is in neither is kept elsewhere.
    """

    checklists: dict[str, Checklist]
    thresholds: tuple[Threshold, ...] = ()
    exceptions: tuple[AcceptedFault, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    registers: Registers = Registers()
    files: tuple[SiteFile, ...] = ()
    broken: frozenset[str] = frozenset()
    present: frozenset[str] = frozenset()

    def limit(self, check: str, grade: Grade, day: Day) -> Threshold | None:
        """Return the threshold that the institution sets for a check on that day; the last one counts."""
        found = [one for one in self.thresholds if one.check == check and grade in one.grades]
        return next((one for one in reversed(found) if one.standing(day) == "in-force"), None)

    def declared(self, day: Day) -> Declared:
        """Return the registers as they stand on that day."""
        return Declared(self.registers, day, self.present)


def no_rules() -> SiteRules:
    """Return what holds where an institution has decided nothing."""
    return SiteRules(checklists=guides())


# --- Reading -----------------------------------------------------------------------------------------------

_Kind = TypeVar("_Kind", bound=Value)


def read_rules(folder: Path = AUDIT_FOLDER) -> SiteRules:
    """Read an institution's files; a server without them has decided nothing.

    Raises ``BadInput`` with file, line and path of everything wrong in the first file that is wrong, also for
    one that others than root may write.
    """
    if not folder.is_dir():
        return no_rules()
    for place in (folder, folder / "checklists", folder / "evidence"):
        if place.is_dir():
            _refuse_writable(place)
    _refuse_strangers(folder)
    reading = _Reading(folder)
    known = reading.checklists()
    references = {f"{guide.guide}/{control.id}" for guide in known.values() for control in guide.controls}
    strangers = partial(_reference_faults, references | checks().checks.keys())
    tailoring = reading.file("tailoring", Tailoring(format=1), _threshold_faults)
    exceptions = reading.file("exceptions", Exceptions(format=1), strangers)
    attestations = reading.file("attestations", Attestations(format=1), strangers)
    registers = reading.file("registers", Registers(), register_faults)
    named = [*(each for one in attestations.attestations for each in one.evidence), *registers.papers()]
    present, broken = _evidence(folder / "evidence", named)
    return SiteRules(
        checklists=known,
        thresholds=tailoring.thresholds,
        exceptions=exceptions.exceptions,
        attestations=attestations.attestations,
        registers=registers,
        files=tuple(reading.files),
        present=present,
        broken=broken,
    )


class _Reading:
    """One reading of the folder; ``files`` remembers what was read, by digest."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.files = folder, list[SiteFile]()

    def checklists(self) -> dict[str, Checklist]:
        """Return the guides of Banip and the institution's own; additions come after what they add to."""
        known = dict(guides())
        folder = self._folder / "checklists"
        found = {path: self._bytes(path) for path in sorted(folder.glob("*.yaml"))}
        for path in sorted(found, key=lambda path: _EXTENDS.search(found[path]) is not None):
            own = read_own(found[path], str(path), known)
            known[own.guide] = own
        return known

    def file(self, name: str, otherwise: _Kind, faults: Callable[[_Kind], Faults]) -> _Kind:
        """Return what stands in ``NAME.yaml``, or ``otherwise`` where there is none. Raises ``BadInputs``."""
        path = self._folder / f"{name}.yaml"
        if not os.path.lexists(path):
            return otherwise
        document = document_from_bytes(self._bytes(path), str(path), plain_dates=True)
        found = typed(document, type(otherwise))
        refuse(document.name, [document.problem(place, said) for place, said in faults(found)])
        return found

    def _bytes(self, path: Path) -> bytes:
        content = _plain(path)
        self.files.append(SiteFile(path=str(path), sha256=sha256_hex(content)))
        return content


def _plain(path: Path) -> bytes:
    """Read a file that nobody else than root may write; a link to nothing, a pipe or a device is none."""
    try:
        _refuse_writable(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise BadInput(text("the file cannot be read"), where=path, seen=error.strerror) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BadInput(text("this is no plain file"), where=path)
        return file.read(DOCUMENT_MAX_BYTES + 1)  # more is refused when it is parsed


def _refuse_strangers(folder: Path) -> None:
    """Refuse a file that looks like one of an institution's and bears no name that is read."""
    for path in sorted([*folder.glob("*.y*ml"), *folder.glob("checklists/*.yml")]):
        if path.parent != folder or path.name not in NAMES:
            raise BadInput(
                text("nothing reads a file of this name"),
                where=path,
                expected=", ".join((*NAMES, "checklists/*.yaml")),
                remedy=text("give it one of these names, or another ending than .yaml and .yml"),
            )


def _refuse_writable(path: Path) -> None:
    """Refuse what others than root may write: they would decide what the audit shows."""
    about = path.stat()
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or about.st_uid not in {0, os.geteuid()}:
        raise BadInput(
            text("others than root may change what the audit goes by"),
            where=path,
            seen=f"uid {about.st_uid}, {stat.S_IMODE(about.st_mode):04o}",
            remedy=text("chown root, chmod go-w, and look whether the content is still yours"),
        )


# --- What a type cannot say --------------------------------------------------------------------------------


def _threshold_faults(found: Tailoring) -> Faults:
    for number, one in enumerate(found.thresholds):
        place = ("thresholds", number)
        yield from date_faults(place, one)
        about = checks().checks.get(one.check)
        if about is None:
            yield (*place, "check"), text("there is no check {name}", name=one.check)
        elif not about.limits:
            yield (*place, "check"), text("{name} has no threshold to set", name=one.check)
        elif not _like(one.value, next(iter(about.limits.values()))):
            limits = ", ".join(sorted(set(about.limits.values())))
            yield (
                (*place, "value"),
                text("{value} is no threshold like {limits}", value=one.value, limits=limits),
            )


def _like(value: str, limit: str) -> bool:
    """Tell whether a value is written as a check's own threshold is: permission bits, or a number."""
    return (_FILE_MODE if _FILE_MODE.fullmatch(limit) else _NUMBER).fullmatch(value) is not None


def _reference_faults(known: frozenset[str] | set[str], found: Exceptions | Attestations) -> Faults:
    member = "exceptions" if isinstance(found, Exceptions) else "attestations"
    entries: tuple[AcceptedFault | Attestation, ...] = getattr(found, member)
    for number, one in enumerate(entries):
        yield from date_faults((member, number), one)
        for place, reference in enumerate(one.applies_to):
            if reference not in known:
                here = (member, number, "applies_to", place)
                yield here, text("there is no check or control {name}", name=reference)


# --- Evidence ----------------------------------------------------------------------------------------------


def _evidence(folder: Path, named: Iterable[Attached]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the digests whose files are here and are what was named, and those whose files are not."""
    present, broken = set[str](), set[str]()
    for attached in named:
        path = folder / attached.file
        if os.path.lexists(path) and not path.is_file():
            broken.add(attached.sha256)  # a link to nothing, a pipe: not the file that was named
        elif path.is_file():
            (present if _digest(path) == attached.sha256 else broken).add(attached.sha256)
    return frozenset(present), frozenset(broken)


def _digest(path: Path) -> str:
    if path.stat().st_size > EVIDENCE_MOST_BYTES:
        raise BadInput(
            text("a file of evidence is larger than {limit} bytes", limit=EVIDENCE_MOST_BYTES),
            where=path,
            remedy=text("keep it elsewhere; its digest in the attestation is enough"),
        )
    return hashlib.sha256(path.read_bytes()).hexdigest()
