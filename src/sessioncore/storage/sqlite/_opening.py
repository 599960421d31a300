"""Opens a SQLite file: checks that it is ours, creates it if it is missing, and sets how it is used.

Everything here blocks, and so runs in a worker thread.
"""

import errno
import os
import sqlite3
import threading
from pathlib import Path
from typing import Final

from sessioncore.storage._free_threading import FREE_THREADED
from sessioncore.storage.sqlite._errors import files_beside, may_write
from sessioncore.storage.sqlite._schema import SCHEMA, create_or_migrate, schema_of

__all__ = ["connect", "prepare"]

_creating = threading.Lock()
# On a Python without the GIL, a statement that one thread has prepared and another one frees outlives `close`, and
# keeps the file open and locked: prepare each anew there.
_CACHED_STATEMENTS = 0 if FREE_THREADED else 128
# Bytes. While a process reads for long, as a backup does, the -wal file grows; afterwards it is cut to this size.
_LARGEST_WAL: Final = 16 * 2**20


def connect(path: str) -> sqlite3.Connection:
    """Return a connection that starts no transaction and waits for no lock; any thread may use it, one at a time.

    Raises:
        sqlite3.OperationalError: the file is locked, as while the last connection of another pool is being closed.
    """
    connection = sqlite3.connect(
        path, timeout=0, isolation_level=None, check_same_thread=False, cached_statements=_CACHED_STATEMENTS
    )
    # In WAL mode NORMAL survives kill -9, but a power cut loses the last commits, perhaps a logout that
    # was already confirmed. FULL waits for the disk once per commit, and concurrent requests share commits.
    try:
        connection.execute("PRAGMA synchronous = FULL")  # this reads the file
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(path: str) -> sqlite3.Connection:
    """Return a connection to a file of our schema, created or migrated where needed; other files are not changed.

    Raises:
        sqlite3.OperationalError: the file is locked.
        StorageError: the file is of a newer schema, or is another program's.
    """
    _create_private(path)
    connection = connect(path)
    try:
        ready = schema_of(connection, path) == SCHEMA
        connection.execute("PRAGMA journal_mode = WAL")  # every time: a file restored from a backup may lack it
        connection.execute(f"PRAGMA journal_size_limit = {_LARGEST_WAL}")
        if not ready:
            create_or_migrate(connection, path)
        schema_of(connection, path)  # opens the -wal and -shm files, also where the journal was another one until now
    except BaseException:
        connection.close()
        raise
    return connection


def _create_private(path: str) -> None:
    # One at a time: when a process closes a file, all its connections lose the locks that they hold there, and
    # the next process that closes the file removes the -wal file that they write to.
    with _creating:
        if not Path(path).exists():
            # SQLite would follow the umask; its -wal and -shm files get the mode of the main file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            return
    if not may_write(path) and not all(each.exists() for each in files_beside(path)):
        # A user who may only read would create them, and then the user who may write could not any more.
        raise PermissionError(errno.EACCES, "")
