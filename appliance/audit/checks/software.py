"""Packages and programs: whether what is here was brought by somebody known, and is as they brought it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from appliance.audit.checks.verdict import Asked, Verdict, check, listed, not_applicable, unless
from appliance.text import text
from appliance.versions import compare_versions

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts

#: Programs to make programs, to look into others, or to try a network: for other machines than this.
DEVELOPMENT = re.compile(
    r"gcc(-\d+)?|g\+\+(-\d+)?|clang(-\d+)?|make|cmake|build-essential|gdb|rustc|golang-go|nodejs|npm|git"
    r"|.*-dev|nmap|masscan|hydra|john|netcat-.*|ncat|tcpdump|wireshark.*|tshark|metasploit.*|sqlmap|telnet|rsh-client"
)
#: Libraries' headers that a running system needs itself.
NEEDED = frozenset({"libc-dev-bin"})
_UPDATES = ("apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service", "packagekit.service")
_RUNNING = frozenset({"active", "activating"})
_FAR = re.compile(r"(https?|ftp|tor\+https?|s3)://(?!127\.|localhost)", re.IGNORECASE)


@check("host.package-files")
def package_files(facts: AuditFacts, _: Asked) -> Verdict:
    """Programs and libraries of the system are, byte by byte, what their packages brought."""
    seen = facts.package_files.get()
    found = [f"changed: {path}" for path in seen.changed] + [f"missing: {path}" for path in seen.missing]
    return unless(found, facts.package_files.source, text("{count} packages", count=seen.packages))


@check("host.package-sources")
def package_sources(facts: AuditFacts, _: Asked) -> Verdict:
    """The system takes no package without a signature, and looks for none beyond this network."""
    trust = facts.package_trust.get()
    found = [f"{one.uri} trusted=yes" for one in trust.sources if one.trusted]
    found += [one.uri for one in trust.sources if _FAR.match(one.uri)]
    found += [
        f"{name} {value}" for name, value in trust.settings.items() if value.lower() in {"1", "true", "yes"}
    ]
    return unless(found, facts.package_trust.source, listed([one.uri for one in trust.sources]))


@check("host.no-self-update")
def no_self_update(facts: AuditFacts, _: Asked) -> Verdict:
    """Nothing changes the system by itself: what changes it was tried and signed before."""
    known = {one.name: one for one in facts.services.get()}
    here = [known[name] for name in _UPDATES if name in known]
    found = [f"{one.name} {one.active} {one.enabled}" for one in here if one.active in _RUNNING]
    return unless(
        found, facts.services.source, text("none of these runs: {names}", names=", ".join(_UPDATES))
    )


@check("host.foreign-programs")
def foreign_programs(facts: AuditFacts, _: Asked) -> Verdict:
    """Every program, and everything that starts programs, came with a package or with the release."""
    seen = facts.programs.get()
    facts.proven()  # without it nobody can say what the release brought
    return unless(seen.foreign, facts.programs.source, text("{count} looked at, none found", count=seen.seen))


@check("host.no-development")
def no_development(facts: AuditFacts, _: Asked) -> Verdict:
    """Programs for making or attacking programs are on other machines."""
    names = [one.partition("=")[0] for one in facts.packages.get()]
    found = [name for name in names if DEVELOPMENT.fullmatch(name) and name not in NEEDED]
    return unless(found, facts.packages.source, text("{count} packages", count=len(names)))


@check("release.packages-installed")
def packages_installed(facts: AuditFacts, _: Asked) -> Verdict:
    """The packages that the signed release brings are here, none older than it brought."""
    wanted = [one.partition("=")[::2] for one in facts.proven().packages]
    if not wanted:
        return not_applicable(text("the release brings no package"), facts.release.source)
    here = dict(one.partition("=")[::2] for one in facts.packages.get())
    found = [f"{name} -" for name, _ in wanted if name not in here]
    found += [
        f"{name} {here[name]} < {version}"
        for name, version in wanted
        if name in here and compare_versions(here[name], version) < 0
    ]
    return unless(found, facts.packages.source, text("{count} packages", count=len(wanted)))
