"""What is here against what the institution approved: its registers, compared entry by entry.

Where a register is not entered, or its time is over, the question stays a person's (``manual``), and what is
here is shown, so that it can be compared by eye.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from appliance.audit.checks.access import HEIGHT
from appliance.audit.checks.present import (
    addresses_here,
    administrators_here,
    graded_here,
    keys_here,
    people_here,
)
from appliance.audit.checks.verdict import (
    Asked,
    Verdict,
    check,
    failed,
    listed,
    passed,
    unknown,
    unless,
)
from appliance.audit.dated import korean_day
from appliance.audit.facts import NotRead
from appliance.audit.reason import as_reason
from appliance.audit.registers import REGISTERS_FILE, within
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from appliance.audit.dated import Attached, Day
    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_network import Opening
    from appliance.audit.facts_product import ApiUser, AuditChain, SensitiveCommand, StateJournal
    from appliance.audit.registers import Emergency, Register, RegisterName, Rehearsal, Review, Reviews, Way

_Entry = TypeVar("_Entry", "Rehearsal", "Review")
_DIGITS = 12


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is here of that which a register lists, in words, and where it was read."""

    register: RegisterName
    entries: Sequence[str]
    where: str

    @property
    def places(self) -> str:
        """Return both places that are compared."""
        return f"{REGISTERS_FILE}: {self.register}; {self.where}"


def _compared(
    asked: Asked, seen: _Seen, stray: Callable[[], Sequence[str]], paper: Attached | None = None
) -> Verdict:
    """Compare what is here with a register; ``stray``, called where it holds, returns what is not in it."""
    if seen.register not in asked.declared.in_force():
        return Verdict("manual", _open(asked, seen), seen.places)
    lacking = _lacking(asked, *([paper] if paper else []))
    if lacking is not None:
        return failed(lacking, seen.places)
    about = asked.declared.registers.entered()[seen.register]
    return unless(
        stray(),
        seen.places,
        text(
            "{count} here, all in the register ({approver}, {ticket}, until {expires})",
            count=len(seen.entries),
            approver=about.approver,
            ticket=about.ticket,
            expires=about.expires,
        ),
    )


def _open(asked: Asked, seen: _Seen) -> Text:
    name = seen.register
    about: Register | None = asked.declared.registers.entered().get(name)
    names = listed(seen.entries) if seen.entries else text("none found")
    if about is None:
        return text("the institution has entered no register {name}; here: {names}", name=name, names=names)
    if asked.declared.day is not None and about.expires < asked.declared.day:
        return text(
            "the register {name} lapsed on {day}; here: {names}", name=name, day=about.expires, names=names
        )
    return text(
        "the register {name} holds from {day} only; here: {names}", name=name, day=about.date, names=names
    )


def _newest(entries: Iterable[_Entry], today: Day) -> _Entry | None:
    """Return the newest that has been done; what is entered for a day to come has not."""
    return max((one for one in entries if one.date <= today), key=lambda one: one.date, default=None)


def _lacking(asked: Asked, *papers: Attached) -> Text | None:
    names = asked.declared.lacking(papers)
    if not names:
        return None
    return text(
        "not in evidence/, or not the file that was named: {names}; put it there, or correct its sha256",
        names=", ".join(names),
    )


# --- Accounts ----------------------------------------------------------------------------------------------


@check("host.approved-accounts")
def approved_accounts(facts: AuditFacts, asked: Asked) -> Verdict:
    """Whoever can log in, but for root, stands in the register of accounts."""
    here = people_here(facts)
    register = asked.declared.registers.accounts
    known = {one.name for one in register.people} if register else set()
    return _compared(
        asked,
        _Seen("accounts", here, facts.accounts.source),
        lambda: [name for name in here if name not in known],
    )


@check("host.approved-administrators")
def approved_administrators(facts: AuditFacts, asked: Asked) -> Verdict:
    """Whoever may become root, by group or by sudo, is an approved administrator."""
    here = sorted(set(administrators_here(facts)))
    register = asked.declared.registers.accounts
    known = {one.name for one in register.people if one.administrator} if register else set()
    return _compared(
        asked,
        _Seen("accounts", [_by_way(*one) for one in here], f"{facts.groups.source}, {facts.sudo.source}"),
        lambda: [_by_way(name, way) for name, way in here if name not in known],
    )


