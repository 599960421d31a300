"""What a child process must not use of what its parent had open when it forked."""

import os
import socket
from asyncio import BaseTransport
from collections.abc import Callable
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

__all__ = ["in_each_child", "part_with_socket"]


T = TypeVar("T")

_forked: Final = WeakKeyDictionary[Any, Callable[[Any], None]]()


def in_each_child(one: T, forget: Callable[[T], None]) -> None:
    """Call `forget(one)` in each process that is forked while `one` exists: it forgets what belongs to the parent.

    Another thread of the parent may have been at work on `one`.
    """
    _forked[one] = forget


def part_with_socket(transport: BaseTransport) -> None:
    """Give a transport, in a child process, a socket that is closed at its other end, instead of the parent's.

    The child may run the parent's event loop: it would read replies that the parent waits for, and send what the parent
    was about to send. The descriptor stays open here, as the event loop knows it by its number.
    """
    shared = transport.get_extra_info("socket")
    if shared is not None and shared.fileno() >= 0:
        own, other = socket.socketpair()
        with own, other:
            os.dup2(own.fileno(), shared.fileno())


def _tell_all() -> None:
    for one, forget in _forked.items():
        forget(one)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_all)
