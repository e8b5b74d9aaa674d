"""What lies beside ``appliance.pyz``, on the medium and in the environment, and would make a bad bundle pass.

The bundle is signed by nobody whom the server trusts. Each neighbour leaves a mark where it is run, and some
would say that the bundle is good.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.format import canonical_json, sha256_hex
from bundle import bootstrap
from bundle.firstcontact import _zip
from tests.attacks import rows
from tests.attacks.corpus import Scene, attack, attacks
from tests.world import key

if TYPE_CHECKING:
    from collections.abc import Callable

PROJECT = Path(__file__).parent.parent.parent
DISTRIBUTIONS = (
    "click", "cffi", "cryptography", "installer", "msgspec", "psutil", "pyyaml", "rich", "securesystemslib",
    "tuf",
)  # fmt: skip
#: What a neighbour does when it is run.
_EVIL = "open({mark!r}, 'w').close()\n"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a neighbour may lie: beside the copied file, and on the medium, from which the command is run."""

    disk: Path
    medium: Path
    mark: Path

    def plant(self, name: str, content: str = _EVIL) -> None:
        """Write a file into both folders."""
        for folder in (self.disk, self.medium):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content.format(mark=str(self.mark)))


def place_of(scene: Scene) -> Place:
    """Return the neighbourhood of a scene; the folder of the copied file is made here."""
    disk = scene.medium.parent / "disk"
    disk.mkdir(exist_ok=True)
    return Place(disk, scene.medium, scene.medium.parent / "executed")


def modules(*names: str) -> Callable[[Place], None]:
    """Return what plants Python modules of these names."""

    def plant(place: Place) -> None:
        for name in names:
            place.plant(f"{name}.py")

    return plant


def _package(*names: str) -> Callable[[Place], None]:
    def plant(place: Place) -> None:
        for name in names:
            place.plant(f"{name}/__init__.py")

    return plant


def _current(place: Place) -> None:
    place.plant("releases/evil/bin/appliance", "#!/bin/sh\ntouch '{mark}'\n")
    for folder in (place.disk, place.medium):
        (folder / "releases/evil/bin/appliance").chmod(0o755)
        (folder / "current").symlink_to("releases/evil")


def _wheels(place: Place) -> None:
    place.plant("wheels/carried-1.0-py3-none-any.whl", "evil")
    place.plant("first_contact.json", '{{"product":"demo","site":null,"python":{{}}}}')
    place.plant("1.root.json", "{{}}")


def _roles(place: Place) -> None:
    place.plant("playbooks/site.yml", "- hosts: all\n  roles: [evil]\n")
    place.plant("roles/evil/tasks/main.yml", "- ansible.builtin.command: touch {mark}\n")
    place.plant("ansible.cfg", "[defaults]\nroles_path = roles\n")


def _configuration(place: Place) -> None:
    place.plant("openssl.cnf", "openssl_conf = evil\n")
    place.plant("pyvenv.cfg", "home = .\ninclude-system-site-packages = true\n")
    place.plant("setup.cfg", "[install]\nprefix=/\n")
    place.plant("site.yaml", "banip_grade: O\n")


def _programs(place: Place) -> None:
    for name in ("python3", "openssl", "tar", "sh", "uname", "ldd"):
        place.plant(name, "#!/bin/sh\ntouch '{mark}'\n")
        for folder in (place.disk, place.medium):
            (folder / name).chmod(0o755)


