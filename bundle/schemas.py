"""JSON Schemas for editors, generated from the structures that read the files: those stay the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from appliance.audit.catalogue import Checklist, Extension
from appliance.audit.registers import Registers
from appliance.audit.site import Attestations, Exceptions, Tailoring
from appliance.format import Value, canonical_json
from bundle.manifest import manifest_schema, role_schema, schema_of

if TYPE_CHECKING:
    from pathlib import Path


def schemas() -> dict[str, dict[str, Any]]:
    """Return every schema (draft 2020-12) by the name of its file in ``manifests/schema``."""
    audit: dict[str, type[Value]] = {
        "checklist": Checklist,
        "checklist-additions": Extension,
        "audit-tailoring": Tailoring,
        "audit-exceptions": Exceptions,
        "audit-attestations": Attestations,
        "audit-registers": Registers,
    }
    found = {"manifest": manifest_schema(), "role": role_schema()}
    return found | {name: schema_of(kind, name) for name, kind in audit.items()}


def schema_bytes(schema: dict[str, Any]) -> bytes:
    """Return the schema as the committed file has it."""
    return msgspec.json.format(canonical_json(schema).strip(), indent=2) + b"\n"


def write_schemas(folder: Path) -> None:
    """Write all of them into ``manifests/schema``, after a structure was changed."""
    for name, schema in schemas().items():
        (folder / f"{name}.schema.json").write_bytes(schema_bytes(schema))
