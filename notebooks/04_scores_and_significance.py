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
# # 4. Scores and significance
#
# Every event has a score now. What can be said with it? This notebook goes the way of a search: it looks at the score
# without looking at the data (*blinding*), measures how well it orders signals beside baselines, puts a cut, turns
# events above it into standard deviations, asks which signals could be excluded, counts how often such a search cries
# wolf, and then, last of all, opens the box.
#
# What is written in each section is what goes wrong most often: a cut that was chosen with the signal in view, s/√b
# where b is five events, a significance without the error of the background, the largest of many fluctuations taken for
# a discovery.

# %% tags=["parameters"]
MEMBERS = 3  # networks of the model
EPOCHS = 15  # of each
REPLICAS = 200  # of the bootstrap behind statistical errors
TOYS = 1_000  # pseudo-experiments

# %%
# %matplotlib inline
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyhf
from matplotlib.figure import Figure

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from models.baselines import fit_baselines
from models.bundle import load_model
from models.settings import (
    AlarmSettings,
    BaselineSettings,
    EvaluationSettings,
    SignificanceSettings,
    TrainingSettings,
)
from models.studies.counting import local_p, significance_of
from models.studies.evaluation import evaluate
from models.studies.limits import signal_model, strength_limits
from models.studies.pseudo_experiments import pseudo_experiments
from models.studies.scored import ScoredEvents, read_scored
from models.studies.significance import asimov_significance, significance
from models.training import train
from processors.histograms import load_histograms
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.shards import read_manifest
from processors.stages.score import score_region
from processors.stages.select import select_region
from processors.workers import Workers
from report.alarm_figures import draw_calibration, draw_false_alarms
from report.power import auc_overview, roc, signal_name
from report.processes import processes_of
from report.significance import draw_limits, draw_scan
from report.stacks import stacked
from report.style import MUTED, Sample, new_figure, stamp, styled

SEED = 1
output = Path(tempfile.mkdtemp(prefix="scores-"))

# %% [markdown]
# ## From files to scores
#
# The stages of notebooks 1 and 3: select region 2L of the demo sample, train the preset `hardness` on background
# simulation, fit two baselines to the same events (the largest upper tail of single variables, which needs no network,
# and the error of principal components, which is what an autoencoder would be if it were linear), and score all events
# with the three. On the command line this is `run_analysis.py run --preset hardness --region 2L`.

# %%
fileset = check(resolve(FilesetSettings(fileset="demo"), ("2L",))).fileset
region, workers = REGIONS["2L"], Workers(ExecutionSettings())
books = select_region(
    with_steps(fileset, 100_000),
    name="2L",
    region=region,
    weights=WeightSettings(),
    rmm=RMMSettings(write=False),
    workers=workers,
    output=output,
)["datasets"]
shards = output / "shards" / "2L" / "manifest.json"

# %%
settings = TrainingSettings(preset="hardness", members=MEMBERS, epochs=EPOCHS)
bundle = train(shards, features="kinematics", settings=settings, seed=SEED, output=output)
chosen = BaselineSettings(names=("largest-tail", "pca"))
baselines = fit_baselines(shards, features="kinematics", settings=chosen, seed=SEED, output=output)

# %%
for path in (bundle, *baselines):
    score_region(
        name="2L",
        region=region,
        model=path,
        model_name=path.name,
        loader="models.bundle:load_model",
        seed=SEED,
        workers=workers,
        output=output,
        friends=False,
    )

card = load_model(bundle).card
folders = {path.name: output / "scores" / "2L" / path.name for path in (bundle, *baselines)}
scores = folders[bundle.name] / "manifest.json"
manifest = read_manifest(scores, stage="score")
histogram = load_histograms(scores.with_name("histograms.json"))[f"2L/score/{bundle.name}"]
facts = next(iter(fileset.values()))["metadata"]
sample = Sample(kind=facts["sample"], lumi_pb=facts["lumi_pb"], region="2L")
labels = {process.key: process.label for process in processes_of(books)}
print(f"{bundle.name}: scores {', '.join(manifest['scores'])}")

# %% [markdown]
# ## The score, blinded
#
# Data above the cut that we are going to make must not be seen before everything is fixed, or one moves the cut until
# something sticks out. The model's card holds the score that 1 % of the background exceeds, worked out on background
# alone. Above it, data are not drawn; below, they show whether simulation describes the score at all.
#
# Background is drawn from events that the model has **not** been trained on (a fifth of them), scaled up to stand for
# all.

# %%
cut = card["thresholds"]["1e-2"]
blind = cut["score"]
print(f"1 % of the background has a score above {blind:.3f} ± {cut['error']:.3f}")
stacked(histogram, books, sample=sample, signals=("G_ee", "SUSYC1N2"), blind=blind)

