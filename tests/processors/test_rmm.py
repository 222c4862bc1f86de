"""The rapidity-mass matrix: against two published programs, against eq. 3.1 cell by cell, and by its symmetries."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import vector
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.rmm import (
    ATLAS_2024_REMOVED,
    RMMLayout,
    energy_cells,
    layout_of,
    model_cells,
    rapidity_mass_matrix,
    removed_cells,
)
from processors.schema import from_flat
from processors.settings import RMMSettings

T4 = RMMLayout(("ljet", 6), ("bjet", 6), ("electron", 5), ("muon", 5))
T5N10 = RMMLayout(("ljet", 10), ("bjet", 10), ("muon", 10), ("electron", 10), ("photon", 10))
CONVENTIONS = ("thesis", "thesis-code", "map2rmm")

FourVector = tuple[float, float, float, float]  # pt, eta, phi, mass
Event = dict[str, list[FourVector]]


def arrays(events: Sequence[Mapping[str, Sequence[FourVector]]], types: Sequence[str]) -> dict[str, ak.Array]:
    """type -> ragged records of the events' objects."""
    result = {}
    for kind in types:
        lists = [event.get(kind, []) for event in events]
        flat = np.array([one for event in lists for one in event], dtype=np.float64).reshape(-1, 4).T
        offsets = np.concatenate([[0], np.cumsum([len(event) for event in lists])]).astype(np.int64)
        result[kind] = from_flat(offsets, dict(zip(("pt", "eta", "phi", "mass"), flat, strict=True)))
    return result


def met_array(*met: tuple[float, float]) -> ak.Array:
    pt, phi = np.array(met, dtype=np.float64).reshape(-1, 2).T
    return ak.zip({"pt": pt, "phi": phi})


def matrix_of(event: Event, met: tuple[float, float], layout: RMMLayout = T4, **options: Any) -> np.ndarray:
    """The matrix of one event, in double precision."""
    objects = arrays([event], [kind for kind, _ in layout.types])
    return rapidity_mass_matrix(objects, met_array(met), layout, **options)[0].astype(np.float64)


# --- against the published programs ----------------------------------------------------------------------------------


def reference(path: Path, column: str, n_events: int, size: int) -> np.ndarray:
    matrix = np.zeros((n_events, size, size))
    with path.open() as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            matrix[int(row["event"]), int(row["row"]), int(row["col"])] = float(row[column])
    return matrix


def reference_input(events: list[dict[str, Any]]) -> tuple[dict[str, ak.Array], ak.Array]:
    names = {"ljet": "j", "bjet": "b", "electron": "e", "muon": "m", "photon": "g"}
    by_type = [{kind: event[short] for kind, short in names.items()} for event in events]
    return arrays(by_type, tuple(names)), met_array(*[tuple(event["met"]) for event in events])


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "column", "layout", "convention", "non_zero", "relative", "absolute"),
    [
        ("rmm_map2rmm_T5N10_cms13000.csv", "value_c", T5N10, "map2rmm", 20_186, 1e-6, 0.0),
        # The thesis' code ran in float32: its cosh(dy) - 1 has lost digits where dy is small.
        ("rmm_frette_thesis_code_6655.csv", "value", T4, "thesis-code", 17_646, 3e-5, 1e-8),
    ],
)
def test_all_cells_of_the_published_programs(
    shared_data: Path,
    rmm_reference: list[dict[str, Any]],
    file: str,
    column: str,
    layout: RMMLayout,
    convention: Any,
    non_zero: int,
    relative: float,
    absolute: float,
) -> None:
    expected = reference(shared_data / "rmm_ref" / file, column, len(rmm_reference), layout.size)
    assert np.count_nonzero(expected) == non_zero
    objects, met = reference_input(rmm_reference)
    matrix = rapidity_mass_matrix(objects, met, layout, convention)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, expected, rtol=relative, atol=absolute)
    assert not matrix[expected == 0].any(), "a cell is filled where the published program has none"


# --- against eq. 3.1 of the thesis, cell by cell ----------------------------------------------------------------------


