"""How much each opinion counts when passages are put in order: vectors, words, reranker.

All by reciprocal rank, because their scores cannot be compared: a passage at rank r (from 1) of an opinion
with weight w gets ``1 / (RANK_CONSTANT - 1 + r / w)`` from it. This is Qdrant's weighted fusion; the
reranker's vote is counted the same way here, against the fused order, which has weight 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.errors import BadInput
from appliance.rag.passages import Hit
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Sequence

RANK_CONSTANT = 2  # Qdrant's own default: the first ranks count for much
_WEIGHTS = (0.01, 100)


@dataclass(frozen=True, slots=True)
class Ranking:
    """The weights; ``rerank`` 0 asks no reranker, a large one leaves the order to it alone."""

    dense: float = 1.0
    sparse: float = 1.0
    rerank: float = 5.0

    def __post_init__(self) -> None:
        low, high = _WEIGHTS
        weights = (self.dense, self.sparse, self.rerank or low)
        if not all(low <= weight <= high for weight in weights):
            raise BadInput(
                text("a weight of the ranking is out of its range"), expected=_WEIGHTS, seen=weights
            )


BALANCED = Ranking()
#: For models that know nothing, as the demo's random ones: they are asked and they vote, but whatever they
#: say cannot take the first place from the best match of words: its lead is 1/2 - 1/3, their votes are 1/21.
WORDS_FIRST = Ranking(dense=0.05, sparse=1.0, rerank=0.05)


def rerank_order(hits: Sequence[Hit], scores: Sequence[float], weight: float) -> tuple[Hit, ...]:
    """Put hits, which come in fused order, into their final one; ``scores`` are the reranker's, one a hit."""
    by_score = sorted(range(len(hits)), key=lambda index: (-scores[index], index))
    votes = {index: _vote(rank, weight) for rank, index in enumerate(by_score, 1)}
    merged = [Hit(hit.passage, _vote(index + 1, 1.0) + votes[index]) for index, hit in enumerate(hits)]
    return tuple(sorted(merged, key=lambda hit: -hit.score))


def _vote(rank: int, weight: float) -> float:
    return 1 / (RANK_CONSTANT - 1 + rank / weight)