# %% [markdown]
# Signals are drawn with large factors (see the legend) where they would not be seen otherwise: 10 pb⁻¹ are few. Only of
# the graviton of 750 GeV (`G_ee`) are many events expected, 17: ATLAS has excluded it below 2.68 TeV already at 8 TeV
# ([PRD 90 (2014) 052005](https://arxiv.org/abs/1405.4123)), and it serves us as a signal that could be found.
#
# ## Power, beside baselines
#
# `evaluate` measures for each signal the area under the ROC curve and efficiencies of the score, of both baselines and
# of single variables, on the same events, with errors from a bootstrap.

# %%
result = evaluate(
    scores,
    card=card,
    others=[folder / "manifest.json" for name, folder in folders.items() if name != bundle.name],
    settings=EvaluationSettings(replicas=REPLICAS),
)
processes = processes_of(books)
names = {key: signal_name(key, entry, processes) for key, entry in result["signals"].items()}
print(f"held-out background: n_eff = {result['background']['n_eff']:,.0f}")
auc_overview(result["signals"], labels=names, sample=sample)

# %% [markdown]
# A filled circle is the score; the open diamond is the best single variable, chosen *with* knowledge of each signal;
# the cross is the better of the baselines. If the score does not keep up with them, it is not worth its training. One
# signal closely: the shaded area is where fewer than ten (effective) background events are left, so nothing can be
# said.

# %%
target = "900301.C1N2_WZ_450_300.2lep"
roc(result["signals"][target], label=names[target], sample=sample, n_eff=result["background"]["n_eff"])

# %%
found = result["signals"]["305550.Gee_01_750.2lep"]["scores"]
assert found["score"]["auc"] > found["met_et"]["auc"], "a resonance without neutrinos is no case for E_T^miss"
compared = ["score", *(name for name in folders if name in found), "met_et", "meff"]
pd.DataFrame(
    {
        entry["process"]: {name: entry["scores"][name]["auc"] for name in compared}
        for entry in result["signals"].values()
    }
).T.round(4)

# %% [markdown]
# ## From events to standard deviations
#
# Cut at a score, expect $b$ background events and $s$ of the signal above it. How significant would that be? Everybody
# learns $s/\sqrt b$. It is the limit of the right answer for $b$ large and $s$ small, and it is wrong where searches
# live. The median significance of a counting experiment is (Cowan, Cranmer, Gross and Vitells, [EPJ C 71 (2011)
# 1554](https://arxiv.org/abs/1007.1727), eq. 97)
#
# $$Z_A = \sqrt{2\left[(s+b)\ln(1+s/b) - s\right]},$$
#
# and with a background that is only known to ± σ there is a longer form (G. Cowan, 2012, eq. 20). Both are
# `asimov_significance`.

# %%
s, b = 5.0, np.geomspace(0.1, 1000, 81)
by_hand = np.sqrt(2 * ((s + b) * np.log(1 + s / b) - s))
np.testing.assert_allclose(asimov_significance(s, b), by_hand, rtol=1e-9)
assert abs(asimov_significance(s, 1000.0) / (s / np.sqrt(1000.0)) - 1) < 0.01, "for large b they agree"


@styled
def draw_formulas() -> Figure:
    figure = new_figure(6.0, 4.6)
    ax = figure.add_axes((0.12, 0.14, 0.85, 0.72))
    ax.plot(b, s / np.sqrt(b), color=MUTED, ls=":", lw=1.8, label=r"$s/\sqrt{b}$")
    ax.plot(b, asimov_significance(s, b), color="#D55E00", lw=1.8, label=r"$Z_A$, background known")
    ax.plot(b, asimov_significance(s, b, 0.2 * b), color="#0072B2", lw=1.8, label=r"$Z_A$, known to 20 %")
    # What experiments find: the median over many of them, by their exact Poisson probabilities.
    rng = np.random.default_rng(SEED)
    for mean in (0.3, 1.0, 3.0, 10.0, 30.0, 100.0):
        counts = rng.poisson(s + mean, 4000)
        median = np.median(significance_of(local_p(counts, mean, 0.0)))
        label = "median of 4,000 pseudo-experiments" if mean == 1.0 else None
        ax.plot(mean, median, "o", color="#D55E00", ms=5, label=label)
    ax.set(xscale="log", xlim=(0.1, 1000), ylim=(0, 8), xlabel="Expected background events b")
    ax.set_ylabel("Significance of s = 5 [σ]")
    ax.legend(loc="upper right")
    ax.text(
        0.02,
        1.02,
        "counting experiment, no sample involved",
        transform=ax.transAxes,
        fontsize=10,
        color=MUTED,
    )
    return figure


draw_formulas()

