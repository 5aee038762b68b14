"""The contract of all datasets: one test per promise, run for every dataset."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch.testing import assert_close

from nni_robust.check import SettingError
from nni_robust.data import DATASETS

SPLITS = ("train", "validation", "test")


@pytest.fixture(params=sorted(DATASETS))
def make(
    request, cifar_files, cifar100_root, mnist_root, svhn_root, tiny_root, imagenet_root,
    ten_classes,
):  # fmt: skip
    own = {
        "cifar10": {"root": str(cifar_files["root"])},
        "cifar100": {"root": str(cifar100_root)},
        "mnist": {"root": str(mnist_root)},
        "svhn": {"root": str(svhn_root)},
        "tiny_imagenet": {"root": str(tiny_root)},
        "imagenet": {"root": str(imagenet_root)},
        "image_folder": {"root": str(imagenet_root / "train"), "image_size": 16},
    }.get(request.param, {})
    return lambda **kwargs: DATASETS[request.param](**own, **kwargs)


def rows(x):
    """Return images as a set of byte strings."""
    return {image.numpy().tobytes() for image in x}


def test_classes_and_shape_are_known_before_any_image_is_read(make):
    data = make()
    assert data.num_classes == 10
    assert len(data.image_shape) == 3


@pytest.mark.parametrize("split", SPLITS)
def test_examples_are_images_between_0_and_1(make, split):
    data = make()
    x, y = data.examples(split)
    assert x.shape == (len(y), *data.image_shape)
    assert x.dtype == torch.float32
    assert y.dtype == torch.int64
    assert 0 <= x.min() < x.max() <= 1
    assert set(y.tolist()) == set(range(data.num_classes))


def test_splits_are_disjoint_and_complete(make):
    # A dataset may contain equal images, so unique numbers take their place.
    data = make()
    x, y, x_test, y_test = data._load()
    numbers = torch.arange(len(y)).view(-1, 1, 1, 1).expand(x.shape)
    splits = data._divide(numbers, y, x_test, y_test)
    train, validation = (
        set(splits[name][0][:, 0, 0, 0].tolist()) for name in ("train", "validation")
    )
    assert not train & validation
    assert train | validation == set(range(len(y)))
    assert len(splits["test"][1]) == len(y_test)


def test_the_validation_set_has_the_requested_share(make):
    data = make(validation_split=0.25)
    train, validation = (len(data.examples(name)[1]) for name in ("train", "validation"))
    assert abs(validation - 0.25 * (train + validation)) <= 0.5


@pytest.mark.parametrize("limit", [None, 50, 53])
def test_splits_are_stratified_within_one_image_per_class(make, limit):
    data, whole = make(limit=limit), make()
    pool = torch.cat([whole.examples(name)[1] for name in ("train", "validation")])
    for name in SPLITS:
        y = data.examples(name)[1]
        like = whole.examples("test")[1] if name == "test" else pool
        share = like.bincount(minlength=10) / len(like)
        assert (y.bincount(minlength=10) - share * len(y)).abs().max() <= 1 + 1e-4


def test_limit_applies_to_training_and_test_images(make):
    data = make(limit=40, validation_split=0.25)
    assert [len(data.examples(name)[1]) for name in SPLITS] == [30, 10, 40]


def test_the_same_seed_gives_the_same_splits(make):
    for name in SPLITS:
        assert_close(make(seed=3).examples(name), make(seed=3).examples(name), rtol=0, atol=0)


def test_the_seed_decides_the_validation_set_but_not_the_test_set(make):
    one, other = make(seed=1, limit=100), make(seed=2, limit=100)
    assert rows(one.examples("validation")[0]) != rows(other.examples("validation")[0])
    assert_close(one.examples("test"), other.examples("test"), rtol=0, atol=0)


def test_fewer_examples_are_a_stratified_prefix_of_more_examples(make):
    data = make()
    x, _ = data.examples("test", limit=25)
    x_few, y_few = data.examples("test", limit=20)
    assert_close(x[:20], x_few)
    assert (y_few.bincount(minlength=10) - 2).abs().max() <= 1


def test_the_training_order_depends_only_on_seed_and_epoch(make):
    first, again = (make(seed=5, batch_size=32).train_dataloader() for _ in range(2))
    epochs = [torch.cat([x for x, _ in first]) for _ in range(3)]
    again.set_epoch(2)
    assert_close(torch.cat([x for x, _ in again]), epochs[2], rtol=0, atol=0)
    assert not torch.equal(epochs[0], epochs[1])


def test_evaluation_loaders_yield_the_examples_in_order(make):
    data = make(batch_size=7)
    for loader, name in ((data.val_dataloader(), "validation"), (data.test_dataloader(), "test")):
        for _ in range(2):
            batches = list(loader)
            assert len(batches) == len(loader)
            x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
            assert_close((x, y), data.examples(name), rtol=0, atol=0)


def test_training_images_without_augmentation_are_the_examples(make):
    data = make(augment=False, batch_size=2)
    x = torch.cat([x for x, _ in data.train_dataloader()])
    assert rows(x) <= rows(data.examples("train")[0])


def test_augmentation_stays_in_range_and_leaves_the_stored_images_unchanged(make):
    data = make(augment=True)
    before = data.examples("train")[0].clone()
    x = torch.cat([x for x, _ in data.train_dataloader()])
    assert 0 <= x.min() <= x.max() <= 1
    assert x.shape[1:] == data.image_shape
    assert rows(x) != rows(before)
    assert_close(data.examples("train")[0], before, rtol=0, atol=0)


def test_loading_does_not_change_the_global_random_state(make):
    before = torch.random.get_rng_state()
    list(make(augment=True).train_dataloader())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_copies_contain_the_settings_but_not_the_images(make):
    data = make(seed=4)
    expected = data.examples("validation")
    assert len(pickle.dumps(data)) < 2000
    for copied in (pickle.loads(pickle.dumps(data)), copy.deepcopy(data)):
        assert copied._splits is None
        assert_close(copied.examples("validation"), expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": 0.5}, "batch_size must be a whole number .* got 0.5"),
        ({"batch_size": True}, "batch_size must be a whole number .* got True"),
        ({"seed": -1}, r"seed must be a whole number from 0 to 2\^32 - 1, got -1"),
        ({"seed": 2**32}, "seed must be a whole number .* got 4294967296"),
        ({"limit": 9}, "limit must be a whole number of at least 10, got 9"),
        ({"validation_split": 0}, "validation_split must .* between 0 and 1, got 0"),
        ({"validation_split": 1.0}, "validation_split must .* got 1.0"),
    ],
)
def test_invalid_arguments_are_refused_before_any_image_is_read(make, arguments, message):
    with pytest.raises(SettingError, match=message):
        make(**arguments)


def test_an_unknown_split_is_refused(make):
    with pytest.raises(SettingError, match=r"split must be one of .*, got 'val'"):
        make().examples("val")


def test_an_invalid_limit_of_examples_is_refused(make):
    with pytest.raises(SettingError, match="limit must be a whole number of at least 1, got 0"):
        make().examples("test", limit=0)


def test_an_empty_validation_set_is_refused(make):
    with pytest.raises(SettingError, match=r"validation_split must leave .* got 0.01 of 10 images"):
        make(limit=10, validation_split=0.01).train_dataloader()


def test_another_validation_share_keeps_the_smaller_set_inside_the_larger_one(make):
    data = make(validation_split=0.2)
    larger = data.with_validation_split(0.4)
    small, large = (rows(d.examples("validation")[0]) for d in (data, larger))
    assert small < large
    with pytest.raises(SettingError, match=r"validation_split must .* got 1.5"):
        data.with_validation_split(1.5)
