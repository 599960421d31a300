"""The error that an application gets when this adapter has ended its connection, and the errors that mean the same."""

from typing import Final

__all__ = ["SEND_TIMEOUT", "ConnectionEnded", "is_disconnect"]

SEND_TIMEOUT: Final = 10.0  # seconds for the last message to a client that reads nothing any more
_DISCONNECTS: Final = frozenset({"ClientDisconnect", "WebSocketDisconnect"})  # of Starlette and Litestar


class ConnectionEnded(ConnectionError):
    """Raised by `send` when the connection was ended because its session was."""


def is_disconnect(error: BaseException) -> bool:
    """Return whether an error, the framework's or ours, only says that the connection has ended."""
    return isinstance(error, ConnectionEnded) or type(error).__name__ in _DISCONNECTS
