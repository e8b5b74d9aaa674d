"""What an institution has approved, in registers of its own: checks compare this server with them.

A register is no answer: whoever writes one says what should be here, and a check says whether it is. One that
is not entered, or whose time is over, leaves the question to a person. A paper that a register names counts
only while its file lies in ``evidence/`` and is the one that was named.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping  # noqa: TC003 - msgspec resolves annotations at run time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from msgspec import Meta

# msgspec resolves annotations at run time
from appliance.audit.catalogue import Filled, Short  # noqa: TC001
from appliance.audit.dated import Attached, Dated, Day, date_faults
from appliance.format import Grade, Sha256, Value
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.audit.dated import Faults

REGISTERS_FILE = "registers.yaml"
RegisterName = Literal[
    "accounts", "keys", "programs", "network", "documents", "reviews", "commands", "emergency"
]
REGISTERS: tuple[RegisterName, ...] = get_args(RegisterName)
Port = Annotated[int, Meta(ge=1, le=65535)]
#: An address or a network: "10.0.0.5", "10.0.0.0/24".
Peer = Annotated[str, Meta(pattern=r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$")]
Peers = Annotated[tuple[Peer, ...], Meta(min_length=1)]


class Register(Dated, frozen=True, kw_only=True):
    """What all have in common: who approved it, by which paper, for how long."""

    approver: Short
    ticket: Short


class Person(Value, frozen=True, omit_defaults=True):
    """An account that may log in; ``administrator``: it may become root."""

    name: Short
    holder: Short
    administrator: bool = False


class Accounts(Register, frozen=True):
    """Who may log in, and who of them may become root."""

    people: tuple[Person, ...]


class Holder(Value, frozen=True):
    """Whoever has a key of the API: up to which grade, and as what."""

    name: Short
    holder: Short
    grade: Grade
    role: Literal["user", "admin"]


class Keys(Register, frozen=True):
    """Who may ask the API."""

    users: tuple[Holder, ...]


class Programs(Register, frozen=True):
    """Programs that may run with their owner's rights (set-user-id, set-group-id)."""

    paths: tuple[Short, ...]


class Way(Value, frozen=True):
    """A port, and with whom it may be used."""

    port: Port
    peers: Peers


class Network(Register, frozen=True, kw_only=True):
    """In which networks this server may stand, who may come in, where it may go; ``plan``: the paper."""

    networks: Peers
    ways_in: tuple[Way, ...]
    ways_out: tuple[Way, ...]
    plan: Attached


class Document(Value, frozen=True):
    """A document by the digest of its bytes, and the grade that was decided for it."""

    sha256: Sha256
    grade: Grade


class Documents(Register, frozen=True):
    """What the server may answer from."""

    documents: tuple[Document, ...]


class Review(Value, frozen=True):
    """Somebody read the logs, and the report of an audit by number and head; ``finding``: what came of it."""

    date: Day
    by: Short
    number: Annotated[int, Meta(ge=1)]
    head: Sha256
    finding: Filled


class Reviews(Register, frozen=True):
    """Who reads the logs, by which rule, and when it was done."""

    reviewers: Annotated[tuple[Short, ...], Meta(min_length=1)]
    rule: Attached
    reviews: tuple[Review, ...]


class Approval(Value, frozen=True):
    """A sensitive command that somebody approved for a day; ``command`` as the operation log names it."""

    command: Short
    date: Day
    approver: Short
    ticket: Short


class Commands(Register, frozen=True):
    """How sensitive commands are approved, and which were."""

    rule: Attached
    approvals: tuple[Approval, ...]


class Rehearsal(Value, frozen=True):
    """The way back was walked; ``here``: on this server, so that its operation log must show it."""

    date: Day
    by: Short
    here: bool
    record: Attached


class Emergency(Register, frozen=True):
    """What is done in an emergency, and when that was practised."""

    plan: Attached
    rehearsals: tuple[Rehearsal, ...]


class Registers(Value, frozen=True, omit_defaults=True):
    """``registers.yaml``."""

    format: Literal[1] = 1
    accounts: Accounts | None = None
    keys: Keys | None = None
    programs: Programs | None = None
    network: Network | None = None
    documents: Documents | None = None
    reviews: Reviews | None = None
    commands: Commands | None = None
    emergency: Emergency | None = None

    def entered(self) -> Mapping[RegisterName, Register]:
        """Return the registers that the institution entered, by name."""
        found = {name: getattr(self, name) for name in REGISTERS}
        return {name: one for name, one in found.items() if one is not None}

    def papers(self) -> Iterator[Attached]:
        """Yield every file that a register names."""
        if self.network:
            yield self.network.plan
        for ruled in (self.reviews, self.commands):
            if ruled:
                yield ruled.rule
        if self.emergency:
            yield self.emergency.plan
            yield from (one.record for one in self.emergency.rehearsals)


@dataclass(frozen=True, slots=True)
class Declared:
    """The registers as they stand on the day of an audit.

    ``present``: digests of papers whose files are here and are what was named.
    """

    registers: Registers = field(default_factory=Registers)
    day: Day | None = None
    present: frozenset[str] = frozenset()

    def in_force(self) -> frozenset[RegisterName]:
        """Return the names of those that hold on the day."""
        if self.day is None:
            return frozenset()
        day, entered = self.day, self.registers.entered()
        return frozenset(name for name, one in entered.items() if one.standing(day) == "in-force")

    def lacking(self, papers: tuple[Attached, ...]) -> list[str]:
        """Return the files that are not here, or are others than were named."""
        return [one.file for one in papers if one.sha256 not in self.present]


def within(address: str, networks: Iterable[str]) -> bool:
    """Tell whether an address, or a whole network, lies in one of them. ``ValueError`` for neither."""
    here = ipaddress.ip_network(address.partition("%")[0], strict=False)
    known = [ipaddress.ip_network(one, strict=False) for one in networks]
    return any(here.version == one.version and here.subnet_of(one) for one in known)  # type: ignore[arg-type]


# --- What a type cannot say --------------------------------------------------------------------------------


def register_faults(found: Registers) -> Faults:
    """Yield what is wrong in the registers: days that contradict one another, no network, a name twice."""
    for name, one in found.entered().items():
        yield from date_faults((name,), one)
    if found.network:
        yield from _network_faults(found.network)
    if found.accounts:
        yield from _twice(("accounts", "people"), [one.name for one in found.accounts.people])
    if found.keys:
        yield from _twice(("keys", "users"), [one.name for one in found.keys.users])
    if found.documents:
        yield from _twice(("documents", "documents"), [one.sha256 for one in found.documents.documents])


def _twice(place: tuple[str, str], names: list[str]) -> Faults:
    seen = set[str]()
    for number, name in enumerate(names):
        if name in seen:
            yield (*place, number), text("this stands twice: {name}", name=name)
        seen.add(name)


def _network_faults(network: Network) -> Faults:
    lists: list[tuple[tuple[str | int, ...], tuple[str, ...]]] = [(("networks",), network.networks)]
    for side, ways in (("ways_in", network.ways_in), ("ways_out", network.ways_out)):
        lists += [((side, number, "peers"), one.peers) for number, one in enumerate(ways)]
    for place, peers in lists:
        for number, peer in enumerate(peers):
            if not _is_network(peer):
                said = text("{peer} is no address and no network, such as 10.0.0.0/24", peer=peer)
                yield ("network", *place, number), said


def _is_network(peer: str) -> bool:
    try:
        ipaddress.ip_network(peer)
    except ValueError:
        return False
    return True
