"""Event weights: every factor by its name, and its variations.

Simulation: sigma L / sum of weights, the generator's weight and the scale factors. Collision data: 1, always; the
`mcWeight` of collision data is 0. Negative generator weights are kept as they are: they cancel positive ones.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
from coffea.analysis_tools import Weights
from numpy.typing import NDArray

from fileset.exceptions import InputError
from processors.settings import CorrectionSettings, WeightSettings

__all__ = ["NOMINAL", "check_corrections", "corrected_weights", "event_weights", "variation_names"]

NOMINAL = "nominal"

SCALE_FACTORS = ("pileup", "electron", "muon", "lepton_trigger")


def _factors(settings: WeightSettings) -> tuple[str, ...]:
    return ("norm", "generator", *SCALE_FACTORS, *(("btag",) if settings.btag_weight else ()))


def variation_names(settings: WeightSettings) -> tuple[str, ...]:
    """The nominal weight and every variation, in the order of the histograms' axis: `electronUp`, `electronDown`."""
    varied: list[str] = [name for name in _factors(settings) if name in settings.uncertainties]
    varied += [name for name, correction in settings.corrections.items() if correction.up and correction.down]
    return (NOMINAL, *(f"{name}{direction}" for name in varied for direction in ("Up", "Down")))


def event_weights(record: ak.Array, metadata: Mapping[str, Any], settings: WeightSettings) -> Weights:
    """Weights of all events of a record.

    Args:
        record: from `schema.event_record`.
        metadata: of the dataset: `kind`, and `norm` = cross section x luminosity / sum of weights.
        settings: which factors and which of them are varied.

    Returns:
        coffea's Weights; `.weight()` has shape (n_events,), float64; each factor can be asked for by name, each
        variation with `.weight("electronUp")`.
    """
    weights = Weights(len(record), storeIndividual=True)
    if metadata["kind"] == "data":
        weights.add("data", np.ones(len(record)))
        return weights
    for name in _factors(settings):
        if name == "norm":
            factor = np.full(len(record), float(metadata["norm"]))
        else:
            factor = np.asarray(record.weight[name], dtype=np.float64)
        relative = settings.uncertainties.get(name)  # type: ignore[call-overload]
        varied = () if relative is None else (factor * (1 + relative), factor * (1 - relative))
        weights.add(name, factor, *varied)
    return weights


def corrected_weights(
    weights: Weights,
    index: NDArray[np.int64],
    features: Mapping[str, NDArray[np.float32]],
    metadata: Mapping[str, Any],
    settings: WeightSettings,
) -> dict[str, NDArray[np.float64]]:
    """Weights of the selected events, with the corrections, for the nominal case and for every variation.

    Args:
        weights: of all events, from `event_weights`.
        index: positions of the n selected events.
        features: of the selected events; the corrections' inputs.
        metadata: of the dataset; collision data have no corrections and no variations.
        settings: the corrections.

    Returns:
        Variation (as `variation_names` lists them; for data only "nominal") -> shape (n,).

    Raises:
        InputError: a correction cannot be read or does not take its inputs.
    """
    if metadata["kind"] == "data":
        return {NOMINAL: np.ones(index.size)}
    varied = {NOMINAL: weights.weight()[index]}
    for name in sorted(weights.variations):
        varied[name] = weights.weight(name)[index]
    for name, correction in settings.corrections.items():
        nominal = _evaluate(correction, correction.nominal, features, index.size)
        before = varied[NOMINAL]
        varied = {key: value * nominal for key, value in varied.items()}
        if correction.up and correction.down:
            varied[f"{name}Up"] = before * _evaluate(correction, correction.up, features, index.size)
            varied[f"{name}Down"] = before * _evaluate(correction, correction.down, features, index.size)
    return {name: varied[name] for name in variation_names(settings)}


def check_corrections(settings: WeightSettings, columns: Sequence[str]) -> None:
    """Looks before the first event is read whether the correction files are there and take what they are given.

    Args:
        settings: the corrections.
        columns: of the feature table.

    Raises:
        InputError: a file cannot be read, has no such correction, or the correction does not take its inputs.
    """
    event = {name: np.zeros(1, dtype=np.float32) for name in columns}
    for correction in settings.corrections.values():
        known = sorted(_correction_set(correction.file))
        if correction.correction not in known:
            message = (
                f"{correction.file} has no correction {correction.correction!r}, only {', '.join(known)}"
            )
            raise InputError(message)
        for systematic in filter(None, (correction.nominal, correction.up, correction.down)):
            _evaluate(correction, systematic, event, 1)


@lru_cache(maxsize=32)
def _correction_set(path: Path) -> Any:
    import correctionlib  # noqa: PLC0415 - only where corrections are asked for

    try:
        return correctionlib.CorrectionSet.from_file(str(path))
    except (OSError, RuntimeError, ValueError) as error:
        message = f"correction file {path} cannot be read: {error}"
        raise InputError(message) from error


def _evaluate(
    settings: CorrectionSettings, systematic: str, features: Mapping[str, NDArray[np.float32]], n_events: int
) -> NDArray[np.float64]:
    corrections = _correction_set(settings.file)
    inputs: list[Any] = []
    for given in settings.inputs:
        if given == "{systematic}":
            inputs.append(systematic)
        elif isinstance(given, str) and given in features:
            inputs.append(np.asarray(features[given], np.float64))
        else:
            inputs.append(given)
    try:
        factor = corrections[settings.correction].evaluate(*inputs)
    except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        message = (
            f"correction {settings.correction!r} of {settings.file} does not take {settings.inputs}: {error}"
        )
        raise InputError(message) from error
    return np.broadcast_to(np.asarray(factor, dtype=np.float64), n_events)
