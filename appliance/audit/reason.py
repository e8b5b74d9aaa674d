"""Why something could not be read, as facts keep it: a sentence of ours with its values, in no language.

Facts are signed, and judged later in either language. Only what other programs print stands in a reason as it
was printed, as one of its values.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable  # noqa: TC003 - msgspec resolves annotations at run time
from functools import reduce
from typing import TYPE_CHECKING, TypeVar

from msgspec import Struct

from appliance.errors import BanipError
from appliance.text import Text, kept, text

if TYPE_CHECKING:
    from collections.abc import Iterator

#: How deep a reason may stand in another, and how long one may be with all its values. A facts file may be
#: anybody's, and a sentence that names a value a hundred times, which does so too, would fill the memory.
_DEPTH_MOST = 24
_LETTERS_MOST = 4000
_SEVERAL_MOST = 8
#: What the system's library says in English, said in both languages.
_REFUSALS: dict[int, Text] = {
    errno.EACCES: text("permission denied"),
    errno.EPERM: text("the kernel does not permit it"),
    errno.ENOENT: text("no such file or folder"),
    errno.ENOTDIR: text("it is no folder"),
    errno.EISDIR: text("it is a folder"),
    errno.ELOOP: text("its links lead in a circle, or to a link"),
    errno.ENAMETOOLONG: text("its name is too long"),
    errno.ENXIO: text("there is no such device"),
    errno.ENODEV: text("there is no such device"),
    errno.EIO: text("the disk or device does not give it"),
    errno.ESTALE: text("the file system is not there any more"),
    errno.EINVAL: text("the kernel does not take the question"),
    errno.ENOSYS: text("this kernel cannot do it"),
    errno.EOPNOTSUPP: text("this kernel cannot do it"),
    errno.ENOMEM: text("there is not enough memory"),
    errno.EMFILE: text("too many files are open"),
    errno.ENFILE: text("too many files are open"),
    errno.ENOSPC: text("the disk is full"),
    errno.EAGAIN: text("it has no answer now"),
    errno.EBUSY: text("it is in use"),
    errno.ECONNREFUSED: text("nobody answers there"),
    errno.ECONNRESET: text("the other side ended the connection"),
    errno.EPIPE: text("the other side ended the connection"),
    errno.ENETUNREACH: text("no network leads there"),
    errno.EHOSTUNREACH: text("no network leads there"),
    errno.ETIMEDOUT: text("no answer in time"),
}


class Reason(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A sentence of ours and its values; one that no version knows any more is said as it stands."""

    sentence: str
    values: dict[str, str | int | Reason] = {}

    def as_text(self) -> Text:
        """Return it as a sentence that can be put into either language."""
        return _text(self, _DEPTH_MOST)

    def __str__(self) -> str:
        return str(self.as_text())

    def cleaned(self, clean: Callable[[str], str]) -> Reason:
        """Return it with values that ``clean`` went over, where two of them make up a secret, all as one."""
        found = Reason(self.sentence, {name: _cleaned(value, clean) for name, value in self.values.items()})
        whole = str(found)
        return found if clean(whole) == whole else reason_of(text("{names}", names=clean(whole)))


def _text(reason: Reason, depth: int) -> Text:
    values = {
        name: (_text(value, depth - 1) if depth else "...") if isinstance(value, Reason) else _short(value)
        for name, value in reason.values.items()
    }
    whole = kept(_short(reason.sentence), values)
    words = _short(str(whole))
    return whole if words == str(whole) else text("{names}", names=words)


_Said = TypeVar("_Said", str, "str | int")


def _short(value: _Said) -> _Said:
    """Return what is short enough as it is, and the beginning of what is not."""
    if isinstance(value, str) and len(value) > _LETTERS_MOST:
        return value[:_LETTERS_MOST] + "..."
    return value


def _cleaned(value: str | int | Reason, clean: Callable[[str], str]) -> str | int | Reason:
    if isinstance(value, Reason):
        return value.cleaned(clean)
    return clean(value) if isinstance(value, str) else value


#: Of a fact that no reader was asked for, and of one that is neither there nor says why.
NOT_COLLECTED, NO_VALUE = text("not collected"), text("no value")


def reason_of(why: Text) -> Reason:
    """Return a sentence as facts keep it."""
    return Reason(why.template, {name: _value(value) for name, value in why.values.items()})


def _value(value: object) -> str | int | Reason:
    if isinstance(value, Text):
        return reason_of(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else str(value)


def as_reason(unread: Reason | str | None) -> Reason:
    """Return the reason that facts have; older ones have it as an English sentence."""
    if unread is None:
        return reason_of(NO_VALUE)
    return Reason(unread) if isinstance(unread, str) else unread


# --- Whatever goes wrong -----------------------------------------------------------------------------------


def why(error: BaseException) -> Text:
    """Say what went wrong, as far as it is ours to say; the words of others stay theirs."""
    if isinstance(error, BanipError):
        return _all(list(_lines(error)))
    if isinstance(error, OSError):
        return _refused(error)
    return text("unexpected: {kind}: {words}", kind=type(error).__name__, words=error)


def _refused(error: OSError) -> Text:
    number = error.errno or 0
    known = _REFUSALS.get(number) if error.strerror == os.strerror(number) else None
    if isinstance(error, TimeoutError):
        known = text("no answer in time")
    said = known or text("unexpected: {kind}: {words}", kind=type(error).__name__, words=error)
    return text("{path}: {reason}", path=error.filename, reason=said) if known and error.filename else said


def _lines(error: BanipError) -> Iterator[Text]:
    yield error.happened
    if error.where is not None:
        yield text("where: {what}", what=_said(error.where))
    if error.expected is not None:
        yield text("expected: {what}", what=_said(error.expected))
    if error.seen is not None:
        yield text("seen: {what}", what=_said(error.seen))
    if error.remedy is not None:
        yield text("remedy: {what}", what=error.remedy)


def _said(value: object) -> object:
    if isinstance(value, tuple) and value:
        return _all([one if isinstance(one, Text) else text("{names}", names=one) for one in value])
    return value


def _all(several: list[Text]) -> Text:
    """Return several sentences as one."""
    return reduce(lambda one, other: text("{one}; {other}", one=one, other=other), several[:_SEVERAL_MOST])
