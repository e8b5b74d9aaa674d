"""The embedding service's HTTP side, and the API's client of it, over loopback.

What FlagEmbedding itself answers is checked where it is installed: ``tests.embedding.check_service``.
"""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import uvicorn

from appliance.errors import UnfitServer
from appliance.rag.embed import Served, create_app, model_digest
from appliance.rag.embedding import BATCH_TEXTS, EmbeddingService, Encoder
from tests.embedding import QUESTION, TEXTS, SeededEmbedding, ask, check_service
from tests.serving import free_port
from tests.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SERVED = Served("demo-1.0.0-c1", "embed", "d" * 64, "rerank")


class SeededModels:
    """``Models`` without torch; like FlagEmbedding it fails on nothing, and one call at a time is enough."""

    def __init__(self) -> None:
        self.seeded = SeededEmbedding()
        self.calls: list[int] = []

    def encode(self, texts: Sequence[str]) -> list[list[float]]:
        assert texts
        self.calls.append(len(texts))
        return self.seeded.embed(texts)

    def score(self, question: str, texts: Sequence[str]) -> list[float]:
        assert texts
        return self.seeded.rerank(question, texts)


@contextmanager
def running(app: Any) -> Iterator[int]:  # noqa: ANN401 - any ASGI application
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def models() -> SeededModels:
    return SeededModels()


@pytest.fixture(scope="module")
def port(models: SeededModels) -> Iterator[int]:
    with running(create_app(models, SERVED)) as port:
        yield port


@pytest.fixture
def service(port: int) -> Iterator[EmbeddingService]:
    with EmbeddingService(f"http://127.0.0.1:{port}") as service:
        yield service


def test_it_passes_the_check_that_the_real_one_must_pass(port: int) -> None:
    def direct(question: str, texts: list[str]) -> tuple[list[list[float]], list[float]]:
        return SeededEmbedding().embed(texts), SeededEmbedding().rerank(question, texts)

    check_service(lambda *asked: ask(port, *asked), direct, "demo-1.0.0-c1")


def test_the_check_sees_a_service_that_answers_something_else(port: int) -> None:
    def direct(question: str, texts: list[str]) -> tuple[list[list[float]], list[float]]:
        return SeededEmbedding("e" * 64).embed(texts), SeededEmbedding().rerank(question, texts)

    with pytest.raises(AssertionError):
        check_service(lambda *asked: ask(port, *asked), direct, "demo-1.0.0-c1")


def test_health_names_release_models_and_dimension(port: int) -> None:
    assert ask(port, "GET", "/health", None) == (
        200,
        {
            "status": "ok",
            "release": "demo-1.0.0-c1",
            "embedding_model": "embed",
            "embedding_digest": "d" * 64,
            "rerank_model": "rerank",
            "dimension": 32,
        },
    )


def test_metrics_count_requests_and_texts(port: int) -> None:
    ask(port, "POST", "/v1/embeddings", {"input": ["가", "나"]})
    told = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    assert 'banip_embed_seconds_count{endpoint="embeddings"}' in told
    assert 'banip_embed_texts_sum{endpoint="embeddings"}' in told


def test_one_text_may_come_without_a_list(port: int) -> None:
    status, told = ask(port, "POST", "/v1/embeddings", {"input": "가"})
    assert (status, len(told["data"])) == (200, 1)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"[]",
        b'{"input": 7}',
        b'{"input": [""]}',
        b'{"input": [[1, 2]]}',
        b'{"input": ["\xff"]}',
        json.dumps({"input": ["\ud800"]}).encode(),
    ],
)
def test_what_is_no_request_is_refused(port: int, body: bytes) -> None:
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/embeddings", content=body, trust_env=False)
    assert answer.status_code == 400
    assert "not a request" in answer.json()["error"]["message"]


def test_the_client_asks_in_batches_and_keeps_the_order(
    service: EmbeddingService, models: SeededModels
) -> None:
    texts = [f"문장 {number}" for number in range(BATCH_TEXTS * 2 + 1)]
    models.calls.clear()
    assert service.embed(texts) == SeededEmbedding().embed(texts)
    assert models.calls == [BATCH_TEXTS, BATCH_TEXTS, 1]


def test_the_client_reranks_in_the_order_asked(service: EmbeddingService) -> None:
    assert service.rerank(QUESTION, TEXTS) == SeededEmbedding().rerank(QUESTION, TEXTS)


def test_nothing_is_asked_for_nothing(service: EmbeddingService) -> None:
    assert (service.embed([]), service.rerank(QUESTION, [])) == ([], [])


def test_the_client_knows_the_encoder(service: EmbeddingService) -> None:
    assert service.encoder() == Encoder("embed", "d" * 64, 32)


def test_a_service_that_is_not_there_is_named() -> None:
    with EmbeddingService(f"http://127.0.0.1:{free_port()}") as service, pytest.raises(UnfitServer) as caught:
        service.encoder()
    assert "127.0.0.1" in str(caught.value.where)
    assert "banip-embed" in str(caught.value.remedy)


def test_a_model_that_was_exchanged_is_noticed_and_then_known() -> None:
    models = SeededModels()
    app = create_app(models, SERVED)
    with running(app) as port, EmbeddingService(f"http://127.0.0.1:{port}") as service:
        service.encoder()
        app.router.routes[:] = create_app(models, replace(SERVED, embedding_digest="e" * 64)).router.routes
        with pytest.raises(UnfitServer, match="changed its model"):
            service.embed(["가"])
        assert service.encoder().digest == "e" * 64
        assert len(service.embed(["가"])) == 1


async def _foreign(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    """Answer everything with what no embedding service says."""
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"<html>"})


def test_an_answer_of_something_else_is_refused() -> None:
    with running(_foreign) as port, EmbeddingService(f"http://127.0.0.1:{port}") as service:
        for asked in (service.encoder, lambda: service.rerank("가", ["나"])):
            with pytest.raises(UnfitServer, match="no answer that can be used"):
                asked()


def test_a_proxy_of_the_surroundings_is_not_used(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with EmbeddingService(f"http://127.0.0.1:{port}") as service:
        assert service.encoder().model == "embed"


def test_a_model_is_known_by_the_names_and_digests_of_its_files() -> None:
    world = World()
    world.files |= {"models/a/x": b"1", "models/a/y": b"2", "models/b/x": b"1", "models/b/y": b"2"}
    digests = {model_digest(world.release, name) for name in ("a", "b")}
    assert len(digests) == 1  # the name of its folder does not matter
    world.files["models/b/y"] = b"3"
    assert model_digest(world.release, "b") not in digests
    assert model_digest(world.release, "a") in digests


def test_a_model_that_the_release_does_not_have_is_refused() -> None:
    world = World()
    world.files["models/a/x"] = b"1"
    with pytest.raises(UnfitServer) as caught:
        model_digest(world.release, "b")
    assert (caught.value.expected, caught.value.seen) == ("a, tiny", "b")
