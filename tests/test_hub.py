"""Models through the real hub client, from a hub on loopback that breaks off, lies, and leaves things out."""

from __future__ import annotations

import hashlib
import os
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest

from appliance.format import Blob
from appliance.problems import Incompletes
from bundle.collect import collect
from bundle.resolve import make_lock
from tests.project import Events, TinyProject
from tests.sources.hub import LocalHub, local_hub, publish_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bundle.lock import Lock, LockedModel

pytestmark = pytest.mark.real  # downloads with the hub's client
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
REPOSITORY = "someone/weights"
#: The client writes down pieces of 10 MiB; what of one has arrived when the line is cut is asked for again.
PIECE_BYTES = 10 * 1024 * 1024
CUT_BYTES, RESUMED_BYTES = PIECE_BYTES + 1000, PIECE_BYTES
WEIGHTS = os.urandom(CUT_BYTES + 1000)


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with local_hub() as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path, hub: LocalHub) -> Path:
    """Give a model folder that is the hub's first commit."""
    folder = tmp_path / "model"
    for name, content in {
        "config.json": b"{}",
        "model.safetensors": WEIGHTS,
        "onnx/model.onnx": b"not wanted",
        ".gitattributes": b"*.safetensors filter=lfs",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    hub.publish(REPOSITORY, folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, hub: LocalHub, folder: Path) -> TinyProject:
    assert folder.is_dir()
    found = TinyProject(tmp_path / "project")
    found.edit("find_links: [wheels]", f"find_links: [wheels]\n  hub: {hub.url}")
    found.edit("models:\n", f'models:\n  big:\n    hub: {REPOSITORY}\n    exclude: ["onnx/*"]\n')
    return found


def locked(project: TinyProject) -> Lock:
    return make_lock(project.check(), project.workshop, now=NOW, report=Events())


def model(lock: Lock, name: str = "big") -> LockedModel:
    return next(each for each in lock.models if each.name == name)


def collected(project: TinyProject, lock: Lock) -> Events:
    events = Events()
    collect(project.check(), lock, project.workshop, events)
    return events


def failures(project: TinyProject, lock: Lock) -> dict[str, str]:
    with pytest.raises(Incompletes) as caught:
        collected(project, lock)
    assert caught.value.exit_code == 12
    return {problem.where: str(problem.said) for problem in caught.value.problems}


def starts(hub: LocalHub, path: str = "model.safetensors") -> list[int]:
    return [start for served, start in hub.served if served == path]


def test_a_name_is_pinned_to_a_commit_and_every_file_to_its_digest(
    project: TinyProject, hub: LocalHub
) -> None:
    found = model(locked(project))
    assert found.commit == hub.commits[REPOSITORY][0].id
    digests = {file.path: (file.sha256, file.size_bytes) for file in found.files}
    assert digests == {
        "config.json": (hashlib.sha256(b"{}").hexdigest(), 2),
        "model.safetensors": (hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS)),
    }, "excluded and hidden files stay out"
    assert starts(hub) == [], "the hub knows the digest of what is large: nobody fetches it to lock it"


def test_a_collected_model_is_the_locked_commit_though_the_branch_has_moved(
    project: TinyProject, hub: LocalHub, folder: Path
) -> None:
    lock = locked(project)
    (folder / "model.safetensors").write_bytes(b"newer")
    (folder / "config.json").write_bytes(b'{"newer": true}')
    newer = hub.publish(REPOSITORY, folder)
    events = collected(project, lock)
    assert "models/big/model.safetensors" in events.names("fetched")
    assert project.workshop.store.missing(lock.blobs()) == ()
    assert model(locked(project)).commit == newer


def test_what_arrived_lies_in_the_store_and_nowhere_else(project: TinyProject) -> None:
    lock = locked(project)
    collected(project, lock)
    assert list(project.workshop.hub.rglob("*")) == []
    again = locked(project)
    assert "models/big/model.safetensors" in collected(project, again).names("cached")
    assert list(project.workshop.hub.rglob("*")) == []
    weights = next(file for file in model(lock).files if file.path == "model.safetensors")
    blob = project.workshop.store.path(weights.sha256)
    assert (blob.read_bytes(), blob.stat().st_mode & 0o777) == (WEIGHTS, 0o444)


