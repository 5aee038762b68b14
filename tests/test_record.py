"""Records are written and read without change, and damaged files are refused by name."""

from __future__ import annotations

import json
import math
import multiprocessing
import subprocess
import sys
from datetime import datetime, timedelta
from importlib import metadata

import numpy as np
import pytest
import torch

from nni_robust.check import SettingError
from nni_robust.record import Record, installed_versions, read_records


def make(**kwargs):
    return Record(
        **{
            "sample": {"cell/edge_0_2": ["conv", "identity"], "stage": "candidate"},
            "stage": "candidate",
            "metrics": {"clean": 0.8, "pgd20": 0.5},
            "seed": 3,
            "genotype": ["01" * 14],
            "settings": {"data": {"name": "digits", "batch_size": 64}},
            **kwargs,
        }
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "records.jsonl"


def test_records_are_read_as_they_were_written_and_in_order(path):
    records = [make(seed=i, error="NaN loss" if i else None) for i in range(3)]
    for record in records:
        record.append(path)
    assert read_records(path) == records


def test_a_record_is_one_line_of_plain_json(path):
    make(error="line one\nline two").append(path)
    (line,) = path.read_text().splitlines()
    content = json.loads(line)
    assert content["format"] == 1
    assert content["metrics"] == {"clean": 0.8, "pgd20": 0.5}


def test_a_record_contains_versions_and_time():
    record = make()
    assert record.versions["torch"] == torch.__version__  # with the build, such as +cu130
    assert record.versions["numpy"] == np.__version__
    assert record.versions["python"] == sys.version.split()[0]
    assert set(record.versions) >= {"nni_robust", "nni", "pytorch_lightning"}
    assert datetime.fromisoformat(record.time).utcoffset() == timedelta(0)


def test_a_missing_package_is_recorded_as_not_installed(monkeypatch):
    monkeypatch.setattr("nni_robust.record.PACKAGES", ("no_such_package",))
    assert installed_versions()["no_such_package"] == "not installed"


def test_the_version_of_an_imported_package_is_the_one_that_it_states(monkeypatch):
    monkeypatch.setattr("torch.__version__", "2.13.0+cu130")
    assert installed_versions()["torch"] == "2.13.0+cu130"


def test_a_package_that_is_not_imported_has_the_version_of_its_metadata(monkeypatch):
    monkeypatch.delitem(sys.modules, "numpy")
    assert installed_versions()["numpy"] == metadata.version("numpy")


def test_tags_are_read_as_they_were_written(path):
    tags = {"table": "r-tab1", "row": "ResNet-18", "scale": "full"}
    make(tags=tags).append(path)
    assert read_records(path)[0].tags == tags


def test_a_record_without_tags_is_read(path):
    make().append(path)
    content = json.loads(path.read_text())
    del content["tags"]
    path.write_text(json.dumps(content) + "\n")
    assert read_records(path)[0].tags == {}


def test_an_unknown_field_is_refused(path):
    make().append(path)
    content = {**json.loads(path.read_text()), "mood": "good"}
    path.write_text(json.dumps(content) + "\n")
    with pytest.raises(SettingError, match=r"records.jsonl:1 must contain .*'mood'.*newer version"):
        read_records(path)


def test_reading_versions_imports_nothing():
    code = (
        "import sys, nni_robust.record as r; v = r.installed_versions(); "
        "print([m for m in ('torch', 'nni', 'numpy') if m in sys.modules], v['torch'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"[] {metadata.version('torch')}"


def test_numbers_that_are_not_finite_become_null_and_metrics_are_read_as_nan(path):
    make(
        metrics={"clean": 0.5, "fsp": math.nan, "bound": math.inf},
        details={"fsp": (0.1, math.nan), "cells": {"a": [-math.inf]}},
    ).append(path)
    content = json.loads(path.read_text(), parse_constant=pytest.fail)  # JSON has no NaN
    assert content["metrics"] == {"clean": 0.5, "fsp": None, "bound": None}
    (record,) = read_records(path)
    assert math.isnan(record.metrics["fsp"])
    assert math.isnan(record.metrics["bound"])
    assert record.details == {"fsp": [0.1, None], "cells": {"a": [None]}}


def test_a_tensor_is_refused_and_nothing_is_written(path):
    with pytest.raises(TypeError, match=r"must contain JSON values only: .*Tensor"):
        make(details={"fsp": torch.zeros(2)}).append(path)
    assert not path.exists()


def append_many(path, seed):
    for _ in range(50):
        make(seed=seed, details={"fill": "x" * 20_000}).append(path)


def test_processes_append_to_one_file_at_once(path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=append_many, args=(path, seed)) for seed in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seeds = [record.seed for record in read_records(path)]
    assert sorted(seeds) == sorted(list(range(3)) * 50)


def test_an_incomplete_last_line_is_skipped_with_a_warning(path):
    make().append(path)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    with pytest.warns(UserWarning, match=r"records.jsonl:2 is incomplete"):
        records = read_records(path)
    assert len(records) == 1


def test_a_record_after_an_incomplete_line_is_complete(path):
    make().append(path)
    path.write_bytes(path.read_bytes()[:40])
    make().append(path)
    with pytest.raises(ValueError, match=r"records.jsonl:1 must be a record in JSON"):
        read_records(path)
    lines = path.read_text().splitlines()
    assert json.loads(lines[1])["seed"] == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "records.jsonl:2 must be a record in JSON: .*or delete this line"),
        ("\x00\x00", "records.jsonl:2 must be a record in JSON"),
        ("[1]", "records.jsonl:2 must be a record, an object with the key 'format'"),
        ("{}", "records.jsonl:2 must be a record, an object with the key 'format'"),
        ('{"format": 2}', "records.jsonl:2 must have format 1, got 2"),
        ('{"format": 1}', "records.jsonl:2 must contain the fields of a record: .*sample"),
        (
            '{"format": 1, "sample": {}, "stage": "", "metrics": 1, "seed": 0}',
            "jsonl:2 must contain",
        ),
    ],
)
def test_a_damaged_line_is_refused_by_its_number(path, line, message):
    make().append(path)
    with path.open("a") as file:
        file.write(line + "\n")
    make().append(path)
    with pytest.raises(ValueError, match=message):
        read_records(path)
