"""Warns of sessions in memory where a server has several worker processes, which do not share it.

It recognises the workers of uvicorn and hypercorn however they were started, and those of gunicorn, granian and
others by their command line or WEB_CONCURRENCY. It cannot recognise workers that are set in gunicorn's
configuration file only, and processes that are started one by one, as containers or by a supervisor.
"""

import os
import re
import shlex
import sys
from multiprocessing import current_process, parent_process
from typing import Final

from sessioncore._warnings import Warnings
from sessioncore.storage.memory._storage import MemoryStorage

__all__ = ["warn_in_workers", "worker_count"]

_WARNING: Final = (
    "MemoryStorage in one of %d worker processes: each has sessions of its own, so a visitor is logged in at one and "
    "unknown to the next; use SQLiteStorage on one machine, RedisStorage or PostgresStorage, or one worker"
)
_COUNT = re.compile(r"(?:^| )(?:--workers|-w)(?: |=)?(\d+)(?= |$)")


def warn_in_workers(storage: object, warnings: Warnings) -> None:
    """Log a warning if `storage` is in memory, and this process is one of several workers."""
    if isinstance(storage, MemoryStorage) and (count := worker_count()) > 1:
        warnings.warn(_WARNING, count)


def worker_count() -> int:
    """Return how many workers the server of this process has; 1 if that cannot be recognised.

    A server with auto-reload runs the application in a child process, too, but in one only.
    """
    config = getattr(current_process(), "_kwargs", {}).get("config")  # uvicorn and hypercorn hand it to each worker
    if config is not None:
        reloads = getattr(config, "reload", False) or getattr(config, "use_reloader", False)
        workers = getattr(config, "workers", 1)
        return 1 if reloads or not isinstance(workers, int) else workers
    is_gunicorn = os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn")
    if not is_gunicorn and parent_process() is None:
        return 1
    options = " ".join([shlex.join(sys.argv), os.environ.get("GUNICORN_CMD_ARGS", "") if is_gunicorn else ""])
    if "--reload" in options:
        return 1
    given = _COUNT.findall(options) or [os.environ.get("WEB_CONCURRENCY", "1")]
    return int(given[0]) if given[0].isdigit() else 1
