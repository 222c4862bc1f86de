"""Numbers as a physicist writes them: sensible digits, and the error decides how many."""

from math import floor, isfinite, log10

__all__ = ["count", "duration", "interval", "measurement", "p_value", "significant"]

_THIN_SPACE = "\u202f"


def _grouped(text: str) -> str:
    """Put thin spaces between groups of three digits before the decimal point."""
    return text.replace(",", _THIN_SPACE).replace("-", "\u2212")


def count(number: float) -> str:
    """Write a number of events, for example ``121 180 468``."""
    return _grouped(f"{round(number):,}")


def significant(value: float, digits: int = 3) -> str:
    """Write a number with so many significant digits, with a power of ten where it is very large or small."""
    if not isfinite(value):
        return "\u2013"
    if value == 0:
        return "0"
    exponent = floor(log10(abs(value)))
    if -4 <= exponent < 7:
        return _grouped(f"{value:,.{max(0, digits - 1 - exponent)}f}")
    return _grouped(f"{value / 10**exponent:.{digits - 1}f} \u00d7 10") + _superscript(exponent)


def interval(low: float, high: float) -> str:
    """Write the edges of a bin, without zeros that say nothing: ``−0.1 to 0``."""
    return " to ".join(f"{edge:.4g}" for edge in (low, high)).replace("-", "\u2212")


def _superscript(exponent: int) -> str:
    """Write an integer with Unicode superscript digits."""
    return str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def measurement(value: float | None, error: float | None) -> str:
    """Write value ± error, with the error at two significant digits (one digit more than its size needs).

    Args:
        value: the value; None where it could not be measured.
        error: its standard error; None or not finite where it is not known.
    """
    if value is None or not isfinite(value):
        return "\u2013"
    if error is None or not isfinite(error):
        return significant(value)
    # The rounding of sums is no error.
    if error <= 1e-12 * abs(value):
        return significant(value, 4) if value != round(value) else count(value)
    places = max(0, 1 - floor(log10(error)))
    # An error of 0.00996 rounds up to 0.010: count its digits again after rounding.
    places = max(0, 1 - floor(log10(float(f"{error:.{places}f}") or error)))
    largest = max(abs(value), error)
    if largest < 1e-3 and places > 6:
        exponent = floor(log10(largest))
        return (
            f"({measurement(value / 10**exponent, error / 10**exponent)}) \u00d7 10{_superscript(exponent)}"
        )
    return _grouped(f"{value:,.{places}f} ± {error:,.{places}f}")


def p_value(p: float | None, toys: int) -> str:
    """Write a probability from pseudo-experiments: one that none of them reached is ``< 1/1 000``, never 0."""
    return significant(p, 2) if p and p >= 1 / toys else f"< 1/{count(toys)}"


def duration(seconds: float) -> str:
    """Write a time span: ``0.42 s``, ``12 s``, ``3 min 05 s``, ``1 h 04 min``."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
