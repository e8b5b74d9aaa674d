"""The steps of a plan that change nothing that is in use: folder, packages, environments, images.

They are done by the appliance that runs, while the old release still answers. Each may be cut off anywhere
and done again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.environment import build_environment
from appliance.errors import BanipError
from appliance.plan import Assemble, BuildEnvironment, InstallPackages, LoadImage
from appliance.release import assemble
from appliance.text import Event, text

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.plan import Step
    from appliance.release import Server
    from appliance.verify import TrustedBundle

    Say = Callable[[Event], None]


def prepare(step: Step, target: TrustedBundle | None, server: Server, say: Say) -> None:
    """Do one step of the preparation for the release of ``target``."""
    if target is None:
        raise BanipError(text("a plan without a target has a preparation step"))
    release = target.release
    if isinstance(step, Assemble):
        assemble(server, target)
    elif isinstance(step, InstallPackages):
        # Together again: a package that was found changed on this disk has come anew into the store since.
        folder = assemble(server, target)
        server.packages.install(release, folder, server.store, _package_progress(say))
    elif isinstance(step, BuildEnvironment):
        environment = release.environment(step.name)
        build_environment(environment, server.store, server.environments, _wheel_progress(step, say))
    elif isinstance(step, LoadImage):
        image = next(image for image in release.images if image.name == step.name)
        server.containers.load(image, release.id, server.store)


def _package_progress(say: Say) -> Callable[[str, int, int], None]:
    def progress(name: str, done: int, total: int) -> None:
        words = text("the package {name} is set up ({done} of {total})", name=name, done=done, total=total)
        say(Event("package", words, {"name": name, "done": done, "total": total}))

    return progress


def _wheel_progress(step: BuildEnvironment, say: Say) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done % 10 and done != total:
            return  # a line for each of 200 packages helps nobody
        words = text("{name}: {done} of {total} packages", name=step.name, done=done, total=total)
        say(Event("environment", words, {"name": step.name, "done": done, "total": total}))

    return progress
