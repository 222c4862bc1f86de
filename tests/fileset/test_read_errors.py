"""A damaged file raises nothing but what is listed."""

import random

import pytest
import uproot

from fileset.read_errors import OPEN_ERRORS, READ_ERRORS


def _read(path):
    with uproot.open(path) as file:
        tree = file["mini"]
        tree.common_entry_offsets()
        tree.arrays(["lep_pt", "eventNumber", "XSection"])


@pytest.mark.parametrize("damage", ["cut", "noise", "zeros"])
def test_damage_raises_only_listed_errors(damage, whole_skim, tmp_path):
    content = (whole_skim / "MC" / "mc_361106.Zee.2lep.root").read_bytes()
    generator = random.Random(damage)
    path = tmp_path / "damaged.root"
    failed = 0
    for _ in range(60):
        at = generator.randrange(len(content))
        damaged = bytearray(content)
        length = min(generator.choice([4, 200]), len(content) - at)
        if damage == "cut":
            del damaged[at:]
        else:
            damaged[at : at + length] = generator.randbytes(length) if damage == "noise" else bytes(length)
        path.write_bytes(damaged)
        try:
            _read(path)
        except OPEN_ERRORS:
            failed += 1
    assert failed > 5


def test_bugs_are_no_read_errors():
    assert not issubclass(ValueError, READ_ERRORS)
    assert not issubclass(TypeError, OPEN_ERRORS)
