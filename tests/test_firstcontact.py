"""``appliance.pyz``: one file, one digest, run by a Python that has nothing else."""

from __future__ import annotations

import fcntl
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.errors import BadInput, Incomplete
from bundle.firstcontact import make_first_contact
from bundle.lock import Lock, LockedEnvironment, Unlocked
from bundle.resolve import make_lock
from bundle.wheels import locked_wheel
from tests.project import Events, TinyProject, make_wheel

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
ROOT = b'{"the first root": true}'
_APPLIANCE = """\
import json, os, sys
from appliance.state import FirstContact

def main(argv=None, first_contact=None):
    import cryptography
    folder = os.path.dirname(os.path.dirname(__file__))
    print(json.dumps({
        "argv": sys.argv[1:], "folder": folder, "mode": oct(os.stat(folder).st_mode & 0o777),
        "root": first_contact.root.decode(), "product": first_contact.product, "site": first_contact.site,
        "beside": sorted(os.listdir(os.path.dirname(folder))),
    }))
    raise SystemExit(7)
"""
_STATE = """\
from dataclasses import dataclass

@dataclass
class FirstContact:
    root: bytes
    product: str
    site: str
"""
_SELF_TEST = {
    "cryptography/__init__.py": "",
    "cryptography/exceptions.py": "class InvalidSignature(Exception): pass\n",
    "cryptography/hazmat/__init__.py": "",
    "cryptography/hazmat/primitives/__init__.py": "",
    "cryptography/hazmat/primitives/hashes.py": "def SHA256(): pass\n",
    "cryptography/hazmat/primitives/asymmetric/__init__.py": "",
    "cryptography/hazmat/primitives/asymmetric/utils.py": "def encode_dss_signature(r, s): return b''\n",
    "cryptography/hazmat/primitives/asymmetric/ec.py": """\
from cryptography.exceptions import InvalidSignature
class EllipticCurvePublicNumbers:
    def __init__(self, *_): pass
    def public_key(self): return self
    def verify(self, signature, message, algorithm):
        if message != b"sample" and not BROKEN: raise InvalidSignature
def SECP256R1(): pass
def ECDSA(_): pass
BROKEN = False
""",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> TinyProject:
    return TinyProject(tmp_path_factory.mktemp("first") / "project")


@pytest.fixture(scope="module")
def lock(project: TinyProject) -> Lock:
    return make_lock(project.check(), project.workshop, now=NOW, report=Events())


def first_contact_of(lock: Lock, folder: Path, files: dict[str, str]) -> tuple[Lock, dict[str, Path]]:
    """Put one wheel with these files in the place of the environment of first contact."""
    wheel = make_wheel(folder, "carried", "1.0")
    with zipfile.ZipFile(wheel, "a") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    described = locked_wheel(wheel)
    environment = LockedEnvironment(
        name="first-contact", python=PYTHON, platform="manylinux_2_17_x86_64", wheels=(described,)
    )
    return replace(lock, first_contact=environment), {described.sha256: wheel}


def appliance_files() -> dict[str, str]:
    return {
        "appliance/__init__.py": "",
        "appliance/__main__.py": _APPLIANCE,
        "appliance/state.py": _STATE,
        **_SELF_TEST,
    }


def pyz(lock: Lock, folder: Path, files: dict[str, str] | None = None) -> Path:
    changed, wheels = first_contact_of(lock, folder / "wheel", files or appliance_files())
    content = make_first_contact(changed, ROOT, lambda sha256: wheels[sha256].open("rb", buffering=0))
    path = folder / "disk" / "appliance.pyz"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return path


def run(path: Path, *argv: object, flags: tuple[str, ...] = ("-I",)) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *flags, str(path), *map(str, argv)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )


