"""Compare the search of examples/robnet.yml with a random network, over several seeds.

    python benchmarks/search_against_random.py [SEED ...]

For every seed it prints robust accuracies:

* the mean of random subnetworks with inherited weights, before and after the supernet is trained;
* the mean of the candidates, before and after fine-tuning (validation images);
* those of the chosen candidate and of a random network, fine-tuned the same way (test images).
"""

from __future__ import annotations

import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path
from statistics import mean
from typing import Any

import yaml
from nni.nas.execution import SequentialExecutionEngine
from nni.nas.execution.event import IntermediateMetricEvent
from numpy.random import RandomState

from nni_robust.job.build import Search, build_search
from nni_robust.record import read_records
from nni_robust.space import STAGE, sampler_of

EXAMPLE = Path(__file__).parents[1] / "examples" / "robnet.yml"


def build(seed: int, directory: str) -> Search:
    """Build the search of the example with another seed in all sections."""
    sections = yaml.safe_load(EXAMPLE.read_text())["tuner"]["classArgs"]
    for name in ("data", "strategy", "evaluator"):
        sections[name]["seed"] = seed
    return build_search(sections, directory=directory)


def run(seed: int, directory: str) -> dict[str, float]:
    """Run one search, then fine-tune and test one random network the same way."""
    search = build(seed, directory)
    model_space = search.executable()
    engine = SequentialExecutionEngine()
    curve: list[float] = []

    def note(event: IntermediateMetricEvent) -> None:
        if event.model.sample[STAGE] == "supernet":
            curve.append(event.metric["default"])

    engine.register_model_event_callback("intermediate_metric", note)
    search.strategy(model_space, engine)
    sampler = sampler_of(model_space, RandomState(1000 + seed), exclude=frozenset([STAGE]))
    network = sampler.draw()
    for stage in ("candidate", "final"):
        model_space.freeze({**network, STAGE: stage}).execute()
    records = read_records(Path(directory) / "records.jsonl")
    finals = [r.metrics for r in records if r.stage == "final"]
    candidates = [r.metrics for r in records if r.stage == "candidate"][:-1]
    return {
        "subnets untrained": curve[0],
        "subnets trained": curve[-1],
        "candidates inherited": mean(m["inherited"] for m in candidates),
        "candidates fine-tuned": mean(m["default"] for m in candidates),
        "chosen, test": finals[0]["default"],
        "chosen clean, test": finals[0]["clean"],
        "random, test": finals[1]["default"],
        "random clean, test": finals[1]["clean"],
    }


def main(seeds: list[int]) -> None:
    """Print one column per seed."""
    warnings.simplefilter("ignore")
    for name in ("nni", "pytorch_lightning", "onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    columns: list[dict[str, Any]] = []
    for seed in seeds:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as directory:
            columns.append(run(seed, directory))
        seconds = time.monotonic() - started
        print(f"seed {seed}, {seconds:.0f} s: {columns[-1]}", file=sys.stderr)
    for name in columns[0]:
        values = [column[name] for column in columns]
        shown = "".join(f"{100 * value:8.1f}" for value in values)
        print(f"{name:<24}{shown}   mean {100 * mean(values):.1f}")


if __name__ == "__main__":
    main([int(seed) for seed in sys.argv[1:]] or [0, 1, 2])
