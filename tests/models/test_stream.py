import json
import shutil
from itertools import pairwise

import numpy as np
import pyarrow.parquet as pq
import pytest

from fileset.exceptions import FailureError, InputError
from models.stream import MemorySample, StoredSample, feature_columns, open_background
from processors.files import checksum
from processors.shards import read_manifest
from processors.split import SPLITS, split_of

SEED = 11


def _open(manifest, features, **options):
    return open_background(manifest, columns=features, seed=SEED, **options)


@pytest.fixture
def small_chunks(monkeypatch):
    """Blocks and windows far smaller than the sample."""
    for module in ("models.reading", "models.ordering", "models.stream"):
        monkeypatch.setattr(f"{module}.CHUNK_ROWS", 200)


@pytest.fixture
def stream(manifest, features, tmp_path, small_chunks):
    """A sample that does not fit into memory."""
    sample = _open(manifest, features, memory_mb=0, scratch=tmp_path / "scratch")
    yield sample
    sample.close()


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


def _batches(sample, batch_size, seed):
    """The batches of one epoch."""
    return [
        window.take(slice(start, start + batch_size))
        for window in sample.windows(batch_size, np.random.default_rng(seed))
        for start in range(0, len(window.weight), batch_size)
    ]


def test_an_epoch_uses_every_event_at_most_once_and_leaves_out_less_than_a_batch(manifest, features, stream):
    memory = _open(manifest, features)
    assert isinstance(memory, MemorySample)
    assert isinstance(stream, StoredSample)
    everything = {tuple(row) for row in memory.arrays["train"].features}
    for sample in (memory, stream):
        for batch_size in (128, 1500):
            batches = _batches(sample, batch_size, 0)
            rows = [tuple(row) for batch in batches for row in batch.features]
            assert {len(batch.weight) for batch in batches} == {batch_size}
            assert len(set(rows)) == len(rows) > sample.rows["train"] - batch_size
            assert set(rows) <= everything


def _everything(sample):
    """All that a fit ever sees of a sample: its chunks in order, and the batches of two epochs."""
    chunks = [chunk for split in SPLITS for chunk in sample.chunks(split)]
    batches = [batch for epoch in range(2) for batch in _batches(sample, 128, (SEED, epoch))]
    return [sample.rows, sample.sumw], [part for chunk in chunks + batches for part in chunk]


@pytest.mark.parametrize("weighting", ["physical", "sqrt"])
def test_on_disk_a_sample_is_the_same_to_the_bit_as_in_memory_however_shards_were_cut(
    tmp_path, shard_writer, samples, features, small_chunks, weighting, monkeypatch
):
    cuts = [{"chunk": 700}, {"chunk": 64, "reverse": True}, {"chunk": 5000, "row_group": 333}]
    manifests = [shard_writer(tmp_path / str(index), samples, **cut) for index, cut in enumerate(cuts)]
    numbers, arrays = _everything(_open(manifests[0], features, weighting=weighting))
    for manifest in manifests:
        stored = _open(manifest, features, weighting=weighting, memory_mb=0, scratch=tmp_path)
        found, parts = _everything(stored)
        stored.close()
        assert found == numbers
        for one, other in zip(arrays, parts, strict=True):
            np.testing.assert_array_equal(one, other)


