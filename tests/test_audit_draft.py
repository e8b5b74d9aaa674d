"""Drafts of an institution's files: what is here, refused until a person has filled in the rest."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from datetime import date, datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from appliance.__main__ import main
from appliance.audit.catalogue import checks
from appliance.audit.draft import attestations_draft, registers_draft
from appliance.audit.draft_yaml import Noted, blanks, document
from appliance.audit.edition import Record
from appliance.audit.facts import AuditFacts, Fact
from appliance.audit.facts_product import AuditChain, AuditHead
from appliance.audit.report import Wish, write_audit
from appliance.audit.result import audit, by_reference
from appliance.audit.seal import key_path, link_of, own_key, seal
from appliance.audit.site import AUDIT_FOLDER, no_rules, read_rules
from appliance.document import document_from_bytes
from appliance.format import canonical_json, sha256_hex
from appliance.problems import BadInputs
from appliance.release import Server
from appliance.text import printable, text
from tests import audited
from tests.sealing import NOTE
from tests.test_audit_checks import facts_of
from tests.test_audit_registers import BY_REGISTER, CASES
from tests.test_text import HANGUL, catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from appliance.audit.draft import Draft
    from appliance.audit.outcome import AuditResult
    from appliance.audit.seal import Link
    from appliance.text import Language

#: What a person would write, by the end of the place; the later of two that fit counts.
FILLED: dict[str, object] = {
    "approver": "정보보안담당관",
    "ticket": "보안-2026-31",
    "date": "2026-03-02",
    "expires": "2026-12-31",
    "holder": "김철수",
    "administrator": True,
    "file": "문서.pdf",
    "sha256": hashlib.sha256("문서".encode()).hexdigest(),
    "reviewers[0]": "홍길동",
    "by": "홍길동",
    "finding": "이상 없음: 시험 # 계정",
    "reviews[0].date": "2026-10-20",
    "rehearsals[0].date": "2026-06-10",
    "here": True,
    "answer": "holds",
    "statement": "직접 보고 확인함",
    "module": "모듈 X",
    "number": "CM-1",
    "certificate.expires": "2028-12-31",
}
MOST = 2000


def here() -> AuditFacts:
    """Return facts of a server that has something for every register, as the passing cases have it."""
    merged: dict[str, Any] = {"state": {}}
    for name in (*BY_REGISTER, "host.approved-administrators"):
        case = CASES[name, "pass"].facts
        merged |= {key: value for key, value in case.items() if key != "state"}
        merged["state"] |= {key: value for key, value in case.get("state", {}).items() if value}
    return facts_of(merged)


def link() -> Link:
    return link_of(audited.record(7, datetime(2026, 10, 20, tzinfo=timezone.utc), 90))


def known(facts: AuditFacts, reviewed: Link) -> AuditFacts:
    """Return the facts of the audit after the one that a review names."""
    head = AuditHead(number=reviewed.record.number, head=reviewed.head)
    chain = AuditChain(records=head.number, recent=(head,))
    return msgspec.structs.replace(facts, audit_chain=Fact(source="state/audits", value=chain, unread=None))


def put(folder: Path, draft: Draft, content: str | None = None) -> Path:
    (folder / draft.file).write_text(draft.content if content is None else content, "utf-8")
    return folder


def filled_in(folder: Path, draft: Draft, fill: Mapping[str, object] = FILLED) -> int:
    """Do what a person does: fill in the blank on the very line that is named, until nothing is refused."""
    path = put(folder, draft) / draft.file
    return next(count for count in range(MOST) if not is_refused_and_filled(path, fill))


def is_refused_and_filled(path: Path, fill: Mapping[str, object]) -> bool:
    try:
        read_rules(path.parent)
    except BadInputs as refused:
        fill_one(path, refused, fill)
        return True
    return False


def fill_one(path: Path, refused: BadInputs, fill: Mapping[str, object]) -> None:
    problem = refused.problems[0]
    where, place = re.fullmatch(r"(.*): \$(\S+)", problem.where).groups()  # type: ignore[union-attr]
    name, _, line = where.rpartition(":")
    assert name == str(path)
    assert "left blank" in problem.said.render(), problem
    value = [one for end, one in fill.items() if re.search(rf"(^|[.]){re.escape(end)}$", place)][-1]
    lines = path.read_text("utf-8").split("\n")
    lines[int(line) - 1] = re.sub(r"~$", lambda _: spelled(value), lines[int(line) - 1])
    path.write_text("\n".join(lines), "utf-8")


def spelled(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def papers(folder: Path) -> Path:
    (folder / "evidence").mkdir(exist_ok=True)
    (folder / "evidence" / "문서.pdf").write_text("문서", "utf-8")
    return folder


# --- Registers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["ko", "en"])
def test_a_draft_is_refused_blank_by_blank_and_filled_in_it_turns_every_check(
    tmp_path: Path, language: Language
) -> None:
    facts, reviewed = here(), link()
    draft = registers_draft(facts, reviewed, language)
    assert filled_in(papers(tmp_path), draft) == draft.blanks
    rules = read_rules(tmp_path)
    before = by_reference(audit(known(facts, reviewed), "S", no_rules()).results, ())
    after = by_reference(audit(known(facts, reviewed), "S", rules).results, ())
    assert {name: before[name].status for name in BY_REGISTER} == dict.fromkeys(BY_REGISTER, "manual")
    assert {name: after[name].status for name in BY_REGISTER} == dict.fromkeys(BY_REGISTER, "pass")


def test_any_one_blank_that_is_left_is_refused_with_its_line(tmp_path: Path) -> None:
    draft = registers_draft(here(), link(), "ko")
    filled_in(tmp_path, draft)
    whole = (tmp_path / draft.file).read_text("utf-8").split("\n")
    blank = [number for number, line in enumerate(draft.content.split("\n")) if line.endswith(" ~")]
    assert len(blank) == draft.blanks
    for number in blank:
        lines = [*whole[:number], draft.content.split("\n")[number], *whole[number + 1 :]]
        put(tmp_path, draft, "\n".join(lines))
        with pytest.raises(BadInputs) as caught:
            read_rules(tmp_path)
        assert f"registers.yaml:{number + 1}: $." in caught.value.problems[0].where


def test_it_has_what_the_audit_saw_and_nothing_that_only_the_institution_knows() -> None:
    draft = yaml.safe_load(registers_draft(here(), link(), "en").content)
    people = draft["accounts"]["people"]
    assert people == [{"name": "kim", "holder": None, "administrator": True}]
    assert [one["name"] for one in draft["keys"]["users"]] == ["kim", "lee"]
    assert [(one["grade"], one["role"]) for one in draft["keys"]["users"]] == [("S", "admin"), ("O", "user")]
    assert draft["programs"]["paths"] == list(here().finds.get().privileged)
    assert draft["network"]["networks"] == ["10.0.0.0/24"]
    assert draft["network"]["ways_in"] == [{"port": 443, "peers": ["10.0.0.0/24", "10.1.2.3"]}]
    assert draft["network"]["ways_out"] == [{"port": 123, "peers": ["10.0.0.1"]}]
    assert [one["grade"] for one in draft["documents"]["documents"]] == ["S", "O"]
    (review,) = draft["reviews"]["reviews"]
    assert (review["number"], review["head"]) == (7, link().head)
    (approval,) = draft["commands"]["approvals"]
    assert (approval["command"], approval["date"]) == ("adopted", date(2026, 3, 2))
    assert draft["emergency"]["rehearsals"] == [
        {"date": None, "by": None, "here": None, "record": {"file": None, "sha256": None}}
    ]
    for name, section in draft.items():
        if name != "format":
            assert [section[one] for one in ("approver", "ticket", "date", "expires")] == [None] * 4
    for section, paper in (
        ("network", "plan"),
        ("reviews", "rule"),
        ("commands", "rule"),
        ("emergency", "plan"),
    ):
        assert draft[section][paper] == {"file": None, "sha256": None}


@pytest.mark.parametrize(
    ("language", "said"),
    [
        ("ko", "여기에 적힌 것은 서버에 있던 것이지 승인된 것이 아닙니다."),
        ("en", "what was on the server, not what is approved"),
    ],
)
def test_its_head_says_that_nothing_is_approved_and_where_it_comes_from(
    language: Language, said: str
) -> None:
    head, _, _ = registers_draft(here(), link(), language).content.partition("\n\n")
    assert all(line.startswith("# ") for line in head.split("\n"))
    assert said in head
    assert "ai-server-01" in head
    assert "2026-10-20 09:00:00 KST" in head


def test_what_was_not_read_is_a_blank_with_its_reason_and_never_an_empty_list(tmp_path: Path) -> None:
    every = {
        name: Fact[Any](source="nft", unread="it is on fire")
        for name in AuditFacts.__struct_fields__
        if name not in {"format", "taken", "appliance"}
    }
    draft = registers_draft(msgspec.structs.replace(here(), **every), link(), "en")
    found = yaml.safe_load(draft.content)
    for section, member in (
        ("accounts", "people"),
        ("keys", "users"),
        ("programs", "paths"),
        ("network", "networks"),
        ("network", "ways_in"),
        ("network", "ways_out"),
        ("documents", "documents"),
        ("commands", "approvals"),
    ):
        assert blanks(found[section][member]), member
        assert len(found[section][member]) == 1
    assert draft.content.count("# not read: nft: it is on fire") == 9
    with pytest.raises(BadInputs):
        read_rules(put(tmp_path, draft))


def test_who_is_administrator_is_a_blank_where_the_groups_were_not_read() -> None:
    facts = msgspec.structs.replace(here(), groups=Fact[Any](source="getent", unread="it is on fire"))
    draft = registers_draft(facts, link(), "en")
    assert yaml.safe_load(draft.content)["accounts"]["people"] == [
        dict.fromkeys(("name", "holder", "administrator")) | {"name": "kim"}
    ]
    assert "not read: getent: it is on fire" in draft.content


def test_where_nothing_is_here_the_list_is_empty_and_says_so() -> None:
    facts = facts_of({"api_users": [], "documents": {"count": 0, "grades": {}, "graded": []}})
    draft = registers_draft(facts, link(), "en")
    found = yaml.safe_load(draft.content)
    assert (found["keys"]["users"], found["documents"]["documents"]) == ([], [])
    assert draft.content.count("# none found") == 2


@pytest.mark.parametrize("log", [{"broken": "journal:5", "sensitive": []}, {}])
def test_an_operation_log_that_vouches_for_nothing_lists_no_command(log: dict[str, Any]) -> None:
    draft = registers_draft(facts_of({"state": {"lines": 9, **log}}), link(), "en")
    assert yaml.safe_load(draft.content)["commands"]["approvals"] == [
        {"command": None, "date": None, "approver": None, "ticket": None}
    ]


def test_an_administrator_without_a_login_is_listed_and_one_without_an_account_only_told() -> None:
    case = CASES["host.approved-administrators", "pass"].facts
    account = {"uid": 9, "gid": 9, "home": "/", "login_shell": "/usr/sbin/nologin", "hash_kind": "locked"}
    facts = {
        **case,
        "accounts": [*case["accounts"], {**account, "name": "backup"}],
        "groups": [*case["groups"], {"name": "docker", "gid": 9, "members": ["ghost"]}],
    }
    facts["sudo"] = {"installed": True, "rules": [{"users": ["ALL"], "run_as": ["ALL"], "commands": ["ALL"]}]}
    draft = registers_draft(facts_of(facts), link(), "en")
    people = yaml.safe_load(draft.content)["accounts"]["people"]
    assert [(one["name"], one["administrator"]) for one in people] == [("kim", True), ("backup", True)]
    assert "account that somebody could answer for: ghost (docker)" in draft.content
    assert "account that somebody could answer for: ALL (sudoers)" in draft.content
    assert "# may become root: docker" in draft.content


@pytest.mark.parametrize(
    ("opening", "drafted", "said"),
    [
        (("input", ["10.0.0.5/24"], [22]), [{"port": 22, "peers": ["10.0.0.0/24"]}], ""),
        (("input", ["fe80::1%eth0"], [22]), [{"port": 22, "peers": ["fe80::1"]}], ""),
        (("input", ["10.0.0.4-10.0.0.9"], [22]), [{"port": 22, "peers": [None]}], "10.0.0.4-10.0.0.9"),
        (("input", ["10.0.0.1", "@trusted"], [22]), [{"port": 22, "peers": ["10.0.0.1", None]}], "@trusted"),
        (("input", ["0.0.0.0/0"], [443]), [{"port": 443, "peers": [None]}], "0.0.0.0/0"),
        (("input", ["10.0.0.1"], [0]), [{"port": None, "peers": ["10.0.0.1"]}], "hold it: 0"),
        (("input", [], [443]), [], "input * : 443"),
        (("input", ["10.0.0.1"], []), [], "input 10.0.0.1 : *"),
        (("forward", ["10.0.0.1"], [80]), [], "forward 10.0.0.1 : 80"),
    ],
)
def test_an_opening_that_no_register_can_hold_is_told_and_not_approved(
    opening: tuple[str, list[str], list[int]], drafted: list[Any], said: str
) -> None:
    chain, peers, ports = opening
    one = {"chain": chain, "peers": peers, "ports": ports}
    draft = registers_draft(facts_of({"firewall": {"counts_egress": True, "openings": [one]}}), link(), "en")
    assert yaml.safe_load(draft.content)["network"]["ways_in"] == drafted
    assert said in draft.content


def test_without_the_products_firewall_no_way_is_drafted() -> None:
    one = {"chain": "input", "peers": ["10.0.0.1"], "ports": [22]}
    draft = registers_draft(facts_of({"firewall": {"counts_egress": False, "openings": [one]}}), link(), "en")
    assert yaml.safe_load(draft.content)["network"]["ways_in"] == [{"port": None, "peers": [None]}]


def test_a_name_that_no_register_can_hold_is_a_blank_and_told() -> None:
    long = "/usr/bin/" + "x" * 300
    user = {"name": "kim", "grade": "S", "role": "owner", "created": "2026-01-01T00:00:00Z"}
    documents = {"count": 1, "grades": {}, "graded": [{"sha256": "0" * 64, "grade": "?"}]}
    facts = facts_of(
        {"finds": {"seen": 1, "privileged": [long]}, "api_users": [user], "documents": documents}
    )
    draft = registers_draft(facts, link(), "en")
    found = yaml.safe_load(draft.content)
    assert found["programs"]["paths"] == [None]
    assert found["keys"]["users"][0]["role"] is None
    assert found["documents"]["documents"] == [{"sha256": "0" * 64, "grade": None}]
    for seen in (long, "owner", "?"):
        assert f"# seen here, and no register can hold it: {seen}\n" in draft.content


def test_a_program_that_no_package_brought_is_marked() -> None:
    finds = {"seen": 2, "privileged": ["/usr/bin/su", "/usr/local/bin/x"], "unpackaged": ["/usr/local/bin/x"]}
    content = registers_draft(facts_of({"finds": finds}), link(), "en").content
    assert '    - "/usr/bin/su"\n    # no package brought it\n    - "/usr/local/bin/x"\n' in content


def test_a_draft_holds_no_more_of_an_account_than_its_name() -> None:
    accounts = [
        {**one, "hash_kind": "md5", "home": "/srv/hidden"}
        for one in CASES["host.approved-accounts", "pass"].facts["accounts"]
    ]
    content = registers_draft(facts_of({"accounts": accounts}), link(), "ko").content
    assert "kim" in content
    assert "md5" not in content
    assert "hidden" not in content


# --- Odd names ---------------------------------------------------------------------------------------------

ODD = [
    "no",
    "1e3",
    "~",
    "null",
    "2026-01-01",
    "0644",
    "a: b",
    "#",
    "'\"",
    "- x",
    "\n",
    "가\r나",
    "\u202e",
    "\ufeff",
    "*a",
    "!x",
    "%",
    "\x07\x85\u2028",
    "😀",
]
WORDS = st.text(min_size=1, max_size=40) | st.sampled_from(ODD)
#: Names of members are ours: plain words, and none that YAML takes for something else.
KEYS = st.from_regex(r"[a-z]{1,6}_[a-z0-9]{0,3}", fullmatch=True)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(ODD),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def noted(value: object) -> object:
    """Comment everything, with what it is."""
    if isinstance(value, dict):
        value = {name: noted(one) for name, one in value.items()}
    elif isinstance(value, list):
        value = [noted(one) for one in value]
    return Noted(value, (text("{said}", said=value),))


@settings(max_examples=60)
@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=4), WORDS)
def test_whatever_is_written_is_read_again_by_the_strict_reader(members: dict[str, Any], said: str) -> None:
    for given_members in (members, {name: noted(one) for name, one in members.items()}):
        written = document((text("{said}", said=said),), given_members, "ko")
        assert document_from_bytes(written.encode(), "draft").value == members
        assert printable(written) == written


@settings(max_examples=25)
@given(st.lists(WORDS, min_size=1, max_size=5, unique=True))
@example(ODD)
def test_odd_names_of_a_server_arrive_in_the_register_as_they_are(names: list[str]) -> None:
    account = {"uid": 1000, "gid": 1000, "home": "/", "login_shell": "/bin/bash", "hash_kind": "locked"}
    user = {"grade": "S", "role": "user", "created": "2026-01-01T00:00:00Z"}
    names = [one for one in names if one != "root"]
    facts = facts_of(
        {
            "accounts": [{**account, "name": one} for one in names],
            "groups": [{"name": "sudo", "gid": 27, "members": names[:1]}],
            "sudo": {"installed": True},
            "finds": {"seen": 1, "privileged": names},
            "api_users": [{**user, "name": one} for one in names],
        }
    )
    content = registers_draft(
        msgspec.structs.replace(
            here(),
            accounts=facts.accounts,
            groups=facts.groups,
            sudo=facts.sudo,
            finds=facts.finds,
            api_users=facts.api_users,
        ),
        link(),
        "ko",
    ).content
    found = document_from_bytes(content.encode(), "draft", plain_dates=True).value
    assert [one["name"] for one in found["accounts"]["people"]] == names
    assert [one["administrator"] for one in found["accounts"]["people"]] == [True, *[False] * len(names[1:])]
    assert found["programs"]["paths"] == names
    operator = [one for one in names if one != "operator"]
    assert [one["name"] for one in found["keys"]["users"] if one["name"] != "operator"] == operator


# --- Attestations ------------------------------------------------------------------------------------------


def open_items(result: AuditResult, *guides: str) -> set[str]:
    """Return the controls that wait for a person, by the reference of the site's files."""
    return {
        f"{guide.guide}/{one.id}"
        for guide in result.guides
        if not guides or guide.guide in guides
        for one in guide.controls
        if one.status == "manual" and not one.attested
    }


