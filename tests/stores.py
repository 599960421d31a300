"""Real storages in wrappers, with which a test can count, delay and fail calls, or act before and after them."""

from collections.abc import Awaitable, Callable
from typing import ClassVar, TypeVar, cast

from anyio.lowlevel import checkpoint

from sessioncore import MemoryStorage
from sessioncore.storage import LATER, AnswersNow, Call, Clears, Later, Opens, Purges, Reply
from sessioncore.testing import FailingStorage, Fault

__all__ = ["AlternatingStorage", "PromptStorage", "SpyStorage", "SuspendingStorage", "without_checks"]

T = TypeVar("T")
Step = Callable[[], Awaitable[object]]

CHECK = ["check", "create", "delete", "load", "move", "owned_keys", "replace", "touch"]


def without_checks(calls: list[str]) -> list[str]:
    """The calls without those of `SessionStore.check`: each of `CHECK` once, in any order, and no others between."""
    rest = list(calls)
    while "check" in rest:
        begin = rest.index("check")
        assert sorted(rest[begin : begin + len(CHECK)]) == CHECK
        del rest[begin : begin + len(CHECK)]
    return rest


class SpyStorage(FailingStorage):
    """A FailingStorage around its own MemoryStorage; a test can run a step before or after the next call of a name.

    `done` lists the calls that returned.
    """

    capabilities: ClassVar[frozenset[type]] = frozenset({Clears, Opens, Purges})

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.inner = MemoryStorage(clock=clock) if clock is not None else MemoryStorage()
        super().__init__(self.inner)
        self.before: dict[str, Step] = {}
        self.after: dict[str, Step] = {}
        self.done: list[str] = []

    async def _through(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        async def between_steps() -> T:
            if step := self.before.pop(name, None):
                await step()
            result = await call()
            if step := self.after.pop(name, None):
                await step()
            return result

        result = await super()._through(name, between_steps)
        self.done.append(name)
        return result


class PromptStorage(SpyStorage):
    """One that answers immediately, as a MemoryStorage does, until a test holds a call, or has a step for this one."""

    capabilities = SpyStorage.capabilities | {AnswersNow}

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        super().__init__(clock)
        self.holding = False

    def hold(self, *calls: str, times: int | None = None) -> Fault:
        self.holding = True
        return super().hold(*calls, times=times)

    def hold_reply(self, *calls: str, times: int | None = None) -> Fault:
        self.holding = True
        return super().hold_reply(*calls, times=times)

    def answer_now(self, call: Call) -> Reply | Later:
        if self.holding or call.operation in self.before or call.operation in self.after:
            return LATER
        try:
            call.invoke(self).send(None)
        except StopIteration as end:
            return cast("Reply", end.value)
        raise AssertionError("a call of the MemoryStorage has suspended")


class AlternatingStorage(PromptStorage):
    """One that answers only every other call immediately; the rest have to be awaited."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        super().__init__(clock)
        self._later = False

    def answer_now(self, call: Call) -> Reply | Later:
        self._later = not self._later
        return LATER if self._later else super().answer_now(call)


class SuspendingStorage(SpyStorage):
    """One that lets other tasks run `turns` times before and after each call, as one behind a network does."""

    def __init__(self, clock: Callable[[], float] | None = None, *, turns: int = 1) -> None:
        super().__init__(clock)
        self.turns = turns

    async def _through(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        for _ in range(self.turns):
            await checkpoint()
        result = await super()._through(name, call)
        for _ in range(self.turns):
            await checkpoint()
        return result
