"""Expected upper limits on the strength of each signal, from the distribution of the score (pyhf).

The model of the data: in each bin background and μ times the signal. The background of a bin is known to within its
statistical error and a relative systematic one, by an auxiliary Poisson measurement of the same relative error (pyhf's
`shapesys`; in a single bin this is what `significance.asimov_significance` assumes). Variations of the weight move all
bins together (`histosys`). Limits are CLs limits at 95 % confidence by the asymptotic formulae for the Asimov data of
background alone: Cowan, Cranmer, Gross and Vitells, EPJ C 71 (2011) 1554 (arXiv:1007.1727).
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import hist
import numpy as np
from numpy.typing import NDArray

from fileset.exceptions import FailureError
from models.settings import SignificanceSettings
from models.studies.workspace import ScoreTemplates, of_strengths, score_templates

__all__ = ["FEW_EVENTS", "expected_limits", "limits_workspace", "signal_model", "strength_limits"]

logger = logging.getLogger(__name__)

Floats: TypeAlias = NDArray[np.float64]
Varied: TypeAlias = Mapping[str, tuple[Floats, Floats]]  # up and down variations by name

CONFIDENCE: Final = 0.95

# Fluctuations of the background for which a limit is given, in standard deviations.
_BANDS: Final = {"minus2": -2, "minus1": -1, "median": 0, "plus1": 1, "plus2": 2}

# Signal events at the limit below which asymptotic formulae are too optimistic: without any background they give
# 1.92 events in place of 3.0.
FEW_EVENTS: Final = 5.0

# -2 ln L where a bin expects less than nothing; finite, since a minimiser that steps there subtracts.
_IMPOSSIBLE: Final = 1e9


def expected_limits(
    histogram: hist.Hist,
    datasets: Mapping[str, Mapping[str, Any]],
    *,
    settings: SignificanceSettings,
    searched: float = 1.0,
) -> dict[str, Any]:
    """Expected limits of every signal; collision data in the histogram are not looked at.

    Args:
        histogram: of the score; axes dataset, variation, split, flcomp, score.
        datasets: metadata of each dataset.
        settings: systematic uncertainty and statistics of a bin.
        searched: part of the luminosity that is left for the search.

    Returns:
        `confidence`; `edges`, `background` and `background_error` of the bins (the outermost hold what lies beyond
        them); `signals`: by process `status` ("fitted", "failed", "no signal"), `reason` and, of those that are fitted,
        the limits on the strength: `median`, `minus2`... `plus2`, `without_systematic` (the
        median), `error` (statistical, of the median, from the signal's events), `events` (of signal, at the median) and
        whether these are too `few_events` for the asymptotic formulae.
    """
    templates = score_templates(histogram, datasets, minimum=settings.limit_min_effective, searched=searched)
    if templates is None:
        return {"confidence": CONFIDENCE, "signals": {}}
    b, variance = templates.background
    return {
        "confidence": CONFIDENCE,
        "min_effective": settings.limit_min_effective,
        "edges": templates.finite_edges.tolist(),
        "background": b.tolist(),
        "background_error": np.sqrt(variance).tolist(),
        "variations": [name for name in templates.variations if name.endswith("Up")],
        "signals": {
            name: _of_signal(name, templates, systematic=settings.systematic) for name in templates.signals
        },
    }


def _of_signal(name: str, templates: ScoreTemplates, *, systematic: float) -> dict[str, Any]:
    """The entry of one signal, which says so where there is no limit."""
    values, _ = templates.signals[name]
    if not values[templates.nominal].sum() > 0:
        return {"status": "no signal", "reason": "its sum of weights is not positive"}
    try:
        return {"status": "fitted", "reason": "", **_limits(name, templates, systematic=systematic)}
    except FailureError as error:
        logger.warning("no limit for %s: %s", name, error)
        return {"status": "failed", "reason": str(error)}


def _limits(name: str, templates: ScoreTemplates, *, systematic: float) -> dict[str, Any]:
    values, variances = templates.signals[name]
    s, s_variance = np.maximum(values[templates.nominal], 0.0), variances[templates.nominal]
    b, b_variance = templates.background
    # Limits go with 1/s; each bin counts with its share of the information s^2 / (b + sigma^2).
    spread = b + b_variance + (systematic * b) ** 2
    information = np.sum(s**2 / spread)
    # A limit that many strengths high is of order 1 in the fit.
    scale = templates.typical_strength(name, systematic=systematic)
    limits, bare = (
        strength_limits(_signal_model(name, templates, systematic=assumed, scale=scale), bands=bands)
        for assumed, bands in ((systematic, _BANDS), (0.0, {"median": 0}))
    )
    median = scale * limits["median"]
    events = float(median * s.sum())
    return {
        **{band: float(scale * value) for band, value in limits.items()},
        "without_systematic": float(scale * bare["median"]),
        "error": float(median * np.sqrt(np.sum((s / spread) ** 2 * s_variance)) / information),
        "events": events,
        "few_events": events < FEW_EVENTS,
    }


def limits_workspace(
    histogram: hist.Hist,
    datasets: Mapping[str, Mapping[str, Any]],
    *,
    region: str,
    settings: SignificanceSettings,
    searched: float = 1.0,
) -> dict[str, Any] | None:
    """The models of `expected_limits` as HistFactory JSON, for pyhf to repeat them; a measurement is a signal.

    Args:
        histogram: of the score; axes dataset, variation, split, flcomp, score.
        datasets: metadata of each dataset.
        region: name of the channel.
        settings: systematic uncertainty and statistics of a bin.
        searched: part of the luminosity that is left for the search.

    Returns:
        None where the fileset has no signal or no background.
    """
    templates = score_templates(histogram, datasets, minimum=settings.limit_min_effective, searched=searched)
    if templates is None:
        return None
    b, error, varied = _background(templates, settings.systematic)
    samples = [_background_sample(b, error, varied)]
    for name in templates.signals:
        signal, signal_varied = _signal(name, templates)
        samples.append(_signal_sample(name, signal, signal_varied, strength=f"mu_{name}"))
    return of_strengths(region, samples, b, templates, datasets)


def _background(templates: ScoreTemplates, systematic: float) -> tuple[Floats, Floats, Varied]:
    """Background of each bin, its standard error, and its variations."""
    b, b_variance = templates.background
    return b, np.sqrt(b_variance + (systematic * b) ** 2), _varied(templates.background_variations, templates)


def _signal(name: str, templates: ScoreTemplates) -> tuple[Floats, Varied]:
    """A signal in each bin, and its variations."""
    # Nothing is expected less often than never, as a bin in which negative weights win would have it.
    signal = np.maximum(templates.signals[name][0], 0.0)
    return signal[templates.nominal], _varied(signal, templates)


def _varied(values: Floats, templates: ScoreTemplates) -> Varied:
    """Up and down variations by name, of values of shape (variations, n)."""
    names = [up.removesuffix("Up") for up in templates.variations if up.endswith("Up")]
    place = templates.variations.index
    return {name: (values[place(f"{name}Up")], values[place(f"{name}Down")]) for name in names}


def _signal_model(name: str, templates: ScoreTemplates, *, systematic: float, scale: float) -> Any:
    b, error, varied = _background(templates, systematic)
    signal, signal_varied = _signal(name, templates)
    return signal_model(
        b,
        error,
        scale * signal,
        background_varied=varied,
        signal_varied={key: (scale * up, scale * down) for key, (up, down) in signal_varied.items()},
    )


def signal_model(
    background: Floats,
    background_error: Floats,
    signal: Floats,
    *,
    background_varied: Varied | None = None,
    signal_varied: Varied | None = None,
) -> Any:
    """The `pyhf.Model` of one signal on top of the whole background, with the signal's strength `mu`.

    Args:
        background: expected events of each bin, shape (n,), positive.
        background_error: standard errors, shape (n,), independent of one another.
        signal: expected events at strength 1, shape (n,).
        background_varied: up and down variations by name, which move all bins together.
        signal_varied: the same of the signal.
    """
    import pyhf  # noqa: PLC0415 - --help must be quick

    samples = [
        _background_sample(background, background_error, background_varied or {}),
        _signal_sample("signal", signal, signal_varied or {}, strength="mu"),
    ]
    # Made here, so its format need not be looked up in a schema.
    return pyhf.Model({"channels": [{"name": "score", "samples": samples}]}, poi_name="mu", validate=False)


def _background_sample(background: Floats, error: Floats, varied: Varied) -> dict[str, Any]:
    own = {"name": "background_error", "type": "shapesys", "data": error.tolist()}
    return {"name": "background", "data": background.tolist(), "modifiers": [own, *_correlated(varied)]}


def _signal_sample(name: str, signal: Floats, varied: Varied, *, strength: str) -> dict[str, Any]:
    factor = {"name": strength, "type": "normfactor", "data": None}
    return {"name": name, "data": signal.tolist(), "modifiers": [factor, *_correlated(varied)]}


def _correlated(varied: Varied) -> list[dict[str, Any]]:
    """Modifiers that move all bins together."""
    return [
        {"name": key, "type": "histosys", "data": {"hi_data": up.tolist(), "lo_data": down.tolist()}}
        for key, (up, down) in varied.items()
    ]


class _AsimovTest:
    """The test statistic of strengths for the Asimov data of background alone.

    A general minimiser needs a minute for fifty bins. What each bin's own measurement of its background becomes is the
    root of a quadratic equation, and only what moves all bins together is left to minimise; the likelihood is pyhf's.
    """

    def __init__(self, model: Any) -> None:
        config = model.config
        self.model = model
        self._strength = config.poi_index
        self._own = config.par_slice("background_error")
        self._tau = np.asarray(config.param_set("background_error").factors)
        self._common = [
            i for name in config.par_order if name not in {"mu", "background_error"}
            for i in range(config.par_slice(name).start, config.par_slice(name).stop)
        ]  # fmt: skip
        self._bounds = [config.suggested_bounds()[i] for i in self._common]
        self._nominal = np.asarray(config.suggested_init(), dtype=np.float64)
        self._nominal[self._strength] = 0.0
        self._data = np.asarray(model.expected_data(self._nominal))
        # Asimov data are fitted best by what they were made from.
        self._best = self._twice_nll(self._nominal)
        self._last = self._nominal[self._common]

    def _twice_nll(self, parameters: Floats) -> float:
        return float(-2 * np.asarray(self.model.logpdf(parameters, self._data)).item())

    def _profiled(self, common: Floats, strength: float) -> float:
        """-2 ln L(μ) + 2 ln L(best), each bin's own parameter at its best value for these common ones.

        Of n events where γb + s are expected, and of m where γτ are, γ is the positive root of
        b (b + τ) γ² - [b (n + m) - s (b + τ)] γ - m s = 0; for Asimov data m = τ.
        """
        parameters = self._nominal.copy()
        parameters[self._common] = common
        b = np.asarray(self.model.expected_actualdata(parameters))
        parameters[self._strength] = strength
        s = np.asarray(self.model.expected_actualdata(parameters)) - b
        if not (b > 0).all() or not (b + s > 0).all():
            return _IMPOSSIBLE
        n, tau = self._data[: len(b)], self._tau
        linear = b * (n + tau) - s * (b + tau)
        root = np.sqrt(linear**2 + 4 * b * (b + tau) * tau * s)
        # Of the two forms of the root the one that does not subtract equal numbers.
        parameters[self._own] = np.where(
            linear > 0,
            (linear + root) / (2 * b * (b + tau)),
            2 * tau * s / np.where(linear > 0, 1, root - linear),
        )
        return self._twice_nll(parameters) - self._best

    def root(self, strength: float) -> float:
        """√q(μ): how many standard deviations a strength is excluded by.

        Raises:
            FailureError: the fit does not converge.
        """
        from scipy.optimize import minimize  # noqa: PLC0415 - --help must be quick

        if not self._common:
            value = self._profiled(np.zeros(0), strength)
        else:
            fitted = minimize(
                self._profiled, self._last, args=(strength,), method="L-BFGS-B", bounds=self._bounds,
                options={"ftol": 1e-8, "gtol": 1e-4},
            )  # fmt: skip
            value, self._last = float(fitted.fun), fitted.x
        if not value < _IMPOSSIBLE or (self._common and fitted.status == 1):
            msg = f"the fit at a strength of {strength:.3g} did not converge"
            raise FailureError(msg)
        return float(np.sqrt(max(value, 0.0)))


def strength_limits(model: Any, *, bands: Mapping[str, int] = _BANDS) -> dict[str, float]:
    """Expected CLs limits on the strength of a model's signal.

    At a fluctuation of N standard deviations of the background, CLs = [1 - Φ(√q_A(μ) - N)] / Φ(N), so that the limit
    has √q_A(μ) = Φ⁻¹(1 - 0.05 Φ(N)) + N (arXiv:1007.1727, eq. 89, without replacing q by a parabola): a fit of one
    strength to the Asimov data serves all fluctuations.

    Args:
        model: from `signal_model`, with limits of the order 1.
        bands: name -> N.

    Raises:
        FailureError: a fit does not converge, or no strength is excluded.
    """
    from scipy.special import ndtr, ndtri  # noqa: PLC0415 - --help must be quick

    test = _AsimovTest(model)
    limits: dict[str, float] = {}
    guess = 0.5
    for name, n in sorted(bands.items(), key=lambda item: item[1]):
        target = float(ndtri(1 - (1 - CONFIDENCE) * ndtr(n))) + n
        guess = limits[name] = _where(test.root, target, guess)
    return limits


def _where(rising: Callable[[float], float], target: float, guess: float) -> float:
    """Where a rising function that starts at 0 reaches a target, to one in a thousand.

    Raises:
        FailureError: nowhere.
    """
    from scipy.optimize import brentq  # noqa: PLC0415 - --help must be quick

    low, high = 0.0, guess
    while rising(high) < target:
        low, high = high, 2 * high
        if high > 1e6 * guess:
            msg = "no strength of the signal is excluded"
            raise FailureError(msg)
    return float(brentq(lambda x: rising(x) - target if x > 0 else -target, low, high, rtol=1e-3))
