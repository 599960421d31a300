"""The errors that led to an error, and what they say about its reason."""

import errno
from collections.abc import Iterator
from typing import Final

__all__ = ["RAISE_FILE_LIMIT", "causes", "is_file_limit_reached"]

RAISE_FILE_LIMIT: Final = "this process may open no more files and connections: raise its limit (ulimit -n)"


def causes(error: BaseException | None, *, contexts: bool = False) -> Iterator[BaseException]:
    """Yield an error and those from which it was raised, each once: `raise first from second` can close a circle.

    `contexts`: also those that were being handled when another one was raised without `from`.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (error.__context__ if contexts else None)


def is_file_limit_reached(error: BaseException) -> bool:
    """Return whether an error came from the limit on open files; then neither a server nor a path is at fault."""
    errnos = {cause.errno for cause in causes(error, contexts=True) if isinstance(cause, OSError)}
    return not errnos.isdisjoint({errno.EMFILE, errno.ENFILE})
