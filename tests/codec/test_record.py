"""Records as bytes: decoded without their values, encoded up to a limit; other bytes are refused."""

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from tests.numbers import scaled

from sessioncore import CodecError, CorruptRecord, SessionTooLarge, Stored
from sessioncore.codec._codec import Codec
from sessioncore.codec._record import NEWEST_FORMAT, Record, Record2, decode_record, encode_record, extended
from sessioncore.session._attempt import Attempt
from sessioncore.session._delta import Delta
from sessioncore.session._lifecycle import Action
from sessioncore.session._loaded import Loaded
from sessioncore.session._pending import SET, Metadata, Pending
from sessioncore.storage import Create, Move, Replace

LIMIT = 65536
FORMAT = 1
CODEC = Codec()


def make(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "created_at": 1e9,
        "written_at": 1e9 + 5,
        "idle": None,
        "owner": "session:ada",
        "details": CODEC.encode("details", {"ip": "::1"}),
        "data": {"cart": CODEC.encode("cart", [1, (2, 3)]), "n": CODEC.encode("n", 1 << 70)},
    }
    return Record(**{**fields, **changes})


def pack(*parts: Any) -> bytes:
    return msgspec.msgpack.encode(parts)


SEALED = encode_record(make(), LIMIT)
SEALED2 = encode_record(extended(make(), 2592000.0, True, 1e9 + 3), LIMIT)


@given(
    st.dictionaries(st.text(), st.binary(max_size=40), max_size=5),
    st.none() | st.floats(min_value=1e-3, max_value=1e9),
    st.none() | st.text(),
)
def test_any_record_comes_back(data: dict[str, bytes], idle: float | None, owner: str | None) -> None:
    encoded = {name: CODEC.encode(name, value) for name, value in data.items()}
    sealed = encode_record(make(data=encoded, idle=idle, owner=owner), LIMIT)
    record = decode_record(sealed, LIMIT)
    assert (record.data, record.idle, record.owner) == (encoded, idle, owner)
    assert encode_record(record, LIMIT) == sealed


@pytest.mark.proves("AT-69")
def test_a_record_over_the_limit_is_refused_before_it_is_written_or_decoded() -> None:
    size = len(SEALED)
    assert encode_record(make(), size) == SEALED
    with pytest.raises(SessionTooLarge, match=f"{size} bytes, but max_size is {size - 1}"):
        encode_record(make(), size - 1)
    with pytest.raises(CorruptRecord, match="larger than max_size"):
        decode_record(b"\x00" * 101, 100)


@pytest.mark.parametrize("changes", [{"data": {"\ud800": Raw(b"\x01")}}, {"owner": "\udfff"}])
def test_a_lone_surrogate_in_a_key_or_owner_is_a_codec_error(changes: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match="valid Unicode"):
        encode_record(make(**changes), LIMIT)


@pytest.mark.parametrize("absolute", [None, 600.0])
@pytest.mark.parametrize("persistent", [None, False, True])
@pytest.mark.parametrize("bound_at", [None, 1e9 + 3])
def test_only_a_record_that_needs_it_has_format_2(
    absolute: float | None, persistent: bool | None, bound_at: float | None
) -> None:
    record, more = extended(make(), absolute, persistent, bound_at), (absolute, persistent, bound_at)
    sealed, own = encode_record(record, LIMIT), more != (None, None, None)
    parts = (1e9, 1e9 + 5, None, "session:ada", {"ip": "::1"}, {"cart": make().data["cart"], "n": make().data["n"]})
    assert sealed == pack(2 if own else 1, *parts, *(more if own else ()))
    found = decode_record(sealed, LIMIT)
    assert (found, type(found) is Record2) == (record, own)
    assert type(found.data["cart"]) is Raw  # still encoded
    assert (found.absolute, found.persistent, found.bound_at) == more
    shorter = decode_record(pack(2, *parts, absolute, persistent), LIMIT)  # stored before `bound_at` existed
    assert (shorter.absolute, shorter.persistent, shorter.bound_at) == (absolute, persistent, None)
    if own:  # a reader that knows format 1 alone refuses it
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(sealed, type=Record)


