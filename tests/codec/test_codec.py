"""Values through the codec: they come back exactly, refusals are clear, damage raises nothing but a CodecError."""

import array
import collections
import contextlib
import os
import re
import subprocess
import sys
import time as clock
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext
from tests import models
from tests.numbers import scaled
from tests.values import exact_text, values

from sessioncore import CodecError, CorruptRecord, UnregisteredType
from sessioncore.codec._codec import Codec
from sessioncore.codec._encoder import MAX_DEPTH

CANARY = "CaNaRyVaLuE"


def make() -> Codec:
    codec = Codec()
    models.register_all(codec.registry)
    return codec


CODEC = make()


# -- fidelity


@given(values)
@settings(max_examples=scaled(1500))
def test_any_value_comes_back_equal_of_the_same_types_and_encodes_to_the_same_bytes(value: Any) -> None:
    encoded = CODEC.encode("k", value)
    again = CODEC.decode("k", encoded)
    assert exact_text(again) == exact_text(value)
    assert CODEC.encode("k", again) == encoded


EDGES: list[Any] = [
    None, True, 0, -1, 1 << 63, -(1 << 63), (1 << 64) - 1, 1 << 64, -(1 << 63) - 1, 1 << 5000, -(1 << 5000),
    0.0, -0.0, float("inf"), float("-inf"), float("nan"), 5e-324, complex(-0.0, float("nan")),
    "", "\ud800", "a\udfffb", "\U0001f600", "\x00", b"", b"\xff", [], {}, (), set[Any](), frozenset[Any](),
    ((),), [[]], {"": {}}, {(): []}, {None: 1}, {1: "a", "1": "b"}, {"\ud800": 1 << 64}, {"a\udc80": ["\udc80"]},
    {1.5: (1, [2])}, {b"k": "v"}, {frozenset([1]): {(1, 2)}}, [1 << 70, "\udc00", {"x": -(1 << 70)}],
    datetime.min, datetime.max, datetime(1, 1, 1, tzinfo=UTC), datetime(2026, 10, 25, 2, 30, fold=1),
    datetime(2000, 1, 1, tzinfo=timezone(timedelta(microseconds=1))),
    time(1, tzinfo=timezone(-timedelta(microseconds=7))),
    datetime(2000, 1, 1, 1, fold=1, tzinfo=timezone(timedelta(hours=23, minutes=59, seconds=59, microseconds=999999))),
    date.min, date.max, time.min, time.max, time(1, 2, tzinfo=UTC), timedelta.min, timedelta.max, timedelta(-1, 1, 1),
    UUID(int=0), Decimal("sNaN123"), Decimal("-NaN"), Decimal("0E-19"), Decimal("1.000"), Decimal("-0.0"),
    msgspec.UNSET, {"open": msgspec.UNSET}, {True: 1}, [True, 1, 1.0], Fraction(-(10**4000), 3), Fraction(0),
    collections.Counter(a=0, b=-1), collections.OrderedDict([((), 1), ("\ud800", [2])]), collections.deque(maxlen=0),
    collections.deque([(1,), "\udc00"], 2), collections.defaultdict(int, {1: 2}), collections.Counter("ab"),
    Path(), PurePosixPath("//a/../b\udc80"), PureWindowsPath("//host/share/x"), PureWindowsPath("C:x"),
    ip_address("0.0.0.0"), ip_address("fe80::1%eth0"), ip_network("::/0"), ip_interface("fe80::1%1/64"),
    ZoneInfo("Etc/GMT+1"), time(1, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    {ZoneInfo("UTC"): 1, Path("a"): 2, Fraction(1, 2): 3, ip_network("10.0.0.0/8"): 4, (PurePosixPath("a"),): 5},
]  # fmt: skip


@pytest.mark.proves("AT-73")
def test_edge_values_come_back_exactly() -> None:
    for value in EDGES:
        encoded = CODEC.encode("k", value)
        assert exact_text(CODEC.decode("k", encoded)) == exact_text(value)
        assert CODEC.encode("k", CODEC.decode("k", encoded)) == encoded


def test_the_encoding_of_a_set_is_the_same_in_every_process() -> None:
    value = "{'names': {f'n{i}' for i in range(40)}, 'deep': frozenset({frozenset({'a', 'b', 1}), ('x', 2.5)})}"
    script = f"from sessioncore.codec._codec import Codec\nprint(bytes(Codec().encode('k', {value})).hex())"
    here = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": str(Path("src").resolve())}  # another seed than this one
    command = [sys.executable, "-c", script]
    other = subprocess.run(command, env=here, check=True, capture_output=True, text=True).stdout
    assert other == bytes(CODEC.encode("k", eval(value))).hex() + "\n"


# -- refusals


def subclasses() -> list[Any]:
    bases: list[Any] = [
        (int, 3), (str, CANARY), (bytes, CANARY.encode()), (float, 1.5), (complex, 1j), (list, [CANARY]),
        (dict, {CANARY: 1}), (tuple, (CANARY,)), (set, {CANARY}), (frozenset, {CANARY}), (Decimal, "1.5"),
        (UUID, "12345678123456781234567812345678"),
    ]  # fmt: skip
    made = [type(f"My{base.__name__}", (base,), {})(value) for base, value in bases]
    made += [type("MyMoment", (datetime,), {})(2026, 1, 1), type("MyDate", (date,), {})(2026, 1, 1)]
    made += [type("MyItem", (models.Item,), {})(CANARY), type("MyCount", (collections.Counter,), {})(CANARY)]
    return [*made, type("MyTime", (time,), {})(1), type("MySpan", (timedelta,), {})(1)]


PLACES: list[Callable[[Any], Any]] = [
    lambda v: v, lambda v: [v], lambda v: {"a": (v,)}, lambda v: models.Item("s", note=v),
]  # fmt: skip

OTHERS: list[Any] = [
    collections.ChainMap({CANARY: 1}), collections.UserDict(a=CANARY), array.array("b", CANARY.encode()),
    bytearray(CANARY.encode()), memoryview(CANARY.encode()), range(3), ..., NotImplemented,
    object(), int, len, lambda: CANARY, re.compile(CANARY), ValueError(CANARY), iter([CANARY]), os,
    Ext(3, CANARY.encode()), msgspec.Raw(CANARY.encode()), {CANARY: 1}.keys(), UTC,
]  # fmt: skip


@pytest.mark.proves("AT-72")
def test_an_unregistered_type_is_refused_by_name_and_never_quoted() -> None:
    for value in subclasses() + OTHERS:
        for wrap in PLACES:
            with pytest.raises(UnregisteredType) as caught:
                CODEC.encode("basket", wrap(value))
            text = str(caught.value)
            assert "'basket'" in text
            assert f"{type(value).__module__}.{type(value).__qualname__} is not registered; " in text
            assert re.search(r"call store\.register_type|store (a value that can be stored|\w+\(value\)$)", text)
            assert CANARY not in text
    name: Any = type("Name", (str,), {})
    with pytest.raises(UnregisteredType, match="Name"):
        CODEC.encode("k", {name("a"): 1})


def cycles() -> dict[str, Any]:
    in_list: list[Any] = []
    in_list.append(in_list)
    in_dict: dict[str, Any] = {}
    in_dict["self"] = [in_dict]
    in_keys: dict[Any, Any] = {}
    in_keys[1] = in_keys
    in_tuple: tuple[list[Any]] = ([],)
    in_tuple[0].append(in_tuple)
    in_struct = models.Item("a")
    in_struct.note = in_struct
    in_account = models.Account(name="a")
    in_account.anything = [in_account]
    twice: list[Any] = []
    twice += [twice, twice]
    return {
        "list": in_list, "dict": in_dict, "int-keys": in_keys, "tuple": in_tuple, "Struct": in_struct,
        "model": in_account, "twice": twice,
    }  # fmt: skip


@pytest.mark.proves("AT-74")
@pytest.mark.parametrize(("name", "value"), cycles().items(), ids=cycles().keys())
def test_a_cyclic_value_is_a_codec_error_at_once(name: str, value: Any) -> None:
    begin = clock.thread_time()
    with pytest.raises(CodecError, match=r"'k'.*cyclic"):
        CODEC.encode("k", value)
    assert clock.thread_time() - begin < 0.5


WRAPS: dict[str, Callable[[Any], Any]] = {
    "list": lambda v: [v], "tuple": lambda v: (v,), "dict": lambda v: {"a": v}, "int-keys": lambda v: {1: v},
    "frozenset": lambda v: frozenset([v]), "deque": lambda v: collections.deque([v]), "Struct": models.Frozen,
    "OrderedDict": lambda v: collections.OrderedDict[str, Any](a=v), "Claims": lambda v: models.Claims(a=v),
}  # fmt: skip


def nest(wrap: Callable[[Any], Any], levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.proves("AT-66")
@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())
def test_deep_values_come_back_and_deeper_ones_are_refused(wrap: Callable[[Any], Any]) -> None:
    deepest = MAX_DEPTH // 2 - 1  # a Struct counts twice: itself and its fields
    value = nest(wrap, deepest)
    again, depth = CODEC.decode("k", CODEC.encode("k", value)), 0
    while again != 1:
        parts = again.values() if hasattr(again, "values") else again
        again = again.name if isinstance(again, models.Frozen) else next(iter(parts))
        depth += 1
    assert depth == deepest
    with pytest.raises(CodecError, match=r"^session key 'k': nested deeper than 128"):
        CODEC.encode("k", nest(wrap, MAX_DEPTH + 2))
    with pytest.raises(CodecError, match="nested"):
        CODEC.encode("k", nest(wrap, 5000))


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())
def test_what_could_be_stored_from_some_stack_can_be_read_from_the_same_stack(wrap: Callable[[Any], Any]) -> None:
    value = nest(wrap, 60)

    def at_depth(frames: int) -> bool:
        if frames:
            return at_depth(frames - 1)
        try:
            encoded = CODEC.encode("k", value)
        except CodecError:
            return False
        assert CODEC.decode("k", encoded) == value
        return True

    stored = [at_depth(frames) for frames in range(0, sys.getrecursionlimit() - 150, 50)]
    assert stored[:5] == [True] * 5


