"""Plays every order of steps, depth first: each schedule is played from its beginning."""

import random
from asyncio import Task
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

from msgspec import Struct
from tests.interleavings.hand_loop import HandLoop
from tests.interleavings.stepping import ACTOR, Steps

__all__ = ["Scenario", "draw", "explore", "replay"]

Choose = Callable[[list[str]], str]

_ENDLESS = 2000  # steps of one schedule


class Scenario(Protocol):
    """What is played once for each schedule."""

    steps: Steps

    def begin(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Restore the initial state, and return what each actor does."""
        ...

    def check(self) -> None:
        """Raise AssertionError if the outcome is wrong."""
        ...


class _Choice(Struct):
    options: list[str]
    taken: int
    free: bool  # it interrupts nobody: the actor that acted last has to wait, or has finished


def explore(
    scenario: Scenario, *, mirrored: bool = False, switches: int | None = None, limit: int | None = None
) -> int:
    """Play every schedule, but at most `limit` of them; return how many were played.

    `mirrored`: both actors do the same, so it is enough to play the schedules in which the first one begins.
    `switches`: how often, at most, an actor that could go on is interrupted; most errors need one or two.
    """
    path: list[_Choice] = []
    played = 0
    while True:
        chosen = iter(path[:])
        fresh: list[_Choice] = []
        last = ""

        def choose(ready: list[str], chosen: Iterator[_Choice] = chosen, fresh: list[_Choice] = fresh) -> str:
            nonlocal last
            options = sorted(ready, key=lambda actor: actor != last)
            choice = next(chosen, None)
            if choice is None:
                choice = _Choice(options, 0, options[0] != last)
                fresh.append(choice)
            assert choice.options == options, "the same schedule took another course: it depends on chance"
            last = options[choice.taken]
            return last

        _play(scenario, choose)
        played += 1
        path += fresh
        while path and (_is_done(path, switches) or (mirrored and len(path) == 1)):
            path.pop()
        if not path or played == limit:
            return played
        path[-1].taken += 1


def _is_done(path: list[_Choice], switches: int | None) -> bool:
    """Whether no further option of the last choice may be taken."""
    choice = path[-1]
    if choice.taken + 1 == len(choice.options):
        return True
    if switches is None or choice.free:
        return False
    return sum(1 for before in path[:-1] if before.taken and not before.free) >= switches


def draw(scenario: Scenario, seed: object, times: int) -> int:
    """Play `times` schedules, drawn at random with this seed; return how many."""
    lots = random.Random(str(seed))
    for _ in range(times):
        _play(scenario, lots.choice)
    return times


def replay(scenario: Scenario, schedule: str) -> None:
    """Play the one schedule that the message of a failure contains."""
    letters = iter(schedule)
    _play(scenario, lambda ready: next(letters))


def _play(scenario: Scenario, choose: Choose) -> None:
    steps, schedule = scenario.steps, list[str]()
    loop: HandLoop = steps.loop
    loop.forget()
    actors = scenario.begin()
    steps.begin()
    tasks: list[Task[None]] = []
    for name, work in actors.items():
        token = ACTOR.set(name)
        tasks.append(loop.create_task(work))  # with a copy of the context
        ACTOR.reset(token)
    loop.settle()
    try:
        for _ in range(_ENDLESS):  # steps without a choice count as well: a core that never finishes is a fault
            ready = steps.ready()
            if ready:
                actor = ready[0] if len(ready) == 1 else choose(ready)
                if len(ready) > 1:
                    schedule.append(actor)
                steps.let(actor)
            elif all(task.done() for task in tasks) or not loop.pass_time():
                break
        steps.open = True
        for task in tasks:
            assert task.done(), "an actor waits for ever"
            task.result()
        scenario.check()
        assert not loop.errors, loop.errors
    except Exception as error:
        what = str(error) if isinstance(error, AssertionError) else repr(error)
        raise AssertionError(f"{scenario!r}, schedule {''.join(schedule)!r}: {what}") from error
    finally:
        steps.open = True
        for task in tasks:
            task.cancel()
        loop.settle()
        loop.errors.clear()
