"""A guard against slowdowns: what a request costs, relative to its cost with Starlette's signed cookie.

Both are counted in instructions in one run of callgrind, so the ratio is the same on a fast, a slow and a busy
machine. `python -m benchmarks.instructions --against CHECKOUT` tells what a change costs.
"""

import json
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import pytest
from tests.processes import ENVIRONMENT

ROOT = Path(__file__).parent.parent
TOLERANCE = 1.03  # for other patch releases of Python 3.11, and for objects at other addresses

# Today's ratio of our instructions to the signed cookie's, both without those of the bare application. It includes what
# promise P8 costs every request (about 1,600 instructions). Limits may be lowered, but not raised.
LIMITS = {"untouched": 0.84, "first": 0.90, "read": 0.325, "update": 0.275}


@pytest.mark.slow
@pytest.mark.timeout(300)  # under valgrind on a busy machine; ten seconds on a quiet one
def test_no_request_costs_more_instructions_than_it_did() -> None:
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the limits were counted on Python 3.11")
    if f"starlette=={version('starlette')}" not in pinned:
        pytest.skip("the limits are for the Starlette of constraints.txt")
    too_slow = exceeding(LIMITS)
    if too_slow:  # addresses differ from run to run: what exceeds its limit is counted once more
        too_slow = exceeding(too_slow)
    assert not too_slow, f"too many, relative to Starlette's signed cookie; the limits are {LIMITS}"


def exceeding(workloads: Iterable[str]) -> dict[str, float]:
    """Count these workloads, and return those that exceed their limit, with their ratio."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.instructions", "--json", "--requests", "10", "--workloads", *workloads],
        cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "not run:" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    found = {workload: counted["of_cookie"] for workload, counted in json.loads(done.stdout).items()}
    return {workload: ratio for workload, ratio in found.items() if ratio > LIMITS[workload] * TOLERANCE}
