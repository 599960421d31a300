"""From which errors an error was raised."""

from collections.abc import Iterator

__all__ = ["causes"]


def causes(error: BaseException | None, *, contexts: bool = False) -> Iterator[BaseException]:
    """Yield an error and those from which it was raised, each once: `raise first from second` can close a circle.

    `contexts`: also those that were being handled when another one was raised without `from`.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (error.__context__ if contexts else None)
