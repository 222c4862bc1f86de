"""What a stage leaves behind: its manifest and histograms, and those of all stages together."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hist

from fileset.exceptions import InputError
from processors.files import read_json, write_json
from processors.histograms import held_out, load_histograms, save_histograms, save_root
from processors.shards import read_manifest, remove_strays

__all__ = ["assemble", "current_scores", "other_scores", "write_results"]

# What of a dataset's book must agree where events were scored without the shards; sums to rounding.
_SAME = ("kind", "group", "rows", "scale")
_SAME_SUMS = ("sumw", "sumw2")
# What two manifests of scores agree in that are of the same events, held out alike.
_SAME_EVENTS = ("scored_shards", "seed", "fractions")


def write_results(directory: Path, manifest: dict[str, Any], histograms: Mapping[str, hist.Hist]) -> None:
    """Writes manifest and histograms, unless the same are there already, and removes what no longer counts."""
    known = directory / "manifest.json"
    if not (known.is_file() and read_json(known) == manifest and (directory / "histograms.json").is_file()):
        for histogram in histograms.values():
            histogram.complete = manifest["complete"]
        save_histograms(histograms, directory)
        write_json(known, manifest)
    (directory / "ledger.json").unlink(missing_ok=True)
    listed = {directory / shard["path"] for shard in manifest["shards"]}
    remove_strays(directory, listed)


def assemble(output: Path, regions: Sequence[str]) -> dict[str, hist.Hist]:
    """Puts the histograms of all regions and scores together in histograms.json and histograms.root.

    The ROOT file has no axis of splits: scores stand there as they are compared with data, see `held_out`.

    Args:
        output: directory of the whole analysis.
        regions: names.
    """
    histograms: dict[str, hist.Hist] = {}
    compared: dict[str, hist.Hist] = {}
    groups: dict[str, str] = {}
    for region in regions:
        manifest = read_manifest(output / "shards" / region / "manifest.json")
        groups |= {dataset: book["group"] for dataset, book in manifest["datasets"].items()}
        histograms |= load_histograms(output / "shards" / region / "histograms.json")
        kinds = {dataset: str(book["kind"]) for dataset, book in manifest["datasets"].items()}
        for path in sorted((output / "scores" / region).glob("*/manifest.json")):
            scores = read_json(path)
            # Scores of shards that are no more stay on disk until they are made anew, and out of the results.
            if _of_these_events(scores, manifest):
                found = load_histograms(path.parent / "histograms.json")
                histograms |= found
                compared |= {
                    name: held_out(histogram, kinds, searched=scores.get("searched", 1.0))
                    for name, histogram in found.items()
                    if {"split", "variation"} <= set(histogram.axes.name)
                }
    save_histograms(histograms, output)
    save_root(histograms | compared, output, groups)
    return histograms


def current_scores(output: Path, region: str, card: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a model's scores, after a look whether they are of this model and of the shards there are.

    Args:
        output: directory of the whole analysis.
        region: its name.
        card: of the model.

    Raises:
        InputError: there are no scores, or they are of a model of the same name or of shards that are no more.
        FailureError: a shard of the scores is missing or has another size.
    """
    path = output / "scores" / region / str(card["name"]) / "manifest.json"
    scores = read_manifest(path, stage="score")
    if scores.get("model_checksum") != card.get("checksum"):
        message = (
            f"the scores in {path.parent} are of another model than {card['name']} is now: run score again"
        )
        raise InputError(message)
    shards = output / "shards" / region / "manifest.json"
    scored = scores.get("scored_shards")
    if scored is not None and shards.is_file() and read_json(shards)["config_hash"] != scored:
        message = f"the scores in {path.parent} are of shards that are no more: run score again"
        raise InputError(message)
    return scores


def other_scores(output: Path, region: str, model: str) -> list[Path]:
    """Manifests of the scores that other models, baselines among them, gave to the events that a model has scored.

    Args:
        output: directory of the whole analysis.
        region: its name.
        model: name of the one.
    """
    scored = output / "scores" / region
    own = read_json(scored / model / "manifest.json")
    return [
        path
        for path in sorted(scored.glob("*/manifest.json"))
        if path.parent.name != model and all(read_json(path).get(key) == own.get(key) for key in _SAME_EVENTS)
    ]


def _of_these_events(scores: Mapping[str, Any], shards: Mapping[str, Any]) -> bool:
    """Whether scores are of the events of these shards: of the shards themselves, or of files that select the same."""
    if "scored_shards" not in scores or scores["scored_shards"] is not None:
        return bool(scores.get("scored_shards") == shards["config_hash"])
    books, others = scores["datasets"], shards["datasets"]
    return books.keys() == others.keys() and all(
        all(book.get(key) == others[name].get(key) for key in _SAME)
        and all(math.isclose(book[key], others[name][key], rel_tol=1e-9, abs_tol=1e-12) for key in _SAME_SUMS)
        for name, book in books.items()
    )
