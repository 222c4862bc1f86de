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
# # 1. Events and selection
#
# An event is what the detector recorded of one crossing of proton bunches, as physicists use it: a list of leptons with
# their momenta, a list of jets, the momentum that is missing. This notebook follows events from a file to a histogram
# in which data and simulation stand side by side: what is in a file, which leptons are good, what a simulated event
# counts for, and why there is a peak at 91 GeV.
#
# The events come from the demo sample that ships with this project. They were simulated with Pythia 8 and a simple
# model of a detector, and are written exactly as those of the
# [ATLAS Open Data](https://opendata.atlas.cern) release of 2020 (13 TeV), so everything below works on real files too.
# What is called *pseudo-data* is drawn from the same simulation: no ATLAS data are in it.
#
# You need: some Python and NumPy, and what a lepton, a jet and an invariant mass are.

# %% tags=["parameters"]
GROUPS = ()  # process groups that are read, such as ("Zjets", "ttbar", "data"); () is all

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import awkward as ak
import hist
import numpy as np
import pandas as pd
import uproot
from coffea.nanoevents import NanoEventsFactory

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from processors.features import feature_table
from processors.histograms import load_histograms
from processors.peak import fit_peak
from processors.regions import apply_region
from processors.schema import OpenDataSchema, event_record
from processors.settings import REGIONS, ExecutionSettings, RegionSettings, RMMSettings, WeightSettings
from processors.stages.select import select_region
from processors.weights import event_weights
from processors.workers import Workers
from report.stacks import stacked
from report.style import Sample, new_figure, stamp, styled

output = Path(tempfile.mkdtemp(prefix="selection-"))
region = REGIONS["2L"]
print(region.leptons.model_dump(exclude_none=True))

# %% [markdown]
# ## Which files
#
# `resolve` turns a name into a list of files with what is known of each: here it is the demo sample, it could be a
# directory, or the catalogue of a release. `check` then opens every file once, counts its events, looks for what is
# broken, and works out how the sample is normalised. The result is a *fileset* in the form that
# [coffea](https://coffea-hep.readthedocs.io) uses: files and metadata of each dataset.

# %%
fileset = check(resolve(FilesetSettings(fileset="demo", groups=GROUPS), ("2L",))).fileset
metadata = {name: entry["metadata"] for name, entry in fileset.items()}
table = pd.DataFrame(metadata).T.set_index("process")
table = table[["kind", "group", "entries", "xsec_pb", "sumw"]].sort_values(["kind", "group"])
print(f"{len(table)} datasets, {table.entries.sum():,} events")
table

# %% [markdown]
# Three kinds of datasets: `data`, `background` (processes of the Standard Model) and `signal` (what might be beyond it:
# supersymmetric particles, heavy Z′ bosons, gravitons, heavy neutrinos, dark matter). Several datasets make up a
# process: Z → ee is simulated in slices of mass and momentum, so that rare, hard events are there too.
#
# ## One file
#
# Inside there is a tree, `mini`, with a row for each event and a column (*branch*) for each quantity. Some of the
# columns hold lists: this event has as many leptons as it has.


# %%
def path_of(process: str) -> str:
    """The file of a dataset with this process."""
    name = next(name for name, facts in metadata.items() if facts["process"] == process)
    return next(iter(fileset[name]["files"]))


with uproot.open(path_of("Zmumu")) as file:
    tree = file["mini"]
    print(f"{len(tree.keys())} branches, {tree.num_entries:,} events")
    branches = ["lep_n", "lep_pt", "lep_eta", "lep_phi", "lep_type", "met_et", "jet_n", "jet_pt"]
    first = tree.arrays(branches, entry_stop=1)[0].tolist()
pd.Series(first, name="event 0")

# %% [markdown]
# `lep_type` is the number of the particle in the [PDG scheme](https://pdg.lbl.gov): 11 is an electron, 13 a muon.
# Momenta are in MeV: a `lep_pt` of 40 000 is 40 GeV.
#
# Reading branches by their names works, but the release of 2025 has other names and units. `OpenDataSchema` tells
# coffea which branches belong together; `event_record` brings both releases to the same record: GeV, radians and mm,
# leptons and jets by falling transverse momentum. The arrays are *ragged* (awkward), and nothing is looped over in
# Python.


# %%
def read(process: str) -> ak.Array:
    """All events of a process as an event record."""
    source = {path_of(process): "mini"}
    events = NanoEventsFactory.from_root(source, schemaclass=OpenDataSchema, mode="virtual").events()
    return event_record(events)


zmumu = read("Zmumu")
shown = ["pt", "eta", "phi", "mass", "charge", "flavour", "ptcone30", "etcone20"]
print(f"missing transverse momentum {zmumu.met.pt[0]:.1f} GeV, jets with pT [GeV] {zmumu.jet.pt[0].tolist()}")
pd.DataFrame(ak.to_list(zmumu.lepton[0][shown]))

