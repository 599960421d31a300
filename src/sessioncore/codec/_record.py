"""What is stored: one record of a session, as bytes.

A record is a MessagePack array whose first element is the format version. The
values of the session stay encoded, each by itself, until somebody asks: a read
decodes one key, and keys that nobody touched are written back as the bytes they
were, also by a process that does not know their types.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from sessioncore._errors import CodecError, CorruptRecord, SessionTooLarge

__all__ = ["FORMAT", "Record", "open_record", "seal_record"]

FORMAT = 1
_YEAR_9999 = 253402300799.0  # the last second that a datetime can name


# A damaged clock must not make a session immortal, nor a datetime overflow.
Seconds = Annotated[float, Meta(ge=0.0, le=_YEAR_9999)]
Span = Annotated[float, Meta(gt=0.0, le=_YEAR_9999)]


class Record(Struct, array_like=True, tag=FORMAT, forbid_unknown_fields=True, frozen=True, gc=False):
    """One session at rest. Times are seconds since the epoch.

    The idle clock is not here: it is the storage's ttl, so that renewing it rewrites nothing.
    """

    created_at: Seconds
    written_at: Seconds
    idle: Span | None  # set_idle_timeout, in seconds
    owner: str | None
    details: Raw  # an encoded dict
    data: dict[str, Raw]

    def __repr__(self) -> str:
        return f"<Record keys={len(self.data)}>"  # it turns up in tracebacks, and the rest is the visitor's


_decode = msgspec.msgpack.Decoder(Record).decode
_decode_version = msgspec.msgpack.Decoder(list[Raw]).decode
_encode = msgspec.msgpack.Encoder().encode


def open_record(data: bytes, max_size: int) -> Record:
    """Return the record in `data`; its values stay encoded.

    Raises:
        CorruptRecord: the bytes are damaged, too many, or of a newer format.
    """
    if len(data) > max_size:
        raise CorruptRecord("the record is larger than max_size")
    try:
        return _decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as exc:
        raise CorruptRecord(_what_is_wrong(data, exc)) from None


def seal_record(record: Record, max_size: int) -> bytes:
    """Return the bytes of a record.

    Raises:
        SessionTooLarge: there would be more than `max_size` of them.
        CodecError: a key or the owner is not valid Unicode.
    """
    try:
        data = _encode(record)
    except UnicodeEncodeError:
        raise CodecError("session keys and owners must be valid Unicode: one has a lone surrogate") from None
    if len(data) > max_size:
        raise SessionTooLarge(
            f"the session would take {len(data)} bytes, max_size is {max_size}; store less, or raise max_size"
        )
    return data


def _what_is_wrong(data: bytes, exc: Exception) -> str:
    try:
        first: Any = msgspec.msgpack.decode(_decode_version(data)[0])
    except Exception:  # noqa: BLE001 - the bytes are damaged already; this only looks for a better word
        first = None
    if type(first) is int and first > FORMAT:
        return f"the record is of format {first}, written by a newer version; this one reads {FORMAT}"
    return f"the record cannot be read ({type(exc).__name__})"
