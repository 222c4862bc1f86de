"""The fit of the Z peak finds what toys were made with."""

import hist
import numpy as np
import pytest

from processors.peak import Z_WIDTH, fit_peak, half_width, peak_contents

EDGES = np.linspace(66.0, 116.0, 101)


def _histogram(masses: np.ndarray, weight: float = 1.0) -> hist.Hist:
    filled = hist.Hist(hist.axis.Regular(100, 66, 116, name="mll"), storage=hist.storage.Weight())
    return filled.fill(masses, weight=np.full(masses.shape, weight))


def _toy(mass: float, sigma: float, n: int, seed: int) -> np.ndarray:
    """Breit-Wigner convolved with a Gaussian, made without the code that fits it."""
    rng = np.random.default_rng(seed)
    return mass + 0.5 * Z_WIDTH * rng.standard_cauchy(n) + sigma * rng.standard_normal(n)


@pytest.mark.parametrize(("mass", "sigma"), [(91.19, 1.3), (90.5, 2.2)])
def test_mass_and_resolution_of_a_toy_are_found(mass: float, sigma: float) -> None:
    fit = fit_peak(_histogram(_toy(mass, sigma, 40_000, seed=3)))
    assert fit is not None
    assert fit.position == pytest.approx(mass, abs=4 * fit.position_error)
    assert fit.resolution == pytest.approx(sigma, abs=4 * fit.resolution_error)
    assert fit.position_error < 0.05
    assert fit.p > 1e-3


def test_errors_cover_the_truth() -> None:
    pulls = []
    for seed in range(20):
        fit = fit_peak(_histogram(_toy(91.2, 1.6, 4_000, seed)))
        assert fit is not None
        pulls.append((fit.position - 91.2) / fit.position_error)
    assert (
        abs(np.mean(pulls)) < 0.8
    )  # the tail of radiation, which the toys lack, pulls the position up a little
    assert 0.5 < np.std(pulls) < 1.6


def test_weights_change_the_number_of_events_but_not_the_shape() -> None:
    masses = _toy(91.2, 1.5, 20_000, seed=5)
    one, many = fit_peak(_histogram(masses)), fit_peak(_histogram(masses, weight=0.01))
    assert one is not None
    assert many is not None
    assert many.position == pytest.approx(one.position, abs=2e-3)
    assert many.position_error == pytest.approx(one.position_error, rel=0.01)
    assert many.chi2 == pytest.approx(one.chi2, rel=0.01)
    assert many.n_effective == pytest.approx(one.n_effective)


def test_the_width_of_a_gaussian_is_its_standard_deviation() -> None:
    masses = np.linspace(60, 120, 6001)
    assert half_width(masses, np.exp(-0.5 * ((masses - 91) / 2.5) ** 2)) == pytest.approx(2.5, rel=2e-3)


def test_the_width_grows_with_the_resolution_and_with_radiation() -> None:
    fits = [
        fit_peak(_histogram(np.repeat(0.5 * (EDGES[1:] + EDGES[:-1]), np.rint(contents).astype(int))))
        for contents in (
            peak_contents(EDGES, 5e4, 91.2, 1.0, 5.0),
            peak_contents(EDGES, 5e4, 91.2, 2.0, 5.0),
            peak_contents(EDGES, 5e4, 91.2, 2.0, 1.2),
        )
    ]
    widths = [fit.width for fit in fits if fit is not None]
    assert len(widths) == 3
    assert widths[0] < widths[1] < widths[2]


def test_expected_contents_add_up_to_the_events() -> None:
    assert peak_contents(EDGES, 1234.0, 91.2, 1.5, 2.0).sum() == pytest.approx(1234.0)


def test_too_few_events_are_not_fitted() -> None:
    assert fit_peak(_histogram(_toy(91.2, 1.5, 40, seed=1))) is None
    assert fit_peak(_histogram(np.zeros(0))) is None
