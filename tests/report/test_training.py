"""Training is shown against the level of a model that has learnt nothing."""

from typing import Any

import numpy as np
import pytest

from report.style import Sample
from report.training import architecture, layers_of, loss_curves

HISTORY: dict[str, Any] = {
    "loss": [0.9, 0.5, 0.4],
    "val_loss": [0.95, 0.55, 0.6],
    "mean_predictor_loss": 1.0,
    "val_mean_predictor_loss": 1.1,
}


def test_losses_are_drawn_with_the_level_of_predicting_the_mean(demo: Sample) -> None:
    ax = loss_curves(HISTORY, sample=demo).axes[0]
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()) for line in ax.lines}
    np.testing.assert_allclose(drawn["Training"], HISTORY["loss"])
    np.testing.assert_allclose(drawn["Validation"], HISTORY["val_loss"])
    np.testing.assert_allclose(drawn["Predicting the mean (validation)"], 1.1)
    assert "Kept: epoch 2" in drawn


def test_a_collapsed_model_is_marked(demo: Sample) -> None:
    healthy = loss_curves(HISTORY, sample=demo, collapsed=False).axes[0]
    collapsed = loss_curves(HISTORY, sample=demo, collapsed=True).axes[0]
    assert not any("COLLAPSED" in text.get_text() for text in healthy.texts)
    assert any("COLLAPSED" in text.get_text() for text in collapsed.texts)


def test_the_card_tells_the_layers_with_n_for_the_number_of_inputs() -> None:
    card = {
        "features": ["a", "b", "c"],
        "settings": {
            "encoder": ["n", 2],
            "encoder_activations": ["tanh", "leakyrelu"],
            "decoder": [],
            "decoder_activations": ["linear"],
        },
    }
    assert layers_of(card) == [(3, ""), (3, "tanh"), (2, "leakyrelu"), (3, "linear")]
    assert layers_of({"features": ["a"]}) == []


@pytest.mark.parametrize("sizes", [(33, 24, 33), (529, 529, 450, 300, 200, 150, 200, 350, 450, 529)])
def test_the_drawing_names_every_layer(demo: Sample, sizes: tuple[int, ...]) -> None:
    ax = architecture([(size, "tanh") for size in sizes], sample=demo).axes[0]
    written = [text.get_text() for text in ax.texts]
    for size in set(sizes):
        assert written.count(str(size)) == sizes.count(size)
    assert written.count("tanh") == len(sizes)
