"""What one call has: whom it trusts, how it speaks, and one line in the journal when it refuses."""

from __future__ import annotations

import io
import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from appliance.errors import Tampered, Untrusted
from appliance.release import assemble, keep
from appliance.session import Session
from appliance.state import FirstContact
from appliance.text import Event, text
from tests.tiny import Site
from tests.world import Generation, World, key

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.text import Language

LATER = datetime(2900, 1, 1, tzinfo=timezone.utc)


class Voice:
    def __init__(self) -> None:
        self.lines, self.aside = list[str](), list[str]()


@pytest.fixture
def world() -> World:
    """A world that no clock of a machine makes expire."""
    world = World(expires=LATER)
    world.generations[0].expires = LATER
    return world


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "banip")


def session(
    site: Site,
    first: World | None = None,
    *,
    as_json: bool = False,
    language: Language = "en",
    voice: Voice | None = None,
) -> Session:
    voice = voice or Voice()
    contact = FirstContact(first.root(1), first.product, first.site) if first else None
    return Session(site.server, as_json, language, contact, voice.lines.append, voice.aside.append)


def accept(site: Site, path: Path, first: World | None = None, accept_expired: str | None = None) -> None:
    with session(site, first).accepted(path, accept_expired):
        pass


def test_nobody_is_trusted_before_first_contact(site: Site) -> None:
    with pytest.raises(Untrusted, match="does not trust anybody"):
        session(site).trust()
    assert not site.root.exists()


def test_first_contact_is_trusted_for_the_call_and_remembered_only_when_a_bundle_was_accepted(
    site: Site, world: World, tmp_path: Path
) -> None:
    assert session(site, world).trust().root == world.root(1)
    assert not site.root.exists()
    accept(site, world.carrier(tmp_path), world)
    assert session(site).trust().root == world.root(1)


def test_what_the_state_trusts_goes_before_what_first_contact_brings(site: Site, world: World) -> None:
    stranger = World(generations=[Generation([key("x-1"), key("x-2")], [key("x-3")])])
    site.adopt(world)
    assert session(site, stranger).trust().root == world.root(1)


def test_the_floor_is_the_highest_that_state_or_folders_prove(
    site: Site, world: World, tmp_path: Path
) -> None:
    site.adopt(world)
    newer = world.next(version="2.0.0")
    site.server.state.keep(world.floor())
    bundle = site.bring_in(newer.carrier(tmp_path))
    assemble(site.server, bundle)
    assert session(site).trust().floor == world.floor()  # a failed one must not count
    keep(site.server, bundle, None)
    (site.server.state.folder / "counter.json").unlink()
    assert session(site).trust().floor == newer.floor()
    site.server.state.keep(world.floor())
    assert session(site).trust().floor == newer.floor()
    (site.server.folder("demo-2.0.0-c2") / "metadata" / "release.json").unlink()
    assert session(site).trust().floor == world.floor()


def test_a_refusal_is_one_line_in_the_journal(site: Site, world: World, tmp_path: Path) -> None:
    site.adopt(world)
    world.mutate("chunks.bin", 0, part="header")
    with pytest.raises(Tampered):
        accept(site, world.carrier(tmp_path))
    (entry,) = site.server.state.journal.entries()
    assert (entry.event, entry.facts["bundle"]) == ("refused", "demo-1.0.0.tar")
    assert (entry.facts["error"], entry.facts["exit_code"]) == ("Tampered", 11)
    assert sorted(path.name for path in site.root.iterdir()) == ["state"]


def test_a_stranger_on_first_contact_leaves_no_trust_behind(site: Site, world: World, tmp_path: Path) -> None:
    world.signers = [key("stranger")]
    with pytest.raises(Untrusted):
        accept(site, world.carrier(tmp_path), world)
    assert site.server.state.trust() is None
    assert site.journal() == ["refused"]


