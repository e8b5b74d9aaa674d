"""A world in memory: it holds any release, and signs it when it is read.

One line breaks it: ``world.counter = 0``, ``world.signers = [key("stranger")]``, ``world.mutate("room", 7)``.
``world.source()`` gives the metadata to ``verify``, ``world.carrier(folder)`` a file for the rest.
"""

from __future__ import annotations

import copy
import io
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec
from tuf.api.dsse import SimpleEnvelope

from appliance.format import (
    CHUNK_BYTES,
    CHUNKS_TARGET,
    END_OF_CARRIER,
    FORMAT_MEMBER,
    RELEASE_TARGET,
    ROOM_MEMBER,
    TARGETS_MEMBER,
    Blob,
    Environment,
    Release,
    ReleaseFile,
    Role,
    Space,
    Target,
    Wheel,
    blob_member,
    canonical_json,
    chunk_count,
    envelope_to_bytes,
    format_line,
    member_header,
    padding_bytes,
    release_to_bytes,
    root_member,
    sha256_hex,
)
from appliance.media import room_bytes
from appliance.verify import Envelopes, Floor, Trust, TrustedBundle, verify
from bundle.keys import make_root, make_signer
from bundle.pack import chunk_table, targets_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from securesystemslib.signer._crypto_signer import CryptoSigner
    from securesystemslib.signer._signature import Signature

BUILT = datetime(2026, 1, 1, tzinfo=timezone.utc)
NOW = datetime(2026, 6, 1, tzinfo=timezone.utc)
EXPIRES = datetime(2027, 1, 1, tzinfo=timezone.utc)
ROOT_EXPIRES = datetime(2031, 1, 1, tzinfo=timezone.utc)


@cache
def key(name: str) -> CryptoSigner:
    """Return the key of that name, made once a session."""
    assert name
    return make_signer()


_SIGNATURES: dict[tuple[str, bytes], Signature] = {}


def signed(payload: bytes, signers: Sequence[CryptoSigner]) -> bytes:
    """Return the envelope; what was signed before is not signed anew, so a world has stable bytes."""
    envelope: SimpleEnvelope[Any] = SimpleEnvelope(payload, SimpleEnvelope.DEFAULT_PAYLOAD_TYPE, {})
    for signer in signers:
        cached = (signer.public_key.keyid, payload)
        if cached not in _SIGNATURES:
            _SIGNATURES[cached] = envelope.sign(signer)
        envelope.signatures[signer.public_key.keyid] = _SIGNATURES[cached]
    return envelope_to_bytes(envelope)


@dataclass
class Generation:
    """A root version: who it names, and who signed it (``None``: its root keys and those before it)."""

    root_keys: list[CryptoSigner]
    release_keys: list[CryptoSigner]
    root_threshold: int = 2
    release_threshold: int = 1
    signers: list[CryptoSigner] | None = None
    expires: datetime = ROOT_EXPIRES
    change: Callable[[dict[str, Any]], object] | None = None


def first_generation() -> Generation:
    return Generation([key("root-1"), key("root-2")], [key("release-1")])


@dataclass
class Member:
    """A member of the carrier, in pieces that a test may change."""

    name: str
    header: bytes
    content: bytes
    padding: bytes

    @classmethod
    def of(cls, name: str, content: bytes) -> Member:
        return cls(name, member_header(name, len(content)), content, bytes(padding_bytes(len(content))))

    def __bytes__(self) -> bytes:
        return self.header + self.content + self.padding


