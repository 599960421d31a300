"""What a commit decides by: the choice of the call, and what its answer means.

The tables of phases and of verdicts stand in docs/architecture.md, against which tests/docs holds the code.
"""

from typing import Any

import pytest

from sessioncore import (
    MemoryStorage,
    Moved,
    SessionConfig,
    SessionStore,
    StorageError,
    StorageUnavailable,
    Stored,
    Unreadable,
)
from sessioncore.persistence._verdicts import VERDICTS, Verdict, verdict_of
from sessioncore.session._lifecycle import Action
from sessioncore.storage import KeyTaken


class Wrong(MemoryStorage):
    async def load(self, key: str, *, renew: float | None = None) -> Any:
        return {"data": b"", "version": 1, "ttl": 60.0}


@pytest.mark.anyio
async def test_a_load_that_the_contract_does_not_allow_is_an_error_and_no_stranger() -> None:
    with pytest.raises(StorageError, match=r"answered LOAD with a dict; see the contract in sessioncore\.Storage"):
        await SessionStore(SessionConfig(storage=Wrong())).get_by_id("A" * 43)


@pytest.mark.parametrize("action", VERDICTS, ids=lambda action: action.name)
def test_an_answer_that_the_contract_does_not_allow_is_refused(action: Action) -> None:
    answers: list[Any] = [7, 0, Stored(b"", 1, 1.0), Moved("session:new"), Unreadable(), None, True, False, "x"]
    for answer in answers:
        meaning = VERDICTS[action].get(answer.__class__)
        if action is Action.TOUCH and isinstance(answer, bool):
            meaning = Verdict.RENEWED if answer else Verdict.GONE
        if meaning is not None:
            assert verdict_of(action, answer) is meaning
        else:
            with pytest.raises(StorageError, match=r"see the contract in sessioncore\.Storage"):
                verdict_of(action, answer)
    own: Any = type("Own", (Stored,), {}, frozen=True)(b"", 1, 1.0)
    if action in (Action.REPLACE, Action.MOVE, Action.FIND):
        assert verdict_of(action, own) is VERDICTS[action][Stored]  # as a load takes it
    for base in (KeyTaken, StorageUnavailable, StorageError):  # an error of the storage's own means what its base means
        own = type("Own", (base,), {})("mine")
        assert verdict_of(action, own) is verdict_of(action, base("ours")) is VERDICTS[action][base]
