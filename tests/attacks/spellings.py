"""Metadata in other spellings: JSON that parsers disagree about, base64 that hides bits, huge numbers."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from appliance.format import TARGETS_MEMBER, canonical_json, envelope_from_bytes
from tests.attacks import rows
from tests.attacks.corpus import RELEASE_KEYS, Scene, attack, attacks, content_of, edit, generation, put
from tests.world import Member, key, signed

if TYPE_CHECKING:
    from collections.abc import Callable

LARGE = 2**20 - 4096


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    """Return what replaces the first of some words that must be there."""

    def change(raw: bytes) -> bytes:
        assert old.encode() in raw, old
        return raw.replace(old.encode(), new.encode("utf-8", "surrogatepass"), 1)

    return change


def with_signatures(change: Callable[[list[dict[str, Any]]], object]) -> Callable[[bytes], bytes]:
    """Return what changes the list of signatures and spells the rest as it was."""

    def changed(raw: bytes) -> bytes:
        envelope = json.loads(raw)
        change(envelope["signatures"])
        return canonical_json(envelope)

    return changed


OUTER = b'{"payload":%b,"payloadType":"application/vnd.tuf+json","signatures":[]}\n'
ENVELOPES: dict[str, Callable[[bytes], bytes]] = {
    "an empty envelope": lambda _: b"",
    "an envelope that is a list": lambda raw: b"[" + raw.strip() + b"]\n",
    "an envelope of null": lambda _: b"null\n",
    "an envelope that is no UTF-8": lambda raw: b"\xff" + raw,
    "an envelope in UTF-16": lambda raw: raw.decode().encode("utf-16"),
    "an envelope with a byte order mark": lambda raw: b"\xef\xbb\xbf" + raw,
    "an envelope with a space after it": lambda raw: raw + b" ",
    "an envelope without its line's end": lambda raw: raw.rstrip(),
    "two envelopes in a row": lambda raw: raw + raw,
    "an envelope with its members in another order": lambda raw: (
        json.dumps(dict(reversed(json.loads(raw).items())), separators=(",", ":")).encode() + b"\n"
    ),
    "an envelope with a member twice": replaced("{", '{"payload":"AA==",'),
    "an envelope with a member twice, once in other letters": replaced("{", '{"p\\u0061yload":"AA==",'),
    "an envelope with a member too many": replaced("{", '{"comment":"evil",'),
    "an envelope with a member too few": replaced('"payloadType"', '"payloadtype"'),
    "an envelope of another payload type": replaced("vnd.tuf", "vnd.in-toto"),
    "a lone surrogate in the payload": replaced('"payload":"', '"payload":"\\ud800'),
    "a payload that is a number": lambda _: OUTER % b"1",
    "a payload of NaN": lambda _: OUTER % b"NaN",
    "a payload of 1e400": lambda _: OUTER % b"1e400",
    "a payload of minus zero": lambda _: OUTER % b"-0",
    "a payload of a million digits": lambda _: OUTER % (b"9" * LARGE),
    "a payload of a fraction of a million digits": lambda _: OUTER % (b"0." + b"9" * LARGE),
    "lists in lists, half a million deep": lambda _: OUTER % (b"[" * (LARGE // 2) + b"]" * (LARGE // 2)),
    "objects in objects, a hundred thousand deep": lambda _: b'{"payload":' * 90_000,
    "half a million empty lists": lambda _: OUTER % (b"[" + b"[]," * (LARGE // 3 - 2) + b"[]]"),
    "a string that never ends": lambda _: b'{"payload":"' + b"A" * LARGE,
    "backslashes for a million bytes": lambda _: OUTER % (b'"' + b"\\\\" * (LARGE // 2) + b'"'),
    "base64 with a space in it": replaced('"payload":"', '"payload":" '),
    "base64 with a line's end in it": replaced('"payload":"', '"payload":"\\n'),
    "base64 of the other alphabet": replaced('"payload":"ey', '"payload":"_-'),
    "base64 without its padding": replaced('="', '"'),
    "base64 with too much padding": replaced('="', '=="'),
    "base64 with letters after its padding": replaced('="', '=AAA="'),
    "a signature that stands twice": with_signatures(lambda found: found.append(found[0])),
    "two signatures under one key id": with_signatures(
        lambda found: found[1].update(keyid=found[0]["keyid"])
    ),
    "signatures in another order": with_signatures(lambda found: found.reverse()),
    "a key id in capitals": with_signatures(lambda found: found[0].update(keyid=found[0]["keyid"].upper())),
    "a key id with a line's end": with_signatures(
        lambda found: found[0].update(keyid=found[0]["keyid"] + "\n")
    ),
    "a key id that is a number": with_signatures(lambda found: found[0].update(keyid=7)),
    "a signature that is a list": with_signatures(lambda found: found[0].update(sig=[])),
    "a signature with a member too many": with_signatures(lambda found: found[0].update(comment="evil")),
}


@attacks(10, rows.MALFORMED, ENVELOPES)
def _targets_envelope(scene: Scene, change: Callable[[bytes], bytes]) -> None:
    put(scene.world, TARGETS_MEMBER, change(content_of(scene.world, TARGETS_MEMBER)))


@attack(10, rows.MALFORMED)
def base64_with_bits_in_its_padding(scene: Scene) -> None:
    """Other letters, the same bytes: two envelopes that decode to one."""
    while '="' not in (raw := content_of(scene.world, TARGETS_MEMBER).decode()):
        scene.world.expires += timedelta(seconds=1)  # until something in it needs padding
    last = raw.index("=")
    other = raw[: last - 1] + chr(ord(raw[last - 1]) + 1) + raw[last:]
    put(scene.world, TARGETS_MEMBER, other.encode())


@attacks(
    10,
    rows.MALFORMED,
    {
        f"{name}, in the place of a root": ENVELOPES[name]
        for name in ("an empty envelope", "an envelope with a member twice", "base64 without its padding")
    },
)
def _root_envelope(scene: Scene, change: Callable[[bytes], bytes]) -> None:
    put(scene.world, "root/2.json", change(content_of(scene.world, "root/2.json")))


@attacks(
    11,
    rows.OTHER_HEADER,
    {
        f"an envelope of more than 1 MiB in the place of {name}": name
        for name in ("root/2.json", TARGETS_MEMBER)
    },
)
def _large_envelope(scene: Scene, name: str) -> None:
    large = Member.of(name, b" " * (2**20 + 1))
    edit(scene.world, lambda each: [large if member.name == name else member for member in each])


# --- What the right keys signed, in another spelling

PAYLOADS: dict[str, Callable[[bytes], bytes]] = {
    "white space": lambda raw: raw + b" ",
    "a member twice": replaced('"version":3', '"version":3,"version":3'),
    "a version of 3.0": replaced('"version":3', '"version":3.0'),
    "a version of 3e0": replaced('"version":3', '"version":3e0'),
    "a version of 1e400": replaced('"version":3', '"version":1e400'),
    "a version of NaN": replaced('"version":3', '"version":NaN'),
    "a version of minus infinity": replaced('"version":3', '"version":-Infinity'),
    "a version of minus zero": replaced('"version":3', '"version":-0'),
    "a version of minus three": replaced('"version":3', '"version":-3'),
    "a version of a thousand digits": replaced('"version":3', '"version":' + "9" * 1000),
    "a version of a million digits": replaced('"version":3', '"version":' + "9" * 700_000),
    "a version with a leading zero": replaced('"version":3', '"version":03'),
    "a version that is true": replaced('"version":3', '"version":true'),
    "a version that is text": replaced('"version":3', '"version":"3"'),
    "a length of a million digits": replaced('"length":0', '"length":' + "9" * 700_000),
    "a length below zero": replaced('"length":0', '"length":-1'),
    "a length of more than 64 MiB": replaced('"length":0', f'"length":{2**26 + 1}'),
    "a length that is true": replaced('"length":0', '"length":true'),
    "another type": replaced('"_type":"targets"', '"_type":"snapshot"'),
    "another version of TUF": replaced('"spec_version":"1', '"spec_version":"9'),
    "a day that does not exist": replaced('"expires":"2900-01-01', '"expires":"2900-02-30'),
    "an expiry of the year 99999": replaced('"expires":"2900', '"expires":"99999'),
    "an expiry with digits of another script": replaced(
        '"expires":"2900', '"expires":"\uff12\uff19\uff10\uff10'
    ),
    "delegations": replaced("{", '{"delegations":{"keys":{},"roles":[]},'),
    "objects nested a hundred thousand deep": lambda raw: raw.replace(b"{", b"{" + b'"a":{' * 100_000, 1),
    "a digest in capitals": lambda raw: raw.replace(b'"sha256":"', b'"sha256":"A', 1),
    "a digest of another kind": replaced('"sha256":', '"md5":'),
    "a digest with a line's end": lambda raw: raw.replace(b'"},"length"', b'\\n"},"length"', 1),
    "a target that climbs out": replaced('"chunks.bin"', '"../../chunks.bin"'),
    "a third target": replaced('"targets":{', '"targets":{"a":{"hashes":{"sha256":"a"},"length":1},'),
    "a null byte in a member's name": replaced('"version"', '"ver\\u0000sion"'),
}


@attacks(10, rows.MALFORMED, {f"{name} in signed targets": change for name, change in PAYLOADS.items()})
def _targets_payload(scene: Scene, change: Callable[[bytes], bytes]) -> None:
    payload = envelope_from_bytes(scene.world.targets, TARGETS_MEMBER).payload
    changed = change(payload)
    assert changed != payload
    put(scene.world, TARGETS_MEMBER, signed(changed, scene.world.signers))


@attacks(
    10,
    rows.MALFORMED,
    {
        "a root whose version has a million digits": '"version":' + "9" * 700_000,
        "a root whose version is 3.0": '"version":3.0',
        "a root whose version is true": '"version":true',
        "a root with its version twice": '"version":3,"version":3',
    },
)
def _root_payload(scene: Scene, version: str) -> None:
    scene.world.rotate(generation(RELEASE_KEYS), scene.world.signers)
    payload = envelope_from_bytes(scene.world.root(3), "root/3.json").payload
    changed = replaced('"version":3', version)(payload)
    put(scene.world, "root/3.json", signed(changed, [key("root-1"), key("root-2")]))


# --- release.json, which is signed by its digest

RELEASES: dict[str, Callable[[bytes], bytes]] = {
    "no JSON": lambda _: b"\xff\xfe",
    "an empty release.json": lambda _: b"",
    "white space": lambda raw: raw + b" ",
    "a member twice": replaced('"counter":3', '"counter":3,"counter":3'),
    "a counter of 3.0": replaced('"counter":3', '"counter":3.0'),
    "a counter of 1e400": replaced('"counter":3', '"counter":1e400'),
    "a counter of a million digits": replaced('"counter":3', '"counter":' + "9" * 1_000_000),
    "a counter of two to the 64th and three": replaced('"counter":3', f'"counter":{2**64 + 3}'),
    "a counter of minus three": replaced('"counter":3', '"counter":-3'),
    "a counter that is true": replaced('"counter":3', '"counter":true'),
    "a size beyond all disks": replaced('"size_bytes":', f'"size_bytes":{2**63}'),
    "a size below zero": replaced('"size_bytes":', '"size_bytes":-'),
    "lists nested a million deep": replaced('"variables":{', '"variables":{"a":' + "[" * 1_000_000),
    "a number that no parser holds, in a variable": replaced('"variables":{', '"variables":{"a":1e400'),
    "minus zero in a variable": replaced('"variables":{', '"variables":{"a":-0'),
    "a lone surrogate in a variable": replaced('"variables":{', '"variables":{"a":"\\ud800"'),
    "a release of no format": replaced('"format":1,', ""),
    "a format that is text": replaced('"format":1', '"format":"1"'),
}


@attacks(11, rows.CONTRADICTION, {f"{name}, in a signed release.json": c for name, c in RELEASES.items()})
def _release_json(scene: Scene, change: Callable[[bytes], bytes]) -> None:
    _sign_as_release(scene, change(scene.world.release_json))


@attacks(20, rows.NEWER, {"a signed release.json of a newer format": '"format":2,"invented":[]'})
def _newer_release(scene: Scene, words: str) -> None:
    _sign_as_release(scene, replaced('"format":1', words)(scene.world.release_json))


def _sign_as_release(scene: Scene, content: bytes) -> None:
    def name(targets: dict[str, Any]) -> None:
        digest = hashlib.sha256(content).hexdigest()
        targets["targets"]["release.json"] = {"hashes": {"sha256": digest}, "length": len(content)}

    scene.world.change_targets = name
    put(scene.world, "release.json", content)
