"""The Lua scripts that the storage runs, put together from the parts in `_lua`."""

from hashlib import sha1

from msgspec import Struct

from sessioncore.storage.redis.records import _lua as lua

__all__ = [
    "CREATE",
    "DELETE",
    "END",
    "ENLIST",
    "ON_A_CLUSTER",
    "ON_ONE_SERVER",
    "OWNED",
    "PRUNE",
    "RETIRE",
    "SHORTEN",
    "VERIFY",
    "Script",
]


class Script(Struct, frozen=True):
    """One script, by its text and by the hash under which Redis remembers it."""

    text: bytes  # for EVAL
    sha: bytes  # for EVALSHA


class _Scripts(Struct, frozen=True):
    """The scripts that touch a record, as one kind of server needs them."""

    replace: Script
    move: Script
    touch: Script
    renew: Script


def _script(*parts: str) -> Script:
    text = "".join((lua.TRY_CALL, *parts)).encode()
    return Script(text, sha1(text, usedforsecurity=False).hexdigest().encode())


def _scripts_for(index: str) -> _Scripts:
    """Return the record scripts over one way to the index of a stored record."""
    library = lua.HEAD + lua.ENLIST + index
    return _Scripts(
        replace=_script(library, lua.AS_IT_IS, lua.REPLACE),
        move=_script(library, lua.BURY, lua.AS_IT_IS, lua.MOVE),
        touch=_script(library, lua.PROLONG, lua.TOUCH),
        renew=_script(library, lua.PROLONG, lua.RENEW),
    )


CREATE = _script(lua.ENLIST, lua.CREATE)
RETIRE = _script(lua.HEAD, lua.BURY, lua.AS_IT_IS, lua.RETIRE)
SHORTEN = _script(lua.SHORTEN)
DELETE = _script(lua.HEAD, lua.ONE_SERVER, lua.DELETE)
END = _script(lua.HEAD, lua.END)
ON_ONE_SERVER = _scripts_for(lua.ONE_SERVER)
ON_A_CLUSTER = _scripts_for(lua.CLUSTER)
ENLIST = _script(lua.ENLIST, "read_index(KEYS[1], ARGV[2])\nreturn add_entry(KEYS[1], ARGV[1], -1) or 1\n")
OWNED = _script(lua.KEEP, lua.OWNED)
VERIFY = _script(lua.KEEP, lua.VERIFY)
PRUNE = _script(lua.PRUNE)
