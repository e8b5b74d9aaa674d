"""What is tampered, foreign, old or incomplete is refused on a real server, and leaves one journal line."""

from __future__ import annotations

import io
import shutil
import tarfile
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from securesystemslib.signer._key import SSlibKey
from tuf.api._payload import Role

from appliance.format import blob_member, member_header, padding_bytes
from bundle import keys, pack, sign
from tests.carried import PASSPHRASE
from tests.closed_server import closed_server
from tests.onsite import JOURNAL, answer, appliance, differences, journal_lines, tree
from tests.test_journey import V1

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from pathlib import Path

    from appliance.format import Release
    from tests.carried import Media
    from tests.closed_server import ClosedServer, Snapshot

pytestmark = [pytest.mark.server, pytest.mark.network]

EXPIRES = datetime(2040, 1, 1, tzinfo=timezone.utc)
STATE = (JOURNAL, "/var/lib/banip/state/lock")
BLOBS = "/var/lib/banip/store/"


@dataclass(frozen=True, slots=True)
class Attack:
    """Makes a bad bundle at a path out of the good second version, and the exit code it must get."""

    name: str
    exit_code: int
    make: Callable[[Media, Path], None]


# --- Byte surgery -----------------------------------------------------------------------------------------


def flip(member: str, *, header: bool = False, inside: int = 40) -> Callable[[Media, Path], None]:
    def make(media: Media, path: Path) -> None:
        shutil.copyfile(media.second, path)
        found = _member(path, member)
        place = found.offset + 150 if header else found.offset_data + min(inside, max(found.size - 1, 0))
        with path.open("r+b") as file:
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 1]))

    return make


def flip_new_blob(media: Media, path: Path) -> None:
    """Flip in a blob that the server lacks: what it has already is not read from the medium."""
    old = {blob.sha256 for blob in pack.inspect(media.first).release.blobs}
    new = [blob for blob in pack.inspect(media.second).release.blobs if blob.sha256 not in old]
    flip(blob_member(max(new, key=lambda one: one.size_bytes).sha256))(media, path)