def test_neither_memory_nor_threads_change_the_order_on_disk(
    manifest, features, tmp_path, small_chunks, monkeypatch
):
    found = []
    for buckets, threads in ((1, 1), (7, 3)):
        monkeypatch.setattr("models.ordering._MOST_BUCKETS", buckets)
        monkeypatch.setattr("models.reading.cores", lambda threads=threads: threads)
        stored = _open(manifest, features, memory_mb=0, scratch=tmp_path)
        found.append(_everything(stored)[1])
        stored.close()
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_scaling_on_disk_and_in_memory_is_the_same(manifest, features, stream):
    class Halves:
        @staticmethod
        def transform(features):
            return features / 2 - 1

    memory = _open(manifest, features)
    memory.scale(Halves)
    stream.scale(Halves)
    for one, other in zip(_everything(memory)[1], _everything(stream)[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_batches_mix_shards_and_processes_and_repeat_for_a_seed(manifest, samples, features, stream):
    first, again, other = (_batches(stream, 128, seed)[0].features for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    harder = {tuple(row) for row in np.column_stack([samples["2.ttbar"][2][name] for name in features])}
    # A third of all events is of the second process: of 128 events 43, give or take five.
    assert 20 < sum(tuple(row) in harder for row in first) < 66


def test_what_lies_on_disk_is_gone_when_the_sample_is_closed_or_could_not_be_made(
    manifest, features, tmp_path, monkeypatch
):
    scratch = tmp_path / "scratch"
    sample = _open(manifest, features, memory_mb=0, scratch=scratch)
    assert len(list(scratch.rglob("*.arrow"))) == 3
    sample.close()
    assert list(scratch.iterdir()) == []
    (manifest.parent / "2.ttbar" / "a700.parquet").write_bytes(b"no parquet")
    with pytest.raises(FailureError, match=r"a700\.parquet"):
        _open(manifest, features, memory_mb=0, scratch=scratch)
    assert list(scratch.iterdir()) == []


def test_a_disk_without_room_is_named_with_what_helps(manifest, features, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(FailureError, match=r"needs about .* GB.*training\.scratch"):
        _open(manifest, features, memory_mb=0, scratch=tmp_path / "scratch")


def _members(sample):
    return {
        split: {tuple(row) for chunk in sample.chunks(split) for row in chunk.features} for split in SPLITS
    }


def test_a_subsample_is_drawn_by_the_identity_of_events(
    tmp_path, shard_writer, samples, features, small_chunks
):
    limits = {"max_train_events": 1000, "max_validation_events": 300}
    cuts = [{"chunk": 700}, {"chunk": 64, "reverse": True}]
    first, other = (shard_writer(tmp_path / str(index), samples, **cut) for index, cut in enumerate(cuts))
    sample = _open(first, features, **limits)
    assert sample.rows["train"] == 1000
    assert sample.rows["validation"] == 300
    everything, thinned = _members(_open(first, features)), _members(sample)
    assert all(thinned[split] <= everything[split] for split in SPLITS)
    assert thinned["test"] == everything["test"]
    stored = _open(other, features, memory_mb=0, scratch=tmp_path, **limits)
    for one, same in zip(_everything(sample)[1], _everything(stored)[1], strict=True):
        np.testing.assert_array_equal(one, same)
    stored.close()
    # A larger subsample holds the smaller one; both processes keep their share.
    assert thinned["train"] <= _members(_open(first, features, max_train_events=2000))["train"]
    share = sum(row[0] in samples["2.ttbar"][2]["met_et"] for row in thinned["train"]) / 1000
    assert share == pytest.approx(1 / 3, abs=0.06)


@pytest.mark.parametrize("memory_mb", [0, 100])
def test_of_collision_data_the_part_that_is_kept_for_the_search_is_not_looked_at(
    tmp_path, shard_writer, samples, features, memory_mb
):
    fractions = (0.4, 0.1, 0.5)
    kind, group, events = samples["data_A"]
    split = split_of(
        *(events[name] for name in ("channelNumber", "runNumber", "eventNumber")),
        seed=SEED,
        fractions=fractions,
    )
    # What must not be looked at is no number: it would be found.
    hidden = {**events, "mll": np.where(split == 2, np.float32(np.nan), events["mll"])}
    manifest = shard_writer(tmp_path, {**samples, "data_A": (kind, group, hidden)})
    sample = _open(
        manifest,
        features,
        kind="data",
        fractions=fractions,
        memory_mb=memory_mb,
        scratch=tmp_path / "scratch",
    )
    assert sample.datasets == ["data_A"]
    assert sample.rows == {"train": np.sum(split == 0), "validation": np.sum(split == 1), "test": 0}
    assert list(sample.chunks("test")) == []
    seen = np.concatenate([chunk.features for s in SPLITS for chunk in sample.chunks(s)])
    expected = np.column_stack([events[name] for name in features])[split < 2]
    np.testing.assert_array_equal(np.sort(seen[:, 2]), np.sort(expected[:, 2]))
    sample.close()


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
    with pytest.raises(FailureError, match=r"a0\.parquet does not have the checksum of its manifest"):
        _open(manifest, features)
    content = json.loads(manifest.read_text())
    entry = next(entry for entry in content["shards"] if entry["path"] == "1.Zee/a0.parquet")
    entry["checksum"] = checksum(shard)
    manifest.write_text(json.dumps(content))
    with pytest.raises(FailureError, match=r"'mt2' of shard .*a0\.parquet"):
        _open(manifest, features)
    shard.unlink()
    with pytest.raises(FailureError, match=r"a0\.parquet is listed in manifest\.json but missing"):
        _open(manifest, features)
