"""From a checked manifest to its lock: ask whoever knows, once, and write down digests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from appliance.format import Release
from bundle.images import lock_image
from bundle.index import find_index
from bundle.local import file_sha256, playbook_files, source_digest, wheel_tops
from bundle.lock import (
    Lock,
    LockedEnvironment,
    LockedFile,
    LockedImage,
    LockedModel,
    LockedPackage,
    LockedProject,
    Unlocked,
)
from bundle.manifest import Project, PythonEnvironment
from bundle.models import lock_folder, lock_generated
from bundle.packages import lock_packages
from bundle.sources import Sources
from bundle.wheels import Wanted, build_from_source, build_project, resolve, wheel_target
from bundle.workshop import Event

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from bundle.manifest import CheckedManifest, Model
    from bundle.workshop import Report, Workshop

FIRST_CONTACT = "first-contact"
#: Every release brings these two, made of the project itself.
_IMPLIED = {
    FIRST_CONTACT: PythonEnvironment(projects=(Project(path="."),)),
    Release.CONTROLLER: PythonEnvironment(projects=(Project(path=".", extras=("controller",)),)),
}


def make_lock(checked: CheckedManifest, workshop: Workshop, *, now: datetime, report: Report) -> Lock:
    """Resolve every name of a manifest; what cannot be resolved here is in ``unlocked``, with the reason.

    Local projects are built, and their wheels are in the build store afterwards. ``now`` is UTC.
    Raises ``BadInput`` where a local project does not build.
    """
    manifest = checked.manifest
    with workshop.scratch() as scratch:
        wheels = _Environments(checked, workshop, scratch, report)
        environments = {
            name: wheels.lock(name, wanted) for name, wanted in (_IMPLIED | manifest.environments).items()
        }
    models = [_lock_model(checked, workshop, name, model) for name, model in manifest.models.items()]
    images = list(_images(checked))
    packages, without = lock_packages(checked, workshop)
    unlocked = [*wheels.unlocked, *(each for each in [*models, *images] if isinstance(each, Unlocked))]
    _tell(report, [*models, *images, *packages])
    return Lock(
        format=1,
        locked_at=now.replace(microsecond=0),
        manifest_sha256=checked.sha256,
        manifest=msgspec.structs.replace(manifest, sources=Sources()),
        roles=checked.roles,
        first_contact=environments.pop(FIRST_CONTACT),
        environments=tuple(environment for _, environment in sorted(environments.items())),
        models=tuple(model for model in models if isinstance(model, LockedModel)),
        images=tuple(image for image in images if isinstance(image, LockedImage)),
        packages=packages,
        playbooks=tuple(_locked_file(path, file) for path, file in playbook_files(checked).items()),
        projects=tuple(project for _, project in sorted(wheels.projects.items())),
        unlocked=(*unlocked, *without),
    )


class _Environments:
    """Locks environments one by one; each local project is built once for all of them."""

    def __init__(self, checked: CheckedManifest, workshop: Workshop, scratch: Path, report: Report) -> None:
        self._checked, self._workshop, self._scratch, self._report = checked, workshop, scratch, report
        self._index = find_index(checked.manifest.sources, checked.project, report)
        self._target = wheel_target(checked.manifest.target)
        self._built: dict[str, Path] = {}
        self.projects: dict[str, LockedProject] = {}
        self.unlocked: list[Unlocked] = []

    def lock(self, name: str, environment: PythonEnvironment) -> LockedEnvironment:
        built = [(self._project(project.path), project.extras) for project in environment.projects]
        built += [(self._from_source(requirement), ()) for requirement in environment.from_source]
        wanted = Wanted(name, environment.requirements, tuple(built), environment.excludes)
        wheels, unlocked = resolve(wanted, self._target, self._index, self._scratch / f"resolve-{name}")
        self.unlocked += unlocked
        self._report(Event("resolved", name, sum(wheel.size_bytes for wheel in wheels), str(len(wheels))))
        python, platform = self._target.python, self._target.platform
        return LockedEnvironment(name=name, python=python, platform=platform, wheels=wheels)

    def _project(self, path: str) -> Path:
        if path not in self._built:
            folder = self._checked.path(path)
            wheel = build_project(folder, self._scratch / f"built-{len(self._built)}", self._index)
            self._keep(path, wheel)
            tops = wheel_tops(folder, wheel)
            self.projects[path] = LockedProject(path=path, tops=tops, sha256=source_digest(folder, tops))
        return self._built[path]

    def _from_source(self, requirement: str) -> Path:
        if requirement not in self._built:
            out = self._scratch / f"built-{len(self._built)}"
            self._keep(requirement, build_from_source(requirement, out, self._index))
        return self._built[requirement]

    def _keep(self, name: str, wheel: Path) -> None:
        self._built[name] = wheel
        blob = self._workshop.store.add_file(wheel)
        self._report(Event("built", wheel.name, blob.size_bytes))


def _lock_model(
    checked: CheckedManifest, workshop: Workshop, name: str, model: Model
) -> LockedModel | Unlocked:
    if model.generate is not None:
        return lock_generated(name, model.generate)
    if model.folder is not None:
        return lock_folder(name, checked.path(model.folder))
    from bundle.hub import Hub  # noqa: PLC0415 - half a second of imports that most manifests do not need

    return Hub(checked.manifest.sources.hub, workshop.hub).lock(name, model)


def _images(checked: CheckedManifest) -> Iterator[LockedImage | Unlocked]:
    manifest = checked.manifest
    for name, image in manifest.images.items():
        yield lock_image(name, image.reference, manifest.sources.registries, manifest.target.architecture)


def _locked_file(path: str, file: Path) -> LockedFile:
    return LockedFile(path=path, sha256=file_sha256(file), size_bytes=file.stat().st_size)


def _tell(report: Report, found: list[LockedModel | LockedImage | LockedPackage | Unlocked]) -> None:
    for each in found:
        if isinstance(each, LockedModel):
            size_bytes = sum(file.size_bytes for file in each.files)
            report(Event("resolved", each.name, size_bytes, str(len(each.files))))
        elif isinstance(each, LockedImage):
            size_bytes = sum(layer.size_bytes for layer in each.layers)
            report(Event("resolved", each.name, size_bytes, str(len(each.layers))))
        elif isinstance(each, LockedPackage):
            report(Event("resolved", each.name, each.size_bytes, each.version))
