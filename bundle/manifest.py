"""The manifest: what a person writes, in names; the lock turns every name into a digest.

The structures here are the source of truth; ``manifests/schema/*.json`` is generated from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from appliance.document import document_from_bytes, read_document
from appliance.errors import BadInput
from appliance.format import (
    Grade,
    HttpAnswers,
    Name,
    Owned,
    PackageName,
    Role,
    Socket,
    Target,
    Tolerated,
    UnitActive,
    Value,
    Version,
    sha256_hex,
)
from appliance.problems import BadInputs, Problem, refuse
from appliance.text import text
from bundle.document import check_schema
from bundle.sources import ProjectPath, Sources, source_faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.document import Document, Place
    from appliance.text import Text

MANIFESTS = "manifests"
Requirement_ = Annotated[
    str, Meta(min_length=1, max_length=200, description="PEP 508, without a URL: `itsdangerous==2.1.2`.")
]
Distribution = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,80}[A-Za-z0-9])?$",
        description="A name without version: not installed although something requires it.",
    ),
]
Extra = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
RoleName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,40}$")]
VariableName = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,60}$")]
HubName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")]
#: No registry host: the first component has no dot and no port. Registries are sources.
ImageReference = Annotated[
    str, Meta(pattern=r"^[a-z0-9_-]+(/[a-z0-9._-]+)*:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", max_length=240)
]


class TargetServer(Value, frozen=True):
    """The kind of server that the release is for."""

    os: Annotated[str, Meta(pattern=r"^[a-z]+-[0-9.]+$", examples=["debian-12", "ubuntu-24.04"])]
    architecture: Literal["x86_64", "aarch64"]
    python: Annotated[str, Meta(pattern=r"^3\.[0-9]{1,2}$", description="The server's own Python.")]
    platform: Annotated[
        str,
        Meta(
            pattern=r"^(x86_64|aarch64)-manylinux_2_[0-9]{2}$",
            description="Its wheel platform, by the C library's version: glibc 2.36 is manylinux_2_36.",
        ),
    ]


class Project(Value, frozen=True):
    """A local Python project; its wheel is built once, when the manifest is locked."""

    path: ProjectPath
    extras: tuple[Extra, ...] = ()


class PythonEnvironment(Value, frozen=True):
    """A Python environment on the server. ``from_source``: pinned names that exist only as source."""

    requirements: tuple[Requirement_, ...] = ()
    projects: tuple[Project, ...] = ()
    from_source: tuple[Requirement_, ...] = ()
    excludes: tuple[Distribution, ...] = ()


class Generated(Value, frozen=True):
    """Random weights out of a seed, the same on every machine: for tests and rehearsals, no model."""

    kind: Literal["random"]
    seed: Annotated[str, Meta(min_length=1, max_length=80)]
    weights_bytes: Annotated[int, Meta(ge=1024, le=2**40)]
    text: Annotated[str, Meta(max_length=4096, description="Content of the small file greeting.txt.")] = ""


class Model(Value, frozen=True):
    """A model folder: from a hub, from the project, or generated."""

    hub: HubName | None = None
    revision: Annotated[str, Meta(min_length=1, max_length=100)] | None = None
    exclude: tuple[str, ...] = ()
    folder: ProjectPath | None = None
    generate: Generated | None = None


class ContainerImage(Value, frozen=True):
    """A container image, by repository and tag; the registry is a source."""

    reference: ImageReference


class Playbooks(Value, frozen=True):
    """The folder with ``site.yml`` and ``roles/``, and the roles that the release has."""

    folder: ProjectPath = "playbooks"
    roles: tuple[RoleName, ...] = ()


class Manifest(Value, frozen=True):
    """What a release is made of, in the names that people use. People write it; machines lock it."""

    format: Literal[1]
    product: Name
    version: Version
    counter: Annotated[
        int, Meta(ge=1, le=2**31, description="Grows by one with each release; a server never goes back.")
    ]
    grade: Annotated[Grade, Meta(description="N2SF: C secret, S sensitive, O open.")]
    target: TargetServer
    environments: Annotated[dict[Name, PythonEnvironment], Meta(description="Besides `controller`.")]
    site: Annotated[Name | None, Meta(description="Binds the release to one site.")] = None
    validity_days: Annotated[int, Meta(ge=1, le=3650, description="Days from lock to expiry.")] = 730
    sources: Sources = Sources()
    models: dict[Name, Model] = msgspec.field(default_factory=dict)
    images: dict[Name, ContainerImage] = msgspec.field(default_factory=dict)
    packages: tuple[PackageName, ...] = ()
    tolerates: tuple[Tolerated, ...] = ()
    playbooks: Playbooks = Playbooks()
    variables: Annotated[dict[VariableName, Any], Meta(description="For the roles; never a secret.")] = (
        msgspec.field(default_factory=dict)
    )

    def release_target(self) -> Target:
        """Return the target as the release names it."""
        return Target(os=self.target.os, architecture=self.target.architecture, python=self.target.python)


class RoleFile(Value, frozen=True):
    """``meta/banip.yaml`` of a role: what it owns, where it listens, and how its health is asked for."""

    format: Literal[1]
    owns: Owned = Owned()
    listens: tuple[Socket, ...] = ()
    health: tuple[UnitActive | HttpAnswers, ...] = ()
    health_timeout_s: Annotated[int, Meta(ge=1, le=3600)] = 60


@dataclass(frozen=True, slots=True)
class CheckedManifest:
    """A manifest without a fault, with the roles it names; only ``check`` makes one."""

    name: str
    project: Path
    manifest: Manifest
    roles: tuple[Role, ...]
    sha256: str

    def path(self, relative: str) -> Path:
        """Return where a path of the manifest is."""
        return self.project / relative

    @property
    def lock_path(self) -> Path:
        """Return where its lock is."""
        return (self.project / self.name).with_suffix(".lock.json")


def check(path: Path) -> CheckedManifest:
    """Read a manifest and the roles it names. Raises ``BadInputs`` with every fault of every file."""
    project = path.resolve().parent.parent
    if path.suffix != ".yaml" or path.resolve().parent.name != MANIFESTS:
        raise BadInput(
            text("a manifest is a .yaml file in the folder manifests of a project"),
            where=path,
            remedy=text("move it there: its paths are relative to the parent of that folder"),
        )
    name = f"{MANIFESTS}/{path.name}"
    if not path.is_file():
        raise BadInput(text("there is no such manifest"), where=path)
    raw = path.read_bytes()
    document = document_from_bytes(raw, name)
    refuse(name, check_schema(document, manifest_schema()))
    manifest = msgspec.convert(document.value, Manifest)
    problems = list(_faults(document, manifest, project))
    roles = tuple(_roles(document, manifest, project, problems))
    refuse(name, problems)
    return CheckedManifest(name, project, manifest, roles, sha256_hex(raw))


# --- What a schema cannot say -----------------------------------------------------------------------------


def _faults(document: Document, manifest: Manifest, project: Path) -> Iterator[Problem]:
    for place, path in _paths(manifest):
        if reason := _outside(project, path):
            yield document.problem(place, reason)
    for place, said in source_faults(manifest.sources, project):
        yield document.problem(("sources", *place), said)
    for place, requirement in _requirements(manifest):
        if reason := _not_a_name(requirement):
            yield document.problem(place, reason)
    yield from _exclude_faults(document, manifest)
    for name, environment in manifest.environments.items():
        if not environment.requirements and not environment.projects:
            yield document.problem(("environments", name), text("an environment needs something to install"))
        if name in {"controller", "first-contact"}:
            yield document.problem(("environments", name), text("this environment is always made by itself"))
    if not manifest.target.platform.startswith(manifest.target.architecture):
        yield document.problem(("target", "platform"), text("the platform is of another architecture"))


def _paths(manifest: Manifest) -> Iterator[tuple[Place, str]]:
    for name, environment in manifest.environments.items():
        for number, project in enumerate(environment.projects):
            yield ("environments", name, "projects", number, "path"), project.path
    for name, model in manifest.models.items():
        if model.folder is not None:
            yield ("models", name, "folder"), model.folder
    for number, link in enumerate(manifest.sources.find_links):
        if "://" not in link:
            yield ("sources", "find_links", number), link
    yield ("playbooks", "folder"), manifest.playbooks.folder


def _outside(project: Path, path: str) -> Text | None:
    if path.startswith("/") or ".." in PurePosixPath(path).parts:
        return text("{value} leaves the project", value=path)
    here = (project / path).resolve()
    if not here.is_relative_to(project):
        return text("{value} is a link that leaves the project", value=path)
    if not here.is_dir():
        return text("there is no folder {value} in the project", value=path)
    return None


def _requirements(manifest: Manifest) -> Iterator[tuple[Place, str]]:
    for name, environment in manifest.environments.items():
        for key in ("requirements", "from_source"):
            for number, requirement in enumerate(getattr(environment, key)):
                yield ("environments", name, key, number), requirement


def _exclude_faults(document: Document, manifest: Manifest) -> Iterator[Problem]:
    for place, requirement in _requirements(manifest):
        excludes = {canonicalize_name(name) for name in manifest.environments[str(place[1])].excludes}
        if _not_a_name(requirement) is None and canonicalize_name(Requirement(requirement).name) in excludes:
            yield document.problem(place, text("{name} is required and excluded", name=requirement))


def _not_a_name(requirement: str) -> Text | None:
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement as error:
        return text("not a requirement: {error}", error=str(error).splitlines()[0])
    if parsed.url is not None:
        return text("a requirement names no URL; sources do")
    return None


def _roles(document: Document, manifest: Manifest, project: Path, problems: list[Problem]) -> Iterator[Role]:
    folder = f"{manifest.playbooks.folder}/roles"
    if manifest.playbooks.roles and not (project / manifest.playbooks.folder / "site.yml").is_file():
        said = text("{folder} has no site.yml", folder=manifest.playbooks.folder)
        problems.append(document.problem(("playbooks",), said))
    for number, role in enumerate(manifest.playbooks.roles):
        name = f"{folder}/{role}/meta/banip.yaml"
        if not (project / name).is_file():
            said = text("the role {role} does not exist: there is no {file}", role=role, file=name)
            problems.append(document.problem(("playbooks", "roles", number), said))
            continue
        found = _read_role(project / name, name, problems)
        if found is not None:
            yield Role(
                name=role,
                owns=found.owns,
                listens=found.listens,
                health=found.health,
                health_timeout_s=found.health_timeout_s,
            )


def _read_role(path: Path, name: str, problems: list[Problem]) -> RoleFile | None:
    try:
        document = read_document(path, name)
    except BadInputs as error:
        problems.extend(error.problems)
        return None
    faults = check_schema(document, role_schema())
    problems.extend(faults)
    return None if faults else msgspec.convert(document.value, RoleFile)


# --- JSON Schemas, generated ------------------------------------------------------------------------------


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a manifest."""
    schema = schema_of(Manifest, "manifest")
    schema["$defs"]["Model"]["oneOf"] = [{"required": [kind]} for kind in ("hub", "folder", "generate")]
    return schema


def role_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a role's ``meta/banip.yaml``."""
    return schema_of(RoleFile, "role")


def schema_of(kind: type[Value], name: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a structure."""
    (_,), components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    top = components.pop(kind.__name__)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:banip:schema:{name}:1",
        **top,
        "$defs": components,
    }