def flip_end(media: Media, path: Path) -> None:
    content = bytearray(media.second.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def flip_first_blob_header(media: Media, path: Path) -> None:
    release = pack.inspect(media.second).release
    flip(blob_member(release.blobs[0].sha256), header=True)(media, path)


def without_a_blob(media: Media, path: Path) -> None:
    content = media.second.read_bytes()
    found = _member(media.second, blob_member(pack.inspect(media.second).release.blobs[3].sha256))
    end = found.offset_data + found.size + padding_bytes(found.size)
    path.write_bytes(content[: found.offset] + content[end:])


def with_another_blob(media: Media, path: Path) -> None:
    content = media.second.read_bytes()
    found = _member(media.second, blob_member(pack.inspect(media.second).release.blobs[3].sha256))
    extra = member_header(blob_member("0" * 64), 3) + b"abc" + bytes(509)
    path.write_bytes(content[: found.offset] + extra + content[found.offset :])


def without_targets(media: Media, path: Path) -> None:
    content = media.second.read_bytes()
    found = _member(media.second, "targets.json")
    end = found.offset_data + found.size + padding_bytes(found.size)
    path.write_bytes(content[: found.offset] + content[end:])


def cut_short(media: Media, path: Path) -> None:
    content = media.second.read_bytes()
    path.write_bytes(content[: len(content) * 97 // 100])


def not_a_bundle(media: Media, path: Path) -> None:
    assert media.second.exists()
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("../../etc/cron.d/evil")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"evil"))


def _member(path: Path, name: str) -> tarfile.TarInfo:
    with tarfile.open(path) as archive:
        return archive.getmember(name)


# --- Well made, and not for this server now ---------------------------------------------------------------


def resigned(**changes: Any) -> Callable[[Media, Path], None]:  # noqa: ANN401 - fields of Release
    def make(media: Media, path: Path) -> None:
        _build(
            media,
            path,
            msgspec.structs.replace(pack.inspect(media.second).release, **changes),
            media.workshop.keys,
        )

    return make


def by_a_stranger(media: Media, path: Path) -> None:
    folder = path.parent / "strangers-keys"
    if not folder.exists():
        keys.create(folder, "minimal", passphrase=PASSPHRASE.encode(), expires=EXPIRES)
    _build(media, path, pack.inspect(media.second).release, folder)
    shutil.rmtree(folder)


def one_key_as_two(media: Media, path: Path) -> None:
    """A root, signed by the true root keys, that reaches its threshold with one release key under two ids."""
    folder = media.workshop.keys
    names = ("root-1", "root-2", "root-3", "release-1")
    *owners, release_key = (keys.load_signer(folder / f"{name}.pem", PASSPHRASE.encode()) for name in names)
    root = keys.make_root(2, EXPIRES, owners, 2, [release_key], 1)
    public, twin = release_key.public_key, "ab" * 32
    root.keys[twin] = SSlibKey(twin, public.keytype, public.scheme, public.keyval)
    root.roles["targets"] = Role([public.keyid, twin], 2)
    roots = [*keys.roots(folder), keys.signed_root(root, owners)]
    pack.build_carrier(path, roots, pack.inspect(media.second).release, _blobs(media), expires=EXPIRES)


def unsigned(media: Media, path: Path) -> None:
    release = pack.inspect(media.second).release
    pack.build_carrier(path, keys.roots(media.workshop.keys), release, _blobs(media), expires=EXPIRES)


def _blobs(media: Media) -> Callable[[str], BufferedReader]:
    store = media.workshop.folder / ".banip" / "store" / "blobs" / "sha256"
    return lambda digest: (store / digest).open("rb")


def _build(media: Media, path: Path, release: Release, folder: Path) -> None:
    pack.build_carrier(path, keys.roots(folder), release, _blobs(media), expires=EXPIRES)
    sign.sign(path, [keys.load_signer(folder / "release-1.pem", PASSPHRASE.encode())])


ATTACKS = (
    Attack("a flipped byte in the format line", 10, flip("format", inside=3)),
    Attack("a flipped byte in the root", 10, flip("root/1.json", inside=200)),
    Attack("a flipped byte in the targets", 10, flip("targets.json", inside=100)),
    Attack("a flipped byte in the room", 11, flip("room")),
    Attack("a flipped byte in release.json", 11, flip("release.json")),
    Attack("a flipped byte in chunks.bin", 11, flip("chunks.bin", inside=5)),
    Attack("a flipped byte in a blob", 11, flip_new_blob),
    Attack("a flipped byte in the header of the targets", 11, flip("targets.json", header=True)),
    Attack("a flipped byte in the header of a blob", 11, flip_first_blob_header),
    Attack("a flipped byte in the end", 11, flip_end),
    Attack("a missing blob", 12, without_a_blob),
    Attack("missing targets", 12, without_targets),
    Attack("a file cut short", 12, cut_short),
    Attack("an extra member", 11, with_another_blob),
    Attack("not a bundle", 10, not_a_bundle),
    Attack("an unknown signer", 10, by_a_stranger),
    Attack("one key posing as two", 10, one_key_as_two),
    Attack("unsigned", 10, unsigned),
    Attack("another product", 10, resigned(product="another")),
    Attack("another site", 10, resigned(site="elsewhere")),
    Attack("the same counter with another digest", 10, resigned(counter=1, version="1.0.1")),
)


@pytest.fixture(scope="module")
def server(media: Media, installed: Snapshot) -> Iterator[ClosedServer]:
    with closed_server(base=installed, media=media.folder) as running:
        yield running


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_refused(attack: Attack, server: ClosedServer, media: Media, tmp_path: Path) -> None:
    attack.make(media, tmp_path / "minimal-1.1.0.tar")
    server.insert_medium(tmp_path)
    before, lines = tree(server, *STATE), journal_lines(server)
    refused = appliance(server, "upgrade", "/media/usb/minimal-1.1.0.tar", check=False)
    assert refused.returncode == attack.exit_code, refused.stderr
    written = {path for path in differences(before, tree(server, *STATE)) if "__pycache__" not in path}
    if attack.name == "a flipped byte in a blob":
        # The good blobs carry signed names; of a large bad one the good chunks wait for another medium.
        assert all(path.startswith((BLOBS + "blobs/sha256/", BLOBS + "incoming")) for path in written)
    else:
        assert written == set()
    assert journal_lines(server) == lines + 1
    assert answer(server)["release"] == V1
