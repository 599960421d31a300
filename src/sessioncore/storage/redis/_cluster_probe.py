"""Keys and owners for `SessionStore.check`, so that its calls reach each master of a cluster."""

from collections.abc import Callable, Iterable

from sessioncore.storage._text import bytes_of
from sessioncore.storage.redis._format import index_of

__all__ = ["names_on_masters"]

# So many names in a row that are of no use mean that a hash tag in the key_prefix keeps all keys in one slot. A master
# with fewer than some ten of the 16,384 slots may be missed, too: not worth more of the event loop's time.
_ENOUGH = 10_000


def names_on_masters(
    new_name: Callable[[], str], masters: Iterable[str], master_of: Callable[[bytes], str]
) -> dict[str, tuple[str, str, str]]:
    """Return for each master two keys and an owner whose index is there; see `SpreadsKeys`."""
    found: dict[str, list[str]] = {master: [] for master in masters}  # two keys, then an owner
    useless = 0
    while useless < _ENOUGH and any(len(names) < 3 for names in found.values()):
        name = new_name()
        of_key, of_index = (found.setdefault(master_of(key), []) for key in (bytes_of(name), index_of(bytes_of(name))))
        useless += 1
        if len(of_key) < 2:
            of_key.append(name)
            useless = 0
        elif len(of_index) == 2:
            of_index.append(name)
            useless = 0
    return {master: (names[0], names[1], names[2]) for master, names in found.items() if len(names) == 3}
