"""A wrong word is answered with the right one."""

import pytest

from fileset.suggestion import did_you_mean

PRESETS = ("default", "hardness", "report-minmax", "report-reduced", "thesis-vae-big")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("hardnes", "hardness"),
        ("HARDNESS", "hardness"),
        ("report", "report-minmax"),
        ("thesis-vae", "thesis-vae-big"),
    ],
)
def test_the_nearest_of_all_is_meant(word: str, meant: str) -> None:
    assert did_you_mean(word, PRESETS) == f"did you mean {meant}?"


@pytest.mark.parametrize("word", ["coffee", "", "2L"])
def test_where_nothing_is_near_nothing_is_suggested(word: str) -> None:
    assert did_you_mean(word, PRESETS) == ""
    assert did_you_mean(word, PRESETS, otherwise="there are five") == "there are five"
