"""Real apt and real dpkg install tiny packages into a root of their own; nothing of this machine changes."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from appliance.errors import Tampered, UnfitServer
from appliance.format import Blob, Package, sha256_hex
from appliance.packages import Packages, units_of
from appliance.store import Store
from tests.sources.apt import AptRepository
from tests.world import World

if TYPE_CHECKING:
    from appliance.format import Release

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not Path("/usr/bin/apt-get").exists(), reason="apt is not here to work with"),
]

UNIT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"

#: Says what the unit's state is while the package is set up, as a package's script would find it.
LOOKS = "#!/bin/sh\nreadlink $DPKG_ROOT/run/systemd/system/web.service > $DPKG_ROOT/seen\n"
LOOKS += "cat $DPKG_ROOT/run/systemd/system-preset/*banip* >> $DPKG_ROOT/seen\n"
FAILS = "#!/bin/sh\necho the disk of the moon is full >&2\nexit 7\n"


@dataclass
class Machine:
    """A root without anything but dpkg's own state, and releases whose packages go into it."""

    folder: Path
    told: list[tuple[str, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("var/lib/dpkg/info", "var/lib/dpkg/updates", "var/log/apt", "etc/apt/apt.conf.d"):
            (self.root / name).mkdir(parents=True)
        (self.root / "var/lib/dpkg/status").touch()
        self.archive = AptRepository(self.folder / "archive")
        self.store = Store(self.folder / "store")

    @property
    def root(self) -> Path:
        return self.folder / "machine"

    @property
    def packages(self) -> Packages:
        return Packages(self.folder / "scratch", self.folder / "log/operations.log", self.root)

    def add(
        self,
        name: str,
        version: str = "1.0",
        *,
        script: str = "",
        unit: str = "",
        **fields: Any,  # noqa: ANN401
    ) -> Package:
        """Make a package, in the place of an older one of that name."""
        tree = self.folder / "archive/trees" / f"{name}-{version}"
        if script:
            (tree / "DEBIAN").mkdir(parents=True)
            (tree / "DEBIAN/postinst").write_text(script)
            (tree / "DEBIAN/postinst").chmod(0o755)
        if unit:
            (tree / "lib/systemd/system").mkdir(parents=True)
            (tree / "lib/systemd/system" / unit).write_text(UNIT)
        path = self.archive.add(name, version, **fields)
        return Package(name=name, version=version, architecture="all", sha256=sha256_hex(path.read_bytes()))

    def release(self, *packages: Package) -> Release:
        """Make a release of these packages, its folder and its blobs."""
        self.archive.stanzas = {one.name: self.archive.stanzas[one.name] for one in packages}
        self.archive.publish()
        repository = self.folder / "archive/repository"
        files = {one.path: (repository / Path(one.path).name).read_bytes() for one in packages}
        files["packages/Packages"] = (repository / "Packages").read_bytes()
        world = World(fields={"packages": packages})
        world.files |= files
        for path, content in files.items():
            blob = Blob(sha256=sha256_hex(content), size_bytes=len(content))
            if not self.store.has(blob):
                self.store.add(blob, [content])
            target = self.folder / "release" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            target.hardlink_to(self.store.path(blob.sha256))
        return world.release

    def install(self, *packages: Package) -> list[str]:
        """Install a release's packages; return the names of those that were lacking."""
        return self.bring(self.release(*packages))

    def bring(self, release: Release) -> list[str]:
        """Install the packages of a release that was made before."""
        done = self.packages.install(
            release, self.folder / "release", self.store, lambda *step: self.told.append(step)
        )
        return [one.name for one in done]

    def status(self, name: str) -> str:
        argv = ["dpkg-query", f"--root={self.root}", "--show", "--showformat=${db:Status-Status}", name]
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_packages_are_installed_with_what_they_depend_on_and_told_one_by_one(machine: Machine) -> None:
    library, program = machine.add("library"), machine.add("program", Depends="library")
    assert machine.install(program, library) == ["program", "library"]
    assert machine.packages.installed() == {"library": "1.0", "program": "1.0"}
    assert machine.told == [("library", 1, 2), ("program", 2, 2)]
    assert (machine.root / "usr/share/doc/program/content").read_text() == "program"
    assert "Setting up program (1.0)" in (machine.folder / "log/operations.log").read_text()
    assert not (machine.folder / "scratch").exists()


def test_a_second_time_nothing_is_asked_of_apt(machine: Machine) -> None:
    program = machine.add("program")
    machine.install(program)
    log = (machine.folder / "log/operations.log").read_text()
    assert machine.install(program) == []
    assert (machine.folder / "log/operations.log").read_text() == log


def test_an_older_package_moves_forward_and_a_newer_one_stays(machine: Machine) -> None:
    machine.install(machine.add("old", "1.0"), machine.add("new", "2.0"))
    old, new = machine.add("old", "1.1"), machine.add("new", "1.9")
    assert machine.install(old, new) == ["old"]
    assert machine.packages.installed() == {"old": "1.1", "new": "2.0"}


def test_a_package_of_a_foreign_architecture_is_not_the_one_that_is_wanted(machine: Machine) -> None:
    (machine.root / "var/lib/dpkg/arch").write_text("amd64\narm64\ns390x\n")
    stanza = "Package: library\nStatus: install ok installed\nMaintainer: x\nDescription: x\nVersion: 9\n"
    (machine.root / "var/lib/dpkg/status").write_text(f"{stanza}Architecture: s390x\nMulti-Arch: same\n")
    assert machine.packages.installed() == {}


def test_what_would_need_a_downgrade_or_a_removal_is_refused_and_nothing_happens(machine: Machine) -> None:
    machine.install(machine.add("base", "2.0"), machine.add("kept"))
    strict = machine.add("strict", Depends="base (= 1.0)")
    with pytest.raises(UnfitServer) as refused:
        machine.install(strict, machine.add("base", "1.0"))
    assert "base" in str(refused.value.seen)
    jealous = machine.add("jealous", Conflicts="kept")
    with pytest.raises(UnfitServer):
        machine.install(jealous)
    assert machine.packages.installed() == {"base": "2.0", "kept": "1.0"}


def test_a_package_that_fails_is_told_in_its_own_words_and_a_repaired_one_heals_it(machine: Machine) -> None:
    good, bad = machine.add("good"), machine.add("bad", script=FAILS)
    with pytest.raises(UnfitServer) as failed:
        machine.install(good, bad)
    assert failed.value.exit_code == 20
    assert "the disk of the moon is full" in str(failed.value.seen)
    assert failed.value.where == "bad 1.0"
    assert failed.value.remedy is not None
    assert machine.install(good, machine.add("bad", "1.1")) == ["bad"]
    assert machine.packages.installed() == {"good": "1.0", "bad": "1.1"}


@pytest.mark.parametrize("state", ["unpacked", "half-installed"])
def test_what_a_killed_run_left_half_done_is_finished(machine: Machine, state: str) -> None:
    program, other = machine.add("program"), machine.add("other")
    machine.release(program, other)
    deb = machine.folder / "release" / program.path
    subprocess.run(["dpkg", f"--root={machine.root}", "--unpack", deb], check=True, capture_output=True)
    if state == "half-installed":  # as dpkg leaves it when it is killed while it unpacks
        status = machine.root / "var/lib/dpkg/status"
        told = status.read_text().replace("install ok unpacked", "install reinstreq half-installed")
        status.write_text(told)
    assert machine.status("program") == state
    machine.install(program, other)
    assert machine.packages.installed() == {"program": "1.0", "other": "1.0"}


def test_a_package_that_changed_on_this_disk_is_not_installed(machine: Machine) -> None:
    program = machine.add("program")
    release = machine.release(program)
    blob = machine.store.path(program.sha256)
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes() + b"\0")
    with pytest.raises(Tampered) as refused:
        machine.bring(release)
    assert refused.value.where == program.path
    assert machine.packages.installed() == {}


def test_the_sources_and_pins_of_the_server_do_not_matter(machine: Machine) -> None:
    (machine.root / "etc/apt/sources.list").write_text("deb http://198.51.100.7/debian bookworm main\n")
    (machine.root / "etc/apt/preferences").write_text("Package: *\nPin: release *\nPin-Priority: -1\n")
    assert machine.install(machine.add("program")) == ["program"]


def test_apt_has_no_way_to_fetch_over_a_network(machine: Machine) -> None:
    # The release's own source is the only one; were there another, apt would not know how to reach it.
    machine.release(machine.add("program"))
    packages = machine.packages
    packages._lay(machine.folder / "release")
    with (packages.scratch / "sources.list").open("a") as sources:
        sources.write("deb [trusted=yes] http://127.0.0.1:9/debian ./\n")
    said = packages._apt(lambda _: None, "update")
    assert "/methods/http could not be found" in said


# --- Nothing starts unasked -------------------------------------------------------------------------------


def test_a_package_sees_its_unit_held_back_and_afterwards_no_trace_is_left(machine: Machine) -> None:
    machine.install(machine.add("web", unit="web.service", script=LOOKS))
    assert (machine.root / "seen").read_text().splitlines() == ["/dev/null", "disable web.service"]
    assert not list((machine.root / "run/systemd/system").iterdir())
    assert not list((machine.root / "run/systemd/system-preset").iterdir())


def test_a_package_that_was_here_before_may_restart_its_service(machine: Machine) -> None:
    machine.install(machine.add("web", unit="web.service"))
    machine.install(machine.add("web", "1.1", unit="web.service", script=LOOKS))
    assert (machine.root / "seen").read_text() == ""


def test_what_a_killed_run_held_back_is_let_go_even_where_nothing_is_lacking(machine: Machine) -> None:
    program = machine.add("program")
    machine.install(program)
    systemd = machine.root / "run/systemd"
    (systemd / "system").mkdir(parents=True, exist_ok=True)
    (systemd / "system-preset").mkdir(parents=True, exist_ok=True)
    (systemd / "system-preset/00-banip-packages.preset").write_text("disable web.service\n")
    (systemd / "system/web.service").symlink_to("/dev/null")
    (systemd / "system/theirs.service").symlink_to("/dev/null")
    assert machine.install(program) == []
    assert [path.name for path in (systemd / "system").iterdir()] == ["theirs.service"]
    assert not list((systemd / "system-preset").iterdir())


def test_a_mask_that_the_site_has_set_stays(machine: Machine) -> None:
    system = machine.root / "run/systemd/system"
    system.mkdir(parents=True)
    (system / "web.service").symlink_to("/dev/null")
    machine.install(machine.add("web", unit="web.service"))
    assert (system / "web.service").is_symlink()


def test_units_and_init_scripts_of_a_package_are_known(machine: Machine) -> None:
    tree = machine.folder / "archive/trees/many-1.0"
    for name in (
        "lib/systemd/system/a.service",
        "usr/lib/systemd/system/b.timer",
        "usr/lib/systemd/user/c.service",
        "etc/init.d/d",
        "usr/share/e.service",
    ):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("")
    (tree / "lib/systemd/system/link.socket").symlink_to("a.service")
    machine.add("many")
    deb = machine.folder / "archive/repository/many_1.0_all.deb"
    assert sorted(units_of(deb)) == ["a.service", "b.timer", "d.service", "link.socket"]
