"""Why a fact was not read: kept in no language, told in both; what others said stays in their words."""

from __future__ import annotations

import ast
import errno
import os
import re
import ssl
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from appliance.audit.facts import AuditFacts, Fact, facts_from_bytes
from appliance.audit.reading import probe
from appliance.audit.reading.probe import Unreadable, fact, without_secrets
from appliance.audit.reason import Reason, as_reason, reason_of, why
from appliance.audit.result import audit
from appliance.errors import Tampered
from appliance.format import canonical_json
from appliance.text import kept, text
from tests.test_audit_checks import facts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AUDIT = Path(__file__).parent.parent / "appliance" / "audit"
HANGUL = re.compile("[\uac00-\ud7a3]")


def told(unread: Any) -> tuple[str, str]:  # noqa: ANN401 - what a file has
    """Return what a report says in Korean and in English, after a way through a facts file."""
    taken = facts_of({}).taken.isoformat()
    ssh = {"source": "sshd -T", "unread": msgspec.to_builtins(unread)}
    facts = facts_from_bytes(msgspec.json.encode({"taken": taken, "ssh": ssh}), "facts.json")
    (result,) = (one for one in audit(facts, "S").results if one.id == "host.root-remote-login")
    assert (result.status, result.where) == ("unknown", "sshd -T")
    return result.observed.ko, result.observed.en


# --- In both languages -------------------------------------------------------------------------------------


def complaining() -> str:
    return probe.output("sh", "-c", "echo fire >&2; exit 7")


@pytest.mark.parametrize(
    ("read", "korean", "english"),
    [
        (
            partial(probe.output, "no-such-program"),
            "읽지 못함: 프로그램 no-such-program이(가) 설치되어 있지 않습니다",
            "not read: the program no-such-program is not installed",
        ),
        (
            complaining,
            "읽지 못함: /usr/bin/sh -c echo fire >&2; exit 7이(가) 종료 코드 7(으)로 끝났습니다: fire",
            "not read: /usr/bin/sh -c echo fire >&2; exit 7 ended with 7: fire",
        ),
        (
            partial(probe.plain_text, "/dev/zero"),
            "읽지 못함: /dev/zero은(는) 일반 파일이 아닙니다",
            "not read: /dev/zero is no plain file",
        ),
        (
            partial(os.lstat, "/nowhere/at all"),
            "읽지 못함: /nowhere/at all: 그런 파일이나 폴더가 없습니다",
            "not read: /nowhere/at all: no such file or folder",
        ),
        (
            partial(int, "seven"),
            "읽지 못함: 예상하지 못한 내용: ValueError: invalid literal for int() with base 10: 'seven'",
            "not read: unexpected: ValueError: invalid literal for int() with base 10: 'seven'",
        ),
    ],
)
def test_a_reason_is_told_in_the_language_of_the_report(
    read: Callable[[], object], korean: str, english: str
) -> None:
    assert told(fact("x", read).unread) == (korean, english)


def test_what_a_refused_release_says_is_told_in_both_languages() -> None:
    error = Tampered(
        text("a file of this server's state is damaged"),
        where=Path("/state/journal"),
        seen=(text("it is a folder"), "line 7"),
        remedy=text("what was not read is not changed"),
    )
    korean, english = told(
        reason_of(text("the installed release is no proof: {refusal}", refusal=why(error)))
    )
    assert english == (
        "not read: the installed release is no proof: a file of this server's state is damaged; "
        "where: /state/journal; seen: it is a folder; line 7; remedy: what was not read is not changed"
    )
    assert "위치: /state/journal; 실제값: 폴더입니다; line 7; 조치: 읽지 못한 것은" in korean
    assert not re.search("[a-z]{3} [a-z]{3}", korean)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ELOOP, errno.ECONNREFUSED, errno.EMFILE])
def test_what_the_kernel_refuses_is_told_in_korean(number: int) -> None:
    korean, english = told(reason_of(why(OSError(number, os.strerror(number), "/etc/shadow"))))
    assert english.startswith("not read: /etc/shadow: ")
    assert HANGUL.search(korean.removeprefix("읽지 못함: "))
    assert os.strerror(number) not in korean


def test_a_number_that_is_not_the_kernels_means_nothing_of_the_kernels() -> None:
    words = str(why(ssl.SSLError(errno.EPERM, "WRONG_VERSION_NUMBER")))
    assert "WRONG_VERSION_NUMBER" in words
    assert "permit" not in words
    assert str(why(TimeoutError("timed out"))) == "no answer in time"
    assert str(why(Tampered(text("it is a folder"), seen=()))) == "it is a folder; seen: ()"


# --- In files ----------------------------------------------------------------------------------------------


def test_facts_of_older_versions_are_judged_as_they_stand() -> None:
    assert told("it is on fire") == ("읽지 못함: it is on fire", "not read: it is on fire")
    assert told("no release is installed") == (
        "읽지 못함: 설치된 릴리스가 없습니다",
        "not read: no release is installed",
    )
    assert told("{name} {0} {} {") == ("읽지 못함: {name} {0} {} {", "not read: {name} {0} {} {")
    facts = facts_from_bytes(b'{"taken": "2026-11-22T00:00:00Z"}', "facts.json")
    assert str(facts.ssh.why()) == "not collected"
    assert str(as_reason(None)) == "no value"


