"""A network is drawn as it is built: widths, activations, latent space and number of parameters."""

import pytest

from models import backend
from models.presets import PRESET_FEATURES, PRESETS
from models.settings import TrainingSettings
from report.architecture import architecture, layers_of, penalties_of
from report.style import Sample

N_INPUTS = {"table": 33, "reduced": 13, "kinematics": 6, "rmm": 529, "rmm-energies": 258}


def _card(preset: str) -> dict[str, object]:
    inputs = [f"x{column}" for column in range(N_INPUTS[PRESET_FEATURES[preset]])]
    return {"features": inputs, "settings": TrainingSettings(preset=preset).model_dump(mode="json")}


def test_the_card_tells_the_layers_with_n_for_the_number_of_inputs() -> None:
    layers = layers_of(_card("thesis-vae-small"))
    assert [layer.units for layer in layers] == [529, 529, 150, 529]
    assert [layer.role for layer in layers] == ["input", "encoder", "latent", "output"]
    assert [layer.gaussian for layer in layers] == [False, False, True, False]
    assert layers_of({"features": ["a"]}) == []


@pytest.mark.parametrize("preset", ["report-minmax", "report-unstacked", "thesis-vae-big"])
def test_as_many_parameters_are_written_as_the_network_has(preset: str) -> None:
    backend.start()
    from models.autoencoder import build  # noqa: PLC0415

    layers = layers_of(_card(preset))
    network = build(TrainingSettings(preset=preset), layers[0].units)
    assert sum(layer.parameters for layer in layers) == network.count_params()


@pytest.mark.parametrize("preset", PRESETS)
def test_the_drawing_names_every_layer_and_marks_the_latent_space(demo: Sample, preset: str) -> None:
    card = _card(preset)
    layers = layers_of(card)
    written = [text.get_text() for text in architecture(layers, sample=demo).axes[0].texts]
    for layer in layers:
        assert (f"2 × {layer.units}" if layer.gaussian else f"{layer.units}") in written
    assert sum(text.startswith("latent space") for text in written) == 1
    total = f"{sum(layer.parameters for layer in layers):,}"
    assert any(f"{total} parameters" in text for text in written)


def test_slope_and_penalties_are_written_where_they_count() -> None:
    assert penalties_of(_card("report-minmax")) == "leaky ReLU slope 1.0, kernel L1 0.05, activity L2 0.5"
    assert penalties_of(_card("default")) == ""
    assert "draws per event" in penalties_of(_card("thesis-vae-big"))