def entries(draft: Draft) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(draft.content)["attestations"]
    return found


def asked(result: AuditResult, language: Language = "ko", *guides: str) -> Draft:
    return attestations_draft(result, link().record, language, guides)


def test_it_asks_each_open_item_once_and_nothing_else() -> None:
    result = audited.result()
    found = [name for one in entries(asked(result)) for name in one["applies_to"]]
    manual = {name for name, about in checks().checks.items() if not about.automatic}
    assert len(found) == len(set(found))
    assert set(found) == open_items(result) | manual
    assert "nis/M25" not in found, "it is answered"
    assert "n2sf/N2SF-LP-M2" not in found, "it does not hold, as a person said"


@pytest.mark.parametrize("guide", ["kisa", "n2sf", "nis"])
def test_of_one_guide_it_asks_what_that_guide_leaves_open(guide: str) -> None:
    found = [name for one in entries(asked(audited.result(), "ko", guide)) for name in one["applies_to"]]
    assert {name for name in found if "/" in name} == open_items(audited.result(), guide)
    assert {name for name in found if "/" not in name} <= {"crypto.validated-module"}


def test_an_entry_has_the_question_and_where_to_look_as_comments() -> None:
    result = audited.result()
    (control,) = (one for guide in result.guides for one in guide.controls if one.id == "U-07")
    assert control.open
    assert control.open.ask
    for language in ("ko", "en"):
        content = asked(result, language).content
        above = content[: content.index('applies_to: ["kisa/U-07"]')].rpartition("\n    expires: ~\n")[2]
        assert getattr(control.open.ask, language) in above
        assert all(getattr(one, language) in above for one in control.open.look)
        assert control.title in above


