"""What an audit has found, as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from nni_robust.record import Record
from nni_robust.report.robustness import epsilon_text

_INDENT = 21
_WIDTH = 100


def audit_table(record: Record) -> str:
    """Write an audit as a table: a check a line, and under it what it means.

    Parameters
    ----------
    record
        Of the stage ``audit``.

    Returns
    -------
    str
        Whole numbers count images, shares are in percent.
    """
    audit, settings = record.details["audit"], record.settings
    threat_model = settings["threat_model"]
    step = epsilon_text({**threat_model, "epsilon": settings["step_size"]})
    lines = [
        f"{settings['label']}: {audit['num_images']} {settings['split']} images of "
        f"{settings['data']['name']}, {threat_model['norm']} {epsilon_text(threat_model)}, "
        f"steps of {step}, seed {record.seed}",
        f"{_number(audit['clean_accuracy'])} are classified right, {_tried(audit)}",
    ]
    for check in audit["checks"]:
        numbers = ", ".join(f"{name} {_number(v)}" for name, v in check["measured"].items())
        lines.append(f"{check['verdict']:<8} {check['name']:<12}{numbers}".rstrip())
        indent = " " * _INDENT
        lines.append(
            textwrap.fill(check["meaning"], _WIDTH, initial_indent=indent, subsequent_indent=indent)
        )
    return "\n".join(lines)


def _tried(audit: Mapping[str, Any]) -> str:
    if audit["robust_accuracy"] is None:
        return "and no attack was tried"
    return f"{_number(audit['robust_accuracy'])} whatever was tried on them"


def _number(value: float | None) -> str:
    if value is None:  # what JSON has no word for
        return "NaN"
    return str(value) if isinstance(value, int) else f"{100 * value:.2f} %"
