"""What is exported to be signed, and the signatures that come back: by our command and by openssl."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from tuf.api.dsse import SimpleEnvelope

from appliance.errors import BadInput
from appliance.format import canonical_json, envelope_from_bytes, sha256_hex
from bundle.pack import build_carrier
from bundle.pair import encrypted_pem, load_public, load_signer, public_pem
from bundle.request import export, import_signature, read_request, sign_request
from bundle.sign import read_signable, sign, verify_own
from tests.world import NOW, Generation, World, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PASSPHRASE = b"correct horse battery staple"


def envelope_of(content: bytes) -> SimpleEnvelope[Any]:
    envelope = envelope_from_bytes(content, "envelope")
    envelope.signatures.clear()
    return envelope


@pytest.fixture(params=["root", "targets"])
def envelope(request: pytest.FixtureRequest) -> SimpleEnvelope[Any]:
    world = World()
    return envelope_of(world.root(1) if request.param == "root" else world.targets)


def openssl_signs(folder: Path, name: str, file: Path) -> Path:
    """Sign as the custodian's guide says: an encrypted key, and openssl alone."""
    private, made = folder / f"{name}.pem", folder / f"{name}.sig"
    private.write_bytes(encrypted_pem(key(name), PASSPHRASE))
    words = ("-passin", f"pass:{PASSPHRASE.decode()}")
    subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", private, *words, "-out", made, file], check=True, timeout=60
    )
    return made


def test_what_is_exported_is_exactly_what_is_signed(envelope: SimpleEnvelope[Any], tmp_path: Path) -> None:
    file = tmp_path / "bytes.bin"
    assert export(envelope, file) == sha256_hex(file.read_bytes())
    assert file.read_bytes() == envelope.pae()
    read = read_request(file)
    assert read.envelope.payload == envelope.payload
    assert read.sha256 == sha256_hex(file.read_bytes())
    assert read.signed.type == msgspec.json.decode(envelope.payload)["_type"]
    assert [path.name for path in tmp_path.iterdir()] == ["bytes.bin"]


@pytest.mark.parametrize("read", ["request", "signature", "private key", "public key"])
def test_a_pipe_or_a_folder_is_refused_and_not_waited_for(
    envelope: SimpleEnvelope[Any], tmp_path: Path, read: str
) -> None:
    reading: dict[str, Callable[[Path], object]] = {
        "request": read_request,
        "signature": lambda path: import_signature(envelope, path, ()),
        "private key": lambda path: load_signer(path, PASSPHRASE),
        "public key": load_public,
    }
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path):
        with pytest.raises(BadInput, match="no regular file") as refused:
            reading[read](path)
        assert refused.value.where == path


def test_an_export_follows_no_link_that_lies_on_the_stick(tmp_path: Path) -> None:
    mine, file = tmp_path / "mine", tmp_path / "bytes.bin"
    mine.write_bytes(b"mine")
    file.symlink_to(mine)
    (tmp_path / ".bytes.bin.part").symlink_to(mine)
    export(envelope_of(World().targets), file)
    assert mine.read_bytes() == b"mine"
    assert not file.is_symlink()


def test_our_signature_is_found_to_be_the_keys(envelope: SimpleEnvelope[Any], tmp_path: Path) -> None:
    file = tmp_path / "bytes.bin"
    export(envelope, file)
    (made,) = sign_request(file, read_request(file), [key("kim")])
    key_id = key("kim").public_key.keyid
    assert made.name == f"bytes.bin.{key_id[:16]}.sig"
    assert decode_dss_signature(made.read_bytes())
    keys = [key("lee").public_key, key("kim").public_key]
    assert import_signature(envelope, made, keys) == key_id
    assert set(envelope.signatures) == {key_id}


def test_openssl_verifies_what_our_command_signed(envelope: SimpleEnvelope[Any], tmp_path: Path) -> None:
    file = tmp_path / "bytes.bin"
    export(envelope, file)
    (made,) = sign_request(file, read_request(file), [key("kim")])
    (tmp_path / "kim.pub.pem").write_bytes(public_pem(key("kim").public_key))
    words = ("-verify", tmp_path / "kim.pub.pem", "-signature", made, file)
    done = subprocess.run(["openssl", "dgst", "-sha256", *words], capture_output=True, check=True, timeout=60)
    assert done.stdout == b"Verified OK\n"


def test_what_openssl_signed_with_an_encrypted_key_is_imported(
    envelope: SimpleEnvelope[Any], tmp_path: Path
) -> None:
    file = tmp_path / "bytes.bin"
    export(envelope, file)
    made = openssl_signs(tmp_path, "kim", file)
    assert import_signature(envelope, made, [key("kim").public_key]) == key("kim").public_key.keyid


