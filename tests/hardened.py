"""A server that follows grade S: the smallest release with the roles of host, firewall and gateway.

It also has the programs that administrators have (SSH, sudo, cron, audit), so that a fault that is planted
there has something to be planted in; another one has servers as well that must not run, stopped.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests import onsite
from tests.carried import Change, Workshop
from tests.closed_server.holding import run

if TYPE_CHECKING:
    from appliance.format import Grade
    from tests.closed_server import ClosedServer, NspawnServer, Snapshot

MANIFEST = "manifests/minimal.yaml"
PACKAGES = (
    "at", "auditd", "chrony", "cracklib-runtime", "cron", "kmod", "libpam-pwquality", "libpam-tmpdir",
    "logrotate", "netbase", "nftables", "nginx-light", "openssh-server", "openssl", "sudo", "usbguard",
)  # fmt: skip
ROLES = ("host", "firewall", "api", "gateway", "remedy")
#: Servers that this server must not have: put on it, stopped, where a fault is to be planted in one.
SERVERS = ("bind9", "clamav", "postfix", "samba", "snmpd", "vsftpd")
#: What a guest has beyond that: its kernel can confine programs and encrypt disks.
OF_A_GUEST = ("apparmor", "cryptsetup-bin")
#: What they start by themselves.
STOPPED = ("clamav-freshclam", "postfix", "named", "smbd", "nmbd", "samba-ad-dc", "snmpd", "vsftpd")
RELEASE = Change(
    "1.0.0",
    1,
    (
        (MANIFEST, r"(?m)^grade: O$", "grade: S"),
        (
            MANIFEST,
            r"(?m)^playbooks:\n  roles: \[api, remedy\]\n",
            f"packages: [{', '.join(PACKAGES)}]\n\nplaybooks:\n  roles: [{', '.join(ROLES)}]\n",
        ),
    ),
)
BUNDLE = f"minimal-{RELEASE.version}.tar"
SITE = """format: 1
variables:
  firewall_admin_networks: [10.1.0.0/16]
  firewall_site_networks: [10.0.0.0/8]
  host_ssh_groups: [sudo]
"""
#: What neither a role nor `audit --fix` does, because only a person knows that it is wanted.
SETTLED = r"""
set -e
# No release starts what administrators use.
systemctl enable --now --quiet ssh cron atd
# A fix changes nothing about who comes in.
printf '%s\n' 'KbdInteractiveAuthentication yes' \
  'AuthenticationMethods publickey,keyboard-interactive' > /etc/ssh/sshd_config.d/70-site.conf
