"""A bundle by hand: the lines that stand in the documents, run by a plain ``sh``, on bundles good and bad.

Nothing but the two paths in the first block is changed. The lines go in as a person pastes them, through the
shell's own input, in an empty folder, with Debian's programs alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from appliance.format import canonical_json, member_header, sha256_hex
from appliance.state import FirstContact, State
from appliance.verify import Floor
from tests.project import Built, build_tiny
from tests.released.make import full_world
from tests.world import Generation, Member, World, key

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parents[1]
DOCUMENTS = {"en": PROJECT / "docs" / "design.md", "ko": PROJECT / "docs" / "ko" / "by-hand.md"}
PATHS = ("BUNDLE=/media/usb/minimal-1.0.0.tar\n", "PYZ=/root/banip/appliance.pyz\n")
HELD = "every line held for"


def section(language: str) -> str:
    """Return what belongs to the matter: one section of the design, all of the Korean document."""
    words = DOCUMENTS[language].read_text("utf-8")
    if language == "ko":
        return words
    (found,) = re.findall(r"(?ms)^## A bundle, by hand\n(.*?)^## ", words)
    return str(found)


def blocks(language: str) -> list[str]:
    return re.findall(r"(?ms)^```sh\n(.*?)^```$", section(language))


def by_hand(bundle: Path, pyz: Path, folder: Path, language: str = "en") -> subprocess.CompletedProcess[str]:
    """Paste the lines into ``sh``; stdout holds what a person sees, both streams in order."""
    lines = "".join(blocks(language))
    for line, path in zip(PATHS, (bundle, pyz), strict=True):
        assert lines.count(line) == 1
        lines = lines.replace(line, f"{line.partition('=')[0]}={path}\n")
    folder.mkdir()
    return subprocess.run(
        ["env", "-i", "PATH=/usr/bin:/bin", "sh"],
        cwd=folder,
        input=lines,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def introduce(world: World, folder: Path) -> Path:
    """Write what the lines read of an ``appliance.pyz``."""
    path = folder / "appliance.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.root.json", world.root(1))
        archive.writestr("first_contact.json", json.dumps({"product": world.product, "site": world.site}))
    return path


def rotated() -> World:
    """Return a world of two roots, the second with 2 of 3 release keys."""
    world = World()
    releasers = [key("release-2"), key("release-3"), key("release-4")]
    world.rotate(Generation([key("root-2"), key("root-3")], releasers, release_threshold=2), releasers[:2])
    return world


# --- The documents ----------------------------------------------------------------------------------------


def test_both_documents_have_the_same_lines() -> None:
    assert len(blocks("en")) > 10
    assert blocks("en") == blocks("ko")


def test_a_sentence_stands_before_every_block() -> None:
    for language in DOCUMENTS:
        before = re.findall(r"(?m)^(.*)\n\n```sh$", section(language))
        assert len(before) == len(blocks(language))
        assert all(line.endswith((":", ".")) for line in before), before


def test_python_is_isolated_and_reads_with_its_standard_library_only() -> None:
    lines = "".join(blocks("en"))
    assert len(re.findall(r"\bpython3\b", lines)) == lines.count("python3 -I -c '")
    imported = {name for line in re.findall(r"(?m)^import (.*)$", lines) for name in line.split(", ")}
    assert imported <= sys.stdlib_module_names
    assert not imported & {"subprocess", "runpy", "importlib", "pickle", "socket"}
    for word in ("eval", "exec", "source", "curl", "wget"):
        assert not re.search(rf"\b{word}\b", lines)


def test_the_servers_counter_is_where_the_document_says(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.adopt(FirstContact(World().root(1), "demo", None))
    state.keep(Floor(7, "0" * 64))
    (place,) = re.findall(r"(?m)^# cat /var/lib/banip/(\S+)$", section("en"))
    assert f"# cat /var/lib/banip/{place}\n" in section("ko")
    shown = json.loads((tmp_path / place).read_bytes())
    assert (shown["counter"], shown["release_sha256"]) == (7, "0" * 64)


# --- Bundles that are good --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_tiny(tmp_path_factory.mktemp("hand") / "project")


@pytest.mark.real
@pytest.mark.parametrize("language", DOCUMENTS)
def test_what_build_py_made_is_found_good_and_says_what_the_paper_says(
    built: Built, tmp_path: Path, language: str
) -> None:
    done = by_hand(built.bundle, built.pyz, tmp_path / "hand", language)
    said = done.stdout.splitlines()
    assert (done.returncode, said[-1]) == (0, f"{HELD} {built.bundle}"), done.stdout
    paper = built.paper
    assert said[0] == f"{paper['first_contact_sha256']}  {built.pyz}"
    for line in (f"root version {paper['root_version']}", *paper["root_keys"], *paper["release_keys"]):
        assert line in said
    for line in ("product tiny", "version 1.0.0", "counter 1", "release.json: OK", "chunks.bin: OK"):
        assert line in said
    assert any(line.startswith("targets version 1 expires ") for line in said)


@pytest.mark.real
def test_a_rotated_chain_and_two_of_three_release_keys_are_found_good(tmp_path: Path) -> None:
    world = full_world()
    bundle = world.carrier(tmp_path)
    done = by_hand(bundle, introduce(world, tmp_path), tmp_path / "hand")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"{HELD} {bundle}"), done.stdout
    assert "site seoul" in done.stdout
    assert "targets: 2 good signatures by keys of root-2.targets, at least 2 needed" in done.stdout
    assert "root-2: 2 good signatures by keys of root-1.root, at least 2 needed" in done.stdout
    assert f"{len(world.blobs)} blobs have the digests that were signed" in done.stdout
    seen = (tmp_path / "hand" / "chunks.txt").read_text().splitlines()
    assert bytes.fromhex("".join(seen)) == world.chunks_bin
    assert len(seen) == 2


@pytest.mark.real
def test_nothing_is_written_but_into_the_folder(tmp_path: Path) -> None:
    world = rotated()
    bundle, pyz = world.carrier(tmp_path), introduce(world, tmp_path)
    by_hand(bundle, pyz, tmp_path / "hand")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([bundle.name, pyz.name, "hand"])
    assert not [
        path for path in (tmp_path / "hand").rglob("*") if path.is_file() and os.access(path, os.X_OK)
    ]


# --- Bundles that are not -----------------------------------------------------------------------------------


def rewrite(world: World, name: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the JSON of a member after it was signed."""

    def changed(members: list[Member]) -> list[Member]:
        found = []
        for member in members:
            value = json.loads(member.content) if member.name == name else None
            if value is not None:
                change(value)
            found.append(member if value is None else Member.of(name, canonical_json(value)))
        return found

    world.change_members = changed


