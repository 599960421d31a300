"""What Redis says when it says no, and what that means to a session store.

An error reply travels as a value, a `ErrorReply`, up to the place that knows what the
command was for. Only its code and the server's own words are kept: what a server
quotes back, a key or an owner among it, never enters an exception.
"""

import re

from sessioncore._errors import StorageError, StorageUnavailable

__all__ = ["AclDenied", "ConnectionLost", "ErrorReply", "ForeignValue", "ReplyTimeout", "error_of"]

# Redis 6.2 wraps what a command inside a script said: "ERR Error running script (...): ... -OOM command ...".
_INSIDE = re.compile(r"\b(OOM|READONLY|WRONGTYPE|MISCONF|NOREPLICAS|NOPERM|MASTERDOWN|CLUSTERDOWN|LOADING)\b")
# ACL denials inside scripts have no error code; these are the texts of 6.2 and 7.0, and of 7.2.
_DENIED_INSIDE = re.compile(r"The user executing the script can't|ACL failure in script")
# The commands are ours, so their names tell nothing. The first quote opens, the last one closes, wherever keys have
# some of their own; the one in "can't" is none.
_COMMAND_QUOTED = re.compile(r"\b(the|command) [`']([A-Za-z|]{1,40})[`']")
_QUOTED = re.compile(r"(?<!\w)[`'\"](.*[`'\"]|.*)", re.DOTALL)
_INDEX = "sessioncore-index"  # the name of an owner stands before it

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
    """An error reply; `code` is the word it begins with, `text` what the server says without what it quotes."""

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


class ForeignValue(StorageError):
    """What is at a key was not written by this storage."""


class AclDenied(StorageError):
    """A key that the ACL user may not touch, whatever the command."""


class ReplyTimeout(ConnectionLost):
    """No reply came in time."""


def error_of(refusal: ErrorReply) -> StorageError:
    """Return the error that tells what a refusal means and what to do."""
    if hint := _UNAVAILABLE.get(refusal.code):
        return StorageUnavailable(f"Redis refused ({refusal.code}): {hint}")
    hint = _WRONG.get(refusal.code, "see the cause of this error for its words")
    if refusal.code == "NOPERM" and (command := _COMMAND.search(refusal.text)):
        hint = f"{hint}; this time it was {command[1]}"
    kind = StorageError
    if refusal.code == "WRONGTYPE":
        kind = ForeignValue
    elif refusal.code == "NOPERM" and refusal.about_a_key:
        kind = AclDenied
    return kind(f"Redis refused ({refusal.code}): {hint}")
