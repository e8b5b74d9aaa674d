"""Signatures: nobody's, too few, revoked, expired, doubled, on other curves, and malformed ones."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from appliance.format import (
    TARGETS_MEMBER,
    envelope_from_bytes,
    envelope_to_bytes,
    root_member,
    sha256_hex,
)
from tests.attacks import rows
from tests.attacks.corpus import (
    OLD_RELEASE_KEYS,
    RELEASE_KEYS,
    Scene,
    attack,
    attacks,
    content_of,
    generation,
    put,
)
from tests.test_verify import compressed, first_key, pem_of
from tests.world import key, signed

if TYPE_CHECKING:
    from collections.abc import Callable

    from securesystemslib.signer._crypto_signer import CryptoSigner
    from tuf.api.dsse import SimpleEnvelope

    from tests.world import World

#: The order of P-256. Source: SP 800-186, section 3.2.1.3.
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


# --- Who signed


@attacks(
    10,
    rows.SIGNERS,
    {
        "unsigned": [],
        "signed by a stranger": ["stranger"],
        "signed by one release key of the two that are asked for": ["release-4"],
        "signed by one release key and a stranger": ["release-4", "stranger"],
        "signed by enough release keys and a stranger": ["release-4", "release-5", "stranger"],
        "signed by root keys": ["root-1", "root-2", "root-3"],
        "signed by revoked release keys": list(OLD_RELEASE_KEYS),
        "signed by one good and one revoked release key": ["release-4", "release-1"],
    },
)
def _signed_by(scene: Scene, names: list[str]) -> None:
    scene.world.signers = [key(name) for name in names]


@attack(10, rows.SIGNERS, new_roots=1)
def signed_by_a_key_that_the_root_on_the_same_medium_revokes(scene: Scene) -> None:
    scene.world.rotate(
        generation(("release-5", "release-6", "release-7")), [key("release-4"), key("release-5")]
    )


@attack(10, rows.SIGNERS)
def the_signature_of_one_key_under_the_id_of_another(scene: Scene) -> None:
    envelope = _targets(scene.world)
    first, second = (key(name).public_key.keyid for name in RELEASE_KEYS[:2])
    copied = envelope.signatures[first]
    envelope.signatures[second] = type(copied)(second, copied.signature)
    put(scene.world, TARGETS_MEMBER, envelope_to_bytes(envelope))


@attack(10, rows.SIGNERS)
def signatures_taken_from_the_second_release(scene: Scene) -> None:
    other = scene.world.next(version="2.0.0", counter=2)
    envelope = _targets(scene.world)
    envelope.signatures.clear()
    envelope.signatures.update(_targets(other).signatures)
    put(scene.world, TARGETS_MEMBER, envelope_to_bytes(envelope))


@attack(10, rows.SIGNERS)
def signatures_that_outgrow_their_room(scene: Scene) -> None:
    scene.world.signers = [key(f"stranger-{number % 4}") for number in range(4)]
    envelope = _targets(scene.world)
    (one, *_) = envelope.signatures.values()
    for number in range(300):
        name = f"{number:064x}"
        envelope.signatures[name] = type(one)(name, one.signature)
    put(scene.world, TARGETS_MEMBER, envelope_to_bytes(envelope))


# --- How a signature is spelled


def _targets(world: World) -> SimpleEnvelope[Any]:
    return envelope_from_bytes(content_of(world, TARGETS_MEMBER), TARGETS_MEMBER)


def respell(world: World, change: Callable[[bytes, bytes], bytes], member: str = TARGETS_MEMBER) -> None:
    """Put ``change(signature, what it signs)`` in the place of one signature of a member."""
    envelope = envelope_from_bytes(content_of(world, member), member)
    one = next(iter(envelope.signatures.values()))
    one.signature = change(bytes.fromhex(one.signature), envelope.pae()).hex()
    put(world, member, envelope_to_bytes(envelope))


def _integer(value: bytes) -> bytes:
    return b"\x02" + bytes([len(value)]) + value


def _sequence(*items: bytes, tag: bytes = b"\x30") -> bytes:
    return tag + bytes([len(b"".join(items))]) + b"".join(items)


def _plain(number: int) -> bytes:
    return number.to_bytes(number.bit_length() // 8 + 1, "big")


def _both(sig: bytes) -> tuple[bytes, bytes]:
    r, s = decode_dss_signature(sig)
    return _integer(_plain(r)), _integer(_plain(s))


@cache
def _other_curve() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _digest(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(data)
    return digest.finalize()


def _by_our_key(data: bytes, algorithm: hashes.HashAlgorithm | Prehashed) -> bytes:
    signer = min((key(name) for name in RELEASE_KEYS[:2]), key=lambda one: one.public_key.keyid)
    private = signer._private_key
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    return private.sign(data, ec.ECDSA(algorithm))


SPELLINGS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "a byte after the signature": lambda sig, _: sig + b"\0",
    "a byte after the two numbers": lambda sig, _: _sequence(*_both(sig), b"\0"),
    "a third number": lambda sig, _: _sequence(*_both(sig), _integer(b"\x01")),
    "one number only": lambda sig, _: _sequence(_both(sig)[0]),
    "r of zero": lambda sig, _: _sequence(_integer(b"\0"), _both(sig)[1]),
    "s of zero": lambda sig, _: _sequence(_both(sig)[0], _integer(b"\0")),
    "r and s of zero": lambda _, __: _sequence(_integer(b"\0"), _integer(b"\0")),
    "r of n": lambda sig, _: _sequence(_integer(_plain(N)), _both(sig)[1]),
    "s of n": lambda sig, _: _sequence(_both(sig)[0], _integer(_plain(N))),
    "r and s of n": lambda _, __: _sequence(_integer(_plain(N)), _integer(_plain(N))),
    "r of one, s of one": lambda _, __: encode_dss_signature(1, 1),
    "r plus n": lambda sig, _: encode_dss_signature(decode_dss_signature(sig)[0] + N, 7),
    "s plus n": lambda sig, _: encode_dss_signature(
        decode_dss_signature(sig)[0], decode_dss_signature(sig)[1] + N
    ),
    "a negative r": lambda sig, _: _sequence(
        _integer((-decode_dss_signature(sig)[0]).to_bytes(33, "big", signed=True)), _both(sig)[1]
    ),
    "a negative s": lambda sig, _: _sequence(
        _both(sig)[0], _integer((-decode_dss_signature(sig)[1]).to_bytes(33, "big", signed=True))
    ),
    "r with a zero byte more": lambda sig, _: _sequence(
        _integer(b"\0" + _plain(decode_dss_signature(sig)[0])), _both(sig)[1]
    ),
    "a length in the long form": lambda sig, _: sig[:1] + b"\x81" + sig[1:],
    "an indefinite length": lambda sig, _: sig[:1] + b"\x80" + sig[2:] + b"\0\0",
    "a length that lies": lambda sig, _: sig[:1] + bytes([sig[1] + 1]) + sig[2:],
    "a set in the place of the sequence": lambda sig, _: b"\x31" + sig[1:],
    "octets in the place of a number": lambda sig, _: sig[:2] + b"\x04" + sig[3:],
    "r and s side by side in fixed width": lambda sig, _: b"".join(
        number.to_bytes(32, "big") for number in decode_dss_signature(sig)
    ),
    "r and s exchanged": lambda sig, _: encode_dss_signature(*reversed(decode_dss_signature(sig))),
    "a signature cut short": lambda sig, _: sig[:-1],
    "a signature of nothing": lambda _, __: b"",
    "a signature of zeros": lambda sig, _: bytes(len(sig)),
    "a signature of 20,000 bytes": lambda sig, _: sig + bytes(20_000),
    "a signature in PEM": lambda sig, _: b"-----BEGIN SIGNATURE-----\n" + sig,
    "our key over the payload alone": lambda _, pae: _by_our_key(pae[pae.index(b"{") :], hashes.SHA256()),
    "our key over the digest of the digest": lambda _, pae: _by_our_key(_digest(pae), hashes.SHA256()),
    "our key over another payload type": lambda _, pae: _by_our_key(
        pae.replace(b"vnd.tuf", b"vnd.tof"), hashes.SHA256()
    ),
    "our key with SHA-384": lambda _, pae: _by_our_key(pae, hashes.SHA384()),
    "our key with SHA-512": lambda _, pae: _by_our_key(pae, hashes.SHA512()),
    "a key on P-384 under our id": lambda _, pae: _other_curve().sign(pae, ec.ECDSA(hashes.SHA256())),
    "an Ed25519 key under our id": lambda _, pae: ed25519.Ed25519PrivateKey.generate().sign(pae),
}


@attacks(10, rows.ENCODING, SPELLINGS)
def _respelled(scene: Scene, change: Callable[[bytes, bytes], bytes]) -> None:
    respell(scene.world, change)


@attacks(
    10,
    rows.ENCODING,
    {
        f"{name}, on a root beyond its threshold": SPELLINGS[name]
        for name in (
            "r and s side by side in fixed width",
            "a byte after the signature",
            "a signature of nothing",
        )
    },
)
def _respelled_on_a_root(scene: Scene, change: Callable[[bytes, bytes], bytes]) -> None:
    respell(scene.world, change, root_member(2))


# --- Roots: who follows whom, and with which keys


def _next_root(scene: Scene, **changes: Any) -> None:  # noqa: ANN401 - fields of Generation
    scene.world.rotate(generation(RELEASE_KEYS, **changes), [key(name) for name in RELEASE_KEYS[:2]])


@attacks(
    10,
    rows.BAD_ROOT,
    {
        "a new root that nobody signed": [],
        "a new root that one old key signed": ["root-1"],
        "a new root that strangers signed": ["stranger-1", "stranger-2"],
        "a new root that release keys signed": list(RELEASE_KEYS),
        "a new root that a stranger signed too": ["root-1", "root-2", "stranger"],
    },
)
def _root_signed_by(scene: Scene, names: list[str]) -> None:
    _next_root(scene, signers=[key(name) for name in names])


@attack(10, rows.BAD_ROOT)
def a_new_root_with_keys_that_did_not_sign_it(scene: Scene) -> None:
    theirs = [key("evil-1"), key("evil-2")]
    _next_root(scene, root_keys=theirs, signers=[key(name) for name in ("root-1", "root-2")])


@attack(10, rows.BAD_ROOT)
def a_new_root_signed_by_its_own_keys_alone(scene: Scene) -> None:
    theirs = [key("evil-1"), key("evil-2")]
    _next_root(scene, root_keys=theirs, signers=theirs)


@attack(10, rows.BAD_ROOT)
def roots_of_another_product(scene: Scene) -> None:
    theirs = [key("evil-1"), key("evil-2")]
    scene.world.generations = [
        generation(RELEASE_KEYS, root_keys=theirs),
        generation(RELEASE_KEYS, root_keys=theirs),
    ]


@attack(10, rows.BAD_ROOT)
def another_root_under_the_number_of_the_trusted_one(scene: Scene) -> None:
    """The threshold of root keys has signed something else under a number that was given before."""
    scene.world.generations[1].release_keys = [key("release-8"), key("release-9")]
    scene.world.signers = [key("release-8"), key("release-9")]


@attack(10, rows.BAD_ROOT)
def the_first_root_once_more_as_the_third(scene: Scene) -> None:
    scene.world.rotate(generation(RELEASE_KEYS), scene.world.signers)
    put(scene.world, root_member(3), scene.world.root(1))


@attack(12, rows.FEWER_ROOTS)
def a_root_that_leaves_a_number_out(scene: Scene) -> None:
    _next_root(scene, change=lambda root: root.update(version=4))


@attack(10, rows.BAD_ROOT)
def targets_in_the_place_of_a_new_root(scene: Scene) -> None:
    payload = envelope_from_bytes(scene.world.targets, TARGETS_MEMBER).payload
    _next_root(scene)
    put(scene.world, root_member(3), signed(payload, [key("root-1"), key("root-2")]))


def _key_in_place_of_the_first(root: dict[str, Any], public: Any) -> None:  # noqa: ANN401 - any public key
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    old = root["roles"]["root"]["keyids"][0]
    root["roles"]["root"]["keyids"][0] = sha256_hex(der)
    root["keys"][sha256_hex(der)] = {**root["keys"].pop(old), "keyval": {"public": pem}}


def _second_name(root: dict[str, Any], spell: Callable[[CryptoSigner], str], name: str) -> None:
    """Let a release key stand under a second name in that spelling, and count as two."""
    keyid, pem = key("release-4").public_key.keyid, spell(key("release-4"))
    root["keys"][name] = {**root["keys"][keyid], "keyval": {"public": pem}}
    root["roles"]["targets"]["keyids"].append(name)


ROOTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "one key under two ids": lambda root: _second_name(root, pem_of, "ab" * 32),
    "one key as a compressed point too": lambda root: _second_name(root, compressed, "cd" * 32),
    "one key with a line's end more": lambda root: _second_name(
        root, lambda signer: pem_of(signer) + "\n", "ef" * 32
    ),
    "a key twice in a role": lambda root: root["roles"]["targets"]["keyids"].append(
        root["roles"]["targets"]["keyids"][0]
    ),
    "a key on P-384": lambda root: _key_in_place_of_the_first(root, _other_curve().public_key()),
    "a key on secp256k1": lambda root: _key_in_place_of_the_first(
        root, ec.generate_private_key(ec.SECP256K1()).public_key()
    ),
    "an Ed25519 key": lambda root: _key_in_place_of_the_first(
        root, ed25519.Ed25519PrivateKey.generate().public_key()
    ),
    "an RSA key by its type": lambda root: first_key(root).update(keytype="rsa", scheme="rsassa-pss-sha256"),
    "a key with a scheme of its own": lambda root: first_key(root).update(scheme="none"),
    "a key that is no key": lambda root: first_key(root).update(keyval={"public": "evil"}),
    "a point that is not on the curve": lambda root: first_key(root).update(
        keyval={"public": pem_of(key("release-4")).replace(pem_of(key("release-4"))[110:114], "AAAA")}
    ),
    "a threshold of zero": lambda root: root["roles"]["targets"].update(threshold=0),
    "a threshold below zero": lambda root: root["roles"]["targets"].update(threshold=-1),
    "a threshold beyond the keys": lambda root: root["roles"]["root"].update(threshold=4),
    "a threshold that is true": lambda root: root["roles"]["targets"].update(threshold=True),
    "no release keys": lambda root: root["roles"]["targets"].update(keyids=[]),
    "keys for a role that Banip does not use": lambda root: root["roles"]["timestamp"].update(
        keyids=root["roles"]["targets"]["keyids"]
    ),
    "a private key in the root": lambda root: first_key(root)["keyval"].update(private="x"),
}


@attacks(
    10, rows.BAD_KEYS, {f"{name}, in a root that the trusted one signed": c for name, c in ROOTS.items()}
)
def _bad_root(scene: Scene, change: Callable[[dict[str, Any]], object]) -> None:
    _next_root(scene, change=change)