def test_a_cut_line_is_taken_up_where_it_broke_within_one_run(project: TinyProject, hub: LocalHub) -> None:
    hub.cuts["model.safetensors"] = CUT_BYTES
    lock = locked(project)
    collected(project, lock)
    assert starts(hub) == [0, RESUMED_BYTES]
    assert project.workshop.store.missing(lock.blobs()) == ()


def test_a_hub_that_goes_away_is_a_named_failure_and_the_next_run_goes_on_inside_the_file(
    project: TinyProject, hub: LocalHub
) -> None:
    lock = locked(project)
    hub.cuts["model.safetensors"] = CUT_BYTES
    hub.last_words = {"model.safetensors"}
    (reason,) = failures(project, lock).values()
    assert "could not give it" in reason
    hub.away.clear()
    hub.served.clear()
    collected(project, lock)
    assert starts(hub) == [RESUMED_BYTES]
    assert project.workshop.store.missing(lock.blobs()) == ()


def test_other_content_than_promised_is_a_named_failure_and_no_trap(
    project: TinyProject, hub: LocalHub
) -> None:
    lock = locked(project)
    hub.lies["model.safetensors"] = os.urandom(len(WEIGHTS))
    assert failures(project, lock) == {
        "models/big/model.safetensors": "the hub gives other content than was locked"
    }
    weights = next(file for file in model(lock).files if file.path == "model.safetensors")
    assert not project.workshop.store.has(Blob(sha256=weights.sha256, size_bytes=weights.size_bytes))
    hub.lies.clear()
    collected(project, lock)
    assert project.workshop.store.missing(lock.blobs()) == ()


def test_more_content_than_promised_is_a_named_failure(project: TinyProject, hub: LocalHub) -> None:
    lock = locked(project)
    hub.lies["model.safetensors"] = WEIGHTS + b"more"
    assert failures(project, lock).keys() == {"models/big/model.safetensors"}
    hub.lies.clear()
    collected(project, lock)
    assert project.workshop.store.missing(lock.blobs()) == ()


def test_a_token_of_the_hub_is_not_shown_to_the_store_that_it_points_to(
    project: TinyProject, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_" + "a" * 34)
    collected(project, locked(project))
    assert hub.shown_tokens == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (f"hub: {REPOSITORY}", "hub: someone/nothing", "someone/nothing"),
        (f"hub: {REPOSITORY}", f"hub: {REPOSITORY}\n    revision: v9", REPOSITORY),
    ],
)
def test_a_repository_or_revision_that_is_not_there_is_unlocked_with_the_reason(
    project: TinyProject, old: str, new: str, words: str
) -> None:
    project.edit(old, new)
    (unlocked,) = locked(project).unlocked
    assert (unlocked.kind, unlocked.name) == ("model", f"big ({words})")
    assert "not found" in unlocked.reason.lower() or "invalid rev" in unlocked.reason.lower()


@pytest.mark.parametrize("name", ["my model.safetensors", "b$.safetensors", "모델.safetensors"])
def test_a_file_whose_name_no_release_can_have_is_told_at_once(
    project: TinyProject, hub: LocalHub, name: str
) -> None:
    hub.commits[REPOSITORY][-1].files[name] = b"weights"
    (unlocked,) = locked(project).unlocked
    assert name in unlocked.reason
    project.edit('["onnx/*"]', f'["onnx/*", "{name}"]')
    assert locked(project).unlocked == ()


def test_a_model_of_which_nothing_is_left_is_unlocked(project: TinyProject) -> None:
    project.edit('["onnx/*"]', '["*"]')
    (unlocked,) = locked(project).unlocked
    assert unlocked.reason == "no file of it is left"


def test_a_small_file_that_the_hub_cannot_serve_leaves_the_model_unlocked(
    project: TinyProject, hub: LocalHub
) -> None:
    hub.away = {"config.json"}
    (unlocked,) = locked(project).unlocked
    assert unlocked.name == f"big ({REPOSITORY})"


def test_the_models_of_the_demo_are_the_same_commits_every_time(hub: LocalHub) -> None:
    first = publish_model(hub, "demo-rerank", "one")
    assert publish_model(hub, "demo-rerank", "one") == first
    assert publish_model(hub, "demo-rerank", "two") != first
