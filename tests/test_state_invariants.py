"""What the docstrings of SessionState, Values and Loaded promise, after every step of random histories.

Two tasks of one request use its session at the same time, over a storage that always
waits; another request writes and ends it, calls fail before or after their effect, and
commits are cut off.
"""

from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from types import coroutine
from typing import Any

import anyio
import anyio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct
from tests.numbers import scaled
from tests.stores import SuspendingStorage
from tests.views import PlainView

from sessioncore import (
    MemoryStorage,
    Session,
    SessionConfig,
    SessionError,
    SessionKey,
    SessionStore,
    StorageUnavailable,
    Stored,
)
from sessioncore.codec._codec import IMMUTABLE
from sessioncore.codec._record import decode_record
from sessioncore.session._changes import changes_of
from sessioncore.session._lifecycle import Phase
from sessioncore.session._state import SessionState
from sessioncore.storage import Load

CART = SessionKey("cart", list[int], default_factory=list)


def check(state: SessionState, storage: MemoryStorage, prefix: str) -> None:
    """Every invariant that is written down, and what they are for."""
    loaded, pending, in_flight = state.loaded, state.pending, state.in_flight
    assert (loaded is not None) is (state.phase is Phase.LIVE)
    assert state.former_id is None or state.phase in {Phase.ENDED, Phase.GONE}
    if in_flight is not None and in_flight.pending is not None:
        assert pending is not in_flight.pending
    assert state.dirty() or changes_of(state) is None
    check_values(state)
    if loaded is not None:
        there = storage.answer_now(Load(prefix + loaded.handle))
        if isinstance(there, Stored) and there.version == loaded.version:
            assert decode_record(there.data, 65536) == loaded.record


def check_values(state: SessionState) -> None:
    values, loaded = state.values, state.loaded
    stored = {} if loaded is None else loaded.record.data
    changed = dict[str, Any]() if state.pending is None else state.pending.changes
    settled = state.in_flight is None
    for name, value in values.items.items():
        if type(value) is Raw:
            assert name not in (values.snapshots or {})
            assert name not in changed
            assert not settled or value == stored[name], name
    for name, raw in (values.snapshots or {}).items():
        assert not settled or raw == stored[name], name
        if settled and name not in changed:
            assert type(values.items[name]) not in IMMUTABLE
    settled = settled or state.unusable is not None  # a released session shows what is stored, whatever is under way
    cleared = state.pending is not None and state.pending.metadata.cleared
    if settled and not cleared:  # what differs from what is stored shows as changed: else no commit would see it
        for name in values.items.keys() | stored.keys():
            if name not in changed and name not in (values.snapshots or {}):
                value = values.items[name]
                assert (value if type(value) is Raw else values.codec.encode(name, value)) == stored[name], name


class House:
    """One request with its session, and another one that gets in its way."""

    def __init__(self) -> None:
        self.storage = SuspendingStorage()
        self.store = SessionStore(SessionConfig(storage=self.storage))
        self.steps = 0
        self.failed: AssertionError | None = None

    async def begin(self) -> None:
        made = await self.store.create({"a": 1, "b": [1], "cart": [1]}, owner="ada")
        self.exchange = self.store.exchange(PlainView([f"__Host-session_id={made.id}".encode()]))
        await self.exchange.load()
        self.session: Session = self.exchange.session
        state = self.exchange.session._state  # pyright: ignore[reportPrivateUsage]
        assert state is not None
        self.state: SessionState = state

    def check(self) -> None:
        """Look at the state; the first failure is raised at the end, when all tasks are through."""
        self.steps += 1
        try:
            check(self.state, self.storage.inner, self.store.config.key_prefix)
        except AssertionError as exc:
            self.failed = self.failed or exc

    async def step(self, operation: "Operation") -> None:
        """One operation of one task; what it meets is no concern here."""
        with suppress(SessionError, KeyError):
            await self.watched(partial(operation, self))
        self.check()

    async def watched(self, work: Callable[[], Awaitable[Any]]) -> None:
        """Await `work()`, with a look at the state whenever it suspends."""
        await _watched(_once(work), self.check)

    async def settle(self) -> None:
        """End the request, and compare what it shows with what is stored."""
        shown: dict[str, Any] | None = None
        released = self.state.unusable is not None  # then what changed inside a value shows, and is stored nowhere
        with suppress(SessionError):
            await self.watched(partial(self.exchange.commit, 200))
            shown = None if released else dict(self.session)
        self.check()
        await self.exchange.finish()
        self.check()
        loaded = self.state.loaded
        if shown is not None and loaded is not None:
            there = await self.storage.inner.load(self.store.config.key_prefix + loaded.handle)
            if isinstance(there, Stored) and there.version == loaded.version:
                assert dict(await self.store.get_by_id(loaded.session_id)) == shown


async def _once(work: Callable[[], Awaitable[Any]]) -> Any:
    return await work()


