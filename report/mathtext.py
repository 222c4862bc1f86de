"""Labels in matplotlib's mathtext, turned into HTML and into plain text for the page."""

import re
from html import escape

__all__ = ["to_html", "to_plain"]

_SYMBOLS = {
    "alpha": "α", "beta": "β", "gamma": "γ", "Gamma": "Γ", "delta": "δ", "Delta": "Δ", "epsilon": "ε",
    "varepsilon": "ε", "eta": "η", "theta": "θ", "Theta": "Θ", "kappa": "κ", "lambda": "λ", "mu": "μ",
    "nu": "ν", "pi": "π", "rho": "ρ", "sigma": "σ", "Sigma": "Σ", "tau": "τ", "phi": "φ", "varphi": "φ",
    "chi": "χ", "psi": "ψ", "omega": "ω", "Omega": "Ω", "ell": "ℓ", "to": " → ", "rightarrow": " → ",
    "pm": "±", "mp": "∓", "times": "×", "cdot": "·", "prime": "′", "infty": "∞", "sqrt": "√", "geq": "≥",
    "leq": "≤", "ge": "≥", "le": "≤", "approx": "≈", "sim": "~", "ln": "ln", "log": "log", "cos": "cos",
    "quad": " ", "ast": "*", "star": "*", "langle": "⟨", "rangle": "⟩",
}  # fmt: skip
_ACCENTS = {"bar": "\u0304", "overline": "\u0304", "tilde": "\u0303", "hat": "\u0302", "vec": "\u20d7"}
_FONTS = r"\\(?:mathrm|mathit|mathbf|mathsf|mathcal|text|rm|it|bf|sf)\b\s*"
_BRACED = r"\{((?:[^{}]|\{[^{}]*\})*)\}"


def _math_to_html(source: str) -> str:
    """Turn the inside of one ``$...$`` into HTML with sub- and superscripts."""
    text = re.sub(_FONTS, "", source)
    text = re.sub(r"\\[,;:! ]", " ", text)
    for name, mark in _ACCENTS.items():
        text = re.sub(rf"\\{name}\s*\{{(\\?\w+)\}}", rf"\1 {mark}", text)
        text = re.sub(rf"\\{name}\s+(\\?\w)", rf"\1 {mark}", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda found: _SYMBOLS.get(found[1], found[1]), text)
    text = re.sub(r" ([\u0300-\u036f\u20d7])", r"\1", text)
    text = escape(text, quote=False).replace("-", "−").replace("'", "′")
    for tag, mark in (("sub", "_"), ("sup", r"\^")):
        text = re.sub(mark + _BRACED, rf"<{tag}>\1</{tag}>", text)
        text = re.sub(mark + r"(\S[\u0300-\u036f]?)", rf"<{tag}>\1</{tag}>", text)
    return re.sub(r"\s+", " ", text.replace("{", "").replace("}", ""))


def to_html(label: str) -> str:
    r"""Turn a label with mathtext into HTML, escaped.

    Example:
        >>> to_html(r"$Z\to\ell\ell$ & $m_{T2}$ [GeV]")
        'Z → ℓℓ &amp; m<sub>T2</sub> [GeV]'
    """
    parts = re.split(r"\$([^$]*)\$", label)
    return "".join(
        _math_to_html(part) if number % 2 else escape(part, quote=False) for number, part in enumerate(parts)
    )


def to_plain(label: str) -> str:
    r"""Turn a label with mathtext into plain text, for alternative texts and sorting.

    Example:
        >>> to_plain(r"$E_{T}^{miss}$ [GeV]")
        'ETmiss [GeV]'
    """
    text = re.sub(r"<[^>]+>", "", to_html(label))
    return text.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