def test_an_answer_that_counts_no_more_is_told_beside_the_question() -> None:
    content = asked(audited.result(), "en").content
    assert "# answered before by 홍길동 (정보보안담당관), until 2027-03-01: does not count" in content


def test_a_draft_of_answers_is_refused_blank_by_blank_and_filled_in_it_answers(tmp_path: Path) -> None:
    draft = asked(audited.result(), "ko", "kisa")
    assert filled_in(tmp_path, draft) == draft.blanks == 5 * draft.entries
    result = audit(audited.facts(), "S", read_rules(tmp_path))
    assert open_items(result, "kisa") == set()
    assert asked(result, "ko", "kisa").entries == 0


def test_all_answered_leaves_no_item_open_and_makes_none_green(tmp_path: Path) -> None:
    before = audit(audited.facts(), "S", no_rules())
    draft = asked(before)
    content = re.sub(
        r"(?m)^( +)(\w+): ~$",
        lambda found: f"{found[1]}{found[2]}: {spelled(FILLED[found[2]])}",
        draft.content,
    )
    rules = read_rules(put(tmp_path, draft, content))
    after = audit(audited.facts(), "S", rules)
    assert (open_items(after), entries(asked(after))) == (set(), [])
    assert [guide.counts["pass"] for guide in after.guides] == [
        guide.counts["pass"] for guide in before.guides
    ]
    (module,) = (one for one in after.results if one.id == "crypto.validated-module")
    assert module.attestation
    assert module.attestation.certificate
    assert (module.status, module.attestation.standing) == ("manual", "in-force")


