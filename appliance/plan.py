"""What an operation will do, as a value: shown by ``appliance plan``, written to the journal, carried out.

Pure. Install is ``make_plan(None, new)``, upgrade ``make_plan(old, new)``, rollback ``make_plan(new, old)``,
uninstall ``make_plan(old, None)``. Every step may be done again without harm, so a run that was cut off is
finished by doing the plan again from the first step that the journal does not call done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

from appliance.format import Owned, Value
from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.format import Release
    from appliance.journal import Entry

Operation = Literal["install", "upgrade", "reapply", "rollback", "return", "uninstall"]


#: Operations that bring a release in; the others lead back or away.
FORWARD = ("install", "upgrade", "reapply")


class Assemble(Value, frozen=True, tag="assemble", tag_field="step"):
    """Put the release folder together out of hardlinks into the store."""

    release: str

    def describe(self) -> Text:
        """Say the step in words."""
        return text("put the release folder {release} together", release=self.release)


class BuildEnvironment(Value, frozen=True, tag="environment", tag_field="step"):
    """Build a Python environment at its final path, unless one of equal content stands there."""

    release: str
    name: str
    digest: str

    def describe(self) -> Text:
        """Say the step in words."""
        return text("build the environment {name} ({digest})", name=self.name, digest=self.digest[:12])


class InstallPackages(Value, frozen=True, tag="packages", tag_field="step"):
    """Let apt install those of the release's packages that are not here in their version or a newer one."""

    release: str
    count: int

    def describe(self) -> Text:
        """Say the step in words."""
        return text("install what is lacking of {count} operating system packages", count=self.count)


class LoadImage(Value, frozen=True, tag="image", tag_field="step"):
    """Let podman load a container image under the release's name, unless it is loaded."""

    release: str
    name: str
    digest: str

    def describe(self) -> Text:
        """Say the step in words."""
        return text("load the image {name} ({digest})", name=self.name, digest=self.digest[:12])


class Switch(Value, frozen=True, tag="switch", tag_field="step"):
    """Point ``current`` at the release, or at nothing."""

    release: str | None

    def describe(self) -> Text:
        """Say the step in words."""
        if self.release is None:
            return text("take the installed release out of use")
        return text("switch to {release}", release=self.release)


class Retire(Value, frozen=True, tag="retire", tag_field="step"):
    """Stop and remove what only the release that goes away owns on the host."""

    owned: Owned

    def describe(self) -> Text:
        """Say the step in words."""
        count = sum(len(getattr(self.owned, noun)) for noun in Owned.__struct_fields__)
        return text("remove {count} things that the new state does not have", count=count)


class Converge(Value, frozen=True, tag="converge", tag_field="step"):
    """Run the release's roles with the release's own Ansible."""

    release: str

    def describe(self) -> Text:
        """Say the step in words."""
        return text("run the roles of {release}", release=self.release)


class CheckHealth(Value, frozen=True, tag="health", tag_field="step"):
    """Ask every health check of the release until it holds or its time is over."""

    release: str

    def describe(self) -> Text:
        """Say the step in words."""
        return text("ask the services of {release} for their health", release=self.release)


class Keep(Value, frozen=True, tag="keep", tag_field="step"):
    """Mark the release good: from here on it is what a later failure returns to."""

    release: str
    previous: str | None

    def describe(self) -> Text:
        """Say the step in words."""
        return text("mark {release} good", release=self.release)


class Discard(Value, frozen=True, tag="discard", tag_field="step"):
    """Remove releases, environments, images and blobs; data, secrets, state, logs and packages stay."""

    def describe(self) -> Text:
        """Say the step in words."""
        return text("remove releases, environments, images and the store; data, state and logs stay")


Step = (
    Assemble
    | InstallPackages
    | BuildEnvironment
    | LoadImage
    | Switch
    | Retire
    | Converge
    | CheckHealth
    | Keep
    | Discard
)
#: Steps that the running appliance does; the rest belong to the appliance of the release itself.
PREPARATION = (Assemble, InstallPackages, BuildEnvironment, LoadImage)


class Plan(Value, frozen=True):
    """An operation from one release (or nothing) to another (or nothing)."""

    operation: Operation
    old: str | None
    new: str | None
    steps: tuple[Step, ...]


