"""How a method is compared with its plain form: what tests/methods/test_*_reference.py share."""

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from mmbench.methods import Method
from tests.test_reference import assert_close, assert_terms, gradients


def lstm_names(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of `nn.LSTM` under the names that they have in `mmbench.nn.Recurrent`."""
    named = {}
    for name, value in values.items():
        found = re.fullmatch(r"(.*?)(?:lstm\.)?((?:weight|bias)_.h)_l(\d)(_reverse)?", name)
        if found:
            way = "backwards" if found[4] else "forwards"
            name = f"{found[1]}{way}.{found[3]}.{found[2]}_l0"
        named[name] = value
    return named


def assert_same(
    ours: Method,
    terms: Mapping[str, Tensor],
    theirs: nn.Module,
    their_terms: Mapping[str, Tensor],
    laid_out: Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]],
) -> None:
    """Every loss term, and the gradient of every parameter; `laid_out` gives theirs by our names."""
    assert_terms(terms, their_terms)
    names, leaves = zip(*theirs.named_parameters(), strict=True)
    expected = laid_out(dict(zip(names, gradients(their_terms, leaves), strict=True)))
    own_names, parameters = zip(*ours.named_parameters(), strict=True)
    for name, gradient in zip(own_names, gradients(terms, parameters), strict=True):
        assert_close(gradient, expected[name], f"gradient of {name}")
        assert expected[name].any(), f"{name} does not learn"
