"""KerasTuner's Hyperband for trials that outlive their process: the chief's side and the worker's side.

KerasTuner's protocol is used as it is: a chief that serves the oracle over gRPC, workers that ask it for trials. What
stands here is what it lacks: files that are whole or absent, a chief that ends when its workers have ended (its own
waits for ever for one that died), and a port that the system chooses.

Importing this module imports Keras; `models.backend.start` comes first.
"""

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc  # type: ignore[import-untyped]  # no type information
from keras_tuner import HyperParameters, Objective
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import Trial
from keras_tuner.errors import FailedTrialError
from keras_tuner.oracles import HyperbandOracle
from keras_tuner.src import config as keras_tuner_config
from keras_tuner.src import protos
from keras_tuner.src.distribute import oracle_client
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from fileset.exceptions import FailureError
from models.settings import SearchSettings
from processors.files import read_json, write_json

__all__ = ["OBJECTIVE", "StoredHyperband", "TrialWorker", "served", "worker_of"]

# A trial that fails is a line of the leaderboard, with its cause, and no traceback on the screen.
keras_tuner_config.DEBUG = False

OBJECTIVE = "criterion"

_PAUSE = 0.2  # between two questions of a worker for which there is no trial yet [s]
_CHIEF_PATIENCE = (
    120.0  # a worker whose chief has not answered for so long gives up [s]; KerasTuner waits an hour
)
_ENVIRONMENT = threading.Lock()

TrialFunction = Callable[[Mapping[str, Any], Path], float]


class StoredHyperband(HyperbandOracle):
    """Hyperband that is stored after every step, and continues where it was killed."""

    def __init__(
        self,
        space: HyperParameters,
        settings: SearchSettings,
        *,
        seed: int,
        directory: Path,
        on_end: Callable[["StoredHyperband"], None] | None = None,
    ) -> None:
        """Read what is stored in `directory`, or begin.

        Args:
            space: what may be chosen.
            settings: epochs, factor and sweeps.
            seed: of the choice.
            directory: of this search and no other.
            on_end: called after each trial, by whatever thread ended it.
        """
        super().__init__(
            objective=Objective(OBJECTIVE, direction="min"),
            max_epochs=settings.max_epochs,
            factor=settings.factor,
            hyperband_iterations=settings.sweeps,
            hyperparameters=space,
            seed=seed % 2**31 + 1,  # KerasTuner takes 0 for none
            # An oracle that raises keeps its lock for ever; that all trials fail is seen in the end.
            max_consecutive_failed_trials=2**31,
        )
        self.verbose = 0
        self._on_end = on_end
        self._set_project_dir(str(directory.parent), directory.name)
        self._resume(directory)

    def _resume(self, directory: Path) -> None:
        state = directory / "oracle.json"
        known = set(read_json(state)["start_order"]) if state.is_file() else set()
        for trial in directory.glob("trial_*"):
            # Killed after a trial was drawn and before the oracle was stored: it will be drawn again.
            if trial.name.removeprefix("trial_") not in known or not (trial / "trial.json").is_file():
                shutil.rmtree(trial)
        if known:
            self.reload()
            # What was running is done again; KerasTuner takes a trial that had just ended for running.
            for number in {*self._retry_queue} & {*self.end_order}:
                self._retry_queue.remove(number)

    @property
    def n_trials(self) -> int:
        """Number of trials of all sweeps."""
        sizes = (
            self._get_size(bracket, place)
            for bracket in range(self._get_num_brackets())
            for place in range(self._get_num_rounds(bracket))
        )
        return int(self.hyperband_iterations * sum(sizes))

    @property
    def most_at_once(self) -> int:
        """Number of trials that wait for no other: the first round of each bracket."""
        return int(sum(self._get_size(bracket, 0) for bracket in range(self._get_num_brackets())))

    def save(self) -> None:
        """Store the oracle's state, whole or not at all."""
        write_json(Path(self._get_oracle_fname()), self.get_state())

    def _save_trial(self, trial: Trial) -> None:
        write_json(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())

    def create_trial(self, tuner_id: str) -> Trial:
        """Draw a trial, or give one again whose worker was lost: without what that one had reported."""
        trial = super().create_trial(tuner_id)
        trial.metrics = type(trial.metrics)()
        return trial

    def end_trial(self, trial: Trial) -> None:
        """Score a trial, store it and tell."""
        super().end_trial(trial)
        if self._on_end is not None:
            self._on_end(self)


