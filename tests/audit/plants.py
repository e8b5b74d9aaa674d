"""Misconfigurations, one by one: how each is put onto a server that follows grade S, and taken off again.

``fails`` are the checks that must fail then, ``hides`` those that can only be unknown, ``passes`` those that
failed before and pass now. No other check may change its verdict. Lines run in ``bash -e``; what a line
leaves running it leaves to systemd.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from appliance.format import Grade

Place = Literal["server", "servers", "guest", "demo"]


@dataclass(frozen=True, slots=True)
class Plant:
    """A fault: shell that puts it there and takes it away, and the verdicts that it turns.

    ``place``: the server of grade S, one with more servers on it, a guest with a kernel of its own, or the
    demo's whole stack. ``contents``: the audit must read files of packages and the journal whole. ``grade``:
    for which the server is audited.
    """

    id: str
    put: str
    take: str
    fails: frozenset[str]
    hides: frozenset[str] = frozenset()
    passes: frozenset[str] = frozenset()
    place: Place = "server"
    contents: bool = False
    grade: Grade = "S"

    @property
    def judged(self) -> frozenset[str]:
        """Return the checks that come to another judgement: to fail, or from failing to pass."""
        return self.fails | self.passes

    @property
    def turned(self) -> dict[str, str]:
        """Return the verdicts after the fault, of the checks that it touches."""
        words = ((self.fails, "fail"), (self.hides, "unknown"), (self.passes, "pass"))
        return {name: word for names, word in words for name in names}


def plant(
    name: str,
    put: str,
    take: str,
    fails: str,
    *,
    hides: str = "",
    passes: str = "",
    place: Place = "server",
    contents: bool = False,
    grade: Grade = "S",
) -> Plant:
    """Make a row; names of checks stand in one string."""
    failing, hidden, passing = (frozenset(words.split()) for words in (fails, hides, passes))
    return Plant(name, put, take, failing, hidden, passing, place, contents, grade)


def mode(check: str, path: str, wrong: str, right: str, *more: str) -> Plant:
    """A file that is too open."""
    return plant(f"open-{check}", f"chmod {wrong} {path}", f"chmod {right} {path}", " ".join((check, *more)))


def put_file(
    name: str, path: str, content: str, fails: str, *, bits: str = "0644", passes: str = ""
) -> Plant:
    """A file that should not be there, or not like that."""
    return plant(
        name,
        f"mkdir -p $(dirname {path}); printf '%b' '{content}' > {path}; chmod {bits} {path}",
        f"rm -f {path}",
        fails,
        passes=passes,
    )


def edited(
    name: str,
    path: str,
    expression: str,
    fails: str,
    *,
    then: str = "true",
    hides: str = "",
    passes: str = "",
    grade: Grade = "S",
) -> Plant:
    """A file whose content is changed by sed, and given back."""
    kept = f"/root/kept-{name}"
    return plant(
        name,
        f"cp -p {path} {kept}; sed -i -E '{expression}' {path}; if cmp -s {path} {kept}; then exit 9; fi; {then}",
        f"cp -p {kept} {path}; rm {kept}; {then}",
        fails,
        hides=hides,
        passes=passes,
        grade=grade,
    )


def sshd(name: str, line: str, fails: str) -> Plant:
    """A line that comes before those of the site: the first one counts."""
    path = "/etc/ssh/sshd_config.d/00-planted.conf"
    return plant(name, f"echo '{line}' > {path}; sshd -t", f"rm {path}", fails)


def runs(unit: str, fails: str, *, hides: str = "", name: str = "") -> Plant:
    """A service of that name is at work, whatever it does."""
    return plant(
        name or f"runs-{unit}",
        f"systemd-run --quiet --unit={unit} sleep 3600",
        f"systemctl stop {unit}",
        fails,
        hides=hides,
    )


def drop_in(name: str, lines: str, fails: str) -> Plant:
    """A drop-in that changes what the role wrote for the API."""
    folder = "/run/systemd/system/banip-api.service.d"
    return plant(
        name,
        f"mkdir -p {folder}; printf '[Service]\\n{lines}\\n' > {folder}/x.conf; systemctl daemon-reload; {RESTART_API}",
        f"rm -r {folder}; systemctl daemon-reload; {RESTART_API}",
        f"service.unit-files {fails}",
    )


def gateway(name: str, expression: str, fails: str) -> Plant:
    """Another configuration of the gateway."""
    return edited(name, "/etc/banip/gateway.conf", expression, fails, then=RESTART_GATEWAY)


def person(name: str, put: str, fails: str, *, take: str = "true", grade: Grade = "S") -> Plant:
    """An account of somebody, with a password, changed in some way."""
    made = "useradd --create-home --shell /bin/bash kim; echo 'kim:Long-enough-4-all' | chpasswd"
    gone = (
        "userdel --force --remove kim 2>/dev/null || true; groupdel kim 2>/dev/null || true; rm -rf /home/kim"
    )
    return plant(name, f"{made}; {put}", f"{take}; {gone}", fails, grade=grade)


def journal(name: str, code: str, fails: str, *, hides: str = "", passes: str = "") -> Plant:
    """The operation log changed by code that has ``path`` and ``journal``, and given back."""
    path = "/var/lib/banip/state/journal"
    program = (
        "from pathlib import Path; from datetime import datetime, timezone;"
        " from appliance.journal import Journal;"
        f" path = Path('{path}'); journal = Journal(path, lambda: datetime.now(timezone.utc)); {code}"
    )
    return plant(
        name,
        f'cp -p {path} /root/kept-journal; {PYTHON} -I -c "{program}"',
        f"cp -p /root/kept-journal {path}",
        fails,
        hides=hides,
        passes=passes,
    )


def guide(name: str, expression: str, fails: str) -> Plant:
    """The demo's container, started with other options: changed by sed where systemd reads them."""
    folder = "/run/systemd/system/banip-guide.service.d"
    line = "grep ^ExecStart= /etc/systemd/system/banip-guide.service"
    again = "systemctl daemon-reload; systemctl restart banip-guide"
    return plant(
        name,
        f"mkdir -p {folder}; (echo '[Service]'; echo ExecStart=; {line} | sed -E '{expression}') > {folder}/x.conf;"
        f" if {line} | cmp -s - <(tail -n 1 {folder}/x.conf); then exit 9; fi; {again}",
        f"rm -r {folder}; {again}",
        f"service.unit-files {fails}",
        place="demo",
    )


def api(name: str, code: str, fails: str) -> Plant:
    """The demo's API with other code in it, which runs before it starts."""
    folder, program = "/run/systemd/system/banip-api.service.d", "/run/banip-planted.py"
    start = "import runpy; runpy.run_module('appliance.rag', run_name='__main__', alter_sys=True)"
    return plant(
        name,
        f"cat > {program} <<'END'\n{code}\n{start}\nEND\nmkdir -p {folder}; (echo '[Service]'; echo ExecStart=;"
        " grep ^ExecStart= /etc/systemd/system/banip-api.service"
        f' | sed "s#-m appliance.rag#-c \\"exec(open(\'{program}\').read())\\"#") > {folder}/x.conf;'
        f" systemctl daemon-reload; {RESTART_API}",
        f"rm -r {folder} {program}; systemctl daemon-reload; {RESTART_API}",
        f"service.unit-files {fails}",
        place="demo",
    )


