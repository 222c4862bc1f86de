"""Why events are anomalous: shares of the error, the events that lead, and the latent space."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from fileset.exceptions import FailureError, InputError
from models.autoencoder import build
from models.bundle import AnomalyModel, load_model
from models.efficiency import UpperTail
from models.settings import ExplanationSettings, TrainingSettings
from models.studies.anomalous import expected_above, most_anomalous
from models.studies.explanation import explain
from models.studies.latent import Points, Projection, binned, encoder_of, projection_of
from processors.split import split_of

Samples = dict[str, tuple[str, str, dict[str, np.ndarray]]]

SEED = 11
LEPTONS = {
    **{
        f"lep{i}_{name}": value
        for i in (1, 2)
        for name, value in (("eta", 0.5), ("phi", -1.0), ("flav", 13.0))
    },
    "met_phi": 0.3,
}


def score_shards(manifest: Path, model: AnomalyModel, directory: Path) -> Path:
    """Scores as the stage score leaves them."""
    content = json.loads(manifest.read_text())
    scored: dict[str, Any] = {
        **{key: content[key] for key in ("format", "region", "variables", "datasets")},
        "model": model.name,
        "seed": SEED,
        "scores": list(model.score_names),
        "shards": [],
    }
    for entry in content["shards"]:
        table = pq.read_table(manifest.parent / entry["path"])
        columns = {
            name: table[name].to_numpy()
            for name in ("channelNumber", "runNumber", "eventNumber", "weight", "flcomp")
        }
        columns["split"] = split_of(*list(columns.values())[:3], seed=SEED)
        columns["score"] = model.score(table.select(model.features).to_pandas())
        path = directory / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        digest = f"xxh128:{xxhash.xxh128_hexdigest(path.read_bytes())}"
        scored["shards"].append({**entry, "checksum": digest})
    (directory / "manifest.json").write_text(json.dumps(scored))
    return directory / "manifest.json"


def with_leptons(samples: Samples) -> Samples:
    return {
        name: (
            kind,
            group,
            events
            | {
                column: np.full(len(events["weight"]), value, np.float32) for column, value in LEPTONS.items()
            },
        )
        for name, (kind, group, events) in samples.items()
    }


@pytest.fixture(scope="session")
def explained(
    tmp_path_factory: pytest.TempPathFactory,
    samples: Samples,
    shard_writer: Callable[..., Path],
    trained: Path,
    features: list[str],
) -> Callable[..., dict[str, Any]]:
    """Runs `explain` on shards of `samples` with leptons, cut into chunks; the shards are in `.place(chunk)`."""
    places: dict[int, tuple[Path, Path]] = {}

    def place(chunk: int) -> tuple[Path, Path]:
        if chunk not in places:
            directory = tmp_path_factory.mktemp(f"chunks-{chunk}")
            manifest = shard_writer(directory / "shards", with_leptons(samples), chunk=chunk)
            content = json.loads(manifest.read_text())
            content["features"]["table"] = [*features, *LEPTONS]
            manifest.write_text(json.dumps(content))
            places[chunk] = score_shards(manifest, load_model(trained), directory / "scores"), manifest
        return places[chunk]

    def run(
        chunk: int = 700, *, blinded: bool = False, limit: float | None = None, **settings: Any
    ) -> dict[str, Any]:
        scores, shards = place(chunk)
        return explain(
            scores,
            shards,
            trained,
            settings=ExplanationSettings(**settings),
            blinded=blinded,
            score_limit=limit,
        )

    run.place = place  # type: ignore[attr-defined]
    return run


def test_shares_are_those_of_the_events_themselves(
    explained: Callable[..., dict[str, Any]], samples: Samples, trained: Path
) -> None:
    model = load_model(trained)
    shares = explained()["shares"]
    _, _, events = samples["3.susy"]
    residuals = model.residuals(np.column_stack([events[name] for name in model.features])).astype(float)
    weight = events["weight"] / events["weight"].sum()
    own = residuals / residuals.sum(axis=1, keepdims=True)
    found = shares["signals"]["3.susy"]
    np.testing.assert_allclose(found["share"], weight @ own, rtol=1e-4)
    np.testing.assert_allclose(
        found["share_of_sum"], weight @ residuals / (weight @ residuals).sum(), rtol=1e-4
    )
    np.testing.assert_allclose(
        found["error"],
        np.sqrt(np.sum((weight[:, None] * (own - weight @ own)) ** 2, axis=0)),
        rtol=1e-3,
        atol=1e-7,
    )
    assert found["events"] == 400
    assert shares["families"]["SUSY"] == found
    for entry in (shares["background"], *shares["processes"].values()):
        assert sum(entry["share"]) == pytest.approx(1)


def test_background_counts_with_its_test_events_each_dataset_at_its_whole_weight(
    explained: Callable[..., dict[str, Any]], samples: Samples, trained: Path
) -> None:
    model = load_model(trained)
    shares = explained()["shares"]
    mean = np.zeros(len(model.features))
    total = 0.0
    for kind, _, events in samples.values():
        if kind == "background":
            identity = [events[name] for name in ("channelNumber", "runNumber", "eventNumber")]
            test = split_of(*identity, seed=SEED) == 2
            residuals = model.residuals(np.column_stack([events[name][test] for name in model.features]))
            own = residuals / residuals.sum(axis=1, keepdims=True)
            weight = events["weight"][test] / events["weight"][test].sum()
            mean += events["weight"].sum() * (weight @ own)
            total += events["weight"].sum()
    np.testing.assert_allclose(shares["background"]["share"], mean / total, rtol=1e-4)
    assert set(shares["processes"]) == {"Zjets", "ttbar"}


def test_no_more_events_of_a_process_are_looked_at_than_asked_for(
    explained: Callable[..., dict[str, Any]],
) -> None:
    shares = explained(max_events=100)["shares"]
    whole = explained()["shares"]
    assert 80 <= shares["signals"]["3.susy"]["events"] <= 100
    difference = np.array(shares["signals"]["3.susy"]["share"]) - whole["signals"]["3.susy"]["share"]
    assert np.all(np.abs(difference) <= 5 * np.array(shares["signals"]["3.susy"]["error"]) + 1e-6)


def test_the_listed_events_are_the_first_of_all_sorted_however_shards_are_cut(
    explained: Callable[..., dict[str, Any]], samples: Samples, trained: Path
) -> None:
    model = load_model(trained)
    _, _, data = samples["data_A"]
    score = model.score(np.column_stack([data[name] for name in model.features]))
    wanted = data["eventNumber"][np.argsort(-score, kind="stable")[:50]].tolist()
    for chunk in (700, 190):
        found = explained(chunk)
        assert [event["eventNumber"] for event in found["events"]] == wanted
        assert found["listed"] == {"kind": "data", "blinded": False, "score_limit": None, "test_only": False}
    first = found["events"][0]
    assert first["score"] == pytest.approx(score.max())
    place = list(data["eventNumber"]).index(first["eventNumber"])
    assert first["variables"] == pytest.approx({name: data[name][place] for name in ("met_et", "mll")})
    shares = [entry["share"] for entry in first["leading"]]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == max(first["shares"])
    assert "shares" not in found["events"][3]


def test_of_equal_scores_the_smallest_identity_comes_first(tmp_path: Path) -> None:
    numbers = np.random.default_rng(3).permutation(40)
    manifest: dict[str, Any] = {"shards": []}
    for number, part in enumerate(np.array_split(numbers, 5)):
        columns = {
            name: np.ones(len(part)) for name in ("score", "weight", "channelNumber", "runNumber", "split")
        }
        pq.write_table(pa.table(columns | {"eventNumber": part}), tmp_path / f"{number}.parquet")
        manifest["shards"].append({"path": f"{number}.parquet", "dataset": "d"})
    found = most_anomalous(tmp_path / "manifest.json", manifest, ["d"], 7)
    assert found.columns["eventNumber"].tolist() == list(range(7))
    assert len(most_anomalous(tmp_path / "manifest.json", manifest, ["d"], 7, limit=0.5)) == 0
    assert len(most_anomalous(tmp_path / "manifest.json", manifest, ["d"], 7, test_only=True)) == 0


def test_blinded_data_are_neither_listed_nor_read(
    explained: Callable[..., dict[str, Any]], tmp_path: Path, trained: Path
) -> None:
    scores, shards = (Path(path) for path in explained.place(700))  # type: ignore[attr-defined]
    for source in (scores, shards):
        for file in [*source.parent.rglob("*.parquet"), source]:
            copy = tmp_path / source.parent.name / file.relative_to(source.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(b"not to be read" if "data_A" in str(file) else file.read_bytes())
    own = {
        "scores": tmp_path / scores.parent.name / "manifest.json",
        "shards": tmp_path / shards.parent.name / "manifest.json",
        "bundle": trained,
        "settings": ExplanationSettings(),
        "score_limit": None,
    }
    found = explain(**own, blinded=True)
    assert found["listed"] == {"kind": "background", "blinded": True, "score_limit": None, "test_only": True}
    assert {event["dataset"] for event in found["events"]} <= {"1.Zee", "2.ttbar"}
    identity = [
        [event[name] for event in found["events"]] for name in ("channelNumber", "runNumber", "eventNumber")
    ]
    assert (split_of(*identity, seed=SEED) == 2).all()
    with pytest.raises(FailureError, match="run score again"):
        explain(**own, blinded=False)


def test_data_above_the_limit_are_not_listed(explained: Callable[..., dict[str, Any]]) -> None:
    everything = [event["score"] for event in explained()["events"]]
    limit = everything[10]
    found = explained(limit=limit)
    assert [event["score"] for event in found["events"]][: len(everything) - 10] == everything[10:]
    assert found["listed"]["score_limit"] == limit


def test_an_event_stands_beside_the_background_that_is_expected_above_it() -> None:
    rng = np.random.default_rng(8)
    score, weight = rng.normal(size=4000), rng.uniform(0.1, 0.4, 4000)
    tail = UpperTail.of(score, weight)
    found = expected_above(tail, 1.5)
    above = weight[score >= 1.5]
    assert found["value"] == pytest.approx(above.sum())
    assert found["error"] == pytest.approx(np.sqrt((above**2).sum()))
    edge = np.sort(score)[-3]
    few = expected_above(tail, edge)
    assert few["value"] is None
    assert few["unsupported"]
    assert few["n_eff"] < 3.01
    ranked = weight[np.argsort(-score)]
    sums, squares = np.cumsum(ranked), np.cumsum(ranked**2)
    assert few["below"] == pytest.approx(sums[np.argmax(sums**2 / squares >= 10)])
    assert expected_above(tail, 99.0)["n_eff"] == 0
    assert expected_above(UpperTail.of([1.0], [1.0]), 0.5)["below"] is None


def test_scores_of_other_events_or_another_model_are_refused(
    explained: Callable[..., dict[str, Any]], tmp_path: Path, trained: Path
) -> None:
    scores, shards = explained.place(700)  # type: ignore[attr-defined]
    content = json.loads(scores.read_text())
    rest = {"settings": ExplanationSettings(), "blinded": False, "score_limit": None}
    other = scores.with_name("other.json")
    other.write_text(json.dumps(content | {"model": "another"}))
    with pytest.raises(InputError, match="are of the model another"):
        explain(other, shards, trained, **rest)
    for entry in content["shards"]:
        table = pq.read_table(scores.parent / entry["path"])
        if entry["dataset"] == "data_A":
            table = table.take(np.arange(len(table))[::-1])
        path = tmp_path / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        entry["checksum"] = f"xxh128:{xxhash.xxh128_hexdigest(path.read_bytes())}"
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(FailureError, match="holds other events than its scores"):
        explain(tmp_path / "manifest.json", shards, trained, **rest)


def test_a_display_without_the_input_file_has_leptons_and_no_jets(
    explained: Callable[..., dict[str, Any]],
) -> None:
    found = explained(displays=2)["events"]
    assert [("display" in event) for event in found[:3]] == [True, True, False]
    display = found[0]["display"]
    assert display["jets"] is None
    assert [lepton["flavour"] for lepton in display["leptons"]] == ["muon", "muon"]
    assert display["met"]["phi"] == pytest.approx(0.3)
    json.dumps(found, allow_nan=False)


def test_the_latent_space_is_what_the_encoder_gives() -> None:
    settings = TrainingSettings(
        encoder=(5, 3),
        encoder_activations=("tanh", "leakyrelu"),
        decoder=(5,),
        decoder_activations=("tanh", "linear"),
    )
    model = build(settings, 4, seed=2)
    inputs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    encode = encoder_of(model)
    assert encode is not None
    first, second = (model.get_layer(name).get_weights() for name in ("encoder_1", "encoder_2"))
    hidden = np.tanh(inputs @ first[0] + first[1]) @ second[0] + second[1]
    np.testing.assert_allclose(
        encode(inputs), np.where(hidden > 0, hidden, 0.1 * hidden), rtol=1e-5, atol=1e-6
    )
    assert encode(inputs[:0]).shape == (0, 3)


def test_of_a_variational_network_it_is_the_mean_and_never_random() -> None:
    settings = TrainingSettings(kind="vae", encoder=(5, 2), encoder_activations=("tanh", "linear"), decoder=(5,),
                                decoder_activations=("tanh", "linear"))  # fmt: skip
    model = build(settings, 4, seed=2)
    encode = encoder_of(model)
    assert encode is not None
    inputs = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    first, mean = (model.get_layer(name).get_weights() for name in ("encoder_1", "latent_mean"))
    np.testing.assert_allclose(
        encode(inputs), np.tanh(inputs @ first[0] + first[1]) @ mean[0] + mean[1], rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(encode(inputs), encode(inputs))
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="unnamed")])
    assert encoder_of(plain) is None


def test_more_dimensions_are_shown_along_the_principal_components_of_weighted_background() -> None:
    rng = np.random.default_rng(4)
    latent = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5))
    repeats = rng.integers(1, 4, 400)
    projection = projection_of(Points(latent, repeats.astype(float), np.zeros(400, np.float32)))
    assert projection is not None
    # An event of weight three is three events.
    reference = PCA(2).fit(np.repeat(latent, repeats, axis=0))
    np.testing.assert_allclose(projection.variance, reference.explained_variance_ratio_)
    np.testing.assert_allclose(np.abs(np.sum(projection.directions.T * reference.components_, axis=1)), 1.0)
    assert (projection.directions[np.argmax(np.abs(projection.directions), axis=0), [0, 1]] > 0).all()
    two = projection_of(Points(latent[:, :2], np.ones(400), np.zeros(400, np.float32)))
    assert two is not None
    assert two.variance is None
    np.testing.assert_array_equal(
        two(Points(latent[:, :2], np.ones(400), np.zeros(400))).latent, latent[:, :2]
    )
    assert projection_of(Points(latent[:, :1], np.ones(400), np.zeros(400, np.float32))) is None


def test_bins_of_the_latent_space_hold_all_weights_and_the_mean_score() -> None:
    rng = np.random.default_rng(6)
    background = Points(rng.normal(size=(5000, 2)), rng.uniform(0.5, 1.5, 5000), rng.normal(2.0, 0.1, 5000))
    signal = Points(rng.normal(4.0, 0.1, size=(300, 2)), np.full(300, 0.1), np.zeros(300))
    found = binned(background, {"S": signal}, Projection(np.zeros(2), np.eye(2), ("a", "b")), bins=20)
    inside = np.array(found["background"]["sumw"])
    assert inside.sum() == pytest.approx(
        background.weight.sum() * (1 - found["background"]["outside"]), rel=1e-4
    )
    assert found["background"]["outside"] < 0.025
    scores = np.array(
        [[np.nan if value is None else value for value in row] for row in found["background"]["score"]]
    )
    assert np.nanmean(scores) == pytest.approx(2.0, abs=0.05)
    assert (np.isnan(scores) == (inside == 0)).all()
    # The signal is where it was put, along both axes.
    centres = [0.5 * (np.array(edges)[1:] + np.array(edges)[:-1]) for edges in found["edges"]]
    mean = [
        float(np.array(found["processes"]["S"]["sumw"]).sum(axis=1 - axis) @ centres[axis]) / 30
        for axis in (0, 1)
    ]
    np.testing.assert_allclose(mean, 4.0, atol=0.3)


def test_signals_lie_where_background_does_not(explained: Callable[..., dict[str, Any]]) -> None:
    latent = explained()["latent"]
    assert latent["dimensions"] == 6
    assert 0 < latent["variance"][1] <= latent["variance"][0] <= 1
    centres = [0.5 * (np.array(edges)[1:] + np.array(edges)[:-1]) for edges in latent["edges"]]
    grid = np.stack(np.meshgrid(*centres, indexing="ij"), axis=-1)
    means = [
        (np.array(entry["sumw"])[..., None] * grid).sum(axis=(0, 1)) / np.sum(entry["sumw"])
        for entry in (latent["background"], latent["processes"]["SUSY"])
    ]
    assert cdist(*(mean[None] for mean in means))[0, 0] > 0.3
