"""Event weights: every factor by its name.

Simulation: sigma L / sum of weights, the generator's weight and the scale factors. Collision data: 1, always; the
`mcWeight` of collision data is 0. Negative generator weights are kept as they are: they cancel positive ones.
"""

from typing import Any

import awkward as ak
import numpy as np
from coffea.analysis_tools import Weights

from processors.settings import WeightSettings

__all__ = ["event_weights"]

SCALE_FACTORS = ("pileup", "electron", "muon", "lepton_trigger")


def event_weights(record: ak.Array, metadata: dict[str, Any], settings: WeightSettings) -> Weights:
    """Weights of all events of a record.

    Args:
        record: from `schema.event_record`.
        metadata: of the dataset: `kind`, and `norm` = cross section x luminosity / sum of weights.
        settings: which factors.

    Returns:
        coffea's Weights; `.weight()` has shape (n_events,), float64; each factor can be asked for by name.
    """
    weights = Weights(len(record), storeIndividual=True)
    if metadata["kind"] == "data":
        weights.add("data", np.ones(len(record)))
        return weights
    weights.add("norm", np.full(len(record), float(metadata["norm"])))
    factors = ("generator", *SCALE_FACTORS, *(("btag",) if settings.btag_weight else ()))
    for name in factors:
        weights.add(name, np.asarray(record.weight[name], dtype=np.float64))
    return weights
