"""The short way through a MemoryStorage against the long one: whatever is done, both do the same."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from inspect import isawaitable
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.views import PlainView

from sessioncore import (
    Exchange,
    MemoryStorage,
    Session,
    SessionConfig,
    SessionError,
    SessionEvent,
    SessionGone,
    SessionKey,
    SessionStore,
    StorageUnavailable,
)
from sessioncore.storage.memory._storage import table_behind
from sessioncore.testing import ManualClock

Step = tuple[str, int, str]
CART = SessionKey("cart", list[int], default_factory=list)
CONFIGS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "sliding": {"absolute_timeout": None},
    "renewing": {"touch_interval": timedelta(), "absolute_timeout": None},
    "short": {"idle_timeout": timedelta(seconds=90), "absolute_timeout": timedelta(seconds=150)},
    "small": {"max_size": 200},
}


@dataclass
class Caught:
    """What a request ended with, where that was an error."""

    kind: type[BaseException]


class World:
    """A store with two requests at a time, one cookie jar, and everything that can be seen from outside."""

    def __init__(self, *, short: bool, **settings: Any) -> None:
        self.short = short
        self.clock = ManualClock()
        self.events: list[SessionEvent] = []
        numbers = itertools.count(1)
        self.store = SessionStore(
            SessionConfig(
                storage=MemoryStorage(clock=self.clock),
                clock=self.clock,
                on_event=self.events.append,
                id_generator=lambda: f"{next(numbers):043}",
                **settings,
            )
        )
        self.jar: str | None = None
        self.open: dict[int, Exchange] = {}
        self.seen: list[Any] = []

    async def arrive(self, number: int) -> Session:
        if number not in self.open:
            view = PlainView([] if self.jar is None else [f"a=b; __Host-session_id={self.jar}".encode()])
            exchange = self.open[number] = self.store.exchange(view)
            if not (self.short and exchange.settled()):
                await exchange.load()
        return self.open[number].session

    async def respond(self, number: int, status: int = 200) -> None:
        exchange = self.open.get(number)
        if exchange is None or exchange.late:
            return
        try:
            added = exchange.commit_now(status) if self.short else None
            if added is None:
                added = await exchange.commit(status)
        except SessionError as error:
            answer = exchange.answer(error)
            added = answer.headers
            self.seen.append((type(error), answer.status, answer.body))
        except (TypeError, AttributeError) as error:  # out of a function given to mutate(), on another's value
            added = []
            self.seen.append(Caught(type(error)))
        self.seen.append((added, exchange.revise([(b"content-type", b"text/plain")], added)))
        for name, value in added:
            if name == "set-cookie":
                self.jar = value.split(";")[0].partition("=")[2] or None

    async def leave(self, number: int, status: int = 200) -> None:
        await self.respond(number, status)
        exchange = self.open.pop(number, None)
        if exchange is not None:
            try:
                await exchange.finish()
            except (SessionError, TypeError, AttributeError) as error:
                self.seen.append(Caught(type(error)))

    async def step(self, verb: str, number: int, key: str) -> None:
        if verb == "leave":
            await self.leave(number)
        elif verb == "respond":
            await self.respond(number)
        elif verb == "fail":
            await self.leave(number, 500)
        elif verb == "wait":
            self.clock.advance(number * 40 + 1)
        elif verb == "revoke":
            await self.store.delete(self.jar or "x" * 43)
        else:
            session = await self.arrive(number)
            try:
                done = DOINGS[verb](session, key)
                self.seen.append(await done if isawaitable(done) else done)
            except Exception as error:  # noqa: BLE001 - such as appending to text: the same both ways
                self.seen.append(Caught(type(error)))

    def records(self) -> list[Any]:
        """What is stored, with all that a reader of the records could see."""
        table = table_behind(self.store.storage)
        assert table is not None
        return [(key, table.load(key, None)) for key in table.keys("")]


def append(session: Session, key: str) -> None:
    session.setdefault(key, []).append(1)


DOINGS: dict[str, Callable[[Session, str], Any]] = {
    "arrive": lambda _session, _key: None,
    "get": lambda session, key: session.get(key),
    "set": lambda session, key: session.set(key, [key]),
    "same": lambda session, key: session.set(key, session.get(key)),
    "long": lambda session, key: session.set(key, "x" * 300),
    "wrong": lambda session, key: session.set(key, World),
    "delete": lambda session, key: session.delete(key),
    "append": append,
    "cart": lambda session, _: session[CART].append(1),
    "mutate": lambda session, key: session.mutate(key, lambda value: [*value, 1], default=[]),
    "look": lambda session, _: (session.id, session.handle, session.fresh, session.modified, session.expires_at),
    "idle": lambda session, _: session.set_idle_timeout(timedelta(seconds=70)),
    "bind": lambda session, key: session.bind_owner(key, device="x"),
    "login": lambda session, key: session.login(key),
    "regenerate": lambda session, _: session.regenerate(),
    "reset": lambda session, _: session.reset(),
    "destroy": lambda session, _: session.destroy(),
    "save": lambda session, _: session.save(),
    "release": lambda session, _: session.release(),
}
PLAIN = ("arrive", "respond", "leave", "leave", "set", "get", "append", "delete", "mutate", "look", "wait")
VERBS = st.sampled_from(PLAIN) | st.sampled_from(PLAIN) | st.sampled_from(["fail", "revoke", *DOINGS])
STEPS = st.lists(st.tuples(VERBS, st.integers(0, 1), st.sampled_from("aab")), min_size=10, max_size=60)


async def play(config: str, steps: list[Step]) -> None:
    short, long = World(short=True, **CONFIGS[config]), World(short=False, **CONFIGS[config])
    for step in [*steps, ("leave", 0, ""), ("leave", 1, "")]:
        await short.step(*step)
        await long.step(*step)
        assert short.seen == long.seen
        assert short.events == long.events
        assert short.records() == long.records()
        assert short.jar == long.jar


@pytest.mark.parametrize("config", CONFIGS)
@settings(max_examples=200)
@given(steps=STEPS)
def test_the_short_way_and_the_long_way_cannot_be_told_apart(config: str, steps: list[Step]) -> None:
    anyio.run(play, config, steps)


@pytest.mark.anyio
async def test_plain_requests_take_the_short_way_and_others_do_not() -> None:
    world = World(short=True)
    (await world.arrive(1))["n"] = [1]
    assert world.open[1].commit_now(200)
    await world.step("set", 0, "a")
    await world.leave(0)
    view = PlainView([f"__Host-session_id={world.jar}".encode()])
    exchange = world.store.exchange(view)
    assert exchange.settled()
    exchange.session["a"].append(2)
    assert exchange.commit_now(200) == []
    await exchange.finish()
    for step in (("login", 0, "ada"), ("bind", 0, "ada"), ("idle", 0, "")):
        await world.step(*step)
        assert world.open[0].commit_now(200) is None
        await world.leave(0)


@pytest.mark.anyio
@pytest.mark.parametrize("on_class", [False, True])
@pytest.mark.parametrize("method", ["load", "replace", "create"])
async def test_what_a_test_puts_in_the_place_of_a_method_is_called(
    method: str, on_class: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(short=True)
    await world.step("set", 0, "a")
    if method != "create":
        await world.leave(0)
        if method == "replace":
            await world.step("set", 0, "b")

    async def broken(*_: object, **__: object) -> None:
        raise OSError("down")

    monkeypatch.setattr(MemoryStorage if on_class else world.store.storage, method, broken)
    await world.step("get", 0, "a")
    await world.leave(0)
    if method == "load":
        assert Caught(StorageUnavailable) in world.seen
    else:
        assert world.seen[-2][:2] == (StorageUnavailable, 503)
    assert world.events[-1].kind == "storage_error"


@pytest.mark.anyio
async def test_a_session_that_is_gone_is_not_stored_again_by_the_short_way() -> None:
    world = World(short=True)
    await world.step("set", 0, "a")
    await world.leave(0)
    await world.step("set", 0, "b")
    await world.step("revoke", 0, "")
    await world.step("save", 0, "")
    assert world.seen[-1] == Caught(SessionGone)
    await world.step("set", 0, "c")
    await world.leave(0)
    assert world.records() == []


@pytest.mark.anyio
async def test_a_taken_id_goes_the_long_way_and_its_record_stays() -> None:
    made = iter(["a" * 43, "a" * 43, "a" * 43, "b" * 43])
    store = SessionStore(SessionConfig(id_generator=lambda: next(made)))
    owner = await store.create({"n": 1})
    exchange = store.exchange(PlainView())
    assert exchange.settled()
    exchange.session["n"] = 2
    assert exchange.commit_now(200) is None
    [(_, line)] = await exchange.commit(200)
    assert line.startswith(f"__Host-session_id={'b' * 43};")
    assert dict(await store.get_by_id(owner.id)) == {"n": 1}
    await exchange.finish()
