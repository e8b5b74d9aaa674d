"""What the commands of the online side share: language, ``--json``, passphrase, screen, time."""

from __future__ import annotations

import os
import sys
from datetime import datetime, timezone
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.errors import BadInput
from appliance.text import choose_language, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.text import Language
    from bundle.screen import Screen

PASSPHRASE_VARIABLE = "BANIP_PASSPHRASE"  # noqa: S105 - the name of a variable
PATH = click.Path(path_type=Path)
KEYS = click.option("--keys", "key_folder", type=PATH, default=Path("keys"), show_default=True)
PASSPHRASE = click.option(
    "--passphrase-file", type=PATH, help=f"Its first line; otherwise ${PASSPHRASE_VARIABLE}, or asked for."
)

_EVERYWHERE = "--json (one JSON object a line) and --lang ko|en may stand anywhere."
SIGNATURES = click.option(
    "--signature", "signatures", type=PATH, multiple=True, help="Made of the exported bytes; one or several."
)


def _behind_the_option(context: click.Context, _: click.Parameter, more: tuple[Path, ...]) -> None:
    """Add the files that a shell writes behind ``--signature``: the option itself takes the first alone."""
    if more and not context.params.get("signatures"):
        raise BadInput(
            text("these words belong to no option"),
            seen=" ".join(map(str, more)),
            remedy=text("name signatures with --signature"),
        )
    if more:
        context.params["signatures"] += more


MORE_SIGNATURES = click.argument(
    "more", type=PATH, nargs=-1, metavar="", callback=_behind_the_option, expose_value=False
)
KEY_FILES = click.option(
    "--key", "key_files", type=PATH, multiple=True, help="A private key; may be repeated."
)


def command(group: click.Group, name: str) -> Callable[[Callable[..., None]], click.Command]:
    """Register a command that gets a ``Screen`` first, as the options of the whole command line ask."""

    def register(function: Callable[..., None]) -> click.Command:
        @click.pass_context
        @wraps(function)
        def run(context: click.Context, /, **given: Any) -> None:  # noqa: ANN401 - click's
            asked = context.find_root().params
            screen = make_screen(asked["lang"] or choose_language(), as_json=asked["as_json"])
            function(screen, **given)

        return group.command(name, epilog=_EVERYWHERE)(run)

    return register


def make_screen(language: Language, *, as_json: bool) -> Screen:
    """Return the voice of one command."""
    from bundle.screen import Screen as Voice  # noqa: PLC0415 - --help does without it

    return Voice(language, as_json, click.echo, partial(click.echo, err=True), sys.stderr.isatty())


def passphrase(file: Path | None, *, confirm: bool) -> bytes:
    """Return the passphrase: the first line of a file, the variable's value, or what is typed."""
    if file is not None:
        try:
            return file.read_bytes().splitlines()[0]
        except (OSError, IndexError) as error:
            remedy = text("name a file whose first line is the passphrase")
            raise BadInput(text("the passphrase cannot be read"), where=file, remedy=remedy) from error
    given = os.environ.get(PASSPHRASE_VARIABLE)
    if given is None:
        given = _typed(confirm=confirm)
    return os.fsencode(given)


def _typed(*, confirm: bool) -> str:
    try:
        return str(click.prompt("Passphrase", hide_input=True, confirmation_prompt=confirm, err=True))
    except click.Abort as stop:
        if not isinstance(stop.__context__, EOFError):
            raise
        raise BadInput(
            text("a passphrase is needed, and nobody is here to type it"),
            remedy=text(
                "type it at a terminal, or give --passphrase-file or {name}", name=PASSPHRASE_VARIABLE
            ),
        ) from stop


def now() -> datetime:
    """Return the time, to the second."""
    return datetime.now(timezone.utc).replace(microsecond=0)
