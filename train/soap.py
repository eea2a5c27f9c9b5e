"""The optimizer of the network's parameters: SOAP, which is Adam in a basis where the gradient's entries are independent."""

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
    that see one channel only have no basis: for them, it is Adam. The first step only measures.

    In the state of a parameter: `step`, `mean`, `square` (of Adam, the latter in the basis), and for each side that has a
    basis `left` or `right`, the average, and `left_basis` or `right_basis`, its eigenvectors in columns. All contiguous, as
    they are when they come back from a file: products of other layouts are rounded otherwise.
    """

    def __init__(self, parameters, lr):
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self):
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group["lr"])

    def _move(self, parameter, lr):
        gradient = parameter.grad.reshape(len(parameter), -1).contiguous()
        state = self.state[parameter]
        if not state:
            self._begin(state, parameter, gradient)
            return
        state["step"] = count = int(state["step"]) + 1
        beta1, beta2 = BETAS
        state["mean"].lerp_(gradient, 1 - beta1)
        turned = self._turn(state, gradient)
        state["square"].mul_(beta2).addcmul_(turned, turned, value=1 - beta2)
        mean = self._turn(state, state["mean"]) / (1 - beta1**count)
        move = mean / ((state["square"] / (1 - beta2**count)).sqrt() + EPS)
        parameter.sub_(lr * self._turn(state, move, back=True).reshape(parameter.shape))
        self._refine(state, gradient, count)

    @staticmethod
    def _begin(state, parameter, gradient):
        state["step"] = 0
        state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
        if parameter.ndim == 4 and parameter.shape[1] > 1:
            for side in (side for side, length in zip(("left", "right"), gradient.shape) if length <= LARGEST):
                state[side] = _product(gradient, side)
                state[side + "_basis"] = torch.linalg.eigh(state[side])[1].contiguous()

    @staticmethod
    def _turn(state, matrix, back=False):
        """A matrix in the basis of its parameter, or `back` from it."""
        left, right = state.get("left_basis"), state.get("right_basis")
        if left is not None:
            matrix = (left if back else left.T) @ matrix
        return matrix if right is None else matrix @ (right.T if back else right)

    def _refine(self, state, gradient, count):
        for side in state.keys() & {"left", "right"}:
            state[side].lerp_(_product(gradient, side), 1 - SHAMPOO_BETA)
            if count % TURN_EVERY == 0 or count < TURN_EVERY:
                state[side + "_basis"] = torch.linalg.qr(state[side] @ state[side + "_basis"])[0].contiguous()


def _product(gradient, side):
    return gradient @ gradient.T if side == "left" else gradient.T @ gradient
