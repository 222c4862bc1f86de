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
# # 5. The same at a facility
#
# The analysis that fits into a laptop with the demo sample has to run on hundreds of workers with the real one, and
# nothing but the time it takes may change. This notebook starts a small Dask cluster as a facility would, selects
# events on it in two ways, shows that they agree to the last digit, looks at what the workers did, and then asks the
# selected events new questions without loading them.
#
# The two ways are
#
# * **coffea's Runner** (`--backend coffea`): every chunk of a file is one task, which reads branches when the code
#   touches them;
# * **a graph of tasks** (`--backend dask-awkward`): coffea's `preprocess` and `apply_to_fileset` write down everything
#   that will happen before anything does, so Dask knows beforehand what is read, and merges results as a tree.
#
# Both call the same function for a chunk, so the physics is written once.

# %% tags=["parameters"]
GROUPS = (
    "Zjets",
    "Wjets",
    "ttbar",
    "diboson",
    "SUSYC1N2",
    "data",
)  # what is read of the demo sample; () is all
CHUNKSIZE = 2_500  # events in a task, about
WORKERS = 2  # processes

# %%
# %matplotlib inline
import logging
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import dask
import dask_awkward as dak
import hist
import hist.dask
import numpy as np
import pandas as pd
import uproot
from dask.utils import key_split
from distributed import get_task_stream
from matplotlib.patches import Patch

from fileset.audit import check
from fileset.coffea_forms import with_steps
from fileset.resolve import resolve
from fileset.settings import FilesetSettings
from processors.execution import work_items
from processors.histograms import load_histograms
from processors.schema import OpenDataSchema
from processors.selection import SelectionProcessor
from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
from processors.shards import read_manifest
from processors.stages.select import select_region
from processors.taskgraph import chunk_graph
from processors.workers import Workers
from report.stacks import stacked
from report.style import INK, MUTED, Sample, new_figure, stamp, styled

logging.getLogger("distributed").setLevel(logging.CRITICAL)
output = Path(tempfile.mkdtemp(prefix="facility-"))
print(f"everything is written to {output}")

# %% [markdown]
# ## A cluster
#
# Here it is two processes of this machine. At a facility only the settings are others:
#
# | where | settings | on the command line |
# |---|---|---|
# | this machine | `executor="dask"` | `--executor dask` |
# | coffea-casa | `site="coffea-casa"` | `--site coffea-casa` |
# | a dask-gateway | `site="gateway"` | `--site gateway` |
# | Slurm, HTCondor, lxplus | `site="slurm"`, ... | `--site slurm` |
# | a scheduler that runs | `scheduler="tcp://..."` | `--scheduler tcp://...` |
#
# Before the first task the cluster is looked at: are the packages there, in the same versions, can every worker write
# the output and read the input.

# %%
settings = ExecutionSettings(executor="dask", workers=WORKERS, performance_report=output / "performance.html")
cluster = ExitStack()  # what is started here is stopped by cluster.close() at the end
workers = cluster.enter_context(Workers(settings))
client = workers.client
print(client)

# %% [markdown]
# The dashboard shows the tasks while they run: workers, memory, the task stream, progress by kind of task. On this
# machine open the address below; in JupyterLab the extension *dask-labextension* shows its panes beside the notebook.

# %%
print(client.dashboard_link)

# %% [markdown]
# ## Which events
#
# `check` opens every file once; its result is a *fileset* in coffea's form, cut into steps of about `CHUNKSIZE` events.

# %%
region = "2L"
audit = check(resolve(FilesetSettings(fileset="demo", groups=GROUPS), (region,)), map=workers.map)
fileset = with_steps(audit.fileset, CHUNKSIZE, audit.clusters)
fileset = {name: content for name, content in fileset.items() if region in content["metadata"]["regions"]}
chunks = work_items(fileset)
entries = sum(len(chunk) for chunk in chunks)
print(f"{len(fileset)} datasets, {len(chunks)} chunks, {entries:,} events before the selection")

# %% [markdown]
# ## What a graph knows before it runs
#
# The graph is planned by sending *typetracers* through the analysis: arrays with a type but without content, which
# note what is asked of them. Every branch that is not asked for is never read.