# %% [markdown]
# ## Good leptons
#
# Not everything that looks like a muon comes from a Z. The decay of a b quark inside a jet makes muons too, and hadrons
# pass for electrons. What tells them apart is the company they keep: a lepton from a Z or W is alone, one from a b
# quark has the rest of the jet around it. *Isolation* measures that: `etcone20` is the energy in the calorimeter in a
# cone of 0.2 around the lepton, `ptcone30` the momentum of tracks in a cone of 0.3, without the lepton itself.
#
# Compare Z → μμ, where both muons come from the Z, with tt̄ where only one W decays to a lepton: there the second
# lepton must come from somewhere else.

# %%
sample = Sample(
    kind=next(iter(metadata.values()))["sample"], lumi_pb=next(iter(metadata.values()))["lumi_pb"]
)


def isolation_of_second(record: ak.Array) -> np.ndarray:
    """etcone20 / pT of the lepton with the second largest pT."""
    second = record.lepton[ak.num(record.lepton) >= 2][:, 1]
    return ak.to_numpy(second.etcone20 / second.pt)


@styled
def draw_isolation(values: dict[str, np.ndarray], cut: float) -> object:
    figure = new_figure(6.0, 4.6)
    ax = figure.add_axes((0.13, 0.14, 0.84, 0.72))
    edges = np.linspace(-0.2, 0.6, 41)
    for (name, own), color in zip(values.items(), ("#0072B2", "#D55E00"), strict=True):
        heights = np.histogram(np.clip(own, edges[0], edges[-1] - 1e-6), edges)[0] / len(own)
        ax.stairs(heights, edges, color=color, lw=1.8, label=f"{name}: {np.mean(own < cut):.0%} pass")
    ax.axvline(cut, color="#5a5f66", ls="--", lw=1.2, label=f"cut of the report, {cut:g}")
    ax.set(xlim=(edges[0], edges[-1]), xlabel=r"$E_T^{cone20} / p_T$ of the second lepton")
    ax.set_ylabel("Fraction of leptons / 0.02")
    ax.set_ylim(0, 1.35 * ax.get_ylim()[1])
    ax.legend(loc="upper right")
    stamp(ax, sample, subtitle="unit area, last bin includes overflow")
    return figure


draw_isolation(
    {
        r"$Z\to\mu\mu$": isolation_of_second(zmumu),
        r"$t\bar{t}\to\ell\nu$ + jets": isolation_of_second(read("ttbar_ljets")),
    },
    region.leptons.relative_etcone20_max,
)

# %% [markdown]
# The two-lepton report (S. Frette, Oslo 2022, III.A.1) calls a lepton good if both numbers are below 0.15 of its pT,
# and keeps events with **exactly two good leptons**, nothing else: no cut on charge, mass or missing momentum, "as
# little bias as possible", since nobody knows what new physics looks like. In this project that is the region `2L`. By
# hand it is three lines; `apply_region` does the same and keeps count:

# %%
lepton = zmumu.lepton
good = (lepton.etcone20 / lepton.pt < 0.15) & (lepton.ptcone30 / lepton.pt < 0.15)
by_hand = ak.num(lepton[good]) == 2

selected, cutflow = apply_region(zmumu, np.ones(len(zmumu)), region)
assert ak.sum(by_hand) == cutflow["2 good leptons"][0] == len(selected)
print({name: events for name, (events, _, _) in cutflow.items()})

# %% [markdown]
# ## What an event counts for
#
# A simulated sample has as many events as somebody had computing time for. The number that is *expected* in data of
# luminosity $L$ is $\sigma L$, so each event gets a weight,
#
# $$w = \frac{\sigma L}{\sum w_{gen}} \; w_{gen} \prod_i f_i,$$
#
# with the generator's own weight $w_{gen}$ (some generators use negative ones) and scale factors $f_i$ that repair
# small differences between simulated and real detector: pile-up, electrons, muons, trigger. Data have weight 1, always.
# `event_weights` is coffea's `Weights` with every factor by its name. Is it the formula?

# %%
facts = next(facts for facts in metadata.values() if facts["process"] == "Zmumu")
weights = event_weights(zmumu, facts, WeightSettings())

sigma_l = facts["xsec_pb"] * facts["lumi_pb"]
factors = ("pileup", "electron", "muon", "lepton_trigger")
product = np.prod([zmumu.weight[factor] for factor in factors], axis=0)
formula = sigma_l / facts["sumw"] * zmumu.weight.generator * product
np.testing.assert_allclose(weights.weight(), ak.to_numpy(formula), rtol=1e-5)

