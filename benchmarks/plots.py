"""Plots of a run, as PNG and SVG: transparent, in colours that read on white and on black."""

from contextlib import AbstractContextManager
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from benchmarks.results import Results
from benchmarks.scaling import ENCODED
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["draw", "saved", "styled"]

INK = "#7d8590"  # 4 : 1 on white, and on GitHub's dark
OURS, OTHERS, FLOOR = "#3b82f6", "#9a8f86", "#2fa36b"
LINES = {"sessioncore": OURS, "starsessions": "#e8833a", "Litestar server-side": "#a371f7"}
MARKS = {"memory": "o", "sqlite": "s", "redis": "^", "postgres": "D"}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write every plot that has figures; return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        made: list[Path] = []
        if results.cpu:
            made += saved(_overhead(results), folder / "bench-overhead")
        if results.http:
            made += saved(_http(results), folder / "bench-http")
        if results.scaling:
            made += saved(_scaling(results), folder / "bench-scaling")
        return made


def styled() -> AbstractContextManager[None]:
    """Draw in the style of all our plots."""
    return mpl.rc_context(
        {
            "font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
            "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none",
            "svg.hashsalt": "sessioncore", "legend.frameon": False,
        }
    )  # fmt: skip


def saved(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG, and close it."""
    files = [path.with_suffix(".png"), path.with_suffix(".svg")]
    for file in files:
        dateless = {"Date": None} if file.suffix == ".svg" else None  # the same figures give the same file
        figure.savefig(file, transparent=True, dpi=160, bbox_inches="tight", metadata=dateless)
    plt.close(figure)
    return files


def _colour(name: str) -> str:
    return OURS if name.startswith("sessioncore") else FLOOR if "floor" in name else OTHERS


def _overhead(results: Results) -> Figure:
    """Dots, with the quartiles as lines: on a log scale a bar's length would mean nothing."""
    shown = [("read", "read 1 of 10 keys"), ("update", "read and write"), ("first", "first write")]
    figure, axes = plt.subplots(1, len(shown), figsize=(13, 5.5), layout="constrained", sharey=True)
    who = [one for one in results.cpu["read"] if one[1] in {"memory", "cookie", "redis"}]
    who.sort(key=lambda one: results.cpu["read"][one].median, reverse=True)
    names = [f"{name}, {storage}" for name, storage in who]
    for axis, (workload, title) in zip(axes, shown, strict=True):
        for row, (name, storage) in enumerate(who):
            cost = results.cpu[workload][name, storage]
            axis.hlines(row, cost.low, cost.high, color=_colour(name), linewidth=2)
            axis.plot(cost.median, row, "o", color=_colour(name), markersize=7)
            axis.annotate(f"{cost.median:.3g}", (cost.median, row), (8, -3), textcoords="offset points", fontsize=8)
        axis.set_yticks(range(len(who)), names)
        axis.set_xscale("log")
        axis.set_title(title, color=INK)
        axis.set_xlabel("microseconds of CPU over bare (log)")
        axis.margins(x=0.2)
        axis.grid(axis="y", color=INK, alpha=0.25, linewidth=0.6)
        axis.tick_params(axis="y", length=0)
    return figure


def _http(results: Results) -> Figure:
    cases = list(reversed(results.http))
    names = [
        f"{server}: {name.strip('_').replace('_', ' ').partition(':')[0]}, {storage}" for server, name, storage in cases
    ]
    colours = [FLOOR if "floor" in c[1] or "bare" in c[1] else _colour(c[1]) for c in cases]
    figure, (rate, tail) = plt.subplots(1, 2, figsize=(13, 0.34 * len(cases) + 1.4), layout="constrained", sharey=True)
    for axis, field, title in ((rate, "per_second", "requests per second"), (tail, "p99", "p99, milliseconds")):
        values = [results.http[case].figure(field) for case in cases]
        bars = axis.barh(names, values, color=colours)
        labels = [f" {value:,.0f}" if value > 100 else f" {value:.1f}" for value in values]
        axis.bar_label(bars, labels=labels, color=INK, fontsize=9)
        axis.set_title(title, color=INK)
        axis.margins(x=0.12)
        axis.tick_params(axis="y", length=0)
    return figure


def _scaling(results: Results) -> Figure:
    figure, (memory, cost) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
    for (name, storage), counts in results.scaling.items():
        colour = LINES.get(name, OTHERS)
        if storage == "memory":
            many = {count: found for count, found in counts.items() if count >= 10_000}
            memory.plot(list(many), [f["bytes"] / ENCODED for f in many.values()], marker="o", color=colour, label=name)
        label, style = f"{name}, {storage}", {"marker": MARKS[storage], "color": colour}
        cost.plot(list(counts), [found["read"] for found in counts.values()], label=label, **style)  # type: ignore[arg-type]
    _dress(memory, "memory per session, in encoded bytes of its data")
    memory.set_ylim(0, 2)
    memory.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    _dress(cost, "read of one key, microseconds of CPU over bare")
    cost.set_yscale("log")
    cost.set_ylim(1, 1000)
    return figure


def _dress(axis: Axes, title: str) -> None:
    axis.set_xscale("log")
    axis.set_xlabel("sessions")
    axis.set_title(title, color=INK)
    axis.legend(labelcolor=INK, fontsize=9)
