"""Install and upgrade are killed at every journal step, one by one, and run again: old or new, never half."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.closed_server import closed_server
from tests.onsite import (
    PYZ,
    answer,
    appliance,
    by_pyz,
    interrupt_at_line,
    journal_lines,
    kill_at_line,
    result,
)
from tests.test_journey import V1, V2

if TYPE_CHECKING:
    from tests.carried import Media
    from tests.closed_server import Snapshot

pytestmark = [pytest.mark.server, pytest.mark.network]

#: Lines that an operation writes before its last one: imported, started, planned, and its seven steps.
STEPS = range(1, 11)
#: The lines of an upgrade that fails its health gate, from the failure on, and of the return from it.
RETURN_STEPS = range(10, 20)


def sample(steps: range, *chosen: int) -> pytest.MarkDecorator:
    """Run all steps, but only the chosen ones where what is slow is left out."""
    params = [pytest.param(step, marks=() if step in chosen else pytest.mark.slow) for step in steps]
    return pytest.mark.parametrize("step", params)


@sample(STEPS, 3, 6, 9)
def test_an_install_killed_at_a_step_is_finished_by_running_it_again(
    step: int, media: Media, contacted: Snapshot
) -> None:
    with closed_server(base=contacted, media=media.folder) as server:
        bundle = f"/media/usb/{media.first.name}"
        start = journal_lines(server)
        assert kill_at_line(server, start + step, "python3", "-I", PYZ, "install", bundle)
        status = by_pyz(server, "--json", "status", check=False)
        assert result(status)["result"]["release"] in {None, V1}
        by_pyz(server, "install", bundle)
        assert answer(server)["release"] == V1
        assert result(appliance(server, "--json", "status"))["result"]["cut_off"] is None


@sample(STEPS, 4, 8, 10)
def test_an_upgrade_killed_at_a_step_leaves_old_or_new_and_is_finished_by_running_it_again(
    step: int, media: Media, installed: Snapshot
) -> None:
    with closed_server(base=installed, media=media.folder) as server:
        bundle = f"/media/usb/{media.second.name}"
        start = journal_lines(server)
        assert kill_at_line(server, start + step, "appliance", "upgrade", bundle)
        assert answer(server)["release"] in {V1, V2}
        assert result(appliance(server, "--json", "status"))["result"]["release"] in {V1, V2}
        appliance(server, "upgrade", bundle)
        assert answer(server)["release"] == V2
        appliance(server, "rollback")
        assert answer(server)["release"] == V1


@sample(range(4, 11, 2), 8)
def test_control_c_in_an_upgrade_is_130_and_the_same_command_goes_on(
    step: int, media: Media, installed: Snapshot
) -> None:
    with closed_server(base=installed, media=media.folder) as server:
        bundle = f"/media/usb/{media.second.name}"
        assert interrupt_at_line(server, journal_lines(server) + step, "appliance", "upgrade", bundle) == 130
        assert answer(server)["release"] in {V1, V2}
        assert appliance(server, "upgrade", bundle).returncode == 0
        assert answer(server)["release"] == V2


@sample(range(4, 11, 2), 8)
def test_after_a_killed_upgrade_rollback_brings_the_old_release(
    step: int, media: Media, installed: Snapshot
) -> None:
    with closed_server(base=installed, media=media.folder) as server:
        start = journal_lines(server)
        assert kill_at_line(server, start + step, "appliance", "upgrade", f"/media/usb/{media.second.name}")
        appliance(server, "rollback")
        assert answer(server)["release"] == V1


@sample(RETURN_STEPS, 12, 17)
def test_a_return_killed_at_a_step_is_completed_by_the_next_run(
    step: int, media: Media, installed: Snapshot
) -> None:
    with closed_server(base=installed, media=media.folder) as server:
        start = journal_lines(server)
        killed = kill_at_line(
            server, start + step, "appliance", "upgrade", f"/media/usb/{media.unhealthy.name}"
        )
        again = appliance(server, "upgrade", f"/media/usb/{media.second.name}", check=False)
        assert again.returncode == 0, (killed, again.stderr)
        assert answer(server)["release"] == V2


def test_two_runs_at_once_are_one_run_and_a_clear_refusal(media: Media, installed: Snapshot) -> None:
    with closed_server(base=installed, media=media.folder) as server:
        start = journal_lines(server)
        first = server.start("appliance", "upgrade", f"/media/usb/{media.second.name}")
        while journal_lines(server) == start and first.poll() is None:
            pass
        second = appliance(server, "rollback", check=False)
        assert second.returncode == 4
        assert "upgrade" in second.stderr
        first.communicate(timeout=120)
        assert first.returncode == 0