def test_what_is_about_validated_cryptography_asks_for_its_certificate() -> None:
    certified = [one for one in entries(asked(audited.result())) if "certificate" in one]
    assert [one["applies_to"] for one in certified] == [
        ["crypto.validated-module", "n2sf/N2SF-AM-1", "n2sf/N2SF-EA-1"]
    ]
    assert certified[0]["certificate"] == {"module": None, "number": None, "expires": None}


def test_a_question_of_the_institutions_own_checklist_stays_a_comment(tmp_path: Path) -> None:
    (tmp_path / "checklists").mkdir()
    own = {
        "format": 1, "guide": "ours", "label": "우리", "title": "우리", "edition": "1", "areas": {"a": "가"},
        "controls": [{"id": "A-1", "title": "반입", "area": "a", "rest": {
            "kind": "institution", "reason": "종이", "ask": "첫 줄\n    answer: holds\n", "look": ["대장"]}}],
    }  # fmt: skip
    (tmp_path / "checklists" / "ours.yaml").write_bytes(msgspec.yaml.encode(own))
    draft = asked(audit(audited.facts(), "S", read_rules(tmp_path)), "ko", "ours")
    assert [one["applies_to"] for one in entries(draft)] == [["ours/A-1"]]
    assert entries(draft)[0]["answer"] is None
    assert filled_in(tmp_path, draft) == 5


