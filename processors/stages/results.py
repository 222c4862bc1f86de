"""What a stage leaves behind: its manifest and histograms, and those of all stages together."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hist

from processors.files import read_json, write_json
from processors.histograms import load_histograms, save_histograms, save_root
from processors.shards import read_manifest, remove_strays

__all__ = ["assemble", "write_results"]


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

    Args:
        output: directory of the whole analysis.
        regions: names.
    """
    histograms: dict[str, hist.Hist] = {}
    groups: dict[str, str] = {}
    for region in regions:
        manifest = read_manifest(output / "shards" / region / "manifest.json")
        groups |= {dataset: book["group"] for dataset, book in manifest["datasets"].items()}
        histograms |= load_histograms(output / "shards" / region / "histograms.json")
        for scores in sorted((output / "scores" / region).glob("*/manifest.json")):
            # Scores of shards that are no more stay on disk until they are made anew, and out of the results.
            if read_json(scores).get("scored_shards") == manifest["config_hash"]:
                histograms |= load_histograms(scores.parent / "histograms.json")
    save_histograms(histograms, output)
    save_root(histograms, output, groups)
    return histograms
