import json
import time
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import ndtri
from scipy.stats import norm
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from models.scaling import fit_scaler, scaler_from_json
from models.settings import ScalerKind

KINDS = get_args(ScalerKind)
N = 20_000
# Energies, angles and multiplicities up to the energy of the collider [GeV], rounded so that none are denormal.
COLUMNS = arrays(
    np.float32,
    st.tuples(st.integers(3, 60), st.integers(1, 3)),
    elements=st.one_of(
        st.integers(-3, 12).map(float), st.floats(-13_000, 13_000, width=32).map(lambda x: round(x, 3))
    ),
)


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


def _fit(kind, features, weight=None, *, pieces=7, columns=None, **options):
    weight = np.ones(len(features), dtype=np.float32) if weight is None else weight
    chunks = zip(np.array_split(features, pieces), np.array_split(weight, pieces), strict=True)
    columns = columns or [f"x{index}" for index in range(features.shape[1])]
    return fit_scaler(kind, chunks, columns=columns, **options)


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
    scaled, expected = weighted.transform(energies), repeated.transform(energies)
    if kind in (
        "upper-tail",
        "quantile",
    ):  # how far out they follow the events is a matter of effective numbers
        outer = np.sort(energies, axis=0)[[20, -20]]
        inside = (energies >= outer[0]) & (energies <= outer[1])
        np.testing.assert_allclose(scaled[inside], expected[inside], atol=0.05)
    else:
        np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_absent_objects_can_stay_at_zero_and_out_of_the_fit(energies, kind):
    holes = energies.copy()
    holes[::3, :2] = 0
    kept = _fit(kind, holes, empty="kept")
    scaled = kept.transform(holes)
    assert (scaled[::3, :2] == 0).all()
    assert ((scaled == 0) == (holes == 0)).all()  # not even the smallest filled value
    np.testing.assert_allclose(kept.invert(scaled), holes, rtol=2e-4, atol=1e-2)
    filled = np.delete(energies, np.s_[::3], axis=0)
    np.testing.assert_allclose(
        kept.transform(filled)[:, :2], _fit(kind, filled).transform(filled)[:, :2], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_zero_of_a_count_or_a_flag_is_a_value_and_not_an_absent_object(kind):
    """No flag is lost: what is scaled as if nothing were kept is every column that counts or answers yes or no."""
    counts = ["njet20", "njet60", "nbjet77", "isOS", "isSF", "lep1_isTightID", "mt2", "costhstar"]
    rng = np.random.default_rng(8)
    columns = [*counts, "lep3_pt", "m_j1_e2"]
    features = (rng.poisson(0.7, (N, len(columns))) > 0).astype(np.float32)
    features[:, -2:] *= rng.exponential(40, (N, 2)).astype(np.float32)
    kept = _fit(kind, features, columns=columns, empty="kept")
    kept = scaler_from_json(json.loads(json.dumps(kept.to_json())))
    every, scaled = _fit(kind, features, columns=columns), kept.transform(features)
    np.testing.assert_allclose(scaled[:, :-2], every.transform(features)[:, :-2], rtol=1e-5, atol=1e-6)
    assert all(len(np.unique(column)) == 2 for column in scaled[:, : len(counts)].T) or kind == "selective"
    assert ((scaled[:, -2:] == 0) == (features[:, -2:] == 0)).all()
    np.testing.assert_allclose(kept.invert(scaled), features, rtol=2e-4, atol=2e-3)


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


def _background(shape, n, seed):
    """Values and weights of n background events from one distribution."""
    rng = np.random.default_rng(seed)
    weight = np.ones(n)
    match shape:
        case "energy":
            values = rng.exponential(40, n)
        case "mass":
            values = 91 + 2.5 * rng.standard_normal(n)
        case "angle":
            values = rng.uniform(-np.pi, np.pi, n)
        case "count":  # as nbjet60: ever fewer
            values = rng.geometric(0.88, n) - 1
        case "flavour":
            values = rng.choice([11, 13], n)
        case "rare flag":
            values = rng.random(n) < 3 / n
        case "even count":
            values = 2 * (rng.geometric(0.9, n) - 1)
        case "sparse cell":  # RMM cells of small units, filled in one event of a hundred
            values = rng.exponential(0.01, n) * (rng.random(n) < 0.01)
        case "hardly filled":
            values = rng.exponential(40, n) * (rng.random(n) < 12 / n)
        case "few heavy events":  # a process of few simulated events carries much of the weight
            heavy = rng.random(n) < 30 / n
            values, weight = rng.exponential(40, n), np.where(heavy, n / 100, 1.0)
        case "heavy and soft":
            heavy = rng.random(n) < 30 / n
            values = np.where(heavy, rng.exponential(3, n), rng.exponential(40, n))
            weight = np.where(heavy, n / 100, 1.0)
    return values.astype(np.float32)[:, None], weight.astype(np.float32)


SHAPES = (
    "energy",
    "mass",
    "angle",
    "count",
    "flavour",
    "rare flag",
    "even count",
    "sparse cell",
    "hardly filled",
    "few heavy events",
    "heavy and soft",
)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("empty", ["scaled", "kept"])
def test_the_upper_tail_is_that_of_the_events_as_far_as_ten_effective_ones_lie_above(shape, seed, empty):
    features, weight = _background(shape, N, seed)
    scaled = _fit("upper-tail", features, weight, empty=empty).transform(features)[:, 0]
    counted = (features[:, 0] != 0) | (empty == "scaled")
    order = np.argsort(-features[counted, 0])
    x, y, w = features[counted, 0][order], scaled[counted][order], weight[counted][order].astype(float)
    last = np.append(x[1:] != x[:-1], True)  # of equal values: at or above are all of them
    above, squares = np.cumsum(w)[last], np.cumsum(w**2)[last]
    surprise, n_eff = -np.log(above / above[-1]), above**2 / squares
    known = n_eff >= 10
    error = 2 / np.sqrt(n_eff) + 0.05  # two standard deviations, and bins and knots
    assert (np.abs(y[last] - surprise) < error)[known].all()


@pytest.mark.parametrize("kind", ["upper-tail", "quantile"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("empty", ["scaled", "kept"])
def test_no_held_out_event_of_the_background_is_more_surprising_than_its_sample_can_tell(kind, shape, empty):
    """No more than twice as surprising as what one event, that of the smallest weight, can tell."""
    for seed in range(4):
        features, weight = _background(shape, N, seed)
        held_out, _ = _background(shape, N, 2000 + seed)
        scaler = _fit(kind, features, weight, empty=empty)
        rarest = weight.min() / weight.sum()
        limit = 2 * {"upper-tail": -np.log(rarest), "quantile": -ndtri(rarest)}[kind]
        assert np.abs(scaler.transform(held_out)).max() < limit, seed


def test_one_heavy_event_at_the_end_gives_no_slope():
    """As ptcone30 of three leptons: 9 % of the weight at the last value, the next one a rounding away."""
    rng = np.random.default_rng(11)
    values = np.append(rng.gamma(2, 1.0, 400).clip(0.1, 6.6), [6.668, 6.684]).astype(np.float32)[:, None]
    weight = np.append(np.ones(401), 40).astype(np.float32)
    for kind in ("upper-tail", "quantile"):
        assert 2 < _fit(kind, values, weight).transform(np.float32([[25.5]]))[0, 0] < 30


def test_a_count_beyond_the_last_one_seen_often_is_a_few_steps_rarer():
    jets = np.repeat([0.0, 1, 2, 3], [180_000, 20_000, 900, 11]).astype(np.float32)[:, None]
    probe = np.float32([[2], [3], [4], [5]])
    scaled = _fit("upper-tail", jets).transform(probe)[:, 0]
    n = len(jets)
    assert scaled[:2] == pytest.approx(np.log([n / 911, n / 11]), abs=1e-4)
    assert scaled[2] == pytest.approx(np.log(n), abs=0.2)
    assert scaled[3] < 1.3 * np.log(n)


@pytest.mark.parametrize("kind", ["upper-tail", "quantile"])
def test_fewer_than_ten_events_give_a_line_over_their_range(kind):
    values = np.float32([[10], [10.01], [30], [50], [50.01]])
    scaled = _fit(kind, values, pieces=1).transform(np.float32([[10], [50.01], [90.02]]))[:, 0]
    across, beyond = np.diff(scaled)
    assert 1 < across < 3
    assert 0.1 < beyond / across < 1.0001


def test_the_upper_tail_rises_and_is_one_sided(energies):
    scaler = _fit("upper-tail", energies)
    probe = np.tile(energies[:1], (200, 1))
    probe[:, 1] = np.linspace(60, 500, 200)
    scaled = scaler.transform(probe)[:, 1]
    assert (np.diff(scaled) >= 0).all()
    assert scaled[0] == 0
    assert scaled[-1] > 50


def test_an_upper_tail_can_be_conditional_on_a_filled_cell(energies):
    """P(X >= x | filled): how often the cell is filled does not enter, and an empty cell is no surprise."""
    filled = energies.copy()
    filled[::2, 0] = 0
    conditional, whole = _fit("upper-tail", filled, empty="kept"), _fit("upper-tail", filled)
    probe = np.tile(energies[:1], (2, 1))
    probe[:, 0] = 80.0, 0.0
    assert conditional.transform(probe)[:, 0] == pytest.approx([2.0, 0.0], abs=0.12)
    assert whole.transform(probe)[:, 0] == pytest.approx([2.0 + np.log(2), 0.0], abs=0.12)


def test_a_quantile_is_that_of_a_unit_gaussian(energies):
    scaled = _fit("quantile", energies).transform(energies)
    assert np.quantile(scaled[:, 0], [0.02, 0.3, 0.5, 0.9, 0.999]) == pytest.approx(
        ndtri([0.02, 0.3, 0.5, 0.9, 0.999]), abs=0.03
    )
    jets = energies[:, 3]
    middle = np.mean(jets < 2) + 0.5 * np.mean(jets == 2)
    assert scaled[jets == 2, 3] == pytest.approx(ndtri(middle), abs=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_far_outside_a_quantile_is_the_one_of_an_exponential_tail(energies, sign):
    """-ln p goes on as a straight line, z like its square root: 40 mean energies are 8 standard deviations."""
    scaler = _fit("quantile", sign * energies)
    energy = np.linspace(500, 40_000, 80).astype(np.float32)  # 12 to 1000 times the mean, known to 300
    probe = np.tile(energies[:1], (80, 1))
    probe[:, 0] = energy
    z = sign * scaler.transform(sign * probe)[:, 0].astype(float)
    surprise = -norm.logsf(z)
    slope, offset = np.polyfit(energy, surprise, 1)
    assert slope == pytest.approx(1 / 40, rel=0.5), "ten events know the slope to a third"
    np.testing.assert_allclose(surprise, slope * energy + offset, rtol=0.03, atol=0.3)
    assert z[-1] == pytest.approx(np.sqrt(2 * surprise[-1]), rel=0.02)
    np.testing.assert_allclose(scaler.invert(scaler.transform(sign * probe))[:, 0], sign * energy, rtol=1e-4)


def test_the_logarithm_keeps_signs_and_is_standard(energies):
    features = energies - np.float32([100, 0, 0, 0, 0])
    scaled = _fit("log", features).transform(features)
    logarithm = np.sign(features[:, 0]) * np.log1p(np.abs(features[:, 0].astype(np.float64)))
    assert scaled[:, 0] == pytest.approx((logarithm - logarithm.mean()) / logarithm.std(), abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@given(features=COLUMNS, pieces=st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_every_scaling_rises_inverts_travels_and_knows_no_batches(kind, features, pieces):
    """For any sample: no order is lost, nothing is lost in JSON, and how events are cut into chunks is no matter."""
    scaler = _fit(kind, features, pieces=1)
    scaled = scaler.transform(features)
    assert np.isfinite(scaled).all()
    for column in range(features.shape[1]):
        order = np.argsort(features[:, column])
        # Rounding of the offset may turn neighbours around, by no more than float32 resolves.
        resolution = 1e-5 * max(1.0, float(np.abs(scaled[:, column]).max()))
        assert (np.diff(scaled[order, column]) >= -resolution).all()
    extent = np.ptp(features, axis=0).max() + np.abs(features).max()
    np.testing.assert_allclose(scaler.invert(scaled), features, rtol=1e-3, atol=2e-5 * extent + 1e-6)
    travelled = scaler_from_json(json.loads(json.dumps(scaler.to_json())))
    np.testing.assert_array_equal(travelled.transform(features), scaled)
    one_by_one = np.concatenate([scaler.transform(features[row : row + 1]) for row in range(len(features))])
    np.testing.assert_array_equal(one_by_one, scaled)
    shuffled = features[np.random.default_rng(0).permutation(len(features))]
    again = _fit(kind, shuffled, pieces=pieces).transform(features)
    np.testing.assert_allclose(again, scaled, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(scaled).max())))


def test_the_upper_tail_scores_more_than_150_000_events_a_second():
    rng = np.random.default_rng(1)
    features = rng.exponential(40.0, (8192, 33)).astype(np.float32)
    scaler = _fit("upper-tail", features)
    scaler.transform(features[:1])  # compiles
    seconds = []
    for _ in range(5):
        begin = time.process_time()
        for start in range(0, len(features), 4096):
            scaler.transform(features[start : start + 4096])
        seconds.append(time.process_time() - begin)
    assert len(features) / min(seconds) > 150_000


def test_a_foreign_scaler_is_refused(energies):
    with pytest.raises(ValueError, match="format"):
        scaler_from_json({"format": 99})
    stored = _fit("standard", energies).to_json()
    del stored["scale"]
    with pytest.raises(ValueError, match="scale"):
        scaler_from_json(stored)
