# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 2. The rapidity–mass matrix, by hand
#
# A neural network wants a fixed number of inputs, but one event has two jets and another seven. The **rapidity–mass
# matrix** (RMM) of S. Chekanov ([NIM A 931 (2019) 92](https://arxiv.org/abs/1805.06650)) turns any event into a square
# of numbers of fixed size: every pair of objects has its invariant mass on one side of the diagonal and how far apart
# the two are in rapidity on the other. The thesis behind this project feeds it to autoencoders, and so did an
# [ATLAS search of 2024](https://arxiv.org/abs/2307.01612).
#
# Here one event is taken and every block of its matrix is worked out in a few lines of NumPy. In the end it must be
# what the compiled code of the product gives, to the digits of single precision. Then matrices of thousands of events
# are averaged: what does the Standard Model look like, what does a signal?

# %% tags=["parameters"]
GROUPS = ()  # process groups that are averaged; () is all

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import awkward as ak
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from coffea.nanoevents import NanoEventsFactory

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from processors.constants import RMM_RAPIDITY_SCALE
from processors.objects import rmm_objects
from processors.regions import apply_region
from processors.rmm import layout_of, rapidity_mass_matrix
from processors.schema import OpenDataSchema, event_record
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.shards import read_manifest
from processors.stages.select import select_region
from processors.workers import Workers
from report.event_display import Display, Momentum, draw_event_display
from report.matrices import CellMeans, draw_event, draw_means, draw_ratio
from report.style import Sample, new_figure, stamp, styled

output = Path(tempfile.mkdtemp(prefix="rmm-"))
region = REGIONS["2L"]
fileset = check(resolve(FilesetSettings(fileset="demo", groups=GROUPS), ("2L",))).fileset
metadata = {name: entry["metadata"] for name, entry in fileset.items()}
facts = next(iter(metadata.values()))
sample = Sample(kind=facts["sample"], lumi_pb=facts["lumi_pb"], region="2L")

# %% [markdown]
# ## One event
#
# A pair of top quarks: each decays to a b quark and a W, here both W decay to a lepton and a neutrino. We take the
# first simulated event with an electron, a muon, two b-jets and two other jets. (How events are read and selected is
# the story of notebook 1.)

# %%
name = next(name for name, own in metadata.items() if own["process"] == "ttbar_lep")
source = dict.fromkeys(fileset[name]["files"], "mini")
events = NanoEventsFactory.from_root(source, schemaclass=OpenDataSchema, mode="virtual").events()
selected, _ = apply_region(event_record(events), np.ones(len(events)), region)

objects = rmm_objects(selected, region.jets)  # type -> momenta of each event
met = ak.zip({"pt": selected.met_pt, "phi": selected.met_phi})
wanted = {"ljet": 2, "bjet": 2, "electron": 1, "muon": 1}
chosen = int(np.flatnonzero(np.all([ak.num(objects[kind]) == n for kind, n in wanted.items()], axis=0))[0])

prefix = {"ljet": "j", "bjet": "b", "electron": "e", "muon": "mu"}
rows = [
    {"name": f"{prefix[kind]}{number}", **momentum}
    for kind in wanted
    for number, momentum in enumerate(ak.to_list(objects[kind][chosen]), start=1)
]
event = pd.DataFrame(rows).set_index("name")
met_pt, met_phi = float(met.pt[chosen]), float(met.phi[chosen])
print(f"missing transverse momentum {met_pt:.1f} GeV at φ = {met_phi:.2f}")
event.round(3)

# %% [markdown]
# `j` are *light jets*, `b` jets that a tagger takes for those of b quarks, `e` and `mu` the leptons, each kind by
# falling $p_T$. Momenta are in GeV. Seen along the beam (left) and from the side (right):

# %%
kinds = {"j": "jet", "b": "b-jet", "e": "electron", "mu": "muon"}
momenta = [Momentum(kinds[key.rstrip("12")], row.pt, row.eta, row.phi) for key, row in event.iterrows()]
picture = Display(
    name=f"an event of {name.split('.')[1]}",
    objects=[*momenta, Momentum("met", met_pt, None, met_phi)],
    has_jets=True,
    facts=["Simulated:", "top-quark pair,", "both W to leptons"],
    inputs=[],
    shares=[],
)
draw_event_display(picture, sample=sample)

