"""RecordCache: no order of replies, pushes and lost connections makes it return too old a record; its bounds."""

import random
import tracemalloc
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.numbers import scaled
from tests.storage import near_cache_worker

from sessioncore import ConfigError
from sessioncore.storage import Stored
from sessioncore.storage.redis import NearCache, NearCacheStats
from sessioncore.storage.redis.near._cache import RecordCache

KEYS = ["a", "b"]
TICK = 0.001  # seconds from one step to the next
TTL = 1000.0


class World:
    """A server, one connection to it on which everything keeps its order, and a process with a cache."""

    def __init__(self, max_stale: float) -> None:
        self.now = 1.0
        self.max_stale = max_stale
        self.stats = NearCacheStats()
        self.cache = RecordCache(10**6, self.stats)
        self.records = dict.fromkeys(KEYS, 0)
        self.completed: list[tuple[float, str, int]] = []  # writes: when, key, new version
        self.known = dict.fromkeys(KEYS, 0)  # versions that this process made: it must not read older ones
        self.tracked: set[str] = set()
        self.to_server: deque[Callable[[], None]] = deque()
        self.to_client: deque[Callable[[], None]] = deque()
        self.resumed: deque[Callable[[], None]] = deque()  # what the event loop will run next

    def write(self, key: str) -> None:
        """Another process writes."""
        self.records[key] += 1
        self.completed.append((self.now, key, self.records[key]))
        if key in self.tracked:
            self.tracked.discard(key)
            self.to_client.append(lambda: self.cache.drop([key]))

    def own_write(self, key: str, *more: str) -> None:
        """Write in this process; the same step also writes `more` keys, which the call does not name."""

        def execute() -> None:
            made = {name: self.records[name] + 1 for name in (key, *more)}

            def resume() -> None:
                self.cache.drop([key])
                if more:
                    self.cache.require_new_proof(self.now)
                self.known |= made

            self.to_client.append(lambda: self.resumed.append(resume))
            for name in made:
                self.write(name)  # the push follows the reply

        self.cache.drop([key])
        self.to_server.append(execute)

    def own_end(self, key: str) -> None:
        self.own_write(key, *KEYS)

    def read(self, key: str) -> None:
        stored = self.cache.lookup(key, self.now, self.now - self.max_stale)
        if stored is not None:
            begun = self.now - self.max_stale
            due = [version for completed, of, version in self.completed if completed <= begun and of == key]
            assert stored.version >= max(due, default=0)
            assert stored.version >= self.known[key]
            return
        mark, sent = self.cache.begin_fill(key), self.now

        def execute() -> None:
            self.tracked.add(key)
            reply = Stored(b"data", self.records[key], TTL)

            def resume() -> None:
                self.cache.proved(sent)
                self.cache.end_fill(key, mark, reply, sent)

            self.to_client.append(lambda: self.resumed.append(resume))

        self.to_server.append(execute)

    def ping(self, _: str) -> None:
        sent = self.now
        proof = lambda: self.resumed.append(lambda: self.cache.proved(sent))  # noqa: E731
        self.to_server.append(lambda: self.to_client.append(proof))

    def lose_connection(self, _: str) -> None:
        while self.to_server:
            self.to_server.popleft()()
        self.to_client.clear()
        self.tracked.clear()
        self.cache.empty()

    def wait(self, _: str) -> None:
        self.now += 1.0

    def step(self, name: str, key: str) -> None:
        if name in {"to_server", "to_client", "resumed"}:
            if queue := getattr(self, name):
                queue.popleft()()
        else:
            getattr(self, name)(key)
        self.now += TICK


STEPS = (
    ["read"] * 8 + ["write"] * 2 + ["own_write", "own_end", "ping", "wait"] + ["to_server", "to_client", "resumed"] * 10
)


