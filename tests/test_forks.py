"""A Python process that a test starts under `forking` behaves like one that is not a fork."""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from tests.forks import forking

SAYS = "import os, sys; print(os.getppid(), os.getcwd(), {**os.environ}, sys.argv[1:], sys.stdin.read()); sys.exit(3)"


@pytest.mark.parametrize("kind", ["-c", "-m", "file"])
def test_a_fork_has_what_it_is_given_and_ends_as_it_says(kind: str, tmp_path: Path) -> None:
    (tmp_path / "says.py").write_text(SAYS)
    start = {"-c": ["-c", SAYS], "-m": ["-m", "says"], "file": ["says.py"]}[kind]
    environment = {"PATH": "here", "LC_CTYPE": "C.UTF-8"}
    with forking():
        done = subprocess.run(
            [sys.executable, *start, "ä", "b"], input="in", cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.stdout.splitlines() == [f"{os.getpid()} {tmp_path} {environment} ['ä', 'b'] in"]
    assert (done.returncode, done.stderr) == (3, "")


def test_a_fork_that_fails_or_is_killed_says_so() -> None:
    with forking():
        failed = subprocess.run([sys.executable, "-c", "1 / 0"], capture_output=True, text=True, check=False)
        killed = subprocess.run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], check=False)
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (1, "ZeroDivisionError: division by zero")
    assert killed.returncode == -9


@pytest.mark.anyio
async def test_whoever_does_not_ask_for_a_fork_gets_a_python_of_its_own() -> None:
    both, first_ended = anyio.Event(), anyio.Event()

    async def first() -> None:
        with forking():
            await both.wait()
        first_ended.set()

    async def second() -> None:
        with forking():
            both.set()
            await first_ended.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first)
        tasks.start_soon(second)
    await anyio.run_process([sys.executable, "-c", "import sys; sys.exit('anyio' in sys.modules)"])  # raises for a fork
