"""Key creation: what lies on disk, who may read it, and what ``openssl`` says to it."""

from __future__ import annotations

import os
import re
import resource
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import BadInput, Incomplete, Untrusted
from appliance.format import envelope_from_bytes
from appliance.verify import first_trust, key_id_of, trusted_root
from bundle import keys
from bundle.keys import KeyRing, create, encrypted_pem, load_public, load_signer, roots, show
from tests.world import EXPIRES, key

if TYPE_CHECKING:
    from pathlib import Path

PASSPHRASE = b"correct horse battery staple"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("keys") / "keys"
    before = os.umask(0)  # the folder is closed whatever the umask allows
    try:
        create(made, "demo", passphrase=PASSPHRASE, expires=EXPIRES, release_keys=2)
    finally:
        os.umask(before)
    return made


def openssl(*arguments: str | Path, data: bytes | None = None) -> bytes:
    return subprocess.run(
        ["openssl", *arguments], input=data, capture_output=True, check=True, timeout=60
    ).stdout


def test_the_folder_holds_the_keys_and_a_root_signed_by_all_root_keys(folder: Path) -> None:
    private = {"root-1.pem", "root-2.pem", "root-3.pem", "release-1.pem", "release-2.pem"}
    public = {name.replace(".pem", ".pub.pem") for name in private}
    assert {path.name for path in folder.iterdir()} == private | public | {"keys.json", "roots"}
    (root,) = roots(folder)
    assert first_trust(root, "demo", None)
    assert len(envelope_from_bytes(root, "root").signatures) == 3
    assert trusted_root(root).version == 1


