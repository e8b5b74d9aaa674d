"""The tiny models: the same bytes for a seed, every Korean text kept, and numbers that mean what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from tests.sources import encoders
from tests.sources.models import (
    CHAT_CONTEXT,
    WRITERS,
    write_chat_model,
    write_embedding_model,
    write_reranker,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Tensors = dict[str, Array]

PROJECT = Path(__file__).parents[1]
_DIGESTS = """
import hashlib, sys
from pathlib import Path
from tests.sources.models import WRITERS
for name, write in WRITERS.items():
    for path in sorted(write(Path(sys.argv[1]) / name, "seed").iterdir()):
        print(name, path.name, hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_the_same_seed_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", _DIGESTS, str(tmp_path / number)],
            cwd=PROJECT,
            env={"PYTHONHASHSEED": number, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    ]
    assert said[0] == said[1]
    assert {line.split()[0] for line in said[0].splitlines()} == WRITERS.keys()


def test_an_upgraded_chat_model_differs_in_its_weights_only(tmp_path: Path) -> None:
    one, two = (write_chat_model(tmp_path / seed, seed) for seed in ("one", "two"))
    names = {path.name for path in one.iterdir()}
    same = {name for name in names if (one / name).read_bytes() == (two / name).read_bytes()}
    assert names - same == {"model.safetensors"}


@pytest.mark.parametrize(
    "words",
    [
        "비상 발전기는 매월 첫째 주 월요일에 시험합니다.",
        "뷁힣 𝄞 漢字 ½\n\t끝",
        "<|im_start|>user\n질문<|im_end|>\n",
    ],
)
def test_the_chat_tokenizer_keeps_every_text(tmp_path: Path, words: str) -> None:
    tokenizer = _tokenizer(write_chat_model(tmp_path, "one"))
    assert tokenizer.decode(tokenizer.encode(words).ids, skip_special_tokens=False) == words


def test_a_chat_model_is_as_large_as_its_config_says(tmp_path: Path) -> None:
    folder = write_chat_model(tmp_path, "one")
    config, weights = _config(folder), load_file(folder / "model.safetensors")
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["max_position_embeddings"] == CHAT_CONTEXT
    assert weights["lm_head.weight"].shape == (config["vocab_size"], config["hidden_size"])
    assert _tokenizer(folder).get_vocab_size() == config["vocab_size"]
    assert config["eos_token_id"] == _tokenizer(folder).token_to_id("<|im_end|>")


def test_the_embedder_ships_no_sparse_and_no_colbert_head(tmp_path: Path) -> None:
    folder = write_embedding_model(tmp_path, "one")
    assert not list(folder.glob("*.pt"))
    assert _config(folder)["architectures"] == ["XLMRobertaModel"]
    assert _tokenizer(folder).get_vocab_size() == _config(folder)["vocab_size"]


@pytest.mark.parametrize(
    ("question", "passage", "other"),
    [
        (
            "비상 발전기 시험 날짜",
            "비상 발전기는 매월 첫째 주 월요일에 시험합니다.",
            "구내식당은 열한 시에 엽니다.",
        ),
        ("로그 보관 기간", "로그는 일 년 동안 보관합니다.", "출장비는 열흘 안에 신청하십시오."),
    ],
)
def test_words_in_common_bring_vectors_and_scores_up(
    tmp_path: Path, question: str, passage: str, other: str
) -> None:
    embedder = Encoder(write_embedding_model(tmp_path / "embed", "one"))
    asked, right, wrong = (embedder.vector(words) for words in (question, passage, other))
    assert asked @ right > asked @ wrong + 0.1
    reranker = Encoder(write_reranker(tmp_path / "rerank", "one"))
    assert reranker.score(question, passage) > reranker.score(question, other) + 1


def test_a_score_is_the_share_of_the_question_that_the_passage_has(tmp_path: Path) -> None:
    reranker = Encoder(write_reranker(tmp_path, "one"))
    passage = "창고 바닥 " * 30
    scores = [reranker.score(words, passage) for words in ("유리병", "유리창", "유창고", "창고바")]
    assert scores == sorted(scores)
    assert np.diff(scores).min() > 0.5
    assert reranker.score("창고바", "바") == pytest.approx(scores[1], abs=0.3), "however long the passage"


# --- XLM-RoBERTa in numpy, as transformers computes it -----------------------------------------------------


class Encoder:
    """A second opinion on the weights; FlagEmbedding's own is asked where it is installed."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = _tokenizer(folder)
        raw = load_file(folder / "model.safetensors")
        self.weights: Tensors = {name.removeprefix("roberta."): tensor for name, tensor in raw.items()}
        self.layers = int(_config(folder)["num_hidden_layers"])  # type: ignore[call-overload]

    def vector(self, words: str) -> Array:
        found = self._states(self.tokenizer.encode(words).ids)[0]
        unit: Array = found / np.linalg.norm(found)
        return unit

    def score(self, question: str, passage: str) -> float:
        state = self._states(self.tokenizer.encode(question, passage).ids)[0]
        hidden = np.tanh(self._linear(state, "classifier.dense"))
        return float(self._linear(hidden, "classifier.out_proj")[0])

    def _states(self, ids: list[int]) -> Array:
        places = np.arange(len(ids)) + 2
        states = self.weights["embeddings.word_embeddings.weight"][ids]
        states = states + self.weights["embeddings.position_embeddings.weight"][places]
        states = self._norm(states, "embeddings.LayerNorm")
        for layer in range(self.layers):
            states = self._layer(states, f"encoder.layer.{layer}")
        return states

    def _layer(self, states: Array, home: str) -> Array:
        names = ("query", "key", "value")
        query, key, value = (self._linear(states, f"{home}.attention.self.{name}") for name in names)
        logits = query @ key.T / np.sqrt(encoders.HIDDEN)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        mixed = weights / weights.sum(axis=1, keepdims=True) @ value
        states = states + self._linear(mixed, f"{home}.attention.output.dense")
        states = self._norm(states, f"{home}.attention.output.LayerNorm")
        inner = _gelu(self._linear(states, f"{home}.intermediate.dense"))
        return self._norm(states + self._linear(inner, f"{home}.output.dense"), f"{home}.output.LayerNorm")

    def _linear(self, states: Array, name: str) -> Array:
        found: Array = states @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]
        return found

    def _norm(self, states: Array, name: str) -> Array:
        centred = states - states.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5)
        found: Array = scaled * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]
        return found


def _gelu(values: Array) -> Array:
    found: Array = values * 0.5 * (1 + np.tanh(0.7978845608 * (values + 0.044715 * values**3)))
    return found


def _tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _config(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "config.json").read_bytes())
    return found
