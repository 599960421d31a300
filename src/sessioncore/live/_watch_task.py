"""The task that watches the sessions of all open connections of one store in one event loop.

The storage reports that a record has changed, and the clock that a session's end is due. Both only
make the task load the record, and the record decides. Once in each `watch_interval` the storage confirms
that no change was missed; if it cannot, all records are loaded. A connection whose session cannot
be loaded for too long is closed, too, so no end stays unnoticed for ever.
"""

import logging
from contextlib import suppress
from functools import partial
from math import inf
from operator import itemgetter
from random import random
from time import monotonic
from types import NoneType
from typing import cast

import anyio

from sessioncore._config import stale_id_window
from sessioncore._errors import SessionError, SessionGone, StorageError, StorageUnavailable
from sessioncore._events import EventKind
from sessioncore._storage_calls import Moved, Reply, Touch
from sessioncore._storage_capabilities import Watches
from sessioncore.concurrency._background import run_in_background
from sessioncore.concurrency._event_loops import asyncio_loop, caller_from_any_thread, event_loop
from sessioncore.concurrency._gather import MAX_CONCURRENT_CALLS
from sessioncore.concurrency._standstill import MORE_TIME, STOOD_STILL
from sessioncore.concurrency._task_group import TaskGroup
from sessioncore.live._agenda import Agenda
from sessioncore.live._session_watch import SessionWatch
from sessioncore.persistence._driver import Driver
from sessioncore.persistence._machine import unexpected_answer
from sessioncore.persistence._store_context import StoreContext
from sessioncore.session._loaded import Loaded
from sessioncore.session._protocols import OnEnd
from sessioncore.session._state import SessionState

__all__ = ["WatchTask"]

_logger = logging.getLogger("sessioncore")
_BATCH = 500  # keys of one look-up
_LONGEST_RETRY = 0.5  # seconds between a failed look-up and the next one, at most
_CANCELLED = "no open connection ends with its session until another one begins: the watch task was cancelled"
_FAILED = "the sessions of open connections could not be looked up"
_PATIENCE = 1.0  # seconds without a reply, after which a session whose end is due counts as unanswered for
_SHORTEST_WAIT = 0.01  # seconds to the next look-up of a record whose time to live has nearly ended


