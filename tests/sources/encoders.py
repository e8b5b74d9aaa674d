"""Weights, written by hand, of two tiny XLM-RoBERTa encoders that really measure something: shared syllables.

Random weights would rank passages by chance, and then nobody could see whether the right one comes first.
These have no meaning in them either, but what they count is known:

* the **embedder** averages one fixed random vector per syllable; particles and blanks count nothing;
* the **reranker** reads question and passage together and scores the share of the question's syllables that
  the passage has. Its three layers: where does the question end; which of its syllables stands behind that
  place too; how many of them.

A vector's first 112 dimensions are the syllable (plus and minus one, as many of each), the others come in
pairs of opposite sign, so that layer normalisation only scales.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Tensor = NDArray[np.float32]
    Tensors = dict[str, Tensor]

HIDDEN, INNER, POSITIONS, HEADS = 128, 128, 8194, 1
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
_SYLLABLES = tuple(map(chr, range(0xAC00, 0xD7A4)))
_STOPS = "\u2581 .,:;?!()[]{}<>'\"`~-_/|\\·「」『』“”…은는이가을를의에도로와과다요까"
_OTHERS = tuple(map(chr, range(0x21, 0x7F))) + tuple("·「」『』“”…℃㎡①②③④⑤㈜")
#: Every piece is one character, so any Korean text is told apart; <mask> comes last, as in XLM-RoBERTa.
PIECES = (*SPECIALS, "\u2581", *_OTHERS, *_SYLLABLES, "<mask>")

_SYLLABLE = slice(0, 112)
_PLACE, _SEPARATOR, _STOP, _CONTENT, _END, _BEHIND, _FOUND, _SHARE = range(112, 128, 2)
_PLACES, _STEP = 1100, 1 / 1024  # places further on all count as far behind


def embedding_weights(seed: str) -> Tensors:
    """Return the tensors of an ``XLMRobertaModel`` of one layer; the first token's vector is the text's."""
    words = np.zeros((len(PIECES), HIDDEN), np.float32)
    chosen = [number for number, piece in enumerate(PIECES) if not _is_stop(piece)]
    words[chosen, _SYLLABLE] = _syllables(seed)[chosen]
    tensors = _frame(words, layers=1)
    _write(tensors, 0, "attention.self.value", {(number, number): 1.0 for number in range(HIDDEN)})
    _write(tensors, 0, "attention.output.dense", {(number, number): 1.0 for number in range(HIDDEN)})
    tensors |= {"pooler.dense.weight": _zeros(HIDDEN, HIDDEN), "pooler.dense.bias": _zeros(HIDDEN)}
    return tensors


def reranker_weights(seed: str) -> Tensors:
    """Return the tensors of an ``XLMRobertaForSequenceClassification`` with one label, the score."""
    words = np.zeros((len(PIECES), HIDDEN), np.float32)
    words[:, _SYLLABLE] = _syllables(seed)
    for number, piece in enumerate(PIECES):
        kind = _SEPARATOR if piece == "</s>" else _STOP if _is_stop(piece) else _CONTENT
        words[number, kind : kind + 2] = 1, -1
    tensors = _frame(words, layers=3)
    places = np.minimum(np.arange(POSITIONS) - 2, _PLACES).clip(0) * _STEP
    tensors["embeddings.position_embeddings.weight"][:, _PLACE] = places
    tensors["embeddings.position_embeddings.weight"][:, _PLACE + 1] = -places
    _find_end_of_question(tensors)
    _find_behind_it(tensors)
    _take_the_share(tensors)
    found = {f"roberta.{name}": tensor for name, tensor in tensors.items()}
    found |= {"classifier.dense.weight": _zeros(HIDDEN, HIDDEN), "classifier.dense.bias": _zeros(HIDDEN)}
    found["classifier.dense.weight"][0, _SHARE], found["classifier.dense.bias"][0] = 1.5, -0.75
    found |= {"classifier.out_proj.weight": _zeros(1, HIDDEN), "classifier.out_proj.bias": _zeros(1)}
    found["classifier.out_proj.weight"][0, 0] = 6.0
    return found


# --- The reranker, layer by layer ------------------------------------------------------------------------


def _find_end_of_question(tensors: Tensors) -> None:
    """Layer 0: every token looks at the first separator, and knows then whether it stands behind it."""
    early = 3400.0
    _write(tensors, 0, "attention.self.query", {}, {0: 1.0})
    _write(
        tensors,
        0,
        "attention.self.key",
        {(0, _SEPARATOR): early * _PLACES * _STEP + 140, (0, _PLACE): -early},
    )
    _write(tensors, 0, "attention.self.value", {(0, _PLACE): 1.0})
    _write(tensors, 0, "attention.output.dense", _pair(_END, 0))
    # Two bent lines half a place apart make a step of height one at the separator.
    steep = 8.0
    slope = {(0, _PLACE): steep / _STEP, (0, _END): -steep / _STEP}
    slope |= {(1, _PLACE): steep / _STEP, (1, _END): -steep / _STEP}
    _write(tensors, 0, "intermediate.dense", slope, {0: steep / 2, 1: -steep / 2})
    _write(tensors, 0, "output.dense", _pair(_BEHIND, 0, 1 / steep) | _pair(_BEHIND, 1, -1 / steep))


def _find_behind_it(tensors: Tensors) -> None:
    """Layer 1: every token looks behind the separator for its syllable, or else at the last separator."""
    alike, behind = 2.0, 400.0
    same = {(number, number): 1.0 for number in range(_SYLLABLE.stop)}
    _write(
        tensors,
        1,
        "attention.self.query",
        dict.fromkeys(same, alike),
        {_BEHIND: behind, _SEPARATOR: 70 * alike},
    )
    kinds = {(_BEHIND, _BEHIND): 1.0, (_SEPARATOR, _SEPARATOR): 1.0}
    _write(tensors, 1, "attention.self.key", same | kinds)
    _write(tensors, 1, "attention.self.value", {(0, _CONTENT): 1.0})
    _write(tensors, 1, "attention.output.dense", _pair(_FOUND, 0))


def _take_the_share(tensors: Tensors) -> None:
    """Layer 2: the mean, over the question's syllables, of whether they were found."""
    _write(tensors, 2, "attention.self.query", {}, {0: 1.0})
    _write(tensors, 2, "attention.self.key", {(0, _CONTENT): 300.0, (0, _BEHIND): -300.0})
    _write(tensors, 2, "attention.self.value", {(0, _FOUND): 1.0})
    _write(tensors, 2, "attention.output.dense", _pair(_SHARE, 0))


