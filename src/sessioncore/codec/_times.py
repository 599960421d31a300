"""How dates, times and time zones become bytes, and are built again.

Libraries such as freezegun replace `datetime` and `date` in modules while a test runs. The
functions here keep the real classes in tuples and bound methods, which such libraries do not reach.
"""

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import partial
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sessioncore.codec._refusals import Refused, name_of

__all__ = [
    "date_from_bytes", "datetime_from_bytes", "real_date", "time_from_bytes", "time_to_bytes", "zone_from_key",
    "zone_key",
]  # fmt: skip

_TimeT = TypeVar("_TimeT", datetime, time)

_MICROSECOND = timedelta(microseconds=1)
_REAL = (datetime, date)
_ZONE_KEY = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")  # decoding looks for a file of this name


def real_date(value: Any) -> "datetime | date | None":
    """Return the datetime or date that a test double stands for, such as freezegun's; None if it is no double.

    Plain values count as instances of a double's class (`isinstance`), but not of an ordinary subclass.
    """
    moment_type, date_type = _REAL
    if isinstance(value, moment_type) and isinstance(moment_type.min, type(value)):
        v = value
        return moment_type(v.year, v.month, v.day, v.hour, v.minute, v.second, v.microsecond, v.tzinfo, fold=v.fold)
    if isinstance(value, date_type) and isinstance(date_type.min, type(value)):
        return date_type(value.year, value.month, value.day)
    return None


def time_to_bytes(value: "datetime | time") -> bytes:
    """Return the ISO text of the local time, "*" if fold is 1, and the zone.

    A ZoneInfo is "[" key "]"; another offset is "@" and microseconds, because `fromisoformat`
    reads an offset of less than a second as UTC, and then a space and its name if it has one of
    its own, as `astimezone()` gives it.
    """
    zone = value.tzinfo
    if zone is None:
        suffix = ""
    elif type(zone) is ZoneInfo:
        suffix = f"[{zone_key(zone)}]"
    else:
        offset = _fixed_offset(zone)
        suffix = f"@{offset // _MICROSECOND}"
        if type(zone) is timezone and (name := zone.tzname(None)) != timezone(offset).tzname(None):
            suffix += f" {name}"
    return f"{value.replace(tzinfo=None).isoformat()}{'*' * value.fold}{suffix}".encode(errors="surrogatepass")


def _fixed_offset(zone: tzinfo) -> timedelta:
    """Return the offset of a zone that is the same at all times; the rules of others would be lost."""
    try:
        offset = zone.utcoffset(None)
    except Exception:  # noqa: BLE001 - a user's class can raise anything, for example because it expects a datetime
        offset = None
    if offset is None:
        raise Refused(
            f"a time in a zone of type {name_of(type(zone))}, which has no fixed offset; use zoneinfo.ZoneInfo, or "
            "convert it to UTC"
        )
    return offset


def _time_from_bytes(parse: Callable[[str], _TimeT], data: memoryview) -> _TimeT:
    text, at, offset = bytes(data).decode(errors="surrogatepass").partition("@")
    zone: timezone | ZoneInfo | None = None
    if at:
        offset, named, name = offset.partition(" ")
        zone = timezone(timedelta(microseconds=int(offset)), *([name] if named else ()))
    elif text.endswith("]"):
        text, _, key = text[:-1].partition("[")
        zone = zone_from_key(key)
    return parse(text.removesuffix("*")).replace(tzinfo=zone, fold=int(text.endswith("*")))


def _date_from_bytes(parse: Callable[[str], date], data: memoryview) -> date:
    return parse(bytes(data).decode("ascii"))


datetime_from_bytes: Callable[[memoryview], datetime] = partial(_time_from_bytes, datetime.fromisoformat)
time_from_bytes: Callable[[memoryview], time] = partial(_time_from_bytes, time.fromisoformat)
date_from_bytes: Callable[[memoryview], date] = partial(_date_from_bytes, date.fromisoformat)


def zone_key(zone: ZoneInfo) -> str:
    """Return the key by which a zone can be found again.

    Raises:
        Refused: it has none, or this system does not know it.
    """
    key = zone.key
    if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # None if it was read from a file
        raise Refused("a ZoneInfo without a key, which could not be found again; make it with ZoneInfo(key)")
    try:
        zone_from_key(key)
    except (ValueError, OSError, Refused):
        raise Refused("a ZoneInfo whose key is unknown on this system, so it could not be found again") from None
    return key


def zone_from_key(key: str) -> ZoneInfo:
    """Return the zone that `zone_key` was given.

    Raises:
        Refused: this system does not know it.
    """
    if not _ZONE_KEY.fullmatch(key):
        raise ValueError("not the key of a time zone")
    try:
        return ZoneInfo(key)
    except ZoneInfoNotFoundError:
        raise Refused("this system does not know its time zone (pip install tzdata)") from None