def test_the_same_lock_and_root_give_the_same_bytes(project: TinyProject, lock: Lock) -> None:
    store = project.workshop.store
    both = [make_first_contact(lock, ROOT, lambda sha: store.path(sha).open("rb", buffering=0)) for _ in "ab"]
    assert both[0] == both[1]
    with zipfile.ZipFile(io.BytesIO(both[0])) as archive:
        names = archive.namelist()
        assert names == sorted(names)
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.read("1.root.json") == ROOT


def test_it_unpacks_into_a_fresh_folder_of_its_own_and_leaves_nothing(lock: Lock, tmp_path: Path) -> None:
    root = tmp_path / "banip"
    done = run(pyz(lock, tmp_path), "--root", root, "verify", "x")
    assert done.returncode == 7, done.stderr
    seen = json.loads(done.stdout)
    assert seen["argv"] == ["--root", str(root), "verify", "x"]
    assert (seen["root"], seen["product"], seen["site"]) == (ROOT.decode(), "tiny", None)
    assert Path(seen["folder"]).parent == root / "first-contact"
    assert seen["mode"] == "0o700"
    assert not root.exists()


def test_it_also_cleans_up_when_the_appliance_fails(lock: Lock, tmp_path: Path) -> None:
    broken = appliance_files() | {"appliance/__main__.py": "raise RuntimeError('on purpose')\n"}
    root = tmp_path / "banip"
    done = run(pyz(lock, tmp_path, broken), f"--root={root}")
    assert "on purpose" in done.stderr
    assert not root.exists()


def test_what_the_appliance_made_stays_and_what_was_there_before_too(lock: Lock, tmp_path: Path) -> None:
    working = "import os, sys\nif 'below' not in sys.argv[2]: os.mkdir(sys.argv[2] + '/state')\n"
    root = tmp_path / "parent" / "banip"
    run(pyz(lock, tmp_path, appliance_files() | {"appliance/__main__.py": working}), "--root", root)
    assert [path.name for path in root.iterdir()] == ["state"]
    (root / "state").rmdir()
    run(tmp_path / "disk" / "appliance.pyz", "--root", root / "below")
    assert list(root.iterdir()) == [], "it was there before"


def test_it_removes_what_a_killed_run_left(lock: Lock, tmp_path: Path) -> None:
    left = tmp_path / "banip" / "first-contact" / "0123"
    left.mkdir(parents=True)
    left.parent.chmod(0o700)
    (left / "half.py").write_text("")
    run(pyz(lock, tmp_path), "--root", tmp_path / "banip")
    assert not left.exists()


def test_it_does_not_touch_the_folder_of_a_run_that_is_alive(lock: Lock, tmp_path: Path) -> None:
    alive = tmp_path / "banip" / "first-contact" / "0123"
    alive.mkdir(parents=True)
    alive.parent.chmod(0o700)
    descriptor = os.open(alive, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert run(pyz(lock, tmp_path), "--root", tmp_path / "banip").returncode == 7
        assert alive.exists()
    finally:
        os.close(descriptor)


def test_a_folder_that_others_may_write_is_refused(lock: Lock, tmp_path: Path) -> None:
    home = tmp_path / "banip" / "first-contact"
    home.mkdir(parents=True)
    home.chmod(0o777)
    assert run(pyz(lock, tmp_path), "--root", tmp_path / "banip").returncode == 11


def test_a_link_in_place_of_its_folder_is_refused(lock: Lock, tmp_path: Path) -> None:
    (tmp_path / "banip").mkdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "banip" / "first-contact").symlink_to(tmp_path / "elsewhere")
    assert run(pyz(lock, tmp_path), "--root", tmp_path / "banip").returncode == 11


def test_a_file_beside_the_bundle_was_not_copied_and_is_refused(lock: Lock, tmp_path: Path) -> None:
    path = pyz(lock, tmp_path)
    done = run(path, "--root", tmp_path / "banip", "install", path.parent / "tiny-1.0.0.tar")
    assert done.returncode == 2
    assert "in one folder with the bundle" in done.stderr
    assert not (tmp_path / "banip").exists(), "nothing is written before the ground is checked"


