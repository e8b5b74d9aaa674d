"""Operations that change the server: install, upgrade, rollback, uninstall, and the return from a failure.

Each is a ``Plan`` written to the journal before its first step and carried out step by step; a run that was
cut off is settled first by the next one. The preparation (folders, environments) is done by the appliance
that runs; everything after it by the appliance of the release that the plan leads to, in a process of its
own, which inherits the lock. A plan that fails leads back to the release that was good.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.durable import make_folder, naming_a_full_disk, rename_durably, sync_folder
from appliance.errors import BanipError, Incomplete, Returned, UnfitServer
from appliance.host import CLEAN_ENVIRONMENT, retire, wait_for_health
from appliance.plan import (
    FORWARD,
    PREPARATION,
    CheckHealth,
    Converge,
    Discard,
    Keep,
    Plan,
    Retire,
    Step,
    Switch,
    Unfinished,
    make_plan,
    make_uninstall,
    plan_for,
    unfinished,
)
from appliance.playbook import converge, end_leftovers
from appliance.preparation import prepare
from appliance.release import (
    Installed,
    heal_store,
    installed,
    keep,
    known,
    load,
    refuse_changed_playbooks,
    release_ids,
    role_variables,
    switch,
)
from appliance.text import Event, text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from appliance.format import Release
    from appliance.journal import Journal
    from appliance.release import Server
    from appliance.state import Lock
    from appliance.text import Language
    from appliance.verify import Trust, TrustedBundle


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an operation ended; ``changed`` counts the tasks of the roles that changed something."""

    release: str | None
    changed: int
    already: bool = False


