"""How an institution's decisions stand on the day of an audit, and which results they met. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from appliance.audit.catalogue import Words, checks
from appliance.audit.outcome import Accepted, Attested, Decision, Result, Tailored
from appliance.audit.registers import REGISTERS_FILE
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from appliance.audit.catalogue import Check
    from appliance.audit.outcome import ControlResult, Direction
    from appliance.audit.registers import Register
    from appliance.audit.site import AcceptedFault, Attestation, SiteRules, Threshold
    from appliance.format import Grade
    from appliance.text import Text

_One = TypeVar("_One", "AcceptedFault", "Attestation")
_Standing = TypeVar("_Standing", Accepted, Attested)


class Decisions:
    """A site's decisions on one day, asked by what they apply to."""

    def __init__(self, rules: SiteRules, day: date) -> None:
        self._rules, self._day = rules, day
        self._exceptions = _by_reference(rules.exceptions)
        self._attestations = _by_reference(rules.attestations)
        self.declared = rules.declared(day)
        #: Names of the institution's registers that hold on the day.
        self.registers: frozenset[str] = frozenset(self.declared.in_force())

    def limit(self, name: str, about: Check, grade: Grade) -> tuple[str, Tailored | None]:
        """Return a check's threshold at a grade, and the site's own word on it where there is one."""
        default = about.limits.get(grade, "")
        one = self._rules.limit(name, grade, self._day)
        if one is None or not default:
            return default, None
        return one.value, Tailored(
            value=one.value,
            default=default,
            direction=direction(one.value, default, about.stricter),
            reason=one.reason,
            approver=one.approver,
            expires=one.expires,
        )

    def exception(self, reference: str) -> Accepted | None:
        """Return the exception that applies: one in force, or else the last that was written."""
        return _first([self._accepted(one) for one in self._exceptions.get(reference, ())])

    def attestation(self, reference: str, *, certified: bool) -> Attested | None:
        """Return the answer that applies; ``certified``: it needs a certificate of the KCMVP to count."""
        given = self._attestations.get(reference, ())
        return _first([self._attested(one, certified=certified) for one in given])

    def log(self, results: Mapping[str, Result | ControlResult]) -> tuple[Decision, ...]:
        """Return every decision of the site, and what it changed or answers; ``results`` by reference."""
        return (
            *(self._threshold(one, results) for one in self._rules.thresholds),
            *(self._exception(one, results) for one in self._rules.exceptions),
            *(self._attestation(one, results) for one in self._rules.attestations),
            *(self._register(name, one, results) for name, one in self._rules.registers.entered().items()),
        )

    def _accepted(self, one: AcceptedFault) -> Accepted:
        return Accepted(
            reason=one.reason,
            approver=one.approver,
            ticket=one.ticket,
            date=one.date,
            expires=one.expires,
            standing=one.standing(self._day),
        )

    def _attested(self, one: Attestation, *, certified: bool) -> Attested:
        void = self._void(one, certified=certified)
        return Attested(
            answer=one.answer,
            statement=one.statement,
            by=one.by,
            date=one.date,
            expires=one.expires,
            evidence=one.evidence,
            checked=tuple(each.sha256 for each in one.evidence if each.sha256 in self._rules.present),
            certificate=one.certificate,
            standing="void" if void else one.standing(self._day),
            void=Words(ko=void.render("ko"), en=void.render("en")) if void else None,
        )

    def _void(self, one: Attestation, *, certified: bool) -> Text | None:
        """Say why an answer does not count, whatever its dates are."""
        changed = [each.file for each in one.evidence if each.sha256 in self._rules.broken]
        if changed:
            return text("the file of evidence is another than was named: {names}", names=", ".join(changed))
        if not certified or one.answer != "holds":
            return None
        if one.certificate is None:
            return text("no certificate of the KCMVP is named")
        if one.certificate.expires < self._day:
            return text("the certificate ended on {date}", date=one.certificate.expires)
        return None

    # --- What became of each -------------------------------------------------------------------------------

    def _threshold(self, one: Threshold, results: Mapping[str, Result | ControlResult]) -> Decision:
        met = results.get(one.check)
        used = isinstance(met, Result) and met.tailored is not None and met.tailored.value == one.value
        return Decision(
            kind="threshold",
            applies_to=(one.check,),
            by=one.approver,
            reason=one.reason,
            ticket="",
            expires=one.expires,
            standing=one.standing(self._day),
            used_for=(one.check,) if used else (),
        )

    def _exception(self, one: AcceptedFault, results: Mapping[str, Result | ControlResult]) -> Decision:
        standing = one.standing(self._day)
        used = [each for each in one.applies_to if _excepted(results.get(each), standing)]
        return Decision(
            kind="exception",
            applies_to=one.applies_to,
            by=one.approver,
            reason=one.reason,
            ticket=one.ticket,
            expires=one.expires,
            standing=standing,
            used_for=tuple(used),
        )

    def _attestation(self, one: Attestation, results: Mapping[str, Result | ControlResult]) -> Decision:
        found = {each: results.get(each) for each in one.applies_to}
        used = [name for name, met in found.items() if met is not None and _answers(met, one)]
        void = {met.attestation.standing for met in found.values() if met and met.attestation} == {"void"}
        return Decision(
            kind="attestation",
            applies_to=one.applies_to,
            by=one.by,
            reason=one.statement,
            ticket="",
            expires=one.expires,
            standing="void" if void else one.standing(self._day),
            used_for=tuple(used),
        )

    def _register(self, name: str, one: Register, results: Mapping[str, Result | ControlResult]) -> Decision:
        standing = one.standing(self._day)
        by_it = tuple(check for check, about in checks().checks.items() if about.register == name)
        judged = [check for check in by_it if isinstance(met := results[check], Result) and _compared(met)]
        return Decision(
            kind="register",
            applies_to=by_it,
            by=one.approver,
            reason=f"{REGISTERS_FILE}: {name}",
            ticket=one.ticket,
            expires=one.expires,
            standing=standing,
            used_for=tuple(judged) if standing == "in-force" else (),
        )


def _compared(met: Result) -> bool:
    return met.found in {"pass", "fail"}


def _excepted(met: Result | ControlResult | None, standing: str) -> bool:
    return met is not None and met.status == "exception" and standing == "in-force"


def _answers(met: Result | ControlResult, one: Attestation) -> bool:
    given = met.attestation
    return given is not None and given.standing == "in-force" and given.statement == one.statement


def _by_reference(found: tuple[_One, ...]) -> dict[str, list[_One]]:
    by_reference: dict[str, list[_One]] = {}
    for one in found:
        for reference in one.applies_to:
            by_reference.setdefault(reference, []).append(one)
    return by_reference


def _first(found: list[_Standing]) -> _Standing | None:
    """Return the one in force, or else the last that was written, so that a report can say why not."""
    return next((one for one in found if one.standing == "in-force"), found[-1] if found else None)


def direction(value: str, default: str, stricter: str) -> Direction:
    """Say whether a threshold asks less or more than the default.

    Permission bits (octal, with a leading 0) are compared as sets; what is neither more nor less is looser.
    """
    if default.startswith("0"):
        given, wanted = int(value, 8), int(default, 8)
        within = given | wanted == (given if stricter == "higher" else wanted)
        return "same" if given == wanted else "stricter" if within else "looser"
    if float(value) == float(default):
        return "same"
    return "stricter" if (float(value) < float(default)) == (stricter == "lower") else "looser"
