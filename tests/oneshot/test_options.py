"""The options of a RACL search: ranges, and names that settings files can keep apart."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields

import pytest

from nni_robust.oneshot import BoundOptions, ConstraintOptions, LoopOptions, WeightOptions

GROUPS = (ConstraintOptions, BoundOptions, WeightOptions, LoopOptions)


def test_no_two_groups_share_a_name():
    names = Counter(field.name for group in GROUPS for field in fields(group))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(
    ("group", "option", "message"),
    [
        (ConstraintOptions, {"confidence": 1.0}, "confidence must lie strictly between 0 and 1"),
        (ConstraintOptions, {"confidence": 0.0}, "confidence must lie strictly between 0 and 1"),
        (ConstraintOptions, {"rho": 0.0}, "rho must be positive, got 0.0"),
        (ConstraintOptions, {"rho": -1.0}, "rho must be positive"),
        (ConstraintOptions, {"lipschitz_target": 0.0}, "lipschitz_target must be positive"),
        (ConstraintOptions, {"relative_target": 1.5}, r"relative_target must lie in \(0, 1\]"),
        (ConstraintOptions, {"dual": "equality"}, r"dual must be one of \['inequality'"),
        (BoundOptions, {"lipschitz": "frobenius"}, r"lipschitz must be one of \['operator'"),
        (BoundOptions, {"pooling": "none"}, "pooling must be one of"),
        (BoundOptions, {"eq12": "wrong"}, "eq12 must be one of"),
        (BoundOptions, {"cell_correlation": "some"}, "cell_correlation must be one of"),
        (BoundOptions, {"constants": {"odd": -1.0}}, r"constants\['odd'\] must be finite and not"),
        (WeightOptions, {"initial_sigma": 0.0}, r"initial_sigma must lie in \[0.001, 1.0\], got 0"),
        (WeightOptions, {"rank": "mode"}, r"rank must be one of \['median', .* got 'mode'"),
        (WeightOptions, {"rank_deviations": -3.0}, "rank_deviations must not be negative"),
        (LoopOptions, {"learning_rate": 0.0}, "learning_rate must be positive"),
        (LoopOptions, {"weight_decay": -1e-3}, "weight_decay must not be negative"),
        (LoopOptions, {"warmup_epochs": -1}, "warmup_epochs must be a whole number of at least 0"),
        (LoopOptions, {"max_norm": -1.0}, "max_norm must be positive"),
        (LoopOptions, {"refresh_every": 0}, "refresh_every must be a whole number of at least 1"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_value_outside_its_range_is_refused(group, option, message):
    with pytest.raises(ValueError, match=message):
        group(**option)
