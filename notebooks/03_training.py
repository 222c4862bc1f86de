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
# # 3. Training, and what an autoencoder can and cannot see
#
# A search for one signal trains on that signal. Whoever does not know what to look for can only learn what is ordinary,
# and take what is not. An **autoencoder** does that: a network that squeezes an event through a bottleneck of a few
# numbers and has to restore it. It is trained on the Standard Model alone; it gets good at what it sees often, and its
# error on an event, the **score**, should be large for what it has never seen.
#
# Should be. The two works behind this project found that it is not so simple: in the thesis (S. Frette, Oslo 2023) the
# bare missing transverse momentum ordered supersymmetric events better than every network. This notebook trains such an
# autoencoder, finds out where its errors come from, and then changes three things.

# %% tags=["parameters"]
EPOCHS = 20  # of the first network at most
MEMBERS = 3  # networks of the second model, which differ by their seed alone

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from models.bundle import AnomalyModel, load_model
from models.efficiency import UpperTail, auc, effective_events
from models.settings import TrainingSettings
from models.training import train
from processors.files import read_json
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.shards import read_manifest
from processors.split import SPLITS, split_of
from processors.stages.select import select_region
from processors.workers import Workers
from report.architecture import architecture, layers_of
from report.power import variable_label
from report.processes import processes_of
from report.shares import draw_share_chart
from report.style import FALLBACK_COLORS, MUTED, Sample, new_figure, stamp, styled
from report.training import loss_curves

SEED = 1
output = Path(tempfile.mkdtemp(prefix="training-"))

# %% [markdown]
# ## The events
#
# Region 2L as in notebook 1, of the demo sample. Data take no part in training, so they are left out (`exclude=(0,)`):
# what is not there cannot be looked at by mistake.

# %%
fileset = check(resolve(FilesetSettings(fileset="demo", exclude=(0,)), ("2L",))).fileset
with Workers(ExecutionSettings()) as workers:
    select_region(
        with_steps(fileset, 100_000),
        name="2L",
        region=REGIONS["2L"],
        weights=WeightSettings(),
        rmm=RMMSettings(write=False),
        workers=workers,
        output=output,
    )
shelf = output / "shards" / "2L"
manifest = read_manifest(shelf / "manifest.json")

events = pd.concat(
    pd.read_parquet(shelf / shard["path"]).assign(dataset=shard["dataset"]) for shard in manifest["shards"]
)
for key in ("kind", "group", "process", "label"):
    events[key] = events.dataset.map({name: facts[key] for name, facts in manifest["datasets"].items()})
facts = next(iter(fileset.values()))["metadata"]
sample = Sample(kind=facts["sample"], lumi_pb=facts["lumi_pb"], region="2L")
print(f"{len(events):,} events; the table of features has {len(manifest['features']['table'])} columns:")
print(*manifest["features"]["table"])

# %% [markdown]
# A model must be judged on events that it has not seen. Whether an event trains, validates (decides when to stop) or
# tests is a hash of its number and the seed: it depends on no file, order or machine, and everybody can work it out
# again.

# %%
identity = (events[name].to_numpy() for name in ("channelNumber", "runNumber", "eventNumber"))
events["split"] = np.array(SPLITS)[split_of(*identity, seed=SEED)]
is_background = events.kind == "background"
events[is_background].groupby("split").weight.agg(["size", "sum"]).loc[list(SPLITS)].round(0)

# %%
test = events[is_background & (events.split == "test")]
background_weight = test.weight.to_numpy()
print(
    f"held-out background: {len(test):,} events, worth {effective_events(background_weight):,.0f} of equal weight"
)

# %% [markdown]
# ## An ordinary autoencoder
#
# 33 inputs, each shifted and scaled to mean 0 and standard deviation 1; layers of 64, 32 and 6, and back. The loss is
# the mean squared error, and events count with their physical weights: a network that sees simulated events as they
# come learns that rare processes are common.

