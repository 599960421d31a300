"""The invariants of SessionState, Values and Loaded hold after every step of random histories.

Two tasks of one request use its session at the same time, over a storage that always
waits; another request writes and ends it, calls fail before or after their effect, and
commits are cut off.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import product
from typing import Any

import anyio
import anyio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw
from tests.kit import Lab, lose
from tests.numbers import scaled
from tests.stores import SuspendingStorage
from tests.turns import watched
from tests.views import PlainView

from sessioncore import MemoryStorage, Session, SessionError, SessionKey, Stored
from sessioncore.codec._codec import IMMUTABLE
from sessioncore.codec._record import decode_record
from sessioncore.session._changes import changes_of
from sessioncore.session._delta import NO_CHANGES
from sessioncore.session._lifecycle import Phase
from sessioncore.session._state import SessionState
from sessioncore.storage import Load

CART = SessionKey("cart", list[int], default_factory=list)


def check(state: SessionState, storage: MemoryStorage, prefix: str) -> None:
    """Check every documented invariant, and what they are for."""
    loaded, pending, in_flight = state.loaded, state.pending, state.in_flight
    assert (loaded is not None) is (state.phase is Phase.LIVE)
    assert state.former_id is None or state.phase in {Phase.ENDED, Phase.GONE}
    if in_flight is not None and in_flight.pending is not None:
        assert pending is not in_flight.pending
    assert state.dirty() or changes_of(state) is NO_CHANGES
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
    settled = settled or state.limits.write is not None  # a released session shows what is stored
    cleared = state.pending is not None and state.pending.metadata.cleared
    if settled and not cleared:  # what differs from the stored record counts as changed: else no commit would see it
        for name in values.items.keys() | stored.keys():
            if name not in changed and name not in (values.snapshots or {}):
                value = values.items[name]
                assert (value if type(value) is Raw else values.codec.encode(name, value)) == stored[name], name


class OneRequest(Lab):
    """One request with its session, over a storage that always suspends, and another request that gets in its way."""

    def __init__(self) -> None:
        super().__init__(kind=SuspendingStorage)
        self.steps = 0
        self.failed: AssertionError | None = None

    async def arrive(self) -> None:
        made = await self.store.create({"a": 1, "b": [1], "cart": [1]}, owner="ada")
        self.exchange = self.store.exchange(PlainView([f"__Host-session_id={made.id}".encode()]))
        await self.exchange.load()
        self.session: Session = self.exchange.session
        state = self.exchange.session._state  # pyright: ignore[reportPrivateUsage]
        assert state is not None
        self.state: SessionState = state

    def check(self) -> None:
        """Look at the state; the first failure is raised at the end, when all tasks have ended."""
        self.steps += 1
        try:
            check(self.state, self.storage.inner, self.store.config.key_prefix)
        except AssertionError as exc:
            self.failed = self.failed or exc

    async def step(self, operation: "Operation") -> None:
        """Run one operation of one task; its own errors do not matter here."""
        with suppress(SessionError, KeyError):
            await watched(partial(operation, self), self.check)
        self.check()

    async def settle(self) -> None:
        """End the request, and compare what it shows with what is stored."""
        shown: dict[str, Any] | None = None
        released = self.state.limits.write is not None  # then changes inside of values are shown, but not stored
        with suppress(SessionError):
            await watched(partial(self.exchange.commit, 200), self.check)
            shown = None if released else dict(self.session)
        self.check()
        await self.exchange.finish()
        self.check()
        loaded = self.state.loaded
        if shown is not None and loaded is not None:
            there = await self.storage.inner.load(self.store.config.key_prefix + loaded.handle)
            if isinstance(there, Stored) and there.version == loaded.version:
                assert dict(await self.store.get_by_id(loaded.session_id)) == shown


# -- what can happen

Change = Callable[[Session], object]
Operation = Callable[[OneRequest], Awaitable[None]]


def extended(value: list[int] | int) -> list[int]:
    return [value, 9] if isinstance(value, int) else [*value, 9]


def at_once(change: Change) -> Operation:
    async def operation(request: OneRequest) -> None:
        change(request.session)

    return operation


def elsewhere(change: Change) -> Operation:
    """Another request changes the session."""

    async def operation(request: OneRequest) -> None:
        if request.state.loaded is not None:
            async with request.store.open(request.state.loaded.session_id) as other:
                change(other)

    return operation


async def end_elsewhere(request: OneRequest) -> None:
    if request.state.loaded is not None:
        await request.store.delete(request.state.loaded.session_id)


def verb(name: str, *args: str) -> Operation:
    async def operation(request: OneRequest) -> None:
        await getattr(request.session, name)(*args)

    return operation


def fail_next(when: str, call: str) -> Operation:
    async def operation(request: OneRequest) -> None:
        getattr(request.storage, when)[call] = lose

    return operation


def cut_save(turns: int) -> Operation:
    """Begin a save, and give up after some turns of the loop."""

    async def operation(request: OneRequest) -> None:
        async def give_up() -> None:
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            scope.cancel()

        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(give_up)
                with suppress(SessionError):
                    await request.session.save()
                scope.cancel()

    return operation


def changes_to(name: str) -> Iterator[tuple[str, Change]]:
    for number in range(3):
        yield f"set {name} to {number}", partial(Session.set, key=name, value=number)
    yield f"set {name} to a list", lambda session: session.set(name, [1])
    yield f"delete {name}", partial(Session.delete, key=name)
    yield f"append to {name}", lambda session: isinstance(session[name], int) or session[name].append(7)
    yield f"mutate {name}", lambda session: session.mutate(name, extended, [])


def operations() -> Iterator[tuple[str, Operation]]:
    to_default: tuple[str, Change] = ("append to the default", lambda session: session[CART].append(5))
    for label, change in (*changes_to("a"), *changes_to("b"), *changes_to("cart"), to_default):
        yield label, at_once(change)
        yield f"another request: {label}", elsewhere(change)
    yield "another request: destroy", end_elsewhere
    for name in ("a", "b", "cart"):
        yield f"read {name}", at_once(partial(Session.get, key=name))
    yield "bind_owner", at_once(lambda session: session.bind_owner("ada"))
    yield "modified?", at_once(lambda session: session.modified)
    for use in (Session.popitem, Session.clear, Session.release):
        yield use.__name__, at_once(use)
    for name in ("save", "regenerate", "destroy", "reset"):
        yield name, verb(name)
    for owner in ("ada", "bob"):
        yield f"login {owner}", verb("login", owner)
    for when, call in product(("before", "after"), ("create", "replace", "move", "load")):
        yield f"fail {when} {call}", fail_next(when, call)
    for turns in range(8):
        yield f"save, cut off after {turns}", cut_save(turns)


OPERATIONS = dict(operations())
HISTORIES = st.lists(st.sampled_from([*OPERATIONS]) | st.just("save"), max_size=10)


@given(HISTORIES, HISTORIES)
@settings(max_examples=scaled(300))
def test_the_invariants_hold_after_every_step(first: list[str], second: list[str]) -> None:
    async def main() -> None:
        request = OneRequest()
        await request.arrive()
        request.check()

        async def task(names: list[str]) -> None:
            for name in names:
                await request.step(OPERATIONS[name])
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(task, first)
                group.start_soon(task, second)
            request.storage.before.clear()
            request.storage.after.clear()
            await request.settle()
        if request.failed is not None:
            raise request.failed
        assert request.steps > len(first) + len(second)

    anyio.run(main)
