"""The geometry of the report's charts; the template draws it as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_BINS = 28
_WIDTH, _HEIGHT = 280.0, 40.0
_MOST = 8  # ticks


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: where, in units of the chart, and its label."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a histogram, in units of the chart."""

    x: float
    y: float
    width: float
    height: float
    count: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram of one model's values with its quantiles."""

    name: str
    bins: list[Bin]
    count: int
    median: float
    p90: float
    most: float


@dataclass(frozen=True, slots=True)
class Distributions:
    """Histograms of several models over one logarithmic axis."""

    rows: list[Distribution]
    ticks: list[Tick]
    width: float = _WIDTH
    height: float = _HEIGHT


def distributions(values: dict[str, Sequence[float]], floor: float) -> Distributions | None:
    """Histograms of *values* per model, over equal steps of the logarithm.

    Values below *floor* (more than 0) are drawn at *floor*. None if there are no values.
    """
    given = {name: sorted(each) for name, each in values.items() if each}
    if not given:
        return None
    low = max(min(each[0] for each in given.values()), floor)
    high = max(max(each[-1] for each in given.values()), low * 1.01)
    if high / low < 4:  # a narrow range would look like a wide one
        middle = math.sqrt(high * low)
        low, high = middle / 2, middle * 2
    start, span = math.log(low), math.log(high / low)
    rows = [_distribution(name, each, start, span) for name, each in given.items()]
    return Distributions(rows, _ticks(low, high, start, span))


def quantile(values: Sequence[float], share: float) -> float:
    """The *share* quantile of sorted *values*, interpolated linearly."""
    place = (len(values) - 1) * share
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


def _distribution(name: str, values: Sequence[float], start: float, span: float) -> Distribution:
    counts = [0] * _BINS
    for value in values:
        place = (math.log(value) - start) / span if value > 0 else 0.0
        counts[min(max(int(place * _BINS), 0), _BINS - 1)] += 1
    most, width = max(counts), _WIDTH / _BINS
    bins = []
    for number, count in enumerate(counts):
        if count:
            height = max(_HEIGHT * count / most, 1.5)
            edges = [math.exp(start + span * (number + side) / _BINS) for side in (0, 1)]
            x, y = round(number * width, 2), round(_HEIGHT - height, 2)
            bins.append(Bin(x, y, round(width - 1, 2), round(height, 2), count, *edges))
    return Distribution(
        name=name,
        bins=bins,
        count=len(values),
        median=quantile(values, 0.5),
        p90=quantile(values, 0.9),
        most=values[-1],
    )


def _ticks(low: float, high: float, start: float, span: float) -> list[Tick]:
    """Powers of ten, with 2 and 5 between them where there is room."""
    for steps in ((1, 2, 5), (1,)):
        marks = [
            step * 10.0**power
            for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for step in steps
        ]
        inside = [mark for mark in marks if low * 0.999 <= mark <= high * 1.001]
        if len(inside) <= _MOST:
            break
    every = max(1, math.ceil(len(inside) / _MOST))
    return [
        Tick(round((math.log(mark) - start) / span * _WIDTH, 2), f"{mark:,.10g}")
        for mark in inside[::every]
    ]
