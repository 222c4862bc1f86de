"""Blinding: collision data that must not be seen leave before anything is drawn or tabulated."""

from collections.abc import Mapping, Sequence
from typing import Any

import hist

from report.settings import ReportSettings

__all__ = ["blinding_text", "without_data"]


def without_data(
    datasets: Mapping[str, Mapping[str, Any]], histograms: Mapping[str, hist.Hist]
) -> tuple[dict[str, Mapping[str, Any]], dict[str, hist.Hist]]:
    """Datasets and histograms without collision data: what is not there cannot be shown by mistake.

    Args:
        datasets: metadata and books of each dataset.
        histograms: with first axis `dataset`.
    """
    kept = {name: book for name, book in datasets.items() if book["kind"] != "data"}
    return kept, {name: _of_datasets(histogram, kept) for name, histogram in histograms.items()}


def _of_datasets(histogram: hist.Hist, datasets: Mapping[str, Any]) -> hist.Hist:
    names = list(histogram.axes[0])
    rows = [row for row, name in enumerate(names) if name in datasets]
    part = hist.Hist(
        hist.axis.StrCategory([names[row] for row in rows], growth=True, name="dataset"),
        *list(histogram.axes)[1:],
        storage=histogram.storage_type(),
    )
    part.view(flow=True)[...] = histogram.view(flow=True)[rows]
    return part


def blinding_text(settings: ReportSettings, regions: Sequence[str]) -> str:
    """One sentence that says what is blinded on a page of these regions, or that nothing is."""
    hidden = [name for name in regions if settings.blinds(name)]
    parts = []
    if hidden:
        besides = (
            ""
            if settings.blind_sideband is None
            else f" but those below the score under which {100 * settings.blind_sideband:g} % of the background lie, "
            "which are compared in the score"
        )
        parts.append(f"all collision data of region {' and '.join(hidden)}{besides}")
    if settings.score_limit is not None:
        parts.append(f"collision data above a score of {settings.score_limit:g}")
    if parts:
        return f"Blinded: {'; '.join(parts)}."
    if not settings.blind and (settings.blind_regions or settings.blind_score is not None):
        return "Unblinded by the configuration (report.blind is false): all collision data are shown."
    return "Nothing is blinded."
