"""Sums of a linear layer at fp32 in an order that is written down, the same on every device.

Each product is rounded to fp32, and then added and rounded: two operations that PyTorch rounds
alike everywhere. Kernels fuse them and round once. A fused operation would have to be emulated in
fp64 at a third of the speed (`torch.addcmul` is one on some CPUs and not on others), and what makes
zeros is the grid on which the last sums lie, which is the same.
"""

import torch
from torch import Tensor

CHUNK = 2**16  # sums that are taken at once: they and their products stay in a CPU's cache


@torch.no_grad()
def in_blocks(x: Tensor, weight: Tensor, size: int) -> Tensor:
    """x @ weight.T, summed in order within blocks of `size` inputs, then over blocks in order.

    x: (rows, inputs), weight: (outputs, inputs), both fp32; the result, (rows, outputs), has no
    gradient. A `size` of at least `inputs` is one sum in order.
    """
    rows = max(1, CHUNK // len(weight))
    columns = weight.t().unsqueeze(2).contiguous()  # (inputs, outputs, 1)
    parts = [_block_sums(part.t().contiguous(), columns, size) for part in x.split(rows)]
    return torch.cat(parts, 1).t().contiguous()


def _block_sums(x: Tensor, columns: Tensor, size: int) -> Tensor:
    """x: (inputs, rows), columns: (inputs, outputs, 1) -> (outputs, rows), long in memory."""
    total = x.new_zeros(columns.shape[1], x.shape[1])
    block, product = torch.empty_like(total), torch.empty_like(total)
    pairs = list(zip(columns.unbind(), x.unbind(), strict=True))
    for start in range(0, len(pairs), size):
        first, *others = pairs[start : start + size]
        torch.mul(*first, out=block)
        for pair in others:
            block.add_(torch.mul(*pair, out=product))
        total.add_(block)
    return total
