"""The audit for masked gradients: checks whether an accuracy under attack can be trusted."""

from __future__ import annotations

from nni_robust.audit.audit import audit_robustness
from nni_robust.audit.verdict import Audit, Check

__all__ = ["Audit", "Check", "audit_robustness"]
