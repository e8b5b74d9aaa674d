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
    both("Hash of passwords", "AUTH-9230", "host.password-hash"),
    both("Umask", "AUTH-9328", "host.umask"),
    both("Failed logins are recorded", "AUTH-9408", "host.login-records"),
    both("Idle shells end", "SHLL-6220", "host.session-timeout"),
    both("Homes", "HOME-9304", "host.homes"),
    both("Banner on the console", "BANN-7126", "host.login-banner"),
    both("Options of SSH", "SSH-7408", "host.ssh-attempts host.ssh-forwarding host.root-remote-login"),
    both("Core dumps", "KRNL-5820", "host.core-dumps"),
    both("The kernel's switches", "KRNL-6000", "host.kernel-protection network.kernel-settings"),
    both("Driver of USB storage", "USB-1000", "device.usb-storage"),
    both("Drivers of FireWire", "STRG-1846", "device.dma-ports"),
    both("Firewall", "FIRE-4590", "network.firewall-default-deny"),
    both("Modes of cron's files", "FILE-7524", "host.cron-permissions"),
    both("Who may use at", "SCHD-7720", "host.cron-users"),
    both("Log rotation", "LOGG-2146", "log.file-retention"),
    both("Audit daemon", "ACCT-9628", "log.audit-running"),
    both("Time source", "TIME-3104", "host.time-source"),
    both("Scanner for malicious code", "HRDN-7230", "host.malware-scanner"),
    both("Compilers", "HRDN-7222", "host.no-development"),
    both("Updates by itself", "PKGS-7420", "host.no-self-update"),
    both("Sources of packages", "PKGS-7388", "host.package-sources"),
    both("Files as packages brought them", "PKGS-7370", "host.package-files"),
    both("Telnet", "INSE-8322", "host.no-telnet"),
    both("TFTP", "INSE-8318", "host.no-tftp-talk"),
    both("rsh", "INSE-8304", "host.no-r-services"),
    both("NIS", "INSE-8310", "host.no-nis"),
    both("SNMP", "SNMP-3302", "host.no-snmp"),
    both("Confinement by the kernel", "MACF-6290", "host.access-control"),
    both("Services' privileges", "BOOT-5264", "service.hardening"),
    both("Name servers", "NETW-2705", "network.name-servers"),
    both("Integrity of files", "FINT-4350", "release.files-intact release.environments-intact"),
    both("Certificates", "CRYP-7902", "tls.certificate"),
)
#: By test: why it is left as it is.
LEFT: dict[str, str] = {
    "ACCT-9622": "Process accounting keeps names of programs without arguments or who asked; the kernel's audit records every command"
    " of root's with both (`log.audit-root-commands`).",
    "ACCT-9626": "Load over time is measured by Prometheus, not by sysstat.",
    "ACCT-9628": "auditd is installed, and its rules are written; a container's kernel refuses it. In the guest it runs.",
    "AUTH-9282": "Every password that a person sets ends (`PASS_MAX_DAYS`); root has none here.",
    "BOOT-5122": "The test bed has no boot loader of its own; on a machine the firmware's and GRUB's passwords are the institution's.",
    "BOOT-5264": "Units of Debian's own packages (cron, dbus, SSH, gettys); Banip's are held to a threshold (`service.hardening`).",
    "CRYP-7902": "No certificate outside of Banip's own folder; that one is asked by a handshake (`tls.certificate`).",
    "FILE-6310": "How a disk is divided is decided when the machine is set up, by the institution; the audit watches that room is left"
    " (`host.disk-space`).",
    "FINT-4350": "Lynis knows AIDE and the like by name. Banip compares its release, models and environments with signed digests, and"
    " the system's files with their packages (`release.files-intact`, `host.package-files`).",
    "HRDN-7230": "A scanner needs signatures that somebody carries in: the institution's choice. `host.malware-scanner` fails as well.",
    "KRNL-5788": "The container has no kernel of its own.",
    "KRNL-5820": "Dumps go to `|/bin/false`, and the limit is 0 for services and logins.",
    "KRNL-6000": "In a container the switches are the host's. In the guest one is left: `kernel.modules_disabled` would refuse the driver"
    " that reads the next bundle's medium.",
    "LOGG-2154": "A log server outside of this host is the institution's; nothing may leave before `firewall_destinations` names it.",
    "LYNIS": "Debian's version of Lynis is older than its maker wants; nothing about the server.",
    "MACF-6208": "Debian's kernel has AppArmor and a server of the site its profiles; the container has neither. `host.access-control` asks.",
    "NAME-4028": "A closed network may have no domain; the institution's.",
    "NETW-2705": "The server has no name server that answers, on purpose: nothing may be asked outside.",
    "PKGS-7370": "The audit asks dpkg itself to compare every file with its digest (`host.package-files`).",
    "PKGS-7388": "No source of packages at all, on purpose: what comes in comes in a signed release (`host.package-sources`).",
    "PKGS-7392": "Needs a package source; the vulnerability report comes with each bundle (`host.patch-level`).",
    "PKGS-7394": "Needs a package source; the vulnerability report comes with each bundle (`host.patch-level`).",
    "PKGS-7398": "Needs a package source; the vulnerability report comes with each bundle (`host.patch-level`).",
    "PKGS-7420": "Nothing changes this server by itself, on purpose (`host.no-self-update`).",
    "SSH-7408": "Port 22 is left: another number hides nothing from who is inside, and the firewall lets in named networks alone.",
    "TIME-3104": "chrony is there and waits for the site's time servers (`host_ntp_servers`). `host.time-source` fails as well.",
    "TOOL-5002": "Lynis knows Puppet and the like by name; Ansible comes with each release and is no service.",
    "USB-2000": "Which devices stay allowed is the institution's; `device.usb-ports` asks for it where there is a controller.",
    "USB-3000": "USBGuard is the institution's choice; the driver of USB storage is refused (`device.usb-storage`).",
}
