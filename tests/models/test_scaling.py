import json

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from models.scaling import fit_scaler, scaler_from_json

KINDS = ["standard", "minmax", "selective", "upper-tail"]
N = 20_000


@pytest.fixture(scope="module")
def energies():
    """An exponential, a Gaussian, a small number, a multiplicity and a constant."""
    rng = np.random.default_rng(5)
    return np.column_stack(
        [
            rng.exponential(40.0, N),
            rng.normal(91.0, 2.5, N),
            rng.uniform(-1, 1, N),
            rng.poisson(1.3, N),
            np.full(N, 7.0),
        ]
    ).astype(np.float32)


def _fit(kind, features, weight=None, *, pieces=7, **options):
    weight = np.ones(len(features), dtype=np.float32) if weight is None else weight
    chunks = zip(np.array_split(features, pieces), np.array_split(weight, pieces), strict=True)
    columns = [f"x{index}" for index in range(features.shape[1])]
    return fit_scaler(kind, chunks, columns=columns, n_events=len(features), **options)


@pytest.mark.parametrize(("kind", "reference"), [("standard", StandardScaler), ("minmax", MinMaxScaler)])
def test_affine_scaling_is_that_of_scikit_learn(energies, kind, reference):
    expected = reference().fit_transform(energies.astype(np.float64))
    np.testing.assert_allclose(_fit(kind, energies).transform(energies), expected, rtol=1e-4, atol=2e-5)


def test_the_thesis_scales_only_columns_that_leave_plus_minus_three(energies):
    scaler = _fit("selective", energies)
    np.testing.assert_array_equal(scaler.scale == 1, [False, False, True, False, True])
    assert scaler.offset[2] == 0
    assert scaler.transform(energies)[:, 0].std() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_inverts_survives_json_and_stays_finite(energies, kind):
    scaler = _fit(kind, energies)
    scaled = scaler.transform(energies)
    assert scaled.dtype == np.float32
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaler.invert(scaled), energies, rtol=2e-4, atol=2e-3)
    stored = scaler_from_json(json.loads(json.dumps(scaler.to_json())))
    np.testing.assert_array_equal(stored.transform(energies), scaled)


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_two_is_the_event_twice(energies, kind):
    weight = np.ones(N, dtype=np.float32)
    weight[: N // 2] = 2
    weighted = _fit(kind, energies, weight)
    repeated = _fit(kind, np.concatenate([energies, energies[: N // 2]]))
    np.testing.assert_allclose(
        weighted.transform(energies), repeated.transform(energies), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", KINDS)
def test_absent_objects_can_stay_at_zero_and_out_of_the_fit(energies, kind):
    holes = energies.copy()
    holes[::3, :2] = 0
    kept = _fit(kind, holes, empty="kept")
    scaled = kept.transform(holes)
    assert (scaled[::3, :2] == 0).all()
    found = np.where(scaled[:, :2] == 0, 0, holes[:, :2])  # the smallest filled value also scales to 0
    np.testing.assert_allclose(kept.invert(scaled)[:, :2], found, rtol=2e-4, atol=1e-2)
    filled = np.delete(energies, np.s_[::3], axis=0)
    np.testing.assert_allclose(
        kept.transform(filled)[:, :2], _fit(kind, filled).transform(filled)[:, :2], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_was_never_filled_scales_to_finite_values(kind):
    empty = np.zeros((100, 2), dtype=np.float32)
    scaler = _fit(kind, empty, pieces=2, empty="kept")
    assert (scaler.transform(empty) == 0).all()
    assert np.isfinite(scaler.transform(empty + 50)).all()


def test_the_upper_tail_of_an_exponential_is_the_energy_in_units_of_its_mean(energies):
    scaler = _fit("upper-tail", energies)
    points = np.array([20.0, 80.0, 150.0, 400.0], dtype=np.float32)
    probe = np.tile(energies[:1], (4, 1))
    probe[:, 0] = points
    np.testing.assert_allclose(scaler.transform(probe)[:, 0], points / 40, rtol=0.06)


def test_the_upper_tail_of_a_multiplicity_is_minus_log_of_its_tail_probability(energies):
    scaler = _fit("upper-tail", energies)
    for jets in range(4):
        probe = energies[:1].copy()
        probe[0, 3] = jets
        expected = -np.log(np.mean(energies[:, 3] >= jets))
        assert scaler.transform(probe)[0, 3] == pytest.approx(expected, abs=1e-4)


def test_the_upper_tail_rises_and_is_one_sided(energies):
    scaler = _fit("upper-tail", energies)
    probe = np.tile(energies[:1], (200, 1))
    probe[:, 1] = np.linspace(60, 500, 200)
    scaled = scaler.transform(probe)[:, 1]
    assert (np.diff(scaled) >= 0).all()
    assert scaled[0] == 0
    assert scaled[-1] > 50


def test_a_foreign_scaler_is_refused(energies):
    with pytest.raises(ValueError, match="format"):
        scaler_from_json({"format": 99})
    stored = _fit("standard", energies).to_json()
    del stored["scale"]
    with pytest.raises(ValueError, match="scale"):
        scaler_from_json(stored)
