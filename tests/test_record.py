"""The envelope: opened in one go, sealed under a limit, and closed to anything that is not a record."""

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
from sessioncore.codec._record import FORMAT, Record, decode_record, encode_record
from sessioncore.session._attempt import Attempt
from sessioncore.session._delta import Delta
from sessioncore.session._lifecycle import Action
from sessioncore.session._loaded import Loaded
from sessioncore.session._pending import SET, Metadata, Pending
from sessioncore.storage import Create, Move, Replace

LIMIT = 65536
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


def test_a_record_comes_back_as_it_was_with_its_values_still_encoded() -> None:
    record = decode_record(SEALED, LIMIT)
    assert (record.created_at, record.written_at, record.idle, record.owner) == (1e9, 1e9 + 5, None, "session:ada")
    assert type(record.data["cart"]) is Raw
    assert CODEC.decode("cart", record.data["cart"]) == [1, (2, 3)]
    assert encode_record(record, LIMIT) == SEALED


def test_keys_that_nobody_knows_how_to_read_are_written_back_as_they_were() -> None:
    strange = Raw(msgspec.msgpack.encode(msgspec.msgpack.Ext(99, b"from a newer version")))
    record = decode_record(encode_record(make(data={"new": strange}), LIMIT), LIMIT)
    assert decode_record(encode_record(record, LIMIT), LIMIT).data == {"new": strange}


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


def test_a_record_over_the_limit_is_refused_before_any_write_and_says_the_sizes() -> None:
    size = len(SEALED)
    assert encode_record(make(), size) == SEALED
    with pytest.raises(SessionTooLarge, match=f"{size} bytes, but max_size is {size - 1}"):
        encode_record(make(), size - 1)


def test_a_record_over_the_limit_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(CorruptRecord, match="larger than max_size"):
        decode_record(b"\x00" * 101, 100)


@pytest.mark.parametrize("changes", [{"data": {"\ud800": Raw(b"\x01")}}, {"owner": "\udfff"}])
def test_a_lone_surrogate_in_a_key_or_owner_is_a_codec_error(changes: dict[str, Any]) -> None:
    with pytest.raises(CodecError, match="valid Unicode"):
        encode_record(make(**changes), LIMIT)


# -- damage


def test_every_truncation_of_a_record_is_corrupt() -> None:
    for length in range(len(SEALED)):
        with pytest.raises(CorruptRecord):
            decode_record(SEALED[:length], LIMIT)


