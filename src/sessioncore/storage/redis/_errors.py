"""Turns error replies and lost connections into errors of the storage contract.

An error reply is passed on as a value, an `ErrorReply`, to the code that knows what the
command was for. It keeps the code and the server's own words only: what a server quotes,
such as a key or an owner, is in no exception.
"""

import re
from socket import gaierror

from redis import exceptions as redis_errors

from sessioncore._causes import RAISE_FILE_LIMIT, causes, is_file_limit_reached
from sessioncore._errors import StorageError, StorageUnavailable, WritesRefused

__all__ = [
    "CLIENT_ERRORS", "RIGHTS", "AclDenied", "ConnectionLost", "ErrorReply", "Explained", "ForeignValue", "ReplyTimeout",
    "error_of", "error_reply_of", "is_explained", "unavailable", "was_refused", "words_of",
]  # fmt: skip

# redis-py does not derive the second from the first.
CLIENT_ERRORS = (redis_errors.RedisError, redis_errors.RedisClusterException)
# Redis 6.2 wraps what a command inside a script said: "ERR Error running script (...): ... -OOM command ...".
_INSIDE = re.compile(r"\b(OOM|READONLY|WRONGTYPE|MISCONF|NOREPLICAS|NOPERM|MASTERDOWN|CLUSTERDOWN|LOADING)\b")
# ACL denials inside scripts have no error code; these are the texts of 6.2 and 7.0, and of 7.2.
_DENIED_INSIDE = re.compile(r"The user executing the script can't|ACL failure in script")
_LINE = re.compile(r"@user_script: ?(\d{1,6})")
# The names of commands are no secret. A quotation runs from the first quote to the last one, since a key may contain
# quotes itself; the apostrophe in "can't" is not a quote.
_COMMAND_QUOTED = re.compile(r"\b(the|command) [`']([A-Za-z|]{1,40})[`']")
_QUOTED = re.compile(r"(?<!\w)[`'\"](.*[`'\"]|.*)", re.DOTALL)
_INDEX = "sessioncore-index"  # follows the name of an owner
_COMMAND = re.compile(
    r"run the ([a-z|]{1,40}) command|\[([A-Z]+)\]$"
)  # in brackets: by our scripts, where 7.0 does not tell
_CALLED = re.compile(rb"call\('([A-Z]+)'")
_KEYS = re.compile(r"\bkeys?\b")

_UNAVAILABLE = {
    "BUSY": "a script blocks the server; it takes no commands until that ends",
    "CLUSTERDOWN": "the cluster does not serve all slots at the moment",
    "LOADING": "the server is still loading its data",
    "MASTERDOWN": "this replica has lost its master",
    "MISCONF": "the server cannot persist and refuses writes; look at its log and its disk",
    "NOAUTH": "the server wants a password; check the user and the password in the URL or the client",
    "NOREPLICAS": "too few replicas are connected for the server to accept writes (min-replicas-to-write)",
    "OOM": "the server is full (maxmemory), so nothing was stored; raise maxmemory, or end sessions sooner",
    "READONLY": "this server is a replica; connect to the master, or through Sentinel",
    "TRYAGAIN": "the cluster is moving this slot",
    "UNKILLABLE": "a script blocks the server; it takes no commands until that ends",
    "WRONGPASS": "it does not know this user and password; check them in the URL or the client",
}
RIGHTS = (
    "+get +set +getrange +pttl +pexpire +unlink +scan +zadd +zrem +zrange +zrangebyscore +zremrangebyscore "
    "+eval +evalsha +time +ping +wait +client|tracking +client|caching"
)
_TAKES_NO_WRITES = frozenset({"MISCONF", "NOREPLICAS", "OOM", "READONLY"})
_WRONG = {
    "CROSSSLOT": "the server is a cluster; use redis.asyncio.RedisCluster or a redis+cluster:// URL",
    "MOVED": "the server is a cluster; use redis.asyncio.RedisCluster or a redis+cluster:// URL",
    "WRONGTYPE": "a key of this store holds something else; delete it, or choose a key_prefix that nothing else uses",
}


class ErrorReply(Exception):
    """An error reply: `code` is the word it begins with, `text` is the reply without what the server quotes."""

    def __init__(self, text: str) -> None:
        self.code = _code_of(text)
        words = _QUOTED.sub("...", _COMMAND_QUOTED.sub(r"\1 \2", text))
        self.about_a_key = _KEYS.search(words.partition("access ")[2]) is not None
        self.text = self.code if _INDEX in words else words
        super().__init__(self.text[:200])


def _code_of(text: str) -> str:
    first = text.split(" ", 1)[0]
    if first.isupper() and first not in {"ERR", "ACL"} and not first.startswith("@"):
        return first
    # From a script: 6.2 puts the line before an error that the script returns, and redis-py removes the "ERR",
    # even from "ERR ACL failure in script".
    if found := _INSIDE.search(text):
        return found[1]
    if "non local key" in text:  # a script that runs on a cluster by a plain client
        return "CROSSSLOT"
    return "NOPERM" if _DENIED_INSIDE.search(text) else "ERR"


class ConnectionLost(Exception):
    """The connection ended before the reply came: the command may or may not have been carried out."""


class ReplyTimeout(ConnectionLost, TimeoutError):  # as the cause of an error, a TimeoutError tells the store why
    """No reply came in time."""


class Explained(ConnectionLost):
    """No connection could be opened; the text says why, and what to do."""


