"""A threshold is the last value that passes; and what decides beside the one case that every check has."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from appliance.audit.result import audit
from tests.test_audit_checks import facts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.format import Grade

    Facts = dict[str, Any]

DAY = 20758  # 2026-11-01, as shadow(5) counts
TAKEN = "2026-11-01T00:00:00Z"
NONE_OF_SSH: dict[str, str] = {"maxauthtries": "4", "logingracetime": "60"}
RELEASE = {"id": "demo-1.0.0-c1", "grade": "S", "listens": ["tcp/0.0.0.0:443"]}
STATE = {"lines": 9, "head": "ab", "first": TAKEN, "last_outcome": "install"}
UNIT = {"name": "banip-api.service", "active": "active", "kind": "exec", "user": "a", "process_user": "a"}
PASSWORD_RULE = {"path": "/etc/pam.d/p", "number": 1, "text": "password requisite pam_pwquality.so"}


def line(text: str, path: str = "/etc/x") -> Facts:
    return {"path": path, "number": 1, "text": text}


def account(**more: object) -> Facts:
    return {
        "name": "kim", "uid": 1000, "gid": 1000, "home": "/x", "login_shell": "/bin/bash",
        "hash_kind": "yescrypt", **more,
    }  # fmt: skip


def on(name: str) -> Facts:
    return {"services": [{"name": name, "active": "active", "enabled": "enabled"}]}


def ssh(**settings: str) -> Facts:
    return {"ssh": {"installed": True, "settings": {**NONE_OF_SSH, **settings}}}


def login(name: str, value: object) -> Facts:
    return {"login": [line(f"{name} {value}", "/etc/login.defs")], "accounts": []}


def lock(words: str) -> Facts:
    rules = ("requisite pam_faillock.so preauth", "[default=die] pam_faillock.so authfail")
    return {"pam": [line(f"auth {rule} {words}") for rule in rules], "faillock": []}


def quality(words: str) -> Facts:
    return {"pam": [PASSWORD_RULE], "quality": [line(words)]}


def status(check: str, facts: Facts, grade: Grade = "S") -> str:
    (result,) = (one for one in audit(facts_of(facts), grade).results if one.id == check)
    return result.status


def recorded(run: str) -> Facts:
    return {"models_drift": {"hashed": 0, "sized": 0, "recorded": 1, "run": run}}


LIMITS: dict[str, tuple[Callable[[int], Facts], int, int]] = {
    "host.password-age": (lambda days: login("PASS_MAX_DAYS", days), 90, 91),
    "host.password-minimum-age": (lambda days: login("PASS_MIN_DAYS", days), 1, 0),
    "host.password-quality": (lambda least: quality(f"minlen = {least}"), 9, 8),
    "host.password-complexity": (lambda kinds: quality(f"minclass = {kinds}"), 3, 2),
    "host.password-history": (
        lambda kept: {"pam": [line(f"password requisite pam_pwhistory.so remember={kept}")]},
        4,
        3,
    ),
    "host.account-lockout": (lambda deny: lock(f"deny={deny}"), 10, 11),
    "host.lockout-duration": (lambda seconds: lock(f"unlock_time={seconds}"), 300, 299),
    "host.unused-accounts": (
        lambda days: {
            "accounts": [account(changed=DAY - days)],
            "logins": [{"account": "kim", "last": None}],
        },
        90,
        91,
    ),
    "host.failed-logins": (lambda count: {"failures": {"days": 7, "counts": {"kim": count}}}, 30, 31),
    "host.administrators": (
        lambda count: {
            "groups": [{"name": "sudo", "gid": 27, "members": list("abcdef")[:count]}],
            "accounts": [],
        },
        2,
        3,
    ),
    "host.ssh-session": (
        lambda seconds: ssh(clientaliveinterval=str(seconds), clientalivecountmax="1"),
        600,
        601,
    ),
    "host.ssh-attempts": (lambda tries: ssh(maxauthtries=str(tries)), 4, 5),
    "host.session-timeout": (
        lambda seconds: {"shell": {"timeout_s": seconds, "umask": "0027", "path": []}},
        600,
        601,
    ),
    "host.sudo-reuse": (
        lambda minutes: {"sudo": {"installed": True, "settings": {"timestamp_timeout": str(minutes)}}},
        15,
        16,
    ),
    "host.disk-space": (
        lambda free: {
            "storage": {
                "mounts": [
                    {"target": "/", "source": "x", "kind": "ext4", "options": ["rw"], "free_percent": free}
                ]
            }
        },
        10,
        9,
    ),
    "network.exposed-ports": (
        lambda count: {
            "listeners": [{"protocol": "tcp", "address": "0.0.0.0", "port": n} for n in range(count)]  # noqa: S104
        },
        2,
        3,
    ),
    "network.one-way-out": (
        lambda count: {
            "links": {
                "links": [{"name": f"e{n}", "up": True, "addresses": ["10.0.0.1/8"]} for n in range(count)]
            }
        },
        3,
        4,
    ),
    "web.rate-limit": (
        lambda rate: {
            "gateway": [line(f"limit_req_zone $x zone=r:1m rate={rate}r/m;"), line("limit_req zone=r;")]
        },
        600,
        601,
    ),
    "access.few-administrators": (
        lambda count: {
            "api_users": [
                {"name": f"u{n}", "grade": "S", "role": "admin", "created": TAKEN} for n in range(count)
            ]
        },
        3,
        4,
    ),
    "release.threshold": (lambda keys: {"release": {**RELEASE, "root_threshold": keys}}, 2, 1),
    "service.steady": (lambda count: {"units": [{**UNIT, "failures": count}]}, 3, 4),
    "service.hardening": (lambda tenths: {"units": [{**UNIT, "exposure": tenths / 10}]}, 40, 41),
    "log.file-retention": (
        lambda kept: {"rotations": [{"pattern": "/var/log/banip/x", "days_each": 1, "kept": kept}]},
        365,
        364,
    ),
    "log.retention": (
        lambda days: {"logs": {"settings": {"MaxRetentionSec": f"{days}day"}, "persistent": True}},
        365,
        364,
    ),
    "log.audit-kept": (
        lambda count: {
            "kernel_audit": {
                "installed": True,
                "settings": {"max_log_file_action": "rotate", "max_log_file": "1", "num_logs": str(count)},
            }
        },
        1024,
        1023,
    ),
}


@pytest.mark.parametrize("check", LIMITS)
def test_a_threshold_is_the_last_value_that_passes(check: str) -> None:
    facts, last_good, first_bad = LIMITS[check]
    assert status(check, facts(last_good)) == "pass"
    assert status(check, facts(first_bad)) == "fail"


AGES: dict[str, tuple[Callable[[str], Facts], int]] = {
    "audit.regular": (lambda when: {"state": {**STATE, "first": when}, "earlier_audits": []}, 92),
    "backup.age": (lambda when: {"state": {**STATE, "last_backup": when}}, 14),
    "access.key-age": (
        lambda when: {"api_users": [{"name": "kim", "grade": "S", "role": "user", "created": when}]},
        365,
    ),
    "host.malware-scanner": (
        lambda when: {"scanners": [{"name": "clamav-daemon", "active": True, "signatures": when}]},
        31,
    ),
}


@pytest.mark.parametrize("check", AGES)
def test_an_age_counts_in_whole_days(check: str) -> None:
    facts, most = AGES[check]
    now = datetime(2026, 11, 1, tzinfo=timezone.utc)
    assert status(check, facts((now - timedelta(days=most)).isoformat())) == "pass"
    assert status(check, facts((now - timedelta(days=most + 1)).isoformat())) == "fail"


@pytest.mark.parametrize(
    ("check", "facts", "wanted"),
    [
        # zero, or none at all, is no limit
        ("host.password-age", login("PASS_MAX_DAYS", 0), "fail"),
        ("host.account-lockout", lock("deny=0"), "fail"),
        ("host.lockout-duration", lock("unlock_time=0"), "pass"),
        ("host.ssh-attempts", ssh(logingracetime="0"), "fail"),
        ("host.ssh-attempts", ssh(logingracetime="121"), "fail"),
        ("host.sudo-reuse", {"sudo": {"installed": True, "settings": {"timestamp_type": "global"}}}, "fail"),
        # the rule's own word goes before the file's
        (
            "host.password-quality",
            {"pam": [line("password requisite pam_pwquality.so minlen=6")], "quality": [line("minlen = 12")]},
            "fail",
        ),
        # a password for ever, and one that nobody can use
        ("host.password-age", {**login("PASS_MAX_DAYS", 90), "accounts": [account()]}, "fail"),
        (
            "host.password-age",
            {**login("PASS_MAX_DAYS", 90), "accounts": [account(hash_kind="locked")]},
            "pass",
        ),
        ("host.password-age", {**login("PASS_MAX_DAYS", 90), "accounts": [account(most_days=0)]}, "fail"),
        ("host.password-age", {**login("PASS_MAX_DAYS", 90), "accounts": [account(most_days=90)]}, "pass"),
        # a banner is a file that says something
        ("host.ssh-banner", ssh(banner="/etc/issue.net"), "fail"),
        (
            "host.ssh-banner",
            {"ssh": {"installed": True, "settings": {"banner": "/etc/ssh/w"}, "warns": True}},
            "pass",
        ),
        ("host.ssh-two-factors", ssh(authenticationmethods="publickey,password publickey"), "fail"),
        # mail
        (
            "host.mail-commands",
            {
                **on("sendmail.service"),
                "servers": {"mail": {"name": "sendmail", "settings": {"privacyoptions": "goaway"}}},
            },
            "pass",
        ),
        (
            "host.mail-commands",
            {
                **on("sendmail.service"),
                "servers": {"mail": {"name": "sendmail", "settings": {"privacyoptions": "novrfy"}}},
            },
            "fail",
        ),
        (
            "host.mail-relay",
            {
                **on("postfix.service"),
                "servers": {"mail": {"name": "postfix", "settings": {"inet_interfaces": "loopback-only"}}},
            },
            "pass",
        ),
        (
            "host.mail-relay",
            {
                **on("postfix.service"),
                "servers": {
                    "mail": {
                        "name": "postfix",
                        "settings": {
                            "smtpd_relay_restrictions": "reject_unauth_destination",
                            "mynetworks": "0.0.0.0/0",
                        },
                    }
                },
            },
            "fail",
        ),
        (
            "host.mail-relay",
            {
                **on("exim4.service"),
                "servers": {"mail": {"name": "exim", "settings": {"local_interfaces": "127.0.0.1 ; ::1"}}},
            },
            "pass",
        ),
        (
            "host.mail-relay",
            {
                **on("exim4.service"),
                "servers": {"mail": {"name": "exim", "settings": {"local_interfaces": "10.0.0.1"}}},
            },
            "unknown",
        ),
        # shares and exports
        (
            "host.share-guests",
            {
                **on("smbd.service"),
                "servers": {"shares": {"name": "samba", "settings": {"global/map to guest": "Never"}}},
            },
            "pass",
        ),
        (
            "host.share-guests",
            {
                **on("smbd.service"),
                "servers": {"shares": {"name": "samba", "settings": {"pub/guest ok": "Yes"}}},
            },
            "fail",
        ),
        (
            "host.share-guests",
            {**on("nfs-server.service"), "servers": {"exports": [line("/srv *(rw,all_squash)")]}},
            "fail",
        ),
        (
            "host.share-guests",
            {**on("nfs-server.service"), "servers": {"exports": [line("/srv 10.0.0.5(rw,all_squash)")]}},
            "pass",
        ),
        ("host.nfs-exports", {"servers": {}, "files": []}, "not-applicable"),
        ("host.nfs-exports", {"servers": {"exports": [line("/srv")]}, "files": []}, "fail"),
        (
            "host.nfs-exports",
            {"servers": {"exports": [line("/srv 10.0.0.5(no_root_squash)")]}, "files": []},
            "fail",
        ),
        (
            "host.ftp-access",
            {
                **on("vsftpd.service"),
                "servers": {
                    "files": {"name": "vsftpd", "settings": {"anonymous_enable": "NO", "tcp_wrappers": "YES"}}
                },
            },
            "pass",
        ),
        (
            "host.dns-transfer",
            {
                **on("named.service"),
                "servers": {"names": {"name": "named", "settings": {"options/allow-transfer": '"any";'}}},
            },
            "fail",
        ),
        (
            "host.dns-transfer",
            {
                **on("named.service"),
                "servers": {
                    "names": {
                        "name": "named",
                        "settings": {"zone x/type": "master", "zone x/allow-transfer": "10.0.0.2;"},
                    }
                },
            },
            "pass",
        ),
        # a service that would run at the next boot is there, one that is only installed is not
        (
            "host.no-ftp",
            {"services": [{"name": "vsftpd.service", "active": "inactive", "enabled": "enabled"}]},
            "fail",
        ),
        (
            "host.no-ftp",
            {"services": [{"name": "vsftpd.service", "active": "inactive", "enabled": "disabled"}]},
            "pass",
        ),
        # the network
        (
            "network.firewall-openings",
            {
                "release": RELEASE,
                "firewall": {
                    "counts_egress": True,
                    "openings": [{"chain": "input", "peers": ["10.0.0.0/8"], "ports": []}],
                },
            },
            "fail",
        ),
        (
            "network.firewall-openings",
            {
                "release": RELEASE,
                "firewall": {
                    "counts_egress": True,
                    "openings": [{"chain": "input", "peers": ["10.0.0.0/8"], "ports": [8443]}],
                },
            },
            "fail",
        ),
        (
            "network.firewall-openings",
            {
                "release": RELEASE,
                "firewall": {
                    "counts_egress": True,
                    "openings": [{"chain": "output", "peers": [], "ports": [53]}],
                },
            },
            "fail",
        ),
        (
            "network.ssh-from-named-networks",
            {
                **ssh(port="22"),
                "firewall": {
                    "chains": [
                        {"family": "inet", "table": "x", "name": "o", "hook": "output", "policy": "drop"}
                    ]
                },
            },
            "fail",
        ),
        (
            "network.no-tunnels",
            {"services": [], "links": {"links": [{"name": "sit0", "kind": "sit"}]}},
            "pass",
        ),
        ("network.no-tunnels", {"services": [], "links": {"links": [], "tunnels": ["ssh (9)"]}}, "fail"),
        ("network.name-servers", {"links": {"links": [], "name_servers": ["dns.example"]}}, "fail"),
        (
            "network.one-way-out",
            {"links": {"links": [{"name": "e", "addresses": ["10.0.0.1/8"]}] * 9}},
            "pass",
        ),
        # the machine
        (
            "host.core-dumps",
            {
                "kernel": {"kernel.core_pattern": "|/bin/false"},
                "core_dumps": {"DefaultLimitCORE": "infinity"},
            },
            "pass",
        ),
        (
            "host.core-dumps",
            {
                "kernel": {"kernel.core_pattern": "|/lib/systemd/systemd-coredump %P"},
                "core_dumps": {"DefaultLimitCORE": "0", "limits.conf": "0"},
            },
            "fail",
        ),
        (
            "host.core-dumps",
            {
                "kernel": {"kernel.core_pattern": "|/lib/systemd/systemd-coredump %P"},
                "core_dumps": {"Storage": "none", "ProcessSizeMax": "0"},
            },
            "pass",
        ),
        (
            "host.disk-space",
            {
                "storage": {
                    "mounts": [
                        {
                            "target": "/m",
                            "source": "x",
                            "kind": "iso9660",
                            "options": ["ro"],
                            "free_percent": 0,
                        }
                    ]
                }
            },
            "pass",
        ),
        ("device.usb-ports", {"devices": {"blocked": [], "loaded": [], "wireless": []}}, "not-applicable"),
        (
            "host.malware-scanner",
            {"scanners": [{"name": "eea", "active": True}]},
            "unknown",
        ),
        ("host.malware-scanner", {"scanners": [{"name": "clamscan", "active": False}]}, "fail"),
        # who owns what
        (
            "host.unused-accounts",
            {"accounts": [account(name="games", hash_kind="locked")], "logins": []},
            "fail",
        ),
        (
            "data.private",
            {
                "data_files": [
                    {"path": "/var/lib/banip/data", "kind": "folder", "mode": "0755", "owner": "root"},
                    {"path": "/var/lib/banip/data/api", "kind": "folder", "mode": "0750", "owner": "a"},
                ]
            },
            "pass",
        ),
        # an address of both families is declared by its spelling for one; nothing else is
        (
            "network.listeners",
            {"release": RELEASE, "listeners": [{"protocol": "tcp", "address": "::", "port": 443}]},
            "pass",
        ),
        (
            "network.listeners",
            {"release": RELEASE, "listeners": [{"protocol": "tcp", "address": "10.0.0.1", "port": 443}]},
            "fail",
        ),
        (
            "network.ssh-from-named-networks",
            {"ssh": {"installed": True, "running": False}, "firewall": {}},
            "not-applicable",
        ),
        ("host.password-minimum-age", {"login": [line("PASS_MIN_DAYS")]}, "fail"),
        ("log.requests", {"web": {}, "requests": {"lines": 0}}, "not-applicable"),
        (
            "log.audit-keys",
            {
                "kernel_audit": {
                    "installed": True,
                    "enabled": 1,
                    "rules": ["-w /var/lib/banip/secrets -p wa -k secrets"],
                }
            },
            "fail",
        ),
        (
            "host.login-configuration",
            {"files": [{"path": "/etc/elsewhere", "mode": "0666", "owner": "root"}]},
            "pass",
        ),
        (
            "host.login-configuration",
            {"files": [{"path": "/etc/pam.d/x", "kind": "absent", "mode": "0666", "owner": "x"}]},
            "pass",
        ),
        (
            "host.snmp-community",
            {
                **on("snmpd.service"),
                "servers": {"communities": [{"source": "x", "length": 20, "common": True}]},
            },
            "fail",
        ),
        (
            "host.snmp-community",
            {**on("snmpd.service"), "servers": {"communities": [{"source": "x", "length": 9}]}},
            "fail",
        ),
        (
            "host.mail-users",
            {
                **on("sendmail.service"),
                "servers": {"mail": {"name": "sendmail", "settings": {"privacyoptions": "goaway"}}},
            },
            "pass",
        ),
        (
            "host.mail-commands",
            {
                **on("exim4.service"),
                "servers": {"mail": {"name": "exim", "settings": {"local_interfaces": "::1"}}},
            },
            "pass",
        ),
        (
            "host.ftp-banner",
            {
                **on("proftpd.service"),
                "servers": {
                    "files": {"name": "proftpd", "settings": {"serveride": "x", "serverident": "off"}}
                },
            },
            "pass",
        ),
        (
            "host.ftp-banner",
            {**on("proftpd.service"), "servers": {"files": {"name": "proftpd", "settings": {}}}},
            "fail",
        ),
        ("host.session-timeout", {"shell": {"timeout_s": 0, "umask": "0027", "path": []}}, "fail"),
        ("host.sudo-reuse", {"sudo": {"installed": True, "settings": {"timestamp_timeout": "0"}}}, "pass"),
        # the release
        ("release.last-operation", {"state": {**STATE, "last_outcome": ""}}, "fail"),
        ("release.models-intact", {"models_drift": {"hashed": 0, "sized": 0, "missing": ["/m"]}}, "fail"),
        ("release.models-intact", recorded("2026-10-24T00:00:00Z"), "pass"),
        ("release.models-intact", recorded("2026-10-23T00:00:00Z"), "unknown"),
        ("service.network-limits", {"units": [{**UNIT, "denies": ["0.0.0.0/0"]}]}, "fail"),
        ("audit.regular", {"state": STATE, "earlier_audits": ["2020-01-01T00:00:00Z"]}, "fail"),
        ("audit.regular", {"state": {**STATE, "broken": "line 2"}, "earlier_audits": []}, "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_else_decides(check: str, facts: Facts, wanted: str) -> None:
    assert status(check, facts) == wanted
