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
LEFT: dict[str, str] = {}
