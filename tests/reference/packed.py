"""torch's recurrent networks on sequences with padding on either side.

Letters: B samples, T frames, D input features, h the state's width.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def order(valid: Tensor) -> Tensor:
    """The frames (B, T) of each row with the valid ones first."""
    return (~valid).int().argsort(dim=1, stable=True)


def pack(x: Tensor, valid: Tensor) -> PackedSequence:
    """The valid frames of x (B, T, D); of a row without one the first."""
    x = x.gather(1, order(valid)[..., None].expand_as(x))
    lengths = valid.sum(1).clamp(min=1).cpu()
    return pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)


def states(net: nn.RNNBase, x: Tensor, valid: Tensor) -> Tensor:
    """(B, T, h) for each frame, of both directions side by side; 0 at padding."""
    packed, _ = net(pack(x, valid))
    made, _ = pad_packed_sequence(packed, batch_first=True, total_length=x.shape[1])
    index = order(valid)[..., None].expand_as(made)
    return torch.zeros_like(made).scatter(1, index, made) * valid[..., None]


def last_state(lstm: nn.LSTM, x: Tensor, valid: Tensor) -> Tensor:
    """(B, h) in which each row ends; 0 for a row without a valid frame."""
    _, (last, _) = lstm(pack(x, valid))
    return last[-1] * valid.any(1, keepdim=True)