@coroutine
def _watched(work: Awaitable[Any], look: Callable[[], None]) -> Generator[Any, Any, Any]:
    steps = work.__await__()
    send: Callable[[], Any] = partial(next, steps)
    while True:
        try:
            suspended = send()
        except StopIteration as stop:
            return stop.value
        look()
        try:
            sent = yield suspended
        except BaseException as exc:  # noqa: BLE001 - passed on to where `work` sleeps
            send = partial(steps.throw, exc)
        else:
            send = partial(steps.send, sent)


# -- what can happen

Change = Callable[[Session], object]
Operation = Callable[[House], Awaitable[None]]


def put(name: str, value: int | list[int]) -> Change:
    return lambda session: session.set(name, value.copy() if isinstance(value, list) else value)


def drop(name: str) -> Change:
    return lambda session: session.delete(name)


def read(name: str) -> Change:
    return lambda session: session.get(name)


def grow(name: str) -> Change:
    def change(session: Session) -> None:
        value = session[name]
        if not isinstance(value, int):
            value.append(7)

    return change


def mutate(name: str) -> Change:
    def extended(value: list[int] | int) -> list[int]:
        return [value, 9] if isinstance(value, int) else [*value, 9]

    return lambda session: session.mutate(name, extended, [])


def grow_default(session: Session) -> None:
    session[CART].append(5)


def at_once(change: Change) -> Operation:
    async def operation(house: House) -> None:
        change(house.session)

    return operation


def elsewhere(change: Change) -> Operation:
    """Another request changes the session."""

    async def operation(house: House) -> None:
        if house.state.loaded is not None:
            async with house.store.open(house.state.loaded.session_id) as other:
                change(other)

    return operation


async def end_elsewhere(house: House) -> None:
    if house.state.loaded is not None:
        await house.store.delete(house.state.loaded.session_id)


def verb(name: str, *args: str) -> Operation:
    async def operation(house: House) -> None:
        await getattr(house.session, name)(*args)

    return operation


def fail_next(when: str, call: str) -> Operation:
    async def lose() -> None:
        raise StorageUnavailable("lost")

    async def operation(house: House) -> None:
        getattr(house.storage, when)[call] = lose

    return operation


def cut_save(turns: int) -> Operation:
    """Begin a save, and give up after some turns of the loop."""

    async def operation(house: House) -> None:
        async def give_up() -> None:
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            scope.cancel()

        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(give_up)
                with suppress(SessionError):
                    await house.session.save()
                scope.cancel()

    return operation


class Step(Struct, frozen=True):
    """An operation with a name that a failing example can show."""

    name: str
    run: Operation

    def __repr__(self) -> str:
        return self.name


def changes() -> Iterator[tuple[str, Change]]:
    for name in ("a", "b", "cart"):
        for number in range(3):
            yield f"set {name} to {number}", put(name, number)
        yield f"set {name} to a list", put(name, [1])
        yield f"delete {name}", drop(name)
        yield f"append to {name}", grow(name)
        yield f"mutate {name}", mutate(name)
    yield "append to the default", grow_default


def steps() -> Iterator[tuple[str, Operation]]:
    for label, change in changes():
        yield label, at_once(change)
        yield f"another request: {label}", elsewhere(change)
    yield "another request: destroy", end_elsewhere
    for name in ("a", "b", "cart"):
        yield f"read {name}", at_once(read(name))
    yield "popitem", at_once(lambda session: session.popitem())
    yield "clear", at_once(lambda session: session.clear())
    yield "bind_owner", at_once(lambda session: session.bind_owner("ada"))
    yield "release", at_once(lambda session: session.release())
    yield "modified?", at_once(lambda session: session.modified)
    for name in ("save", "regenerate", "destroy", "reset"):
        yield name, verb(name)
    for owner in ("ada", "bob"):
        yield f"login {owner}", verb("login", owner)
    for when, call in product(("before", "after"), ("create", "replace", "move", "load")):
        yield f"fail {when} {call}", fail_next(when, call)
    for turns in range(8):
        yield f"save, cut off after {turns}", cut_save(turns)


STEPS = [Step(name, run) for name, run in steps()]
SAVE = next(step for step in STEPS if step.name == "save")
HISTORIES = st.lists(st.sampled_from(STEPS) | st.just(SAVE), max_size=10)


@given(HISTORIES, HISTORIES)
@settings(max_examples=scaled(300))
def test_the_invariants_hold_after_every_step(first: list[Step], second: list[Step]) -> None:
    async def main() -> None:
        house = House()
        await house.begin()
        house.check()

        async def task(operations: list[Step]) -> None:
            for operation in operations:
                await house.step(operation.run)
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(task, first)
                group.start_soon(task, second)
            house.storage.before.clear()
            house.storage.after.clear()
            await house.settle()
        if house.failed is not None:
            raise house.failed
        assert house.steps > len(first) + len(second)

    anyio.run(main)
