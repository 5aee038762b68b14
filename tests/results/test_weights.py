"""State dicts from elsewhere: wrapped, prefixed, damaged, of another network."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from nni_robust.check import SettingError
from nni_robust.model import MODELS
from nni_robust.results.weights import describe_weights, load_weights, restore, save_weights
from nni_robust.settings.networks import NETWORKS
from nni_robust.space import PUBLISHED


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


class Wrapper(nn.Module):
    """A network whose own names begin as those of a wrapped one."""

    def __init__(self):
        super().__init__()
        self.model = small()


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod."])
@pytest.mark.parametrize("wrap", [dict, lambda state: {"format": 1, "state_dict": state}])
def test_a_state_is_read_in_every_usual_form(tmp_path, prefix, wrap):
    source, target = small(), small()
    with torch.no_grad():
        for parameter in target.parameters():
            parameter.zero_()
    state = {f"{prefix}{name}": value for name, value in source.state_dict().items()}
    torch.save(wrap(state), tmp_path / "w.pt")
    restore(target, load_weights(tmp_path / "w.pt"), "w.pt")
    x = torch.rand(2, 1, 4, 4)
    assert_close(target.eval()(x), source.eval()(x))


def test_a_prefix_that_is_the_networks_own_stays():
    source, target = Wrapper(), Wrapper()
    restore(target, source.state_dict(), "w.pt")
    prefixed = {f"module.{name}": value for name, value in source.state_dict().items()}
    restore(target, prefixed, "w.pt")


def test_a_state_from_before_the_counters_of_batch_norm_is_read():
    state = {k: v for k, v in small().state_dict().items() if "num_batches" not in k}
    restore(small(), state, "w.pt")


def test_a_state_that_does_not_fit_is_refused_in_one_line():
    state = small().state_dict()
    state["head.weight"] = state.pop("3.weight")
    state["0.weight"] = torch.zeros(2, 3, 3, 3)
    with pytest.raises(ValueError, match="weights must fit the network") as caught:
        restore(small(), state, "w.pt")
    assert str(caught.value) == (
        "weights must fit the network: it has 9 tensors and 'w.pt' has 9, with 1 missing "
        "(3.weight), 1 unknown (head.weight), "
        "1 of another shape (0.weight (2, 3, 3, 3) instead of (2, 1, 3, 3))."
    )


def test_files_that_hold_something_else_are_refused(tmp_path):
    path = tmp_path / "w.pt"
    with pytest.raises(ValueError, match="weights must be a file, but there is none"):
        load_weights(path)
    torch.save(small(), path)  # a pickled network could run anything
    with pytest.raises(ValueError, match="damaged or holds other objects"):
        load_weights(path)
    path.write_bytes(b"PK" + bytes(30))
    with pytest.raises(ValueError, match="damaged or holds other objects"):
        load_weights(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="damaged or holds other objects"):
        load_weights(path)
    torch.save({"epoch": 3, "weights": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"from names to tensors, .*, got a dict with the keys"):
        load_weights(path)
    for name in ("model", "model_state_dict"):
        torch.save({"epoch": 3, name: small().state_dict()}, path)
        assert load_weights(path).keys() == small().state_dict().keys()
    torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match=r"from names to tensors, .*, got a list"):
        load_weights(path)


def test_every_published_and_reference_network_has_a_name():
    assert {*PUBLISHED, *MODELS} <= set(NETWORKS)


def test_saved_weights_come_back_without_their_device_or_gradient(tmp_path):
    network = small()
    save_weights(tmp_path / "new" / "w.pt", network)
    state = load_weights(tmp_path / "new" / "w.pt")
    assert not any(value.requires_grad for value in state.values())
    for name, value in network.state_dict().items():
        assert_close(state[name], value)


def test_weights_of_another_format_are_refused(tmp_path):
    torch.save({"format": 7, "state_dict": small().state_dict()}, tmp_path / "w.pt")
    with pytest.raises(SettingError, match="weights must have format 1, got 7"):
        load_weights(tmp_path / "w.pt")


def test_weights_that_diverged_are_refused(tmp_path):
    torch.save({"a": torch.tensor(float("nan"))}, tmp_path / "w.pt")
    with pytest.raises(SettingError, match="weights must be finite, but a and 0 more"):
        load_weights(tmp_path / "w.pt")


def test_a_record_names_the_file_of_weights_by_its_content(tmp_path):
    path = tmp_path / "w.pt"
    torch.save({name: value.half() for name, value in small().state_dict().items()}, path)
    described = describe_weights(path, load_weights(path))
    assert described["weights"] == str(path)
    assert described["weights_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert described["weights_dtypes"] == ["torch.float16"]
