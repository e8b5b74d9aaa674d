"""``__main__`` of ``appliance.pyz``: what runs first on a server that has nothing of Banip's yet.

Standard library only, Python 3.10 and later, under ``python3 -I``. It trusts nothing but the file that it is
part of, which the operator compared with the paper: it unpacks the wheels in it, each checked against the
table in it, into a fresh folder of its own, tries the cryptography, and hands over to the appliance. What it
made goes again at the end: a command that only looks leaves nothing on the server.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib
import io
import json
import os
import secrets
import shutil
import stat
import sys
import zipfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_ROOT = "/var/lib/banip"
BAD_INPUT, TAMPERED, UNFIT_SERVER, INTERRUPTED = 2, 11, 20, 130
_BLOCK_BYTES, _MEGABYTE, _TRIES = 4096, 1_000_000, 10
#: RFC 6979, A.2.5: P-256, SHA-256, message "sample".
_VECTOR = {
    "x": 0x60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6,
    "y": 0x7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299,
    "r": 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716,
    "s": 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8,
}


def main() -> None:
    """Check the ground, unpack, test, and run the appliance; leave nothing behind."""
    sys.dont_write_bytecode = True
    os.umask(0o022)  # services must reach what is installed below the root that this makes
    if not sys.flags.isolated:
        _refuse(
            BAD_INPUT,
            "start it as: python3 -I appliance.pyz",
            "다음과 같이 실행하십시오: python3 -I appliance.pyz",
        )
    archive = Path(__file__).parent.absolute()
    _refuse_medium(archive, sys.argv[1:])
    try:
        _run_unpacked(archive)
    except KeyboardInterrupt:
        _refuse(
            INTERRUPTED,
            "interrupted before anything was done: run the same command again",
            "아무 일도 하기 전에 중단되었습니다. 같은 명령을 다시 실행하십시오",
        )


def _run_unpacked(archive: Path) -> None:
    with zipfile.ZipFile(archive) as carried:
        described = json.loads(carried.read("first_contact.json"))
        wheels = _wheels_for_this_server(described)
        root = _root(sys.argv[1:])
        with _fresh_folder(root) as folder:
            _unpack_all(carried, wheels, folder, root)
            sys.path[:] = [str(folder), *(path for path in sys.path if Path(path) != archive)]
            _self_test()
            _run(described, carried.read("1.root.json"))


def _refuse(code: int, english: str, korean: str) -> NoReturn:
    """Say why in English, or in Korean where it is asked for and the console can draw it."""
    sys.stderr.write((korean if _speaks_korean() else english) + "\n")
    sys.exit(code)


def _speaks_korean() -> bool:
    words = " ".join(sys.argv[1:]).replace("--lang=", "--lang ").split()
    asked = words[words.index("--lang") + 1 :][:1] if "--lang" in words else []
    locale = os.environ.get("LC_ALL") or os.environ.get("LC_MESSAGES") or os.environ.get("LANG") or ""
    return asked == ["ko"] or (not asked and locale.startswith("ko") and os.environ.get("TERM") != "linux")


def _refuse_medium(archive: Path, arguments: list[str]) -> None:
    """Nothing runs from the medium: what was compared with the paper must be what runs."""
    beside = [Path(word).absolute() for word in arguments if word.endswith(".tar")]
    homes = {archive.parent.resolve(), archive.resolve().parent}  # a link to the medium is no copy either
    if os.statvfs(archive).f_flag & os.ST_RDONLY:
        english, korean = "on a read-only medium", "읽기 전용 매체에"
    elif any(bundle.parent.resolve() in homes for bundle in beside):
        english, korean = "in one folder with the bundle, as on the medium", "매체에서처럼 번들과 같은 폴더에"
    else:
        return
    _refuse(
        BAD_INPUT,
        f"{archive} lies {english}. Copy it to this server's disk, into a folder without the\n"
        "bundle, compare `sha256sum appliance.pyz` there with the paper, and run that copy.",
        f"{archive} 파일이 {korean} 있습니다. 번들이 없는 서버 디스크의 폴더로 복사한 뒤,\n"
        "그곳에서 `sha256sum appliance.pyz` 값을 종이의 값과 비교하고 그 복사본을 실행하십시오.",
    )


def _wheels_for_this_server(described: dict[str, Any]) -> list[dict[str, str]]:
    """Return the wheels for this Python, or end with the exit code of an unfit server."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    machine, glibc = os.uname().machine, _glibc()
    fits = python in described["python"] and machine == described["architecture"]
    if not fits or glibc < described["glibc"]:
        pythons = ", ".join(described["python"])
        wanted = f"Python {pythons}; {described['architecture']}; glibc {described['glibc']}"
        seen = f"Python {python}; {machine}; glibc {glibc}"
        _refuse(
            UNFIT_SERVER,
            f"this file is for another kind of server\n  expected: {wanted}\n  seen: {seen}",
            f"이 파일은 다른 종류의 서버용입니다.\n  기대값: {wanted}\n  실제값: {seen}",
        )
    wheels: list[dict[str, str]] = described["python"][python]
    return wheels