# %% [markdown]
# ## What is needed of each object
#
# From $(p_T, \eta, \phi, m)$ follow the components of the momentum, the energy, the **transverse energy**
# $E_T = \sqrt{m^2 + p_T^2}$ and the **rapidity** $y = \frac12 \ln\frac{E+p_z}{E-p_z}$.

# %%
pt, eta, phi, m = (event[key].to_numpy(dtype=np.float64) for key in ("pt", "eta", "phi", "mass"))
px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
E = np.sqrt(m**2 + px**2 + py**2 + pz**2)
ET = np.sqrt(m**2 + pt**2)
y = np.arctanh(pz / E)
mx, my = met_pt * np.cos(met_phi), met_pt * np.sin(met_phi)

# %% [markdown]
# ## Block by block
#
# The definitions are those of the thesis (eq. 3.1; the page *Physics definitions* of the documentation has the other
# published forms). First row and column belong to the missing momentum, the others to the objects.
#
# **Above the diagonal: invariant masses** of all pairs, $m_{ij}^2 = (E_i+E_j)^2 - |\vec p_i + \vec p_j|^2$.

# %%
n = len(event)
matrix = np.zeros((n + 1, n + 1))
for i in range(n):
    for j in range(i + 1, n):
        squared = (E[i] + E[j]) ** 2 - (px[i] + px[j]) ** 2 - (py[i] + py[j]) ** 2 - (pz[i] + pz[j]) ** 2
        matrix[1 + i, 1 + j] = np.sqrt(max(squared, 0))

# %% [markdown]
# **Below the diagonal: rapidity differences**, $C\,(\cosh(y_i - y_j) - 1)$. The mass of two massless particles is
# $m^2 = 2\,p_{T1}\,p_{T2}\,(\cosh\Delta y - \cos\Delta\phi)$; this is the part of it that knows no energy. The number
# $C = 0.15$ brings it to the size of the others.

# %%
C = RMM_RAPIDITY_SCALE
for i in range(n):
    for j in range(i):
        matrix[1 + i, 1 + j] = C * (np.cosh(y[i] - y[j]) - 1)

# %% [markdown]
# **First column: how far along the beam** each object flies, $C\,(\cosh y - 1)$. **First row: transverse masses** with
# the missing momentum, $m_T^2 = (E_T + E_T^{miss})^2 - |\vec p_T + \vec p_T^{\,miss}|^2$: of a lepton and the neutrino
# of the same W it does not exceed the mass of the W. In the corner stands $E_T^{miss}$ itself.

# %%
matrix[1:, 0] = C * (np.cosh(y) - 1)
matrix[0, 1:] = np.sqrt(np.maximum((ET + met_pt) ** 2 - (px + mx) ** 2 - (py + my) ** 2, 0))
matrix[0, 0] = met_pt

# %% [markdown]
# **On the diagonal** the transverse energy of the first object of each kind; for the next ones the imbalance with the
# one before, $(E_T^{\,n-1} - E_T^{\,n}) / (E_T^{\,n-1} + E_T^{\,n})$, between 0 (alike) and 1.

# %%
names = list(event.index)
for i, own in enumerate(names):
    leading = own.endswith("1")
    matrix[1 + i, 1 + i] = ET[i] if leading else (ET[i - 1] - ET[i]) / (ET[i - 1] + ET[i])

labels = ["met", *names]
pd.DataFrame(matrix, index=labels, columns=labels).round(2)

# %% [markdown]
# ## Is it right?
#
# The product does the same for all events at once, in compiled code, and puts the objects into fixed places: six light
# jets, six b-jets, five electrons, five muons, padded with zeros. That makes 23 × 23 = 529 *cells*, each with a name.

# %%
layout = layout_of(RMMSettings())
kernel = rapidity_mass_matrix(objects, met, layout)  # of all selected events
print(f"{kernel.shape[0]:,} events, {layout.size} x {layout.size} cells: {layout.cell_names[:3]}, ...")

places = [0, *(1 + layout.object_names.index(own) for own in names)]
by_hand = np.zeros((layout.size, layout.size))
by_hand[np.ix_(places, places)] = matrix
np.testing.assert_allclose(by_hand, kernel[chosen], rtol=1e-4, atol=1e-7)
difference = np.abs(by_hand - kernel[chosen])[by_hand != 0] / np.abs(by_hand[by_hand != 0])
print(f"{np.count_nonzero(by_hand)} cells are filled, largest relative difference {difference.max():.1e}")

