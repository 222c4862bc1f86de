"""Numbers show as many digits as their errors support."""

import math

import pytest

from report.numbers import count, duration, interval, measurement, significant

THIN = "\u202f"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (1234.567, 8.9123, f"1{THIN}234.6 ± 8.9"),
        (1234.567, 123.4, f"1{THIN}235 ± 123"),
        (0.85321, 0.00213, "0.8532 ± 0.0021"),
        (0.5, 0.0996, "0.50 ± 0.10"),
        (12.0, 0.0, "12"),
        (-3.25, 0.5, "−3.25 ± 0.50"),
        (0.125, None, "0.125"),
        (0.125, math.nan, "0.125"),
        (None, None, "–"),
        (0.5, 6.1e-18, "0.5000"),
        (0.9999935, 6.5e-6, "0.9999935 ± 0.0000065"),
        (4.73e-5, 2.2e-6, "(4.73 ± 0.22) × 10⁻⁵"),
        (1.3e-8, 4e-7, "(0.1 ± 4.0) × 10⁻⁷"),
    ],
)
def test_the_error_decides_how_many_digits_are_shown(
    value: float | None, error: float | None, text: str
) -> None:
    assert measurement(value, error) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(-6.0, 10.0, "−6 to 10"), (-0.1, 0.0, "−0.1 to 0"), (99.49, 146.98, "99.49 to 147")],
)
def test_edges_of_bins_have_no_zeros_that_say_nothing(low: float, high: float, text: str) -> None:
    assert interval(low, high) == text


def test_counts_are_grouped() -> None:
    assert count(121180468) == f"121{THIN}180{THIN}468"


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.00307, "0.00307"), (3.14159e-7, "3.14 × 10⁻⁷"), (2.5e9, "2.50 × 10⁹")]
)
def test_very_small_and_large_numbers_get_a_power_of_ten(value: float, text: str) -> None:
    assert significant(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.42, "0.42 s"), (12.4, "12 s"), (185, "3 min 05 s"), (3840, "1 h 04 min")]
)
def test_times_are_read_at_a_glance(seconds: float, text: str) -> None:
    assert duration(seconds) == text
