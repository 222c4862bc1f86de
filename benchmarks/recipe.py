"""Which recipe background alone prefers: inputs, network and score of an anomaly search, chosen without a signal.

No signal is read. Validation background is made harder in one way at a time (`models.studies.hardening`). By the rule
"power" a candidate is the better the more of the harder events it finds above cuts that one unchanged event in 10, 100
and 1000 passes; by the rule "shortfall" the less its area under the ROC curve of harder against unchanged events is
behind that of the best single variable, where it is furthest behind. Of candidates that are as good within the error of
the difference the one wins whose seeds agree best on which background is the most anomalous. docs/anomaly-search.md
says the rules, each of which was written down before it was first carried out.

    python benchmarks/recipe.py --config search.yaml --rule shortfall

with the fileset, output and `training.test_fraction` of a run whose stage `select` is done.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import reporting
from numpy.typing import NDArray

from fileset.configuration import read_configuration
from models.settings import TrainingSettings
from models.studies.hardening import STRENGTHS, harder
from models.studies.held_out import FeatureSample, read_features
from models.studies.source_events import event_changes
from processors.shards import read_manifest
from report.analysis import Analysis

Floats = NDArray[np.float32]

# name -> feature set, and what of the training settings belongs to it.
INPUTS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "kinematics": ("kinematics", {"scaler": "upper-tail"}),
    "reduced": ("reduced", {"scaler": "upper-tail"}),
    "table": ("table", {"scaler": "upper-tail"}),
    "rmm-energies": ("rmm-energies", {"scaler": "upper-tail", "empty": "kept"}),
    "kinematics, log": ("kinematics", {"scaler": "log"}),
    "kinematics, standard": ("kinematics", {"scaler": "standard"}),
}
NETWORKS: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "AE 4-1": ("autoencoder", (4, 1)),
    "AE 8-1": ("autoencoder", (8, 1)),
    "AE 16-1": ("autoencoder", (16, 1)),
    "AE 8-2": ("autoencoder", (8, 2)),
    "AE 32-16-2": ("autoencoder", (32, 16, 2)),
    "AE 32-16-3": ("autoencoder", (32, 16, 3)),
    "AE 64-32-6": ("autoencoder", (64, 32, 6)),
    "VAE 4-1": ("vae", (4, 1)),
    "VAE 16-2": ("vae", (16, 2)),
}
CUTS: Final = (1e-1, 1e-2, 1e-3)  # background efficiencies
_AGREEMENT: Final = (1e-2, 1e-3)  # background efficiencies at which seeds are compared
_REPLICAS: Final = 100


class Sample(NamedTuple):
    """Validation background, unchanged and harder, with every column that a candidate or a variable needs."""

    weight: NDArray[np.float64]  # (n,)
    columns: list[str]
    features: dict[tuple[str, float], Floats]  # (n, columns) for each way and strength; ("", 0) unchanged

    def of(self, key: tuple[str, float], names: Sequence[str]) -> Floats:
        """Features of some names, shape (n, k)."""
        return np.ascontiguousarray(self.features[key][:, [self.columns.index(name) for name in names]])


class Power(NamedTuple):
    """What a score does with harder events: the first of the replicas are the events themselves."""

    efficiency: NDArray[np.float64]  # (1 + replicas, changes), mean over cuts
    area: NDArray[np.float64]  # (1 + replicas, changes), under the ROC curve


UNCHANGED: Final = ("", 0.0)


def sample_of(analysis: Analysis, name: str, columns: Sequence[str]) -> Sample:
    """The validation background of a region, read from shards and, where it is made harder, from the files."""
    path = analysis.output / "shards" / name / "manifest.json"
    manifest, settings = read_manifest(path), analysis.region(name)
    background = [key for key, book in manifest["datasets"].items() if book["kind"] == "background"]
    found: FeatureSample = read_features(
        path,
        manifest,
        background,
        columns,
        seed=analysis.seed,
        limit=10**9,
        fractions=analysis.training.fractions,
        split="validation",
    )
    features = {UNCHANGED: found.features}
    changes = [(way, strength) for way, strengths in STRENGTHS.items() for strength in strengths]
    for key in changes:
        features[key] = np.empty_like(found.features)
    for origin in found.origins:
        key = found.key[origin.rows]
        make = event_changes(manifest, columns, origin, key, region=settings, rmm=analysis.rmm)
        for number, (way, strength) in enumerate(changes):
            rng = np.random.default_rng((number, int(key[0])))
            features[way, strength][origin.rows] = make(
                lambda record, way=way, strength=strength, rng=rng: harder(
                    record, way, strength, leptons=settings.leptons, rng=rng
                )
            )
    return Sample(np.maximum(found.weight, 0.0), list(columns), features)


def power(sample: Sample, scores: Mapping[tuple[str, float], Floats]) -> Power:
    """How harder events stand among unchanged ones.

    Replicas weigh every event with a Poisson number of mean 1, the same for all candidates and for an event and its
    harder versions.
    """
    order = np.argsort(-scores[UNCHANGED], kind="stable")
    rising = -scores[UNCHANGED][order]
    # How many unchanged events stand at or above each harder one, and how many above.
    places = [
        [np.searchsorted(rising, -values, side=side) for side in ("right", "left")]
        for key, values in scores.items()
        if key != UNCHANGED
    ]
    rng = np.random.default_rng(1)
    efficiency, area = np.empty((2, 1 + _REPLICAS, len(places)))
    for replica in range(1 + _REPLICAS):
        weight = sample.weight * (rng.poisson(1.0, len(order)) if replica else 1)
        above = np.concatenate([[0.0], np.cumsum(weight[order])]) / weight.sum()
        for column, (with_ties, without) in enumerate(places):
            share = above[with_ties]
            passing = [weight[share <= cut].sum() for cut in CUTS]
            efficiency[replica, column] = np.mean(passing) / weight.sum()
            area[replica, column] = 1 - weight @ (share + above[without]) / (2 * weight.sum())
    return Power(efficiency, area)


def overlap(weight: NDArray[np.float64], members: Sequence[Floats]) -> dict[float, float]:
    """Weight of the most anomalous background that any two seeds share, mean over pairs, at each efficiency."""
    shared: dict[float, float] = {}
    for efficiency in _AGREEMENT:
        tops = []
        for score in members:
            order = np.argsort(-score, kind="stable")
            top = np.zeros(len(order), dtype=bool)
            top[order[np.cumsum(weight[order]) <= efficiency * weight.sum()]] = True
            tops.append(top)
        shared[efficiency] = float(
            np.mean(
                [
                    2 * weight[one & other].sum() / (weight[one].sum() + weight[other].sum())
                    for one, other in itertools.combinations(tops, 2)
                ]
            )
        )
    return shared


def candidates(
    sample: Sample, columns: Sequence[str], bundle: Path
) -> Iterator[tuple[str, dict[tuple[str, float], Floats], list[Floats]]]:
    """Name of each score of a trained ensemble, its values, and those of each member for unchanged events."""
    from models.bundle import BATCH_ROWS, load_model  # noqa: PLC0415 - imports Keras
    from models.scores import event_function  # noqa: PLC0415

    model = load_model(bundle)
    names = tuple(name for name in model.score_names if not name.startswith("member"))
    beta = float(model.card["settings"]["beta"])
    runs = [
        event_function(network, names, n_inputs=len(columns), rows=BATCH_ROWS, beta=beta)
        for network in model.networks
    ]
    own: dict[tuple[str, float], NDArray[np.float64]] = {}
    for key in sample.features:
        scaled = model.scaler.transform(sample.of(key, columns))
        own[key] = np.stack([np.concatenate([values for _, values, _ in run(scaled)]) for run in runs])
    for number, name in enumerate(names):
        mean = {key: np.log10(np.mean(10.0 ** values[:, :, number], axis=0)) for key, values in own.items()}
        yield name, mean, list(own[UNCHANGED][:, :, number])


def settings_of(analysis: Analysis, inputs: str, network: str) -> TrainingSettings:
    """Training settings of a candidate: the optimiser is that of the preset `hardness`."""
    kind, encoder = NETWORKS[network]
    return TrainingSettings(
        preset="hardness",
        kind=kind,
        encoder=encoder,
        encoder_activations=(*("tanh",) * (len(encoder) - 1), "linear" if kind == "vae" else "tanh"),
        decoder=encoder[-2::-1],
        decoder_activations=(*("tanh",) * (len(encoder) - 1), "linear"),
        members=3,
        test_fraction=analysis.training.test_fraction,
        **INPUTS[inputs][1],
    )


def region(analysis: Analysis, name: str, output: Path) -> dict[str, dict[str, Any]]:
    """Every candidate of one region: its power, with replicas, and the overlap of its seeds."""
    from models.training import train  # noqa: PLC0415 - imports Keras

    path = analysis.output / "shards" / name / "manifest.json"
    manifest = read_manifest(path)
    sets = {inputs: list(manifest["features"][feature_set]) for inputs, (feature_set, _) in INPUTS.items()}
    variables = [column for column in manifest["variables"] if column != "weight"]
    sample = sample_of(analysis, name, list(dict.fromkeys([*itertools.chain(*sets.values()), *variables])))
    reporting.say(f"{name}: {len(sample.weight)} validation events, {len(sample.features) - 1} changes")
    found: dict[str, dict[str, Any]] = {}

    def add(key: str, made: Power, shared: dict[float, float] | None) -> None:
        found[key] = {"power": made, "overlap": shared}
        reporting.say(
            f"{name} {key}: {made.efficiency[0].mean():.4f} {made.area[0].min():.4f} {shared or ''}"
        )

    for variable in variables:
        add(
            f"{variable} alone",
            power(sample, {k: sample.of(k, [variable])[:, 0] for k in sample.features}),
            None,
        )
    for inputs, (feature_set, _) in INPUTS.items():
        for network in NETWORKS:
            bundle = train(
                path,
                features=feature_set,
                settings=settings_of(analysis, inputs, network),
                seed=analysis.seed,
                output=output,
                name=f"{inputs}-{network}".replace(" ", "").replace(",", "-"),
            )
            for score, values, members in candidates(sample, sets[inputs], bundle):
                add(f"{inputs} | {network} | {score}", power(sample, values), overlap(sample.weight, members))
    return found


def _by_power(found: Mapping[str, Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Mean efficiency for harder events, of each replica."""
    return {key: entry["power"].efficiency.mean(axis=1) for key, entry in found.items()}


