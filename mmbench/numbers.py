"""Numbers as people read them: so many digits, and never a minus before nothing but zeros."""

from __future__ import annotations


def fixed(value: float, digits: int, sign: str = "") -> str:
    """With `digits` after the point; sign "+": with a sign, unless what is shown is zero."""
    text = f"{value:{sign}.{digits}f}"
    return text if text.strip("+-0.") else text.lstrip("+-")


def share(value: float, digits: int = 1) -> str:
    """A share as tables show it, e.g. "66.7 %"."""
    return f"{fixed(100 * value, digits)} %"


def score(value: float, unit: str, sign: str = "") -> str:
    """A score as a metric of that unit is written: shares times 100, without their unit."""
    return fixed(100 * value, 2, sign) if unit == "%" else fixed(value, 3, sign)
