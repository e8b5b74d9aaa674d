"""Package versions are ordered as dpkg orders them, and what a server lacks follows from that."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from appliance.format import Package
from appliance.versions import compare_versions, lacking

WANTED = Package(name="podman", version="4.3.1-2", architecture="amd64", sha256="a" * 64)


@pytest.mark.parametrize("installed", [{}, {"podman": "4.3.1-1"}, {"podman": "4.3.1~rc1"}, {"nginx": "9"}])
def test_what_is_absent_or_older_is_lacking(installed: dict[str, str]) -> None:
    assert lacking([WANTED], installed) == (WANTED,)


@pytest.mark.parametrize("version", ["4.3.1-2", "4.3.1-2+deb12u1", "1:0.1"])
def test_what_is_there_or_newer_is_not(version: str) -> None:
    assert lacking([WANTED], {"podman": version}) == ()


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
@settings(max_examples=150)
def test_versions_compare_as_dpkg_compares_them(one: str, other: str) -> None:
    relation = {-1: "lt", 0: "eq", 1: "gt"}[compare_versions(one, other)]
    assert subprocess.run(["dpkg", "--compare-versions", one, relation, other], check=False).returncode == 0
