"""An envelope opens only against a verdict on its own mix, and every mix ends in one of four ways."""

from collections import Counter

import numpy as np
import pytest

from models.settings import AlarmSettings
from models.studies.counting import Calibration, Expectation, Search
from models.studies.injection import Envelope, blind_mix

SIGNALS = {
    "1.visible": Expectation(np.array([0, 1]), np.array([0.01, 0.01]), np.array([100.0, 400.0]), 2),
    "2.invisible": Expectation(np.array([0]), np.array([0.0]), np.array([0.0]), 2),
}


@pytest.fixture(scope="module")
def search() -> Search:
    truth = Expectation(np.array([0, 1]), np.array([1.0, 0.5]), np.array([200.0, 80.0]), 2)
    settings = AlarmSettings(calibration_toys=10_000)
    calibration = Calibration.of(truth, np.random.default_rng(1), 10_000)
    return Search(["1e-1", "1e-2"], truth, calibration, settings)


def test_an_envelope_opens_only_against_a_verdict_on_its_own_mix() -> None:
    envelope, other = (Envelope({"signal": "1.visible"}, np.random.default_rng(seed)) for seed in (1, 2))
    assert envelope.digest != other.digest, "the content cannot be guessed from the digest"
    for verdict in ({}, {"found": True}, {"found": True, "envelope_sha256": other.digest}):
        with pytest.raises(ValueError, match="only against a verdict"):
            envelope.open(verdict)
    opened = envelope.open({"found": False, "envelope_sha256": envelope.digest})
    assert opened["signal"] == "1.visible"


def test_strong_signals_are_found_and_empty_mixes_are_not(search: Search) -> None:
    outcomes: Counter[tuple[float, str]] = Counter()
    for seed in range(300):
        mix = blind_mix(search, SIGNALS, np.random.default_rng(seed), None)
        assert mix is not None
        envelope, verdict = mix["envelope"], mix["verdict"]
        assert envelope["signal"] == ("1.visible" if envelope["expected"] else None)
        assert verdict["global_p"] != 0, "no pseudo-experiment is no probability of zero"
        assert verdict["found"] == (verdict["global_p"] is None or verdict["global_p"] < 0.0027)
        assert (mix["outcome"] in {"found", "false alarm"}) == verdict["found"]
        outcomes[envelope["expected"], mix["outcome"]] += 1
    assert {expected for expected, _ in outcomes} == {0, 1, 2, 3, 5}
    assert outcomes[0, "rightly silent"] > 30
    assert outcomes[0, "false alarm"] <= 2
    assert outcomes[5, "found"] > 0.9 * (outcomes[5, "found"] + outcomes[5, "missed"])
    assert outcomes[1, "missed"] > 5 * outcomes[1, "found"]


def test_without_a_signal_that_can_be_seen_there_is_no_mix(search: Search) -> None:
    invisible = {"2.invisible": SIGNALS["2.invisible"]}
    assert blind_mix(search, invisible, np.random.default_rng(1), None) is None
    assert blind_mix(search, {}, np.random.default_rng(1), None) is None