systemctl restart ssh
# Records of logins, which a minimal Debian does not have yet.
touch /var/log/btmp /var/log/wtmp /var/log/lastlog
# What the installation left in the journal, and services that failed before they were settled.
rm -f /var/log/journal/*/*@*
systemctl reset-failed
"""
FIX = ("audit", "--grade", "S", "--format", "html", "--fix", "--yes")
#: Closer than the audit asks: Lynis does.
CLOSED = r"""
set -e
chmod 0600 /etc/crontab /etc/cron.allow /etc/at.allow /etc/at.deny /etc/ssh/sshd_config
chmod -R go= /etc/cron.d /etc/cron.hourly /etc/cron.daily /etc/cron.weekly /etc/cron.monthly
"""
ADDED = r"""
set -e
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 install /root/packages/*.deb > /dev/null
rm -r /usr/sbin/policy-rc.d /root/packages
"""
#: Reads and judges as the command does, without a report: for which grade, and "contents" where packages and
#: the journal are to be read whole.
_AUDIT = """
import json, sys
from appliance.audit.collect import Subject, collect
from appliance.audit.result import audit
from appliance.release import Server
from appliance.audit.site import read_rules
from appliance.session import Session
server = Server()
known = server.state.trust()
trust = Session(server, False, "en", None, print, print).trust() if known else None
facts = collect(Subject(server, trust, contents="all" if "contents" in sys.argv else "release"), "test")
found = audit(facts, sys.argv[1], read_rules())
print(json.dumps({one.id: [one.status, one.observed.en] for one in found.results}))
"""


def carry(folder: Path) -> Path:
    """Build the bundle, really, and return the stick that holds it."""
    workshop = Workshop(folder / "workshop")
    workshop.create_keys()
    stick = folder / "stick"
    workshop.build(RELEASE, stick)
    return stick


def install(server: NspawnServer) -> None:
    """Bring a server that shows the stick to grade S."""
    server.exec("mkdir", "-p", "/etc/banip")
    server.exec("sh", "-c", "cat > /etc/banip/site.yaml", stdin=SITE.encode())
    server.exec("cp", "/media/usb/appliance.pyz", onsite.PYZ)
    # SSH at work has this folder; without it the role's own check of its settings fails.
    server.exec("mkdir", "-p", "/run/sshd")
    onsite.by_pyz(server, "install", f"/media/usb/{BUNDLE}")
    server.exec("bash", "-c", SETTLED)
    mended = onsite.appliance(server, *FIX, check=False)
    assert mended.returncode == 3, mended.stderr  # the rest is a person's, and the tests name it
    server.exec("bash", "-c", CLOSED)


def audited(
    server: ClosedServer, grade: Grade = "S", *, contents: bool = False
) -> dict[str, tuple[str, str]]:
    """Audit as the installed command would; return status and observation by check."""
    python = server.exec("cat", "/var/lib/banip/current/bin/appliance").stdout
    python = python.partition("[ -x ")[2].partition(" ]")[0]
    words = ["contents"] if contents else []
    told = server.exec(python, "-I", "-c", _AUDIT, grade, *words).stdout
    found: dict[str, Any] = json.loads(told)
    return {name: (status, seen) for name, (status, seen) in found.items()}


def hardened(stick: Path) -> Snapshot:
    """Give a server with the release installed and what a person settles, stopped."""
    from tests.closed_server import closed_server  # noqa: PLC0415 - unit tests do without it

    with closed_server(media=stick) as server:
        install(server)
        return server.snapshot()


def settle_guest(guest: ClosedServer) -> None:
    """Let the role's files take effect that a container's kernel had no use for: switches, audit."""
    add_packages(guest, OF_A_GUEST)
    guest.exec(
        "sh", "-c", "sysctl --quiet --system; systemctl enable --quiet auditd; augenrules --load; true"
    )
    guest.exec("systemctl", "start", "auditd")
    guest.exec("systemctl", "reset-failed")
    # Slow once: nothing is in memory yet, and an emulated processor may need longer than systemctl waits.
    again = "for i in 1 2 3 4 5; do systemctl list-unit-files > /dev/null && exit; done; exit 1"
    guest.exec("sh", "-c", again)


def add_packages(server: ClosedServer, names: tuple[str, ...]) -> None:
    """Fetch packages, with what they need, here, where there is a network, and install them there."""
    with tempfile.TemporaryDirectory() as folder:
        status = Path(folder) / "status"
        status.write_text(server.exec("cat", "/var/lib/dpkg/status").stdout)
        packages = Path(folder) / "packages"
        (packages / "partial").mkdir(parents=True)
        options = {"Dir::State::status": status, "Dir::Cache::archives": packages, "Debug::NoLocking": 1}
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        wanted = ("--yes", "--no-install-recommends", "--download-only", "install", *names)
        run("apt-get", "-qq", *words, "-o", "APT::Sandbox::User=root", *wanted)
        server.copy_in(packages, "/root/packages")
    server.exec("bash", "-c", ADDED)


def add_servers(server: ClosedServer) -> None:
    """Put servers on it that must not run, and leave them stopped."""
    add_packages(server, SERVERS)
    for unit in STOPPED:
        server.exec("systemctl", "disable", "--now", "--quiet", unit, check=False)
    server.exec("systemctl", "reset-failed")
