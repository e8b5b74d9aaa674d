"""The roles that need nothing but a minimal Debian, run for real: host policy, firewall, API.

The roles that need packages of the bundle (gateway, guide) and heavy environments run in the demo's stack.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.closed_server import closed_server
from tests.onsite import differences, host_state, tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.carried import Media
    from tests.closed_server import ClosedServer, Snapshot

pytestmark = [pytest.mark.server, pytest.mark.network]

PLAYBOOKS = Path(__file__).parent.parent / "playbooks"
ROLES = ("host", "firewall")
#: What the test itself makes, and what every boot names anew.
OURS = ("/root", "/var/tmp")  # noqa: S108 - looked at, not used
#: Runs the roles as a release's own appliance does, without a release around them.
_CONVERGE = """
import json, sys
from pathlib import Path
from appliance.playbook import converge
here = Path("/root/trial")
recap = converge(
    here, json.loads(sys.argv[1]), scratch=here / "scratch", log=here / "log", progress=lambda task: None
)
print(json.dumps([recap.changed, recap.failures]))
"""
_RETIRE = """
import json, sys
import msgspec
from appliance.format import Owned
from appliance.host import retire
retire(msgspec.convert(json.loads(sys.argv[1]), type=Owned))
"""
_CONNECT = """
import os, socket
os.setuid(4321)
try:
    socket.create_connection(("198.51.100.7", 853), timeout=1)
except OSError as error:
    print(type(error).__name__)
