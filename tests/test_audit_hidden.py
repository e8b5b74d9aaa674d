"""What hides behind another spelling, another file or another name is no pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from appliance.audit.facts_host import SshBlock
from appliance.audit.reading import remote, sshd
from appliance.audit.reading.probe import Unreadable
from appliance.audit.result import audit
from tests.test_audit_checks import cases, facts_of

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.outcome import Result


def judged(check: str, **changed: Any) -> Result:  # noqa: ANN401 - facts
    """Judge a check's passing case with other facts in it."""
    (case,) = (one for one in cases() if (one.check, one.status) == (check, "pass"))
    found = audit(facts_of(case.facts | changed), case.grade)
    (result,) = (one for one in found.results if one.id == check)
    return result


def fact_of(check: str, name: str) -> dict[str, Any]:
    (case,) = (one for one in cases() if (one.check, one.status) == (check, "pass"))
    found: dict[str, Any] = case.facts[name]
    return found


# --- SSH ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "name", "value"),
    [
        ("host.root-remote-login", "permitrootlogin", "yes"),
        ("host.ssh-empty-passwords", "permitemptypasswords", "yes"),
        ("host.ssh-forwarding", "x11forwarding", "yes"),
        ("host.ssh-attempts", "maxauthtries", "99"),
        ("host.ssh-two-factors", "authenticationmethods", "password"),
        ("host.ssh-algorithms", "pubkeyacceptedalgorithms", "+ssh-rsa"),
        ("host.ssh-log", "loglevel", "QUIET"),
        ("host.ssh-banner", "banner", "none"),
    ],
)
def test_what_ssh_gives_to_some_connections_only_counts(check: str, name: str, value: str) -> None:
    block = {"where": "/etc/ssh/sshd_config:9", "criteria": "Match User kim", "settings": {name: value}}
    found = judged(check, ssh={**fact_of(check, "ssh"), "blocks": [block]})
    assert (found.status, "sshd_config:9 Match User kim" in found.observed.en) == ("fail", True)


def test_a_block_that_takes_away_or_asks_more_is_no_fault() -> None:
    for check, name, value in (
        ("host.ssh-algorithms", "pubkeyacceptedalgorithms", "-ssh-rsa"),
        ("host.ssh-attempts", "maxauthtries", "1"),
        ("host.root-remote-login", "x11forwarding", "yes"),
    ):
        block = {"where": "x", "criteria": "Match all", "settings": {name: value}}
        assert judged(check, ssh={**fact_of(check, "ssh"), "blocks": [block]}).status == "pass"


def test_blocks_are_found_in_included_files_and_end_with_their_file(tmp_path: Path) -> None:
    main, more = tmp_path / "sshd_config", tmp_path / "more"
    more.mkdir()
    main.write_text(
        f"PermitRootLogin no\nInclude {more}/*.conf\nMaxAuthTries 4\n"
        'match=User "kim",lee\n  X11Forwarding=yes\n X11Forwarding no\nInclude more/deep\n'
    )
    (more / "a.conf").write_text("Match Address 10.0.0.0/8 # from inside\nPermitRootLogin yes\n")
    (more / "deep").write_text("ClientAliveInterval 1h30m\n")
    assert sshd.blocks(main) == (
        SshBlock(f"{more}/a.conf:1", "Match Address 10.0.0.0/8", {"permitrootlogin": "yes"}),
        SshBlock(f"{main}:4", "Match User kim,lee", {"x11forwarding": "yes", "clientaliveinterval": "5400"}),
    )
    (more / "deep").write_text(f"Include {more}/deep\n")
    with pytest.raises(Unreadable, match="16 deep"):
        sshd.blocks(main)


