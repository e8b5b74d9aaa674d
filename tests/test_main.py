"""The server's command line, as a process: exit codes, what it writes, and how it speaks."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from appliance.__main__ import cli
from appliance.console import options_first, refusal_of
from tests.tiny import PROJECT, Site
from tests.typed import interrupted
from tests.world import World, key

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.real

LATER = datetime(2900, 1, 1, tzinfo=timezone.utc)
HANGUL = re.compile("[\uac00-\ud7a3]")
EXAMPLE = r"^ *(?:python3 -I )?appliance(?:\.pyz)? ([a-z-].*)"
NOBODY = 65534


@pytest.fixture
def world() -> World:
    world = World(expires=LATER)
    world.generations[0].expires = LATER
    return world


@pytest.fixture
def site(tmp_path: Path, world: World) -> Site:
    site = Site(tmp_path / "banip")
    site.adopt(world)
    return site


def run(site: Site, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401
    return python("-m", "appliance", "--root", site.root, *arguments, **options)


def python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401
    argv = [sys.executable, *map(str, arguments)]
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **options.pop("env", {})}
    return subprocess.run(
        argv, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False, **options
    )


def run_as_nobody(site: Site, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line without rights; they go after the imports, for the Python may be root's own."""
    code = (
        "import _strptime, os, sys; from appliance.__main__ import main\n"
        f"if os.geteuid() == 0: os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "main(sys.argv[1:])"
    )
    return python("-c", code, "--root", site.root, *arguments)


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    found = ((path, path.lstat()) for path in sorted(folder.rglob("*")))
    return {str(path): (each.st_mtime_ns, each.st_size, each.st_mode) for path, each in found}


@pytest.mark.parametrize(
    "arguments", [("no-such-command",), ("verify",), ("--lang", "de", "status"), ("status", "--nonsense")]
)
def test_a_wrong_command_line_is_two(site: Site, arguments: tuple[str, ...]) -> None:
    done = run(site, *arguments)
    assert done.returncode == 2
    assert "Error" in done.stderr
    assert done.stdout == ""
    as_json = run(site, "--json", *arguments)
    assert as_json.returncode == 2
    assert json.loads(as_json.stdout)["error"] == "BadInput"


def test_the_name_of_a_file_on_a_medium_steers_no_terminal(site: Site, tmp_path: Path) -> None:
    """The shell hands over what a medium holds, also as words that the command line does not want."""
    names = [
        tmp_path / "\x1b[2J\u202etar.tar",
        tmp_path / "a\n  remedy: run me.tar",
        tmp_path / "no-\udcff.tar",
    ]
    for words in ([names[0]], [names[1]], [names[2]], names):
        done = run(site, "verify", *words)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", done.stderr)
        assert "\n  remedy: run me" not in done.stderr


def test_a_root_that_scripts_would_have_to_quote_is_two(tmp_path: Path) -> None:
    done = python("-m", "appliance", "--root", tmp_path / "b n", "status")
    assert (done.returncode, "characters" in done.stderr) == (2, True)


def test_nobody_trusted_yet_is_ten(world: World, tmp_path: Path) -> None:
    empty = Site(tmp_path / "empty")
    done = run(empty, "verify", world.carrier(tmp_path))
    assert done.returncode == 10
    assert "appliance.pyz" in done.stderr
    assert not empty.root.exists()


def test_a_running_other_is_four_and_is_named(site: Site, world: World, tmp_path: Path) -> None:
    with site.server.state.lock("a long import"):
        done = run(site, "import", world.carrier(tmp_path))
    assert done.returncode == 4
    assert str(os.getpid()) in done.stderr
    assert "a long import" in done.stderr
    assert site.journal() == []


def test_upgrading_nothing_is_twenty(site: Site, world: World, tmp_path: Path) -> None:
    done = run(site, "upgrade", world.carrier(tmp_path))
    assert done.returncode == 20
    assert "run install instead" in done.stderr


