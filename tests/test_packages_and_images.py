"""Packages and an image cross into a closed server by apt and podman, and nothing starts unasked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests import onsite
from tests.carried import Change, Workshop
from tests.closed_server import closed_server
from tests.closed_server.root import debian_source
from tests.onsite import appliance, by_pyz, events, host_state, result
from tests.sources.apt import AptRepository
from tests.sources.registry import BUSYBOX, GUIDE_PORT, Registry, make_image, registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.closed_server import ClosedServer, EgressAttempt, NspawnServer, Snapshot

pytestmark = [pytest.mark.server, pytest.mark.network]

V1, V2, V3 = "minimal-1.0.0-c1", "minimal-1.1.0-c2", "minimal-1.2.0-c3"
PODMAN = ("podman", "--root", "/var/lib/banip/containers", "--runroot", "/run/banip-containers")
MANIFEST = "manifests/minimal.yaml"
#: The one blob with busybox in it that is packed as a layer is.
_FIND_LAYER = "for b in /var/lib/banip/store/blobs/sha256/*; do gzip -dc $b 2>/dev/null | tar -t 2>/dev/null"
_FIND_LAYER += " | grep -q www/index.html && echo $b; done; true"
FAILING = "#!/bin/sh\necho the disk of the moon is full >&2\nexit 7\n"


@dataclass(frozen=True)
class Stick:
    """What is carried: three versions, the last with a package that cannot be set up."""

    folder: Path

    def bundle(self, version: str) -> str:
        return f"/media/usb/minimal-{version}.tar"


@dataclass(frozen=True)
class Observed:
    """An install or upgrade: what it said, the units it started, who tried to leave, the server after it."""

    said: CompletedProcess[str]
    started: set[str]
    attempts: list[EgressAttempt]
    after: Snapshot


def version(number: str, counter: int, image: int, sources: str) -> Change:
    """Return a minimal release that brings podman, nginx, two packages of ours, and the guide as an image."""
    added = (
        f"{sources}\nimages:\n  guide:\n    reference: banip/guide:{image}\n\n"
        "packages: [banip-program, nginx-light, podman]\n\nplaybooks:\n  roles: [api, guide]\n"
    )
    return Change(number, counter, ((MANIFEST, r"(?m)^playbooks:\n  roles: \[api, remedy\]\n", added),))


def sources(archive: AptRepository, images: Registry) -> str:
    mirror, keyring = debian_source()
    signed = f"\n      signed_by: {keyring}" if keyring else ""
    return (
        f"sources:\n  registries: ['{images.url}']\n  apt:\n"
        f"    - uri: {mirror}\n      suites: [bookworm]\n      components: [main]{signed}\n"
        f"    - uri: {archive.url}\n      suites: ['./']\n      trusted: true\n"
    )


def add_program(archive: AptRepository, number: str, script: str = "") -> None:
    """Make a program that depends on a library, both of that version."""
    tree = archive.folder / "trees" / f"banip-program-{number}" / "DEBIAN"
    tree.mkdir(parents=True)
    if script:
        (tree / "postinst").write_text(script)
        (tree / "postinst").chmod(0o755)
    archive.add("banip-library", number)
    archive.add("banip-program", number, Depends=f"banip-library (= {number})")
    archive.publish()


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Stick:
    folder = tmp_path_factory.mktemp("packages-and-images")
    workshop, archive = Workshop(folder / "workshop"), AptRepository(folder / "archive")
    workshop.create_keys()
    with registry(folder / "registry") as images:
        for image in (1, 2):
            page: dict[str, Path | bytes] = {"bin/busybox": BUSYBOX, "www/index.html": b"guide %d" % image}
            command = ["/bin/busybox", "httpd", "-f", "-p", f"127.0.0.1:{GUIDE_PORT}", "-h", "/www"]
            make_image(images, f"banip/guide:{image}", [page], command)
        where = sources(archive, images)
        for number, counter, image, script in (
            ("1.0.0", 1, 1, ""),
            ("1.1.0", 2, 2, ""),
            ("1.2.0", 3, 2, FAILING),
        ):
            add_program(archive, number, script)
            workshop.build(version(number, counter, image, where), folder / "stick")
    return Stick(folder / "stick")


@pytest.fixture(scope="module")
def trusting(stick: Stick) -> Snapshot:
    """Give a server that has met its supplier and has nothing installed."""
    with closed_server(media=stick.folder) as server:
        onsite.first_contact(server, stick.folder / "appliance.pyz")
        by_pyz(server, "adopt")
        return server.snapshot()


@pytest.fixture(scope="module")
def installation(stick: Stick, trusting: Snapshot) -> Observed:
    """Give a server with the first version installed, and what was seen of that."""
    with closed_server(base=trusting, media=stick.folder) as server:
        before = units(server)
        done = by_pyz(server, "--json", "install", stick.bundle("1.0.0"))
        return Observed(done, units(server) - before, server.attempts(), server.snapshot())


@pytest.fixture(scope="module")
def upgrade(stick: Stick, installation: Observed) -> Observed:
    """Give a server on which the second version followed, and what was seen of that."""
    with closed_server(base=installation.after, media=stick.folder) as server:
        before = units(server)
        done = appliance(server, "--json", "upgrade", stick.bundle("1.1.0"))
        return Observed(done, units(server) - before, server.attempts(), server.snapshot())


@pytest.fixture
def fresh(stick: Stick, trusting: Snapshot) -> Iterator[NspawnServer]:
    with closed_server(base=trusting, media=stick.folder) as server:
        yield server


@pytest.fixture
def server(stick: Stick, installation: Observed) -> Iterator[NspawnServer]:
    with closed_server(base=installation.after, media=stick.folder) as server:
        yield server


@pytest.fixture
def upgraded(stick: Stick, upgrade: Observed) -> Iterator[NspawnServer]:
    with closed_server(base=upgrade.after, media=stick.folder) as server:
        yield server


def units(server: ClosedServer) -> set[str]:
    """Return the units that run."""
    return {line.split()[0] for line in host_state(server)["running"].splitlines()}


def guide(server: ClosedServer) -> str:
    """Return the page that the container serves."""
    ask = "import sys,urllib.request as u; print(u.urlopen(sys.argv[1], timeout=5).read().decode())"
    return server.exec("python3", "-I", "-c", ask, f"http://127.0.0.1:{GUIDE_PORT}/").stdout.strip()


def versions(server: ClosedServer) -> dict[str, str]:
    """Return the packages that are installed whole."""
    form = "${db:Status-Status} ${Package} ${Version}\n"
    rows = server.exec("dpkg-query", "-W", f"--showformat={form}").stdout.splitlines()
    return {row.split()[1]: row.split()[2] for row in rows if row.startswith("installed ")}


def image_names(server: ClosedServer) -> set[str]:
    told = json.loads(server.exec(*PODMAN, "images", "--format", "json").stdout)
    return {name for image in told for name in image["Names"] or ["nameless"]}


def test_packages_and_image_are_installed_and_nothing_starts_that_no_role_asked_for(
    installation: Observed, server: NspawnServer
) -> None:
    told = [one["facts"]["name"] for one in events(installation.said, "package")]
    assert {"banip-library", "banip-program", "nginx-light", "podman"} <= set(told)
    assert installation.started == {"banip-api.service", "banip-guide.service"}
    assert installation.attempts == []
    # As it stays when the server starts anew.
    assert guide(server) == "guide 1"
    assert versions(server)["banip-program"] == versions(server)["banip-library"] == "1.0.0"
    for unit in ("nginx.service", "podman.socket", "podman-auto-update.timer"):
        assert server.exec("systemctl", "is-active", unit, check=False).stdout.strip() == "inactive"
        assert server.exec("systemctl", "is-enabled", unit, check=False).stdout.strip() == "disabled"
    assert ":80 " not in server.exec("ss", "-ltn").stdout
    assert image_names(server) == {f"localhost/banip/guide:{V1}"}


def test_a_second_install_changes_nothing_and_asks_neither_apt_nor_podman_to_work(
    server: NspawnServer, stick: Stick
) -> None:
    log = server.exec("cat", "/var/log/dpkg.log").stdout
    again = appliance(server, "--json", "install", stick.bundle("1.0.0"))
    assert result(again)["result"] == {"already": True, "changed": 0, "release": V1}
    assert events(again, "package") == []
    assert server.exec("cat", "/var/log/dpkg.log").stdout == log
    assert guide(server) == "guide 1"


def test_plan_and_status_name_packages_and_images(server: NspawnServer, stick: Stick) -> None:
    planned = result(appliance(server, "--json", "plan", stick.bundle("1.1.0")))["result"]["steps"]
    kinds = [step["step"] for step in planned]
    assert kinds[:2] == ["assemble", "packages"]
    assert kinds.index("image") == kinds.index("switch") - 1
    status = result(appliance(server, "--json", "status"))["result"]
    assert status["images"] == {"guide": "loaded"}
    assert (status["packages"] > 10, status["packages_lacking"]) == (True, [])
    taken = result(appliance(server, "--json", "inventory"))["result"]
    assert taken["images"] == {V1: {"guide": "loaded"}}
    assert taken["packages"]["banip-program"] == "1.0.0"


def test_an_upgrade_brings_the_new_image_and_rollback_the_old_one_and_packages_only_move_forward(
    upgrade: Observed, upgraded: NspawnServer
) -> None:
    told = [one["facts"]["name"] for one in events(upgrade.said, "package")]
    assert sorted(told) == ["banip-library", "banip-program"]
    assert upgrade.attempts == []
    assert guide(upgraded) == "guide 2"
    assert image_names(upgraded) == {f"localhost/banip/guide:{name}" for name in (V1, V2)}
    back = appliance(upgraded, "--json", "rollback")
    assert events(back, "package") == []
    assert guide(upgraded) == "guide 1"
    assert versions(upgraded)["banip-program"] == "1.1.0"


def test_an_image_that_somebody_removed_comes_back_by_rollback(upgraded: NspawnServer) -> None:
    upgraded.exec(*PODMAN, "rmi", f"localhost/banip/guide:{V1}")
    appliance(upgraded, "rollback")
    assert guide(upgraded) == "guide 1"


def test_a_package_that_cannot_be_set_up_ends_with_20_and_the_old_release_answers(
    server: NspawnServer, stick: Stick
) -> None:
    failed = appliance(server, "--json", "upgrade", stick.bundle("1.2.0"), check=False)
    assert failed.returncode == 20
    assert "the disk of the moon is full" in result(failed)["seen"]
    assert guide(server) == "guide 1"
    assert onsite.answer(server)["release"] == V1
    assert result(appliance(server, "--json", "status"))["result"]["release"] == V1
    # Neither the way back nor another release is barred by what dpkg could not finish.
    appliance(server, "rollback")
    assert onsite.answer(server)["release"] == V1


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        pytest.param("/var/log/dpkg.log", 3, marks=pytest.mark.slow),  # the first is being unpacked
        ("/var/log/dpkg.log", 120),  # some are unpacked
        pytest.param("/var/log/dpkg.log", 200, marks=pytest.mark.slow),  # some are set up
        ("/var/lib/banip/containers/.banip-loading", 0),
    ],
)
def test_a_run_that_was_killed_is_finished_by_the_next(
    fresh: NspawnServer, stick: Stick, path: str, lines: int
) -> None:
    install = ("python3", "-I", onsite.PYZ, "install", stick.bundle("1.0.0"))
    assert onsite.kill_at_line(fresh, lines, *install, path=path)
    by_pyz(fresh, "install", stick.bundle("1.0.0"))
    assert guide(fresh) == "guide 1"
    assert image_names(fresh) == {f"localhost/banip/guide:{V1}"}
    assert fresh.exec("dpkg", "--audit").stdout == ""
    assert fresh.exec("ls", "/run/systemd/system", "/run/systemd/system-preset").stdout.count(".") == 0
    assert ":80 " not in fresh.exec("ss", "-ltn").stdout


def test_a_layer_that_changed_on_this_disk_is_named_and_read_anew(fresh: NspawnServer, stick: Stick) -> None:
    by_pyz(fresh, "import", stick.bundle("1.0.0"))
    layer = fresh.exec("sh", "-c", _FIND_LAYER).stdout.strip()
    fresh.exec("sh", "-c", f"printf X | dd of={layer} bs=1 seek=1000 conv=notrunc status=none")
    refused = by_pyz(fresh, "--json", "install", stick.bundle("1.0.0"), check=False)
    assert refused.returncode == 11
    assert layer in result(refused)["remedy"]
    fresh.exec("rm", layer)
    by_pyz(fresh, "install", stick.bundle("1.0.0"))
    assert guide(fresh) == "guide 1"


def test_layers_that_a_power_cut_spoiled_are_loaded_anew(server: NspawnServer, stick: Stick) -> None:
    names = f"localhost/banip/guide:{V1}"
    # As a cut during the load leaves it: layers whose names are on the disk and whose content is not.
    server.exec("systemctl", "stop", "banip-guide.service")
    server.exec("sh", "-c", "truncate -s 0 /var/lib/banip/containers/overlay/*/diff/www/index.html")
    server.exec(*PODMAN, "untag", names, names)
    server.exec("touch", "/var/lib/banip/containers/.banip-loading")
    by_pyz(server, "install", stick.bundle("1.0.0"))
    assert guide(server) == "guide 1"
    assert image_names(server) == {names}


def test_uninstall_removes_images_and_leaves_packages(server: NspawnServer) -> None:
    before = versions(server)
    appliance(server, "uninstall", "--yes")
    for folder in ("containers", "scratch", "releases", "store"):
        assert server.exec("ls", f"/var/lib/banip/{folder}", check=False).returncode != 0
    assert "/var/lib/banip" not in server.exec("cat", "/proc/mounts").stdout
    assert versions(server) == before
    assert server.exec("ss", "-ltn").stdout.count("LISTEN") == 0
