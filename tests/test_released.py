"""What was released stays readable for ever, and what was installed reads what is built today.

``tests/released/`` is never changed, only added to: ``docs/releasing.md`` says when. The reference time is
injected, so that a bundle of long ago is judged as it was then.
"""

from __future__ import annotations

import json
import lzma
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import UnfitServer, Untrusted
from appliance.format import FORMAT, release_from_bytes, sha256_hex
from appliance.media import open_carrier
from appliance.release import assemble, kept_bundles
from appliance.state import FirstContact
from appliance.verify import first_trust, verify
from bundle.firstcontact import read_first_contact
from tests.project import Built, build_tiny
from tests.released.make import BUNDLE, FACTS, KEPT, PROJECT, ROOT, facts_of, full_world, make_verifier
from tests.released.make import main as make
from tests.tiny import Site
from tests.world import Member, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.verify import Trust

THEN = datetime(2026, 6, 1, tzinfo=timezone.utc)
LATER = datetime(2900, 1, 1, tzinfo=timezone.utc)
#: Every kept file by its digest. A line may be added here and none changed.
DIGESTS = {
    "format-1/1.root.json": "7c52ac8faf1106c58c2f947ddcf220e5d7b9d7df1aec826b428a4786b53346e2",
    "format-1/bundle.tar.xz": "3af677f4b307fe301da7514f6806781997eba07f0b01f3f863ceb3fc800593d0",
    "format-1/facts.json": "5924bbd4cd8c08a099feab20dc3df54b8829341c7babbc1dbfcb49deac1b1b3f",
    "verifier-0.1.0.zip": "c640c6597d9493b0574c90dffd6492665dbdef8805c23a2d5afc0fdd79dc4f6d",
}
FORMATS = sorted(path.parent.name for path in KEPT.glob(f"format-*/{FACTS}"))
VERIFIERS = sorted(path.name for path in KEPT.glob("verifier-*.zip"))


# --- What is kept -----------------------------------------------------------------------------------------


