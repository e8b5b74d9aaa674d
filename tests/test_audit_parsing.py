"""What programs really said on a closed server, and what the collectors make of it.

The files of ``audit/captured`` were written by programs of Debian 12, on a server with faults in it.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from appliance.audit.checks.audit import is_called, is_watched
from appliance.audit.facts_host import Community, Key, PackageSource, Rotation, SudoRule
from appliance.audit.facts_network import Opening
from appliance.audit.reading import (
    accounts,
    data,
    firewall,
    logs,
    machine,
    network,
    packages,
    probe,
    product,
    remote,
    servers,
)

CAPTURED = Path(__file__).parent / "audit" / "captured"


def said(name: str) -> str:
    return (CAPTURED / name).read_text("utf-8")


# --- Accounts and logins -----------------------------------------------------------------------------------


def test_lastlog_tells_who_was_here_and_who_never() -> None:
    last = {one.account: one.last for one in accounts.parse_lastlog(said("lastlog.txt"))}
    assert last["kim"] == datetime(2026, 9, 21, 14, 13, 20, tzinfo=timezone.utc)
    assert last["root"] is None
    assert len(last) > 15


def test_lastb_is_counted_by_account_and_its_last_line_is_no_account() -> None:
    assert accounts.parse_lastb(said("lastb.txt"), {"kim", "root"}) == {"kim": 1, "root": 3}
    assert accounts.parse_lastb("\nbtmp begins 2026-11-21T16:41:42+00:00\n", {"kim"}) == {}


def test_a_password_that_was_typed_for_a_name_is_no_fact() -> None:
    assert accounts.parse_lastb(said("lastb.txt"), {"root"}) == {"?": 1, "root": 3}


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (
            "auth required pam_ldap.so bindpw=Hunter2! try_first_pass",
            "auth required pam_ldap.so bindpw=*** try_first_pass",
        ),
        ('proxy_set_header Authorization "Bearer Hunter2!";', "proxy_set_header Authorization ***;"),
        ("proxy_set_header X-Api-Key Hunter2!;", "proxy_set_header X-Api-Key ***;"),
        ("https://kim:Hunter2!@mirror/debian", "https://***@mirror/debian"),
        ("password requisite pam_pwquality.so retry=3", None),
        ("http://mirror/debian/dists/x@y", None),
    ],
)
def test_a_secret_in_a_line_of_configuration_is_no_fact(words: str, kept: str | None) -> None:
    assert probe.without_secrets(words) == (kept if kept is not None else words)


def test_the_rules_of_sudo_keep_who_may_what_and_whether_a_password_is_asked() -> None:
    found = remote.parse_sudoers(said("sudoers.json"))
    assert found.rules[0] == SudoRule(("root",), ("ALL", "%ALL"), ("ALL",))
    assert found.rules[1].users == ("%sudo",)
    (kim,) = (rule for rule in found.rules if rule.users == ("kim",))
    assert kim == SudoRule(("kim",), ("root",), ("/usr/bin/systemctl", "!/usr/bin/su"), authenticate=False)
    assert (found.settings["syslog"], found.settings["timestamp_timeout"]) == ("false", "30")
    assert found.settings["use_pty"] == "true"


def test_keys_of_ssh_are_known_by_kind_and_length() -> None:
    assert remote.parse_keys("/root/both", said("ssh-keygen.txt")) == (
        Key("/root/both", "RSA", 1024),
        Key("/root/both", "ED25519", 256),
    )
    assert remote.parse_keys("/dev/null", "/dev/null is not a public key file.\n") == ()


# --- Servers -----------------------------------------------------------------------------------------------


def test_postfix_and_samba_tell_their_settings() -> None:
    mail = servers.parse_assignments(said("postconf.txt"))
    assert (mail["disable_vrfy_command"], mail["smtpd_recipient_restrictions"]) == ("no", "")
    assert "defer_unauth_destination" in mail["smtpd_relay_restrictions"]
    assert servers.parse_samba(said("testparm.txt")) == {"global/map to guest": "Bad User"}


def test_a_switch_of_exim_has_no_value() -> None:
    told = servers.parse_assignments(
        "no_smtp_enforce_sync\nlocal_interfaces = <; 127.0.0.1 ; ::1\nprdr_enable\n"
    )
    assert told == {
        "smtp_enforce_sync": "false",
        "local_interfaces": "<; 127.0.0.1 ; ::1",
        "prdr_enable": "true",
    }


def test_of_a_name_server_blocks_are_kept_and_secrets_are_not() -> None:
    told = (
        'options {\n\tdirectory "/var/cache/bind";\n\tlisten-on-v6  {\n\t\t"any";\n\t};\n'
        '\tallow-transfer  {\n\t\t"none";\n\t};\n};\n'
        'key "rndc-key" {\n\talgorithm "hmac-sha256";\n\tsecret "c2VjcmV0";\n};\n'
        'zone "x.test" {\n\ttype master;\n\tallow-update  {\n\t\t"any";\n\t};\n};\n'
    )
    found = servers.parse_named(told)
    assert found == {
        "options/allow-transfer": '"none";',
        "zone x.test/type": "master",
        "zone x.test/allow-update": '"any";',
    }


def test_of_a_community_everything_is_kept_but_the_word() -> None:
    found = servers.parse_communities(said("snmpd.conf").splitlines())
    assert found == (Community("default", 6, common=True),) * 2
    hidden = servers.parse_communities(
        ["com2sec readonly 10.0.0.0/24 Xy7-long-word", "rocommunity6 abcdefghij"]
    )
    assert hidden == (Community("10.0.0.0/24", 13, signs=True), Community("default", 10))
    assert "Xy7" not in repr(hidden)


# --- Logs and time -----------------------------------------------------------------------------------------


def test_logrotate_tells_patterns_of_one_line_and_of_several() -> None:
    found = {one.pattern: one for one in logs.parse_rotations(said("logrotate.txt"))}
    assert found["/var/log/banip-gateway/*.log"] == Rotation("/var/log/banip-gateway/*.log", 1, 365)
    assert found["/var/log/banip/*.log"] == Rotation("/var/log/banip/*.log", 30, 13)
    assert found["/var/log/some.log /var/log/other.log"] == Rotation(
        "/var/log/some.log /var/log/other.log", 7, 4
    )


def test_auditctl_tells_state_and_rules_or_why_not() -> None:
    state = said("auditctl-s.txt")
    found = logs.parse_audit(state, said("auditctl-l.txt"), "", "active", {"num_logs": "40"})
    assert (found.enabled, found.lost, len(found.rules), found.refused) == (1, 0, 20, "")
    assert is_watched(found.rules, "/etc/pam.d")
    assert is_watched(found.rules, "/etc/pam.d/su"), "what is below a watched folder is watched"
    assert not is_watched(found.rules, "/etc/passwd", "r"), "this rule records writes alone"
    assert is_called(found.rules, "finit_module")
    assert is_called(found.rules, "execve", "euid=0")
    assert not is_called(found.rules, "execve", "euid=1")
    assert logs.parse_audit(state, "No rules\n", "", "active", {}).rules == ()
    refused = logs.parse_audit("", "", "Error sending status request (Operation not permitted)", "failed", {})
    assert (refused.enabled, "not permitted" in refused.refused) == (0, True)
    assert logs.parse_audit("", "", "", "failed", {}).refused == "no answer"


def test_a_journal_that_does_not_hold_is_named() -> None:
    assert logs.parse_verify("PASS: /var/log/journal/x/system.journal\n") == ()
    ignored = "Journal file /j/system@2.journal corrupted, ignoring file.\n"
    assert logs.parse_verify(ignored) == ("/j/system@2.journal corrupted, ignoring file.",)
    told = "3b8: Invalid hash (aa vs. bb)\nFAIL: /var/log/journal/x/system@1.journal (Bad message)\n"
    assert logs.parse_verify(told) == ("/var/log/journal/x/system@1.journal (Bad message)",)


def test_time_servers_are_those_that_are_asked() -> None:
    assert logs.parse_chrony(said("chrony.csv")) == ("10.0.0.1",)
    assert logs.parse_chrony("#,*,PPS0,0,4,377,11,0,0,0\n") == (), "a clock of its own is no server"
    named = "LinkNTPServers=\nSystemNTPServers=10.0.0.1 10.0.0.2\nFallbackNTPServers=0.debian.pool.ntp.org\n"
    assert logs.parse_timesync(named) == ("10.0.0.1", "10.0.0.2")
    assert logs.parse_timesync("SystemNTPServers=\nFallbackNTPServers=0.debian.pool.ntp.org\n") == (
        "0.debian.pool.ntp.org",
    )


# --- The machine -------------------------------------------------------------------------------------------


def test_findmnt_tells_options_and_room_where_there_is_any() -> None:
    found = {one.target: one for one in machine.parse_mounts(said("findmnt.json"))}
    assert {"nosuid", "nodev"} <= set(found["/dev/shm"].options)  # noqa: S108 - looked at
    assert found["/sys"].free_percent is None
    assert found["/dev/shm"].free_percent == 100  # noqa: S108 - as above


def test_what_lies_under_a_file_system_is_told_from_the_top() -> None:
    disk = {"name": "sda", "type": "disk"}
    part = {"name": "sda2", "type": "part", "children": [disk]}
    crypt = {"name": "data_crypt", "type": "crypt", "children": [part]}
    told = json.dumps({"blockdevices": [{"name": "vg-root", "type": "lvm", "children": [crypt]}]})
    assert machine.parse_layers(told) == ("lvm", "crypt", "part", "disk")


def test_what_the_kernel_said_of_usb_is_read_whatever_its_bytes() -> None:
    entries = [
        {"__REALTIME_TIMESTAMP": "1790000000000000", "MESSAGE": "usb 1-1: USB Mass Storage device detected"},
        {"__REALTIME_TIMESTAMP": "1790000001000000", "MESSAGE": [117, 255, 98]},
    ]
    first, second = machine.parse_usb_events("\n".join(map(json.dumps, entries)))
    assert first.at == datetime(2026, 9, 21, 14, 13, 20, tzinfo=timezone.utc)
    assert second.words == "u\ufffdb"


def test_profiles_count_by_their_mode() -> None:
    found = machine.parse_profiles(
        "capability,landlock,apparmor", "/usr/bin/man (enforce)\nnginx (complain)\n"
    )
    assert (found.modules[-1], found.enforcing, found.complaining) == ("apparmor", 1, ("nginx",))
    assert machine.parse_profiles("", "").modules == ()


# --- Packages ----------------------------------------------------------------------------------------------


def test_dpkg_s_complaints_are_sorted_and_configuration_is_left_out() -> None:
    found = packages.parse_verify(said("dpkg-verify.txt"), 140)
    assert found.changed == ("/usr/bin/whoami",)
    assert "/usr/bin/tac" in found.missing
    assert not [path for path in found.missing if path.startswith("/var/")], (
        "what is made again is not missed"
    )
    assert not {"/etc/audit/auditd.conf"} & {*found.changed, *found.missing}


def test_apt_s_sources_say_whether_they_are_believed_unsigned() -> None:
    assert list(packages.parse_source_line("deb [arch=amd64 trusted=yes] file:/srv ./")) == [
        PackageSource("file:/srv", trusted=True)
    ]
    line = "deb-src https://mirror.example/debian bookworm main # ours"
    assert list(packages.parse_source_line(line)) == [
        PackageSource("https://mirror.example/debian", trusted=False)
    ]
    assert list(packages.parse_source_line("# deb file:/srv ./")) == []
    stanzas = (
        "Types: deb\nURIs: http://a http://b\n\nEnabled: no\nURIs: http://c\n\nURIs: file:/d\nTrusted: yes\n"
    )
    assert [(one.uri, one.trusted) for one in packages.parse_deb822(stanzas)] == [
        ("http://a", False),
        ("http://b", False),
        ("file:/d", True),
    ]
    assert packages.parse_apt(said("apt-config.txt"))["Acquire::AllowInsecureRepositories"] == "0"


def test_clamav_tells_how_old_its_signatures_are_where_it_has_any() -> None:
    dated = packages.parse_clamav("ClamAV 1.0.7/27400/Sat Sep 21 08:30:00 2024\n")
    assert dated == datetime(2024, 9, 21, 8, 30, tzinfo=timezone.utc)
    assert packages.parse_clamav("ClamAV 1.4.6\n") is None


# --- The network -------------------------------------------------------------------------------------------


def test_interfaces_and_routes_are_ip_s_own() -> None:
    links = {one.name: one for one in network.parse_links(said("ip-address.json"))}
    assert links["eth0"].addresses == ("192.0.2.2/30", "fd62:616e:6970::2/64"), (
        "those of the link alone do not count"
    )
    assert (links["eth0"].kind, links["eth0"].up, links["lo"].addresses) == ("veth", True, ())
    assert network.parse_routes(said("ip-route.json")) == ("via 192.0.2.1 dev eth0",)
    assert network.parse_routes("") == ()


@pytest.mark.parametrize(
    ("name", "argv", "is_one"),
    [
        ("ssh", ["ssh", "-N", "-R", "8080:localhost:80", "host"], True),
        ("ssh", ["ssh", "-NfL", "8080:localhost:80", "host"], True),
        ("ssh", ["ssh", "host", "ls"], False),
        ("openvpn", ["openvpn", "--config", "x"], True),
        ("sshd", ["sshd", "-D"], False),
    ],
)
def test_a_process_that_carries_other_traffic_is_known(name: str, argv: list[str], *, is_one: bool) -> None:
    assert network.is_tunnel(name, argv) is is_one


def _match(left: str, right: object, op: str = "==") -> dict[str, Any]:
    protocol, field = left.split()
    keyed = {"meta": {"key": field}} if protocol == "meta" else {"ct": {"key": field}}
    side = keyed if protocol in {"meta", "ct"} else {"payload": {"protocol": protocol, "field": field}}
    return {"match": {"op": op, "left": side, "right": right}}


ACCEPT: dict[str, Any] = {"accept": None}
ONE_PORT = _match("tcp dport", 443)


def _opened(*rules: list[Any], more: tuple[Any, ...] = ()) -> tuple[Opening, ...]:
    """Return what rules of the product's input open, as nft 1.0.6 tells them."""
    at = {"family": "inet", "table": "banip"}
    chain = {"chain": {**at, "name": "input", "hook": "input", "policy": "drop"}}
    told = [chain, *({"rule": {**at, "chain": "input", "expr": expr}} for expr in rules), *more]
    return firewall.parse_rules('{"nftables": []}', json.dumps({"nftables": told})).openings


