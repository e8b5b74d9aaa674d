"""``appliance store``: check what it holds, count it, and prune what nobody needs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from appliance import holdings
from appliance.console import Everywhere
from appliance.errors import Tampered
from appliance.release import installed
from appliance.text import Event, text

if TYPE_CHECKING:
    from appliance.holdings import Found, Pruning
    from appliance.release import Installed
    from appliance.session import Session
    from appliance.text import Text

_NAMED_MOST = 20


@click.group("store", cls=Everywhere)
def store_command() -> None:
    r"""Check the store, count its bytes, prune it.

    \b
    Examples:
      appliance store check
      appliance store usage
      appliance store prune
      appliance store prune --yes
    """


@store_command.command("check")
@click.pass_obj
def check_command(session: Session) -> None:
    r"""Hash everything in the store and change nothing; name what is damaged. Exit 11 where something is.

    \b
    Example:
      appliance store check
    """
    with session.progress(
        text("the store"), lambda percent: text("{percent} % hashed", percent=percent)
    ) as progress:
        found = holdings.check(session.server, session.trust(), progress)
    for one in found:
        session.say(Event("damage", _damage(one), one.as_json()))
    if found:
        raise _damaged(found, installed(session.server))
    usage = session.server.store.usage()
    words = text("{count} blobs ({size} bytes) are whole", count=usage.blobs, size=usage.blob_bytes)
    session.result(words, asdict(usage))


def _hashed(percent: int) -> Text:
    return text("{percent} % hashed", percent=percent)


def _damage(found: Found) -> Text:
    faults = found.damage.faults
    uses = "; ".join(f"{release}: {', '.join(names)}" for release, names in found.uses.items())
    return text(
        "blob {sha256}, chunk {numbers}: {happened}; used by {uses}",
        sha256=found.damage.path.name,
        numbers=", ".join(str(fault.chunk.number) for fault in faults) or "-",
        happened=found.damage.happened,
        uses=uses or "-",
    )


def _damaged(found: tuple[Found, ...], now: Installed | None) -> Tampered:
    return Tampered(
        text("{count} blobs of the store are damaged", count=len(found)),
        where=tuple(_damage(one) for one in found[:_NAMED_MOST]),
        remedy=_remedy({release for one in found for release in one.uses}, now),
        facts={"damaged": [one.as_json() for one in found]},
    )


def _remedy(releases: set[str], now: Installed | None) -> Text:
    if now is not None and now.release in releases:
        return text(
            "run `appliance install --recheck BUNDLE` with the bundle of {release}: only what is damaged is "
            "read again",
            release=now.release,
        )
    if releases:
        return text(
            "not in use, but {release} has it: run `appliance import --recheck BUNDLE` with a bundle of the "
            "same blob that is not older than the release in use, or prune what you do not want back",
            release=", ".join(sorted(releases)),
        )
    return text("no release uses it: `appliance store prune --yes` removes it")


@store_command.command("usage")
@click.pass_obj
def usage_command(session: Session) -> None:
    r"""Say what each release takes in the store, what could be given back, and what is free.

    \b
    Example:
      appliance store usage --json
    """
    found = holdings.accounts(session.server, session.trust())
    for share in found.shares:
        words = text(
            "{release}: {own} bytes of its own, {shared} shared",
            release=share.release,
            own=share.own_bytes,
            shared=share.shared_bytes,
        )
        session.say(Event("share", words, asdict(share)))
    rest = text(
        "used by no release: {unused} bytes; unfinished imports: {parts} bytes",
        unused=found.unused_bytes,
        parts=found.parts_bytes,
    )
    session.say(Event("rest", rest, {"unused_bytes": found.unused_bytes, "parts_bytes": found.parts_bytes}))
    words = text(
        "prune gives back {size} bytes; {free} bytes are free",
        size=found.reclaimable_bytes,
        free=found.free_bytes,
    )
    session.result(words, asdict(found))


@store_command.command("prune")
@click.option("--yes", is_flag=True, help="Do it; without this it is only shown.")
@click.pass_obj
def prune_command(session: Session, *, yes: bool) -> None:
    r"""Remove what neither the release in use nor the one before it needs; without --yes only show it.

    \b
    Examples:
      appliance store prune
      appliance store prune --yes
    """
    if not yes:
        pruning = holdings.plan_pruning(session.server, session.trust())
        _show(session, pruning)
        words = text("this would give back {size} bytes: run it with --yes", size=pruning.store_bytes)
        session.result(words, {**asdict(pruning), "done": False})
        return
    with session.server.state.lock():
        pruning = holdings.plan_pruning(session.server, session.trust())
        _show(session, pruning)
        holdings.prune(session.server, pruning)
        session.server.state.journal.append(
            "pruned",
            kept=list(pruning.kept),
            releases=list(pruning.releases),
            environments=list(pruning.environments),
            blobs=len(pruning.blobs),
            store_bytes=pruning.store_bytes,
        )
    words = text("the store gave back {size} bytes", size=pruning.store_bytes)
    session.result(words, {**asdict(pruning), "done": True})


def _show(session: Session, pruning: Pruning) -> None:
    words = text("kept: {releases}", releases=", ".join(pruning.kept) or "-")
    session.say(Event("kept", words, {"releases": list(pruning.kept)}))
    for name in pruning.releases:
        session.say(Event("prune", text("release {release}", release=name), {"release": name}))
    for name in pruning.environments:
        session.say(Event("prune", text("environment {digest}", digest=name), {"environment": name}))
    words = text(
        "{blobs} blobs, {parts} unfinished imports", blobs=len(pruning.blobs), parts=len(pruning.parts)
    )
    session.say(Event("prune", words, {"blobs": len(pruning.blobs), "parts": len(pruning.parts)}))
