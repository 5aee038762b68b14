"""The state of a strategy, as a file from which ``nnictl resume`` continues."""

from __future__ import annotations

import pickle
from collections.abc import Set
from pathlib import Path

from nni.nas.strategy import Strategy

from nni_robust.atomic import replacing
from nni_robust.check import SettingError

_FORMAT = 1


def save_state(path: Path, strategy: Strategy, ended: Set[int]) -> None:
    """Write a strategy's state: completely, or not at all.

    Parameters
    ----------
    path
        The file.
    strategy
        The strategy.
    ended
        Parameter ids of the trials whose end the strategy knows.
    """
    state = {"format": _FORMAT, "strategy": strategy.state_dict(), "ended": set(ended)}
    with replacing(path) as scratch:
        scratch.write_bytes(pickle.dumps(state))


def load_state(path: Path, strategy: Strategy) -> set[int]:
    """Load a strategy's state, if there is one, and return the parameter ids of known ends.

    Raises
    ------
    SettingError
        If the file is damaged, or has another format.
    """
    if not path.is_file():
        return set()
    # A pickle, because NNI's strategies keep objects of their own in their state. The file was
    # written by this very experiment.
    try:
        state = pickle.loads(path.read_bytes())
    except Exception as error:  # unpickling may raise anything
        raise SettingError(
            f"{str(path)!r} must be the state of this experiment's strategy, but it cannot be "
            f"read: {error}. Delete it to continue from the trials alone."
        ) from error
    if state.get("format") != _FORMAT:
        raise SettingError(
            f"{str(path)!r} must have format {_FORMAT}, got {state.get('format')!r}."
        )
    strategy.load_state_dict(state["strategy"])
    return set(state["ended"])
