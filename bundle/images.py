"""Container images: named to a digest by skopeo, where this machine has it."""

from __future__ import annotations

import shutil
import subprocess

from appliance.format import sha256_hex
from bundle.index import masked
from bundle.lock import LockedImage, Unlocked

_TIMEOUT_S = 60


def lock_image(
    name: str, reference: str, registries: tuple[str, ...], architecture: str
) -> LockedImage | Unlocked:
    """Return the image's manifest digest for the architecture, from the first registry that has it."""
    tried = Unlocked(kind="image", name=f"{name} ({reference})", reason="skopeo is not installed")
    skopeo = shutil.which("skopeo")
    if skopeo is None:
        return tried
    # Without a registry the client's own default serves.
    addresses = [f"docker://{name.partition('://')[2] or name}/{reference}" for name in registries]
    for address in addresses or [f"docker://{reference}"]:
        found = _inspect(skopeo, address, architecture)
        if isinstance(found, bytes):
            return LockedImage(name=name, reference=reference, manifest=sha256_hex(found))
        tried = Unlocked(kind="image", name=f"{name} ({reference})", reason=found)
    return tried


def _inspect(skopeo: str, address: str, architecture: str) -> bytes | str:
    debian = {"x86_64": "amd64", "aarch64": "arm64"}[architecture]
    argv = [skopeo, "--override-os", "linux", "--override-arch", debian, "inspect", "--raw", address]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired:
        return "the registry does not answer"
    if done.returncode != 0:
        return masked(" ".join(done.stderr.decode("utf-8", "replace").split()))[-300:]
    return done.stdout
