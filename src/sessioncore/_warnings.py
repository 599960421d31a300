"""Warnings that are logged once for each store and process."""

import logging

__all__ = ["Warnings"]

_logger = logging.getLogger("sessioncore")


class Warnings:
    """Logs each warning the first time that it is given."""

    __slots__ = ("_given",)

    def __init__(self) -> None:
        self._given: dict[str, object] = {}

    def warn(self, text: str, *details: object) -> None:
        """Log a warning; later ones with the same `text` are not logged, whatever their details are."""
        mark = object()
        if self._given.setdefault(text, mark) is mark:  # in one step, because other threads warn, too
            _logger.warning(text, *details)