# %% [markdown]
# Why not simply use momenta as inputs? Because of what the matrix does **not** depend on. The protons' quarks and
# gluons collide with unknown momenta along the beam, so the whole event may be boosted along it; and nothing
# distinguishes one direction around the beam from another. Boost the event ($y \to y + 0.7$ at the same $p_T$) and turn
# it ($\phi \to \phi + 1$): only the first column may change.

# %%
moved = {}
for kind, one in objects.items():
    energy_t = np.sqrt(one.mass**2 + one.pt**2)
    rapidity = np.arcsinh(one.pt * np.sinh(one.eta) / energy_t) + 0.7
    moved[kind] = ak.zip(
        {
            "pt": one.pt,
            "eta": np.arcsinh(energy_t * np.sinh(rapidity) / one.pt),
            "phi": one.phi + 1,
            "mass": one.mass,
        }
    )
turned = ak.zip({"pt": met.pt, "phi": met.phi + 1})
boosted = rapidity_mass_matrix(moved, turned, layout)

same = np.abs(boosted - kernel) <= 2e-3 * np.abs(kernel) + 1e-3
assert same[:, :, 1:].mean() > 0.9999, "masses and rapidity differences stay"
assert not same[kernel[:, :, 0] > 0.01, 0].all(), "the first column does not"
print(f"first column: {same[:, 1:, 0][kernel[:, 1:, 0] > 0].mean():.0%} of the filled cells are as before")
print(f"all others:   {same[:, :, 1:][kernel[:, :, 1:] > 0].mean():.2%}")

# %% [markdown]
# ## The matrix of many events
#
# The stage `select` writes the cells of every selected event into parquet shards, one column a cell.

# %%
with Workers(ExecutionSettings()) as workers:
    books = select_region(
        with_steps(fileset, 100_000),
        name="2L",
        region=region,
        weights=WeightSettings(),
        rmm=RMMSettings(),
        workers=workers,
        output=output,
    )["datasets"]
shelf = output / "shards" / "2L"
manifest = read_manifest(shelf / "manifest.json")


def cells_of(datasets: list[str], columns: tuple[str, ...] = layout.cell_names) -> tuple:
    """Cells, shape (cells, events), and weights, shape (events,), of all events of some datasets."""
    paths = [shelf / shard["path"] for shard in manifest["shards"] if shard["dataset"] in datasets]
    tables = [pq.read_table(path, columns=[*columns, "weight"]) for path in paths]
    values = [np.array([table[column].to_numpy() for column in columns]) for table in tables]
    return np.concatenate(values, axis=1), np.concatenate([table["weight"].to_numpy() for table in tables])


def of(key: str, value: str) -> list[str]:
    return [name for name, book in books.items() if book[key] == value]


background, signal = of("kind", "background"), of("group", "GG_ttn1")

# %% [markdown]
# The mass of two leptons is a cell of the matrix: for two electrons `m_e1_e2` must be the column `mll` of the feature
# table, which other code computes.

# %%
(cell, mll, flavours), _ = cells_of(background, ("m_e1_e2", "mll", "flcomp"))
np.testing.assert_allclose(cell[flavours == 6], mll[flavours == 6], rtol=2e-3, atol=0.02)
assert not cell[flavours != 6].any(), "where an electron is absent the cell is exactly 0"

# %% [markdown]
# ### Almost everything is empty
#
# An event with $n$ objects fills $(n+1)^2$ cells at most, of 529. For a network that is the difficulty of the matrix: a
# zero says "there is no such object", not "the mass is small".


# %%
@styled
def draw_objects(groups: dict[str, list[str]]) -> object:
    figure = new_figure(6.0, 4.8)
    ax = figure.add_axes((0.13, 0.13, 0.84, 0.7))
    edges = np.arange(1.5, 15)
    columns = tuple(f"mt_{own}" for own in layout.object_names)
    for (label, datasets), color in zip(groups.items(), ("#5a5f66", "#0072B2", "#D55E00"), strict=True):
        values, weight = cells_of(datasets, columns)
        number = np.count_nonzero(values, axis=0)
        cells = np.average((number + 1) ** 2, weights=weight)
        share = np.histogram(number, edges, weights=weight)[0] / weight.sum()
        ax.stairs(share, edges, color=color, lw=1.8, label=f"{label}: {cells:.0f} of 529 cells")
    ax.set(yscale="log", ylim=(1e-4, 60), xlim=(1.5, 14.5), xlabel="Objects n in the matrix: (n + 1)² cells")
    ax.set_ylabel("Fraction of events")
    ax.legend(loc="upper right", title="on average", alignment="left")
    stamp(ax, sample, subtitle="unit area")
    return figure