def test_verify_writes_nothing_at_all(site: Site, world: World, tmp_path: Path) -> None:
    carrier, before = world.carrier(tmp_path), tree(tmp_path)
    before = tree(tmp_path)
    done = run(site, "verify", carrier)
    assert (done.returncode, done.stderr.count("Error")) == (0, 0)
    assert "demo-1.0.0-c1 is whole and trusted: root version 1, counter 1" in done.stdout
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (lambda world: world.mutate("chunks.bin", 0, part="header"), 11),
        (lambda world: setattr(world, "signers", [key("stranger")]), 10),
        (lambda world: setattr(world, "product", "other"), 10),
        (lambda world: setattr(world, "tail", b""), 12),
        (lambda world: setattr(world, "expires", datetime(2020, 1, 1, tzinfo=timezone.utc)), 10),
    ],
)
def test_a_refusal_has_its_code_and_leaves_exactly_one_journal_line(
    site: Site, world: World, tmp_path: Path, break_it: Callable[[World], None], code: int
) -> None:
    break_it(world)
    carrier = world.carrier(tmp_path)
    before = tree(site.root)
    assert run(site, "verify", carrier).returncode == code
    assert tree(site.root) == before
    assert run(site, "import", carrier).returncode == code
    (entry,) = site.server.state.journal.entries()
    assert (entry.event, entry.facts["exit_code"]) == ("refused", code)
    new = tree(site.root).keys() - before.keys()
    assert {Path(path).name for path in new} == {"journal", "lock"}


def test_import_needs_no_root_rights_and_importing_again_reads_nothing(world: World, tmp_path: Path) -> None:
    carrier = world.carrier(tmp_path)
    folder = Path(f"/tmp/banip-unprivileged-{os.getpid()}-{tmp_path.name}")  # noqa: S108 - pytest's is root's own
    folder.mkdir(mode=0o755)
    try:
        check_unprivileged_import(Site(folder / "banip"), world, carrier, folder)
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)


def check_unprivileged_import(site: Site, world: World, carrier: Path, folder: Path) -> None:
    site.adopt(world)
    moved = carrier.rename(folder / carrier.name)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", folder], check=True)
    receipts = [run_as_nobody(site, "--json", "import", moved) for _ in range(2)]
    assert [done.returncode for done in receipts] == [0, 0], receipts
    results = [json.loads(done.stdout.splitlines()[-1])["result"] for done in receipts]
    count = len(world.blobs)
    assert [(each["blobs_new"], each["blobs_kept"]) for each in results] == [(count, 0), (0, count)]
    assert results[1]["bytes_read"] == 0
    assert sorted(path.name for path in site.root.iterdir()) == ["state", "store"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take rights away")
def test_a_lack_of_rights_is_said_as_such(world: World) -> None:
    folder = Path(f"/tmp/banip-private-{os.getpid()}")  # noqa: S108 - pytest's own cannot be entered
    folder.mkdir(mode=0o755)
    try:
        site = Site(folder)
        site.adopt(world)
        done = run_as_nobody(site, "status")
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)
    assert done.returncode == 2
    assert "sudo" in done.stderr
    assert "Traceback" not in done.stderr


def test_with_json_every_line_is_json_wherever_the_option_stands(
    site: Site, world: World, tmp_path: Path
) -> None:
    carrier = world.carrier(tmp_path)
    for arguments in (
        ("--json", "verify", carrier),
        ("verify", carrier, "--json"),
        ("import", "--json", carrier),
        ("plan", carrier, "--json"),
        ("status", "--json"),
        ("inventory", "--json"),
        ("preflight", carrier, "--json"),
        ("rollback", "--json"),
        ("adopt", "--json"),
    ):
        done = run(site, *arguments)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, arguments
        assert all(isinstance(line, dict) for line in lines)
        assert done.stderr == ""
        assert ("error" in lines[-1]) == (done.returncode != 0)


def test_the_plan_is_shown_and_nothing_is_done(site: Site, world: World, tmp_path: Path) -> None:
    carrier, before = world.carrier(tmp_path), tree(site.root)
    done = run(site, "plan", carrier)
    assert done.returncode == 0
    assert f"read {len(world.blobs)} blobs" in done.stderr
    assert "mark demo-1.0.0-c1 good" in done.stderr
    assert done.stdout == "install: 7 steps\n"
    assert tree(site.root) == before


def test_korean_is_spoken_when_asked_for(site: Site, world: World, tmp_path: Path) -> None:
    carrier = world.carrier(tmp_path)
    for arguments in (("--lang", "ko", "verify", carrier), ("verify", carrier, "--lang=ko")):
        assert HANGUL.search(run(site, *arguments).stdout)
    assert HANGUL.search(run(site, "verify", carrier, env={"LANG": "ko_KR.UTF-8"}).stdout)
    assert not HANGUL.search(run(site, "--lang", "en", "verify", carrier, env={"LANG": "ko_KR.UTF-8"}).stdout)
    for words in ("--lang ko rollback", "rollback --lang=ko", "rollback --lang ko"):
        assert HANGUL.search(run(site, *words.split()).stderr)


