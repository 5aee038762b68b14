"""The results of an audit as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nni_robust.record import Record
from nni_robust.report.robustness import epsilon_text
from nni_robust.report.text_table import TERMINAL_WIDTH, percent, text_table

_VERDICT, _CHECK = 7, 10  # smallest widths, so that tables of several audits align


def audit_table(record: Record) -> str:
    """Return an audit as text, with the measured values and the meaning of every check.

    Parameters
    ----------
    record
        A record of the stage ``audit``.

    Returns
    -------
    str
        Whole numbers are counts of images, shares are in percent.
    """
    audit, settings = record.details["audit"], record.settings
    threat_model = settings["threat_model"]
    step = epsilon_text({**threat_model, "epsilon": settings["step_size"]})
    head = [
        f"{settings['label']}: {audit['num_images']} {settings['split']} images of "
        f"{settings['data']['name']}, {threat_model['norm']} {epsilon_text(threat_model)}, "
        f"steps of {step}, seed {record.seed}",
        f"{_number(audit['clean_accuracy'])} are classified correctly, {_attacked(audit)}",
    ]
    rows = [[check["verdict"], check["name"], _findings(check)] for check in audit["checks"]]
    if not rows:
        return "\n".join(head)
    names = max(_CHECK, *(len(name) for _, name, _ in rows))
    widths = {0: _VERDICT, 1: names}
    rest = TERMINAL_WIDTH - _VERDICT - names - 4
    return "\n".join([*head, text_table(rows, min_widths=widths, max_widths={2: rest})])


def _findings(check: Mapping[str, Any]) -> str:
    numbers = ", ".join(f"{name} {_number(v)}" for name, v in check["measured"].items())
    return "\n".join(part for part in (numbers, check["meaning"]) if part)


def _attacked(audit: Mapping[str, Any]) -> str:
    if audit["robust_accuracy"] is None:
        return "and no attack was run"
    return f"{_number(audit['robust_accuracy'])} under all attacks together"


def _number(value: float | None) -> str:
    if value is None:  # JSON has no NaN
        return "NaN"
    return str(value) if isinstance(value, int) else percent(value)
