"""False alarms are counted on other events than those that calibrate; injected signals and a blind mix are found."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from scipy.stats import binomtest, norm

from fileset.exceptions import InputError
from models.settings import AlarmSettings
from models.studies.pseudo_experiments import pseudo_experiments
from processors.split import split_of

SEED = 5
# kind, group, centre of the score, events, mean weight
KINDS = {
    "1.Zee": ("background", "Zjets", 0.0, 160_000, 0.5),
    "2.ttbar": ("background", "ttbar", 1.0, 20_000, 0.02),
    "3.susy300": ("signal", "SUSY", 2.0, 3_000, 1e-4),
    "4.susy800": ("signal", "SUSY", 4.0, 2_000, 1e-5),
    "5.none": ("signal", "Zprime", 2.0, 0, 1.0),
    "data_A": ("data", "data", 9.0, 1_000, 1.0),
}
Writer = Callable[..., Path]


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """Write scores as the score stage does; those of collision data are nothing that could be read."""

    def write(part: float = 1.0, extra: dict[str, tuple[str, str, float, int, float]] | None = None) -> Path:
        folder = tmp_path_factory.mktemp("scores")
        rng = np.random.default_rng(4)
        manifest: dict[str, Any] = {
            "format": 1,
            "region": "2L",
            "model": "default-table",
            "complete": True,
            "lumi_pb": 100.0,
            "variables": [],
            "datasets": {},
            "shards": [],
        }
        for channel, (dataset, (kind, group, centre, events, weight)) in enumerate(
            {**KINDS, **(extra or {})}.items()
        ):
            n = int(events * part)
            facts = {"kind": kind, "group": group, "process": dataset, "label": group.lower(), "model": {}}
            manifest["datasets"][dataset] = facts
            manifest["shards"].append({"path": f"{dataset}.parquet", "dataset": dataset, "rows": n})
            if kind == "data":
                (folder / f"{dataset}.parquet").write_text("collision data")
                continue
            number = np.arange(n, dtype=np.uint64)
            table = {
                "channelNumber": np.full(n, channel, dtype=np.int32),
                "runNumber": np.full(n, 284500, dtype=np.int32),
                "eventNumber": number,
                "weight": weight * rng.uniform(0.8, 1.2, n) * np.where(rng.random(n) < 0.02, -1, 1),
                "split": split_of(np.full(n, channel), np.full(n, 284500), number, seed=SEED),
                "score": rng.normal(centre, 1, n).astype(np.float32),
            }
            pq.write_table(pa.table(table), folder / f"{dataset}.parquet")
        path = folder / "manifest.json"
        path.write_text(json.dumps(manifest))
        return path

    return write


@pytest.fixture(scope="module")
def scores(writer: Writer) -> Path:
    return writer()


@pytest.fixture(scope="module")
def result(scores: Path) -> dict[str, Any]:
    return pseudo_experiments(scores, settings=AlarmSettings(toys=2000), seed=SEED)


def test_claimed_rates_are_in_the_interval_of_the_measured_ones(result: dict[str, Any]) -> None:
    rates = result["false_positives"]
    assert rates["toys"] == 2000
    assert [level["claimed"] for level in rates["levels"]] == [0.05, 0.01, 0.0027]
    for level in rates["levels"]:
        interval = binomtest(level["passing"], 2000).proportion_ci(0.999)
        assert (level["low"], level["high"]) == pytest.approx((interval.low, interval.high))
        assert level["inside"]
        assert interval.low <= level["claimed"] <= interval.high


def test_without_the_look_elsewhere_correction_they_are_not(result: dict[str, Any]) -> None:
    loosest = result["false_positives"]["levels"][0]["uncorrected"]
    assert loosest["rate"] > 0.05
    assert not loosest["inside"]


def test_the_two_halves_share_the_held_out_events_evenly_whatever_the_seed_of_the_split(
    result: dict[str, Any],
) -> None:
    sizes = [half["n"] for half in result["halves"].values()]
    # Held-out events have the largest hashes of the seed of the split: halves by the same hash would be one.
    assert sum(sizes) == pytest.approx(0.2 * 180_000, rel=0.03)
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
    for cut in result["cuts"].values():
        assert cut.get("unsupported") or abs(cut["pull"]) < 3


def test_cuts_have_the_stated_background_efficiency_on_the_half_that_fixes_them(
    result: dict[str, Any],
) -> None:
    total = result["halves"]["calibration"]["sumw"]
    assert list(result["cuts"]) == ["1e-1", "1e-2", "1e-3", "1e-4"]
    for name in ("1e-1", "1e-2", "1e-3"):
        assert result["cuts"][name]["events"][0] == pytest.approx(float(name) * total, rel=0.15)
    assert result["cuts"]["1e-4"] == {
        "cut": None,
        "n_eff": result["cuts"]["1e-4"]["n_eff"],
        "n_eff_of_error": result["cuts"]["1e-4"]["n_eff_of_error"],
        "events": None,
        "error": None,
        "unsupported": True,
    }, "less than one held-out event is above it"


def test_an_injected_signal_is_found_with_the_significance_that_is_expected(result: dict[str, Any]) -> None:
    for signal in ("3.susy300", "4.susy800"):
        entries = result["injection"][signal]["injected"]
        assert [entry["expected"] for entry in entries] == [0, 1, 2, 3, 5]
        for entry in entries:
            local, middle = entry["local"], entry["global"]
            # The test of whole numbers is conservative by up to half an event.
            assert -0.3 < entry["bias"] < 0.1
            assert local["low68"] == pytest.approx(local["median"] - 1, abs=0.25)
            assert local["high68"] == pytest.approx(local["median"] + 1, abs=0.25)
            assert middle["median"] < local["median"] + 0.3, "the look-elsewhere effect costs significance"
        found = [entry["found"] for entry in entries]
        assert found == sorted(found)
        assert found[0] < 0.015
        assert found[-1] > 0.9
        for entry in entries:
            assert entry["global"]["median"] <= norm.isf(1 / 100_000) + 1e-9, "no more than toys can tell"
        assert not entries[0]["global"]["limited"]
    assert result["injection"]["5.none"]["unsupported"]


def test_the_same_seed_gives_the_same_document_and_another_seed_another(scores: Path) -> None:
    settings = AlarmSettings(calibration_toys=5000, signals=("SUSY",))
    first, again, other = (pseudo_experiments(scores, settings=settings, seed=seed) for seed in (1, 1, 2))
    assert json.dumps(first, allow_nan=False) == json.dumps(again)
    assert first["false_positives"] != other["false_positives"]
    assert set(first["injection"]) == {"3.susy300", "4.susy800"}


def test_the_verdict_on_a_blind_mix_is_written_before_the_envelope_is_opened(
    scores: Path, caplog: pytest.LogCaptureFixture
) -> None:
    written: list[str] = []
    settings = AlarmSettings(calibration_toys=5000)
    with caplog.at_level("INFO"):
        blind = pseudo_experiments(
            scores, settings=settings, seed=3, record=lambda verdict: written.append(json.dumps(verdict))
        )["blind_mix"]
    assert written == [json.dumps(blind["verdict"])]
    hidden = str(blind["envelope"]["signal"])
    for text in (written[0], caplog.text):
        assert "susy" not in text
        assert "expected" not in text
        assert hidden not in text
    assert list(blind) == ["verdict", "envelope", "outcome"]


def test_a_region_without_enough_background_says_so(writer: Writer) -> None:
    result = pseudo_experiments(writer(part=0.001), settings=AlarmSettings(), seed=SEED)
    assert result["unsupported"]
    assert all(cut["unsupported"] for cut in result["cuts"].values())
    assert "false_positives" not in result


def test_a_cut_whose_error_rests_on_a_few_heavy_events_is_not_used(writer: Writer) -> None:
    heavy = {"6.Ztautau": ("background", "Zjets", 1.2, 60, 80.0)}
    result = pseudo_experiments(writer(extra=heavy), settings=AlarmSettings(), seed=SEED)
    cut = result["cuts"]["1e-1"]
    assert min(cut["n_eff"]) > 10
    assert min(cut["n_eff_of_error"]) < 5
    assert cut["unsupported"]


def test_foreign_signals_and_rates_that_cannot_be_read_are_refused(scores: Path) -> None:
    with pytest.raises(InputError, match=r"no signals \['SUZY'\] to inject; there are"):
        pseudo_experiments(scores, settings=AlarmSettings(signals=("SUZY",)), seed=1)
    with pytest.raises(ValidationError, match="needs calibration_toys of 1000000"):
        AlarmSettings(levels=(0.05, 1e-5))
    with pytest.raises(ValidationError, match="greater than or equal to 1000"):
        AlarmSettings(toys=999)


def test_scores_without_background_are_refused(scores: Path, tmp_path: Path) -> None:
    manifest = json.loads(scores.read_text()) | {"shards": []}
    for name in ("1.Zee", "2.ttbar"):
        del manifest["datasets"][name]
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="hold no background of the test split"):
        pseudo_experiments(path, settings=AlarmSettings(), seed=1)