def _by_way(name: str, way: str) -> str:
    return f"{name} ({way})"


@check("host.approved-programs")
def approved_programs(facts: AuditFacts, asked: Asked) -> Verdict:
    """Every program that runs with its owner's rights stands in the register of programs."""
    here = facts.finds.get().privileged
    register = asked.declared.registers.programs
    known = set(register.paths) if register else set()
    return _compared(
        asked, _Seen("programs", here, facts.finds.source), lambda: [one for one in here if one not in known]
    )


@check("access.approved-keys")
def approved_keys(facts: AuditFacts, asked: Asked) -> Verdict:
    """Every key of the API is somebody's in the register, up to no higher grade, and in no other role."""
    users = keys_here(facts)
    return _compared(
        asked,
        _Seen("keys", [_spelled(one) for one in users], facts.api_users.source),
        lambda: [_spelled(one) for one in users if not _is_approved(one, asked)],
    )


def _spelled(one: ApiUser) -> str:
    return f"{one.name} {one.grade} {one.role}"


def _is_approved(one: ApiUser, asked: Asked) -> bool:
    register = asked.declared.registers.keys
    return any(
        each.name == one.name and each.role == one.role and HEIGHT[one.grade] <= HEIGHT[each.grade]
        for each in (register.users if register else ())
    )


# --- The boundary ------------------------------------------------------------------------------------------


@check("network.approved-ways")
def approved_ways(facts: AuditFacts, asked: Asked) -> Verdict:
    """What the firewall lets in and out is what the register of the network allows, and no wider."""
    firewall = facts.firewall.get()
    register = asked.declared.registers.network
    here = [_opening(one) for one in firewall.openings]

    def stray() -> list[str]:
        if register is None or not firewall.counts_egress:
            return ["inet banip: -"]
        ways = {"input": register.ways_in, "output": register.ways_out}
        return [_opening(one) for one in firewall.openings if not _allows(one, ways.get(one.chain, ()))]

    return _compared(asked, _Seen("network", here, facts.firewall.source), stray)


def _opening(one: Opening) -> str:
    return f"{one.chain} {' '.join(one.peers) or '*'} : {','.join(map(str, one.ports)) or '*'}"


def _allows(one: Opening, ways: tuple[Way, ...]) -> bool:
    """Tell whether every port of an opening is allowed with every peer of it; anybody, any port: never."""
    return bool(one.peers and one.ports) and all(
        any(way.port == port and _lies_in(peer, way.peers) for way in ways)
        for port in one.ports
        for peer in one.peers
    )


def _lies_in(peer: str, networks: tuple[str, ...]) -> bool:
    try:
        ends = peer.split("-") if "-" in peer else [peer]
        return any(all(within(end, [one]) for end in ends) for one in networks)
    except ValueError:  # a name, or a set of nft
        return False


@check("network.approved-networks")
def approved_networks(facts: AuditFacts, asked: Asked) -> Verdict:
    """The server stands in the networks of the register alone, whose plan is at hand."""
    here = [f"{name} {address}" for name, address in addresses_here(facts)]
    register = asked.declared.registers.network

    networks = register.networks if register else ()
    return _compared(
        asked,
        _Seen("network", here, facts.links.source),
        lambda: [one for one in here if not _lies_in(one.rpartition(" ")[2], networks)],
        register.plan if register else None,
    )


# --- Documents ---------------------------------------------------------------------------------------------


@check("data.approved-grades")
def approved_grades(facts: AuditFacts, asked: Asked) -> Verdict:
    """Every document stands in the register, and carries the grade that was decided for it."""
    graded = graded_here(facts)
    register = asked.declared.registers.documents
    decided = {one.sha256: one.grade for one in register.documents} if register else {}
    stray = [
        f"{one.sha256[:_DIGITS]}: {one.grade}, {decided.get(one.sha256) or '-'}"
        for one in graded
        if decided.get(one.sha256) != one.grade
    ]
    here = [f"{one.sha256[:_DIGITS]}: {one.grade}" for one in graded]
    return _compared(asked, _Seen("documents", here, facts.documents.source), lambda: stray)


# --- Who looks, who approves, who practises ----------------------------------------------------------------


