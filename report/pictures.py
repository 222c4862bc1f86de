"""Figures on disk: each as SVG, PDF and PNG, with the numbers that it shows beside it."""

import base64
import gc
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from report.canvases import draw_once
from report.vectors import as_data_uri, compact

__all__ = ["Drawing", "Picture", "drawing_processes", "render", "save"]

_PREVIEW_DPI = 90

# Width above which a figure gets two columns of the page [inch]; one that fits into one is 6 to 7.5.
_WIDE = 8.0


@dataclass(frozen=True)
class Drawing:
    """A figure that is still to be drawn.

    Attributes:
        name: stem of its files.
        title: caption on the page, HTML.
        alt: what it shows, for those who cannot see it.
        draw: makes the figure; it must survive the way to another process.
        data: the numbers that it shows, in plain types.
        preview: one of hundreds: only a small PNG is drawn, in a third of the time and space.
    """

    name: str
    title: str
    alt: str
    draw: Callable[[], Figure]
    data: Mapping[str, Any]
    preview: bool = False


@dataclass(frozen=True)
class Picture:
    """A drawn figure as the page needs it.

    Attributes:
        name: stem of its files.
        title: caption on the page, HTML.
        alt: what it shows, for those who cannot see it.
        image: data URI of the vector form, or of the PNG of a preview; it has no double quote and no ampersand.
        links: format and path relative to the page ("PDF", "figures/2L_score.pdf").
        wide: it holds panels beside each other, too small to be read in a narrow column.
    """

    name: str
    title: str
    alt: str
    image: str
    links: tuple[tuple[str, str], ...]
    wide: bool = False


def save(drawing: Drawing, *, folder: Path, dpi: int = 160) -> Picture:
    """Draw a figure, write it as SVG, PDF and PNG (a preview only as PNG), and its numbers as JSON.

    Args:
        drawing: what is drawn.
        folder: the existing folder ``figures`` beside the page.
        dpi: resolution of the PNG.
    """
    figure = drawing.draw()
    path = folder / f"{drawing.name}.json"
    path.write_text(json.dumps(drawing.data) + "\n", encoding="utf-8")
    png = folder / f"{drawing.name}.png"
    formats: tuple[str, ...] = ("PNG", "JSON") if drawing.preview else ("PDF", "PNG", "SVG", "JSON")
    if drawing.preview:
        figure.savefig(
            png, dpi=min(dpi, _PREVIEW_DPI), metadata={"Software": None}, pil_kwargs={"compress_level": 9}
        )
        image = f"data:image/png;base64,{base64.b64encode(png.read_bytes()).decode('ascii')}"
    else:
        files = draw_once(figure, dpi=dpi)
        svg = compact(files.svg)
        png.write_bytes(files.png)
        (folder / f"{drawing.name}.pdf").write_bytes(files.pdf)
        (folder / f"{drawing.name}.svg").write_text(svg, encoding="utf-8")
        image = as_data_uri(svg)
    return Picture(
        name=drawing.name,
        title=drawing.title,
        alt=drawing.alt,
        image=image,
        links=tuple((form, f"{folder.name}/{drawing.name}.{form.lower()}") for form in formats),
        wide=bool(figure.get_figwidth() > _WIDE),
    )


@contextmanager
def drawing_processes(processes: int) -> Iterator[Executor | None]:
    """Processes that draw; they start, and import what they need, while this one still reads and tabulates.

    Args:
        processes: how many draw at once; more than one needs a main module that is safe to import.
    """
    if processes <= 1:
        yield None
        return
    # Not forked: a process that has started TensorFlow's threads must not be.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=processes, mp_context=context) as pool:
        for _ in range(processes):
            pool.submit(_prepare)
        yield pool


def _prepare() -> None:
    """Import what draws, and keep it out of the collection of garbage, of which figures leave much."""
    for module in ("report.gallery", "report.explanation", "report.sculpting", "report.significance"):
        import_module(module)
    gc.freeze()


def render(
    drawings: Sequence[Drawing],
    *,
    folder: Path,
    dpi: int = 160,
    pool: Executor | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Picture]:
    """Draw and save all figures.

    Args:
        drawings: of different names.
        folder: where the files go; it is made.
        dpi: resolution of the PNG files.
        pool: of `drawing_processes`; without one this process draws.
        progress: called after each figure with how many are drawn, their number, and its name.

    Returns:
        The pictures by name.
    """

    def counted(pictures: Iterable[Picture]) -> dict[str, Picture]:
        found: dict[str, Picture] = {}
        for picture in pictures:
            found[picture.name] = picture
            if progress is not None:
                progress(len(found), len(drawings), picture.name)
        return found

    folder.mkdir(parents=True, exist_ok=True)
    job = partial(save, folder=folder, dpi=dpi)
    return counted(map(job, drawings) if pool is None else pool.map(job, drawings, chunksize=2))
