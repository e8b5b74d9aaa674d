"""The scene that every attack begins with, and the registry of attacks.

The scene is a server that has had two releases and knows two roots, and a third release on a medium: signed,
whole, and taken where nobody touches it. An attack spoils exactly one thing.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypeVar

from appliance.errors import BanipError, Expired
from appliance.format import TARGETS_MEMBER
from appliance.media import room_bytes
from tests.attacks import rows
from tests.tiny import Site
from tests.world import Generation, Member, World, key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: No clock of a machine makes it expire.
LATER = datetime(2900, 1, 1, tzinfo=timezone.utc)
LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
ROOT_KEYS = ("root-1", "root-2", "root-3")
OLD_RELEASE_KEYS = ("release-1", "release-2", "release-3")
RELEASE_KEYS = ("release-4", "release-5", "release-6")
_Argument = TypeVar("_Argument")


def generation(release_keys: tuple[str, ...], **changes: Any) -> Generation:  # noqa: ANN401 - its fields
    """Return a root of three keys that asks for two, of root keys and of release keys."""
    own = {
        "root_keys": [key(name) for name in ROOT_KEYS],
        "release_keys": [key(name) for name in release_keys],
    }
    return Generation(**{**own, "release_threshold": 2, "expires": LATER, **changes})


def whole_world() -> World:
    """Return the third release, whole, signed by two of the three release keys of the second root."""
    world = World(
        version="3.0.0",
        counter=3,
        expires=LATER,
        generations=[generation(OLD_RELEASE_KEYS), generation(RELEASE_KEYS)],
        signers=[key(name) for name in RELEASE_KEYS[:2]],
    )
    world.files["playbooks/site.yml"] += b"  # the third\n"
    return world


def earlier(counter: int) -> World:
    """Return a release that the server has had: the first or the second."""
    return World(
        version=f"{counter}.0.0",
        counter=counter,
        expires=LATER,
        generations=whole_world().generations[:counter],
        signers=[key(name) for name in (OLD_RELEASE_KEYS, RELEASE_KEYS)[counter - 1][:2]],
    )


def make_server(root: Path) -> None:
    """Make a server that has had two releases and knows two roots."""
    world, site = whole_world(), Site(root)
    site.adopt(world)
    state = site.server.state
    state.accept_roots([world.root(2)])
    state.keep(earlier(2).floor())
    with state.lock():  # as after any run: lock and journal are there
        state.journal.append("marked-good", release=earlier(2).release.id)


@dataclass(frozen=True, slots=True)
class Scene:
    """A server, and the release on its way to it; ``medium`` is the folder that stands for the stick."""

    world: World
    site: Site
    medium: Path

    @classmethod
    def in_folder(cls, folder: Path, server: Path) -> Scene:
        """Return the scene with a medium that is empty and a copy of that server."""
        shutil.copytree(server, folder / "banip")
        (folder / "medium").mkdir()
        return cls(whole_world(), Site(folder / "banip"), folder / "medium")

    def lay(self, content: bytes) -> Path:
        """Put these bytes on the medium as the bundle."""
        path = self.medium / "demo-3.0.0.tar"
        path.write_bytes(content)
        return path


@dataclass(frozen=True, slots=True)
class Attack:
    """One defect. ``row``: the words of its row in docs/design.md section 4.

    ``spoil`` returns the bundle's path; nothing stands for ``world.carrier``.
    ``stores``: content is refused, so true blobs that were read before it may be in the store by then.
    ``new_roots``: so many verified newer roots come with it, which count whatever becomes of the rest.
    ``commands``: what is run, the writing one last. ``pyz``, ``flags`` and ``environment``: how, where the
    case is about the first contact file; ``{there}`` is the folder beside it.
    """

    name: str
    exit_code: int
    row: str
    spoil: Callable[[Scene], Path | None]
    theme: str
    stores: bool = False
    new_roots: int = 0
    commands: tuple[str, ...] = ("verify", "import")
    pyz: str = "disk/appliance.pyz"
    flags: tuple[str, ...] = ("-I",)
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def error(self) -> str:
        """The class of error that has this exit code, and of those of one code the one that fits."""
        if self.row == rows.EXPIRED:
            return Expired.__name__
        return {each.exit_code: each.__name__ for each in BanipError.__subclasses__()}[self.exit_code]


ATTACKS: list[Attack] = []


def attack(
    exit_code: int,
    row: str,
    **traits: Any,  # noqa: ANN401 - fields of Attack
) -> Callable[[Callable[[Scene], Path | None]], Callable[[Scene], Path | None]]:
    """Register a case under the name of its function."""

    def register(spoil: Callable[[Scene], Path | None]) -> Callable[[Scene], Path | None]:
        own = {"name": spoil.__name__.replace("_", " "), **traits}
        ATTACKS.append(Attack(exit_code=exit_code, row=row, spoil=spoil, theme=_theme(spoil), **own))
        return spoil

    return register


def attacks(
    exit_code: int,
    row: str,
    cases: Mapping[str, _Argument],
    **traits: Any,  # noqa: ANN401 - fields of Attack
) -> Callable[[Callable[[Scene, _Argument], Path | None]], Callable[[Scene, _Argument], Path | None]]:
    """Register a case for each entry: the entry's name is the defect, its value is handed to the function."""

    def register(
        spoil: Callable[[Scene, _Argument], Path | None],
    ) -> Callable[[Scene, _Argument], Path | None]:
        for name, argument in cases.items():

            def bound(scene: Scene, argument: _Argument = argument) -> Path | None:
                return spoil(scene, argument)

            ATTACKS.append(Attack(name, exit_code, row, bound, _theme(spoil), **traits))
        return spoil

    return register


def _theme(spoil: Callable[..., object]) -> str:
    return spoil.__module__.rpartition(".")[2]


# --- Tools ----------------------------------------------------------------------------------------------


def edit(world: World, change: Callable[[list[Member]], list[Member]]) -> None:
    """Change the list of members, after what was changed before."""
    before = world.change_members or list
    world.change_members = lambda members: change(before(members))


def put(world: World, name: str, content: bytes) -> None:
    """Put other content in the place of a member's, with a header, a padding and a room that fit it."""

    def replaced(members: list[Member]) -> list[Member]:
        found = [Member.of(name, content) if member.name == name else member for member in members]
        return _with_room(found, content) if name == TARGETS_MEMBER else found

    edit(world, replaced)


def _with_room(members: list[Member], targets: bytes) -> list[Member]:
    try:
        room = Member.of("room", bytes(max(room_bytes(targets), 0)))
    except BanipError:  # no envelope: nobody will get as far as the room
        return members
    return [room if member.name == "room" else member for member in members]


def content_of(world: World, name: str) -> bytes:
    """Return what a member holds."""
    return next(member.content for member in world.members() if member.name == name)


def first_blob(world: World) -> str:
    """Return the name of the member that holds the first blob."""
    return next(member.name for member in world.members() if member.name.startswith("blobs/"))