def equation_3_1(event: Event, met: tuple[float, float], layout: RMMLayout, c: float = 0.15) -> np.ndarray:
    """The matrix of one event as the thesis writes it, with four-vectors of `vector` and no array programming."""
    rows: list[
        tuple[Any, str, int]
    ] = []  # what stands in each row: the object, its type, its place in the type
    first_of = {}
    row = 1
    for kind, number in layout.types:
        first_of[kind] = row
        row += number
        by_pt = sorted(event.get(kind, []), key=lambda one: -one[0])[:number]
        for place, (pt, eta, phi, mass) in enumerate(by_pt):
            rows.append((vector.obj(pt=pt, eta=eta, phi=phi, mass=mass), kind, place))
    missing = vector.obj(pt=met[0], phi=met[1])

    def transverse_energy(p: Any) -> float:
        return float(np.sqrt(p.mass**2 + p.pt**2))

    matrix = np.zeros((layout.size, layout.size))
    matrix[0, 0] = met[0]
    for p, kind, place in rows:
        i = first_of[kind] + place
        together = p.to_Vector2D() + missing
        squared = (transverse_energy(p) + met[0]) ** 2 - together.rho**2
        matrix[0, i] = np.sqrt(max(squared, 0.0))
        matrix[i, 0] = c * (np.cosh(p.rapidity) - 1)
        if place == 0:
            matrix[i, i] = transverse_energy(p)
        else:
            before = next(q for q, k, n in rows if (k, n) == (kind, place - 1))
            difference = transverse_energy(before) - transverse_energy(p)
            matrix[i, i] = difference / (transverse_energy(before) + transverse_energy(p))
        for q, other, position in rows:
            j = first_of[other] + position
            if i < j:
                matrix[i, j] = (p + q).mass
            elif i > j:
                matrix[i, j] = c * (np.cosh(p.rapidity - q.rapidity) - 1)
    return matrix


def toy_events(n: int, seed: int = 4) -> list[tuple[Event, tuple[float, float]]]:
    rng = np.random.default_rng(seed)
    events = []
    for _ in range(n):
        event = {
            kind: [
                (
                    float(20 + rng.exponential(60)),
                    float(rng.uniform(-2.5, 2.5)),
                    float(rng.uniform(-np.pi, np.pi)),
                    float(heavy * rng.exponential(8)) if heavy else light,
                )
                for _ in range(rng.poisson(mean))
            ]
            for kind, mean, heavy, light in (
                ("ljet", 3.5, 1, 0.0),
                ("bjet", 1.5, 1, 0.0),
                ("electron", 1.3, 0, 0.000511),
                ("muon", 1.3, 0, 0.10566),
            )
        }
        events.append((event, (float(rng.exponential(60)), float(rng.uniform(-np.pi, np.pi)))))
    return events


def test_thesis_convention_is_equation_3_1_cell_by_cell() -> None:
    events = toy_events(60)
    matrix = rapidity_mass_matrix(
        arrays([event for event, _ in events], ("ljet", "bjet", "electron", "muon")),
        met_array(*[met for _, met in events]),
        T4,
    )
    expected = np.array([equation_3_1(event, met, T4) for event, met in events])
    assert np.count_nonzero(expected) > 3000
    # (E1 + E2)^2 - (p1 + p2)^2 of `vector` has lost digits where the mass is small: 1 MeV is allowed.
    np.testing.assert_allclose(matrix, expected, rtol=2e-6, atol=1e-3)
    below = np.tril_indices(T4.size, -1)
    np.testing.assert_allclose(
        matrix[:, *below], expected[:, *below], rtol=2e-6, atol=1e-9, err_msg="rapidity differences"
    )


def test_two_back_to_back_electrons_by_hand() -> None:
    matrix = matrix_of({"electron": [(45.0, 0.0, 0.0, 0.0), (45.0, 0.0, np.pi, 0.0)]}, (0.0, 0.0))
    cells = dict(zip(T4.cell_names, matrix.reshape(-1), strict=True))
    assert cells["m_e1_e2"] == pytest.approx(90.0)
    assert cells["et_e1"] == pytest.approx(45.0)
    filled = {name for name, value in cells.items() if value}
    assert filled == {"m_e1_e2", "et_e1"}, "at rapidity 0 without missing momentum nothing else is filled"


