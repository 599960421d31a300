"""Plots one soak: the figures that must stay flat, over time."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl

mpl.use("Agg")

from benchmarks.plots import saved, styled
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from benchmarks.soak.__main__ import Sample

__all__ = ["draw"]


def draw(samples: "Sequence[Sample]", names: Sequence[str], path: Path) -> list[Path]:
    """Write the picture as PNG and SVG."""
    minutes = [sample.seconds / 60 for sample in samples]
    with styled():
        figure, (memory, descriptors, redis) = plt.subplots(3, 1, figsize=(9, 7), layout="constrained", sharex=True)
        for index, name in enumerate(names):
            memory.plot(minutes, [sample.memory[index] for sample in samples], label=name)
            descriptors.plot(minutes, [sample.descriptors[index] for sample in samples], label=name)
        redis.plot(minutes, [sample.keys for sample in samples], label="keys in Redis")
        redis.plot(minutes, [sample.connections for sample in samples], label="connections to Redis")
        for axes, label in ((memory, "memory, MiB"), (descriptors, "descriptors"), (redis, "number")):
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
            axes.legend(ncols=3, loc="lower right")
        redis.set_xlabel("minutes")
        return saved(figure, path)