def flip_signature(envelope: dict[str, Any], extra: bytes = b"") -> None:
    entry = envelope["signatures"][0]
    raw = bytearray(base64.b64decode(entry["sig"]))
    raw[-1] ^= 0 if extra else 1
    entry["sig"] = base64.b64encode(bytes(raw) + extra).decode()


def flipped_signature(world: World) -> None:
    rewrite(world, "targets.json", flip_signature)


def flipped_signature_of_a_root(world: World) -> None:
    rewrite(world, "root/2.json", flip_signature)


def flipped_signature_of_the_first_root(world: World) -> None:
    rewrite(world, "root/1.json", flip_signature)


def bytes_after_a_signature(world: World) -> None:
    rewrite(world, "targets.json", lambda envelope: flip_signature(envelope, b"more"))


def wrong_key(world: World) -> None:
    world.signers = [key("stranger"), key("stranger-2")]


def key_of_the_root_before(world: World) -> None:
    world.signers = [key("release-1"), key("release-2")]


def stranger_beside_enough(world: World) -> None:
    world.signers = [*world.signers, key("stranger")]


def under_threshold(world: World) -> None:
    world.signers = world.signers[:1]


def unsigned(world: World) -> None:
    world.signers = []


def one_key_under_two_ids(world: World) -> None:
    """Spell one release key in compressed form too: another digest, another id, the same private key."""
    pem = key("release-2").public_key.keyval["public"]
    public = load_pem_public_key(pem.encode())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    der = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    body = base64.b64encode(der).decode()
    other = f"-----BEGIN PUBLIC KEY-----\n{body[:64]}\n{body[64:]}\n-----END PUBLIC KEY-----\n"
    double = sha256_hex(der)

    def change(root: dict[str, Any]) -> None:
        entry = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": other}}
        root["keys"][double] = entry
        root["roles"]["targets"]["keyids"].append(double)

    def sign_twice(envelope: dict[str, Any]) -> None:
        envelope["signatures"].append({"keyid": double, "sig": envelope["signatures"][0]["sig"]})

    world.generations[1].change = change
    world.signers = [key("release-2")]
    rewrite(world, "targets.json", sign_twice)