def test_a_link_to_a_file_beside_the_bundle_is_no_copy_either(lock: Lock, tmp_path: Path) -> None:
    path, link = pyz(lock, tmp_path), tmp_path / "elsewhere" / "appliance.pyz"
    link.parent.mkdir()
    link.symlink_to(path)
    done = run(link, "--root", tmp_path / "banip", "install", path.parent / "tiny-1.0.0.tar")
    assert done.returncode == 2
    assert not (tmp_path / "banip").exists()


def test_python_must_be_isolated(lock: Lock, tmp_path: Path) -> None:
    done = run(pyz(lock, tmp_path), "--root", tmp_path / "banip", flags=())
    assert done.returncode == 2
    assert "python3 -I" in done.stderr


@pytest.mark.parametrize(
    "change", [{"python": "3.7"}, {"platform": "manylinux_2_99_x86_64"}], ids=["python", "glibc"]
)
def test_another_kind_of_server_is_exit_20(lock: Lock, tmp_path: Path, change: dict[str, str]) -> None:
    changed, wheels = first_contact_of(lock, tmp_path / "wheel", appliance_files())
    changed = replace(changed, first_contact=replace(changed.first_contact, **change))
    path = tmp_path / "appliance.pyz"
    path.write_bytes(make_first_contact(changed, ROOT, lambda sha256: wheels[sha256].open("rb", buffering=0)))
    done = run(path, "--root", tmp_path / "banip")
    assert done.returncode == 20
    assert "expected" in done.stderr
    assert not (tmp_path / "banip").exists()


def test_a_damaged_wheel_inside_is_exit_11(lock: Lock, tmp_path: Path) -> None:
    path = pyz(lock, tmp_path)
    rewritten = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(rewritten, "w") as new:
        for info in old.infolist():
            content = old.read(info)
            new.writestr(info.filename, content + b"x" if info.filename.startswith("wheels/") else content)
    path.write_bytes(rewritten.getvalue())
    assert run(path, "--root", tmp_path / "banip").returncode == 11


def on_a_disk_of(room: str, disk: Path, path: Path, language: str) -> subprocess.CompletedProcess[str]:
    """Run it in a mount namespace of its own, where ``disk`` is that small, and list what stays."""
    disk.mkdir()
    script = (
        f'mount -t tmpfs -o {room} none "$1" || exit 99; '
        '"$2" -I "$3" --root "$1/banip" verify x; code=$?; ls "$1"; exit $code'
    )
    return subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", disk, sys.executable, path],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": language, "PYTHONUTF8": "1"},
    )


@pytest.mark.parametrize(
    ("room", "language", "said"),
    [
        ("size=512k", "C.UTF-8", "the disk is full: free 4 MB under"),
        ("size=512k", "ko_KR.UTF-8", "4 MB 확보한 뒤"),
        ("nr_inodes=8", "C.UTF-8", "the disk is full: free some inodes (df -i"),
        ("nr_inodes=2", "ko_KR.UTF-8", "아이노드를 일부(df -i"),
    ],
)
def test_a_full_disk_is_exit_20_says_what_it_lacks_and_leaves_nothing(
    lock: Lock, tmp_path: Path, room: str, language: str, said: str
) -> None:
    path = pyz(lock, tmp_path, appliance_files() | {"appliance/large.py": "#" * 3_000_000})
    done = on_a_disk_of(room, tmp_path / "small", path, language)
    if done.returncode in {1, 99} and "Banip" not in done.stderr and "Traceback" not in done.stderr:
        pytest.skip("this machine lets nobody mount a small disk")
    assert (done.returncode, done.stdout) == (20, ""), done.stderr
    assert said in done.stderr


