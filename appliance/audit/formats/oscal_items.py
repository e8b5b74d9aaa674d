"""What the audit found, in OSCAL: observations by checks and by persons, risks, findings for the controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from appliance.audit.formats.voice import NOTHING
from appliance.audit.words import ANSWER_WORDS, STANDING_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.audit.formats.oscal_frame import Frame
    from appliance.audit.outcome import Accepted, Attested, ControlResult, GuideResult, Result

#: What is to be mended, or was accepted instead.
_RISKY = frozenset({"fail", "unknown", "exception"})

_Object = dict[str, Any]


# --- Observations ------------------------------------------------------------------------------------------


def observations(frame: Frame) -> Iterator[_Object]:
    """Return what each check saw, and each answer of a person."""
    for one in frame.edition.result.results:
        yield _observation(frame, one)
        if one.attestation is not None:
            yield _answer(frame, one.id, one.attestation)
    for guide in frame.edition.result.guides:
        for control in guide.controls:
            if control.attestation is not None:
                yield _answer(frame, f"{guide.guide}/{control.id}", control.attestation)


def _observation(frame: Frame, one: Result) -> _Object:
    where = frame.told(one.where)
    found = {
        "uuid": frame.id("observation", one.id),
        "title": frame.said(one.title),
        "description": frame.said(one.observed),
        "props": _check_props(frame, one),
        "methods": ["EXAMINE" if one.found == "manual" else "TEST"],
        "types": ["control-objective"],
        "origins": [{"actors": [{"type": "tool", "actor-uuid": frame.tool}]}],
        "subjects": [{"subject-uuid": frame.server, "type": "component"}],
        "relevant-evidence": [{"href": f"#{frame.id('file', 'facts.json')}", "description": where}],
        "collected": frame.taken,
        "remarks": f"{frame.label('expected')}: {frame.said(one.expected)}",
    }
    if where == NOTHING:
        del found["relevant-evidence"]
    return found


def _check_props(frame: Frame, one: Result) -> list[_Object]:
    pairs = [("check", one.id), ("status", one.status), ("found", one.found)]
    pairs += [("importance", one.importance), ("area", one.area)]
    if one.tailored is not None:
        own = one.tailored
        pairs += [("threshold", own.value), ("threshold-default", own.default)]
        pairs += [("threshold-direction", own.direction), ("threshold-approver", own.approver)]
        pairs += [("threshold-reason", own.reason), ("threshold-expires", str(own.expires))]
    return frame.props(pairs)


def _answer(frame: Frame, reference: str, one: Attested) -> _Object:
    """Return a person's answer: it is an observation of its own, and satisfies nothing."""
    standing, answer = frame.ours(STANDING_WORDS[one.standing]), frame.ours(ANSWER_WORDS[one.answer])
    pairs = [("reference", reference), ("standing", one.standing), ("answer", one.answer)]
    if one.certificate is not None:
        held = one.certificate
        pairs += [("certificate-module", held.module), ("certificate-number", held.number)]
        pairs += [("certificate-expires", str(held.expires))]
    found: _Object = {
        "uuid": frame.id("answer", reference),
        "title": f"{frame.label('attestation')}: {frame.told(reference)}",
        "description": f"\\[{standing}\\] {answer}: {frame.told(one.statement)}",
        "props": frame.props(pairs),
        "methods": ["INTERVIEW"],
        "origins": [{"actors": [{"type": "party", "actor-uuid": frame.party(one.by)}]}],
        "collected": frame.day_begins(one.date),
        "expires": frame.day_ends(one.expires),
    }
    if one.evidence:
        found["relevant-evidence"] = [
            {
                "description": frame.told(file.file),
                "props": frame.props(
                    [("sha256", file.sha256), ("compared", "yes" if file.sha256 in one.checked else "no")]
                ),
            }
            for file in one.evidence
        ]
    if one.void is not None:
        found["remarks"] = frame.said(one.void)
    return found


# --- Risks -------------------------------------------------------------------------------------------------


def risks(frame: Frame) -> Iterator[_Object]:
    """Return what is to be mended or was accepted: by check, and by control where only a person said so."""
    for one in frame.edition.result.results:
        if one.status in _RISKY:
            yield _check_risk(frame, one)
    for guide in frame.edition.result.guides:
        for control in guide.controls:
            if _has_own_risk(control):
                yield _control_risk(frame, guide, control)


def _has_own_risk(one: ControlResult) -> bool:
    """Tell whether a control is at fault, or excused, by itself and not by a check of its own."""
    if one.status == "exception":
        return _in_force(one.exception)
    return one.status == "fail" and one.shown != "fail"


def _in_force(one: Accepted | None) -> bool:
    return one is not None and one.standing == "in-force"


def _check_risk(frame: Frame, one: Result) -> _Object:
    found = {
        "uuid": frame.id("risk", one.id),
        "title": frame.said(one.title),
        "description": frame.said(one.observed),
        "statement": f"{frame.label('expected')}: {frame.said(one.expected)}",
        "props": frame.props([("check", one.id), ("status", one.status), ("importance", one.importance)]),
        "status": _risk_status(one),
        "remediations": [
            {
                "uuid": frame.id("remedy", one.id),
                "lifecycle": "recommendation",
                "title": frame.label("remedy"),
                "description": frame.said(one.remedy),
            }
        ],
        "related-observations": [{"observation-uuid": frame.id("observation", one.id)}],
    }
    return found | _accepted(frame, one.id, one.exception)


