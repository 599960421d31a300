"""Reads the parts of a storage's URL that a driver would silently replace by its defaults if they are empty."""

from urllib.parse import parse_qsl, urlsplit

__all__ = ["options_of", "port_of"]


def options_of(query: str) -> list[tuple[str, str]]:
    """Return the options in the query of a URL.

    Raises:
        ValueError: one has no value.
    """
    options = parse_qsl(query, keep_blank_values=True)
    if not all(value for _, value in options):
        raise ValueError("an option without a value")
    return options


def port_of(address: str, default: int) -> int:
    """Return the port of an address, `host:port`, perhaps with a login; `default` if it names none.

    Raises:
        ValueError: it is empty, 0, or no port.
    """
    port = urlsplit(f"//{address}").port  # it raises for what cannot be a port
    if port == 0 or address.endswith(":"):
        raise ValueError("a port of 0, or without a number")
    return default if port is None else port