PLANTED: dict[str, Callable[[Place], None]] = {
    "a json.py": modules("json"),
    "modules of the standard library": modules(
        "zipfile", "hashlib", "pathlib", "typing", "fcntl", "errno", "io"
    ),
    "a cryptography that accepts anything": _package("cryptography", "tuf", "securesystemslib"),
    "an appliance of somebody else's": _package("appliance"),
    "a sitecustomize.py": modules("sitecustomize", "usercustomize"),
    "a __main__.py": modules("__main__"),
    "a .pth file": lambda place: place.plant("evil.pth", "import os; " + _EVIL),
    "a link named current": _current,
    "wheels and a root": _wheels,
    "a folder of roles that nobody signed": _roles,
    "settings of tools": _configuration,
    "programs of known names": _programs,
}
#: Variables of the environment; {there} is the folder with hostile modules.
VARIABLES: dict[str, dict[str, str]] = {
    "PYTHONPATH": {"PYTHONPATH": "{there}"},
    "PYTHONHOME": {"PYTHONHOME": "{there}"},
    "PYTHONSTARTUP and PYTHONINSPECT": {"PYTHONSTARTUP": "{there}/json.py", "PYTHONINSPECT": "1"},
    "PYTHONUSERBASE and HOME": {"PYTHONUSERBASE": "{there}", "HOME": "{there}"},
    "PYTHONPLATLIBDIR, PYTHONWARNINGS and PYTHONBREAKPOINT": {
        "PYTHONPLATLIBDIR": "{there}",
        "PYTHONWARNINGS": "error::json.Evil",
        "PYTHONBREAKPOINT": "json.evil",
    },
    "TMPDIR and PATH": {"TMPDIR": "{there}", "PATH": "{there}:/usr/bin:/bin"},
}


@attacks(
    10, rows.NEIGHBOURS, {f"{name} beside it": plant for name, plant in PLANTED.items()}, commands=("import",)
)
def _beside(scene: Scene, plant: Callable[[Place], None]) -> None:
    scene.world.signers = [key("stranger")]
    plant(place_of(scene))


def _in_the_environment(scene: Scene) -> None:
    scene.world.signers = [key("stranger")]
    place = place_of(scene)
    for plant in (
        modules("json", "zipfile", "sitecustomize", "usercustomize"),
        _package("cryptography"),
        _programs,
    ):
        plant(place)


for _name, _variables in VARIABLES.items():
    attack(
        10, rows.NEIGHBOURS, name=f"{_name} in the environment", commands=("import",), environment=_variables
    )(_in_the_environment)


@attack(2, rows.NOT_COPIED, commands=("import",), pyz="medium/appliance.pyz")
def the_file_beside_the_bundle(scene: Scene) -> None:
    place_of(scene)


@attack(2, rows.NOT_COPIED, commands=("import",), pyz="disk/appliance.pyz")
def a_link_to_the_file_beside_the_bundle(scene: Scene) -> None:
    place = place_of(scene)
    (place.disk / "appliance.pyz").symlink_to(place.medium / "appliance.pyz")


@attack(2, rows.NOT_COPIED, commands=("import",), flags=())
def a_python_that_is_not_isolated(scene: Scene) -> None:
    modules("sitecustomize")(place_of(scene))


# --- The real appliance.pyz, with the wheels that this environment was made of


def system_python() -> str:
    """Return a Python of this version without packages of its own where there is one: as on a server."""
    other = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/bin")
    return other or sys.executable


def real_first_contact(root: bytes) -> bytes:
    """Return an ``appliance.pyz`` of this checkout, with all of its wheels as one."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, content in _carried():
            archive.writestr(zipfile.ZipInfo(name), content)
    wheel, python = whole.getvalue(), f"3.{sys.version_info.minor}"
    name = "carried-1.0-py3-none-any.whl"
    described = {
        "format": 1,
        "product": "demo",
        "site": None,
        "architecture": os.uname().machine,
        "glibc": [2, 17],
        "python": {python: [{"filename": name, "sha256": sha256_hex(wheel)}]},
    }
    members = {"__main__.py": Path(bootstrap.__file__).read_bytes(), "1.root.json": root}
    return _zip({**members, "first_contact.json": canonical_json(described), f"wheels/{name}": wheel})


def _carried() -> list[tuple[str, bytes]]:
    own = [
        path
        for path in (PROJECT / "appliance").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    found = [(str(path.relative_to(PROJECT)), path.read_bytes()) for path in own]
    for name in DISTRIBUTIONS:
        for file in importlib.metadata.files(name) or ():
            path = Path(str(file.locate()))
            if ".." not in file.parts and "__pycache__" not in file.parts and path.is_file():
                found.append((str(file), path.read_bytes()))
    return found