def test_new_roots_of_an_accepted_bundle_are_trusted_from_then_on(
    site: Site, world: World, tmp_path: Path
) -> None:
    site.adopt(world)
    world.rotate(Generation([key("root-1"), key("root-2")], [key("release-2")], expires=LATER))
    accept(site, world.carrier(tmp_path))
    assert session(site).trust().root == world.root(2)


def test_an_expired_bundle_needs_its_id_and_that_is_written_down(
    site: Site, world: World, tmp_path: Path
) -> None:
    site.adopt(world)
    world.expires = datetime(2020, 1, 1, tzinfo=timezone.utc)
    with pytest.raises(Untrusted, match="expired"):
        accept(site, world.carrier(tmp_path))
    with pytest.raises(Untrusted, match="expired"):
        accept(site, world.carrier(tmp_path), accept_expired="demo-1.0.0-c2")
    accept(site, world.carrier(tmp_path), accept_expired="demo-1.0.0-c1")
    assert site.journal() == ["refused", "refused", "expired-accepted"]


@pytest.mark.parametrize("member", ["models/tiny/weights.bin", "bom.cdx.json"])
def test_checking_the_content_finds_a_flipped_byte_and_writes_nothing(
    site: Site, world: World, tmp_path: Path, member: str
) -> None:
    site.adopt(world)
    blobs = {file.path: file.sha256 for file in world.release.files}
    world.mutate(f"blobs/sha256/{blobs[member]}", 3)
    here = session(site)
    with here.judged(world.carrier(tmp_path), None) as (bundle, carrier), pytest.raises(Tampered) as found:
        here.check_content(bundle, carrier)
    assert f"blob {blobs[member]}, chunk 0" in "\n".join(found.value.lines())
    assert f"of {member}: " in "\n".join(found.value.lines())
    assert sorted(path.name for path in site.root.iterdir()) == ["state"]


def test_progress_is_ten_lines_at_most_for_a_file(site: Site, world: World, tmp_path: Path) -> None:
    site.adopt(world)
    voice = Voice()
    here = session(site, voice=voice)
    with here.accepted(world.carrier(tmp_path), None) as (bundle, carrier, _):
        receipt = here.bring_in(bundle, carrier)
    assert receipt["blobs_new"] == len(world.blobs)
    assert 1 <= len([line for line in voice.aside if "% from the medium" in line]) <= 10
    assert "100 % from the medium" in "".join(voice.aside)


def test_a_person_hears_words_and_a_program_json_lines(site: Site) -> None:
    event = Event("task", text("task: {task}", task="copy"), {"n": 1})
    person, program = Voice(), Voice()
    session(site, voice=person).say(event)
    assert (person.lines, person.aside) == ([], ["  task: copy"])
    session(site, as_json=True, voice=program).say(event)
    assert json.loads(program.lines[0]) == {"event": "task", "said": "task: copy", "facts": {"n": 1}}
    session(site, as_json=True, voice=program).result(text("yes"), {"release": None})
    assert json.loads(program.lines[1]) == {"result": {"release": None}, "said": "yes"}


def test_on_a_terminal_there_is_a_bar(
    site: Site, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    site.adopt(world)
    terminal, voice = Terminal(), Voice()
    monkeypatch.setattr("sys.stderr", terminal)
    here = session(site, voice=voice)
    with here.judged(world.carrier(tmp_path), None) as (bundle, carrier):
        here.check_content(bundle, carrier)
    assert "\u2501" in terminal.getvalue()
    assert not voice.aside


def test_an_unfit_server_hears_every_reason_at_once(site: Site, world: World) -> None:
    from appliance.errors import UnfitServer  # noqa: PLC0415 - only here

    site.adopt(world)
    target = world.release.target
    wrong = world.release.__class__(
        **{
            **{name: getattr(world.release, name) for name in world.release.__struct_fields__},
            "target": target.__class__(os="plan-9", architecture="aarch64", python="3.99"),
        }
    )
    with pytest.raises(UnfitServer) as refused:
        session(site).require_fit(wrong)
    assert "operating system" in str(refused.value.seen)
    assert "processor architecture" in str(refused.value.seen)
