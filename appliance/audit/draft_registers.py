"""What is here, laid out as an institution's registers list it; a blank for whatever only it can say. Pure.

What was not read, or cannot stand in a register (a rule that lets anybody in, a name too long), is said in a
comment and never filled in: its blank is a person's to fill, or its cause is to be mended on the server.
"""

from __future__ import annotations

import ipaddress
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from appliance.audit.catalogue import Short
from appliance.audit.checks.present import (
    addresses_here,
    administrators_here,
    graded_here,
    keys_here,
    people_here,
)
from appliance.audit.dated import korean_day
from appliance.audit.draft_yaml import BLANK, Noted
from appliance.audit.facts import NotRead
from appliance.audit.reason import as_reason
from appliance.audit.registers import Peer, Port
from appliance.format import Grade, Sha256
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from appliance.audit.facts import AuditFacts
    from appliance.audit.facts_network import Opening
    from appliance.audit.facts_product import StateJournal
    from appliance.audit.registers import RegisterName
    from appliance.audit.seal import Link

    Notes = tuple[Text, ...]
    Section = dict[str, object]

_APPROVED: Section = dict.fromkeys(("approver", "ticket", "date", "expires"), BLANK)
_PAPER: Section = dict.fromkeys(("file", "sha256"), BLANK)


def sections(facts: AuditFacts, link: Link) -> Mapping[RegisterName, Section]:
    """Return every register by name; ``link``: of the audit that read the facts, which a review may name."""
    found: dict[RegisterName, Section] = {
        "accounts": {"people": _people(facts)},
        "keys": {"users": _users(facts)},
        "programs": {"paths": _programs(facts)},
        "network": _network(facts),
        "documents": {"documents": _documents(facts)},
        "reviews": _reviews(link),
        "commands": {"rule": _PAPER, "approvals": _approvals(facts)},
        "emergency": {"plan": _PAPER, "rehearsals": _rehearsals(facts)},
    }
    return {name: {**_APPROVED, **one} for name, one in found.items()}


# --- What was read, and what fits --------------------------------------------------------------------------


def _read(seen: Callable[[], Sequence[Any]]) -> tuple[Sequence[Any] | None, Notes]:
    """Return what is here and what is to be said of it; None where nobody could read it."""
    try:
        found = seen()
    except NotRead as missing:
        why = text("{source}: {reason}", source=missing.source, reason=missing.reason)
        return None, (text("not read: {reason}", reason=why),)
    except (ValueError, LookupError, OverflowError) as odd:
        return None, (text("not understood: {reason}", reason=repr(odd)),)
    return found, () if found else (text("none found"),)


def _listed(seen: Callable[[], Sequence[Any]], otherwise: object) -> Noted:
    """Return a list of what is here; ``otherwise``: an entry of blanks, for what was not read."""
    found, notes = _read(seen)
    return Noted([otherwise] if found is None else list(found), notes)


def _entry(members: Mapping[str, tuple[object, Any] | None]) -> Noted:
    """Return an entry: of what was seen, each value and its type in the register; BLANK where nobody saw.

    What does not fit stands in a comment, and its place stays blank.
    """
    entry = {name: BLANK if one is BLANK else _fitting(*one) for name, one in members.items()}
    unfit = [str(one[0]) for name, one in members.items() if one is not BLANK and entry[name] is BLANK]
    return Noted(entry, (_unfit(unfit),) if unfit else ())


def _unfit(seen: Sequence[str]) -> Text:
    return text("seen here, and no register can hold it: {names}", names=", ".join(seen))


def _fitting(value: object, kind: Any) -> object:  # noqa: ANN401 - a type of msgspec's
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return BLANK
    return value


# --- Who and what is on the server -------------------------------------------------------------------------


