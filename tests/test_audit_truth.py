"""Every misconfiguration of the table is found on a real server, and turns no other verdict.

Ten by a seed, which is in the test's id, are planted in `make test`; all of them in `make test-slow`, and by
`make audit-truth`, which writes down what it sees.
"""

from __future__ import annotations

import os
import random
from datetime import date
from typing import TYPE_CHECKING

import pytest

from appliance.audit.catalogue import checks
from tests import hardened
from tests.audit.plants import ONE_WAY, PLANTS, Place, Plant
from tests.truth import BEGIN, DOCUMENT, END, Row, Start, Truth, page, rows_of, seen_one_way, starts_of, world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.closed_server import Snapshot

SEED = int(os.environ.get("BANIP_SEED", "20260930"))
SAMPLE = 10
#: What a container lacks (a kernel of its own, a time server), and what a site has to bring.
KNOWN_FAILS = {
    "backup.age",
    "clock.synchronised",
    "host.kernel-protection",
    "host.malware-scanner",
    "host.time-source",
    "network.kernel-settings",
    *(name for name in checks().checks if name.startswith("log.audit-")),
} - {"log.audit-immutable", "log.audit-kept", "log.audit-private"}
#: A guest has a kernel of its own, but no encrypted disk and no Secure Boot; and it has the test bed's two
#: units, which nobody signed.
FAILS_OF_A_GUEST = {
    *("host.foreign-programs", "service.hardening", "service.network-limits", "service.own-accounts"),
    "service.undeclared-units",
    "backup.age",
    "clock.synchronised",
    "host.disk-encryption",
    "host.malware-scanner",
    "host.secure-boot",
    "host.time-source",
}


def of(place: Place) -> list[Plant]:
    return [one for one in PLANTS if one.place == place]


def sample() -> list[Plant]:
    return random.Random(SEED).sample(of("server"), SAMPLE)  # noqa: S311 - a choice, no secret


@pytest.fixture(scope="session")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hardened.carry(tmp_path_factory.mktemp("hardened"))


@pytest.fixture(scope="session")
def settled(stick: Path) -> Snapshot:
    return hardened.hardened(stick)


@pytest.fixture(scope="module")
def truth(stick: Path, settled: Snapshot) -> Iterator[Truth]:
    with world("server", stick, settled) as server:
        yield Truth(server)


# --- The table ---------------------------------------------------------------------------------------------


def test_the_table_names_checks_that_exist_each_fault_once_and_sixty_at_least() -> None:
    names = [one.id for one in PLANTS]
    assert len(names) == len(set(names)) >= 60
    assert {name for one in PLANTS for name in one.turned} <= checks().checks.keys()


def test_every_check_was_seen_to_pass_and_to_fail_or_it_is_said_why_not() -> None:
    """What is left out says why: ask of a machine what it has, of a release what is signed."""
    document = DOCUMENT.read_text("utf-8")
    rows = rows_of(document)
    waiting = {name for one in PLANTS if "not planted yet" in rows[one.id] for name in one.judged}
    assert seen_one_way(document) - waiting == ONE_WAY.keys()


def test_the_document_shows_every_fault_as_it_was_seen() -> None:
    document = DOCUMENT.read_text("utf-8")
    rows = rows_of(document)
    assert rows.keys() == {one.id for one in PLANTS}
    for one in PLANTS:
        if "not planted yet" not in rows[one.id]:
            assert "**" not in rows[one.id], "a fault turned other verdicts: run make audit-truth"
            assert all(f"`{name}` " in rows[one.id] for name in one.turned)
            assert all(f"→ {verdict}" in rows[one.id] for verdict in one.turned.values())
    assert all(f"| `{name}` | {why} |" in document for name, why in ONE_WAY.items())