@pytest.mark.proves("AT-65")
def test_every_truncation_is_corrupt_and_every_flipped_bit_gives_a_record_or_corrupt_record() -> None:
    for sealed in (SEALED, SEALED2):
        for length in range(len(sealed)):
            with pytest.raises(CorruptRecord):
                decode_record(sealed[:length], LIMIT)
        for place in range(len(sealed) * 8):
            damaged = bytearray(sealed)
            damaged[place // 8] ^= 1 << (place % 8)
            open_and_read(bytes(damaged))


@pytest.mark.proves("AT-65")
@given(st.binary(max_size=200))
@settings(max_examples=scaled(1500))
def test_random_bytes_give_a_record_or_corrupt_record_and_nothing_else(data: bytes) -> None:
    open_and_read(data)


def open_and_read(data: bytes) -> None:
    """Open a record and read all of it; no other error than a CodecError may be raised."""
    try:
        record = decode_record(data, LIMIT)
    except CorruptRecord:
        return
    for name, raw in [*record.data.items(), ("details", record.details)]:
        try:
            CODEC.decode(name, raw)
        except CodecError:
            continue


HUGE = (b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9")  # arrays, maps, bytes, texts and extensions that claim 4 GB
UP_TO_DATA = b"\x97\x01" + b"\xca\0\0\0\0" * 2 + b"\xc0\xc0\x80"
NO_RECORDS: list[bytes] = [
    b"", b"\xc0", b"\xc1", b"\x90", b'{"user": 1}', b"not a record at all", SEALED + b"\x00", SEALED * 2,
    msgspec.msgpack.encode(msgspec.msgpack.Ext(5, SEALED)), msgspec.msgpack.encode({"created_at": 1.0, "data": {}}),
    # too few and too many fields, and wrong types of times, data, keys and the format
    pack(FORMAT, 1.0, 1.0), pack(FORMAT, 1.0, 1.0, None, None, {}, {}, 1),
    pack(2, 1.0, 1.0, None, None, {}, {}), pack(2, 1.0, 1.0, None, None, {}, {}, None, 1),
    pack(FORMAT, "now", 1.0, None, None, {}, {}),
    pack(FORMAT, 1.0, 1.0, None, None, {}, []), pack(FORMAT, 1.0, 1.0, None, None, {}, {1: 2}),
    b"\x97\x01" + b"\xcb" + bytes(8) + b"\xcb" + bytes(8) + b"\xc0\xc0\x80\x81\x90\x01",
    pack("1", 1.0, 1.0, None, None, {}, {}), pack(-1, 1.0, 1.0, None, None, {}, {}),
    SEALED.replace(b"\xa4cart", b"\xa4c\xffrt"), SEALED.replace(b"ada", b"a\xffa"),  # invalid UTF-8
    b"\x91" * 60_000, SEALED[:-20] + b"\x91" * 60_000, UP_TO_DATA + b"\x81\xa1a" + b"\x91" * 60_000,  # nested
    *(start + head + b"\xff" * 4 for start in (b"", UP_TO_DATA) for head in HUGE),
]  # fmt: skip


@pytest.mark.proves("AT-58", "AT-66", "AT-67", "AT-68", "AT-71")
def test_what_is_no_record_is_corrupt_within_a_moment() -> None:
    for data in NO_RECORDS:
        begin = time.thread_time()
        with pytest.raises(CorruptRecord):
            decode_record(data, LIMIT * 2)
        assert time.thread_time() - begin < 0.5, data[:40]


def test_times_that_would_make_a_session_immortal_are_corrupt() -> None:
    inf, nan = float("inf"), float("nan")
    for times in [
        {"created_at": nan}, {"created_at": -1.0}, {"created_at": inf}, {"written_at": 1e300}, {"written_at": nan},
        {"idle": 0.0}, {"idle": -5.0}, {"idle": inf}, {"idle": nan},
    ]:  # fmt: skip
        with pytest.raises(CorruptRecord, match="cannot be read"):
            decode_record(encode_record(make(**times), LIMIT), LIMIT)
    for absolute in (0.0, -5.0, inf, nan, 1e300):
        with pytest.raises(CorruptRecord, match="cannot be read"):
            decode_record(encode_record(extended(make(), absolute, None, None), LIMIT), LIMIT)


@pytest.mark.proves("AT-70")
def test_a_record_of_a_newer_format_says_so() -> None:
    for version in (NEWEST_FORMAT + 1, 100, 1 << 40):
        with pytest.raises(CorruptRecord, match=f"has format {version} of a newer sessioncore"):
            decode_record(pack(version, "anything", {"may": ["follow"]}), LIMIT)


@pytest.mark.proves("AT-71")
def test_a_repeated_key_has_its_last_value() -> None:
    twice = pack(FORMAT, 1.0, 1.0, None, None, {}, {"a": 1})[:-4] + b"\x82\xa1a\x01\xa1a\x02"
    assert decode_record(twice, LIMIT).data == {"a": Raw(b"\x02")}


@pytest.mark.proves("AT-135")
def test_no_error_of_a_record_quotes_what_it_holds() -> None:
    canary = "CaNaRyVaLuE"
    for data in (pack(FORMAT, canary, canary), pack(canary), encode_record(make(owner=canary), LIMIT)[:-1]):
        with pytest.raises(CorruptRecord) as caught:
            decode_record(data, LIMIT)
        assert canary not in str(caught.value)
        assert caught.value.__suppress_context__


@pytest.mark.proves("P6", "AT-38", "AT-138")
def test_no_repr_shows_a_value_or_an_id() -> None:
    secret, sid = "s3cret", "i" * 43
    raw = msgspec.Raw(msgspec.msgpack.encode(secret))
    record = Record(0.0, 0.0, None, secret, raw, {secret: raw})
    own = extended(record, 1.0, None, None)
    delta = Delta({secret: raw}, [secret], Metadata(owner=secret, details=raw), {secret: SET})
    create = Create(sid, secret.encode(), 1.0, secret)
    replace = Replace(sid, secret.encode(), 1.0, 1, secret)
    move = Move(sid, sid, secret.encode(), 1.0, 1, secret)
    pending = Pending({secret: SET})
    attempt = Attempt(Action.MOVE, move, record, delta, pending, sid, sid, merged=False)
    loaded = Loaded(sid, sid, record, 1, 1.0, 1.0)
    stored = Stored(secret.encode(), 1, 1.0)
    for thing in (record, own, delta, delta.metadata, create, replace, move, pending, attempt, loaded, stored):
        assert secret not in repr(thing)
        assert sid not in repr(thing)
        assert repr(thing).startswith("<")
