"""The word half of retrieval: BM25 over pairs of Hangul syllables, as sparse vectors for Qdrant.

Korean joins particles and endings to its words ("주기는", "주기가", "점검주기"), so words are no good terms.
Overlapping pairs of syllables are: 점검주기가 -> 점검 검주 주기 기가 shares 점검 and 주기 with "점검 주기는".

Exactly, and the same on any machine (``SCHEME`` names it; a collection made with another is refused):

1. Text is NFC, lower case. A run of Hangul or of Chinese characters gives its overlapping pairs, a run of one
   gives that one; a run of Latin letters gives itself, a number gives itself without its commas.
2. Pairs that only ask or end sentences (``ENDINGS``) are left out, on both sides.
3. A term's dimension is the first four bytes, big endian, of its BLAKE2b hash: an unsigned 32-bit number.
4. A passage's value is BM25's saturated count, ``f * (K1 + 1) / (f + K1 * (1 - B + B * n / USUAL_TERMS))``:
   f is how often the term stands in it, n its number of terms. ``USUAL_TERMS`` stands for the mean over the
   collection, which would change with every document.
5. A question's value is 1 for each of its terms. Qdrant multiplies by the term's inverse document frequency
   (modifier ``idf``), ``ln((N - n + 0.5) / (n + 0.5) + 1)``, over the passages that the reader may see.

Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEME = "hangul-pairs-bm25-1"
K1 = 1.2
B = 0.5
USUAL_TERMS = 250  # of a passage of ``passages.PASSAGE_AIM_CHARACTERS``
ENDINGS = frozenset(
    {"가요", "까요", "나요", "니까", "니다", "됩니", "습니", "인가", "입니", "합니"}
    | {"누구", "마나", "무엇", "어느", "어디", "어떤", "어떻", "언제", "얼마"}
)

_RUN = re.compile(r"[가-힣]+|[\u4e00-\u9fff]+|[a-zà-ÿ]+|[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse vector: dimensions in rising order, and a value for each."""

    indices: tuple[int, ...]
    values: tuple[float, ...]


def sparse_of_passage(text: str) -> Sparse:
    """Return what is stored for a passage."""
    found = list(terms(text))
    length = K1 * (1 - B + B * len(found) / USUAL_TERMS)
    counted = Counter(map(dimension, found))
    return _sorted({index: count * (K1 + 1) / (count + length) for index, count in counted.items()})


def sparse_of_question(text: str) -> Sparse:
    """Return what is searched with; it is empty where the question has no term at all."""
    return _sorted({dimension(term): 1.0 for term in terms(text)})


def terms(text: str) -> Iterator[str]:
    """Yield the terms of a text, in order, as often as they stand there."""
    for run in _RUN.findall(unicodedata.normalize("NFC", text).lower()):
        if run[0].isdigit():
            yield run.replace(",", "")
        elif run[0] < "\u4e00" or len(run) == 1:
            yield run
        else:
            yield from (pair for pair in map("".join, pairwise(run)) if pair not in ENDINGS)


def dimension(term: str) -> int:
    """Return the number that stands for a term, below 2**32."""
    return int.from_bytes(blake2b(term.encode(), digest_size=4).digest(), "big")


def _sorted(values: dict[int, float]) -> Sparse:
    pairs = sorted(values.items())
    return Sparse(tuple(index for index, _ in pairs), tuple(value for _, value in pairs))
