"""A result that nobody can read is no success: what the standard output refuses is said, with code 20."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

PROJECT = Path(__file__).parent.parent
PYTHON = shlex.quote(sys.executable)
#: A command of each command line, of which some write long and some write little.
COMMANDS = {
    "appliance-help": "-m appliance --help",
    "appliance": "-m appliance --root {root} audit coverage --grade S",
    "appliance-json": "-m appliance --root {root} audit coverage --grade S --json",
    "build-help": "build.py --help",
    "build": "build.py check manifests/minimal.yaml",
    "build-json": "build.py check manifests/minimal.yaml --json",
}
every_command = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())


def shell(line: str, root: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a line of a shell, as it is typed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    words = ["bash", "-c", f"set -o pipefail; {PYTHON} {line.format(root=shlex.quote(str(root)))}"]
    environment = kept | {"LANG": "C.UTF-8", **more}
    return subprocess.run(
        words, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def said(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return an error as a person or a program reads it, each as happened and remedy."""
    if done.stderr.startswith("{"):
        told: dict[str, str] = json.loads(done.stderr)
        return {name: told[name] for name in ("happened", "remedy")}
    lines = done.stderr.splitlines()
    assert len(lines) <= 3, done.stderr
    return {"happened": lines[0], "remedy": lines[-1].partition("remedy: ")[2]}


@every_command
@pytest.mark.parametrize("mode", [{}, {"PYTHONUNBUFFERED": "1"}, {"PYTHONDEVMODE": "1"}], ids=str)
def test_a_full_disk_behind_the_output_is_20_and_says_so(
    command: str, mode: dict[str, str], tmp_path: Path
) -> None:
    done = shell(f"{command} > /dev/full", tmp_path, **mode)
    assert (done.returncode, done.stdout) == (20, ""), done.stderr
    assert said(done) == {
        "happened": "the standard output does not take what this command has to say",
        "remedy": "free space where the output goes (df, df -i) or send it elsewhere, then run it again",
    }


def test_what_was_written_and_not_sent_off_is_refused_at_the_end(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom appliance.console import output, told\n"
        "try:\n with output():\n  sys.stdout.write(chr(120))\n"
        "except OSError as error:\n sys.exit(told(error).exit_code)\n"
    )
    assert shell(f"-c {shlex.quote(code)} > /dev/full", tmp_path).returncode == 20
    assert shell(f"-c {shlex.quote(code)}", tmp_path).stdout == "x"


@every_command
def test_a_closed_output_is_20_and_says_so(command: str, tmp_path: Path) -> None:
    done = shell(f"{command} >&-", tmp_path)
    assert (done.returncode, done.stdout) == (20, ""), done.stderr
    assert said(done) == {
        "happened": "the standard output is closed",
        "remedy": "leave the standard output open (no >&-): send it to a file or to /dev/null",
    }


def test_a_closed_output_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    done = shell("build.py keys create --help >&-; ls /proc/self/fd/1", tmp_path)
    assert "the standard output is closed" in done.stderr
    done = shell("-m appliance --root {root}/new status >&-", tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (20, [])


def test_it_is_said_in_korean(tmp_path: Path) -> None:
    done = shell(f"{COMMANDS['appliance']} --lang ko > /dev/full", tmp_path)
    assert done.stderr.splitlines()[0] == "이 명령의 결과를 표준 출력에 쓸 수 없습니다"
    done = shell(f"{COMMANDS['build']} --lang ko >&-", tmp_path)
    assert done.stderr.splitlines()[0] == "표준 출력이 닫혀 있습니다"


@pytest.mark.parametrize("command", ["-m appliance --json nothing", "build.py --json nothing"])
def test_an_error_that_the_output_does_not_take_keeps_its_code_and_goes_beside_it(
    command: str, tmp_path: Path
) -> None:
    done = shell(f"{command} > /dev/full", tmp_path)
    assert (done.returncode, json.loads(done.stderr)["error"]) == (2, "BadInput")


@every_command
def test_with_every_stream_closed_the_code_still_tells(command: str, tmp_path: Path) -> None:
    done = shell(f"{command} <&- >&- 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (20, "", "")


@every_command
def test_without_an_input_or_an_error_output_a_command_does_what_it_does(
    command: str, tmp_path: Path
) -> None:
    usual = shell(command, tmp_path)
    done = shell(f"{command} <&- 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (usual.returncode, usual.stdout, "")
    assert usual.returncode == 0


@every_command
def test_a_full_disk_behind_the_error_output_costs_nothing_but_what_goes_there(
    command: str, tmp_path: Path
) -> None:
    usual = shell(command, tmp_path)
    done = shell(f"{command} 2> /dev/full", tmp_path)
    assert (done.returncode, done.stdout) == (usual.returncode, usual.stdout)
    done = shell(f"{command} > /dev/full 2> /dev/full", tmp_path)
    assert done.returncode == 20
    done = shell(f"{command} nothing > /dev/full 2> /dev/full", tmp_path)
    assert done.returncode == (20 if "--help" in command else 2)  # help is told before the rest is read


def test_what_we_start_finds_every_stream_open_as_well(tmp_path: Path) -> None:
    start = "import subprocess\nsubprocess.run(['ls', '/proc/self/fd'], stdin=None, check=True)\n"
    code = f"from appliance.console import output\nwith output():\n {start.replace(chr(10), chr(10) + ' ')}"
    usual = shell(f"-c {shlex.quote(code)}", tmp_path).stdout
    for closed in ("2>&-", "<&-", "<&- 2>&-"):
        assert shell(f"-c {shlex.quote(code)} {closed}", tmp_path).stdout == usual


def test_an_output_that_nobody_reads_to_its_end_is_no_error_of_ours(tmp_path: Path) -> None:
    for command in (COMMANDS["build"], COMMANDS["appliance-help"]):
        done = shell(f"{command} | head -n 1", tmp_path)
        assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")
    # The reader is gone before the first word.
    done = shell(f"{COMMANDS['appliance']} | (exec <&-; sleep 3)", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    done = shell("build.py --json nothing | (exec <&-; sleep 3)", tmp_path)
    assert (done.returncode, json.loads(done.stderr)["exit_code"]) == (2, 2)
