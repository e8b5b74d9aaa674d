"""The formats of a report: each a function from an ``Edition`` to the bytes of one file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.audit.edition import Unavailable
from appliance.audit.formats import hwpx, oscal, page, pdf, xlsx

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.audit.edition import Edition


@dataclass(frozen=True, slots=True)
class Format:
    """A format by the name that ``--format`` knows, its file, what makes it (or raises ``Unavailable``)."""

    name: str
    file: str
    render: Callable[[Edition], bytes]


__all__ = ["FORMATS", "Format", "Unavailable"]

FORMATS = (
    Format("html", "audit.html", page.render),
    Format("pdf", "audit.pdf", pdf.render),
    Format("xlsx", "audit.xlsx", xlsx.render),
    Format("hwpx", "audit.hwpx", hwpx.render),
    Format("oscal", "oscal.json", oscal.render),
)