@pytest.mark.parametrize(
    ("expr", "opened"),
    [
        ([_match("ip saddr", "10.9.9.9", "!="), ONE_PORT, ACCEPT], Opening("input", (), (443,))),
        (
            [_match("ip saddr", "10.0.0.9"), _match("tcp dport", 22, "!="), ACCEPT],
            Opening("input", ("10.0.0.9",)),
        ),
        ([_match("ether saddr", "02:00:00:00:00:01"), ONE_PORT, ACCEPT], Opening("input", (), (443,))),
        ([_match("ct state", "invalid", "!="), ACCEPT], Opening("input")),
        ([_match("ct state", ["established", "untracked"], "in"), ACCEPT], Opening("input")),
        ([_match("meta iifname", "lo", "!="), ACCEPT], Opening("input")),
        ([_match("meta iifname", {"set": ["lo", "eth0"]}), ACCEPT], Opening("input")),
        ([_match("tcp dport", {"set": [443, {"range": [1000, 65535]}]}), ACCEPT], Opening("input")),
        ([_match("tcp dport", {"range": [80, 82]}), ACCEPT], Opening("input", (), (80, 81, 82))),
        ([_match("tcp dport", "@more"), ACCEPT], Opening("input")),
        (
            [{"vmap": {"key": {}, "data": {"set": [[8080, ACCEPT], [8081, {"drop": None}]]}}}],
            Opening("input"),
        ),
        ([{"vmap": {"key": {}, "data": "@verdicts"}}], Opening("input")),
        (
            [_match("ip saddr", "@admins"), ONE_PORT, ACCEPT],
            Opening("input", ("10.1.0.0/16", "::/0"), (443,)),
        ),
        ([_match("ip saddr", "@guests"), ONE_PORT, ACCEPT], Opening("input", ("@guests",), (443,))),
    ],
)
def test_a_rule_that_is_spelled_otherwise_opens_no_less(expr: list[dict[str, Any]], opened: Opening) -> None:
    prefixes = [{"prefix": {"addr": "10.1.0.0", "len": 16}}, {"prefix": {"addr": "::", "len": 0}}]
    sets = (
        {"set": {"name": "admins", "table": "banip", "elem": prefixes}},
        {"set": {"name": "guests", "table": "banip", "flags": ["dynamic"], "elem": ["10.0.0.1"]}},
    )
    assert _opened(expr, more=sets) == (opened,)


