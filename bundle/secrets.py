"""No secret enters a bundle: what a project would put into one is searched, by name and by content.

The patterns are detect-secrets', run line by line and offline (its verification, which asks the services
that a token is for, is never called), with rules of our own for key files and for what it does not know.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

from appliance.problems import BadInputs, Problem
from appliance.text import text
from bundle.local import folder_files, playbook_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from detect_secrets.plugins.base import BasePlugin

    from appliance.store import Store
    from bundle.lock import Lock
    from bundle.manifest import CheckedManifest

_TEXT_MAX_BYTES = 4 * 1024 * 1024
_SHOWN_CHARACTERS, _LONG_ENOUGH = 3, 12
#: Digests and addresses are what this product is full of; neither is a secret.
_LEFT_OUT = {"Hex High Entropy String", "Public IP (ipv4)"}
_SECRET_NAMES = re.compile(
    r"""(?ix) .*\.(pem|key|p8|p12|pfx|jks|keystore|kdbx|ovpn|ppk|asc)
    | id_(rsa|dsa|ecdsa|ed25519)(_sk)? | \.env(\..*)? | [._]netrc | \.pypirc | \.npmrc | \.pgpass | \.htpasswd
    | \.git-credentials | credentials(\..*)? | \.?vault[-_.]?pass(word)?.* | \.vault.*
    | secrets?\.(ya?ml|json|toml|ini|env)"""
)
_OWN_RULES = {
    "Hugging Face token": re.compile(r"\b(hf_[A-Za-z0-9]{30,})\b"),
    "GitHub fine-grained token": re.compile(r"\b(github_pat_[A-Za-z0-9_]{22,})\b"),
    "Google API key": re.compile(r"\b(AIza[0-9A-Za-z_-]{35})\b"),
    "Ansible vault": re.compile(r"(\$ANSIBLE_VAULT;[0-9.]+)"),
    "age identity": re.compile(r"\b(AGE-SECRET-KEY-1[0-9A-Z]{50,})\b"),
    "password hash": re.compile(r"(\$(?:2[aby]|5|6|y|argon2id?)\$[./A-Za-z0-9=,$-]{20,})"),
    "address with a password": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@{}'\"]+:([^\s/@{}'\"]{3,})@"),
    "secret in YAML": re.compile(
        r"(?i)^[\s-]*[\"']?[a-z0-9_.-]*(?:password|passwd|passphrase|secret|token|api_?key|private_?key)[\"']?"
        r"\s*:\s+[\"']?([^\s\"'{}#|>&*][^\"'{}#]{3,}?)[\"']?\s*$"
    ),
}
#: Words that such keys have in honest files: Ansible's own parameters, types, and names of other things.
_HONEST = re.compile(
    r"(?i)(true|false|yes|no|null|none|str|string|always|on_create|required|/[\w./-]+|[a-z_]+\.[a-z_.]+)"
)


@dataclass(frozen=True, slots=True)
class Content:
    """A file that would enter a bundle: the name under which it is reported, and its bytes if it is text."""

    name: str
    data: bytes | None


def refuse_secrets(checked: CheckedManifest, lock: Lock, store: Store) -> None:
    """Raise ``BadInputs`` naming every file and line that looks like a secret; the secret is not shown."""
    problems = [problem for content in contents(checked, lock, store) for problem in find_secrets(content)]
    if problems:
        raise BadInputs(
            text("secrets cannot enter a bundle; found: {count}", count=len(problems)),
            problems,
            text("take them out and lock again; a secret is made on the server, under secrets/"),
        )


def contents(checked: CheckedManifest, lock: Lock, store: Store) -> Iterator[Content]:
    """Yield everything that enters from the project itself; what indexes and hubs serve is public."""
    manifest = checked.project / checked.name
    yield _file(checked.name, manifest)
    for role in checked.manifest.playbooks.roles:
        yield from _hidden(checked, role)
    for name, path in playbook_files(checked).items():
        yield _file(name, path)
    for name, model in checked.manifest.models.items():
        if model.folder is not None:
            for relative, path in folder_files(checked.path(model.folder), f"models/{name}").items():
                yield _file(relative, path)
    for wheel in lock.wheels():
        if wheel.local:
            yield from _wheel(wheel.filename, store.path(wheel.sha256))


def find_secrets(content: Content) -> Iterator[Problem]:
    """Yield what in a file looks like a secret, at most once a line."""
    name = PurePosixPath(content.name).name
    if _SECRET_NAMES.fullmatch(name):
        yield Problem(content.name, text("a file of this name holds a key or a password"))
    for number, line in enumerate(_lines(content.data), start=1):
        found = next(_in_line(name, line), None)
        if found is not None:
            kind, secret = found
            said = text("looks like a secret ({kind}): {hint}", kind=kind, hint=_hint(secret))
            yield Problem(f"{content.name}:{number}", said)


def _in_line(name: str, line: str) -> Iterator[tuple[str, str]]:
    for kind, rule in _OWN_RULES.items():
        for match in rule.finditer(line):
            if not _HONEST.fullmatch(match[1].strip()):
                yield kind, match[1]
    for kind, plugin in _plugins().items():
        for secret in plugin.analyze_line(filename=name, line=line, line_number=1):
            value = secret.secret_value
            # Passwords and tokens are ASCII; a word like password before a Korean sentence is a translation.
            if value and value.isascii() and not _HONEST.fullmatch(value):
                yield kind, value


@cache
def _plugins() -> dict[str, BasePlugin]:
    kinds: Mapping[str, type[BasePlugin]] = get_mapping_from_secret_type_to_class()
    return {kind: plugin() for kind, plugin in sorted(kinds.items()) if kind not in _LEFT_OUT}


def _hint(secret: str) -> str:
    """Return enough to recognise one's own secret, and not enough to use it."""
    shown = secret[:_SHOWN_CHARACTERS] if len(secret) >= _LONG_ENOUGH else ""
    return f"{shown}***"


def _lines(data: bytes | None) -> Iterable[str]:
    if data is None or b"\0" in data[:8192]:
        return ()
    return data.decode("utf-8", "replace").splitlines()


def _file(name: str, path: Path) -> Content:
    return Content(name, path.read_bytes() if path.stat().st_size <= _TEXT_MAX_BYTES else None)


def _hidden(checked: CheckedManifest, role: str) -> Iterator[Content]:
    """Yield hidden files of a role: they never enter, but one that is a secret is in the wrong place."""
    inside = f"{checked.manifest.playbooks.folder}/roles/{role}"
    for path in sorted(checked.path(inside).rglob(".*")):
        if path.is_file() and not path.is_symlink():
            yield _file(path.relative_to(checked.project).as_posix(), path)


def _wheel(filename: str, path: Path) -> Iterator[Content]:
    with zipfile.ZipFile(path) as wheel:
        for member in wheel.infolist():
            if not member.is_dir() and not member.filename.endswith(".dist-info/RECORD"):
                data = wheel.read(member) if member.file_size <= _TEXT_MAX_BYTES else None
                yield Content(f"{filename}!{member.filename}", data)
