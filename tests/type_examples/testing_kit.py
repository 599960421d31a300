"""Tests of an application: a visitor who is signed in, a clock moved by hand, a storage that fails when told to."""

from typing import assert_type

import anyio

from sessioncore import MemoryStorage, SessionConfig, SessionStore, StorageUnavailable
from sessioncore.testing import STORAGE_CHECKS, Check, FailingStorage, Fault, ManualClock, Rig, SignedIn, sign_in


async def main() -> None:
    clock = ManualClock()
    storage = FailingStorage(MemoryStorage(clock=clock))
    store = SessionStore(SessionConfig(storage=storage, clock=clock))
    visitor = await sign_in(store, "ada", {"cart": ["tea"]}, device="test")
    assert_type(visitor, SignedIn)
    assert_type(visitor.cookies, dict[str, str])

    with storage.fail("load") as fault:
        assert_type(fault, Fault)
        try:
            await store.get_by_id(visitor.session_id)
        except StorageUnavailable:
            clock.advance(1)
    async with store.open(visitor.session_id) as session:
        assert session["cart"] == ["tea"]


async def check_all(rig: Rig) -> None:
    assert_type(STORAGE_CHECKS, tuple[Check, ...])
    for check in STORAGE_CHECKS:
        await check(rig)


if __name__ == "__main__":
    anyio.run(main)
