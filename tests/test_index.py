"""Where wheels come from: what the manifest names, what this machine has, what does not answer."""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from appliance.problems import BadInputs
from bundle.collect import collect
from bundle.index import Index, find_index
from bundle.resolve import make_lock
from bundle.sources import Sources
from tests.project import NOWHERE, Events, TinyProject, make_wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bundle.lock import Lock

NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
SILENT = NOWHERE.partition("://")[2]


def simple_index(folder: Path, name: str, version: str) -> Path:
    """Make an index of one wheel, as PEP 503 has it."""
    wheel = make_wheel(folder / name, name, version)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / name / "index.html").write_text(f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>')
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    root_status = 200

    def do_HEAD(self) -> None:
        if self.path == "/" and self.root_status != 200:
            self.send_error(self.root_status)
        else:
            super().do_HEAD()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path, root_status: int = 200) -> Iterator[str]:
    """Serve an index on loopback; the answer at its root may be another than its pages'."""
    handler = type("Handler", (_Quiet,), {"root_status": root_status})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder)) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TinyProject:
    """Give a project whose manifest names no sources, on a machine whose own index has ``leaf``."""
    found = TinyProject(tmp_path / "project")
    found.edit("sources:\n  find_links: [wheels]\n", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    own = simple_index(tmp_path / "own", "leaf", "1.0")
    monkeypatch.setenv("PIP_INDEX_URL", own.as_uri())
    return found


def with_extra(project: TinyProject, url: str) -> TinyProject:
    project.edit("environments:\n", f'sources:\n  extra_indexes: ["{url}"]\nenvironments:\n')
    return project


def locked(project: TinyProject, report: Events | None = None) -> Lock:
    return make_lock(project.check(), project.workshop, now=NOW, report=report or Events())


@pytest.mark.real
def test_an_extra_index_stands_beside_the_machines_own(project: TinyProject, tmp_path: Path) -> None:
    project.edit("- leaf==1.0", "- leaf==1.0\n      - twig==2.0")
    with served(simple_index(tmp_path / "more", "twig", "2.0")) as url:
        lock = locked(with_extra(project, url))
        assert lock.unlocked == ()
        collect(project.check(), lock, project.workshop, Events())
    assert {"leaf", "twig"} <= {wheel.name for wheel in lock.wheels()}


@pytest.mark.real
def test_an_extra_index_that_does_not_answer_is_reported_and_left_out(project: TinyProject) -> None:
    events = Events()
    lock = locked(with_extra(project, NOWHERE), events)
    assert lock.unlocked == ()
    assert events.names("unanswered") == [SILENT]
    events = Events()
    collect(project.check(), lock, project.workshop, events)
    assert events.names("unanswered") == [SILENT]
    assert project.workshop.store.missing(lock.blobs()) == ()


@pytest.mark.real
def test_folders_of_wheels_on_this_machine_serve_in_place_of_an_index_that_does_not_answer(
    project: TinyProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_wheel(tmp_path / "mirror", "twig", "2.0")
    project.edit("- leaf==1.0", "- leaf==1.0\n      - twig==2.0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "mirror"))
    assert locked(with_extra(project, NOWHERE)).unlocked == ()


@pytest.mark.real
def test_what_only_the_silent_index_has_is_unlocked_and_the_reason_names_it(project: TinyProject) -> None:
    project.edit("- leaf==1.0", "- leaf==1.0\n      - twig==2.0")
    (unlocked,) = locked(with_extra(project, NOWHERE)).unlocked
    assert (unlocked.kind, unlocked.name) == ("environment", "api")
    assert "twig" in unlocked.reason
    assert f"the extra index {SILENT} did not answer" in unlocked.reason


@pytest.mark.parametrize(("status", "answers"), [(200, True), (403, True), (404, True), (503, False)])
def test_a_refusal_is_an_answer_and_a_fault_is_none(tmp_path: Path, status: int, *, answers: bool) -> None:
    with served(simple_index(tmp_path / "more", "twig", "2.0"), status) as url:
        index = find_index(Sources(index=NOWHERE, extra_indexes=(url,)), tmp_path)
    assert index.extra_indexes == ((url,) if answers else ())
    assert index.silent == (() if answers else (url.partition("://")[2],))


def test_a_named_index_stands_alone(project: TinyProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", NOWHERE)
    monkeypatch.setenv("PIP_FIND_LINKS", str(project.folder / "wheels"))
    assert find_index(Sources(index="https://one.example"), project.folder) == Index("https://one.example")


def test_folders_alone_mean_those_folders_alone(project: TinyProject) -> None:
    index = find_index(Sources(find_links=("wheels",)), project.folder)
    assert (index.index, index.find_links) == (None, (str(project.folder / "wheels"),))


@pytest.mark.real
def test_what_is_excluded_stays_out_although_something_requires_it(project: TinyProject) -> None:
    make_wheel(project.folder / "wheels", "twig", "2.0")
    project.edit("environments:\n", "sources:\n  find_links: [wheels]\nenvironments:\n")
    project.edit("    requirements:\n      - leaf==1.0\n", "        extras: [controller]\n")
    assert "leaf" in _api(locked(project))
    project.edit("        extras: [controller]\n", "        extras: [controller]\n    excludes: [Leaf]\n")
    lock = locked(project)
    assert lock.unlocked == ()
    assert _api(lock) == {"tiny"}


def test_a_name_cannot_be_required_and_excluded(project: TinyProject) -> None:
    project.edit("      - leaf==1.0\n", "      - leaf==1.0\n    excludes: [LEAF]\n")

    with pytest.raises(BadInputs) as caught:
        project.check()
    assert "required and excluded" in str(caught.value.problems[0].said)


def _api(lock: Lock) -> set[str]:
    return {wheel.name for each in lock.environments if each.name == "api" for wheel in each.wheels}
