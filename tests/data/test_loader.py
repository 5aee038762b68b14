"""The loader alone and inside Lightning."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import CombinedLoader
from torch.testing import assert_close

from nni_robust.check import SettingError
from nni_robust.data import Synthetic, TensorLoader
from nni_robust.data.split import stratified_order

# A warning about Lightning's own use of PyTorch.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")


def numbered(n):
    return torch.arange(n).view(n, 1, 1, 1) / 255, torch.arange(n)


@pytest.mark.parametrize(
    ("n", "batch_size", "training", "evaluation"),
    [
        (9, 4, [4, 4], [4, 4, 1]),
        (10, 4, [4, 4, 2], [4, 4, 2]),
        (8, 4, [4, 4], [4, 4]),
        (1, 4, [1], [1]),
        (3, 1, [1, 1, 1], [1, 1, 1]),
    ],
)
def test_only_training_drops_a_last_batch_of_one_image(n, batch_size, training, evaluation):
    for seed, sizes in ((0, training), (None, evaluation)):
        loader = TensorLoader(*numbered(n), batch_size=batch_size, seed=seed)
        assert [len(y) for _, y in loader] == sizes
        assert len(loader) == len(sizes)


def test_an_epoch_contains_every_image_once_with_its_label():
    loader = TensorLoader(*numbered(11), batch_size=3, seed=0)
    x, y = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert sorted(y.tolist()) == list(range(11))
    assert_close(x.flatten() * 255, y.float())


def test_bytes_become_fractions():
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    batch, _ = next(iter(TensorLoader(x, torch.zeros(3), batch_size=3)))
    assert_close(batch.flatten(), torch.tensor([0.0, 0.2, 1.0]))


def test_augmentation_without_a_seed_is_refused():
    with pytest.raises(SettingError, match=r"seed must be given with .* flip, .* got None"):
        TensorLoader(*numbered(4), batch_size=2, flip=True)


@pytest.mark.parametrize("settings", [{"batch_size": True}, {"batch_size": 2, "seed": 2**32}])
def test_an_invalid_batch_size_or_seed_is_refused(settings):
    with pytest.raises(SettingError, match="must be a whole number"):
        TensorLoader(*numbered(4), **settings)


def test_every_prefix_of_the_order_is_stratified():
    y = torch.tensor([0] * 50 + [1] * 30 + [2] * 20)[
        torch.randperm(100, generator=torch.Generator().manual_seed(0))
    ]
    order = stratified_order(y, 7)
    assert sorted(order.tolist()) == list(range(100))
    for n in range(1, 101):
        counts = y[order[:n]].bincount(minlength=3)
        assert (counts - n * torch.tensor([0.5, 0.3, 0.2])).abs().max() <= 1


class Recorder(pl.LightningModule):
    """Train nothing; record which images came in which order."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = []

    def training_step(self, batch, index):
        x, _ = batch
        self.seen.append((self.current_epoch, x[0].sum().item()))
        return self.weight * x.mean()

    def validation_step(self, batch, index):
        self.log("loss", batch[0].mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(tmp_path, epochs, **kwargs):
    module = Recorder()
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    )  # fmt: skip
    data = Synthetic(num_examples=60, batch_size=10, seed=2, augment=True)
    trainer.fit(module, datamodule=data, **kwargs)
    return module, trainer


def test_a_resumed_training_sees_the_same_images_as_an_uninterrupted_one(tmp_path):
    whole, _ = fit(tmp_path, 4)
    first, trainer = fit(tmp_path, 2)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second, _ = fit(tmp_path, 4, ckpt_path=tmp_path / "half.ckpt")
    assert first.seen + second.seen == whole.seen
    by_epoch = [{value for epoch, value in whole.seen if epoch == k} for k in range(4)]
    assert by_epoch[0] != by_epoch[1]


def test_lightning_can_combine_two_loaders():
    loaders = {
        "a": TensorLoader(*numbered(6), batch_size=2, seed=0),
        "b": TensorLoader(*numbered(4), batch_size=2),
    }
    batches = [batch for batch, _, _ in CombinedLoader(loaders, "max_size_cycle")]
    assert len(batches) == 3
    assert all(set(batch) == {"a", "b"} for batch in batches)


TOGETHER = """
import sys
from pathlib import Path
import pytorch_lightning as pl
import torch
from torch import nn
from nni_robust.data import Synthetic
from nni_robust.attack import PGD
from nni_robust.evaluator import AdversarialClassification
from nni_robust.training import Recipe

class Seen(pl.Callback):
    seen = []
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(batch[0])
    def on_train_epoch_end(self, trainer, pl_module):
        torch.save((self.seen, pl_module.state_dict()), f"{sys.argv[1]}/{trainer.global_rank}.pt")

torch.manual_seed(0)
network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
data = Synthetic(num_classes=3, image_shape=(1, 4, 4), num_examples=101, batch_size=16)
AdversarialClassification(
    data=data, train_attack=PGD(steps=1), recipe=Recipe(), max_epochs=1, callbacks=[Seen()],
    accelerator="cpu", devices=2, strategy="ddp_fork", logger=False, limit_val_batches=0,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
).evaluate(network)
"""


@pytest.mark.slow
def test_processes_that_train_together_share_an_epoch(tmp_path):
    subprocess.run([sys.executable, "-W", "ignore", "-c", TOGETHER, str(tmp_path)], check=True)
    (first, weights), (second, same) = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert [len(x) for x in first] == [len(x) for x in second]
    x, _ = Synthetic(num_classes=3, image_shape=(1, 4, 4), num_examples=101).examples("train")
    seen = torch.cat([*first, *second]).flatten(1)
    assert len(seen) == len(x) + len(x) % 2  # an odd number: one image comes twice
    assert {tuple(image) for image in seen.tolist()} == {tuple(i) for i in x.flatten(1).tolist()}
    for name, value in weights.items():
        assert torch.equal(value, same[name])


@pytest.mark.parametrize("name", ["train", "architecture", "val", "test"])
def test_a_loader_of_a_data_module_is_pickled_without_its_images(name):
    data = Synthetic(num_examples=200, batch_size=16)
    loader = getattr(data, f"{name}_dataloader")()
    loader.set_epoch(2)
    pickled = pickle.dumps(loader)
    assert len(pickled) < 2000
    for (x, y), (x_again, y_again) in zip(loader, pickle.loads(pickled), strict=True):
        assert torch.equal(x, x_again)
        assert torch.equal(y, y_again)


def test_a_loader_of_tensors_is_pickled_with_them():
    loader = TensorLoader(*numbered(5), batch_size=2, seed=0)
    again = pickle.loads(pickle.dumps(loader))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(loader, again, strict=True))
