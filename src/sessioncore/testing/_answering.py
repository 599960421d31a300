"""The contract of `AnswersNow`: a call that is answered at once is done, one that is answered LATER has not begun."""

from typing import Any

from sessioncore._errors import StorageError
from sessioncore.storage import LATER, AnswersNow, Call, Create, Delete, Load, Move, Replace, Touch
from sessioncore.testing._rig import LONG, Rig, about, answers, check, holds, put, record, version


async def _reply(rig: Rig, call: Call) -> Any:
    """Make the call as the store does: at once, or awaited if the storage says LATER."""
    reply = answers(rig).answer_now(call)
    return await call.invoke(rig.storage) if reply is LATER else reply


@check(AnswersNow)
async def a_call_answered_at_once_is_done(rig: Rig) -> None:
    created = version(await _reply(rig, Create("a", b"first", LONG, "u")))
    assert await holds(rig, "a", b"first", created)
    assert await rig.storage.owned_keys("u") == ["a"]
    replaced = version(await _reply(rig, Replace("a", b"second", 200, created, None)))
    assert await holds(rig, "a", b"second", replaced)
    assert about(await rig.seconds_left("a"), 200)
    assert await rig.storage.owned_keys("u") == []
    assert await _reply(rig, Touch("a", 500)) is True
    assert about(await rig.seconds_left("a"), 500)
    await _reply(rig, Load("a", 100))
    assert about(await rig.seconds_left("a"), 100)
    moved = version(await _reply(rig, Move("a", "b", b"third", LONG, replaced, "u")))
    assert await rig.storage.load("a") is None
    assert await holds(rig, "b", b"third", moved)
    assert await rig.storage.owned_keys("u") == ["b"]
    assert await _reply(rig, Delete(("b", "missing"))) == 1
    assert await rig.storage.load("b") is None


@check(AnswersNow)
async def an_answer_at_once_is_what_the_call_returns(rig: Rig) -> None:
    assert await _reply(rig, Load("a")) is None
    assert await _reply(rig, Touch("a", LONG)) is False
    assert await _reply(rig, Replace("a", b"new", LONG, 1, None)) is None
    assert await _reply(rig, Move("a", "b", b"new", LONG, 1, None)) is None
    assert await _reply(rig, Delete(("a",))) == 0
    first = await put(rig, "a", b"first")
    second = version(await rig.storage.replace("a", b"second", LONG, version=first))
    assert await _reply(rig, Create("a", b"new", LONG, None)) is None
    for call in (
        Load("a"),
        Load("a", LONG),
        Replace("a", b"late", LONG, first, None),
        Move("a", "b", b"late", LONG, first, None),
    ):
        current = record(await _reply(rig, call))
        assert (current.data, current.version) == (b"second", second), call.operation
        assert about(current.ttl, LONG), call.operation
    assert await holds(rig, "a", b"second", second)


@check(AnswersNow)
async def a_move_onto_a_taken_key_is_refused_at_once_too(rig: Rig) -> None:
    mine, theirs = await put(rig, "a", b"mine"), await put(rig, "b", b"theirs")
    try:
        await _reply(rig, Move("a", "b", b"mine", LONG, mine, None))
    except StorageError:
        assert await holds(rig, "a", b"mine", mine)
        assert await holds(rig, "b", b"theirs", theirs)
    else:
        raise AssertionError("a move onto a taken key must raise KeyTaken")


@check(AnswersNow)
async def later_means_that_nothing_was_done(rig: Rig) -> None:
    for turn in range(5):  # a storage may answer at once this time and LATER the next time
        if answers(rig).answer_now(Create(f"new{turn}", b"data", LONG, None)) is LATER:
            assert await rig.storage.load(f"new{turn}") is None
        for number in range(5):
            key, moved_key = f"a{turn}-{number}", f"b{turn}-{number}"
            at = await put(rig, key, ttl=200)
            calls: list[Call] = [
                Touch(key, LONG),
                Load(key, LONG),
                Replace(key, b"replaced", LONG, at, None),
                Move(key, moved_key, b"moved", LONG, at, None),
                Delete((key,)),
            ]
            if answers(rig).answer_now(calls[number]) is LATER:
                assert await holds(rig, key, b"data", at), calls[number].operation
                assert about(await rig.seconds_left(key), 200), calls[number].operation
                assert await rig.storage.load(moved_key) is None
