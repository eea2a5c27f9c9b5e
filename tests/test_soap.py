"""train/soap.py against a float64 computation in numpy, and against torch's Adam where there is no basis."""

import numpy as np
import pytest
import torch

from allaprima.train import soap
from allaprima.train.soap import Soap


def gradients(shape, count, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *shape)) * np.linspace(0.1, 3, shape[-1])


def taken(shape, grads, lr=0.01):
    """What Soap makes of a parameter that begins at 0, after each of the gradients, in float64."""
    parameter = torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    optimizer, found = Soap([parameter], lr), []
    for grad in grads:
        parameter.grad = torch.tensor(grad)
        optimizer.step()
        found.append(parameter.detach().numpy().copy())
    return found, optimizer.state[parameter]


def first_bases(shape, grads):
    """The eigenvectors that it begins with: not unique, since one gradient spans few directions, so they are checked."""
    state, first = taken(shape, grads[:1])[1], grads[0].reshape(shape[0], -1)
    bases = []
    for side, product in (("left", first @ first.T), ("right", first.T @ first)):
        basis = state.get(f"{side}_basis", torch.eye(len(product))).numpy()
        assert np.allclose(basis.T @ basis, np.eye(len(basis)), atol=1e-10)
        turned = basis.T @ product @ basis
        assert side not in state or np.allclose(turned, np.diag(np.diag(turned)), atol=1e-9)
        bases.append(basis)
    return bases


def by_hand(grads, QL, QR, lr=0.01, left=True, right=True):
    """SOAP as in the paper (algorithm 3), with eigenvectors that are refined every TURN_EVERY steps."""
    grads = [g.reshape(len(g), -1) for g in grads]
    L, R = grads[0] @ grads[0].T, grads[0].T @ grads[0]
    weight, m, v = (np.zeros_like(grads[0]) for _ in range(3))
    for t, g in enumerate(grads[1:], start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.99 * v + 0.01 * (QL.T @ g @ QR) ** 2
        weight = weight - lr * QL @ ((QL.T @ m @ QR / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)) @ QR.T
        L, R = 0.95 * L + 0.05 * g @ g.T, 0.95 * R + 0.05 * g.T @ g
        if t % soap.TURN_EVERY == 0:
            QL = np.linalg.qr(L @ QL)[0] if left else QL
            QR = np.linalg.qr(R @ QR)[0] if right else QR
    return weight


@pytest.mark.parametrize("shape", [(6, 3, 3, 3), (5, 7, 1, 1), (2, 2, 1, 1)])
def test_convolutions_move_as_the_paper_says(shape):
    grads = gradients(shape, 35)
    found, state = taken(shape, grads)
    assert np.allclose(found[-1].reshape(len(found[-1]), -1), by_hand(grads, *first_bases(shape, grads)), atol=1e-9)
    assert not found[0].any()  # the first step only measures
    basis = state["left_basis"]
    assert torch.allclose(basis.T @ basis, torch.eye(len(basis), dtype=torch.float64), atol=1e-10)


def test_a_side_that_is_too_large_has_no_basis(monkeypatch):
    monkeypatch.setattr(soap, "LARGEST", 20)
    grads = gradients((6, 3, 3, 3), 25)
    found, state = taken((6, 3, 3, 3), grads)
    assert "left" in state and "right" not in state
    bases = first_bases((6, 3, 3, 3), grads)
    assert np.allclose(found[-1].reshape(6, -1), by_hand(grads, *bases, right=False), atol=1e-9)


@pytest.mark.parametrize("shape", [(4,), (6, 1, 5, 5)])
def test_vectors_and_depthwise_kernels_move_as_adam_moves_them(shape):
    grads = gradients(shape, 12)
    found, state = taken(shape, grads)
    parameter = torch.nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    adam = torch.optim.Adam([parameter], 0.01, betas=(0.9, 0.99))
    for grad in grads[1:]:
        parameter.grad = torch.tensor(grad)
        adam.step()
    assert "left" not in state and np.allclose(found[-1], parameter.detach().numpy(), atol=1e-7)


def test_a_step_does_not_depend_on_the_basis_that_the_gradient_comes_in():
    """Adam's does: turn inputs and outputs, and what it finds is not what it found, turned."""
    grads = gradients((6, 6), 30)
    U, V = (np.linalg.qr(np.random.default_rng(seed).standard_normal((6, 6)))[0] for seed in (1, 2))
    plain = taken((6, 6, 1, 1), grads[..., None, None])[0][-1][..., 0, 0]
    turned = taken((6, 6, 1, 1), (U @ grads @ V)[..., None, None])[0][-1][..., 0, 0]
    assert np.allclose(U @ plain @ V, turned, atol=1e-8)
