"""An end in one process ends `alive` blocks in another one, on SQLite and Postgres; see test_fan_out for Redis."""

import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from tests.forks import forking
from tests.numbers import scaled
from tests.processes import ENVIRONMENT

from sessioncore import SessionConfig, SessionStore, storage_from_url

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OWNERS = 5
SESSIONS = scaled(400)
PATIENCE = 10.0  # seconds: two are promised, but the machine may be busy


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'sessions.db'}"
    return str(request.getfixturevalue("postgres").new_database())


async def begin(store: SessionStore) -> list[str]:
    """Log every owner in several times; return the IDs."""
    return [(await store.create({"n": 1}, owner=f"owner-{n % OWNERS}")).id for n in range(SESSIONS)]


async def revoke_in_turn(store: SessionStore, next_line: Callable[[], Awaitable[str]]) -> None:
    """Revoke one owner after the other, while `alive` blocks of all owners wait: only those of the revoked one end."""
    delays = list[float]()
    with anyio.fail_after(60):
        assert {await next_line() for _ in range(SESSIONS)} == {"begins"}
    for owner in (f"owner-{number}" for number in range(OWNERS)):
        assert await store.revoke_all(owner) == SESSIONS // OWNERS
        returned = time.monotonic()
        with anyio.fail_after(PATIENCE):
            for _ in range(SESSIONS // OWNERS):
                name, error, at = (await next_line()).split()
                assert (name, error) == (owner, "SessionGone")
                delays.append(float(at) - returned)
    print(f"the latest of {len(delays)} ends came {max(delays):.2f} s after the call had returned")


@pytest.mark.proves("P2", "AT-118", "AT-122", "ASVS 7.4.2")
async def test_the_sessions_of_a_revoked_owner_end_in_another_process(url: str) -> None:
    async with SessionStore(SessionConfig.development(storage=storage_from_url(url))) as store:
        command = [sys.executable, "-m", "tests.live.ended_elsewhere", url, *await begin(store)]
        with forking("sessioncore.storage.postgres", "sessioncore.storage.redis"):
            started = await anyio.open_process(command, env=ENVIRONMENT, stderr=None)
        async with started as process:
            assert process.stdout is not None
            lines = BufferedByteReceiveStream(process.stdout)

            async def next_line() -> str:
                return (await lines.receive_until(b"\n", 1000)).decode()

            await revoke_in_turn(store, next_line)
            assert await process.wait() == 0