class TrialWorker(BaseTuner):
    """Takes trials from an oracle, its own or the chief's, until there are none."""

    def __init__(self, oracle: HyperbandOracle, run: TrialFunction, *, directory: Path) -> None:
        """Prepare; `search` does the work.

        Args:
            oracle: this process' own; replaced by the chief's where the environment names one.
            run: takes a trial's hyperparameters and directory and gives what is to be minimised.
            directory: of the search.
        """
        super().__init__(oracle=oracle, directory=str(directory.parent), project_name=directory.name)
        self._run = run
        self._asked = False

    def pre_create_trial(self) -> None:
        """Wait a little where the last question had no answer: others must end their trials first."""
        if self._asked:
            time.sleep(_PAUSE)
        self._asked = True

    def on_trial_begin(self, trial: Trial) -> None:
        """There was a trial: the next question need not wait."""
        super().on_trial_begin(trial)
        self._asked = False

    def run_trial(self, trial: Trial, *_: Any, **__: Any) -> dict[str, float]:
        """Train; a network that cannot be trained with these values is a failed trial, nothing worse."""
        directory = Path(self.get_trial_dir(trial.trial_id))
        try:
            criterion = self._run(trial.hyperparameters.values, directory)
        except FailureError as error:
            write_json(directory / "failure.json", {"cause": str(error)})
            raise FailedTrialError(str(error)) from error
        return {OBJECTIVE: criterion}

    def on_trial_end(self, trial: Trial) -> None:
        """Report to the oracle.

        Raises:
            FailureError: the trial broke for a reason that is not its hyperparameters'.
        """
        if trial.status == "INVALID":
            cause = str(trial.message).strip().rsplit("\n", 1)[-1]
            msg = f"trial {trial.trial_id} of the search broke ({cause}): run the same command again to continue"
            raise FailureError(msg)
        super().on_trial_end(trial)

    def save(self) -> None:
        """Nothing: all state is the oracle's, which stores itself."""


def worker_of(address: tuple[str, int], name: str, run: TrialFunction, *, directory: Path) -> TrialWorker:
    """A worker of the chief that serves at an address.

    A worker that is started a second time under its name is given its trial again.

    Args:
        address: host and port.
        name: of the worker.
        run: see `TrialWorker`.
        directory: of the search, shared with the chief.
    """
    host, port = address
    told = {
        "KERASTUNER_TUNER_ID": name,
        "KERASTUNER_ORACLE_IP": host,
        "KERASTUNER_ORACLE_PORT": str(port),
        "no_grpc_proxy": host,  # a proxy for the web does not know the chief
    }
    oracle_client.TIMEOUT = _CHIEF_PATIENCE
    with _ENVIRONMENT:
        before = {key: os.environ.get(key) for key in told}
        os.environ.update(told)
        try:
            return TrialWorker(HyperbandOracle(Objective(OBJECTIVE, "min")), run, directory=directory)
        finally:
            for key, value in before.items():
                if value is None:
                    del os.environ[key]
                else:
                    os.environ[key] = value


@contextmanager
def served(oracle: HyperbandOracle, host: str) -> Iterator[tuple[str, int]]:
    """Serve an oracle to workers; yields host and port.

    Args:
        oracle: the one oracle of the search.
        host: address of the interface to listen at. The protocol knows neither encryption nor passwords: whoever can
            reach the port can take part in the search, and in nothing else.
    """
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    protos.get_service_grpc().add_OracleServicer_to_server(OracleServicer(oracle), server)
    try:
        port = server.add_insecure_port(f"{host}:0")
    except RuntimeError as error:
        msg = f"the search cannot listen at {host} ({error}): use the executor futures on this machine"
        raise FailureError(msg) from error
    server.start()
    try:
        yield host, port
    finally:
        server.stop(grace=None).wait()
