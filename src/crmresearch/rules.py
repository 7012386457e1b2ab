"""Thresholds of what may be shown, and named sets of them; :mod:`.disclosure` applies them. Nowhere else is one set.

The rules are those of research data centres and statistical offices. A number rests on ten people or more; so do what
is left of a whole when a part is taken away, and both sides of a quantile. Nobody makes up most of a sum, mean or share
of money: neither one (1, k) nor two (2, k), and the rest give away neither of them (p%). A model leaves ten degrees of
freedom, and has two events a parameter. What is hidden cannot be had back from a total.

References
----------
Brandt et al. (2010). *Guidelines for the checking of output based on microdata research.* ESSnet SDC.
Hundepool et al. (2012). *Statistical Disclosure Control.* Wiley.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from crmresearch.errors import InputError


@dataclass
class Rules:
    """Thresholds in force.

    Parameters
    ----------
    least : int
        People behind a published number.
    largest, two : float
        Most that the largest contributor, and the two largest, may make of a total of money.
    rest : float
        Least that all but the two largest give, as a share of the largest (the p% rule).
    part : float
        Share of a whole from which on a part says something of everybody in it.
    freedom : int
        Residual degrees of freedom of a model.
    per_parameter : int
        Events a parameter of a model that counts events; of outcomes that are one or the other, the rarer.
    base : int
        Multiple to which counts are rounded; 0 for none.
    """

    least: int = 10
    largest: float = 0.5
    two: float = 0.67
    rest: float = 0.1
    part: float = 1.0
    freedom: int = 10
    per_parameter: int = 2
    base: int = 0

    @property
    def below(self) -> str:
        """How a count of too few is written."""
        return f"<{self.least}"


PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "eurostat": {"two": 1.0, "base": 5},  # and ONS: the largest and p%; counts to the nearest five
    "abs": {"rest": 0.0, "part": 0.9},  # (1, 50%), (2, 67%), and no part of nine tenths of its whole
}
rules = Rules()


CHOSEN = "CRMRESEARCH_DISCLOSURE"  # variable by which a run tells its kernels


def read(chosen: str = "") -> dict[str, Any]:
    """Read how rules are chosen: a preset, and thresholds that differ from it, as in ``abs, least=20, base=5``.

    Raises
    ------
    InputError
        If there is no such preset or threshold, or one that counts is weaker than a rule can be.
    """
    name, *own = [part.strip() for part in (chosen or "default").split(",")]
    if name not in PRESETS:
        raise InputError(f"no disclosure rules '{name}'; there are {', '.join(PRESETS)}, as in: abs, least=20, base=5")
    values = asdict(Rules()) | PRESETS[name]
    for part in own:
        key, _, text = (p.strip() for p in part.partition("="))
        if key not in values or not text.replace(".", "", 1).isdigit():
            known = ", ".join(values)
            raise InputError(f"disclosure rules: '{part}' sets none of {known}; write it as in: {name}, least=20")
        values[key] = float(text) if isinstance(values[key], float) else int(float(text))
    if values["least"] < 3 or min(values["freedom"], values["per_parameter"]) < 1:
        raise InputError(
            "disclosure rules: least is below 3, or freedom or per_parameter below 1; give at least that many"
        )
    return values


def use(chosen: str = "") -> str:
    """Put rules in force, and return them as they are chosen: by the run if it says, else by what is given."""
    chosen = os.environ.get(CHOSEN) or chosen or "default"
    for key, value in read(chosen).items():
        setattr(rules, key, value)
    return chosen


def few(n: Any) -> bool:
    """Tell whether a count is of some people, but too few to be told, or is not known."""
    return n is None or bool(n != n or 0 < n < rules.least)


def rounded(n: Any) -> Any:
    """Round a count to the base in force."""
    return n if rules.base < 2 or n != n else rules.base * round(n / rules.base)


DIGITS = 3  # that stay of a number that is no count, where counts are rounded


def blunt(value: Any, n: Any) -> Any:
    """Move a number that rests on n people by steps of the base in force of them, so that it gives no count back.

    A share becomes that of round counts; what is above 1 keeps three digits besides.
    """
    steps = rules.base > 1 and n == n and round(n / rules.base)
    if not steps or not isinstance(value, float) or not math.isfinite(value):
        return value
    return float(f"{round(value * (n / rules.base if abs(value) <= 1 else steps)) / steps:.{DIGITS}g}")


@dataclass(frozen=True)
class Whose:
    """Whose a sum, mean or share of money is; the door, and nobody else, makes of it whether the money may be told.

    Attributes
    ----------
    totals : tuple
        Sizes of the largest contribution, of the two largest together and of all, for every total that is behind it.
    nobody : str
        Why it is no person's money, where it has no totals.
    """

    totals: tuple[tuple[float, float, float], ...] = ()
    nobody: str = ""

    def __or__(self, other: Whose) -> Whose:
        """Join what is behind a number that rests on both."""
        return Whose(self.totals + other.totals)

    @property
    def dominated(self) -> bool:
        """Whether one contributor, or two, make most of a total, or can be told from it."""
        return any(
            one > rules.largest * every or two > rules.two * every or every - two < rules.rest * one
            for one, two, every in self.totals
        )


def nobodys(why: str) -> Any:
    """Say that a row holds no person's money, and why."""
    return Whose(nobody=why)


def of_squares(gross: Iterable[float], squares: Iterable[float]) -> Any:
    """Take the same down where only sums of the sizes of contributions and of their squares are there: their bounds."""
    return Whose(tuple((s**0.5, (2 * s) ** 0.5, t) for t, s in zip(gross, squares, strict=True)))


def of_groups(frame: Any, by: str, *money: str) -> Any:
    """Take the same down of groups of people: nobody makes more of a total than the group that holds him.

    That is an upper bound of the largest: it may hide a table that nobody dominates, and shows none that somebody does.
    What may be gained or lost comes with the sizes of its amounts (``gross_`` before the name): a group's sum says
    nothing of somebody whose gain is others' loss, or his own of another month.
    """
    sizes = (f"gross_{c}" if f"gross_{c}" in frame else c for c in money if c in frame)
    return whose(*(frame.groupby(by)[c].sum() for c in sizes))


def whose(*totals: Iterable[float]) -> Any:
    """Take down who makes totals of money, from what each person contributes to each of them; groups: of_groups."""
    import numpy as np

    # what is missing gives nothing: it would stand first, and nothing is more than any part of it
    sizes = (np.sort(np.abs(x[~np.isnan(x)]))[::-1] for x in (np.fromiter(total, dtype=float) for total in totals))
    return Whose(tuple((float(s[0]), float(s[:2].sum()), float(s.sum())) for s in sizes if s.size))
