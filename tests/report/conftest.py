"""An output folder as the stages before leave it, with invented but realistic contents."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pytest
import uhi.io.json
from coffea.processor import accumulate

from processors.cells import add_absent, fill_cells, save_cells
from processors.comparison import compared
from processors.histograms import load_histograms
from processors.rmm import layout_of
from processors.settings import ComparisonSettings, RMMSettings
from processors.shards import write_shard
from report.page import write_page
from report.settings import ReportSettings
from report.style import Sample

LUMI = 10_064.0

# group: (label, colour, events per inverse femtobarn, decay constants of met, mll, ht [GeV])
BACKGROUNDS: dict[str, tuple[str, str, float, tuple[float, float, float], float]] = {
    "Zjets": (r"$Z$+jets", "#3f90da", 80_000.0, (14.0, 9.0, 45.0), -0.75),
    "ttbar": (r"$t\bar{t}$", "#ffa90e", 4_000.0, (55.0, 70.0, 130.0), -0.25),
    "diboson": ("Diboson", "#832db6", 900.0, (40.0, 45.0, 70.0), -0.35),
    "Wjets": (r"$W$+jets", "#92dadd", 600.0, (30.0, 50.0, 60.0), -0.4),
    "singletop": ("Single top", "#b9ac70", 350.0, (50.0, 65.0, 90.0), -0.3),
    "ttV": (r"$t\bar{t}V$", "#a96b59", 9.0, (70.0, 80.0, 200.0), 0.0),
    "Higgs": ("Higgs", "#bd1f01", 0.0, (40.0, 40.0, 60.0), -0.3),
}
SIGNALS: dict[str, tuple[str, str, str, dict[str, float], float, float]] = {
    "C1N2_450_300": ("SUSYC1N2", r"$\tilde{\chi}^{\pm}_{1}\tilde{\chi}^{0}_{2}$", "#d55e00",
                     {"m_chargino_GeV": 450.0, "m_neutralino_GeV": 300.0}, 40.0, 0.1),
    "C1N2_800_50": ("SUSYC1N2", r"$\tilde{\chi}^{\pm}_{1}\tilde{\chi}^{0}_{2}$", "#d55e00",
                    {"m_chargino_GeV": 800.0, "m_neutralino_GeV": 50.0}, 3.0, 0.9),
    "ZPrime2000_ee": ("Zprime_ee", r"$Z'\to ee$", "#000000", {"m_Zprime_GeV": 2000.0}, 5.0, 1.4),
    "RS_G_ZZ_m1000": ("RS_G_ZZ", r"$G\to ZZ$", "#1b4f72", {"m_G_GeV": 1000.0}, 0.2, 1.0),
    "dmV_Zll_MM300": ("dmV_Zll", r"DM+$Z\to\ell\ell$", "#117733", {"m_med_GeV": 300.0}, 12.0, 0.4),
}  # fmt: skip
CUTS = ("all", "two good leptons", "no third lepton")


def metadata(
    region: str, sample: str = "demo-simulation", *, signals: bool = True
) -> dict[str, dict[str, Any]]:
    """Metadata of every dataset of the region, by the contract of ``fileset.json``."""
    skim = {"2L": "2lep", "3L": "3lep"}[region]
    doi = "10.7483/OPENDATA.ATLAS.GQ1W.I9VI" if sample == "atlas-open-data" else ""
    shared = {
        "skim": skim, "release": "2020", "tree": "mini", "regions": [region], "lumi_pb": LUMI, "entries": 10_000,
        "sample": sample, "doi": doi, "sumw": 1e6, "norm": 0.01, "norm_source": "catalogue", "xsec_pb": 1.0,
    }  # fmt: skip
    found: dict[str, dict[str, Any]] = {}
    for period in ("A", "B"):
        found[f"data_{period}.{skim}"] = {
            "kind": "data", "process": f"data_{period}", "group": "data", "label": "Data", "color": "#000000",
            "dsid": 0, "model": {}, **shared,
        }  # fmt: skip
    dsid = 361100
    for group, (label, color, *_) in BACKGROUNDS.items():
        for part in ("ee", "mumu"):
            dsid += 1
            found[f"{dsid}.{group}{part}.{skim}"] = {
                "kind": "background", "process": f"{group}{part}", "group": group, "label": label, "color": color,
                "dsid": dsid, "model": {}, **shared,
            }  # fmt: skip
    for process, (family, label, color, model, *_) in SIGNALS.items() if signals else ():
        dsid += 1
        found[f"{dsid}.{process}.{skim}"] = {
            "kind": "signal", "process": process, "group": family, "label": label, "color": color,
            "dsid": dsid, "model": model, **shared,
        }  # fmt: skip
    return {name: {"dataset": name, **content} for name, content in found.items()}


def _events(name: str, content: dict[str, Any], region: str) -> tuple[np.ndarray, ...]:
    """Draw the events of one dataset: weights, flavours, splits, met, mll, ht, number of jets and score."""
    rng = np.random.default_rng(sum(map(ord, name + region)))
    rare = 1.0 if region == "2L" else 0.004
    lumi = content["lumi_pb"] / 1000.0
    if content["kind"] == "signal":
        *_, rate, centre = SIGNALS[content["process"]]
        expected, size = rate * lumi, 3_000
        resonant = np.zeros(size, dtype=bool)
        decay, score = (150.0, 120.0, 300.0), rng.normal(centre, 0.45, size)
    else:
        groups = [content["group"]] if content["kind"] == "background" else list(BACKGROUNDS)
        rates = np.array([BACKGROUNDS[group][2] for group in groups]) * (
            rare if "Zjets" in groups else 1.0 if region == "2L" else 0.02
        )
        expected = 0.5 * lumi * rates.sum()
        size = int(expected) if content["kind"] == "data" else min(40_000, int(expected * 3) + 20)
        if expected == 0:
            size = 0
        which = rng.choice(len(groups), size=size, p=rates / rates.sum() if rates.sum() else None)
        table = np.array([BACKGROUNDS[group][3] for group in groups])[which] if size else np.zeros((0, 3))
        resonant = np.isin(np.array(groups)[which], ["Zjets", "diboson"])
        decay = tuple(table.T)
        score = rng.normal(np.array([BACKGROUNDS[group][4] for group in groups])[which], 0.28)
        score = score + rng.exponential(0.12, size)
    weight = np.full(size, 1.0 if content["kind"] == "data" else expected / max(size, 1))
    if content["group"] == "ttV":
        weight = weight * rng.choice([1.5, -0.5], size, p=[0.75, 0.25])
    flavour = rng.choice([6, 7, 8], size) if region == "2L" else rng.choice([0, 1, 2, 3], size)
    split = rng.choice(["train", "validation", "test"], size, p=[0.64, 0.16, 0.2])
    met, mll, ht = (rng.exponential(scale, size) for scale in decay)
    peak = rng.normal(91.2, 3.0, size) + rng.exponential(4.0, size) * rng.choice([-1, 1], size)
    mll = np.where(resonant, peak, mll)
    return weight, flavour, split, met, mll, ht, rng.poisson(ht / 60.0), score


AXES = {
    "met_et": (hist.axis.Regular(40, 0, 400, name="met_et", label=r"$E_{T}^{miss}$ [GeV]"), 3),
    "mll": (hist.axis.Regular(40, 0, 200, name="mll", label=r"$m_{\ell\ell}$ [GeV]"), 4),
    "ht": (
        hist.axis.Variable([0, 20, 50, 100, 200, 400, 800], name="ht", label=r"$H_{T}$ [GeV]"),
        5,
    ),
    "njet20": (hist.axis.Regular(10, -0.5, 9.5, name="njet20", label=r"Jets with $p_{T}$ > 20 GeV"), 6),
}
SCORE_LABEL = r"$\log_{10}$ reconstruction error"


def fill_histograms(datasets: dict[str, dict[str, Any]], region: str) -> dict[str, hist.Hist]:
    """Fill the histograms of one region by the contract of ``histograms.json``."""
    names = hist.axis.StrCategory(sorted(datasets), growth=True, name="dataset")
    flavours = hist.axis.IntCategory(list(range(9)), name="flcomp")
    splits = hist.axis.StrCategory(["train", "validation", "test"], name="split")
    score_axis = hist.axis.Regular(160, -6.0, 10.0, name="score", label=SCORE_LABEL)
    found = {
        f"{region}/{name}": hist.Hist(names, flavours, axis, storage=hist.storage.Weight())
        for name, (axis, _) in AXES.items()
    }
    score = hist.Hist(names, splits, flavours, score_axis, storage=hist.storage.Weight())
    for name, content in datasets.items():
        events = _events(name, content, region)
        weight, flavour, split = events[:3]
        if not len(weight):
            continue
        for variable, (_, column) in AXES.items():
            found[f"{region}/{variable}"].fill(name, flavour, events[column], weight=weight)
        score.fill(name, list(split), flavour, events[7], weight=weight)
    found[f"{region}/score/table-small"] = score
    return found


def _selection(
    datasets: dict[str, dict[str, Any]], histograms: dict[str, hist.Hist], region: str
) -> dict[str, Any]:
    """The part of ``select.json`` of one region."""
    counted = {}
    for name, content in datasets.items():
        total = histograms[f"{region}/met_et"][{"dataset": name}].sum(flow=True)
        sumw = float(np.real(total.value))
        sumw2 = float(np.real(total.variance))
        selected = round(sumw**2 / sumw2) if sumw2 else 0
        flow = {
            cut: [int(selected * factor), sumw * factor, sumw2 * factor]
            for cut, factor in zip(CUTS, (3.0, 1.4, 1.0), strict=True)
        }
        counted[name] = {
            **content, "events_expected": 10_000, "events_read": 10_000, "selected": selected, "sumw": sumw,
            "sumw2": sumw2, "cutflow": flow,
        }  # fmt: skip
    return {"cuts": list(CUTS), "datasets": counted}


def _scores(number: int) -> dict[str, Any]:
    """Measures of the score and of the single variables for one signal, by the contract of ``evaluate.json``."""
    eps_b = np.concatenate([[0.0], np.logspace(-4, 0, 60)])
    scores = {}
    for place, name in enumerate(("score", "met_et", "mll", "mt2", "ht", "st", "meff", "lep1_pt")):
        auc = 0.97 - 0.06 * ((place * 3 + number * 2) % 8)
        power = (1 - auc) / auc
        points: dict[str, Any] = {
            f"1e-{digit}": {
                "value": float(10 ** (-digit * power)),
                "error": float(0.03 * 10 ** (-digit * power)),
                "n_eff_background": 1_900 * 10.0**-digit,
            }
            for digit in (1, 2)
        }
        for digit in (3, 4):
            n_eff = 1_900 * 10.0**-digit
            points[f"1e-{digit}"] = {
                "value": None, "error": None, "n_eff_background": n_eff, "unsupported": True,
            }  # fmt: skip
        scores[name] = {
            "auc": auc,
            "auc_error": 0.002 + 0.001 * place,
            "eps_s": points,
            "roc": {"eps_b": eps_b.tolist(), "eps_s": (eps_b**power).tolist()},
        }
    return scores


def _evaluation(datasets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The part of ``evaluate.json`` of one region."""
    sums = {"n": 3_000, "sumw": 40.0, "n_eff": 2_900.0}
    signals: dict[str, Any] = {}
    families: dict[str, Any] = {}
    processes: dict[str, Any] = {}
    for number, (name, facts) in enumerate(datasets.items()):
        family = {"family": facts["group"], "label": facts["label"], "datasets": [name]}
        entry = {**sums, "scores": _scores(number)}
        if facts["kind"] == "signal":
            signals[name] = {
                "family": facts["group"], "label": facts["label"], "process": facts["process"],
                "model": facts["model"], **entry,
            }  # fmt: skip
            families.setdefault(facts["group"], family | entry)
        elif facts["kind"] == "background":
            processes.setdefault(facts["group"], family | entry)
    return {
        "model": {"name": "table-small", "features": ["met_et", "mll"], "card": {}},
        "background": {"n": 16_000, "sumw": 172_000.0, "n_eff": 1_900.0},
        "signals": signals,
        "families": families,
        "processes": processes,
    }


