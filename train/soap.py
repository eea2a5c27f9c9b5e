"""The optimizer of the network's parameters: SOAP, which is Adam in a basis where the gradient's entries are independent."""

from collections import defaultdict

import torch

# A side of a matrix with more rows or columns is left as it is: its basis would take longer than the step.
LARGEST = 1024
TURN_EVERY = 10  # steps between refinements of the bases, after as many steps with one each
BETAS = 0.9, 0.99  # of Adam: for the mean and for the square of the gradient
SHAMPOO_BETA = 0.95  # for the averages that the bases are the eigenvectors of
EPS = 1e-8


class Soap(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015) in the eigenbasis of Shampoo's preconditioner.

    Vyas et al., *SOAP: Improving and Stabilizing Shampoo using Adam*, 2024. The weights of a convolution are a matrix,
    [outputs, inputs * height * width]; its bases are the eigenvectors of the running averages of G G^T and G^T G for
    the gradient G, refined by one step of orthogonal iteration every TURN_EVERY steps. They are refined at each of the first
    steps, too: one gradient spans few directions, and where bases of its eigenvectors turned after ten steps, the squares of
    another basis made a step so large that J rose from 4 to 490 and a training lost a fifth of its time. Vectors and kernels
    that see one channel only have no basis: for them, it is Adam. The first step only measures. Every parameter has a gradient
    at each step.

    In the state of a parameter: `step`, `mean`, `square` (of Adam, the latter in the basis), and for each side that has a
    basis `left` or `right`, the average, and `left_basis` or `right_basis`, its eigenvectors in columns. They are parts of the
    tensors of a `_Stack`: a GPU is told of a few large operations instead of a thousand small ones.
    """

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})
        self.stacks: list[_Stack] = []

    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.stacks = []

    @torch.no_grad()
    def step(self):
        """Move every parameter."""
        (group,) = self.param_groups
        if not self.stacks:
            alike = defaultdict(list)
            for parameter in group["params"]:
                alike[_matrix_shape(parameter)].append(parameter)
            self.stacks = [_Stack(parameters, shape, self.state) for shape, parameters in alike.items()]
        for stack in self.stacks:
            stack.move(group["lr"])


class _Stack:
    """Parameters whose gradients are matrices of one shape, or all that have no basis, which are moved together.

    shape: that of the matrices, or None. state: of the optimizer, by parameter: gets `step` and its part of each of `slots`,
    which are [K, ...] for K matrices, and [M], one after the other, for parameters without a basis.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], shape: tuple[int, int] | None, state: dict):
        self.parameters, self.shape, self.states = parameters, shape, [state[each] for each in parameters]
        if "step" in self.states[0]:
            names = self.states[0].keys() - {"step"}
            self.slots = {name: self.joined([each[name] for each in self.states]) for name in sorted(names)}
            self.count = int(self.states[0]["step"])
        else:
            gradient = self.joined([parameter.grad for parameter in parameters])
            self.slots = {"mean": torch.zeros_like(gradient), "square": torch.zeros_like(gradient)}
            for side, length in zip(("left", "right"), shape or ()):
                if length <= LARGEST:
                    self.slots[side] = _product(gradient, side)
                    self.slots[side + "_basis"] = torch.linalg.eigh(self.slots[side])[1].contiguous()
            self.count = -1  # this step only measures
        for name, slot in self.slots.items():
            for each, part in zip(self.states, self.parted(slot), strict=True):
                each[name] = part

    def joined(self, tensors) -> torch.Tensor:
        """Tensors of the parameters, one each, as one. Contiguous: products of other layouts are rounded otherwise."""
        if self.shape is None:
            return torch.cat([tensor.reshape(-1) for tensor in tensors])
        return torch.stack([tensor.reshape(len(tensor), -1) for tensor in tensors])

    def parted(self, slot: torch.Tensor) -> list[torch.Tensor]:
        """The reverse of `joined`: the part of each parameter, a matrix."""
        if self.shape is not None:
            return list(slot)
        parts = slot.split([parameter.numel() for parameter in self.parameters])
        return [part.view(len(parameter), -1) for part, parameter in zip(parts, self.parameters, strict=True)]

    def move(self, lr: float):
        self.count += 1
        if self.count:
            gradient = self.joined([parameter.grad for parameter in self.parameters])
            moves = self.parted(lr * self.direction(gradient))
            for parameter, move in zip(self.parameters, moves, strict=True):
                parameter.sub_(move.view(parameter.shape))
            self.refine(gradient)
        for each in self.states:
            each["step"] = self.count

    def direction(self, gradient: torch.Tensor) -> torch.Tensor:
        """Where Adam goes in the basis, turned back; its mean and square move on."""
        beta1, beta2 = BETAS
        mean, square = self.slots["mean"], self.slots["square"]
        mean.lerp_(gradient, 1 - beta1)
        turned = self.turned(gradient)
        square.mul_(beta2).addcmul_(turned, turned, value=1 - beta2)
        turned = self.turned(mean) / (1 - beta1**self.count)
        return self.turned(turned / ((square / (1 - beta2**self.count)).sqrt() + EPS), back=True)

    def turned(self, matrices: torch.Tensor, back=False) -> torch.Tensor:
        """Matrices in the bases of their parameters, or `back` from them."""
        left, right = self.slots.get("left_basis"), self.slots.get("right_basis")
        if left is not None:
            matrices = (left if back else left.mT) @ matrices
        return matrices if right is None else matrices @ (right.mT if back else right)

    def refine(self, gradient: torch.Tensor):
        """Let the averages follow the gradient and, where it is time, turn the bases."""
        for side in self.slots.keys() & {"left", "right"}:
            average, basis = self.slots[side], self.slots[side + "_basis"]
            average.lerp_(_product(gradient, side), 1 - SHAMPOO_BETA)
            if self.count % TURN_EVERY == 0 or self.count < TURN_EVERY:
                basis.copy_(torch.linalg.qr(average @ basis)[0])


def _matrix_shape(parameter: torch.Tensor) -> tuple[int, int] | None:
    """The shape of a gradient as a matrix, where it has a basis."""
    has_basis = parameter.ndim == 4 and parameter.shape[1] > 1
    return (len(parameter), parameter[0].numel()) if has_basis else None


def _product(gradients: torch.Tensor, side: str) -> torch.Tensor:
    return gradients @ gradients.mT if side == "left" else gradients.mT @ gradients
