"""A figure drawn once onto three canvases: SVG, PDF and PNG.

Matplotlib lays a figure out anew for every format, which is most of the time that a figure costs: it measures and
places the same texts and ticks three times. Here the figure is drawn once, in points, for a renderer that passes each
stroke on to matplotlib's own renderers of the three formats.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO, StringIO
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.backends.backend_mixed import MixedModeRenderer
from matplotlib.backends.backend_pdf import PdfFile, RendererPdf
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.mathtext import MathTextParser
from matplotlib.transforms import Affine2D, TransformedBbox, TransformedPath

from report.style import LOOK

__all__ = ["Files", "draw_once"]

# Matplotlib gives types neither to these nor to what they hold.
_Parser: Any = MathTextParser
_SVG: Any = RendererSVG
_PDF: Any = RendererPdf
_PNG: Any = RendererAgg
_Book: Any = PdfFile
_Mixed: Any = MixedModeRenderer

_POINTS = 72  # per inch: the resolution in which SVG and PDF are laid out


class Files(NamedTuple):
    """A figure in three formats."""

    svg: str
    pdf: bytes
    png: bytes


class _Mathtext(_Parser):
    """Remembers every formula that it has laid out, for all figures of a process: they share most of theirs.

    Matplotlib remembers fifty, for one file of one figure.
    """

    def __init__(self) -> None:
        super().__init__("path")
        self._known: dict[Any, Any] = {}

    def parse(self, s: str, dpi: float = 72, prop: Any = None, *, antialiased: bool | None = None) -> Any:
        key = (s, dpi, None if prop is None else prop.copy())
        if key not in self._known:
            self._known[key] = super().parse(s, dpi, prop, antialiased=antialiased)
        return self._known[key]


_MATHTEXT = _Mathtext()


class _ThreeCanvases(RendererBase):
    """Passes every stroke on to SVG and PDF, and to PNG with its lengths multiplied by dots per point.

    Coordinates are those of the SVG: points, texts from the top. Its metrics of texts are those that the layout takes.
    """

    def __init__(self, svg: Any, pdf: Any, png: Any) -> None:
        super().__init__()
        self.svg, self.pdf, self.png = svg, pdf, png
        self.zoom: float = png.dpi / _POINTS
        self.to_dots = Affine2D().scale(self.zoom)
        png.mathtext_parser = _MATHTEXT
        for renderer in (svg, pdf, self):
            renderer._text2path.mathtext_parser = _MATHTEXT

    def _in_dots(self, gc: Any) -> GraphicsContextBase:
        """The same pen for PNG; widths and dashes are in points in all formats."""
        pen = GraphicsContextBase()
        pen.copy_properties(gc)
        rectangle = gc.get_clip_rectangle()
        if rectangle is not None:
            inside: Any = TransformedBbox(rectangle, self.to_dots)
            pen.set_clip_rectangle(inside)
        path, transform = gc.get_clip_path()
        if path is not None:
            pen.set_clip_path(TransformedPath(path, transform + self.to_dots))
        return pen

    def new_gc(self) -> Any:
        return self.pdf.new_gc()  # knows all that those of the others do

    def open_group(self, s: str, gid: str | None = None) -> None:
        self.svg.open_group(s, gid)

    def close_group(self, s: str) -> None:
        self.svg.close_group(s)

    def flipy(self) -> bool:
        return True

    def get_canvas_width_height(self) -> Any:
        return self.svg.get_canvas_width_height()

    def get_text_width_height_descent(self, s: str, prop: Any, ismath: Any) -> Any:
        return self.svg.get_text_width_height_descent(s, prop, ismath)

    def get_image_magnification(self) -> float:
        return self.zoom

    def option_image_nocomposite(self) -> bool:
        return True

    def draw_path(self, gc: Any, path: Any, transform: Any, rgbFace: Any = None) -> None:  # noqa: N803
        self.svg.draw_path(gc, path, transform, rgbFace)
        self.pdf.draw_path(gc, path, transform, rgbFace)
        self.png.draw_path(self._in_dots(gc), path, transform + self.to_dots, rgbFace)

    def draw_markers(
        self, gc: Any, marker_path: Any, marker_trans: Any, path: Any, trans: Any, rgbFace: Any = None  # noqa: N803
    ) -> None:  # fmt: skip
        for renderer in (self.svg, self.pdf):
            renderer.draw_markers(gc, marker_path, marker_trans, path, trans, rgbFace)
        self.png.draw_markers(
            self._in_dots(gc), marker_path, marker_trans + self.to_dots, path, trans + self.to_dots, rgbFace
        )

    def draw_path_collection(
        self, gc: Any, master_transform: Any, paths: Any, all_transforms: Any, offsets: Any, offset_trans: Any,
        *look: Any, **more: Any,
    ) -> None:  # fmt: skip
        for renderer in (self.svg, self.pdf):
            renderer.draw_path_collection(
                gc, master_transform, paths, all_transforms, offsets, offset_trans, *look, **more
            )
        self.png.draw_path_collection(
            self._in_dots(gc), master_transform + self.to_dots, paths, all_transforms, offsets,
            offset_trans + self.to_dots, *look, **more,
        )  # fmt: skip

    def draw_quad_mesh(
        self, gc: Any, master_transform: Any, mesh_width: int, mesh_height: int, coordinates: Any, offsets: Any,
        offset_trans: Any, *look: Any,
    ) -> None:  # fmt: skip
        size = (mesh_width, mesh_height, coordinates, offsets)
        for renderer in (self.svg, self.pdf):
            renderer.draw_quad_mesh(gc, master_transform, *size, offset_trans, *look)
        self.png.draw_quad_mesh(
            self._in_dots(gc), master_transform + self.to_dots, *size, offset_trans + self.to_dots, *look
        )

    def draw_image(self, gc: Any, x: float, y: float, im: Any, transform: Any = None) -> None:
        self.svg.draw_image(gc, x, y, im, transform)
        self.pdf.draw_image(gc, x, y, im, transform)
        self.png.draw_image(self._in_dots(gc), round(x * self.zoom), round(y * self.zoom), im)

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float, ismath: Any = False, mtext: Any = None
    ) -> None:  # fmt: skip
        self.svg.draw_text(gc, x, y, s, prop, angle, ismath, mtext)
        self.pdf.draw_text(gc, x, self.svg.height - y, s, prop, angle, ismath, mtext)
        self.png.draw_text(self._in_dots(gc), x * self.zoom, y * self.zoom, s, prop, angle, ismath, mtext)


@contextmanager
def _resolution(figure: Figure, dpi: float) -> Iterator[None]:
    """A figure with another resolution for a while."""
    before = figure.dpi
    figure.dpi = dpi
    try:
        yield
    finally:
        figure.dpi = before


def draw_once(figure: Figure, *, dpi: int, compress_level: int = 3) -> Files:
    """Draw a figure as SVG, PDF and PNG in one go.

    Without dates the same numbers give the same bytes.

    Args:
        figure: what is drawn.
        dpi: resolution of the PNG, and of what is rasterised in the others.
        compress_level: of the PNG, 0 to 9.
    """
    width, height = figure.get_size_inches()
    unnamed: Any = {"Software": None}
    svg, pdf, png = StringIO(), BytesIO(), BytesIO()
    with mpl.rc_context(LOOK), _resolution(figure, _POINTS):
        book = _Book(pdf, metadata={"CreationDate": None})
        book.newPage(width, height)
        canvases = _ThreeCanvases(
            _SVG(
                width * _POINTS,
                height * _POINTS,
                svg,
                image_dpi=dpi,
                metadata={"Date": None, "Creator": None},
            ),
            _PDF(book, dpi, height, width),
            _PNG(width * dpi, height * dpi, dpi),
        )
        figure.draw(_Mixed(figure, width, height, dpi, canvases))
        canvases.svg.finalize()
        canvases.pdf.finalize()
        book.finalize()
        book.close()
        imsave(
            png, np.asarray(canvases.png.buffer_rgba()), format="png", origin="upper", dpi=dpi,
            metadata=unnamed, pil_kwargs={"compress_level": compress_level},
        )  # fmt: skip
    return Files(svg.getvalue(), pdf.getvalue(), png.getvalue())
