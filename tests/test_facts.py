"""Facts are read, never guessed: what this machine says is believed, what it does not say is None."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import psutil
import pytest

from appliance.facts import Facts, read_facts

if TYPE_CHECKING:
    from pathlib import Path

_ROUTE_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
_DEFAULT = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
_LOCAL = "eth1\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
_REFUSED = "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n"
_NOWHERE = "0" * 32
_DEFAULT6 = f"{_NOWHERE} 00 {_NOWHERE} 00 fd{'0' * 29}1 00000400 00000002 00000000 00000003     eth2\n"
_KERNELS_OWN6 = f"{_NOWHERE} 00 {_NOWHERE} 00 {_NOWHERE} ffffffff 00000001 00000000 00200200       lo\n"


def put(machine: Path, path: str, content: str) -> None:
    (machine / path).parent.mkdir(parents=True, exist_ok=True)
    (machine / path).write_text(content, "utf-8")


def program(machine: Path, name: str, output: str, status: int = 0) -> None:
    put(machine, f"usr/bin/{name}", f"#!/bin/sh\ncat <<'END'\n{output}\nEND\nexit {status}\n")
    (machine / "usr/bin" / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a machine of files on which nothing is installed."""
    folder = tmp_path / "machine"
    folder.mkdir()
    return folder


# --- This machine -----------------------------------------------------------------------------------------


def test_this_machine_s_own_programs_agree(tmp_path: Path) -> None:
    facts = read_facts(tmp_path)

    def says(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert facts.kernel == says("uname", "-r")
    assert facts.architecture == says("uname", "-m")
    assert facts.is_superuser == (says("id", "-u") == "0")
    assert facts.cpus == int(says("nproc"))
    assert facts.disk_total_bytes == int(says("df", "-B1", "--output=size", str(tmp_path)).split()[-1])
    assert facts.memory_bytes == psutil.virtual_memory().total
    assert facts.system_time is not None
    assert facts.system_time.tzinfo is timezone.utc
    assert facts.networks is not None
    assert "lo" not in facts.networks


def test_the_disk_is_asked_about_a_root_that_is_yet_to_be_made(tmp_path: Path) -> None:
    assert (
        read_facts(tmp_path / "not" / "yet" / "made").disk_total_bytes
        == read_facts(tmp_path).disk_total_bytes
    )


# --- A machine that says nothing --------------------------------------------------------------------------


def test_what_a_bare_machine_does_not_say_is_none(machine: Path, tmp_path: Path) -> None:
    facts = read_facts(tmp_path, machine)
    silent = {name for name in Facts.__slots__ if getattr(facts, name) is None}
    assert silent == {
        "os",
        "python",
        "systemd",
        "one_file_system",
        "rtc_time",
        "default_routes",
        "packages",
    }
    assert facts.systemd_runs is False
    assert not any(facts.programs.values())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n', "debian-12"),
        ("# comment\nID=\"ubuntu\"\nVERSION_ID='24.04'\n", "ubuntu-24.04"),
        ("ID=debian\n", None),  # testing and unstable have no VERSION_ID
        ('ID=debian\nVERSION_ID="12\n', None),
        ("", None),
    ],
)
def test_the_operating_system_is_named_as_a_target_names_it(
    machine: Path, content: str, expected: str | None
) -> None:
    put(machine, "etc/os-release", content)
    assert read_facts(machine, machine).os == expected


# --- Programs ---------------------------------------------------------------------------------------------


def test_the_python_is_the_distribution_s_and_not_the_one_that_runs_us(machine: Path) -> None:
    program(machine, "python3", "3.9")
    assert read_facts(machine, machine).python == "3.9"
    put(machine, "usr/local/bin/python3", "#!/bin/sh\necho 4.0\n")
    (machine / "usr/local/bin/python3").chmod(0o755)
    assert read_facts(machine, machine).python == "3.9"


