"""A storage of one's own: the seven calls, and what it declares beyond them."""

import itertools
from collections.abc import Callable
from typing import ClassVar, assert_type

import anyio

from sessioncore import SessionConfig, SessionStore, Storage, Stored
from sessioncore.storage import LATER, AnswersNow, Call, Clears, KeyTaken, Later, Load, Reply, Written

Row = tuple[bytes, int, float, str | None]  # data, version, end, owner


class DictStorage:
    capabilities: ClassVar[frozenset[type]] = frozenset({AnswersNow, Clears})

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rows: dict[str, Row] = {}
        self._versions = itertools.count(1)

    async def load(self, key: str, *, renew: float | None = None) -> Stored | None:
        if renew is not None:
            await self.touch(key, renew)
        return self._stored(key)

    async def create(self, key: str, data: bytes, ttl: float, *, owner: str | None = None) -> int | None:
        return None if self._stored(key) else self._put(key, data, ttl, owner)

    async def replace(self, key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None) -> Written:
        stored = self._stored(key)
        if stored is None or stored.version != version:
            return stored
        return self._put(key, data, ttl, owner)

    async def move(
        self, key: str, new_key: str, data: bytes, ttl: float, *, version: int, owner: str | None = None
    ) -> Written:
        stored = self._stored(key)
        if stored is None or stored.version != version:
            return stored
        if self._stored(new_key):
            raise KeyTaken("the new key is taken; nothing was changed")
        del self._rows[key]
        return self._put(new_key, data, ttl, owner)

    async def touch(self, key: str, ttl: float) -> bool:
        if self._stored(key) is None:
            return False
        data, version, _, owner = self._rows[key]
        self._rows[key] = data, version, self._clock() + ttl, owner
        return True

    async def delete(self, *keys: str) -> int:
        live = sum(self._stored(key) is not None for key in set(keys))
        for key in keys:
            self._rows.pop(key, None)
        return live

    async def owned_keys(self, owner: str) -> list[str]:
        return [key for key, row in self._rows.items() if row[3] == owner and self._stored(key)]

    async def clear(self, prefix: str) -> int:
        return await self.delete(*[key for key in self._rows if key.startswith(prefix)])

    def answer_now(self, call: Call) -> Reply | Later:
        if isinstance(call, Load) and call.renew is None:
            return self._stored(call.key)
        return LATER

    def _stored(self, key: str) -> Stored | None:
        row = self._rows.get(key)
        left = 0.0 if row is None else row[2] - self._clock()
        return None if row is None or left <= 0 else Stored(row[0], row[1], left)

    def _put(self, key: str, data: bytes, ttl: float, owner: str | None) -> int:
        version = next(self._versions)
        self._rows[key] = data, version, self._clock() + ttl, owner
        return version


# Each assignment is checked: the class has what the protocol asks for.
storage: Storage = DictStorage(anyio.current_time)
answers: AnswersNow = DictStorage(anyio.current_time)
clears: Clears = DictStorage(anyio.current_time)


async def main() -> None:
    store = SessionStore(SessionConfig(storage=DictStorage(anyio.current_time)))
    assert_type(store.storage, Storage)
    session = await store.create({"cart": ["tea"]}, owner="ada")
    assert [info.handle for info in await store.sessions_of("ada")] == [session.handle]
    assert await store.reset() == 1


if __name__ == "__main__":
    anyio.run(main)