class ForeignValue(StorageError):
    """The value at a key was not written by this storage."""


class AclDenied(StorageError):
    """The ACL user may not access a key, by any command."""


def error_of(reply: ErrorReply, script: bytes = b"") -> StorageError:
    """Return the error that says what an error reply means and what to do about it; `script` is what was running."""
    if hint := _UNAVAILABLE.get(reply.code):
        unavailable_as = WritesRefused if reply.code in _TAKES_NO_WRITES else StorageUnavailable
        return unavailable_as(f"Redis refused ({reply.code}): {hint}")
    if reply.code == "NOPERM":
        return _denied(reply, script)
    if hint := _WRONG.get(reply.code):
        return (ForeignValue if reply.code == "WRONGTYPE" else StorageError)(f"Redis refused ({reply.code}): {hint}")
    command = _command_of(reply, script)
    called = f" at {command}" if command and command not in str(reply) else ""
    return StorageError(f"Redis refused{called}: {reply}; {_advice(str(reply))}")


def _advice(words: str) -> str:
    lower = words.lower()
    if "hello" in lower or "noproto" in lower:
        return "write ?protocol=2 into the URL, or protocol=2 into the client's arguments"
    if "cluster support disabled" in lower:
        return "this server is no cluster: use redis.asyncio.Redis or a redis:// URL"
    if "unknown" in lower and "command" in lower:
        return f"sessioncore needs this command, under its own name: {RIGHTS}"
    return "look at the server, and at the URL or the client"


def _denied(reply: ErrorReply, script: bytes) -> StorageError:
    if reply.about_a_key:
        return AclDenied(
            "Redis refused (NOPERM): the ACL user may not access a key; ACL LOG on the server shows which: "
            "allow ~PREFIX* with the key_prefix of the store"
        )
    command = _command_of(reply, script)
    which = f"the right +{command.lower()}" if command else "a right; ACL LOG on the server shows which"
    return StorageError(
        f"Redis refused (NOPERM): the ACL user lacks {which}; all that is needed: ACL SETUSER <user> {RIGHTS} "
        "(docs/server-settings.md: more for a cluster or a numbered database)"
    )


def _command_of(reply: ErrorReply, script: bytes) -> str:
    """Return the command that was refused, as the server or our script names it, or by the line in the script."""
    if found := _COMMAND.search(reply.text):
        return found[1] or found[2]
    line = _LINE.search(reply.text)
    lines = script.split(b"\n")
    if line is None or not 0 < int(line[1]) <= len(lines):
        return ""
    called = _CALLED.search(lines[int(line[1]) - 1])
    return called[1].decode() if called else ""


def unavailable(exc: ConnectionLost, server: str = "") -> StorageUnavailable:
    """Return the error for a reply that never came, or a connection that the server refused.

    `server` is the name of one among several.
    """
    where = f" (at {server})" if server else ""
    reason = str(exc)
    for cause in causes(exc, contexts=True):
        if isinstance(cause, Explained):
            return StorageUnavailable(f"Redis did not answer: {cause}{where}")
        if isinstance(cause, redis_errors.RedisError):
            refusal = error_reply_of(cause)
            if refusal.code in _UNAVAILABLE or refusal.code == "NOPERM":
                return StorageUnavailable(f"{error_of(refusal)}{where}")
        if isinstance(cause, redis_errors.ResponseError):  # of the handshake, which selects the database
            said = ErrorReply(f"ERR {cause}")
            return StorageUnavailable(f"Redis refused the connection ({said}); {_advice(str(said))}{where}")
        if isinstance(cause, (OSError, ConnectionLost, *CLIENT_ERRORS)) and cause is not exc:
            reason = f"{exc} ({words_of(cause)})"
    advice = RAISE_FILE_LIMIT if is_file_limit_reached(exc) else "look at the server, its address and the network"
    return StorageUnavailable(f"Redis did not answer: {reason}; {advice}{where}")


def is_explained(exc: BaseException) -> bool:
    """Return whether the error, or one that led to it, says what to do."""
    return any(isinstance(cause, Explained) for cause in causes(exc, contexts=True))


def words_of(exc: BaseException) -> str:
    """Return what the system or the server said, without what it quoted."""
    words = str(exc) if isinstance(exc, OSError) else str(ErrorReply(str(exc)))
    return words or type(exc).__name__


def was_refused(exc: ConnectionLost) -> bool:
    """Return whether no connection could be opened for a reason that another attempt would meet, too."""
    by_system = ConnectionRefusedError | FileNotFoundError | gaierror
    by_server = redis_errors.ResponseError | redis_errors.AuthenticationError
    return any(isinstance(cause, by_system | by_server) for cause in causes(exc, contexts=True))


_CODES: tuple[tuple[type[redis_errors.RedisError], str], ...] = (
    # redis-py removes the code from errors that it has a class for.
    (redis_errors.NoScriptError, "NOSCRIPT"),
    (redis_errors.ReadOnlyError, "READONLY"),
    (redis_errors.BusyLoadingError, "LOADING"),
    (redis_errors.OutOfMemoryError, "OOM"),
    (redis_errors.NoPermissionError, "NOPERM"),
    (redis_errors.MasterDownError, "MASTERDOWN"),
    (redis_errors.ClusterDownError, "CLUSTERDOWN"),
    (redis_errors.AuthenticationError, "WRONGPASS"),
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
