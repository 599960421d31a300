"""The helpers of users' own tests: a visitor who is signed in, and a storage that fails when it is told to."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.kit import BOTH_LOOPS
from tests.storage.rigs import manual_rig

from sessioncore import (
    ConfigError,
    MemoryStorage,
    SessionConfig,
    SessionStore,
    StorageUnavailable,
    chain,
    from_cookie,
    from_header,
    from_query,
)
from sessioncore.testing import STORAGE_CHECKS, Check, FailingStorage, Fault, ManualClock, sign_in
from sessioncore_asgi import SessionMiddleware, get_session

pytestmark = pytest.mark.anyio


async def me(request: Request) -> JSONResponse:
    session = await get_session(request)
    return JSONResponse({"owner": session.owner, "data": dict(session), "details": session.details})


async def test_a_signed_in_visitor_is_known_by_cookie_and_by_header() -> None:
    store = SessionStore(SessionConfig(extractor=chain(from_cookie("__Host-sid"), from_header("X-Session"))))
    visitor = await sign_in(store, "ada", {"cart": ["tea"]}, device="laptop")
    app = SessionMiddleware(Starlette(routes=[Route("/", me)]), store)
    expected = {"owner": "ada", "data": {"cart": ["tea"]}, "details": {"device": "laptop"}}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://testserver") as client:
        assert (await client.get("/")).json()["owner"] is None
        assert (await client.get("/", headers={"X-Session": visitor.session_id})).json() == expected
        assert (await client.get("/", headers=visitor.headers)).json() == expected
        client.cookies.update(visitor.cookies)
        assert (await client.get("/")).json() == expected
    assert visitor.session_id not in repr(visitor)
    assert [info.handle for info in await store.sessions_of("ada")] == [visitor.handle]


async def test_a_store_that_no_client_can_reach_is_refused() -> None:
    with pytest.raises(ConfigError):
        await sign_in(SessionStore(SessionConfig(extractor=from_query("sid"))))


# -- a storage that fails when it is told to

CALLS: dict[str, Callable[[FailingStorage], Awaitable[object]]] = {
    "load": lambda storage: storage.load("a"), "create": lambda storage: storage.create("b", b"data", 60),
    "replace": lambda storage: storage.replace("a", b"data", 60, version=0),
    "move": lambda storage: storage.move("a", "b", b"data", 60, version=0),
    "touch": lambda storage: storage.touch("a", 60), "delete": lambda storage: storage.delete("a"),
    "clear": lambda storage: storage.clear("a"), "owned_keys": lambda storage: storage.owned_keys("ada"),
    "purge_expired": lambda storage: storage.purge_expired(), "open": lambda storage: storage.open(),
    "scan": lambda storage: anext(storage.scan(""), None), "check": lambda storage: storage.check(),
    "aclose": lambda storage: storage.aclose(),
}  # fmt: skip


async def is_down(storage: FailingStorage, call: str) -> bool:
    try:
        await CALLS[call](storage)
    except StorageUnavailable:
        return True
    return False


@pytest.mark.parametrize("check", STORAGE_CHECKS)
async def test_a_failing_storage_without_faults_is_a_storage_like_any_other(check: Check) -> None:
    clock = ManualClock()
    await check(manual_rig(FailingStorage(MemoryStorage(clock=clock)), clock))


async def test_a_call_that_is_to_fail_does_nothing_and_the_others_go_on() -> None:
    for call in CALLS:
        memory = MemoryStorage()
        storage = FailingStorage(memory)
        await storage.create("a", b"data", 60)
        storage.fail(call)
        assert await is_down(storage, call)
        assert len(memory) == 1
        assert [other for other in CALLS if other != call and await is_down(storage, other)] == []
        storage.restore()
        assert not await is_down(storage, call)


async def test_a_fault_without_names_breaks_every_call_except_closing() -> None:
    storage = FailingStorage(MemoryStorage())
    with storage.fail():
        assert [call for call in CALLS if not await is_down(storage, call)] == ["aclose"]
    assert [call for call in CALLS if await is_down(storage, call)] == []
    assert storage.calls == [*CALLS, *CALLS]


async def test_a_fault_breaks_the_given_number_of_calls_with_the_given_error() -> None:
    storage = FailingStorage(MemoryStorage())
    fault = storage.fail("load", "touch", error=OSError("no route"), times=2)
    assert not fault.entered.is_set()
    for call in ("load", "touch"):
        with pytest.raises(OSError, match="no route"):
            await CALLS[call](storage)
    assert fault.entered.is_set()
    assert not await is_down(storage, "load")


async def test_faults_of_one_call_apply_in_the_order_in_which_they_were_set() -> None:
    memory = MemoryStorage()
    storage = FailingStorage(memory)
    storage.fail("create", times=1)
    storage.lose_reply("create", times=1)
    for records in (0, 1):
        assert await is_down(storage, "create")
        assert len(memory) == records
    assert await storage.create("b", b"data", 60) is None


@BOTH_LOOPS
@pytest.mark.parametrize("late", [False, True])
async def test_a_held_call_goes_on_when_it_is_released_and_ends_with_storage_timeout(late: bool) -> None:
    memory = MemoryStorage()
    storage = FailingStorage(memory)
    hold: Callable[..., Fault] = storage.hold_reply if late else storage.hold
    results: list[Any] = []

    async def create(key: str) -> None:
        results.append(await storage.create(key, b"data", 60))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            held = hold("create", times=1)
            tasks.start_soon(create, "a")
            await held.entered.wait()
            assert (len(memory), results) == (int(late), [])
            await create("b")
            assert len(results) == 1
            held.release()
        assert len(results) == len(memory) == 2
        store = SessionStore(SessionConfig(storage=storage, storage_timeout=timedelta(seconds=0.02)))
        sid = (await store.create({"n": 1})).id
        hold("load")
        with pytest.raises(StorageUnavailable):
            await store.get_by_id(sid)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(storage.load, "a")
            await anyio.wait_all_tasks_blocked()
            storage.restore()  # releases the other held calls
    assert (await store.get_by_id(sid))["n"] == 1


def test_a_fault_of_an_unknown_call_is_refused() -> None:
    storage = FailingStorage(MemoryStorage())
    with pytest.raises(ConfigError, match="laod"):
        storage.fail("load", "laod")
    assert repr(storage) == "<FailingStorage <MemoryStorage records=0 max_sessions=None>>"