def test_nothing_kept_was_changed_lost_or_added_in_silence() -> None:
    found = {path for path in KEPT.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert {str(path.relative_to(KEPT)): sha256_hex(path.read_bytes()) for path in found} == DIGESTS


def test_every_format_up_to_todays_and_every_release_of_the_changelog_is_kept() -> None:
    assert [f"format-{number}" for number in range(1, FORMAT + 1)] == FORMATS
    released = re.findall(r"(?m)^## v?([0-9]+\.[0-9]+\.[0-9]+)\b", (PROJECT / "CHANGELOG.md").read_text())
    assert {f"verifier-{version}.zip" for version in released} <= set(VERIFIERS)
    assert VERIFIERS, "the verifier of at least one release"


def test_it_is_small() -> None:
    assert max(path.stat().st_size for path in KEPT.rglob("*.xz")) < 200_000
    assert max(path.stat().st_size for path in KEPT.rglob("*.zip")) < 400_000


def test_making_it_again_overwrites_nothing() -> None:
    with pytest.raises(SystemExit, match="nothing is overwritten"):
        make()


def test_a_verifier_is_the_source_and_the_same_source_is_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        make_verifier(tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.read("appliance/format.py") == (PROJECT / "appliance" / "format.py").read_bytes()
        assert not [name for name in archive.namelist() if "__pycache__" in name]
    with pytest.raises(FileExistsError):
        make_verifier(tmp_path / "one.zip")


def test_the_note_on_releasing_names_what_is_to_be_done() -> None:
    note = (PROJECT / "docs" / "releasing.md").read_text("utf-8")
    for words in (
        "python -m tests.released.make",
        "CHANGELOG.md",
        "git tag",
        "tests/test_released.py",
        "bridge",
    ):
        assert words in note


# --- Bundles of released formats, judged today --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Kept:
    """A kept bundle, unpacked; ``contact`` is what its ``appliance.pyz`` would have brought."""

    bundle: Path
    contact: FirstContact
    facts: dict[str, Any]

    @property
    def trust(self) -> Trust:
        return first_trust(self.contact.root, self.contact.product, self.contact.site)


@pytest.fixture(params=FORMATS)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    folder = KEPT / request.param
    facts = json.loads((folder / FACTS).read_bytes())
    bundle = tmp_path / "kept.tar"
    bundle.write_bytes(lzma.decompress((folder / BUNDLE).read_bytes()))
    return Kept(bundle, FirstContact((folder / ROOT).read_bytes(), facts["product"], facts["site"]), facts)


def test_a_kept_bundle_verifies_and_says_what_it_said(kept: Kept) -> None:
    with open_carrier(kept.bundle) as carrier:
        trusted = verify(carrier, kept.trust, reference_time=THEN)
        carrier.check_layout(trusted.release)
        for blob in trusted.release.blobs:
            assert sha256_hex(b"".join(carrier.blob(blob))) == blob.sha256
    content = kept.bundle.read_bytes()
    about = {"bundle_sha256": sha256_hex(content), "bundle_bytes": len(content)}
    assert json.loads(json.dumps(facts_of(trusted))) | about == kept.facts


def test_a_kept_bundle_is_imported_and_its_folder_is_assembled(kept: Kept, tmp_path: Path) -> None:
    site = Site(tmp_path / "banip")
    site.server.state.adopt(kept.contact)
    trusted = site.bring_in(kept.bundle, THEN)
    assert site.server.store.missing(trusted.release.blobs) == ()
    folder = assemble(site.server, trusted)
    assert {path: sha256_hex((folder / path).read_bytes()) for path in kept.facts["files"]} == kept.facts[
        "files"
    ]


def test_a_kept_bundle_is_as_expired_as_it_says(kept: Kept) -> None:
    after = datetime.fromisoformat(kept.facts["expires"])
    with open_carrier(kept.bundle) as carrier:
        verify(carrier, kept.trust, reference_time=after - timedelta(seconds=1))
        with pytest.raises(Untrusted, match="expired"):
            verify(carrier, kept.trust, reference_time=after)
        accepted = kept.facts["release"]
        assert verify(carrier, kept.trust, reference_time=after, accept_expired=accepted).expired


def test_a_flipped_byte_in_a_kept_bundle_is_refused(kept: Kept) -> None:
    raw = bytearray(kept.bundle.read_bytes())
    raw[raw.index(b'"sig":"') + 20] ^= 1
    kept.bundle.write_bytes(raw)
    with open_carrier(kept.bundle) as carrier, pytest.raises(Untrusted):
        verify(carrier, kept.trust, reference_time=THEN)


# --- Bundles of today, judged by released verifiers ---------------------------------------------------------

_JUDGE = """\
import json, pathlib, sys
archive, root, product, site = sys.argv[1:5]
sys.path.insert(0, archive)
import appliance.__main__ as server
from appliance.state import FirstContact
assert server.__file__.startswith(archive), server.__file__
contact = FirstContact(pathlib.Path(root).read_bytes(), product, json.loads(site))
server.main(sys.argv[5:], contact)
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a verifier ended: its exit code, and the last line that it said."""

    code: int
    last: dict[str, Any]


def judged_by(verifier: str, folder: Path, contact: FirstContact, *arguments: object) -> Verdict:
    """Run a released appliance out of its zip, in a process and a root of its own, with today's libraries."""
    root = folder / "1.root.json"
    root.write_bytes(contact.root)
    introduced = (KEPT / verifier, root, contact.product, json.dumps(contact.site))
    done = subprocess.run(
        [sys.executable, "-I", "-c", _JUDGE, *map(str, introduced), "--json", "--root", str(folder / "banip")]
        + [str(argument) for argument in arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert done.stdout, done.stderr
    return Verdict(done.returncode, json.loads(done.stdout.splitlines()[-1]))


def contact_of(world: World) -> FirstContact:
    return FirstContact(world.root(1), world.product, world.site)


@pytest.fixture
def today() -> World:
    """Return a release of today that uses everything, and does not expire while these tests are kept."""
    world = full_world()
    world.expires = world.generations[0].expires = world.generations[1].expires = LATER
    return world


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_tiny(tmp_path_factory.mktemp("released") / "project")


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_a_released_verifier_takes_in_what_is_signed_today(
    verifier: str, today: World, tmp_path: Path
) -> None:
    bundle = today.carrier(tmp_path)
    found = judged_by(verifier, tmp_path, contact_of(today), "verify", bundle)
    assert (found.code, found.last["result"]["release"]) == (0, "kept-1.2.3+4-c7"), found
    assert found.last["result"]["release_sha256"] == sha256_hex(today.release_json)
    assert judged_by(verifier, tmp_path, contact_of(today), "import", bundle).code == 0
    stored = {path.name for path in (tmp_path / "banip" / "store" / "blobs" / "sha256").iterdir()}
    assert stored == set(today.blobs)


@pytest.mark.real
@pytest.mark.parametrize("verifier", VERIFIERS)
def test_a_released_verifier_takes_what_build_py_makes_today(
    verifier: str, built: Built, tmp_path: Path
) -> None:
    introduced = read_first_contact(built.pyz)
    contact = FirstContact(introduced.root, introduced.product, introduced.site)
    found = judged_by(verifier, tmp_path, contact, "verify", built.bundle)
    assert (found.code, found.last["result"]["release"]) == (0, built.paper["release"]), found


def newer_format(members: list[Member]) -> list[Member]:
    return [Member.of("format", b"banip bundle format 2; bridge 1.9.0\n"), *members[1:]]


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_a_released_verifier_sends_a_newer_format_to_the_bridge(
    verifier: str, today: World, tmp_path: Path
) -> None:
    today.change_members = newer_format
    found = judged_by(verifier, tmp_path, contact_of(today), "verify", today.carrier(tmp_path))
    assert (found.code, found.last["error"]) == (20, "UnfitServer")
    assert "1.9.0" in found.last["remedy"]
    assert not (tmp_path / "banip").exists()


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_a_released_verifier_really_judges(verifier: str, today: World, tmp_path: Path) -> None:
    today.signers = today.signers[:1]
    found = judged_by(verifier, tmp_path, contact_of(today), "verify", today.carrier(tmp_path))
    assert (found.code, found.last["error"]) == (10, "Untrusted")


# --- What is newer than this appliance ----------------------------------------------------------------------


def test_a_newer_format_is_sent_to_the_bridge_today_too(tmp_path: Path) -> None:
    world = World()
    world.change_members = newer_format
    with open_carrier(world.carrier(tmp_path)) as carrier, pytest.raises(UnfitServer) as refused:
        verify(carrier, world.trust(), reference_time=THEN)
    assert "1.9.0" in refused.value.lines()[-1]


UNKNOWN: dict[str, Callable[[dict[str, Any]], object]] = {
    "at the top": lambda release: release.update(kernel="6.1"),
    "in a blob": lambda release: release["blobs"][0].update(codec="zstd"),
    "in an environment's wheel": lambda release: release["environments"][0]["wheels"][0].update(built="here"),
}


@pytest.mark.parametrize("where", UNKNOWN)
def test_a_member_that_only_a_newer_builder_knows_is_said_to_be_newer(where: str) -> None:
    """Under format 1 no member may be added; who does it all the same has not tampered with the medium."""
    world = World()
    world.change_release = UNKNOWN[where]
    with pytest.raises(UnfitServer) as refused:
        verify(world.source(), world.trust(), reference_time=THEN)
    for language in ("en", "ko"):
        assert re.search("kernel|codec|built", "\n".join(refused.value.lines(language)))
    assert "newer" in str(refused.value)


def test_what_is_wrong_and_not_newer_is_no_matter_of_age() -> None:
    world = World()
    release = json.loads(world.release_json) | {"grade": "A"}
    with pytest.raises(Exception, match="does not have the form"):
        release_from_bytes(json.dumps(release, separators=(",", ":")).encode())


def test_the_folder_of_a_newer_release_does_not_stop_an_older_appliance(tmp_path: Path) -> None:
    """After a rollback the older appliance finds it: it proves nothing here, and is no reason to fail."""
    world, site = World(), Site(tmp_path / "banip")
    site.adopt(world)
    assemble(site.server, site.bring_in(world.carrier(tmp_path)))
    newer = world.next(change_release=lambda release: release.update(format=2))
    unknown = newer.next(change_release=lambda release: release.update(kernel="6.1"))
    for name, each in (("demo-1.0.0-c2", newer), ("demo-1.0.0-c3", unknown)):
        metadata = site.server.folder(name) / "metadata"
        metadata.mkdir(parents=True)
        files = {"1.root.json": each.root(1), "targets.json": each.targets, "release.json": each.release_json}
        for file, content in (files | {"chunks.bin": each.chunks_bin}).items():
            (metadata / file).write_bytes(content)
    assert [one.release.id for one in kept_bundles(site.server, site.trust())] == [world.release.id]