print(f"σ = {facts['xsec_pb']:,.1f} pb, L = {facts['lumi_pb']:g} /pb: {sigma_l:,.0f} decays are expected")
print(f"{len(zmumu):,} simulated events of the file stand for {weights.weight().sum():,.0f} of them")

# %% [markdown]
# The others had a muon that went past the detector or was too soft: a file of this kind (a *skim*) only holds events
# with two leptons.
#
# ## The peak
#
# Energy and momentum are conserved in the decay Z → μμ, so the mass of the pair is that of the Z: $m_{\ell\ell}^2 =
# (E_1+E_2)^2 - |\vec p_1 + \vec p_2|^2$. From $p_T$, $\eta$, $\phi$ this takes a few lines. The product has it as the
# column `mll` of its *feature table*, which is what models will learn from:

# %%
data = read("data_A") if "data" in table.group.to_numpy() else zmumu
selected, _ = apply_region(data, np.ones(len(data)), region)
one = selected.lepton  # field -> array of shape (events, 2)

px, py = one["pt"] * np.cos(one["phi"]), one["pt"] * np.sin(one["phi"])
pz = one["pt"] * np.sinh(one["eta"])
energy = np.sqrt(one["mass"] ** 2 + px**2 + py**2 + pz**2)
squared = energy.sum(axis=1) ** 2 - px.sum(axis=1) ** 2 - py.sum(axis=1) ** 2 - pz.sum(axis=1) ** 2
features = feature_table(selected)
np.testing.assert_allclose(np.sqrt(np.maximum(squared, 0)), features["mll"], rtol=2e-3, atol=0.02)
pd.DataFrame(features).iloc[:3].T.head(14)

# %% [markdown]
# What is the mass of the Z in the pseudo-data? `fit_peak` fits a Breit–Wigner of the known width, smeared with the
# resolution of the detector, and with the tail of muons that radiated a photon. The
# [Particle Data Group](https://pdg.lbl.gov) has 91.19 GeV.

# %%
peaks, fits = {}, {}
for pair, flavour in (("ee", 11), (r"$\mu\mu$", 13)):
    chosen = (one["flavour"] == flavour).all(axis=1) & (features["isOS"] > 0)
    axis = hist.axis.Regular(50, 66, 116, name="mll", label=r"$m_{\ell\ell}$ [GeV]")
    peaks[pair] = hist.Hist(axis, storage=hist.storage.Weight()).fill(features["mll"][chosen])
    fits[pair] = fit_peak(peaks[pair])


@styled
def draw_peaks() -> object:
    figure = new_figure(6.0, 4.8)
    ax = figure.add_axes((0.14, 0.13, 0.83, 0.74))
    for (pair, filled), color in zip(peaks.items(), ("#0072B2", "#D55E00"), strict=True):
        fit, axis = fits[pair], filled.axes[0]
        ax.errorbar(axis.centers, filled.values(), np.sqrt(filled.values()), fmt="o", ms=3, color=color)
        label = f"{pair}: {fit.position:.2f} ± {fit.position_error:.2f} GeV, width {fit.width:.1f} GeV"
        ax.plot(axis.centers, fit.expected, color=color, lw=1.6, label=label)
    ax.axvline(91.19, ymax=0.76, color="#5a5f66", ls=":", lw=1.2, label="PDG: 91.19 GeV")
    ax.set(xlim=(66, 116), xlabel=r"$m_{\ell\ell}$ [GeV]")
    ax.set_ylabel("Events / 1 GeV")
    ax.set_ylim(0, 1.4 * ax.get_ylim()[1])
    ax.legend(loc="upper left")
    stamp(ax, Sample(sample.kind, sample.lumi_pb, region="2L"), subtitle="pseudo-data, opposite charge")
    return figure


for fit in fits.values():
    assert abs(fit.position - 91.19) < 0.3, "GeV: the Z stands where it should"
draw_peaks()

# %% [markdown]
# The natural width of the Z is 2.5 GeV; the peak is wider because momenta are measured with an error. Electrons and
# muons are measured by different parts of the detector, so their peaks need not be the same.
#
# ## Everything at once
#
# `select_region` does all of the above for every file, as the command `run_analysis.py select` does: it cuts the files
# into chunks, selects, weighs, writes the selected events as parquet *shards*, and fills a histogram of every feature.
# `ExecutionSettings` says who does the work: this process, several, or a cluster; notebook 5 is about that. (The
# rapidity–mass matrix of notebook 2 is left out, `write=False`, to be quick.)


# %%
def select(name: str, region: RegionSettings) -> tuple[dict, dict]:
    """Books of each dataset, and histograms."""
    with Workers(ExecutionSettings()) as workers:
        books = select_region(
            with_steps(fileset, 100_000),
            name=name,
            region=region,
            weights=WeightSettings(),
            rmm=RMMSettings(write=False),
            workers=workers,
            output=output,
        )
    return books["datasets"], load_histograms(output / "shards" / name / "histograms.json")


