"""The built-in types one by one: zones, stand-ins for datetime, collections."""

import collections
import datetime as dt
from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from io import BytesIO
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import anyio
import msgspec
import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext
from tests import models
from tests.numbers import scaled
from tests.values import exact_text, values

from sessioncore import CodecError, CorruptRecord, SessionConfig, SessionStore, UnregisteredType
from sessioncore.codec._builtin_values import COMPOSITES, LEAVES
from sessioncore.codec._codec import Codec
from sessioncore.storage import MemoryStorage, SQLiteStorage

BERLIN = ZoneInfo("Europe/Berlin")
CODEC = Codec()
TZIF = b"TZif" + bytes(32) + b"\0\0\0\1" + b"\0\0\0\4" + bytes(6) + b"UTC\0"  # the file of a zone


def through(value: Any) -> Any:
    return CODEC.decode("k", CODEC.encode("k", value))


# The number and the bytes of an extension: sessions that are stored must be read by every later release.
STORED: list[tuple[object, int, bytes]] = [
    ((1, 2), 1, b"\x92\1\2"),
    ({1}, 2, b"\x91\1"),
    (frozenset({1}), 3, b"\x91\1"),
    ({1: 2}, 4, b"\x92\1\2"),
    (1 << 64, 5, b"\1" + bytes(8)),
    ("\ud800", 6, b"\xed\xa0\x80"),
    (complex(1, -2), 7, b"\x3f\xf0" + bytes(6) + b"\xc0" + bytes(7)),
    (datetime(2026, 1, 2, 3, 4, 5, 6), 8, b"2026-01-02T03:04:05.000006"),
    (datetime(2026, 1, 2, tzinfo=UTC), 8, b"2026-01-02T00:00:00@0"),
    (datetime(2026, 1, 2, tzinfo=BERLIN), 8, b"2026-01-02T00:00:00[Europe/Berlin]"),
    (datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2), "home")), 8, b"2026-01-02T00:00:00@7200000000 home"),
    (dt.date(2026, 1, 2), 9, b"2026-01-02"),
    (time(3, 4, fold=1), 10, b"03:04:00*"),
    (timedelta(days=-1, microseconds=1), 11, b"\xff\xff\xff\xff" + bytes(7) + b"\1"),
    (UUID(int=5), 12, bytes(15) + b"\5"),
    (Decimal("1.10"), 13, b"1.10"),
    (msgspec.UNSET, 14, b""),
    (Fraction(1, 2), 15, b"\x92\1\2"),
    (collections.OrderedDict(a=1), 16, b"\x92\xa1a\1"),
    (collections.defaultdict[str, list[int]](list, a=[]), 17, b"\x94\xa4list\xc0\xa1a\x90"),
    (collections.Counter(a=1), 18, b"\x92\xa1a\1"),
    (collections.deque([1], 2), 19, b"\x92\2\1"),
    (BERLIN, 20, b"Europe/Berlin"),
    (PurePosixPath("/a"), 21, b"/a"),
    (PosixPath("/a"), 22, b"/a"),
    (PureWindowsPath("C:/a"), 23, b"C:\\a"),
    (ip_address("10.0.0.1"), 25, b"10.0.0.1"),
    (ip_address("::1"), 26, b"::1"),
    (ip_network("10.0.0.0/8"), 27, b"10.0.0.0/8"),
    (ip_network("::/64"), 28, b"::/64"),
    (ip_interface("10.0.0.1/8"), 29, b"10.0.0.1/8"),
    (ip_interface("::1/64"), 30, b"::1/64"),
]


