"""The server's clock: read, held against what was signed, and set only when a person says so.

A closed server has no time service that it could believe, and the battery of its real-time clock dies.
"""

from __future__ import annotations

import fcntl
import os
import struct
import time
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from appliance.errors import UnfitServer
from appliance.text import text

#: ZIP holds no earlier time: wheels cannot be packed, and Ansible's modules are ZIP files.
EARLIEST = datetime(1980, 1, 1, tzinfo=timezone.utc)
_HARDWARE = Path("/dev/rtc0")
_ADJTIME = Path("/etc/adjtime")
_RTC_SET_TIME = 0x4024700A  # linux/rtc.h: _IOW('p', 0x0a, struct rtc_time), nine ints


class Clock(Protocol):
    """What tells the time here, and can be set."""

    def now(self) -> datetime:
        """Return the time, aware."""

    def set(self, to: datetime) -> bool:
        """Set the clock; tell whether the hardware clock took it too. Raises ``UnfitServer``."""


class SystemClock:
    """The kernel's clock, and the hardware clock that it starts from."""

    def now(self) -> datetime:
        """Return the kernel's time."""
        return utc_now()

    def set(self, to: datetime) -> bool:
        """Set the kernel's clock, then the hardware clock. Raises ``UnfitServer`` where we may not."""
        try:
            time.clock_settime(time.CLOCK_REALTIME, to.timestamp())
        except PermissionError as error:
            raise UnfitServer(
                text("this process may not set the clock"),
                seen=error.strerror,
                remedy=text("run the same command as root (sudo); in a container, set the clock of its host"),
            ) from error
        return _set_hardware(to)


def _set_hardware(to: datetime) -> bool:
    """Write the hardware clock in UTC; one that keeps local time, or is not there, stays as it is."""
    with suppress(OSError):
        if "LOCAL" in _ADJTIME.read_text("ascii", "replace").splitlines():
            return False
    utc = to.astimezone(timezone.utc)
    fields = (utc.second, utc.minute, utc.hour, utc.day, utc.month - 1, utc.year - 1900, 0, 0, 0)
    try:
        descriptor = os.open(_HARDWARE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(descriptor, _RTC_SET_TIME, struct.pack("9i", *fields))
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


SYSTEM_CLOCK = SystemClock()


def utc_now() -> datetime:
    """Read the kernel's clock; what decides is handed it."""
    return datetime.now(timezone.utc)


def reference_time(rtc: datetime, newest_built: datetime | None) -> datetime:
    """Return the time that freshness is judged by: a clock may be dead, but not before what it accepted."""
    return rtc if newest_built is None else max(rtc, newest_built)