def test_the_whole_draft_of_answers_is_far_below_what_the_loader_takes() -> None:
    for language in ("ko", "en"):
        assert len(asked(audit(audited.facts(), "C", no_rules()), language).content.encode()) < 300_000


# --- The officer's guide -----------------------------------------------------------------------------------

GUIDE = Path(__file__).parents[1] / "docs" / "ko" / "audit.md"
COMMAND = re.compile(r"# (appliance|less) ")


def test_what_the_guide_shows_of_drafts_is_what_they_say() -> None:
    screens = [
        screen
        for kind, screen in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", GUIDE.read_text("utf-8"))
        if not kind and "audit draft" in screen
    ]
    kisa = asked(audited.result(), "ko", "kisa")
    known_lines = {*registers_draft(here(), link(), "ko").content.split("\n"), *kisa.content.split("\n")}
    said = [re.sub(r"\\{.*?\\}", ".+", re.escape(korean)) for korean in catalogue().values() if "{" in korean]
    wrong = [
        line
        for screen in screens
        for line in screen.splitlines()
        if line not in known_lines
        and not COMMAND.match(line)
        and not any(re.fullmatch(pattern, line.strip()) for pattern in said if HANGUL.search(pattern))
    ]
    assert len(screens) == 2
    assert not wrong


