"""What may be taken out of the institute: nothing that anybody wrote, in any format."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pypdf import PdfReader

from appliance.audit.catalogue import Words
from appliance.audit.edition import Comparison, Edition, Record
from appliance.audit.facts import AuditFacts, Fact
from appliance.audit.formats import FORMATS, Unavailable, page, pdf
from appliance.audit.outcome import AuditResult
from appliance.audit.redact import LEFT_OUT, redacted, redacted_edition
from appliance.audit.result import audit
from tests import audited

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from appliance.format import Grade
    from appliance.text import Language

#: A place in a JSON value, the numbers of lists as "*", so that it stands for all places like it.
Place = tuple[str, ...]
Kind = type[AuditFacts] | type[AuditResult]
MARK = "Zq7표식"
#: Numbers that are spelled as strings, and what answers are found by: nobody writes words there.
NUMBERS = {"mode", "umask", "max_log_file", "num_logs", "logingracetime", "maxauthtries", "port"}
ASKED = ("web", "value", "api", "{}")
SLOW = settings(
    max_examples=15,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
FORMS: tuple[Callable[[str], str], ...] = (
    lambda _: MARK,
    lambda told: f"{MARK}{told}",
    lambda told: f"{told} {MARK}",
)


def strings(value: object, here: Place = ()) -> Iterator[Place]:
    """Yield the places of all strings, and of all tables (whose keys are strings too)."""
    if isinstance(value, dict):
        yield (*here, "{}")
        for name, each in value.items():
            yield from strings(each, (*here, name))
    elif isinstance(value, list):
        for each in value:
            yield from strings(each, (*here, "*"))
    elif isinstance(value, str):
        yield here


def marked(value: Any, places: set[Place], form: Callable[[str], str], here: Place = ()) -> Any:  # noqa: ANN401
    """Return a copy of a JSON value with a mark in all these places."""
    if isinstance(value, dict):
        found = {name: marked(each, places, form, (*here, name)) for name, each in value.items()}
        return {f"{MARK}{name}": each for name, each in found.items()} if (*here, "{}") in places else found
    if isinstance(value, list):
        return [marked(each, places, form, (*here, "*")) for each in value]
    return form(value) if isinstance(value, str) and here in places else value


@cache
def told(kind: Kind) -> Any:  # noqa: ANN401 - JSON
    return json.loads(msgspec.json.encode(audited.facts() if kind is AuditFacts else audited.result()))


@cache
def free(kind: Kind) -> tuple[Place, ...]:
    """Return the places where a shape takes any string at all: those that somebody may have written."""
    places = [one for one in dict.fromkeys(strings(told(kind))) if one[-1] not in NUMBERS and one != ASKED]
    return tuple(place for place in places if takes(kind, marked(told(kind), {place}, FORMS[0])))


def takes(kind: Kind, value: object) -> bool:
    try:
        msgspec.json.decode(json.dumps(value).encode(), type=kind)
    except msgspec.ValidationError:
        return False
    return True


def places_of(kind: Kind) -> st.SearchStrategy[set[Place]]:
    return st.deferred(lambda: st.sets(st.sampled_from(free(kind)), min_size=1))


def edition(result: AuditResult) -> Edition:
    return replace(audited.edition(redacted=True), result=result)


def assert_closed(result: AuditResult) -> None:
    """See that the mark is nowhere: in the value, on the page, on paper."""
    assert MARK.encode() not in msgspec.json.encode(redacted(result))
    assert MARK not in page.render(edition(result)).decode()


@pytest.mark.real
def test_there_is_much_that_somebody_may_have_written() -> None:
    assert len(free(AuditFacts)) > 200
    members = {part for place in free(AuditResult) for part in place}
    assert {"host", "system", "release", "observed", "where", "reason", "approver", "statement"} <= members
    assert {"by", "ticket", "file", "module", "path", "items", "expected", "remedy", "title"} <= members


@pytest.mark.real
@SLOW
@given(places_of(AuditFacts), st.sampled_from(FORMS), st.sampled_from(("C", "S", "O")))
def test_nothing_that_a_fact_says_survives(
    places: set[Place], form: Callable[[str], str], grade: Grade
) -> None:
    """Server, accounts, addresses, paths, versions: whatever the facts say, wherever a check puts it."""
    facts = msgspec.json.decode(json.dumps(marked(told(AuditFacts), places, form)).encode(), type=AuditFacts)
    assert_closed(audit(facts, grade, audited.rules()))


def test_nothing_survives_of_why_a_fact_was_not_read() -> None:
    names = [one for one in AuditFacts.__struct_fields__ if one not in {"format", "taken", "appliance"}]
    unread = {name: Fact[Any](source=MARK, unread=MARK) for name in names}
    result = audit(msgspec.structs.replace(audited.facts(), **unread), "S")
    assert MARK.encode() in msgspec.json.encode(result)
    assert_closed(result)


@pytest.mark.real
@SLOW
@given(places_of(AuditResult), st.sampled_from(FORMS))
def test_nothing_that_a_result_says_survives(places: set[Place], form: Callable[[str], str]) -> None:
    """Whatever member of a result somebody filled, by a file of the institution's or by another program."""
    result = msgspec.json.decode(
        json.dumps(marked(told(AuditResult), places, form)).encode(), type=AuditResult
    )
    assert_closed(result)


