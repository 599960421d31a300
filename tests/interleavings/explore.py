"""Every order of steps, depth first: a schedule is played from its beginning, then the next one is chosen."""

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
    """What is played again and again."""

    steps: Steps

    def begin(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Put everything back to the beginning, and return what each actor does."""
        ...

    def check(self) -> None:
        """Judge what came out of it, by AssertionError."""
        ...


class _Choice(Struct):
    options: list[str]
    taken: int
    free: bool  # nobody is interrupted by it: the one who acted last has to wait, or is through


def explore(
    scenario: Scenario, *, mirrored: bool = False, switches: int | None = None, limit: int | None = None
) -> int:
    """Play every schedule, at most `limit`; return how many.

    `mirrored`: both actors do the same, so it is enough that the first of them begins.
    `switches`: how often at most somebody is interrupted who could go on; most errors need one or two.
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
            assert choice.options == options, "the same schedule went another way: something in it is left to chance"
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
    """Whether every option of the last choice was taken that may be taken."""
    choice = path[-1]
    if choice.taken + 1 == len(choice.options):
        return True
    if switches is None or choice.free:
        return False
    return sum(1 for before in path[:-1] if before.taken and not before.free) >= switches


def draw(scenario: Scenario, seed: object, times: int) -> int:
    """Play some schedules, drawn by a seed; return how many."""
    lots = random.Random(str(seed))
    for _ in range(times):
        _play(scenario, lots.choice)
    return times


def replay(scenario: Scenario, schedule: str) -> None:
    """Play the one schedule that a failure named."""
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
        for _ in range(_ENDLESS):  # the steps without a choice count, too: a core that runs in circles is a fault
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
            assert task.done(), "somebody waits for ever"
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