# --- The command line --------------------------------------------------------------------------------------


class Call:
    """Calls the command line in this process, on a root of its own."""

    def __init__(self, root: Path, output: pytest.CaptureFixture[str]) -> None:
        self.root, self._output = root, output

    def __call__(self, *words: object, code: int = 0) -> str:
        """Return standard output, or what was refused."""
        argv = ["--root", str(self.root), "audit", "draft", *map(str, words)]
        self._output.readouterr()
        try:
            main(argv)
            ended: object = 0
        except SystemExit as end:
            ended = end.code
        out, aside = self._output.readouterr()
        assert ended == code, out + aside
        return out if code == 0 else out + aside


@pytest.fixture
def call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    return Call(tmp_path / "root", capsys)


def sealed(root: Path, day: int = 20) -> Path:
    facts = msgspec.structs.replace(here(), taken=datetime(2026, 10, day, tzinfo=timezone.utc))
    return write_audit(Server(root), facts, audit(facts, "S"), Wish("ko", (NOTE,))).folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_drafts_the_newest_audit_and_changes_nothing(call: Call) -> None:
    sealed(call.root, 19)
    sealed(call.root, 20)
    before = contents(call.root)
    out = call("--kind", "registers", "--lang", "ko")
    assert out.startswith("# 관리대장 초안.")
    assert "# 2번 점검에서 만듦" in out
    assert yaml.safe_load(out)["reviews"]["reviews"][0]["number"] == 2
    assert contents(call.root) == before


def test_on_any_machine_it_drafts_a_folder(call: Call, tmp_path: Path) -> None:
    folder = sealed(tmp_path / "elsewhere")
    out = call(folder, "--kind", "attestations", "--guide", "kisa", "--lang", "en")
    assert out.startswith("# DRAFT of attestations")
    assert {one["applies_to"][0].partition("/")[0] for one in yaml.safe_load(out)["attestations"]} == {"kisa"}
    assert not call.root.exists()


