"""Records survive the way to disk and back, and damage is named."""

from __future__ import annotations

import json
import math
import multiprocessing
import sys
from datetime import datetime, timedelta

import numpy as np
import pytest
import torch

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


def test_records_come_back_equal_and_in_order(path):
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


def test_a_record_knows_versions_and_time():
    record = make()
    assert record.versions["torch"] == torch.__version__
    assert record.versions["numpy"] == np.__version__
    assert record.versions["python"] == sys.version.split()[0]
    assert set(record.versions) >= {"nni_robust", "nni", "pytorch_lightning"}
    assert datetime.fromisoformat(record.time).utcoffset() == timedelta(0)


def test_a_package_that_is_missing_is_said_to_be(monkeypatch):
    monkeypatch.setattr("nni_robust.record.DISTRIBUTIONS", ("no_such_package",))
    assert installed_versions()["no_such_package"] == "not installed"


def test_what_is_not_finite_becomes_null_and_metrics_come_back_as_nan(path):
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


def test_a_tensor_is_refused_and_nothing_written(path):
    with pytest.raises(TypeError, match=r"must hold JSON values only: .*Tensor"):
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


def test_a_last_line_cut_off_is_passed_over_with_a_warning(path):
    make().append(path)
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:40])
    with pytest.warns(UserWarning, match=r"records.jsonl:2 is cut off"):
        records = read_records(path)
    assert len(records) == 1


def test_a_record_after_a_line_cut_off_is_whole(path):
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
        ("{broken", "records.jsonl:2 must be a record in JSON"),
        ("\x00\x00", "records.jsonl:2 must be a record in JSON"),
        ("[1]", "records.jsonl:2 must be a record, an object with the key 'format'"),
        ("{}", "records.jsonl:2 must be a record, an object with the key 'format'"),
        ('{"format": 2}', "records.jsonl:2 must have format 1, got 2"),
        ('{"format": 1}', "records.jsonl:2 must hold the fields of a record: .*sample"),
        ('{"format": 1, "sample": {}, "stage": "", "metrics": 1, "seed": 0}', "jsonl:2 must hold"),
    ],
)
def test_a_damaged_line_is_named(path, line, message):
    make().append(path)
    with path.open("a") as file:
        file.write(line + "\n")
    make().append(path)
    with pytest.raises(ValueError, match=message):
        read_records(path)
