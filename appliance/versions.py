"""Versions of operating system packages: compared as Debian does, and what a server lacks of a release's."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from appliance.format import Package


def lacking(packages: Iterable[Package], installed: Mapping[str, str]) -> tuple[Package, ...]:
    """Return those packages that are not installed in their version or a newer one, in their order."""
    return tuple(
        package
        for package in packages
        if package.name not in installed or compare_versions(installed[package.name], package.version) < 0
    )


def compare_versions(one: str, other: str) -> int:
    """Return -1, 0 or 1. Source: Debian policy 5.6.12, ``deb-version(7)``."""
    for left, right in zip(_parts(one), _parts(other), strict=True):
        # A part that ends first goes on as if with empty words and zeros: "1" equals "1-0".
        for ours, theirs in itertools.zip_longest(_runs(left), _runs(right), fillvalue=_NOTHING):
            if ours != theirs:
                return 1 if ours > theirs else -1
    return 0


_Run = tuple[tuple[int, ...], int]
_END = 0  # sorts after "~" and before everything else
_NOTHING: _Run = ((_END,), 0)


def _parts(version: str) -> tuple[str, str, str]:
    epoch, colon, rest = version.partition(":")
    upstream, hyphen, revision = (rest if colon else version).rpartition("-")
    return epoch if colon else "", upstream if hyphen else revision, revision if hyphen else ""


def _runs(part: str) -> list[_Run]:
    """Split into non-digits and digits in turn, weighed so that tuples compare as Debian does."""
    runs = re.findall(r"([^0-9]*)([0-9]*)", part)
    return [(tuple(_weights(word)), int(digits or 0)) for word, digits in runs]


def _weights(word: str) -> Iterator[int]:
    weights = (-1 if one == "~" else ord(one) if one.isalpha() else ord(one) + 256 for one in word)
    return itertools.chain(weights, [_END])
