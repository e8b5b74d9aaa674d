"""The release's roles, run by the real ansible-core against this machine, without root."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from appliance.playbook import Recap, converge

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real  # runs ansible
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - name: Write which release answers
      ansible.builtin.copy:
        content: "{{ banip_release }}"
        dest: "{{ answers }}"
        mode: "0644"
"""
BROKEN = """
    - name: Say why it is broken
      ansible.builtin.fail:
        msg: the reason
"""


class Folder:
    def __init__(self, path: Path) -> None:
        self.release, self.log, self.scratch = path / "release", path / "operations.log", path / "scratch"
        self.answers, self.tasks = path / "answers", list[str]()
        (self.release / "playbooks").mkdir(parents=True)

    def converge(self, play: str, **variables: Any) -> Recap:  # noqa: ANN401 - role variables
        (self.release / "playbooks" / "site.yml").write_text(play)
        given = {"answers": str(self.answers), "banip_release": "demo-1.0.0-c1", **variables}
        return converge(self.release, given, scratch=self.scratch, log=self.log, progress=self.tasks.append)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_second_run_changes_nothing(folder: Folder) -> None:
    assert folder.converge(PLAY) == Recap(ok=1, changed=1, failures=())
    assert folder.answers.read_text() == "demo-1.0.0-c1"
    assert folder.converge(PLAY) == Recap(ok=1, changed=0, failures=())
    assert folder.tasks == ["Write which release answers"] * 2


def test_a_failed_task_is_in_the_recap_with_its_reason(folder: Folder) -> None:
    recap = folder.converge(PLAY + BROKEN)
    assert len(recap.failures) == 1
    assert "Say why it is broken: the reason" in recap.failures[0]
    assert "site.yml" in recap.failures[0]


def test_of_a_loop_every_item_that_failed_is_named_and_nothing_else_of_it(folder: Folder) -> None:
    loop = """
    - name: Close the files
      ansible.builtin.file:
        path: "{{ item.path }}"
        mode: "0600"
        state: file
      loop: [{path: /nonexistent/one, key: hidden}, {path: "{{ answers }}"}, {path: /nonexistent/two}]
"""
    label = '      loop_control:\n        label: "{{ item.path }}"\n'
    told = folder.converge(PLAY + loop + label).failures
    assert [line.partition("Close the files: ")[2].partition(":")[0] for line in told] == [
        "/nonexistent/one",
        "/nonexistent/two",
    ]
    told = folder.converge(PLAY + loop).failures
    assert len(told) == 2
    assert "hidden" not in "".join(told)


def test_a_play_that_does_not_parse_points_at_the_log(folder: Folder) -> None:
    recap = folder.converge("- hosts: localhost\n  no_such_key: 1\n")
    assert recap.failures == (f"ansible-playbook ended with 4: see {folder.log}",)
    assert "no_such_key" in folder.log.read_text()


def test_a_task_that_may_fail_is_no_failure(folder: Folder) -> None:
    assert folder.converge(PLAY + BROKEN + "      ignore_errors: true\n").failures == ()


def test_nothing_is_left_but_the_log(folder: Folder) -> None:
    folder.converge(PLAY)
    assert not folder.scratch.exists()
    assert "Write which release answers" in folder.log.read_text()
    folder.converge(PLAY + BROKEN)
    assert not folder.scratch.exists()
