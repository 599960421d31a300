"""What the shop sells, and the cart: plain values that know nothing of requests.

The cart is frozen and its methods return a new one. That makes them fit for
`session.mutate`, which applies a change again when two tabs met in the middle.
"""

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from sessioncore import SessionKey

__all__ = ["CART", "CATALOGUE", "Cart", "Line", "Product"]

MOST = 99  # of one product in one cart


class Product(Struct, frozen=True):
    """Something to buy."""

    sku: str
    name: str
    note: str
    price: Decimal  # euros
    tone: str  # colours its picture


class Line(Struct, frozen=True):
    """Some pieces of one product, at the price they had when the first was added."""

    sku: str
    name: str
    price: Decimal
    quantity: int

    @property
    def total(self) -> Decimal:
        """The price of all pieces."""
        return self.price * self.quantity


class Cart(Struct, frozen=True):
    """What a visitor means to buy."""

    lines: tuple[Line, ...] = ()

    @property
    def count(self) -> int:
        """The number of pieces."""
        return sum(line.quantity for line in self.lines)

    @property
    def total(self) -> Decimal:
        """The price of everything."""
        return sum((line.total for line in self.lines), Decimal(0))

    def change(self, product: Product, by: int) -> "Cart":
        """Return a cart with `by` pieces more, or fewer; a line without pieces goes."""
        if not any(line.sku == product.sku for line in self.lines):
            new = Line(product.sku, product.name, product.price, 0)
            return Cart((*self.lines, new)).change(product, by) if by > 0 else self
        changed = (
            replace(line, quantity=min(line.quantity + by, MOST)) if line.sku == product.sku else line
            for line in self.lines
        )
        return Cart(tuple(line for line in changed if line.quantity > 0))

    def without(self, product: Product) -> "Cart":
        """Return a cart that has none of it."""
        return Cart(tuple(line for line in self.lines if line.sku != product.sku))


CART = SessionKey("cart", Cart, default_factory=Cart)

CATALOGUE = {
    product.sku: product
    for product in (
        Product("teapot", "Round teapot", "Stoneware, 0.8 l, pours without a drop", Decimal("64.00"), "clay"),
        Product("cup", "Morning cup", "Thick walls, warm for half an hour", Decimal("18.50"), "sky"),
        Product("caddy", "Tea caddy", "Tin with a cork seal, holds 150 g", Decimal("22.00"), "sage"),
        Product("kettle", "Field kettle", "Enamelled steel, for any flame", Decimal("79.90"), "plum"),
        Product("bowl", "Ash-glazed bowl", "No two alike: the kiln decides", Decimal("31.00"), "sand"),
        Product("whisk", "Bamboo whisk", "Eighty tines, cut by hand", Decimal("26.75"), "sage"),
        Product("tray", "Walnut tray", "Oiled, with room for two", Decimal("48.00"), "clay"),
        Product("linen", "Linen towel", "Washed soft, dries in no time", Decimal("14.20"), "sky"),
    )
}
