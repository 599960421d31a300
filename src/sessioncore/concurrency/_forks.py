"""What a child process must not use of what its parent had open when it forked."""

import os
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["in_each_child"]


class Forked(Protocol):
    """An object with a method for the child."""

    def after_fork(self) -> None:
        """Forget in the child what belongs to the parent; another thread of the parent may have been at work here."""
        ...


_forked: Final = WeakSet[Forked]()


def in_each_child(one: Forked) -> None:
    """Call `one.after_fork()` in each process that is forked while `one` exists."""
    _forked.add(one)


def _tell_all() -> None:
    for one in _forked:
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_all)