def fail(_: object) -> Any:
    raise KeyError(CANARY)


def test_functions_that_fail_are_errors_of_that_key_and_nothing_is_quoted() -> None:
    class Odd(tzinfo):
        def utcoffset(self, dt: object) -> Any:
            return CANARY

        dst = tzname = utcoffset

    codec, other, endless = Codec(), Codec(), Codec()
    codec.registry.register(models.Money, name="money", encode=fail, decode=fail)
    codec.registry.register(models.Point, name="point", encode=lambda _: CANARY, decode=fail)
    other.registry.register(models.Point, name="point", encode=lambda _: CANARY, decode=models.Point)
    endless.registry.register(models.Money, name="money", encode=lambda value: [value], decode=fail)
    with pytest.raises(CodecError, match="cyclic"):
        endless.encode("k", models.Money(1, "EUR"))
    with pytest.raises(CodecError, match=r"'k', item 0: encode of money failed \(KeyError\)") as encoding:
        codec.encode("k", [models.Money(1, "EUR")])
    with pytest.raises(
        CodecError, match=r"could not be read back \(point could not be made .* \(KeyError\)\)"
    ) as unfit:
        codec.encode("k", models.Point(1))
    with pytest.raises(CodecError, match=r"'k' cannot be encoded \(TypeError\)") as odd:
        codec.encode("k", datetime(2026, 1, 1, tzinfo=Odd()))
    assert isinstance(encoding.value.__cause__, KeyError)
    with pytest.raises(CorruptRecord, match=r"'k' cannot be read: point could not be made .* \(KeyError\)") as decoding:
        codec.decode("k", other.encode("k", models.Point(1)))
    assert decoding.value.__cause__ is None
    assert decoding.value.__suppress_context__
    assert not any(CANARY in str(caught.value) for caught in (encoding, unfit, odd, decoding))


