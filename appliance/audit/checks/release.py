"""Banip's own: whether what is installed is what was signed, and whether its keys are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    check,
    failed,
    listed,
    not_applicable,
    passed,
    spelled,
    unknown,
    unless,
    verdict,
)
from appliance.audit.reason import as_reason
from appliance.text import text

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts, Fact
    from appliance.audit.facts_product import Drift
    from appliance.text import Text

#: How strict a release's roles are: C asks most.
_STRICTNESS = {"O": 0, "S": 1, "C": 2}
OTHERS = 0o007
GROUP_AND_OTHERS = 0o077


@check("release.signature")
def signature(facts: AuditFacts, _: Asked) -> Verdict:
    """The installed release's metadata is signed by whom this server trusts, judged again now."""
    one = facts.release.get()
    if one.refused is not None:
        return failed(as_reason(one.refused).as_text(), facts.release.source)
    words = text(
        "{release}: root version {root}, counter {counter}",
        release=one.id,
        root=one.root_version,
        counter=one.counter,
    )
    return passed(words, facts.release.source)


@check("release.trust-unchanged")
def trust_unchanged(facts: AuditFacts, _: Asked) -> Verdict:
    """The first root is that of the first contact; where a person has replaced it, every report shows it."""
    state = facts.state.get()
    if state.broken is not None:
        return Verdict("unknown", as_reason(state.broken).as_text(), facts.state.source)
    return unless(state.replaced, facts.state.source, text("never replaced"))


@check("release.not-behind")
def not_behind(facts: AuditFacts, _: Asked) -> Verdict:
    """The counter of what is installed is the newest that was ever good here; a rollback is shown."""
    one = facts.proven()
    words = text("{names}", names=f"counter {one.counter}, floor {one.floor}")
    return verdict(words, facts.release.source, holds=one.floor is not None and one.counter >= one.floor)


@check("release.not-expired")
def not_expired(facts: AuditFacts, _: Asked) -> Verdict:
    """The supplier's word for this release still holds."""
    one = facts.proven()
    if one.expires is None:
        return failed(text("{names}", names="-"), facts.release.source)
    words = text("{names}", names=f"{one.expires:%Y-%m-%d}")
    return verdict(words, facts.release.source, holds=facts.taken < one.expires)


@check("release.grade")
def grade(facts: AuditFacts, asked: Asked) -> Verdict:
    """The release was built for the grade that is asked for, or for a stricter one."""
    one = facts.proven()
    holds = one.grade is not None and _STRICTNESS[one.grade] >= _STRICTNESS[asked.grade]
    return verdict(text("{names}", names=one.grade or "-"), facts.release.source, holds=holds)


@check("release.files-intact")
def files_intact(facts: AuditFacts, _: Asked) -> Verdict:
    """Playbooks and packages of the release are, byte by byte, what was signed."""
    return _intact(facts.files_drift)


@check("release.models-intact")
def models_intact(facts: AuditFacts, asked: Asked) -> Verdict:
    """Models are what was signed: by their digests, as a model of the right size proves nothing."""
    drift = facts.models_drift.get()
    if not (_compared(drift) or drift.changed or drift.missing or drift.extra):
        return not_applicable(text("the release brings no model"), facts.models_drift.source)
    found = _intact(facts.models_drift)
    if found.status == "pass" and drift.run is not None and (facts.taken - drift.run).days > asked.number:
        return unknown(found.observed, found.where)  # young enough for whoever read it, and not here
    return found


@check("release.environments-intact")
def environments_intact(facts: AuditFacts, _: Asked) -> Verdict:
    """The programs that run are what the signed wheels hold, no more and no less."""
    return _intact(facts.environments_drift)


def _intact(fact: Fact[Drift]) -> Verdict:
    """Judge a comparison: a difference fails, and what only its size is known of nobody can tell."""
    drift = fact.get()
    found = [f"{kind}: {path}" for kind in ("changed", "missing", "extra") for path in getattr(drift, kind)]
    if found:
        return failed(listed(found), fact.source)
    if not _compared(drift):
        return failed(text("nothing was compared"), fact.source)
    return unknown(_counts(drift), fact.source) if drift.sized else passed(_counts(drift), fact.source)


def _compared(drift: Drift) -> int:
    return drift.hashed + drift.recorded + drift.sized + drift.unsigned


def _counts(drift: Drift) -> Text:
    if drift.run is None:
        return text("{hashed} files by digest, {sized} by size", hashed=drift.hashed, sized=drift.sized)
    return text(
        "{hashed} files by digest, {recorded} unchanged since the integrity run of {day}, {sized} by size",
        hashed=drift.hashed,
        recorded=drift.recorded,
        day=f"{drift.run:%Y-%m-%d}",
        sized=drift.sized,
    )


@check("release.bill-of-materials")
def bill_of_materials(facts: AuditFacts, _: Asked) -> Verdict:
    """The list of components that was signed with the release is here, unchanged."""
    one = facts.proven()
    return verdict(text("{names}", names=one.bom or "-"), facts.release.source, holds=one.bom == "present")


@check("release.threshold")
def threshold(facts: AuditFacts, asked: Asked) -> Verdict:
    """Whom this server trusts, no single person can change: it takes several keys."""
    one = facts.proven()
    words = text("{names}", names=f"{one.root_threshold} / {one.root_keys}")
    return verdict(words, facts.release.source, holds=one.root_threshold >= asked.number)