def test_each_type_is_stored_as_the_first_release_stores_it() -> None:
    for value, number, payload in STORED:
        assert Ext(number, payload) == msgspec.msgpack.decode(CODEC.encode("k", value))
    types = {type(value) for value, _, _ in STORED}
    assert {*LEAVES, *COMPOSITES} - types == {WindowsPath}  # number 24; it cannot be made here


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("moment", ["2026-10-25T02:30", "2026-03-29T02:30", "2026-10-24T12:00", "9999-12-31"])
def test_a_datetime_in_a_zone_comes_back_in_this_zone(moment: str, fold: int) -> None:
    value = datetime.fromisoformat(moment).replace(tzinfo=BERLIN, fold=fold)
    again = through(value)
    assert (again == value, again.tzinfo, again.fold) == (True, BERLIN, fold)
    if value.year < 9999:
        assert through(value) + timedelta(days=1) == value + timedelta(days=1)
        assert again.astimezone(UTC) == value.astimezone(UTC)
    clock = through(value.timetz())
    assert (clock, clock.tzinfo, clock.fold) == (value.timetz(), BERLIN, fold)


class Local(tzinfo):
    """A zone with rules of its own, like dateutil's."""

    def utcoffset(self, moment: datetime | None) -> timedelta:
        assert moment is not None
        return timedelta(hours=1 + (moment.month in range(4, 10)))

    def dst(self, moment: datetime | None) -> timedelta:
        return timedelta()

    tzname = None  # type: ignore[assignment]


class Fixed(Local):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        return timedelta(hours=3)


@pytest.mark.parametrize("name", ["CEST", "", "Zürich", "a@b [c]", "*", "\udc80", "UTC+02:00"])
def test_a_fixed_offset_keeps_its_name_such_as_astimezone_gives_it(name: str) -> None:
    moment = datetime(2026, 7, 1, 12, fold=1, tzinfo=timezone(timedelta(hours=2), name))
    for value in (moment, moment.timetz()):
        again = through(value)
        assert (again, again.tzname(), again.fold) == (value, name, 1)
    plain = time(1, tzinfo=timezone(timedelta(microseconds=7)))
    assert through(plain).tzname() == plain.tzname()


def test_a_fixed_offset_is_kept_and_a_zone_that_could_not_be_found_again_is_refused() -> None:
    again = through(datetime(2026, 1, 1, tzinfo=Fixed()))
    assert (again, again.tzinfo) == (datetime(2026, 1, 1, tzinfo=Fixed()), timezone(timedelta(hours=3)))
    keys = (None, "Nowhere/Nowhere", "../etc/passwd")
    nameless, *others = [ZoneInfo.from_file(BytesIO(TZIF), key=key) for key in keys]
    refused: list[tuple[tzinfo, str]] = [
        (nameless, "ZoneInfo without a key"), (Local(), r"Local, which has no fixed offset"),
        *((zone, "key is unknown") for zone in others),
    ]  # fmt: skip
    for zone, reason in refused:
        for value in (datetime(2026, 1, 1, tzinfo=zone), time(1, tzinfo=zone), zone):
            with pytest.raises(CodecError, match=f"^session key 'k', item 0: .*({reason}|is not registered)"):
                CODEC.encode("k", [value])
    assert through(ZoneInfo.no_cache("Europe/Berlin")) is BERLIN  # a zone is stored as its key


def test_a_zone_that_this_system_lacks_or_that_nobody_wrote_is_corrupt() -> None:
    paths = (b"../../etc/passwd", b"/etc/passwd", b"Europe", b"a.b/c")
    for key in (*paths, b"Nowhere/Nowhere", b"a" * 1000, b"\xff", b""):
        for code, data in [(20, key), (8, b"2026-01-01T00:00:00[" + key + b"]"), (10, b"00:00:00[" + key + b"]")]:
            with pytest.raises(CorruptRecord, match="'k' cannot be read" + ".*tzdata" * key.startswith(b"Nowhere")):
                CODEC.decode("k", msgspec.Raw(msgspec.msgpack.encode(Ext(code, data))))


class Claiming(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, datetime)


class Standing(datetime, metaclass=Claiming):
    """Like freezegun's class, made by hand."""


class Own(datetime):
    """A subclass that does not count plain datetimes as its instances."""


