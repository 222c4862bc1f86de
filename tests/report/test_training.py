"""Training is shown against the level of a model that has learnt nothing."""

from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from report.style import Sample
from report.training import loss_curves

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
    (box,) = [text for text in collapsed.texts if "COLLAPSED" in text.get_text()]
    assert isinstance(collapsed.figure, Figure)
    collapsed.figure.savefig(BytesIO(), format="png")
    assert box.get_window_extent().y0 > collapsed.bbox.y1, "it covers no curve"


def test_what_chose_the_epoch_is_drawn_where_it_is_not_the_error(demo: Sample) -> None:
    objective = [1.2, 0.9, 0.8]
    vae = loss_curves({**HISTORY, "val_objective": objective}, sample=demo).axes[0]
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()) for line in vae.lines}
    np.testing.assert_allclose(drawn["Validation objective"], objective)
    assert "Kept: epoch 3" in drawn
    plain = loss_curves({**HISTORY, "val_objective": HISTORY["val_loss"]}, sample=demo).axes[0]
    assert "Validation objective" not in {str(line.get_label()) for line in plain.lines}
    assert plain.get_ylabel() == "Mean squared error"


def test_of_an_ensemble_the_other_members_are_drawn_beside_the_first(demo: Sample) -> None:
    others = [{"val_loss": [0.9, 0.6]}, {"val_loss": [0.8, 0.7, 0.5]}]
    ax = loss_curves({**HISTORY, "members": [HISTORY, *others]}, sample=demo).axes[0]
    drawn = [np.asarray(line.get_ydata()).tolist() for line in ax.lines]
    assert all(other["val_loss"] in drawn for other in others)
    assert [text.get_text() for text in ax.get_legend().get_texts()].count("Validation of other members") == 1
