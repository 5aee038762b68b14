"""The contract of all attacks: one parametrised test per promise.

A new attack needs one line in CASES.
"""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.testing import assert_close

from nni_robust.attack import (
    APGD_CE,
    APGD_T,
    ATTACKS,
    FAB_T,
    FGSM,
    MIM,
    PGD,
    Attack,
    DeepFool,
    Noise,
    Square,
    ThreatModel,
    Transfer,
    autoattack,
)
from nni_robust.attack.autoattack import AutoAttackPart

EPSILON = 0.05
LINF = ThreatModel(norm="linf", epsilon=EPSILON)
L2 = ThreatModel(norm="l2", epsilon=EPSILON)

# A network for images of any size here: one class per channel, the brightest channel wins.
SOURCE = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()

# The steps of every ascent are long and numerous enough to reach the optimum of a linear model.
ASCENTS: list[Attack] = [
    attack
    for threat_model in (LINF, L2)
    for attack in (
        FGSM(threat_model=threat_model),
        FGSM(threat_model=threat_model, loss="cw"),
        PGD(threat_model=threat_model, steps=20, step_size=4 * EPSILON),
        PGD(threat_model=threat_model, steps=20, step_size=4 * EPSILON, loss="cw"),
        PGD(threat_model=threat_model, steps=20, step_size=4 * EPSILON, restarts=2),
        MIM(threat_model=threat_model, steps=10, step_size=EPSILON),
        MIM(threat_model=threat_model, steps=10, step_size=EPSILON, loss="cw"),
    )
]
CASES: list[Attack] = ASCENTS + [
    attack
    for threat_model in (LINF, L2)
    for attack in (
        PGD(threat_model=threat_model, steps=5, restarts=2, loss="kl"),
        DeepFool(threat_model=threat_model),
        Noise(threat_model=threat_model, repeats=3),
        Transfer(source=SOURCE, attack=PGD(threat_model=threat_model, steps=5)),
        APGD_CE(threat_model=threat_model),
        APGD_T(threat_model=threat_model),
        FAB_T(threat_model=threat_model),
        Square(threat_model=threat_model, queries=20),
    )
]

each_attack = pytest.mark.parametrize("attack", CASES, ids=repr)
each_mode = pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])