def key_on_another_curve(world: World) -> None:
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    name = sha256_hex(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def change(root: dict[str, Any]) -> None:
        root["keys"][name] = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp384", "keyval": {"public": pem}}
        root["roles"]["targets"]["keyids"].append(name)

    world.generations[1].change = change


def signature_at_another_place(world: World) -> None:
    def climb(envelope: dict[str, Any]) -> None:
        envelope["signatures"][0]["keyid"] = "../../climbed"

    rewrite(world, "targets.json", climb)


def flipped_release(world: World) -> None:
    world.mutate("release.json", 100)


def flipped_chunk_table(world: World) -> None:
    world.grow()
    world.mutate("chunks.bin", 40)


def signed_chunk_table_of_other_content(world: World) -> None:
    def change(targets: dict[str, Any]) -> None:
        targets["targets"]["chunks.bin"]["hashes"]["sha256"] = hashlib.sha256(bytes(64)).hexdigest()

    def swap(members: list[Member]) -> list[Member]:
        return [Member.of(one.name, bytes(64)) if one.name == "chunks.bin" else one for one in members]

    world.grow()
    world.change_targets, world.change_members = change, swap


def flipped_blob(world: World) -> None:
    world.mutate(f"blobs/sha256/{list(world.blobs)[2]}", 3)


def flipped_large_blob(world: World) -> None:
    world.grow()
    world.mutate(f"blobs/sha256/{sha256_hex(world.files['models/tiny/large.bin'])}", 8_388_610)


def swapped_blobs(world: World) -> None:
    def swap(members: list[Member]) -> list[Member]:
        return [*members[:-2], members[-1], members[-2]]

    world.change_members = swap


def extra_member(world: World) -> None:
    world.change_members = lambda members: [*members, Member.of("blobs/sha256/" + "0" * 64, b"more")]


def extra_member_in_the_head(world: World) -> None:
    world.change_members = lambda members: [*members[:1], Member.of("readme", b"more"), *members[1:]]


def member_twice(world: World) -> None:
    world.change_members = lambda members: [*members, members[-1]]


def targets_twice(world: World) -> None:
    world.change_members = lambda members: [*members, *(one for one in members if one.name == "targets.json")]


def missing_blob(world: World) -> None:
    world.change_members = lambda members: members[:-1]


def missing_root(world: World) -> None:
    world.change_members = lambda members: [one for one in members if one.name != "root/2.json"]


def link_in_the_place_of_a_blob(world: World) -> None:
    def link(members: list[Member]) -> list[Member]:
        info = tarfile.TarInfo(members[-1].name)
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        return [*members[:-1], Member(members[-1].name, info.tobuf(tarfile.USTAR_FORMAT), b"", b"")]

    world.change_members = link


def link_in_the_place_of_the_targets(world: World) -> None:
    def link(members: list[Member]) -> list[Member]:
        info = tarfile.TarInfo("targets.json")
        info.type, info.linkname = tarfile.LNKTYPE, "release.json"
        found = Member("targets.json", info.tobuf(tarfile.USTAR_FORMAT), b"", b"")
        return [found if one.name == "targets.json" else one for one in members]

    world.change_members = link


def bytes_after_the_end(world: World) -> None:
    world.tail += b"more"


def zeros_after_the_end(world: World) -> None:
    world.tail += bytes(512)


def cut_short(world: World) -> None:
    world.tail = b""


def flipped_header(world: World) -> None:
    """Name an owner: tar's list of numbers does not show it."""

    def own(members: list[Member]) -> list[Member]:
        info = tarfile.TarInfo(members[-1].name)
        info.size, info.mode, info.uname = len(members[-1].content), 0o444, "somebody"
        members[-1].header = info.tobuf(tarfile.USTAR_FORMAT)
        return members

    world.change_members = own


def padding_that_is_not_zero(world: World) -> None:
    world.mutate("release.json", 0, part="padding")


def room_that_is_not_zero(world: World) -> None:
    world.mutate("room", 77)


def swapped_root(world: World) -> None:
    """Everything is good under keys that are somebody else's."""
    world.generations = [Generation([key("evil-1"), key("evil-2")], [key("evil-3")])]
    world.signers = [key("evil-3")]


def swapped_second_root(world: World) -> None:
    """The second root is signed by its own keys, and not by those before."""
    evil = [key("evil-1"), key("evil-2")]
    world.generations[1] = Generation(evil, [key("evil-3")], signers=evil)
    world.signers = [key("evil-3")]


def second_root_under_the_threshold_of_the_first(world: World) -> None:
    world.generations[1].signers = [key("root-1"), key("root-3"), key("root-4")]
    world.generations[1].root_keys = [key("root-3"), key("root-4")]


def second_root_under_its_own_threshold(world: World) -> None:
    world.generations[1].root_keys = [key("root-3"), key("root-4")]
    world.generations[1].signers = [key("root-1"), key("root-2"), key("root-3")]


def stranger_on_a_root(world: World) -> None:
    world.generations[1].signers = [key("root-1"), key("root-2"), key("root-3"), key("stranger")]


def threshold_of_zero(world: World) -> None:
    world.generations[1].change = lambda root: root["roles"]["targets"].update(threshold=0)
    world.signers = []


def another_root_version(world: World) -> None:
    world.generations[1].change = lambda root: root.update(version=3)


def another_product(world: World) -> None:
    world.product = "other"


def another_site(world: World) -> None:
    world.site = "busan"


def another_number_than_was_signed(world: World) -> None:
    world.targets_version = 9


def another_target(world: World) -> None:
    def change(targets: dict[str, Any]) -> None:
        targets["targets"]["more.bin"] = targets["targets"]["chunks.bin"]

    world.change_targets = change


def delegated_targets(world: World) -> None:
    world.change_targets = lambda targets: targets.update(delegations={"keys": {}, "roles": []})


def another_length(world: World) -> None:
    world.change_targets = lambda targets: targets["targets"]["release.json"].update(length=7)


def another_format(world: World) -> None:
    def change(members: list[Member]) -> list[Member]:
        return [Member.of("format", b"banip bundle format 2\n"), *members[1:]]

    world.change_members = change


def member_of_the_envelope_that_nobody_signed(world: World) -> None:
    rewrite(world, "targets.json", lambda envelope: envelope.update(note="unsigned"))


def another_spelling(world: World) -> None:
    def spell(members: list[Member]) -> list[Member]:
        found = []
        for member in members:
            words = json.dumps(json.loads(member.content)).encode() if member.name == "targets.json" else b""
            found.append(Member.of(member.name, words) if words else member)
        return found

    world.change_members = spell


def sparse_room(world: World) -> None:
    """A member that says it has 1 TiB, and has a block."""

    def grow(members: list[Member]) -> list[Member]:
        info = tarfile.TarInfo("room")
        info.size = 512
        real = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "room"}
        info.pax_headers = {**real, "GNU.sparse.realsize": str(2**40)}
        sparse = Member("room", info.tobuf(tarfile.PAX_FORMAT), b"0\n".ljust(512, b"\0"), b"")
        return [sparse if one.name == "room" else one for one in members]

    world.change_members = grow


