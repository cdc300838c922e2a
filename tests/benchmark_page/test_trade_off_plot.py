"""The privacy-utility scatter: every name readable, wherever the points crowd."""

import itertools
import random

import pytest
from benchmark_results import results_content, write_results
from matplotlib.text import Annotation, Text

from ddm_core.benchmark.page.labels import place_labels
from ddm_core.benchmark.page.plots import trade_off_plot
from ddm_core.benchmark.results_file import read_results
from ddm_core.benchmark.summary import summarise
from ddm_core.reporting.plots import new_figure, styled


@pytest.mark.parametrize("seed", range(3))
def test_no_name_covers_another_in_a_crowd(seed):
    luck = random.Random(seed)
    points = [(luck.uniform(10, 25), luck.uniform(90, 100)) for _ in range(20)]
    points += [(luck.uniform(10, 60), luck.uniform(2, 4)) for _ in range(4)]
    with styled():
        figure = new_figure(9.6, 5.0)
        axes = figure.subplots()
        axes.set(xlim=(5, 65), ylim=(-10, 122))
        place_labels(figure, axes, points, [f"obfuscator_{i}" for i in range(len(points))], avoid=2.5)
        figure.draw_without_rendering()
        names = [child for child in axes.get_children() if isinstance(child, Annotation)]
        boxes = [Text.get_window_extent(name) for name in names]  # of the letters, without their line
    assert len(boxes) == len(points)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


def test_an_obfuscator_without_that_channel_is_not_drawn(tmp_path):
    rows = summarise(read_results(write_results(tmp_path, results_content(seeds=(0,)))))
    plot = trade_off_plot(rows, "png", 0.025)
    assert plot
    assert all(row.name in plot for row in rows)
    assert trade_off_plot(rows, "webp", 0.025) is None
