"""Proofs, taken on the closed server itself, that what answers there is the real thing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tests.samples import DEMO_QUESTION, sample

if TYPE_CHECKING:
    from tests.closed_server import ClosedServer

_ROOT = "/var/lib/banip"
#: TEST-NET-1 of RFC 5737: nobody's.
_ELSEWHERE = "192.0.2.7"
_PLANT = f"import socket; s = socket.socket(); s.settimeout(2); s.connect_ex(('{_ELSEWHERE}', 443))"

_METRICS = """
import re, urllib.request
told = urllib.request.urlopen("http://127.0.0.1:8601/metrics", timeout=10).read().decode()
print(sum(float(n) for n in re.findall(r"(?m)^vllm:request_success_total\\{.*\\} ([0-9.e+]+)$", told)))
"""

_HEALTH = """
import sys, time, urllib.request
for _ in range(600):
    try:
        sys.exit(urllib.request.urlopen("http://127.0.0.1:8600/health", timeout=5).status != 200)
    except OSError as error:
        last = error
    time.sleep(0.5)
sys.exit(str(last))
"""

#: In the release's own environment, over a copy of the shard: one process owns it.
_VECTORS = """
import json, os, shutil, sys, tempfile
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HOME=tempfile.mkdtemp())
from FlagEmbedding import BGEM3FlagModel
from qdrant_edge import EdgeShard, Query, QueryRequest, ScrollRequest
name, shard, model = sys.argv[1:]
copy = os.path.join(tempfile.mkdtemp(), "shard")
shutil.copytree(shard, copy)
engine = EdgeShard.load(copy, None)
points, _ = engine.scroll(ScrollRequest(limit=1000, with_payload=True, with_vector=True))
point = next(each for each in points if each.payload["name"] == name)
direct = BGEM3FlagModel(model, normalize_embeddings=True, devices="cpu", use_fp16=False)
vector = direct.encode([point.payload["text"]], max_length=1024)["dense_vecs"][0].tolist()
found = engine.query(
    QueryRequest(limit=1, prefetches=[], query=Query.Nearest(vector, using="dense"), with_payload=True)
)
furthest = max(abs(a - b) for a, b in zip(point.vector["dense"], vector, strict=True))
told = {"dimension": len(vector), "furthest": furthest, "points": len(points)}
print(json.dumps(told | {"found": found[0].payload["name"], "score": found[0].score}))
"""


class ProofFailed(Exception):
    """What should be the real thing did not behave as the real thing does."""


def check_the_counter_counts(server: ClosedServer) -> str:
    """Plant one attempt to leave: it must read 1, and 0 once it is forgotten, before a 0 is believed."""
    server.reset_attempts()
    server.exec("python3", "-I", "-c", _PLANT)
    planted = server.attempts()
    _demand([each.address for each in planted] == [_ELSEWHERE], f"a planted attempt read {planted}")
    server.reset_attempts()
    _demand(server.attempts() == [], f"after it was forgotten: {server.attempts()}")
    return f"a planted attempt to leave was counted ({planted[0]}) and forgotten: the counter counts"


def wait_until_it_answers(server: ClosedServer) -> None:
    """Wait until the API says that chat model, embedding and documents are all there."""
    server.exec("python3", "-I", "-c", _HEALTH)


def check_nothing_is_stubbed(server: ClosedServer) -> tuple[str, ...]:
    """Return one sentence a proof; raises ``ProofFailed`` with what was seen instead."""
    return (*_vllm_answered(server), *_vectors_are_real(server))


def ask(server: ClosedServer, question: str) -> dict[str, Any]:
    """Ask as an operator does; return the answer with its sources."""
    told: dict[str, Any] = json.loads(
        server.exec("appliance", "--json", "ask", question).stdout.splitlines()[-1]
    )
    answer: dict[str, Any] = told["result"]
    return answer


def successes(server: ClosedServer) -> float:
    """Return how many answers vLLM says it has given."""
    return float(server.exec("python3", "-I", "-c", _METRICS).stdout)


def environment_of(server: ClosedServer, unit: str) -> str:
    """Return the Python that a unit runs."""
    shown = server.exec("systemctl", "show", "--property=ExecStart", "--value", unit).stdout
    found = re.search(r"path=(\S+/bin/python)", shown)
    _demand(found is not None, f"{unit} runs no Python: {shown}")
    return found[1] if found else ""


def _vllm_answered(server: ClosedServer) -> tuple[str, ...]:
    before = successes(server)
    answer = ask(server, DEMO_QUESTION.words)
    after = successes(server)
    _demand(after == before + 1, f"vLLM's counter went from {before} to {after}")
    first = answer["sources"][0]
    _demand(first["name"] == DEMO_QUESTION.name, f"the first source is {first['name']}")
    _demand(all(word in first["text"] for word in DEMO_QUESTION.expected), f"it says {first['text']}")
    log = server.exec("journalctl", "--unit=banip-vllm.service", "--no-pager", "--output=cat").stdout
    prompt = next((line for line in reversed(log.splitlines()) if "prompt: " in line), "")
    wanted = next(part for part in sample(DEMO_QUESTION.name).parts if DEMO_QUESTION.expected[0] in part)
    _demand(str(wanted) in prompt, f"the passage is not in the prompt that vLLM logged: {prompt[:2000]}")
    return (
        f"vLLM's own counter rose from {before:.0f} to {after:.0f} with one answer",
        f"the prompt in vLLM's own log holds the passage of {DEMO_QUESTION.name}",
    )


def _vectors_are_real(server: ClosedServer) -> tuple[str, ...]:
    python = environment_of(server, "banip-embed.service")
    shard = f"{_ROOT}/data/api/collection/shard"
    model = f"{_ROOT}/current/models/demo-embed"
    said = server.exec(python, "-I", "-c", _VECTORS, DEMO_QUESTION.name, shard, model).stdout
    told = json.loads(said.splitlines()[-1])
    _demand(told["furthest"] < 1e-5, f"the stored vector and FlagEmbedding's differ by {told['furthest']}")
    _demand(told["found"] == DEMO_QUESTION.name, f"Qdrant Edge found {told['found']}")
    return (
        f"the stored vector ({told['dimension']} numbers) is FlagEmbedding's own, to {told['furthest']:.0e}",
        f"Qdrant Edge, over a copy of the shard ({told['points']} points), finds that passage first",
    )


def _demand(holds: bool, seen: str) -> None:  # noqa: FBT001 - reads as a sentence
    if not holds:
        raise ProofFailed(seen)