PYTHON = "$(sed -n 's/.*\\[ -x \\([^ ]*\\) \\].*/\\1/p' /var/lib/banip/current/bin/appliance | head -1)"
WAIT_API = (
    "for i in $(seq 300); do python3 -c \"import urllib.request as u; u.urlopen('http://127.0.0.1:8600/health')\""
    " 2>/dev/null && break; sleep 0.1; done"
)
RESTART_API = f"systemctl reset-failed banip-api; systemctl restart banip-api; {WAIT_API}"
RESTART_GATEWAY = "systemctl reset-failed banip-gateway; systemctl restart banip-gateway; sleep 0.3"
USB = "modprobe xhci-pci; sleep 2"
NO_USB = "modprobe --remove xhci-pci"
PODMAN = "podman --root /var/lib/banip/containers --runroot /run/banip-containers"
RELEASE = "/var/lib/banip/releases/minimal-1.0.0-c1"
API_DATA = "/var/lib/banip/data/api"
DOCUMENTS = f"{API_DATA}/collection/documents"
SECRETS = "/var/lib/banip/secrets"
LOGIN_DEFS = "/etc/login.defs"
#: What can be judged only where the release is proof.
OF_THE_RELEASE = (
    "access.clearances clock.plausible container.image-digests container.isolation container.privileges"
    " data.graded host.foreign-programs network.firewall-openings network.listeners"
    " release.bill-of-materials release.environments-intact release.files-intact release.grade"
    " release.health release.models-intact release.not-behind release.not-expired"
    " release.packages-installed release.threshold release.way-back service.running"
    " service.undeclared-units"
)

_USERS = (
    '{{"format": 1, "users": [{{"name": "kim", "sha256": "{digest}", "grade": "{grade}", "role": "{role}",'
    ' "created": "{created}", "disabled": false}}]}}'
)


def users(
    name: str, fails: str, *, grade: str = "S", role: str = "user", created: str = "2026-11-01T00:00:00Z"
) -> Plant:
    """A key of the API that should not be as it is."""
    content = _USERS.format(digest="0" * 64, grade=grade, role=role, created=created)
    path = f"{API_DATA}/users.json"
    return plant(
        name, f"echo '{content}' > {path}; chown banip-api {path}; chmod 600 {path}", f"rm {path}", fails
    )


_APPROVED = "approver: a, ticket: t, date: $(date +%F), expires: $(date -d '+1 year' +%F)"
REGISTERS = "/etc/banip/audit/registers.yaml"
EVIDENCE = "/etc/banip/audit/evidence"
#: Of the newest sealed audit.
_RECORD = "$(ls -d /var/log/banip/audit/*/record.json | tail -n 1)"
_PAPER = "{file: paper.txt, sha256: $(printf paper | sha256sum | cut -c1-64)}"
#: Registers by name: their members, in shell; what is empty approves nothing.
_NOTHING = {
    "accounts": "people: []",
    "keys": "users: []",
    "programs": "paths: []",
    "network": f"networks: [192.0.2.1/32], ways_in: [], ways_out: [], plan: {_PAPER}",
    "documents": "documents: []",
    "reviews": f"reviewers: [a], rule: {_PAPER}, reviews: []",
    "commands": f"rule: {_PAPER}, approvals: []",
    "emergency": f"plan: {_PAPER}, rehearsals: []",
}
_ANYWHERE = "[0.0.0.0/0, fc00::/7]"
_EVERYTHING = _NOTHING | {
    "accounts": "people: [$(getent passwd | cut -d: -f1 | xargs printf '{name: %s, holder: x, administrator: true},')]",
    "keys": "users: [{name: kim, holder: x, grade: S, role: user}]",
    "programs": "paths: [$(find / -xdev -type f -perm /6000 | paste -sd,)]",
    "network": f"networks: {_ANYWHERE}, ways_in: [$(echo 22 80 123 443 514 8443 | xargs -n1 printf '{{port: %s, peers: {_ANYWHERE}}},')],"
    f" ways_out: [$(echo 22 80 123 443 514 8443 | xargs -n1 printf '{{port: %s, peers: {_ANYWHERE}}},')], plan: {_PAPER}",
    "documents": "documents: [{sha256: $(printf hello | sha256sum | cut -c1-64), grade: S}]",
    "commands": f'rule: {_PAPER}, approvals: [$(python3 -c "import datetime, json;'
    " [print('{command:', one['event'] + ', date:', str((datetime.datetime.fromisoformat(one['at'].replace('Z', '+00:00'))"
    " + datetime.timedelta(hours=9)).date()) + ', approver: a, ticket: t},')"
    " for one in map(json.loads, open('/var/lib/banip/state/journal'))]\")]",
    "reviews": f"reviewers: [a], rule: {_PAPER}, reviews: [{{date: $(date +%F), by: a, finding: nothing,"
    f" number: $(grep -oP '\"number\": *\\K[0-9]+' {_RECORD}), head: $(sha256sum {_RECORD} | cut -c1-64)}}]",
    "emergency": f"plan: {_PAPER}, rehearsals: [{{date: $(date +%F), by: a, here: false, record: {_PAPER}}}]",
}
_SOMETHING_HERE = (
    f"mkdir -p {EVIDENCE} {DOCUMENTS}; printf paper > {EVIDENCE}/paper.txt;"
    f" printf hello > {DOCUMENTS}/$(printf hello | sha256sum | cut -c1-64); printf"
    ' \'{"document": "x", "grade": "S", "ingested_at": "2026-11-01", "name": "x", "size_bytes": 5}\' >'
    f" {DOCUMENTS}/$(printf hello | sha256sum | cut -c1-64).json;"
    f" echo '{_USERS.format(digest='0' * 64, grade='S', role='user', created='2026-11-01T00:00:00Z')}'"
    f" > {API_DATA}/users.json; chown banip-api {API_DATA}/users.json; chmod 600 {API_DATA}/users.json"
)


#: A line more in the operation log.
_LINE = (
    "from pathlib import Path; from datetime import datetime, timezone; from appliance.journal import Journal;"
    " Journal(Path('/var/lib/banip/state/journal'), lambda: datetime.now(timezone.utc)).append('{event}')"
)


def registers(
    name: str,
    entered: dict[str, str],
    fails: str,
    *,
    passes: str = "",
    first: str = "true",
    then: str = "true",
) -> Plant:
    """Registers of the institution, on a server with a key of the API and a document."""
    lines = "\n".join(f"{one}: {{{_APPROVED}, {members}}}" for one, members in entered.items())
    return plant(
        name,
        f"{first}; {_SOMETHING_HERE}; cat > {REGISTERS} <<END\nformat: 1\n{lines}\nEND",
        f"rm -r {REGISTERS} {EVIDENCE} {API_DATA}/users.json {API_DATA}/collection; {then}",
        fails,
        passes=passes,
    )