def test_a_file_that_cannot_be_written_is_exit_20_and_leaves_nothing(lock: Lock, tmp_path: Path) -> None:
    path = pyz(lock, tmp_path, appliance_files() | {"appliance/large.py": "#" * 3_000_000})
    done = subprocess.run(
        [sys.executable, "-I", str(path), "--root", str(tmp_path / "banip")],
        capture_output=True,
        text=True,
        check=False,
        env={"LC_ALL": "C.UTF-8"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)),
    )
    assert done.returncode == 20
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "banip").exists()


@pytest.mark.parametrize("root", ["/usr", "/usr/share/banip-is-not-here"], ids=["root's", "in root's"])
@pytest.mark.parametrize(
    ("words", "said"), [((), "run the same command as root"), (("--lang=ko",), "root로")]
)
def test_who_is_not_root_is_told_that_root_is_needed(
    lock: Lock, tmp_path_factory: pytest.TempPathFactory, root: str, words: tuple[str, ...], said: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = shutil.copy(pyz(lock, tmp_path_factory.mktemp("pyz")), folder)
        done = subprocess.run(
            [the_systems_own_python(), "-I", path, "--root", root, "status", *words],
            capture_output=True,
            text=True,
            check=False,
            env={"LC_ALL": "C.UTF-8"},
            user=65534 if os.geteuid() == 0 else None,
        )
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    assert not Path("/usr/first-contact").exists()


def test_control_c_is_exit_130_and_leaves_nothing(lock: Lock, tmp_path: Path) -> None:
    stopped = appliance_files() | {"appliance/__main__.py": "raise KeyboardInterrupt\n"}
    done = run(pyz(lock, tmp_path, stopped), "--root", tmp_path / "banip")
    assert (done.returncode, done.stderr.count("\n")) == (130, 1), done.stderr
    assert "run the same command again" in done.stderr
    assert not (tmp_path / "banip").exists()


def test_cryptography_that_accepts_anything_fails_the_self_test(lock: Lock, tmp_path: Path) -> None:
    files = appliance_files()
    name = "cryptography/hazmat/primitives/asymmetric/ec.py"
    files[name] = files[name].replace("BROKEN = False", "BROKEN = True")
    done = run(pyz(lock, tmp_path, files), "--root", tmp_path / "banip")
    assert done.returncode == 20
    assert "self-test" in done.stderr


def test_it_speaks_korean_where_the_console_does(lock: Lock, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(pyz(lock, tmp_path))],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin", "LC_ALL": "ko_KR.UTF-8", "PYTHONUTF8": "1"},
    )
    assert "실행하십시오" in done.stderr


def test_a_wheel_that_wants_other_places_cannot_be_carried(lock: Lock, tmp_path: Path) -> None:
    files = {"carried-1.0.data/purelib/x.py": ""}
    with pytest.raises(BadInput, match="first contact"):
        pyz(lock, tmp_path, files)


def test_an_unlocked_lock_makes_no_first_contact(lock: Lock) -> None:
    holes = replace(lock, unlocked=(Unlocked(kind="wheel", name="x", reason="y"),))
    with pytest.raises(Incomplete):
        make_first_contact(holes, ROOT, lambda _: io.FileIO(os.devnull))


def the_systems_own_python() -> str:
    """Return Debian's python3, which has no pip, no venv and no site-packages of ours."""
    system = shutil.which("python3", path="/usr/bin")
    if system is None:
        pytest.skip("this machine has no /usr/bin/python3")
    version = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([system, "-c", version], capture_output=True, text=True, check=True)
    if done.stdout.strip() != PYTHON:
        pytest.skip(f"/usr/bin/python3 is {done.stdout.strip()}, and the tests run under {PYTHON}")
    return system


def test_it_runs_under_the_systems_own_python(lock: Lock, tmp_path: Path) -> None:
    path = pyz(lock, tmp_path)
    done = subprocess.run(
        [the_systems_own_python(), "-I", str(path), "--root", str(tmp_path / "banip")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 7, done.stderr