"""


class Trial:
    """A closed server, and the roles of this checkout on it."""

    def __init__(self, server: ClosedServer) -> None:
        self.server = server
        command = server.exec("cat", "/var/lib/banip/current/bin/appliance").stdout
        self.python = command.partition("[ -x ")[2].partition(" ]")[0]
        server.exec("mkdir", "/root/trial")
        server.copy_in(PLAYBOOKS, "/root/trial/playbooks")

    def converge(self, *roles: str, grade: str = "S", **site: Any) -> tuple[int, list[str]]:  # noqa: ANN401
        """Run the roles; returns how many tasks changed something, and what failed."""
        given = {**site, "banip_roles": list(roles), "banip_grade": grade, "banip_root": "/var/lib/banip"}
        done = self.server.exec(self.python, "-I", "-c", _CONVERGE, json.dumps(given))
        changed, failures = json.loads(done.stdout)
        return changed, failures

    def retire(self, *roles: str) -> None:
        """Take away what the roles own, as return and uninstall do."""
        import yaml  # noqa: PLC0415 - not in the unit tests' way

        owns: dict[str, list[str]] = {}
        for role in roles:
            found = yaml.safe_load((PLAYBOOKS / "roles" / role / "meta" / "banip.yaml").read_text("utf-8"))
            for noun, names in found["owns"].items():
                owns.setdefault(noun, []).extend(names)
        self.server.exec(self.python, "-I", "-c", _RETIRE, json.dumps(owns))

    def read(self, path: str) -> str:
        """Return a file of the server."""
        return self.server.exec("cat", path).stdout

    def attempts(self) -> list[list[Any]]:
        """Return what the firewall remembers: account, address, protocol, port."""
        told = self.server.exec("nft", "--json", "list", "set", "inet", "banip", "attempts4").stdout
        found = next(one["set"] for one in json.loads(told)["nftables"] if "set" in one)
        # A minimal Debian has no /etc/protocols, so nft gives numbers: 6 is TCP.
        return [element["elem"]["val"]["concat"] for element in found.get("elem", [])]

    def refused(self) -> int:
        """Return how many packets were not let out."""
        told = self.server.exec("nft", "--json", "list", "counter", "inet", "banip", "refused_out").stdout
        found = next(one["counter"] for one in json.loads(told)["nftables"] if "counter" in one)
        return int(found["packets"])


@pytest.fixture
def trial(media: Media, installed: Snapshot) -> Iterator[Trial]:
    with closed_server(base=installed, media=media.folder) as server:
        yield Trial(server)


def test_a_host_is_held_to_its_grade_and_given_back_as_it_was(trial: Trial) -> None:
    before_files, before_host = tree(trial.server, *OURS), host_state(trial.server)
    changed, failures = trial.converge(*ROLES)
    assert failures == []
    assert changed > len(ROLES)
    assert "\nPASS_MIN_LEN\t10\n" in trial.read("/etc/login.defs")
    assert "pam_faillock.so preauth deny=5 " in trial.read("/etc/pam.d/common-auth")
    assert trial.server.exec("bash", "-lc", "echo $TMOUT $(umask)").stdout == "300 0027\n"
    assert trial.server.exec("sh", "-c", "ls /var/log/journal/*/system.journal").stdout  # not only in memory

    assert trial.converge("host", grade="C")[1] == []
    assert "\nPASS_MIN_LEN\t12\n" in trial.read("/etc/login.defs")
    assert "pam_faillock.so preauth deny=3 " in trial.read("/etc/pam.d/common-auth")
    assert "MaxRetentionSec=730day\n" in trial.read("/etc/systemd/journald.conf.d/banip.conf")

    # What stops to start again keeps its policy; only what is taken away gives it back.
    trial.server.power_cut()
    trial.server.boot()
    trial.server.exec("systemctl", "restart", "banip-host.service", "banip-firewall.service")
    assert "policy drop" in trial.server.exec("nft", "list", "chain", "inet", "banip", "output").stdout
    assert trial.converge("host", grade="C") == (0, [])
    trial.retire(*ROLES)
    assert differences(before_host, host_state(trial.server)) == set()
    left = {
        path
        for path in differences(before_files, tree(trial.server, *OURS))
        if not path.startswith(("/var/lib/banip", "/var/log/", "/var/cache/debconf"))
    }
    assert left <= {"/etc/banip"}


def test_nothing_leaves_nothing_comes_in_and_every_attempt_is_remembered(trial: Trial) -> None:
    assert trial.converge("firewall")[1] == []
    assert trial.attempts() == []
    assert trial.server.exec("python3", "-I", "-c", _CONNECT).stdout.strip()
    assert trial.attempts() == [[4321, "198.51.100.7", 6, 853]]
    assert trial.refused() > 0
    # Loopback is not the network.
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8600/health').status)"
    assert trial.server.exec("python3", "-I", "-c", ask).stdout == "200\n"

    allowed = [{"address": "198.51.100.7", "protocol": "tcp", "port": 853}]
    assert trial.converge("firewall", firewall_destinations=allowed)[1] == []
    trial.server.exec("systemctl", "restart", "banip-firewall.service")
    before = trial.refused()
    trial.server.exec("python3", "-I", "-c", _CONNECT)
    assert trial.refused() == before
    assert trial.attempts() == [[4321, "198.51.100.7", 6, 853]]  # what was seen before is not forgotten

    # Debian's own rules begin with a flush of all tables, ours too: they come back by themselves, soon after.
    for verb in ("restart", "reload"):
        trial.server.exec("systemctl", verb, "nftables.service")
        until_there = "until nft list chain inet banip output 2>/dev/null; do sleep 0.2; done"
        assert "policy drop" in trial.server.exec("sh", "-c", until_there, timeout_s=120).stdout


def test_data_that_outlived_an_uninstall_belongs_to_the_account_of_the_next_install(trial: Trial) -> None:
    folder = "/var/lib/banip/data/api"
    unit = trial.read("/etc/systemd/system/banip-api.service").splitlines()
    words = next(line for line in unit if line.startswith("ExecStart=")).partition("=")[2].split()
    given: dict[str, Any] = {
        "banip_release": Path(words[words.index("--release") + 1]).name,
        "banip_release_folder": words[words.index("--release") + 1],
        "banip_data_folder": "/var/lib/banip/data",
        "banip_environments": {"api": words[0].removesuffix("/bin/python")},
        "api_model": words[words.index("--model") + 1],
    }
    trial.server.exec("mkdir", f"{folder}/collection")
    trial.server.exec("touch", f"{folder}/collection/lock", f"{folder}/users.json")
    trial.server.exec("chown", "--recursive", "4321:4321", folder)
    changed, failures = trial.converge("api", **given)
    assert (changed > 0, failures) == (True, [])
    owners = trial.server.exec("find", folder, "-printf", "%u:%g\\n").stdout.split()
    assert owners == ["banip-api:banip-api"] * 4
    assert trial.converge("api", **given) == (0, [])
