"""No secret enters a bundle: planted ones are found by file and line, and never shown."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from appliance.problems import BadInputs
from bundle.manifest import check
from bundle.resolve import make_lock
from bundle.secrets import Content, contents, find_secrets, refuse_secrets
from tests.project import Events, TinyProject

if TYPE_CHECKING:
    from bundle.lock import Lock

PROJECT = Path(__file__).parents[1]
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
TASKS = "playbooks/roles/api/tasks/main.yml"
_NOISE = base64.b64encode(hashlib.sha512(b"noise").digest()).decode()
_HEX = hashlib.sha256(b"noise").hexdigest()
# Put together here, so that no scanner of this repository takes the test for a leak.
_PEM = "-----BEGIN " + "PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n"
SECRETS = {
    "private key": (TASKS, _PEM, "PRIVATE KEY"),
    "aws key": (TASKS, "region: x\nid: " + "AKIA" + "IOSFODNN7EXAMPLA\n", "IOSFODNN7"),
    "hugging face token": (
        "playbooks/roles/api/files/up.sh",
        "curl -H hf_" + "a1B2c3D4e5" * 4 + "\n",
        "c3D4e5a1B2",
    ),
    "github token": ("playbooks/site.yml", "x: " + "ghp_" + _HEX[:36] + "\n", _HEX[:20]),
    "github fine-grained": (TASKS, "x: " + "github_pat_" + _HEX[:40] + "\n", _HEX[:20]),
    "password in yaml": (
        "playbooks/roles/api/defaults/main.yml",
        "---\ndb_password: Tr0ub4dor-3\n",
        "Tr0ub4dor",
    ),
    "passphrase in yaml": (TASKS, "- x:\n    passphrase: correct horse battery\n", "horse"),
    "ansible vault": ("playbooks/roles/api/vars/main.yml", "$ANSIBLE_" + "VAULT;1.1;AES256\n6162\n", "6162"),
    "high entropy": ("playbooks/roles/api/files/app.conf", f'blob = "{_NOISE}"\n', _NOISE[:24]),
    "address with password": (TASKS, "url: postgres://app:" + "s3cr3tpw@db/x\n", "s3cr3tpw"),
    "password hash": (TASKS, "x: $6$" + "abcdefgh$" + _NOISE[:43].replace("+", ".") + "\n", _NOISE[:12]),
    "json web token": (TASKS, "t: eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxIn0." + _HEX[:43] + "\n", "eyJzdWIi"),
    "manifest variable": ("manifests/tiny.yaml", "  api_token: " + _HEX[:24] + "\n", _HEX[:20]),
    "module": ("tiny/__init__.py", 'api_key = "' + _HEX[:32] + '"\n', _HEX[:20]),
    "folder model": ("weights/config.json", '{"token": "hf_' + "a1B2c3D4e5" * 4 + '"}\n', "c3D4e5a1B2"),
}
NAMES = [
    "playbooks/roles/api/files/server.key",
    "playbooks/roles/api/files/ca.pem",
    "playbooks/roles/api/files/id_rsa",
    "playbooks/roles/api/files/id_ed25519",
    "playbooks/roles/api/files/store.p12",
    "playbooks/roles/api/.env",
    "playbooks/roles/api/files/.netrc",
    "playbooks/roles/api/files/vault-password.txt",
    "playbooks/roles/api/vars/secrets.yml",
    "weights/credentials.json",
]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyProject, Lock]:
    project = TinyProject(tmp_path_factory.mktemp("secrets") / "project")
    _with_a_folder_model(project)
    return project, _lock(project)


def _with_a_folder_model(project: TinyProject) -> None:
    project.edit("models:\n", "models:\n  own:\n    folder: weights\n")
    project.write("weights/config.json", "{}\n")


def _lock(project: TinyProject) -> Lock:
    return make_lock(project.check(), project.workshop, now=NOW, report=Events())


def found(project: TinyProject, lock: Lock) -> list[str]:
    with pytest.raises(BadInputs) as caught:
        refuse_secrets(project.check(), lock, project.workshop.store)
    assert caught.value.exit_code == 2
    return caught.value.lines()


@pytest.mark.parametrize("kind", SECRETS)
def test_a_planted_secret_is_found_at_its_line_and_not_shown(
    clean: tuple[TinyProject, Lock], tmp_path: Path, kind: str
) -> None:
    name, content, secret = SECRETS[kind]
    project, lock = clean
    project = TinyProject(tmp_path / "project")
    _with_a_folder_model(project)
    path = project.folder / name
    before = path.read_text("utf-8") if path.exists() else ""
    project.write(name, before + content)
    if name.startswith("tiny/"):
        lock = _lock(project)  # the wheel is what is searched
    else:
        wheel = next(wheel for wheel in lock.wheels() if wheel.local)
        project.workshop.store.add_file(clean[0].workshop.store.path(wheel.sha256))
    lines = found(project, lock)
    place = name if not name.startswith(("tiny/", "weights/")) else name.rpartition("/")[2]
    assert any(place in line and line.split(": ")[0].rpartition(":")[2].isdigit() for line in lines), lines
    assert secret not in "\n".join(lines)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_named_like_a_secret_is_refused_whatever_it_holds(
    clean: tuple[TinyProject, Lock], name: str
) -> None:
    project, lock = clean
    path = project.write(name, "nothing\n")
    try:
        assert any("holds a key or a password" in line for line in found(project, lock))
    finally:
        path.unlink()


def test_a_clean_project_passes(clean: tuple[TinyProject, Lock]) -> None:
    project, lock = clean
    refuse_secrets(project.check(), lock, project.workshop.store)
    names = {content.name for content in contents(project.check(), lock, project.workshop.store)}
    assert {"manifests/tiny.yaml", "playbooks/site.yml", TASKS, "models/own/config.json"} <= names
    assert "tiny-1.0-py3-none-any.whl!tiny/__init__.py" in names


@pytest.mark.parametrize(
    "line",
    [
        "    update_password: on_create",
        "    password: '{{ banip_secret }}'",
        "    password_file: /var/lib/banip/secrets/db",
        "token: null",
        f"sha256: {_HEX}",
        "    no_log: true  # it holds a token",
        "http://127.0.0.1:8600/health",
    ],
)
def test_honest_lines_pass(line: str) -> None:
    assert list(find_secrets(Content(TASKS, line.encode()))) == []


def test_honest_code_passes() -> None:
    code = b'password = os.environ["DB_PASSWORD"]\ntoken = read_token(path)\nKEY_SCHEME = "ecdsa"\n'
    assert list(find_secrets(Content("tiny/__init__.py", code))) == []


def test_binary_files_are_judged_by_name_only() -> None:
    assert list(find_secrets(Content("weights/model.safetensors", b"\0" + _PEM.encode()))) == []
    assert list(find_secrets(Content("weights/model.pem", b"\0")))


@pytest.mark.real
def test_our_own_playbooks_and_code_pass() -> None:
    checked = check(PROJECT / "manifests" / "minimal.yaml")
    files = [
        PROJECT / checked.name,
        *(PROJECT / "playbooks").rglob("*"),
        *(PROJECT / "appliance").rglob("*.*"),
    ]
    problems = [
        problem.line()
        for path in files
        if path.is_file() and path.suffix != ".pyc"
        for problem in find_secrets(Content(path.relative_to(PROJECT).as_posix(), path.read_bytes()))
    ]
    assert problems == []
