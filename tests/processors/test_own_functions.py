"""Functions of the user's own: found beside the configuration, known by their content, sent where they are missing."""

import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from fileset.exceptions import InputError
from processors import own_functions, shipping
from processors.features import (
    REDUCED,
    _own_column,
    feature_sets,
    kinematic_names,
    made_names,
    table_names,
)
from processors.own_functions import digest_of, look_beside, modules_to_send, own_function
from processors.settings import REGIONS, ColumnSettings, RegionSettings, RMMSettings
from processors.stages.select import input_recipe


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the configuration file lies; modules that were imported from there are forgotten."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    look_beside(tmp_path / "analysis.yaml")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


def _column(function: str) -> ColumnSettings:
    return ColumnSettings(function=function, bins=10, low=0, high=1)


def _region(**columns: ColumnSettings) -> RegionSettings:
    return REGIONS["2L"].model_copy(update={"columns": columns})


def test_a_module_beside_the_configuration_does_not_hide_another(beside: Path) -> None:
    (beside / "json.py").write_text("def dumps(x): return 'mine'", encoding="utf-8")
    (beside / "mine_a.py").write_text("def f(events): return 2", encoding="utf-8")
    assert own_function("mine_a:f")(None) == 2
    assert own_function("json:dumps")(1) == "1"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("mine_b:f", None, "mine_b:f cannot be imported .*put mine_b.py beside the configuration file"),
        ("mine_c:f", "def f(:", "mine_c:f cannot be imported .SyntaxError"),
        ("mine_d:f", "import mine_is_nowhere", "No module named 'mine_is_nowhere'"),
        ("mine_k:f", "{}['x']", "mine_k:f cannot be imported .KeyError"),
        ("mine_l:f", "1 / 0", "mine_l:f cannot be imported .ZeroDivisionError"),
        ("mine_e:f", "g = 1", "the module mine_e has none of this name"),
        ("mine_f:f", "f = 1", "mine_f:f is no function"),
    ],
)
def test_what_cannot_be_imported_is_told_in_one_sentence(
    beside: Path, name: str, content: str | None, sentence: str
) -> None:
    if content is not None:
        (beside / f"{name.partition(':')[0]}.py").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        own_function(name)


def test_the_content_of_the_whole_package_counts_and_nothing_else(beside: Path) -> None:
    package = beside / "mine_g"
    package.mkdir()
    for name in ("__init__.py", "columns.py", "angles.py"):
        (package / name).write_text("def f(events): return 1", encoding="utf-8")
    before = digest_of("mine_g.columns:f")
    (package / "notes.txt").write_text("nothing", encoding="utf-8")
    assert digest_of("mine_g.columns:f") == before
    (package / "angles.py").write_text("def f(events): return 2", encoding="utf-8")
    assert digest_of("mine_g.columns:f") != before


def test_workers_get_modules_that_are_not_installed(beside: Path) -> None:
    (beside / "mine_h.py").write_text("def f(events): return 1", encoding="utf-8")
    assert modules_to_send(("mine_h:f", "numpy.linalg:norm", "statistics:fmean")) == ("mine_h",)
    assert modules_to_send(()) == ()


def test_a_module_is_unpacked_and_imported_where_it_was_not(
    beside: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (beside / "mine_i.py").write_text("def f(events): return 3", encoding="utf-8")
    found = shipping._found(("mine_i",), own_functions.SUFFIXES)
    archive = shipping._archive(tuple(found.items()))
    assert "mine_i.py" in zipfile.ZipFile(io.BytesIO(archive)).namelist()
    (beside / "mine_i.py").unlink()
    assert shipping._found(("mine_i",), own_functions.SUFFIXES) == {"mine_i": ""}

    # A worker: only the packed module is looked at, for this process keeps its own packages.
    worker = tmp_path_factory.mktemp("worker")
    alone = io.BytesIO()
    with zipfile.ZipFile(alone, "w") as packed:
        packed.writestr("mine_i.py", zipfile.ZipFile(io.BytesIO(archive)).read("mine_i.py"))
    assert shipping._put_in_place(alone.getvalue(), found, own_functions.SUFFIXES, str(worker)) == "shipped"
    assert own_function("mine_i:f")(None) == 3
    assert Path(str(sys.modules["mine_i"].__file__)).is_relative_to(worker)


@pytest.mark.parametrize(
    "name", ["mll", "met_et", "lep3_pt", "weight_mine", "score", "m_j1_j2", "met", "with space"]
)
def test_a_column_must_not_have_the_name_of_another(name: str) -> None:
    with pytest.raises(InputError, match="a column cannot have the name"):
        made_names(_region(**{name: _column("statistics:fmean")}))


def test_a_column_of_the_wrong_length_is_told(beside: Path) -> None:
    (beside / "mine_j.py").write_text("def f(events): return [1.0]", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine_j:f gives float64 of shape \(1,\) for 3 events"):
        _own_column(np.zeros(3), "mine_j:f")  # type: ignore[arg-type]


def test_a_column_that_fails_is_told_by_its_function(beside: Path) -> None:
    (beside / "mine_m.py").write_text("def f(events): return {}['x']", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine_m:f fails \(KeyError: 'x'\)"):
        _own_column(np.zeros(3), "mine_m:f")  # type: ignore[arg-type]


def test_a_module_or_a_function_that_would_end_the_process_is_told_like_any_other_that_fails(
    beside: Path,
) -> None:
    (beside / "mine_q.py").write_text("raise SystemExit('no licence')", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine_q:f cannot be imported \(SystemExit: no licence\)"):
        own_function("mine_q:f")
    (beside / "mine_r.py").write_text("import sys\ndef f(events): sys.exit(3)", encoding="utf-8")
    with pytest.raises(InputError, match=r"mine_r:f fails \(SystemExit: 3\)"):
        _own_column(np.zeros(3), "mine_r:f")  # type: ignore[arg-type]


def test_a_function_that_is_written_with_a_dot_is_told_with_an_example() -> None:
    with pytest.raises(
        ValidationError, match="names no function: write the module, a colon and the function"
    ):
        ColumnSettings(function="my_columns.mass", bins=4, low=0, high=1)


def test_a_region_without_columns_has_the_sets_and_the_recipe_that_it_always_had() -> None:
    region = REGIONS["3L"]
    assert feature_sets(region) == {
        "table": list(table_names(3)),
        "reduced": list(REDUCED),
        "kinematics": list(kinematic_names(3)),
    }
    assert set(input_recipe(region, RMMSettings())) == {"leptons", "jets", "rmm"}
