"""A small bundle crosses into a closed server, installs, is upgraded, comes back, and leaves."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.closed_server import closed_server
from tests.onsite import (
    PYZ,
    answer,
    appliance,
    by_pyz,
    differences,
    events,
    first_contact,
    host_state,
    result,
    tree,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.carried import Media
    from tests.closed_server import ClosedServer, Snapshot

pytestmark = [pytest.mark.server, pytest.mark.network]

V1, V2, V3 = "minimal-1.0.0-c1", "minimal-1.1.0-c2", "minimal-1.2.0-c3"


@pytest.fixture
def server(media: Media, installed: Snapshot) -> Iterator[ClosedServer]:
    with closed_server(base=installed, media=media.folder) as running:
        yield running


def test_first_contact_is_one_file_whose_digest_the_paper_carries(media: Media) -> None:
    paper = media.workshop.run("packet", media.first).stdout
    with closed_server(media=media.folder) as server:
        first_contact(server, media.pyz)
        shown = server.exec("sha256sum", PYZ).stdout.split()[0]
        assert shown == hashlib.sha256(media.pyz.read_bytes()).hexdigest()
        assert shown in paper
        assert (
            result(by_pyz(server, "--json", "verify", f"/media/usb/{media.first.name}"))["result"]["release"]
            == V1
        )


def test_nothing_is_executed_from_the_medium(media: Media) -> None:
    with closed_server(media=media.folder) as server:
        refused = server.exec("python3", "-I", "/media/usb/appliance.pyz", "--help", check=False)
        assert refused.returncode == 2
        first_contact(server, media.pyz)
        assert by_pyz(server, "--help").returncode == 0


def test_verify_and_refusals_leave_nothing_but_what_is_said(media: Media) -> None:
    with closed_server(media=media.folder) as server:
        first_contact(server, media.pyz)
        before = tree(server)
        by_pyz(server, "verify", f"/media/usb/{media.first.name}")
        by_pyz(server, "status")
        assert differences(before, tree(server)) == set()


def test_the_service_answers_after_install_and_a_second_install_changes_nothing(
    server: ClosedServer, media: Media
) -> None:
    assert answer(server)["release"] == V1
    again = appliance(server, "--json", "install", f"/media/usb/{media.first.name}")
    assert result(again)["result"] == {"already": True, "changed": 0, "release": V1}
    assert "already installed" in result(again)["said"]


def test_install_serving_and_audit_of_units_never_try_to_leave(server: ClosedServer) -> None:
    assert answer(server)["release"] == V1
    assert server.attempts() == []


def test_an_upgrade_reads_only_what_is_new_and_rollback_brings_the_old_one_back(
    server: ClosedServer, media: Media
) -> None:
    before = answer(server)
    upgraded = appliance(server, "--json", "upgrade", f"/media/usb/{media.second.name}")
    (imported,) = events(upgraded, "imported")
    changed_model = 1
    assert imported["facts"]["blobs_new"] <= 6, (
        "wheel, unit template, model file, lock-dependent bill of materials"
    )
    assert imported["facts"]["bytes_stored"] < media.second.stat().st_size / 10
    after = answer(server)
    assert after["release"] == V2
    assert (before["packages"]["itsdangerous"], after["packages"]["itsdangerous"]) == ("2.1.2", "2.2.0")
    assert len(differences(before["model"]["files"], after["model"]["files"])) == changed_model
    assert "RestartSec=3" in server.exec("cat", "/etc/systemd/system/banip-api.service").stdout

    appliance(server, "rollback")
    assert answer(server) == before
    assert "RestartSec=2" in server.exec("cat", "/etc/systemd/system/banip-api.service").stdout


def test_a_release_whose_health_gate_fails_returns_by_itself(server: ClosedServer, media: Media) -> None:
    failed = appliance(server, "--json", "upgrade", f"/media/usb/{media.unhealthy.name}", check=False)
    assert failed.returncode == 30
    assert "503" in result(failed)["seen"]
    assert answer(server)["release"] == V1
    status = result(appliance(server, "--json", "status"))["result"]
    assert (status["release"], status["counter"], status["cut_off"]) == (V1, 1, None)
    # It was never good: the counter did not rise, and the next version still installs.
    appliance(server, "upgrade", f"/media/usb/{media.second.name}")
    assert answer(server)["release"] == V2


def test_a_first_install_that_fails_leaves_no_service_behind(media: Media) -> None:
    with closed_server(media=media.folder) as server:
        first_contact(server, media.pyz)
        before = host_state(server)
        failed = by_pyz(server, "install", f"/media/usb/{media.unhealthy.name}", check=False)
        assert failed.returncode == 30
        assert differences(before, host_state(server)) == set()
        by_pyz(server, "install", f"/media/usb/{media.first.name}")
        assert answer(server)["release"] == V1


def test_an_older_release_does_not_come_back_by_media(server: ClosedServer, media: Media) -> None:
    appliance(server, "upgrade", f"/media/usb/{media.second.name}")
    appliance(server, "rollback")
    appliance(server, "upgrade", f"/media/usb/{media.second.name}")
    refused = appliance(server, "upgrade", f"/media/usb/{media.first.name}", check=False)
    assert refused.returncode == 10


def test_what_a_rollback_brought_back_can_be_repaired_from_its_own_bundle(
    server: ClosedServer, media: Media
) -> None:
    appliance(server, "upgrade", f"/media/usb/{media.second.name}")
    appliance(server, "rollback")
    server.exec("rm", "-rf", f"/var/lib/banip/releases/{V1}/models")
    again = appliance(server, "--json", "install", f"/media/usb/{media.first.name}")
    assert result(again)["result"]["already"] is True
    server.exec("test", "-f", f"/var/lib/banip/releases/{V1}/models/greeting/config.json")
    assert answer(server)["release"] == V1


def test_korean_stays_korean_in_what_the_release_itself_does(server: ClosedServer, media: Media) -> None:
    told = server.exec("appliance", "--lang", "ko", "upgrade", f"/media/usb/{media.second.name}").stderr
    assert "switch to" not in told
    assert V2 in told


def test_the_service_comes_back_after_a_restart_of_the_server(server: ClosedServer) -> None:
    server.power_cut()
    server.boot()
    assert answer(server)["release"] == V1


def test_uninstall_leaves_only_data_state_and_logs(media: Media) -> None:
    with closed_server(media=media.folder) as server:
        first_contact(server, media.pyz)
        before_files, before_host = tree(server), host_state(server)
        by_pyz(server, "install", f"/media/usb/{media.first.name}")
        appliance(server, "upgrade", f"/media/usb/{media.second.name}")
        assert {"users", "units", "running"} <= differences(before_host, host_state(server))
        appliance(server, "uninstall", "--yes")
        assert differences(before_host, host_state(server)) == set()
        kept = ("/var/lib/banip", "/var/log/banip")
        left = {path for path in differences(before_files, tree(server)) if not path.startswith(kept)}
        # The account tools' own locks and backups of the files that they changed and changed back.
        assert left <= {f"/etc/{name}-" for name in ("passwd", "shadow", "group", "gshadow")} | {
            "/etc/.pwd.lock"
        }
        home = {path for path in tree(server) if path.startswith("/var/lib/banip/")}
        assert {path.split("/")[4] for path in home} <= {"data", "state"}


def test_a_server_that_was_uninstalled_can_be_installed_again_but_not_with_less(
    server: ClosedServer, media: Media
) -> None:
    appliance(server, "upgrade", f"/media/usb/{media.second.name}")
    appliance(server, "uninstall", "--yes")
    assert by_pyz(server, "install", f"/media/usb/{media.first.name}", check=False).returncode == 10
    by_pyz(server, "install", f"/media/usb/{media.second.name}")
    assert answer(server)["release"] == V2


def test_status_and_inventory_name_what_is_there(server: ClosedServer) -> None:
    status = result(appliance(server, "--json", "status"))["result"]
    assert (status["release"], status["units"]) == (V1, {"banip-api.service": "active"})
    inventory = result(appliance(server, "--json", "inventory"))["result"]
    assert inventory["installed"] == V1
    assert inventory["owned"][V1]["units"] == ["banip-api.service"]
    assert len(inventory["environments"]) == 2
