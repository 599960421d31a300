"""A turn: one task of a request works on the session, and the other tasks wait until it is done."""

from collections.abc import Callable

import anyio
from msgspec import Struct

from sessioncore.session._error_factories import ErrorFactory

__all__ = ["Turn"]


class Turn(Struct, eq=False):
    """The work of one task: a load, a commit, a reload or the end of the session."""

    failure: ErrorFactory | None = None  # makes the error that the work ended with; None: it did not fail, or not yet
    waiters: list[Callable[[], object]] = []

    def call_at_end(self, wake: Callable[[], object]) -> None:
        """Call `wake` when the work ends."""
        self.waiters.append(wake)

    async def wait(self) -> None:
        """Wait for the end of the work; then another task may have begun the next turn."""
        ended = anyio.Event()
        self.call_at_end(ended.set)
        await ended.wait()

    def end(self, failure: ErrorFactory | None = None) -> None:
        """Wake the waiting tasks, in the order in which they began to wait."""
        self.failure = failure
        for wake in self.waiters:
            wake()
