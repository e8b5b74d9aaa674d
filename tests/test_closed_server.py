"""The test bed's own contract: what every closed server is, whichever backend plays it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.closed_server import (
    ClosedServerError,
    EgressAttempt,
    NspawnServer,
    QemuServer,
    ServerCommandFailed,
    ServerCommandTimedOut,
    Snapshot,
    closed_server,
    disklog,
    packets,
    why_not,
)
from tests.closed_server.holding import NAMESPACES, cgroup_root, sweep
from tests.closed_server.network import FAR_V4
from tests.closed_server.root import _deb822, _one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.closed_server import ClosedServer

BOTH = [
    pytest.param("nspawn", marks=pytest.mark.server),
    pytest.param("qemu", marks=[pytest.mark.qemu, pytest.mark.slow]),
]
CONNECT = """
import socket, sys
family, kind, address, port = sys.argv[1:]
plug = socket.socket(getattr(socket, family), getattr(socket, kind))
plug.settimeout(0.5)
try:
    plug.connect((address, int(port)))
    plug.send(b"anybody there?")
except OSError as error:
    print(error)
"""
LINGER = """
import time
time.sleep(0.3)  # a socket that is gone when its packet is read has no unit any more
"""
RESOLVE = """
import socket
try:
    socket.getaddrinfo("pypi.example", 443)
except OSError as error:
    print(error)
