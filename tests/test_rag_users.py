"""Keys: shown once, kept as digests, refused when disabled, and whole on disk whatever happens."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest

from appliance.clock import utc_now
from appliance.errors import BadInput, Tampered, UnfitServer
from appliance.rag.users import KEY_PREFIX, LiveUsers, UserFile, lower, new_key, within

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> UserFile:
    return UserFile(tmp_path / "users.json")


def test_a_key_lets_its_holder_in_and_is_not_on_the_disk(file: UserFile) -> None:
    key = file.add("kim", "S", "user", utc_now())
    found = file.read().holder(key)
    assert found is not None
    assert (found.name, found.grade, found.role) == ("kim", "S", "user")
    assert key.removeprefix(KEY_PREFIX) not in file.path.read_text()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("wrong", ["", "banip_", "banip_x", "operator", "\udc80", "키"])
def test_what_is_no_key_lets_nobody_in(file: UserFile, wrong: str) -> None:
    file.add("kim", "S", "user", utc_now())
    assert file.read().holder(wrong) is None


def test_keys_are_long_and_never_the_same() -> None:
    keys = {new_key() for _ in range(50)}
    assert len(keys) == 50
    assert {len(key.removeprefix(KEY_PREFIX)) for key in keys} == {43}  # 32 bytes in base64


def test_a_disabled_key_lets_nobody_in_and_its_name_stays_taken(file: UserFile) -> None:
    key = file.add("kim", "S", "user", utc_now())
    other = file.add("lee", "O", "admin", utc_now())
    assert file.disable("kim")
    assert not file.disable("kim")
    assert file.read().holder(key) is None
    assert file.read().holder(other) is not None
    with pytest.raises(BadInput, match="of this name already"):
        file.add("kim", "S", "user", utc_now())


def test_an_unknown_name_cannot_be_disabled(file: UserFile) -> None:
    with pytest.raises(BadInput, match="no key of this name"):
        file.disable("nobody")


@pytest.mark.parametrize("name", ["", "a b", "../x", "a" * 65, "a\n"])
def test_a_name_that_would_spoil_a_log_is_refused(file: UserFile, name: str) -> None:
    with pytest.raises(BadInput, match="letters, digits"):
        file.add(name, "S", "user", utc_now())


def test_where_no_api_is_installed_no_key_is_made(tmp_path: Path) -> None:
    with pytest.raises(UnfitServer, match="no API is installed"):
        UserFile(tmp_path / "missing" / "users.json").add("kim", "S", "user", utc_now())


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format":2,"users":[]}', '{"users":[{"name":"x"}]}'])
def test_a_damaged_file_lets_nobody_in(file: UserFile, content: str) -> None:
    file.path.write_text(content)
    with pytest.raises(Tampered, match="damaged"):
        LiveUsers(file).now()


def test_a_running_service_sees_each_change(file: UserFile) -> None:
    live = LiveUsers(file)
    assert live.now().users == ()
    key = file.add("kim", "S", "user", utc_now())
    assert live.now().holder(key) is not None
    file.disable("kim")
    assert live.now().holder(key) is None
    file.path.unlink()
    assert live.now().users == ()


def test_a_replaced_key_ends_the_one_before(file: UserFile) -> None:
    first = file.replace("operator", "C", "admin", utc_now())
    second = file.replace("operator", "C", "admin", utc_now())
    assert file.read().holder(first) is None
    assert file.read().holder(second) is not None
    assert len(file.read().users) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_the_file_belongs_to_the_owner_of_its_folder(file: UserFile) -> None:
    os.chown(file.path.parent, 12345, 12346)
    file.add("kim", "S", "user", utc_now())
    found = file.path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 12346, 0o600)


def test_the_file_is_plain_json(file: UserFile) -> None:
    file.add("kim", "S", "user", utc_now())
    told = json.loads(file.path.read_text())
    assert told["format"] == 1
    assert told["users"][0]["name"] == "kim"


def test_grades_rise_from_open_to_secret() -> None:
    assert within("O", "S")
    assert within("S", "S")
    assert not within("C", "S")
    assert not within("S", "O")
    assert (lower("C", "S"), lower("O", "S"), lower("S", "S")) == ("S", "O", "S")
