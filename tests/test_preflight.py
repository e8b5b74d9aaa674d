"""Every check has a machine that passes and one that does not; a fact that was not read never passes."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone

import msgspec
import pytest

from appliance.clock import EARLIEST
from appliance.facts import Facts
from appliance.format import (
    Blob,
    Environment,
    Image,
    Package,
    Release,
    ReleaseFile,
    Space,
    Target,
    Tolerated,
    Wheel,
)
from appliance.preflight import MARGIN_LEAST_BYTES, MEMORY_LEAST_BYTES, Finding, examine, written_bytes

BUILT = datetime(2026, 3, 1, tzinfo=timezone.utc)
DIGEST, OTHER = "a" * 64, "b" * 64
GIB = 1024**3

RELEASE = Release(
    format=1,
    product="minimal",
    version="1.0.0",
    counter=1,
    grade="S",
    site=None,
    target=Target(os="debian-12", architecture="x86_64", python="3.11"),
    built=BUILT,
    blobs=(Blob(sha256=DIGEST, size_bytes=1), Blob(sha256=OTHER, size_bytes=1)),
    files=(ReleaseFile(path="models/tiny", sha256=OTHER),),
    environments=(
        Environment(
            name="controller",
            python="3.11",
            platform="linux_x86_64",
            wheels=(Wheel(filename="thing-1-py3-none-any.whl", sha256=DIGEST),),
        ),
    ),
    images=(),
    packages=(),
    tolerates=(Tolerated(name="libc6", at_least="2.36-9", below="2.37"),),
    roles=(),
    variables={},
    space=Space(store_bytes=2, environments_bytes=0, images_bytes=0, packages_bytes=0),
    bom=DIGEST,
)
FIT = Facts(
    os="debian-12",
    architecture="x86_64",
    python="3.11",
    kernel="6.1.0",
    systemd="252",
    systemd_runs=True,
    memory_bytes=4 * GIB,
    cpus=2,
    disk_free_bytes=10 * GIB,
    disk_total_bytes=20 * GIB,
    system_free_bytes=10 * GIB,
    one_file_system=True,
    is_superuser=True,
    system_time=BUILT + timedelta(days=1),
    rtc_time=None,
    default_routes=(),
    networks=(),
    programs={},
    packages={"libc6": "2.36-9+deb12u9"},
)


def found(findings: tuple[Finding, ...]) -> dict[str, str]:
    """Return what does not hold, by check."""
    return {finding.id: finding.level for finding in findings if finding.level != "ok"}


def test_a_fit_server_passes_every_check() -> None:
    findings = examine(RELEASE, FIT, GIB)
    assert found(findings) == {}
    assert [finding.id for finding in findings] == [
        "os",
        "architecture",
        "python",
        "space",
        "system-space",
        "one-file-system",
        "memory",
        "systemd",
        "superuser",
        "packages",
        "images",
        "grade",
        "clock",
        "package-libc6",
    ]


Cases = dict[str, tuple[dict[str, object], dict[str, str]]]
UNFIT: Cases = {
    "another operating system": ({"os": "ubuntu-24.04"}, {"os": "block"}),
    "another architecture": ({"architecture": "aarch64"}, {"architecture": "block"}),
    "another Python": ({"python": "3.12"}, {"python": "block"}),
    "a full disk": ({"disk_free_bytes": 5 * GIB}, {"space": "block"}),
    "a mount below the root": ({"one_file_system": False}, {"one-file-system": "block"}),
    "little memory": ({"memory_bytes": MEMORY_LEAST_BYTES - 1}, {"memory": "warn"}),
    "no systemd": ({"systemd_runs": False}, {"systemd": "block"}),
    "no root rights": ({"is_superuser": False}, {"superuser": "block"}),
    "a default route": ({"default_routes": ("eth0",)}, {"grade": "warn"}),
    "a clock that lost its time": ({"system_time": BUILT - timedelta(seconds=1)}, {"clock": "warn"}),
    "a clock before ZIP": ({"system_time": EARLIEST - timedelta(seconds=1)}, {"clock": "block"}),
    "an older package": ({"packages": {"libc6": "2.36-8"}}, {"package-libc6": "block"}),
    "a newer package": ({"packages": {"libc6": "2.37"}}, {"package-libc6": "block"}),
    "no such package": ({"packages": {}}, {"package-libc6": "block"}),
}


@pytest.mark.parametrize(("change", "expected"), UNFIT.values(), ids=UNFIT)
def test_a_server_with_one_fault_has_one_finding(change: dict[str, object], expected: dict[str, str]) -> None:
    findings = examine(RELEASE, replace(FIT, **change), 5 * GIB)  # type: ignore[arg-type]
    assert found(findings) == expected


UNREAD = {
    "os": {"os": "block"},
    "architecture": {"architecture": "block"},
    "python": {"python": "block"},
    "disk_free_bytes": {"space": "block"},
    "one_file_system": {"one-file-system": "block"},
    "memory_bytes": {"memory": "warn"},
    "systemd_runs": {"systemd": "block"},
    "is_superuser": {"superuser": "block"},
    "default_routes": {"grade": "warn"},
    "system_time": {"clock": "warn"},
    "packages": {"package-libc6": "block"},
}


@pytest.mark.parametrize(("fact", "expected"), UNREAD.items(), ids=UNREAD)
def test_a_fact_that_was_not_read_never_passes(fact: str, expected: dict[str, str]) -> None:
    findings = examine(RELEASE, replace(FIT, **{fact: None}), GIB)  # type: ignore[arg-type]
    assert found(findings) == expected
    (finding,) = (finding for finding in findings if finding.level != "ok")
    assert "could not be read" in str(finding.seen)


def test_no_fact_that_a_check_uses_was_forgotten_above() -> None:
    used = {name for change, _ in UNFIT.values() for name in change}
    assert used == UNREAD.keys()
    assert used <= {field.name for field in fields(Facts)}


def test_whatever_does_not_hold_names_what_was_expected_seen_and_a_remedy() -> None:
    findings = examine(RELEASE, Facts(), GIB)
    for finding in findings:
        assert finding.expected is not None
        assert finding.seen is not None
        assert (finding.remedy is not None) == (finding.level != "ok")


# --- What the release asks for ----------------------------------------------------------------------------

IMAGE = Image(name="qdrant", reference="qdrant:1", manifest=DIGEST, blobs=(DIGEST, OTHER))
PACKAGE = Package(name="libnuma1", version="2.0.16-1", architecture="amd64", sha256=DIGEST)
PODMAN = Package(name="podman", version="4.3.1-2", architecture="amd64", sha256=OTHER)
CONTROLLER = RELEASE.environment("controller")
NEWER = msgspec.structs.replace(CONTROLLER, name="api", python="3.12")
APT: dict[str, object] = {"programs": {"apt-get": True, "dpkg-query": True}}
INDEX = ReleaseFile(path="packages/Packages", sha256=OTHER)


def carrying(*packages: Package) -> dict[str, object]:
    """Return what a release with these packages has."""
    files = (ReleaseFile(path=one.path, sha256=one.sha256) for one in packages)
    return {"packages": packages, "files": (*RELEASE.files, *files, INDEX)}


ASKED: dict[str, tuple[dict[str, object], dict[str, object], dict[str, str]]] = {
    "images and podman": ({"images": (IMAGE,)}, {"programs": {"podman": True}}, {}),
    "images and no podman": ({"images": (IMAGE,)}, {}, {"images": "block"}),
    "images whose podman comes along": ({"images": (IMAGE,), **carrying(PODMAN)}, APT, {}),
    "packages": (carrying(PACKAGE), APT, {}),
    "packages without apt": (carrying(PACKAGE), {}, {"packages": "block"}),
    "packages of another architecture": (
        carrying(msgspec.structs.replace(PACKAGE, architecture="arm64")),
        APT,
        {"packages": "block"},
    ),
    "packages of every architecture": (
        carrying(msgspec.structs.replace(PACKAGE, architecture="all")),
        APT,
        {},
    ),
    "packages on a server whose own are unknown": (
        {**carrying(PACKAGE), "tolerates": ()},
        {**APT, "packages": None},
        {"packages": "block"},
    ),
    "a second Python": ({"environments": (CONTROLLER, NEWER)}, {}, {"python": "block"}),
    "grade C": ({"grade": "C"}, {"default_routes": ("eth0",)}, {"grade": "warn"}),
    "grade S": ({"grade": "S"}, {"default_routes": ("eth0",)}, {"grade": "warn"}),
    "grade O": ({"grade": "O"}, {"default_routes": ("eth0",)}, {}),
    "nothing of the packages": ({"tolerates": ()}, {}, {}),
}


@pytest.mark.parametrize(("change", "facts", "expected"), ASKED.values(), ids=ASKED)
def test_what_a_release_asks_for_decides(
    change: dict[str, object], facts: dict[str, object], expected: dict[str, str]
) -> None:
    here = replace(FIT, **facts)  # type: ignore[arg-type]
    assert found(examine(msgspec.structs.replace(RELEASE, **change), here, GIB)) == expected


@pytest.mark.parametrize(
    ("carried", "installed", "level"),
    [
        ("2.36-9", {}, "ok"),  # it comes with the release
        ("2.36-9", {"libc6": "2.36-8"}, "ok"),  # apt brings it forward
        ("2.36-9", {"libc6": "2.36-10"}, "ok"),  # newer, and in the range: it stays
        ("2.36-9", {"libc6": "2.37"}, "block"),  # newer than what was tested: nothing downgrades it
        ("2.36-8", {}, "block"),  # the release brings what it does not tolerate itself
    ],
)
def test_a_package_is_judged_by_the_version_that_will_be_there(
    carried: str, installed: dict[str, str], level: str
) -> None:
    package = msgspec.structs.replace(PACKAGE, name="libc6", version=carried)
    release = msgspec.structs.replace(RELEASE, **carrying(package))
    here = replace(FIT, packages=installed, **APT)  # type: ignore[arg-type]
    assert {one.id: one.level for one in examine(release, here, GIB)}["package-libc6"] == level


def test_packages_need_room_beside_the_system_and_only_where_they_are_lacking() -> None:
    space = Space(store_bytes=2, environments_bytes=0, images_bytes=0, packages_bytes=GIB)
    release = msgspec.structs.replace(RELEASE, **carrying(PACKAGE), space=space, tolerates=())
    short = replace(FIT, system_free_bytes=GIB, **APT)  # type: ignore[arg-type]
    assert found(examine(release, short, GIB)) == {"system-space": "block"}
    assert found(examine(release, replace(short, system_free_bytes=2 * GIB), GIB)) == {}
    assert found(examine(release, replace(short, packages={"libnuma1": "2.0.16-1"}), GIB)) == {}
    assert found(examine(release, replace(short, system_free_bytes=None), GIB)) == {"system-space": "block"}


def test_what_is_needed_and_what_is_there_are_shown_also_where_it_fits() -> None:
    said = {one.id: str(one.describe()) for one in examine(RELEASE, FIT, GIB)}
    assert "expected 1140850688 bytes (1.1 GiB) free, seen 10737418240 bytes (10.0 GiB) free" in said["space"]
    assert said["memory"].endswith("expected 1.0 GiB, seen 4.0 GiB")
    assert said["os"] == "[good] operating system"
    assert said["system-space"].endswith("(/usr)"), "no packages need no room"


def test_an_image_needs_its_layers_packed_and_unpacked() -> None:
    space = Space(store_bytes=2, environments_bytes=10, images_bytes=500, packages_bytes=7)
    small = msgspec.structs.replace(IMAGE, name="small", blobs=(DIGEST,))
    release = msgspec.structs.replace(RELEASE, images=(IMAGE, small), space=space)
    assert written_bytes(release) == 10 + 500 + 2  # the larger image's two blobs of one byte
    assert written_bytes(msgspec.structs.replace(release, images=())) == 10 + 500


@pytest.mark.parametrize(
    ("needs_bytes", "wanted"),
    [
        (0, MARGIN_LEAST_BYTES),
        (100 * 1024**2, 100 * 1024**2 + MARGIN_LEAST_BYTES),
        (20 * GIB, 21 * GIB),
    ],
)
def test_space_is_what_the_install_writes_and_a_margin(needs_bytes: int, wanted: int) -> None:
    enough, short = (replace(FIT, disk_free_bytes=size) for size in (wanted, wanted - 1))
    assert found(examine(RELEASE, enough, needs_bytes)) == {}
    assert found(examine(RELEASE, short, needs_bytes)) == {"space": "block"}
