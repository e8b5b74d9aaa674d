"""What a person is told when the machine refuses, and when we are wrong."""

from __future__ import annotations

import errno
import os

import pytest

from bundle.trouble import told


def refused(number: int, path: str | None = "/srv/out/page.html") -> OSError:
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("path", ["/srv/out/page.html", None])
def test_a_full_disk_is_exit_20_and_names_space_as_the_remedy(number: int, path: str | None) -> None:
    error = told(refused(number, path))
    assert (error.exit_code, str(error.happened)) == (20, "the disk is full")
    assert "free space" in str(error.remedy)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_somebody_elses_folder_is_exit_2_and_another_one_is_the_remedy(number: int) -> None:
    error = told(refused(number))
    assert (error.exit_code, error.where) == (2, "/srv/out/page.html")
    assert "folder of your own" in str(error.remedy)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTDIR, errno.EROFS, errno.EIO])
def test_any_other_refusal_names_the_file_and_the_reason(number: int) -> None:
    error = told(refused(number))
    assert (error.exit_code, error.where, error.seen) == (2, "/srv/out/page.html", os.strerror(number))


@pytest.mark.parametrize("error", [refused(errno.EBADF, None), ValueError("x")])
def test_everything_else_is_our_bug_and_promises_nothing_about_files(error: Exception) -> None:
    found = told(error)
    assert found.exit_code == 1
    assert "our bug" in str(found.happened)
    assert type(error).__name__ in str(found.seen)
    assert "half written" not in str(found.remedy)