def test_a_reason_is_the_same_after_a_way_through_a_file() -> None:
    read = fact("x", partial(probe.look_below, "/proc/self/fd", most=0))
    facts = msgspec.structs.replace(facts_of({}), homes=read)
    again = facts_from_bytes(canonical_json(facts), "facts.json")
    assert again == facts
    assert canonical_json(again) == canonical_json(facts)
    assert msgspec.to_builtins(read)["unread"] == {
        "sentence": "more than {count} files below {folder}",
        "values": {"count": 0, "folder": "/proc/self/fd"},
    }
    assert str(Fact[AuditFacts]().why()) == "not collected"


@pytest.mark.parametrize(
    ("sentence", "values", "seen"),
    [
        ("a sentence of tomorrow about {path}", {"path": "/x"}, "a sentence of tomorrow about /x"),
        (
            "{path.__class__.__init__} {path!r:>99999999}",
            {"path": "/x"},
            "{path.__class__.__init__} {path!r:",
        ),
        ("{path} is no plain file", {}, "{path} is no plain file"),
        ("{path} is no plain file", {"path": "{path}\n  remedy: run me"}, "{path}\\n  remedy: run me is no"),
        ("{size:.1f}", {"size:.1f": "x"}, "{size:.1f}"),
        ("{", {}, "{"),
    ],
)
def test_a_facts_file_of_anybody_asks_nothing_of_its_reader(
    sentence: str, values: dict[str, str], seen: str
) -> None:
    for words in told({"sentence": sentence, "values": values}):
        assert seen in words or HANGUL.search(words.removeprefix("읽지 못함: "))
        assert len(words) < 200


def test_a_sentence_that_is_formatted_takes_no_value_of_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.text._korean", lambda: {"{size:.1f} big": "크기 {size:.1f}"})
    assert kept("{size:.1f} big", {"size": "x"}).render("ko") == "{size:.1f} big"
    assert kept("{size:.1f} big", {"size:.1f": "x", "size": "x"}).render("ko") == "{size:.1f} big"


def test_reasons_in_reasons_come_to_an_end() -> None:
    deep: dict[str, Any] = {"sentence": "it is a folder"}
    for _ in range(300):
        deep = {"sentence": "{one}; {other}", "values": {"one": deep, "other": "x"}}
    assert "...; x" in told(deep)[1]


@pytest.mark.parametrize(
    "sentence", ["{a}" * 40, "see lsattr -d {path}, take it away (chattr -{letters} {path})"]
)
def test_a_reason_that_says_itself_again_and_again_is_cut_off(sentence: str) -> None:
    bomb: dict[str, Any] = {"sentence": "x" * 50}
    for _ in range(20):
        bomb = {"sentence": sentence, "values": {"a": bomb, "path": bomb, "letters": "i"}}
        bomb["values"] = {name: one for name, one in bomb["values"].items() if f"{{{name}}}" in sentence}
    for words in (
        *told(bomb),
        *told("x" * 1_000_000),
        *told({"sentence": "{a}", "values": {"a": "x" * 1_000_000}}),
    ):
        assert len(words) < 5000
        assert words.endswith("...")


# --- Secrets -----------------------------------------------------------------------------------------------


def test_a_secret_is_in_no_value() -> None:
    def read() -> object:
        return probe.output("sh", "-c", "echo bindpw=hunter2 >&2; exit 1")

    unread = fact("x", read).unread
    assert isinstance(unread, Reason)
    assert "hunter2" not in str(msgspec.to_builtins(unread))
    assert unread.values["words"] == "bindpw=***"
    inner = text("unexpected: {kind}: {words}", kind="x", words="token: hunter2")
    outer = reason_of(text("the installed release is no proof: {refusal}", refusal=inner))
    assert "hunter2" not in str(msgspec.to_builtins(outer.cleaned(without_secrets)))


def test_a_secret_that_two_values_make_up_is_in_none_of_them() -> None:
    split = reason_of(
        text("{one}; {other}", one="x", other=text("{path}: {reason}", path="password", reason="hunter2"))
    )
    assert "hunter2" not in str(msgspec.to_builtins(split.cleaned(without_secrets)))


# --- No bare words of ours ---------------------------------------------------------------------------------

_MADE = {"text", "complaint", "_again"}


def made_of(source: str) -> Iterator[str]:
    """Yield the reasons that are given and that no sentence of ours makes."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func).split("[")[0]
        given = {
            "Unreadable": node.args[:1],
            "NotRead": node.args[1:2],
            "Fact": [word.value for word in node.keywords if word.arg == "unread"],
        }.get(name, [])
        for reason in given:
            called = ast.unparse(reason.func) if isinstance(reason, ast.Call) else ""
            is_ours = called in _MADE or called.endswith((".why", ".as_text", ".cleaned"))
            if not is_ours and ast.unparse(reason) != "None":
                yield f"{name}: {ast.unparse(reason)}"


def test_no_reason_is_english_alone() -> None:
    sources = {str(path.relative_to(AUDIT)): path.read_text("utf-8") for path in AUDIT.glob("**/*.py")}
    assert sum(source.count("raise Unreadable(") for source in sources.values()) > 30
    assert {name: list(made_of(source)) for name, source in sources.items() if list(made_of(source))} == {}


def test_a_bare_sentence_would_be_seen() -> None:
    bare = 'raise Unreadable(f"{x} is absent")\nraise NotRead(a, "no")\nFact(source="", unread="late")\n'
    assert list(made_of(bare)) == ["Unreadable: f'{x} is absent'", "NotRead: 'no'", "Fact: 'late'"]
    assert str(Unreadable(text("it is a folder"))) == "it is a folder"