@cache
def everywhere() -> AuditResult:
    """Return a result with the mark in every member but those by which its parts are known."""
    keys = {"id", "guide", "check"}
    places = {place for place in free(AuditResult) if place[-1] not in keys}
    found = marked(told(AuditResult), places, FORMS[2])
    return msgspec.json.decode(json.dumps(found).encode(), type=AuditResult)


def words_of(name: str, made: bytes) -> str:
    """Return all that a file of some format says."""
    if name.endswith(".pdf"):
        reader = PdfReader(io.BytesIO(made))
        asked = subprocess.run(["pdftotext", "-", "-"], input=made, capture_output=True, check=True)
        return f"{asked.stdout.decode()}{reader.metadata}{reader.outline}"
    if made[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(made)) as archive:
            return "".join(archive.read(one).decode("utf-8", "replace") for one in archive.namelist())
    return made.decode()


@pytest.mark.real
@pytest.mark.parametrize("made", FORMATS, ids=lambda one: one.name)
def test_nothing_survives_in_any_format(made: Any) -> None:  # noqa: ANN401 - a Format
    try:
        full = words_of(made.file, made.render(replace(edition(everywhere()), redacted=False)))
        open_ = words_of(made.file, made.render(redacted_edition(edition(everywhere()))))
    except Unavailable as lacks:
        pytest.skip(str(lacks))
    assert MARK in full, "the mark would be seen where it is"
    assert MARK not in open_
    assert "ai-server-01" not in open_


def test_no_link_of_the_chain_names_the_server() -> None:
    full = audited.edition()
    assert full.record
    hostile = msgspec.structs.replace(full.record, host=MARK, release=MARK)
    closed = redacted_edition(
        replace(full, record=hostile, trend=(hostile,), comparison=Comparison(earlier=hostile, changes=()))
    )
    assert closed.record == msgspec.structs.replace(
        hostile, host=LEFT_OUT, release=LEFT_OUT, taken=closed.result.taken
    )
    assert MARK not in repr(closed)
    assert closed.head == full.head, "by which the institution finds the full report"


def test_what_changed_in_a_checklist_of_the_institution_is_not_told() -> None:
    full = audited.edition()
    assert full.comparison
    change = replace(full.comparison.changes[0], id=f"{MARK}/A-1")
    closed = redacted_edition(replace(full, comparison=replace(full.comparison, changes=(change,))))
    assert closed.comparison
    assert closed.comparison.changes == ()


def test_what_is_known_of_every_server_stays() -> None:
    full, open_ = audited.result(), redacted(audited.result())
    assert [(one.id, one.status, one.title, one.items) for one in open_.results] == [
        (one.id, one.status, one.title, one.items) for one in full.results
    ]
    assert (open_.counts, open_.score, open_.scores) == (full.counts, full.score, full.scores)
    assert open_.report_grade == full.report_grade, "nobody but the institution makes it open"
    for mine, theirs in zip(open_.guides, full.guides, strict=True):
        assert (mine.counts, mine.score, mine.scores) == (theirs.counts, theirs.score, theirs.scores)
        assert [(one.id, one.status, one.answered) for one in mine.controls] == [
            (one.id, one.status, one.answered) for one in theirs.controls
        ]


def test_what_a_looser_threshold_lets_pass_is_marked_outside_too() -> None:
    (full,) = (one for one in audited.result().results if one.id == "host.password-age")
    (open_,) = (one for one in redacted(audited.result()).results if one.id == "host.password-age")
    assert full.tailored
    assert "120" in open_.expected.ko
    assert open_.tailored
    assert (open_.tailored.value, open_.tailored.direction) == ("120", "looser")
    assert (open_.tailored.reason, open_.tailored.approver) == (LEFT_OUT, LEFT_OUT)
    strange = msgspec.structs.replace(full.tailored, value=MARK)
    result = msgspec.structs.replace(
        audited.result(), results=(msgspec.structs.replace(full, tailored=strange),)
    )
    assert "90" in redacted(result).results[0].expected.ko
    assert redacted(result).results[0].tailored is None


def test_of_the_time_only_the_day_is_told() -> None:
    late = msgspec.structs.replace(audited.result(), taken=audited.result().taken.replace(hour=17, minute=3))
    told_ = redacted(late).taken
    assert (told_.day, told_.hour, told_.minute) == (audited.result().taken.day + 1, 0, 0), "in Korea"


def test_redacting_twice_is_redacting_once() -> None:
    once = redacted_edition(audited.edition())
    assert redacted_edition(once) == once


@pytest.mark.parametrize("language", ["ko", "en"])
def test_it_says_what_it_is_and_what_was_left_out(language: Language) -> None:
    for told_ in (
        page.render(audited.edition(language, redacted=True)).decode(),
        pdf.paper(page.closed(audited.edition(language, redacted=True))).replace("\u2060", ""),
    ):
        wanted = {"ko": ("반출용 축약본", "뺀 것", "기관만"), "en": ("taking out", "Left out", "alone")}
        assert all(words in told_ for words in wanted[language])


def test_every_member_of_a_result_was_thought_of() -> None:
    """A member added later is not copied; this list makes whoever adds one decide."""
    empty = Words(ko="", en="")
    for one in redacted(audited.result()).results:
        assert (one.observed, one.where, one.remedy) == (empty, "", empty)
        assert (one.exception, one.attestation) == (None, None)
    assert set(Record.__struct_fields__) == {
        "format", "number", "previous", "taken", "host", "release", "grade", "report_grade", "score",
        "counts", "facts", "result", "key",
    }  # fmt: skip