def test_a_w_boson_has_its_jacobian_peak_in_mt() -> None:
    # A lepton opposite to the neutrino: m_T = 2 sqrt(pT MET) = m_W.
    matrix = matrix_of({"muon": [(40.2, 1.0, 0.5, 0.0)]}, (40.2, 0.5 - np.pi))
    cells = dict(zip(T4.cell_names, matrix.reshape(-1), strict=True))
    assert cells["mt_mu1"] == pytest.approx(80.4, rel=1e-6)
    assert cells["hl_mu1"] == pytest.approx(0.15 * (np.cosh(1.0) - 1), rel=1e-6)
    assert cells["met"] == pytest.approx(40.2)


def test_map2rmm_scales_with_the_collision_energy_and_rapidity_cells_with_c() -> None:
    event, met = toy_events(1, seed=11)[0]
    at_13, at_26 = (matrix_of(event, met, convention="map2rmm", sqrt_s=e) for e in (13_000.0, 26_000.0))
    upper = np.triu_indices(T4.size, 1)
    np.testing.assert_allclose(at_13[upper], 2 * at_26[upper], rtol=1e-6)
    doubled = matrix_of(event, met, convention="map2rmm", c=0.3)
    below = np.tril_indices(T4.size, -1)
    np.testing.assert_allclose(doubled[below], 2 * at_13[below], rtol=1e-6)


def test_map2rmm_has_no_transverse_mass_without_missing_momentum() -> None:
    event = {"ljet": [(100.0, 0.5, 1.0, 30.0)]}
    assert matrix_of(event, (0.0, 0.0), convention="map2rmm")[0, 1] == 0
    assert matrix_of(event, (0.0, 0.0), convention="thesis")[0, 1] == pytest.approx(30.0, rel=1e-6)


# --- symmetries ------------------------------------------------------------------------------------------------------

# Time says nothing on a shared machine, and the first example pays for compilation.
examples = settings(max_examples=25, deadline=None)

finite = {"allow_nan": False, "allow_infinity": False}
four_vectors = st.tuples(
    st.floats(5, 1500, **finite),
    st.floats(-3, 3, **finite),
    st.floats(-np.pi, np.pi, **finite),
    st.one_of(st.just(0.0), st.floats(0, 200, **finite)),
)
events_of_t4 = st.fixed_dictionaries(
    {kind: st.lists(four_vectors, max_size=8) for kind in ("ljet", "bjet", "electron", "muon")}
)
missing_momenta = st.tuples(st.floats(0, 800, **finite), st.floats(-np.pi, np.pi, **finite))


def distinct_pt(event: Event) -> Event:
    """Objects of equal pT keep their input order, so a permutation of them is another event."""
    return {kind: list({round(one[0], 3): one for one in own}.values()) for kind, own in event.items()}


def assert_same_matrix(one: np.ndarray, other: np.ndarray) -> None:
    # Two collinear massless objects of 1 TeV: m = 0 up to 1e-16 of the energies squared, that is 1e-5 GeV.
    upper, below = np.triu_indices(len(one), 1), np.tril_indices(len(one), -1)
    np.testing.assert_allclose(one[upper], other[upper], rtol=1e-5, atol=2e-4)
    np.testing.assert_allclose(one[below], other[below], rtol=1e-5, atol=1e-12)
    np.testing.assert_allclose(np.diag(one), np.diag(other), rtol=1e-5, atol=1e-7)


def boosted(one: FourVector, rapidity: float) -> FourVector:
    pt, eta, phi, mass = one
    et = np.hypot(pt, mass)
    return pt, float(np.arcsinh(et / pt * np.sinh(np.arcsinh(pt * np.sinh(eta) / et) + rapidity))), phi, mass


