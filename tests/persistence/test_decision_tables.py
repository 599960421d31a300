"""How a commit decides: which call it makes, and what the answer means.

The tables of phases and of verdicts are in docs/architecture.md; tests/docs compares them with the code.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest
from tests.kit import Lab
from tests.stores import PromptStorage, SpyStorage
from tests.views import Visitor

from sessioncore import MemoryStorage, SessionConfig, SessionStore, StorageError, StorageUnavailable, Stored, Unreadable
from sessioncore.codec._codec import NO_DETAILS
from sessioncore.codec._record import Record, encode_record
from sessioncore.persistence._verdicts import VERDICTS, Verdict, verdict_of
from sessioncore.session._lifecycle import Action
from sessioncore.storage import AnswersNow, Clears, KeyTaken, LoadsMany, Moved, Opens, Purges, SpreadsKeys, Watches

pytestmark = pytest.mark.anyio


class Wrong(SpyStorage):
    """Each call returns `given`, which the contract does not allow."""

    capabilities: ClassVar[frozenset[type]] = frozenset({Clears, LoadsMany, Purges, SpreadsKeys})
    given: Any = None

    async def wrong(self, *_: object, **__: object) -> Any:
        return self.given

    load = create = replace = move = touch = delete = owned_keys = load_many = wrong
    names_on_servers = clear = purge_expired = wrong


class WrongAtOnce(Wrong):
    capabilities: ClassVar[frozenset[type]] = Wrong.capabilities - {LoadsMany} | {AnswersNow}

    def answer_now(self, call: object) -> Any:
        return self.given


async def visit(store: SessionStore) -> None:
    async with Visitor(store, sid="A" * 43).request() as session:
        session.get("n")


def stored(**wrong: Any) -> Stored:
    """A record with a field that is wrong."""
    now = time.time()
    record = Record(now, now, None, "ada", NO_DETAILS, {})
    fields: dict[str, Any] = {"data": encode_record(record, 1000), "version": 1, "ttl": 60.0}
    return Stored(**{**fields, **wrong})


no_text: Any = b"session:key"
moved_to_bytes = Moved(no_text)

WRONG: list[tuple[str, Any, Callable[[SessionStore], Awaitable[object]]]] = [
    *[("load", stored(**wrong), visit) for wrong in ({"data": "{}"}, {"data": None}, {"ttl": "60"}, {"ttl": None})],
    ("load", stored(ttl="60"), lambda store: store.get_by_id("A" * 43)),
    ("load", stored(data={}), lambda store: store.revoke("a" * 64, owner="ada")),
    ("load", moved_to_bytes, lambda store: store.revoke("a" * 64, owner="ada")),
    ("load", {"data": b"", "version": 1, "ttl": 60.0}, lambda store: store.get_by_id("A" * 43)),
    ("load", {"data": b"", "version": 1, "ttl": 60.0}, visit),
    ("load", True, lambda store: store.revoke("a" * 64, owner="ada")),
    ("create", "1", lambda store: store.create({})),
    ("delete", None, lambda store: store.delete("A" * 43)),
    ("delete", "1", lambda store: store.revoke("a" * 64)),
    *[("names_on_servers", names, SessionStore.check) for names in (None, [""], {"": ("a", "b")})],
    ("clear", None, SessionStore.reset),
    ("purge_expired", "1", SessionStore.purge_expired),
    ("owned_keys", None, lambda store: store.sessions_of("ada")),
    ("owned_keys", b"keys", lambda store: store.sessions_of("ada")),
    ("owned_keys", [b"key"], lambda store: store.revoke_all("ada")),
]


@pytest.mark.parametrize("kind", [Wrong, WrongAtOnce])
@pytest.mark.parametrize(("call", "given", "ask"), WRONG)
async def test_a_reply_that_the_contract_does_not_allow_is_an_error_that_names_storage_and_call(
    call: str, given: Any, ask: Callable[[SessionStore], Awaitable[object]], kind: type[Wrong]
) -> None:
    storage = kind()
    storage.given = given
    with pytest.raises(
        StorageError,
        match=rf"^{kind.__name__}\.{call} returned a \w+( whose \w+ is a \w+)?; see the contract in sessioncore",
    ):
        await ask(SessionStore(SessionConfig(storage=storage)))


@pytest.mark.parametrize(("replies", "told"), [
    ([], "0 records instead of 1"), ([None, None], "2 records instead of 1"), (None, "a NoneType"),
    ([stored(data="")], "a Stored whose data is a str"), ([stored(ttl=None)], "a Stored whose ttl is a NoneType"),
])  # fmt: skip
async def test_many_loads_with_a_wrong_reply_are_an_error_too(replies: Any, told: str) -> None:
    class Odd(MemoryStorage):
        capabilities = frozenset({AnswersNow, LoadsMany})

        async def load_many(self, keys: object) -> Any:
            return replies

    store = SessionStore(SessionConfig(storage=Odd()))
    handle = (await store.create({}, owner="ada")).handle
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: store.sessions_of("ada"), lambda: store.revoke(handle, owner="ada")
    ]  # fmt: skip
    for ask in asked:
        with pytest.raises(StorageError, match=rf"^Odd\.load(_many)? returned {told}; see the contract"):
            await ask()


async def test_a_method_that_is_not_async_and_an_attribute_that_is_no_number_are_errors_too() -> None:
    class Odd(SpyStorage):
        capabilities = frozenset({Opens, Watches})
        notices_within = "1 s"
        open = aclose = watch = unwatch = confirm = lambda *_: None  # type: ignore[assignment]

    store = SessionStore(SessionConfig(storage=Odd()))
    with pytest.raises(StorageUnavailable, match=r"storage Odd failed during open \(TypeError\)"):
        await store.start()
    with pytest.raises(StorageError, match=r"^Odd\.aclose returned a NoneType; see the contract"):
        await store.aclose()
    session = await store.create({})
    with pytest.raises(StorageError, match=r"^Odd\.notices_within returned a str; see the contract"):
        async with session.alive():
            pass


async def test_a_conflict_with_a_wrong_record_is_an_error_too() -> None:
    class Odd(PromptStorage):
        async def replace(self, *_: Any, **__: Any) -> Any:
            return stored(data="")

    session = await Lab(kind=Odd).held()
    session["n"] = 2
    with pytest.raises(StorageError, match=r"^Odd\.replace returned a Stored whose data is a str; see the contract"):
        await session.save()


@pytest.mark.parametrize("answers", [frozenset[type](), frozenset({AnswersNow})])
async def test_a_write_whose_reply_is_wrong_may_have_arrived(answers: frozenset[type]) -> None:
    class Odd(PromptStorage):
        capabilities = answers

        async def replace(self, *given: Any, **named: Any) -> Any:
            return str(await super().replace(*given, **named))

    lab = Lab(kind=Odd)
    session = await lab.held()
    session["n"] = 2
    with pytest.raises(StorageError, match=r"Odd\.replace returned a str"):
        await session.save()
    await session.save()  # finds that the write arrived
    assert (lab.calls.count("replace"), await lab.data()) == (1, {"n": 2})


@pytest.mark.parametrize("action", VERDICTS, ids=lambda action: action.name)
def test_an_answer_that_the_contract_does_not_allow_is_refused(action: Action) -> None:
    answers: list[Any] = [7, 0, Stored(b"", 1, 1.0), Moved("session:new"), Unreadable(), None, True, False, "x"]
    for answer in answers:
        meaning = VERDICTS[action].get(answer.__class__)
        if action is Action.TOUCH and isinstance(answer, bool):
            meaning = Verdict.RENEWED if answer else Verdict.GONE
        assert verdict_of(action, answer) is meaning
    own: Any = type("Own", (Stored,), {}, frozen=True)(b"", 1, 1.0)
    if action in (Action.REPLACE, Action.MOVE, Action.FIND):
        assert verdict_of(action, own) is VERDICTS[action][Stored]  # as in a load
    for base in (KeyTaken, StorageUnavailable, StorageError):  # an error of the storage's own means what its base means
        own = type("Own", (base,), {})("mine")
        assert verdict_of(action, own) is verdict_of(action, base("ours")) is VERDICTS[action][base]