"""


@pytest.fixture(scope="module", params=BOTH)
def server(request: pytest.FixtureRequest) -> Iterator[ClosedServer]:
    if (reason := why_not(request.param)) is not None:
        pytest.skip(reason)
    with closed_server(request.param) as booted:
        yield booted


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    if (reason := why_not("nspawn")) is not None:
        pytest.skip(reason)
    with closed_server() as booted:
        booted.exec(
            "sh",
            "-c",
            "echo v1 > /etc/release; echo v1 > /var/lib/release; ln /var/lib/release /var/lib/linked",
        )
        return booted.snapshot()


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    (folder / "bundle").write_text("brought in\n")
    (folder / "tool").write_text("#!/bin/sh\necho executed\n")
    (folder / "tool").chmod(0o755)
    return folder


def traces(token: str) -> list[str]:
    """What of one server is still to be found on this machine."""
    found = [
        line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if token in line
    ]
    found += [
        str(path)
        for path in (*NAMESPACES.glob(f"*{token}*"), *Path(tempfile.gettempdir()).glob(f"*{token}*"))
    ]
    for kind in ("cgroup2", "name=systemd"):
        root = cgroup_root(kind)
        found += [str(path) for path in root.glob(f"*{token}*")] if root else []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [process.read_text()] if token in process.read_text() else []
    return found


def token(server: NspawnServer | QemuServer) -> str:
    return server._holding.token


# ---- contract


def test_a_server_boots_and_no_unit_has_failed(server: ClosedServer) -> None:
    state = server.exec("systemctl", "is-system-running", check=False).stdout.strip()
    failed = server.exec("systemctl", "list-units", "--failed", "--plain", "--no-legend").stdout
    assert (state, failed) == ("running", "")


def test_a_server_has_python_and_nothing_that_fetches_or_that_the_product_brings(
    server: ClosedServer,
) -> None:
    assert server.exec("python3", "-c", "print('python')").stdout == "python\n"
    for absent in ("pip", "pip3", "curl", "wget", "gcc", "ansible-playbook", "podman", "nginx", "auditctl"):
        assert server.exec("sh", "-c", f"command -v {absent}", check=False).returncode != 0, absent


def test_a_command_runs_in_a_clean_environment(server: ClosedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "leaked")
    seen = dict(
        line.split("=", 1) for line in server.exec("env", env={"LANG": "ko_KR.UTF-8"}).stdout.splitlines()
    )
    assert set(seen) - {"PWD", "SHLVL", "_"} == {"PATH", "LANG", "HOME"}
    assert seen["LANG"] == "ko_KR.UTF-8"


def test_a_failed_command_shows_code_and_both_streams(server: ClosedServer) -> None:
    with pytest.raises(ServerCommandFailed, match=r"(?s)ended with 3.*to out.*to err") as failed:
        server.exec("sh", "-c", "echo to out; echo to err >&2; exit 3")
    assert failed.value.done.args[:2] == ["sh", "-c"]
    assert server.exec("false", check=False).returncode == 1


def test_input_and_large_output_come_through(server: ClosedServer) -> None:
    data = bytes(byte for byte in range(256) if byte != ord("\r")) * 4096
    assert server.exec("cat", stdin=data).stdout.encode("utf-8", "surrogateescape") == data


def test_a_command_past_its_limit_is_killed_with_its_children(server: ClosedServer) -> None:
    with pytest.raises(ServerCommandTimedOut):
        server.exec("sh", "-c", "setsid sleep 4711 & sleep 4711", timeout_s=1)
    assert server.exec("pgrep", "-f", "^sleep 4711", check=False).stdout == ""


def test_kill_group_reaches_what_has_left_the_session(server: ClosedServer) -> None:
    process = server.start("sh", "-c", "setsid sleep 4712 & echo started; sleep 4712")
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    server.kill_group(process)
    assert process.returncode is not None
    assert server.exec("pgrep", "-f", "^sleep 4712", check=False).stdout == ""
    process.communicate()


def test_a_long_commands_lines_come_while_it_runs(server: ClosedServer) -> None:
    seen: list[str] = []

    def answered(line: str) -> None:
        seen.append(line)
        if line == "ready":  # it waits for this: a line that came late would never end it
            server.exec("touch", "/run/answered")

    script = "echo ready; until test -e /run/answered; do sleep 0.05; done; echo done; echo bad >&2; exit 4"
    server.exec("rm", "-f", "/run/answered")
    done = server.follow("sh", "-c", script, on_line=answered, check=False)
    assert (seen[0], sorted(seen[1:])) == ("ready", ["bad", "done"])
    assert (done.returncode, done.stdout, done.stderr) == (4, "ready\ndone\n", "bad\n")
    with pytest.raises(ServerCommandFailed, match="ended with 3"):
        server.follow("sh", "-c", "exit 3", on_line=answered)


def test_a_followed_command_past_its_limit_is_killed(server: ClosedServer) -> None:
    with pytest.raises(ServerCommandTimedOut, match="begun"):
        server.follow("sh", "-c", "echo begun; sleep 4715", on_line=print, timeout_s=3)
    assert server.exec("pgrep", "-f", "^sleep 4715", check=False).stdout == ""


def test_files_and_folders_are_copied_in_and_out(server: ClosedServer, stick: Path, tmp_path: Path) -> None:
    server.copy_in(stick / "bundle", "/root/secret", 0o600)
    assert server.exec("stat", "-c", "%a %u %g", "/root/secret").stdout == "600 0 0\n"
    server.copy_in(stick, "/srv/folder")
    assert server.exec("/srv/folder/tool").stdout == "executed\n"
    server.copy_out("/srv/folder", tmp_path / "back")
    assert (tmp_path / "back/bundle").read_text() == "brought in\n"
    server.copy_out("/root/secret", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "brought in\n"


def test_a_copy_to_nowhere_fails_loudly(server: ClosedServer, stick: Path, tmp_path: Path) -> None:
    with pytest.raises(ClosedServerError, match="No such file"):
        server.copy_in(stick, "/nowhere/at/all")
    with pytest.raises(ClosedServerError, match="No such file"):
        server.copy_out("/nowhere", tmp_path / "x")


def test_a_medium_is_read_only_and_can_be_changed_while_the_server_runs(
    server: ClosedServer, stick: Path, tmp_path: Path
) -> None:
    medium = server.insert_medium(stick)
    assert server.exec("ls", medium).stdout.split() == ["bundle", "tool"]
    assert "Read-only" in server.exec("touch", f"{medium}/mine", check=False).stderr
    assert "Permission denied" in server.exec(f"{medium}/tool", check=False).stderr
    second = tmp_path / "second"
    second.mkdir()
    (second / "vol002.tar").touch()
    server.insert_medium(second)
    assert server.exec("ls", medium).stdout.split() == ["vol002.tar"]
    server.eject_medium()
    assert server.exec("ls", medium).stdout == ""


def test_the_server_cannot_reach_this_machine(server: ClosedServer) -> None:
    routes = server.exec("ip", "-br", "address").stdout
    assert {line.split("@")[0].split()[0] for line in routes.splitlines()} == {"lo", "eth0"}
    assert (
        "timed out"
        in server.exec("python3", "-c", CONNECT, "AF_INET", "SOCK_STREAM", "198.51.100.7", "443").stdout
    )


PLANTED = [
    (["AF_INET", "SOCK_STREAM", "198.51.100.7", "443"], ("tcp", "198.51.100.7", 443, "")),
    (["AF_INET6", "SOCK_STREAM", "2001:db8::7", "443"], ("tcp", "2001:db8::7", 443, "")),
    (["AF_INET", "SOCK_DGRAM", "203.0.113.9", "123"], ("udp", "203.0.113.9", 123, "")),
    (["AF_INET6", "SOCK_DGRAM", "2001:db8::9", "123"], ("udp", "2001:db8::9", 123, "")),
]


HELD_BACK = PLANTED[:3]


def planted(server: ClosedServer, script: str, *how: str, settings: tuple[str, ...] = ()) -> None:
    """Run a script as planted.service, twice: a second time is not a second attempt."""
    told = [f"--property={setting}" for setting in settings]
    unit = ("systemd-run", "--wait", "--quiet", "--unit=planted", *told)
    for _ in range(2):
        server.exec(*unit, "python3", "-c", script + LINGER, *how)


@pytest.mark.parametrize(("how", "expected"), PLANTED, ids=lambda value: "-".join(map(str, value)))
def test_a_planted_attempt_reads_one(
    server: ClosedServer, how: list[str], expected: tuple[str, str, int, str]
) -> None:
    server.reset_attempts()
    server.exec("python3", "-c", CONNECT, *how)
    server.exec("python3", "-c", CONNECT, *how)
    seen = server.attempts()
    assert [(each.protocol, each.address, each.port, each.name) for each in seen] == [expected]


def test_a_name_asked_for_reads_one_and_is_told(server: ClosedServer) -> None:
    server.reset_attempts()
    assert "not known" in server.exec("python3", "-c", RESOLVE).stdout
    assert [(each.port, each.name) for each in server.attempts()] == [(53, "pypi.example")]


def test_an_attempt_is_traced_to_its_unit_where_the_host_can_see_it(server: ClosedServer) -> None:
    server.reset_attempts()
    how = PLANTED[0][0]
    server.exec("systemd-run", "--wait", "--quiet", "--unit=planted", "python3", "-c", CONNECT, *how)
    unit = "planted.service" if isinstance(server, NspawnServer) else ""
    assert server.attempts() == [EgressAttempt(unit, "tcp", "198.51.100.7", 443)]


@pytest.mark.parametrize(("how", "expected"), HELD_BACK, ids=lambda value: "-".join(map(str, value)))
def test_what_a_units_ip_address_deny_holds_back_is_counted_of_a_container(
    server: ClosedServer, how: list[str], expected: tuple[str, str, int, str]
) -> None:
    server.reset_attempts()
    planted(server, CONNECT, *how, settings=("IPAddressDeny=any", "IPAddressAllow=localhost"))
    seen = [EgressAttempt("planted.service", *expected)] if isinstance(server, NspawnServer) else []
    assert server.attempts() == seen, "of a guest only what leaves it can be seen"


def test_an_idle_server_reads_zero(server: ClosedServer) -> None:
    server.reset_attempts()
    time.sleep(5)
    assert server.attempts() == []


def test_a_server_comes_back_after_a_power_cut_with_medium_and_disk(
    server: ClosedServer, stick: Path
) -> None:
    server.insert_medium(stick)
    server.exec("sh", "-c", "echo kept > /var/lib/kept && sync")
    server.power_cut()
    with pytest.raises(ClosedServerError, match="off"):
        server.exec("true")
    server.boot()
    assert server.exec("cat", "/var/lib/kept", "/media/usb/bundle").stdout == "kept\nbrought in\n"
    assert server.attempts() == []
    server.eject_medium()


# ---- a container


@pytest.mark.server
def test_a_dead_counter_is_an_error_not_a_zero() -> None:
    with closed_server() as server:
        assert server._network._sink is not None
        server._network._sink.kill()
        with pytest.raises((ClosedServerError, BrokenPipeError)):
            server.attempts()


DENY = """
table inet banip {
  chain out { type filter hook output priority 0; policy drop; oifname "lo" accept; }
  chain in { type filter hook input priority 0; policy drop; iifname "lo" accept; }
}
"""


@pytest.fixture(scope="module")
def walled() -> Iterator[NspawnServer]:
    """A server whose own firewall lets nothing out."""
    if (reason := why_not("nspawn")) is not None:
        pytest.skip(reason)
    with closed_server() as booted:
        booted.exec("nft", "-f", "-", stdin=DENY.encode())
        yield booted


@pytest.mark.server
@pytest.mark.parametrize(("how", "expected"), HELD_BACK, ids=lambda value: "-".join(map(str, value)))
def test_what_the_servers_own_firewall_holds_back_reads_one_with_its_unit(
    walled: NspawnServer, how: list[str], expected: tuple[str, str, int, str]
) -> None:
    walled.reset_attempts()
    planted(walled, CONNECT, *how)
    assert walled.attempts() == [EgressAttempt("planted.service", *expected)]
    walled.reset_attempts()
    assert walled.attempts() == []


@pytest.mark.server
def test_a_name_asked_for_behind_a_firewall_is_told(walled: NspawnServer) -> None:
    walled.reset_attempts()
    planted(walled, RESOLVE)
    assert [(each.port, each.name) for each in walled.attempts()] == [(53, "pypi.example")]
    walled.reset_attempts()
    planted(walled, CONNECT, "AF_INET", "SOCK_STREAM", FAR_V4, "53")
    assert walled.attempts() == [EgressAttempt("planted.service", "tcp", FAR_V4, 53)]


@pytest.mark.server
def test_the_counter_survives_whatever_the_server_does_to_its_rules(walled: NspawnServer) -> None:
    walled.exec("nft", "flush", "ruleset")
    walled.exec("nft", "-f", "-", stdin=DENY.encode())
    assert "not permitted" in walled.exec("nft", "delete", "table", "inet", "test_bed", check=False).stderr
    walled.reset_attempts()
    planted(walled, CONNECT, *PLANTED[0][0])
    assert len(walled.attempts()) == 1


@pytest.mark.server
def test_an_idle_server_behind_a_firewall_reads_zero(walled: NspawnServer) -> None:
    walled.reset_attempts()
    walled.exec("python3", "-c", CONNECT, "AF_INET", "SOCK_STREAM", "127.0.0.1", "443")
    time.sleep(3)
    assert walled.attempts() == []


@pytest.mark.server
def test_rules_are_gone_after_a_power_cut_as_on_a_real_machine() -> None:
    with closed_server() as server:
        server.exec("nft", "-f", "-", stdin=DENY.encode())
        server.power_cut()
        server.boot()
        tables = server.exec("nft", "list", "tables").stdout
        assert tables == "table inet test_bed\n"
        server.exec("python3", "-c", CONNECT, *PLANTED[0][0])
        assert len(server.attempts()) == 1


@pytest.mark.server
def test_snapshots_are_independent_of_each_other_and_of_their_origin(snapshot: Snapshot) -> None:
    with closed_server(base=snapshot) as one, closed_server(base=snapshot) as two:
        one.exec("sh", "-c", "echo v2 > /etc/release; echo v2 > /var/lib/release")
        assert two.exec("cat", "/etc/release", "/var/lib/release").stdout == "v1\nv1\n"
        assert one.exec("stat", "-c", "%h", "/var/lib/linked").stdout == "2\n"
        again = one.snapshot()
    with closed_server(base=again) as three:
        assert three.exec("cat", "/etc/release", "/var/lib/linked").stdout == "v2\nv2\n"


@pytest.mark.server
def test_a_large_server_and_its_snapshot_lie_on_the_disk() -> None:
    disk = Path(tempfile.gettempdir())
    with closed_server(in_memory=False) as server:
        assert server._holding.folder.parent == disk
        server.exec("sh", "-c", "echo v1 > /var/lib/blob; ln /var/lib/blob /var/lib/linked")
        frozen = server.snapshot()
        assert frozen.var.parent.parent == disk
    with closed_server(base=frozen, in_memory=False) as again:
        assert again._holding.folder.parent == disk
        assert again.exec("stat", "-c", "%h", "/var/lib/linked").stdout == "2\n"


SERVE = """
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.client_address[0].encode() + b" " + body)
http.server.HTTPServer(("127.0.0.1", 8600), Page).serve_forever()
"""


@pytest.mark.server
def test_a_page_of_the_server_is_seen_from_here_and_nothing_leaves(walled: NspawnServer) -> None:
    walled.reset_attempts()
    door = walled.forward(8600)
    with pytest.raises(OSError, match=r"(?i)reset|closed"):  # nobody serves there yet
        urllib.request.urlopen(f"http://127.0.0.1:{door}/", timeout=10)
    walled.exec("systemd-run", "--quiet", "--unit=page", "python3", "-c", SERVE)
    ready = "import socket, time\nwhile socket.socket().connect_ex(('127.0.0.1', 8600)): time.sleep(0.05)"
    walled.exec("python3", "-c", ready, timeout_s=30)
    body = b"x" * (1 << 20)
    with urllib.request.urlopen(f"http://127.0.0.1:{door}/", data=body, timeout=30) as answer:
        assert answer.read() == b"127.0.0.1 " + body
    assert walled.attempts() == []
    with socket.create_server(("127.0.0.1", 0)) as mine:  # the door opens one way only
        port = str(mine.getsockname()[1])
        said = walled.exec("python3", "-c", CONNECT, "AF_INET", "SOCK_STREAM", "127.0.0.1", port).stdout
        assert "refused" in said
    walled.exec("systemctl", "stop", "page")


@pytest.mark.server
def test_a_server_goes_on_after_its_snapshot() -> None:
    with closed_server() as server:
        server.exec("touch", "/etc/before")
        server.snapshot()
        server.boot()
        server.exec("ls", "/etc/before")


@pytest.mark.server
def test_two_servers_run_at_once_and_do_not_see_each_other() -> None:
    with closed_server() as one, closed_server() as two:
        one.exec("systemd-run", "--unit=lonely", "sleep", "4713")
        assert two.exec("pgrep", "-f", "sleep 4713", check=False).stdout == ""
        assert two.exec("systemctl", "is-active", "lonely", check=False).stdout.strip() == "inactive"
        one.exec("python3", "-c", CONNECT, *PLANTED[0][0])
        assert (len(one.attempts()), two.attempts()) == (1, [])
        identity = ("cat", "/etc/machine-id")
        assert one.exec(*identity).stdout != two.exec(*identity).stdout


@pytest.mark.server
def test_close_leaves_no_mount_process_namespace_or_folder() -> None:
    with closed_server() as server:
        server.exec("systemd-run", "sleep", "4714")
        name = token(server)
        assert len(traces(name)) > 4
    assert traces(name) == []


@pytest.mark.server
def test_a_server_is_removed_when_its_test_fails() -> None:
    def interrupted(names: list[str]) -> None:
        with closed_server() as server:
            names.append(token(server))
            raise KeyboardInterrupt

    names: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted(names)
    assert names
    assert traces(names[0]) == []


@pytest.mark.server
def test_what_a_killed_run_left_is_removed_by_the_next_and_nothing_else() -> None:
    script = (
        "import time\nfrom tests.closed_server import closed_server\n"
        "with closed_server() as server:\n    print(server._holding.token, flush=True)\n    time.sleep(600)\n"
    )
    root = Path(__file__).parent.parent
    with (
        closed_server() as living,
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=root) as run,
    ):
        assert run.stdout is not None
        name = run.stdout.readline().strip()
        assert name
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        assert traces(name)
        assert name in sweep()
        assert traces(name) == []
        assert living.exec("systemctl", "is-system-running").stdout == "running\n"


# ---- a guest


@pytest.mark.qemu
def test_a_power_cut_keeps_what_was_flushed_and_nothing_else(snapshot: Snapshot) -> None:
    with closed_server("qemu", base=snapshot, clock="2031-05-01T12:00:00") as guest:
        assert guest.exec("date", "+%Y-%m-%d").stdout == "2031-05-01\n"
        assert guest.exec("cat", "/etc/release").stdout == "v1\n"
        # No commit of the file system's own, whose flush would keep the rest too.
        guest.exec("mount", "-o", "remount,commit=600", "/")
        guest.exec("sh", "-c", "tr '\\0' o < /dev/zero | head -c 4096 > /var/block && sync")
        guest.exec("sh", "-c", "echo safe > /var/safe && sync /var/safe && echo lost > /var/lost")
        straight = "of=/var/block bs=4096 count=1 iflag=fullblock oflag=direct conv=notrunc"
        overwrite = f"tr '\\0' n < /dev/zero | dd {straight}"
        guest.exec("sh", "-c", overwrite)  # reaches the disk, and nobody asks the disk to keep it
        guest.power_cut()
        with guest.as_nspawn() as twin:
            assert twin.exec("systemctl", "is-system-running").stdout == "running\n"
            assert twin.exec("ls", "/var/safe", "/var/lost", check=False).stdout == "/var/safe\n"
            assert twin.exec("cat", "/var/block").stdout == "o" * 4096
            twin.exec("rm", "/var/safe")
        guest.boot()
        assert guest.exec("cat", "/var/safe").stdout == "safe\n"
        guest.exec("sh", "-c", "echo stopped > /var/stopped")
        guest.shut_down()
        guest.boot()
        assert guest.exec("cat", "/var/stopped").stdout == "stopped\n"


@pytest.mark.qemu
def test_a_guest_has_its_own_kernel_settings_audit_and_modules() -> None:
    with closed_server("qemu") as guest:
        name = token(guest)
        guest.exec("sysctl", "-w", "kernel.kptr_restrict=2")
        assert guest.exec("cat", "/proc/sys/kernel/kptr_restrict").stdout == "2\n"
        assert "audit: initializing netlink" in guest.exec("journalctl", "-k", "-o", "cat").stdout
        guest.exec("nft", "add table inet kept; add chain inet kept out")
        assert guest.exec("uname", "-r").stdout != os.uname().release + "\n"
    assert traces(name) == []


# ---- without a server


def test_a_log_is_replayed_to_its_last_flush_only(tmp_path: Path) -> None:
    def entry(sector: int, flags: int, data: bytes) -> bytes:
        header = disklog.ENTRY.pack(sector, len(data) // 512, flags, 0)
        return header.ljust(512, b"\0") + data

    kept, forced, lost = b"k" * 512, b"f" * 512, b"l" * 512
    entries = [
        entry(0, 0, kept),
        entry(0, disklog.FLUSH, b""),
        entry(1, 0, lost),
        entry(2, disklog.FUA, forced),
    ]
    log, disk = tmp_path / "log", tmp_path / "disk"
    log.write_bytes(disklog.SUPERBLOCK.pack(disklog.MAGIC, 1, 4, 512).ljust(512, b"\0") + b"".join(entries))
    disk.write_bytes(b"o" * 1536)
    assert disklog.replay_flushed(log, disk) == 1
    assert disk.read_bytes() == kept + b"o" * 512 + forced


def test_an_unwritten_log_replays_nothing(tmp_path: Path) -> None:
    log, disk = tmp_path / "log", tmp_path / "disk"
    disklog.create(log)
    disk.write_bytes(b"o")
    assert disklog.replay_flushed(log, disk) == 0


NEIGHBOUR = bytes.fromhex("6000000000203aff") + bytes(16) + bytes(16) + b"\x87" + bytes(31)
UDP_DNS = (
    bytes.fromhex("4500002d00004000401100000a0000020a000001")
    + bytes.fromhex("d431003500190000")
    + bytes.fromhex("123401000001000000000000")
    + b"\x02ab\x02CD\x00\x00\x01\x00\x01"
)


def test_the_sink_reads_names_and_leaves_neighbour_noise_out() -> None:
    packet = packets.parse(UDP_DNS)
    assert packet is not None
    assert (packet.address, packet.port, packets.asked_name(packet.payload)) == ("10.0.0.1", 53, "ab.cd")
    assert packets.no_such_name(packet.payload)[3] & 15 == 3
    assert packets.parse(NEIGHBOUR) is None
    assert packets.parse(b"") is None


def test_the_mirror_is_read_from_both_forms_of_apt_sources(tmp_path: Path) -> None:
    new, old = tmp_path / "a.sources", tmp_path / "b.list"
    new.write_text(
        "# x\nTypes: deb\nURIs: http://a.example/debian\nSuites: bookworm\n\nEnabled: no\nTypes: deb\n"
    )
    old.write_text(
        "# deb http://no\ndeb [signed-by=/k.gpg arch=amd64] http://b.example/debian bookworm main\n"
    )
    assert [stanza["uris"] for stanza in _deb822(new)] == ["http://a.example/debian"]
    assert _one_line(old) == [
        {"types": "deb", "uris": "http://b.example/debian", "suites": "bookworm"}
        | {"signed-by": "/k.gpg", "arch": "amd64"}
    ]