def commands() -> list[str]:
    return [name for name, command in cli.commands.items() if not command.hidden]


@pytest.mark.parametrize("command", ["", *commands()])
def test_the_help_of_every_command_has_an_example_on_its_own_line(command: str) -> None:
    done = CliRunner().invoke(cli, [*([command] if command else []), "--help"])
    assert done.exit_code == 0
    assert re.search(r"^  Examples?:\n( {4}.*\n)+", done.stdout, re.MULTILINE)
    assert "\\b" not in done.stdout
    assert re.search(rf"^ {{4}}.*appliance(\.pyz)? (--json )?{command}", done.stdout, re.MULTILINE)


def test_the_examples_of_the_help_are_good_command_lines() -> None:
    for name, command in cli.commands.items():
        for example in re.findall(EXAMPLE, command.help or "", re.MULTILINE):
            words = options_first(shlex.split(example.partition(" > ")[0].partition("    ")[0]))
            start = words.index(name)
            assert set(words[:start]) <= {"--json"}
            command.make_context(name, words[start + 1 :])


def test_the_commands_are_those_of_the_design() -> None:
    assert set(commands()) == {
        "verify", "import", "preflight", "plan", "install", "upgrade", "rollback", "status", "inventory",
        "adopt", "uninstall", "store", "audit", "ask", "ingest", "documents", "feedback", "user",
    }  # fmt: skip


def test_adopt_is_only_for_the_first_contact_file(site: Site) -> None:
    done = run(site, "adopt")
    assert done.returncode == 10
    assert "only appliance.pyz" in done.stderr


def first_contact(root: Path, world: World, tmp_path: Path, *arguments: object) -> Any:  # noqa: ANN401
    (tmp_path / "1.root.json").write_bytes(world.root(1))
    code = (
        "import sys, pathlib; from appliance.__main__ import main; from appliance.state import FirstContact\n"
        "root = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "main(sys.argv[3:], FirstContact(root, sys.argv[2], None))"
    )
    return python("-c", code, tmp_path / "1.root.json", world.product, "--root", root, *arguments)


def test_first_contact_verifies_without_a_trace_and_adopts_when_told(world: World, tmp_path: Path) -> None:
    carrier, root = world.carrier(tmp_path), tmp_path / "new"
    assert first_contact(root, world, tmp_path, "verify", carrier).returncode == 0
    assert not root.exists()
    done = first_contact(root, world, tmp_path, "adopt")
    assert (done.returncode, done.stdout) == (0, "this server now trusts the supplier of demo\n")
    assert Site(root).journal() == ["adopted"]
    assert run(Site(root), "verify", carrier).returncode == 0


@pytest.mark.parametrize(("answer", "said"), [("n\n", "nothing was changed"), ("", "nobody is here")])
def test_uninstall_asks_and_no_is_two(site: Site, answer: str, said: str) -> None:
    before = tree(site.root)
    done = run(site, "uninstall", input=answer)
    assert (done.returncode, said in done.stderr) == (2, True)
    assert tree(site.root) == before


def test_control_c_is_130_says_what_to_do_and_changes_nothing(site: Site) -> None:
    before = tree(site.root)
    code, said = interrupted(sys.executable, "-m", "appliance", "--root", str(site.root), "uninstall")
    assert (code, "nothing is lost" in said, "run the same command again" in said) == (130, True, True), said
    assert tree(site.root) == before


def test_our_own_bug_is_one_and_says_so(site: Site) -> None:
    code = (
        "import sys; from appliance import __main__ as a; a.Session = None\n"
        "a.main(['--root', sys.argv[1], 'status'])"
    )
    done = python("-c", code, site.root)
    assert done.returncode == 1
    assert "a fault of the appliance itself" in done.stderr
    assert "TypeError" in done.stderr


def test_what_is_written_can_be_read_by_services_whatever_the_umask(site: Site) -> None:
    code = (
        "import os, sys; os.umask(0o077)\nfrom appliance.__main__ import main\n"
        "main(['--root', sys.argv[1], 'status']); print(oct(os.umask(0)))"
    )
    assert python("-c", code, site.root).stdout.splitlines()[-1] == "0o22"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("status --json", "--json status"),
        ("a b --lang ko c --json", "--lang ko --json a b c"),
        ("a --lang=ko", "--lang=ko a"),
        ("a -- --json", "a -- --json"),
        ("a --lang", "--lang a"),
        ("", ""),
    ],
)
def test_options_of_the_whole_may_stand_anywhere(given: str, expected: str) -> None:
    assert options_first(given.split()) == expected.split()