def _write_model(folder: Path, region: str, *, collapsed: bool) -> None:
    """A model bundle's card and history."""
    folder.mkdir(parents=True, exist_ok=True)
    epochs = np.arange(1, 21)
    loss = 0.31 + 0.6 * np.exp(-epochs / 3.0) if not collapsed else np.full(20, 1.0)
    history = {
        "loss": loss.tolist(),
        "val_loss": (loss * 1.03).tolist(),
        "mean_predictor_loss": 1.0,
        "val_mean_predictor_loss": 1.02,
    }
    card = {
        "format": 1,
        "name": folder.name,
        "region": region,
        "features": [f"feature_{number}" for number in range(33)],
        "preset": "report-minmax",
        "settings": {
            "encoder": [22, 15, 10, 2],
            "encoder_activations": ["tanh", "linear", "linear", "leakyrelu"],
            "decoder": [10, 16, 27],
            "decoder_activations": ["relu", "leakyrelu", "tanh", "linear"],
        },
        "trained_on": {"datasets": ["361101.Zjetsee.2lep"], "n_train": 64_000, "sumw_train": 1.0e6},
        "seeds": {"split": 1, "training": 2},
        "versions": {"keras": "3.15"},
        "metrics": {"val_loss": float(loss[-1])},
        "collapsed": collapsed,
        "thresholds": {"1e-2": {"score": 0.4, "error": 0.02}},
        "checksums": {"model.keras": "xxh128:00"},
    }  # fmt: skip
    (folder / "history.json").write_text(json.dumps(history))
    (folder / "card.json").write_text(json.dumps(card))


