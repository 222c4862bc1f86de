"""Event weights: data counts once, simulation has every factor by its name, negative weights stay negative."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest

from processors.schema import event_record
from processors.settings import WeightSettings
from processors.weights import SCALE_FACTORS, event_weights

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
