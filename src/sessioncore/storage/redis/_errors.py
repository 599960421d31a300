"""Error replies and lost connections, and which of a storage's errors each becomes.

An error reply is passed on as a value, an `ErrorReply`, to the code that knows what the
command was for. It keeps the code and the server's own words only: what a server quotes,
such as a key or an owner, is in no exception.
"""

import re
from collections.abc import Iterator

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from sessioncore._errors import StorageError, StorageUnavailable

__all__ = [
    "AclDenied",
    "ConnectionLost",
    "ErrorReply",
    "ForeignValue",
    "ReplyTimeout",
    "error_of",
    "error_reply_of",
    "unavailable",
]

# Redis 6.2 wraps what a command inside a script said: "ERR Error running script (...): ... -OOM command ...".
_INSIDE = re.compile(r"\b(OOM|READONLY|WRONGTYPE|MISCONF|NOREPLICAS|NOPERM|MASTERDOWN|CLUSTERDOWN|LOADING)\b")
# ACL denials inside scripts have no error code; these are the texts of 6.2 and 7.0, and of 7.2.
_DENIED_INSIDE = re.compile(r"The user executing the script can't|ACL failure in script")
# The names of commands are no secret. A quotation runs from the first quote to the last one, since a key may contain
# quotes itself; the apostrophe in "can't" is not a quote.
_COMMAND_QUOTED = re.compile(r"\b(the|command) [`']([A-Za-z|]{1,40})[`']")
_QUOTED = re.compile(r"(?<!\w)[`'\"](.*[`'\"]|.*)", re.DOTALL)
_INDEX = "sessioncore-index"  # follows the name of an owner
_COMMAND = re.compile(r"run the ([a-z|]{1,40}) command")
_KEYS = re.compile(r"access .*\bkeys?\b")

_UNAVAILABLE = {
    "BUSY": "a script blocks the server; it takes no commands until that ends",
    "CLUSTERDOWN": "the cluster does not serve all slots at the moment",
    "LOADING": "the server is still loading its data",
    "MASTERDOWN": "this replica has lost its master",
    "MISCONF": "the server cannot persist and refuses writes; look at its log and its disk",
    "NOAUTH": "the server wants a password; check the user and the password in the URL or the client",
    "NOREPLICAS": "too few replicas are connected for the server to accept writes",
    "OOM": "the server is out of memory (maxmemory), so nothing was stored",
    "READONLY": "this server is a replica; connect to the master, or through Sentinel",
    "TRYAGAIN": "the cluster is moving this slot",
    "UNKILLABLE": "a script blocks the server; it takes no commands until that ends",
    "WRONGPASS": "it does not know this user and password; check them in the URL or the client",
}
_WRONG = {
    "CROSSSLOT": "the server is a cluster; use redis.asyncio.RedisCluster or a redis+cluster:// URL",
    "MOVED": "the server is a cluster; use redis.asyncio.RedisCluster or a redis+cluster:// URL",
    "NOPERM": "the ACL user lacks a right; ACL LOG on the server shows which, docs/storage.md lists what is needed",
    "WRONGTYPE": "a key of this store holds something else; delete it, or choose a key_prefix that nothing else uses",
}


class ErrorReply(Exception):
    """An error reply: `code` is the word it begins with, `text` is the reply without what the server quotes."""

    def __init__(self, text: str) -> None:
        self.code = _code_of(text)
        words = _QUOTED.sub("...", _COMMAND_QUOTED.sub(r"\1 \2", text))
        self.about_a_key = _KEYS.search(words) is not None
        self.text = self.code if _INDEX in words else words
        super().__init__(self.text[:200])


def _code_of(text: str) -> str:
    first = text.split(" ", 1)[0]
    if first.isupper() and first != "ERR" and not first.startswith("@"):
        return first
    # From a script: 6.2 puts the line before an error that the script returns, and redis-py removes the "ERR".
    if found := _INSIDE.search(text):
        return found[1]
    return "NOPERM" if _DENIED_INSIDE.search(text) else "ERR"


class ConnectionLost(Exception):
    """The connection ended before the reply came: the command may or may not have been carried out."""


class ReplyTimeout(ConnectionLost):
    """No reply came in time."""


class ForeignValue(StorageError):
    """The value at a key was not written by this storage."""


class AclDenied(StorageError):
    """The ACL user may not access a key, by whatever command."""


def error_of(reply: ErrorReply) -> StorageError:
    """Return the error that says what an error reply means and what to do about it."""
    if hint := _UNAVAILABLE.get(reply.code):
        return StorageUnavailable(f"Redis refused ({reply.code}): {hint}")
    hint = _WRONG.get(reply.code, "see the cause of this error for its words")
    if reply.code == "NOPERM" and (command := _COMMAND.search(reply.text)):
        hint = f"{hint}; this time it was {command[1]}"
    kind = StorageError
    if reply.code == "WRONGTYPE":
        kind = ForeignValue
    elif reply.code == "NOPERM" and reply.about_a_key:
        kind = AclDenied
    return kind(f"Redis refused ({reply.code}): {hint}")


def unavailable(exc: ConnectionLost) -> StorageUnavailable:
    """Return the error for a reply that never came, or a connection that the server refused."""
    reason = str(exc)
    for cause in _causes(exc):
        if isinstance(cause, AuthenticationError | NoPermissionError):
            return StorageUnavailable(str(error_of(error_reply_of(cause))))
        if isinstance(cause, ResponseError):  # of the handshake, which selects the database
            said = ErrorReply(f"ERR {cause}")
            return StorageUnavailable(f"Redis refused the connection ({said}); check the URL or the client")
        if isinstance(cause, OSError):
            reason = f"{exc} ({str(cause) or type(cause).__name__})"
    return StorageUnavailable(f"Redis did not answer: {reason}; look at the server, its address and the network")


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


_CODES: tuple[tuple[type[RedisError], str], ...] = (
    # redis-py removes the code from errors that it has a class for.
    (NoScriptError, "NOSCRIPT"),
    (ReadOnlyError, "READONLY"),
    (BusyLoadingError, "LOADING"),
    (OutOfMemoryError, "OOM"),
    (NoPermissionError, "NOPERM"),
    (MasterDownError, "MASTERDOWN"),
    (ClusterDownError, "CLUSTERDOWN"),
    (AuthenticationError, "WRONGPASS"),
)


def error_reply_of(exc: Exception) -> ErrorReply:
    """Return the error reply that an exception of redis-py was."""
    text = str(exc)
    for kind, word in _CODES:
        if isinstance(exc, kind):
            code = word
            # The server asks for a missing password in two ways, and redis-py has one class for both.
            if code == "WRONGPASS" and text.startswith(("Authentication required", "HELLO must be called")):
                code = "NOAUTH"
            return ErrorReply(f"{code} {text}")
    return ErrorReply(text)
