"""What a child process must not use of what its parent had open when it forked."""

import os
import socket
from asyncio import BaseTransport
from typing import Final, Protocol
from weakref import WeakSet

__all__ = ["in_each_child", "part_with_socket"]


class Forked(Protocol):
    """An object with a method for the child."""

    def after_fork(self) -> None:
        """Forget in the child what belongs to the parent; another thread of the parent may have been at work here."""
        ...


_forked: Final = WeakSet[Forked]()


def in_each_child(one: Forked) -> None:
    """Call `one.after_fork()` in each process that is forked while `one` exists."""
    _forked.add(one)


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
    for one in _forked:
        one.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_tell_all)
