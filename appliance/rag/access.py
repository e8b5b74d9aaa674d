"""Who may come in, and what they may see: the key of a request against the users of this server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appliance.rag.guard import ApiError, trace_of
from appliance.rag.users import lower
from appliance.text import text

if TYPE_CHECKING:
    from starlette.requests import Request

    from appliance.format import Grade
    from appliance.rag.users import LiveUsers, User


def is_through_the_gateway(request: Request) -> bool:
    """Tell whether somebody beyond this server asks: the gateway sets the header, whatever it was sent."""
    return "x-forwarded-for" in request.headers


class Access:
    """The one place that decides; ``ceiling`` is the grade of the server itself."""

    def __init__(self, users: LiveUsers, ceiling: Grade) -> None:
        self._users = users
        self.ceiling = ceiling

    def user(self, request: Request) -> User:
        """Return whose key came with the request. Raises ``ApiError`` 401."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        user = self._users.now().holder(key.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise ApiError(401, "invalid_api_key", text("this needs a valid API key"))
        trace_of(request.scope).user = user.name
        return user

    def admin(self, request: Request) -> User:
        """Return whose key it is, if that may change things. Raises ``ApiError`` 401 or 403."""
        user = self.user(request)
        if user.role != "admin":
            raise ApiError(403, "not_admin", text("only an administrator's key may do this"))
        return user

    def inside(self, request: Request) -> None:
        """Let in who sits on this server; what comes through the gateway needs an administrator's key."""
        if is_through_the_gateway(request):
            self.admin(request)

    def clearance(self, user: User) -> Grade:
        """Return the highest grade that the key may read here."""
        return lower(user.grade, self.ceiling)

    def check(self) -> None:
        """Raise ``Tampered`` where the keys cannot be read, so that nobody can come in."""
        self._users.now()