@dataclass
class World:
    product: str = "demo"
    site: str | None = None
    version: str = "1.0.0"
    counter: int = 1
    targets_version: int | None = None
    expires: datetime = EXPIRES
    files: dict[str, bytes] = field(
        default_factory=lambda: {
            "bom.cdx.json": b'{"bomFormat":"CycloneDX"}',
            "models/tiny/config.json": b'{"layers":2}',
            "models/tiny/weights.bin": bytes(range(256)) * 5,
            "playbooks/site.yml": b"- hosts: all\n",
        }
    )
    wheels: dict[str, dict[str, bytes]] = field(
        default_factory=lambda: {
            "controller": {"controller-1.0-py3-none-any.whl": b"a wheel"},
            "api": {"api-1.0-py3-none-any.whl": b"another wheel"},
        }
    )
    roles: tuple[Role, ...] = ()
    variables: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)
    generations: list[Generation] = field(default_factory=lambda: [first_generation()])
    signers: list[CryptoSigner] = field(default_factory=lambda: [key("release-1")])
    change_targets: Callable[[dict[str, Any]], object] | None = None
    change_release: Callable[[dict[str, Any]], object] | None = None
    change_members: Callable[[list[Member]], list[Member]] | None = None
    tail: bytes = END_OF_CARRIER
    mutations: list[tuple[str, str, int, int]] = field(default_factory=list)

    # --- what it holds

    @property
    def blobs(self) -> dict[str, bytes]:
        contents = [
            *self.files.values(),
            *(data for wheels in self.wheels.values() for data in wheels.values()),
        ]
        return dict(sorted((sha256_hex(data), data) for data in contents))

    @property
    def release(self) -> Release:
        blobs = self.blobs
        release = Release(
            format=1,
            product=self.product,
            version=self.version,
            counter=max(self.counter, 1),
            grade="S",
            site=self.site,
            target=Target(os="debian-12", architecture="x86_64", python="3.11"),
            built=BUILT,
            blobs=tuple(Blob(sha256=name, size_bytes=len(data)) for name, data in blobs.items()),
            files=tuple(
                ReleaseFile(path=path, sha256=sha256_hex(data)) for path, data in sorted(self.files.items())
            ),
            environments=tuple(self._environment(name) for name in sorted(self.wheels)),
            images=self.fields.get("images", ()),
            packages=self.fields.get("packages", ()),
            tolerates=(),
            roles=self.roles,
            variables=self.variables,
            space=Space(
                store_bytes=sum(map(len, blobs.values())),
                environments_bytes=0,
                images_bytes=0,
                packages_bytes=0,
            ),
            bom=sha256_hex(self.files["bom.cdx.json"]),
        )
        return msgspec.structs.replace(release, **self.fields)

    def _environment(self, name: str) -> Environment:
        wheels = tuple(
            Wheel(filename=filename, sha256=sha256_hex(data))
            for filename, data in sorted(self.wheels[name].items())
        )
        return Environment(name=name, python="3.11", platform="manylinux_2_28_x86_64", wheels=wheels)

    def open_blob(self, sha256: str) -> io.BytesIO:
        return io.BytesIO(self.blobs[sha256])

    def grow(self) -> None:
        """Add a blob that is large enough to have chunks."""
        self.files["models/tiny/large.bin"] = b"0123456789abcdef" * (CHUNK_BYTES // 16) + b"and a little more"

    def rotate(self, generation: Generation, signers: Sequence[CryptoSigner] | None = None) -> None:
        """Let another root follow; targets are then signed by ``signers`` (its release keys)."""
        self.generations.append(generation)
        self.signers = list(generation.release_keys if signers is None else signers)

    def next(self, **changes: Any) -> World:  # noqa: ANN401
        """Return the next release of this world: another object, one counter higher unless told."""
        own = {
            name: copy.deepcopy(getattr(self, name)) for name in ("files", "wheels", "variables", "fields")
        }
        own |= {"generations": [*self.generations], "signers": [*self.signers], "mutations": []}
        return replace(self, **{**own, "counter": self.counter + 1, **changes})

    # --- what it signs, when read

    def root(self, version: int) -> bytes:
        generation = self.generations[version - 1]
        root = make_root(
            version,
            generation.expires,
            generation.root_keys,
            generation.root_threshold,
            generation.release_keys,
            generation.release_threshold,
        ).to_dict()
        root = copy.deepcopy(root)  # to_dict() shares its values with the keys
        if generation.change is not None:
            generation.change(root)
        before = self.generations[version - 2].root_keys if version > 1 else []
        signers = [*before, *generation.root_keys] if generation.signers is None else generation.signers
        return signed(canonical_json(root), signers)

    @property
    def roots(self) -> tuple[bytes, ...]:
        return tuple(self.root(version) for version in range(1, len(self.generations) + 1))

    @property
    def release_json(self) -> bytes:
        if self.change_release is None and self.counter > 0:
            return release_to_bytes(self.release)
        fields = msgspec.json.decode(release_to_bytes(self.release))
        fields["counter"] = self.counter
        if self.change_release is not None:
            self.change_release(fields)
        return canonical_json(fields)

    @property
    def chunks_bin(self) -> bytes:
        large = any(chunk_count(len(data)) for data in self.blobs.values())
        return chunk_table(self.release, self.open_blob) if large else b""

    @property
    def targets(self) -> bytes:
        envelope = targets_envelope(self.release, self.release_json, self.chunks_bin, self.expires)
        payload = msgspec.json.decode(envelope.payload)
        payload["version"] = self.counter if self.targets_version is None else self.targets_version
        if self.change_targets is not None:
            self.change_targets(payload)
        return signed(canonical_json(payload), self.signers)

    # --- how it is carried

    def mutate(self, member: str, offset: int, flip: int = 1, part: str = "content") -> None:
        """Flip bits of one byte of a member: of its ``header``, ``content`` or ``padding``."""
        self.mutations.append((member, part, offset, flip))

    def members(self) -> list[Member]:
        targets = self.targets
        members = [
            Member.of(FORMAT_MEMBER, format_line()),
            *(Member.of(root_member(version), root) for version, root in enumerate(self.roots, start=1)),
            Member.of(TARGETS_MEMBER, targets),
            Member.of(ROOM_MEMBER, bytes(room_bytes(targets))),
            Member.of(RELEASE_TARGET, self.release_json),
            Member.of(CHUNKS_TARGET, self.chunks_bin),
            *(Member.of(blob_member(sha256), data) for sha256, data in self.blobs.items()),
        ]
        for name, part, offset, flip in self.mutations:
            (member,) = (member for member in members if member.name == name)
            data = bytearray(getattr(member, part))
            data[offset] ^= flip
            setattr(member, part, bytes(data))
        return members if self.change_members is None else self.change_members(members)

    def source(self) -> MemorySource:
        return MemorySource({member.name: member.content for member in self.members()})

    def carrier_bytes(self) -> bytes:
        return b"".join(map(bytes, self.members())) + self.tail

    def carrier(self, folder: Path) -> Path:
        path = folder / f"{self.product}-{self.version}.tar"
        path.write_bytes(self.carrier_bytes())
        return path

    # --- who trusts it

    def trust(self, root_version: int = 1, floor: Floor | None = None, site: str | None = None) -> Trust:
        """Return what a server goes by that trusts this world since the given root."""
        return Trust(root=self.root(root_version), product=self.product, site=site, floor=floor)

    def floor(self) -> Floor:
        """Return the floor of a server on which this release counted."""
        return Floor(self.counter, sha256_hex(self.release_json))

    def trusted(self) -> TrustedBundle:
        """Return the proof that a server of the right site would get."""
        return verify(self.source(), self.trust(site=self.site), reference_time=NOW)


@dataclass(frozen=True)
class MemorySource:
    """A ``verify.Source`` over members in memory."""

    members: dict[str, bytes]

    def envelopes(self) -> Envelopes:
        roots = [name for name in self.members if name.startswith("root/")]
        return Envelopes(tuple(self.members[name] for name in roots), self.members[TARGETS_MEMBER])

    def target(self, name: str, length: int) -> bytes:
        return self.members[name][:length]
