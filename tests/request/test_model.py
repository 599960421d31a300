"""Requests that share sessions, with their verbs in any order, against a model that fits on a page (P1 to P5)."""

from collections.abc import Callable
from typing import Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.kit import Lab
from tests.numbers import scaled
from tests.views import PlainView

from sessioncore import Exchange, SessionGone, SessionNotFound, SessionStore

State = Literal["fresh", "live", "ended", "gone"]

VERBS = (
    "set", "mutate", "delete", "clear", "login ada", "login bob", "regenerate", "reset", "destroy", "save",
    "reload", "leave", "leave", "fail", "revoke", "revoke_all ada", "come back",
)  # fmt: skip
STEPS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(VERBS), st.sampled_from("abc")), min_size=5, max_size=40)


def adding(number: int) -> Callable[[int], int]:
    return lambda value: value + number


class Kept:
    """A session as it should stand in the storage."""

    def __init__(self, data: dict[str, int], owner: str | None) -> None:
        self.data = data
        self.owner = owner


class Request:
    """What one request should see, and what it should change when it commits."""

    state: State
    view: dict[str, int]
    owner: str | None

    def __init__(self, exchange: Exchange, sid: str | None, kept: Kept | None) -> None:
        self.exchange = exchange
        self.session = exchange.session
        self.sid = sid
        self.forget("fresh")
        if kept is not None:
            self.state, self.view, self.owner = "live", dict(kept.data), kept.owner
            self.settled()

    def forget(self, state: State) -> None:
        """Nothing is left but the state."""
        self.state = state
        self.view = {}
        self.owner = None
        self.settled()

    def settled(self) -> None:
        """All that was pending is stored or dropped."""
        self.base = dict(self.view)
        self.sets: dict[str, int] = {}
        self.adds: dict[str, list[int]] = {}
        self.drops: set[str] = set()
        self.login = self.rotate = self.cleared = False

    def put(self, key: str, number: int) -> None:
        self.view[key] = self.sets[key] = number
        self.drops.discard(key)
        self.adds.pop(key, None)

    def add(self, key: str, number: int) -> None:
        if key in self.sets or key in self.drops:
            self.put(key, self.view.get(key, 0) + number)
        else:
            self.view[key] = self.view.get(key, 0) + number
            self.adds.setdefault(key, []).append(number)

    def drop(self, key: str) -> None:
        self.view.pop(key, None)
        self.sets.pop(key, None)
        self.adds.pop(key, None)
        self.drops.add(key)

    @property
    def writes(self) -> bool:
        return bool(self.sets or self.adds or self.login)

    @property
    def changes(self) -> bool:
        return self.writes or self.rotate or bool(self.drops & self.base.keys())

    def reload(self, kept: Kept) -> None:
        """See what `apply` would leave, and judge later changes by what is stored."""
        self.cleared = self.cleared or (self.login and kept.owner not in (None, self.owner))
        self.drops = {key for key in self.drops if key in self.base}
        merged = Kept(dict(kept.data), kept.owner)
        self.apply(merged)
        self.base = {} if self.cleared else dict(kept.data)

    def apply(self, kept: Kept) -> None:
        if self.cleared or (self.login and kept.owner not in (None, self.owner)):
            kept.data.clear()
        for key in self.drops:
            if key in self.base:
                kept.data.pop(key, None)
        kept.data.update(self.sets)
        for key, numbers in self.adds.items():
            kept.data[key] = kept.data.get(key, 0) + sum(numbers)
        if self.login:
            kept.owner = self.owner
        self.view, self.owner = dict(kept.data), kept.owner


