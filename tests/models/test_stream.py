import json
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest

from fileset.exceptions import FailureError, InputError
from models.stream import MemorySample, ShardStream, feature_columns, open_background
from processors.shards import read_manifest
from processors.split import SPLITS, split_of

SEED = 11


def _open(manifest, features, **options):
    return open_background(manifest, columns=features, seed=SEED, **options)


@pytest.fixture
def stream(manifest, features):
    """A stream with a buffer far smaller than the sample."""
    sample = _open(manifest, features, memory_mb=0)
    sample.buffer_rows = 900
    return sample


def test_signal_and_collision_data_are_never_read(manifest, samples, features):
    sample = _open(manifest, features)
    assert sample.datasets == ["1.Zee", "2.ttbar"]
    assert sum(sample.rows.values()) == 4500
    expected = sum(samples[name][2]["weight"].sum() for name in sample.datasets)
    assert sum(sample.sumw.values()) == pytest.approx(expected, rel=1e-12)


def test_events_are_split_by_the_hash_of_their_identity(manifest, samples, features):
    sample = _open(manifest, features)
    identity = [
        np.concatenate([samples[name][2][column] for name in sample.datasets])
        for column in ("channelNumber", "runNumber", "eventNumber")
    ]
    counts = np.bincount(split_of(*identity, seed=SEED), minlength=3)
    assert sample.rows == dict(zip(SPLITS, counts.tolist(), strict=True))


def test_in_memory_the_sample_does_not_depend_on_how_shards_were_cut(
    tmp_path, shard_writer, samples, features
):
    cuts = [{"chunk": 700}, {"chunk": 64, "reverse": True}, {"chunk": 5000, "row_group": 333}]
    found = [
        _open(shard_writer(tmp_path / str(index), samples, **cut), features) for index, cut in enumerate(cuts)
    ]
    for one, other in pairwise(found):
        for split in SPLITS:
            for part, same in zip(one.arrays[split], other.arrays[split], strict=True):
                np.testing.assert_array_equal(part, same)


def test_training_weights_have_mean_one_and_keep_the_shares_of_processes(manifest, samples, features):
    train = _open(manifest, features).arrays["train"]
    assert train.training_weight.mean() == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(train.training_weight * train.weight.mean(), train.weight, rtol=1e-6)


@pytest.mark.parametrize(("weighting", "power"), [("sqrt", 0.5), ("unweighted", 0.0)])
def test_other_weightings_are_powers_of_the_physical_one(manifest, features, weighting, power):
    train = _open(manifest, features, weighting=weighting).arrays["train"]
    expected = train.weight**power
    np.testing.assert_allclose(train.training_weight, expected / expected.mean(), rtol=1e-5)


def test_negative_weights_train_with_their_size_and_leave_each_process_its_sum(
    tmp_path, shard_writer, event_maker, features
):
    signed, plain = (event_maker(2000, channel=channel, seed=2) for channel in (1, 2))
    signed["weight"][::5] *= -1
    manifest = shard_writer(
        tmp_path, {"1.ttZ": ("background", "ttV", signed), "2.Zee": ("background", "Zjets", plain)}
    )
    sample = _open(manifest, features)
    weights = np.concatenate([sample.arrays[split].training_weight for split in SPLITS])
    physical = np.concatenate([sample.arrays[split].weight for split in SPLITS])
    assert weights.min() >= 0
    # |w| times Σw/Σ|w| of the process: the sum of the signed one is 0.6 of that of its sizes.
    ratio = signed["weight"].sum() / np.abs(signed["weight"]).sum()
    factor = weights / np.abs(physical)
    assert np.unique(np.round(factor / factor.max(), 4)) == pytest.approx([ratio, 1.0], abs=1e-3)


def test_an_epoch_uses_every_event_at_most_once_and_leaves_out_less_than_a_batch(manifest, features, stream):
    memory = _open(manifest, features)
    assert isinstance(memory, MemorySample)
    assert isinstance(stream, ShardStream)
    everything = {tuple(row) for row in memory.arrays["train"].features}
    for sample in (memory, stream):
        batches = list(sample.batches(128, np.random.default_rng(0)))
        rows = [tuple(row) for batch in batches for row in batch.features]
        assert {len(batch.weight) for batch in batches} == {128}
        assert len(set(rows)) == len(rows) > sample.rows["train"] - 128
        assert set(rows) <= everything


def test_a_stream_holds_the_same_events_as_memory(manifest, features, stream):
    memory = _open(manifest, features)
    assert stream.rows == memory.rows
    for split in SPLITS:
        rows = np.concatenate([np.column_stack(chunk) for chunk in stream.chunks(split)])
        expected = np.column_stack(memory.arrays[split])
        np.testing.assert_allclose(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)], rtol=1e-6)


def test_a_stream_mixes_shards_and_repeats_for_a_seed(stream):
    first, again, other = (
        next(iter(stream.batches(128, np.random.default_rng(seed)))).features for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def _edit(manifest, change):
    content = json.loads(manifest.read_text())
    change(content)
    manifest.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda content: content.update(format=2), "format 1"),
        (lambda content: content.pop("shards"), "no manifest"),
        (
            lambda content: content["datasets"].update(
                {name: d | {"kind": "signal"} for name, d in content["datasets"].items()}
            ),
            "no background simulation",
        ),
    ],
)
def test_a_manifest_that_cannot_be_trained_on_is_refused(manifest, features, change, sentence):
    _edit(manifest, change)
    with pytest.raises(InputError, match=sentence):
        _open(manifest, features)


def test_a_missing_manifest_or_feature_set_is_named(tmp_path, manifest):
    with pytest.raises(InputError, match=r"nowhere.*run the stage select"):
        read_manifest(tmp_path / "nowhere" / "manifest.json")
    with pytest.raises(InputError, match="rmm"):
        feature_columns(read_manifest(manifest), "rmm")


def test_broken_shards_are_named(manifest, features):
    shard = manifest.parent / "1.Zee" / "a0.parquet"
    table = pq.read_table(shard)
    pq.write_table(table.slice(1), shard)
    with pytest.raises(FailureError, match=r"a0\.parquet has 699 rows where the manifest has 700"):
        _open(manifest, features)
    pq.write_table(table.drop_columns(["mll"]), shard)
    with pytest.raises(FailureError, match=r"a0\.parquet lacks the columns \['mll'\]"):
        _open(manifest, features)
    broken = table["mt2"].to_numpy().copy()
    broken[3] = np.nan
    index = table.column_names.index("mt2")
    pq.write_table(table.set_column(index, "mt2", [broken]), shard)
    with pytest.raises(FailureError, match=r"'mt2' of shard .*a0\.parquet"):
        _open(manifest, features)
    shard.unlink()
    with pytest.raises(FailureError, match=r"a0\.parquet is listed in manifest\.json but missing"):
        _open(manifest, features)
