"""The embedding service: a double for tests of what asks it, and the check of the real one.

The real one needs torch and FlagEmbedding, which the development environment has not: ``check_service`` is
called where a release's environment is installed (the stack's test), or by hand::

    python -m tests.embedding INTERPRETER RELEASE_FOLDER EMBEDDING_MODEL RERANK_MODEL
"""

from __future__ import annotations

import http.client
import json
import math
import os
import random
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appliance.rag.embedding import Encoder
from tests.serving import PROJECT, _is_open, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Ask = Callable[[str, str, object], tuple[int, Any]]  # method, path, body; status, JSON
    Direct = Callable[[str, list[str]], tuple[list[list[float]], list[float]]]  # question, texts

TEXTS = [
    "액체질소 탱크의 점검 주기는 45일이며 담당 부서는 설비안전팀이다.",
    "옥상 냉각탑의 점검 주기는 20일이며 담당 부서는 시설운영팀이다.",
    "짧다",
]
QUESTION = "액체질소 탱크는 며칠마다 점검합니까?"
_START_S = 300
#: What anybody would write with FlagEmbedding, without a line of ours.
_DIRECT = """
import json, sys
from FlagEmbedding import BGEM3FlagModel, FlagReranker
asked = json.load(sys.stdin)
embedder = BGEM3FlagModel(sys.argv[1], use_fp16=False, devices="cpu")
lengths = {"max_length": 1024, "query_max_length": 256}
reranker = FlagReranker(sys.argv[2], use_fp16=False, devices="cpu", normalize=True, **lengths)
vectors = [embedder.encode([each], max_length=1024)["dense_vecs"][0].tolist() for each in asked["texts"]]
scores = reranker.compute_score([(asked["question"], each) for each in asked["texts"]])
print("answer:", json.dumps([vectors, [float(score) for score in scores]]))
"""


class SeededEmbedding:
    """``Embedding`` that knows nothing: a text gets an arbitrary vector, always the same one.

    ``asked`` remembers every text, ``reranked`` every question.
    """

    def __init__(self, digest: str = "d" * 64, dimension: int = 32) -> None:
        self.digest, self.dimension = digest, dimension
        self.asked: list[str] = []
        self.reranked: list[str] = []

    def encoder(self) -> Encoder:
        return Encoder("seeded", self.digest, self.dimension)

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked += texts
        return [self.vector(text) for text in texts]

    def vector(self, text: str) -> list[float]:
        source = random.Random(self.digest + text)  # noqa: S311 - a test's numbers
        numbers = [source.gauss(0, 1) for _ in range(self.dimension)]
        length = math.hypot(*numbers)
        return [number / length for number in numbers]

    def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        self.reranked.append(question)
        return [random.Random(question + text).random() for text in texts]  # noqa: S311 - as above


def check_service(ask: Ask, direct: Direct, release: str) -> None:
    """Assert that a service says what FlagEmbedding says, and survives what FlagEmbedding does not."""
    status, health = ask("GET", "/health", None)
    assert (status, health["status"], health["release"]) == (200, "ok", release)
    vectors, scores = direct(QUESTION, TEXTS)
    status, said = ask("POST", "/v1/embeddings", {"input": TEXTS, "model": health["embedding_model"]})
    assert status == 200, said
    assert said["embedding_digest"] == health["embedding_digest"]
    rows = [row["embedding"] for row in sorted(said["data"], key=lambda row: row["index"])]
    assert {len(row) for row in rows} == {health["dimension"]}
    assert distance(rows, vectors) < 1e-5
    assert distance(rows, [[*vectors[1]], [*vectors[0]], [*vectors[2]]]) > 1e-4, "any text gets any vector"
    status, said = ask("POST", "/v1/rerank", {"query": QUESTION, "documents": TEXTS})
    assert status == 200, said
    assert distance([[each["relevance_score"] for each in said["results"]]], [scores]) < 1e-5
    _check_edges(ask)


def _check_edges(ask: Ask) -> None:
    assert ask("POST", "/v1/embeddings", {"input": []})[1]["data"] == []
    assert ask("POST", "/v1/rerank", {"query": QUESTION, "documents": []})[1]["results"] == []
    assert ask("POST", "/v1/embeddings", {"input": ["가" * 8000]})[0] == 200  # cut to the model's window
    assert ask("POST", "/v1/rerank", {"query": "가" * 8000, "documents": ["나" * 8000]})[0] == 200
    assert ask("POST", "/v1/embeddings", {"input": ["가" * 8001]})[0] == 400
    assert ask("POST", "/v1/embeddings", {"input": ["가"] * 65})[0] == 400
    assert ask("POST", "/v1/embeddings", {"input": ["가"], "model": "gpt-4"})[0] == 400
    assert ask("POST", "/v1/embeddings", {"input": ["가" * 8000] * 300})[0] == 413


def distance(ones: Sequence[Sequence[float]], others: Sequence[Sequence[float]]) -> float:
    """Return the largest difference of any two numbers in the same place."""
    pairs = [pair for rows in zip(ones, others, strict=True) for pair in zip(*rows, strict=True)]
    return max(abs(one - other) for one, other in pairs)


def direct_by(python: str, embedding: Path, rerank: Path) -> Direct:
    """Return a direct call of FlagEmbedding in a process of that interpreter."""

    def direct(question: str, texts: list[str]) -> tuple[list[list[float]], list[float]]:
        argv = [python, "-c", _DIRECT, str(embedding), str(rerank)]
        asked = json.dumps({"question": question, "texts": texts})
        offline = os.environ | {"HF_HUB_OFFLINE": "1"}
        done = subprocess.run(argv, input=asked, capture_output=True, text=True, check=True, env=offline)
        line = next(line for line in done.stdout.splitlines() if line.startswith("answer: "))
        vectors, scores = json.loads(line.removeprefix("answer: "))
        return vectors, scores

    return direct


@contextmanager
def embed_service(python: str, folder: Path, embedding: str, rerank: str) -> Iterator[Ask]:
    """Run the service with that interpreter, which need not have this project installed."""
    port = free_port()
    words = ["--release", str(folder), "--embedding-model", embedding, "--rerank-model", rerank]
    argv = [python, "-m", "appliance.rag.embed", *words, "--port", str(port)]
    with subprocess.Popen(argv, cwd=PROJECT) as process:
        try:
            _wait(process, port)
            yield lambda method, path, body: ask(port, method, path, body)
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        if _is_open(port):
            return
        time.sleep(0.2)
    raise AssertionError(process.poll())


def ask(port: int, method: str, path: str, body: object) -> tuple[int, Any]:
    """Return status and JSON of a request to loopback."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        connection.request(method, path, None if body is None else json.dumps(body).encode())
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def main(python: str, folder: str, embedding: str, rerank: str) -> None:
    models = Path(folder) / "models"
    release = json.loads((Path(folder) / "metadata" / "release.json").read_text("utf-8"))
    name = f"{release['product']}-{release['version']}-c{release['counter']}"
    with embed_service(python, Path(folder), embedding, rerank) as asking:
        check_service(asking, direct_by(python, models / embedding, models / rerank), name)


if __name__ == "__main__":
    main(*sys.argv[1:])
