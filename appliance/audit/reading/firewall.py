"""The firewall as nft tells it: chains, what the product's table lets through, and what wanted to leave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from appliance.audit.facts_network import Attempt, Chain, Firewall, Opening
from appliance.audit.reading.probe import output

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

PRODUCT_TABLE = "banip"


def firewall() -> Firewall:
    """Ask nft for all chains and for the product's table, whose sets remember what tried to leave.

    Not for the ruleset: of a table that a process owns, firewalld's for one, nft 1.0.6 writes memory that was
    never set, and the whole answer is no JSON any more.
    """
    chains = output("nft", "-j", "list", "chains")
    if not any(one["chain"]["table"] == PRODUCT_TABLE for one in _told(chains) if "chain" in one):
        return parse_rules(chains)
    return parse_rules(chains, output("nft", "-j", "list", "table", "inet", PRODUCT_TABLE))


def _told(answer: str) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(answer)["nftables"]
    return told


def parse_rules(all_chains: str, our_table: str = '{"nftables": []}') -> Firewall:
    """Return what matters of nft's JSON (libnftables-json(5))."""
    chains = [one["chain"] for one in _told(all_chains) if "chain" in one]
    ruleset = _told(our_table)
    sets = [one["set"] for one in ruleset if "set" in one and _counts(one["set"])]
    rules = [one["rule"] for one in ruleset if "rule" in one]
    dormant = any("flags" in one["table"] for one in ruleset if "table" in one)
    return Firewall(
        chains=tuple(_chain(one, dormant=dormant) for one in chains if "hook" in one),
        counts_egress=bool(sets),
        attempts=tuple(Attempt(one["name"], element) for one in sets for element in _elements(one)),
        openings=tuple(dict.fromkeys(Ways(ruleset).openings())),
        logs_refusals=any(rule["chain"] == "output" and _has(rule, "log") for rule in rules),
    )


def _chain(one: dict[str, Any], *, dormant: bool) -> Chain:
    """Return a chain. The product's table has no flags: any flag is taken for the one that puts it to sleep.

    Which flag it is, nft 1.0.6 does not tell: the words that it writes there are others.
    """
    ours = dormant and (one["family"], one["table"]) == ("inet", PRODUCT_TABLE)
    policy = "dormant" if ours else one.get("policy", "accept")
    return Chain(one["family"], one["table"], one["name"], one["hook"], policy)


def _counts(found: dict[str, Any]) -> bool:
    return found["table"] == PRODUCT_TABLE and str(found["name"]).startswith(("egress", "attempt"))


def _elements(found: dict[str, Any]) -> Iterator[str]:
    for element in found.get("elem", ()):
        value = element.get("elem", {}).get("val", element) if isinstance(element, dict) else element
        parts = value.get("concat", [value]) if isinstance(value, dict) else [value]
        yield " ".join(_spelled(part) for part in parts)


# --- What is let through -----------------------------------------------------------------------------------

#: Chains that call one another deeper than this are not followed; the kernel allows 16.
_DEPTH_MOST = 16
#: More ports in one range than this are as good as any port.
_PORTS_MOST = 1024
_HOOKS = ("input", "output", "forward")


