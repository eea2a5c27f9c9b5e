"""train/soap.py against a float64 computation in numpy, and against torch's Adam where there is no basis."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from allaprima.train import soap
from allaprima.train.soap import Soap


def gradients(shape, count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape)) * np.linspace(0.1, 3, shape[-1])


def taken(shape, grads, lr=0.01):
    """What Soap makes of a parameter that begins at 0, and its bases, after each of the gradients, in float64; its state."""
    parameter = torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer, found, bases = Soap([parameter], lr), [], []
    for grad in grads:
        parameter.grad = torch.tensor(grad)
        optimizer.step()
        state = optimizer.state[parameter]
        found.append(parameter.detach().numpy().copy())
        bases.append({side: state[f"{side}_basis"].numpy().copy() for side in ("left", "right") if side in state})
    return found, bases, state


def by_hand(grads, bases, lr=0.01):
    """SOAP as in the paper (algorithm 3), in these bases.

    They are not unique, since few gradients span few directions, so each is checked to be what it has to be: eigenvectors of
    the first products, then the Q of a QR decomposition of the averages times the bases before, where they are refined.
    """
    grads = [g.reshape(len(g), -1) for g in grads]
    averages = {"left": grads[0] @ grads[0].T, "right": grads[0].T @ grads[0]}
    weight, m, v = (np.zeros_like(grads[0]) for _ in range(3))
    for side, Q in bases[0].items():
        turned = Q.T @ averages[side] @ Q
        assert np.allclose(turned, np.diag(np.diag(turned)), atol=1e-9)
    for t, g in enumerate(grads[1:], start=1):
        QL, QR = (bases[t - 1].get(side, np.eye(len(averages[side]))) for side in ("left", "right"))
        m = 0.9 * m + 0.1 * g
        v = 0.99 * v + 0.01 * (QL.T @ g @ QR) ** 2
        weight = weight - lr * QL @ ((QL.T @ m @ QR / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)) @ QR.T
        for side, product in (("left", g @ g.T), ("right", g.T @ g)):
            averages[side] = 0.95 * averages[side] + 0.05 * product
        for side, Q in bases[t].items():
            assert np.allclose(Q.T @ Q, np.eye(len(Q)), atol=1e-10)
            if t % soap.TURN_EVERY == 0 or t < soap.TURN_EVERY:
                assert np.allclose(np.tril(Q.T @ averages[side] @ bases[t - 1][side], -1), 0, atol=1e-9)
            else:
                assert np.array_equal(Q, bases[t - 1][side])
    return weight


@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (5, 7, 1, 1), (2, 2, 1, 1)])
def test_convolutions_move_as_the_paper_says(shape):
    grads = gradients(shape, 35)
    found, bases, _ = taken(shape, grads)
    assert bases[0].keys() == {"left", "right"}
    assert np.allclose(found[-1].reshape(len(found[-1]), -1), by_hand(grads, bases), atol=1e-9)
    assert not found[0].any()  # the first step only measures


def test_a_side_that_is_too_large_has_no_basis(monkeypatch):
    monkeypatch.setattr(soap, "LARGEST", 20)
    grads = gradients((6, 3, 3, 3), 25)
    found, bases, _ = taken((6, 3, 3, 3), grads)
    assert bases[0].keys() == {"left"}
    assert np.allclose(found[-1].reshape(6, -1), by_hand(grads, bases), atol=1e-9)


@pytest.mark.parametrize("shape", [(4,), (6, 1, 5, 5)])
def test_vectors_and_depthwise_kernels_move_as_adam_moves_them(shape):
    grads = gradients(shape, 12)
    found, bases, _ = taken(shape, grads)
    parameter = torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    adam = torch.optim.Adam([parameter], 0.01, betas=(0.9, 0.99))
    for grad in grads[1:]:
        parameter.grad = torch.tensor(grad)
        adam.step()
    assert not bases[0] and np.allclose(found[-1], parameter.detach().numpy(), atol=1e-7)


def test_a_step_does_not_depend_on_the_basis_that_the_gradient_comes_in():
    """Adam's does: turn inputs and outputs, and what it finds is not what it found, turned."""
    grads = gradients((6, 6), 30)
    U, V = (np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))[0] for seed in (1, 2))
    plain = taken((6, 6, 1, 1), grads[..., None, None])[0][-1][..., 0, 0]
    turned = taken((6, 6, 1, 1), (U @ grads @ V)[..., None, None])[0][-1][..., 0, 0]
    assert np.allclose(U @ plain @ V, turned, atol=1e-8)


def test_the_first_turn_of_the_bases_makes_no_larger_step():
    """Gradients of few directions, as a network's first ones are: the bases of one alone have to turn far."""
    random = np.random.default_rng(0)
    common = random.standard_normal((16, 3)) @ random.standard_normal((3, 24 * 9))
    own = (random.standard_normal((16, 4)) @ random.standard_normal((4, 24 * 9)) for _ in range(25))
    found, _, _ = taken((16, 24, 3, 3), [(common + 0.3 * each).reshape(16, 24, 3, 3) for each in own])
    moved = np.sqrt(np.square(np.diff(found, axis=0)).mean((1, 2, 3, 4)))
    assert moved[soap.TURN_EVERY :].max() < 1.1 * moved[soap.TURN_EVERY - 1]


def test_optimizers_leave_torchs_compiler_out():
    """They would load it for seconds at the start of each training and comparison."""
    code = (
        "import sys, torch, allaprima.models.devices\n"
        "from allaprima.train.soap import Soap\n"
        "x = torch.ones(3, requires_grad=True)\n"
        "x.square().sum().backward()\n"
        "for optimizer in Soap([x], 0.1), torch.optim.LBFGS([x], max_iter=1):\n"
        "    optimizer.step(*[lambda: x.square().sum()] * isinstance(optimizer, torch.optim.LBFGS))\n"
        "    optimizer.load_state_dict(optimizer.state_dict())\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
