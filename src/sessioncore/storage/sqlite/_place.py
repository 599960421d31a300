"""Whether the file at a path is still the one that was opened.

SQLite goes on with a file that was removed or replaced: what it writes then is lost with the
last process that has it open, and other processes use another file.
"""

from pathlib import Path

from sessioncore._errors import StorageUnavailable

__all__ = ["FilePlace"]


class FilePlace:
    """The file that is at `path` now."""

    __slots__ = ("_file", "_path")

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = _identity(path)

    def is_kept(self) -> bool:
        """Return whether the same file is still there."""
        return self._file is not None and _identity(self._path) == self._file

    def error(self) -> StorageUnavailable:
        """Return the error for a file that is not."""
        # Not repaired here: other processes still use the -wal and -shm files, which a new file would take for its own.
        return StorageUnavailable(
            f"the file {self._path} was removed or replaced while it was in use, and what is written now would "
            "be lost: put it back, or restart all processes that use it; if you put another file in its place, "
            "delete the -wal and -shm files beside it before"
        )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
