"""The site's file: what it may say, and how a mistake in it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from appliance.errors import BadInput
from appliance.site import Site, read_site

if TYPE_CHECKING:
    from pathlib import Path


def test_a_server_without_the_file_has_decided_nothing(tmp_path: Path) -> None:
    assert read_site(tmp_path / "site.yaml") == Site()


def test_variables_are_read(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("format: 1\nvariables:\n  api_port: 8700\n")
    assert read_site(path).variables == {"api_port": 8700}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("variables: [1]", "$.variables"),
        ("format: 2", "$.format"),
        ("unknown: 1", "unknown"),
        ("variables: {", "line 1"),
        ("just words", "Expected `object`"),
        ("variables: !!python/object/apply:os.getcwd []", "python/object"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, content: str, told: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(content)
    with pytest.raises(BadInput) as refused:
        read_site(path)
    assert refused.value.where == path
    assert told in str(refused.value.seen)


def test_a_bare_date_is_refused_before_a_role_meets_it(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("variables: {since: 2025-01-01}")
    with pytest.raises(BadInput, match="not a string"):
        read_site(path)


def test_bytes_that_are_no_text_are_a_mistake_too(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_bytes(b"variables: \xff\xfe")
    with pytest.raises(BadInput):
        read_site(path)


def test_banips_own_names_are_reserved(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text("variables: {banip_grade: O, banip_root: /, api_port: 1}")
    with pytest.raises(BadInput) as refused:
        read_site(path)
    assert refused.value.seen == "banip_grade, banip_root"
