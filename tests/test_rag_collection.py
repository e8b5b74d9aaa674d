"""The collection: Qdrant's engine finds the right passage first, leaks nothing, and forgets nothing."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import AlreadyRunning, BadInput, Tampered, UnfitServer
from appliance.rag.collection import Collection, open_collection
from appliance.rag.passages import Hit, Passage, readable_grades
from appliance.rag.ranking import WORDS_FIRST, Ranking, rerank_order
from appliance.rag.shard import Shard
from appliance.text import text
from tests.embedding import SeededEmbedding, distance
from tests.samples import QUESTIONS, SAMPLES, content_of, sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.format import Grade
    from tests.samples import Question

pytestmark = pytest.mark.real  # runs Qdrant's engine, and Chromium for a sample
PROJECT = Path(__file__).parent.parent
TANK = "액체질소 탱크의 점검 주기는 45일이다.".encode()
TOWER = "냉각탑의 점검 주기는 20일이다.".encode()
ASKED = "액체질소 탱크의 점검 주기는?"


class Broken(SeededEmbedding):
    """An embedding service that goes away when it is asked."""

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        raise UnfitServer(text("the embedding service gives no answer that can be used"), seen=len(texts))


@contextmanager
def opened(
    folder: Path, embedding: SeededEmbedding | None = None, ranking: Ranking = WORDS_FIRST
) -> Iterator[Collection]:
    ticks = itertools.count()
    start = datetime(2026, 1, 1, tzinfo=timezone.utc)
    now = lambda: start + timedelta(minutes=next(ticks))  # noqa: E731 - a clock
    with open_collection(folder, embedding or SeededEmbedding(), ranking, now) as collection:
        yield collection


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """Give a collection of all samples."""
    with opened(tmp_path_factory.mktemp("library")) as collection:
        for each in SAMPLES:
            collection.ingest(each.name, content_of(each), each.grade)
        yield collection


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "collection"


def texts(hits: tuple[Hit, ...]) -> list[str]:
    return [hit.passage.text for hit in hits]


# --- Finding ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda each: each.words)
def test_the_passage_that_answers_stands_first(library: Collection, question: Question) -> None:
    first = library.search(question.words, clearance="C", limit=5)[0].passage
    assert first.name == question.name
    assert first.place.startswith(question.place)
    assert not [words for words in question.expected if words not in first.text]


def test_scores_fall_and_the_limit_holds(library: Collection) -> None:
    for limit in (1, 3, 50):
        hits = library.search(ASKED, clearance="C", limit=limit)
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        assert 0 < len(hits) <= limit
        assert len({(hit.passage.document, hit.passage.number) for hit in hits}) == len(hits)


@given(st.sampled_from(QUESTIONS), st.sampled_from(["O", "S", "C"]), st.integers(1, 60))
def test_no_passage_above_the_clearance_is_ever_found(
    library: Collection, question: Question, clearance: Grade, limit: int
) -> None:
    hits = library.search(question.words, clearance=clearance, limit=limit)
    assert {hit.passage.grade for hit in hits} <= set(readable_grades(clearance))


def test_who_may_not_read_the_answer_still_gets_as_many_passages(library: Collection) -> None:
    secret = next(each for each in QUESTIONS if sample(each.name).grade == "C")
    hits = library.search(secret.words, clearance="O", limit=5)
    assert len(hits) == 5  # filtered inside each half, not after ranking
    assert secret.name not in {hit.passage.name for hit in hits}
    assert library.search(secret.words, clearance="C", limit=5)[0].passage.name == secret.name


def test_how_often_hidden_documents_use_a_word_does_not_change_the_order(folder: Path) -> None:
    with opened(folder) as collection:
        for words in ("가나", "다라 하나", "다라 둘"):
            collection.ingest("a.txt", words.encode(), "O")
        assert texts(collection.search("가나 다라", clearance="O", limit=1)) == ["가나"]  # the rarer word
        for number in range(6):
            collection.ingest("b.txt", f"가나 {number}".encode(), "C")
        assert texts(collection.search("가나 다라", clearance="O", limit=1)) == ["가나"]


@pytest.mark.parametrize("question", ["", "  ", "\n", "\x00", "\ud800"])
def test_no_question_finds_nothing(library: Collection, question: str) -> None:
    assert library.search(question, clearance="C", limit=5) == ()


@pytest.mark.parametrize("question", ["!?", "…", "'; DROP TABLE", "탱크\ud800"])
def test_odd_questions_are_answered(library: Collection, question: str) -> None:
    assert len(library.search(question, clearance="C", limit=5)) == 5


def test_a_question_without_end_is_refused(library: Collection) -> None:
    with pytest.raises(BadInput, match="too long"):
        library.search("가" * 2001, clearance="C", limit=5)


def test_an_empty_collection_finds_nothing_and_asks_nobody(folder: Path) -> None:
    embedding = SeededEmbedding()
    with opened(folder, embedding) as collection:
        assert collection.search(ASKED, clearance="C", limit=5) == ()
        assert collection.documents() == ()
    assert embedding.asked == []


# --- Ranking ------------------------------------------------------------------------------------------------


def test_vectors_and_the_reranker_are_really_asked(folder: Path) -> None:
    embedding = SeededEmbedding()
    with opened(folder, embedding) as collection:
        collection.ingest("a.txt", TANK, "O")
        collection.search(ASKED, clearance="O", limit=5)
    assert embedding.asked == [TANK.decode(), ASKED]
    assert embedding.reranked == [ASKED]


def test_without_a_weight_no_reranker_is_asked(folder: Path) -> None:
    embedding = SeededEmbedding()
    with opened(folder, embedding, Ranking(1, 1, rerank=0)) as collection:
        collection.ingest("a.txt", TANK, "O")
        assert len(collection.search(ASKED, clearance="O", limit=5)) == 1
    assert embedding.reranked == []


def test_with_the_words_light_the_nearest_vector_stands_first(folder: Path) -> None:
    with opened(folder, ranking=Ranking(dense=1, sparse=0.05, rerank=0)) as collection:
        for number in range(8):
            collection.ingest("a.txt", f"문서 {number}".encode(), "O")
        embedding = SeededEmbedding()
        asked = embedding.vector("문서 7")
        near = {
            n: sum(x * y for x, y in zip(asked, embedding.vector(f"문서 {n}"), strict=True)) for n in range(8)
        }
        by_nearness = sorted(near, key=lambda n: -near[n])
        assert by_nearness[0] == 7
        assert texts(collection.search("문서 7", clearance="O", limit=1)) == ["문서 7"]


def hits(count: int) -> tuple[Hit, ...]:
    made = (Passage("d" * 64, "a.txt", "O", number, "1쪽", str(number)) for number in range(count))
    return tuple(Hit(passage, 1.0) for passage in made)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_light_reranker_cannot_take_the_first_place(scores: list[float]) -> None:
    found = rerank_order(hits(len(scores)), scores, WORDS_FIRST.rerank)
    assert found[0].passage.number == 0
    assert {hit.passage.number for hit in found} == set(range(len(scores)))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20, unique=True))
def test_a_heavy_reranker_decides_the_first_place(scores: list[float]) -> None:
    found = rerank_order(hits(len(scores)), scores, 100)
    assert found[0].passage.number in {0, scores.index(max(scores))}


@given(st.lists(st.integers(0, 10**9), min_size=3, max_size=3, unique=True))
@settings(max_examples=20)
def test_whatever_light_vectors_say_the_best_match_of_words_stands_first(
    tmp_path_factory: pytest.TempPathFactory, seeds: list[int]
) -> None:
    shard = Shard.create(tmp_path_factory.mktemp("shard") / "shard", 8)
    vectors = [SeededEmbedding(dimension=8).vector(str(seed)) for seed in seeds]
    said = ["액체질소 탱크 점검", "냉각탑 점검", "휴가 안내"]
    passages = [Passage("d" * 64, "a", "O", number, "1쪽", words) for number, words in enumerate(said)]
    shard.add(passages, vectors)
    found = shard.search("액체질소 탱크의 점검은?", vectors[2], ["O"], WORDS_FIRST, 3)
    shard.close()
    assert found[0].passage.number == 0
    assert len(found) == 3


@pytest.mark.parametrize("weights", [(0, 1, 1), (1, 0, 1), (1, 1, -1), (1, 1, 101), (float("nan"), 1, 1)])
def test_a_weight_out_of_range_is_refused(weights: tuple[float, float, float]) -> None:
    with pytest.raises(BadInput, match="weight"):
        Ranking(*weights)


# --- Taking in and removing ---------------------------------------------------------------------------------


def test_a_document_is_known_by_its_bytes(folder: Path) -> None:
    with opened(folder) as collection:
        first = collection.ingest("a.txt", TANK, "S")
        again = collection.ingest("other.txt", TANK, "S")
        assert (first.document, first.already) == (sha256(TANK).hexdigest(), False)
        assert (again.document, again.name, again.already) == (first.document, "a.txt", True)
        assert len(collection.documents()) == collection.state()["passages"] == 1


def test_documents_are_listed_in_the_order_they_came(folder: Path) -> None:
    with opened(folder) as collection:
        collection.ingest("b.txt", TOWER, "O")
        collection.ingest("a.txt", TANK, "C")
        listed = [(each.name, each.grade, each.passages, each.size_bytes) for each in collection.documents()]
        assert listed == [("b.txt", "O", 1, len(TOWER)), ("a.txt", "C", 1, len(TANK))]
        assert collection.documents()[0].ingested_at == "2026-01-01T00:00:00+00:00"


def test_the_same_bytes_under_another_grade_are_refused(folder: Path) -> None:
    with opened(folder) as collection:
        collection.ingest("a.txt", TANK, "C")
        with pytest.raises(BadInput, match="another grade"):
            collection.ingest("a.txt", TANK, "O")
        assert collection.search(ASKED, clearance="O", limit=5) == ()


def test_what_is_removed_is_gone_and_can_come_back(folder: Path) -> None:
    with opened(folder) as collection:
        kept = collection.ingest("b.txt", TOWER, "O")
        gone = collection.ingest("a.txt", TANK, "O")
        assert collection.content(gone.document) == TANK
        assert collection.remove(gone.document)
        assert not collection.remove(gone.document)
        assert not collection.remove("../lock")
        assert texts(collection.search(ASKED, clearance="C", limit=5)) == [TOWER.decode()]
        assert collection.content(gone.document) is None
        assert [each.document for each in collection.documents()] == [kept.document]
        assert not collection.ingest("a.txt", TANK, "S").already
    assert not [path for path in folder.rglob(f"{gone.document}*") if path.suffix == ".new"]


def test_a_bad_document_leaves_nothing(folder: Path) -> None:
    with opened(folder) as collection:
        collection.ingest("a.txt", TANK, "O")
        with pytest.raises(BadInput):
            collection.ingest("b.pdf", b"%PDF-1.4 no", "O")
        assert len(collection.documents()) == collection.state()["passages"] == 1


def test_a_document_that_cannot_be_embedded_leaves_nothing(folder: Path) -> None:
    with opened(folder, Broken()) as collection:
        with pytest.raises(UnfitServer):
            collection.ingest("a.txt", TANK, "O")
        assert collection.documents() == ()
    with opened(folder) as collection:
        assert not collection.ingest("a.txt", TANK, "O").already


def test_a_document_that_cannot_be_written_leaves_nothing(folder: Path) -> None:
    with opened(folder) as collection:
        collection.ingest("b.txt", TOWER, "O")
        document = sha256(TANK).hexdigest()
        (folder / "documents" / document / "in the way").mkdir(parents=True)
        with pytest.raises(OSError, match="directory"):
            collection.ingest("a.txt", TANK, "O")
        assert texts(collection.search(ASKED, clearance="C", limit=5)) == [TOWER.decode()]


def test_the_stored_vector_is_the_one_that_was_made(folder: Path) -> None:
    with opened(folder) as collection:
        made = collection.ingest("a.txt", TANK, "O")
        stored = collection.vector(made.document, 0)
        assert stored is not None
        assert distance([stored], [SeededEmbedding().vector(TANK.decode())]) < 1e-6
        assert collection.vector(made.document, 1) is None


def test_many_threads_take_in_and_ask_at_once(folder: Path) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            content = f"{number % 4}번 문서의 점검 주기".encode()
            collection.ingest("a.txt", content, "O")
            assert collection.search("점검 주기", clearance="O", limit=3)
        except BaseException as error:  # noqa: BLE001 - a thread's errors would be lost
            errors.append(error)

    with opened(folder) as collection:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        assert len(collection.documents()) == collection.state()["passages"] == 4


# --- On disk ------------------------------------------------------------------------------------------------


def test_everything_is_there_after_closing_and_opening(folder: Path) -> None:
    with opened(folder) as collection:
        collection.ingest("a.txt", TANK, "S")
        before = (
            collection.documents(),
            collection.search(ASKED, clearance="C", limit=5),
            collection.state(),
        )
    with opened(folder) as collection:
        assert (
            collection.documents(),
            collection.search(ASKED, clearance="C", limit=5),
            collection.state(),
        ) == before


def test_a_kill_loses_no_document_that_was_said_to_be_in(folder: Path) -> None:
    program = (
        "import sys, os, signal; from pathlib import Path; from tests.embedding import SeededEmbedding\n"
        "from appliance.rag.collection import open_collection\n"
        "with open_collection(Path(sys.argv[1]), SeededEmbedding()) as collection:\n"
        "  for number in range(3): collection.ingest('a.txt', f'{number}번 문서'.encode(), 'O')\n"
        "  os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(folder)], cwd=PROJECT, check=False)
    assert done.returncode == -signal.SIGKILL
    with opened(folder) as collection:
        assert len(collection.documents()) == collection.state()["passages"] == 3
        assert texts(collection.search("1번 문서", clearance="O", limit=1)) == ["1번 문서"]


def test_what_a_killed_run_did_not_finish_is_swept(folder: Path) -> None:
    with opened(folder) as collection:
        kept = collection.ingest("b.txt", TOWER, "O")
        half = collection.ingest("a.txt", TANK, "O")
    (folder / "documents" / f"{half.document}.json").unlink()  # the record comes last
    with opened(folder) as collection:
        assert [each.document for each in collection.documents()] == [kept.document]
        assert texts(collection.search(ASKED, clearance="C", limit=5)) == [TOWER.decode()]
        assert not (folder / "documents" / half.document).exists()  # what was removed does not lie about
        assert not collection.ingest("a.txt", TANK, "O").already


def test_a_shard_that_a_killed_run_began_is_made_anew(folder: Path) -> None:
    with opened(folder) as collection:
        collection.ingest("a.txt", TANK, "O")
        collection.remove(sha256(TANK).hexdigest())
    (folder / "collection.json").unlink()  # it comes after the shard
    with opened(folder, SeededEmbedding(dimension=16)) as collection:
        collection.ingest("a.txt", TANK, "O")
        assert collection.state()["dimension"] == 16


def test_only_one_process_opens_a_collection(folder: Path) -> None:
    with opened(folder), pytest.raises(AlreadyRunning) as caught, opened(folder):
        pass
    assert caught.value.exit_code == 4
    with opened(folder):
        pass


def test_another_embedding_model_is_refused(folder: Path) -> None:
    with opened(folder) as collection:
        document = collection.ingest("a.txt", TANK, "O").document
    with opened(folder, SeededEmbedding(digest="e" * 64)) as collection:
        with pytest.raises(UnfitServer, match="another embedding model"):
            collection.search(ASKED, clearance="O", limit=5)
        with pytest.raises(UnfitServer, match="another embedding model"):
            collection.ingest("b.txt", TOWER, "O")
        assert len(collection.documents()) == collection.state()["passages"] == 1
        collection.remove(document)  # as the remedy says
        assert not collection.ingest("a.txt", TANK, "O").already
        assert collection.state()["embedding_digest"] == "e" * 64
        assert len(collection.search(ASKED, clearance="O", limit=5)) == 1


@pytest.mark.parametrize("change", [(b'"format":1', b'"format":2'), (b"hangul-pairs-bm25-1", b"learned-1")])
def test_a_collection_of_another_version_is_refused(folder: Path, change: tuple[bytes, bytes]) -> None:
    with opened(folder) as collection:
        collection.ingest("a.txt", TANK, "O")
    path = folder / "collection.json"
    path.write_bytes(path.read_bytes().replace(*change))
    with pytest.raises(UnfitServer, match="another version"), opened(folder):
        pass


@pytest.mark.parametrize("name", ["collection.json", f"documents/{sha256(TANK).hexdigest()}.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff"])
def test_a_damaged_file_of_a_collection_is_named(folder: Path, name: str, content: bytes) -> None:
    with opened(folder) as collection:
        collection.ingest("a.txt", TANK, "O")
    (folder / name).write_bytes(content)
    with pytest.raises(Tampered, match="is damaged") as caught, opened(folder):
        pass
    assert caught.value.where == folder / name
    assert (folder / "documents" / sha256(TANK).hexdigest()).read_bytes() == TANK


def test_files_of_a_collection_are_nobody_elses(folder: Path) -> None:
    with opened(folder) as collection:
        document = collection.ingest("a.txt", TANK, "C").document
    for name in ("", "documents", "shard"):
        assert (folder / name).stat().st_mode & 0o077 == 0
    assert (folder / "documents" / document).stat().st_mode & 0o777 == 0o600
    kept = {path.name for path in (folder / "documents").iterdir()}
    assert kept == {document, f"{document}.json"}
