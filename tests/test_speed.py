"""A guard against gross slowdowns: sessioncore's cost per request as a multiple of a hand-written floor's.

Both are measured in one process, in turn, so the ratio says the same on a fast
machine and on a busy one. The limits are twice what is normal: this finds the
accidental walk over all sessions, not a percent. `make bench` measures in earnest.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TRIES = 4

# Twice the normal ratio to: split the cookie, look up, decode or encode, no checks (benchmarks/contenders/floor.py).
LIMITS = {"untouched": 5.0, "first": 9.1, "read": 4.4, "update": 5.5}


def measured() -> dict[str, float]:
    """The ratios, from a process of its own: in this one coverage may be counting lines."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ratios"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_no_request_costs_more_than_twice_what_it_should() -> None:
    best = measured()
    for _ in range(TRIES - 1):
        if all(best[name] <= limit for name, limit in LIMITS.items()):
            break
        again = measured()
        best = {name: min(ratio, again[name]) for name, ratio in best.items()}
    too_slow = {name: f"{best[name]:.1f} times the floor" for name in LIMITS if best[name] > LIMITS[name]}
    assert not too_slow, "profile before raising a limit: python -m benchmarks.bench_asgi"
