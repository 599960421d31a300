"""What an application hears when this adapter has ended its connection, and which errors say that."""

from typing import Final

__all__ = ["SEND_TIMEOUT", "ConnectionEnded", "is_disconnect"]

SEND_TIMEOUT: Final = 10.0  # seconds for the last message to a client that reads nothing any more
_DISCONNECTS: Final = frozenset({"ClientDisconnect", "WebSocketDisconnect"})  # of Starlette and Litestar


class ConnectionEnded(ConnectionError):
    """The session of this connection was ended, and so was the connection."""


def is_disconnect(error: BaseException) -> bool:
    """Return whether an error is the framework's, or ours, for a connection that has ended."""
    return isinstance(error, ConnectionEnded) or type(error).__name__ in _DISCONNECTS
