"""``python -m appliance.rag``: the process behind ``banip-api.service``."""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import uvicorn

from appliance.errors import BanipError
from appliance.rag.service import create_app, read_release

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: More connections than this get 503 at once; a server for one site has far fewer people.
_CONNECTIONS = 512
_CLOSING_S = 10


@click.command()
@click.option("--release", "folder", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--port", type=click.IntRange(1, 65535), default=8600, show_default=True)
@click.option("--socket", "path", type=click.Path(path_type=Path), help="Answer on this Unix socket too.")
@click.option("--model", help="Answer about this model folder only: no questions, no documents.")
@click.option("--chat-url", default="http://127.0.0.1:8601", show_default=True)
@click.option("--chat-model", help="Name under which the service at --chat-url serves the chat model.")
@click.option("--embed-url", default="http://127.0.0.1:8602", show_default=True)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--passages", type=click.IntRange(1, 20), default=6, show_default=True)
@click.option("--answer-tokens", type=click.IntRange(16, 8192), default=512, show_default=True)
@click.option("--answers-at-once", type=click.IntRange(1, 256), default=8, show_default=True)
@click.option(
    "--ranking", type=click.Choice(["balanced", "words-first"]), default="balanced", show_default=True
)
@click.option("--log-questions/--no-log-questions", default=None, help="Default: only at grade O.")
def main(
    folder: Path,
    port: int,
    path: Path | None,
    model: str | None,
    **full: Any,  # noqa: ANN401 - click's options
) -> None:
    """Answer on loopback for the release in the folder RELEASE."""
    if full["chat_model"] and full["data"]:
        with _saying_why(), _full(folder, full) as app:
            _run(app, port, path)
    elif model and not full["chat_model"]:
        _run(create_app(folder, model), port, path)
    else:
        raise click.UsageError("either --model, or both --chat-model and --data")  # noqa: EM101, TRY003


@contextmanager
def _saying_why() -> Iterator[None]:
    """Tell the journal which file it was and what to do: a traceback has neither."""
    try:
        yield
    except BanipError as error:
        raise click.ClickException("\n".join(error.lines())) from error


@contextmanager
def _full(folder: Path, options: Mapping[str, Any]) -> Iterator[Any]:
    """Put the API together; heavy packages are imported here, so that the smallest bundle needs none."""
    from appliance.rag import api, guard, turn  # noqa: PLC0415
    from appliance.rag.chat import ChatModel, make_client  # noqa: PLC0415
    from appliance.rag.collection import open_collection  # noqa: PLC0415
    from appliance.rag.embedding import EmbeddingService  # noqa: PLC0415
    from appliance.rag.feedback import FeedbackFile  # noqa: PLC0415
    from appliance.rag.ranking import BALANCED, WORDS_FIRST  # noqa: PLC0415
    from appliance.rag.users import LiveUsers, UserFile  # noqa: PLC0415

    client, data = make_client(), options["data"]
    ranking = WORDS_FIRST if options["ranking"] == "words-first" else BALANCED
    embedding = EmbeddingService(options["embed_url"])
    with open_collection(data / "collection", embedding, ranking) as collection:
        parts = api.Parts(
            release=read_release(folder),
            retrieval=collection,
            client=client,
            chat=ChatModel(client, options["chat_url"], options["chat_model"]),
            embed_url=options["embed_url"],
            users=LiveUsers(UserFile(data / "users.json")),
            feedback=FeedbackFile(data / "feedback.jsonl"),
            limits=turn.Limits(options["passages"], options["answer_tokens"]),
            bounds=guard.Bounds(answers=options["answers_at_once"]),
            log_questions=options["log_questions"],
        )
        yield api.create_full_app(parts)


def _run(app: Any, port: int, path: Path | None) -> None:  # noqa: ANN401 - an ASGI application
    access = logging.getLogger("banip.access")  # one JSON object a line, to the journal
    access.addHandler(logging.StreamHandler())
    access.setLevel(logging.INFO)
    access.propagate = False
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=port,
        log_level="info",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_CLOSING_S,
    )
    with ExitStack() as opened:
        sockets = [opened.enter_context(config.bind_socket())]
        if path is not None:
            sockets.append(opened.enter_context(_unix_socket(path)))
        uvicorn.Server(config).run(sockets=sockets)


def _unix_socket(path: Path) -> socket.socket:
    """Listen at a path in a folder of this account's own.

    Whoever sends a key goes there: a port can be anybody's while this service is down, such a folder cannot.
    """
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(str(path))
    path.chmod(0o666)  # who may do what is the keys' matter, as on the port
    return listening


if __name__ == "__main__":
    main()
