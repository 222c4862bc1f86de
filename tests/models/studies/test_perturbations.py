"""Changes of physics objects carry over to all that depends on them; changes of columns to nothing else."""

import awkward as ak
import numpy as np
import pytest

from fileset.exceptions import InputError
from models.studies.perturbations import (
    columns_of_objects,
    event_features,
    exchanged,
    scaled_leading_lepton,
    with_noise,
    with_objects_of_others,
)
from processors.constants import ELECTRON_MASS, MUON_MASS
from processors.kinematics import invariant_mass
from processors.rmm import layout_of
from processors.settings import REGIONS, RMMSettings

REGION, RMM = REGIONS["2L"], RMMSettings()
TABLE = [
    "lep1_pt",
    "lep1_E",
    "lep2_pt",
    "lep2_E",
    "mll",
    "mt2",
    "met_et",
    "ht",
    "st",
    "meff",
    "lep1_eta",
    "njet20",
]
CELLS = ["met", "et_e1", "et_mu1", "m_e1_mu1", "h_mu1_e1", "mt_e1", "mt_mu1", "et_j1"]
FACTOR = 3.0


@pytest.fixture(scope="module")
def record(top_pairs):
    return top_pairs


def features(record, columns=TABLE):
    values, index = event_features(record, columns, region=REGION, rmm=RMM)
    assert len(index) == len(record)
    return dict(zip(columns, values.T.astype(np.float64), strict=True))


@pytest.fixture(scope="module")
def heavy(record):
    return scaled_leading_lepton(record, FACTOR, leptons=REGION.leptons)


def test_only_the_leading_lepton_becomes_harder(record, heavy):
    before, after = features(record), features(heavy)
    assert after["lep1_pt"] == pytest.approx(FACTOR * before["lep1_pt"], rel=1e-6)
    assert after["lep1_E"] == pytest.approx(FACTOR * before["lep1_E"], rel=1e-4)  # up to its mass
    for name in ("lep2_pt", "lep2_E", "lep1_eta", "njet20", "ht", "met_et"):
        assert after[name] == pytest.approx(before[name])


def test_sums_grow_by_what_the_lepton_gained_and_masses_by_its_root(record, heavy):
    before, after = features(record), features(heavy)
    gained = (FACTOR - 1) * before["lep1_pt"]
    for name in ("st", "meff"):
        assert after[name] - before[name] == pytest.approx(gained, rel=1e-4, abs=1e-2)
    # m_ll² is proportional to the momentum of either lepton where their masses do not count
    assert after["mll"] == pytest.approx(np.sqrt(FACTOR) * before["mll"], rel=1e-3)
    assert (after["mt2"] >= before["mt2"] - 1e-3).mean() > 0.9


def test_cells_of_the_matrix_follow_the_lepton(record, heavy):
    before, after = features(record, CELLS), features(heavy, CELLS)
    mixed = (before["et_e1"] > 0) & (before["et_mu1"] > 0)
    electron_leads = mixed & (before["et_e1"] > before["et_mu1"])
    assert electron_leads.sum() > 50
    for name, factor in (("et_e1", FACTOR), ("et_mu1", 1), ("m_e1_mu1", FACTOR**0.5), ("mt_e1", FACTOR**0.5)):
        assert after[name][electron_leads] == pytest.approx(factor * before[name][electron_leads], rel=1e-2)
    for name in ("h_mu1_e1", "mt_mu1", "et_j1", "met"):
        assert after[name][electron_leads] == pytest.approx(before[name][electron_leads], rel=1e-4, abs=1e-6)


def test_a_wrongly_measured_lepton_is_balanced_by_missing_momentum(record):
    balanced = scaled_leading_lepton(record, FACTOR, leptons=REGION.leptons, met="balanced")

    def visible_and_missing(events):
        first = events.lepton[:, 0]  # of these events all leading leptons are good
        missing = np.asarray(events.met.pt) * np.exp(1j * np.asarray(events.met.phi))
        return np.asarray(first.pt) * np.exp(1j * np.asarray(first.phi)) + missing

    good = ak.num(record.lepton) == REGION.n_leptons
    ours, theirs = visible_and_missing(balanced)[good], visible_and_missing(record)[good]
    assert np.abs(ours - theirs).max() < 1e-2
    assert not np.allclose(balanced.met.pt, record.met.pt)


def test_a_factor_of_one_changes_nothing(record):
    columns = [*TABLE, *CELLS]
    for met in ("kept", "balanced"):
        same = scaled_leading_lepton(record, 1.0, leptons=REGION.leptons, met=met)
        for name, values in features(record, columns).items():
            assert features(same, columns)[name] == pytest.approx(values, rel=1e-5, abs=1e-5)


def test_an_input_that_is_not_made_is_named(record):
    with pytest.raises(InputError, match="et_e9"):
        event_features(record, ["mll", "et_e9"], region=REGION, rmm=RMM)