def _pair(target: int, source: int, factor: float = 1.0) -> dict[tuple[int, int], float]:
    return {(target, source): factor, (target + 1, source): -factor}


# --- What every encoder has ------------------------------------------------------------------------------


def _is_stop(piece: str) -> bool:
    return len(piece) > 1 or piece in _STOPS


def _syllables(seed: str) -> Tensor:
    """Return one vector of as many plus as minus ones for each piece."""
    width = _SYLLABLE.stop
    numbers = random.Random(f"{seed}/syllables").randbytes(4 * len(PIECES) * width)  # noqa: S311
    order = np.frombuffer(numbers, "<u4").reshape(len(PIECES), width).argsort(axis=1, kind="stable")
    return np.where(order < width // 2, 1, -1).astype(np.float32)


def _frame(words: Tensor, *, layers: int) -> Tensors:
    """Return an encoder whose layers change nothing yet."""
    tensors = {
        "embeddings.word_embeddings.weight": words,
        "embeddings.position_embeddings.weight": _zeros(POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": _zeros(1, HIDDEN),
        **_norm("embeddings.LayerNorm"),
    }
    shapes = {"intermediate.dense": (INNER, HIDDEN), "output.dense": (HIDDEN, INNER)}
    names = ("self.query", "self.key", "self.value", "output.dense")
    shapes |= {f"attention.{name}": (HIDDEN, HIDDEN) for name in names}
    for layer in range(layers):
        for name, (out, into) in shapes.items():
            tensors[f"encoder.layer.{layer}.{name}.weight"] = _zeros(out, into)
            tensors[f"encoder.layer.{layer}.{name}.bias"] = _zeros(out)
        tensors |= _norm(f"encoder.layer.{layer}.attention.output.LayerNorm")
        tensors |= _norm(f"encoder.layer.{layer}.output.LayerNorm")
    return tensors


def _norm(name: str) -> Tensors:
    return {f"{name}.weight": np.ones(HIDDEN, np.float32), f"{name}.bias": _zeros(HIDDEN)}


def _zeros(*shape: int) -> Tensor:
    return np.zeros(shape, np.float32)


def _write(
    tensors: Tensors,
    layer: int,
    name: str,
    weights: Mapping[tuple[int, int], float],
    bias: Mapping[int, float] | None = None,
) -> None:
    home = f"encoder.layer.{layer}.{name}"
    for place, value in weights.items():
        tensors[f"{home}.weight"][place] = value
    for number, value in (bias or {}).items():
        tensors[f"{home}.bias"][number] = value


def pieces_with_scores() -> Sequence[tuple[str, float]]:
    """Return the vocabulary of a Unigram tokenizer; single characters never compete, so one score serves."""
    return [(piece, 0.0 if piece in SPECIALS else -10.0) for piece in PIECES]