def _people(facts: AuditFacts) -> Noted:
    """Return who can log in, and who can become root without that."""
    found, unread = _read(lambda: sorted(set(administrators_here(facts))))
    ways = dict[str, list[str]]()
    for name, way in found or ():
        ways.setdefault(name, []).append(way)
    accounts = {one.name for one in facts.accounts.value or ()}

    def seen() -> list[Any]:
        names = dict.fromkeys([*people_here(facts), *(name for name in ways if name in accounts)])
        return [_person(name, None if found is None else ways.get(name, [])) for name in names]

    people = _listed(seen, dict.fromkeys(("name", "holder", "administrator"), BLANK))
    strangers = [_no_account(name, ways[name]) for name in ways if name not in accounts]
    said = unread if found is None and unread != people.notes else ()
    return Noted(people.value, (*people.notes, *said, *strangers))


def _person(name: str, ways: Sequence[str] | None) -> Noted:
    """Return an account; ``ways``: how it may become root, None where nobody could read that."""
    administrator = BLANK if ways is None else (bool(ways), bool)
    entry = _entry({"name": (name, Short), "holder": BLANK, "administrator": administrator})
    told = (text("may become root: {names}", names=", ".join(ways)),) if ways else ()
    return Noted(entry.value, (*entry.notes, *told))


def _no_account(name: str, ways: Sequence[str]) -> Text:
    return text(
        "may become root, and is no account that somebody could answer for: {name} ({ways})",
        name=name,
        ways=", ".join(ways),
    )


def _users(facts: AuditFacts) -> Noted:
    role = Literal["user", "admin"]

    def seen() -> list[Any]:
        return [
            _entry(
                {
                    "name": (one.name, Short),
                    "holder": BLANK,
                    "grade": (one.grade, Grade),
                    "role": (one.role, role),
                }
            )
            for one in keys_here(facts)
        ]

    return _listed(seen, dict.fromkeys(("name", "holder", "grade", "role"), BLANK))


def _programs(facts: AuditFacts) -> Noted:
    def seen() -> list[Noted]:
        found = facts.finds.get()
        foreign = frozenset(found.unpackaged)
        return [_program(path, is_foreign=path in foreign) for path in found.privileged]

    return _listed(seen, BLANK)


def _program(path: str, *, is_foreign: bool) -> Noted:
    found = _fitting(path, Short)
    notes = (text("no package brought it"),) if is_foreign else ()
    return Noted(found, (*notes, _unfit([path])) if found is BLANK else notes)


def _documents(facts: AuditFacts) -> Noted:
    def seen() -> list[Any]:
        graded = {one.sha256: one.grade for one in graded_here(facts)}
        return [
            _entry({"sha256": (sha256, Sha256), "grade": (grade, Grade)}) for sha256, grade in graded.items()
        ]

    return _listed(seen, dict.fromkeys(("sha256", "grade"), BLANK))


# --- The boundary ------------------------------------------------------------------------------------------


def _network(facts: AuditFacts) -> Section:
    return {
        "networks": _listed(lambda: _networks(facts), BLANK),
        "ways_in": _ways(facts, "input", "forward"),
        "ways_out": _ways(facts, "output"),
        "plan": _PAPER,
    }


def _networks(facts: AuditFacts) -> list[Noted]:
    """Return the networks of this server's addresses, each once, with what stands in it."""
    found = dict[str, list[str]]()
    for name, address in addresses_here(facts):
        network = str(ipaddress.ip_interface(address.partition("%")[0]).network)
        found.setdefault(network, []).append(f"{name} {address}")
    return [Noted(network, (text("{names}", names=", ".join(found[network])),)) for network in sorted(found)]


def _ways(facts: AuditFacts, *chains: str) -> Noted:
    """Return the ways of the first chain, port by port; what nobody can approve, of all these, is told."""
    found, notes = _read(lambda: _openings(facts))
    if found is None:
        return Noted([{"port": BLANK, "peers": [BLANK]}], notes)
    ways = [one for one in found if one.chain == chains[0] and one.peers and one.ports]
    refused = [_way(one) for one in found if one.chain in chains and one not in ways]
    listed = _by_port(ways)
    told = tuple(
        text("open to anybody, at any port or to pass on, which no register allows: {names}", names=one)
        for one in refused
    )
    return Noted(listed, (*(() if listed else (text("none found"),)), *told))


