"""What is asked of NNI's REST server, and how its answers are read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import requests
from fake_manager import FakeManager, metric, serve, trial

from nni_robust.manager.client import Client
from nni_robust.manager.experiments import ExperimentEntry


@pytest.fixture
def manager() -> FakeManager:
    return FakeManager()


@pytest.fixture
def client(manager: FakeManager) -> Iterator[Client]:
    with serve(manager) as port:
        yield Client(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("prefix", ["", "/a/b"])
def test_the_address_follows_from_the_experiment_or_from_a_channel(tmp_path, prefix):
    entry = ExperimentEntry("exp1", "toy", 8080, prefix.strip("/"), tmp_path)
    assert Client(entry.address) == Client(f"http://127.0.0.1:8080{prefix}")
    for path in ("/tuner", "/env/local-env"):
        client = Client.of_channel(f"ws://localhost:8080{prefix}{path}")
        assert client.address == f"http://localhost:8080{prefix}"


def test_a_url_prefix_comes_before_every_path(manager):
    with serve(manager, "/a/b") as port:
        assert Client(f"http://127.0.0.1:{port}/a/b").status().name == "DONE"


def test_a_proxy_of_the_environment_is_not_asked(client, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert client.status() == ("DONE", ())


def test_a_trial_has_its_reports_in_order(manager, client):
    manager.trials = [trial(0, "RUNNING"), trial(1, "SUCCEEDED", final={"default": 0.5})]
    manager.metrics = [
        metric(0, "PERIODICAL", 10, {"default": 0.3}),
        metric(0, "PERIODICAL", 2, {"default": 0.2}),
        metric(1, "PERIODICAL", 0, 0.4),
    ]
    first, second = client.trials()
    assert first.intermediates == ({"default": 0.2}, {"default": 0.3})
    assert (first.final, first.metrics, first.default, first.finished) == (None, {}, None, False)
    assert (second.final, second.default, second.finished) == ({"default": 0.5}, 0.5, True)
    assert (second.id, second.number, second.parameter_id) == ("t1", 1, 1)


@pytest.mark.parametrize(
    ("reports", "latest"),
    [
        ([], None),
        ([0.1, 0.2], 0.2),
        ([{"robust": 0.3, "clean": 0.9}], 0.3),
        ([{"default": 0.4}, {"clean": 0.9}], 0.4),
        ([{"default": float("nan")}], None),
    ],
)
def test_the_latest_robust_accuracy_of_a_trial_is_known(manager, client, reports, latest):
    manager.trials = [trial(0, "RUNNING")]
    manager.metrics = [metric(0, "PERIODICAL", n, report) for n, report in enumerate(reports)]
    assert client.trials()[0].latest == latest


def test_a_trial_has_the_parameters_that_its_reports_name(manager, client):
    # Observed: of trials that start together, NNI's local service serves the first to ask.
    manager.trials = [
        trial(0, "SUCCEEDED", final=0.5, parameters={"e02": "conv"}),
        trial(1, "RUNNING", parameters={"e02": "none"}),
        trial(2, "FAILED", parameters={"e02": "identity"}),
    ]
    manager.trials[0]["finalMetricData"][0]["parameterId"] = "1"
    manager.metrics = [{**metric(1, "PERIODICAL", 0, 0.25), "parameterId": "0"}]
    trials = client.trials()
    assert [found.parameters["e02"] for found in trials] == ["none", "conv", "identity"]
    assert [found.parameter_id for found in trials] == [1, 0, 2]


def test_a_trial_without_parameters_is_read(manager, client):
    manager.trials = [trial(0, "WAITING")]
    del manager.trials[0]["hyperParameters"]
    (found,) = client.trials()
    assert (found.parameter_id, found.parameters) == (None, {})


def test_the_record_of_a_trial_is_none_until_the_manager_has_it(manager, client):
    manager.trials = [trial(0, "RUNNING", parameters={"e02": "conv"})]
    assert client.record("t0")["parameters"] == {"e02": "conv"}
    manager.missing = {"trial-jobs/t0"}
    assert client.record("t0") is None


def test_an_update_sends_the_whole_profile_with_one_change(manager, client):
    client.limit_trials(7)
    client.publish_search_space({"e02": {}})
    limit, space = manager.puts
    assert limit == (
        "experiment?update_type=MAX_TRIAL_NUM",
        {"id": "exp1", "params": {"maxTrialNumber": 7}},
    )
    assert space[0] == "experiment?update_type=SEARCH_SPACE"
    assert space[1]["params"] == {"maxTrialNumber": 4, "searchSpace": {"e02": {}}}


def test_an_answer_that_reports_an_error_is_raised(manager, client):
    manager.missing = {"experiment"}
    with pytest.raises(requests.HTTPError):
        client.profile()