def _glibc() -> list[int]:
    try:
        words = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # another C library
        return [0]
    return [int(part) for part in words.rpartition(" ")[2].split(".")]


def _root(arguments: list[str]) -> Path:
    """Return Banip's root, as the appliance's own ``--root`` option names it."""
    for number, word in enumerate(arguments):
        if word.startswith("--root="):
            return Path(word[len("--root=") :])
        if word == "--root" and number + 1 < len(arguments):
            return Path(arguments[number + 1])
    return Path(DEFAULT_ROOT)


@contextmanager
def _fresh_folder(root: Path) -> Iterator[Path]:
    """Make a folder that nobody else could have prepared, and take away at the end what was made for it."""
    made = [path for path in (root, *root.parents) if not path.exists()]
    try:
        folder, descriptor = _make_folder_patiently(root)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)
    finally:
        for path in (root / "first-contact", *made):
            with suppress(OSError):  # something lies in it by now: it stays, and so does what it lies in
                path.rmdir()


def _make_folder_patiently(root: Path) -> tuple[Path, int]:
    try:
        for _ in range(_TRIES):
            with suppress(FileNotFoundError):  # another run has just ended, and took its own away
                return _make_folder(root)
        return _make_folder(root)
    except OSError as error:
        _refuse_disk(error, root, "some space", "공간을 일부")


def _make_folder(root: Path) -> tuple[Path, int]:
    """Make it, and remove those that killed runs left."""
    home = root / "first-contact"
    root.mkdir(mode=0o755, parents=True, exist_ok=True)
    _require_own(root, root.stat(), stat.S_IWOTH)
    if not os.path.lexists(home):
        home.mkdir(mode=0o700)
    _require_own(home, os.lstat(home), 0o077)
    sweep(home)
    folder = home / secrets.token_hex(16)
    folder.mkdir(mode=0o700)
    return folder, held(folder)


def _require_own(path: Path, about: os.stat_result, others: int) -> None:
    """End where somebody else could have put anything there, or where it is root's and we are not."""
    if about.st_uid == 0 != os.geteuid():
        _refuse_rights()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid() or about.st_mode & others:
        _refuse(
            TAMPERED,
            f"{path} is not a folder of ours alone: look at it, move it aside, run the same command again",
            f"{path}은(는) 다른 사용자가 바꿀 수 있거나 폴더가 아닙니다. 확인하고 옮겨 둔 뒤 같은 명령을 다시"
            " 실행하십시오",
        )


def _refuse_rights() -> NoReturn:
    _refuse(
        BAD_INPUT,
        "this needs more rights: run the same command as root (sudo), or name a --root of your own",
        "더 많은 권한이 필요합니다. 같은 명령을 root로(sudo) 실행하거나 --root로 자신의 폴더를 지정하십시오",
    )


