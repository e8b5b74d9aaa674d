"""A root that too few have signed yet: a folder ``draft/`` inside the key folder.

It holds ``root.json`` (the envelope, with the signatures so far), ``change.json`` (what was asked for), and
the pairs that were made for it. It gets and loses its name in one rename each, so a run that is killed leaves
it there or not there; what such a run left beside it is swept by the next. Once old and new root keys have
signed, its pairs move into the key folder, and then its root gets its final name: that is the moment at which
the new root exists. A run that is killed in between is settled by the next one.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuf.api._payload import Root

from appliance.durable import rename_durably, sync_folder, write_file
from appliance.errors import BadInput, Incomplete, Untrusted
from appliance.format import envelope_to_bytes
from appliance.roots import check_root, parse_signed
from appliance.text import text
from appliance.verify import follow_roots, open_envelope, trusted_root
from bundle.folder import DRAFT, ROOTS, root_path, root_versions, roots
from bundle.pair import PUBLIC, write_new
from bundle.root import Quorum, quorum

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from securesystemslib.signer._key import Key
    from tuf.api.dsse import SimpleEnvelope

_ENVELOPE, _CHANGE = "root.json", "change.json"
_COMING, _GOING = ".draft.new", ".draft.gone"
_MODE = 0o600


@dataclass(frozen=True, slots=True)
class Draft:
    """The next root of a key folder, unfinished; ``old`` is none where it is the first."""

    folder: Path
    envelope: SimpleEnvelope[Any]
    root: Root
    old: Root | None
    change: bytes

    @property
    def home(self) -> Path:
        """The folder of the draft itself."""
        return self.folder / DRAFT

    @property
    def quorums(self) -> tuple[Quorum, ...]:
        """How far signing is: by the old root's keys, where there is one, and by the new root's own."""
        named = [root for root in (self.old, self.root) if root is not None]
        return tuple(quorum(root, Root.type, self.envelope, self.home / _ENVELOPE) for root in named)

    @property
    def complete(self) -> bool:
        """Whether both thresholds are met."""
        return not any(each.lacking for each in self.quorums)

    @property
    def signing_keys(self) -> tuple[Key, ...]:
        """The root keys, old and new, whose signatures count."""
        named = [root for root in (self.old, self.root) if root is not None]
        found = {key_id: root.keys[key_id] for root in named for key_id in root.roles[Root.type].keyids}
        return tuple(found[key_id] for key_id in sorted(found))


def read_draft(folder: Path) -> Draft | None:
    """Return the draft of a key folder; none where there is none, or where its root exists by now.

    Raises ``Incomplete`` for one that does not follow the newest root, and what a damaged file raises.
    """
    home = folder / DRAFT
    if not home.is_dir():
        return None
    envelope, root, change = _read(home)
    newest = max(root_versions(folder), default=0)
    if root.version <= newest:
        return None  # a run was killed between the root's final name and the end of its draft
    if root.version != newest + 1:
        raise Incomplete(
            text("the draft does not follow the newest root of the key folder"),
            where=home,
            expected=newest + 1,
            seen=root.version,
            remedy=text(
                "bring back the missing roots, or throw the draft away: build.py keys rotate --discard"
            ),
        )
    old = trusted_root(roots(folder)[-1]) if newest else None
    return Draft(folder, envelope, root, old, change)


def _read(home: Path) -> tuple[SimpleEnvelope[Any], Root, bytes]:
    try:
        envelope = open_envelope((home / _ENVELOPE).read_bytes(), str(home / _ENVELOPE))
        root = parse_signed(envelope, Root, str(home / _ENVELOPE))
        check_root(root)
        return envelope, root, (home / _CHANGE).read_bytes()
    except (OSError, Untrusted) as error:
        raise Incomplete(
            text("the draft of the next root is damaged"),
            where=home,
            seen=error,
            remedy=text("throw it away and propose it again: build.py keys rotate --discard"),
        ) from error


def write_draft(
    folder: Path, envelope: SimpleEnvelope[Any], change: bytes, files: Mapping[str, bytes]
) -> None:
    """Lay down a new draft with the pairs that were made for it; all of it or nothing."""
    coming = folder / _COMING
    _remove(coming)
    coming.mkdir(mode=0o700)
    for name, content in files.items():
        write_new(coming / name, content)
    write_new(coming / _CHANGE, change)
    write_new(coming / _ENVELOPE, envelope_to_bytes(envelope))
    sync_folder(coming)
    rename_durably(coming, folder / DRAFT)


def keep_signatures(draft: Draft) -> None:
    """Make the signatures durable that are on the draft's envelope now."""
    write_file(draft.home / _ENVELOPE, envelope_to_bytes(draft.envelope), _MODE)


def settle(folder: Path) -> tuple[int, bytes] | None:
    """End what a killed run left; return version and change of a draft that is a root by now."""
    for leftover in (folder / _COMING, folder / _GOING):
        _remove(leftover)
    if not (folder / DRAFT).is_dir():
        return None
    _, root, change = _read(folder / DRAFT)
    draft = read_draft(folder)
    if draft is not None and not finish(draft):
        return None
    _drop(folder)
    return root.version, change


def finish(draft: Draft) -> bool:
    """Let the draft become a root if both thresholds are met; tell whether it did.

    The servers' own rules decide: the chain must lead from every earlier root to the new one.
    """
    if not draft.complete:
        return False
    folder, content = draft.folder, envelope_to_bytes(draft.envelope)
    if draft.old is None:
        trusted_root(content)
    else:
        before = roots(folder)
        for known in before:
            follow_roots((*before, content), known)
    _move_pairs(draft)
    if not (folder / ROOTS).is_dir():
        (folder / ROOTS).mkdir(mode=0o700)
        sync_folder(folder)
    write_file(root_path(folder, draft.root.version), content, _MODE)
    _drop(folder)
    return True


def discard(folder: Path) -> bool:
    """Throw the draft away, and the pairs that were made for it; tell whether there was one.

    One that both thresholds have signed is a root already, whatever a killed run left undone.
    """
    with suppress(Incomplete, Untrusted):  # damaged: that is what it is thrown away for
        settle(folder)
    there = (folder / DRAFT).is_dir()
    _drop(folder)
    return there


def _move_pairs(draft: Draft) -> None:
    # The public half first: a private key never lies there without it.
    pairs = sorted(draft.home.glob("*.pem"), key=lambda path: not path.name.endswith(PUBLIC))
    taken = [path.name for path in pairs if (draft.folder / path.name).exists()]
    if taken:
        raise BadInput(
            text("a file of this name is there; keys are never overwritten"),
            where=draft.folder / taken[0],
            remedy=text("move that file to another place and run the same command again"),
        )
    for path in pairs:
        rename_durably(path, draft.folder / path.name)
    sync_folder(draft.home)


def _drop(folder: Path) -> None:
    if (folder / DRAFT).is_dir():
        rename_durably(folder / DRAFT, folder / _GOING)
    _remove(folder / _GOING)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
