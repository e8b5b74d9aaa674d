"""Where names are looked up: indexes, folders, hubs, registries and archives that a manifest names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from appliance.format import Value
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from appliance.document import Place
    from appliance.text import Text

_PATH = r"^(\.|[A-Za-z0-9_][A-Za-z0-9_.+@=-]*(/[A-Za-z0-9_][A-Za-z0-9_.+@=-]*)*)$"

ProjectPath = Annotated[
    str, Meta(pattern=_PATH, max_length=240, description="Relative to the project, the parent of manifests/.")
]
Url = Annotated[str, Meta(pattern=r"^(https?|file)://[^\s@]+$", max_length=400)]
#: ``bookworm-security``, or a path that ends in a slash: a flat repository.
Suite = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.][A-Za-z0-9./_-]{0,80}$")]
Component = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9./_-]{0,80}$")]
Keyring = Annotated[
    str,
    Meta(
        pattern=r"^(/usr/share/keyrings/)?[A-Za-z0-9_][A-Za-z0-9_./+-]*\.(gpg|asc|pgp)$",
        max_length=240,
        description="Relative to the project, or one that the distribution installs.",
    ),
]


class AptSource(Value, frozen=True):
    """An apt repository. ``signed_by``: the keyring that must have signed it, otherwise the machine's keys.

    ``trusted``: take it unsigned; for a repository on this machine only.
    """

    uri: Url
    suites: Annotated[tuple[Suite, ...], Meta(min_length=1)]
    components: tuple[Component, ...] = ()
    signed_by: Keyring | None = None
    trusted: bool = False


class Sources(Value, frozen=True):
    """Where names are looked up; what is not named here, the build machine's configuration decides."""

    index: Url | None = None
    extra_indexes: tuple[Url, ...] = ()
    find_links: tuple[Url | ProjectPath, ...] = ()
    hub: Url | None = None
    registries: tuple[Url, ...] = ()
    apt: tuple[AptSource, ...] = ()


def source_faults(sources: Sources, project: Path) -> Iterator[tuple[Place, Text]]:
    """Yield what a schema cannot say against sources, with the place in them."""
    for number, source in enumerate(sources.apt):
        place: Place = ("apt", number)
        if source.trusted and not _is_here(source.uri):
            yield place, text("only a repository on this machine may be taken unsigned")
        for suite in source.suites:
            if suite.endswith("/") == bool(source.components):
                yield place, text("a flat repository has no components, any other has some")
        keyring = source.signed_by
        if keyring is not None and (".." in keyring or not (project / keyring).is_file()):
            yield (*place, "signed_by"), text("there is no keyring {value}", value=keyring)


def _is_here(uri: str) -> bool:
    return urlsplit(uri).scheme == "file" or urlsplit(uri).hostname in {"127.0.0.1", "::1", "localhost"}
