"""Short SVG: what matplotlib wrote in a fraction of its bytes and the same to the eye; a page holds hundreds."""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import count, product
from string import ascii_letters
from typing import Final

__all__ = ["as_data_uri", "compact"]

# Of a point, far below what an eye or a printer resolves; places of letters are in about hundredths of it.
_DECIMALS: Final = 2
_DECIMALS_IN_TEXT: Final = 1
_LONG_NUMBER = re.compile(r"(\.\d{2})\d+")
_ZEROS: Final = (
    (re.compile(r"(\.\d*?)0+(?!\d)"), r"\1"),
    (re.compile(r"\.(?!\d)"), ""),
    (re.compile(r"(?<![\d.])0\."), "."),
)
_AROUND_LETTER = re.compile(r" ?([A-Za-z]) ?")

_PATH = re.compile(r' d="([^"]*)"')
_PLACE = re.compile(r' (x|y)="([^"]*)"')
_TRANSLATION = re.compile(r"translate\(([^ )]+) ([^ )]+)\)")
_GLYPH = re.compile(r'<path id="([^"]+)"(?: d="([^"]*)")? transform="scale\(([\d.]+)\)"/>')
_LETTER = re.compile(
    r'<use xlink:href="#([^"]+)"(?: transform="translate\(([^ )]+) ([^ )]+)\)( scale\(.*?\))?")?/>'
)
_MARKER = re.compile(r'<path id="([^"]+)"[^>]*?( style="[^"]*")/>')
_MARK = re.compile(r'(<use xlink:href="#([^"]+)" x="[^"]*" y="[^"]*")( style="[^"]*")/>')
_NAME_OF_GROUP = re.compile(r'<g id="[^"]*"')
_GROUP = re.compile(r"<g>|<g |</g>")
_EMPTY_GROUP = re.compile(r"<g(?: [^<>]*)?/>")  # of markers that all lie outside the figure
_NAMED = re.compile(r' id="([^"]+)"')
_NAME = re.compile(r'( id="|href="#|url\(#)([^")]+)')
_STEP = re.compile(r"([A-Za-z])([^A-Za-z]*)")


def compact(svg: str) -> str:
    """Drop what a browser does not need: prologue, metadata, digits and zeros, spaces, empty letters and groups.

    Args:
        svg: a figure as matplotlib writes it, texts as paths.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r">\s+<", "><", svg)
    svg = _EMPTY_GROUP.sub("", svg)
    svg = _GLYPH.sub(_glyph, svg)
    svg = _PATH.sub(lambda found: f' d="{_path(found[1])}"', svg)
    svg = _without_repeated_styles(svg)
    svg = _without_empty_letters(svg)
    svg = _PLACE.sub(lambda found: f' {found[1]}="{_number(found[2])}"', svg)
    svg = _TRANSLATION.sub(lambda found: f"translate({_number(found[1])} {_number(found[2])})", svg)
    # Colons and semicolons are in styles alone: texts are paths.
    svg = svg.replace(": ", ":").replace("; ", ";")
    return _without_bare_groups(_NAME_OF_GROUP.sub("<g", svg))


def as_data_uri(svg: str) -> str:
    """A data URI for an attribute in double quotes, of a third less than base64, in which it is a document of its own.

    Its names are short, which is of no harm here: beside others on a page, not as images, they would be taken for
    theirs. It has no double quote, ampersand or line break; angle brackets are understood by all browsers.

    Args:
        svg: of `compact`.
    """
    used = set(_NAMED.findall(svg))
    short = dict(zip(sorted(used), _names(), strict=False))
    svg = _NAME.sub(lambda found: f"{found[1]}{short.get(found[2], found[2])}", svg.replace("\n", " "))
    for character, written in (("%", "%25"), ("'", "&apos;"), ('"', "'"), ("&", "%26"), ("#", "%23")):
        svg = svg.replace(character, written)
    return f"data:image/svg+xml,{svg}"


def _names() -> Iterator[str]:
    """The shortest names: "a", "b", ..., "aa"."""
    return ("".join(letters) for size in count(1) for letters in product(ascii_letters, repeat=size))


def _number(number: str, decimals: int = _DECIMALS) -> str:
    """A number with as many decimals as it needs."""
    text = f"{float(number):.{decimals}f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


@lru_cache(maxsize=4096)
def _path(path: str) -> str:
    """The commands of a path with two decimals, and spaces only where they part numbers."""
    path = _LONG_NUMBER.sub(r"\1", " ".join(path.split()))
    for zeros, kept in _ZEROS:
        path = zeros.sub(kept, path)
    return _AROUND_LETTER.sub(r"\1", path).replace(" -", "-").strip()


def _glyph(found: re.Match[str]) -> str:
    """The outline of a letter, in whole numbers: lengths from point to point are shorter than places."""
    if found[2] is None:
        return found[0]
    return f'<path id="{found[1]}" d="{_relative(found[2])}" transform="scale({found[3]})"/>'


@lru_cache(maxsize=4096)
def _relative(path: str) -> str:
    """A path of whole numbers, its commands M, L, Q, C and z, each point relative to the one before."""
    parts = []
    x = y = start_x = start_y = 0
    for letter, text in _STEP.findall(path):
        numbers = [round(float(number)) for number in text.split()]
        if letter in "zZ":
            parts.append("z")
            x, y = start_x, start_y
            continue
        points = list(zip(numbers[::2], numbers[1::2], strict=True))
        if letter == "M":
            start_x, start_y = points[-1]
        steps = [(across - x, up - y) for across, up in points]
        x, y = points[-1]
        if letter == "L" and not steps[0][1]:
            parts.append(f"h{steps[0][0]}")
        elif letter == "L" and not steps[0][0]:
            parts.append(f"v{steps[0][1]}")
        else:
            parts.append(letter.lower() + " ".join(f"{across} {up}" for across, up in steps))
    return "".join(parts).replace(" -", "-")


def _without_repeated_styles(svg: str) -> str:
    """Markers without the style that their shape has of its own, which is the one that counts."""
    styles = dict(_MARKER.findall(svg))
    return _MARK.sub(lambda found: f"{found[1]}{found[3] if styles.get(found[2]) != found[3] else ''}/>", svg)


def _without_empty_letters(svg: str) -> str:
    """Texts without letters that have no outline, and letters placed by coordinates where they have no scale."""
    empty = {name for name, path, _ in _GLYPH.findall(svg) if not path}
    svg = _GLYPH.sub(lambda found: "" if found[1] in empty else found[0], svg)

    def letter(found: re.Match[str]) -> str:
        name, x, y, scale = found.groups()
        if name in empty:
            return ""
        if x is None:
            return found[0]
        x, y = _number(x, _DECIMALS_IN_TEXT), _number(y, _DECIMALS_IN_TEXT)
        if scale:
            return f'<use xlink:href="#{name}" transform="translate({x} {y}){scale}"/>'
        places = "".join(f' {axis}="{number}"' for axis, number in (("x", x), ("y", y)) if number != "0")
        return f'<use xlink:href="#{name}"{places}/>'

    return _LETTER.sub(letter, svg)


def _without_bare_groups(svg: str) -> str:
    """Without groups that have no attribute."""
    parts: list[str] = []
    bare: list[bool] = []
    at = 0
    for found in _GROUP.finditer(svg):
        drop = found[0] == "<g>"
        if found[0] == "</g>":
            drop = bare.pop()
        else:
            bare.append(drop)
        if drop:
            parts.append(svg[at : found.start()])
            at = found.end()
    return "".join([*parts, svg[at:]])
