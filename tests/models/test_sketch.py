import numpy as np
import pytest

from models.sketch import MANTISSA_BITS, Spectrum


@pytest.fixture(scope="module")
def sample():
    """Energies, displacements of both signs and multiplicities, with weights."""
    rng = np.random.default_rng(2)
    n = 200_000
    values = np.concatenate([rng.exponential(60, n), rng.normal(0, 3, n), rng.poisson(4, n)])
    return values.astype(np.float32), rng.uniform(0.1, 2, 3 * n)


def test_the_weight_above_every_remembered_value_is_exact(sample):
    values, weight = sample
    sketch = Spectrum.of(values, weight)
    above = np.cumsum(sketch.weight[::-1])[::-1]
    for place in range(0, len(sketch.smallest), 997):
        expected = weight[values >= sketch.smallest[place]].sum()
        assert above[place] == pytest.approx(expected, rel=1e-9)
    assert sketch.moment.sum() == pytest.approx(weight @ values, rel=1e-9)
    assert sketch.squares.sum() == pytest.approx(weight @ weight, rel=1e-9)


def test_values_are_remembered_in_order_and_no_further_apart_than_stated(sample):
    values, weight = sample
    sketch = Spectrum.of(values, weight)
    assert (np.diff(sketch.smallest) > 0).all()
    place = np.searchsorted(sketch.smallest, values, side="right") - 1
    kept = sketch.smallest[place].astype(np.float64)
    assert (np.abs(values - kept) <= 2.0**-MANTISSA_BITS * np.abs(kept)).all()


def test_multiplicities_are_kept_exactly():
    jets = np.arange(513, dtype=np.float32)
    np.testing.assert_array_equal(Spectrum.of(jets, np.ones(513)).smallest, jets)


def test_parts_add_up_to_the_whole_in_any_order(sample):
    values, weight = sample
    whole = Spectrum.of(values, weight)
    rng = np.random.default_rng(3)
    parts = np.array_split(rng.permutation(len(values)), 7)
    total = Spectrum.of(values[:0], weight[:0])
    for part in parts:
        total = total + Spectrum.of(values[part], weight[part])
    np.testing.assert_array_equal(total.key, whole.key)
    np.testing.assert_array_equal(total.smallest, whole.smallest)
    np.testing.assert_allclose(total.weight, whole.weight, rtol=1e-12)


def test_a_hundred_times_the_sample_takes_hardly_more_memory():
    rng = np.random.default_rng(4)
    small, large = (
        Spectrum.of(rng.exponential(60, n).astype(np.float32), np.ones(n)) for n in (3 * 10**4, 3 * 10**6)
    )
    assert len(large.key) < 2 * len(small.key)  # 512 bins for each halving of the smallest value
    assert len(large.key) * 32 < 300_000  # bytes