class World:
    """One store, three requests in flight at a time, and the model of all."""

    def __init__(self, store: SessionStore) -> None:
        self.store = store
        self.live: dict[str, Kept] = {}
        self.dead: set[str] = set()
        self.slots: dict[int, Request] = {}
        self.number = 0
        self.last: str | None = None

    async def step(self, slot: int, verb: str, key: str) -> None:
        if slot not in self.slots:
            await self.arrive(slot, self.last)
        request, session = self.slots[slot], self.slots[slot].session
        self.number += 1
        match verb.split():
            case ["set"]:
                session[key] = self.number
                request.put(key, self.number)
            case ["mutate"]:
                session.mutate(key, adding(self.number), 0)
                request.add(key, self.number)
            case ["delete"]:
                session.delete(key)
                if key in request.view:
                    request.drop(key)
            case ["clear"]:
                session.clear()
                for name in list(request.view):
                    request.drop(name)
            case ["login", owner]:
                await session.login(owner)
                if request.owner not in (None, owner):
                    request.view = {}
                    request.settled()
                    request.cleared = True
                request.owner, request.login, request.rotate = owner, True, True
            case ["regenerate"]:
                await session.regenerate()
                request.rotate = True
            case ["reset" | "destroy" as how]:
                await (session.reset() if how == "reset" else session.destroy())
                if request.state == "live":
                    self.end(request.sid)
                request.forget("ended")
            case ["revoke"]:
                ended = await self.store.revoke(session.handle)
                assert ended is (request.state == "live" and request.sid in self.live)
                if ended:
                    self.end(request.sid)
            case ["revoke_all", owner]:
                theirs = [sid for sid, kept in self.live.items() if kept.owner == owner]
                assert await self.store.revoke_all(owner) == len(theirs)
                for sid in theirs:
                    self.end(sid)
            case ["come", "back"]:  # an old cookie, dead or alive
                known = sorted({*self.live, *self.dead})
                await self.arrive(slot, known[self.number % len(known)] if known else None)
            case _:
                await self.store_changes(slot, request, verb)

    async def arrive(self, slot: int, sid: str | None) -> None:
        if slot in self.slots:
            await self.slots.pop(slot).exchange.finish(failed=True)
        exchange = self.store.exchange(PlainView([f"__Host-session_id={sid}".encode()] if sid else []))
        await exchange.load()
        self.slots[slot] = Request(exchange, sid, self.live.get(sid or ""))

    async def store_changes(self, slot: int, request: Request, verb: str) -> None:
        session, next_id, cookies = request.session, request.session.id, list[str]()
        if verb in ("save", "reload"):
            gone = False
            try:
                await (session.save() if verb == "save" else session.reload())
            except SessionGone:
                gone = True
            if verb == "save":
                self.commit(request, next_id)
            elif request.state == "live" and (kept := self.live.get(request.sid or "")) is not None:
                request.reload(kept)
            elif request.state == "live":
                request.forget("gone")
            assert gone is (request.state == "gone")
            return
        headers = await request.exchange.commit(500 if verb == "fail" else 200)
        cookies = [value for name, value in headers if name == "set-cookie"]
        if verb == "leave":
            self.commit(request, next_id)
        if cookies and "Max-Age=0" not in cookies[0]:
            self.last = cookies[0].partition("=")[2].partition(";")[0]
            assert self.last not in self.dead or request.state == "live"
        del self.slots[slot]
        await request.exchange.finish(failed=verb == "fail")

    def commit(self, request: Request, next_id: str) -> None:
        if request.state in ("fresh", "ended") and request.writes:
            assert next_id not in {*self.live, *self.dead}
            kept = self.live[next_id] = Kept({}, None)
            request.apply(kept)
            request.state, request.sid = "live", next_id
            request.settled()
        elif request.state == "live" and request.changes:
            kept_now = self.live.get(request.sid or "")
            if kept_now is None:
                request.forget("gone")
                return
            request.apply(kept_now)
            if request.rotate:
                self.end(request.sid)
                self.live[next_id] = kept_now
                request.sid = next_id
            request.settled()

    def end(self, sid: str | None) -> None:
        if sid is not None:
            self.live.pop(sid, None)
            self.dead.add(sid)

    async def compare(self) -> None:
        for request in self.slots.values():
            seen = (request.session.fresh, dict(request.session), request.session.owner)
            assert seen == (request.state != "live", request.view, request.owner), request.state
        for sid, kept in self.live.items():
            session = await self.store.get_by_id(sid)
            assert (dict(session), session.owner) == (kept.data, kept.owner)
        for sid in self.dead:
            with pytest.raises(SessionNotFound):
                await self.store.get_by_id(sid)
        for owner in ("ada", "bob"):
            listed = sorted(info.handle for info in await self.store.sessions_of(owner))
            alive = [(await self.store.get_by_id(sid)).handle for sid, k in self.live.items() if k.owner == owner]
            assert listed == sorted(alive)


@settings(max_examples=scaled(300))
@given(STEPS)
def test_requests_in_any_order_of_verbs_agree_with_the_model(steps: list[tuple[int, str, str]]) -> None:
    async def story() -> None:
        world = World(Lab().store)
        for slot, verb, key in steps:
            await world.step(slot, verb, key)
            await world.compare()
        kept = len(world.live)
        assert await world.store.reset() == kept  # nothing is stored but what the model knows of
        for request in world.slots.values():
            await request.exchange.finish(failed=True)

    anyio.run(story)
