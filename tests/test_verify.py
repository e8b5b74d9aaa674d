"""Every numbered rule of ``appliance/verify.py``: a world that passes it, and worlds that do not."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from securesystemslib.signer._crypto_signer import CryptoSigner
from securesystemslib.signer._key import SSlibKey
from tuf.api._payload import Root

from appliance.errors import BanipError, Incomplete, Tampered, UnfitServer, Untrusted
from appliance.format import ROOTS_MAX, canonical_json, envelope_from_bytes, envelope_to_bytes, sha256_hex
from appliance.verify import (
    Envelopes,
    Floor,
    Trust,
    TrustedBundle,
    check_root,
    first_trust,
    follow_roots,
    trusted_root,
    verify,
)
from bundle.keys import make_root
from tests.world import (
    EXPIRES,
    NOW,
    ROOT_EXPIRES,
    Generation,
    MemorySource,
    World,
    first_generation,
    key,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.verify import Source


@pytest.fixture
def world() -> World:
    return World()


def judge(
    world: World,
    trust: Trust | None = None,
    source: Source | None = None,
    **options: Any,  # noqa: ANN401
) -> TrustedBundle:
    return verify(source or world.source(), trust or world.trust(), **{"reference_time": NOW, **options})


def refusal(
    world: World,
    trust: Trust | None = None,
    source: Source | None = None,
    **options: Any,  # noqa: ANN401
) -> BanipError:
    with pytest.raises(BanipError) as caught:
        judge(world, trust, source, **options)
    return caught.value


def test_a_whole_bundle_is_trusted_and_the_proof_carries_what_was_judged(world: World) -> None:
    world.site = "seoul"
    bundle = judge(world, world.trust(site="seoul"))
    assert bundle.release == world.release
    assert (bundle.roots, bundle.targets) == (world.roots, world.targets)
    assert (bundle.release_json, bundle.chunks_bin) == (world.release_json, world.chunks_bin)
    assert (bundle.root_version, bundle.new_roots) == (1, ())
    assert (bundle.expires, bundle.expired) == (EXPIRES, False)


def test_the_chunks_of_a_large_blob_come_with_the_proof(world: World) -> None:
    world.grow()
    large = world.files["models/tiny/large.bin"]
    chunks = judge(world).chunks.of(sha256_hex(large))
    assert [chunk.hex() for chunk in chunks] == [sha256_hex(large[: 2**23]), sha256_hex(large[2**23 :])]


# --- Rule 1: envelopes


def spelled(raw: bytes, change: Callable[[str], str]) -> bytes:
    changed = change(raw.decode())
    assert changed != raw.decode()
    return changed.encode()


MALFORMED: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _raw: b"",
    "not JSON": lambda raw: b"\xff" + raw,
    "not an object": lambda raw: b"[" + raw.strip() + b"]",
    "white space": lambda raw: raw + b" ",
    "no final newline": lambda raw: raw.rstrip(),
    "another order of members": lambda raw: (
        json.dumps(dict(reversed(json.loads(raw).items())), separators=(",", ":")).encode() + b"\n"
    ),
    "a key twice": lambda raw: spelled(raw, lambda text: text.replace("{", '{"payload":"AA==",', 1)),
    "a member too many": lambda raw: spelled(raw, lambda text: text.replace("{", '{"a":1,', 1)),
    "a member too few": lambda raw: spelled(raw, lambda text: text.replace('"payloadType"', '"payloadtype"')),
    "another payload type": lambda raw: spelled(raw, lambda text: text.replace("vnd.tuf", "vnd.tof")),
    "NaN": lambda raw: spelled(raw, lambda text: text.replace('"signatures":', '"signatures":NaN,"x":')),
    "NaN for signatures": lambda _raw: (
        b'{"payload":"AA==","payloadType":"application/vnd.tuf+json","signatures":NaN}'
    ),
    "deep nesting": lambda _raw: b'{"payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep nesting in an object": lambda _raw: b'{"payload":' * 50_000,
    "more than 1 MiB": lambda raw: raw.rstrip() + b" " * 2**20 + b"\n",
    "base64 with white space": lambda raw: spelled(
        raw, lambda text: text.replace('"payload":"', '"payload":" ', 1)
    ),
    "base64 without its padding": lambda raw: spelled(raw, lambda text: text.replace('="', '"', 1)),
    "base64 of the other alphabet": lambda raw: spelled(
        raw, lambda text: text.replace('"payload":"e', '"payload":"_', 1)
    ),
    "a signature twice": lambda raw: canonical_json(
        {**json.loads(raw), "signatures": json.loads(raw)["signatures"] * 2}
    ),
    "a key id in capitals": lambda raw: canonical_json(
        {
            **json.loads(raw),
            "signatures": [{**one, "keyid": one["keyid"].upper()} for one in json.loads(raw)["signatures"]],
        }
    ),
    "a signature that is no text": lambda raw: canonical_json(
        {**json.loads(raw), "signatures": [{"keyid": "0" * 64, "sig": 7}]}
    ),
    "signatures that are no list": lambda raw: canonical_json({**json.loads(raw), "signatures": {}}),
    "a lone surrogate": lambda raw: spelled(
        raw, lambda text: text.replace('"payload":"', '"payload":"\\ud800', 1)
    ),
    "a huge number": lambda _raw: b'{"payload":' + b"9" * 10_000 + b',"payloadType":1,"signatures":[]}',
}


@pytest.mark.parametrize("member", ["root/1.json", "targets.json"])
@pytest.mark.parametrize("fault", MALFORMED)
def test_an_envelope_in_any_other_spelling_is_untrusted(world: World, member: str, fault: str) -> None:
    members = {one.name: one.content for one in world.members()}
    members[member] = MALFORMED[fault](members[member])
    assert refusal(world, source=MemorySource(members)).exit_code == Untrusted.exit_code


def test_base64_that_hides_bits_in_its_padding_is_untrusted(world: World) -> None:
    world.version = "1.0.00"  # a length that needs padding
    while not (targets := world.targets.decode()).split('"payload":"')[1].split('"')[0].endswith("="):
        world.product += "o"
    payload = targets.split('"payload":"')[1].split('"')[0]
    stem, last = payload.rstrip("=")[:-1], payload.rstrip("=")[-1]
    other = stem + chr(ord(last) + 1) + payload[len(stem) + 1 :]
    assert base64.b64decode(other) == base64.b64decode(payload)
    members = {one.name: one.content for one in world.members()}
    members["targets.json"] = targets.replace(payload, other).encode()
    assert isinstance(refusal(world, source=MemorySource(members)), Untrusted)


# --- Rule 2: roots


def generation(number: int, **changes: Any) -> Generation:  # noqa: ANN401
    keys = [key(f"root-{number}{letter}") for letter in "ab"]
    return Generation(**{"root_keys": keys, "release_keys": [key(f"release-{number}")], **changes})


@pytest.fixture
def rotated(world: World) -> World:
    world.rotate(generation(2))
    world.rotate(generation(3))
    return world


@pytest.mark.parametrize("trusted", [1, 2, 3])
def test_a_server_goes_from_whichever_root_it_trusts_to_the_newest(rotated: World, trusted: int) -> None:
    bundle = judge(rotated, rotated.trust(trusted))
    assert bundle.root_version == 3
    assert bundle.new_roots == rotated.roots[trusted:]


def knowing(world: World, trusted: int) -> Trust:
    """Return the trust of a server that has had every root up to this one."""
    return replace(world.trust(trusted), older=tuple(world.root(version) for version in range(1, trusted)))


@pytest.mark.parametrize("trusted", [1, 2, 3])
def test_roots_that_were_trusted_here_before_may_ride_along_as_they_were(
    rotated: World, trusted: int
) -> None:
    assert judge(rotated, knowing(rotated, trusted)).root_version == 3


@pytest.mark.parametrize("version", [1, 2])
def test_another_root_in_the_place_of_an_older_one_is_untrusted(rotated: World, version: int) -> None:
    trust = knowing(rotated, 3)
    rotated.generations[version - 1].expires = EXPIRES
    assert "another root" in str(refusal(rotated, trust))


@pytest.mark.parametrize(
    "signers", [["root-2a", "root-2b"], ["root-2a", "root-2b", "root-1", "root-2", "stranger"]]
)
def test_the_signatures_of_the_root_before_the_trusted_one_are_asked_for_again(
    rotated: World, signers: list[str]
) -> None:
    """A signature that is no longer needed must be good all the same, and nobody else may have signed."""
    trust = knowing(rotated, 2)
    rotated.generations[1].signers = [key(name) for name in signers]
    assert isinstance(refusal(rotated, trust), Untrusted)


def test_a_bundle_with_fewer_roots_than_the_server_knows_is_incomplete(rotated: World) -> None:
    """No signature covers how many roots travel, so a root that was left out must not pass for age."""
    trust = rotated.trust(3)
    rotated.generations.pop()
    for signer in ("release-2", "release-3"):
        rotated.signers = [key(signer)]
        assert isinstance(refusal(rotated, trust), Incomplete)


def test_a_release_key_that_the_newest_root_dropped_signs_nothing_more(rotated: World) -> None:
    rotated.signers = [key("release-1")]
    assert isinstance(refusal(rotated), Untrusted)


def test_new_roots_hold_even_where_the_targets_are_refused(rotated: World) -> None:
    root, new = follow_roots(rotated.roots, rotated.root(1))
    assert root.version == 3
    assert new == rotated.roots[1:]


def test_a_root_that_the_one_before_did_not_sign_is_untrusted(rotated: World) -> None:
    rotated.generations[1].signers = rotated.generations[1].root_keys
    assert isinstance(refusal(rotated), Untrusted)


def test_a_root_signed_by_too_few_of_the_one_before_is_untrusted(rotated: World) -> None:
    before, own = rotated.generations[0].root_keys, rotated.generations[1].root_keys
    rotated.generations[1].signers = [before[0], *own]
    assert isinstance(refusal(rotated), Untrusted)


def test_a_root_that_did_not_sign_itself_is_untrusted(rotated: World) -> None:
    rotated.generations[1].signers = rotated.generations[0].root_keys
    assert isinstance(refusal(rotated), Untrusted)


def test_a_root_signed_by_too_few_of_its_own_is_untrusted(rotated: World) -> None:
    before, own = rotated.generations[0].root_keys, rotated.generations[1].root_keys
    rotated.generations[1].signers = [*before, own[0]]
    assert isinstance(refusal(rotated), Untrusted)


def test_a_root_that_a_stranger_signed_too_is_untrusted(rotated: World) -> None:
    before, own = rotated.generations[0].root_keys, rotated.generations[1].root_keys
    rotated.generations[1].signers = [*before, *own, key("stranger")]
    assert isinstance(refusal(rotated), Untrusted)


def test_a_first_root_that_a_stranger_signed_too_is_untrusted(world: World) -> None:
    trust = world.trust()
    world.generations[0].signers = [*world.generations[0].root_keys, key("stranger")]
    assert isinstance(refusal(world, trust), Untrusted)


@pytest.mark.parametrize(("version", "kind"), [(1, Untrusted), (3, Incomplete), (7, Incomplete)])
def test_a_root_out_of_turn_is_refused(world: World, version: int, kind: type[BanipError]) -> None:
    world.rotate(generation(2, change=lambda root: root.update(version=version)))
    assert type(refusal(world)) is kind


def test_a_missing_root_is_incomplete(rotated: World) -> None:
    rotated.generations[2].signers = [g for one in rotated.generations for g in one.root_keys]
    members = {one.name: one.content for one in rotated.members()}
    del members["root/2.json"]
    assert isinstance(refusal(rotated, source=MemorySource(members)), Untrusted | Incomplete)


def test_no_root_at_all_is_incomplete(world: World) -> None:
    members = {one.name: one.content for one in world.members()}
    del members["root/1.json"]
    assert isinstance(refusal(world, source=MemorySource(members)), Incomplete)


def test_another_root_of_the_trusted_version_is_untrusted(world: World) -> None:
    trust = world.trust()
    world.generations[0].expires = EXPIRES  # the same keys say something else about the same version
    assert "another root" in str(refusal(world, trust))


def test_the_trusted_root_with_other_signatures_over_the_same_payload_passes(world: World) -> None:
    world.generations[0].root_keys.append(key("root-3"))
    trust = world.trust()
    world.generations[0].signers = world.generations[0].root_keys[1:]
    assert world.root(1) != trust.root
    assert judge(world, trust).root_version == 1


def test_one_flipped_byte_in_a_signature_beyond_the_threshold_is_untrusted(world: World) -> None:
    world.generations[0].root_keys.append(key("root-3"))
    trust = world.trust()
    envelope = envelope_from_bytes(world.root(1), "root")
    spoilt = envelope.signatures[key("root-3").public_key.keyid]
    spoilt.signature = spoilt.signature[:-2] + f"{int(spoilt.signature[-2:], 16) ^ 1:02x}"
    members = {one.name: one.content for one in world.members()}
    members["root/1.json"] = envelope_to_bytes(envelope)
    assert isinstance(refusal(world, trust, MemorySource(members)), Untrusted)


# --- Rule 3: keys


def pem_of(signer: CryptoSigner) -> str:
    return str(signer.public_key.keyval["public"])


def compressed(signer: CryptoSigner) -> str:
    public = load_pem_public_key(pem_of(signer).encode())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    point = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    algorithm = bytes.fromhex("301306072a8648ce3d020106082a8648ce3d030107")
    bits = b"\x03" + bytes([len(point) + 1]) + b"\x00" + point
    der = b"\x30" + bytes([len(algorithm) + len(bits)]) + algorithm + bits
    return f"-----BEGIN PUBLIC KEY-----\n{base64.encodebytes(der).decode()}-----END PUBLIC KEY-----\n"


def second_name(root: dict[str, Any], pem: str, name: str) -> None:
    """Let the first root key of the world stand under a second name, and count as two."""
    root["keys"][name] = {"keytype": "ecdsa", "scheme": "ecdsa-sha2-nistp256", "keyval": {"public": pem}}
    root["roles"]["root"]["keyids"].append(name)


def der_sha256(pem: str) -> str:
    return sha256_hex(base64.b64decode("".join(pem.splitlines()[1:-1])))


ONE_KEY_AS_TWO: dict[str, Callable[[CryptoSigner], tuple[str, str]]] = {
    "under a made-up id": lambda signer: (pem_of(signer), "ab" * 32),
    "as a compressed point, under its digest": lambda signer: (
        compressed(signer),
        der_sha256(compressed(signer)),
    ),
    "as a compressed point, under a made-up id": lambda signer: (compressed(signer), "cd" * 32),
    "with a line end more": lambda signer: (pem_of(signer) + "\n", "ef" * 32),
    "with other line ends": lambda signer: (pem_of(signer).replace("\n", "\r\n"), "01" * 32),
    "with words before it": lambda signer: ("a key\n" + pem_of(signer), sha256_hex(pem_of(signer).encode())),
}


@pytest.mark.parametrize("disguise", ONE_KEY_AS_TWO)
def test_one_key_posing_as_two_is_untrusted(world: World, disguise: str) -> None:
    pem, name = ONE_KEY_AS_TWO[disguise](key("root-1"))
    load_pem_public_key(pem.encode())  # it is the key, or the test shows nothing
    world.generations[0].change = lambda root: second_name(root, pem, name)
    seen = refusal(world, Trust(world.root(1), "demo", None, None))
    assert isinstance(seen, Untrusted)
    assert str(seen) == "the keys of the root metadata are not acceptable"


def test_one_key_posing_as_two_is_untrusted_in_a_root_that_follows(world: World) -> None:
    pem, name = ONE_KEY_AS_TWO["under a made-up id"](key("root-2a"))
    world.rotate(generation(2, change=lambda root: second_name(root, pem, name)))
    assert str(refusal(world)) == "the keys of the root metadata are not acceptable"


def test_a_key_may_serve_two_roles(world: World) -> None:
    world.generations[0].release_keys = [key("root-1")]
    world.signers = [key("root-1")]
    assert judge(world)


def put_key_on_another_curve(root: dict[str, Any]) -> None:
    """Replace the first root key by one on P-384 that is otherwise as it should be: named by its digest."""
    public = ec.generate_private_key(ec.SECP384R1()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    old = root["roles"]["root"]["keyids"][0]
    root["roles"]["root"]["keyids"][0] = der_sha256(pem)
    root["keys"][der_sha256(pem)] = {**root["keys"].pop(old), "keyval": {"public": pem}}


def first_key(root: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = root["keys"][root["roles"]["root"]["keyids"][0]]
    return found


def rename_first_key(root: dict[str, Any]) -> None:
    old = root["roles"]["root"]["keyids"][0]
    root["roles"]["root"]["keyids"][0] = "0" * 64
    root["keys"]["0" * 64] = root["keys"].pop(old)


BAD_ROOTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "another key type": lambda root: first_key(root).update(keytype="rsa", scheme="rsassa-pss-sha256"),
    "the deprecated key type": lambda root: first_key(root).update(keytype="ecdsa-sha2-nistp256"),
    "another scheme": lambda root: first_key(root).update(scheme="ecdsa-sha2-nistp384"),
    "a key on another curve": put_key_on_another_curve,
    "a key in another spelling under its own id": lambda root: first_key(root).update(
        keyval={"public": first_key(root)["keyval"]["public"] + "\n"}
    ),
    "no key": lambda root: first_key(root).update(keyval={"public": "no key"}),
    "a key that is a number": lambda root: first_key(root).update(keyval={"public": 7}),
    "more in a key": lambda root: first_key(root)["keyval"].update(private="x"),
    "a member unknown in a key": lambda root: first_key(root).update(extra=1),
    "a key under another id": rename_first_key,
    "a key that no role uses": lambda root: root["roles"]["targets"].update(
        keyids=[root["roles"]["root"]["keyids"][0]]
    ),
    "a role with an absent key": lambda root: root["roles"]["targets"]["keyids"].append("0" * 64),
    "a role with a key twice": lambda root: root["roles"]["root"]["keyids"].append(
        root["roles"]["root"]["keyids"][0]
    ),
    "no root keys": lambda root: root["roles"]["root"].update(keyids=[]),
    "no release keys": lambda root: root["roles"]["targets"].update(keyids=[]),
    "a threshold of nothing": lambda root: root["roles"]["targets"].update(threshold=0),
    "a threshold beyond the keys": lambda root: root["roles"]["targets"].update(threshold=2),
    "a threshold that is true": lambda root: root["roles"]["targets"].update(threshold=True),
    "a threshold that is 1.0": lambda root: root["roles"]["targets"].update(threshold=1.0),
    "keys for an unused role": lambda root: root["roles"]["snapshot"].update(
        keyids=[root["roles"]["root"]["keyids"][0]]
    ),
    "a role missing": lambda root: root["roles"].pop("timestamp"),
    "a role too many": lambda root: root["roles"].update(mirror={"keyids": [], "threshold": 1}),
    "a member unknown": lambda root: root.update(custom=1),
    "a member unknown in a role": lambda root: root["roles"]["root"].update(custom=1),
    "keys that are a list": lambda root: root.update(keys=[]),
    "roles that are a list": lambda root: root.update(roles=[]),
    "another type": lambda root: root.update(_type="targets"),
    "a version that is text": lambda root: root.update(version="1"),
    "a version that is 1.0": lambda root: root.update(version=1.0),
    "a version of zero": lambda root: root.update(version=0),
    "no version": lambda root: root.pop("version"),
    "another TUF": lambda root: root.update(spec_version="2.0.0"),
    "no such day": lambda root: root.update(expires="2027-02-30T00:00:00Z"),
    "an expiry with a fraction": lambda root: root.update(expires="2027-01-01T00:00:00.5Z"),
}


@pytest.mark.parametrize("fault", BAD_ROOTS)
def test_a_bad_root_is_untrusted_though_its_keys_signed_it(world: World, fault: str) -> None:
    world.generations[0].change = BAD_ROOTS[fault]
    root = world.root(1)
    with pytest.raises(Untrusted):
        trusted_root(root)


@pytest.mark.parametrize("fault", BAD_ROOTS)
def test_a_bad_root_is_untrusted_though_the_root_before_signed_it(world: World, fault: str) -> None:
    world.rotate(generation(2, change=BAD_ROOTS[fault]))
    assert refusal(world).exit_code in {Untrusted.exit_code, Incomplete.exit_code}


@pytest.mark.parametrize("fault", [name for name in BAD_ROOTS if " key" in name and "keys" not in name])
def test_a_bad_key_is_found_by_the_check_itself_before_it_verifies_anything(world: World, fault: str) -> None:
    fields = json.loads(envelope_from_bytes(world.root(1), "root").payload)
    BAD_ROOTS[fault](fields)
    with pytest.raises((Untrusted, ValueError)) as caught:
        check_root(Root.from_dict(fields))
    if isinstance(caught.value, ValueError):  # TUF's own parser was faster
        assert fault in {"a key that is a number", "a role with a key twice"}


def test_a_root_that_a_server_would_refuse_cannot_be_made() -> None:
    signer = key("root-1")
    posing = CryptoSigner(
        signer._private_key, SSlibKey("ab" * 32, "ecdsa", "ecdsa-sha2-nistp256", {"public": pem_of(signer)})
    )
    with pytest.raises(Untrusted):
        make_root(1, ROOT_EXPIRES, [signer, posing], 2, [key("release-1")], 1)
    check_root(make_root(1, ROOT_EXPIRES, [signer, key("root-2")], 2, [key("release-1")], 1))


# --- First contact


def test_first_contact_trusts_a_root_that_agrees_with_itself(world: World) -> None:
    trust = first_trust(world.root(1), "demo", "seoul")
    assert trust == Trust(world.root(1), "demo", "seoul", None)
    assert judge(world, trust)


def test_first_contact_refuses_a_root_that_too_few_of_its_keys_signed(world: World) -> None:
    world.generations[0].signers = [key("root-1")]
    with pytest.raises(Untrusted, match="too few"):
        first_trust(world.root(1), "demo", None)


# --- Rule 4: targets


def test_targets_that_nobody_signed_are_untrusted(world: World) -> None:
    world.signers = []
    assert "too few" in str(refusal(world))


def test_targets_signed_by_a_stranger_are_untrusted(world: World) -> None:
    world.signers = [key("stranger")]
    assert isinstance(refusal(world), Untrusted)


def test_targets_signed_by_root_keys_are_untrusted(world: World) -> None:
    world.signers = world.generations[0].root_keys
    assert isinstance(refusal(world), Untrusted)


def test_targets_that_a_stranger_signed_too_are_untrusted(world: World) -> None:
    world.signers.append(key("stranger"))
    assert refusal(world).seen == key("stranger").public_key.keyid


def test_targets_need_as_many_release_keys_as_the_root_says(world: World) -> None:
    world.generations[0].release_keys = [key(f"release-{number}") for number in (1, 2, 3)]
    world.generations[0].release_threshold = 2
    assert isinstance(refusal(world), Untrusted)
    world.signers = [key("release-1"), key("release-3")]
    assert judge(world)


def test_a_signature_copied_under_the_name_of_another_key_does_not_count(world: World) -> None:
    world.generations[0].release_keys = [key("release-1"), key("release-2")]
    world.generations[0].release_threshold = 2
    envelope = envelope_from_bytes(world.targets, "targets")
    signature = envelope.signatures[key("release-1").public_key.keyid]
    other = key("release-2").public_key.keyid
    envelope.signatures[other] = type(signature)(other, signature.signature)
    members = {one.name: one.content for one in world.members()}
    members["targets.json"] = envelope_to_bytes(envelope)
    assert isinstance(refusal(world, source=MemorySource(members)), Untrusted)


def test_root_metadata_in_the_place_of_targets_is_untrusted(world: World) -> None:
    members = {one.name: one.content for one in world.members()}
    members["targets.json"] = signed(envelope_from_bytes(world.root(1), "root").payload, [key("release-1")])
    assert isinstance(refusal(world, source=MemorySource(members)), Untrusted)


def add_target(targets: dict[str, Any]) -> None:
    targets["targets"]["more.json"] = targets["targets"]["release.json"]


BAD_TARGETS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a target too many": add_target,
    "a target missing": lambda targets: targets["targets"].pop("chunks.bin"),
    "no targets": lambda targets: targets.update(targets={}),
    "targets that are a list": lambda targets: targets.update(targets=[]),
    "delegations": lambda targets: targets.update(delegations={"keys": {}, "roles": []}),
    "a member unknown": lambda targets: targets.update(custom=1),
    "a member unknown in a target": lambda targets: targets["targets"]["chunks.bin"].update(custom={}),
    "another digest": lambda targets: targets["targets"]["chunks.bin"].update(hashes={"md5": "0" * 32}),
    "a digest more": lambda targets: targets["targets"]["chunks.bin"]["hashes"].update(sha512="0" * 128),
    "a digest in capitals": lambda targets: targets["targets"]["chunks.bin"].update(
        hashes={"sha256": "A" * 64}
    ),
    "a digest that is a number": lambda targets: targets["targets"]["chunks.bin"].update(
        hashes={"sha256": 7}
    ),
    "a length of more than 64 MiB": lambda targets: targets["targets"]["release.json"].update(
        length=2**26 + 1
    ),
    "a length that is true": lambda targets: targets["targets"]["release.json"].update(length=True),
    "a length below zero": lambda targets: targets["targets"]["release.json"].update(length=-1),
    "a version of zero": lambda targets: targets.update(version=0),
    "a version that is 1.0": lambda targets: targets.update(version=1.0),
}


@pytest.mark.parametrize("fault", BAD_TARGETS)
def test_bad_targets_are_refused_though_they_are_signed(world: World, fault: str) -> None:
    world.change_targets = BAD_TARGETS[fault]
    assert isinstance(refusal(world), Untrusted)


def test_a_signed_payload_in_another_spelling_is_untrusted(world: World) -> None:
    payload = envelope_from_bytes(world.targets, "targets").payload
    members = {one.name: one.content for one in world.members()}
    for spelling in (
        payload + b" ",
        payload.replace(b'"version":1', b'"version":1,"version":1'),
        payload.replace(b'"version":1', b'"version":NaN'),
        payload.replace(b"{", b"{" + b'"a":{' * 3000, 1),
        b"[" * 100_000,
    ):
        assert spelling != payload
        members["targets.json"] = signed(spelling, [key("release-1")])
        assert isinstance(refusal(world, source=MemorySource(members)), Untrusted)


# --- Rule 5: digests


@pytest.mark.parametrize("name", ["release.json", "chunks.bin"])
def test_one_flipped_byte_in_what_was_signed_is_tampering(world: World, name: str) -> None:
    world.grow()
    world.mutate(name, 5)
    assert isinstance(refusal(world), Tampered)


@pytest.mark.parametrize("name", ["release.json", "chunks.bin"])
def test_less_than_was_signed_is_tampering(world: World, name: str) -> None:
    world.grow()
    members = {one.name: one.content for one in world.members()}
    members[name] = members[name][:-1]
    assert isinstance(refusal(world, source=MemorySource(members)), Tampered)


def test_a_chunk_table_that_does_not_fit_the_blobs_is_tampering(world: World) -> None:
    world.change_members = None
    chunks = bytes(32)
    world.change_targets = lambda targets: targets["targets"]["chunks.bin"].update(
        length=len(chunks), hashes={"sha256": sha256_hex(chunks)}
    )
    members = {one.name: one.content for one in world.members()} | {"chunks.bin": chunks}
    assert isinstance(refusal(world, source=MemorySource(members)), Tampered)


# --- Rule 6: the release and its number


def test_a_release_under_another_number_than_its_own_is_tampering(world: World) -> None:
    world.targets_version = 2
    assert "different numbers" in str(refusal(world))


def test_a_release_of_another_format_finds_the_server_unfit(world: World) -> None:
    world.change_release = lambda release: release.update(format=2)
    assert isinstance(refusal(world), UnfitServer)


@pytest.mark.parametrize(
    "change",
    [
        {"blobs": []},
        {"environments": []},
        {"counter": 0},
        {"counter": -1},
        {"product": "../demo"},
        {"files": [{"path": "../x", "sha256": "0" * 64}]},
        {"built": "2026-01-01T00:00:00"},
    ],
)
def test_a_malformed_release_is_tampering_though_it_is_signed(world: World, change: dict[str, Any]) -> None:
    world.change_release = lambda release: release.update(change)
    assert isinstance(refusal(world), Tampered)


def test_a_counter_of_zero_is_refused(world: World) -> None:
    world.counter = 0
    assert isinstance(refusal(world), Untrusted)


# --- Rule 7: product and site


def test_the_bundle_of_another_product_is_untrusted(world: World) -> None:
    trust = world.trust()
    world.product = "other"
    assert str(refusal(world, trust)) == "the bundle is for another product"


@pytest.mark.parametrize(
    ("bound_to", "site", "passes"),
    [
        (None, None, True),
        (None, "seoul", True),
        ("seoul", "seoul", True),
        ("seoul", "busan", False),
        ("seoul", None, False),
    ],
)
def test_a_bundle_for_one_site_passes_at_that_site_only(
    world: World, bound_to: str | None, site: str | None, *, passes: bool
) -> None:
    world.site = bound_to
    trust = world.trust(site=site)
    if passes:
        assert judge(world, trust)
    else:
        assert str(refusal(world, trust)) == "the bundle is for another site"


# --- Rule 8: freshness


def test_an_older_counter_is_untrusted(world: World) -> None:
    floor = world.next().floor()
    assert "older" in str(refusal(world, world.trust(floor=floor)))


def test_a_higher_counter_passes(world: World) -> None:
    assert judge(world.next(), world.trust(floor=world.floor()))


def test_the_same_release_passes_again(world: World) -> None:
    assert judge(world, world.trust(floor=world.floor()))


def test_the_same_release_passes_again_with_other_signatures(world: World) -> None:
    floor = world.floor()
    world.expires += timedelta(days=1)
    assert judge(world, world.trust(floor=floor))


def test_another_release_under_the_same_number_is_untrusted_and_says_what_that_means(world: World) -> None:
    floor = world.floor()
    world.files["playbooks/site.yml"] += b"  become: true\n"
    seen = refusal(world, world.trust(floor=floor))
    assert isinstance(seen, Untrusted)
    assert "two different releases under one number" in str(seen)


def test_a_floor_of_another_world_does_not_lower_anything(world: World) -> None:
    assert isinstance(refusal(world, world.trust(floor=Floor(2**31, "0" * 64))), Untrusted)


# --- Rule 9: expiry


@pytest.mark.parametrize("which", ["targets", "root"])
def test_what_has_expired_is_untrusted(world: World, which: str) -> None:
    if which == "root":
        world.generations[0].expires, world.expires = EXPIRES, ROOT_EXPIRES
    assert judge(world, reference_time=EXPIRES - timedelta(seconds=1)).expired is False
    seen = refusal(world, reference_time=EXPIRES)
    assert str(seen) == "the signatures on the bundle have expired"
    assert isinstance(seen, Untrusted)


def test_what_has_expired_passes_where_the_operator_typed_the_release(world: World) -> None:
    bundle = judge(world, reference_time=EXPIRES, accept_expired="demo-1.0.0-c1")
    assert (bundle.expired, bundle.expires) == (True, EXPIRES)


@pytest.mark.parametrize("typed", ["", "demo-1.0.0-c2", "demo", "DEMO-1.0.0-C1"])
def test_another_release_id_accepts_nothing(world: World, typed: str) -> None:
    assert isinstance(refusal(world, reference_time=EXPIRES, accept_expired=typed), Untrusted)


def test_accepting_expiry_accepts_nothing_else(world: World) -> None:
    options: dict[str, Any] = {"reference_time": EXPIRES, "accept_expired": "demo-1.0.0-c1"}
    assert isinstance(refusal(world, world.trust(floor=Floor(2, "0" * 64)), **options), Untrusted)
    world.signers = [key("stranger")]
    assert isinstance(refusal(world, **options), Untrusted)


def test_an_expired_root_on_the_way_to_a_newer_one_does_not_matter(world: World) -> None:
    world.generations[0].expires = EXPIRES - timedelta(days=365)
    world.rotate(generation(2))
    assert judge(world).expired is False


# --- the end


def test_more_roots_than_allowed_are_untrusted(world: World) -> None:
    envelopes = Envelopes(world.roots * (ROOTS_MAX + 1), world.targets)
    with pytest.raises(Untrusted, match="more roots"):
        follow_roots(envelopes.roots, world.root(1))


def test_every_refusal_says_what_the_operator_can_do_or_where_it_is(world: World) -> None:
    world.signers = [key("stranger")]
    seen = refusal(world)
    assert seen.remedy is not None or seen.where is not None
    assert first_generation().root_threshold == 2
