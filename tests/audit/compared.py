"""What Lynis and the audit both look at, and why what Lynis still suggests after hardening is left.

Tests of Lynis by their numbers in Debian 12's version (3.0.8). A difference in verdicts needs a reason in
``why``; a suggestion that is left needs one in ``LEFT``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Compared:
    """One thing that both look at: the test of Lynis, our checks, and why they may differ."""

    what: str
    test: str
    checks: tuple[str, ...]
    why: str = ""


def both(what: str, test: str, checks: str, why: str = "") -> Compared:
    """Make a row; names of checks stand in one string."""
    return Compared(what, test, tuple(checks.split()), why)


AGREEMENT: tuple[Compared, ...] = (
    both("Accounts with number 0", "AUTH-9204", "host.only-root-has-uid-0"),
    both("Each number once", "AUTH-9208", "host.unique-uids"),
    both("Accounts without a password", "AUTH-9283", "host.no-empty-password"),
    both("sudo's files", "AUTH-9252", "host.sudoers-permissions"),
    both("Quality of passwords", "AUTH-9262", "host.password-quality host.password-complexity"),
    both("Age of passwords", "AUTH-9286", "host.password-age host.password-minimum-age"),
    both(
        "Hash of passwords",
        "AUTH-9230",
        "host.password-hash",
        "Debian's PAM takes yescrypt, which is right; Lynis asks for rounds of another hash, which few programs take. The role sets both.",
    ),
    both(
        "Umask", "AUTH-9328", "host.umask", "KISA asks for 022 or stricter, Lynis for 027. The role sets 027."
    ),
    both("Failed logins are recorded", "AUTH-9408", "host.login-records"),
    both(
        "Idle shells end",
        "SHLL-6220",
        "host.session-timeout",
        "Lynis shows the limit and suggests nothing where there is none.",
    ),
    both("Homes", "HOME-9304", "host.homes"),
    both("Banner on the console", "BANN-7126", "host.login-banner"),
    both(
        "Options of SSH",
        "SSH-7408",
        "host.ssh-attempts host.ssh-forwarding host.root-remote-login",
        "Of Lynis's 21 options one is left, the port's number, which no guide asks for.",
    ),
    both(
        "Core dumps",
        "KRNL-5820",
        "host.core-dumps",
        why="Both find them off; Lynis minds that the role's file and the fix's say so twice.",
    ),
    both("The kernel's switches", "KRNL-6000", "host.kernel-protection network.kernel-settings"),
    both(
        "Driver of USB storage",
        "USB-1000",
        "device.usb-storage",
        "In a container no module can be loaded, so the audit finds no way in; Lynis looks for the line that refuses it. The role writes that.",
    ),
    both(
        "Drivers of FireWire",
        "STRG-1846",
        "device.dma-ports",
        "The audit asks what is loaded, Lynis for a line that refuses it. The role writes that.",
    ),
    both(
        "Firewall",
        "FIRE-4590",
        "network.firewall-default-deny",
        "Lynis is content with nftables being there; the audit asks for chains that refuse what nobody named.",
    ),
    both("Modes of cron's files", "FILE-7524", "host.cron-permissions"),
    both("Who may use at", "SCHD-7720", "host.cron-users"),
    both("Log rotation", "LOGG-2146", "log.file-retention"),
    both("Audit daemon", "ACCT-9628", "log.audit-running"),
    both(
        "Time source",
        "TIME-3104",
        "host.time-source",
        "Lynis asks no container for it. The audit says that nobody gives this server the time, which is the site's to name.",
    ),
    both("Scanner for malicious code", "HRDN-7230", "host.malware-scanner"),
    both("Compilers", "HRDN-7222", "host.no-development"),
    both(
        "Updates by itself",
        "PKGS-7420",
        "host.no-self-update",
        "They ask for the opposite: a closed server changes by signed releases alone.",
    ),
    both(
        "Sources of packages",
        "PKGS-7388",
        "host.package-sources",
        "They ask for the opposite: a closed server has no source outside.",
    ),
    both(
        "Files as packages brought them",
        "PKGS-7370",
        "host.package-files",
        "Lynis looks for a program that could compare them; the audit compares them.",
    ),
    both("Telnet", "INSE-8322", "host.no-telnet"),
    both("TFTP", "INSE-8318", "host.no-tftp-talk"),
    both("rsh", "INSE-8304", "host.no-r-services"),
    both("NIS", "INSE-8310", "host.no-nis"),
    both("SNMP", "SNMP-3302", "host.no-snmp"),
    both("Confinement by the kernel", "MACF-6290", "host.access-control"),
    both(
        "Services' privileges",
        "BOOT-5264",
        "service.hardening",
        "Lynis names every unit of Debian's; the audit judges Banip's, and none of those is UNSAFE.",
    ),
    both("Name servers", "NETW-2705", "network.name-servers"),
    both(
        "Integrity of files",
        "FINT-4350",
        "release.files-intact release.environments-intact",
        "Lynis looks for a program that it knows by name; the audit compares with signed digests.",
    ),
    both("Certificates", "CRYP-7902", "tls.certificate"),
)
#: By test: why it is left as it is.
LEFT: dict[str, str] = {
    "ACCT-9622": "Process accounting keeps names of programs, not who asked with which words; the kernel's audit records every"
    " command of root's with both (`log.audit-root-commands`).",
    "ACCT-9626": "Load over time is measured by Prometheus, not by sysstat.",
    "ACCT-9628": "auditd is installed and its rules are written; the kernel refuses a container its audit. In the guest it runs.",
    "BOOT-5122": "A boot loader's password is set where the machine is set up, by the institution.",
    "BOOT-5264": "Units of Debian's own packages (cron, dbus, SSH, gettys), which need their rights to do their work; Banip's are held to"
    " a threshold (`service.hardening`), and Lynis finds them PROTECTED.",
    "DEB-0810": "apt-listbugs asks a server outside; nothing is installed here but a signed release.",
    "DEB-0811": "Nothing is installed here but a signed release, whose changes are on its paper.",
    "DEB-0831": "Banip's own services start anew with each release; needrestart would start others in the middle of an install.",
    "DEB-0880": "Accounts lock after wrong passwords (`host.account-lockout`), and SSH lets in named networks alone.",
    "FILE-6310": "How a disk is divided is decided when the machine is set up, by the institution; the audit watches that room is left"
    " (`host.disk-space`).",
    "FINT-4350": "Lynis knows AIDE and the like by name. Banip compares its release, models and environments with signed digests, and"
    " the system's files with their packages (`release.files-intact`, `host.package-files`).",
    "HRDN-7230": "A scanner needs signatures that somebody carries in: the institution's. `host.malware-scanner` says the same.",
    "HTTP-6710": "Lynis reads the configuration that the package brought, which no service uses. What runs is `/etc/banip/gateway.conf`,"
    " which speaks nothing but TLS; the audit asks it by handshakes (`tls.protocols`, `web.only-encrypted`).",
    "KRNL-5820": "Said twice, and both times no: the role's file, and the fix's own, which also holds where no role is.",
    "KRNL-5788": "The test bed's kernel lies beside the disk, not on it.",
    "KRNL-6000": "In a container the switches are those of the machine around it. In the guest one is left: `kernel.modules_disabled`"
    " would refuse the driver that reads the next bundle's medium.",
    "LOGG-2154": "A log server outside of this host is the institution's; nothing may leave before `firewall_destinations` names it.",
    "LYNIS": "Debian's Lynis is older than its maker wants; nothing about the server.",
    "NAME-4028": "A closed network may have no domain: the institution's.",
    "NETW-2705": "No name server answers, on purpose: nothing is asked outside.",
    "NETW-3200": "They are refused with `/bin/false`, which tells whoever asks; this version of Lynis looks for `/bin/true` alone.",
    "PKGS-7370": "debsums brings Perl with it. The audit asks dpkg itself to compare every file with its digest (`host.package-files`).",
    "PKGS-7388": "No source of packages at all, on purpose: what comes in comes in a signed release (`host.package-sources`).",
    "PKGS-7394": "It needs a source of packages; a vulnerability report comes with each bundle (`host.patch-level`).",
    "PKGS-7420": "Nothing changes this server by itself, on purpose (`host.no-self-update`).",
    "SSH-7408": "Port 22 is left: another number hides nothing from who is inside, and the firewall lets in named networks alone.",
    "TIME-3104": "chrony is there and waits for the site's time servers (`host_ntp_servers`). `host.time-source` says the same.",
    "TOOL-5002": "Lynis knows Puppet and the like by name; Ansible comes with each release and is no service.",
}