def _control_risk(frame: Frame, guide: GuideResult, one: ControlResult) -> _Object:
    reference = f"{guide.guide}/{one.id}"
    told = one.attestation.statement if one.attestation is not None else ""
    found = {
        "uuid": frame.id("risk", reference),
        "title": frame.told(f"{one.id} {one.title}"),
        "description": frame.told(told or one.title),
        "statement": frame.said(one.open.reason) if one.open else frame.told(one.title),
        "props": frame.props([("control", reference), ("status", one.status)]),
        "status": _risk_status(one),
    }
    return found | _accepted(frame, reference, one.exception)


def _risk_status(one: Result | ControlResult) -> str:
    return "deviation-approved" if one.status == "exception" and _in_force(one.exception) else "open"


def _accepted(frame: Frame, reference: str, one: Accepted | None) -> _Object:
    """Return who accepted the risk, and until when; what has lapsed is told and sets no deadline."""
    if one is None:
        return {}
    entry: _Object = {
        "uuid": frame.id("accepted", reference),
        "title": frame.told(f"{frame.voice.label('exception')} {one.ticket}"),
        "description": frame.told(one.reason),
        "start": frame.day_begins(one.date),
        "end": frame.day_ends(one.expires),
        "props": frame.props(
            [("standing", one.standing), ("ticket", one.ticket), ("approver", one.approver)],
        ),
        "logged-by": [{"party-uuid": frame.party(one.approver), "role-id": "approver"}],
    }
    if not _in_force(one):
        return {"risk-log": {"entries": [entry]}}
    entry["status-change"] = "deviation-approved"
    return {"deadline": frame.day_ends(one.expires), "risk-log": {"entries": [entry]}}


# --- Findings ----------------------------------------------------------------------------------------------


def findings(frame: Frame) -> Iterator[_Object]:
    """Return how each control came out that the grade asks."""
    results = {one.id: one for one in frame.edition.result.results}
    for guide in frame.edition.result.guides:
        for one in guide.controls:
            if one.applies:
                yield _finding(frame, guide, one, results)


def _finding(frame: Frame, guide: GuideResult, one: ControlResult, results: dict[str, Result]) -> _Object:
    reference = f"{guide.guide}/{one.id}"
    checks = [results[each.check] for each in one.evidence if each.check in results]
    seen = [frame.id("observation", each.id) for each in checks]
    seen += [frame.id("answer", each.id) for each in checks if each.attestation is not None]
    seen += [frame.id("answer", reference)] if one.attestation is not None else []
    at_risk = [frame.id("risk", each.id) for each in checks if each.status in _RISKY]
    at_risk += [frame.id("risk", reference)] if _has_own_risk(one) else []
    found = {
        "uuid": frame.id("finding", reference),
        "title": frame.told(f"{one.id} {one.title}"),
        "description": f"{frame.told(frame.voice.status(one.status))}: {frame.told(one.title)}",
        "props": _control_props(frame, guide, one),
        "target": _target(frame, guide, one),
        "related-observations": [{"observation-uuid": each} for each in seen],
        "related-risks": [{"risk-uuid": each} for each in at_risk],
        "remarks": "\n\n".join(_open_words(frame, one)),
    }
    return {name: value for name, value in found.items() if value}


def _target(frame: Frame, guide: GuideResult, one: ControlResult) -> _Object:
    found: _Object = {
        "type": "objective-id",
        "target-id": f"{frame.control(guide, one)}_obj",
        "status": {
            "state": "satisfied" if is_satisfied(one) else "not-satisfied",
            "reason": "pass" if is_satisfied(one) else "fail" if one.status == "fail" else "other",
        },
    }
    if one.status == "not-applicable":
        found["implementation-status"] = {"state": "not-applicable"}
    return found


def is_satisfied(one: ControlResult) -> bool:
    """Tell whether a machine saw all of a control and found it right; partial evidence never satisfies."""
    return one.status == "pass" and one.answered == "automated"


def _control_props(frame: Frame, guide: GuideResult, one: ControlResult) -> list[_Object]:
    pairs = [("guide", guide.guide), ("control", one.id), ("status", one.status), ("answered", one.answered)]
    pairs += [("shown", one.shown)] if one.shown else []
    pairs += [("attested", "yes")] if one.attested else []
    pairs += [("importance", one.importance)] if one.importance else []
    pairs += [("grades", one.grades), ("key", "yes" if one.key else "no")]
    for each in one.evidence:
        part = f" {frame.voice.said(each.part)}" if each.part else ""
        pairs += [(f"evidence-{each.shows}", f"{each.check} {each.status}{part}")]
    directions = dict.fromkeys(each.tailored for each in one.evidence if each.tailored)
    pairs += [("threshold-direction", direction) for direction in directions if direction]
    return frame.props(pairs)


def _open_words(frame: Frame, one: ControlResult) -> Iterator[str]:
    """Say what no machine shows, and what to ask and look at."""
    if one.open is not None:
        yield f"{frame.label('why')}: {frame.said(one.open.reason)}"
        if one.open.ask is not None:
            yield f"{frame.label('ask')}: {frame.said(one.open.ask)}"
        if one.open.look:
            yield f"{frame.label('look')}: {', '.join(frame.said(place) for place in one.open.look)}"
    if one.exception is not None and not _in_force(one.exception):
        standing = frame.ours(STANDING_WORDS[one.exception.standing])
        yield f"{frame.label('exception')}: {standing}, {frame.told(one.exception.reason)}"
    for each in one.uncertain:
        note = frame.told(each.note) if isinstance(each.note, str) else frame.said(each.note)
        yield f"{frame.label('uncertain')}: {note}"
    if one.clause:
        yield f"{frame.label('clause')}: {frame.told(one.clause)}"
