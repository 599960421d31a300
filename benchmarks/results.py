"""The figures of one run, and the questions that tables, plots and bars ask of them."""

import statistics
from dataclasses import dataclass, field

from benchmarks.cpu import Figure
from benchmarks.over_http import Load
from benchmarks.promises import Kept
from benchmarks.traffic import Traffic

__all__ = ["Results", "Who"]

Who = tuple[str, str]  # contender's NAME, storage


@dataclass
class Results:
    """Everything that was measured; a section that was not asked for stays empty."""

    cpu: dict[str, dict[Who, Figure]] = field(default_factory=dict)  # by workload
    crowded: dict[Who, Figure] = field(default_factory=dict)  # read, 32 requests at a time
    traffic: dict[Who, tuple[int, dict[str, Traffic]]] = field(default_factory=dict)
    promises: dict[Who, Kept] = field(default_factory=dict)
    http: dict[tuple[str, str, str], Load] = field(default_factory=dict)
    scaling: dict[Who, dict[int, dict[str, float]]] = field(default_factory=dict)
    imports: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def ratio(self, workload: str, ours: Who, theirs: Who) -> float | None:
        """Our cost as a part of theirs; `crowded` is a read among 32 at a time."""
        figures = self.crowded if workload == "crowded" else self.cpu.get(workload, {})
        if ours not in figures or theirs not in figures:
            return None
        return figures[ours].of(figures[theirs])

    def http_ratio(self, name: str, case: tuple[str, str, str], base: tuple[str, str, str]) -> float | None:
        """One case's figure as a part of another's: the median over the rounds of the ratio within each."""
        if case not in self.http or base not in self.http:
            return None
        pairs = zip(getattr(self.http[case], name), getattr(self.http[base], name), strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)