def test_every_flipped_bit_gives_a_record_or_corrupt_record_and_nothing_else() -> None:
    for place in range(len(SEALED) * 8):
        damaged = bytearray(SEALED)
        damaged[place // 8] ^= 1 << (place % 8)
        open_and_read(bytes(damaged))


@given(st.binary(max_size=200))
@settings(max_examples=scaled(1500))
def test_random_bytes_give_a_record_or_corrupt_record_and_nothing_else(data: bytes) -> None:
    open_and_read(data)


@given(st.lists(st.tuples(st.integers(0, len(SEALED) - 1), st.integers(0, 255)), max_size=6))
@settings(max_examples=scaled(1500))
def test_overwritten_bytes_give_a_record_or_corrupt_record_and_nothing_else(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(SEALED)
    for place, byte in changes:
        damaged[place] = byte
    open_and_read(bytes(damaged))


def open_and_read(data: bytes) -> None:
    """Open a record and read all of it; a CodecError is the only way out."""
    try:
        record = decode_record(data, LIMIT)
    except CorruptRecord:
        return
    for name, raw in [*record.data.items(), ("details", record.details)]:
        try:
            CODEC.decode(name, raw)
        except CodecError:
            continue


HUGE = {"array32": b"\xdd", "map32": b"\xdf", "bin32": b"\xc6", "str32": b"\xdb", "ext32": b"\xc9"}
UP_TO_DATA = b"\x97\x01" + b"\xca\0\0\0\0" * 2 + b"\xc0\xc0\x80"
ATTACKS: dict[str, bytes] = {
    "empty": b"",
    "nil": b"\xc0",
    "never-used-byte": b"\xc1",
    "empty-array": b"\x90",
    "json": b'{"user": 1}',
    "text": b"not a record at all",
    "trailing-byte": SEALED + b"\x00",
    "twice": SEALED * 2,
    "extension": msgspec.msgpack.encode(msgspec.msgpack.Ext(5, SEALED)),
    "map-instead-of-array": msgspec.msgpack.encode({"created_at": 1.0, "data": {}}),
    "too-few-fields": pack(FORMAT, 1.0, 1.0),
    "too-many-fields": pack(FORMAT, 1.0, 1.0, None, None, {}, {}, 1),
    "wrong-types": pack(FORMAT, "now", 1.0, None, None, {}, {}),
    "data-not-a-map": pack(FORMAT, 1.0, 1.0, None, None, {}, []),
    "int-keys": pack(FORMAT, 1.0, 1.0, None, None, {}, {1: 2}),
    "array-keys": b"\x97\x01" + b"\xcb" + bytes(8) + b"\xcb" + bytes(8) + b"\xc0\xc0\x80\x81\x90\x01",
    "text-tag": pack("1", 1.0, 1.0, None, None, {}, {}),
    "negative-tag": pack(-1, 1.0, 1.0, None, None, {}, {}),
    "invalid-utf8-key": SEALED.replace(b"\xa4cart", b"\xa4c\xffrt"),
    "invalid-utf8-owner": SEALED.replace(b"ada", b"a\xffa"),
    "100000-arrays": b"\x91" * 60_000,
    "deep-value": SEALED[:-20] + b"\x91" * 60_000,
    "deep-in-data": UP_TO_DATA + b"\x81\xa1a" + b"\x91" * 60_000,
    **{f"{name}-of-2^32-1": head + b"\xff" * 4 for name, head in HUGE.items()},
    **{f"{name}-of-2^32-1-in-data": UP_TO_DATA + head + b"\xff" * 4 for name, head in HUGE.items()},
}  # fmt: skip


@pytest.mark.parametrize("data", ATTACKS.values(), ids=ATTACKS.keys())
def test_what_is_no_record_is_corrupt_within_a_moment(data: bytes) -> None:
    begin = time.thread_time()
    with pytest.raises(CorruptRecord):
        decode_record(data, LIMIT * 2)
    assert time.thread_time() - begin < 0.5


@pytest.mark.parametrize(
    "times",
    [
        {"created_at": float("nan")}, {"created_at": -1.0}, {"created_at": float("inf")}, {"written_at": 1e300},
        {"idle": 0.0}, {"idle": -5.0}, {"idle": float("inf")}, {"idle": float("nan")}, {"written_at": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_times_that_would_make_a_session_immortal_are_corrupt(times: dict[str, float]) -> None:
    with pytest.raises(CorruptRecord, match="cannot be read"):
        decode_record(encode_record(make(**times), LIMIT), LIMIT)


@pytest.mark.parametrize("version", [FORMAT + 1, 100, 1 << 40])
def test_a_record_of_a_newer_format_says_so(version: int) -> None:
    with pytest.raises(CorruptRecord, match=f"has format {version} of a newer sessioncore"):
        decode_record(pack(version, "anything", {"may": ["follow"]}), LIMIT)


def test_a_repeated_key_has_its_last_value() -> None:
    twice = pack(FORMAT, 1.0, 1.0, None, None, {}, {"a": 1})[:-4] + b"\x82\xa1a\x01\xa1a\x02"
    assert decode_record(twice, LIMIT).data == {"a": Raw(b"\x02")}


def test_no_error_of_a_record_quotes_what_it_holds() -> None:
    canary = "CaNaRyVaLuE"
    for data in (pack(FORMAT, canary, canary), pack(canary), encode_record(make(owner=canary), LIMIT)[:-1]):
        with pytest.raises(CorruptRecord) as caught:
            decode_record(data, LIMIT)
        assert canary not in str(caught.value)
        assert caught.value.__suppress_context__


def test_no_repr_shows_a_value_or_an_id() -> None:
    secret, sid = "s3cret", "i" * 43
    raw = msgspec.Raw(msgspec.msgpack.encode(secret))
    record = Record(0.0, 0.0, None, secret, raw, {secret: raw})
    delta = Delta({secret: raw}, [secret], Metadata(owner=secret, details=raw), {secret: SET})
    create = Create(sid, secret.encode(), 1.0, secret)
    replace = Replace(sid, secret.encode(), 1.0, 1, secret)
    move = Move(sid, sid, secret.encode(), 1.0, 1, secret)
    pending = Pending({secret: SET})
    attempt = Attempt(Action.MOVE, move, record, delta, pending, sid, sid, merged=False)
    loaded = Loaded(sid, sid, record, 1, 1.0, 1.0)
    stored = Stored(secret.encode(), 1, 1.0)
    for thing in (record, delta, delta.metadata, create, replace, move, pending, attempt, loaded, stored):
        assert secret not in repr(thing)
        assert sid not in repr(thing)
        assert repr(thing).startswith("<")