# %% [markdown]
# With half a background event, s/√b promises 7 σ where an experiment finds 4. Points scatter around the line since
# counts are whole numbers.
#
# ## The cut, and what simulation can say
#
# `significance` makes cuts at stated background efficiencies, **from background alone**. For each it says how many
# background events are expected, with the statistical error of the *simulation*, and how many simulated events
# (effective number, $n_{eff} = (\sum w)^2 / \sum w^2$) are behind it. Below ten it refuses to quote anything.

# %%
expected = significance(scores, settings=SignificanceSettings(systematic=0.1), card=card)
table = pd.DataFrame(expected["cuts"]).T[
    ["eps_b", "score", "b", "b_error", "b_uncertainty", "n_eff", "supported"]
]
print(f"the tightest supported cut is at ε_B = {expected['tightest']}")
table

# %%
graviton = expected["signals"]["Gee_01_750"]
rows = ["s", "s_error", "z", "z_error", "z_statistical", "z_without", "s_over_sqrt_b"]
pd.DataFrame(graviton["cuts"]).loc[rows].astype(float).round(2)

# %% [markdown]
# `z` counts both uncertainties of the background, the statistical one and 10 % assumed beside it; `z_without` counts
# neither. Empty columns are cuts that the simulation does not support. How does it change along the cut?

# %%
shown = [("Gee_01_750", labels["Gee_01_750"]), ("WR_lN_2000_1000", labels["WR_lN_2000_1000"])]
draw_scan(
    expected["scan"],
    [(label, expected["signals"][key]["scan"]) for key, label in shown],
    sample=sample,
    systematic=expected["systematic"],
    fewest=expected["min_effective"],
)

# %%
supported = [entry for entry in graviton["cuts"].values() if not entry["unsupported"]]
assert all(entry["z"] <= entry["z_without"] + 1e-9 for entry in supported), "not knowing b costs significance"
assert all(entry["z_without"] <= entry["s_over_sqrt_b"] for entry in supported), "s/√b promises too much"

# %% [markdown]
# The cut of the largest Z is known only to those who know the signal. It is shown to see what is lost, never to be
# used.
#
# ## More data?
#
# With $L$ times the luminosity both s and b grow by $L$; s/√b grows like $\sqrt L$ for ever. But an uncertainty of 10 %
# of the background does not shrink: from some luminosity on, only a better cut or a better understood background helps.

# %%
key = expected["tightest"]
signal, above = expected["signals"]["WR_lN_2000_1000"]["cuts"][key]["s"], expected["cuts"][key]["b"]
factor = np.geomspace(1, 1000, 61)


@styled
def draw_luminosity() -> Figure:
    figure = new_figure(6.0, 4.6)
    ax = figure.add_axes((0.12, 0.14, 0.85, 0.72))
    s, b = signal * factor, above * factor
    lumi = sample.lumi_pb * factor
    ax.plot(lumi, s / np.sqrt(b), color=MUTED, ls=":", lw=1.8, label=r"$s/\sqrt{b}$")
    for relative, color in ((0.0, "#D55E00"), (0.1, "#0072B2"), (0.3, "#009E73")):
        z = asimov_significance(s, b, relative * b)
        ax.plot(lumi, z, color=color, lw=1.8, label=rf"$Z_A$, background known to {relative:.0%}")
    ax.axhline(5, color="#111111", lw=0.8, ls="--")
    ax.set(xscale="log", yscale="log", xlim=(lumi[0], lumi[-1]), ylim=(0.1, 200), xlabel="Luminosity [1/pb]")
    ax.set_ylabel("Expected significance [σ]")
    ax.legend(loc="upper left")
    stamp(ax, sample, subtitle=rf"{labels['WR_lN_2000_1000']}, $\varepsilon_B$ = {key}, scaled")
    return figure


draw_luminosity()

# %% [markdown]
# ## What could be excluded
#
# A signal of strength μ times its cross section is excluded at 95 % if experiments without it would rarely look as much
# like background as ours (CLs). The **expected limit** is the median of that over experiments without a signal. A
# counting experiment first, with [pyhf](https://pyhf.readthedocs.io) itself and with this project's quicker way to the
# same number:

# %%
b_error = expected["cuts"][key]["b_uncertainty"]
s_graviton = graviton["cuts"][key]["s"]
model = pyhf.simplemodels.uncorrelated_background(signal=[s_graviton], bkg=[above], bkg_uncertainty=[b_error])
data = model.expected_data([0.0, 1.0])
guess = 2 * np.hypot(np.sqrt(above), b_error) / s_graviton
_, of_pyhf = pyhf.infer.intervals.upper_limits.upper_limit(data, model, np.linspace(0.3, 2.5, 23) * guess)
ours = strength_limits(signal_model(np.array([above]), np.array([b_error]), np.array([s_graviton])))
print(f"expected limit on μ: {float(of_pyhf[2]):.3f} by pyhf, {ours['median']:.3f} here")
assert abs(ours["median"] / float(of_pyhf[2]) - 1) < 0.02

