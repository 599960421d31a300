"""The stored record of a session, and how it is encoded.

A record is a MessagePack array whose first element is the format version. Each value of
the session is encoded separately and decoded only when its key is read. Keys that a request
does not touch are written back unchanged, even by a process that does not know their types.

Only a session with an absolute timeout or persistence of its own, or one that `bind_owner` gave its
owner, is stored in format 2. A process that knows format 1 alone refuses such a record and leaves it
as it is: it would end the session at the wrong time.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta, Raw, Struct

from sessioncore._errors import CodecError, CorruptRecord, SessionTooLarge
from sessioncore._opaque import Opaque

__all__ = [
    "NEWEST_FORMAT", "YEAR_9999", "Record", "Record2", "datetime_of", "decode_record", "encode_record", "extended",
]  # fmt: skip

NEWEST_FORMAT = 2
YEAR_9999 = 253402300799.0  # the last second that a datetime can represent


# A corrupt time must neither make a session immortal nor overflow a datetime.
Seconds = Annotated[float, Meta(ge=0.0, le=YEAR_9999)]
Duration = Annotated[float, Meta(gt=0.0, le=YEAR_9999)]


class Record(Opaque, Struct, array_like=True, tag=1, forbid_unknown_fields=True, frozen=True, gc=False):
    """One session as it is stored. Times are seconds since the epoch.

    The idle clock is not part of the record: it is the storage's ttl, so it can be renewed without rewriting data.
    """

    created_at: Seconds
    written_at: Seconds
    idle: Duration | None  # set_idle_timeout, in seconds
    owner: str | None
    details: Raw  # an encoded dict
    data: dict[str, Raw]

    # Class variables, so that format 1 neither stores nor reads them; they are fields of `Record2`.
    absolute: ClassVar[float | None] = None  # set_absolute_timeout, in seconds
    persistent: ClassVar[bool | None] = None  # set_persistent
    bound_at: ClassVar[float | None] = None  # when bind_owner set the owner; None: the session began with it

    @property
    def owned_since(self) -> float:
        """When the session became one of its owner's."""
        return self.created_at if self.bound_at is None else self.bound_at


class Record2(Record, tag=2, array_like=True, forbid_unknown_fields=True, frozen=True, gc=False):
    """A session that has an absolute timeout or persistence of its own, or was bound to its owner."""

    absolute: Duration | None  # type: ignore[misc]  # pyright: ignore[reportIncompatibleVariableOverride]  # see Record
    persistent: bool | None  # type: ignore[misc]  # pyright: ignore[reportIncompatibleVariableOverride]
    bound_at: Seconds | None = None  # type: ignore[misc]  # pyright: ignore[reportIncompatibleVariableOverride]


_decode: Callable[[bytes], Record] = msgspec.msgpack.Decoder(Record | Record2).decode
_decode_version = msgspec.msgpack.Decoder(list[Raw]).decode
_encode = msgspec.msgpack.Encoder().encode


def datetime_of(seconds: float) -> datetime:
    """Return a time as an aware UTC datetime; each time in a record is possible, but the sum of two may be too late."""
    return datetime.fromtimestamp(min(seconds, YEAR_9999), UTC)


def extended(record: Record, absolute: float | None, persistent: bool | None, bound_at: float | None) -> Record:
    """Return a record of format 1 with these fields of format 2, in the oldest format that holds them."""
    if absolute is None and persistent is None and bound_at is None:
        return record
    fields = (record.created_at, record.written_at, record.idle, record.owner, record.details, record.data)
    return Record2(*fields, absolute, persistent, bound_at)


def decode_record(data: bytes, max_size: int) -> Record:
    """Return the record in `data`; its values stay encoded.

    Raises:
        CorruptRecord: the bytes are damaged, larger than `max_size`, or of a newer format.
    """
    if len(data) > max_size:
        raise CorruptRecord("the record is larger than max_size; raise max_size to read it")
    try:
        return _decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise CorruptRecord(_describe_damage(data, exc)) from None


def encode_record(record: Record, max_size: int) -> bytes:
    """Return the bytes of a record.

    Raises:
        SessionTooLarge: the record would be larger than `max_size`.
        CodecError: a key or the owner is not valid Unicode.
    """
    try:
        data = _encode(record)
    except UnicodeEncodeError:
        raise CodecError("session keys and owners must be valid Unicode; remove the lone surrogate from one") from None
    if len(data) > max_size:
        raise SessionTooLarge(
            f"the session would take {len(data)} bytes, but max_size is {max_size}; store less, or raise max_size"
        )
    return data


def _describe_damage(data: bytes, exc: Exception) -> str:
    try:
        first: Any = msgspec.msgpack.decode(_decode_version(data)[0])
    except Exception:  # noqa: BLE001 - damaged bytes can raise anything; this only improves the message
        first = None
    if type(first) is int and first > NEWEST_FORMAT:
        return (
            f"the record has format {first} of a newer sessioncore; this one reads formats up to {NEWEST_FORMAT}, "
            "so upgrade it"
        )
    return f"the record cannot be read ({type(exc).__name__})"