class WatchTask:
    """The watches of one store in one event loop: create it there. The task runs while there are watches."""

    __slots__ = (
        "_agenda", "_call_soon", "_confirm_at", "_context", "_driver", "_group", "_interval", "_longest_round",
        "_period", "_renewals", "_retry_at", "_running", "_task", "_wake", "_watches", "_window",
    )  # fmt: skip

    def __init__(self, context: StoreContext, driver: Driver, watches: Watches) -> None:
        config = context.config
        self._context = context
        self._driver = driver
        self._watches = watches
        self._agenda = Agenda()
        self._interval = interval = config.watch_interval.total_seconds()
        noticed = watches.notices_within
        if not isinstance(cast("object", noticed), (float, int, NoneType)):
            raise unexpected_answer(config.storage, "notices_within", noticed)
        self._period = interval if noticed is None else min(interval, noticed)  # from one `confirm` to the next
        # How long look-ups may fail until a connection is closed.
        self._window = max(stale_id_window(config), interval + config.storage_timeout.total_seconds())
        self._longest_round = 2 * (config.storage_timeout.total_seconds() + MORE_TIME)  # of two calls
        self._call_soon = caller_from_any_thread(event_loop())
        self._running: object = None  # stands for the task that runs, or is about to; None: there is none
        self._task: object = None  # a reference: asyncio itself keeps weak ones only
        self._group: TaskGroup | None = None  # of the task, when it runs
        self._wake = anyio.Event()
        self._confirm_at = inf
        self._renewals = anyio.Semaphore(MAX_CONCURRENT_CALLS)  # after a broadcast, all clients may answer together
        self._retry_at = 0.0  # no look-up before this time, because one has failed

    # -- for connections

    def start(self, state: SessionState, base: Loaded, on_end: OnEnd) -> SessionWatch:
        """Watch a stored session."""
        key = self._context.config.key_prefix + base.handle
        watch = SessionWatch(self._context, state, on_end, base, key, self.stop, self.renew)
        self._agenda.add(watch, monotonic())
        self._wake.set()
        if self._running is None:
            self._running = run = object()
            self._task = run_in_background("watching open connections", self._run, partial(self._ended, run))
        return watch

    def stop(self, watch: SessionWatch) -> None:
        """End a watch; nothing happens if it has ended."""
        if self._agenda.discard(watch):
            self._watches.unwatch(watch.key, self._changed)

    def renew(self, watch: SessionWatch) -> None:
        """Renew the idle clock of a session in the background."""
        if self._group is None:
            watch.set_renewed(None)
        else:
            self._group.start_soon(self._renew, watch)

    def close(self) -> None:
        """End all watches and the task, because the store is closed, or the event loop has ended."""
        for watch in self._agenda.watches():
            self.stop(watch)
        if self._group is not None:
            with suppress(RuntimeError):  # of a loop that has ended
                self._group.cancel()

    # -- for the storage

    def _changed(self, key: str) -> None:
        """Look a key up; called by the storage, perhaps in another thread."""
        self._call_soon(self._ask, key)

    def _ask(self, key: str) -> None:
        self._agenda.ask(key, monotonic())
        self._wake.set()

    # -- the task

    async def _run(self) -> None:
        async with TaskGroup() as group:
            self._group, self._confirm_at = group, monotonic() + self._period
            try:
                while self._agenda.by_key:
                    with anyio.move_on_after(self._next_round() - monotonic()):
                        await self._wake.wait()
                    self._wake = anyio.Event()
                    await self._run_round(monotonic())
            finally:  # a new watch starts another task: this one may still wait for connections that it closes
                self._running = self._group = None

    def _ended(self, run: object) -> None:
        if self._running is run:  # it was cancelled before it began
            self._running = None
        if self._agenda.by_key and (loop := asyncio_loop()) is not None:
            loop.call_later(_PATIENCE, self._warn_if_unwatched)  # not if the loop ends now, and all connections with it

    def _warn_if_unwatched(self) -> None:
        if self._agenda.by_key and self._running is None:
            _logger.warning(_CANCELLED)

    def _next_round(self) -> float:
        asked = self._retry_at if self._agenda.asked else inf
        return min(asked, self._confirm_at, self._agenda.next_alarm())

    async def _run_round(self, now: float) -> None:
        self._agenda.ring(now)
        async with TaskGroup() as group:
            group.start_soon(self._give_up_in_time)
            await self._call_storage(now)
            group.cancel()

    async def _call_storage(self, now: float) -> None:
        if now >= self._confirm_at:
            self._confirm_at = now + self._period
            self._agenda.confirming_since = now
            try:
                await self._driver.bounded("watch", self._watches.confirm)
            except Exception as exc:  # noqa: BLE001 - whatever it is, no connection may stay unwatched
                self._report(exc)
                self._agenda.ask_all(now)
            finally:
                self._agenda.confirming_since = inf
        if self._agenda.asked and now >= self._retry_at:
            asked = self._agenda.take_asked(_BATCH)
            try:
                await self._look_up(asked)
            except Exception as exc:  # noqa: BLE001 - as above
                self._report(exc)
                self._give_up_or_retry(asked, exc, now)

    def _report(self, exc: Exception) -> None:
        bug = "" if isinstance(exc, StorageError) else "; this is a bug in sessioncore or in the storage"
        self._context.health.report(_FAILED + bug, exc)

    async def _look_up(self, asked: dict[str, float]) -> None:
        """Look keys up, and remove from `asked` those that are done; raise what has failed, for one key or for all."""
        watches = {key: self._agenda.take_watches(key) for key in asked}
        for key in list(asked):
            self._prepare(watches[key], asked[key])
            if key not in self._agenda.by_key:
                del asked[key]
        if not asked:
            return
        keys, failure = list(asked), None
        call = partial(self._watches.watch, keys, self._changed)
        answers = await self._driver.listed("watch", call, object, len(keys))  # `SessionWatch.judge` checks them
        for key, answer in zip(keys, answers, strict=True):
            try:
                for watch in watches[key]:
                    if self._agenda.has(watch, key):  # otherwise it has ended or moved meanwhile
                        self._answered(watch, answer, asked[key])
                del asked[key]
            except Exception as exc:  # noqa: BLE001 - as above; it is about this key alone
                failure = exc
        if failure is not None:
            raise failure

    def _prepare(self, watches: list[SessionWatch], since: float) -> None:
        """Before a key is looked up, handle what the requests themselves have done with their sessions."""
        for watch in watches:
            if watch.ended_by_itself:
                self._end(watch, SessionGone("this request has ended its session"))
            elif (moved_to := watch.rebase()) is not None:
                self._move(watch, moved_to, since)

    def _answered(self, watch: SessionWatch, answer: Reply, since: float) -> None:
        state = watch.state
        watch.set_given_up(False)
        if state.turn is not None:  # the request is writing: its own move must not be taken for another's
            state.turn.call_at_end(lambda: self._ask(watch.key))
        elif state.loaded is not None and state.loaded is not watch.base:
            self._agenda.ask(watch.key, since)  # it wrote while the answer was on its way
        elif isinstance(found := watch.judge(answer), Moved):
            self._move(watch, found.key, since)
        elif found is None:
            self._end(watch, SessionGone("the session was ended, or has another owner now"))
        else:
            left = self._context.lifetimes.remaining(found.record, found.ttl, found.as_of)
            self._agenda.set_end(watch, monotonic() + max(left, _SHORTEST_WAIT))

    def _move(self, watch: SessionWatch, key: str, since: float) -> None:
        """Watch the session under another key."""
        self.stop(watch)
        watch.follow(key)
        self._agenda.add(watch, since)

    def _give_up_or_retry(self, asked: dict[str, float], cause: Exception, began: float) -> None:
        now = monotonic()
        stood_still = max(0.0, now - began - self._longest_round)  # the process was stopped, and could not look
        self._retry_at = now + min(_LONGEST_RETRY, self._interval / 2)
        self._agenda.ask_again(asked, stood_still)
        self._give_up(now, 0.0, cause)

    async def _give_up_in_time(self) -> None:
        """Give connections up while a call of the storage waits: their time may come long before its timeout."""
        wake_at = monotonic() + _PATIENCE
        while True:
            await anyio.sleep(wake_at - monotonic())
            now = monotonic()
            if now - wake_at > STOOD_STILL:
                return  # the process was stopped, and the reply may be there: the result of the call decides
            wake_at = min(now + _PATIENCE, self._give_up(now, _PATIENCE))

    def _give_up(self, now: float, patience: float, cause: Exception | None = None) -> float:
        """Close those whose look-ups went unanswered for too long, and for `patience`; return when others are due."""
        overdue, next_due = self._agenda.give_up(now, self._window, patience)
        if overdue:
            assert self._group is not None
            # Spread over time, so that not all clients reconnect at the same moment.
            times = [(min(now + random() * self._interval, watch.ends_at), watch) for watch in overdue]  # noqa: S311
            self._group.start_soon(self._end_in_turn, sorted(times, key=itemgetter(0)), cause)
        return next_due

    async def _end_in_turn(self, times: list[tuple[float, SessionWatch]], cause: Exception | None) -> None:
        """End each watch at its time, also while a look-up waits, unless its session was found meanwhile."""
        for at, watch in times:
            await anyio.sleep(max(0.0, at - monotonic()))
            if watch.given_up and self._agenda.has(watch, watch.key):
                error = StorageUnavailable("it is unknown whether the session still exists: the storage is down")
                error.__cause__ = cause
                self._end(watch, error)

    def _end(self, watch: SessionWatch, error: SessionError) -> None:
        self.stop(watch)
        assert self._group is not None
        self._group.start_soon(self._close, watch, error)

    async def _close(self, watch: SessionWatch, error: SessionError) -> None:
        try:
            if (work := watch.on_end(error)) is not None:
                await work
        except OSError:  # the client has left meanwhile
            pass
        except Exception:  # the server's, or a middleware's; it must not end the other watches
            _logger.exception("a connection whose session was ended could not be closed")

    async def _renew(self, watch: SessionWatch) -> None:
        ttl = None
        try:
            async with self._renewals:
                loaded = watch.state.loaded
                if loaded is not None and watch.key == self._context.config.key_prefix + loaded.handle:
                    wanted = self._context.lifetimes.renewed_ttl(loaded.record, self._context.config.clock())
                    if wanted > 0 and await self._driver.call(Touch(watch.key, wanted)):
                        ttl = wanted
                        self._context.events.send(EventKind.RENEWED, loaded.handle, loaded.record.owner)
                    else:
                        self._ask(watch.key)
        except Exception as exc:  # noqa: BLE001 - as above; the next message tries again
            self._report(exc)
        finally:
            watch.set_renewed(ttl)