# %%
settings = TrainingSettings(epochs=EPOCHS)
bundle = train(
    shelf / "manifest.json", features="table", settings=settings, seed=SEED, output=output, name="plain"
)
plain = load_model(bundle)
assert not plain.card["collapsed"], "it has learnt more than the mean"
architecture(layers_of(plain.card), sample=sample, name="plain")

# %%
loss_curves(read_json(bundle / "history.json"), sample=sample, name="plain")

# %% [markdown]
# Dotted is the error of a model that always answers with the mean: whatever is not below that has learnt nothing. (One
# network of the report had *collapsed* to this line, and nobody noticed. Here training says so.) Training and
# validation agree: nothing is learnt by heart.
#
# ## What does it find?
#
# The score is log₁₀ of the mean squared error of an event. Signals were never trained on, so all their events count.


# %%
def weights_of(part: pd.DataFrame) -> np.ndarray:
    return part.weight.to_numpy()


signals = dict(iter(events[events.kind == "signal"].groupby("process")))
scores = {"plain": {name: plain.score(part) for name, part in signals.items()}}
background_scores = {"plain": plain.score(test)}
labels = {process.key: process.label for process in processes_of(manifest["datasets"])}
SHOWN = ("C1N2_WZ_450_300", "dmV_Zll_MET40_DM1_MM300", "ZPrime1000_tt")


