"""What `show --values` makes of stored values: strict JSON, without the classes that they were made of."""

import json
from collections import Counter, OrderedDict, defaultdict, deque
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from msgspec import Raw
from msgspec.msgpack import Ext, encode
from tests import models
from tests.values import values

from sessioncore.cli._values import json_value
from sessioncore.codec._codec import Codec

CODEC = Codec()
models.register_all(CODEC.registry)
ZERO = UUID("00000000-0000-0000-0000-000000000000")
NOON, BERLIN = datetime(2027, 1, 1, 12, 0), ZoneInfo("Europe/Berlin")

CASES: list[tuple[object, object]] = [
    ({"a": [None, True, 1, 1.5, "ä"]}, {"a": [None, True, 1, 1.5, "ä"]}), (2**70, 2**70),
    (2**20_000, {"type": "int", "value": hex(2**20_000)}), (float("-inf"), {"type": "float", "value": "-inf"}),
    (b"\x00\xff", {"type": "bytes", "value": "AP8="}),
    ((1, {2}), {"type": "tuple", "value": [1, {"type": "set", "value": [2]}]}),
    (frozenset({1}), {"type": "frozenset", "value": [1]}), ({1: "x"}, {"type": "dict", "value": [[1, "x"]]}),
    ({"type": "int", "value": 1}, {"type": "dict", "value": [["type", "int"], ["value", 1]]}),
    (OrderedDict(a=1), {"type": "OrderedDict", "value": [["a", 1]]}),
    (Counter("aa"), {"type": "Counter", "value": [["a", 2]]}),
    (defaultdict(int, a=1), {"type": "defaultdict", "value": {"default_factory": "int", "items": [["a", 1]]}}),
    (deque([1], 3), {"type": "deque", "value": {"maxlen": 3, "items": [1]}}),
    (Decimal("1.10"), {"type": "Decimal", "value": "1.10"}), (Fraction(1, 3), {"type": "Fraction", "value": "1/3"}),
    (1j, {"type": "complex", "value": "1j"}), (NOON, {"type": "datetime", "value": "2027-01-01T12:00:00"}),
    (NOON.replace(tzinfo=UTC), {"type": "datetime", "value": "2027-01-01T12:00:00+00:00"}),
    (NOON.replace(tzinfo=BERLIN), {"type": "datetime", "value": "2027-01-01T12:00:00+01:00[Europe/Berlin]"}),
    (time(12), {"type": "time", "value": "12:00:00"}), (date(2027, 1, 1), {"type": "date", "value": "2027-01-01"}),
    (timedelta(seconds=1.5), {"type": "timedelta", "value": 1.5}), (ZERO, {"type": "UUID", "value": str(ZERO)}),
    (ip_address("::1"), {"type": "IPv6Address", "value": "::1"}),
    (PurePosixPath("/a"), {"type": "PurePosixPath", "value": "/a"}),
    (models.Frozen({1}), {"type": "tests.models.Frozen", "value": {"name": {"type": "set", "value": [1]}}}),
]  # fmt: skip


def test_values_as_json() -> None:
    for value, shown in CASES:
        assert json_value(CODEC.encode("k", value)) == shown


@given(values)
def test_any_value_is_strict_json(value: Any) -> None:
    shown = json_value(CODEC.encode("k", value))
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert shown != {"type": "unreadable", "value": None}


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (encode(Ext(99, b"x")), {"type": "unknown (99)", "value": {"type": "bytes", "value": "eA=="}}),
        (b"\xc1", {"type": "unreadable", "value": None}),
        (encode(Ext(1, b"\xc1")), {"type": "unreadable", "value": None}),
        (b"\x91" * 100_000 + b"\xc0", {"type": "unreadable", "value": None}),
        (encode(datetime(2027, 1, 1, tzinfo=UTC)), {"type": "datetime", "value": "2027-01-01 00:00:00+00:00"}),
    ],
)
def test_what_is_unknown_or_damaged_is_named_and_the_rest_is_shown(data: bytes, shown: object) -> None:
    assert json_value(Raw(data)) == shown
