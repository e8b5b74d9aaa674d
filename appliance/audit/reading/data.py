"""What people put in: API keys, documents, requests, earlier audits; of none of them the content."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec

from appliance.audit.facts_product import ApiUser, Documents, GradedDocument, RequestLog
from appliance.audit.reading.probe import FILES_MOST, Unreadable, answer, look, plain_content
from appliance.text import text

if TYPE_CHECKING:
    from pathlib import Path

    from appliance.audit.facts_host import File
    from appliance.release import Server

HASHED_MOST_BYTES = 1 << 30
USERS_MOST_BYTES = 16 << 20
RECORD_MOST_BYTES = 1 << 20
LINES_MOST = 500
NAMED_MOST = 50
_WANTED = ("document", "grade", "ingested_at", "name", "size_bytes")


def data_files(server: Server) -> tuple[File, ...]:
    """Look at the folders of what people put in; not at each document."""
    folder = server.data / "api"
    names = ("", "users.json", "feedback.jsonl", "collection", "collection/documents", "collection/shard")
    return (look(server.data), *(look(folder / name) for name in names))


class _KeyFile(msgspec.Struct):
    """What is read of the file of API keys: of each everything but its digest."""

    users: tuple[ApiUser, ...] = ()


def api_users(server: Server) -> tuple[ApiUser, ...]:
    """Read who has a key; the digests of the keys stay behind."""
    path = server.data / "api" / "users.json"
    try:
        found = json.loads(plain_content(path, USERS_MOST_BYTES, os.O_NOFOLLOW))
    except FileNotFoundError:
        return ()
    for one in found.get("users", ()):
        one.pop("sha256", None)
    return msgspec.convert(found, type=_KeyFile).users


# --- Documents ---------------------------------------------------------------------------------------------


def documents(server: Server) -> Documents:
    """Read the record of every document, and compare the bytes with their digest while that stays short."""
    folder = server.data / "api" / "collection" / "documents"
    if not folder.is_dir():
        return Documents(count=0, grades={}, graded=())
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if len(paths) > FILES_MOST * 10:
        raise Unreadable(text("more than {count} documents", count=FILES_MOST * 10))
    contents = [path for path in paths if path.suffix != ".json"]
    changed, unhashed = _changed(contents)
    records = {path: _record(path.with_name(f"{path.name}.json")) for path in contents}
    grades: dict[str, int] = {}
    for one in records.values():
        grades[str(one.get("grade", "?"))] = grades.get(str(one.get("grade", "?")), 0) + 1
    lacking = [path.name for path, one in records.items() if not all(one.get(name) for name in _WANTED)]
    return Documents(
        count=len(contents),
        grades=dict(sorted(grades.items())),
        undescribed=tuple(lacking[:NAMED_MOST]),
        changed=tuple(changed[:NAMED_MOST]),
        graded=tuple(GradedDocument(path.name, str(one.get("grade", "?"))) for path, one in records.items()),
        unhashed=unhashed,
    )


def _record(path: Path) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(plain_content(path, RECORD_MOST_BYTES, os.O_NOFOLLOW))
    except (OSError, Unreadable, msgspec.DecodeError):
        return {}
    return found if isinstance(found, dict) else {}


def _changed(contents: list[Path]) -> tuple[list[str], int]:
    """Return those whose name is not the digest of their bytes, and how many the budget did not reach."""
    left, found, unhashed = HASHED_MOST_BYTES, list[str](), 0
    for path in contents:
        about = path.lstat()
        if not stat.S_ISREG(about.st_mode):
            found.append(path.name)
        elif about.st_size > left:
            unhashed += 1
        else:
            left -= about.st_size
            content = plain_content(path, HASHED_MOST_BYTES, os.O_NOFOLLOW)
            if hashlib.sha256(content).hexdigest() != path.name:
                found.append(path.name)
    return found, unhashed


# --- What is recorded --------------------------------------------------------------------------------------


def requests() -> RequestLog:
    """Ask the journal for the API's newest lines, and see which of who, when, what and outcome they hold."""
    told = answer(
        "journalctl", "--unit=banip-api.service", "--output=cat", f"--lines={LINES_MOST}", "--no-pager"
    )
    return parse_requests(told)


def parse_requests(told: str) -> RequestLog:
    """Return what the lines that are one JSON object each have in common; never what was asked."""
    found = []
    for line in told.splitlines():
        if line.startswith("{"):
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    lines = [one for one in found if isinstance(one, dict) and "request" in one]
    common = set(lines[0]).intersection(*lines[1:]) if lines else set()
    return RequestLog(
        lines=len(lines),
        members=tuple(sorted(common)),
        newest=datetime.fromisoformat(lines[-1]["time"]) if lines and "time" in lines[-1] else None,
    )