@pytest.mark.parametrize("convention", ["thesis", "thesis-code"])
@examples
@given(event=events_of_t4, met=missing_momenta, rapidity=st.floats(-2, 2, **finite))
def test_a_longitudinal_boost_changes_only_the_column_of_longitudinal_cells(
    convention: Any, event: Event, met: tuple[float, float], rapidity: float
) -> None:
    event = distinct_pt(event)
    moved = {kind: [boosted(one, rapidity) for one in own] for kind, own in event.items()}
    before, after = (matrix_of(e, met, convention=convention) for e in (event, moved))
    before[:, 0], after[:, 0] = 0, 0
    assert_same_matrix(before, after)


@examples
@given(event=events_of_t4, met=missing_momenta, rapidity=st.floats(-2, 2, **finite))
def test_a_longitudinal_boost_leaves_masses_and_rapidity_differences_of_map2rmm(
    event: Event, met: tuple[float, float], rapidity: float
) -> None:
    # E sin(theta) of a massive object is no invariant: the diagonal and m_T are compared nowhere.
    event = distinct_pt(event)
    moved = {kind: [boosted(one, rapidity) for one in own] for kind, own in event.items()}
    before, after = (matrix_of(e, met, convention="map2rmm")[1:, 1:] for e in (event, moved))
    np.fill_diagonal(before, 0)
    np.fill_diagonal(after, 0)
    assert_same_matrix(before, after)


@pytest.mark.parametrize("convention", CONVENTIONS)
@examples
@given(event=events_of_t4, met=missing_momenta, angle=st.floats(-10, 10, **finite))
def test_a_rotation_about_the_beam_changes_nothing(
    convention: Any, event: Event, met: tuple[float, float], angle: float
) -> None:
    turned = {
        kind: [(pt, eta, phi + angle, mass) for pt, eta, phi, mass in own] for kind, own in event.items()
    }
    before = matrix_of(event, met, convention=convention)
    assert_same_matrix(before, matrix_of(turned, (met[0], met[1] + angle), convention=convention))


@pytest.mark.parametrize("convention", CONVENTIONS)
@examples
@given(event=events_of_t4, met=missing_momenta, data=st.data())
def test_the_input_order_does_not_matter(
    convention: Any, event: Event, met: tuple[float, float], data: st.DataObject
) -> None:
    event = distinct_pt(event)
    shuffled = {kind: data.draw(st.permutations(own)) for kind, own in event.items()}
    before, after = (matrix_of(e, met, convention=convention) for e in (event, shuffled))
    np.testing.assert_array_equal(before, after)


def block(layout: RMMLayout, smaller: RMMLayout) -> np.ndarray:
    """Positions in a layout of the rows of a smaller layout of the same types."""
    names = ("met", *layout.object_names)
    return np.array([names.index(name) for name in ("met", *smaller.object_names)])


@pytest.mark.parametrize("convention", CONVENTIONS)
@examples
@given(event=events_of_t4, met=missing_momenta)
def test_larger_layouts_pad_with_zeros_and_smaller_ones_are_their_leading_block(
    convention: Any, event: Event, met: tuple[float, float]
) -> None:
    large = RMMLayout(("ljet", 12), ("bjet", 9), ("electron", 10), ("muon", 8))
    small = RMMLayout(("ljet", 3), ("bjet", 2), ("electron", 1), ("muon", 2))
    whole = matrix_of(event, met, large, convention=convention)
    for layout in (T4, small):
        rows = block(large, layout)
        np.testing.assert_array_equal(
            whole[np.ix_(rows, rows)], matrix_of(event, met, layout, convention=convention)
        )
    present = {"met"} | {
        f"{short}{i + 1}"
        for kind, short in (("ljet", "j"), ("bjet", "b"), ("electron", "e"), ("muon", "mu"))
        for i in range(len(event[kind]))
    }
    absent = [row for row, name in enumerate(("met", *large.object_names)) if name not in present]
    assert not whole[absent].any()
    assert not whole[:, absent].any()


