"""How well scores order signals above background: one table of the model, baselines and single variables.

Background is simulation of the test split alone (no weight was fitted to it, no threshold chosen on it), each dataset
scaled to the sum of weights of all its events, as in the stacked histograms; of a signal all events count, a model has
seen none. All weights are physical and keep their signs.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fileset.exceptions import InputError
from models.efficiency import effective_events
from models.settings import EvaluationSettings
from models.studies.bootstrap import Binning, ReplicaBackground, Replicas
from models.studies.ceiling import ceilings
from models.studies.contest import BEST, Contestant, against_best, best_variables, read_contest, summary_of
from models.studies.power import GRID, Background, Power, entry_of, heaviest_of, seeds_of
from models.studies.scored import ScoredEvents
from processors.shards import read_manifest

__all__ = ["evaluate"]

logger = logging.getLogger(__name__)

_KINDS = ("signals", "families", "processes")


@dataclass
class _Target:
    """What a score should find: a signal, a family of them, or a background process."""

    kind: str
    facts: dict[str, Any]
    members: list[str]  # datasets
    events: ScoredEvents
    entries: dict[str, dict[str, Any]] = field(default_factory=dict)
    powers: dict[str, Power] = field(default_factory=dict)
    spreads: dict[str, Power] = field(default_factory=dict)
    seeds: dict[str, list[Power | None]] = field(default_factory=dict)

    @property
    def n_eff(self) -> float:
        """Effective number of events."""
        return effective_events(self.events.weight)


def evaluate(
    scores: Path,
    *,
    card: dict[str, Any] | None = None,
    signals: list[str] | None = None,
    others: Sequence[Path] = (),
    shards: Path | None = None,
    settings: EvaluationSettings | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Power of a model's score in one region, beside baselines and every single variable.

    Args:
        scores: `manifest.json` of scores/<region>/<model>.
        card: of the model, copied into the result.
        signals: datasets or families (groups) to evaluate; by default all of kind "signal".
        others: manifests of the scores that baselines and other models give to the same events.
        shards: manifest of the region's shards; with the setting `ceiling` it is needed, and so is the card.
        settings: replicas, their seed, and whether the supervised ceiling is worked out.
        progress: called after each score or variable with the events measured, their number in all, and its name.

    Returns:
        The region's entry of evaluate.json: `background` (n, sumw, n_eff and `heaviest` weight of test events),
        `signals` by dataset, `families` by group (all its datasets together, physical weights) and `processes` by
        background group, each against all other background. Every entry has

        - `scores`: for "score" (the model's first), its further scores "score_<name>", each other model and each
          variable its `role`, the area, `eps_s` at four background efficiencies, `significance_improvement` and
          `roc`, each with its error, `against_best` variable, and `seeds` where the model is an ensemble;
        - `best_variable` for each measure, with knowledge of the signal;
        - `ceiling`, of signals and if wanted: trees that saw this signal.

        `summary` has means over all signals. What fewer than ten effective events support is null and says why.

    Raises:
        InputError: a manifest is missing or foreign, or holds no test background or not the signals asked for.
        FailureError: a shard of scores is missing or differs from the manifest, or other scores are of other events.
    """
    settings = settings or EvaluationSettings()
    manifest = read_manifest(scores, stage="score")
    datasets = manifest["datasets"]
    contestants, events = read_contest(Path(scores), manifest, others)
    held_out = {name: part for name, part in events.items() if datasets[name]["kind"] == "background"}
    background = ScoredEvents.join(list(held_out.values()))
    if not len(background.weight) or not background.weight.sum() > 0:
        msg = f"the scores in {scores} hold no background of the test split: nothing can be evaluated"
        raise InputError(msg)
    wanted = _chosen(datasets, signals)
    targets = _targets(events, datasets, wanted)
    seen = {name: events[name] for name in wanted}
    backgrounds = Replicas.draw(held_out, number=settings.replicas, seed=settings.seed, held_out=True)
    replicas = Replicas.draw(seen, number=settings.replicas, seed=settings.seed, held_out=False)
    groups = [datasets[name]["group"] for name in held_out]
    n_events = sum(len(part.weight) for part in events.values())
    for number, contestant in enumerate(contestants, 1):
        _measure(contestant, targets, background, groups, (backgrounds, replicas), wanted)
        if progress is not None:
            progress(number * n_events, len(contestants) * n_events, contestant.name)
    variables = [contestant.name for contestant in contestants if contestant.role == "variable"]
    entries: dict[str, dict[str, Any]] = {kind: {} for kind in _KINDS}
    for (kind, name), target in targets.items():
        entries[kind][name] = _beside_the_best(target, variables)
    if settings.ceiling:
        found = ceilings(
            Path(scores), shards, (card or {}).get("features", []), held_out, seen, (backgrounds, replicas),
            settings=settings,
        )  # fmt: skip
        for name, ceiling in found.items():
            entries["signals"][name]["ceiling"] = ceiling
    return {
        "complete": manifest.get("complete", True),
        "model": {
            "name": manifest["model"],
            "features": (card or {}).get("features", []),
            "scores": [c.kind for c in contestants if c.model == manifest["model"]],
            "card": card or {},
        },
        "variables": variables,
        "bootstrap": {"replicas": settings.replicas, "seed": settings.seed},
        "background": background.summary() | {"heaviest": heaviest_of(background)},
        **entries,
        "summary": summary_of(
            contestants,
            {
                name: (target.entries, target.powers, target.spreads, target.seeds)
                for (kind, name), target in targets.items()
                if kind == "signals"
            },
        ),
    }


