"""A recurrent network of torch on sequences with padding on either side."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def run(network: nn.LSTM, x: Tensor, valid: Tensor) -> Tensor:
    """The states (B, T, h) at the valid (B, T) frames of x (B, T, D), 0 elsewhere."""
    order = (~valid).int().argsort(dim=1, stable=True)[..., None]  # the valid frames first
    front = x.gather(1, order.expand_as(x))
    lengths = valid.sum(1).clamp(min=1)  # torch refuses a sequence of nothing
    packed = pack_padded_sequence(front, lengths, batch_first=True, enforce_sorted=False)
    states, _ = pad_packed_sequence(
        network(packed)[0], batch_first=True, total_length=valid.shape[1]
    )
    back = torch.zeros_like(states).scatter(1, order.expand_as(states), states)
    return back * valid[..., None]
