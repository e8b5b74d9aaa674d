"""What `sshd -T` does not tell: what holds for some connections only, and how the server at work was started.

sshd -T answers for a connection that matches nothing; a Match block decides for some that come
(sshd_config(5)).
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from appliance.audit.facts_host import SshBlock
from appliance.audit.reading.probe import Unreadable, lines
from appliance.text import text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appliance.audit.facts_host import Line

CONFIGURATION = Path("/etc/ssh/sshd_config")
_INCLUDED_DEPTH_MOST = 16
_LISTENER = re.compile(r"sshd: \S*sshd\b(.*) \[listener\]")
#: Options that change what the server goes by, each with a word of its own; the others do not.
_DECIDING = frozenset({"-f", "-o", "-c", "-h", "-p", "-u"})
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIMES = frozenset({"clientaliveinterval", "logingracetime"})


def blocks(configuration: Path = CONFIGURATION) -> tuple[SshBlock, ...]:
    """Return the Match blocks of a configuration and of what it includes. Raises ``Unreadable``."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for where, criteria, name, value in _below(configuration, "", "", 0):
        if criteria:
            found.setdefault((where, criteria), {}).setdefault(name, value)  # the first one counts
    return tuple(SshBlock(where, criteria, settings) for (where, criteria), settings in found.items())


def _below(path: Path, where: str, criteria: str, depth: int) -> Iterator[tuple[str, str, str, str]]:
    """Yield settings with the block they stand in; a block ends with the file that it begins in."""
    if depth > _INCLUDED_DEPTH_MOST:
        raise Unreadable(
            text("{path} is included more than {count} deep", path=path, count=_INCLUDED_DEPTH_MOST)
        )
    for line in lines(path):
        name, words = _parts(line)
        if name == "match":
            where, criteria = f"{line.path}:{line.number}", f"Match {' '.join(words)}"
        elif name == "include":
            for included in (one for pattern in words for one in _included(path, pattern)):
                yield from _below(included, where, criteria, depth + 1)
        else:
            yield where, criteria, name, _plain(name, " ".join(words))


def _parts(line: Line) -> tuple[str, list[str]]:
    """Return a line's keyword and arguments: separated by blanks, or by one equals sign."""
    name, _, rest = re.sub(r"^(\w+)\s*=\s*", r"\1 ", line.text).partition(" ")
    try:
        return name.lower(), shlex.split(rest, comments=True)
    except ValueError:
        return name.lower(), rest.split()


def _included(path: Path, pattern: str) -> list[Path]:
    whole = pattern if pattern.startswith("/") else f"{path.parent}/{pattern}"
    return sorted(Path("/").glob(whole.lstrip("/")))


def _plain(name: str, value: str) -> str:
    """Spell a value as `sshd -T` would: times in seconds, words in lower case."""
    if name in _TIMES:
        parts = re.findall(r"(\d+)([smhdw]?)", value.lower())
        return str(sum(int(count) * _UNITS[unit] for count, unit in parts))
    return value.lower() if value.lower() in {"yes", "no", "none"} else value


def started_with() -> tuple[tuple[str, ...], ...]:
    """Return the options of every SSH server at work that decide something; none where none has any."""
    found: dict[tuple[str, ...], None] = {}
    for process in psutil.process_iter(["name", "cmdline"]):
        told = _LISTENER.match(" ".join(process.info["cmdline"] or ()))
        if process.info["name"] == "sshd" and told:
            found[options_of(told[1])] = None
    return tuple(one for one in found if one)


def options_of(told: str) -> tuple[str, ...]:
    """Return the deciding options out of a command line as `sshd` shows it, without quotes."""
    words, found = iter(told.split()), list[str]()
    for word in words:
        if word[:2] in _DECIDING:
            found += [word] if len(word) > len("-o") else [word, next(words, "")]
    return tuple(found)