def _by_shortfall(found: Mapping[str, Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
    """Area less that of the best single variable, at the change where that is least, of each replica."""
    best = np.max([entry["power"].area for entry in found.values() if not entry["overlap"]], axis=0)
    return {key: (entry["power"].area - best).min(axis=1) for key, entry in found.items()}


# rule -> figure of merit of each score of a region, and how regions are joined; more is better.
RULES: Final = {"power": (_by_power, np.mean), "shortfall": (_by_shortfall, np.min)}


def chosen(regions: Mapping[str, Mapping[str, Mapping[str, Any]]], rule: str) -> list[dict[str, Any]]:
    """All candidates, the best first but for the very first, which is the one that the rule chooses."""
    merit, join = RULES[rule]
    merits = [merit(found) for found in regions.values()]
    rows = []
    for key, entry in next(iter(regions.values())).items():
        if entry["overlap"] and all(key in found for found in merits):
            shared = [list(found[key]["overlap"].values()) for found in regions.values()]
            figures = join([found[key] for found in merits], axis=0)
            rows.append(
                {
                    "candidate": key,
                    "figures": figures,
                    "merit": float(figures[0]),
                    "by_region": {
                        name: float(found[key][0]) for name, found in zip(regions, merits, strict=True)
                    },
                    "overlap": float(np.mean(shared)),
                }
            )
    rows.sort(key=lambda row: -row["merit"])
    best = rows[0]["figures"]
    for row in rows:
        row["behind"] = float(best[0] - row["figures"][0])
        row["behind_error"] = float(np.std((best - row.pop("figures"))[1:], ddof=1))
    winner = max(
        (row for row in rows if row["behind"] <= row["behind_error"]), key=lambda row: row["overlap"]
    )
    rows.remove(winner)
    return [winner, *rows]


def main() -> None:
    """The table of all candidates."""
    parser = reporting.arguments(__doc__ or "")
    parser.add_argument("--config", type=Path, required=True, help="of a run whose stage select is done")
    parser.add_argument(
        "--models", type=Path, default=Path("output") / "recipe", help="where models are kept"
    )
    parser.add_argument(
        "--rule", choices=tuple(RULES), default="shortfall", help="what is asked of a candidate"
    )
    given = parser.parse_args()
    analysis = read_configuration(Analysis, given.config, {})
    regions = {name: region(analysis, name, given.models) for name in analysis.regions}
    rows = chosen(regions, given.rule)
    changes = [f"{way} {strength:g}" for way, both in STRENGTHS.items() for strength in both]
    plain = {
        name: {
            key: {
                "overlap": entry["overlap"],
                "efficiency": dict(zip(changes, entry["power"].efficiency[0].tolist(), strict=True)),
                "area": dict(zip(changes, entry["power"].area[0].tolist(), strict=True)),
            }
            for key, entry in found.items()
        }
        for name, found in regions.items()
    }
    cells = [
        [
            row["candidate"],
            f"{row['merit']:.4f}",
            f"{row['behind']:.4f} ± {row['behind_error']:.4f}",
            f"{row['overlap']:.3f}",
            *(f"{value:.4f}" for value in row["by_region"].values()),
        ]
        for row in rows
    ]
    header = ["candidate", given.rule, "behind the best", "overlap of seeds", *regions]
    result = {"rule": given.rule, "chosen": rows[0], "candidates": rows, "regions": plain}
    reporting.report("recipe", result, [("The first candidate is chosen", header, cells)], given.json)


if __name__ == "__main__":
    main()
