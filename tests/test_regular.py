"""Small files that a person names: only a regular one is read, and only so much of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from appliance.errors import BadInput
from bundle.regular import read_regular

if TYPE_CHECKING:
    from pathlib import Path


def test_a_regular_file_is_read_also_through_a_link_and_no_further_than_asked(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.write_bytes(b"abcd")
    link.symlink_to(file)
    assert read_regular(link, 3) == b"abc"
    assert read_regular(file, 10) == b"abcd"


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_anything_else_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = {"pipe": tmp_path / "pipe", "folder": tmp_path, "device": tmp_path / "device"}[kind]
    if kind == "pipe":
        os.mkfifo(path)
    if kind == "device":
        path.symlink_to("/dev/zero")
    with pytest.raises(BadInput) as refused:
        read_regular(path, 3)
    assert refused.value.where == path
    assert "not a folder, a pipe or a device" in str(refused.value.remedy)


def test_a_file_that_is_not_there_is_the_caller_s_to_tell(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "absent", 3)
