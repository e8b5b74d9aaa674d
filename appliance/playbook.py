"""The release's roles, run by the release's own ansible-core through ansible-runner.

This module runs inside the release's ``controller`` environment: ansible-playbook is found beside the
running Python, nothing is looked up anywhere else, and nothing is left in a home folder.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.durable import make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


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
    import ansible_runner  # noqa: PLC0415 - heavy, and only the controller environment has it

    shutil.rmtree(scratch, ignore_errors=True)
    make_folder(scratch, mode=0o700)
    failures: list[str] = []

    def listen(event: dict[str, Any]) -> bool:
        data = event.get("event_data", {})
        if event.get("event") == "playbook_on_task_start":
            progress(str(data.get("task", "")))
        if event.get("event") in {"runner_on_failed", "runner_on_unreachable"} and not data.get(
            "ignore_errors"
        ):
            message = data.get("res", {}).get("msg", "failed")
            failures.append(f"{data.get('task_path', '')}: {data.get('task', '')}: {message}")
        with log.open("a", encoding="utf-8") as lines:
            lines.write(f"{event.get('stdout', '')}\n")
        return False  # the event need not be kept on disk as well

    try:
        run = ansible_runner.run(
            private_data_dir=str(scratch),
            project_dir=str(release_folder / "playbooks"),
            playbook="site.yml",
            inventory={"all": {"hosts": {"localhost": {"ansible_python_interpreter": sys.executable}}}},
            extravars=dict(variables),
            envvars=_environment(scratch),
            event_handler=listen,
            quiet=True,
            settings={"suppress_env_files": True},
        )
        stats = run.stats or {}
        if run.rc != 0 and not failures:
            failures.append(f"ansible-playbook ended with {run.rc}: see {log}")
        return Recap(_sum(stats, "ok"), _sum(stats, "changed"), tuple(failures))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _environment(scratch: Path) -> dict[str, str]:
    beside = Path(sys.executable).parent
    return {
        "PATH": f"{beside}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "HOME": str(scratch),
        "ANSIBLE_HOME": str(scratch / "home"),
        "ANSIBLE_LOCAL_TEMP": str(scratch / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(scratch / "tmp"),
        "ANSIBLE_REMOTE_TMP": str(scratch / "tmp"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "False",
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def _sum(stats: Mapping[str, Mapping[str, int]], noun: str) -> int:
    return sum(stats.get(noun, {}).values())
