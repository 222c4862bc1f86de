"""Start-up: how long until a verb says anything, and what each verb's process imports.

In turns with `python -c pass`, each in a process of its own: every `--help`, `config show`, `fileset`, and the import
of what the stages take of each room. Then a short chain on some demo files: which of the heavy packages each verb has
imported when it ends, and what the workers of a Dask cluster have that only selected.

    python benchmarks/startup.py --pairs 5
"""

import json
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from reporting import arguments, in_pairs, machine, report, say, timed
from synthetic import DEMO

REPOSITORY = Path(__file__).parents[1]

# `run_analysis.py --help` must answer within this time [s].
HELP_BAR = 0.5

HEAVY = (
    "tensorflow", "keras", "jax", "torch", "sklearn", "matplotlib", "scipy", "pyhf", "ROOT", "coffea", "distributed",
)  # fmt: skip

# What must not have been imported when a verb ends.
FORBIDDEN = ("tensorflow", "keras", "jax", "torch")
WITHOUT_NETWORK = ("config show", "fileset", "check", "select", "compare", "report", "workers that select")

VERBS = (
    "fileset", "check", "simulate", "validate", "select", "compare", "train", "tune", "score", "evaluate",
    "robustness", "report", "run", "config",
)  # fmt: skip

# What the stages take of each room first.
ROOMS = {
    "fileset": "fileset.resolve, fileset.audit",
    "processors": "processors.stages.select, processors.stages.score",
    "models": "models.training, models.bundle, models.studies.evaluation",
    "report": "report.page",
}

# A chain that takes a minute: some events of each kind, two epochs, few replicas.
FILES = (
    "Data/data_A.2lep.root", "MC/mc_361106.Zee.2lep.root", "MC/mc_410000.ttbar_lep.2lep.root",
    "MC/mc_301215.ZPrime2000_ee.2lep.root",
)  # fmt: skip
CONFIGURATION = """
regions: [2L]
training: {epochs: 2}
report: {variables: [met_et, mll], max_power_figures: 1}
"""

# Runs a verb in a new process and writes down what it has imported.
_PROBE = """
import json, sys
heavy, target = json.loads(sys.argv[1]), sys.argv[2]
sys.argv = ["run_analysis.py", *sys.argv[3:]]
sys.path.insert(0, ".")
import run_analysis
try:
    run_analysis.main(standalone_mode=False)
finally:
    with open(target, "w") as file:
        json.dump([name for name in heavy if name in sys.modules], file)
"""

# Selects on a Dask cluster of this machine and asks its workers.
_WORKERS = """
import json, sys
heavy, target, fileset, output = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
sys.path.insert(0, ".")
def imported(heavy):
    import sys
    return [name for name in heavy if name in sys.modules]
if __name__ == "__main__":
    from pathlib import Path
    from fileset.audit import check
    from fileset.coffea_forms import with_steps
    from fileset.resolve import resolve
    from fileset.settings import FilesetSettings
    from processors.settings import REGIONS, ExecutionSettings, RMMSettings, WeightSettings
    from processors.stages.select import select_region
    from processors.workers import Workers
    with Workers(ExecutionSettings(executor="dask", workers=2)) as workers:
        audit = check(resolve(FilesetSettings(fileset=fileset), ["2L"]), map=workers.map)
        select_region(
            with_steps(audit.fileset, 100_000, audit.clusters), name="2L", region=REGIONS["2L"],
            weights=WeightSettings(), rmm=RMMSettings(), workers=workers, output=Path(output),
        )
        seen = workers.client.run(imported, heavy)
    with open(target, "w") as file:
        json.dump(sorted(set(sum(seen.values(), []))), file)
"""


def process_time(*command: str) -> float:
    """Seconds of a process, from its start to its end."""
    full = [sys.executable, *command]
    return timed(lambda: subprocess.run(full, check=True, capture_output=True, cwd=REPOSITORY))


def start_up(fileset: Path, scratch: Path, pairs: int) -> dict[str, Any]:
    """Times of commands that do next to nothing, beside that of Python itself."""
    script = str(REPOSITORY / "run_analysis.py")
    commands = {"--help": [script, "--help"]}
    commands |= {f"{verb} --help": [script, verb, "--help"] for verb in VERBS}
    commands["config show"] = [script, "config", "show"]
    own = ["--fileset", str(fileset), "--region", "2L", "--output", str(scratch / "fileset")]
    commands["fileset"] = [script, "fileset", *own]
    commands |= {f"import of {room}": ["-c", f"import {modules}"] for room, modules in ROOMS.items()}
    found = {}
    for name, command in commands.items():
        say(name)
        bare = partial(process_time, "-c", "pass")
        found[name] = in_pairs(partial(process_time, *command), bare, pairs)
    return found


def imports(fileset: Path, scratch: Path) -> dict[str, list[str]]:
    """Verb -> heavy packages that its process has imported when it ends, in a chain on a small sample."""
    target, output = scratch / "imported.json", scratch / "chain"
    configuration = scratch / "analysis.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    found = {}

    def probe(name: str, code: str, *given: str) -> None:
        say(f"what {name} imports")
        command = [sys.executable, "-c", code, json.dumps(HEAVY), str(target), *given]
        if code is _WORKERS:  # processes that Dask starts import the script by its path
            (scratch / "workers.py").write_text(code, encoding="utf-8")
            command[1:3] = [str(scratch / "workers.py")]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=REPOSITORY)
        if done.returncode:
            say(f"{name} failed: {done.stderr.strip()[-300:]}")
            return
        found[name] = json.loads(target.read_text(encoding="utf-8"))

    options = ("--config", str(configuration), "--fileset", str(fileset), "--output", str(output))
    probe("config show", _PROBE, "config", "show", *options)
    for verb in ("fileset", "check", "select", "compare", "train", "score", "evaluate", "report"):
        probe(verb, _PROBE, verb, *options)
    probe("workers that select", _WORKERS, str(fileset), str(scratch / "cluster"))
    return found


def small_sample(directory: Path) -> Path:
    """Some files of the demo with its catalogue, as a directory in the release's layout."""
    for name in FILES:
        target = directory / DEMO.name / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DEMO / name, target)
    shutil.copy(DEMO.parent / "catalog.yaml", directory / "catalog.yaml")
    return directory


def main() -> None:
    """Measures and tells."""
    given = arguments(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        scratch = Path(folder)
        sample = small_sample(scratch / "sample")
        result = {
            "machine": machine(),
            "start_up": start_up(sample, scratch, given.pairs),
            "imports": imports(sample, scratch),
        }
    times = [
        (
            name,
            f"{one['one']:.2f} s",
            f"{one['one'] - one['other']:.2f} s",
            f"{one['ratio']:.1f}",
            f"< {HELP_BAR} s" if name == "--help" else "",
        )
        for name, one in result["start_up"].items()
    ]
    seen = [
        (
            name,
            ", ".join(packages) or "none",
            ("no" if set(packages) & set(FORBIDDEN) else "yes") if name in WITHOUT_NETWORK else "",
        )
        for name, packages in result["imports"].items()
    ]
    report(
        "startup",
        result,
        [
            (
                "start-up",
                ("command", "in all", "without Python's own", "times `python -c pass`", "bar"),
                times,
            ),
            ("heavy packages when a verb ends", ("process", "imported", "no network, as it must"), seen),
        ],
        given.json,
    )


if __name__ == "__main__":
    main()
