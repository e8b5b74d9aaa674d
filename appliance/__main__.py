"""The server's command line: parse, one call, one render. Only this module prints and exits."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import asdict
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from appliance import inventory
from appliance.audit.command import audit_command
from appliance.clock import SYSTEM_CLOCK
from appliance.console import Everywhere, asker, language_of, output, show_error, show_usage, told
from appliance.errors import BadInput, UnfitServer, Untrusted
from appliance.operation import StepFailed, carry_out_rest
from appliance.plan import plan_for
from appliance.rag.command import COMMANDS
from appliance.release import DEFAULT_ROOT, Server, installed, load
from appliance.session import Order, Session
from appliance.storekeeping import store_command
from appliance.text import Event, choose_language, text
from appliance.verify import first_trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.clock import Clock
    from appliance.operation import Outcome
    from appliance.state import FirstContact
    from appliance.text import Language

_PLAIN_PATH = re.compile(r"[A-Za-z0-9/_.-]+")
BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
EXPIRED = click.option(
    "--accept-expired",
    metavar="RELEASE",
    help="Take a release whose time is over: type its id. It is logged.",
)
SET_CLOCK = click.option(
    "--set-clock",
    is_flag=True,
    help="Set a clock that is behind to the newest signed build time. It is logged.",
)
REPAIR = click.option(
    "--repair",
    "others",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="OTHER",
    help="Another copy of the same bundle: gives what the first does not. May stand several times.",
)
RECHECK = click.option(
    "--recheck", is_flag=True, help="Hash what the store has of this release, and heal what is damaged."
)


def taking(command: Callable[[Session, Order], None]) -> Callable[..., None]:
    """Give a command that takes a bundle in everything that a person may say with it, as one value."""

    @BUNDLE
    @EXPIRED
    @REPAIR
    @RECHECK
    @SET_CLOCK
    @click.pass_obj
    @wraps(command)
    def run(session: Session, /, **said: Any) -> None:  # noqa: ANN401 - click's options
        command(session, Order(**said))

    return run


@click.group(
    cls=Everywhere, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.option("--root", type=click.Path(path_type=Path), default=DEFAULT_ROOT, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object a line.")
@click.option("--lang", type=click.Choice(["ko", "en"]), help="Language of messages; this help is English.")
@click.pass_context
def cli(context: click.Context, root: Path, lang: Language | None, *, as_json: bool) -> None:
    r"""Check, install, upgrade and audit what the media carry in.

    \b
    Examples:
      appliance verify /media/usb/minimal-1.0.0.tar
      appliance install /media/usb/minimal-1.0.0.tar
      appliance status --json
    """
    # --root may be relative; units and release scripts need the one true path
    given = context.obj or {}
    server = Server(root.resolve(), given.get("clock", SYSTEM_CLOCK))
    if not _PLAIN_PATH.fullmatch(str(server.root)):
        raise BadInput(
            text("the root's path has characters that units and scripts would need to quote"),
            where=server.root,
            remedy=text("choose a path of letters, digits, dots, dashes and underscores"),
        )
    context.obj = Session(
        server,
        as_json,
        lang or choose_language(),
        given.get("first_contact"),
        click.echo,
        partial(click.echo, err=True),
        asker(as_json=as_json),
    )


@cli.command("verify")
@BUNDLE
@EXPIRED
@click.pass_obj
def verify_command(session: Session, bundle: Path, accept_expired: str | None) -> None:
    r"""Judge a bundle and read all of it; write nothing.

    \b
    Example:
      python3 -I appliance.pyz verify /media/usb/minimal-1.0.0.tar
    """
    with session.judged(bundle, accept_expired) as (trusted, carrier):
        session.check_content(trusted, carrier)
        words = text(
            "{release} is whole and trusted: root version {root}, counter {counter}",
            release=trusted.release.id,
            root=trusted.root_version,
            counter=trusted.release.counter,
        )
        session.result(words, inventory.of_bundle(trusted))


@cli.command("import")
@taking
def import_command(session: Session, order: Order) -> None:
    r"""Read a bundle into the store, once, and change nothing else.

    \b
    Examples:
      appliance import /media/usb/minimal-1.1.0.tar
      appliance import /media/usb/minimal-1.1.0.tar --repair /media/second/minimal-1.1.0.tar
    """
    with session.taken(order) as (trusted, carrier, copies, _lock):
        session.mind_clock(trusted.release, set_clock=order.set_clock)
        receipt = session.bring_in(trusted, carrier, copies=copies, recheck=order.recheck)
        session.result(text("{release} is in the store", release=trusted.release.id), receipt)


@cli.command()
@BUNDLE
@EXPIRED
@click.pass_obj
def preflight(session: Session, bundle: Path, accept_expired: str | None) -> None:
    r"""Say whether this server can take the bundle, and why not.

    \b
    Example:
      appliance preflight /media/usb/minimal-1.0.0.tar
    """
    with session.judged(bundle, accept_expired) as (trusted, _carrier):
        release = trusted.release
        for finding in session.findings(release):
            session.say(Event("finding", finding.describe(), {"id": finding.id, "level": finding.level}))
        session.require_fit(release)
        session.result(text("this server can take {release}", release=release.id), {"release": release.id})


@cli.command()
@BUNDLE
@EXPIRED
@click.pass_obj
def plan(session: Session, bundle: Path, accept_expired: str | None) -> None:
    r"""Show what install or upgrade would do, step by step; do nothing.

    \b
    Example:
      appliance plan /media/usb/minimal-1.1.0.tar
    """
    with session.judged(bundle, accept_expired) as (trusted, _carrier):
        now = installed(session.server)
        old = load(session.server, now.release, session.trust()).release if now else None
        wanted = plan_for(old, trusted.release, now.previous if now else None)
        missing = session.server.store.missing(trusted.release.blobs)
        bytes_to_read = sum(blob.size_bytes for blob in missing)
        words = text("read {count} blobs ({size} bytes)", count=len(missing), size=bytes_to_read)
        session.say(Event("import", words, {"blobs": len(missing), "bytes": bytes_to_read}))
        for step in wanted.steps:
            session.say(Event("step", step.describe(), msgspec.to_builtins(step)))
        words = text("{operation}: {count} steps", operation=wanted.operation, count=len(wanted.steps))
        session.result(words, msgspec.to_builtins(wanted))


@cli.command()
@taking
def install(session: Session, order: Order) -> None:
    r"""Install a bundle, or bring this server to it; run it again after any interruption.

    \b
    Example:
      python3 -I appliance.pyz install /media/usb/minimal-1.0.0.tar
    """
    _apply(session, order)


@cli.command()
@taking
def upgrade(session: Session, order: Order) -> None:
    r"""Upgrade the installed release; a failure brings the old one back by itself (exit 30).

    \b
    Example:
      appliance upgrade /media/usb/minimal-1.1.0.tar
    """
    if installed(session.server) is None:
        raise UnfitServer(
            text("no release is installed"),
            where=session.server.root,
            remedy=text("run install instead of upgrade"),
        )
    _apply(session, order)


def _apply(session: Session, order: Order) -> None:
    with session.taken(order) as (bundle, carrier, copies, lock):
        session.mind_clock(bundle.release, set_clock=order.set_clock)
        session.require_fit(bundle.release)
        operator = session.operator(session.trust(), lock)
        operator.make_way()
        session.bring_in(bundle, carrier, copies=copies, recheck=order.recheck)
        outcome = operator.apply(bundle)
    _report(session, outcome)


def _report(session: Session, outcome: Outcome) -> None:
    words = text("{release} is installed and healthy", release=outcome.release or "-")
    if outcome.already:
        words = text(
            "{release} is already installed; {changed} tasks changed",
            release=outcome.release,
            changed=outcome.changed,
        )
    session.result(words, asdict(outcome))


@cli.command()
@click.pass_obj
def rollback(session: Session) -> None:
    r"""Go back to the release before, without any medium.

    \b
    Example:
      appliance rollback
    """
    with session.server.state.lock() as lock:
        outcome = session.operator(session.trust(), lock).rollback()
    words = text("nothing was installed before: the server is back to that")
    if outcome.release is not None:
        words = text("back on {release}", release=outcome.release)
    session.result(words, asdict(outcome))


@cli.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def uninstall(session: Session, *, yes: bool) -> None:
    r"""Remove everything that Banip installed; data, secrets, state and logs stay.

    \b
    Example:
      appliance uninstall --yes
    """
    if not yes:
        click.confirm(
            text("remove the installed release from this server?").render(session.language), abort=True
        )
    with session.server.state.lock() as lock:
        outcome = session.operator(session.trust(), lock).uninstall()
    session.result(text("removed; data, state and logs are kept"), asdict(outcome))


@cli.command()
@click.option(
    "--replace-trust",
    metavar="DIGITS",
    help="Put it in the place of another first root: the first 16 digits of its SHA-256, from the paper.",
)
@click.pass_obj
def adopt(session: Session, replace_trust: str | None) -> None:
    r"""Trust the root that this appliance.pyz carries: first contact, or the remedy for damaged state.

    \b
    Example:
      sha256sum appliance.pyz          (compare with the paper)
      python3 -I appliance.pyz adopt
    """
    if session.first_contact is None:
        raise Untrusted(
            text("only appliance.pyz can bring a first root"),
            remedy=text("run appliance.pyz, after comparing its SHA-256 with the paper"),
        )
    first = session.first_contact
    first_trust(first.root, first.product, first.site)
    former = session.adopt(first, replace_trust)
    words = text("this server now trusts the supplier of {product}", product=first.product)
    session.result(words, {"replaced": former})


@cli.command()
@click.pass_obj
def status(session: Session) -> None:
    r"""Say which release is installed, whether its services run, and whether a run was cut off.

    \b
    Example:
      appliance status --json
    """
    found = inventory.status(session.server, session.standing())
    for words in found.lines():
        session.say(Event("status", words))
    session.result(found.summary(), found.as_json())


@cli.command("inventory")
@click.pass_obj
def inventory_command(session: Session) -> None:
    r"""List what is installed: releases with their blobs, environments, counters, units.

    What was imported and is not installed yet counts in the store alone.

    \b
    Example:
      appliance --json inventory > inventory.json
    """
    found = inventory.take(session.server, session.standing())
    words = text(
        "installed releases: {count}, with {blobs} blobs; the store holds {stored} blobs in all",
        count=len(found["releases"]),
        blobs=len(found["blobs"]),
        stored=session.server.store.usage().blobs,
    )
    session.result(words, found)


@cli.command("carry-out", hidden=True)
@click.option("--lock-descriptor", type=int, required=True)
@click.pass_obj
def carry_out(session: Session, lock_descriptor: int) -> None:
    """Do the rest of the journal's plan; the appliance that prepared the release calls this."""
    with session.server.state.lock("carry-out", inherited=lock_descriptor) as lock:
        try:
            changed = carry_out_rest(session.operator(session.trust(), lock))
        except StepFailed as failure:
            session.tell({"faults": list(failure.faults)})
            sys.exit(1)
    session.tell({"changed": changed})


for command in (audit_command, store_command, *COMMANDS):
    cli.add_command(command)
cli.help = (cli.help or "").replace(r"\b", "\b")


def main(
    argv: list[str] | None = None, first_contact: FirstContact | None = None, clock: Clock = SYSTEM_CLOCK
) -> None:
    """Run the command line; exit with the code that the design gives to the error."""
    arguments = sys.argv[1:] if argv is None else argv
    language: Language = language_of(arguments)
    # Services read what is written here, whatever umask a hardened server gives to root.
    os.umask(0o022)
    try:
        given = {"first_contact": first_contact, "clock": clock}
        with output():
            cli.main(arguments, "appliance", standalone_mode=False, obj=given)
    except click.ClickException as error:
        show_usage(error, language, as_json="--json" in arguments)
        sys.exit(BadInput.exit_code)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last line of defence
        refused = told(error)
        show_error(refused, language, as_json="--json" in arguments)
        sys.exit(refused.exit_code)


if __name__ == "__main__":
    main()
