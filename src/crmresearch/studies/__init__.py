"""One package per claim group: a small frame in, a Result out.

A study whose claim a reviewer could have measured otherwise declares :class:`Choices`; those of all studies are found
by :func:`crmresearch.studies.declared.choices`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from crmresearch.errors import Missing
from crmresearch.estimators.blocks import Functional
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.verdicts import Bound

Setting = Mapping[str, Any]  # one value of each choice


class Frames(Protocol):
    """Reductions of one bank by name, each made once."""

    about: Any  # what the bank declares of itself

    def __call__(self, name: str, **how: Any) -> Any:
        """Return the frame of a reduction such as ``"churn.arms"``, or why there is none."""


def _registered(bound: Bound, setting: Setting) -> Bound | None:
    return bound


@dataclass(frozen=True)
class Choices:
    """The choices behind a claim's primary line.

    Parameters
    ----------
    line : str
        Line of the register.
    options : mapping of str to sequence
        What may be chosen, the registered value first.
    ask : callable
        Given the bank's frames and the parameters of the claim's notebook, returns a function that estimates the line
        under one setting.
    bound : callable
        What a setting is held against, from the registered bound; None where it estimates what that bound is not for.
    above : callable, optional
        As ``ask``; returns a function of a setting and a number that gives how far the estimand lies above that number,
        with what each block of customers contributes. Blocks are the same in all settings; the distance is on any scale
        (of logarithms, of a ratio multiplied out), zero where the estimand is the number.
    """

    line: str
    options: Mapping[str, Sequence[Any]]
    ask: Callable[[Frames, Mapping[str, Any]], Callable[[Setting], Estimate | Missing]]
    bound: Callable[[Bound, Setting], Bound | None] = _registered
    above: Callable[[Frames, Mapping[str, Any]], Callable[[Setting, float], Functional | Missing]] | None = None