#: Tells the kernel that its clock is in step (0), or is not (STA_UNSYNC, 0x40): adjtimex(2) on x86_64.
_ADJTIMEX = (
    "import ctypes, struct;"
    ' words = ctypes.create_string_buffer(struct.pack("<I4xqqqqi4x", 0x1C, 0, 0, {error}, {error}, {status}), 512);'
    " ctypes.CDLL(None).adjtimex(words)"
)

PLANTS: tuple[Plant, ...] = (
    # --- Files that are too open
    mode("host.passwd-permissions", "/etc/passwd", "664", "644"),
    mode("host.shadow-permissions", "/etc/shadow", "640", "400"),
    mode("host.hosts-permissions", "/etc/hosts", "664", "644"),
    mode("host.services-permissions", "/etc/services", "664", "644"),
    mode("host.environment-files", "/etc/profile", "664", "644"),
    mode("host.sudoers-permissions", "/etc/sudoers", "644", "440"),
    mode("host.cron-permissions", "/etc/crontab", "644", "640"),
    mode("host.startup-permissions", "/etc/init.d/cron", "775", "755"),
    mode("host.login-configuration", "/etc/pam.d/su", "664", "644"),
    mode("host.path-folders", "/usr/local/bin", "775", "755"),
    mode("host.log-permissions", "/var/log/dpkg.log", "664", "644"),
    mode("host.ssh-host-keys", "/etc/ssh/ssh_host_ed25519_key", "644", "600", "keys.private-keys-closed"),
    mode("keys.state-private", "/var/lib/banip/state", "755", "700"),
    mode("keys.secrets-private", f"{SECRETS}/gateway/key.pem", "644", "600"),
    mode("keys.authority", f"{SECRETS}/authority/key.pem", "640", "600"),
    mode("log.audit-private", "/etc/audit/auditd.conf", "644", "640"),
    mode("data.private", API_DATA, "755", "750"),
    put_file("inetd", "/etc/inetd.conf", "", "host.inetd-permissions"),
    put_file("closed-inetd", "/etc/inetd.conf", "", "", bits="0600", passes="host.inetd-permissions"),
    put_file("hosts-lpd", "/etc/hosts.lpd", "", "host.hosts-lpd-permissions"),
    put_file("closed-hosts-lpd", "/etc/hosts.lpd", "", "", bits="0600", passes="host.hosts-lpd-permissions"),
    put_file("syslog-conf", "/etc/syslog.conf", "", "host.log-configuration-permissions"),
    put_file(
        "closed-syslog-conf",
        "/etc/syslog.conf",
        "",
        "",
        bits="0640",
        passes="host.log-configuration-permissions",
    ),
    put_file("grub", "/boot/grub/grub.cfg", "", "host.boot-loader"),
    put_file("closed-grub", "/boot/grub/grub.cfg", "", "", bits="0600", passes="host.boot-loader"),
    put_file("rhosts", "/root/.rhosts", "", "host.trust-files"),
    put_file("world-writable", "/var/open", "", "host.world-writable-files", bits="666"),
    plant("unowned", "touch /srv/a; chown 4242 /srv/a", "rm /srv/a", "host.unowned-files"),
    plant("no-group", "touch /srv/a; chgrp 4242 /srv/a", "rm /srv/a", "host.unowned-files"),
    plant("set-user-id", "cp /bin/cat /srv/cat; chmod 4755 /srv/cat", "rm /srv/cat", "host.privileged-files"),
    put_file("plain-file-among-devices", "/dev/notes", "hello", "host.device-files"),
    plant("disguised", "mkdir '/usr/lib/...'", "rmdir '/usr/lib/...'", "host.hidden-files"),
    put_file("preload", "/etc/ld.so.preload", "", "host.no-preload host.foreign-programs"),
    put_file("foreign-program", "/usr/local/bin/helper", "#!/bin/sh\\n", "host.foreign-programs", bits="755"),
    put_file("foreign-cron", "/etc/cron.d/beacon", "# nothing\\n", "host.foreign-programs", bits="640"),
    plant(
        "open-private-key",
        "openssl genpkey -quiet -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out /etc/site.key; chmod 644 /etc/site.key",
        "rm /etc/site.key",
        "keys.private-keys-closed",
    ),
    plant("cron-for-all", "mv /etc/cron.allow /root/", "mv /root/cron.allow /etc/", "host.cron-users"),
    plant(
        "logins-not-recorded",
        "mv /var/log/btmp /root/",
        "mv /root/btmp /var/log/",
        "host.login-records",
        hides="host.failed-logins",
    ),
    # --- Accounts
    plant(
        "second-root",
        "useradd --no-create-home --home /root --non-unique --uid 0 toor",
        "sed -i /^toor:/d /etc/passwd /etc/shadow /etc/group /etc/gshadow",
        "host.only-root-has-uid-0 host.unique-uids",
    ),
    person("empty-password", "passwd --quiet --delete kim", "host.no-empty-password"),
    person(
        "hash-in-passwd",
        "sed -i -E 's|^kim:x:|kim:$6$salt$hash:|' /etc/passwd",
        "host.shadow-passwords",
    ),
    person("old-password", "chage --lastday 2026-01-01 kim", "host.unused-accounts"),
    person("password-for-ever", "chage --maxdays 99999 kim", "host.password-age"),
    person(
        "group-of-nobody", "sed -i -E 's/^(kim:x:[0-9]+):[0-9]+:/\\1:4242:/' /etc/passwd", "host.groups-exist"
    ),
    person("home-of-another", "chown daemon /home/kim", "host.homes"),
    person("start-up-file", "chmod 664 /home/kim/.profile", "host.start-up-files-of-users"),
    person(
        "guessing",
        "python3 -c \"import struct, time; row = struct.pack('<hxxi32s4s32s256shhiii4i20x', 6, 1, b'ssh:notty', b'', b'kim',"
        " b'10.0.0.9', 0, 0, 0, int(time.time()), 0, 0, 0, 0, 0); open('/var/log/btmp', 'ab').write(row * 40)\"",
        "host.failed-logins",
        take=": > /var/log/btmp",
    ),
    plant(
        "three-administrators",
        "for one in kim lee park; do useradd --no-create-home --home / $one; usermod -aG sudo $one; done",
        "for one in kim lee park; do userdel --force $one; done",
        "host.administrators",
    ),
    plant(
        "service-with-a-shell",
        "usermod --shell /bin/bash games",
        "usermod --shell /usr/sbin/nologin games",
        "host.service-accounts-cannot-log-in host.unused-accounts",
    ),
    plant(
        "ftp-with-a-shell",
        "useradd --system --no-create-home --home / --shell /bin/sh ftp",
        "userdel ftp",
        "host.ftp-account-shell host.service-accounts-cannot-log-in",
    ),
    edited("max-days", LOGIN_DEFS, "s/^PASS_MAX_DAYS.*/PASS_MAX_DAYS 99999/", "host.password-age"),
    edited("min-days", LOGIN_DEFS, "s/^PASS_MIN_DAYS.*/PASS_MIN_DAYS 0/", "host.password-minimum-age"),
    edited("weak-hash", LOGIN_DEFS, "s/^ENCRYPT_METHOD.*/ENCRYPT_METHOD MD5/", "host.password-hash"),
    edited("relative-path", LOGIN_DEFS, "s/^(ENV_SUPATH\\s+PATH=)/\\1.:/", "host.root-path"),
    edited(
        "short-passwords",
        "/etc/security/pwquality.conf.d/banip.conf",
        "s/^minlen.*/minlen = 6/",
        "host.password-quality",
    ),
    edited(
        "simple-passwords",
        "/etc/security/pwquality.conf.d/banip.conf",
        "s/^minclass.*/minclass = 1/",
        "host.password-complexity",
    ),
    edited("forgotten-passwords", "/etc/pam.d/common-password", "s/ remember=5//", "host.password-history"),
    edited("late-lock", "/etc/pam.d/common-auth", "s/deny=5/deny=50/", "host.account-lockout"),
    edited(
        "short-lock", "/etc/pam.d/common-auth", "s/unlock_time=900/unlock_time=5/", "host.lockout-duration"
    ),
    edited("su-for-all", "/etc/pam.d/su", "s/^auth( .*pam_wheel)/#auth\\1/", "host.su-restricted"),
    edited("last-login-hidden", "/etc/pam.d/login", "/pam_lastlog/d", "host.last-login-shown"),
    edited("open-umask", "/etc/profile", "$aumask 0000", "host.umask"),
    edited("long-sessions", "/etc/profile.d/banip.sh", "s/TMOUT=300/TMOUT=3600/", "host.session-timeout"),
    edited("telling-banner", "/etc/issue", "1s/.*/Debian GNU\\/Linux 12/", "host.login-banner"),
    edited(
        "failed-logins-told",
        "/etc/pam.d/login",
        "s/^(session.*pam_lastlog\\.so.*)/\\1 showfailed/",
        "",
        passes="host.failed-logins-shown",
        grade="C",
    ),
    person("account-that-never-closes", "true", "host.idle-accounts-lock", grade="C"),
    plant(
        "account-of-a-team",
        "useradd --no-create-home --home / --shell /bin/bash team",
        "userdel team",
        "host.personal-accounts",
        grade="C",
    ),
    # --- SSH, sudo, consoles
    sshd("ssh-root", "PermitRootLogin yes", "host.root-remote-login"),
    sshd("ssh-idle", "ClientAliveInterval 0", "host.ssh-session"),
    sshd("ssh-empty", "PermitEmptyPasswords yes", "host.ssh-empty-passwords"),
    sshd("ssh-tries", "MaxAuthTries 20", "host.ssh-attempts"),
    sshd("ssh-forwards", "AllowTcpForwarding yes", "host.ssh-forwarding"),
    sshd("ssh-trusts", "IgnoreRhosts no", "host.ssh-trust"),
    sshd("ssh-sha1", "MACs hmac-sha1", "host.ssh-algorithms"),
    sshd("ssh-quiet", "LogLevel QUIET", "host.ssh-log"),
    sshd("ssh-one-factor", "AuthenticationMethods publickey", "host.ssh-two-factors"),
    sshd("ssh-no-banner", "Banner none", "host.ssh-banner"),
    sshd("ssh-no-last-login", "PrintLastLog no", "host.last-login-shown"),
    plant(
        "weak-key",
        "mkdir -p /root/.ssh; ssh-keygen -q -t rsa -b 1024 -N '' -f /root/weak; mv /root/weak.pub /root/.ssh/authorized_keys",
        "rm -r /root/.ssh /root/weak",
        "host.ssh-authorized-keys",
    ),
    put_file(
        "sudo-without-password",
        "/etc/sudoers.d/planted",
        "kim ALL=(ALL) NOPASSWD: ALL\\n",
        "host.sudo-rules",
        bits="440",
    ),
    put_file(
        "sudo-long", "/etc/sudoers.d/zz", "Defaults timestamp_timeout=60\\n", "host.sudo-reuse", bits="440"
    ),
    put_file("sudo-unlogged", "/etc/sudoers.d/zz", "Defaults !syslog\\n", "host.sudo-log", bits="440"),
    plant(
        "automatic-console",
        "mkdir -p /run/systemd/system/console-getty.service.d; printf '[Service]\\nExecStart=\\nExecStart=-/sbin/agetty"
        " --autologin root - linux\\n' > /run/systemd/system/console-getty.service.d/x.conf; systemctl daemon-reload",
        "rm -r /run/systemd/system/console-getty.service.d; systemctl daemon-reload",
        "host.console-login",
    ),
    plant(
        "serial-line",
        "printf '[Service]\\nExecStart=/bin/sleep 3600\\n' > /run/systemd/system/serial-getty@ttyS9.service;"
        " systemctl daemon-reload; systemctl start serial-getty@ttyS9",
        "systemctl stop serial-getty@ttyS9; rm /run/systemd/system/serial-getty@ttyS9.service; systemctl daemon-reload",
        "host.serial-consoles",
    ),
    plant(
        "session-goes-on",
        "mv /etc/systemd/logind.conf.d/zz-banip-remedy.conf /root/",
        "mv /root/zz-banip-remedy.conf /etc/systemd/logind.conf.d/",
        "host.session-ends",
    ),
    # --- Services that must not run
    runs("finger", "host.no-finger"),
    runs("smbd", "host.no-anonymous-share"),
    runs("rlogin", "host.no-r-services"),
    runs("chargen", "host.no-simple-services"),
    runs("nfs-server", "host.no-nfs"),
    runs("autofs", "host.no-automount"),
    runs("rpcbind", "host.no-rpc"),
    runs("ypserv", "host.no-nis"),
    runs("tftpd-hpa", "host.no-tftp-talk"),
    runs("inetutils-telnetd", "host.no-telnet"),
    runs("opensmtpd", "host.no-mail-server", hides="host.mail-commands host.mail-relay host.mail-users"),
    runs("pdns", "host.no-dns-server", hides="host.dns-transfer host.dns-updates"),
    runs("proftpd", "host.no-ftp host.ftp-users", hides="host.ftp-access host.ftp-banner host.ftp-encrypted"),
    runs("snmptrapd", "host.no-snmp"),
    runs("openvpn", "network.no-tunnels"),
    put_file("exports", "/etc/exports", "/srv *(rw,no_root_squash)\\n", "host.nfs-exports"),
    put_file("narrow-exports", "/etc/exports", "/srv 10.0.0.5(ro,sync)\\n", "", passes="host.nfs-exports"),
    plant(
        "failed-unit",
        "systemd-run --quiet --unit=planted false; sleep 0.5",
        "systemctl reset-failed planted",
        "service.none-failed",
    ),
    plant(
        "updates-itself",
        "systemctl unmask --quiet apt-daily.timer; systemctl start apt-daily.timer",
        "systemctl stop apt-daily.timer; systemctl mask --quiet apt-daily.timer",
        "host.no-self-update",
    ),
    # --- The same with the real programs, badly configured and well
    plant(
        "open-relay",
        "postconf -e mynetworks=0.0.0.0/0; systemctl start postfix; sleep 1",
        "systemctl stop postfix; postconf -e mynetworks=127.0.0.0/8",
        "host.no-mail-server host.mail-relay host.mail-commands host.mail-users network.listeners"
        " network.exposed-ports",
        place="servers",
    ),
    plant(
        "closed-mail-server",
        "postconf -e inet_interfaces=loopback-only disable_vrfy_command=yes authorized_submit_users=root;"
        " systemctl start postfix; sleep 1",
        "systemctl stop postfix; postconf -e inet_interfaces=all; postconf -X disable_vrfy_command"
        " authorized_submit_users",
        "host.no-mail-server network.listeners",
        place="servers",
    ),
    plant(
        "open-name-server",
        'printf \'zone "x.test" { type master; file "/etc/bind/db.empty"; allow-update { any; }; };\\n\''
        " > /etc/bind/named.conf.local; systemctl start named; sleep 1",
        "systemctl stop named; printf '//\\n' > /etc/bind/named.conf.local; nft flush set inet banip attempts4;"
        " nft flush set inet banip attempts6",
        "host.no-dns-server host.dns-transfer host.dns-updates network.listeners network.exposed-ports"
        " network.egress-attempts",
        place="servers",
    ),
    plant(
        "open-ftp",
        "cp -p /etc/vsftpd.conf /root/; sed -i s/anonymous_enable=NO/anonymous_enable=YES/ /etc/vsftpd.conf;"
        " systemctl start vsftpd; sleep 0.5",
        "systemctl stop vsftpd; mv -f /root/vsftpd.conf /etc/",
        "host.no-ftp host.ftp-access host.ftp-banner host.ftp-encrypted host.ftp-users host.share-guests"
        " network.listeners network.exposed-ports",
        place="servers",
    ),
    plant(
        "open-monitoring",
        "systemctl start snmpd; sleep 0.5",
        "systemctl stop snmpd",
        "host.no-snmp host.snmp-version host.snmp-community host.snmp-access network.listeners",
        place="servers",
    ),
    plant(
        "open-shares",
        "systemctl start smbd; sleep 1",
        "systemctl stop smbd",
        "host.no-anonymous-share host.share-guests network.listeners network.exposed-ports",
        place="servers",
    ),
    # A real ClamAV; its signatures are only the head of a file, of which it asks no more to tell their date.
    plant(
        "scanner-of-today",
        "printf '%-512s' \"ClamAV-VDB:$(date -u '+%d %b %Y %H-%M +0000'):27000:2000000:90:X:X:planted:$(date +%s)\""
        " > /var/lib/clamav/daily.cvd; systemd-run --quiet --unit=clamav-daemon sleep 3600",
        "systemctl stop clamav-daemon; rm /var/lib/clamav/daily.cvd",
        "",
        passes="host.malware-scanner",
        place="servers",
    ),
    # --- Packages
    put_file(
        "unsigned-source",
        "/etc/apt/sources.list.d/x.list",
        "deb [trusted=yes] file:/srv ./\\n",
        "host.package-sources",
    ),
    plant(
        "debugger",
        "mkdir -p /root/p/DEBIAN; printf 'Package: gdb\\nVersion: 1\\nArchitecture: all\\nMaintainer: x\\nDescription: x\\n'"
        " > /root/p/DEBIAN/control; dpkg-deb -b /root/p /root/p.deb >/dev/null; dpkg -i /root/p.deb >/dev/null",
        "dpkg -P gdb >/dev/null; rm -r /root/p /root/p.deb",
        "host.no-development",
    ),
    plant(
        "package-gone",
        "dpkg --remove at >/dev/null 2>&1",
        f"dpkg -i {RELEASE}/packages/at_*.deb >/dev/null 2>&1; systemctl enable --now --quiet atd; chmod 640 /etc/at.allow",
        "release.packages-installed",
    ),
    plant(
        "changed-program",
        "cp -p /usr/bin/whoami /root/; echo >> /usr/bin/whoami",
        "mv -f /root/whoami /usr/bin/whoami",
        "host.package-files",
        contents=True,
    ),
    runs("clamav-daemon", "", hides="host.malware-scanner", name="scanner-of-unknown-age"),
    # --- Storage
    plant("loose-tmp", "mount -t tmpfs tmpfs /tmp", "umount /tmp", "host.shared-folders"),
    plant(
        "loose-medium",
        "mkdir -p /media/stick; mount -t tmpfs tmpfs /media/stick",
        "umount /media/stick; rmdir /media/stick",
        "device.media-mounts",
    ),
    plant(
        "full-disk",
        "mkdir /srv/full; mount -t tmpfs -o size=200k tmpfs /srv/full; head -c 196k /dev/zero > /srv/full/x",
        "umount /srv/full; rmdir /srv/full",
        "host.disk-space",
    ),
    plant(
        "core-dumps",
        "mv /etc/systemd/system.conf.d/zz-banip-remedy-core-dumps.conf /root/; systemctl daemon-reexec",
        "mv /root/zz-banip-remedy-core-dumps.conf /etc/systemd/system.conf.d/; systemctl daemon-reexec",
        "host.core-dumps",
    ),
    # --- The network
    plant(
        "undeclared-listener",
        "systemd-run --quiet --unit=port python3 -m http.server 9999 --bind 127.0.0.1; sleep 1",
        "systemctl stop port",
        "network.listeners",
    ),
    plant(
        "exposed-listener",
        "systemd-run --quiet --unit=port python3 -m http.server 9998 --bind 0.0.0.0; sleep 1",
        "systemctl stop port",
        "network.listeners network.exposed-ports",
    ),
    plant(
        "open-firewall",
        "nft 'chain inet banip input { policy accept; }'",
        "nft 'chain inet banip input { policy drop; }'",
        "network.firewall-default-deny network.ssh-from-named-networks",
    ),
    plant(
        "firewall-not-at-boot",
        "systemctl disable --quiet banip-firewall",
        "systemctl enable --quiet banip-firewall",
        "network.firewall-at-boot",
    ),
    plant(
        "way-in-for-all",
        "nft add rule inet banip input tcp dport 8080 accept",
        "systemctl reload banip-firewall",
        "network.firewall-openings",
    ),
    plant(
        "ssh-from-everywhere",
        "nft add rule inet banip input tcp dport 22 accept",
        "systemctl reload banip-firewall",
        "network.firewall-openings network.ssh-from-named-networks",
    ),
    plant(
        "silent-refusals",
        "nft delete rule inet banip output handle $(nft -a list chain inet banip output | sed -n 's/.*log prefix.*handle //p')",
        "systemctl reload banip-firewall",
        "network.refusals-logged",
    ),
    plant(
        "tried-to-leave",
        "python3 -c \"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('203.0.113.9', 53))\" || true",
        "nft flush set inet banip attempts4",
        "network.egress-attempts",
    ),
    plant(
        "tries-to-leave",
        "systemd-run --quiet --unit=leaving python3 -c \"import socket; socket.create_connection(('203.0.113.9', 443), 600)\";"
        " sleep 0.5",
        "systemctl stop leaving; nft flush set inet banip attempts4",
        "network.egress-attempts network.no-outside-connections",
    ),
    plant(
        "two-ways-out",
        "ip link add v0 type veth peer name v1; ip address add 10.9.0.1/24 dev v0; ip link set v0 up; ip link set v1 up;"
        " ip route add default via 10.9.0.2 dev v0 metric 900",
        "ip link delete v0",
        "network.one-way-out",
    ),
    plant(
        "name-server-outside",
        "cp -p /etc/resolv.conf /root/; echo nameserver 9.9.9.9 >> /etc/resolv.conf",
        "cat /root/resolv.conf > /etc/resolv.conf; rm /root/resolv.conf",
        "network.name-servers",
    ),
    # --- The gateway
    gateway(
        "old-tls",
        "s/ssl_protocols .*/ssl_protocols TLSv1.1 TLSv1.2;/; s/ssl_ciphers .*/ssl_ciphers ALL:@SECLEVEL=0;/",
        "tls.protocols tls.ciphers",
    ),
    plant(
        "self-signed",
        f"cp -p {SECRETS}/gateway/certificate.pem /root/; openssl req -x509 -new -sha256 -key {SECRETS}/gateway/key.pem -days 5"
        f" -subj /CN=x -out {SECRETS}/gateway/certificate.pem; {RESTART_GATEWAY}",
        f"mv -f /root/certificate.pem {SECRETS}/gateway/certificate.pem; {RESTART_GATEWAY}",
        "tls.certificate",
    ),
    gateway("no-hsts", '/Strict-Transport-Security "/d', "web.headers"),
    gateway("version-told", "s/server_tokens off/server_tokens on/", "web.server-name web.error-pages"),
    gateway(
        "propfind", "s/(server_name _;)/\\1 if ($request_method = PROPFIND) { return 200; }/", "web.methods"
    ),
    gateway("metrics-open", "s/return 404;/return 200;/", "web.measurements-closed"),
    gateway("plain-answered", "s/(server_name _;)/\\1 error_page 497 =200 \\/;/", "web.only-encrypted"),
    gateway("bodies-of-any-size", "s/client_max_body_size .*/client_max_body_size 0;/", "web.upload-limit"),
    gateway("files-served", "s/(server_name _;)/\\1\\n autoindex on;/", "web.serves-no-files"),
    gateway("scripts-run", "s/(server_name _;)/\\1\\n ssi on;/", "web.runs-no-scripts web.serves-no-files"),
    gateway(
        "passes-elsewhere",
        "s/(server unix:[^;]*;)/\\1\\n server 203.0.113.9:80 backup;/",
        "web.passes-to-this-server",
    ),
    gateway("unlimited-rate", "s/rate=600r/rate=60000r/", "web.rate-limit"),
    gateway(
        "documents-for-all",
        "s/(server_name _;)/\\1 location = \\/v1\\/documents { return 200; }/",
        "web.documents-need-a-key",
    ),
    # --- What people put in
    users("clearance-above-the-server", "access.clearances", grade="C"),
    users("old-key", "access.key-age", created="2024-01-01T00:00:00Z"),
    plant(
        "many-administrators",
        f"python3 -c \"import json; print(json.dumps(dict(format=1, users=[dict(name=n, sha256='0'*64, grade='S', role='admin',"
        f" created='2026-11-01T00:00:00Z', disabled=False) for n in 'abcd'])))\" > {API_DATA}/users.json;"
        f" chmod 600 {API_DATA}/users.json",
        f"rm {API_DATA}/users.json",
        "access.few-administrators",
    ),
    plant(
        "document-above-the-server",
        f"mkdir -p {DOCUMENTS}; printf hello > {DOCUMENTS}/$(printf hello | sha256sum | cut -c1-64); printf"
        ' \'{"document": "x", "grade": "C", "ingested_at": "2026-11-01", "name": "x", "size_bytes": 5}\' >'
        f" {DOCUMENTS}/$(printf hello | sha256sum | cut -c1-64).json",
        f"rm -r {API_DATA}/collection",
        "data.graded",
    ),
    plant(
        "document-without-a-record",
        f"mkdir -p {DOCUMENTS}; printf hello > {DOCUMENTS}/$(printf hello | sha256sum | cut -c1-64)",
        f"rm -r {API_DATA}/collection",
        "data.described data.graded",
    ),
    plant(
        "changed-document",
        f'mkdir -p {DOCUMENTS}; printf other > {DOCUMENTS}/{"a" * 64}; printf \'{{"document": "x", "grade": "S",'
        f' "ingested_at": "2026-11-01", "name": "x", "size_bytes": 5}}\' > {DOCUMENTS}/{"a" * 64}.json',
        f"rm -r {API_DATA}/collection",
        "data.unchanged",
    ),
    plant(
        "changed-audit",
        f"cp -p {_RECORD} /root/kept-record; sed -i s/score/scare/ {_RECORD}; ! cmp -s {_RECORD} /root/kept-record",
        f"cp -p /root/kept-record {_RECORD}; rm /root/kept-record",
        "audit.chain",
    ),
    # --- What the institution approved
    registers(
        "nothing-approved",
        _NOTHING,
        "access.approved-keys data.approved-grades host.approved-accounts host.approved-administrators"
        " host.approved-programs log.approved-commands log.reviewed network.approved-networks"
        " network.approved-ways release.rehearsed",
        first="useradd --no-create-home --home / --shell /bin/bash --groups sudo stranger;"
        " cp -p /var/lib/banip/state/journal /root/kept-journal;"
        f' {PYTHON} -I -c "{_LINE.format(event="fix-applied")}"',
        then="userdel --force stranger; cp -p /root/kept-journal /var/lib/banip/state/journal",
    ),
    registers(
        "everything-approved",
        _EVERYTHING,
        "",
        passes="access.approved-keys data.approved-grades host.approved-accounts host.approved-administrators"
        " host.approved-programs log.approved-commands log.reviewed network.approved-networks"
        " network.approved-ways release.rehearsed",
    ),
    # --- Banip's units
    plant(
        "stopped-api",
        "systemctl stop banip-api",
        f"systemctl start banip-api; {WAIT_API}",
        "service.running release.health",
    ),
    drop_in("drop-in", "Nice=1", ""),
    drop_in("secret-in-unit", "Environment=HF_TOKEN=x", "service.no-secrets-in-units"),
    drop_in("api-may-leave", "IPAddressDeny=", "service.network-limits"),
    drop_in("api-as-gateway", "User=banip-gateway\\nUMask=0022", "service.separate-accounts"),
    drop_in("api-as-root", "User=root\\nGroup=root", "service.own-accounts"),
    drop_in(
        "api-open",
        "ProtectSystem=no\\nProtectHome=no\\nPrivateTmp=no\\nCapabilityBoundingSet=~\\nSystemCallFilter=\\nNoNewPrivileges=no",
        "service.hardening",
    ),
    plant(
        "stranger",
        "systemd-run --quiet --unit=banip-stranger --uid=nobody sleep 3600",
        "systemctl stop banip-stranger",
        "service.undeclared-units service.hardening service.network-limits service.unit-files",
    ),
    plant(
        "restless-api",
        "for i in 1 2 3 4; do systemctl kill --signal=KILL banip-api; sleep 2.6; done; " + WAIT_API,
        RESTART_API,
        "service.steady",
    ),
    # A table that a process owns, as firewalld does: of such a one nft's whole answer may be no JSON.
    plant(
        "firewall-of-another",
        "systemd-run --quiet --unit=theirs sh -c '(echo \"table inet theirs { flags owner; chain forward"
        " { type filter hook forward priority 10; }; }\"; exec sleep 900) | nft -i'; sleep 1;"
        " nft list chain inet theirs forward >/dev/null",
        "systemctl stop theirs",
        "",
    ),
    plant(
        "engine-socket",
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('/run/docker.sock')\"",
        "rm /run/docker.sock",
        "container.no-api-socket",
    ),
    # --- The release
    plant(
        "changed-playbook",
        f"cp -p {RELEASE}/playbooks/site.yml /root/; rm {RELEASE}/playbooks/site.yml; echo x > {RELEASE}/playbooks/site.yml",
        f"mv -f /root/site.yml {RELEASE}/playbooks/site.yml",
        "release.files-intact",
    ),
    plant(
        "changed-model",
        f"cp -p {RELEASE}/models/greeting/config.json /root/; rm {RELEASE}/models/greeting/config.json;"
        f" echo x > {RELEASE}/models/greeting/config.json",
        f"mv -f /root/config.json {RELEASE}/models/greeting/config.json",
        "release.models-intact",
    ),
    plant(
        "changed-weights",
        f"F={RELEASE}/models/greeting/model.safetensors; cp -p $F /root/w; rm $F; cp /root/w $F; printf x | dd of=$F bs=1"
        " seek=5000000 conv=notrunc status=none",
        f"mv -f /root/w {RELEASE}/models/greeting/model.safetensors",
        "release.models-intact",
    ),
    plant(
        "added-module",
        "echo import os > $(ls -d /var/lib/banip/envs/*/lib/python3.11/site-packages | head -1)/evil.pth",
        "rm /var/lib/banip/envs/*/lib/python3.11/site-packages/evil.pth",
        "release.environments-intact",
    ),
    plant(
        "no-bill-of-materials",
        f"B=/var/lib/banip/store/blobs/sha256/$(sha256sum {RELEASE}/bom.cdx.json | cut -c1-64); mv $B /root/bom; echo $B > /root/bom.path",
        "mv /root/bom $(cat /root/bom.path)",
        "release.bill-of-materials",
    ),
    plant(
        "broken-signature",
        f"cp -p {RELEASE}/metadata/targets.json /root/targets; sed -i s/payloadType/payloadTipe/ {RELEASE}/metadata/targets.json",
        f"mv -f /root/targets {RELEASE}/metadata/targets.json",
        "release.signature",
        hides=OF_THE_RELEASE,
    ),
    # What a rollback leaves: a newer release was good here.
    edited(
        "behind-the-newest",
        "/var/lib/banip/state/counter.json",
        's/"counter": ?1/"counter":2/',
        "release.not-behind",
    ),
    edited(
        "no-way-back",
        "/var/lib/banip/state/installed.json",
        's/"previous": ?null/"previous":"minimal-0.9.0-c0"/',
        "release.way-back",
    ),
    plant(
        "a-way-back",
        f"cp -p /var/lib/banip/state/installed.json /root/; cp -al {RELEASE} {RELEASE.replace('1.0.0', '0.9.0')};"
        ' sed -i -E \'s/"previous": ?null/"previous":"minimal-0.9.0-c1"/\' /var/lib/banip/state/installed.json',
        f"mv -f /root/installed.json /var/lib/banip/state/; rm -r {RELEASE.replace('1.0.0', '0.9.0')}",
        "",
        passes="release.way-back",
    ),
    # --- Logs
    plant(
        "journal-in-memory",
        "mkdir -p /run/systemd/journald.conf.d; printf '[Journal]\\nStorage=volatile\\n' > /run/systemd/journald.conf.d/zz.conf",
        "rm /run/systemd/journald.conf.d/zz.conf",
        "log.persistent",
    ),
    plant(
        "journal-of-a-day",
        "mkdir -p /run/systemd/journald.conf.d; printf '[Journal]\\nMaxRetentionSec=1day\\n' > /run/systemd/journald.conf.d/zz.conf",
        "rm /run/systemd/journald.conf.d/zz.conf",
        "log.retention",
    ),
    plant(
        "torn-journal",
        "journalctl --rotate; F=$(ls /var/log/journal/*/system@*.journal | head -1); cp -p $F /root/torn; echo $F > /root/torn.path;"
        " head -c 64 /dev/urandom | dd of=$F bs=1 seek=4096 conv=notrunc status=none",
        "mv -f /root/torn $(cat /root/torn.path)",
        "log.journal-whole",
        contents=True,
    ),
    edited(
        "short-access-log", "/etc/logrotate.d/banip-gateway", "s/rotate 365/rotate 14/", "log.file-retention"
    ),
    edited("small-audit-log", "/etc/audit/auditd.conf", "s/^num_logs.*/num_logs = 2/", "log.audit-kept"),
    journal(
        "changed-operation-log",
        "path.write_bytes(path.read_bytes().replace(b'event', b'evend', 1))",
        "log.operations-chained",
        hides="audit.regular backup.age device.usb-events log.approved-commands log.no-weakened-safety"
        " release.last-operation release.rehearsed release.trust-unchanged",
    ),
    journal("weakened-safety", "journal.append('unsafe-planted')", "log.no-weakened-safety"),
    journal("replaced-trust", "journal.append('trust-replaced', former='0' * 64)", "release.trust-unchanged"),
    journal("failed-operation", "journal.append('finished', outcome='failed')", "release.last-operation"),
    journal("a-backup", "journal.append('backup')", "", passes="backup.age"),
    # --- What only a kernel of its own shows
    plant(
        "strange-packets-unlogged",
        "sysctl -qw net.ipv4.conf.all.log_martians=0",
        "sysctl -qw net.ipv4.conf.all.log_martians=1",
        "network.kernel-settings",
        place="guest",
    ),
    plant(
        "addresses-told",
        "sysctl -qw kernel.kptr_restrict=0",
        "sysctl -qw kernel.kptr_restrict=2",
        "host.kernel-protection",
        place="guest",
    ),
    plant(
        "accounts-unwatched",
        "auditctl -W /etc/shadow -p wa -k accounts",
        "auditctl -w /etc/shadow -p wa -k accounts",
        "log.audit-accounts",
        place="guest",
    ),
    plant(
        "nothing-recorded",
        "auditctl -e 0 >/dev/null",
        "auditctl -e 1 >/dev/null",
        "log.audit-running",
        place="guest",
    ),
    plant(
        "no-rules",
        "auditctl -D >/dev/null",
        "auditctl -R /etc/audit/audit.rules >/dev/null 2>&1 || true",
        "log.audit-accounts log.audit-configuration log.audit-keys log.audit-media log.audit-modules log.audit-privileges"
        " log.audit-product log.audit-root-commands log.audit-time",
        place="guest",
    ),
    plant(
        "storage-driver-let-in",
        "mv /etc/modprobe.d/banip.conf /root/",
        "mv /root/banip.conf /etc/modprobe.d/",
        "device.usb-storage",
        place="guest",
    ),
    # A real stick, five days after the last intake; the driver is loaded past the role's refusal.
    plant(
        "stick-without-an-intake",
        f"date -s '+5 days' >/dev/null; {USB}; modprobe --config /dev/null usb-storage; sleep 5",
        f"modprobe --config /dev/null --remove usb-storage; {NO_USB}; date -s '-5 days' >/dev/null; journalctl -q --rotate;"
        " rm -f /var/log/journal/*/system@*",
        "device.usb-events device.usb-storage device.usb-ports clock.plausible",
        place="guest",
    ),
    plant("usb-for-all", USB, NO_USB, "device.usb-ports", place="guest"),
    plant(
        "usb-for-nobody",
        f"{USB}; for bus in /sys/bus/usb/devices/usb*; do echo 0 > $bus/authorized_default; done",
        NO_USB,
        "",
        passes="device.usb-ports",
        place="guest",
    ),
    plant(
        "firewire",
        "modprobe --config /dev/null firewire-ohci",
        "modprobe --config /dev/null --remove firewire-ohci",
        "device.dma-ports",
        place="guest",
    ),
    plant(
        "bluetooth",
        "modprobe --config /dev/null bluetooth",
        "modprobe --config /dev/null --remove bluetooth",
        "network.no-bluetooth",
        place="guest",
    ),
    plant(
        "radio",
        "modprobe mac80211_hwsim radios=1; sleep 1",
        "modprobe --remove mac80211_hwsim",
        "network.no-wireless",
        place="guest",
    ),
    plant(
        "clock-before-the-release",
        "date -s 2001-01-01 >/dev/null",
        "date -s @$(cat /sys/class/rtc/rtc0/since_epoch) >/dev/null",
        "clock.plausible tls.certificate",
        place="guest",
    ),
    plant(
        "clock-of-2040",
        "date -s 2040-01-01 >/dev/null",
        "date -s @$(cat /sys/class/rtc/rtc0/since_epoch) >/dev/null",
        "audit.regular clock.plausible host.supported release.not-expired tls.certificate",
        place="guest",
    ),
    plant(
        "time-from-inside",
        "echo 'server 10.0.0.1' > /etc/chrony/conf.d/x.conf; systemctl start chrony; sleep 2",
        "systemctl stop chrony; rm /etc/chrony/conf.d/x.conf; nft flush set inet banip attempts4",
        "network.egress-attempts",
        passes="host.time-source",
        place="guest",
    ),
    plant(
        "clock-in-step",
        f"python3 -c '{_ADJTIMEX.format(status=0, error=1000)}'",
        f"python3 -c '{_ADJTIMEX.format(status=0x40, error=16000000)}'",
        "",
        passes="clock.synchronised",
        place="guest",
    ),
    plant(
        "open-swap",
        "head -c 1M /dev/zero > /srv/swap; chmod 600 /srv/swap; mkswap /srv/swap >/dev/null; swapon /srv/swap",
        "swapoff /srv/swap; rm /srv/swap",
        "host.swap-encrypted",
        place="guest",
    ),
    plant(
        "profiles-gone",
        "sed 's/ (.*//' /sys/kernel/security/apparmor/profiles > /root/profiles; while read -r name; do"
        ' printf %s "$name" > /sys/kernel/security/apparmor/.remove || true; done < /root/profiles;'
        " [ ! -s /sys/kernel/security/apparmor/profiles ]",
        "apparmor_parser --replace /etc/apparmor.d >/dev/null; rm /root/profiles",
        "host.access-control",
        place="guest",
    ),
    # All of it moves onto a disk that is encrypted; the services stay at work.
    plant(
        "encrypted-disk",
        "modprobe loop; modprobe dm-crypt; truncate -s 1G /root/vault; head -c 32 /dev/urandom > /root/vault.key;"
        " cryptsetup open --type plain --cipher aes-xts-plain64 --key-size 256 --key-file /root/vault.key /root/vault vault;"
        " mkfs.ext4 -q /dev/mapper/vault; mkdir /root/vaulted; mount /dev/mapper/vault /root/vaulted; rmdir /root/vaulted/lost+found;"
        " cp -a /var/lib/banip/. /root/vaulted; umount /root/vaulted; mount /dev/mapper/vault /var/lib/banip",
        "umount /var/lib/banip; cryptsetup close vault; rm -r /root/vault /root/vault.key /root/vaulted",
        "",
        passes="host.disk-encryption",
        place="guest",
    ),
    # The last of the guest's: until its next start nobody can take this away.
    plant(
        "audit-rules-locked",
        "auditctl -e 2 >/dev/null",
        "true",
        "",
        passes="log.audit-immutable",
        place="guest",
        grade="C",
    ),
    # --- What only the whole stack has: containers, and the API that answers questions
    guide("container-that-writes", "s/ --read-only//", "container.privileges"),
    guide("container-of-root", "s/--user [^ ]+/--user 0:0/", "container.privileges"),
    guide(
        "container-with-a-right", "s/--cap-drop all/--cap-drop all --cap-add chown/", "container.privileges"
    ),
    guide(
        "container-that-sees-the-host",
        "s/ --read-only/ --read-only --volume \\/etc:\\/mnt:ro/",
        "container.isolation",
    ),
    plant(
        "container-of-another",
        f"tar --create --directory=/ usr/bin/true | {PODMAN} import - planted:1 >/dev/null 2>&1; {PODMAN} create --name planted"
        " --network host --read-only --cap-drop all --security-opt no-new-privileges --user 65534:65534 planted:1"
        " /usr/bin/true >/dev/null",
        f"{PODMAN} rm planted >/dev/null; {PODMAN} rmi planted:1 >/dev/null",
        "container.image-digests",
        place="demo",
    ),
    api(
        "api-for-all",
        "from appliance.rag.access import Access\nAccess.user = lambda self, request: self._users.now().users[0]",
        "access.api-needs-a-key web.documents-need-a-key",
    ),
    api(
        "api-that-hints",
        "from appliance.rag import access\nfrom appliance.text import text\nasked = access.Access.user\n"
        "def user(self, request):\n    try:\n        return asked(self, request)\n    except access.ApiError:\n"
        "        if 'authorization' in request.headers:\n"
        "            raise access.ApiError(401, 'wrong_key', text('this needs a valid API key'))\n        raise\n"
        "access.Access.user = user",
        "access.no-hints",
    ),
    plant(
        "requests-unrecorded",
        "mkdir -p /run/systemd/system/banip-api.service.d;"
        " printf '[Service]\\nStandardOutput=null\\nStandardError=null\\n' > /run/systemd/system/banip-api.service.d/x.conf;"
        f" systemctl daemon-reload; {RESTART_API}; journalctl -q --rotate; journalctl -q --vacuum-time=1s",
        f"rm -r /run/systemd/system/banip-api.service.d; systemctl daemon-reload; {RESTART_API}",
        "log.requests service.unit-files",
        place="demo",
    ),
)

#: Why a check was not seen to pass and to fail as well on any of these servers.
ONE_WAY: dict[str, str] = {
    "crypto.validated-module": "a person judges it: no program can know",
    "hardware.inventory": "a person judges it: no program can know",
    "host.patch-level": "a person judges it: no program can know",
    "release.threshold": "signed: a root of one key would be another supplier's; its cases are data",
    "host.secure-boot": "fails in the guest, whose firmware has none; a pass needs a machine with UEFI keys",
    "web.no-way-up": "nginx itself refuses such a path, whatever its configuration says",
}
