"""How many instructions does a session cost per request? Counted by callgrind, so a busy machine counts the same.

    python -m benchmarks.instructions [--workloads untouched read] [--json]
    python -m benchmarks.instructions --against ../another-checkout

On Starlette, minus the same application without sessions: sessioncore in memory as a part of Starlette's signed
cookie; a login and a new ID in memory; reading and writing in Redis, without what the server itself does.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
WORKLOADS = {
    "untouched": "anonymous, untouched",
    "first": "first write",
    "read": "read 1 of 10 keys",
    "update": "read and write",
    "login": "login (new ID)",
    "regenerate": "regenerate (new ID)",
    "redis": "read and write, Redis",
}
COUNTED = "functools_reduce"
TOTAL = re.compile(r"^totals: (\d+)", re.MULTILINE)
# The interpreter's cache of methods has a place for a method by the address of its name. Two that share a place cost a
# search through the bases at each call: some per cent of a request, won or lost by an import elsewhere. Left out.
SEARCH = re.compile(r"^cfn=find_name_in_mro.*\ncalls=.*\n\S+ (\d+)", re.MULTILINE)


@dataclass
class Count:
    """Instructions per request."""

    ours: float
    bare: float
    cookie: float | None = None  # Starlette's, where it can do this at all

    @property
    def over_bare(self) -> float:
        return self.ours - self.bare

    @property
    def of_cookie(self) -> float | None:
        return None if self.cookie is None else self.over_bare / (self.cookie - self.bare)


def count(src: Path, workloads: list[str], requests: int, redis: str) -> dict[str, Count]:
    """Count what the sessioncore under `src` costs at each workload."""
    with tempfile.TemporaryDirectory(prefix="callgrind-") as folder:
        report = run_child(src, Path(folder), [*workloads, f"--requests={requests}", f"--redis={redis}"])
        if src not in Path(report["sessioncore"]).parents:
            raise RuntimeError(f"meant to count {src}, and counted {report['sessioncore']}")
        return {
            workload: Count(**{side: total(Path(folder, dump)) / requests for side, dump in dumps.items()})
            for workload, dumps in report["dumps"].items()
        }


def run_child(src: Path, folder: Path, arguments: list[str]) -> Any:
    """Run `benchmarks.counted` under callgrind; return which dump is of what."""
    valgrind, messenger = shutil.which("valgrind"), shutil.which("vgdb")
    if valgrind is None or messenger is None:
        sys.exit("not run: valgrind is not installed")
    command = [
        valgrind, "--tool=callgrind", "--quiet", "--instr-atstart=no", "--trace-children=no", "--compress-strings=no",
        f"--toggle-collect={COUNTED}", f"--dump-after={COUNTED}", f"--callgrind-out-file={folder / 'out'}",
        sys.executable, "-m", "benchmarks.counted", str(folder), *arguments,
    ]  # fmt: skip
    # Coverage would be counted too.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    environment["PYTHONHASHSEED"] = "0"
    kept = environment.get("PYTHONPATH", "")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(src / "src"), str(src / "src/adapters"), kept]))
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def total(dump: Path) -> int:
    text = dump.read_text()
    found = TOTAL.search(text)
    assert found is not None, dump
    return int(found[1]) - sum(int(cost) for cost in SEARCH.findall(text))


def as_json(here: dict[str, Count], there: dict[str, Count]) -> str:
    found: dict[str, dict[str, float | None]] = {}
    for workload, own in here.items():
        found[workload] = {**vars(own), "over_bare": own.over_bare, "of_cookie": own.of_cookie}
        if workload in there:
            found[workload]["of_theirs"] = own.over_bare / there[workload].over_bare
    return json.dumps(found, indent=1)


def print_table(here: dict[str, Count], there: dict[str, Count]) -> None:
    columns = ["over bare", "of cookie"]
    if there:
        columns += ["theirs", "of cookie", "ours / theirs"]
    print(f"{'instructions per request':<26}" + "".join(f"{column:>15}" for column in columns))
    for workload, own in here.items():
        cells = cells_of(own)
        if there:
            other = there[workload]
            cells += [*cells_of(other), f"{own.over_bare / other.over_bare:.3f}"]
        print(f"{WORKLOADS[workload]:<26}" + "".join(f"{cell:>15}" for cell in cells))


def cells_of(counted: Count) -> list[str]:
    return [f"{counted.over_bare:,.0f}", "" if counted.of_cookie is None else f"{counted.of_cookie:.3f}"]


def server_for(workloads: list[str]) -> Any:
    """A Redis server of our own, if one is needed."""
    if "redis" not in workloads:
        return nullcontext()
    from benchmarks.places import open_places  # noqa: PLC0415 - the guard in the tests needs no server

    return open_places(postgres=False)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    options.add_argument("--src", type=Path, default=ROOT, metavar="CHECKOUT", help="count this one, not where we are")
    options.add_argument("--against", type=Path, metavar="CHECKOUT", help="count this one too, and compare")
    options.add_argument("--requests", type=int, default=200, help="that are counted of each kind")
    options.add_argument("--json", action="store_true")
    chosen = options.parse_args()
    with server_for(chosen.workloads) as places:
        redis = places.place("redis").url if places else ""
        here = count(chosen.src.resolve(), chosen.workloads, chosen.requests, redis)
        there: dict[str, Count] = {}
        if chosen.against:
            there = count(chosen.against.resolve(), chosen.workloads, chosen.requests, redis)
    if chosen.json:
        print(as_json(here, there))
    else:
        print_table(here, there)


if __name__ == "__main__":
    main()