class StepFailed(Exception):
    """A step did not succeed; the operation decides what that means."""

    def __init__(self, step: Step, faults: tuple[str, ...]) -> None:
        super().__init__("; ".join(faults))
        self.step = step
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Operator:
    """Carries out plans on one server, under its lock; ``variables`` are the site's."""

    server: Server
    trust: Trust
    lock: Lock
    say: Callable[[Event], None]
    variables: Mapping[str, Any]
    language: Language = "en"

    @property
    def journal(self) -> Journal:
        """The server's journal."""
        return self.server.state.journal

    @property
    def scratch(self) -> Path:
        """Where Ansible keeps its temporary files, and by which what it left is known."""
        return self.server.state.folder / "ansible"

    # --- Operations ------------------------------------------------------------------------------------

    def apply(self, bundle: TrustedBundle) -> Outcome:
        """Install or upgrade to a release whose blobs are all in the store.

        Raises ``Returned`` when the release failed and the previous state answers again.
        """
        left = self.settle(bundle.release.id)
        missing = self.server.store.missing(bundle.release.blobs)
        if missing:
            raise Incomplete(text("blobs of the release are not in the store"), seen=len(missing))
        refuse_changed_playbooks(self.server, bundle.release)
        if left is not None and left.plan is not None:
            return self._try(left.plan, bundle, left.done)
        return self._fresh(bundle)

    def make_way(self) -> None:
        """Complete an uninstall that was cut off, before anything is imported that it would remove."""
        left = unfinished(self.journal.entries())
        if left is not None and left.operation == "uninstall":
            self.settle(None)

    def rollback(self) -> Outcome:
        """Go back to the release before, out of what is on the disk."""
        left = unfinished(self.journal.entries())
        self.settle(None)
        before = installed(self.server)
        if left is not None and left.leads_back_to(before.release if before else None):
            # Leaving the run that was cut off was the way back.
            return Outcome(before.release if before else None, 0)
        now = self._installed()
        if now.previous is None:
            raise UnfitServer(
                text("there is no release to roll back to"),
                seen=now.release,
                remedy=text("release the old content with a higher counter and carry that bundle in"),
            )
        new, old = self._load(now.release), self._load(now.previous)
        heal_store(self.server, old.release)
        refuse_changed_playbooks(self.server, old.release)
        plan = make_plan(new.release, old.release, "rollback")
        self.journal.append("started", operation="rollback", release=old.release.id)
        return self._try(plan, old, 0)

    def uninstall(self) -> Outcome:
        """Remove everything but data, secrets, state and logs; what was cut off before needs no end then."""
        end_leftovers(self.scratch)
        if unfinished(self.journal.entries()) is not None:
            self.journal.append("finished", outcome="superseded")
        now = None
        with suppress(BanipError):
            now = installed(self.server)
        found = (known(self.server, name, self.trust) for name in release_ids(self.server))
        plan = make_uninstall([one for one in found if one], now.release if now else None)
        self.journal.append("started", operation="uninstall", release=plan.old)
        self.journal.append("planned", plan=msgspec.to_builtins(plan))
        return self._finish(plan, self._carry_out(plan, None, 0))

    def settle(self, wanted: str | None) -> Unfinished | None:
        """End what an earlier run left, forward or back; return it where ``wanted`` continues it."""
        left = unfinished(self.journal.entries())
        if left is None:
            return None
        end_leftovers(self.scratch)
        if left.plan is None:
            self.journal.append("finished", outcome="abandoned")
            return None
        if left.plan.operation not in FORWARD:
            self.say(Event("resume", text("an earlier run was cut off here: completing it first")))
            self._complete(left.plan, left.done)
            return None
        now = installed(self.server)
        if now and now.release == left.plan.new and left.plan.operation != "reapply":
            self.journal.append("finished", outcome=left.plan.operation, release=left.plan.new)
            return None  # it was marked good: only the last line was missing
        if left.plan.new == wanted:
            self.say(Event("resume", text("an earlier run was cut off here: going on with it")))
            return left
        self._leave(left.plan)
        return None

    def _leave(self, plan: Plan) -> None:
        """Give up an install, upgrade or repair that was cut off and that nobody asks for any more."""
        if plan.operation == "reapply":
            self.journal.append("finished", outcome="abandoned", release=plan.new)
        else:
            self.say(Event("resume", text("an earlier run was cut off here: returning from it first")))
            self._return(plan)

    def _complete(self, plan: Plan, done: int) -> None:
        """End a return, a rollback or an uninstall that was cut off."""
        target = self._load(plan.new) if plan.new else None
        if plan.operation == "return":
            self._lead_back(plan, target, done)
        elif plan.operation == "rollback":
            self._try(plan, target, done)
        else:
            self._finish(plan, self._carry_out(plan, target, done))

    # --- Plans -----------------------------------------------------------------------------------------

    def _fresh(self, bundle: TrustedBundle) -> Outcome:
        now = installed(self.server)
        # The installed release again: its folder may be what this run repairs, so it is not asked.
        repair = now is not None and now.release == bundle.release.id
        old = bundle.release if repair else self._load(now.release).release if now else None
        plan = plan_for(old, bundle.release, now.previous if now else None)
        self.journal.append("started", operation=plan.operation, release=bundle.release.id)
        return self._try(plan, bundle, 0)

    def _try(self, plan: Plan, target: TrustedBundle | None, done: int) -> Outcome:
        if done == 0:
            self.journal.append("planned", plan=msgspec.to_builtins(plan))
        try:
            return self._finish(plan, self._carry_out(plan, target, done))
        except StepFailed as failure:
            self.journal.append("failed", step=type(failure.step).__name__, faults=list(failure.faults))
            if plan.operation == "reapply":
                raise self._unhealthy(plan, failure) from failure
            self._return(plan)
            raise Returned(
                text("{release} did not become healthy; the state before it is back", release=plan.new),
                where=failure.step.describe(),
                seen="; ".join(failure.faults)[:4000],
                expected=text("every task and every health check to succeed"),
                remedy=text("keep the log folder {folder} for your supplier", folder=self.server.logs),
            ) from failure

    def _unhealthy(self, plan: Plan, failure: StepFailed) -> UnfitServer:
        """End a repair of the installed release that did not help: nothing is left to return to."""
        self.journal.append("finished", outcome="failed", release=plan.new)
        return UnfitServer(
            text("{release} is installed, and is not healthy", release=plan.new),
            where=failure.step.describe(),
            seen="; ".join(failure.faults)[:4000],
            remedy=text("run `appliance rollback`, or see the log in {folder}", folder=self.server.logs),
        )

    def _return(self, failed: Plan) -> None:
        """Lead a failed plan back to where it came from; a failure here leaves the operation unfinished."""
        words = text("returning to the state without a release")
        if failed.old is not None:
            words = text("returning to {release}", release=failed.old)
        self.say(Event("return", words))
        attempted = failed.new is not None and self.server.folder(failed.new).is_dir()
        new = known(self.server, failed.new, self.trust) if failed.new and attempted else None
        old = self._load(failed.old) if failed.old else None
        now = installed(self.server)
        previous = now.previous if now and now.release == failed.old else None
        plan = make_plan(new, old.release if old else None, "return", previous=previous)
        self.journal.append("planned", plan=msgspec.to_builtins(plan))
        self._lead_back(plan, old, 0)

    def _lead_back(self, plan: Plan, old: TrustedBundle | None, done: int) -> None:
        try:
            self._finish(plan, self._carry_out(plan, old, done))
        except StepFailed as failure:
            raise BanipError(
                text("the return failed too; the server needs a person"),
                where=failure.step.describe(),
                seen="; ".join(failure.faults)[:4000],
                remedy=text("run `appliance rollback` again after the cause is gone; nothing was deleted"),
            ) from failure

    def _finish(self, plan: Plan, changed: int) -> Outcome:
        self.journal.append("finished", outcome=plan.operation, release=plan.new, changed=changed)
        return Outcome(plan.new, changed, already=plan.operation == "reapply")

    def _carry_out(self, plan: Plan, target: TrustedBundle | None, done: int) -> int:
        """Do the steps that are not done; return how many tasks of the roles changed something."""
        for number in range(done, len(plan.steps)):
            step = plan.steps[number]
            if isinstance(step, PREPARATION):
                with naming_a_full_disk(self.server.root):
                    self._announce(step)
                    prepare(step, target, self.server, self.say)
                self.journal.append("done", step=number)
            elif target is None:
                self.act(step)
                self.journal.append("done", step=number)
            else:
                return self._hand_over(target.release, step)
        return 0

    def _hand_over(self, release: Release, step: Step) -> int:
        """Let the release's own appliance do the rest of the plan; it journals every step itself."""
        changed, faults = 0, ()
        with self._start_rest(release, step) as child:
            for line in child.stdout or ():
                told = _told(line)
                changed += told.get("changed", 0)
                faults = tuple(told.get("faults", faults))
                if "said" in told and "event" in told:
                    words = text("{said}", said=told["said"])
                    self.say(Event(told["event"], words, told.get("facts", {})))
        if child.returncode != 0:
            left = unfinished(self.journal.entries())
            failed = left.plan.steps[left.done] if left and left.plan else step
            raise StepFailed(failed, faults or (f"the release's appliance ended with {child.returncode}",))
        return changed

    def _start_rest(self, release: Release, step: Step) -> subprocess.Popen[str]:
        lock = self.lock.fileno()
        argv = [str(self.server.python(release)), "-I", "-m", "appliance", "--root", str(self.server.root)]
        try:
            return subprocess.Popen(
                [*argv, "--json", "--lang", self.language, "carry-out", "--lock-descriptor", str(lock)],
                env=CLEAN_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                pass_fds=(lock,),
                text=True,
            )
        except OSError as error:  # the environment's Python does not start: as good as a failed step
            raise StepFailed(step, (str(error),)) from error

    def act(self, step: Step) -> int:
        """Do one step that belongs to the release; return the number of changed tasks."""
        self._announce(step)
        if isinstance(step, Switch):
            switch(self.server, step.release)
        elif isinstance(step, Retire):
            retire(step.owned)
        elif isinstance(step, Converge):
            return self._converge(step)
        elif isinstance(step, CheckHealth):
            faults = wait_for_health(self._load(step.release).release)
            if faults:
                raise StepFailed(step, tuple(fault.render(self.language) for fault in faults))
        elif isinstance(step, Keep):
            keep(self.server, self._load(step.release), step.previous)
            with suppress(UnfitServer):  # an image too many is no reason to leave a healthy release
                self.server.containers.keep_only(release_ids(self.server))
        elif isinstance(step, Discard):
            self._discard()
        return 0

    def _converge(self, step: Converge) -> int:
        release = self._load(step.release).release
        make_folder(self.server.logs, mode=0o750)
        make_folder(self.server.data)
        self.server.data.chmod(0o755)  # an uninstall had closed it
        recap = converge(
            self.server.folder(release.id),
            role_variables(self.server, release, self.variables),
            scratch=self.scratch,
            log=self.server.logs / "operations.log",
            progress=lambda task: self.say(Event("task", text("task: {task}", task=task))),
        )
        if recap.failures:
            raise StepFailed(step, recap.failures)
        return recap.changed

    def _discard(self) -> None:
        self.server.containers.remove()
        folders = (self.server.releases, self.server.environments, self.server.root / "store")
        for folder in (*folders, self.server.scratch):
            # A half-removed folder under its own name would be read as a damaged release by the next run.
            going = folder.with_name(f".{folder.name}.going")
            if folder.exists():
                shutil.rmtree(going, ignore_errors=True)
                rename_durably(folder, going)
            shutil.rmtree(going, ignore_errors=True)
        if self.server.data.exists():
            # The accounts that owned these files are gone: nobody else may inherit their numbers' files.
            self.server.data.chmod(0o700)
        with suppress(OSError):  # not there, or in use by the run of appliance.pyz that does this
            (self.server.root / "first-contact").rmdir()
        sync_folder(self.server.root)

    def _announce(self, step: Step) -> None:
        self.say(Event("step", step.describe(), {"step": type(step).__name__.lower()}))

    def _installed(self) -> Installed:
        now = installed(self.server)
        if now is None:
            raise UnfitServer(
                text("no release is installed"),
                where=self.server.root,
                remedy=text("install one first: appliance install BUNDLE"),
            )
        return now

    def _load(self, release_id: str) -> TrustedBundle:
        return load(self.server, release_id, self.trust)


def _told(line: str) -> dict[str, Any]:
    """Read a line of the release's appliance: an event, a result, an error, or words of some program."""
    try:
        told = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return {"event": "output", "said": line.rstrip()}
    if "error" in told:  # what broke a step, in one line of the failure that it is
        told["faults"] = [
            "; ".join(str(told[name]) for name in ("happened", "where", "seen") if name in told)
        ]
    return told


def carry_out_rest(operator: Operator) -> int:
    """Do what is left of the journal's plan, in the process of the release that it leads to."""
    left = unfinished(operator.journal.entries())
    if left is None or left.plan is None:
        raise BanipError(text("the journal holds no plan to carry out"))
    changed = 0
    for number in range(left.done, len(left.plan.steps)):
        changed += operator.act(left.plan.steps[number])
        operator.journal.append("done", step=number)
    return changed
