"""A process that waits in `alive` blocks, and reports each end: for test_processes.

python -m tests.live.ended_elsewhere URL ID...
"""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial

import anyio

from sessioncore import SessionConfig, SessionError, SessionStore, storage_from_url


async def wait(store: SessionStore, sid: str, say: Callable[[str], object]) -> None:
    """Report `begins`, and at the end the error, with the time of a clock that all processes share."""
    session = await store.get_by_id(sid)
    try:
        async with session.alive():
            say("begins")
            await anyio.sleep_forever()
    except SessionError as error:
        say(f"{session.owner} {type(error).__name__} {time.monotonic()}")


async def main(url: str, ids: list[str]) -> None:
    config = SessionConfig.development(storage=storage_from_url(url), watch_interval=timedelta(seconds=20))
    async with SessionStore(config) as store, anyio.create_task_group() as tasks:
        for sid in ids:
            tasks.start_soon(wait, store, sid, partial(print, flush=True))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2:])
