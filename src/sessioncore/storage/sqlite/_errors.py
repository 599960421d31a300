"""Turns errors of SQLite and of the file system into errors of the storage contract, which say what to do."""

import errno
import os
import shutil
import sqlite3
from contextlib import ExitStack
from pathlib import Path

from sessioncore._causes import RAISE_FILE_LIMIT, is_file_limit_reached
from sessioncore._errors import StorageError, StorageUnavailable, WritesRefused

__all__ = ["as_storage_error", "files_beside", "is_busy", "may_write", "result_code"]

_NO_RIGHT = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_FILES = 5  # that two connections have open: the file and the -wal file twice, the -shm file once
_LEAST_ROOM = 64 * 1024  # the -shm file alone takes 32 KiB
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
# What SQLite cannot do on network file systems, and on some that containers share with their host.
_NO_LOCKS = frozenset({
    sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_IOERR_RDLOCK, sqlite3.SQLITE_IOERR_SHMLOCK,
    sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_SHMOPEN, sqlite3.SQLITE_PROTOCOL,
})  # fmt: skip


def result_code(exc: BaseException) -> int:
    """Return SQLite's primary result code, or 0 for an error that has none."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF


def is_busy(exc: BaseException) -> bool:
    """Return whether another connection holds the file."""
    return result_code(exc) == sqlite3.SQLITE_BUSY


def as_storage_error(exc: Exception, path: str) -> Exception:
    """Return the error that the contract promises for one that SQLite or Python raised."""
    if isinstance(exc, OSError):
        return _of_the_file_system(exc, path)
    if isinstance(exc, sqlite3.Error):
        return _of_sqlite(exc, path)
    if isinstance(exc, UnicodeEncodeError):
        return StorageError("a key or an owner has characters that UTF-8 cannot express")
    return exc


def _of_the_file_system(exc: OSError, path: str) -> StorageError:
    if exc.errno in _NO_RIGHT:
        return _no_right(path)
    if exc.errno in _NO_ROOM:
        return _no_room(path)
    if isinstance(exc, FileNotFoundError):
        return StorageUnavailable(f"the folder of {path} does not exist: create it, or correct the path")
    advice = RAISE_FILE_LIMIT if is_file_limit_reached(exc) else "see that its folder can be written"
    return StorageUnavailable(f"SQLite could not use {path}: {exc.strerror}; {advice}")


def _of_sqlite(exc: sqlite3.Error, path: str) -> StorageError:
    code, reason = result_code(exc), str(exc)  # the text contains no bound values
    if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM} or (
        code == sqlite3.SQLITE_CANTOPEN and _exists(path) and not _is_writable(path)
    ):
        return _no_right(path)
    if code == sqlite3.SQLITE_CANTOPEN and Path(path).is_dir():
        # Docker makes one where a file that it is to mount does not exist.
        return StorageError(f"{path} is a folder: remove it, or give SQLiteStorage the path of a file")
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _is_disk_full(path)):
        return _no_room(path)
    if code == sqlite3.SQLITE_BUSY:
        # Nothing was changed, and it passes: ten workers that start together on a slow disk keep each other waiting.
        return WritesRefused(f"another process holds {path} ({reason}); look for one that keeps it locked")
    if code == sqlite3.SQLITE_NOTADB:
        return StorageError(
            f"the file {path} is not a SQLite database, or is damaged: give SQLiteStorage a file of its own"
        )
    if code == sqlite3.SQLITE_ERROR:
        return StorageError(f"the file {path} lacks what sessioncore has created there ({reason}): give it a new file")
    advice = "see that the file is intact, that its folder can be written and that the disk has room"
    if code == sqlite3.SQLITE_CANTOPEN and _may_open_too_few_files():
        advice = RAISE_FILE_LIMIT
    elif getattr(exc, "sqlite_errorcode", 0) in _NO_LOCKS:
        advice = "its file system lacks locks or shared memory, as network file systems do: put it on a local disk"
    return StorageUnavailable(f"SQLite could not use {path}: {reason}; {advice}")


def _no_right(path: str) -> StorageError:
    return StorageError(
        f"this process may not write {path} or its -wal and -shm files: make these files and their folder writable "
        f"for its user (uid {os.geteuid() if hasattr(os, 'geteuid') else 'unknown'}), and see that the disk is not "
        "mounted read-only"
    )


def _no_room(path: str) -> WritesRefused:
    return WritesRefused(f"the disk of {path} is full: make room, or give SQLiteStorage a file on another disk")


def _may_open_too_few_files() -> bool:
    with ExitStack() as opened:
        try:
            for _ in range(_FILES):
                opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        except OSError as exc:
            return is_file_limit_reached(exc)
    return False


def _is_disk_full(path: str) -> bool:
    return shutil.disk_usage(Path(path).parent).free < _LEAST_ROOM


def _is_writable(path: str) -> bool:
    beside = [each for each in files_beside(path) if _exists(each)]
    return all(may_write(each) for each in (Path(path), Path(path).parent, *beside))


def _exists(path: str | Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises an error for a name that is too long


def files_beside(path: str) -> tuple[Path, Path]:
    """Return the paths of the files that SQLite keeps beside an open one, its -wal and its -shm file.

    If `path` is a link, they are beside the file that it leads to.
    """
    real = os.path.realpath(path)
    return Path(f"{real}-wal"), Path(f"{real}-shm")


def may_write(path: str | Path) -> bool:
    """Return whether this process has the right to write a file or folder."""
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