# -- damage


def decode_or_refuse(data: bytes) -> None:
    """Whatever the bytes are, the outcome is a value or a CodecError."""
    with contextlib.suppress(CorruptRecord, UnregisteredType):
        CODEC.decode("k", msgspec.Raw(data))


SAMPLES: list[Any] = [
    {"a": [1, 2.5, (CANARY, {1, 2}), {3: frozenset("ab")}]},
    [models.Item(CANARY, note=models.Pair(1, 2)), models.Point(1, 2), models.Colour.RED, models.Right(3)],
    [models.Account(name=CANARY), models.Tags("a,b"), models.Badge(rank=2), models.Money(1, "EUR")],
    [datetime(2026, 1, 2, fold=1, tzinfo=UTC), date.today(), time(1), timedelta(1), UUID(int=7), Decimal("1.5")],
    [1 << 70, "\ud800", 1j, b"abc", msgspec.UNSET, None, Fraction(1, 3), models.Claims(sub=CANARY)],
    [collections.deque([1], 3), collections.Counter("a"), collections.OrderedDict(a=1), collections.defaultdict(list)],
    [Path("a"), ip_interface("10.0.0.1/8"), ZoneInfo("UTC"), datetime(2026, 1, 2, tzinfo=ZoneInfo("Europe/Berlin"))],
]