class Ways:
    """The rules of one table, followed from where packets come into it."""

    def __init__(self, ruleset: list[dict[str, Any]]) -> None:
        self._sets = {one["set"]["name"]: one["set"] for one in ruleset if "set" in one}
        self._rules: dict[str, list[dict[str, Any]]] = {}
        for one in ruleset:
            if "rule" in one:
                self._rules.setdefault(one["rule"]["chain"], []).append(one["rule"])
        hooks = {one["chain"]["name"]: one["chain"].get("hook") for one in ruleset if "chain" in one}
        # A rule may be told without its chain: then its name says where it stands.
        self._begins = {name: hook for name, hook in hooks.items() if hook in _HOOKS} or {
            name: name for name in self._rules if name in _HOOKS
        }

    def openings(self) -> Iterator[Opening]:
        """Yield what is let through; not what answers, stays on loopback, or is a message of ICMP."""
        for chain, hook in self._begins.items():
            yield from self._below(chain, hook, [], 0)

    def _below(self, chain: str, hook: str, above: list[dict[str, Any]], depth: int) -> Iterator[Opening]:
        for rule in self._rules.get(chain, ()):
            matches = [*above, *(one["match"] for one in rule.get("expr", ()) if "match" in one)]
            if any(_is_answer(one) for one in matches):
                continue
            if _has(rule, "accept"):
                yield self._opening(hook, matches)
            yield from self._by_map(rule, hook, matches)
            for target in _targets(rule):
                if depth < _DEPTH_MOST:
                    yield from self._below(target, hook, matches, depth + 1)
                else:
                    yield Opening(hook)

    def _by_map(self, rule: dict[str, Any], hook: str, matches: list[dict[str, Any]]) -> Iterator[Opening]:
        """Yield what a map of verdicts accepts; of a map by name nobody can say what it will hold."""
        for one in rule.get("expr", ()):
            data = one["vmap"]["data"] if "vmap" in one else {"set": []}
            pairs = data.get("set", []) if isinstance(data, dict) else [(None, {"accept": None})]
            if any("accept" in verdict for _, verdict in pairs):
                yield self._opening(hook, matches)

    def _opening(self, hook: str, matches: list[dict[str, Any]]) -> Opening:
        plain = [one for one in matches if one.get("op") in {"==", "in", None}]
        side = {"input": "saddr", "output": "daddr"}.get(hook)
        return Opening(
            chain=hook,
            peers=tuple(
                peer for one in plain if _field(one, {"ip", "ip6"}) == side for peer in self._values(one)
            ),
            ports=_ports([value for one in plain if _field(one) == "dport" for value in self._values(one)]),
        )

    def _values(self, match: dict[str, Any]) -> list[str]:
        """Return what a match compares with; a set that packets can fill holds anything."""
        found = []
        for value in _values(match):
            known = self._sets.get(value[1:]) if value.startswith("@") else None
            is_fixed = known is not None and "dynamic" not in known.get("flags", ())
            found += list(_elements(known)) if known is not None and is_fixed else [value]
        return found


def _has(rule: dict[str, Any], statement: str) -> bool:
    return any(statement in one for one in rule.get("expr", ()))


def _targets(rule: dict[str, Any]) -> Iterator[str]:
    for one in rule.get("expr", ()):
        data = one["vmap"]["data"] if "vmap" in one else None
        pairs = data.get("set", []) if isinstance(data, dict) else []
        for verdict in (one, *(verdict for _, verdict in pairs)):
            for word in ("jump", "goto"):
                if isinstance(verdict, dict) and word in verdict:
                    yield verdict[word]["target"]


def _ports(values: list[str]) -> tuple[int, ...]:
    """Return ports by number; none, which is any, where one value is no port or a range is wide."""
    found: list[int] = []
    for value in values:
        first, _, last = value.partition("-")
        if not (
            first.isdigit() and (last or first).isdigit() and int(last or first) - int(first) < _PORTS_MOST
        ):
            return ()
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def _field(match: dict[str, Any], protocols: Collection[str] = ()) -> str:
    left = match.get("left", {})
    payload = left.get("payload", {}) if isinstance(left, dict) else {}
    return "" if protocols and payload.get("protocol") not in protocols else str(payload.get("field", ""))


def _is_answer(match: dict[str, Any]) -> bool:
    left = match.get("left", {})
    if not isinstance(left, dict):
        return False
    if left.get("payload", {}).get("protocol") in {"icmp", "icmpv6"}:
        return True
    if match.get("op") not in {"==", "in"}:
        return False
    if left.get("meta", {}).get("key") in {"iif", "iifname", "oif", "oifname"}:
        return set(_values(match)) == {"lo"}
    return left.get("ct", {}).get("key") == "state" and set(_values(match)) <= {"established", "related"}


def _values(match: dict[str, Any]) -> list[str]:
    right = match.get("right")
    several = right["set"] if isinstance(right, dict) and "set" in right else right
    return [_spelled(one) for one in (several if isinstance(several, list) else [several])]


def _spelled(value: Any) -> str:  # noqa: ANN401 - nft's own shapes
    if isinstance(value, dict) and "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    if isinstance(value, dict) and "range" in value:
        return "-".join(map(str, value["range"]))
    return str(value)
