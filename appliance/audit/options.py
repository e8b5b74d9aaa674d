"""What the commands below ``appliance audit`` have in common on the command line."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.durable import make_folder
from appliance.errors import BadInput
from appliance.text import text

if TYPE_CHECKING:
    from appliance.audit.facts import AuditFacts
    from appliance.audit.site import SiteRules
    from appliance.format import Grade

FALLBACK_GRADE: Grade = "C"
#: A file, a device or a link to nothing lies where a folder should be, or nobody can make one there.
_NO_PLACE = frozenset((errno.EEXIST, errno.ENOTDIR, errno.ENOENT, errno.ELOOP, errno.EINVAL))
GRADE = click.option(
    "--grade", type=click.Choice(["C", "S", "O"]), help="Grade to audit for; default: the release's."
)
SITE = click.option(
    "--site",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the institution's own audit files.  [default: /etc/banip/audit]",
)
FORMATS = click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="NAME",
    help="Only this format of the report (html, pdf, xlsx, hwpx, oscal); may stand several times."
    "  [default: every one]",
)


def rules_of(site: Path | None) -> SiteRules:
    """Read the institution's own files. Raises ``BadInput``."""
    from appliance.audit.site import AUDIT_FOLDER, read_rules  # noqa: PLC0415 - --help starts without any of it

    if site is not None and not site.is_dir():
        raise BadInput(text("there is no such folder"), where=site)
    return read_rules(site or AUDIT_FOLDER)


def make_out(out: Path) -> None:
    """Make the folder that a person names for new files. Raises ``BadInput`` where none can be made."""
    try:
        make_folder(out, 0o700)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        raise BadInput(
            text("no folder can be made there"),
            where=out,
            seen=error.strerror,
            remedy=text("look at this path, or name another one"),
        ) from error


def grade_of(facts: AuditFacts) -> Grade:
    """Return the grade of the release that is installed; without one the strictest."""
    release = facts.release.value
    return release.grade if release and release.grade else FALLBACK_GRADE
