"""Labels of vectors from one origin, none upon another nor upon a vector where there is room."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from report.processes import Floats

__all__ = ["Labels"]

# In points: distances from a tip, and turns around it, in the order in which they are tried.
_DISTANCES = (9.0, 16.0, 24.0)
_TURNS = (0.0, 0.6, -0.6, 1.2, -1.2, 1.8, -1.8, 2.5, -2.5)
_LETTER = 0.55  # mean width of a letter, of the size of its font
_TICK = 8.0  # room for ticks at the frame
_UPON_ANOTHER = 100  # how much worse than upon one point of a vector


class _Box(NamedTuple):
    """A rectangle about a centre."""

    x: float
    y: float
    half_width: float
    half_height: float


class _Label(NamedTuple):
    """A text, where its centre may be [points from the middle of the frame], and its look."""

    text: str
    half: tuple[float, float]
    places: list[Floats]
    look: dict[str, Any]


class Labels:
    """Places the labels of one frame whose middle is the origin; all are known before the first is written."""

    def __init__(self, ax: Axes) -> None:
        """Take the frame, whose limits are set."""
        self._ax = ax
        inches = ax.get_position().size * ax.figure.get_size_inches()  # type: ignore[union-attr]
        self._half = 36.0 * np.asarray(inches, dtype=float)
        self._scale = np.array([ax.get_xlim()[1], ax.get_ylim()[1]])
        self._lines: list[Floats] = []
        self._labels: list[_Label] = []

    def vector(self, tip: Floats, text: str, **look: Any) -> None:
        """A vector to a tip, in units of the axes, with a label beside the tip; an empty text is none."""
        end = tip / self._scale * self._half
        # What lies near the origin is crowded whatever is done.
        self._lines.append(np.linspace(0.25, 1.0, 25)[:, None] * end)
        if text:
            half = _half_size(text, look["fontsize"])
            angle = float(np.arctan2(end[1], end[0]))
            places = []
            for distance in _DISTANCES:
                for turn in _TURNS:
                    away = np.array([np.cos(angle + turn), np.sin(angle + turn)])
                    # So far that the text, not its middle, has the distance.
                    places.append(end + away * distance * 0.7 + away * np.array(half))
            self._labels.append(_Label(text, half, places, look))

    def beside(self, text: str, places: Iterable[tuple[float, float]], **look: Any) -> None:
        """A label that may be at several places, in units of the axes, the best first."""
        found = [np.array(place) / self._scale * self._half for place in places]
        self._labels.append(_Label(text, _half_size(text, look["fontsize"]), found, look))

    def write(self) -> None:
        """Write all labels in their order, each where it covers least."""
        points = np.concatenate([np.empty((0, 2)), *self._lines])
        taken: list[_Box] = []
        for text, half, places, look in self._labels:
            boxes = [_Box(float(x), float(y), *half) for x, y in places]
            best = min(boxes, key=lambda box: self._harm(box, taken, points))
            taken.append(best)
            self._ax.annotate(
                text, (0.5, 0.5), (best.x, best.y), xycoords="axes fraction", textcoords="offset points",
                ha="center", va="center",
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.4}, **look,
            )  # fmt: skip

    def _harm(self, box: _Box, taken: Sequence[_Box], points: Floats) -> float:
        """What a label covers: other labels, points of vectors, the frame."""
        upon = sum(
            abs(box.x - other.x) < box.half_width + other.half_width
            and abs(box.y - other.y) < box.half_height + other.half_height
            for other in taken
        )
        width, height = self._half - _TICK
        outside = abs(box.x) + box.half_width > width or abs(box.y) + box.half_height > height
        inside = np.abs(points - [box.x, box.y]) < [box.half_width + 1.5, box.half_height + 1.5]
        return float(_UPON_ANOTHER * (upon + outside) + inside.all(axis=1).sum())


def _half_size(text: str, fontsize: float) -> tuple[float, float]:
    """Half the width and height of a text [points], of formulas about."""
    plain = text.replace("$", "").replace(r"\eta", "n")
    letters = 4 if "^" in plain else len(plain)
    return 0.5 * _LETTER * fontsize * letters + 1.0, 0.5 * fontsize * (1.7 if "^" in plain else 1.15)