def test_nobody_else_can_read_the_folder(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_the_private_keys_are_encrypted_with_enough_rounds_as_openssl_reads_them(folder: Path) -> None:
    for path in [*folder.glob("root-?.pem"), *folder.glob("release-?.pem")]:
        assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
        structure = openssl("asn1parse", "-in", path).decode()
        rounds = [int(number, 16) for number in re.findall(r"INTEGER\s+:([0-9A-F]+)", structure)]
        assert rounds == [keys.PBKDF2_ROUNDS]
        for word in ("PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc"):
            assert word in structure
    assert keys.PBKDF2_ROUNDS >= 600_000


def test_every_key_has_its_own_salt(folder: Path) -> None:
    salts = [
        tuple(re.findall(r"HEX DUMP\]:([0-9A-F]{32})\n", openssl("asn1parse", "-in", path).decode()))
        for path in folder.glob("root-?.pem")
    ]
    assert all(len(pair) == 2 for pair in salts)
    assert len({value for pair in salts for value in pair}) == 2 * len(salts)


@pytest.mark.real
def test_openssl_opens_a_key_and_gives_its_id(folder: Path) -> None:
    ring = show(folder)
    for name, key_id in (*ring.root_keys, *ring.release_keys):
        password = f"pass:{PASSPHRASE.decode()}"
        private = openssl("pkey", "-in", folder / name, "-passin", password, "-pubout", "-outform", "DER")
        public = openssl(
            "pkey", "-pubin", "-in", folder / name.replace(".pem", ".pub.pem"), "-outform", "DER"
        )
        assert private == public
        assert openssl("dgst", "-sha256", "-r", data=public).split()[0].decode() == key_id


def test_openssl_verifies_by_hand_what_a_key_signed(folder: Path, tmp_path: Path) -> None:
    envelope = envelope_from_bytes(roots(folder)[0], "root")
    (tmp_path / "pae").write_bytes(envelope.pae())
    for name, key_id in show(folder).root_keys:
        (tmp_path / "sig").write_bytes(bytes.fromhex(envelope.signatures[key_id].signature))
        public = folder / name.replace(".pem", ".pub.pem")
        done = openssl("dgst", "-sha256", "-verify", public, "-signature", tmp_path / "sig", tmp_path / "pae")
        assert done == b"Verified OK\n"


def test_showing_needs_no_passphrase_and_tells_the_root(folder: Path) -> None:
    ring = show(folder)
    assert isinstance(ring, KeyRing)
    assert (ring.product, ring.root_version, ring.expires) == ("demo", 1, EXPIRES)
    assert (ring.root_threshold, ring.release_threshold) == (2, 1)
    assert [name for name, _ in ring.root_keys] == ["root-1.pem", "root-2.pem", "root-3.pem"]
    assert [name for name, _ in ring.release_keys] == ["release-1.pem", "release-2.pem"]


def test_a_key_opens_with_its_passphrase_and_signs_under_its_id(folder: Path) -> None:
    signer = load_signer(folder / "release-1.pem", PASSPHRASE)
    assert signer.public_key.keyid == dict(show(folder).release_keys)["release-1.pem"]
    signer.public_key.verify_signature(signer.sign(b"text"), b"text")


@pytest.mark.parametrize("passphrase", [b"wrong", b"", PASSPHRASE + b"\n"])
def test_another_passphrase_is_bad_input_with_a_remedy(folder: Path, passphrase: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        load_signer(folder / "release-1.pem", passphrase)
    assert caught.value.exit_code == 2
    assert caught.value.remedy is not None


def test_what_is_no_key_of_ours_is_bad_input(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    with pytest.raises(BadInput):
        load_signer(path, PASSPHRASE)
    encryption = BestAvailableEncryption(PASSPHRASE)
    others = [
        b"no key",
        b"\xff\x00",
        (folder / "root-1.pub.pem").read_bytes(),
        ec.generate_private_key(ec.SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption),
        ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption),
    ]
    for content in others:
        path.write_bytes(content)
        with pytest.raises(BadInput):
            load_signer(path, PASSPHRASE)


def test_a_key_that_lies_open_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    private = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(BadInput):
        load_signer(path, PASSPHRASE)


def test_a_public_key_is_read_in_any_spelling_of_openssl(folder: Path, tmp_path: Path) -> None:
    compressed = tmp_path / "compressed.pub.pem"
    form = ("-pubin", "-ec_conv_form", "compressed", "-in", folder / "root-1.pub.pem", "-out", compressed)
    openssl("pkey", *form)
    assert compressed.read_bytes() != (folder / "root-1.pub.pem").read_bytes()
    read = load_public(compressed)
    assert read.keyid == dict(show(folder).root_keys)["root-1.pem"]
    assert read.keyval["public"].encode() == (folder / "root-1.pub.pem").read_bytes()


def test_what_is_no_public_key_of_p_256_is_bad_input(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "key.pub.pem"
    plain = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    others = [
        b"no key",
        b"",
        (folder / "root-1.pem").read_bytes(),
        ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(*plain),
        ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*plain),
    ]
    for content in others:
        path.write_bytes(content)
        with pytest.raises(BadInput):
            load_public(path)
    with pytest.raises(BadInput):
        load_public(tmp_path / "absent")


def test_keys_are_never_overwritten(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(BadInput) as caught:
        create(folder, "demo", passphrase=PASSPHRASE, expires=EXPIRES)
    assert caught.value.where == folder
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_folder_that_holds_anything_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(BadInput):
        create(tmp_path, "demo", passphrase=PASSPHRASE, expires=EXPIRES)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


@pytest.mark.parametrize(
    "numbers",
    [
        {"root_keys": 0, "root_threshold": 0},
        {"root_keys": 1, "root_threshold": 2},
        {"root_threshold": 0},
        {"release_keys": 0},
        {"release_threshold": 2},
    ],
)
def test_impossible_numbers_make_nothing(tmp_path: Path, numbers: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        create(tmp_path / "keys", "demo", passphrase=PASSPHRASE, expires=EXPIRES, **numbers)
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("product", ["", "Demo", "../demo", "a b"])
def test_a_product_that_is_no_name_makes_nothing(tmp_path: Path, product: str) -> None:
    with pytest.raises(BadInput):
        create(tmp_path / "keys", product, passphrase=PASSPHRASE, expires=EXPIRES)
    assert not (tmp_path / "keys").exists()


def test_an_empty_passphrase_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        create(tmp_path / "keys", "demo", passphrase=b"", expires=EXPIRES)
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("existed", [True, False])
def test_keys_that_cannot_all_be_written_leave_nothing(tmp_path: Path, *, existed: bool) -> None:
    """No file may be larger than 2000 bytes here: the keys are smaller, the root is not."""
    folder = tmp_path / "new" / "keys"
    if existed:
        folder.mkdir(parents=True)
    made = "import sys, datetime, pathlib; from bundle.keys import create\n"
    made += "expires = datetime.datetime(2036, 1, 1, tzinfo=datetime.timezone.utc)\n"
    made += "create(pathlib.Path(sys.argv[1]), 'demo', passphrase=b'x', expires=expires)"
    done = subprocess.run(
        [sys.executable, "-c", made, folder],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)),
    )
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == ([folder.parent] if existed else [])
    assert list(folder.glob("*")) == []


def test_a_folder_without_all_its_roots_is_incomplete(tmp_path: Path) -> None:
    with pytest.raises(Incomplete):
        roots(tmp_path)
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "2.root.json").write_bytes(b"")
    with pytest.raises(Incomplete):
        roots(tmp_path)


def test_a_root_that_was_changed_is_not_shown(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "1.root.json").write_bytes(roots(folder)[0].replace(b"a", b"b", 1))
    with pytest.raises(Untrusted):
        show(tmp_path)


@settings(max_examples=5)  # each derives a key twice
@given(st.binary(min_size=1, max_size=40))
def test_any_passphrase_opens_what_it_closed(passphrase: bytes) -> None:
    opened = load_pem_private_key(encrypted_pem(key("root-1"), passphrase), passphrase)
    assert isinstance(opened, ec.EllipticCurvePrivateKey)
    assert key_id_of(opened.public_key()) == key("root-1").public_key.keyid


def test_an_unfinished_folder_is_incomplete(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "roots").mkdir()
    (tmp_path / "roots" / "1.root.json").write_bytes(roots(folder)[0])
    (tmp_path / "root-1.pub.pem").write_bytes(b"damaged")
    with pytest.raises(Incomplete, match="not finished"):
        show(tmp_path)
