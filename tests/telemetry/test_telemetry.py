"""What operators see: each kind of event and of storage call in the metrics, and nothing that is secret or personal."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from servers.redis_server import Server
from tests.kit import Lab, read, serve
from tests.views import PlainView

from sessioncore import (
    ConfigError,
    EventKind,
    SessionConfig,
    SessionEvent,
    SessionGone,
    SessionStore,
    StorageUnavailable,
)
from sessioncore.storage.redis import NearCache, RedisStorage
from sessioncore.telemetry import OpenTelemetry, log_events

pytestmark = pytest.mark.anyio

Point = HistogramDataPoint | NumberDataPoint | ExponentialHistogramDataPoint


class Metrics:
    """A listener with a provider of its own, and the metrics that it has produced."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.listener = OpenTelemetry(MeterProvider([self._reader]))

    def points(self) -> dict[str, list[Point]]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        found = [metric for one in data.resource_metrics for scope in one.scope_metrics for metric in scope.metrics]
        assert {scope.scope.name for one in data.resource_metrics for scope in one.scope_metrics} == {"sessioncore"}
        return {metric.name: [*metric.data.data_points] for metric in found}

    def counts(self) -> dict[str, int]:
        """How often each kind of event occurred, and each call with its outcome."""
        counts: dict[str, int] = {}
        for points in self.points().values():
            for point in points:
                name = " ".join(map(str, (point.attributes or {}).values()))
                counts[name] = int(point.value) if isinstance(point, NumberDataPoint) else point.count
        return counts


async def test_what_an_operator_must_see_is_in_the_metrics(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    lab = Lab(on_event=metrics.listener)
    visitor = await lab.begin()
    sid = visitor.sid or ""
    view = PlainView([f"__Host-session_id={sid}".encode()])

    async def write(session: Any) -> None:
        async with lab.store.open(sid) as other:
            other["theirs"] = 1
        session["n"] = 2

    await serve(lab.store, view, write)  # a conflict
    elsewhere = PlainView(view.cookies, [("Sec-Fetch-Site", "cross-site")], method="POST")
    await serve(lab.store, elsewhere, lambda session: anyio.sleep(session["n"]))
    async with lab.visitor.request() as session:
        await session.login("ada")
    late = await lab.store.get(view)  # its ID was replaced
    assert late.fresh
    with pytest.raises(SessionGone):
        async with lab.store.open(lab.visitor.sid or "") as session:
            await lab.store.delete(lab.visitor.sid or "")
            session["n"] = 3
    with lab.storage.fail("load"), pytest.raises(StorageUnavailable):
        await lab.store.get_by_id(sid)
    counts = metrics.counts()
    expected = {
        "created", "conflict", "cross_site", "login", "unknown", "gone", "destroyed", "storage_error", "load ok",
        "load error", "create ok", "replace ok", "move ok", "delete ok",
    }  # fmt: skip
    assert expected - counts.keys() == set()
    assert (counts["conflict"], counts["load error"], counts["storage_error"]) == (1, 1, 1)
    assert [record for record in caplog.records if record.name.startswith("opentelemetry")] == []


async def test_no_attribute_tells_whose_session_it_was() -> None:
    metrics = Metrics()
    for kind in EventKind:
        metrics.listener(SessionEvent(kind, "a-handle", "ada", "from https://evil.example", datetime.now(UTC)))
    metrics.listener.storage_call("load", 0.0031, "ok")
    points = metrics.points()
    assert {name: {key for point in found for key in point.attributes or {}} for name, found in points.items()} == {
        "sessioncore.events": {"kind"},
        "sessioncore.storage.duration": {"operation", "outcome"},
    }
    assert metrics.counts() == {kind.value: 1 for kind in EventKind} | {"load ok": 1}
    [call] = points["sessioncore.storage.duration"]
    assert isinstance(call, HistogramDataPoint)
    assert call.sum == 0.0031
    assert call.bucket_counts[call.explicit_bounds.index(0.005)] == 1


@pytest.mark.redis
async def test_the_near_cache_is_in_the_metrics(server: Server) -> None:
    metrics = Metrics()
    async with SessionStore(SessionConfig(storage=RedisStorage.from_url(server.url), on_event=metrics.listener)):
        assert not any("near_cache" in name for name in metrics.points()), "it has no near cache"
    storage = RedisStorage.from_url(server.url, near_cache=NearCache(max_stale=timedelta(seconds=60)))
    async with SessionStore(SessionConfig(storage=storage, on_event=metrics.listener)) as store:
        SessionStore(store.config)  # a second store on the same storage counts nothing twice
        session = await store.create({"n": 1})
        for _ in range(3):
            await serve(store, PlainView([f"__Host-session_id={session.id}".encode()]), read)
        stats = storage.near_cache_stats()
        points = metrics.points()
    near = {name.rpartition(".")[2]: found for name, found in points.items() if "near_cache" in name}
    got = {name: point.value for name, [point] in near.items() if isinstance(point, NumberDataPoint)}
    assert got == {
        "hits": stats.hits, "misses": stats.misses, "proofs": stats.proofs, "size": stats.bytes,
        "invalidations": stats.invalidations, "evictions": stats.evictions,
    }  # fmt: skip
    assert stats.hits >= 2


LEVELS: list[tuple[EventKind, int]] = [
    (EventKind.LOGIN, logging.INFO), (EventKind.CORRUPT, logging.WARNING), (EventKind.CROSS_SITE, logging.WARNING),
    (EventKind.AMBIGUOUS, logging.WARNING), (EventKind.CAPPED, logging.WARNING), (EventKind.RENEWED, logging.DEBUG),
    (EventKind.STORAGE_ERROR, logging.DEBUG),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "level"), LEVELS)
def test_an_event_is_a_line_of_the_log(kind: EventKind, level: int, caplog: pytest.LogCaptureFixture) -> None:
    others: list[Any] = ["shop", logging.Logger, logging.LoggerAdapter(logging.getLogger("shop"))]
    for other in others:
        with pytest.raises(ConfigError, match=r"logging\.getLogger"):
            log_events(other)
    listen: Callable[[SessionEvent], None] = log_events(logging.getLogger("shop"))
    event = SessionEvent(kind, "a-handle", "ada", "2 of 3 %s", datetime.now(UTC))
    with caplog.at_level(level + 1, "shop"):
        listen(event)
        assert caplog.records == []
    with caplog.at_level(level, "shop"):
        listen(event)
        listen(SessionEvent(kind, None, None, "", datetime.now(UTC)))
    assert caplog.messages == [f"session {kind.value} a-handle 2 of 3 %s", f"session {kind.value}"]
    assert [record.levelno for record in caplog.records] == [level, level]
    assert vars(caplog.records[0])["session_owner"] == "ada"


def test_without_the_extra_the_error_says_what_to_install() -> None:
    script = (
        "import sys, json; sys.modules['opentelemetry'] = None\n"
        "from sessioncore.telemetry import OpenTelemetry, log_events\n"
        "try: OpenTelemetry()\n"
        "except ModuleNotFoundError as error: print(json.dumps(str(error)))\n"
    )
    command, environment = [sys.executable, "-c", script], {**os.environ, "PYTHONPATH": "src"}
    said = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
    assert said == "this needs opentelemetry, which is not installed; pip install 'sessioncore[otel]'"
