"""The power goes away in the middle of an upgrade: what was not made sure of is lost, and nothing is half.

In a QEMU guest whose disk keeps only what the guest flushed. The cut disk is then looked at by a container,
which is faster than another boot under emulation and sees the same bytes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from tests.closed_server import closed_server
from tests.onsite import answer, appliance, journal_lines, result
from tests.test_journey import V1, V2

if TYPE_CHECKING:
    import subprocess

    from tests.carried import Media
    from tests.closed_server import ClosedServer, Snapshot

pytestmark = [pytest.mark.qemu, pytest.mark.network]

#: imported, planned, release folder, first environment, switched: each a moment of another kind of write.
LINES = (1, *(pytest.param(line, marks=pytest.mark.slow) for line in (3, 5)), 4, 7)
_POLL_S = 0.05
_HANG_UP_S = 60

_LYING_BLOBS = """
import hashlib, pathlib
for path in pathlib.Path("/var/lib/banip/store/blobs/sha256").iterdir():
    if hashlib.sha256(path.read_bytes()).hexdigest() != path.name:
        print(path)
"""


@pytest.mark.parametrize("line", LINES)
def test_after_a_power_cut_the_old_release_or_the_new_one_answers_and_the_upgrade_ends_well(
    line: int, media: Media, installed: Snapshot
) -> None:
    bundle = f"/media/usb/{media.second.name}"
    with closed_server("qemu", base=installed, media=media.folder) as guest:
        start = journal_lines(guest)
        upgrade = guest.start("appliance", "upgrade", bundle)
        _wait_for_line(guest, start + line, upgrade)
        guest.power_cut()
        upgrade.communicate(timeout=_HANG_UP_S)  # its line is dead; this closes our end
        with guest.as_nspawn() as server:
            server.insert_medium(media.folder)
            # A line that was seen may have been read before its own fsync was through; the one before not.
            assert journal_lines(server) >= start + line - 1
            assert server.exec("python3", "-I", "-c", _LYING_BLOBS).stdout == ""
            assert answer(server)["release"] in {V1, V2}
            assert result(appliance(server, "--json", "status"))["result"]["release"] in {V1, V2}
            appliance(server, "upgrade", bundle)
            assert answer(server)["release"] == V2
            assert server.exec("python3", "-I", "-c", _LYING_BLOBS).stdout == ""


def _wait_for_line(guest: ClosedServer, line: int, upgrade: subprocess.Popen[str]) -> None:
    """Wait as long as the upgrade runs, however slow the emulator is: the test's own time limit ends it."""
    while journal_lines(guest) < line:
        if upgrade.poll() is not None:
            said = "\n".join(upgrade.communicate(timeout=_HANG_UP_S))
            pytest.fail(f"the upgrade ended ({upgrade.returncode}) before the journal's line {line}\n{said}")
        time.sleep(_POLL_S)
    assert upgrade.poll() is None
