"""The types of ASGI (https://asgi.readthedocs.io), defined here so that no framework must be imported."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeAlias

__all__ = ["ASGIApp", "Connection", "Message", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Connection(Protocol):
    """What Starlette's Request and WebSocket and similar classes have in common."""

    @property
    def scope(self) -> Scope:
        """The ASGI scope."""
        ...