def make_plan(
    old: Release | None, new: Release | None, operation: Operation, *, previous: str | None = None
) -> Plan:
    """Return the steps from ``old`` to ``new``.

    ``previous`` is what a later rollback goes back to once ``new`` is good. Things that only ``old`` owns
    go before the roles run, because they may hold a port that the new roles want.
    """
    leaving = subtract(owned_by(old), owned_by(new))
    steps: list[Step] = []
    if new is None:
        steps = [Retire(owned=leaving), Switch(release=None)]
    else:
        steps = [
            *_preparation(new, operation),
            Switch(release=new.id),
            Retire(owned=leaving),
            Converge(release=new.id),
        ]
        steps += [CheckHealth(release=new.id), Keep(release=new.id, previous=previous)]
    return Plan(
        operation=operation,
        old=old.id if old else None,
        new=new.id if new else None,
        steps=tuple(step for step in steps if not (isinstance(step, Retire) and step.owned == Owned())),
    )


def _preparation(new: Release, operation: Operation) -> Iterator[Step]:
    """Yield what is done while the old release still answers.

    Packages only move forward: no way back asks apt for anything. Images are asked for on the way back too:
    they are there, and where somebody took one away, its blobs are.
    """
    yield Assemble(release=new.id)
    if new.packages and operation in FORWARD:
        yield InstallPackages(release=new.id, count=len(new.packages))
    for environment in new.environments:
        yield BuildEnvironment(release=new.id, name=environment.name, digest=environment.digest)
    for image in new.images:
        yield LoadImage(release=new.id, name=image.name, digest=image.manifest)


def plan_for(old: Release | None, new: Release, previous: str | None) -> Plan:
    """Return the plan of ``install`` or ``upgrade``; the same release again is ``reapply``.

    ``previous`` is what the installed release ``old`` would roll back to.
    """
    if old is None:
        return make_plan(None, new, "install")
    if old.id == new.id:
        return make_plan(old, new, "reapply", previous=previous)
    return make_plan(old, new, "upgrade", previous=old.id)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What the journal says about an operation that was cut off; ``done`` steps of ``plan`` are behind it."""

    operation: str
    plan: Plan | None
    done: int

    def leads_back_to(self, release: str | None) -> bool:
        """Tell whether leaving or completing this operation has gone back to that release."""
        if self.plan is None or self.plan.operation == "reapply":
            return False
        return release == (self.plan.old if self.plan.operation in FORWARD else self.plan.new)


def unfinished(entries: Iterable[Entry]) -> Unfinished | None:
    """Read the journal's tail: the operation without an end, its last plan, and its steps that are done."""
    left: Unfinished | None = None
    for entry in entries:
        if entry.event == "started":
            left = Unfinished(str(entry.facts["operation"]), None, 0)
        elif entry.event == "finished":
            left = None
        elif left is not None and entry.event == "planned":
            left = Unfinished(left.operation, msgspec.convert(entry.facts["plan"], type=Plan), 0)
        elif left is not None and entry.event == "done":
            left = Unfinished(left.operation, left.plan, int(entry.facts["step"]) + 1)
    return left


def make_uninstall(releases: Iterable[Release], current: str | None) -> Plan:
    """Return the steps that remove everything which any release on the disk owns, used or not."""
    everything = _together(owned_by(release) for release in releases)
    steps: tuple[Step, ...] = (Retire(owned=everything), Switch(release=None), Discard())
    return Plan(operation="uninstall", old=current, new=None, steps=steps[everything == Owned() :])


def owned_by(release: Release | None) -> Owned:
    """Return everything that the roles of a release own on the host, in the order of the roles."""
    return _together(role.owns for role in (release.roles if release else ()))


def is_well(unit: str, state: str, units: Iterable[str]) -> bool:
    """Tell whether a unit is as it should be among those of its release, by systemd's word for its state.

    A service that a timer of the same name starts rests in between; everything else stays active.
    """
    if unit.endswith(".service") and f"{unit.removesuffix('.service')}.timer" in units:
        return state in {"active", "activating", "inactive"}
    return state == "active"


def _together(several: Iterable[Owned]) -> Owned:
    """Return what any of several own, each thing once, in their order."""
    several = tuple(several)
    return Owned(
        **{
            noun: tuple(dict.fromkeys(item for one in several for item in getattr(one, noun)))
            for noun in Owned.__struct_fields__
        }
    )


def subtract(owned: Owned, kept: Owned) -> Owned:
    """Return what ``owned`` has and ``kept`` has not."""
    return Owned(
        **{
            noun: tuple(item for item in getattr(owned, noun) if item not in getattr(kept, noun))
            for noun in Owned.__struct_fields__
        }
    )