@pytest.mark.proves("AT-65")
@pytest.mark.parametrize("sample", SAMPLES, ids=range(len(SAMPLES)))
def test_every_truncation_is_refused_and_every_flipped_bit_gives_a_value_or_a_codec_error(sample: Any) -> None:
    encoded = bytes(CODEC.encode("k", sample))
    for length in range(len(encoded)):
        with pytest.raises(CorruptRecord):
            CODEC.decode("k", msgspec.Raw(encoded[:length]))
    for place in range(len(encoded) * 8):
        damaged = bytearray(encoded)
        damaged[place // 8] ^= 1 << (place % 8)
        decode_or_refuse(bytes(damaged))


@pytest.mark.proves("AT-65", "AT-71")
@given(
    st.binary(max_size=60) | st.builds(Ext, st.integers(-128, 127), st.binary(max_size=30)).map(msgspec.msgpack.encode)
)
@settings(max_examples=scaled(3000))
def test_random_bytes_and_extensions_give_a_value_or_a_codec_error(data: bytes) -> None:
    decode_or_refuse(data)


@given(st.sampled_from([1, 2, 3, 4, 15, 16, 17, 18, 19, 32]), values)
@settings(max_examples=scaled(300))
def test_an_extension_around_the_wrong_kind_of_value_gives_a_value_or_a_codec_error(code: int, value: Any) -> None:
    decode_or_refuse(msgspec.msgpack.encode(Ext(code, CODEC.encode("k", value))))


def registered(name: str, stored: Any) -> bytes:
    return msgspec.msgpack.encode(Ext(32, msgspec.msgpack.encode((name, stored))))


MANY = Ext(27, b"10.0.0.0/12")  # a network is an iterable of a million addresses
PYDANTIC_PARTS: list[list[Any]] = [[{"name": "a"}, MANY, None, None], [{"name": "a"}, [], MANY, None]]
NO_VALUES = [
    b"", b"\xc1",
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01", b"\xc9\xff\xff\xff\xff\x01" + b"a" * 100, b"\x01\x01", b"\x90" * 3, b"\xa1\xff",
    b"\x91" * 100_000, b"\x81\xa0" * 100_000, b"\x91" * 100_000 + b"\x01", b"\x81\x80\x01", b"\x81\x81\x01\x02\x03",
    msgspec.msgpack.encode(Ext(15, msgspec.msgpack.encode(["1e9999999"]))),  # a Fraction of ten million digits
    *(registered(name, {}) for name in ("x" * 1001, "a\nb", "\x00")),
    *(registered("tests.models.Account", parts) for parts in PYDANTIC_PARTS),
]  # fmt: skip


@pytest.mark.proves("AT-66", "AT-67", "AT-68", "AT-71")
def test_bytes_that_no_encoder_wrote_are_corrupt_within_a_moment() -> None:
    for data in NO_VALUES:
        begin = clock.thread_time()
        with pytest.raises(CorruptRecord):
            CODEC.decode("k", msgspec.Raw(data))
        assert clock.thread_time() - begin < 0.5


def test_an_unknown_extension_is_refused_each_time_with_a_traceback_of_its_own() -> None:
    errors: list[BaseException] = []
    for _ in range(2):
        with pytest.raises(CorruptRecord, match="has a type that this version of sessioncore does not know") as caught:
            CODEC.decode("k", msgspec.Raw(msgspec.msgpack.encode(Ext(77, b""))))
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_deeply_nested_extensions_are_corrupt_and_do_not_crash() -> None:
    data = b"\x90"
    for _ in range(3000):
        data = msgspec.msgpack.encode([Ext(1, data)])
    with pytest.raises(CorruptRecord, match="RecursionError"):
        CODEC.decode("k", msgspec.Raw(data))
