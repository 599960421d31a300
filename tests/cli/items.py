"""A type that the stored sessions hold and the command line does not know."""

from dataclasses import dataclass

__all__ = ["Item"]


@dataclass
class Item:
    name: str
    number: int
