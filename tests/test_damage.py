"""Damage on the server's own disk is found before it runs, healed where it can be, and never a trap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bundle import pack
from tests.closed_server import closed_server
from tests.onsite import PYZ, answer, appliance, by_pyz, host_state, journal_lines, kill_at_line
from tests.test_journey import V1, V2

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.carried import Media
    from tests.closed_server import ClosedServer, Snapshot

pytestmark = [pytest.mark.server, pytest.mark.network]

BLOBS = "/var/lib/banip/store/blobs/sha256"


@pytest.fixture
def server(media: Media, installed: Snapshot) -> Iterator[ClosedServer]:
    with closed_server(base=installed, media=media.folder) as running:
        yield running


def test_a_changed_role_never_runs_and_is_read_from_the_medium_anew(
    server: ClosedServer, media: Media
) -> None:
    release = pack.inspect(media.second).release
    (tasks,) = (file for file in release.files if file.path == "playbooks/roles/api/tasks/main.yml")
    server.exec("sed", "-i", "s/Create/Xreate/", f"{BLOBS}/{tasks.sha256}")
    refused = appliance(server, "upgrade", f"/media/usb/{media.second.name}", check=False)
    assert refused.returncode == 11, refused.stderr
    assert answer(server)["release"] == V1
    told = appliance(server, "upgrade", f"/media/usb/{media.second.name}").stderr
    assert "Xreate" not in told
    assert answer(server)["release"] == V2


def test_a_blob_that_only_the_old_release_had_is_given_back_by_its_folder(
    server: ClosedServer, media: Media
) -> None:
    old, new = (pack.inspect(path).release for path in (media.first, media.second))
    (only,) = {file.sha256 for file in old.files if file.path.startswith("models/")} - {
        blob.sha256 for blob in new.blobs
    }
    appliance(server, "upgrade", f"/media/usb/{media.second.name}")
    server.exec("rm", f"{BLOBS}/{only}")
    appliance(server, "rollback")
    assert answer(server)["release"] == V1


def test_a_server_with_damaged_metadata_can_still_be_uninstalled(server: ClosedServer) -> None:
    server.exec("rm", f"/var/lib/banip/releases/{V1}/metadata/targets.json")
    appliance(server, "uninstall", "--yes")
    after = host_state(server)
    assert "banip" not in after["units"] + after["users"]


def test_an_install_after_a_cut_off_uninstall_keeps_what_it_reads(server: ClosedServer, media: Media) -> None:
    assert kill_at_line(server, journal_lines(server) + 3, "appliance", "uninstall", "--yes")
    server.exec("test", "-f", PYZ)
    by_pyz(server, "install", f"/media/usb/{media.first.name}")
    assert answer(server)["release"] == V1


def test_the_hosts_own_ansible_configuration_does_not_steer_the_release(
    server: ClosedServer, media: Media
) -> None:
    server.exec("mkdir", "-p", "/etc/ansible")
    server.exec(
        "sh",
        "-c",
        "printf '[defaults]\\nlog_path=/var/seen.log\\nstrategy=nope\\n' > /etc/ansible/ansible.cfg",
    )
    appliance(server, "upgrade", f"/media/usb/{media.second.name}")
    assert server.exec("test", "-e", "/var/seen.log", check=False).returncode == 1