def test_new_files_go_into_a_folder_and_are_roots_alone(call: Call, tmp_path: Path) -> None:
    sealed(call.root)
    told = json.loads(call("--out", tmp_path / "new" / "draft", "--json").splitlines()[-1])["result"]
    assert [one["kind"] for one in told["drafts"]] == ["registers", "attestations"]
    for one in told["drafts"]:
        path = Path(one["path"])
        assert path.parent == tmp_path / "new" / "draft"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.read_text("utf-8").count(": ~\n") <= one["blanks"]
    assert sorted(path.name for path in (tmp_path / "new" / "draft").iterdir()) == [
        "attestations.yaml",
        "registers.yaml",
    ]
    assert (tmp_path / "new" / "draft").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["registers", "attestations"])
def test_what_is_there_is_never_overwritten(call: Call, tmp_path: Path, kind: str) -> None:
    sealed(call.root)
    (tmp_path / f"{kind}.yaml").symlink_to("nowhere")
    assert "not overwritten" in call("--out", tmp_path, "--lang", "en", code=2)
    (tmp_path / f"{kind}.yaml").unlink()
    (tmp_path / f"{kind}.yaml").write_text("mine")
    assert "덮어쓰지 않습니다" in call("--out", tmp_path, "--lang", "ko", code=2)
    assert (tmp_path / f"{kind}.yaml").read_text() == "mine"
    assert [path.name for path in tmp_path.glob("*.yaml")] == [f"{kind}.yaml"]


@pytest.mark.parametrize("below", ["", "evidence", "../audit", "../link"])
def test_a_draft_never_goes_where_audits_read(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    """It is tried on a folder of ours: broken code must not write into this machine's own."""
    assert str(AUDIT_FOLDER) == "/etc/banip/audit"
    monkeypatch.setattr("appliance.audit.site.AUDIT_FOLDER", tmp_path / "audit")
    (tmp_path / "audit").mkdir()
    (tmp_path / "link").symlink_to("audit")
    sealed(call.root)
    out = tmp_path / "audit" / below
    assert "would stop every audit" in call("--out", out, "--lang", "en", code=2)
    assert list((tmp_path / "audit").iterdir()) == []


def test_json_holds_the_draft(call: Call) -> None:
    folder = sealed(call.root)
    lines = [json.loads(line) for line in call("--kind", "registers", "--json").splitlines()]
    (told,) = lines[-1]["result"]["drafts"]
    assert yaml.safe_load(told["content"])["reviews"]["reviews"][0]["head"] == lines[-1]["result"]["head"]
    assert lines[-1]["result"]["head"] == hashlib.sha256((folder / "record.json").read_bytes()).hexdigest()
    assert told["blanks"] > told["entries"] > 0


def test_another_grade_asks_what_is_open_at_that_grade(call: Call) -> None:
    sealed(call.root)
    found = {grade: call("--kind", "attestations", "--grade", grade) for grade in ("C", "O")}
    assert found["C"].count("applies_to") > found["O"].count("applies_to") > 0


def test_what_the_institution_answered_since_is_asked_no_more(call: Call, tmp_path: Path) -> None:
    sealed(call.root)
    (tmp_path / "audit").mkdir()
    words = ("--kind", "attestations", "--guide", "kisa", "--site", tmp_path / "audit", "--lang", "en")
    first, *rest = (one["applies_to"] for one in yaml.safe_load(call(*words))["attestations"])
    answer = {name: FILLED[name] for name in ("answer", "statement", "by", "date", "expires")}
    given_answer = {"format": 1, "attestations": [{"applies_to": first, **answer}]}
    (tmp_path / "audit" / "attestations.yaml").write_bytes(msgspec.yaml.encode(given_answer))
    assert [one["applies_to"] for one in yaml.safe_load(call(*words))["attestations"]] == rest


def test_a_result_of_another_version_is_judged_again_when_asked_for(call: Call) -> None:
    folder, key = sealed(call.root), own_key(call.root)
    assert key
    held = contents(folder)
    older = {
        name: held[name] for name in held if name not in {"SHA256SUMS", "SHA256SUMS.sig", "audit-key.pub"}
    }
    older["audit.json"] = b'{"format": 1}\n'
    record = msgspec.json.decode(older["record.json"], type=Record)
    record = msgspec.structs.replace(record, result=hashlib.sha256(older["audit.json"]).hexdigest())
    older["record.json"] = link_of(record).line
    for name, content in seal(older, key).items():
        (folder / name).write_bytes(content)
    assert "--again" in call(folder, "--kind", "attestations", "--lang", "en", code=2)
    assert "applies_to" in call(folder, "--kind", "attestations", "--again")
    assert "people" in call(folder, "--kind", "registers")


def changed(folder: Path) -> Path:
    (folder / "facts.json").write_bytes((folder / "facts.json").read_bytes() + b" ")
    return folder


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


@pytest.mark.parametrize(("harm", "code"), [(changed, 11), (gone, 12)])
def test_out_of_what_is_not_as_it_was_sealed_nothing_is_drafted(
    call: Call, tmp_path: Path, harm: Callable[[Path], object], code: int
) -> None:
    sealed(call.root, 19)
    harm(sealed(call.root, 20))
    call("--out", tmp_path / "draft", code=code)
    assert not (tmp_path / "draft").exists(), "and no older audit is taken instead"


def test_another_key_than_the_one_kept_is_ten(call: Call, tmp_path: Path) -> None:
    folder, other = sealed(tmp_path / "one"), sealed(tmp_path / "other")
    assert key_path(tmp_path / "one").exists()
    call(folder, "--kind", "registers", "--key", other / "audit-key.pub", code=10)
    call(folder, "--kind", "registers", "--key", folder / "audit-key.pub")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "several need a folder"),
        (("--kind", "registers", "--kind", "attestations"), 2, "several need a folder"),
        (("--kind", "exceptions"), 2, "exceptions"),
        (("--kind", "registers", "--guide", "kisa"), 2, "attestations alone"),
        (("--kind", "attestations", "--guide", "kissa"), 2, "no guide kissa; known are kisa"),
        (("--kind", "registers", "/nowhere"), 2, "no such folder"),
        (("--kind", "registers", "FACTS"), 2, "out of a sealed audit alone"),
    ],
)
def test_what_cannot_be_drafted_says_why(call: Call, words: tuple[str, ...], code: int, said: str) -> None:
    facts = sealed(call.root) / "facts.json"
    given_words = [facts if word == "FACTS" else word for word in words]
    assert said in call(*given_words, "--lang", "en", code=code)