#: What breaks a bundle, and what a person then sees before the lines stop.
BAD: dict[Callable[[World], None], str] = {
    flipped_signature: "Verification failure",
    flipped_signature_of_a_root: "Verification failure",
    flipped_signature_of_the_first_root: "trusted.json root-1.json differ",
    bytes_after_a_signature: "bytes before or after the signature",
    wrong_key: "targets: 0 good signatures by keys of root-2.targets, at least 2 needed",
    key_of_the_root_before: "targets: 1 good signatures",
    stranger_beside_enough: "targets: 2 good signatures",
    under_threshold: "targets: 1 good signatures by keys of root-2.targets, at least 2 needed",
    unsigned: "targets: 0 good signatures",
    one_key_under_two_ids: "  -",
    key_on_another_curve: "root-2 expires",
    signature_at_another_place: "this is no key id",
    flipped_release: "release.json: FAILED",
    flipped_chunk_table: "chunks.bin: FAILED",
    signed_chunk_table_of_other_content: "chunks.bin: OK",
    flipped_blob: "  -",
    flipped_large_blob: "  -",
    swapped_blobs: "> -r--r--r-- 0/0",
    extra_member: f"> -r--r--r-- 0/0 4 1970-01-01 00:00 blobs/sha256/{'0' * 64}",
    extra_member_in_the_head: "> -r--r--r-- 0/0 4 1970-01-01 00:00 readme",
    member_twice: "> -r--r--r-- 0/0",
    targets_twice: "Extra data",
    missing_blob: "< -r--r--r-- 0/0",
    missing_root: "targets: 0 good signatures",
    link_in_the_place_of_a_blob: "-> /etc/passwd",
    link_in_the_place_of_the_targets: "JSONDecodeError",
    bytes_after_the_end: "AssertionError: the end",
    zeros_after_the_end: "AssertionError: the end",
    cut_short: "AssertionError: the end",
    flipped_header: "AssertionError: the header of blobs/sha256/",
    padding_that_is_not_zero: "AssertionError: the padding of release.json",
    room_that_is_not_zero: "cmp: EOF on /dev/null",
    swapped_root: "trusted.json root-1.json differ",
    swapped_second_root: "root-2: 0 good signatures by keys of root-1.root, at least 2 needed",
    second_root_under_the_threshold_of_the_first: "root-2: 1 good signatures by keys of root-1.root",
    second_root_under_its_own_threshold: "root-2: 1 good signatures by keys of root-2.root",
    stranger_on_a_root: "root-2: 2 good signatures by keys of root-2.root",
    threshold_of_zero: "a threshold that the keys cannot mean",
    another_root_version: "not root version 2",
    another_product: "another product",
    another_site: "another site",
    another_number_than_was_signed: "another number",
    another_target: "other files are named",
    delegated_targets: "not plain targets",
    another_length: "release.json has another length",
    another_format: "format differ",
    member_of_the_envelope_that_nobody_signed: "another member",
    another_spelling: "targets.json has another spelling",
    sparse_room: "> -rw-r--r-- 0/0 1099511627776 1970-01-01 00:00 room",
}


