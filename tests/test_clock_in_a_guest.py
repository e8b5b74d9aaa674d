"""A server's clock for real: a guest whose real-time clock starts in 1970 and in 2050, and is set by us.

A container has its host's clock, so this needs QEMU. At boot systemd puts a clock that is before its own
build, or more than 15 years after it, back to its build; so each year is typed once more.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from bundle import pack
from tests.closed_server import closed_server
from tests.onsite import by_pyz, events, first_contact, result

if TYPE_CHECKING:
    from tests.carried import Media
    from tests.closed_server import ClosedServer

pytestmark = [pytest.mark.qemu, pytest.mark.network]

NEAR = timedelta(minutes=10)  # what the commands between two looks may take under emulation
_RTC = "/sys/class/rtc/rtc0/since_epoch"
_EVENTS = """
import json
for line in open("/var/lib/banip/state/journal"):
    print(json.loads(line)["event"])
"""


def now(guest: ClosedServer) -> datetime:
    return datetime.fromtimestamp(int(guest.exec("date", "+%s").stdout), timezone.utc)


def rtc(guest: ClosedServer) -> datetime:
    return datetime.fromtimestamp(int(guest.exec("cat", _RTC).stdout), timezone.utc)


def journal(guest: ClosedServer) -> list[str]:
    return guest.exec("python3", "-I", "-c", _EVENTS).stdout.split()


def test_a_dead_and_a_wrong_clock_are_noticed_set_and_asked_about(media: Media) -> None:
    bundle = f"/media/usb/{media.first.name}"
    release = pack.inspect(media.first).release
    with closed_server("qemu", media=media.folder, clock="1970-01-01T00:05:00") as guest:
        assert rtc(guest).year == 1970
        assert now(guest) < release.built, "even systemd's own build was before the release's"
        guest.exec("date", "--utc", "--set", "1970-01-02")
        first_contact(guest, media.pyz)

        refused = by_pyz(guest, "--json", "install", bundle, check=False)
        assert (refused.returncode, "1970-01-02" in result(refused)["seen"]) == (20, True)
        assert "--set-clock" in result(refused)["remedy"]
        assert guest.exec("ls", "/var/lib/banip").stdout.split() == ["state"]
        assert now(guest).year == 1970, "nothing sets a clock silently"

        done = by_pyz(guest, "--json", "import", "--set-clock", bundle)
        (told,) = events(done, "clock-set")
        assert told["facts"]["hardware"] is True
        assert timedelta() <= now(guest) - release.built < NEAR
        assert timedelta() <= rtc(guest) - release.built < NEAR
        assert journal(guest).count("clock-set") == 1

        guest.shut_down()
        guest.boot(clock="2050-01-01T00:00:00")
        assert rtc(guest).year == 2050
        guest.exec("date", "--utc", "--set", "2050-01-02")
        refused = by_pyz(guest, "--json", "import", "--set-clock", bundle, check=False)
        assert (refused.returncode, result(refused)["error"]) == (10, "Expired")
        assert now(guest).year == 2050, "that a clock runs ahead, nothing signed can tell"
        by_pyz(guest, "--json", "import", "--accept-expired", release.id, bundle)
        assert journal(guest)[-3:] == ["refused", "expired-accepted", "imported"]
