"""The release's roles, run by the release's own ansible-core through ansible-runner.

This module runs inside the release's ``controller`` environment: ansible-playbook is found beside the
running Python, nothing is looked up anywhere else, and nothing is left in a home folder.
"""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from appliance.durable import make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LEFTOVER_TIMEOUT_S = 10
_FAILED = {"runner_on_failed", "runner_on_unreachable"}


@dataclass(frozen=True, slots=True)
class Recap:
    """What a run of the roles came to; ``failures`` say task and message."""

    ok: int
    changed: int
    failures: tuple[str, ...]


def converge(
    release_folder: Path,
    variables: Mapping[str, Any],
    *,
    scratch: Path,
    log: Path,
    progress: Callable[[str], None],
) -> Recap:
    """Run ``playbooks/site.yml`` of the release against this host.

    ``scratch`` holds Ansible's temporary files and is removed; ``log`` gets the whole output, appended;
    ``progress`` gets each task's name. A failed task is in the recap, not an exception.
    """
    end_leftovers(scratch)
    make_folder(scratch, mode=0o700)
    (scratch / "ansible.cfg").touch()
    listener = _Listener(log, progress)
    try:
        status = _run(release_folder / "playbooks", variables, scratch, listener)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if status != 0 and not listener.failures:
        listener.failures.append(f"ansible-playbook ended with {status}: see {log}")
    return Recap(listener.total("ok"), listener.total("changed"), tuple(listener.failures))


def end_leftovers(scratch: Path) -> None:
    """Kill what a killed run left at work, and remove its files: Ansible survives its parent.

    Known by the scratch folder on its command line; two Ansibles must not change one host at a time.
    """
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if process.pid != os.getpid() and any(str(scratch) in word for word in words):
            with suppress(psutil.NoSuchProcess):
                process.kill()
                process.wait(timeout=LEFTOVER_TIMEOUT_S)
    shutil.rmtree(scratch, ignore_errors=True)


def _run(playbooks: Path, variables: Mapping[str, Any], scratch: Path, listener: _Listener) -> int:
    import ansible_runner  # noqa: PLC0415 - heavy, and only the controller environment has it

    run = ansible_runner.run(
        private_data_dir=str(scratch),
        project_dir=str(playbooks),
        playbook="site.yml",
        inventory={"all": {"hosts": {"localhost": {"ansible_python_interpreter": sys.executable}}}},
        extravars=dict(variables),
        envvars=_environment(scratch),
        event_handler=listener.hear,
        quiet=True,
        settings={"suppress_env_files": True},
    )
    status: int = run.rc
    return status


class _Listener:
    """Hears what Ansible does: writes its output to the log, and keeps what failed and the final counts.

    ansible-runner would read the counts from the event files, which are not kept.
    """

    def __init__(self, log: Path, progress: Callable[[str], None]) -> None:
        self.failures: list[str] = []
        self._log, self._progress = log, progress
        self._stats: Mapping[str, Any] = {}

    def total(self, noun: str) -> int:
        """Return the count of that noun (ok, changed) over all hosts."""
        return sum(self._stats.get(noun, {}).values())

    def hear(self, event: dict[str, Any]) -> bool:
        """Take one event of ansible-runner; False: it need not be kept on disk as well."""
        data = event.get("event_data", {})
        if event.get("event") == "playbook_on_task_start":
            self._progress(str(data.get("task", "")))
        if event.get("event") == "playbook_on_stats":
            self._stats = data
        if event.get("event") in _FAILED and not data.get("ignore_errors"):
            task = f"{data.get('task_path', '')}: {data.get('task', '')}"
            self.failures += [f"{task}: {message}" for message in _messages(data.get("res", {}))]
        with self._log.open("a", encoding="utf-8") as lines:
            lines.write(f"{event.get('stdout', '')}\n")
        return False


def _messages(result: Mapping[str, Any]) -> list[str]:
    """Return what a task says of its failure: of a loop, what each item that failed says.

    An item is named by its label where that is a word; a whole item might hold what is nobody's business.
    """
    found = []
    for one in result.get("results", ()):
        if isinstance(one, dict) and one.get("failed"):
            label, message = one.get("_ansible_item_label"), one.get("msg", "failed")
            found.append(f"{label}: {message}" if isinstance(label, str) else str(message))
    return found or [str(result.get("msg", "failed"))]


def _environment(scratch: Path) -> dict[str, str]:
    beside = Path(sys.executable).parent
    return {
        "PATH": f"{beside}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": str(scratch),
        "ANSIBLE_CONFIG": str(scratch / "ansible.cfg"),  # empty: the host's own must not steer the release
        "ANSIBLE_HOME": str(scratch / "home"),
        "ANSIBLE_LOCAL_TEMP": str(scratch / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(scratch / "tmp"),
        "ANSIBLE_REMOTE_TMP": str(scratch / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
