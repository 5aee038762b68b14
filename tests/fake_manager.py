"""A REST server that replaces NNI's manager in tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

# The formats of NNI's answers, as its manager 3.0 sends them.


def trial(
    number: int,
    status: str,
    *,
    final: object = None,
    parameters: dict[str, Any] | None = None,
    directory: Path = Path("/nowhere"),
) -> dict[str, Any]:
    """Return one element of ``/trial-jobs``."""
    chosen = {
        "parameter_id": number,
        "parameter_source": "algorithm",
        "parameters": {} if parameters is None else parameters,
        "parameter_index": 0,
    }
    job = {
        "trialJobId": f"t{number}",
        "status": status,
        "hyperParameters": [json.dumps(chosen)],
        "startTime": 1_700_000_000_000,
        "logPath": str(directory / f"t{number}"),
        "sequenceId": number,
        "envId": "local-env",
    }
    if final is not None:
        job["finalMetricData"] = [metric(number, "FINAL", 0, final)]
    return job


def metric(number: int, kind: str, sequence: int, value: object) -> dict[str, Any]:
    """Return one element of ``/metric-data``."""
    return {
        "timestamp": 1_700_000_000_000,
        "trialJobId": f"t{number}",
        "parameterId": str(number),
        "type": kind,
        "sequence": sequence,
        "data": json.dumps(json.dumps(value)),
    }


class FakeManager:
    """What a manager answers.

    ``statuses`` are answered one after the other, the last one forever; None means that the
    manager has gone. ``trials`` may be a function of the number of polls so far. ``missing`` are
    paths that get the status 500, as NNI does. ``puts`` are the updates that it has received.
    """

    def __init__(self) -> None:
        self.experiment_id = "exp1"
        self.statuses: list[str | None] = ["DONE"]
        self.errors: list[str] = []
        self.trials: list[dict[str, Any]] | Callable[[int], list[dict[str, Any]]] = []
        self.metrics: list[dict[str, Any]] = []
        self.params: dict[str, Any] = {"maxTrialNumber": 4}
        self.missing: set[str] = set()
        self.puts: list[tuple[str, dict[str, Any]]] = []
        self.polls = 0

    def answer(self, path: str) -> object:
        if path == "check-status":
            self.polls += 1
            status = self.statuses[min(self.polls, len(self.statuses)) - 1]
            return None if status is None else {"status": status, "errors": self.errors}
        if path == "experiment":
            return {"id": self.experiment_id, "params": self.params}
        jobs = self.trials(self.polls) if callable(self.trials) else self.trials
        if path == "trial-jobs":
            return jobs
        if path.startswith("trial-jobs/"):
            return next(job for job in jobs if job["trialJobId"] == path.split("/")[1])
        assert path == "metric-data"
        return [*self.metrics, *(m for job in jobs for m in job.get("finalMetricData", []))]


@contextmanager
def serve(manager: FakeManager, prefix: str = "") -> Iterator[int]:
    """Answer on a free port, which is yielded; all paths start with the prefix."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix(f"{prefix}/api/v1/nni/")
            if path in manager.missing:
                self.send_error(500)
                return
            found = manager.answer(path)
            if found is None:
                self.close_connection = True
                return
            body = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            manager.puts.append((self.path.split("/api/v1/nni/")[1], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