def _openings(facts: AuditFacts) -> Sequence[Opening]:
    firewall = facts.firewall.get()
    if not firewall.counts_egress:
        raise NotRead(facts.firewall.source, text("no table inet banip is loaded"))
    return firewall.openings


def _way(one: Opening) -> str:
    return f"{one.chain} {' '.join(one.peers) or '*'} : {','.join(map(str, one.ports)) or '*'}"


def _by_port(openings: Sequence[Opening]) -> list[Noted]:
    peers = dict[int, dict[str, None]]()
    for one in openings:
        for port in one.ports:
            peers.setdefault(port, {}).update(dict.fromkeys(one.peers))
    return [_by_peers(port, list(peers[port])) for port in sorted(peers)]


def _by_peers(port: int, seen: Sequence[str]) -> Noted:
    """Return a way; a peer that is no network (a range, a name, a set of nft, anybody) is a blank."""
    networks = {peer: _network_of(peer) for peer in seen}
    unfit = [peer for peer, network in networks.items() if network is BLANK]
    fitting = [network for network in networks.values() if network is not BLANK]
    way = _entry({"port": (port, Port), "peers": BLANK})
    peers: list[str | None] = [*dict.fromkeys(fitting), *([BLANK] if unfit else [])]
    return Noted({**way.value, "peers": peers}, (*way.notes, *([_unfit(unfit)] if unfit else [])))


def _network_of(peer: str) -> str | None:
    """Return a peer as the register has it; None for what is no network, or is all of them."""
    try:
        network = ipaddress.ip_network(peer.partition("%")[0], strict=False)
    except ValueError:
        return BLANK
    spelled = str(network) if "/" in peer else str(network.network_address)
    return spelled if network.prefixlen and _fitting(spelled, Peer) else BLANK


# --- What people do ----------------------------------------------------------------------------------------


def _reviews(link: Link) -> Section:
    """Return one review, of the very audit that this draft is from: whoever read it has what it takes."""
    told = text(
        "of audit no. {number}: read its report and the logs; another audit has other number and head",
        number=link.record.number,
    )
    review = {"date": BLANK, "by": BLANK, "number": link.record.number, "head": link.head, "finding": BLANK}
    return {"reviewers": [BLANK], "rule": _PAPER, "reviews": [Noted(review, (told,))]}


def _log(facts: AuditFacts) -> StateJournal:
    """Return the operation log. Raises ``NotRead`` where its chain does not hold, or nobody looked."""
    state = facts.state.get()
    if state.broken is not None:
        raise NotRead(facts.state.source, as_reason(state.broken).as_text())
    if state.sensitive is None:
        raise NotRead(facts.state.source, text("these facts have no commands that somebody has to approve"))
    return state


def _approvals(facts: AuditFacts) -> Noted:
    """Return the sensitive commands by day, as the check compares them."""

    def seen() -> list[Any]:
        done = {(korean_day(one.at), one.command): None for one in _log(facts).sensitive or ()}
        return [
            _entry({"command": (command, Short), "date": (day, date), "approver": BLANK, "ticket": BLANK})
            for day, command in done
        ]

    return _listed(seen, dict.fromkeys(("command", "date", "approver", "ticket"), BLANK))


def _rehearsals(facts: AuditFacts) -> Noted:
    """Return one rehearsal to fill in: a rollback in the operation log need not have been one."""
    found, notes = _read(lambda: sorted({korean_day(one) for one in _log(facts).returns}))
    told = (
        (text("rollbacks in the operation log: {names}", names=", ".join(map(str, found))),) if found else ()
    )
    entry = {"date": BLANK, "by": BLANK, "here": BLANK, "record": _PAPER}
    return Noted([entry], told or notes)
