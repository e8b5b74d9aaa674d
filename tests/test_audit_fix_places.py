"""A place that cannot be written costs the fix that needs it, and no other; it is seen beforehand."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from appliance.audit.fix_host import give_back, keep, possible, unlike
from appliance.audit.fix_places import blocked
from appliance.audit.fixes import FixPlan, Planned
from appliance.remedies import FileWritten, LineSet, ModeSet, Operation, UnitMasked
from tests.test_audit_fix import WHY, planned, play, tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="attributes and mounts are root's to set")

MODE = ModeSet("/etc/cron.d/job", "0600")
LINE = LineSet("/etc/login.defs", r"^UMASK\s", "UMASK 027")
WRITTEN = FileWritten("/etc/profile.d/zz-banip.sh", "umask 027\n")
NESTED = FileWritten("/etc/systemd/journald.conf.d/zz.conf", "[Journal]\n")
MASK = UnitMasked("cups.service")
EVERY: tuple[Operation, ...] = (MODE, LINE, WRITTEN, NESTED, MASK)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    root = tmp_path / "host"
    for path, held in (("cron.d/job", "x\n"), ("login.defs", "UMASK 022\n"), ("profile.d/other.sh", "")):
        (root / "etc" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "etc" / path).write_text(held)
    (root / "etc/systemd/system").mkdir(parents=True)
    return root


def refusal(operation: Operation, root: Path) -> tuple[str, str] | None:
    found = blocked(operation, root)
    return (str(found.reason), str(found.remedy)) if found else None


@contextmanager
def attribute(letter: str, place: Path) -> Iterator[None]:
    if subprocess.run(["chattr", f"+{letter}", place], capture_output=True, check=False).returncode:
        pytest.skip("this file system has no attributes")
    try:
        yield
    finally:
        subprocess.run(["chattr", f"-{letter}", place], check=True)


@contextmanager
def mounted(place: Path, options: str) -> Iterator[None]:
    if subprocess.run(["mount", "--bind", place, place], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", f"remount,bind,{options}", place], check=True)
        yield
    finally:
        subprocess.run(["umount", place], check=True)


def test_what_can_be_written_is_not_refused(host: Path) -> None:
    assert [refusal(one, host) for one in EVERY] == [None] * len(EVERY)
    (host / "etc/systemd/system/cups.service").symlink_to("/nowhere")
    assert refusal(MASK, host) is None


@needs_root
@pytest.mark.parametrize("letter", ["i", "a"])
@pytest.mark.parametrize(
    ("operation", "place"),
    [
        (MODE, "/etc/cron.d/job"),
        (LINE, "/etc/login.defs"),
        (LINE, "/etc"),
        (WRITTEN, "/etc/profile.d"),
        (NESTED, "/etc/systemd"),
        (MASK, "/etc/systemd/system"),
    ],
)
def test_an_attribute_in_the_way_is_named_with_its_remedy(
    host: Path, operation: Operation, place: str, letter: str
) -> None:
    with attribute(letter, host / place.lstrip("/")):
        assert refusal(operation, host) == (
            f"{place} must not be changed: it has the attribute {letter}",
            f"see lsattr -d {place}, take it away (chattr -{letter} {place}), then fix again",
        )
    assert refusal(operation, host) is None


@needs_root
def test_a_folders_attribute_leaves_the_rights_of_what_lies_in_it(host: Path) -> None:
    with attribute("i", host / "etc/cron.d"):
        assert refusal(MODE, host) is None
        play([MODE], host)
    assert (host / "etc/cron.d/job").stat().st_mode & 0o777 == 0o600


@needs_root
def test_a_read_only_mount_is_named_with_its_remedy(host: Path) -> None:
    with mounted(host / "etc", "ro"):
        for one, place in zip(
            EVERY, ("cron.d/job", "", "profile.d", "systemd", "systemd/system"), strict=True
        ):
            path = f"/etc/{place}".rstrip("/")
            assert refusal(one, host) == (
                f"{path} lies on a file system that is mounted read-only",
                f"see findmnt -T {path}, mount it writable (mount -o remount,rw), then fix again",
            )
    with mounted(host / "etc/login.defs", "ro"):
        assert "/etc/login.defs lies on a file system" in str(refusal(LINE, host))
        assert refusal(MODE, host) is None


@needs_root
def test_a_file_that_is_mounted_by_itself_keeps_its_content_and_not_its_rights(host: Path) -> None:
    with mounted(host / "etc/login.defs", "rw"):
        assert "/etc/login.defs is mounted there by itself" in str(refusal(LINE, host))
        assert refusal(ModeSet("/etc/login.defs", "0600"), host) is None
    with mounted(host / "etc", "rw"):
        assert refusal(LINE, host) is None


@needs_root
def test_one_refused_place_costs_one_fix_and_the_rest_is_done_and_given_back(
    host: Path, tmp_path: Path
) -> None:
    before = tree(host)
    with attribute("i", host / "etc/cron.d/job"):
        plan = possible(planned(*EVERY), host)
        assert [one.operations for one in plan.planned] == [(one,) for one in EVERY if one != MODE]
        (left,) = plan.left
        assert left.refused
        assert "/etc/cron.d/job" in left.reason.ko
        assert "chattr -i /etc/cron.d/job" in left.remedy.ko
        one = keep(plan, WHY, tmp_path / "state", host)
        play(plan.operations, host)
        assert unlike(one, host) == ()
        assert (host / "etc/login.defs").read_text() == "UMASK 027\n"
        assert give_back(one, host) == ()
        assert tree(host) == before
    assert len(possible(planned(*EVERY), host).planned) == len(EVERY)


@needs_root
def test_what_is_right_already_need_not_be_writable(host: Path) -> None:
    play([MODE], host)
    with attribute("i", host / "etc/cron.d/job"):
        words = possible(planned(MODE), host).left[0]
        assert "in place already" in words.reason.en
        assert not words.refused
        # Of a fix of several places, those count that it changes.
        several = Planned("host.umask", words.title, (MODE, LINE), (), words.title, words.title)
        plan = possible(FixPlan((several,), ()), host)
        assert plan.planned == (several,)


@needs_root
def test_a_folder_that_is_a_link_is_looked_at_where_it_leads(host: Path) -> None:
    elsewhere = host / "usr" / "profile.d"
    elsewhere.parent.mkdir()
    (host / "etc/profile.d").rename(elsewhere)
    (host / "etc/profile.d").symlink_to("../usr/profile.d")
    assert refusal(WRITTEN, host) is None
    with mounted(elsewhere, "ro"):
        found = refusal(WRITTEN, host)
    assert found is not None
    assert "mounted read-only" in found[0]