books, histograms = select("2L", region)


def yields(books: dict) -> pd.DataFrame:
    """Events, sum of weights and its statistical error of each group."""
    sums = pd.DataFrame(books).T[["kind", "group", "selected", "sumw", "sumw2"]]
    sums = sums.groupby(["kind", "group"]).sum()
    sums["error"] = np.sqrt(sums.pop("sumw2").astype(float))
    return sums.astype({"sumw": float}).sort_values(["kind", "sumw"], ascending=[True, False])


table = yields(books)
table.round(2)

# %% [markdown]
# Z → ℓℓ is almost everything. Of most signals less than one event is expected in 10 pb⁻¹: the whole release has a
# thousand times as much. The column `selected` counts simulated events, `sumw` what they stand for; the statistical
# error of a sum of weights is $\sqrt{\sum w^2}$.
#
# Does simulation describe the pseudo-data?

# %%
background = table.loc["background"]
expected, error = background.sumw.sum(), np.sqrt((background.error**2).sum())
if "data" in table.index:
    observed = table.loc[("data", "data")].selected
    pull = (observed - expected) / np.hypot(np.sqrt(observed), error)
    print(f"expected {expected:,.0f} ± {error:.0f}, observed {observed:,}: {pull:+.1f} standard deviations")
    assert abs(pull) < 4

# %%
sample = Sample(sample.kind, sample.lumi_pb, region="2L")
stacked(histograms["2L/mll"], books, sample=sample, signals=("G_ee",))

# %% [markdown]
# How to read it: coloured areas are simulated processes on top of each other, points are data with their Poisson
# errors, the hatched band is the statistical error of the simulation, the lower panel is the ratio. Below the peak
# there is photon exchange, above it tt̄ and pairs of W. The dashed line is a signal, a graviton of 750 GeV that decays
# to two electrons: its mass lies beyond the axis, so its events are in the last bin, which holds everything above.
#
# Other variables show other processes. Neutrinos leave no trace, and neither would dark matter: the **missing
# transverse momentum** $E_T^{miss}$ is what is missing for the momenta across the beam to add up to zero. Z → ℓℓ has
# almost none.

# %%
stacked(histograms["2L/met_et"], books, sample=sample, signals=("dmV_Zll", "SUSYC1C1"))

# %% [markdown]
# ## A region of one's own
#
# A region is a set of cuts, each a setting; `RegionSettings` lists them. An electron **and** a muon of opposite charge,
# and a b-jet: the Z cannot do this, but tt̄ → bW bW can.

# %%
cuts = RegionSettings(n_leptons=2, skims=("2lep",), n_ossf_pairs=0, charge="opposite", n_b_jets_min=1)
top_books, top_histograms = select("top", cuts)
top = yields(top_books).loc["background"].sumw
print(f"{top.get('ttbar', 0) / top.sum():.0%} of the expected events are top-quark pairs")
assert top["ttbar"] / top.sum() > 0.8
flow = {name: {cut: n for cut, (_, n, _) in book["cutflow"].items()} for name, book in top_books.items()}
pd.DataFrame(flow).T.groupby(lambda name: top_books[name]["group"]).sum().loc[top.index].round(1)

# %% [markdown]
# This *cutflow* shows what every cut is for: the sum of weights that is left after it.

# %%
top_sample = Sample(sample.kind, sample.lumi_pb, region="eμ, at least one b-jet")
stacked(top_histograms["top/njet20"], top_books, sample=top_sample, signals=("Zprime_tt",), signal_factor=10)

# %% [markdown]
# Note the errors: few events are left, in data and in simulation.
#
# ## Exercises
#
# 1. *How wide is the isolation cut?* Draw the fraction of second leptons that pass against the cut, for Z → μμ and for
#    tt̄ → ℓν + jets, and choose a cut of your own. What would you have to know to call it the best?
#    (Hint: `isolation_of_second`, `np.quantile`.)
# 2. *Same charge.* Select two good leptons of the same charge (`charge="same"`). Which processes are left, and which of
#    them should not be there? (Hint: a charge can be measured wrongly; where does W + jets get its second lepton from?)
# 3. *Three leptons.* The region `3L` reads another skim. Resolve the demo for `("3L",)`, select it and draw `mlll`.
#    (Hint: luminosities differ, so make a `Sample` of its own.)
# 4. *Uncertainty of the luminosity.* Select with `WeightSettings(uncertainties={"norm": 0.02})` and look at the axes of
#    `histograms["2L/mll"]`. By how much does the pull above change if you add 2 % of the expectation in quadrature?
# 5. *Real events.* Download a file of the [2lep skim](https://opendata.atlas.cern) and give its directory to
#    `FilesetSettings(fileset=...)`. What does `check` say, and what is different in the peak?