def held(folder: Path) -> int:
    """Return a descriptor whose lock says that the run which made the folder is alive."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def sweep(home: Path) -> None:
    """Remove the folders in ``home`` of runs that have ended."""
    for folder in home.iterdir():
        try:
            descriptor = held(folder)
        except OSError:  # another run's, alive
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _unpack_all(carried: zipfile.ZipFile, wheels: list[dict[str, str]], folder: Path, root: Path) -> None:
    try:
        for wheel in wheels:
            _unpack(carried, wheel, folder)
    except OSError as error:
        size = f"{_unpacked_bytes(carried, wheels) // _MEGABYTE + 1} MB"
        _refuse_disk(error, root, size, size)


def _unpacked_bytes(carried: zipfile.ZipFile, wheels: list[dict[str, str]]) -> int:
    """Return what the wheels take on a disk, block by block."""
    found = 0
    for wheel in wheels:
        with carried.open(f"wheels/{wheel['filename']}") as file, zipfile.ZipFile(file) as unpacked:
            blocks = [-(-member.file_size // _BLOCK_BYTES) for member in unpacked.infolist()]
            found += sum(blocks) * _BLOCK_BYTES
    return found


def _refuse_disk(error: OSError, root: Path, english: str, korean: str) -> NoReturn:
    """Say what the disk refused, and what helps; the words name how much space is needed."""
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        _refuse_rights()
    if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
        path = error.filename or root
        _refuse(
            UNFIT_SERVER,
            f"{path} cannot be written: {error.strerror}. Look at that path and its disk, or name another"
            " --root.",
            f"{path}에 쓸 수 없습니다: {error.strerror}. 그 경로와 디스크를 확인하거나 다른 --root를"
            " 지정하십시오.",
        )
    if _no_inode_is_left(root):
        english, korean = (
            "some inodes (df -i: too many files)",
            "아이노드를 일부(df -i: 파일이 너무 많음)",
        )
    _refuse(
        UNFIT_SERVER,
        f"the disk is full: free {english} under {root} and run the same command again,"
        " or name another --root",
        f"디스크가 가득 찼습니다. {root} 아래에서 {korean} 확보한 뒤 같은 명령을 다시 실행하거나 다른"
        " --root를 지정하십시오",
    )


def _no_inode_is_left(root: Path) -> bool:
    """Tell whether a disk that is full lacks names rather than bytes; a disk that counts none has 0 of 0."""
    disk = os.statvfs(next(path for path in (root, *root.absolute().parents) if path.exists()))
    return disk.f_files > 0 and disk.f_favail == 0


def _unpack(carried: zipfile.ZipFile, wheel: dict[str, str], folder: Path) -> None:
    content = carried.read(f"wheels/{wheel['filename']}")
    if hashlib.sha256(content).hexdigest() != wheel["sha256"]:
        _refuse(
            TAMPERED,
            f"{wheel['filename']} inside this file is damaged; copy the file again and compare it again",
            f"이 파일 안의 {wheel['filename']}이(가) 손상되었습니다. 파일을 다시 복사하고 다시 비교하십시오",
        )
    with zipfile.ZipFile(io.BytesIO(content)) as unpacked:
        unpacked.extractall(folder, members=_plain_members(unpacked))


def _plain_members(wheel: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    for member in wheel.infolist():
        parts = member.filename.split("/")
        if member.filename.startswith("/") or ".." in parts:
            _refuse(TAMPERED, "a wheel names a path outside itself", "휠이 자신의 밖을 가리킵니다")
        yield member


def _self_test() -> None:
    """Check a signature that is known to be good, and that a changed message is refused."""
    ec = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ec")
    encoding = importlib.import_module("cryptography.hazmat.primitives.asymmetric.utils")
    hashes = importlib.import_module("cryptography.hazmat.primitives.hashes")
    refused = importlib.import_module("cryptography.exceptions").InvalidSignature
    key = ec.EllipticCurvePublicNumbers(_VECTOR["x"], _VECTOR["y"], ec.SECP256R1()).public_key()
    signature = encoding.encode_dss_signature(_VECTOR["r"], _VECTOR["s"])
    verdicts = []
    for message in (b"sample", b"Sample"):
        try:
            key.verify(signature, message, ec.ECDSA(hashes.SHA256()))
            verdicts.append(True)
        except refused:  # noqa: PERF203 - two turns
            verdicts.append(False)
    if verdicts != [True, False]:
        _refuse(
            UNFIT_SERVER,
            "the self-test of the cryptography failed on this server",
            "이 서버에서 암호 자체 시험이 실패했습니다",
        )


def _run(described: dict[str, Any], root: bytes) -> None:
    appliance = importlib.import_module("appliance.__main__")
    state = importlib.import_module("appliance.state")
    first = state.FirstContact(root=root, product=described["product"], site=described["site"])
    appliance.main(None, first_contact=first)


if __name__ == "__main__":
    main()
