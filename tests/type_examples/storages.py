"""Every storage that comes with sessioncore is a `Storage`, has its capabilities, and takes what its page names."""

from datetime import timedelta

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]
from key_value.aio.stores.memory import MemoryStore
from redis.asyncio import Redis

from sessioncore import MemoryStorage, SessionConfig, SQLiteStorage, Storage
from sessioncore.storage import AnswersNow, Clears, Opens, Purges, Scans
from sessioncore.storage.keyvalue import KeyValueStorage
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.redis import RedisStorage


def from_a_client(client: Redis) -> Storage:
    return RedisStorage(client, wait_replicas=1, wait_timeout=timedelta(seconds=1))


def from_a_pool(pool: asyncpg.Pool) -> Storage:
    return PostgresStorage(pool, create_table=False)


def from_addresses() -> list[Storage]:
    return [
        MemoryStorage(max_sessions=100_000),
        SQLiteStorage("sessions.sqlite3", busy_timeout=timedelta(seconds=2)),
        RedisStorage.from_url("redis://localhost"),
        PostgresStorage("postgresql://localhost/shop"),
        KeyValueStorage(MemoryStore()),
    ]


def what_they_can_do(memory: MemoryStorage, file: SQLiteStorage) -> tuple[AnswersNow, Clears, Opens, Purges, Scans]:
    return memory, memory, file, file, file


config = SessionConfig(storage=MemoryStorage())
