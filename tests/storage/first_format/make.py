"""Store the sessions of `sessions.py` and dump them, as `sqlite.sql`, `postgres.sql` and `redis.json` beside this file.

The dumps were made once, by the code before storages and core were built anew (0.1.0, record format 1), and are not
to be made again: they are there to show that records of that time can be read. This is how, for another format:

    PYTHONPATH=<the old tree>/src:. python -m tests.storage.first_format.make

with `redis-server` and PostgreSQL installed as for the tests. Only names that are public then and now are used. Times
that the servers keep are dumped as what was left of them; those within records count from `sessions.START`.
"""

import asyncio
import json
import sqlite3
import tempfile
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]  # asyncpg ships no py.typed # pyright: ignore[reportMissingTypeStubs]
from redis import Redis
from servers.postgres_server import postgres_server
from servers.redis_server import one_server
from tests.storage.first_format.sessions import LONG, SESSIONS, START, Vanished, register, sid_of

from sessioncore import SessionConfig, SessionStore, SQLiteStorage, Storage
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.redis import RedisStorage

HERE = Path(__file__).parent
driver: Any = asyncpg


async def store_all(storage: Storage) -> None:
    """Store each session in the way that leads to it."""
    now = START
    names = iter(["anonymous", "visitor", "phone", "laptop", "old", "quick", "long"])
    store = register(
        SessionStore(SessionConfig(storage=storage, clock=lambda: now, id_generator=lambda: sid_of(next(names))))
    )
    store.register_type(Vanished, name="first.Vanished")
    await store.create(SESSIONS["anonymous"].data)
    visitor = await store.create(SESSIONS["phone"].data)
    await visitor.login("ada", device="phone")
    await visitor.save()
    laptop = {**SESSIONS["laptop"].data, "vanished": Vanished("class")}
    await store.create(laptop, owner="ada", **SESSIONS["laptop"].details)
    now = START - timedelta(hours=24).total_seconds() + 60
    old = await store.create({}, owner="ada", device="desktop")
    now = START
    old.update(SESSIONS["old"].data)
    await old.save()
    quick = await store.create(SESSIONS["quick"].data, owner=SESSIONS["quick"].owner)
    quick.set_idle_timeout(timedelta(minutes=5))
    await quick.save()
    await store.create(SESSIONS["long"].data, owner=LONG)


async def dump_sqlite(folder: Path) -> None:
    storage = SQLiteStorage(folder / "sessions.db", clock=lambda: START)
    await store_all(storage)
    await storage.aclose()
    with closing(sqlite3.connect(folder / "sessions.db")) as connection:
        marks = [
            f"PRAGMA {name} = {connection.execute(f'PRAGMA {name}').fetchone()[0]};"
            for name in ("application_id", "user_version")
        ]
        (HERE / "sqlite.sql").write_text("\n".join([*marks, *connection.iterdump(), ""]), encoding="utf-8")


async def dump_postgres() -> None:
    with postgres_server() as server:
        storage = PostgresStorage(server.dsn())
        await store_all(storage)
        await storage.aclose()
        connection = await driver.connect(server.dsn())
        rows = await connection.fetch(
            "SELECT key, owner, version, round(extract(epoch FROM expires_at - now())) AS ttl, data"
            " FROM sessioncore_sessions ORDER BY key"
        )
        await connection.close()
    lines = [PostgresStorage.schema_sql().replace("sessioncore_sessions", "{table}")]
    for row in rows:
        owner = "NULL" if row["owner"] is None else f"'\\x{row['owner'].hex()}'"
        lines.append(
            f"INSERT INTO {{table}} (key, owner, version, expires_at, data) VALUES ('\\x{row['key'].hex()}', {owner},"
            f" {row['version']}, now() + {row['ttl']} * interval '1 s', '\\x{row['data'].hex()}');"
        )
    (HERE / "postgres.sql").write_text("\n".join([*lines, ""]), encoding="utf-8")


async def dump_redis() -> None:
    with one_server() as server:
        storage = RedisStorage.from_url(server.url)
        await store_all(storage)
        await storage.aclose()
        client: Any = Redis(port=server.port)
        records = list[dict[str, Any]]()
        indexes = list[dict[str, Any]]()
        for key in sorted(client.keys("*")):
            common = {"key": key.decode(), "seconds": round(client.pttl(key) / 1000)}
            if client.type(key) == b"string":
                records.append({**common, "value": client.get(key).hex()})
            else:
                seconds, micros = client.time()
                members = {
                    member.decode(): round(score / 1000 - seconds - micros / 1e6)
                    for member, score in client.zrange(key, 0, -1, withscores=True)
                }
                indexes.append({**common, "members": members})
        client.close()
    dump = {"records": records, "indexes": indexes}
    (HERE / "redis.json").write_text(json.dumps(dump, indent=1) + "\n", encoding="utf-8")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        await dump_sqlite(Path(folder))
    await dump_postgres()
    await dump_redis()


if __name__ == "__main__":
    asyncio.run(main())