def test_a_stand_in_for_datetime_is_stored_as_the_datetime_that_it_stands_for() -> None:
    with freeze_time("2026-10-25 00:30", tz_offset=2):
        frozen = [dt.datetime.now(), dt.date.today(), dt.datetime.now(UTC), dt.datetime.now(BERLIN)]
        assert {type(value).__module__ for value in frozen} == {"freezegun.api"}
        kept = CODEC.encode("k", {"now": frozen, frozen[0]: 1})
        inside = CODEC.decode("k", kept)
    again = CODEC.decode("k", kept)
    assert exact_text(again) == exact_text(inside)
    assert again["now"] == frozen
    assert {value.__class__.__module__ for value in again["now"]} == {"datetime"}
    value = Standing(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN)
    assert exact_text(through(value)) == exact_text(datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN))
    with pytest.raises(UnregisteredType, match=r"Own is not registered; store a plain datetime in its place"):
        CODEC.encode("k", Own(2026, 1, 1))


def test_a_defaultdict_keeps_a_built_in_factory_and_others_are_refused() -> None:
    kept: list[Any] = [None, int, list, set, str, collections.Counter, collections.defaultdict]
    refused: list[Any] = [lambda: 1, type("int", (int,), {}), models.Line, len]
    for factory in kept:
        again = through(collections.defaultdict(factory, a=1))
        assert (again, again.default_factory) == ({"a": 1}, factory)
    for factory in refused:
        with pytest.raises(UnregisteredType, match="'k', entry 0: a defaultdict whose default_factory is no built-in"):
            CODEC.encode("k", {"a": collections.defaultdict[str, Any](factory)})


def test_a_path_that_reads_differently_as_text_is_refused() -> None:
    odd = PureWindowsPath("./c:x")
    if PureWindowsPath(str(odd)) == odd:  # from Python 3.12 on
        assert through(odd) == odd
    else:
        with pytest.raises(CodecError, match="reads differently"):
            CODEC.encode("k", odd)


CHANGES: list[tuple[Any, Callable[[Any], object]]] = [
    (collections.Counter(a=1), lambda v: v.update("b")), (collections.Counter(a=1), lambda v: v.__setitem__("z", 0)),
    (collections.OrderedDict(a=1, b=2), lambda v: v.move_to_end("a")),
    (collections.defaultdict(list), lambda v: v["new"]),
    (collections.defaultdict(list, a=[1]), lambda v: v["a"].append(2)),
    (collections.defaultdict(int), lambda v: setattr(v, "default_factory", list)),
    (collections.deque([1, 2], 2), lambda v: v.append(3)), (collections.deque([1, 2]), lambda v: v.rotate()),
    (models.Claims(a=1), lambda v: v.update(b=2)), ((collections.deque(),), lambda v: v[0].append(1)),
]  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("value", "change"), CHANGES, ids=[f"{type(v).__name__}-{n}" for n, (v, _) in enumerate(CHANGES)]
)
async def test_a_change_inside_a_value_is_noticed(value: Any, change: Callable[[Any], object]) -> None:
    store = SessionStore()
    store.register_type(models.Claims)
    sid = (await store.create({"v": value})).id
    async with store.open(sid) as session:
        assert (session["v"] == value, session.modified) == (True, False)
        change(session["v"])
        assert session.modified
        expected = exact_text(session["v"])
    assert exact_text((await store.get_by_id(sid))["v"]) == expected != exact_text(value)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@given(st.lists(values, min_size=10, max_size=10))
@settings(max_examples=scaled(30), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_values_come_back_from_a_storage(tmp_path: Path, kind: str, parts: list[Any]) -> None:
    store = SessionStore(SessionConfig(storage=MemoryStorage() if kind == "memory" else SQLiteStorage(tmp_path / "db")))
    for cls in models.SHAPED:
        store.register_type(cls)
    store.register_type(models.Money, encode=lambda m: (m.cents, m.currency), decode=lambda given: models.Money(*given))

    async def there_and_back() -> dict[str, Any]:
        async with store, store.open((await store.create(dict(zip("abcdefghij", parts, strict=True)))).id) as session:
            return dict(session)

    assert exact_text(list(anyio.run(there_and_back).values())) == exact_text(parts)