# %%
processor = SelectionProcessor(
    name=region,
    region=REGIONS[region],
    weights=WeightSettings(),
    rmm=RMMSettings(),
    shards=output / "planned",
    config_hashes={},
)
planned, reports = chunk_graph(chunks, processor, schema=OpenDataSchema)
dataset = max(fileset, key=lambda name: planned[name].npartitions)
(branches,) = dak.report_necessary_columns(planned[dataset]).values()

path = next(iter(fileset[dataset]["files"]))
with uproot.open(path) as file:
    tree = file[fileset[dataset]["metadata"]["tree"]]
    sizes = pd.Series({name: branch.compressed_bytes for name, branch in tree.items()}).sort_values()
needed = sizes[sizes.index.isin(branches)]
print(f"{dataset}: {len(needed)} of {len(sizes)} branches, {needed.sum() / sizes.sum():.0%} of the bytes")

# %%
lumi_pb = next(iter(fileset.values()))["metadata"]["lumi_pb"]
sample = Sample(
    kind=next(iter(fileset.values()))["metadata"]["sample"], lumi_pb=lumi_pb, region=region, complete=True
)


@styled
def draw_branches(sizes: pd.Series, branches: frozenset[str]) -> object:
    figure = new_figure(7.0, 7.5)
    ax = figure.add_axes((0.34, 0.09, 0.63, 0.81))
    largest = sizes.tail(40)
    colors = ["#0072B2" if name in branches else "#D0D4D9" for name in largest.index]
    ax.barh(range(len(largest)), largest / 1e3, color=colors)
    ax.set_yticks(range(len(largest)), largest.index, fontsize=8)
    ax.set_ylim(-0.7, len(largest) - 0.3)
    ax.set_xlabel("compressed size in the file [kB]")
    ax.tick_params(axis="y", which="both", length=0)
    ax.text(0.96, 0.06, "read", color="#0072B2", transform=ax.transAxes, ha="right", fontweight="bold")
    ax.text(0.96, 0.02, "never touched", color=MUTED, transform=ax.transAxes, ha="right", fontweight="bold")
    stamp(ax, replace(sample, region=""), subtitle=f"{dataset}, the largest branches")
    return figure


draw_branches(sizes, branches)

# %% [markdown]
# ## Two backends, one result
#
# `select_region` is the stage `select` of the command line. It is run twice on the cluster; each time into a directory
# of its own. The first task of a worker imports the packages, so that is done beforehand to compare like with like.


# %%
def imported() -> None:
    import processors.stages.select  # noqa: F401, PLC0415 - on a worker


client.run(imported)
results, streams, seconds = {}, {}, {}
for backend in ("coffea", "dask-awkward"):
    there = ExecutionSettings(executor="dask", scheduler=client.scheduler.address, backend=backend)
    begin = time.perf_counter()
    with Workers(there) as connected, get_task_stream(client) as stream:
        results[backend] = select_region(
            fileset,
            name=region,
            region=REGIONS[region],
            weights=WeightSettings(),
            rmm=RMMSettings(),
            workers=connected,
            output=output / backend,
        )
    seconds[backend] = time.perf_counter() - begin
    streams[backend] = stream.data
pd.DataFrame({"time [s]": seconds, "tasks": {name: len(data) for name, data in streams.items()}}).round(1)

# %% [markdown]
# Yields agree exactly, dataset by dataset:

# %%
pd.DataFrame(
    {
        (backend, quantity): {name: book[quantity] for name, book in result["datasets"].items()}
        for backend, result in results.items()
        for quantity in ("selected", "sumw")
    }
)

