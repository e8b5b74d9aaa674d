"""A JSON Schema's verdict on a document that a person wrote, in our words, at the line it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator

from appliance.text import Text, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from jsonschema.exceptions import ValidationError

    from appliance.document import Document
    from appliance.problems import Problem


def check_schema(document: Document, schema: Mapping[str, Any]) -> list[Problem]:
    """Return everything in which the document differs from the schema (draft 2020-12), in file order."""
    errors = Draft202012Validator(schema).iter_errors(document.value)
    problems = [problem for error in errors for problem in _problems(document, error)]
    return sorted(problems, key=lambda problem: int(problem.where.split(":")[1]))


def _problems(document: Document, error: ValidationError) -> Iterator[Problem]:
    place = tuple(error.absolute_path)
    if error.validator == "anyOf" and error.context:
        for inner in _closest(error):
            yield from _problems(document, inner)
    elif error.validator == "additionalProperties" and isinstance(error.instance, dict):
        schema: Any = error.schema
        known = sorted(schema.get("properties", {}))
        for key in error.instance:
            if key not in known:
                said = text("the key is not known; known here are {keys}", keys=", ".join(known))
                yield document.problem((*place, key), said)
    else:
        yield document.problem(place, _said(error))


def _closest(error: ValidationError) -> list[ValidationError]:
    """Return the complaints of the branch that was meant: the one whose kind fits, or that got furthest."""
    branches: dict[int, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(int(inner.relative_schema_path[0]), []).append(inner)

    def strangeness(branch: list[ValidationError]) -> tuple[bool, bool, int]:
        misses_kind = any(inner.validator in {"const", "enum"} for inner in branch)
        return misses_kind, any(inner.validator == "type" and not inner.path for inner in branch), len(branch)

    return min(branches.values(), key=strangeness)


def _said(error: ValidationError) -> Text:  # noqa: PLR0911 - a table, one return a row
    wanted: Any = error.validator_value
    match error.validator:
        case "required":
            # jsonschema reports one error a missing key; the key is only in its message.
            missing = [key for key in wanted if f"{key!r}" in error.message]
            return text("the key {key} is missing", key=", ".join(missing))
        case "type" if wanted == "string" and isinstance(error.instance, int | float):
            return text("{value} is a number here; put it in quotes", value=error.instance)
        case "type":
            return text("{value} is not of type {kind}", value=_short(error.instance), kind=wanted)
        case "pattern" | "format":
            return text("{value} does not match {pattern}", value=_short(error.instance), pattern=wanted)
        case "enum":
            return text("{value} is none of {choices}", value=_short(error.instance), choices=_list(wanted))
        case "const":
            return text("{value} is none of {choices}", value=_short(error.instance), choices=wanted)
        case "minimum" | "maximum":
            return text(
                "{value} is outside the allowed range (limit {limit})", value=error.instance, limit=wanted
            )
        case "oneOf":
            keys = ", ".join(key for branch in wanted for key in branch.get("required", ()))
            return text("exactly one of {keys} belongs here", keys=keys)
        case "minProperties" | "maxProperties" | "minItems" | "minLength":
            return text(
                "too few or too many entries here ({rule} {limit})", rule=error.validator, limit=wanted
            )
        case _:
            return text("does not fit the schema: {message}", message=error.message[:200])


def _short(value: object) -> str:
    words = repr(value)
    return words if len(words) <= 80 else words[:77] + "..."  # noqa: PLR2004 - a terminal's width


def _list(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))