def test_carrying_out_needs_the_lock_that_was_passed_on(site: Site) -> None:
    done = run(site, "--json", "carry-out", "--lock-descriptor", "77")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"] == "BadInput"
    assert isinstance(cli.commands["carry-out"], click.Command)
    assert "carry-out" not in run(site, "--help").stdout


# --- What a site does to our files -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["binding.json", "journal", "roots/1.root.json"])
def test_a_folder_in_place_of_a_file_is_named_and_no_fault_of_ours(site: Site, name: str) -> None:
    path = site.root / "state" / name
    path.unlink(missing_ok=True)
    path.mkdir()
    done = run(site, "--json", "status")
    assert done.returncode == 11, done.stderr
    (error,) = (json.loads(line) for line in (done.stdout + done.stderr).splitlines() if '"error"' in line)
    assert "Traceback" not in str(error)
    assert name.partition("/")[0] in error["where"]
    assert error["remedy"]


def test_a_disk_that_refuses_is_the_machine_s_fault(tmp_path: Path) -> None:
    refused = refusal_of(OSError(errno.EROFS, os.strerror(errno.EROFS), str(tmp_path)))
    assert refused is not None
    assert refused.exit_code == 20
    assert refused.where == str(tmp_path)
    assert refusal_of(OSError(errno.EBADF, "bad descriptor")) is None, "that is a fault of ours"


def test_a_path_that_is_too_long_is_no_fault_of_ours() -> None:
    with pytest.raises(OSError, match="too long") as met:
        Path("x" * 300).lstat()
    refused = refusal_of(met.value)
    assert refused is not None
    assert (refused.exit_code, refused.where) == (2, "x" * 300)


def test_root_is_not_told_to_become_root() -> None:
    refused = refusal_of(PermissionError(errno.EPERM, os.strerror(errno.EPERM), "/etc/immutable"))
    assert refused is not None
    assert ("lsattr" in str(refused.remedy), refused.exit_code) == (os.geteuid() == 0, 2)


def test_a_folder_in_a_file_s_place_is_named_also_where_a_rename_met_it(site: Site, tmp_path: Path) -> None:
    binding, elsewhere = site.root / "state" / "binding.json", tmp_path / "elsewhere"
    elsewhere.touch()
    binding.unlink()
    binding.mkdir()
    with pytest.raises(IsADirectoryError) as met:
        elsewhere.rename(binding)
    refused = refusal_of(met.value)
    assert refused is not None
    assert (refused.exit_code, refused.where) == (11, str(binding))
    done = run(site, "status")
    assert (done.returncode, f"look at {binding}, move it aside" in done.stderr) == (11, True)
    binding.rmdir()
    assert "appliance.pyz adopt" in run(site, "status").stderr or run(site, "status").returncode == 10


def test_a_file_in_a_folder_s_place_is_named_and_not_what_should_lie_in_it(tmp_path: Path) -> None:
    (tmp_path / "roots").touch()
    with pytest.raises(NotADirectoryError) as met:
        (tmp_path / "roots" / "1.root.json").read_bytes()
    refused = refusal_of(met.value)
    assert refused is not None
    assert str(refused.where) == str(tmp_path / "roots")


def test_a_last_line_of_the_journal_that_is_too_deep_is_a_torn_one(site: Site) -> None:
    with (site.root / "state" / "journal").open("ab") as file:
        file.write(b'{"facts":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b'},"number":1}\n')
    done = run(site, "status")
    assert done.returncode in {0, 11}, done.stderr
    assert "Traceback" not in done.stderr


def test_names_that_are_not_utf_8_are_spelled_in_json(site: Site) -> None:
    folder = site.root / "store" / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    Path(os.fsdecode(os.fsencode(folder) + b"/z\xff")).touch()
    done = run(site, "--json", "store", "check")
    assert done.returncode == 11, done.stderr
    for line in done.stdout.splitlines():
        json.loads(line)


def test_a_folder_in_a_blob_s_place_is_pruned(site: Site) -> None:
    folder = site.root / "store" / "blobs" / "sha256"
    (folder / ("0" * 64) / "within").mkdir(parents=True)
    done = run(site, "store", "prune", "--yes")
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []


def test_without_a_command_the_help_has_lines() -> None:
    done = python("-m", "appliance")
    assert done.returncode == 2
    assert "\\n" not in done.stderr
    assert len(done.stderr.splitlines()) > 10