def write_output(
    folder: Path,
    *,
    regions: tuple[str, ...] = ("2L", "3L"),
    sample: str = "demo-simulation",
    signals: bool = True,
    complete: bool = True,
    collapsed: bool = False,
) -> Path:
    """Write the output folder of a whole run, without the page."""
    folder.mkdir(parents=True, exist_ok=True)
    histograms: dict[str, hist.Hist] = {}
    selection: dict[str, Any] = {}
    fileset: dict[str, Any] = {}
    for region in regions:
        datasets = metadata(region, sample, signals=signals)
        fileset |= {
            name: {"files": {f"{name}.root": "mini"}, "metadata": content}
            for name, content in datasets.items()
        }
        histograms |= fill_histograms(datasets, region)
        selection[region] = _selection(datasets, histograms, region)
        _write_model(folder / "models" / region / "table-small", region, collapsed=collapsed)
    missing = [] if complete else [
        {"file": "mc_361102.Zjetsmumu.2lep.root", "start": 5_000, "stop": 10_000,
         "dataset": "361102.Zjetsmumu.2lep", "cause": "OSError: truncated"}
    ]  # fmt: skip
    evaluated = {region: _evaluation(selection[region]["datasets"]) for region in regions}
    documents = {
        "run.json": {
            "format": 1, "config": {"seed": 1, "output": "out"}, "versions": {"coffea": "2026.9.0", "keras": "3.15.0"},
            "command": ["run_analysis.py", "run"], "git": "3464951",
            "fileset_hash": "xxh128:1234", "seeds": {"split": 1},
            "timings": {"select": 21.3, "train": 61.0},
            "stages": {
                "select": {
                    "seconds": 21.3, "events": 90_000, "events_before": 10_000, "events_per_second": 20_000.0,
                    "bytes_read": 12_345_678, "chunks": 9, "chunks_before": 1,
                },
                "train": {"seconds": 61.0},
            },
        },
        "fileset.json": fileset,
        "select.json": {
            "format": 1, "complete": complete, "lumi_pb": dict.fromkeys(regions, LUMI), "regions": selection,
            "ledger": {"done": 40, "missing": missing},
        },
        "evaluate.json": {"format": 1, "regions": evaluated},
    }  # fmt: skip
    for name, content in documents.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "histograms.json").write_text(json.dumps(histograms, default=uhi.io.json.default))
    return folder