def test_the_leading_lepton_is_the_leading_good_one(record):
    """A harder lepton that is not isolated is no lepton of the event."""
    spoiled = ak.with_field(
        record.lepton,
        ak.where(ak.local_index(record.lepton.pt) == 0, 1e3, record.lepton.ptcone30),
        "ptcone30",
    )
    lepton = ak.zip({name: spoiled[name] for name in record.lepton.fields})
    contents = {name: record[name] for name in record.fields} | {"lepton": ak.to_packed(lepton)}
    changed = scaled_leading_lepton(ak.zip(contents, depth_limit=1), 2.0, leptons=REGION.leptons)
    two = ak.num(record.lepton) == 2
    assert np.asarray(changed.lepton.pt[two][:, 0]) == pytest.approx(np.asarray(record.lepton.pt[two][:, 0]))
    assert np.asarray(changed.lepton.pt[two][:, 1]) == pytest.approx(
        2 * np.asarray(record.lepton.pt[two][:, 1])
    )


def test_masses_are_those_of_four_vectors(record, heavy):
    lepton = heavy.lepton[ak.num(heavy.lepton) == 2]
    columns = {name: np.asarray(ak.to_regular(lepton[name])) for name in ("pt", "eta", "phi", "mass")}
    expected = invariant_mass(columns, (0, 1))
    assert set(np.unique(columns["mass"])) <= {np.float32(ELECTRON_MASS), np.float32(MUON_MASS)}
    found = features(heavy)["mll"][np.asarray(ak.num(heavy.lepton) == 2)]
    assert found == pytest.approx(expected, rel=1e-5)


def test_objects_have_their_columns_of_table_and_matrix():
    table = columns_of_objects(["met_et", "lep1_pt", "mll", "lep1_eta", "met_phi", "lep2_pt"])
    assert {name: list(columns) for name, columns in table.items()} == {"met": [0, 4], "lep1": [1, 3]}
    layout = layout_of(RMM)
    matrix = columns_of_objects(layout.cell_names)
    assert set(matrix) == {"met", "j1", "b1", "e1", "mu1"}
    assert len(matrix["met"]) == layout.size  # its row; its column holds what the objects are alone
    assert all(len(matrix[name]) == 2 * layout.size - 1 for name in ("j1", "b1", "e1", "mu1"))
    assert {layout.cell_names[i].split("_")[1:].count("e1") for i in matrix["e1"]} == {1}


def test_exchanged_columns_are_those_named():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert exchanged(values, [(0, 2), (1, 3)]).tolist() == values[:, [2, 3, 0, 1]].tolist()
    assert exchanged(exchanged(values, [(0, 3)]), [(0, 3)]).tolist() == values.tolist()


def test_an_object_of_another_event_keeps_its_distribution_and_loses_its_event():
    rng = np.random.default_rng(3)
    hard = rng.exponential(50, 20_000)
    values = np.stack([hard, 2 * hard, hard + 1], axis=1).astype(np.float32)
    values[:4000, :2] = 0  # these events do not have the object
    weight = np.where(hard > 50, 3.0, 1.0)
    changed = with_objects_of_others(values, weight, np.array([0, 1]), rng)
    assert changed[:4000].tolist() == values[:4000].tolist()
    assert changed[:, 2].tolist() == values[:, 2].tolist()
    assert changed[:, 1].tolist() == (2 * changed[:, 0]).tolist()  # it comes as a whole
    has = slice(4000, None)
    correlation = np.corrcoef(changed[has, 0], changed[has, 2])[0, 1]
    assert abs(correlation) < 0.03
    assert np.average(changed[has, 0], weights=weight[has]) == pytest.approx(
        np.average(values[has, 0], weights=weight[has]), rel=0.05
    )


def test_noise_has_the_size_of_each_inputs_weighted_spread():
    rng = np.random.default_rng(5)
    values = np.stack([rng.normal(0, 2, 50_000), np.full(50_000, 7.0)], axis=1).astype(np.float32)
    weight = np.where(np.abs(values[:, 0]) < 2, 1.0, 0.0)  # the spread of what counts, not of all
    noisy = with_noise(values, weight, 0.5, rng)
    spread = values[weight > 0, 0].std()
    assert (noisy - values)[:, 0].std() == pytest.approx(0.5 * spread, rel=0.02)
    assert (noisy - values)[:, 0].mean() == pytest.approx(0, abs=0.02)
    assert noisy[:, 1].tolist() == values[:, 1].tolist()


def test_noise_goes_where_it_is_wanted():
    rng = np.random.default_rng(6)
    values = rng.normal(0, 1, (500, 3)).astype(np.float32)
    where = rng.random(values.shape) < 0.5
    noisy = with_noise(values, np.ones(500), 0.5, rng, where=where)
    assert ((noisy != values) == where).all()
