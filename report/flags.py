"""The flags of the command line: which setting each overrides, and how it is read."""

from pathlib import Path
from typing import Any, TypeAlias, get_args

import click

from fileset.simulation.samples import SampleName
from fileset.suggestion import did_you_mean
from models.presets import PRESETS, FeatureSet
from models.settings import RobustnessTest, SpaceName

__all__ = [
    "FLAGS",
    "ROBUSTNESS_FLAGS",
    "SEARCH_FLAGS",
    "SIMULATION_FLAGS",
    "VALIDATION_FLAGS",
    "Flags",
    "Word",
    "variable_of",
]

Flags: TypeAlias = dict[str, tuple[str, dict[str, Any]]]


class Word(click.Choice[str]):
    """One word of a closed list; a wrong one is answered with the right one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's form
        """What is wrong with the word, and what was probably meant."""
        known = [str(choice) for choice in self.choices]
        hint = did_you_mean(str(value), known)
        return f"{str(value)!r} is none of {', '.join(known)}" + (f": {hint}" if hint else "")


def variable_of(flag: str) -> str:
    """The environment variable that stands for a flag."""
    return f"RUN_ANALYSIS_{flag.removeprefix('--').replace('-', '_').upper()}"


# flag -> (setting, how click reads it); every verb takes all of them.
FLAGS: Flags = {
    "--fileset": (
        "fileset.fileset",
        {"metavar": "NAME|PATH", "help": "catalogue, directory, .json or .txt [demo]"},
    ),
    "--skim": ("fileset.skim", {"help": "skim to read [that of the region]"}),
    "--local": ("fileset.local", {"type": click.Path(path_type=Path), "help": "directory searched first"}),
    "--protocol": ("fileset.protocol", {"type": Word(["root", "https"]), "help": "of remote files"}),
    "--group": ("fileset.groups", {"multiple": True, "help": "process group to keep (repeat)"}),
    "--dsid": ("fileset.dsids", {"multiple": True, "help": "dataset number or range to keep (repeat)"}),
    "--lumi": ("fileset.lumi_pb", {"type": float, "help": "integrated luminosity [1/pb]"}),
    "--region": ("regions", {"multiple": True, "help": "region (repeat) [2L, 3L]"}),
    "--features": (
        "features",
        {"type": Word(get_args(FeatureSet)), "help": "what the model sees [as the preset]"},
    ),
    "--preset": (
        "training.preset",
        {"type": Word(list(PRESETS)), "metavar": "NAME", "help": f"experiment: {', '.join(PRESETS)}"},
    ),
    "--members": ("training.members", {"type": int, "help": "networks that are trained and averaged [1]"}),
    "--model": ("model", {"metavar": "NAME", "help": "name of the model [PRESET-FEATURES]"}),
    "--bundle": (
        "scoring.bundle",
        {"type": click.Path(path_type=Path), "help": "model from elsewhere: scores events without shards"},
    ),
    "--output": ("output", {"type": click.Path(path_type=Path), "help": "directory written to [output]"}),
    "--executor": (
        "execution.executor",
        {
            "type": Word(["iterative", "futures", "dask"]),
            "help": "where the work is done [iterative]",
        },
    ),
    "--workers": ("execution.workers", {"type": int, "help": "processes [one for each core]"}),
    "--scheduler": ("execution.scheduler", {"metavar": "ADDRESS", "help": "of a running Dask cluster"}),
    "--site": (
        "execution.site",
        {"metavar": "NAME", "help": "of a cluster, such as local, coffea-casa, slurm"},
    ),
    **{
        f"--{option}": (f"execution.site_options.{option}", {"type": kind, "help": explained})
        for option, kind, explained in (
            ("cores", int, "of a job at the site"),
            ("memory", str, "of a job, such as 3GB"),
            ("walltime", str, "of a job, hh:mm:ss"),
            ("image", str, "container image of workers"),
            ("queue", str, "or partition of jobs"),
            ("minimum", int, "workers kept at least"),
            ("maximum", int, "workers asked for at most"),
        )
    },
    "--backend": (
        "execution.backend",
        {
            "type": Word(["coffea", "dask-awkward"]),
            "help": "what runs the selection [coffea]",
        },
    ),
    "--performance-report": (
        "execution.performance_report",
        {"type": click.Path(path_type=Path), "help": "HTML file for Dask's performance report"},
    ),
    "--chunksize": ("execution.chunksize", {"type": int, "help": "events in a chunk [100000]"}),
    "--seed": ("seed", {"type": int, "help": "of split and training [1]"}),
    "--strict": ("strict", {"is_flag": True, "help": "warnings of the audit are fatal"}),
    "--train-on": (
        "training.train_on",
        {"type": Word(["simulation", "data"]), "help": "what the model learns [simulation]"},
    ),
    "--data-fraction": ("training.data_fraction", {"type": float, "help": "of data that is trained on"}),
    "--fail-on-collapse": (
        "training.fail_on_collapse",
        {"is_flag": True, "help": "a model no better than the mean is an error"},
    ),
    "--allow-missing": ("allow_missing", {"is_flag": True, "help": "scale incomplete simulation up"}),
}

# What tune takes beside them.
SEARCH_FLAGS: Flags = {
    "--space": (
        "search.space",
        {"type": Word(get_args(SpaceName)), "help": "networks that are tried [report]"},
    ),
    "--max-epochs": ("search.max_epochs", {"type": int, "help": "epochs of the trials that survive [15]"}),
    **FLAGS,
}

# The same for robustness.
ROBUSTNESS_FLAGS: Flags = {
    "--test": (
        "robustness.tests",
        {
            "type": Word(get_args(RobustnessTest)),
            "multiple": True,
            "help": "which test (repeat) [all]",
        },
    ),
    "--epochs": ("robustness.epochs", {"type": int, "help": "of each new training at most [10]"}),
    **FLAGS,
}

# The same for simulate, which reads no events.
SIMULATION_FLAGS: Flags = {
    "--sample": (
        "simulation.sample",
        {"type": Word(get_args(SampleName)), "help": "which sample [demo]"},
    ),
    "--process": ("simulation.processes", {"multiple": True, "help": "process to simulate (repeat) [all]"}),
    "--skim": ("simulation.skims", {"multiple": True, "help": "2lep or 3lep (repeat) [both]"}),
    "--events": (
        "simulation.events",
        {"type": int, "help": "events of each process [as in the shipped demo]"},
    ),
    "--scale": ("simulation.scale", {"type": float, "help": "factor on the number of events [1]"}),
    "--seed": ("simulation.seed", {"type": int, "help": "of everything random"}),
    **{flag: FLAGS[flag] for flag in ("--output", "--executor", "--workers", "--scheduler", "--site")},
}

# The same for validate: what is read, and what it is compared with.
VALIDATION_FLAGS: Flags = {
    "--reference": (
        "reference",
        {"type": click.Path(path_type=Path), "help": "directory of simulated files to compare with [none]"},
    ),
    **{
        flag: FLAGS[flag]
        for flag in ("--fileset", "--skim", "--local", "--protocol", "--output", "--executor", "--workers")
    },
    **{flag: FLAGS[flag] for flag in ("--scheduler", "--site", "--chunksize", "--strict")},
}