def test_what_a_chain_opens_counts_where_packets_come_into_it() -> None:
    at = {"family": "inet", "table": "banip"}
    theirs = {"rule": {**at, "chain": "extra", "expr": [_match("tcp dport", 31337), ACCEPT]}}
    known = {"chain": {**at, "name": "extra"}}
    named, goto = _match("ip saddr", "10.0.0.5"), {"goto": {"target": "extra"}}
    wanted = (Opening("input", ("10.0.0.5",), (31337,)),)
    assert _opened([named, {"jump": {"target": "extra"}}], more=(known, theirs)) == wanted
    assert (
        _opened([named, {"vmap": {"key": {}, "data": {"set": [[1, goto]]}}}], more=(known, theirs)) == wanted
    )
    assert _opened([], more=(known, theirs)) == (), "nothing comes there"
    circle = {"rule": {**at, "chain": "extra", "expr": [goto]}}
    assert _opened([goto], more=(known, circle)) == (Opening("input"),), "cut off is open"


def test_a_table_that_sleeps_drops_nothing() -> None:
    at = {"family": "inet", "table": "banip"}
    chains = [{"chain": {**at, "name": "input", "hook": "input", "policy": "drop"}}]
    asleep = [{"table": {"family": "inet", "name": "banip", "flags": "Lester Gooch"}}]
    (chain,) = firewall.parse_rules(*(json.dumps({"nftables": told}) for told in (chains, asleep))).chains
    assert chain.policy == "dormant"


