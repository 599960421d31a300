"""The contract of `BoundsCalls`: a call that gets no answer ends in time, with StorageUnavailable."""

from collections.abc import Awaitable, Callable

import anyio

from sessioncore._errors import StorageUnavailable
from sessioncore.storage import BoundsCalls
from sessioncore.testing._rig import LONG, NotApplicable, Rig, check, holds, put, storage_as, version

SECONDS = 0.2
IN_TIME = 2.0  # seconds: well above SECONDS, for slow machines, and well below the usual timeouts of drivers


@check(BoundsCalls)
async def bounded_calls_work_as_before(rig: Rig) -> None:
    assert type(storage_as(rig, BoundsCalls).bound_calls(60)) is bool
    assert type(storage_as(rig, BoundsCalls).bound_calls(30)) is bool
    first = await put(rig, "a", b"first")
    second = version(await rig.storage.replace("a", b"second", LONG, version=first))
    third = version(await rig.storage.move("a", "b", b"third", LONG, version=second))
    assert await holds(rig, "b", b"third", third)


@check(BoundsCalls)
async def a_call_without_an_answer_ends_in_time(rig: Rig) -> None:
    if rig.silence is None:
        raise NotApplicable("this rig has no `silence`, in which the server behind the storage answers nothing")
    if not storage_as(rig, BoundsCalls).bound_calls(SECONDS):
        raise NotApplicable("this storage cannot bound its calls: bound_calls() returned False")
    storage_as(rig, BoundsCalls).bound_calls(60)  # the smallest bound holds
    at = await put(rig, "a")
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "load": lambda: rig.storage.load("a"),
        "create": lambda: rig.storage.create("b", b"data", LONG),
        "replace": lambda: rig.storage.replace("a", b"new", LONG, version=at),
        "move": lambda: rig.storage.move("a", "c", b"new", LONG, version=at),
    }
    for name, call in calls.items():
        async with rig.silence():
            assert await _ends_unavailable(call), name


async def _ends_unavailable(call: Callable[[], Awaitable[object]]) -> bool:
    with anyio.move_on_after(IN_TIME):
        try:
            await call()
        except StorageUnavailable:
            return True
    return False