CELLS = layout_of(RMMSettings(light_jets=2, b_jets=0, electrons=2, muons=0)).cell_names
EVENT = ("data_A.2lep", 4_000_000_007)


def write_comparison(folder: Path, region: str) -> None:
    """What the stages select and compare leave of the matrix: one shard of data, histograms of cells, agreement."""
    selection = json.loads((folder / "select.json").read_text())["regions"][region]["datasets"]
    rng = np.random.default_rng(4)
    parts: list[dict[str, hist.Hist]] = [{}]
    totals = {}
    for name, book in selection.items():
        values = rng.exponential(40.0, (len(CELLS), 300)).astype(np.float32)
        values *= rng.random((len(CELLS), 1)) > 0.2  # some cells are never filled
        values *= rng.random(values.shape) > 0.4
        weight = np.full(300, book["sumw"] / 300)
        totals[name] = (book["sumw"], (weight**2).sum())
        parts.append(fill_cells(CELLS, [(values, weight)], dataset=name, convention="thesis"))
    cells = add_absent(accumulate(parts), totals, CELLS)
    save_cells(cells, folder / "comparison" / region / "cells.zip")
    histograms = load_histograms(folder / "histograms.json")
    result = compared(
        {variable: histograms[f"{region}/{variable}"] for variable in AXES},
        cells,
        {name: {**book, "rows": book["selected"]} for name, book in selection.items()},
        ComparisonSettings(max_chi2_ndf=2.0),
    )
    (folder / "agreement.json").write_text(json.dumps({"format": 1, "regions": {region: result}}))
    dataset, number = EVENT
    event = {
        name: np.array([0.0, value], np.float32)
        for name, value in zip(CELLS, rng.exponential(90.0, len(CELLS)), strict=True)
    }
    shard = {"eventNumber": np.array([1, number], np.uint64), "weight": np.ones(2), **event}
    write_shard(folder / "shards" / region / dataset / "a.parquet", shard)
    manifest = {
        "format": 1, "region": region, "features": {"table": list(AXES), "rmm": CELLS}, "datasets": selection,
        "shards": [{"path": f"{dataset}/a.parquet", "dataset": dataset, "rows": 2}],
    }  # fmt: skip
    (folder / "shards" / region / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="session")