def test_a_row_tells_what_was_missed_and_what_else_turned() -> None:
    one = Plant("x", "", "", frozenset({"a", "b"}))
    day = date(2026, 11, 21)
    right = Row(one, {"a": ("pass", "fail"), "b": ("pass", "fail")}, day)
    assert right.right
    assert right.line() == "| `x` | server | S | `a` pass → fail, `b` pass → fail | nothing | 2026-11-21 |"
    wrong = Row(one, {"a": ("pass", "fail"), "c": ("pass", "unknown")}, day)
    assert not wrong.right
    assert "**not `b` fail** | **`c` pass → unknown**" in wrong.line()


def test_rows_that_were_not_seen_anew_stay_in_the_page() -> None:
    first = Row(PLANTS[0], {name: ("pass", verdict) for name, verdict in PLANTS[0].turned.items()}, date.min)
    second = Row(PLANTS[1], {name: ("pass", verdict) for name, verdict in PLANTS[1].turned.items()}, date.max)
    shown = page(page(f"before\n{BEGIN}\n{END}\nafter\n", [first]), [second])
    assert first.line() in shown
    assert second.line() in shown
    assert f"`{PLANTS[2].id}`" in shown
    assert shown.startswith("before\n")
    assert shown.endswith("\nafter\n")
    with pytest.raises(ValueError, match="begin"):
        page("no marks", [first])


def test_a_check_counts_as_seen_both_ways_only_where_it_was() -> None:
    statuses = {
        **dict.fromkeys(checks().checks, "pass"),
        "release.grade": "not-applicable",
        "host.umask": "fail",
    }
    row = Row(PLANTS[2], {name: ("pass", verdict) for name, verdict in PLANTS[2].turned.items()}, date.min)
    shown = page(f"{BEGIN}\n{END}", [Start("server", "S", statuses, date.min), row])
    assert starts_of(shown).keys() == {"server S"}
    one_way = seen_one_way(shown)
    assert {"release.grade", "host.patch-level"} <= one_way  # nothing, and only a pass
    assert "host.hosts-permissions" not in one_way  # a fault makes it fail
    assert "host.shadow-permissions" in one_way  # that fault was not planted
    assert "host.umask" in one_way  # fails by itself, and nothing makes it pass
    again = page(shown, [Start("server", "C", dict.fromkeys(checks().checks, "pass"), date.min)])
    assert "host.umask" not in seen_one_way(again)


# --- Servers -----------------------------------------------------------------------------------------------


@pytest.mark.server
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_a_server_of_grade_s_leaves_nothing_unknown(truth: Truth) -> None:
    assert truth.found("unknown", contents=True) == {}
    assert truth.found("fail", contents=True).keys() == KNOWN_FAILS


@pytest.mark.server
@pytest.mark.network
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", [SEED])
def test_ten_faults_are_found_and_turn_nothing_else(truth: Truth, seed: int) -> None:
    assert seed == SEED
    assert truth.wrong(sample()) == {}
    assert truth.left() == {}


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.network
@pytest.mark.timeout(3600)
def test_every_fault_is_found_and_turns_nothing_else(truth: Truth) -> None:
    assert truth.wrong(of("server")) == {}
    assert truth.left() == {}


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.network
@pytest.mark.timeout(1800)
def test_servers_that_must_not_run_are_judged_by_their_settings(stick: Path, settled: Snapshot) -> None:
    with world("servers", stick, settled) as server:
        assert Truth(server).wrong(of("servers")) == {}


@pytest.mark.slow
@pytest.mark.qemu
@pytest.mark.server
@pytest.mark.network
@pytest.mark.timeout(3600)
def test_kernel_audit_clock_and_usb_are_seen_in_a_guest(stick: Path, settled: Snapshot) -> None:
    with world("guest", stick, settled) as guest:
        truth = Truth(guest)
        # An emulated processor reads all packages and the journal for minutes.
        assert truth.found("unknown").keys() == {"host.package-files", "log.journal-whole"}
        assert truth.found("fail").keys() == FAILS_OF_A_GUEST
        assert truth.wrong(of("guest")) == {}