# %% [markdown]
# A single cut throws away how events are distributed above it. `significance` has fitted the whole histogram of the
# score, in bins that have ten effective background events at least:

# %%
limits = {key: entry["limit"] for key, entry in expected["signals"].items()}
order = sorted((k for k in limits if limits[k]["status"] == "fitted"), key=lambda k: -limits[k]["median"])
draw_limits([(labels[key], limits[key]) for key in order], sample=sample)

# %%
fit = limits["Gee_01_750"]
print(f"graviton: μ < {fit['median']:.2f} expected from the fit, {ours['median']:.2f} from the single cut")
assert fit["median"] < ours["median"], "the shape of the score helps"

# %% [markdown]
# Below μ = 1 a signal could be excluded with these 10 pb⁻¹, above it could not: for most of them a thousand times the
# luminosity is needed. Green and yellow is how much the limit would move if the background fluctuates by one and two
# standard deviations. The same numbers leave the project as a HistFactory workspace (`workspaces/2L.json` of a run) for
# pyhf and cabinetry.
#
# ## Crying wolf
#
# Whoever looks at four cuts has four chances of a fluctuation, and the smallest of four p-values is smaller than p. The
# **global p** corrects for that: it is the part of pseudo-experiments *without any signal* whose smallest local p is as
# small. Is the rate of false alarms what is claimed? It is counted, on other simulated events than those that the
# correction was learnt from.

# %%
alarms = pseudo_experiments(
    scores,
    settings=AlarmSettings(toys=TOYS, calibration_toys=10_000, signals=("G_ee",)),
    seed=SEED,
)
used = [name for name, entry in alarms["cuts"].items() if not entry.get("unsupported")]
draw_calibration(alarms["calibration"], cuts=len(used), sample=sample)

# %%
draw_false_alarms(alarms["false_positives"], sample=sample)

# %%
levels = pd.DataFrame(alarms["false_positives"]["levels"])[["claimed", "rate", "low", "high", "inside"]]
print(levels.to_string(index=False))
assert levels.inside.all(), "claimed rates are measured rates"

# %% [markdown]
# The dashed line is what happens if the smallest local p is taken at face value: more alarms than claimed.
#
# ## Opening the box
#
# Everything is fixed: model, cuts, uncertainties, the test. Now the data above the cut may be seen.

# %%
stacked(histogram, books, sample=sample, signals=("G_ee", "SUSYC1N2"))

# %%
data_name = next(name for name, book in books.items() if book["kind"] == "data")
observed = read_scored(scores, manifest, data_name, ["score"])
backgrounds = [name for name, book in books.items() if book["kind"] == "background"]
simulated = ScoredEvents.join([read_scored(scores, manifest, name, ["score"]) for name in backgrounds])

rows = []
for eps_b in used:
    entry = expected["cuts"][eps_b]
    count = int(np.sum(observed.columns["score"] > entry["score"]))
    p = float(local_p(count, entry["b"], entry["b_error"] ** 2, systematic=0.1))
    rows.append(
        {
            "ε_B": eps_b,
            "expected": entry["b"],
            "error": entry["b_uncertainty"],
            "observed": count,
            "local p": p,
        }
    )
opened = pd.DataFrame(rows).set_index("ε_B")
smallest = opened["local p"].min()
print(f"smallest local p {smallest:.2f} ({float(significance_of(smallest)):.1f} σ)")
assert smallest > 1e-3, "the pseudo-data are drawn from the Standard Model"
opened.round(3)

# %% [markdown]
# Nothing. These pseudo-data were drawn from background simulation, so that is as it should be: a search that finds
# something here would be broken. Had one of these p been small, its global p, from the figure above, would have been
# the number to quote.
#
# ## Exercises
#
# 1. *Choose a cut with the signal in view.* Take for each signal the cut of largest `z` of its scan (`entry["best"]`).
#    How much larger is it than `z` at the tightest supported cut? Why may the larger number not be quoted?
# 2. *Few events.* The cut at ε_B = 10⁻⁴ is not supported. Work out its n_eff by hand from `simulated` (scores and
#    weights of the held-out background), and how many times more events would have to be simulated for ten.
# 3. *A signal that is there.* Add to `count` what a graviton would give (`graviton["cuts"][eps_b]["s"]`, rounded).
#    Which p is smallest, and what is its global p? (Hint: interpolate `alarms["calibration"]["local_p"]` and
#    `["global_p"]`.)
# 4. *Asimov and the exact answer.* Repeat the points in the figure of formulas with a background known to 20 % (draw
#    the believed background from a Gamma distribution and pass its variance to `local_p`). Do they follow the blue
#    line?
# 5. *A worse model.* Set `MEMBERS = 1` and `EPOCHS = 2` at the top and run everything again. Which numbers get worse,
#    which do not, and which check would have told you?
