"""The rules of PAM in use: by which services, through which includes, and whether they can refuse."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from appliance.audit.facts_host import Line

FOLDER = "/etc/pam.d/"
#: Through which people come in or change a password; what none of them includes decides nothing.
SERVICES = ("login", "sshd", "su", "su-l", "sudo", "sudo-i", "passwd", "chpasswd", "gdm-password", "lightdm")
_INCLUDE = re.compile(r"@include (\S+)$|-?(\w+) (?:include|substack) (\S+)")
_RULE = re.compile(r"-?(auth|account|password|session)\s+(\[[^\]]*\]|\S+)\s+(\S+)(.*)")
_DEPTH_MOST = 16


def in_use(rules: Iterable[Line], kind: str, services: Iterable[str] = SERVICES) -> list[Line]:
    """Return the rules of one kind that these services come by, each once, in their order.

    Where not one of the services is among the rules, all of them count.
    """
    by_file: dict[str, list[Line]] = {}
    for line in rules:
        by_file.setdefault(line.path, []).append(line)
    begins = [name for name in services if FOLDER + name in by_file]
    if not begins:
        return [line for lines in by_file.values() for line in lines if control(line)[0] == kind]
    found = (line for name in begins for line in _below(by_file, FOLDER + name, kind, 0))
    return list(dict.fromkeys(found))


def _below(by_file: dict[str, list[Line]], path: str, kind: str, depth: int) -> Iterator[Line]:
    for line in by_file.get(path, ()):
        named = _INCLUDE.match(line.text)
        if named is None:
            if control(line)[0] == kind:
                yield line
        elif (named[1] or named[2] == kind) and depth < _DEPTH_MOST:
            yield from _below(by_file, _place(named[1] or named[3]), kind, depth + 1)


def _place(name: str) -> str:
    return name if name.startswith("/") else FOLDER + name


def control(line: Line) -> tuple[str, str, str, str]:
    """Return a rule's kind, control, module without its folder, and words; empty for what is no rule."""
    found = _RULE.match(line.text)
    return (found[1], found[2].lower(), found[3].rpartition("/")[2], found[4]) if found else ("", "", "", "")


def can_refuse(line: Line) -> bool:
    """Tell whether a rule that says no ends the matter: an optional or sufficient one does not."""
    word = control(line)[1]
    return word in {"required", "requisite"} or bool(re.search(r"default=(?:bad|die)", word))


def opens(line: Line) -> bool:
    """Tell whether a rule lets everybody in by itself."""
    kind, word, module, _ = control(line)
    lets_in = word == "sufficient" or bool(re.search(r"(?:success|default)=(?:done|ok done)", word))
    return kind == "auth" and lets_in and module == "pam_permit.so"