def test_a_real_python_answers_with_its_two_numbers(machine: Path) -> None:
    (machine / "usr/bin").mkdir(parents=True)
    (machine / "usr/bin/python3").symlink_to(sys.executable)
    assert read_facts(machine, machine).python == "{}.{}".format(*sys.version_info[:2])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("systemd 252 (252.39-1~deb12u1)\n+PAM +AUDIT", "252"),
        ("systemd 255", "255"),
        ("something else", None),
        ("", None),
    ],
)
def test_systemd_s_version_is_what_it_says(machine: Path, output: str, expected: str | None) -> None:
    program(machine, "systemctl", output)
    assert read_facts(machine, machine).systemd == expected


def test_systemd_runs_where_it_has_made_its_folder(machine: Path) -> None:
    (machine / "run/systemd/system").mkdir(parents=True)
    assert read_facts(machine, machine).systemd_runs is True


def test_a_program_that_fails_says_nothing(machine: Path) -> None:
    program(machine, "python3", "3.11", status=1)
    program(machine, "systemctl", "systemd 252", status=1)
    program(machine, "dpkg-query", "installed\tlibc6\t2.36-9", status=2)
    facts = read_facts(machine, machine)
    assert (facts.python, facts.systemd, facts.packages) == (None, None, None)
    assert facts.programs["systemctl"]


def test_a_file_that_cannot_be_run_is_no_program(machine: Path) -> None:
    put(machine, "usr/bin/podman", "text")
    program(machine, "nft", "")
    facts = read_facts(machine, machine)
    assert (facts.programs["podman"], facts.programs["nft"]) == (False, True)


def test_only_installed_packages_count(machine: Path) -> None:
    rows = "installed\tlibc6\t2.36-9+deb12u9\nconfig-files\tpodman\t4.3.1\nnot-installed\tnginx\t\nbroken row"
    program(machine, "dpkg-query", rows)
    assert read_facts(machine, machine).packages == {"libc6": "2.36-9+deb12u9"}


# --- Network, clock, mounts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("four", "six", "expected"),
    [
        (_ROUTE_HEAD, None, ()),
        (_ROUTE_HEAD + _LOCAL, _KERNELS_OWN6, ()),
        (_ROUTE_HEAD + _REFUSED, "", ()),
        (_ROUTE_HEAD + _LOCAL + _DEFAULT, "", ("eth0",)),
        (_ROUTE_HEAD + _DEFAULT, _KERNELS_OWN6 + _DEFAULT6, ("eth0", "eth2")),
        (None, _DEFAULT6, None),
    ],
)
def test_default_routes_are_those_that_lead_on(
    machine: Path, four: str | None, six: str | None, expected: tuple[str, ...] | None
) -> None:
    for name, content in (("route", four), ("ipv6_route", six)):
        if content is not None:
            put(machine, f"proc/net/{name}", content)
    assert read_facts(machine, machine).default_routes == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [("1767225600\n", datetime(2026, 1, 1, tzinfo=timezone.utc)), ("", None), ("broken", None)],
)
def test_the_clock_chip_is_read_apart_from_the_system_s_time(
    machine: Path, content: str, expected: datetime | None
) -> None:
    put(machine, "sys/class/rtc/rtc0/since_epoch", content)
    assert read_facts(machine, machine).rtc_time == expected


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (["/"], True),
        (["/", "{root}"], True),
        (["/", "{root}/store"], False),
        (["/", "{root}/data\\040of\\040site"], False),
        (["/", "{root}-backup"], True),
        (["/", "{root}/containers/overlay/ab/merged"], True),
        (["/", "{root}/containers-of-others"], False),
    ],
)
def test_a_mount_below_the_root_splits_it(machine: Path, points: list[str], *, expected: bool) -> None:
    root = machine / "banip root"
    escaped = str(root.resolve()).replace(" ", "\\040")
    lines = [f"36 25 8:1 / {point.format(root=escaped)} rw - ext4 /dev/sda1 rw\n" for point in points]
    put(machine, "proc/self/mountinfo", "".join(lines))
    assert read_facts(root, machine).one_file_system is expected


def test_a_file_that_is_no_text_says_nothing(machine: Path) -> None:
    put(machine, "etc/os-release", "")
    (machine / "etc/os-release").write_bytes(b"ID=debian\nVERSION_ID=\xff\n")
    assert read_facts(machine, machine).os is None