class Wandering(nn.Module):
    """Write to one buffer and replace another in every forward pass, and draw random numbers."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("last", torch.zeros(4))

    def forward(self, x):
        self.calls += 1
        self.last = x.detach().mean((0, 2, 3))
        return x + 0.01 * torch.randn_like(x)


@pytest.fixture(autouse=True)
def few_steps_of_autoattack(monkeypatch):
    """Save time: the contract does not depend on the number of steps."""
    monkeypatch.setattr(autoattack, "_STEPS", 5)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        Wandering(),
        nn.ReLU(inplace=True),
        parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1)),
        nn.InstanceNorm2d(4, track_running_stats=True),
        nn.Dropout(0.3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 4),  # the targeted loss of APGD needs four classes
    )
    network[0].bias.requires_grad_(False)
    for number, parameter in enumerate(network.parameters()):
        if number % 2:
            parameter.grad = torch.full_like(parameter, float(number))
    network[5].eval()  # attacks must also preserve a mixture of modes
    return network


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(6, 3, 8, 8, generator=generator)
    x[0], x[1] = 0.0, 1.0  # at the limits of the image range
    return x, torch.randint(3, (6,), generator=generator)


@pytest.fixture
def linear():
    """Return a network with two classes whose logits are opposite linear functions."""
    weight = torch.randn(12, generator=torch.Generator().manual_seed(2))
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    network[1].weight.data.copy_(torch.stack([-weight, weight]))
    return network


@pytest.fixture
def linear_batch():
    generator = torch.Generator().manual_seed(3)
    return torch.rand(5, 3, 2, 2, generator=generator), torch.tensor([0, 1, 1, 0, 1])


@pytest.fixture
def plain():
    """Return a deterministic network with four classes."""
    weight = torch.randn(4, 192, generator=torch.Generator().manual_seed(9))
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    network[1].weight.data.copy_(weight)
    return network


def seeded(attack, network, batch):
    return attack(network, *batch, generator=torch.Generator().manual_seed(4))


def test_the_contract_covers_every_attack():
    assert {type(attack) for attack in CASES} == set(ATTACKS.values())


@each_attack
@each_mode
def test_attacked_images_are_in_the_ball_and_in_0_to_1(attack, network, batch, training):
    x, _ = batch
    x_adv = attack(network.train(training), *batch)
    order = math.inf if attack.threat_model.norm == "linf" else 2
    length = torch.linalg.vector_norm((x_adv - x).flatten(1), order, dim=1)
    assert x_adv.shape == x.shape
    assert x_adv.dtype == x.dtype
    assert not x_adv.requires_grad
    assert float(length.max()) <= EPSILON * (1 + 1e-5)
    assert float(x_adv.min()) >= 0
    assert float(x_adv.max()) <= 1


def state(network):
    """Return everything that an attack must leave unchanged, in comparable form."""
    return {
        "modes": [module.training for module in network.modules()],
        "tracking": [getattr(m, "track_running_stats", None) for m in network.modules()],
        "flags": [parameter.requires_grad for parameter in network.parameters()],
        "identities": [id(t) for t in (*network.parameters(), *network.buffers())],
        "values": [t.detach().clone().tolist() for t in network.state_dict().values()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in network.parameters()],
        "random": torch.get_rng_state().tolist(),
        "gradients on": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
    }


@each_attack
@each_mode
def test_network_batch_and_random_state_stay_unchanged(attack, network, batch, training):
    for module in network[:5]:
        module.train(training)
    network[6].train(training)
    before, batch_before = state(network), [t.clone() for t in batch]
    attack(network, *batch)
    assert state(network) == before
    assert all(torch.equal(now, then) for now, then in zip(batch, batch_before, strict=True))


@pytest.mark.parametrize(
    "attack", [a for a in CASES if not isinstance(a, Transfer)], ids=repr
)  # a transfer does not run the network
def test_the_state_is_restored_when_the_network_fails(attack, network, batch):
    network.train()
    network[-1] = nn.Linear(5, 4)  # the wrong number of inputs
    before = state(network)
    with pytest.raises(RuntimeError):
        attack(network, *batch)
    assert state(network) == before


@each_attack
def test_an_attack_between_forward_and_backward_does_not_change_gradients(attack, network, batch):
    def weight_gradient(network, between):
        torch.manual_seed(5)
        loss = nn.functional.cross_entropy(network(batch[0]), batch[1])
        between(network)
        return torch.autograd.grad(loss, network[0].weight)[0]

    network.train()
    expected = weight_gradient(copy.deepcopy(network), lambda network: None)
    gradient = weight_gradient(network, lambda network: attack(network, *batch))
    assert torch.equal(gradient, expected)


@each_attack
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_an_attack_works_the_same_if_the_caller_disables_gradients(attack, network, batch, context):
    network.eval()
    torch.manual_seed(6)
    expected = seeded(attack, network, batch)
    before = state(network)
    with context():
        x, y = (t.clone() for t in batch)  # in inference mode, inference tensors
        inside = state(network)
        x_adv = seeded(attack, network, (x, y))
        assert state(network) == inside
    assert torch.equal(x_adv, expected)
    assert state(network) == before


@each_attack
@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_an_attack_works_after_a_clean_pass_under_autocast(attack, network, batch, context):
    network.eval()
    with context(), torch.autocast("cpu", dtype=torch.bfloat16):
        network(batch[0])  # autocast caches the weights that it casts
        x_adv = attack(network, *batch)
    assert x_adv.dtype == torch.float32
    # AutoAttack returns an image unchanged if it cannot get it misclassified.
    assert isinstance(attack, AutoAttackPart) or not torch.equal(x_adv, batch[0])


@each_attack
def test_the_same_seed_gives_the_same_result(attack, network, batch):
    network.eval()
    assert torch.equal(seeded(attack, network, batch), seeded(attack, network, batch))


@each_attack
def test_without_a_generator_the_global_random_state_does_not_matter(attack, plain, batch):
    torch.manual_seed(7)
    first = attack(plain, *batch)
    torch.manual_seed(8)
    assert torch.equal(attack(plain, *batch), first)


@each_attack
@each_mode
def test_with_epsilon_0_the_image_stays_unchanged(attack, network, batch, training):
    zero = dataclasses.replace(attack.threat_model, epsilon=0.0)
    if isinstance(attack, Transfer):
        weak = dataclasses.replace(attack.attack, threat_model=zero)
        attack = dataclasses.replace(attack, attack=weak)
    else:
        attack = dataclasses.replace(attack, threat_model=zero)
    assert torch.equal(attack(network.train(training), *batch), batch[0])


@each_attack
def test_an_empty_batch_gives_an_empty_batch(attack, network):
    x, y = torch.empty(0, 3, 8, 8), torch.empty(0, dtype=torch.int64)
    assert attack(network.train(), x, y).shape == x.shape


@each_attack
def test_a_network_that_ignores_the_image_can_be_attacked(attack, batch):
    class Blind(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return self.bias.expand(len(x), 4)

    x, _ = batch
    x_adv = attack(Blind(), *batch)
    assert float((x_adv - x).abs().max()) <= EPSILON * (1 + 1e-5)


@pytest.mark.parametrize("attack", [a for a in ASCENTS if a.threat_model == LINF], ids=repr)
def test_linf_attack_reaches_the_optimum_of_a_linear_model(attack, linear, linear_batch):
    x, y = linear_batch
    direction = linear[1].weight[1].sign().view(3, 2, 2)  # towards class 1
    away = torch.where(y == 1, -1.0, 1.0).view(-1, 1, 1, 1)
    best = (x + EPSILON * away * direction).clamp(0, 1)
    assert_close(attack(linear, x, y), best.detach())


@pytest.mark.parametrize("attack", [a for a in ASCENTS if a.threat_model == L2], ids=repr)
def test_l2_attack_reaches_the_optimum_of_a_linear_model(attack, linear, linear_batch):
    x, y = linear_batch
    x = 0.3 + 0.4 * x  # the ball stays inside the image range
    weight = linear[1].weight[1].detach()
    direction = (weight / weight.norm()).view(3, 2, 2)
    away = torch.where(y == 1, -1.0, 1.0).view(-1, 1, 1, 1)
    assert_close(attack(linear, x, y), x + EPSILON * away * direction)


@pytest.mark.parametrize("attack", ASCENTS, ids=repr)
@pytest.mark.parametrize("scale", [1e-25, 3.0])
def test_the_scale_of_the_gradient_does_not_matter(attack, linear, linear_batch, scale):
    # The loss of a linear model depends on the scale of its weights; its worst image does not.
    x, y = (0.3 + 0.4 * linear_batch[0]).double(), linear_batch[1]
    expected = seeded(attack, linear.double(), (x, y))
    linear[1].weight.data.mul_(scale)
    assert_close(seeded(attack, linear, (x, y)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(3, dtype=torch.int64), r"x must .* \(N, C, H, W\)"),
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2).long(), "x must be floating"),
        (torch.full((2, 3, 4, 4), 1.5), torch.zeros(2).long(), r"x must lie in \[0, 1\], got"),
        (torch.full((2, 3, 4, 4), -0.5), torch.zeros(2).long(), r"x must lie in \[0, 1\], got"),
        (torch.full((2, 3, 4, 4), math.nan), torch.zeros(2).long(), r"x must lie in \[0, 1\]"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(3).long(), r"y must .* shape \(2,\)"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2), "y must .* dtype torch.int64"),
    ],
    ids=["three dims", "uint8", "above 1", "below 0", "nan", "length of y", "dtype of y"],
)
def test_an_invalid_batch_is_refused(network, x, y, message):
    with pytest.raises(ValueError, match=message):
        FGSM()(network, x, y)


def test_an_attack_is_an_immutable_value():
    attack = PGD(steps=7)
    assert attack == PGD(steps=7)
    assert hash(attack) == hash(PGD(steps=7))
    with pytest.raises(dataclasses.FrozenInstanceError):
        attack.steps = 8


def test_the_abstract_attack_cannot_be_built():
    with pytest.raises(TypeError, match="abstract"):
        Attack()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@each_attack
@each_mode
def test_on_an_accelerator_the_random_state_stays_unchanged(attack, network, batch, training):
    network = network.cuda().train(training)
    x, y = (t.cuda() for t in batch)
    before, random = state(network), torch.cuda.get_rng_state()
    x_adv = attack(network, x, y)
    assert x_adv.device == x.device
    assert state(network) == before
    assert torch.equal(torch.cuda.get_rng_state(), random)


class Standardised(nn.Module):
    """Divide every channel by its norm, whose gradient is NaN if the channel is black."""

    def forward(self, x):
        features = x / (x.square().mean((2, 3), keepdim=True).sqrt() + 0.1)
        return SOURCE(features)


@pytest.mark.parametrize("attack", [*ASCENTS, DeepFool(threat_model=L2), DeepFool()], ids=repr)
def test_a_gradient_of_nan_does_not_make_the_image_nan(attack):
    x = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x[:3, 0] = 0.0
    network, y = Standardised(), torch.tensor([1, 2, 1, 0, 1, 2])
    probe = x.clone().requires_grad_()
    nn.functional.cross_entropy(network(probe), y).backward()
    assert not probe.grad[:3].isfinite().all()
    x_adv = attack(network, x, y)
    assert x_adv.isfinite().all()
    right = network(x).argmax(1) == y
    if not isinstance(attack, DeepFool):  # which does not change misclassified images
        right[:] = True
    assert ((x_adv != x).flatten(1).any(1) | ~right).all()