@examples
@given(event=events_of_t4, met=missing_momenta)
def test_every_cell_is_finite_and_only_energy_imbalances_may_be_negative(
    event: Event, met: tuple[float, float]
) -> None:
    for convention in CONVENTIONS:
        matrix = matrix_of(event, met, convention=convention)
        assert np.isfinite(matrix).all()
        off_diagonal = matrix - np.diag(np.diag(matrix))
        assert (off_diagonal >= 0).all()
        assert (np.abs([matrix[i, i] for i in range(1, 23) if i not in (1, 7, 13, 18)]) <= 1).all()


# --- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_pathological_objects_give_finite_cells(convention: Any) -> None:
    event = {
        "ljet": [(0.0, 5.0, 0.0, 0.0), (0.0, -5.0, 1.0, 10.0), (1e-30, 5.0, 2.0, 0.0), (3e3, 5.0, 0.0, 0.0)],
        "bjet": [(3e3, -5.0, np.pi, 0.0)] * 3,
        "electron": [(0.0, 0.0, 0.0, 0.0)],
        "muon": [(25.0, 5.0, -np.pi, 0.10566), (25.0, 5.0, -np.pi, 0.10566)],
    }
    for met in ((0.0, 0.0), (0.0, np.pi), (1e4, -np.pi)):
        assert np.isfinite(matrix_of(event, met, convention=convention)).all()


def test_collinear_massless_objects_have_no_mass() -> None:
    matrix = matrix_of({"ljet": [(500.0, 1.7, 0.9, 0.0), (30.0, 1.7, 0.9, 0.0)]}, (0.0, 0.0))
    assert matrix[1, 2] == 0
    assert matrix[2, 1] == 0


def test_a_softer_but_heavier_object_has_a_negative_imbalance() -> None:
    # Sorted by pT, compared by transverse energy: it is not clipped.
    matrix = matrix_of({"ljet": [(50.0, 0.0, 0.0, 0.0), (40.0, 0.0, 1.0, 60.0)]}, (0.0, 0.0))
    et = np.hypot(40.0, 60.0)
    assert matrix[2, 2] == pytest.approx((50.0 - et) / (50.0 + et), rel=1e-6)
    assert matrix[2, 2] < 0


def test_empty_events_hold_only_their_missing_momentum() -> None:
    matrix = rapidity_mass_matrix(
        arrays([{}, {}], ("ljet", "bjet", "electron", "muon")), met_array((120.0, 0.5), (0.0, 0.0)), T4
    )
    assert matrix.shape == (2, 23, 23)
    assert matrix[0, 0, 0] == 120
    assert np.count_nonzero(matrix) == 1


def test_no_events_give_an_empty_array() -> None:
    matrix = rapidity_mass_matrix(arrays([], ("ljet", "bjet", "electron", "muon")), met_array(), T4)
    assert matrix.shape == (0, 23, 23)
    assert matrix.dtype == np.float32


def test_a_view_of_selected_events_gives_the_same_cells_as_the_whole() -> None:
    # Masked and sliced awkward arrays are not contiguous in memory.
    events = toy_events(20)
    objects = arrays([event for event, _ in events], ("ljet", "bjet", "electron", "muon"))
    met = met_array(*[met for _, met in events])
    every_third = slice(1, None, 3)
    hard = {kind: collection[collection.pt > 30] for kind, collection in objects.items()}
    whole = rapidity_mass_matrix(hard, met, T4)
    part = rapidity_mass_matrix({kind: own[every_third] for kind, own in hard.items()}, met[every_third], T4)
    np.testing.assert_array_equal(part, whole[every_third])
    assert part.any()


# --- layouts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "size"), [(T4, 23), (T5N10, 51), (RMMLayout(("muon", 1)), 2)])
def test_cell_names_are_unique_and_as_many_as_cells(layout: RMMLayout, size: int) -> None:
    assert layout.size == size
    assert len(layout.cell_names) == len(set(layout.cell_names)) == size**2


def test_cell_names_say_what_the_cell_holds() -> None:
    names = np.array(T4.cell_names).reshape(23, 23)
    assert names[0, 0] == "met"
    assert names[0, 1] == "mt_j1"
    assert names[1, 0] == "hl_j1"
    assert names[1, 1] == "et_j1"
    assert names[2, 2] == "det_j2"
    assert names[1, 14] == "m_j1_e2"
    assert names[14, 1] == "h_e2_j1"
    assert names[18, 18] == "et_mu1"
    assert names[22, 22] == "det_mu5"