def test_the_products_own_rules_open_what_they_say_and_answers_open_nothing() -> None:
    found = firewall.parse_rules(said("nft-chains.json"), said("nft-table.json"))
    assert found.openings == (
        Opening("input", ("10.0.0.0/8",), (443,)),
        Opening("input", ("10.1.0.0/16",), (22,)),
    )
    assert found.logs_refusals
    assert {one.element for one in found.attempts} == {"102 192.0.2.1 udp 53", "102 10.0.0.1 udp 123"}
    assert {(one.hook, one.policy) for one in found.chains if one.table == "banip"} == {
        ("input", "drop"),
        ("forward", "drop"),
        ("output", "drop"),
    }


def test_a_rule_that_lets_everybody_in_opens_everything() -> None:
    rule = {"family": "inet", "table": "banip", "chain": "input", "handle": 9, "expr": [{"accept": None}]}
    told = json.dumps({"nftables": [{"rule": rule}]})
    assert firewall.parse_rules('{"nftables": []}', told).openings == (Opening("input"),)


# --- Banip's own -------------------------------------------------------------------------------------------


def test_of_an_environment_only_the_names_of_secrets_are_kept() -> None:
    told = 'HOME=/x HF_TOKEN=abc "DB_PASSWORD=a b" TOKENIZERS_PARALLELISM=false API_KEY=1 KEYBOARD=kr'
    assert product.secret_names(told) == ("HF_TOKEN", "DB_PASSWORD", "API_KEY")
    assert product.secret_names("DB=postgres://u:word@h/x AT=http://u@h ON=http://h:80/x@y") == ("DB",)


def test_of_requests_only_what_all_lines_tell_is_kept_and_never_what_was_asked() -> None:
    line = {"time": "2026-11-01T00:00:00.000+00:00", "request": "ab", "user": "kim", "status": 200}
    told = f"INFO: started\n{json.dumps({**line, 'question': 'a secret?'})}\n{json.dumps(line)}\n{{broken\n"
    found = data.parse_requests(told)
    assert (found.lines, found.members) == (2, ("request", "status", "time", "user"))
    assert found.newest == datetime(2026, 11, 1, tzinfo=timezone.utc)
    assert "secret" not in repr(found)
    assert data.parse_requests("").lines == 0