draw_objects({"all background": background, r"$t\bar{t}$": of("group", "ttbar"), "gluinos": signal})

# %% [markdown]
# ### Means
#
# So a mean is taken over the events in which the cell is filled, with their weights; the size of a square says how
# often that is. $\sum w$, $\sum w^2$ and $\sum wx$ of each cell are all that is needed.


# %%
def means(datasets: list[str]) -> CellMeans:
    values, weight = cells_of(datasets)
    filled = values != 0
    return CellMeans.of(np.array([filled @ weight, filled @ weight**2, values @ weight]), weight.sum())


of_background, of_signal = means(background), means(signal)
draw_means(layout.cell_names, of_background, sample=sample, name="background")

# %% [markdown]
# Leptons are everywhere (two are asked for), mostly of one flavour, since they come from Z → ee or μμ: the squares e₁e₂
# and μ₁μ₂ are large and eμ small. Jets become rarer and softer from one to the next.
#
# And a signal? Two **gluinos** of 1.2 TeV, the supersymmetric partners of the gluon, each decay to two top quarks and a
# particle that leaves no trace. Red is harder than the background, blue softer:

# %%
label = books[signal[0]]["label"]
draw_ratio(layout.cell_names, of_signal, of_background, sample=sample, name=label, against="background")

# %% [markdown]
# Masses and transverse energies are several times larger, above all $E_T^{miss}$ and everything with b-jets. The lower
# left half stays pale or turns blue: heavy particles are produced at rest, nearly, and their decay products fly in all
# directions, not along the beam. This is why **upper tails of energies** are a good place to look for new physics.

# %%
energies = np.array([cell == "met" or cell.startswith(("mt_", "et_", "m_")) for cell in layout.cell_names])
few = np.minimum(of_signal.effective, of_background.effective) < 10
known = energies & ~few
ratio = of_signal.mean[known] / of_background.mean[known]
print(
    f"{np.mean(ratio > 1):.0%} of {known.sum()} energies and masses are larger, {np.median(ratio):.1f} times"
)
assert np.mean(ratio > 1) > 0.8

# %% [markdown]
# ### Our event again
#
# Numbers are its cells; the colour compares each with the mean of the background.

# %%
draw_event(
    layout.cell_names, kernel[chosen].reshape(-1).astype(np.float64), of_background,
    sample=sample, name=f"an event of {name.split('.')[1]}", against="background",
)  # fmt: skip

# %% [markdown]
# ## Three conventions
#
# "The" matrix was published in three forms, which differ in the first row, in the rapidity differences and in units. A
# model that was trained on one understands nothing of another, so the convention is a setting, and is written into
# everything that depends on it.

# %%
forms = {
    convention: rapidity_mass_matrix(objects, met, layout, convention=convention)[chosen].reshape(-1)
    for convention in ("thesis", "thesis-code", "map2rmm")
}
some = ["met", "mt_mu1", "hl_b1", "et_j1", "det_j2", "m_e1_mu1", "h_mu1_e1"]
pd.DataFrame(forms, index=layout.cell_names).loc[some].round(5)

# %% [markdown]
# ## Exercises
#
# 1. *The mass of the top.* Of the four cells `m_b1_e1`, `m_b1_mu1`, `m_b2_e1`, `m_b2_mu1`, which should never exceed
#    about 153 GeV in tt̄ if b-jet and lepton are of the same top quark, and why can you not see it in a single event?
#    (Hint: $m_{b\ell}^2 \le m_t^2 - m_W^2$; draw the smaller of the two pairings for all events of tt̄.)
# 2. *Order.* Exchange the two light jets in `objects` before calling `rapidity_mass_matrix`. What changes? And if you
#    exchange their $p_T$ only?
# 3. *The edge of the W.* Draw `mt_e1` of W + jets (`of("group", "Wjets")`) and of Z + jets. Where do you expect an
#    edge? (Hint: 80 GeV. Which of the two leptons of a W + jets event is the one from the W?)
# 4. *Another layout.* Add photons, `RMMSettings(photons=2)`: how large is the matrix, and which cells are never filled
#    in this sample? (Hint: `layout_of`; read events with `event_record(events, photons=True)`.)
# 5. *Three leptons.* Average matrices of the region `3L`. Where does C1N2 → WZ (`SUSYC1N2`) differ most from WZ of the
#    Standard Model? (Hint: the dataset `lllv` against the signal, `draw_ratio`.)
