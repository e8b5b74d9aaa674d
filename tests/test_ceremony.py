"""From one root to the next: who must sign, what is refused, and that every server can follow."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api._payload import Root, Targets

from appliance.errors import AlreadyRunning, BadInput, Incomplete, Untrusted
from appliance.format import ROOTS_MAX, envelope_to_bytes, sha256_hex
from appliance.verify import follow_roots, trusted_root
from bundle import draft as drafts
from bundle.ceremony import Change, Step, rotate, throw_away
from bundle.draft import read_draft
from bundle.folder import locked, roots
from bundle.keys import create, show
from bundle.root import make_root, signed_root
from tests.world import NOW, ROOT_EXPIRES, key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securesystemslib.signer._crypto_signer import CryptoSigner
    from securesystemslib.signer._key import Key

PASSPHRASE = b"correct horse battery staple"
TWO = ("root-1", "root-2")


def public(*names: str) -> tuple[Key, ...]:
    return tuple(key(name).public_key for name in names)


def signers(*names: str) -> tuple[CryptoSigner, ...]:
    return tuple(map(key, names))


@dataclass(frozen=True)
class Custody:
    """A key folder whose private keys are with custodians: root-1 to root-3, two of them sign; release-1."""

    folder: Path

    def rotate(self, change: Change | None = None, *names: str, passphrase: bytes = b"") -> Step:
        return rotate(
            self.folder, change or Change(), now=NOW, passphrase=passphrase, signers=signers(*names)
        )

    @property
    def chain(self) -> tuple[bytes, ...]:
        return roots(self.folder)

    def named(self, role: str) -> set[str]:
        return set(trusted_root(self.chain[-1]).roles[role].keyids)

    def files(self) -> dict[str, bytes]:
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file()
        }


def custody(folder: Path) -> Custody:
    create(
        folder,
        "demo",
        passphrase=b"",
        expires=ROOT_EXPIRES,
        root_keys=0,
        release_keys=0,
        custodians=public("root-1", "root-2", "root-3"),
        releasers=public("release-1"),
    )
    made = Custody(folder)
    made.rotate(None, *TWO)
    return made


@pytest.fixture
def held(tmp_path: Path) -> Custody:
    return custody(tmp_path / "keys")


# --- The first root ---------------------------------------------------------------------------------------


def test_the_first_root_of_custodians_is_a_draft_until_enough_have_signed(tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    ring = create(
        folder,
        "demo",
        passphrase=b"",
        expires=ROOT_EXPIRES,
        root_keys=0,
        release_keys=0,
        custodians=public("root-1", "root-2", "root-3"),
        releasers=public("release-1"),
    )
    assert (ring.root_version, ring.roots) == (0, ())
    assert [name for name, _ in ring.root_keys] == ["root-1.pub.pem", "root-2.pub.pem", "root-3.pub.pem"]
    with pytest.raises(Incomplete, match="draft"):
        roots(folder)
    assert Custody(folder).rotate(None, "root-1").finished is None
    assert Custody(folder).rotate(None, "root-3").finished == 1
    (root,) = roots(folder)
    assert len(trusted_root(root).roles[Root.type].keyids) == 3
    assert not list(folder.glob("*draft*"))


def test_keys_made_here_and_keys_of_custodians_make_one_root(tmp_path: Path) -> None:
    ring = create(
        tmp_path / "keys",
        "demo",
        passphrase=PASSPHRASE,
        expires=ROOT_EXPIRES,
        root_keys=1,
        release_keys=1,
        custodians=public("root-1"),
    )
    assert [name for name, _ in ring.root_keys] == ["root-1.pem", "root-2.pub.pem"]
    assert ring.draft is not None
    (quorum,) = ring.draft.quorums
    assert (len(quorum.signed), quorum.lacking) == (1, 1)  # what was made here signed at once
    assert Custody(tmp_path / "keys").rotate(None, "root-1").finished == 1


@pytest.mark.parametrize(
    ("custodians", "releasers"),
    [
        (("root-1", "root-1"), ("release-1",)),
        (("root-1", "root-2"), ("root-1",)),
        (("root-1", "root-2"), ("release-1", "release-1")),
    ],
)
def test_one_person_may_not_stand_for_two(
    tmp_path: Path, custodians: tuple[str, ...], releasers: tuple[str, ...]
) -> None:
    with pytest.raises(BadInput, match="twice"):
        create(
            tmp_path / "keys",
            "demo",
            passphrase=b"",
            expires=ROOT_EXPIRES,
            root_keys=0,
            release_keys=0,
            custodians=public(*custodians),
            releasers=public(*releasers),
        )
    assert not (tmp_path / "keys").exists()


# --- Changes ----------------------------------------------------------------------------------------------


def test_a_release_key_is_replaced_by_a_pair_made_here(held: Custody) -> None:
    change = Change(replace=(("release-1", None),))
    assert held.rotate(change, *TWO, passphrase=PASSPHRASE).finished == 2
    ring = show(held.folder)
    assert [name for name, _ in ring.release_keys] == ["release-2.pem"]
    assert [name for name, _ in ring.retired] == ["release-1.pub.pem"]
    assert ring.expires == ROOT_EXPIRES
    assert (held.folder / "release-2.pem").read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY")
    assert {path.stat().st_mode & 0o777 for path in held.folder.rglob("*") if path.is_file()} == {0o600}


def test_a_root_key_is_replaced_by_a_custodians(held: Custody) -> None:
    change = Change(replace=(("root-3", public("root-4")[0]),))
    assert held.rotate(change, *TWO).finished == 2
    assert held.named(Root.type) == {each.keyid for each in public("root-1", "root-2", "root-4")}
    assert [name for name, _ in show(held.folder).root_keys] == [
        "root-1.pub.pem",
        "root-2.pub.pem",
        "root-4.pub.pem",
    ]


def test_a_root_key_made_here_signs_its_own_root_at_once(held: Custody) -> None:
    held.rotate(Change(replace=(("root-3", None),)), passphrase=PASSPHRASE)
    draft = show(held.folder).draft
    assert draft is not None
    assert [len(each.signed) for each in draft.quorums] == [0, 1]
    assert held.rotate(None, *TWO).finished == 2
    assert (held.folder / "root-4.pem").is_file()


def test_both_thresholds_must_sign_the_old_roots_and_the_new_roots(held: Custody) -> None:
    change = Change(
        replace=(("root-1", public("root-4")[0]), ("root-2", public("root-5")[0])), valid_days=3650
    )
    assert held.rotate(change, "root-1", "root-2").finished is None  # nobody of the new root
    assert held.rotate(None, "root-4").finished is None
    assert held.rotate(None, "root-5").finished == 2
    assert len(held.chain) == 2


def test_keys_are_added_and_thresholds_raised(held: Custody) -> None:
    change = Change(
        add_root=public("root-4"),
        add_release=public("release-2", "release-3"),
        root_threshold=3,
        release_threshold=2,
    )
    assert held.rotate(change, *TWO).finished is None
    assert held.rotate(None, "root-4").finished == 2
    root = trusted_root(held.chain[-1])
    assert (root.roles[Root.type].threshold, len(root.roles[Root.type].keyids)) == (3, 4)
    assert (root.roles[Targets.type].threshold, len(root.roles[Targets.type].keyids)) == (2, 3)


def test_a_revoked_key_is_gone_without_a_successor(held: Custody) -> None:
    held.rotate(Change(add_release=public("release-2")), *TWO)
    assert held.rotate(Change(revoke=("release-1",)), *TWO).finished == 3
    assert held.named(Targets.type) == {public("release-2")[0].keyid}


def test_the_expiry_alone_is_renewed(held: Custody) -> None:
    before = trusted_root(held.chain[-1])
    assert held.rotate(Change(valid_days=3650), *TWO).finished == 2
    after = trusted_root(held.chain[-1])
    assert after.expires == NOW + timedelta(days=3650) > before.expires
    assert after.keys == before.keys
    assert after.roles == before.roles


@pytest.mark.parametrize("form", ["release-1", "release-1.pem", "release-1.pub.pem", "id", "digits"])
def test_a_key_is_named_by_its_file_or_by_its_id(held: Custody, form: str) -> None:
    key_id = public("release-1")[0].keyid
    name = {"id": key_id, "digits": key_id[:8].upper()}.get(form, form)
    held.rotate(Change(replace=((name, public("release-2")[0]),)), *TWO)
    assert held.named(Targets.type) == {public("release-2")[0].keyid}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change(revoke=("root-9",)), "no such key"),
        (Change(revoke=("",)), "no such key"),
        (Change(revoke=("release-1",)), "are left"),
        (Change(revoke=("root-1", "root-2")), "are left"),
        (Change(revoke=("root-1", "root-1.pem")), "twice"),
        (Change(revoke=("root-1",), replace=(("root-1", key("root-4").public_key),)), "twice"),
        (Change(add_root=(key("root-1").public_key,)), "twice"),
        (Change(add_root=(key("release-1").public_key,)), "twice"),
        (Change(add_release=(key("x").public_key, key("x").public_key)), "twice"),
        (Change(replace=(("root-1", key("root-2").public_key),)), "twice"),
        (Change(root_threshold=4), "cannot be asked for"),
        (Change(release_threshold=2), "cannot be asked for"),
        (Change(replace=(("release-1", None),)), "passphrase is empty"),
        (Change(), "no draft"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(held: Custody, change: Change, words: str) -> None:
    before = held.files()
    with pytest.raises(BadInput, match=words):
        held.rotate(change, *TWO)
    assert held.files() == before


def test_an_expired_root_is_only_followed_by_one_that_is_valid(held: Custody) -> None:
    later = ROOT_EXPIRES + timedelta(days=1)
    change = Change(add_release=public("release-2"))
    with pytest.raises(BadInput, match="expired"):
        rotate(held.folder, change, now=later, signers=signers(*TWO))
    renewed = Change(add_release=public("release-2"), valid_days=365)
    assert rotate(held.folder, renewed, now=later, signers=signers(*TWO)).finished == 2


def test_there_are_never_more_roots_than_a_bundle_may_carry(held: Custody) -> None:
    owners = signers("root-1", "root-2", "root-3")
    for version in range(2, ROOTS_MAX + 1):
        root = make_root(version, ROOT_EXPIRES, owners, 2, signers("release-1"), 1)
        (held.folder / "roots" / f"{version}.root.json").write_bytes(signed_root(root, owners[:2]))
    with pytest.raises(BadInput, match="no bundle may carry more"):
        held.rotate(Change(valid_days=3650), *TWO)


# --- Who may sign, and going on ---------------------------------------------------------------------------


@pytest.mark.parametrize("stranger", ["release-1", "stranger"])
def test_a_key_that_is_no_root_key_signs_no_root(held: Custody, stranger: str) -> None:
    before = held.files()
    with pytest.raises(BadInput, match="none of the root keys"):
        held.rotate(Change(valid_days=10), stranger)
    assert held.files() == before
    held.rotate(Change(valid_days=10))
    opened = held.files()
    with pytest.raises(BadInput, match="none of the root keys"):
        held.rotate(None, "root-1", stranger)
    assert held.files() == opened


def test_the_same_words_again_go_on_with_the_draft_and_others_do_not(held: Custody) -> None:
    change = Change(replace=(("release-1", None),), valid_days=3650)
    held.rotate(change, "root-1", passphrase=PASSPHRASE)
    before = held.files()
    with pytest.raises(BadInput, match="another change"):
        held.rotate(Change(valid_days=3650), "root-2")
    assert held.files() == before
    draft_pair = (held.folder / "draft" / "release-2.pem").read_bytes()
    assert held.rotate(change, "root-2", passphrase=PASSPHRASE).finished == 2
    assert (held.folder / "release-2.pem").read_bytes() == draft_pair


def test_signing_twice_counts_once(held: Custody) -> None:
    held.rotate(Change(valid_days=10), "root-1")
    assert held.rotate(None, "root-1").finished is None
    assert len(held.chain) == 1


def test_a_draft_that_is_thrown_away_leaves_nothing_and_the_next_has_its_number(held: Custody) -> None:
    before = held.files()
    held.rotate(Change(replace=(("release-1", None),)), "root-1", passphrase=PASSPHRASE)
    assert throw_away(held.folder)
    assert held.files() == before
    assert not throw_away(held.folder)
    assert held.rotate(Change(valid_days=20), *TWO).finished == 2


@pytest.mark.parametrize("damage", ["root.json", "change.json", "flip"])
def test_a_damaged_draft_is_named_and_can_be_thrown_away(held: Custody, damage: str) -> None:
    held.rotate(Change(valid_days=20), "root-1")
    envelope = held.folder / "draft" / "root.json"
    if damage == "flip":
        envelope.write_bytes(envelope.read_bytes()[:-20])
    else:
        (held.folder / "draft" / damage).unlink()
    with pytest.raises(Incomplete, match="damaged"):
        held.rotate(None, "root-2")
    with pytest.raises(Incomplete, match="damaged"):
        show(held.folder)
    assert throw_away(held.folder)
    assert show(held.folder).draft is None


def test_a_draft_beside_older_roots_waits_for_the_missing_ones(held: Custody, tmp_path: Path) -> None:
    held.rotate(Change(valid_days=20), *TWO)
    held.rotate(Change(valid_days=30), "root-1")
    (held.folder / "roots" / "2.root.json").rename(tmp_path / "2")
    with pytest.raises(Incomplete, match="does not follow"):
        held.rotate(None, "root-2")
    (tmp_path / "2").rename(held.folder / "roots" / "2.root.json")
    assert held.rotate(None, "root-2").finished == 3


def test_a_signature_on_the_draft_that_does_not_fit_never_makes_a_root(held: Custody) -> None:
    held.rotate(Change(valid_days=20), "root-1")
    draft = read_draft(held.folder)
    assert draft is not None
    one = draft.envelope.signatures[public("root-1")[0].keyid]
    one.signature = one.signature[:-2] + ("00" if one.signature[-2:] != "00" else "01")
    drafts.keep_signatures(draft)
    with pytest.raises(Untrusted, match="does not fit"):
        held.rotate(None, "root-2")
    assert len(held.chain) == 1
    assert throw_away(held.folder)


def test_nobody_else_changes_the_folder_meanwhile(held: Custody) -> None:
    with locked(held.folder), pytest.raises(AlreadyRunning) as caught:
        held.rotate(Change(valid_days=20), *TWO)
    assert caught.value.exit_code == 4
    assert held.rotate(Change(valid_days=20), *TWO).finished == 2


def test_a_folder_without_keys_is_not_rotated(tmp_path: Path) -> None:
    with pytest.raises(Incomplete):
        rotate(tmp_path, Change(valid_days=20), now=NOW)


def test_a_file_that_stands_where_a_new_key_must_go_is_not_overwritten(held: Custody) -> None:
    held.rotate(Change(replace=(("release-1", None),)), "root-1", passphrase=PASSPHRASE)
    (held.folder / "release-2.pem").write_bytes(b"mine")
    with pytest.raises(BadInput, match="never overwritten"):
        held.rotate(None, "root-2")
    assert (held.folder / "release-2.pem").read_bytes() == b"mine"
    assert len(held.chain) == 1
    (held.folder / "release-2.pem").unlink()
    assert held.rotate(Change()).finished == 2  # it had been signed: the next call settles it


# --- Any sequence -----------------------------------------------------------------------------------------

_POOL = [f"pool-{number}" for number in range(8)]


@dataclass(frozen=True)
class Turn:
    """One rotation: what is done to which keys, by their place, and who signs, a bit for each who may."""

    kind: str
    place: int
    newcomer: int
    thresholds: tuple[int | None, int | None]
    signing: int


turns = st.lists(
    st.builds(
        Turn,
        kind=st.sampled_from(["replace", "revoke", "add-root", "add-release", "renew"]),
        place=st.integers(0, 5),
        newcomer=st.integers(0, len(_POOL) - 1),
        thresholds=st.tuples(
            st.one_of(st.none(), st.integers(1, 3)), st.one_of(st.none(), st.integers(1, 2))
        ),
        signing=st.integers(0, 2**6 - 1),
    ),
    min_size=1,
    max_size=6,
)


def _change_of(turn: Turn, root: Root) -> Change:
    ids = sorted(root.keys)
    name = ids[turn.place % len(ids)]
    strangers = [each for each in public(*_POOL) if each.keyid not in root.keys] or list(public("late"))
    newcomer = strangers[turn.newcomer % len(strangers)]
    root_threshold, release_threshold = turn.thresholds
    what = {
        "replace": {"replace": ((name, newcomer),)},
        "revoke": {"revoke": (name,)},
        "add-root": {"add_root": (newcomer,)},
        "add-release": {"add_release": (newcomer,)},
        "renew": {"valid_days": 100 + turn.place},
    }[turn.kind]
    return Change(root_threshold=root_threshold, release_threshold=release_threshold, **what)  # type: ignore[arg-type]


def _good(root: Root, signed: set[str]) -> bool:
    role = root.roles[Root.type]
    return len(signed & set(role.keyids)) >= role.threshold


def _play(held: Custody, turn: Turn) -> None:
    """Propose, sign with whom the turn names, and hold the outcome to the rule of both thresholds."""
    chain = held.chain
    old = trusted_root(chain[-1])
    try:
        held.rotate(_change_of(turn, old))
    except BadInput:
        assert held.chain == chain
        assert read_draft(held.folder) is None
        return
    draft = read_draft(held.folder)
    assert draft is not None
    held_by = {signer.public_key.keyid: signer for signer in signers(*_POOL, "late")}
    may = [held_by[each.keyid] for each in draft.signing_keys]
    chosen = [signer for number, signer in enumerate(may) if turn.signing >> number & 1]
    enough = all(_good(root, {each.public_key.keyid for each in chosen}) for root in (old, draft.root))
    forced = signed_root(draft.root, chosen)
    step = rotate(held.folder, Change(), now=NOW, signers=chosen)
    assert (step.finished is not None) == enough
    for known in chain:
        if enough:
            newest, new = follow_roots(held.chain, known)
            assert newest.version == len(held.chain) == len(chain) + 1
            assert new == held.chain[trusted_root(known).version :]
        else:
            with pytest.raises(Untrusted):
                follow_roots((*chain, forced), known)
    if not enough:
        assert held.chain == chain
        throw_away(held.folder)


@pytest.mark.real
@settings(max_examples=40)
@given(turns)
def test_any_rotations_make_a_chain_that_every_server_follows_and_no_others(plan: Sequence[Turn]) -> None:
    base = Path(tempfile.mkdtemp())
    try:
        create(
            base / "keys",
            "demo",
            passphrase=b"",
            expires=ROOT_EXPIRES,
            root_keys=0,
            release_keys=0,
            custodians=public(*_POOL[:3]),
            releasers=public(_POOL[3]),
        )
        held = Custody(base / "keys")
        held.rotate(None, *_POOL[:2])
        for turn in plan:
            _play(held, turn)
        assert [sha256_hex(root) for root in held.chain] == [sha for _, sha in show(held.folder).roots]
    finally:
        shutil.rmtree(base)


def test_a_draft_is_one_envelope_in_the_one_spelling(held: Custody) -> None:
    held.rotate(Change(valid_days=20), "root-1")
    draft = read_draft(held.folder)
    assert draft is not None
    assert envelope_to_bytes(draft.envelope) == (held.folder / "draft" / "root.json").read_bytes()
