"""The report as OSCAL assessment results, the form in which other tools take in an assessment.

What a check found is an observation, an item of a guide is a control and has a finding, what is to be mended
is a risk. OSCAL knows only *satisfied* and *not satisfied*: satisfied is what a machine saw in full and found
right, everything else is not, and our finer status stands beside it as a property. Identifiers follow from
the audit's head, so that the same edition gives the same bytes. Model: https://pages.nist.gov/OSCAL
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.audit.formats.oscal_frame import frame_of
from appliance.audit.formats.oscal_items import findings, observations, risks
from appliance.audit.formats.page import closed
from appliance.audit.formats.voice import NOTHING, Voice, graded, limits, title, warnings
from appliance.audit.outcome import STATUSES
from appliance.text import text

if TYPE_CHECKING:
    from appliance.audit.edition import Edition
    from appliance.audit.formats.oscal_frame import Frame
    from appliance.audit.outcome import GuideResult

#: What compliance-trestle 5.2 takes; nothing here is newer than 1.1.
OSCAL_VERSION = "1.2.1"
_FACTS, _RESULT = "facts.json", "audit.json"

_Object = dict[str, Any]


def render(edition: Edition) -> bytes:
    """Return assessment results as JSON."""
    frame = frame_of(closed(edition), Voice(edition.language))
    document = {
        "uuid": frame.id("document", edition.language),
        "metadata": _metadata(frame),
        "import-ap": {
            "href": f"#{frame.id('plan')}",
            "remarks": frame.ours(text("There is no assessment plan in OSCAL: this names what was asked.")),
        },
        "results": [_result(frame)],
        "back-matter": {"resources": _resources(frame)},
    }
    return msgspec.json.format(msgspec.json.encode({"assessment-results": document}), indent=1) + b"\n"


def _metadata(frame: Frame) -> _Object:
    edition, result = frame.edition, frame.edition.result
    marking = {"name": "marking", "value": frame.line(graded(edition, frame.voice))}
    redacted, sealed = ("yes" if told else "no" for told in (edition.redacted, edition.verified))
    own: list[tuple[str, str]] = [("report-grade", result.report_grade), ("language", edition.language)]
    own += [("redacted", redacted), ("facts-sealed", sealed)]
    return {
        "title": frame.told(title(edition, frame.voice)),
        "last-modified": frame.taken,
        "version": frame.taken,
        "oscal-version": OSCAL_VERSION,
        "props": [marking, *frame.props(own)],
        "remarks": "\n\n".join(map(frame.told, (*warnings(edition, frame.voice), *limits(frame.voice)))),
        **_parties(frame),
    }


def _parties(frame: Frame) -> _Object:
    """Return the institution, and by name who decided or answered something for it."""
    roles = {"assessed": text("Assessed institution"), "approver": text("Decides and answers for it")}
    institution = frame.voice.of(text("the institution that runs the server"))
    persons = frame.persons()
    responsible = [{"role-id": "assessed", "party-uuids": [frame.id("institution")]}]
    if persons:
        responsible += [{"role-id": "approver", "party-uuids": [frame.party(name) for name in persons]}]
    return {
        "roles": [{"id": name, "title": frame.ours(words)} for name, words in roles.items()],
        "parties": [
            {"uuid": frame.id("institution"), "type": "organization", "name": institution},
            *({"uuid": frame.party(name), "type": "person", "name": frame.line(name)} for name in persons),
        ],
        "responsible-parties": responsible,
    }


# --- The result --------------------------------------------------------------------------------------------


def _result(frame: Frame) -> _Object:
    edition, result = frame.edition, frame.edition.result
    platform = {
        "uuid": frame.id("platform"),
        "title": frame.label("appliance"),
        "uses-components": [{"component-uuid": frame.tool}],
    }
    found = {
        "uuid": frame.id("result"),
        "title": frame.told(f"{title(edition, frame.voice)}: {result.host}, {frame.taken}"),
        "description": frame.label("subtitle"),
        "start": frame.taken,
        "end": frame.taken,
        "props": _result_props(frame),
        "local-definitions": {
            "components": [_server(frame)],
            "assessment-assets": {"components": [_tool(frame)], "assessment-platforms": [platform]},
        },
        "reviewed-controls": {"control-selections": [_selection(frame, one) for one in result.guides]},
        "observations": list(observations(frame)),
        "risks": list(risks(frame)),
        "findings": list(findings(frame)),
    }
    return {name: value for name, value in found.items() if value}


def _result_props(frame: Frame) -> list[_Object]:
    edition, result = frame.edition, frame.edition.result
    pairs: list[tuple[str, str | None]] = [("grade", result.grade), ("head", edition.head)]
    if edition.judged_from is not None:
        pairs += [("judged-from", str(edition.judged_from.number))]
    if edition.record is not None:
        pairs += [("number", str(edition.record.number)), ("previous", edition.record.previous)]
    pairs += [("score", None if result.score is None else str(result.score))]
    pairs += [(f"count-{status}", str(result.counts[status])) for status in STATUSES]
    for one in edition.comparison.changes if edition.comparison else ():
        pairs += [("changed", f"{one.id}: {one.before or NOTHING} > {one.after or NOTHING}")]
    return frame.props(pairs)


def _server(frame: Frame) -> _Object:
    result = frame.edition.result
    return {
        "uuid": frame.server,
        "type": "this-system",
        "title": frame.told(result.host),
        "description": f"{frame.label('system')}: {frame.told(result.system)}",
        "props": frame.props([("release", result.release), ("release-grade", result.release_grade)]),
        "status": {"state": "operational"},
    }


def _tool(frame: Frame) -> _Object:
    return {
        "uuid": frame.tool,
        "type": "software",
        "title": "Banip appliance",
        "description": frame.label("appliance"),
        "props": [{"name": "version", "value": frame.line(frame.edition.result.appliance)}],
        "status": {"state": "operational"},
    }


def _selection(frame: Frame, guide: GuideResult) -> _Object:
    """Name the controls of a guide that the grade asks, and those that it does not."""
    score = None if guide.score is None else str(guide.score)
    found: _Object = {
        "description": frame.told(f"{frame.voice.said(guide.title)} {guide.edition}"),
        "props": frame.props([("guide", guide.guide), ("label", guide.label), ("score", score)]),
        "exclude-controls": _named(frame, guide, applies=False),
        "remarks": "\n\n".join(frame.said(note) for note in guide.notes),
    }
    asked = _named(frame, guide, applies=True)
    # Something must be included: of a guide of which nothing is asked, all but all of it.
    included: _Object = {"include-controls": asked} if asked else {"include-all": {}}
    return {name: value for name, value in found.items() if value} | included


def _named(frame: Frame, guide: GuideResult, *, applies: bool) -> list[_Object]:
    return [{"control-id": frame.control(guide, one)} for one in guide.controls if one.applies == applies]


# --- What it refers to -------------------------------------------------------------------------------------


def _resources(frame: Frame) -> list[_Object]:
    """Return what was asked, and the files that the audit read and wrote, by digest where it is known."""
    record = None if frame.edition.redacted else frame.edition.record
    return [
        _plan(frame),
        _file(frame, _FACTS, record.facts if record else ""),
        _file(frame, _RESULT, record.result if record else ""),
        *(
            {
                "uuid": frame.id("site-file", one.path),
                "title": frame.told(one.path),
                "description": frame.label("site_files"),
                "props": frame.props([("sha256", one.sha256)]),
            }
            for one in frame.edition.result.site_files
        ),
    ]


def _plan(frame: Frame) -> _Object:
    """Return what stands for an assessment plan: the grade, and the checks that were asked."""
    result = frame.edition.result
    content = f"grade {result.grade}\n" + "".join(f"{one.id}\n" for one in result.results)
    value = base64.b64encode(content.encode()).decode()
    return {
        "uuid": frame.id("plan"),
        "title": frame.ours(text("What was asked: the grade, and the checks by id")),
        "base64": {"filename": "plan.txt", "media-type": "text/plain", "value": value},
    }


def _file(frame: Frame, name: str, sha256: str) -> _Object:
    link: _Object = {"href": name, "media-type": "application/json"}
    if sha256:
        link["hashes"] = [{"algorithm": "SHA-256", "value": sha256}]
    return {"uuid": frame.id("file", name), "title": name, "rlinks": [link]}
