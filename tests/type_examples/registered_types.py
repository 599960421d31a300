"""Values of one's own classes: `register_type` returns the class, so it works as a decorator."""

from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import assert_type

from sessioncore import SessionStore

store = SessionStore()


@store.register_type
@dataclass
class Address:
    street: str
    city: str


@store.register_type(name="shop.Colour", aliases=("shop.Color",))
class Colour(Enum):
    RED = "red"


class Money:
    """A class of no known shape: it needs `encode` and `decode`."""

    def __init__(self, amount: Decimal, currency: str) -> None:
        self.amount, self.currency = amount, currency


def encode_money(money: Money) -> tuple[Decimal, str]:
    return money.amount, money.currency


def decode_money(parts: tuple[Decimal, str]) -> Money:
    return Money(*parts)


assert_type(store.register_type(Money, encode=encode_money, decode=decode_money), type[Money])
assert_type(Address("Main Street 1", "London").city, str)


async def main() -> None:
    session = await store.create({"address": Address("Main Street 1", "London"), "colour": Colour.RED})
    session["paid"] = Money(Decimal("4.20"), "EUR")
    await session.save()
    async with store.open(session.id) as again:
        assert again["address"] == Address("Main Street 1", "London")
        assert again["paid"].amount == Decimal("4.20")