# %%
manifests = {name: read_manifest(output / name / "shards" / region / "manifest.json") for name in results}
histograms = {
    name: load_histograms(output / name / "shards" / region / "histograms.json") for name in results
}
assert results["coffea"]["cuts"] == results["dask-awkward"]["cuts"]
assert manifests["coffea"] == manifests["dask-awkward"], "shards, their names, checksums and sums of weights"
worst = 0.0
for name, histogram in histograms["coffea"].items():
    one, other = histogram.view(flow=True), histograms["dask-awkward"][name].view(flow=True)
    for part in ("value", "variance"):
        np.testing.assert_allclose(one[part], other[part], rtol=1e-12, atol=1e-12, err_msg=name)
        worst = max(worst, float(np.max(np.abs(one[part] - other[part]))))
shards = manifests["dask-awkward"]["shards"]
print(
    f"{len(shards)} shards with the same bytes; {len(histograms['coffea'])} histograms, largest difference {worst:g}"
)

# %% [markdown]
# So it does not matter which of them a picture is drawn from. This one is of the graph:

# %%
stacked(
    histograms["dask-awkward"][f"{region}/mll"],
    results["dask-awkward"]["datasets"],
    sample=sample,
    signal_factor=10,
)

# %% [markdown]
# ## What the workers did
#
# Each bar is a task, each row a worker; gaps are time in which a worker had nothing to do. The Runner hands out chunks
# at once. The graph first opens the files (`preprocess`), then is planned by this process, which is the gap, and then
# every chunk is two tasks, one that reads and one that selects, so the two can be told apart.

# %%
KINDS = {
    "read": ("from-uproot", "#56B4E9"),
    "select": ("process-chunk", "#E69F00"),
    "read and select": ("SelectionProcessor", "#D55E00"),
    "open files, merge, add up": ("", "#9AA0A6"),
}


@styled
def draw_streams(streams: dict[str, list[dict]]) -> object:
    figure = new_figure(9.0, 5.0)
    axes = figure.subplots(len(streams), 1, sharex=True)
    figure.subplots_adjust(left=0.1, right=0.97, top=0.89, bottom=0.2, hspace=0.1)
    for ax, (backend, tasks) in zip(axes, streams.items(), strict=True):
        first = min(step["start"] for task in tasks for step in task["startstops"])
        rows = {worker: row for row, worker in enumerate(sorted({task["worker"] for task in tasks}))}
        for task in tasks:
            color = next(c for name, c in KINDS.values() if key_split(task["key"]).startswith(name))
            spans = [
                (step["start"] - first, step["stop"] - step["start"])
                for step in task["startstops"]
                if step["action"] == "compute"
            ]
            place = (rows[task["worker"]] - 0.4, 0.8)
            ax.broken_barh(spans, place, facecolor=color, edgecolor="white", linewidth=0.3)
        ax.set_yticks(list(rows.values()), [f"worker {row + 1}" for row in rows.values()])
        ax.set_ylim(-0.6, len(rows) - 0.1)
        ax.tick_params(axis="y", which="both", length=0)
        ax.text(
            0.99, 0.96, backend, transform=ax.transAxes, ha="right", va="top", color=INK, fontweight="bold"
        )
    axes[-1].set_xlabel("time since the first task [s]")
    handles = [Patch(color=color, label=kind) for kind, (_, color) in KINDS.items()]
    figure.legend(handles=handles, loc="lower left", bbox_to_anchor=(0.09, 0.0), ncols=len(handles))
    stamp(axes[0], replace(sample, region=""), subtitle=f"{len(chunks)} chunks, {WORKERS} workers")
    return figure


draw_streams(streams)

# %% [markdown]
# ## New questions, without loading the events
#
# The selected events lie in parquet shards, hundreds of columns wide. `dak.from_parquet` makes one lazy array of all of
# them; nothing is read before something is computed, and then only the columns that the question needs.

# %%
shelf = output / "dask-awkward" / "shards" / region
metadata = manifests["dask-awkward"]["datasets"]
of_kind = {
    kind: [str(shelf / shard["path"]) for shard in shards if metadata[shard["dataset"]]["kind"] == kind]
    for kind in ("background", "data")
}
events = {kind: dak.from_parquet(paths) for kind, paths in of_kind.items() if paths}
background = events["background"]
print(f"{background.npartitions} partitions, {len(background.fields)} columns")

# %% [markdown]
# The weighted mean of the missing transverse momentum with and without b-jets, in one pass over the shards:

