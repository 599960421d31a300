"""Whether the file at a path, and the -wal and -shm files beside it, are still those that were opened.

SQLite goes on with a file that was removed or replaced: what it writes then is lost with the
last process that has it open, and other processes use another file.
"""

from pathlib import Path

from sessioncore._errors import StorageUnavailable
from sessioncore.storage.sqlite._errors import files_beside

__all__ = ["FilePlace"]


class FilePlace:
    """The files of a connection that has read already.

    Since then it holds a lock that keeps SQLite from removing the -wal and -shm files, in any process.
    """

    __slots__ = ("_files", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._files = {each: _identity(each) for each in (Path(path), *files_beside(path))}

    def is_at(self, path: str) -> bool:
        """Return whether the file at `path` is this one."""
        found = _identity(Path(path))
        return found is not None and found == self._files[Path(self._path)]

    def error(self) -> StorageUnavailable | None:
        """Return the error for files that were removed or replaced; None if they are still those that were opened."""
        if all(found is not None and _identity(each) == found for each, found in self._files.items()):
            return None
        # Not repaired here: other processes still use the -wal and -shm files, which a new file would take for its own.
        return StorageUnavailable(
            f"the file {self._path}, or the -wal or -shm file beside it, was removed or replaced while it was in use, "
            "and what is written now would be lost: put it back, or stop all processes that use it before you start "
            "them again; if you put another file in its place, delete the -wal and -shm files beside it before"
        )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
