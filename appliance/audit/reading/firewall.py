"""The firewall as nft tells it: chains, what the product's table lets through, and what wanted to leave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from appliance.audit.facts_network import Attempt, Chain, Firewall, Opening
from appliance.audit.reading.probe import output

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    return Firewall(
        chains=tuple(
            Chain(one["family"], one["table"], one["name"], one["hook"], one.get("policy", "accept"))
            for one in chains
            if "hook" in one
        ),
        counts_egress=bool(sets),
        attempts=tuple(Attempt(one["name"], element) for one in sets for element in _elements(one)),
        openings=tuple(opening for rule in rules for opening in _opening(rule)),
        logs_refusals=any(rule["chain"] == "output" and _has(rule, "log") for rule in rules),
    )


def _counts(found: dict[str, Any]) -> bool:
    return found["table"] == PRODUCT_TABLE and str(found["name"]).startswith(("egress", "attempt"))


def _elements(found: dict[str, Any]) -> Iterator[str]:
    for element in found.get("elem", ()):
        value = element.get("elem", {}).get("val", element) if isinstance(element, dict) else element
        parts = value.get("concat", [value]) if isinstance(value, dict) else [value]
        yield " ".join(str(part) for part in parts)


# --- What is let through -----------------------------------------------------------------------------------


def _has(rule: dict[str, Any], statement: str) -> bool:
    return any(statement in one for one in rule.get("expr", ()))


def _opening(rule: dict[str, Any]) -> Iterator[Opening]:
    """Yield what a rule opens; none for what answers, stays on loopback, or is a message of ICMP."""
    matches = [one["match"] for one in rule.get("expr", ()) if "match" in one]
    if not _has(rule, "accept") or any(_is_answer(one) for one in matches):
        return
    side = "saddr" if rule["chain"] == "input" else "daddr"
    yield Opening(
        chain=rule["chain"],
        peers=tuple(peer for one in matches if _field(one) == side for peer in _values(one)),
        ports=tuple(
            int(port) for one in matches if _field(one) == "dport" for port in _values(one) if port.isdigit()
        ),
    )


def _field(match: dict[str, Any]) -> str:
    left = match.get("left", {})
    return str(left.get("payload", {}).get("field", "")) if isinstance(left, dict) else ""


def _is_answer(match: dict[str, Any]) -> bool:
    left = match.get("left", {})
    if not isinstance(left, dict):
        return False
    if left.get("payload", {}).get("protocol") in {"icmp", "icmpv6"}:
        return True
    if left.get("meta", {}).get("key") in {"iif", "iifname", "oif", "oifname"}:
        return "lo" in _values(match)
    return left.get("ct", {}).get("key") == "state" and "new" not in _values(match)


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
