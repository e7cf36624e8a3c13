"""Rules that turn facts about the data into settings. Each names where it comes from."""

from __future__ import annotations

from collections.abc import Sequence

STRENGTHS = tuple(10 ** (-5 + 2 * k / 3) for k in range(9))
"""L2 strengths tried by the head rung: the penalty is strength/2 times the squared weights on standardised features, added
to the mean loss. 1e-5 to 2.2, a factor of 4.6 apart. scikit-learn's C is 1 / (strength x n), for two classes 2 / (strength x n).
Sweeping the strength always:
Radford et al. 2021 (CLIP, appendix A.3), Kornblith et al. 2019."""

RIDGE_STRENGTHS = tuple(10 ** (-3 + 2 * k / 3) for k in range(10))
"""The same for a number: 1e-3 to 1e3. Squared errors do not level off as the log-loss does, and standardised features have a
curvature of up to their number, so that more of the axis is in play."""

MAX_FOLDS = 5
"""Kohavi 1995, "A study of cross-validation and bootstrap", compares 2 to 20; 5 is the field's habit and costs half of 10."""


NESTED_UP_TO = 5_000
"""Examples up to which the choice of the strength is made anew inside each fold. Beyond, choosing one of nine on the folds that judge it
flatters by far less than the interval is wide (Cawley & Talbot 2010: the bias falls as the examples grow), and inner models for
100,000 examples would take longer than the network did."""


def is_nested(examples: int, folds: int) -> bool:
    """Whether the choice is nested: with enough folds to leave out two, and few enough examples for it to matter."""
    return folds >= 3 and examples <= NESTED_UP_TO


def fold_count(class_sizes: Sequence[int]) -> int:
    """Number of folds for cross-validation: 5, fewer when no class has that many examples, never under 3.

    Three are needed because the strength is chosen inside (nested), which leaves out two folds at once.
    """
    return max(3, min(MAX_FOLDS, max(class_sizes, default=0)))


def weak_spots(class_sizes: dict[str, int], *, balanced: bool = False) -> list[str]:
    """What a person should hear about the sizes of the classes, in sentences."""
    said: list[str] = []
    single = [label for label, n in class_sizes.items() if n == 1]
    if single:
        shown = ", ".join(single[:5]) + (" ..." if len(single) > 5 else "")
        said.append(f"one example only: {shown}. It is trained on and never held out, so the estimate says nothing about it")
    few = [label for label, n in class_sizes.items() if 1 < n < MAX_FOLDS]
    if few:
        shown = ", ".join(few[:5]) + (" ..." if len(few) > 5 else "")
        said.append(f"fewer than {MAX_FOLDS} examples: {shown}")
    largest, smallest = max(class_sizes.values()), min(class_sizes.values())
    if largest >= 3 * smallest and largest - smallest >= 10:
        said.append(
            f"classes are unequal: {smallest} to {largest} examples. "
            + (
                "Every class gets the same weight, as asked for (--balance)"
                if balanced
                else "Nothing is reweighted; --balance gives every class the same weight, --metric balanced_accuracy judges so"
            )
        )
    return said


def strengths_for(loss: str) -> tuple[float, ...]:
    """The strengths tried for a loss."""
    return RIDGE_STRENGTHS if loss == "squared" else STRENGTHS
