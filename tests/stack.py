"""The whole stack as the demo and its tests carry it: local sources, a workshop, two releases, one stick."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.carried import PROJECT, Change, Workshop
from tests.samples import SAMPLES, content_of
from tests.sources.guide import write_guide
from tests.sources.hub import HUB_PORT, local_hub, publish_model
from tests.sources.models import WRITERS
from tests.sources.registry import make_guide_image, registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

#: As in manifests/demo.yaml.
REGISTRY_PORT = 8651
FIRST = Change("1.0.0", 1)
#: Another application and, by ``sources``, another chat model; embedding model and vLLM's environment stay.
SECOND = Change("1.1.0", 2, (("pyproject.toml", r'(?m)^version = "0\.1\.0"$', 'version = "0.2.0"'),))
#: Its embedding service cannot start: only the health gate finds out.
UNHEALTHY = Change(
    "1.2.0",
    3,
    (
        *SECOND.edits,
        ("manifests/demo.yaml", r"embed_rerank_model: demo-rerank", "embed_rerank_model: nothing"),
        ("playbooks/roles/embed/meta/banip.yaml", r"health_timeout_s: 300", "health_timeout_s: 10"),
    ),
)


class Stack:
    """One folder, kept between runs: what is fetched and built once is not fetched and built again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stick = folder / "stick"
        documents = self.stick / "documents"
        documents.mkdir(parents=True, exist_ok=True)
        for each in SAMPLES:
            if each.grade != "C":  # a server of grade S takes none of those
                (documents / each.name).write_bytes(content_of(each))
        self.workshop = Workshop(folder / "workshop", "demo")

    def wipe(self) -> None:
        """Take the bundles of an earlier run off the stick, and their counters out of the ledger."""
        for bundle in self.stick.glob("*.tar"):
            bundle.unlink()
        # The keys are thrown away with the folder, and no server outlives a run.
        (self.workshop.keys / "ledger.json").unlink(missing_ok=True)

    def bundle(self, change: Change) -> Path:
        """Where the bundle of a version is."""
        return self.stick / f"demo-{change.version}.tar"


@contextmanager
def sources(stack: Stack, change: Change = FIRST) -> Iterator[None]:
    """Serve models and the guide's image on loopback, as they are when that version is locked."""
    guide = stack.folder / "guide"
    write_guide(PROJECT / "docs" / "ko", guide)
    with local_hub(HUB_PORT) as hub, registry(stack.folder / "registry", REGISTRY_PORT) as images:
        make_guide_image(images, guide)
        for name in WRITERS:
            publish_model(hub, name, "1")
        if change.counter > FIRST.counter:
            publish_model(hub, "demo-chat", "2")
        yield


def carry(stack: Stack, changes: Sequence[Change]) -> None:
    """Build and sign versions onto the stick, the last one's ``appliance.pyz`` beside them."""
    stack.wipe()
    if not stack.workshop.keys.exists():
        stack.workshop.create_keys()
    for change in changes:
        with sources(stack, change):
            stack.workshop.build(change, stack.stick)
