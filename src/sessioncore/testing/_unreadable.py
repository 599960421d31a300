"""The contract of `Unreadable`: what the storage did not write is reported, kept, and removed on request only."""

from sessioncore.storage import Unreadable
from sessioncore.testing._rig import LONG, Rig, check, holds, make_unreadable, move_is_refused, purge, put


@check()
async def what_is_unreadable_is_never_overwritten(rig: Rig) -> None:
    at, other = await put(rig, "a"), await put(rig, "b", b"other")
    await make_unreadable(rig, "a")
    for renew in (None, LONG):
        assert await rig.storage.load("a", renew=renew) == Unreadable()
    for known in (0, at):
        assert await rig.storage.replace("a", b"new", LONG, version=known) == Unreadable()
        assert await rig.storage.move("a", "c", b"new", LONG, version=known) == Unreadable()
    assert await rig.storage.touch("a", LONG) is False
    assert await rig.storage.create("a", b"new", LONG) is None
    assert await move_is_refused(rig, "b", "a", other), "a move onto what cannot be read must raise KeyTaken"
    assert await holds(rig, "b", b"other", other)
    await purge(rig)
    assert await rig.storage.load("a") == Unreadable(), "these calls, and a purge, leave it as it is"
    assert await rig.storage.load("c") is None


@check()
async def what_is_unreadable_may_be_deleted(rig: Rig) -> None:
    await put(rig, "a")
    await make_unreadable(rig, "a")
    await rig.storage.delete("a")
    assert await rig.storage.load("a") is None
    new = await put(rig, "a", b"new")
    assert await holds(rig, "a", b"new", new)