def test_only_the_first_of_a_type_has_a_transverse_energy_even_beyond_ten() -> None:
    names = np.diag(np.array(RMMLayout(("ljet", 12)).cell_names).reshape(13, 13))
    assert list(names) == ["met", "et_j1", *[f"det_j{i}" for i in range(2, 13)]]


def test_the_default_settings_are_the_thesis_layout() -> None:
    assert layout_of(RMMSettings()) == T4


def test_map2rmm_settings_put_muons_before_electrons() -> None:
    settings = RMMSettings(convention="map2rmm", light_jets=10, b_jets=10, electrons=10, muons=10, photons=10)
    assert layout_of(settings) == T5N10


def test_the_atlas_search_of_2024_removes_exactly_nine_cells() -> None:
    expected = {f"m_j1_{other}" for other in ("j2", "b1", "mu1", "e1", "g1")}
    expected |= {f"m_b1_{other}" for other in ("b2", "mu1", "e1", "g1")}
    assert len(expected) == len(ATLAS_2024_REMOVED) == 9
    assert set(ATLAS_2024_REMOVED) == expected
    assert expected <= set(T5N10.cell_names)
    kept = removed_cells(T5N10)
    assert len(kept) == 51**2 - 9
    assert set(kept) == set(T5N10.cell_names) - expected
    numbers = dict.fromkeys(("light_jets", "b_jets", "electrons", "muons", "photons"), 10)
    option = RMMSettings(convention="map2rmm", removed="atlas-2024", **numbers)
    assert model_cells(option) == kept
    assert model_cells(option.model_copy(update={"removed": "nothing"})) == T5N10.cell_names
    assert model_cells(option.model_copy(update={"write": False})) == ()


def test_photons_fill_the_last_rows_of_the_51_by_51_matrix() -> None:
    event = {"photon": [(60.0, 0.0, 0.0, 0.0), (60.0, 0.0, np.pi, 0.0)]}
    matrix = matrix_of(event, (0.0, 0.0), T5N10, convention="map2rmm")
    cells = dict(zip(T5N10.cell_names, matrix.reshape(-1), strict=True))
    assert cells["m_g1_g2"] == pytest.approx(120 / 13_000, rel=1e-6)
    assert cells["et_g1"] == pytest.approx(60 / 13_000, rel=1e-6)


def test_an_unknown_convention_is_named() -> None:
    with pytest.raises(ValueError, match="'chekanov' is none of thesis, thesis-code, map2rmm"):
        matrix_of({}, (0.0, 0.0), convention="chekanov")


def test_an_absent_type_is_named() -> None:
    with pytest.raises(ValueError, match="'muon'"):
        rapidity_mass_matrix(arrays([{}], ("ljet", "bjet", "electron")), met_array((1.0, 0.0)), T4)


def test_different_lengths_are_an_error() -> None:
    objects = arrays([{}, {}], ("ljet", "bjet", "electron", "muon"))
    with pytest.raises(ValueError, match="needs 1 lists of 'ljet'"):
        rapidity_mass_matrix(objects, met_array((1.0, 0.0)), T4)


@pytest.mark.parametrize("types", [(), (("ljet", 0),), (("tau", 2),), (("muon", 2), ("muon", 3))])
def test_impossible_layouts_are_errors(types: Any) -> None:
    with pytest.raises(ValueError, match=r"must be different ones of|at least one"):
        RMMLayout(*types)


def test_cells_of_energies_are_a_row_the_diagonals_leading_cells_and_the_upper_triangle():
    layout = RMMLayout(("ljet", 6), ("bjet", 6), ("electron", 5), ("muon", 5))
    cells = energy_cells(layout.cell_names)
    # E_T^miss, 22 transverse masses, 4 leading transverse energies, 22 * 21 / 2 masses.
    assert len(cells) == 1 + 22 + 4 + 231
    assert {"met", "mt_j1", "et_mu1", "m_j1_e2"} <= set(cells)
