"""What the machine refuses, in the words of our own errors: a full disk, somebody else's folder, our bug."""

from __future__ import annotations

import errno
import traceback

from appliance.console import lost
from appliance.errors import BadInput, BanipError, UnfitServer
from appliance.output import OutputRefused
from appliance.text import text


def told(error: Exception) -> BanipError:
    """Return what to tell a person about an error that nothing narrower caught."""
    if isinstance(error, OutputRefused):
        return lost(error)
    if isinstance(error, OSError):
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return UnfitServer(
                text("the disk is full"),
                where=error.filename,
                seen=error.strerror,
                remedy=text("free space or inodes (df, df -i) and run the same command again"),
            )
        if error.filename is not None:
            return _refused(error)
    return BanipError(
        text("this is our bug, not yours"),
        seen="".join(traceback.format_exception(error)).strip(),
        remedy=text("please send us these lines, and look at what the command was writing before you use it"),
    )


def _refused(error: OSError) -> BadInput:
    if isinstance(error, PermissionError):
        happened = text("you have no right to this file or folder")
        remedy = text("choose a folder of your own")
    else:
        happened = text("this file or folder cannot be used")
        remedy = text("look at this path, or name another one")
    return BadInput(happened, where=error.filename, seen=error.strerror, remedy=remedy)
