"""The commands that speak to the API of this server: ask, ingest, documents, feedback; and its keys: user.

``appliance.__main__`` registers ``COMMANDS``. Light to import: no web framework, no HTTP library.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
import msgspec

from appliance.clock import utc_now
from appliance.durable import make_folder, write_file
from appliance.errors import BadInput, BanipError
from appliance.format import Grade
from appliance.rag.client import DEFAULT_URL, Client, Declined, KeyRefused
from appliance.rag.users import Role, UserFile, digest_of
from appliance.release import OPERATOR
from appliance.text import Event, printable, text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from appliance.release import Server
    from appliance.session import Session

GRADE = click.option("--grade", type=click.Choice(get_args(Grade)))
URL = click.option("--url", default=DEFAULT_URL, help="Where the API listens, on this server.", hidden=True)
_SHOWN_CHARACTERS = 160


def users_of(server: Server) -> UserFile:
    """Return the keys of the API installed under a root."""
    return UserFile(server.data / "api" / "users.json")


def operator_key(server: Server) -> str:
    """Return the key that this command line uses, made at its first use; only root can read or make it."""
    path, users = server.root / "secrets" / "operator.key", users_of(server)
    kept = path.read_text("ascii").strip() if path.exists() else None
    known = users.read().named(OPERATOR)
    if kept and known and known.sha256 == digest_of(kept):
        return kept
    key = users.replace(OPERATOR, "C", "admin", utc_now())
    make_folder(path.parent, 0o700)
    write_file(path, key.encode("ascii"), 0o600)
    return key


def _client(session: Session, url: str) -> Client:
    return Client(url, operator_key(session.server), session.language)


# --- Questions -------------------------------------------------------------------------------------------


@click.command()
@click.argument("question")
@URL
@click.pass_obj
def ask(session: Session, question: str, url: str) -> None:
    r"""Ask the installed documents; the answer comes as it is made, then its numbered sources.

    \b
    Example:
      appliance ask "출장 여비는 언제까지 정산해야 합니까?"
    """
    answer = ""
    last: dict[str, Any] = {}
    for event in _client(session, url).ask(question):
        piece = event["choices"][0]["delta"].get("content", "")
        answer += piece
        if not session.as_json:
            session.stream(printable(piece))
        last = event
    told = last["banip"]
    if session.as_json:
        session.tell({"result": {"id": last["id"], "answer": answer, **told}})
        return
    for line in _sources(session, told):
        session.write(line)
    words = text("answer {id}: say what it is worth with `appliance feedback {id} good|bad`", id=last["id"])
    session.write(words.render(session.language))


def _sources(session: Session, told: dict[str, Any]) -> Iterator[str]:
    language = session.language
    yield "\n"
    yield text("sources, the best first:").render(language)
    for source in told["sources"]:
        mark = text("cited").render(language) if source["cited"] else "-"
        yield printable(
            f"[{source['number']}] {source['name']} · {source['place']} · {source['grade']} · {mark}"
        )
        shown = " ".join(printable(source["text"]).split())
        yield "    " + shown[:_SHOWN_CHARACTERS] + "…" * (len(shown) > _SHOWN_CHARACTERS)
    if not told["sources"]:
        yield "  -"
    citations = told["citations"]
    if citations["invalid"]:
        numbers = ", ".join(map(str, citations["invalid"]))
        yield text("the answer cites numbers that no source has: {numbers}", numbers=numbers).render(language)
    if told["sources"] and not citations["valid"]:
        yield text("the answer cites none of its sources: read them yourself").render(language)


@click.command()
@click.argument("answer")
@click.argument("verdict", type=click.Choice(["good", "bad"]))
@click.option("--comment", default="", help="Why.")
@URL
@click.pass_obj
def feedback(session: Session, answer: str, verdict: str, comment: str, url: str) -> None:
    r"""Say what an answer was worth.

    \b
    Example:
      appliance feedback chatcmpl-0123... bad --comment "다른 규정을 인용함"
    """
    _client(session, url).feedback(answer, verdict, comment)
    session.result(text("kept"), {"answer": answer, "verdict": verdict})


# --- Documents -------------------------------------------------------------------------------------------


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@GRADE
@URL
@click.pass_obj
def ingest(session: Session, paths: tuple[Path, ...], grade: Grade | None, url: str) -> None:
    r"""Take documents in: files, or folders with all below but hidden files and links.

    What is in already is said so.

    Without --grade a document gets the grade of this server.

    \b
    Example:
      appliance ingest /media/usb/documents --grade S
    """
    client = _client(session, url)
    files = files_below(paths)
    taken, failed = [], []
    for number, path in enumerate(files, 1):
        place = f"{number}/{len(files)}"
        try:
            done = client.ingest_file(path, grade)
        except KeyRefused:
            raise
        except (BadInput, OSError) as error:
            failed.append(path)
            session.say(_failed(place, path, error))
        else:
            taken.append(done | {"path": str(path)})
            session.say(_taken(place, path, done))
    _sum_up(session, taken, failed)


def files_below(paths: Sequence[Path]) -> tuple[Path, ...]:
    """Return the paths named, and the files in the folders named, in order.

    Hidden ones are left out, and links: root follows where a stranger's medium points, to /etc/shadow too.
    """
    found = []
    for path in paths:
        inside = [each for each in sorted(path.rglob("*")) if _is_plain(each) and not _is_hidden(each, path)]
        found += inside if path.is_dir() else [path]
    return tuple(dict.fromkeys(found))


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_hidden(path: Path, top: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(top).parts)


def _taken(place: str, path: Path, done: dict[str, Any]) -> Event:
    shown = printable(str(path))
    words = text("{place} {path}: {count} passages", place=place, path=shown, count=done["passages"])
    if done["already"]:
        words = text("{place} {path}: was in already", place=place, path=shown)
    return Event("ingested", words, {**done, "path": str(path)})


def _failed(place: str, path: Path, error: Exception) -> Event:
    reason = _reason(error) if isinstance(error, BanipError) else str(error)
    shown = printable(str(path))
    words = text("{place} {path}: not taken in: {reason}", place=place, path=shown, reason=reason)
    return Event("failed", words, {"path": str(path), "reason": str(reason)})


def _reason(error: BanipError) -> object:
    """Return what the API said, or what was found wrong before it was asked."""
    return printable(str(error.seen)) if isinstance(error, Declined) else error.happened


def _sum_up(session: Session, taken: list[dict[str, Any]], failed: list[Path]) -> None:
    if failed:
        raise BadInput(
            text(
                "{failed} of {all} files were not taken in", failed=len(failed), all=len(failed) + len(taken)
            ),
            seen=printable(", ".join(map(str, failed))),
            remedy=text("mend or leave out these files and run the same command again"),
        )
    new = sum(not each["already"] for each in taken)
    words = text("{new} documents taken in, {kept} were in already", new=new, kept=len(taken) - new)
    session.result(words, {"documents": taken})


@click.group()
def documents() -> None:
    r"""List or remove what can be found.

    \b
    Examples:
      appliance documents list
      appliance documents remove 3f1c...
    """


@documents.command("list")
@URL
@click.pass_obj
def list_documents(session: Session, url: str) -> None:
    """List every document with its id, grade and number of passages."""
    found = _client(session, url).documents()
    for each in found:
        words = text("{document} {grade} {passages} {name}", **_columns(each))
        session.say(Event("document", words, each))
    session.result(text("{count} documents", count=len(found)), {"documents": found})


def _columns(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "document": record["document"],
        "grade": record["grade"],
        "passages": f"{record['passages']:>4}",
        "name": record["name"],
    }


@documents.command("remove")
@click.argument("document")
@URL
@click.pass_obj
def remove_document(session: Session, document: str, url: str) -> None:
    """Remove a document by its id; the original file stays wherever it is."""
    _client(session, url).remove(document)
    session.result(text("removed {document}", document=document), {"document": document})


# --- Keys ------------------------------------------------------------------------------------------------


@click.group()
def user() -> None:
    r"""Make and disable the keys with which people and programs use the API.

    A key reads what is at or below its grade, and never above the grade of this server.

    \b
    Examples:
      appliance user add kim.minji --grade S
      appliance user disable kim.minji
    """


@user.command("add")
@click.argument("name")
@click.option("--grade", type=click.Choice(get_args(Grade)), required=True)
@click.option("--role", type=click.Choice(get_args(Role)), default="user", show_default=True)
@click.pass_obj
def add_user(session: Session, name: str, grade: Grade, role: Role) -> None:
    """Make a key and show it, this once; an admin may also take documents in and remove them."""
    if name == OPERATOR:
        raise BadInput(text("this name is that of the command line itself"), seen=name)
    key = users_of(session.server).add(name, grade, role, utc_now())
    words = text("the key of {name}, shown this once: {key}", name=name, key=key)
    session.result(words, {"name": name, "grade": grade, "role": role, "key": key})


@user.command("list")
@click.pass_obj
def list_users(session: Session) -> None:
    """List whose keys there are; the keys themselves are not kept."""
    found = users_of(session.server).read().users
    for each in found:
        state = text("disabled") if each.disabled else text("may come in")
        words = text(
            "{name}: grade {grade}, {role}, {state}",
            name=each.name,
            grade=each.grade,
            role=each.role,
            state=state,
        )
        session.say(Event("user", words, _public(each)))
    session.result(text("{count} keys", count=len(found)), {"users": [_public(each) for each in found]})


def _public(user_found: msgspec.Struct) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(user_found)
    del told["sha256"]
    return told


@user.command("disable")
@click.argument("name")
@click.pass_obj
def disable_user(session: Session, name: str) -> None:
    """Refuse a key from now on; it stays in the list, so that the log keeps making sense."""
    changed = users_of(session.server).disable(name)
    words = text("{name} may not come in any more", name=name)
    session.result(words, {"name": name, "changed": changed})


COMMANDS: tuple[click.Command, ...] = (ask, ingest, documents, feedback, user)