def comparison_writer() -> Callable[[Path, str], None]:
    """Function that adds what the stage compare leaves to the output folder of a run."""
    return write_comparison


@pytest.fixture(scope="session")
def event() -> tuple[str, int]:
    """Dataset and number of an event of data that `comparison_writer` writes a shard with."""
    return EVENT


@pytest.fixture(scope="session")
def datasets() -> dict[str, dict[str, Any]]:
    """Metadata of the datasets of the two-lepton region."""
    return metadata("2L")


@pytest.fixture(scope="session")
def histograms(datasets: dict[str, dict[str, Any]]) -> dict[str, hist.Hist]:
    """Histograms of the two-lepton region."""
    return fill_histograms(datasets, "2L")


@pytest.fixture(scope="session")
def evaluation(datasets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Evaluation of the two-lepton region."""
    return _evaluation(datasets)


@pytest.fixture(scope="session")
def selection(datasets: dict[str, dict[str, Any]], histograms: dict[str, hist.Hist]) -> dict[str, Any]:
    """The part of ``select.json`` of the two-lepton region."""
    return _selection(datasets, histograms, "2L")


@pytest.fixture(scope="session")
def demo() -> Sample:
    """What the demo's figures say."""
    return Sample("demo-simulation", lumi_pb=LUMI, region="2L")


@pytest.fixture(scope="session")
def output_writer() -> Callable[..., Path]:
    """Function that writes the output folder of a run without the page."""
    return write_output


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a small run."""
    output = write_output(tmp_path_factory.mktemp("demo"), regions=("2L",))
    return write_page(output, settings=ReportSettings(variables=("met_et", "ht"), png_dpi=60))
