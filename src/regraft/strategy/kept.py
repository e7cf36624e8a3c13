"""What features at a cut are kept in. float32 is exact: training on it gives the bits of training the whole network. Half precision is
for what would otherwise not be kept at all, so that the frozen part runs at every step: it is said, and recorded in the decisions.
"""

from __future__ import annotations

MOST_KEPT = 0.5
"""Part of the free disk that may be taken by what the cut keeps."""

HEADROOM = 16.0
"""How many times the largest value of a sample float16 must take."""

FLOAT16_LARGEST = 65_504.0


def fits(size: int, room: int) -> bool:
    """Whether a disk with `room` bytes free takes what the cut keeps, `size` bytes."""
    return size <= MOST_KEPT * room


def half_for(largest: float) -> str:
    """The half precision for features whose largest value, in a sample, is this: float16 has eight times the precision of bfloat16 (2**-11
    against 2**-8 of a value) and a thirtieth of the powers of ten.
    """
    return "float16" if HEADROOM * largest <= FLOAT16_LARGEST else "bfloat16"