@check("release.way-back")
def way_back(facts: AuditFacts, _: Asked) -> Verdict:
    """The release before this one is kept whole, so that there is a way back without a medium."""
    one = facts.proven()
    if not one.previous:
        return not_applicable(text("this is the first release"), facts.release.source)
    return verdict(text("{names}", names=one.previous), facts.release.source, holds=one.previous_whole)


@check("release.health")
def health(facts: AuditFacts, _: Asked) -> Verdict:
    """Every part that the release names answers that it is well."""
    facts.proven()
    seen = facts.health.get()
    if not seen:
        return not_applicable(text("the release names no health address"), facts.release.source)
    shown = {url: f"{url.removeprefix('http://')} {status}" for url, status in seen.items()}
    found = [shown[url] for url, status in seen.items() if status != _WELL]
    return unless(found, facts.health.source, listed(list(shown.values())))


_WELL = 200


@check("backup.age")
def backup_age(facts: AuditFacts, asked: Asked) -> Verdict:
    """What people put in was backed up not long ago."""
    state = facts.state.get()
    if state.broken is not None:
        return unknown(as_reason(state.broken).as_text(), facts.state.source)
    if state.last_backup is None:
        return failed(text("no backup is in the operation log"), facts.state.source)
    days = (facts.taken - state.last_backup).days
    words = text("{names}", names=f"{state.last_backup:%Y-%m-%d}")
    return verdict(words, facts.state.source, holds=days <= asked.number)


@check("release.last-operation")
def last_operation(facts: AuditFacts, _: Asked) -> Verdict:
    """The newest operation came to its end, and not to a failure that nobody looked into."""
    state = facts.state.get()
    if state.broken is not None:
        return unknown(as_reason(state.broken).as_text(), facts.state.source)
    holds = state.last_outcome not in {"", "failed", "abandoned"}
    return verdict(text("{names}", names=state.last_outcome or "-"), facts.state.source, holds=holds)


@check("audit.regular")
def audit_regular(facts: AuditFacts, asked: Asked) -> Verdict:
    """Somebody has looked before, and not too long ago; a server that is new has had no time for it."""
    earlier, state = facts.earlier_audits.get(), facts.state.get()
    if state.broken is not None:
        return unknown(as_reason(state.broken).as_text(), facts.state.source)
    since = max((one for one in earlier if one < facts.taken), default=state.first)
    if since is None:
        return failed(text("none found"), facts.earlier_audits.source)
    words = text("{names}", names=f"{since:%Y-%m-%d}")
    return verdict(words, facts.earlier_audits.source, holds=(facts.taken - since).days <= asked.number)


@check("audit.chain")
def audit_chain(facts: AuditFacts, _: Asked) -> Verdict:
    """The records of earlier audits follow one another, and what is left of them is as it was sealed."""
    chain, where = facts.audit_chain.get(), facts.audit_chain.source
    if chain.faults:
        return failed(listed(chain.faults), where)
    if not chain.records:
        return not_applicable(text("no audit of this server has been sealed"), where)
    words = text("{count} records, last {head}", count=chain.records, head=chain.head[:16])
    return passed(words, where)


@check("keys.authority")
def authority(facts: AuditFacts, _: Asked) -> Verdict:
    """The key of the server's own authority is root's, in a folder that is root's, and nobody else's."""
    files = [one for one in facts.keys.get() if "/secrets/authority" in one.path and one.kind != "absent"]
    secret = [one for one in files if one.kind == "folder" or one.path.endswith("key.pem")]
    if not secret:
        return not_applicable(text("this server has no authority of its own"), facts.keys.source)
    found = [spelled(one) for one in secret if one.owner != "root" or one.bits & GROUP_AND_OTHERS]
    return unless(found, facts.keys.source, listed([spelled(one) for one in secret]))


@check("keys.state-private")
def state_private(facts: AuditFacts, _: Asked) -> Verdict:
    """What this server trusts and remembers is root's alone."""
    files = [file for file in facts.keys.get() if "/state" in file.path and file.kind in {"file", "folder"}]
    found = [spelled(file) for file in files if file.owner != "root" or file.bits & GROUP_AND_OTHERS]
    if not files:
        return failed(text("{path} is absent", path="state"), facts.keys.source)
    return unless(found, facts.keys.source, text("{count} looked at, none found", count=len(files)))


@check("keys.secrets-private")
def secrets_private(facts: AuditFacts, _: Asked) -> Verdict:
    """Keys and lists of users are open to their service and to nobody else."""
    files = [file for file in facts.keys.get() if "/state" not in file.path]
    files = [file for file in files if file.kind in {"file", "folder"} and _is_secret(file.path)]
    found = [spelled(file) for file in files if file.bits & OTHERS or file.bits & 0o020]
    return unless(found, facts.keys.source, text("{count} looked at, none found", count=len(files)))


def _is_secret(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.endswith((".json", ".token")) or "key" in name or path.endswith("/secrets")


@check("crypto.validated-module")
def validated_module(facts: AuditFacts, _: Asked) -> Verdict:
    """Only the site can say which validated module it uses; what Banip brings is not validated."""
    names = [one for one in facts.packages.get() if one.startswith(("openssl=", "libssl3="))]
    words = text("not validated, in use: {names}", names=", ".join(names) or "-")
    return Verdict("manual", words, facts.packages.source)