@pytest.mark.real
@pytest.mark.parametrize("defect", BAD, ids=lambda defect: defect.__name__)
def test_the_lines_stop_at(defect: Callable[[World], None], tmp_path: Path) -> None:
    world = rotated()
    pyz = introduce(world, tmp_path)
    defect(world)
    done = by_hand(world.carrier(tmp_path), pyz, tmp_path / "hand")
    assert done.returncode != 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("STOPPED"), done.stdout
    assert BAD[defect] in done.stdout
    assert HELD not in done.stdout


@pytest.mark.real
def test_a_first_root_that_its_own_keys_did_not_sign_stops_the_lines(tmp_path: Path) -> None:
    world = World()
    world.generations[0].signers = [key("root-1")]
    done = by_hand(world.carrier(tmp_path), introduce(world, tmp_path), tmp_path / "hand")
    assert done.returncode != 0
    assert "root-1: 1 good signatures by keys of root-1.root, at least 2 needed" in done.stdout


@pytest.mark.real
def test_a_member_that_would_fill_the_disk_is_cut_off(tmp_path: Path) -> None:
    world, size = World(), 150 * 2**20
    pyz = introduce(world, tmp_path)
    bundle = tmp_path / "bundle.tar"
    with bundle.open("wb") as file:
        for member in world.members():
            if member.name == "room":
                file.write(member_header("room", size))
                file.seek(size, os.SEEK_CUR)
            else:
                file.write(bytes(member))
        file.write(world.tail)
    done = by_hand(bundle, pyz, tmp_path / "hand")
    assert done.returncode != 0
    assert (tmp_path / "hand" / "room").stat().st_size <= 2**27


@pytest.mark.real
def test_another_first_contact_file_shows_on_the_first_line(tmp_path: Path) -> None:
    """Nothing but the paper tells: both files may agree and be somebody else's."""
    world, evil = rotated(), World(product="demo")
    swapped_root(evil)
    true = introduce(world, tmp_path).read_bytes()
    bundle, pyz = evil.carrier(tmp_path), introduce(evil, tmp_path)
    done = by_hand(bundle, pyz, tmp_path / "hand")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"{sha256_hex(pyz.read_bytes())}  {pyz}"
    assert sha256_hex(true) not in done.stdout


@pytest.mark.real
def test_a_folder_that_is_not_empty_stops_everything(tmp_path: Path) -> None:
    world = World()
    bundle, pyz = world.carrier(tmp_path), introduce(world, tmp_path)
    lines = "".join(blocks("en")).replace(PATHS[0], f"BUNDLE={bundle}\n").replace(PATHS[1], f"PYZ={pyz}\n")
    done = subprocess.run(["sh"], cwd=tmp_path, input=lines, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("STOPPED")) == (1, True)


@pytest.mark.real
def test_a_failure_ends_the_shell_of_a_person_who_types(tmp_path: Path) -> None:
    """With a terminal, too: what is pasted after a failure must not go on under it."""
    world = rotated()
    pyz = introduce(world, tmp_path)
    flipped_signature(world)
    bundle = world.carrier(tmp_path)
    lines = "".join(blocks("en")).replace(PATHS[0], f"BUNDLE={bundle}\n").replace(PATHS[1], f"PYZ={pyz}\n")
    (tmp_path / "hand").mkdir()
    typed = tmp_path / "typed"
    typed.write_text(lines)
    with typed.open() as keyboard:
        done = subprocess.run(
            ["script", "--quiet", "--return", "--command", "sh -i", "/dev/null"],
            cwd=tmp_path / "hand",
            stdin=keyboard,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={"PATH": "/usr/bin:/bin"},
        )
    assert done.returncode == 1, done.stdout
    assert done.stdout.rstrip().endswith("Do not install this bundle.")
    assert f"{HELD} {bundle}" not in done.stdout
