"""Histograms of matrix cells hold what a loop over events gives, and absent objects apart."""

import numpy as np
import pytest
from coffea.processor import accumulate

from processors.cells import (
    KINDS,
    MOMENTS,
    add_absent,
    cell_label,
    cell_moments,
    fill_cells,
    kind_of,
    load_cells,
    one_cell,
    save_cells,
)
from processors.rmm import layout_of
from processors.settings import RMMSettings

CELLS = ("met", "mt_j1", "hl_j1", "et_j1", "m_j1_e2", "h_e2_j1", "det_j2", "det_mu2")


def events(n: int = 400, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Values of CELLS with absent, tiny, negative and huge ones; `det_mu2` is never filled."""
    rng = np.random.default_rng(seed)
    values = np.zeros((len(CELLS), n), dtype=np.float32)
    for row, cell in enumerate(CELLS[:-1]):
        kind = kind_of(cell)
        drawn = {
            "energy": rng.exponential(200, n), "mass": rng.exponential(400, n), "imbalance": rng.uniform(-0.3, 1, n),
            "rapidity": 10 ** rng.uniform(-6, 2, n),
        }[kind]  # fmt: skip
        values[row] = np.where(rng.random(n) < 0.3 * (row > 0), 0, drawn)
    return values, rng.normal(1.0, 0.5, n)


def by_loop(values: np.ndarray, weight: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σw and Σw² of one cell with flow, event by event."""
    content = np.zeros((2, len(edges) + 1))
    for x, w in zip(values, weight, strict=True):
        if x == 0:
            place = 0
        elif x >= edges[-1]:
            place = len(edges)
        else:
            place = next((i for i in range(len(edges) - 1, 0, -1) if float(x) >= edges[i - 1]), 1)
        content[:, place] += w, w * w
    return content[0], content[1]


def test_every_cell_of_every_layout_has_a_kind_and_a_label() -> None:
    for settings in (RMMSettings(), RMMSettings(convention="map2rmm", photons=5)):
        names = layout_of(settings).cell_names
        assert {kind_of(name) for name in names} == set(KINDS)
        assert len({cell_label(name) for name in names}) == len(names)
    assert cell_label("m_j1_mu2") == r"$m(j_{1}, \mu_{2})$"


def test_contents_are_those_of_a_loop_over_the_events() -> None:
    values, weight = events()
    whole = fill_cells(CELLS, [(values, weight)], dataset="a", convention="thesis")
    finished = add_absent(whole, {"a": (weight.sum(), (weight**2).sum())}, CELLS)
    for row, cell in enumerate(CELLS[:-1]):
        histogram = one_cell(finished, cell)
        value, variance = by_loop(values[row], weight, np.array(KINDS[kind_of(cell)].edges))
        np.testing.assert_allclose(histogram.view(flow=True)["value"][0], value, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(histogram.view(flow=True)["variance"][0], variance, rtol=1e-9, atol=1e-9)


def test_a_cell_that_no_event_fills_has_no_histogram() -> None:
    values, weight = events()
    whole = fill_cells(CELLS, [(values, weight)], dataset="a", convention="thesis")
    assert "det_mu2" not in whole["imbalance"].axes[1]
    assert "det_j2" in whole["imbalance"].axes[1]


def test_energies_of_map2rmm_are_over_the_centre_of_mass_energy() -> None:
    values, weight = events()
    energies = np.array([KINDS[kind_of(cell)].is_energy for cell in CELLS])
    scaled = np.where(energies[:, None], values / np.float32(13_000), values)
    thesis = fill_cells(CELLS, [(values, weight)], dataset="a", convention="thesis")
    map2rmm = fill_cells(CELLS, [(scaled, weight)], dataset="a", convention="map2rmm")
    for kind in KINDS:
        np.testing.assert_allclose(thesis[kind].values(flow=True), map2rmm[kind].values(flow=True))
    assert "[GeV]" in thesis["mass"].axes[2].label
    assert "sqrt{s}" in map2rmm["mass"].axes[2].label


def test_parts_add_up_to_the_whole_in_any_order() -> None:
    values, weight = events()
    parts = [
        fill_cells(CELLS, [(values[:, s], weight[s])], dataset=dataset, convention="thesis")
        for dataset, s in (("b", slice(0, 90)), ("a", slice(90, 300)), ("b", slice(300, 400)))
    ]
    totals = {
        dataset: (weight[s].sum(), (weight[s] ** 2).sum())
        for dataset, s in (("a", slice(90, 300)), ("b", np.r_[0:90, 300:400]))
    }
    forward, backward = (
        add_absent(accumulate(order), totals, CELLS) for order in ([{}, *parts], [{}, *parts[::-1]])
    )
    together = fill_cells(
        CELLS,
        [(values[:, :90], weight[:90]), (values[:, 300:], weight[300:])],
        dataset="b",
        convention="thesis",
    )
    for kind, histogram in forward.items():
        assert list(histogram.axes[0]) == ["a", "b"]
        assert histogram.axes == backward[kind].axes
        np.testing.assert_allclose(histogram.values(flow=True), backward[kind].values(flow=True), atol=1e-12)
    position = list(forward["mass"].axes[1]).index("m_j1_e2")
    np.testing.assert_allclose(
        forward["mass"].values()[1, position], together["mass"].values()[0, 0], atol=1e-12
    )


def test_moments_are_sums_over_filled_values() -> None:
    values, weight = events()
    whole = add_absent(
        fill_cells(CELLS, [(values, weight)], dataset="a", convention="thesis"), {"a": (1.0, 1.0)}, CELLS
    )
    moments = cell_moments(whole, CELLS, ["a", "never read"])
    filled = values != 0
    np.testing.assert_allclose(moments[0], (filled * weight).sum(axis=1))
    np.testing.assert_allclose(moments[1], (filled * weight**2).sum(axis=1))
    np.testing.assert_allclose(moments[2], (values.astype(float) * weight).sum(axis=1))
    assert (moments[:, -1] == 0).all()


def test_what_is_saved_is_read_back(tmp_path) -> None:
    values, weight = events()
    whole = add_absent(
        fill_cells(CELLS, [(values, weight)], dataset="a", convention="thesis"),
        {"a": (weight.sum(), (weight**2).sum())},
        CELLS,
    )
    save_cells(whole, tmp_path / "cells.zip")
    again = load_cells(tmp_path / "cells.zip")
    assert set(again) == {*KINDS, MOMENTS}
    for kind, histogram in whole.items():
        assert again[kind] == histogram
        assert again[kind].axes[2].label == histogram.axes[2].label


def test_a_kind_without_any_filled_cell_is_left_out() -> None:
    whole = fill_cells(CELLS, [(np.zeros((8, 3), np.float32), np.ones(3))], dataset="a", convention="thesis")
    assert set(whole) == {MOMENTS}
    with pytest.raises(KeyError):
        one_cell(whole, "met")