@check("log.reviewed")
def reviewed(facts: AuditFacts, asked: Asked) -> Verdict:
    """Somebody whose duty it is has read the logs of late, together with an audit that this chain has."""
    chain, register = facts.audit_chain.get(), asked.declared.registers.reviews
    seen = _Seen("reviews", [f"{chain.records}"], facts.audit_chain.source)
    if register is None or "reviews" not in asked.declared.in_force():
        return Verdict("manual", _open(asked, seen), seen.places)
    today = korean_day(facts.taken)
    newest = _newest(register.reviews, today)
    if newest is None:
        return failed(text("no review of the logs is entered"), seen.places)
    fault = next(_faults_of_review(newest, register, chain, asked, today), None)
    return failed(fault, seen.places) if fault else passed(_reviewed(newest), seen.places)


def _faults_of_review(
    one: Review, register: Reviews, chain: AuditChain, asked: Asked, today: Day
) -> Iterator[Text]:
    lacking = _lacking(asked, register.rule)
    if lacking:
        yield lacking
    if {each.number: each.head for each in chain.recent}.get(one.number) != one.head:
        yield text(
            "the review of {day} names audit no. {number} by a head that this chain does not have",
            day=one.date,
            number=one.number,
        )
    if one.by not in register.reviewers:
        yield text("{by}, who reviewed on {day}, is not one of the reviewers", by=one.by, day=one.date)
    if (today - one.date).days > asked.number:
        yield text(
            "the newest review is of {day}, {days} days ago", day=one.date, days=(today - one.date).days
        )


def _reviewed(one: Review) -> Text:
    return text(
        "audit no. {number} and its logs were reviewed on {day} by {by}: {finding}",
        number=one.number,
        day=one.date,
        by=one.by,
        finding=one.finding,
    )


@check("log.approved-commands")
def approved_commands(facts: AuditFacts, asked: Asked) -> Verdict:
    """Every sensitive command in the operation log was approved for its day, by the rule that is at hand."""
    state = _whole(facts)
    if isinstance(state, Verdict):
        return state
    commands = state.sensitive or ()
    here = [_command(one) for one in commands]
    register = asked.declared.registers.commands

    known = {(one.command, one.date) for one in register.approvals} if register else set()
    return _compared(
        asked,
        _Seen("commands", here, facts.state.source),
        lambda: [_command(one) for one in commands if (one.command, korean_day(one.at)) not in known],
        register.rule if register else None,
    )


def _command(one: SensitiveCommand) -> str:
    return f"{korean_day(one.at)} {one.command}"


@check("release.rehearsed")
def rehearsed(facts: AuditFacts, asked: Asked) -> Verdict:
    """There is a plan, and the way back was walked of late, as the operation log or a record shows."""
    state = _whole(facts)
    if isinstance(state, Verdict):
        return state
    register = asked.declared.registers.emergency
    days = {korean_day(one) for one in state.returns}
    seen = _Seen("emergency", [f"rollback {one}" for one in sorted(days)], facts.state.source)
    if register is None or "emergency" not in asked.declared.in_force():
        return Verdict("manual", _open(asked, seen), seen.places)
    today = korean_day(facts.taken)
    newest = _newest(register.rehearsals, today)
    if newest is None:
        return failed(text("no rehearsal of the way back is entered"), seen.places)
    fault = next(_faults_of_rehearsal(newest, register, days, asked, today), None)
    words = text("the way back was rehearsed on {day} by {by}", day=newest.date, by=newest.by)
    return failed(fault, seen.places) if fault else passed(words, seen.places)


def _faults_of_rehearsal(
    one: Rehearsal, register: Emergency, days: set[Day], asked: Asked, today: Day
) -> Iterator[Text]:
    lacking = _lacking(asked, register.plan, one.record)
    if lacking:
        yield lacking
    if one.here and one.date not in days:
        yield text("the operation log has no rollback of {day}, when it was rehearsed here", day=one.date)
    if (today - one.date).days > asked.number:
        yield text(
            "the newest rehearsal is of {day}, {days} days ago", day=one.date, days=(today - one.date).days
        )


def _whole(facts: AuditFacts) -> StateJournal | Verdict:
    """Return the operation log where its chain holds. Raises ``NotRead``."""
    state = facts.state.get()
    if state.broken is not None:
        return unknown(as_reason(state.broken).as_text(), facts.state.source)
    if state.sensitive is None:
        raise NotRead(facts.state.source, text("these facts have no commands that somebody has to approve"))
    return state