def test_before_the_first_audit_there_is_nothing_to_draft(call: Call) -> None:
    assert "no audit of this server has been sealed" in call("--kind", "registers", "--lang", "en", code=12)


@pytest.mark.parametrize(
    "place", ["/dev/null/x", "/proc/x", "file", "file/x", "nowhere", "nowhere/x", "x" * 300]
)
def test_where_no_folder_can_be_made_nothing_is_called_tampered(
    call: Call, tmp_path: Path, place: str
) -> None:
    sealed(call.root)
    (tmp_path / "file").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "not" / "here")
    before = contents(tmp_path)
    out = call("--out", tmp_path / place, code=2)
    assert "Banip" not in out
    assert contents(tmp_path) == before


def test_what_one_of_two_drafts_left_is_in_nobodys_way(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed(call.root)

    def full(descriptor: int, content: bytes) -> None:
        os.write(descriptor, content[:9])
        if b"attestations:" in content:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("appliance.audit.draft_command.write_all", full)
        call("--out", tmp_path / "out", code=20)
    assert list((tmp_path / "out").iterdir()) == []
    call("--out", tmp_path / "out")


@pytest.mark.parametrize(
    "taken", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00"]
)
@pytest.mark.parametrize(("name", "code"), [("record.json", 11), ("audit.json", 2)])
def test_a_time_that_no_clock_shows_is_no_fault_of_ours(
    call: Call, tmp_path: Path, name: str, taken: str, code: int
) -> None:
    """Whoever has a key of their own seals what they like."""
    folder = sealed(tmp_path / "elsewhere")
    key = own_key(tmp_path / "elsewhere")
    assert key is not None
    given = {one: (folder / one).read_bytes() for one in ("facts.json", "audit.json", "record.json")}
    given["history.json"] = (folder / "history.json").read_bytes()
    given[name] = canonical_json(json.loads(given[name]) | {"taken": taken})
    about = json.loads(given["record.json"]) | {"result": sha256_hex(given["audit.json"])}
    given["record.json"] = canonical_json(about)
    shutil.rmtree(folder)
    folder.mkdir()
    for one, content in seal(given, key).items():
        (folder / one).write_bytes(content)
    out = call(folder, "--kind", "attestations", code=code)
    assert "Traceback" not in out
