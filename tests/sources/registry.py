"""A real container registry on loopback, and the small images that are pushed into it.

``docker-registry``, ``skopeo``, ``umoci`` and ``busybox-static`` are Debian's. The same files give the
same image digest on any day: the layer is a tar without times, and umoci is told the moment.
"""

from __future__ import annotations

import io
import socket
import subprocess
import tarfile
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GUIDE = "banip/guide:1"
GUIDE_PORT = 8604
GUIDE_UID = 65532
BUSYBOX = Path("/bin/busybox")
_MOMENT = "2026-01-01T00:00:00Z"
_CONFIGURATION = """\
version: 0.1
log: {{level: warn}}
storage:
  filesystem: {{rootdirectory: {folder}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_START_S = 30


@dataclass(frozen=True)
class Registry:
    """A running registry: its address for ``sources.registries``, and the folder that it keeps all in."""

    port: int
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def address(self, reference: str) -> str:
        """Return where skopeo finds an image."""
        return f"docker://127.0.0.1:{self.port}/{reference}"

    def blob(self, sha256: str) -> Path:
        """Return the file in which the registry keeps a blob."""
        return self.folder / "docker/registry/v2/blobs/sha256" / sha256[:2] / sha256 / "data"

    def asked_for(self, sha256: str) -> int:
        """Return how often somebody has fetched a blob."""
        lines = (self.folder / "log").read_text("utf-8", "replace").splitlines()
        return sum('"GET /v2/' in line and f"/blobs/sha256:{sha256} " in line for line in lines)

    def push(self, layout: str, reference: str, *options: str) -> None:
        """Copy an image, as skopeo names it, into the registry."""
        _run("skopeo", "copy", "-q", "--dest-tls-verify=false", *options, layout, self.address(reference))


@contextmanager
def registry(folder: Path, port: int = 0) -> Iterator[Registry]:
    """Run a registry that keeps its content in a folder, until the block ends; port 0 is any free one."""
    folder.mkdir(parents=True, exist_ok=True)
    found = Registry(port or _free_port(), folder)
    configuration = folder / "config.yml"
    configuration.write_text(_CONFIGURATION.format(folder=folder, port=found.port), "utf-8")
    with (folder / "log").open("wb") as log:
        argv = ["docker-registry", "serve", str(configuration)]
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process:
            try:
                _wait(found, process)
                yield found
            finally:
                process.terminate()


def make_guide_image(pushed_to: Registry, html: Path) -> str:
    """Push ``banip/guide:1``, busybox serving a folder of pages without rights; return its digest."""
    pages = (path for path in sorted(html.rglob("*")) if path.is_file())
    files = {f"www/{path.relative_to(html).as_posix()}": path for path in pages}
    command = ["/bin/busybox", "httpd", "-f", "-p", f"127.0.0.1:{GUIDE_PORT}", "-h", "/www"]
    return make_image(pushed_to, GUIDE, [{"bin/busybox": BUSYBOX, **files}], command)


def make_image(
    pushed_to: Registry, reference: str, layers: list[Mapping[str, Path | bytes]], command: list[str]
) -> str:
    """Push an image of these layers, lowest first; return the digest of its manifest."""
    with tempfile.TemporaryDirectory() as scratch:
        layout = Path(scratch) / "layout"
        image = f"{layout}:image"
        _run("umoci", "init", "--layout", str(layout))
        _run("umoci", "new", "--image", image)
        for number, files in enumerate(layers):
            layer = Path(scratch) / f"{number}.tar"
            layer.write_bytes(_layer(files))
            _run("umoci", "raw", "add-layer", "--image", image, "--history.created", _MOMENT, str(layer))
        words = [word for part in command for word in ("--config.cmd", part)]
        words += ["--config.user", f"{GUIDE_UID}:{GUIDE_UID}", "--created", _MOMENT, "--no-history"]
        _run("umoci", "config", "--image", image, *words, "--author", "Banip")
        pushed_to.push(f"oci:{image}", reference)
    return digest(pushed_to, reference)


def digest(of: Registry, reference: str) -> str:
    """Return the digest that a tag has in the registry, 64 hex."""
    argv = ["inspect", "--tls-verify=false", "--format", "{{.Digest}}", of.address(reference)]
    return _run("skopeo", *argv).strip().removeprefix("sha256:")


def _layer(files: Mapping[str, Path | bytes]) -> bytes:
    """Return a tar of files and the folders above them, owned by root, without a time."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for folder in sorted({str(above) for name in files for above in Path(name).parents} - {"."}):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(info)
        for name, source in sorted(files.items()):
            content = source.read_bytes() if isinstance(source, Path) else source
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def _run(*argv: str) -> str:
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stderr)
    return done.stdout


def _wait(found: Registry, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", found.port)) == 0:
                return
        time.sleep(0.05)
    process.kill()
    raise AssertionError((found.folder / "log").read_text("utf-8", "replace"))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
