"""A bounded sample stands for the whole background, and holds no event that was trained on."""

import json

import numpy as np
import pytest

from fileset.exceptions import FailureError
from models.studies.held_out import read_features
from processors.shards import read_manifest
from processors.split import identity_hash, split_of

BACKGROUNDS = ["1.Zee", "2.ttbar"]


def sample_of(manifest, features, *, limit=100_000, datasets=BACKGROUNDS, **options):
    return read_features(
        manifest, read_manifest(manifest), datasets, features, seed=11, limit=limit, **options
    )


def test_events_of_the_test_split_stand_for_all(manifest, samples, features):
    sample = sample_of(manifest, features)
    for number, name in enumerate(BACKGROUNDS):
        events = samples[name][2]
        identity = [events[column] for column in ("channelNumber", "runNumber", "eventNumber")]
        test = split_of(*identity, seed=11) == 2
        own = sample.index == number
        assert set(sample.key[own]) == set(identity_hash(*identity, seed=0)[test])
        assert sample.weight[own].sum() == pytest.approx(events["weight"].sum())
        expected = dict(zip(identity_hash(*identity, seed=0), events["met_et"], strict=True))
        assert [expected[k] for k in sample.key[own]] == sample.features[
            own, features.index("met_et")
        ].tolist()
        assert sample.sumw2[number] == pytest.approx((events["weight"] ** 2).sum(), rel=0.1)


def test_a_limit_keeps_the_sums_of_weights_and_few_events(manifest, samples, features):
    whole, sample = sample_of(manifest, features), sample_of(manifest, features, limit=300)
    assert len(whole) > 800
    assert len(sample) < 420  # 300, rounded up to whole datasets of at least 100
    assert set(sample.key) < set(whole.key)
    for number, name in enumerate(BACKGROUNDS):
        own = sample.index == number
        assert own.sum() >= 100
        assert sample.weight[own].sum() == pytest.approx(samples[name][2]["weight"].sum())
    mean = np.average(sample.features[:, 0], weights=sample.weight)
    assert mean == pytest.approx(np.average(whole.features[:, 0], weights=whole.weight), rel=0.15)


def test_no_more_shards_are_read_than_the_limit_needs(manifest, features):
    sample = sample_of(manifest, features, limit=100)
    assert len({origin.rows.start for origin in sample.origins}) <= 3
    for origin in sample.origins:
        assert set(sample.index[origin.rows]) == {BACKGROUNDS.index(origin.dataset)}


def test_all_events_can_be_asked_for(manifest, samples, features):
    sample = sample_of(manifest, features, datasets=["3.susy"], split=None)
    assert len(sample) == len(samples["3.susy"][2]["weight"])
    assert sample.summary()["sumw"] == pytest.approx(samples["3.susy"][2]["weight"].sum())


def test_a_dataset_of_which_nothing_is_held_out_counts_with_all_its_events(manifest, samples, features):
    sample = sample_of(manifest, features, fractions=(0.8, 0.2, 0.0))
    assert len(sample) == sum(len(samples[name][2]["weight"]) for name in BACKGROUNDS)


def test_a_changed_shard_is_refused(manifest, features):
    content = json.loads(manifest.read_text())
    shard = manifest.parent / content["shards"][0]["path"]
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(FailureError, match="run select again"):
        sample_of(manifest, features)