@pytest.mark.parametrize(
    ("told", "options"),
    [
        (" -D", ()),
        (" -D -e -4", ()),
        (" -D -oPermitRootLogin=yes", ("-oPermitRootLogin=yes",)),
        (" -D -f /root/other -o LogLevel=QUIET", ("-f", "/root/other", "-o", "LogLevel=QUIET")),
    ],
)
def test_options_of_an_ssh_server_at_work_are_asked_about(told: str, options: tuple[str, ...]) -> None:
    assert sshd.options_of(told) == options


# --- sudo --------------------------------------------------------------------------------------------------


def told_by_cvtsudoers(*defaults: dict[str, Any]) -> dict[str, Any]:
    told = msgspec.json.encode({"Defaults": defaults, "User_Specs": []}).decode()
    found: dict[str, Any] = msgspec.to_builtins(remote.parse_sudoers(told))
    return found


@pytest.mark.parametrize(
    ("check", "option", "repaired"),
    [
        ("host.sudo-rules", {"authenticate": False}, {"authenticate": True}),
        ("host.sudo-reuse", {"timestamp_timeout": "-1"}, {"timestamp_timeout": "5"}),
        ("host.sudo-log", {"syslog": False}, {"syslog": "authpriv"}),
        ("host.sudo-log", {"log_allowed": False}, {"log_allowed": True}),
    ],
)
def test_what_sudo_gives_to_some_only_counts_and_is_not_covered_by_what_comes_later(
    check: str, option: dict[str, Any], repaired: dict[str, Any]
) -> None:
    kim, root = ({"Binding": [{"username": name}]} for name in ("kim", "root"))
    sudo = told_by_cvtsudoers({**kim, "Options": [option]}, {**root, "Options": [repaired]})
    found = judged(check, sudo=sudo)
    assert (found.status, "kim" in found.observed.en) == ("fail", True)
    assert judged(check, sudo=told_by_cvtsudoers({**root, "Options": [option]})).status == "pass"


def test_a_group_that_sudo_asks_for_no_password_is_seen() -> None:
    found = judged("host.sudo-rules", sudo=told_by_cvtsudoers({"Options": [{"exempt_group": "users"}]}))
    assert (found.status, found.observed.en) == ("fail", "Defaults exempt_group=users")


# --- The network -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("unit", "port", "status"),
    [
        ("ssh.service", 22, "pass"),
        ("ssh.service", 31337, "fail"),
        ("session-3.scope", 22, "fail"),
        ("", 22, "fail"),
    ],
)
def test_whoever_calls_itself_sshd_is_not_the_ssh_server(unit: str, port: int, status: str) -> None:
    one = {"protocol": "tcp", "address": "0.0.0.0", "port": port, "process": "sshd", "unit": unit}  # noqa: S104
    assert judged("network.listeners", listeners=[one]).status == status


@pytest.mark.parametrize(
    "peer", ["0.0.0.0/0", "128.0.0.0/1", "::/0", "0.0.0.0-255.0.0.0", "@guests", "02:00:00:00:00:01"]
)
def test_everybody_is_no_named_network(peer: str) -> None:
    firewall = fact_of("network.firewall-openings", "firewall")
    opening = {"chain": "input", "peers": ["10.0.0.0/8", peer], "ports": [443]}
    changed = {**firewall, "openings": [opening]}
    assert judged("network.firewall-openings", firewall=changed).status == "fail"
    opening["ports"] = [22]
    assert judged("network.ssh-from-named-networks", firewall=changed).status == "fail"


def test_another_table_that_drops_does_not_stand_in_for_the_products() -> None:
    firewall = fact_of("network.firewall-default-deny", "firewall")
    other = [{**one, "table": "other"} for one in firewall["chains"]]
    for policy in ("accept", "dormant"):
        ours = [{**one, "table": "banip", "policy": policy} for one in firewall["chains"]]
        found = judged("network.firewall-default-deny", firewall={**firewall, "chains": ours + other})
        assert found.status == "fail"
    assert judged("network.firewall-default-deny", firewall={**firewall, "chains": other}).status == "pass"