def test_custodians_of_a_bundle_sign_by_openssl_and_servers_take_it(tmp_path: Path) -> None:
    world = World(
        generations=[
            Generation(
                [key("root-1"), key("root-2")],
                [key("release-1"), key("release-2"), key("release-3")],
                release_threshold=2,
            )
        ]
    )
    bundle, file = tmp_path / "demo.tar", tmp_path / "demo.bin"
    build_carrier(bundle, world.roots, world.release, world.open_blob, expires=world.expires)
    export(read_signable(bundle).envelope, file)
    assert len(sign(bundle, [], [openssl_signs(tmp_path, "release-3", file)])) == 1
    assert read_signable(bundle).quorum.lacking == 1
    assert len(sign(bundle, [], [openssl_signs(tmp_path, "release-1", file)])) == 2
    assert read_signable(bundle).quorum.lacking == 0
    assert verify_own(bundle, world.roots, reference_time=NOW)


@pytest.mark.parametrize(
    ("defect", "words"),
    [
        ("stranger", "none of the keys"),
        ("other bytes", "none of the keys"),
        ("trailing", "in DER"),
        ("empty", "in DER"),
        ("text", "in DER"),
        ("fixed width", "in DER"),
    ],
)
def test_a_signature_that_is_none_of_these_keys_is_refused(
    envelope: SimpleEnvelope[Any], tmp_path: Path, defect: str, words: str
) -> None:
    file = tmp_path / "bytes.bin"
    export(envelope, file)
    signer = key("stranger") if defect == "stranger" else key("kim")
    signed = envelope.pae() + (b" " if defect == "other bytes" else b"")
    der = bytes.fromhex(signer.sign(signed).signature)
    r, s = decode_dss_signature(der)
    content = {
        "trailing": der + b"\0",
        "empty": b"",
        "text": der.hex().encode(),
        "fixed width": r.to_bytes(32, "big") + s.to_bytes(32, "big"),
    }.get(defect, der)
    (tmp_path / "sig").write_bytes(content)
    with pytest.raises(BadInput, match=words) as caught:
        import_signature(envelope, tmp_path / "sig", [key("kim").public_key])
    assert caught.value.where == tmp_path / "sig"
    assert envelope.signatures == {}


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        read_request(tmp_path / "absent")
    with pytest.raises(BadInput):
        import_signature(envelope_of(World().targets), tmp_path / "absent", [])


def pae(payload: bytes, kind: str = SimpleEnvelope.DEFAULT_PAYLOAD_TYPE) -> bytes:
    return SimpleEnvelope(payload, kind, {}).pae()


def _changed(**changes: object) -> bytes:
    return pae(canonical_json(msgspec.json.decode(envelope_of(World().targets).payload) | changes))


HOSTILE = {
    "nothing": b"",
    "no encoding": b"a letter",
    "another kind": pae(envelope_of(World().targets).payload, "text/plain"),
    "cut short": envelope_of(World().targets).pae()[:-1],
    "a byte more": envelope_of(World().targets).pae() + b"\n",
    "another length": b"DSSEv1 24 application/vnd.tuf+json 9 " + envelope_of(World().targets).payload,
    "a length with a zero": b"DSSEv1 24 application/vnd.tuf+json 02 {}",
    "no json": pae(b"\xff"),
    "not canonical": pae(b" " + envelope_of(World().targets).payload),
    "two keys": pae(b'{"_type":"targets","_type":"root"}'),
    "snapshot": _changed(_type="snapshot"),
    "a delegation": _changed(delegations={"keys": {}, "roles": []}),
    "a target more": _changed(targets={"x": {"length": 1, "hashes": {"sha256": "0" * 64}}}),
    "a huge file": b"DSSEv1 24 application/vnd.tuf+json 2000000 " + b"0" * 2_000_000,
}


@pytest.mark.parametrize("defect", HOSTILE)
def test_what_is_not_exactly_an_exported_file_is_not_signed(tmp_path: Path, defect: str) -> None:
    (tmp_path / "file").write_bytes(HOSTILE[defect])
    with pytest.raises(BadInput) as caught:
        read_request(tmp_path / "file")
    assert caught.value.remedy is not None


@given(st.binary(max_size=300), st.integers(0, 600), st.integers(1, 255))
def test_no_bytes_are_a_request_but_the_true_ones(noise: bytes, place: int, flip: int) -> None:
    good = envelope_of(World().targets).pae()
    for data in (noise, b"DSSEv1 24 application/vnd.tuf+json %d " % len(noise) + noise):
        assert _is_refused(data)
    changed = bytearray(good)
    changed[place % len(good)] ^= flip
    read = _read(bytes(changed))
    assert read is None or read != good  # a changed digit of a digest still is a request: for other bytes


def _read(data: bytes) -> bytes | None:
    import tempfile  # noqa: PLC0415 - hypothesis and tmp_path do not mix
    from pathlib import Path as File  # noqa: PLC0415

    with tempfile.NamedTemporaryFile() as file:
        File(file.name).write_bytes(data)
        try:
            return read_request(File(file.name)).envelope.pae()
        except BadInput:
            return None


def _is_refused(data: bytes) -> bool:
    return _read(data) is None
