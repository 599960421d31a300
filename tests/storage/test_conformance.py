"""Every embedded storage keeps the whole contract."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest
from tests.numbers import FULL
from tests.processes import ENVIRONMENT
from tests.storage.rigs import RIGS

from sessioncore import MemoryStorage, SQLiteStorage, testing
from sessioncore.storage import AnswersNow, BoundsCalls, Opens, SpreadsKeys
from sessioncore.storage.postgres import PostgresStorage
from sessioncore.storage.redis import RedisStorage
from sessioncore.testing import BEST_EFFORT_CHECKS, STORAGE_CHECKS, Check

pytestmark = pytest.mark.anyio

GROUPS = [
    import_module(f"sessioncore.testing.{module.name}")
    for module in iter_modules(testing.__path__)
    if module.name not in {"_failing", "_rig", "_visitor"}
]


@pytest.mark.proves("P2", "P3", "P4", "AT-45", "AT-46", "AT-112", "AT-119", "AT-120", "AT-121", "ASVS 15.4.2")
@pytest.mark.parametrize("check", STORAGE_CHECKS)
@pytest.mark.parametrize(
    ("rig_name", "anyio_backend"),
    [("memory", "asyncio"), ("memory-bounded", "trio"), ("sqlite", "asyncio"), *([("sqlite", "trio")] if FULL else [])],
)
async def test_the_contract_holds(rig_name: str, check: Check, tmp_path: Path) -> None:
    async with RIGS[rig_name](tmp_path) as rig:
        await check(rig)


@pytest.mark.skipif(FULL, reason="the test above makes the same checks and more")
@pytest.mark.parametrize("check", [check for check in STORAGE_CHECKS if check.race])
@pytest.mark.parametrize(("rig_name", "anyio_backend"), [("sqlite", "trio")])
async def test_the_contract_of_parallel_callers_holds(rig_name: str, check: Check, tmp_path: Path) -> None:
    """The statements are the same on trio; only who waits for whom, and who is cancelled where, can differ."""
    await test_the_contract_holds(rig_name, check, tmp_path)


def test_without_assertions_no_check_passes() -> None:
    program = """
import asyncio
from sessioncore import MemoryStorage
from sessioncore.testing import STORAGE_CHECKS, Rig
try: asyncio.run(STORAGE_CHECKS[0](Rig(MemoryStorage(), 0.05, asyncio.sleep, MemoryStorage.load)))
except RuntimeError as exc: print(exc)
"""
    run = subprocess.run([sys.executable, "-O", "-c", program], env=ENVIRONMENT, capture_output=True, check=True)
    assert b"which `python -O` drops" in run.stdout


def test_no_check_was_left_out_of_the_tuples() -> None:
    written = sorted(
        name
        for module in GROUPS
        for name, found in vars(module).items()
        if isinstance(found, Check) or (getattr(found, "__module__", "") == module.__name__ and name[0] != "_")
    )
    assert sorted(check.__name__ for check in STORAGE_CHECKS) == written
    assert [check for check in STORAGE_CHECKS if not check.race] == [*BEST_EFFORT_CHECKS]
    assert set(testing.__all__) <= set(vars(testing))


def test_each_check_of_the_kit_is_shown_a_fault_that_it_must_notice() -> None:
    named = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*_faults.py"))
    assert [check for check in STORAGE_CHECKS if f'"{check.__name__}"' not in named] == []


def test_each_storage_lacks_these_capabilities_only() -> None:
    """A check of a capability that a storage does not declare is skipped, so nobody would notice a lost declaration."""
    kept = set[type]().union(*(check.needs for check in STORAGE_CHECKS))
    assert kept - MemoryStorage.capabilities == {Opens, SpreadsKeys}
    assert kept - RedisStorage.capabilities == set()
    for storage in (SQLiteStorage, PostgresStorage):
        assert kept - storage.capabilities == {AnswersNow, BoundsCalls, SpreadsKeys}