def run(seed: int, max_stale: float) -> NearCacheStats:
    rng, world = random.Random(seed), World(max_stale)
    for _ in range(300):
        world.step("lose_connection" if rng.random() < 0.005 else rng.choice(STEPS), rng.choice(KEYS))
    return world.stats


@pytest.mark.proves("P2", "AT-125", "AT-127")
@pytest.mark.parametrize("max_stale", [0.02, 1.5])
def test_no_history_makes_a_hit_older_than_max_stale(max_stale: float) -> None:
    assert sum(run(seed, max_stale).hits for seed in range(scaled(3000))) > 100


def do_nothing(*_: object) -> None:
    """Do nothing."""


FAULTS: dict[str, tuple[str, Any]] = {
    "no marker for fills in flight": near_cache_worker.FAULTS["marker"],
    "no proof of age": near_cache_worker.FAULTS["proof"],
    "a push is lost": ("drop", do_nothing),
    "a lost connection changes nothing": ("empty", do_nothing),
    "what an end does beside its own key is seen late": ("require_new_proof", do_nothing),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_histories_find_each_fault(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RecordCache, *FAULTS[fault])
    with pytest.raises(AssertionError):
        for seed in range(3000):
            run(seed, 1.5)


def filled(max_bytes: int = 10**6, **records: int) -> tuple[RecordCache, NearCacheStats]:
    """A cache with records of these sizes, read and proven at 10.0."""
    stats = NearCacheStats()
    cache = RecordCache(max_bytes, stats)
    cache.proved(10.0)
    for key, size in records.items():
        cache.end_fill(key, cache.begin_fill(key), Stored(bytes(size), 7, 60.0), 10.0)
    return cache, stats


def test_a_record_has_the_time_that_is_left_and_ends_with_it() -> None:
    cache, _ = filled(a=3)
    assert cache.lookup("a", 11.0, 9.0) == Stored(b"\0\0\0", 7, 59.0)
    assert cache.lookup("a", 70.0, 9.0) is None
    assert cache.bytes == 0


def test_only_a_proof_that_was_sent_after_an_end_counts_and_the_newest_one() -> None:
    cache, _ = filled(a=3)
    cache.require_new_proof(12.0)
    for sent, is_proven in ((11.5, False), (14.0, True), (13.0, True)):
        cache.proved(sent)
        assert (cache.lookup("a", 14.5, 11.0 if sent < 12 else 13.5) is not None) is is_proven


def test_the_least_recently_used_records_go_when_there_is_no_room() -> None:
    cache, stats = filled(3300, a=600, b=600)
    assert cache.lookup("a", 11.0, 9.0) is not None
    for key, size in {"c": 600, "d": 600, "a": 500, "large": 3000}.items():
        cache.end_fill(key, cache.begin_fill(key), Stored(bytes(size), 8, 60.0), 10.0)
    assert [key for key in ("a", "b", "c", "d", "large") if key in cache] == ["a", "c", "d"]
    assert (stats.evictions, stats.invalidations) == (1, 0)
    assert 1700 < cache.bytes <= 3300
    cache.drop(["a", "b"])
    cache.empty()
    assert (stats.invalidations, cache.bytes) == (3, 0)


@pytest.mark.proves("AT-113")
def test_many_records_take_no_more_memory_than_they_say() -> None:
    cache = RecordCache(4 * 2**20, NearCacheStats())
    data = [bytes([number % 256]) * 200 for number in range(20_000)]
    tracemalloc.start()
    try:
        for number, some in enumerate(data):
            key = f"session:{number:064}"
            cache.end_fill(key, cache.begin_fill(key), Stored(some + b"a copy", number, 60.5 + number), number)
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 0.7 * 4 * 2**20 < taken < 1.05 * 4 * 2**20


@pytest.mark.parametrize(
    "settings",
    [
        {"max_stale": timedelta(seconds=-1)}, {"max_stale": 1.0}, {"max_bytes": 0}, {"max_bytes": 1.5},
        {"max_bytes": True},
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        NearCache(**settings)
