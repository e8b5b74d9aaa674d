"""What holds for every test: no way out of this machine, and in CI no test is skipped.

Marks: ``server`` and ``qemu`` need a closed server of that kind and are skipped by name where there can be
none; ``network`` lets a test, and the fixtures made for it, leave this machine; ``real`` and ``slow`` keep a
test out of `make check` and of `make test` for the time it takes.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from functools import cache
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path
    from typing import Any

    from tests.carried import Media
    from tests.closed_server import Backend, Snapshot

_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)
BACKENDS: dict[str, Backend] = {"server": "nspawn", "qemu": "qemu"}
#: What takes longest, first.
HEAVY = ("server", "qemu", "real")
_RESOLVING = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}
_SENDING = {"socket.connect", "socket.sendto", "socket.sendmsg"}


# No test depends on a clock's speed.
settings.register_profile("banip", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("banip")


class NetworkClosed(Exception):
    """A test tried to leave this machine; no OSError, because code under test may well survive those."""


class Gate:
    """Refuses this process all addresses but loopback, all names but localhost, and remembers attempts.

    An audit hook sees C code and threads too, and nothing can take it away again. Programs that a test starts
    are not held by it; what runs on a closed server is held, and counted, there.
    """

    def __init__(self) -> None:
        self.open = False
        self.attempts: list[str] = []

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _RESOLVING:
            self._pass(arguments[0])
        elif event in _SENDING and arguments[0].family in (socket.AF_INET, socket.AF_INET6):
            address = arguments[1]
            if address is not None:  # None: a datagram on a socket whose connect was seen already
                self._pass(address[0])

    def _pass(self, host: str | bytes | None) -> None:
        if self.open or _is_here(host):
            return
        self.attempts.append(str(host))
        message = f"a test tried to reach {host!r}; mark it `network` if it must"
        raise NetworkClosed(message)


def _is_here(host: str | bytes | None) -> bool:
    name = host.decode("ascii", "replace") if isinstance(host, bytes) else host
    if name in (None, "", "localhost"):
        return True
    try:
        return ipaddress.ip_address(name.partition("%")[0]).is_loopback
    except ValueError:
        return False


_gate = Gate()
sys.addaudithook(_gate.hook)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Open the gate around the whole of a ``network`` test, so that its session fixtures pass too."""
    _gate.open = item.get_closest_marker("network") is not None
    try:
        return (yield)
    finally:
        _gate.open = False


@pytest.fixture(autouse=True)
def network_closed() -> Iterator[None]:
    """Fail a test that tried to leave even where its code swallowed the refusal."""
    _gate.attempts.clear()
    yield
    assert not _gate.attempts, f"tried to reach {sorted(set(_gate.attempts))}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that take longest first: workers take a module at a time, in this order."""
    weights: dict[Path, tuple[int, float]] = {}
    for item in items:
        weights[item.path] = max(weights.get(item.path, (0, 0)), _weight(item))
    items.sort(key=lambda item: weights[item.path], reverse=True)


def _weight(item: pytest.Item) -> tuple[int, float]:
    kind = next((len(HEAVY) - n for n, mark in enumerate(HEAVY) if item.get_closest_marker(mark)), 0)
    limit = item.get_closest_marker("timeout")
    return kind, float(limit.args[0]) if limit else 0.0


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, with the reason, what needs a closed server that cannot be had here."""
    for mark, backend in BACKENDS.items():
        reason = _why_not(backend) if item.get_closest_marker(mark) else None
        if reason is not None:
            pytest.skip(reason)


@cache
def _why_not(backend: Backend) -> str | None:
    from tests.closed_server import why_not  # noqa: PLC0415 - unit tests do without it

    return why_not(backend)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test is a failed one: what was not run there was run nowhere."""
    return _no_skip_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """In CI a module that skips itself as a whole is a failed one too."""
    return _no_skip_in_ci((yield))


def _no_skip_in_ci(report: _Report) -> _Report:
    if report.skipped and os.environ.get("CI") == "true" and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome, report.longrepr = "failed", f"skipped, which CI does not allow: {reason}"
    return report


# --- Servers and what is carried to them: made once a run, because they cost seconds -----------------------


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Media:
    """Give a stick with first contact and three signed versions."""
    from tests.carried import make_media  # noqa: PLC0415 - unit tests do without it

    return make_media(tmp_path_factory.mktemp("carried"))


@pytest.fixture(scope="session")
def contacted(media: Media) -> Snapshot:
    """Give a server on which first contact was copied and the supplier adopted, nothing installed."""
    from tests import onsite  # noqa: PLC0415
    from tests.closed_server import closed_server  # noqa: PLC0415

    with closed_server(media=media.folder) as server:
        onsite.first_contact(server, media.pyz)
        onsite.by_pyz(server, "adopt")
        return server.snapshot()


@pytest.fixture(scope="session")
def installed(media: Media, contacted: Snapshot) -> Snapshot:
    """Give a server with the first version installed."""
    from tests import onsite  # noqa: PLC0415
    from tests.closed_server import closed_server  # noqa: PLC0415

    with closed_server(base=contacted, media=media.folder) as server:
        onsite.by_pyz(server, "install", f"/media/usb/{media.first.name}")
        return server.snapshot()
