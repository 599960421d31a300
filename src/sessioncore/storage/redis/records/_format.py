"""The bytes of a record in Redis, and the forms that keys, times and versions take in commands.

A record is one string value: a head of fourteen bytes (mark, version, length of
the owner), the owner, the data. Because it is one value and no hash, two plain
commands load it. It names its own owner, and that decides: an owner's index may
lag behind. The Lua scripts read the same head.

A tombstone is a mark and the new key. On a cluster, a record whose move is under way
between two servers has a mark of its own and the old key behind its data; and where no
tombstone is wanted, the old key leads to the new one until the move has ended, no longer.
"""

import re
from math import ceil
from struct import Struct as Layout

from sessioncore.storage.redis._errors import ForeignValue

__all__ = [
    "ARRIVING", "INDEX_SUFFIX", "LEAVING", "MARK", "TOMBSTONE", "arriving", "arriving_from", "glob_of", "head_of",
    "index_of", "millis", "pack", "unpack",
]  # fmt: skip

MARK = b"S\x01"
TOMBSTONE = b"M\x01"
LEAVING = b"M\x02"
ARRIVING = b"A\x01"
INDEX_SUFFIX = b":sessioncore-index"

_HEAD = Layout(">2sQI")  # mark, version, 0 or 1 + length of the owner
_GLOB = re.compile(rb"([\\*?\[\]^-])")
_MAX_MILLIS = 1 << 48  # some 8 900 years: exact in Lua's doubles, far below where Redis overflows


def millis(ttl: float) -> int:
    """Return `ttl` in whole milliseconds, at least one."""
    return max(1, ceil(min(ttl * 1000, _MAX_MILLIS)))


def index_of(owner: bytes) -> bytes:
    """Return the key of the owner's index; it begins with the key_prefix, so that ACL patterns hold."""
    return owner + INDEX_SUFFIX


def pack(version: int, owner: bytes | None, data: bytes) -> bytes:
    """Return the value that Redis stores."""
    if owner is None:
        return _HEAD.pack(MARK, version, 0) + data
    return _HEAD.pack(MARK, version, len(owner) + 1) + owner + data


def unpack(value: bytes) -> tuple[int, bytes | None, bytes]:
    """Return version, owner and data of a stored value.

    Raises:
        ForeignValue: the value was not written by this storage.
    """
    if value[:2] != MARK or len(value) < _HEAD.size:
        raise ForeignValue(
            "a key of this store holds a value that sessioncore did not write: "
            "delete that key, or choose a key_prefix that nothing else uses"
        )
    _, version, sized = _HEAD.unpack_from(value)
    if not sized:
        return version, None, value[14:]
    end = 13 + sized
    return version, value[14:end], value[end:]


def arriving(value: bytes, old_key: bytes) -> bytes:
    """Return a record as it is stored under its new key while its move is under way."""
    return ARRIVING + value[2:] + old_key + len(old_key).to_bytes(4, "big")


def arriving_from(value: bytes) -> tuple[bytes, bytes] | None:
    """Return the old key and the record of an arriving one; None if this storage did not write it."""
    end = len(value) - 4 - int.from_bytes(value[-4:], "big")
    return None if end < _HEAD.size else (value[end:-4], MARK + value[2:end])


def head_of(version: int) -> bytes:
    """Return the version as it stands in the head, for a script to compare."""
    return version.to_bytes(8, "big", signed=False)


def glob_of(prefix: bytes) -> bytes:
    """Return the SCAN pattern for keys that begin with `prefix`; no character of it is a wildcard."""
    return _GLOB.sub(rb"\\\1", prefix) + b"*"
