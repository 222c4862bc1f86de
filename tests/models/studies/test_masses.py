"""Transverse masses come from the shards of the selection, event by event those of the scores."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fileset.exceptions import FailureError
from models.studies.masses import read_masses, transverse_mass
from models.studies.scored import read_scored


def _leptons(*leptons, met=50.0, met_phi=0.0, same_sign=False):
    """One event of leptons (pt, eta, phi, flavour)."""
    events = {
        "met_et": np.array([met]),
        "met_phi": np.array([met_phi]),
        "isOS": np.array([float(not same_sign)]),
    }
    for n, lepton in enumerate(leptons, 1):
        for part, value in zip(("pt", "eta", "phi", "flav"), lepton, strict=True):
            events[f"lep{n}_{part}"] = np.array([float(value)])
    return events


def test_of_two_leptons_it_is_that_of_the_leading_one():
    event = _leptons((60, 0, np.pi, 11), (30, 0, 0.0, 11), met=40.0)
    assert transverse_mass(event)[0] == pytest.approx(2 * np.sqrt(60 * 40))
    assert transverse_mass(_leptons((60, 0, 0, 11), (30, 0, 2, 11)))[0] == pytest.approx(0.0, abs=1e-6)


ON_Z = 91.1876 / 2


@pytest.mark.parametrize(
    ("event", "chosen"),
    [
        # The muon beside two electrons, wherever it stands.
        (_leptons((ON_Z, 0, 0, 11), (ON_Z, 0, np.pi, 11), (20, 1, 1, 13)), 3),
        (_leptons((70, 0.5, 2, 13), (ON_Z, 0, 0, 11), (ON_Z, 0, np.pi, 11)), 1),
        # Three of a kind: what the pair nearest to the Z leaves over.
        (_leptons((80, 0, 2.5, 11), (ON_Z, 0, 0, 11), (ON_Z, 0, np.pi, 11)), 1),
        # The leading two are as heavy as a Z, but of one charge.
        (_leptons((ON_Z, 0, 0, 13), (ON_Z, 0, np.pi, 13), (20, 0, 2, 13), same_sign=True), 2),
        # No pair at all: the softest.
        (_leptons((ON_Z, 0, 0, 11), (ON_Z, 0, np.pi, 11), (20, 0, 2, 13), same_sign=True), 3),
    ],
)
def test_of_three_leptons_it_is_that_of_the_one_a_z_leaves_over(event, chosen):
    pt, phi = (event[f"lep{chosen}_{part}"][0] for part in ("pt", "phi"))
    assert transverse_mass(event)[0] == pytest.approx(np.sqrt(2 * pt * 50.0 * (1 - np.cos(phi))))


@pytest.fixture
def run(sculpting_run):
    scores, shards, _ = sculpting_run
    return scores, shards, json.loads(scores.read_text())


def test_rows_of_scores_and_shards_go_together(run):
    scores, shards, manifest = run
    found = read_masses(scores, manifest, shards, "3.susy").used
    table = pa.concat_tables([pq.read_table(path) for path in sorted((shards.parent / "3.susy").iterdir())])
    expected = transverse_mass({name: table[name].to_numpy() for name in table.column_names})
    np.testing.assert_allclose(found.columns["mt"], expected)
    assert set(found.columns) == {"score", "mll", "meff", "mt"}


def test_background_is_its_test_split_as_everywhere_and_the_rest_is_left_to_fit_on(run):
    scores, shards, manifest = run
    found = read_masses(scores, manifest, shards, "1.Zee")
    expected = read_scored(scores, manifest, "1.Zee", ["score", "mll"])
    np.testing.assert_allclose(found.used.weight, expected.weight)
    np.testing.assert_array_equal(found.used.columns["mll"], expected.columns["mll"])
    assert found.used.sumw2 == expected.sumw2
    everything = read_scored(scores, manifest, "1.Zee", ["score"], everything=True)
    assert len(found.used.weight) + len(found.fitted.weight) == len(everything.weight)
    assert len(read_masses(scores, manifest, shards, "3.susy").fitted.weight) == 0


def test_data_that_a_model_was_trained_on_are_left_out(run):
    scores, shards, manifest = run
    everything = read_masses(scores, manifest, shards, "data_A").used
    left = read_masses(scores, manifest, shards, "data_A", searched=0.5).used
    split = read_scored(scores, manifest, "data_A", ["split"]).columns["split"]
    assert len(left.weight) == (split == 2).sum() < len(everything.weight)
    background = read_masses(scores, manifest, shards, "1.Zee", searched=0.5).used
    assert background.weight.sum() == pytest.approx(
        read_masses(scores, manifest, shards, "1.Zee").used.weight.sum()
    )


def test_shards_of_other_events_than_the_scores_are_refused(run):
    scores, shards, manifest = run
    shard = next((shards.parent / "1.Zee").iterdir())
    table = pq.read_table(shard)
    pq.write_table(table.take(np.arange(len(table))[::-1]), shard)
    with pytest.raises(FailureError, match="has other events than its scores"):
        read_masses(scores, manifest, shards, "1.Zee")
    shard.write_bytes(b"no parquet")
    with pytest.raises(FailureError, match="cannot read shard"):
        read_masses(scores, manifest, shards, "1.Zee")
