"""Random steps on a session and on a plain dict give the same, with saves, loads and failures in between."""

import copy
from collections.abc import Callable, Coroutine, MutableMapping
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.numbers import scaled
from tests.views import Visitor

from sessioncore import SessionStore

T = TypeVar("T")


def run_through(work: Coroutine[Any, Any, T]) -> T:
    """Run work without an event loop: on a MemoryStorage nothing waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("something waited")


_KEYS = st.sampled_from(["a", "b", "c", "ä", "", "cart", "a b"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.binary(max_size=4)
_VALUES = _LEAVES | st.lists(_LEAVES, max_size=3) | st.dictionaries(_KEYS, _LEAVES, max_size=3) | st.sets(st.integers())


USES: dict[str, Callable[[MutableMapping[str, Any], str, Any], Any]] = {
    "[]": lambda mapping, key, _: mapping[key],
    "get": lambda mapping, key, _: mapping.get(key),
    "get with a default": lambda mapping, key, value: mapping.get(key, value),
    "in": lambda mapping, key, _: key in mapping,
    "del": lambda mapping, key, _: mapping.__delitem__(key),
    "pop": lambda mapping, key, _: mapping.pop(key),
    "pop with a default": lambda mapping, key, value: mapping.pop(key, value),
    "popitem": lambda mapping, _, __: mapping.popitem(),
    "setdefault": lambda mapping, key, value: mapping.setdefault(key, value),
    "clear": lambda mapping, _, __: mapping.clear(),
}


class SessionAgainstDict(RuleBasedStateMachine):
    """A session does what a dict does, however often it is saved and loaded in between."""

    def __init__(self) -> None:
        super().__init__()
        self.store = SessionStore()
        self.visitor = Visitor(self.store)
        self.model: dict[str, Any] = {}

    @initialize()
    def arrive(self) -> None:
        self.exchange = run_through(self.visitor.arrive())
        self.session = self.exchange.session

    @rule()
    def next_request(self) -> None:
        run_through(self.visitor.leave(self.exchange))
        self.arrive()

    @rule()
    def save(self) -> None:
        run_through(self.session.save())

    @rule()
    def regenerate(self) -> None:
        run_through(self.session.regenerate())

    @rule()
    def fail(self) -> None:
        """A server error loses what was not saved, and nothing else."""
        run_through(self.session.save())
        self.session["lost"] = 1
        run_through(self.visitor.leave(self.exchange, 500))
        self.arrive()

    @rule(key=_KEYS, value=_VALUES)
    def put(self, key: str, value: Any) -> None:
        self.session[key] = value
        self.model[key] = copy.deepcopy(value)

    def alike(self, work: Callable[[MutableMapping[str, Any]], Any]) -> None:
        """Do the same to both; they must return or raise the same."""
        outcomes: list[Any] = []
        for mapping in (self.session, self.model):
            try:
                outcomes.append(work(mapping))
            except KeyError:
                outcomes.append(KeyError)
        assert outcomes[0] == outcomes[1]

    @rule(work=st.sampled_from([*USES]), key=_KEYS, value=_VALUES)
    def use(self, work: str, key: str, value: Any) -> None:
        self.alike(lambda mapping: USES[work](mapping, key, copy.deepcopy(value)))

    @rule(more=st.dictionaries(_KEYS, _VALUES, max_size=3))
    def merge(self, more: dict[str, Any]) -> None:
        self.alike(lambda mapping: mapping.update(copy.deepcopy(more)))
        self.session |= copy.deepcopy(more)

    @rule(key=_KEYS, number=st.integers())
    def mutate(self, key: str, number: int) -> None:
        self.model[key] = [self.model.get(key, 0), number]
        assert self.session.mutate(key, lambda value: [value, number], 0) == self.model[key]

    @rule(number=st.integers())
    @precondition(lambda self: any(isinstance(value, (list, dict, set)) for value in self.model.values()))
    def change_in_place(self, number: int) -> None:
        name = next(name for name, value in self.model.items() if isinstance(value, (list, dict, set)))
        value: Any
        for value in (self.session[name], self.model[name]):
            if isinstance(value, list):
                value.append(number)  # pyright: ignore[reportUnknownMemberType]  # narrowed from Any
            elif isinstance(value, dict):
                value[str(number)] = [number]
            else:
                value.add(number)

    @invariant()
    def they_are_equal(self) -> None:
        if not hasattr(self, "session"):
            return
        assert list(self.session) == list(self.model)
        assert len(self.session) == len(self.model)
        assert self.session.empty is (not self.model)

    def teardown(self) -> None:
        assert dict(self.session) == self.model
        assert self.session == self.model
        self.next_request()
        assert dict(self.session) == self.model
        assert list(self.session) == list(self.model)


TestSessionAgainstDict = SessionAgainstDict.TestCase
TestSessionAgainstDict.settings = settings(max_examples=scaled(60), stateful_step_count=30)
