"""Every check has a machine that passes and one that does not; a fact that was not read never passes."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

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
from appliance.preflight import MARGIN_LEAST_BYTES, MEMORY_LEAST_BYTES, Finding, compare_versions, examine

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
    space=Space(store_bytes=2, environments_bytes=0),
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
        "one-file-system",
        "memory",
        "systemd",
        "superuser",
        "contents",
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

IMAGE = Image(name="qdrant", reference="qdrant:1", manifest=DIGEST, blobs=())
PACKAGE = Package(name="libnuma1", version="2.0.16-1", architecture="amd64", sha256=DIGEST)
CONTROLLER = RELEASE.environment("controller")
NEWER = msgspec.structs.replace(CONTROLLER, name="api", python="3.12")
ASKED: Cases = {
    "images": ({"images": (IMAGE,)}, {"contents": "block"}),
    "packages": ({"packages": (PACKAGE,)}, {"contents": "block"}),
    "a second Python": ({"environments": (CONTROLLER, NEWER)}, {"python": "block"}),
    "grade C": ({"grade": "C"}, {"grade": "warn"}),
    "grade S": ({"grade": "S"}, {"grade": "warn"}),
    "grade O": ({"grade": "O"}, {}),
    "nothing of the packages": ({"tolerates": ()}, {}),
}


@pytest.mark.parametrize(("change", "expected"), ASKED.values(), ids=ASKED)
def test_what_a_release_asks_for_decides(change: dict[str, object], expected: dict[str, str]) -> None:
    facts = FIT if "grade" not in change else replace(FIT, default_routes=("eth0",))
    findings = examine(msgspec.structs.replace(RELEASE, **change), facts, GIB)
    assert found(findings) == expected


def test_what_cannot_be_installed_is_named() -> None:
    release = msgspec.structs.replace(RELEASE, images=(IMAGE,), packages=(PACKAGE,))
    (finding,) = (each for each in examine(release, FIT, GIB) if each.id == "contents")
    assert finding.seen == "image qdrant, package libnuma1"


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


# --- Versions as Debian compares them ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.0~rc1", "1.0"),
        ("1.0~~", "1.0~"),
        ("1.0", "1.0-1"),
        ("1.0-1", "1.0-1+deb12u1"),
        ("1.9", "1.10"),
        ("9:1", "10:0"),
        ("2.0", "1:1.0"),
        ("1.0a", "1.0+"),
        ("1.0-1", "1.0a-0"),
        ("4.3.1+ds1-8+b1", "4.3.1+ds1-8+deb12u1"),
    ],
)
def test_versions_are_ordered(older: str, newer: str) -> None:
    assert (compare_versions(older, newer), compare_versions(newer, older)) == (-1, 1)


@pytest.mark.parametrize(("one", "other"), [("1.0", "1.0"), ("1.0", "0:1.0"), ("1", "1-0"), ("1.01", "1.1")])
def test_versions_are_equal(one: str, other: str) -> None:
    assert compare_versions(one, other) == compare_versions(other, one) == 0


_VERSIONS = some.from_regex(r"\A([0-9]:)?[0-9][0-9a-c.+~]{0,5}(-[0-9a-c.+~]{1,4})?\Z")


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not here to compare with")
@given(one=_VERSIONS, other=_VERSIONS)
@settings(max_examples=150, deadline=None)
def test_versions_compare_as_dpkg_compares_them(one: str, other: str) -> None:
    relation = {-1: "lt", 0: "eq", 1: "gt"}[compare_versions(one, other)]
    assert subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=False).returncode == 0
