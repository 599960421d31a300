"""Whether the file at a path, and its -wal file, are still those that were opened.

SQLite goes on with a file that was removed or replaced: what it writes then is lost with the
last process that has it open, and other processes use another file.
"""

from pathlib import Path

from sessioncore._errors import StorageUnavailable

__all__ = ["FilePlace"]


class FilePlace:
    """The files that are at `path` now, while a connection keeps the -wal file there."""

    __slots__ = ("_files",)

    def __init__(self, path: str) -> None:
        self._files = {each: _identity(each) for each in (path, f"{path}-wal")}

    def is_kept(self) -> bool:
        """Return whether the same files are still there."""
        return all(found is not None and _identity(each) == found for each, found in self._files.items())

    def error(self) -> StorageUnavailable:
        """Return the error for a file that is not."""
        # Not repaired here: other processes still use the -wal and -shm files, which a new file would take for its own.
        return StorageUnavailable(
            f"the file {next(iter(self._files))} or its -wal file was removed or replaced while it was in use, and "
            "what is written now would be lost: put it back, or restart all processes that use it; if you put another "
            "file in its place, delete the -wal and -shm files beside it before"
        )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
