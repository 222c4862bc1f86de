"""The leaderboard of a search, and all its trials in one picture."""

from typing import Any

import numpy as np
import pytest

from report.search import leaderboard_rows, leaderboard_table, parallel_coordinates, search_drawing
from report.style import Sample


def trial(number: int, criterion: float | None, **values: Any) -> dict[str, Any]:
    """An entry of the leaderboard; without a criterion it failed."""
    entry: dict[str, Any] = {"trial": f"{number:04}", "criterion": criterion, "epochs": 15, "values": values}
    if criterion is None:
        return entry | {"cause": "the loss is not finite"}
    settings = {
        "encoder": [64, 6],
        "decoder": [32],
        "kernel_l1": 0.01,
        "activity_l2": 0.0,
        "learning_rate": 1.5e-3,
    }
    return entry | {
        "relative_error": criterion / 2,
        "parameters": 3400,
        "collapsed": criterion > 1.9,
        "settings": settings,
    }


@pytest.fixture
def result() -> dict[str, Any]:
    """Four trials: the first is best, the third has collapsed, the last failed."""
    return {
        "region": "2L",
        "name": "wide-table",
        "criterion": "validation MSE",
        "hyperparameters": [
            {"name": "encoder_1", "min": 1, "max": 100, "log": True},
            {"name": "encoder_2", "min": 2, "max": 12, "log": False},
            {"name": "encoder_1_activation", "values": ["relu", "tanh", "linear"]},
            {"name": "kernel_l1", "values": [0.5, 0.01, 0.1]},
        ],
        "trials": [
            trial(3, 0.4, encoder_1=10, encoder_2=7, encoder_1_activation="tanh", kernel_l1=0.01),
            trial(0, 1.2, encoder_1=100, encoder_1_activation="linear", kernel_l1=0.5),
            trial(1, 2.0, encoder_1=1, encoder_2=12, encoder_1_activation="relu", kernel_l1=0.1),
            trial(2, None, encoder_1=5, encoder_1_activation="relu", kernel_l1=0.1),
        ],
    }


def test_the_leaderboard_names_error_network_and_what_went_wrong(result: dict[str, Any]) -> None:
    best, _, collapsed, failed = leaderboard_rows(result)
    assert best == ("0003", "0.4", "0.200", "15", "3,400", "64-6-32", "0.01", "0", "0.0015", "")
    assert collapsed[-1] == "collapsed"
    assert (failed[0], failed[5], failed[-1]) == ("0002", "the loss is not finite", "failed")
    assert len(leaderboard_rows(result, 2)) == 2


def test_the_terminal_tells_how_many_trials_failed(
    result: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    leaderboard_table(result)
    assert "4 trials, 1 of them failed, by validation MSE" in capsys.readouterr().out


def test_each_trial_is_a_line_through_its_values_to_its_error(result: dict[str, Any], demo: Sample) -> None:
    ax = parallel_coordinates(result, sample=demo).axes[0]
    lines = [line for line in ax.lines if len(np.asarray(line.get_ydata())) == 5]
    assert len(lines) == 3
    thickest = max(lines, key=lambda line: line.get_linewidth())
    places = np.asarray(thickest.get_xdata(), dtype=float)
    # Half way on the logarithmic axis, half way on the linear one, the second of three choices, the smallest L1.
    np.testing.assert_allclose(places[:4], [0.5, 0.5, 0.5, 0.0], atol=0.02)
    ends = [np.asarray(line.get_xdata(), dtype=float)[-1] for line in lines]
    assert places[-1] == min(ends)
    assert {line.get_linestyle() for line in lines} == {"-", "--"}


def test_a_trial_without_a_layer_passes_beside_its_axis(result: dict[str, Any], demo: Sample) -> None:
    ax = parallel_coordinates(result, sample=demo).axes[0]
    lines = [line for line in ax.lines if len(np.asarray(line.get_ydata())) == 5]
    beside = [line for line in lines if np.asarray(line.get_xdata(), dtype=float)[1] < -0.05]
    assert len(beside) == 1
    written = [text.get_text() for text in ax.texts]
    assert "–" in written
    assert {"encoder 1", "kernel l1", "validation MSE", "relu", "0.5"} <= set(written)


def test_a_figure_says_what_its_lines_are(result: dict[str, Any], demo: Sample) -> None:
    figure = parallel_coordinates(result, sample=demo)
    (legend,) = (text.get_text() for text in figure.texts)
    assert legend == (
        "thick: trial 0003, the best (0.4) · darker is better · dashed: collapsed (1 of 3) · 1 failed"
    )


def test_the_drawing_carries_its_numbers(result: dict[str, Any], demo: Sample) -> None:
    drawing = search_drawing(result, sample=demo)
    assert drawing.name == "2L_search_wide-table"
    assert [entry["trial"] for entry in drawing.data["trials"]] == ["0003", "0000", "0001", "0002"]
    assert "trial 0003, reaches 0.4" in drawing.alt


@pytest.mark.parametrize("errors", [(0.5, 0.5), (0.5,)])
def test_equal_errors_are_drawn_too(result: dict[str, Any], demo: Sample, errors: tuple[float, ...]) -> None:
    trials = [{**result["trials"][0], "criterion": error} for error in errors]
    assert parallel_coordinates({**result, "trials": trials}, sample=demo).axes