# %%
with_b = background.nbjet77 > 0
lazy = {
    name: dak.sum(background.weight[cut] * background.met_et[cut]) / dak.sum(background.weight[cut])
    for name, cut in {"no b-jet": ~with_b, "b-jets": with_b}.items()
}
(columns,) = {frozenset(found) for found in dak.report_necessary_columns(*lazy.values()).values()}
(means,) = dask.compute(lazy)
print(f"reads {sorted(columns)}")
pd.Series(means, name="mean missing transverse momentum [GeV]").round(1)

# %% [markdown]
# Histograms can be lazy too: `hist.dask.Hist` is filled like any other, and computed at the end. Of the invariant mass
# it must give what the stage `select` has filled event by event.

# %%
stage = histograms["dask-awkward"][f"{region}/mll"]
axis = stage.axes[-1]
filled = {}
for kind, array in events.items():
    lazily = hist.dask.Hist(hist.axis.Regular(axis.size, axis.edges[0], axis.edges[-1], name="mll", label=axis.label),
                            storage=hist.storage.Weight())  # fmt: skip
    filled[kind] = lazily.fill(array.mll, weight=array.weight)
(filled,) = dask.compute(filled)

eager = {}
for kind in filled:
    members = [name for name in stage.axes["dataset"] if metadata[name]["kind"] == kind]
    chosen = stage[{"variation": "nominal"}].project("dataset", "mll")
    eager[kind] = sum(chosen[{"dataset": name}] for name in members)
    for part in ("value", "variance"):
        np.testing.assert_allclose(
            filled[kind].view(flow=True)[part], eager[kind].view(flow=True)[part], rtol=1e-9, atol=1e-9
        )


# %%
@styled
def draw_lazy(filled: dict[str, hist.Hist], eager: dict[str, hist.Hist]) -> object:
    figure = new_figure()
    ax = figure.add_axes((0.15, 0.12, 0.81, 0.78))
    edges = axis.edges
    ax.stairs(
        eager["background"].values(), edges, fill=True, color="#C9DDF0", label="simulation, filled by select"
    )
    ax.stairs(filled["background"].values(), edges, color="#0072B2", label="simulation, lazily from shards")
    if "data" in filled:
        counts = filled["data"].values()
        seen = counts > 0
        ax.errorbar(
            axis.centers[seen], counts[seen], np.sqrt(counts[seen]), fmt="o", ms=3.5, color="k",
            label="pseudo-data, lazily from shards",
        )  # fmt: skip
    ax.set_yscale("log")
    ax.set_xlim(edges[0], edges[-1])
    ax.set_xlabel(axis.label)
    ax.set_ylabel(f"Events / {edges[1] - edges[0]:g} GeV")
    ax.legend(loc="upper right")
    stamp(ax, sample)
    return figure


draw_lazy(filled, eager)

# %% [markdown]
# A histogram that the stage does not make takes three lines: the missing transverse momentum by flavour combination,
# of events with b-jets.

# %%
question = hist.dask.Hist(
    hist.axis.IntCategory([6, 7, 8], name="flcomp", label="flavours: 6 ee, 7 μμ, 8 eμ"),
    hist.axis.Regular(25, 0, 250, name="met", label=r"$E_T^{miss}$ [GeV]"),
    storage=hist.storage.Weight(),
)
chosen = background[with_b]
question = question.fill(chosen.flcomp, chosen.met_et, weight=chosen.weight).compute()
question.project("flcomp")

# %% [markdown]
# ## Reading on
#
# Dask keeps the books of everything above in one page, the performance report: task stream, time by kind of task,
# memory, transfers. It is written when the cluster is let go (on the command line: `--performance-report FILE`), and
# opens in any browser.

# %%
cluster.close()
print(output / "performance.html")

# %% [markdown]
# At a facility the whole chain is one command:
#
# ```
# run_analysis.py run --fileset demo --site coffea-casa --backend dask-awkward --performance-report performance.html
# ```
#
# If workers die or files cannot be read, the books say so: what is missing is listed by file, range and cause, and the
# same command does only that.