@styled
def draw_scores(name: str, xlabel: str) -> object:
    figure = new_figure(6.4, 4.8)
    ax = figure.add_axes((0.13, 0.13, 0.84, 0.74))
    everything = [background_scores[name], *(scores[name][process] for process in SHOWN)]
    edges = np.linspace(min(map(np.min, everything)), np.quantile(np.concatenate(everything), 0.995), 51)

    def shape(score: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return np.histogram(np.clip(score, edges[0], edges[-1]), edges, weights=weight)[0] / weight.sum()

    ax.stairs(shape(everything[0], background_weight), edges, fill=True, color="#c9cdd2", label="Background")
    for process, color in zip(SHOWN, FALLBACK_COLORS, strict=False):
        heights = shape(scores[name][process], weights_of(signals[process]))
        ax.stairs(heights, edges, color=color, lw=1.8, label=labels[process])
    ax.set(yscale="log", ylim=(1e-5, 20), xlim=(edges[0], edges[-1]), xlabel=xlabel)
    ax.set_ylabel("Fraction of events per bin")
    ax.legend(loc="upper left", fontsize=10)
    stamp(ax, sample, subtitle=f"model {name}, background: held-out events")
    return figure


draw_scores("plain", r"$\log_{10}$ mean squared error")

# %% [markdown]
# Signals lie at higher scores. But is that much? The **area under the ROC curve** (AUC) is the probability that a
# signal event has a larger score than a background event: 1 is perfect, 0.5 is a coin. Whoever quotes it must quote
# beside it what a *single variable* reaches that needs no network: the missing transverse momentum $E_T^{miss}$, the
# mass of the lepton pair, the momentum of the leading lepton, the stransverse mass $m_{T2}$ and sums of momenta.


# %%
def areas(score: np.ndarray, of_signal: dict[str, np.ndarray]) -> pd.Series:
    """AUC of each signal."""
    return pd.Series(
        {
            process: auc(score, background_weight, of_signal[process], weights_of(part))[0]
            for process, part in signals.items()
        }
    )


variables = manifest["variables"]
single = pd.DataFrame(
    {
        name: areas(test[name], {process: part[name] for process, part in signals.items()})
        for name in variables
    }
)
power = pd.DataFrame(
    {"plain": areas(background_scores["plain"], scores["plain"]), "met_et": single.met_et,
     "best variable": single.max(axis=1), "which": single.idxmax(axis=1)}
).sort_values("plain")  # fmt: skip
power.round(4)

# %% [markdown]
# The signals at the end of the table have leptons of hundreds of GeV: nobody can miss them, with or without a network.
# At its beginning stand charginos and neutralinos that decay to W and Z (`C1N2`), gravitons to ZZ, dark matter beside a
# Z. They look like a Z with some missing momentum, and there $E_T^{miss}$ alone beats the network:

# %%
for process in ("C1N2_WZ_450_300", "dmV_Zll_MET40_DM1_MM300"):
    beaten = power.loc[process]
    assert beaten.met_et > beaten.plain, "the finding of the thesis"
    print(
        f"{process}: AUC {beaten.plain:.3f} of the autoencoder, {beaten.met_et:.3f} of the missing momentum"
    )

# %% [markdown]
# ## Where do the errors come from?
#
# The squared error is a sum over inputs, so we can ask for the share of each, averaged over the events of a process.
# Beside the signals stand those background events that the network finds most anomalous, the highest 1 %: they are what
# a signal has to rise above.


# %%
def shares(model: AnomalyModel, part: pd.DataFrame) -> np.ndarray:
    """Mean share of each input in the error."""
    errors = model.residuals(part)
    return np.average(errors / errors.sum(axis=1, keepdims=True), axis=0, weights=weights_of(part))


def highest(name: str, part: float) -> np.ndarray:
    """Which held-out background events have the highest scores."""
    return background_scores[name] >= UpperTail.of(background_scores[name], background_weight).at(part)[0]


leading = test[highest("plain", 0.01)]
columns = {"Background, highest 1 %": leading} | {labels[key]: signals[key] for key in SHOWN}
draw_share_chart(
    plain.features,
    {"share": shares(plain, test)},
    [{"label": label, "share": shares(plain, part)} for label, part in columns.items()],
    sample=sample,
    name="plain",
)

# %%
share = pd.Series(shares(plain, leading), plain.features)
quality = [
    name for name in plain.features if name.endswith(("cone20", "cone30", "pvunbiased", "z0", "TightID"))
]
jets = [name for name in plain.features if name.startswith(("njet", "nbjet"))]
print(
    f"of the most anomalous background's error {share[quality].sum():.0%} are tracks and isolation of the leptons,"
)
print(f"{share[jets].sum():.0%} numbers of jets, {share['met_et']:.0%} the missing transverse momentum")
assert share[quality].sum() > 5 * share["met_et"]

# %% [markdown]
# That is what "anomalous" means to this network: whatever is **rare**. An electron whose track misses the vertex, a
# lepton with company, a jet too many: all rare, none of it new physics. New heavy particles do something else: they
# make events **hard**, and that is one input among 33.
#
# And some things cannot be seen at all. Had nobody known the Higgs boson in 2012: would an autoencoder have found
# H → WW → ℓνℓν? Its events are softer than tt̄ and look like it.

# %%
higgs = (test.process == "ggH125_WW2lep").to_numpy()
score = background_scores["plain"]
area, error = auc(score[~higgs], background_weight[~higgs], score[higgs], background_weight[higgs])
cut = UpperTail.of(score, background_weight).at(0.01)[0]
passing = background_weight[higgs & (score >= cut)].sum() / background_weight[higgs].sum()
share_of_all = background_weight[higgs].sum() / background_weight.sum()
print(f"AUC {area:.2f} ± {error:.2f}; {passing:.0%} of them pass a cut that 1 % of all events pass")
print(
    f"one event in {1 / share_of_all:,.0f} is one, behind the cut one in {0.01 / passing / share_of_all:,.0f}"
)

# %% [markdown]
# An AUC of 0.9 sounds good, since most events are ordinary Z; but what is left behind the cut is a few times more Higgs
# bosons among thousands of others. The Higgs boson was found by looking for *its* mass.
#
# ## Three changes
#
# The preset `hardness` is the recipe of this project (the page *Searching for anomalies* of the documentation tells how
# it was chosen, and what it is worth on signals that were made afterwards):
#
# 1. **Inputs**: six numbers that say how hard an event is, none of them the sum of others.
# 2. **Scaling**: $x \to -\ln P(X \ge x)$ with the probability $P$ of the background. Zero is ordinary, each unit a
#    factor $e$ in rareness, and only the *upper* side counts.
# 3. **Bottleneck and score**: one number in between, and the score counts how far an event is from what the network
#    restores *and* how far out it is.
#
# What does the second change do? A standard deviation of $E_T^{miss}$ says nothing about how rare 200 GeV are:

# %%
recipe = TrainingSettings(preset="hardness", members=MEMBERS, epochs=15)
bundle = train(
    shelf / "manifest.json", features="kinematics", settings=recipe, seed=SEED, output=output, name="hardness"
)
hardness = load_model(bundle)
print(hardness.features)


def scaled(model: AnomalyModel, name: str, values: np.ndarray) -> np.ndarray:
    """One input after the model's scaling."""
    table = np.zeros((len(values), len(model.features)), dtype=np.float32)
    table[:, model.features.index(name)] = values
    return model.scaler.transform(table)[:, model.features.index(name)]


@styled
def draw_scaling() -> object:
    figure = new_figure(6.0, 4.6)
    ax = figure.add_axes((0.12, 0.14, 0.75, 0.72))
    values = np.linspace(0, 400, 401)
    order = np.argsort(-test.met_et.to_numpy())
    above = np.cumsum(background_weight[order]) / background_weight.sum()
    ax.plot(values, scaled(plain, "met_et", values), color="#D55E00", lw=1.8, label="plain: standard")
    ax.plot(values, scaled(hardness, "met_et", values), color="#0072B2", lw=1.8, label="hardness: upper tail")
    ax.plot(test.met_et.to_numpy()[order], -np.log(above), ".", ms=3, color=MUTED,
            label=r"$-\ln$ of the part of held-out background above")  # fmt: skip
    ax.set(xlim=(0, 400), ylim=(-1, 32), xlabel=r"$E_T^{miss}$ [GeV]")
    ax.set_ylabel("Scaled input")
    ax.legend(loc="upper left", fontsize=10)
    stamp(ax, sample)
    return figure


draw_scaling()

# %% [markdown]
# Points are events that the scaling was not fitted to. Where there are none any more it goes on as an exponential. The
# orange line is straight: far out it gives much larger numbers, and which input gets large ones depends on how long its
# tail is, not on how rare the event is.

# %%
loss_curves(read_json(bundle / "history.json"), sample=sample, name="hardness")

# %% [markdown]
# Networks start from random weights, so each seed ends elsewhere: the model is the mean of a few, and their spread says
# how much of a result is luck.

# %%
background_scores["hardness"] = hardness.score(test)
scores["hardness"] = {process: hardness.score(part) for process, part in signals.items()}
members = [name for name in hardness.score_names if name.startswith("member")]
of_members = {
    "background": hardness.scores(test),
    **{process: hardness.scores(part) for process, part in signals.items()},
}

power["hardness"] = areas(background_scores["hardness"], scores["hardness"])
power["over seeds"] = pd.DataFrame(
    {
        name: areas(of_members["background"][name], {p: of_members[p][name] for p in signals})
        for name in members
    }
).pipe(lambda each: each.max(axis=1) - each.min(axis=1))
power["gain"] = power.hardness - power.plain
power[["plain", "hardness", "over seeds", "best variable", "which"]].round(4)

# %%
assert (power.hardness > power["best variable"] - 0.01).all(), "no signal is far below its best variable"
print(f"mean AUC: {power.plain.mean():.3f} plain, {power.hardness.mean():.3f} hardness")

# %% [markdown]
# The best variable is a different one for each signal and was chosen *knowing* the signal; the score did not know any.
# That is the honest aim of such a search: for every signal almost as good as the variable one would have chosen,
# without choosing.
#
# AUC weighs all cuts alike, but a search cuts hard. The **ROC curve** shows which part of the signal, ε_S, passes a cut
# that lets the part ε_B of the background pass:


# %%
def curve(background: np.ndarray, signal: np.ndarray, weight: np.ndarray, eps_b: np.ndarray) -> np.ndarray:
    """Signal efficiency at background efficiencies."""
    tail, own = UpperTail.of(background, background_weight), UpperTail.of(signal, weight)
    return np.array([own.efficiency(*tail.at(eps)[:2])[0] for eps in eps_b])


@styled
def draw_roc(process: str) -> object:
    figure = new_figure(6.0, 5.0)
    ax = figure.add_axes((0.12, 0.13, 0.85, 0.75))
    eps_b, own = np.geomspace(1e-3, 1, 61), weights_of(signals[process])
    lines = {
        "hardness": (background_scores["hardness"], scores["hardness"][process], "#0072B2", "-"),
        "plain autoencoder": (background_scores["plain"], scores["plain"][process], "#D55E00", "-"),
        variable_label("met_et"): (test.met_et, signals[process].met_et, "#111111", "--"),
        variable_label("meff"): (test.meff, signals[process].meff, MUTED, ":"),
    }
    each = [curve(of_members["background"][m], of_members[process][m], own, eps_b) for m in members]
    ax.fill_between(eps_b, np.min(each, axis=0), np.max(each, axis=0), color="#0072B2", alpha=0.25, lw=0,
                    label=f"hardness, range of {len(members)} seeds")  # fmt: skip
    for label, (background, signal, color, dashes) in lines.items():
        ax.plot(eps_b, curve(background, signal, own, eps_b), color=color, ls=dashes, lw=1.8, label=label)
    ax.plot(eps_b, eps_b, color=MUTED, lw=0.8, label="chance")
    ax.set(xscale="log", xlim=(1e-3, 1), ylim=(0, 1.5), xlabel=r"Background efficiency $\varepsilon_B$")
    ax.set_ylabel(r"Signal efficiency $\varepsilon_S$")
    ax.legend(loc="upper left", ncols=2, fontsize=10)
    stamp(ax, sample, subtitle=f"{labels[process]}, background: held-out events")
    return figure


draw_roc("C1N2_WZ_450_300")

# %%
draw_roc("ZPrime1000_tt")

# %% [markdown]
# For the first signal $E_T^{miss}$ still wins at hard cuts, if one knows that it is the right variable; for the second
# it does not. The score is close to the better one in both. Left of ε_B = 10⁻³ a handful of simulated events decide;
# the next notebook asks what can be said there, and what a score is worth in events and standard deviations.
#
# ### Do seeds agree?
#
# A criterion that needs no signal: how many of the most anomalous 1 % of the background are the same for two seeds?


# %%
def overlap(one: np.ndarray, other: np.ndarray, part: float = 0.01) -> float:
    """Common part, by weight, of the highest scores of two networks."""
    sets = [score >= UpperTail.of(score, background_weight).at(part)[0] for score in (one, other)]
    return float(background_weight[sets[0] & sets[1]].sum() / background_weight[sets[0]].sum())


first = of_members["background"][members[0]]
agreement = [overlap(first, of_members["background"][name]) for name in members[1:]]
print("hardness, two seeds:", *(f"{value:.0%}" for value in agreement))
print(f"hardness and plain:  {overlap(background_scores['hardness'], background_scores['plain']):.0%}")

# %% [markdown]
# ## Exercises
#
# 1. *A wider bottleneck.* Train `plain` with a latent space of 20 instead of 6 (`encoder=(64, 32, 20)`). The error
#    falls; does the AUC rise? Why must a network that restores everything be useless?
# 2. *Unweighted.* Train with `weighting="unweighted"`. Which background processes move to lower scores, and why? (Hint:
#    `test.assign(score=...)`, grouped by `group`.)
# 3. *Fewer inputs.* Which of the three changes matters most? Train the network of `plain` on `features="kinematics"`,
#    then with `scaler="upper-tail"`, then `hardness`, and compare `areas`.
# 4. *No network.* Take the largest of the six scaled inputs, `hardness.scaler.transform(...).max(axis=1)`, as a score.
#    How far does it get? What is left for the network?
# 5. *A signal in the lower tail.* Invent one: scale `met_et`, `ht` and the leptons' momenta of some background events
#    by 0.8 and score them. Which of the two models notices? Which one would you want?
