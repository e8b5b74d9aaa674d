"""One file that a client sends, as ``multipart/form-data`` with the members ``file`` and ``grade``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from appliance.rag.guard import ApiError
from appliance.rag.passages import GRADES_RISING
from appliance.text import text

if TYPE_CHECKING:
    from starlette.requests import Request

    from appliance.format import Grade


@dataclass(frozen=True, slots=True)
class Upload:
    """A file's name as the client states it, its bytes, and the grade that it was given."""

    name: str
    content: bytes
    grade: Grade


async def read_upload(request: Request, clearance: Grade) -> Upload:
    """Read the form; without a grade the file gets the highest one that the key may read.

    Raises ``ApiError`` 400 for a form without a file, 403 for a grade above the clearance.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise _no_file()
    async with request.form(max_files=1, max_fields=4) as form:
        file, grade = form.get("file"), form.get("grade") or clearance
        if file is None or isinstance(file, str):
            raise _no_file()
        if grade not in GRADES_RISING:
            raise ApiError(400, "invalid_grade", text("the grade is one of C, S and O"))
        if GRADES_RISING.index(grade) > GRADES_RISING.index(clearance):
            words = text("a file of grade {grade} is above what this key may read here", grade=grade)
            raise ApiError(403, "grade_too_high", words)
        return Upload(file.filename or "", await file.read(), grade)


def _no_file() -> ApiError:
    return ApiError(400, "no_file", text("the form has no file in its member `file`"))
