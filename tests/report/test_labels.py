"""Labels of vectors are apart from each other and inside the frame."""

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from report.labels import Labels
from report.style import new_figure


def test_labels_of_neighbouring_vectors_do_not_cover_each_other() -> None:
    figure = new_figure(4.0, 4.0)
    ax = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    ax.set(xlim=(-100, 100), ylim=(-100, 100))
    labels = Labels(ax)
    for tip in ((-10.0, 25.0), (-6.0, 20.0), (-8.0, 22.0), (0.0, 95.0)):
        labels.vector(np.array(tip), f"j {tip[1]:.0f}", fontsize=9.5)
    labels.beside("η = 1", [(-8.0, 30.0), (70.0, 70.0)], fontsize=8.5)
    labels.write()
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    frame = ax.get_window_extent(renderer)
    boxes = [text.get_window_extent(renderer) for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == ["j 25", "j 20", "j 22", "j 95", "η = 1"]
    for number, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:number])
        assert frame.x0 < box.x0 < box.x1 < frame.x1
        assert frame.y0 < box.y0 < box.y1 < frame.y1
