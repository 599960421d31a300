"""For Structs that hold IDs, keys or values, and must show none of them."""

from typing import Any

__all__ = ["Opaque"]


class Opaque:
    """Shows no field: error trackers and consoles write down the variables of a traceback, and Struct shows all fields.

    A subclass may write a `__repr__` that shows what is public.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []  # rich prefers this to the repr
