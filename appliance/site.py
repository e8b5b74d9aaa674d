"""``/etc/banip/site.yaml``: what the site decides, and no bundle does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from appliance.errors import BadInput
from appliance.format import Value
from appliance.text import text

SITE_FILE = Path("/etc/banip/site.yaml")


class Site(Value, frozen=True):
    """Role variables that the site sets over those of the release."""

    format: Literal[1] = 1
    variables: dict[str, Any] = msgspec.field(default_factory=dict)


def read_site(path: Path = SITE_FILE) -> Site:
    """Return the site's decisions; a server without the file has decided nothing.

    Raises ``BadInput`` with the line or the path inside the file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Site()
    try:
        site = msgspec.convert(yaml.safe_load(content), type=Site)
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise BadInput(text("the site's file cannot be read"), where=path, seen=error) from error
    try:
        json.dumps(site.variables)
    except (TypeError, ValueError) as error:  # a bare date, say: roles get JSON
        raise BadInput(
            text("a variable of the site's file is not a string, number, list or mapping"),
            where=path,
            seen=error,
            remedy=text("put the value in quotes"),
        ) from error
    reserved = [name for name in site.variables if name.startswith("banip_")]
    if reserved:
        raise BadInput(
            text("names that begin with banip_ are Banip's own"), where=path, seen=", ".join(sorted(reserved))
        )
    return site
