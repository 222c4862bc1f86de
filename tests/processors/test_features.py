"""The feature table: names and order of the report, every column against an independent calculation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import vector
from mt2 import mt2
from scipy.optimize import minimize

from processors.features import REDUCED, baseline_names, feature_table, kinematic_names, table_names
from processors.objects import JET_FIELDS, Ragged, SelectedEvents, rmm_objects, select_events
from processors.rmm import RMMLayout, layout_of, rapidity_mass_matrix
from processors.schema import event_record
from processors.settings import REGIONS, JetSettings, LeptonSettings, RMMSettings

# As the report's Table I and its reduced set name them, in order.
LEPTON = ["flav", "pt", "eta", "phi", "E", "ptcone30", "etcone20", "trackd0pvunbiased", "isTightID", "z0"]
TABLE_2L = [
    *["njet20", "njet60", "nbjet60", "nbjet70", "nbjet77", "nbjet85", "isOS", "isSF", "mll", "mt2"],
    *["met_et", "met_phi", "costhstar"],
    *[f"lep1_{name}" for name in LEPTON],
    *[f"lep2_{name}" for name in LEPTON],
]
LEPTON_3 = [f"lep3_{name}" for name in LEPTON]
REDUCED_13 = [
    *["njet60", "nbjet85", "isOS", "isSF", "mt2", "met_et"],
    *["lep1_pt", "lep1_E", "lep1_ptcone30", "lep1_etcone20", "lep2_pt", "lep2_E", "costhstar"],
]

Table = Callable[..., dict[str, np.ndarray]]


@pytest.fixture
def table(make_record: Callable[..., ak.Array]) -> Table:
    """The table of hand-made events."""

    def of(*events: dict[str, Any], n_leptons: int = 2) -> dict[str, np.ndarray]:
        chosen = select_events(
            make_record(*events), n_leptons=n_leptons, leptons=LeptonSettings(), jets=JetSettings()
        )
        assert len(chosen) == len(events), "every event of the test is meant to be selected"
        return feature_table(chosen)

    return of


# --- names -----------------------------------------------------------------------------------------------------------


def test_the_table_has_the_33_inputs_of_the_report_in_order() -> None:
    assert len(TABLE_2L) == 33
    assert list(table_names(2)) == TABLE_2L


def test_three_leptons_add_a_lepton_and_mlll() -> None:
    assert len(table_names(3)) == 44
    assert list(table_names(3)) == [*TABLE_2L, *LEPTON_3, "mlll"]


def test_the_reduced_set_has_13_inputs_of_the_table() -> None:
    assert list(REDUCED) == REDUCED_13
    assert set(REDUCED) <= set(TABLE_2L)


@pytest.mark.parametrize("n_leptons", [2, 3])
def test_the_columns_are_the_table_then_baselines_and_tracked_ones(table: Table, n_leptons: int) -> None:
    columns = table({"lepton": [{"pt": 50.0 - i, "phi": i} for i in range(n_leptons)]}, n_leptons=n_leptons)
    assert tuple(columns)[: len(table_names(n_leptons))] == table_names(n_leptons)
    assert set(columns) - set(table_names(n_leptons)) == {
        *(f"lep{i + 1}_tracksigd0pvunbiased" for i in range(n_leptons)),
        "ht",
        "st",
        "meff",
    }
    assert set(baseline_names(n_leptons)) <= set(columns)
    assert {column.dtype for column in columns.values()} == {np.dtype(np.float32)}


# --- by hand ---------------------------------------------------------------------------------------------------------


def test_an_event_by_hand(table: Table) -> None:
    columns = table(
        {
            "met": (33.0, -1.5),
            "lepton": [
                {
                    "pt": 80.0,
                    "eta": 1.0,
                    "flavour": 13,
                    "charge": -1,
                    "energy": 123.5,
                    "z0": 0.4,
                    "d0": -0.02,
                },
                {"pt": 40.0, "eta": -0.5, "flavour": 11, "charge": 1, "ptcone30": 2.0, "etcone20": -1.0}
                | {"is_tight": False, "d0_significance": 2.5, "phi": 2.0},
            ],
            "jet": [
                {"pt": 61.0, "btag": 4},
                {"pt": 60.0, "btag": 3},
                {"pt": 45.0, "btag": 2},
                {"pt": 30.0, "btag": 1},
                {"pt": 20.5, "btag": 0},
                {"pt": 19.5, "btag": 4},
                {"pt": 50.0, "btag": 4, "passes_jvt": False},
            ],
        }
    )
    expected = {
        "njet20": 5,
        "njet60": 1,
        "nbjet60": 1,
        "nbjet70": 2,
        "nbjet77": 3,
        "nbjet85": 4,
        "isOS": 1,
        "isSF": 0,
        "met_et": 33.0,
        "met_phi": -1.5,
        "costhstar": np.tanh(0.75),
        "lep1_flav": 13,
        "lep1_pt": 80.0,
        "lep1_eta": 1.0,
        "lep1_E": 123.5,
        "lep1_z0": 0.4,
        "lep1_trackd0pvunbiased": -0.02,
        "lep1_isTightID": 1,
        "lep2_flav": 11,
        "lep2_pt": 40.0,
        "lep2_phi": 2.0,
        "lep2_ptcone30": 2.0,
        "lep2_etcone20": -1.0,
        "lep2_isTightID": 0,
        "lep2_tracksigd0pvunbiased": 2.5,
        "ht": 216.5,
        "st": 336.5,
        "meff": 369.5,
    }
    for name, value in expected.items():
        assert columns[name][0] == pytest.approx(value, rel=1e-6), name


@pytest.mark.parametrize(
    ("flavours", "charges", "same_flavour", "opposite_sign"),
    [
        ((11, 11), (1, -1), 1, 1),
        ((11, 11), (1, 1), 1, 0),
        ((13, 11), (-1, 1), 0, 1),
        ((11, 13), (-1, -1), 0, 0),
        ((13, 13), (-1, 1), 1, 1),
    ],
)
def test_pair_flags(
    table: Table,
    flavours: tuple[int, int],
    charges: tuple[int, int],
    same_flavour: int,
    opposite_sign: int,
) -> None:
    columns = table({"lepton": [{"flavour": f, "charge": c} for f, c in zip(flavours, charges, strict=True)]})
    assert (columns["isSF"][0], columns["isOS"][0]) == (same_flavour, opposite_sign)


def test_pair_quantities_of_three_leptons_use_the_leading_two(table: Table) -> None:
    event = {
        "met": (60.0, 2.5),
        "lepton": [
            {"pt": 30.0, "eta": -1.0, "phi": 1.0, "flavour": 11, "charge": -1},
            {"pt": 70.0, "eta": 0.3, "phi": -2.0, "flavour": 13, "charge": 1},
            {"pt": 50.0, "eta": 1.3, "phi": 0.4, "flavour": 13, "charge": -1},
        ],
    }
    of_three = table(event, n_leptons=3)
    of_two = table({**event, "lepton": event["lepton"][1:]})
    for name in ("mll", "mt2", "costhstar", "isOS", "isSF"):
        assert of_three[name] == of_two[name], name
    assert of_three["lep1_pt"][0] == 70


# --- against other programs ------------------------------------------------------------------------------------------


def random_leptons(n: int, n_leptons: int, seed: int = 7) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    return [
        {
            "met": (rng.exponential(50), rng.uniform(-np.pi, np.pi)),
            "lepton": [
                {
                    "pt": 10 + rng.exponential(50),
                    "eta": rng.uniform(-2.5, 2.5),
                    "phi": rng.uniform(-np.pi, np.pi),
                    "flavour": int(rng.choice([11, 13])),
                    "charge": int(rng.choice([-1, 1])),
                }
                for _ in range(n_leptons)
            ],
        }
        for _ in range(n)
    ]


def four_vectors(event: dict[str, Any]) -> list[Any]:
    mass = {11: 0.00051099895, 13: 0.1056583755}
    ordered = sorted(event["lepton"], key=lambda one: -one["pt"])
    return [
        vector.obj(pt=one["pt"], eta=one["eta"], phi=one["phi"], mass=mass[one["flavour"]]) for one in ordered
    ]


def test_masses_and_angle_agree_with_vector(table: Table) -> None:
    events = random_leptons(200, 3)
    columns = table(*events, n_leptons=3)
    for i, event in enumerate(events):
        one, two, three = four_vectors(event)
        assert columns["mll"][i] == pytest.approx((one + two).mass, rel=1e-5)
        assert columns["mlll"][i] == pytest.approx((one + two + three).mass, rel=1e-5)
        assert columns["costhstar"][i] == pytest.approx(
            np.tanh(abs(one.deltaeta(two)) / 2), rel=1e-5, abs=1e-6
        )


def scalar_mt2(event: dict[str, Any]) -> float:
    one, two = four_vectors(event)[:2]
    px, py = event["met"][0] * np.cos(event["met"][1]), event["met"][0] * np.sin(event["met"][1])
    return float(mt2(one.mass, one.px, one.py, two.mass, two.px, two.py, px, py, 0.0, 0.0))


def minimised_mt2(event: dict[str, Any]) -> float:
    """The definition itself: the least, over all ways to split the missing momentum, of the larger m_T."""
    one, two = four_vectors(event)[:2]
    px, py = event["met"][0] * np.cos(event["met"][1]), event["met"][0] * np.sin(event["met"][1])

    def mt(p: Any, qx: float, qy: float) -> float:
        et = np.sqrt(p.mass**2 + p.pt**2)
        return float(np.sqrt(max(p.mass**2 + 2 * (et * np.hypot(qx, qy) - p.px * qx - p.py * qy), 0)))

    def larger(q: np.ndarray) -> float:
        return max(mt(one, q[0], q[1]), mt(two, px - q[0], py - q[1]))

    starts = [(0.0, 0.0), (px, py), (px / 2, py / 2), (-one.px, -one.py), (one.px, one.py)]
    options = {"xatol": 1e-7, "fatol": 1e-9, "maxiter": 4000}
    return min(float(minimize(larger, start, method="Nelder-Mead", options=options).fun) for start in starts)


def test_mt2_agrees_with_the_scalar_call_of_the_package(table: Table) -> None:
    events = random_leptons(200, 2, seed=8)
    columns = table(*events)
    # Below some MeV the package's answer hangs on the last digits of its input.
    np.testing.assert_allclose(columns["mt2"], [scalar_mt2(event) for event in events], rtol=1e-5, atol=2e-2)
    assert (columns["mt2"] > 1).mean() > 0.3


def test_mt2_agrees_with_its_definition_minimised(table: Table) -> None:
    events = random_leptons(8, 2, seed=12)
    columns = table(*events)
    np.testing.assert_allclose(
        columns["mt2"], [minimised_mt2(event) for event in events], rtol=1e-3, atol=2e-2
    )


def test_mt2_of_balanced_events_is_known_in_closed_form(table: Table) -> None:
    # Nothing but two leptons and two invisibles: m_T2^2 = 2 (pT1 pT2 + pT1 . pT2) for massless ones.
    lepton = [{"pt": 70.0, "eta": 0.4, "phi": 0.3}, {"pt": 45.0, "eta": -1.0, "phi": 1.9}]
    sum_x, sum_y = (sum(one["pt"] * f(one["phi"]) for one in lepton) for f in (np.cos, np.sin))
    columns = table({"lepton": lepton, "met": (np.hypot(sum_x, sum_y), np.arctan2(-sum_y, -sum_x))})
    expected = np.sqrt(2 * 70.0 * 45.0 * (1 + np.cos(1.6)))
    assert columns["mt2"][0] == pytest.approx(expected, rel=1e-4)


def test_mt2_edge_cases(table: Table) -> None:
    muon = {"pt": 50.0, "phi": 1.0, "flavour": 13}
    equal = [dict(muon), dict(muon)]
    no_met = {"lepton": [{"pt": 60.0}, {"pt": 30.0, "phi": 2.0}], "met": (0.0, 0.0)}
    columns = table(
        no_met,
        {"lepton": equal, "met": (0.0, 0.0)},
        {"lepton": equal, "met": (80.0, 1.0)},
        {"lepton": equal, "met": (80.0, 1.0 - np.pi)},
        {"lepton": [{"pt": 60.0}, {"pt": 30.0, "flavour": 13}], "met": (0.0, 0.0)},
    )
    # Without missing momentum the invisibles take none: the heavier lepton's mass is left.
    assert columns["mt2"][0] == pytest.approx(0.000511, abs=1e-3)
    assert columns["mt2"][1] == pytest.approx(0.1057, abs=1e-3)
    # Along both leptons it is shared too, and only the mass keeps the transverse mass from 0: m sqrt(1 + q / pT).
    assert columns["mt2"][2] == pytest.approx(0.10566 * np.sqrt(1 + 40 / 50), rel=1e-3)
    # Opposite to two equal leptons it is shared equally: 2 sqrt(pT MET / 2).
    assert columns["mt2"][3] == pytest.approx(2 * np.sqrt(50.0 * 40.0), rel=1e-3)
    assert columns["mt2"][4] == pytest.approx(0.1057, abs=1e-3)


@pytest.mark.parametrize(
    ("second_phi", "met_phi", "expected"),
    [
        (0.0, np.pi, 2 * np.sqrt(50.0 * 40.0)),  # parallel: mt2 1.3 gives 1e78 for massless ones
        (0.0, 0.0, 0.0),
        (np.pi, 0.0, 0.0),  # back to back: the first takes all that is missing
    ],
)
def test_massless_leptons_have_an_mt2(second_phi: float, met_phi: float, expected: float) -> None:
    events = selected(
        {"pt": [[50.0, 50.0]], "eta": [[0.0, 0.0]], "phi": [[0.0, second_phi]], "mass": [[0.0, 0.0]]},
        met=[80.0],
        met_phi=[met_phi],
    )
    assert feature_table(events)["mt2"][0] == pytest.approx(expected, rel=1e-3, abs=2e-2)


@pytest.mark.shared
@pytest.mark.parametrize("region", ["2L", "3L"])
def test_real_events_agree_with_vector_and_hold_no_infinity(
    real_2020: dict[str, Path], read_events: Callable[..., Any], region: str
) -> None:
    cuts = REGIONS[region]
    record = event_record(read_events(real_2020["410000.ttbar_lep.4lep"], "mini"))
    events = select_events(record, n_leptons=cuts.n_leptons, leptons=cuts.leptons, jets=cuts.jets)
    columns = feature_table(events)
    lepton = {name: column.astype(np.float64) for name, column in events.lepton.items()}
    p = vector.array({k: lepton[k] for k in ("pt", "eta", "phi", "mass")})
    np.testing.assert_allclose(columns["mll"], (p[:, 0] + p[:, 1]).mass, rtol=1e-5)
    for name, column in columns.items():
        assert np.isfinite(column).all(), name


# --- pathological events ---------------------------------------------------------------------------------------------


def selected(
    lepton: dict[str, Any],
    *,
    met: list[float],
    met_phi: list[float] | None = None,
    jets: list[list[dict[str, float]]] | None = None,
) -> SelectedEvents:
    """Events as they stand behind the selection, with values that no selection would let pass."""
    shape = np.shape(lepton["pt"])
    defaults = {"energy": 1.0, "charge": 1, "flavour": 11, "z0": 0.0, "d0": 0.0, "d0_significance": 0.0}
    defaults |= {"ptcone30": 0.0, "etcone20": 0.0, "is_tight": True, "mass": 0.000511}
    columns = {name: np.full(shape, value) for name, value in defaults.items()}
    columns |= {name: np.array(value, dtype=np.float32).reshape(shape) for name, value in lepton.items()}
    jets = jets or [[] for _ in met]
    default_jet = {
        "pt": 30.0,
        "eta": 0.0,
        "phi": 0.0,
        "energy": 30.0,
        "mass": 0.0,
        "btag": 0,
        "passes_jvt": True,
    }
    flat = {
        name: np.array([jet.get(name, value) for event in jets for jet in event], dtype=type(value))
        for name, value in default_jet.items()
    }
    assert set(flat) == set(JET_FIELDS)
    offsets = np.concatenate([[0], np.cumsum([len(event) for event in jets])]).astype(np.int64)
    met_pt = np.array(met, dtype=np.float32)
    phi = np.array(met_phi or [0.0] * len(met), dtype=np.float32)
    return SelectedEvents(np.arange(len(met)), columns, Ragged(offsets, flat), met_pt, phi)


def test_pathological_events_pass_both_feature_sets_without_nan_or_infinity() -> None:
    events = selected(
        {
            "pt": [[50.0, 40.0], [0.0, 0.0], [1e-20, 5e3], [30.0, 30.0], [6.5e3, 6.5e3]],
            "eta": [[0.0, 0.0], [5.0, -5.0], [5.0, -5.0], [5.0, 5.0], [-5.0, 5.0]],
            "phi": [[0.0, np.pi], [0.0, 0.0], [0.0, 1.0], [2.0, 2.0], [-np.pi, np.pi]],
            "energy": [[40.0, 30.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, np.inf]],
            "z0": [[0.0, np.nan], [0.0, 0.0], [0.0, 0.0], [1e30, -1e30], [-np.inf, 0.0]],
        },
        met=[0.0, 0.0, 1e4, 0.0, 50.0],
        jets=[
            [],
            [{"pt": 20.0 + i, "eta": 5.0 * (-1) ** i, "phi": 0.2 * i, "btag": i % 5} for i in range(30)],
            [{"pt": 0.0, "eta": 5.0}, {"pt": 0.0, "eta": -5.0, "mass": 10.0}],
            [{"pt": 3e3, "eta": 5.0, "mass": 1e3}, {"pt": 3e3, "eta": 5.0}],
            [],
        ],
    )
    columns = feature_table(events)
    for name, column in columns.items():
        assert column.shape == (5,)
        assert np.isfinite(column).all(), name
    assert columns["njet20"].tolist() == [0, 29, 0, 2, 0]
    layout = layout_of(RMMSettings())
    met = ak.zip({"pt": events.met_pt, "phi": events.met_phi})
    for convention in ("thesis", "thesis-code", "map2rmm"):
        matrix = rapidity_mass_matrix(rmm_objects(events, JetSettings()), met, layout, convention)
        assert np.isfinite(matrix).all(), convention


def test_what_is_absent_is_zero(table: Table) -> None:
    columns = table({"lepton": [{"pt": 50.0}, {"pt": 40.0, "phi": 2.0}], "jet": []})
    for name in ("njet20", "njet60", "nbjet60", "nbjet70", "nbjet77", "nbjet85", "ht"):
        assert columns[name][0] == 0


def test_one_lepton_has_no_pair(table: Table) -> None:
    columns = table({"lepton": [{"pt": 50.0}]}, n_leptons=1)
    for name in ("mll", "mt2", "costhstar", "isOS", "isSF"):
        assert columns[name].tolist() == [0]


@pytest.mark.parametrize("n_leptons", [1, 2, 3, 4])
def test_no_selected_event_gives_empty_columns_of_every_name(
    make_record: Callable[..., ak.Array], n_leptons: int
) -> None:
    record = make_record({"lepton": [], "jet": [{"pt": 50.0}]})
    events = select_events(record, n_leptons=n_leptons, leptons=LeptonSettings(), jets=JetSettings())
    columns = feature_table(events)
    assert set(table_names(n_leptons)) <= set(columns)
    assert {column.size for column in columns.values()} == {0}
    matrix = rapidity_mass_matrix(
        rmm_objects(events, JetSettings()),
        ak.zip({"pt": events.met_pt, "phi": events.met_phi}),
        RMMLayout(("ljet", 6), ("electron", 5)),
    )
    assert matrix.shape == (0, 12, 12)


@pytest.mark.parametrize("n_leptons", [2, 3])
def test_kinematics_are_columns_of_which_none_is_a_sum_of_others(n_leptons):
    kinematics = kinematic_names(n_leptons)
    assert len(set(kinematics)) == len(kinematics) == 6
    assert set(kinematics) <= {*table_names(n_leptons), *baseline_names(n_leptons)}
    assert not {"st", "meff"} & set(kinematics)