def _beside_the_best(target: _Target, variables: Sequence[str]) -> dict[str, Any]:
    """A target's entry, with every score beside the best single variable."""
    best = best_variables(target.entries, variables)
    for score, entry in target.entries.items():
        entry["against_best"] = against_best(score, best, target.entries, target.powers, target.spreads)
    return target.facts | target.events.summary() | {"scores": target.entries, BEST: best}


def _chosen(datasets: dict[str, Any], signals: list[str] | None) -> list[str]:
    """Signal datasets, all or those that are named themselves or by their family."""
    known = {name: facts["group"] for name, facts in sorted(datasets.items()) if facts["kind"] == "signal"}
    if signals is None:
        return list(known)
    foreign = set(signals) - {*known, *known.values()}
    if foreign:
        msg = f"no signals {sorted(foreign)}; there are {sorted({*known, *known.values()})}"
        raise InputError(msg)
    return [name for name, family in known.items() if {name, family} & set(signals)]


def _targets(
    events: Mapping[str, ScoredEvents], datasets: Mapping[str, Any], wanted: Sequence[str]
) -> dict[tuple[str, str], _Target]:
    """Everything that scores are measured on, by kind and name."""
    targets = {}
    groups: dict[str, list[str]] = {}
    for name in events:
        groups.setdefault(datasets[name]["group"], []).append(name)
    for name in wanted:
        targets["signals", name] = _Target("signals", _facts(datasets[name]), [name], events[name])
    for group, members in groups.items():
        kind = "processes" if datasets[members[0]]["kind"] == "background" else "families"
        chosen = members if kind == "processes" else [name for name in members if name in wanted]
        if chosen:
            joined = ScoredEvents.join([events[name] for name in chosen])
            facts = {"family": group, "label": datasets[chosen[0]]["label"], "datasets": chosen}
            targets[kind, group] = _Target(kind, facts, chosen, joined)
    processes = {name: target for (kind, name), target in targets.items() if kind == "processes"}
    total = sum(float(target.events.weight.sum()) for target in processes.values())
    for name, target in processes.items():
        sumw = float(target.events.weight.sum())
        if not (sumw > 0 and total - sumw > 0):
            logger.info("process %s has nothing to be compared with", name)
            del targets["processes", name]
    return targets


def _facts(dataset: dict[str, Any]) -> dict[str, Any]:
    return {
        "family": dataset["group"],
        "label": dataset["label"],
        "process": dataset["process"],
        "model": dataset.get("model", {}),
    }


def _measure(
    contestant: Contestant,
    targets: Mapping[tuple[str, str], _Target],
    background: ScoredEvents,
    groups: Sequence[str],
    replicas: tuple[Replicas, Replicas],
    wanted: Sequence[str],
) -> None:
    """One score for all targets: measured, and in all replicas."""
    name = contestant.name
    binning = Binning.of(background.columns[name], background.weight)
    heaviest = heaviest_of(background)
    whole = Background(background.columns[name], background.weight, heaviest)
    of_members = [Background(background.columns[m], background.weight, heaviest) for m in contestant.members]
    names = list(dict.fromkeys(groups))
    known, unknown = replicas
    sums = known.histograms(
        binning(background.columns[name]), binning.size, [names.index(group) for group in groups]
    )
    total = sums.sum(axis=0)
    against = ReplicaBackground(total, GRID)
    signal = {dataset: targets["signals", dataset].events.columns[name] for dataset in wanted}
    found = unknown.histograms(binning(np.concatenate([np.zeros(0), *signal.values()])), binning.size)
    in_group = np.repeat([names.index(group) for group in groups], background.rows)
    for (kind, key), target in targets.items():
        column, weight = target.events.columns[name], target.events.weight
        reference, opposed, own = whole, against, np.zeros(0)
        if kind == "processes":
            place = names.index(key)
            rest = in_group != place
            reference = Background(background.columns[name][rest], background.weight[rest], heaviest)
            own = sums[place]
            opposed = ReplicaBackground(total - own, GRID)
        else:
            own = found[[wanted.index(member) for member in target.members]].sum(axis=0)
            target.seeds[name] = [
                each.measure(target.events.columns[member], weight)
                for member, each in zip(contestant.members, of_members, strict=True)
            ]
        power, spread = reference.measure(column, weight), Power(*opposed.measure(own))
        entry = {"role": contestant.role} | entry_of(power, spread, reference, target.n_eff)
        if entry["auc"] is not None and power is not None:
            target.powers[name], target.spreads[name] = power, spread
            seeds = seeds_of(target.seeds.get(name, []), of_members, whole)
            entry |= {"seeds": seeds} if seeds else {}
        target.entries[name] = entry
