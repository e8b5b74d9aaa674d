"""Whom this server trusts and how far it has come, by all that remembers: state, releases, first contact.

Each memory may be lost or put back to an earlier time; what one of them still proves, the others believe. A
release folder proves its roots (each signed by those before it) and, where it was good once, its counter and
the time at which it was built.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from appliance.chain import name_of, root_version
from appliance.clock import reference_time
from appliance.errors import BadInput, Incomplete, Tampered, Untrusted
from appliance.metadata import FolderSource
from appliance.release import floor_of, installed, is_good, kept_bundles, release_ids
from appliance.roots import follow_roots
from appliance.text import text
from appliance.verify import first_trust

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from appliance.release import Server
    from appliance.state import FirstContact
    from appliance.verify import Floor, Trust, TrustedBundle

#: How much of the new first root's SHA-256 a person types, from the paper, to replace the trusted one.
DIGITS = 16
TRUST_REPLACED = "trust-replaced"
_UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a command goes by; ``adopted`` is False on first contact, while nothing is remembered yet.

    ``recovered``: root envelopes that state has lost and a release folder still proves; ``trust`` has them.
    """

    trust: Trust
    adopted: bool
    kept: tuple[TrustedBundle, ...] = ()
    good: tuple[TrustedBundle, ...] = ()
    recovered: tuple[bytes, ...] = ()

    @property
    def newest_built(self) -> datetime | None:
        """The newest signed build time that was accepted here."""
        return max((one.release.built for one in self.good), default=None)

    def reference_time(self, rtc: datetime) -> datetime:
        """Return the time that freshness is judged by."""
        return reference_time(rtc, self.newest_built)


def read_standing(server: Server, first_contact: FirstContact | None) -> Standing:
    """Read it; every kept release is judged once.

    Raises ``Untrusted`` where nobody is trusted yet, or where ``first_contact`` would replace who was;
    ``Tampered`` for damaged state.
    """
    base = server.state.trust()
    trust = base or _introduced(server, first_contact)
    kept = kept_bundles(server, trust)
    good = tuple(one for one in kept if is_good(server, one))
    recovered = _recovered(server, trust)
    now = None
    with suppress(Tampered):  # a damaged record proves nothing; who needs it says so
        now = installed(server)
    trust = replace(
        advanced(trust, recovered),
        floor=_floor(trust, good),
        installed_sha256=now.release_sha256 if now else None,
    )
    return Standing(trust, base is not None, kept, good, recovered)


def advanced(trust: Trust, roots: tuple[bytes, ...]) -> Trust:
    """Return the trust after these roots, which were found to follow its own."""
    if not roots:
        return trust
    known = root_version(trust.root) == len(trust.older) + 1
    return replace(trust, root=roots[-1], older=(*trust.older, trust.root, *roots[:-1]) if known else ())


def _introduced(server: Server, first: FirstContact | None) -> Trust:
    if first is None:
        raise Untrusted(
            text("this server does not trust anybody yet"),
            where=server.state.folder,
            remedy=text("run appliance.pyz, after comparing its SHA-256 with the paper"),
        )
    former = replaced_by(server, first)
    if former is not None:
        raise would_replace(former)
    return first_trust(first.root, first.product, first.site)


def _floor(trust: Trust, good: tuple[TrustedBundle, ...]) -> Floor | None:
    floors = [*([trust.floor] if trust.floor else []), *map(floor_of, good)]
    return max(floors, key=lambda floor: floor.counter, default=None)


def _recovered(server: Server, trust: Trust) -> tuple[bytes, ...]:
    """Return the roots after the trusted one that any release folder proves, good or not, by rules 1 to 3."""
    newest: tuple[bytes, ...] = ()
    for roots in _kept_roots(server):
        with suppress(Incomplete, Untrusted):
            newest = max(newest, follow_roots(roots, trust.root)[1], key=len)
    return newest


def _kept_roots(server: Server) -> Iterator[tuple[bytes, ...]]:
    for release_id in release_ids(server):
        roots = FolderSource(server.folder(release_id) / "metadata").roots()
        if roots:
            yield roots


# --- Another first root ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Replacement:
    """Another first root took the place of ``former``; ``at`` is None where its journal is gone."""

    former: str
    at: datetime | None


def replacements(server: Server) -> tuple[Replacement, ...]:
    """Return every time that trust was replaced here, oldest first. Raises ``Tampered``."""
    told = tuple(
        Replacement(str(entry.facts["former"]), entry.at)
        for entry in server.state.journal.entries()
        if entry.event == TRUST_REPLACED
    )
    silent = set(server.state.former_names()) - {one.former for one in told}
    return (*(Replacement(name, None) for name in sorted(silent)), *told)


def replaced_by(server: Server, first: FirstContact) -> str | None:
    """Return the name of the first root that ``first`` would replace here, or None where it replaces none.

    Where state has lost it, the release folders and what was trusted before still tell.
    """
    held = server.state.chain.sound()
    if held:
        known = {name_of(held[0])}
    else:
        known = {name_of(roots[0]) for roots in _kept_roots(server)} | set(server.state.former_names())
    if name_of(first.root) in known:
        return None
    if not known and server.state.chain.versions():
        return _UNKNOWN  # a damaged file: what it held cannot be compared
    return min(known, default=None)


def require_consent(former: str, first: FirstContact, typed: str | None) -> None:
    """Require that a person typed the new first root's digits, which are on the paper, not on the screen.

    Raises ``Untrusted`` where nothing was typed, ``BadInput`` for other digits.
    """
    if typed is None:
        raise would_replace(former)
    if "".join(typed.split()).lower() != name_of(first.root)[:DIGITS]:
        raise BadInput(
            text("these are not the first {count} digits of the new root's SHA-256", count=DIGITS),
            seen=typed,
            remedy=text("compare appliance.pyz with the paper again; where it differs, do not go on"),
        )


def would_replace(former: str) -> Untrusted:
    """Return what is said where another first root than the trusted one is brought, and nobody agreed."""
    return Untrusted(
        text("this server trusts another first root than the one that appliance.pyz brings"),
        where=former,
        remedy=text(
            "if the supplier has announced new root keys on paper: python3 -I appliance.pyz adopt "
            "--replace-trust followed by the first {count} digits of the first root's SHA-256 on that paper",
            count=DIGITS,
        ),
    )
