"""Event weights: data counts once, simulation has every factor by its name, negative weights stay negative."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from fileset.exceptions import InputError
from processors.schema import event_record
from processors.settings import CorrectionSettings, WeightSettings
from processors.weights import (
    SCALE_FACTORS,
    check_corrections,
    corrected_weights,
    event_weights,
    variation_names,
)

FACTORS = {
    "generator": 0.5,
    "pileup": 1.1,
    "electron": 0.9,
    "muon": 0.97,
    "lepton_trigger": 1.05,
    "btag": 0.8,
}
SIMULATION = {"kind": "background", "norm": 0.02}


def test_data_has_weight_one_whatever_the_file_says(make_record: Callable[..., ak.Array]) -> None:
    record = make_record({"weight": dict.fromkeys(FACTORS, 0.0)}, {"weight": {"generator": -3.0}}, {})
    for settings in (WeightSettings(), WeightSettings(btag_weight=True)):
        weights = event_weights(record, {"kind": "data", "norm": 7.0}, settings)
        assert weights.weight().tolist() == [1, 1, 1]


@pytest.mark.parametrize(("btag", "expected"), [(False, 1.0), (True, FACTORS["btag"])])
def test_simulation_is_the_product_of_named_factors(
    make_record: Callable[..., ak.Array], btag: bool, expected: float
) -> None:
    record = make_record({"weight": FACTORS})
    weights = event_weights(record, SIMULATION, WeightSettings(btag_weight=btag))
    product = 0.02 * 0.5 * 1.1 * 0.9 * 0.97 * 1.05 * expected
    assert weights.weight()[0] == pytest.approx(product, rel=1e-6)
    for name in ("generator", *SCALE_FACTORS):
        assert weights.partial_weight(include=[name])[0] == pytest.approx(FACTORS[name]), name
    assert weights.partial_weight(include=["norm"])[0] == 0.02
    assert ("btag" in weights.weightStatistics) is btag


def test_signal_is_weighted_like_background(make_record: Callable[..., ak.Array]) -> None:
    record = make_record({"weight": FACTORS})
    signal, background = (
        event_weights(record, {"kind": kind, "norm": 0.02}, WeightSettings()).weight()
        for kind in ("signal", "background")
    )
    assert signal == background


def test_negative_weights_are_kept(make_record: Callable[..., ak.Array]) -> None:
    record = make_record({"weight": {"generator": -1.0}}, {"weight": {"generator": 1.0}})
    weight = event_weights(record, {"kind": "background", "norm": 3.0}, WeightSettings()).weight()
    assert weight.tolist() == [-3, 3]
    assert weight.sum() == 0


def test_no_event_has_no_weight(make_record: Callable[..., ak.Array]) -> None:
    for kind in ("data", "background"):
        record = make_record()
        assert event_weights(record, {"kind": kind, "norm": 1.0}, WeightSettings()).weight().shape == (0,)


@pytest.mark.shared
def test_real_simulation_and_real_data(real_2020: dict[str, Path], read_events: Callable[..., Any]) -> None:
    simulated = event_record(read_events(real_2020["361106.Zee.4lep"], "mini"))
    weight = event_weights(simulated, {"kind": "background", "norm": 2.0}, WeightSettings()).weight()
    factors = [np.asarray(simulated.weight[name], dtype=np.float64) for name in ("generator", *SCALE_FACTORS)]
    np.testing.assert_allclose(weight, 2 * np.prod(factors, axis=0), rtol=1e-12)
    data = event_record(read_events(real_2020["data_B.4lep"], "mini"))
    assert ak.all(data.weight.generator == 0), "mcWeight of collision data is 0"
    assert event_weights(data, {"kind": "data", "norm": 1.0}, WeightSettings()).weight().sum() == len(data)


@pytest.fixture
def correction(tmp_path: Path) -> CorrectionSettings:
    """A factor 2 below 50 GeV of the leading lepton and 3 above, 10 % up and 20 % down."""
    systematics = {"nominal": 1.0, "up": 1.1, "down": 0.8}
    document = {
        "schema_version": 2,
        "corrections": [
            {
                "name": "lepton",
                "version": 1,
                "inputs": [{"name": "systematic", "type": "string"}, {"name": "pt", "type": "real"}],
                "output": {"name": "factor", "type": "real"},
                "data": {
                    "nodetype": "category",
                    "input": "systematic",
                    "content": [
                        {
                            "key": key,
                            "value": {
                                "nodetype": "binning",
                                "input": "pt",
                                "edges": [0.0, 50.0, 1000.0],
                                "flow": "clamp",
                                "content": [2 * factor, 3 * factor],
                            },
                        }
                        for key, factor in systematics.items()
                    ],
                },
            }
        ],
    }
    path = tmp_path / "corrections.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    return CorrectionSettings(
        file=path, correction="lepton", inputs=("{systematic}", "lep1_pt"), up="up", down="down"
    )


def test_variations_of_factors_and_corrections(
    make_record: Callable[..., ak.Array], correction: CorrectionSettings
) -> None:
    settings = WeightSettings(
        uncertainties={"norm": 0.02, "electron": 0.05}, corrections={"lepton": correction}
    )
    names = variation_names(settings)
    assert names == ("nominal", "normUp", "normDown", "electronUp", "electronDown", "leptonUp", "leptonDown")
    record = make_record({"weight": FACTORS}, {"weight": FACTORS}, {"weight": FACTORS})
    weights = event_weights(record, SIMULATION, settings)
    index = np.array([0, 2])
    features = {"lep1_pt": np.array([30.0, 80.0], dtype=np.float32)}
    varied = corrected_weights(weights, index, features, SIMULATION, settings)
    assert tuple(varied) == names
    nominal = weights.weight()[index] * np.array([2, 3])
    np.testing.assert_allclose(varied["nominal"], nominal)
    factors = {
        "normUp": 1.02,
        "normDown": 0.98,
        "electronUp": 1.05,
        "electronDown": 0.95,
        "leptonUp": 1.1,
        "leptonDown": 0.8,
    }
    for name, factor in factors.items():
        np.testing.assert_allclose(varied[name], factor * nominal, err_msg=name)
    of_data = corrected_weights(weights, index, features, {"kind": "data"}, settings)
    assert {name: w.tolist() for name, w in of_data.items()} == {"nominal": [1, 1]}


def test_a_correction_that_does_not_fit_is_named(
    make_record: Callable[..., ak.Array], correction: CorrectionSettings, tmp_path: Path
) -> None:
    record = make_record({"weight": FACTORS})
    features = {"lep1_pt": np.array([30.0], dtype=np.float32)}
    wrong = {
        "does not take": correction.model_copy(update={"correction": "muon"}),
        "cannot be read": correction.model_copy(update={"file": tmp_path / "absent.json"}),
    }
    for words, settings in wrong.items():
        configured = WeightSettings(corrections={"lepton": settings})
        weights = event_weights(record, SIMULATION, configured)
        with pytest.raises(InputError, match=r"has no correction|cannot be read"):
            check_corrections(configured, ("lep1_pt",))
        with pytest.raises(InputError, match=words):
            corrected_weights(weights, np.array([0]), features, SIMULATION, configured)


def test_a_misspelt_input_of_a_correction_is_found_before_the_first_event(
    correction: CorrectionSettings,
) -> None:
    wrong = correction.model_copy(update={"inputs": ("{systematic}", "lep1_ptt")})
    check_corrections(WeightSettings(corrections={"lepton": correction}), ("lep1_pt",))
    with pytest.raises(InputError, match="lep1_ptt"):
        check_corrections(WeightSettings(corrections={"lepton": wrong}), ("lep1_pt",))
