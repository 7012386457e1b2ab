"""Verdicts: an interval against one bound, many lines at once, the answer to a claim, and gates in three states.

Pure functions of numbers; the register supplies the bounds and the ledger the estimates.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from crmresearch.estimators.inference import q_values, z

ALPHA = 0.05  # share of false decisions among the primary lines of one bank
Side = Literal["above", "below", "either"]
Where = Literal["supported", "refuted", "undecided"]


@dataclass(frozen=True)
class Bound:
    """What a line is held against.

    Parameters
    ----------
    at : float
        The smallest effect that matters on the claimed side.
    none : float
        No effect; 1 for ratios, whose distances are taken on logs.
    side : {'above', 'below', 'either'}
        Where the claim says the estimand lies; ``either`` where the sign is open: beyond the bound or its mirror image.
    """

    at: float
    none: float
    side: Side

    @property
    def points(self) -> tuple[float, ...]:
        """Boundaries between the verdicts, in order."""
        if self.side != "either":
            return (self.at,)
        mirror = self.none**2 / self.at if self.none == 1 else 2 * self.none - self.at
        return tuple(sorted((self.at, mirror)))


def position(low: float, high: float, bound: Bound) -> Where:
    """Say where a whole interval lies; no interval meets two of the three."""
    first, last = bound.points[0], bound.points[-1]
    if bound.side == "either":
        if low > last or high < first:
            return "supported"
        return "refuted" if low > first and high < last else "undecided"
    above, below = low > last, high < first
    if not (above or below):
        return "undecided"
    return "supported" if above == (bound.side == "above") else "refuted"


def p_value(value: float, low: float, high: float, bound: Bound) -> float:
    """Two-sided p-value against the bound, inverted from the interval as it is printed.

    The interval need not be symmetric: the end that faces the bound gives the distance, so that p is below .05 exactly
    where the bound lies outside. Where the sign is open, both boundaries have to be left behind.
    """
    return max(_inverted(value, low, high, at, bound.none) for at in bound.points)


def _inverted(value: float, low: float, high: float, at: float, none: float) -> float:
    if none == 1 and low > 0:  # a ratio; a set that holds 0 has no logarithm
        value, low, high, at = (math.log(v) for v in (max(value, low), low, high, at))
    if math.isnan(low) or math.isnan(high):
        return math.nan
    if low == high:  # a count over everybody
        return 1.0 if at == low else 0.0
    centre = value if low < value < high else (low + high) / 2
    reach = centre - low if at < centre else high - centre
    if math.isnan(centre) or math.isinf(reach):  # nothing is ruled out on that side
        return 1.0
    return math.erfc(z() * abs(at - centre) / reach / math.sqrt(2))


def verdict(low: float, high: float, bound: Bound, q: float) -> Where:
    """Say what a line shows: where its interval lies, if the many lines at once leave that standing."""
    return position(low, high, bound) if q <= ALPHA else "undecided"


def adjusted(primary: Mapping[str, float], secondary: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """q-values of the lines of one bank; a line is decided where q is at most :data:`ALPHA`.

    Parameters
    ----------
    primary : mapping of str to float
        p-values of the primary lines that the bank can measure: one step of Benjamini and Hochberg.
    secondary : mapping of str to mapping
        p-values of the other lines, by claim: a step within each claim, at the level times the share of primary lines
        that were decided.

    References
    ----------
    Benjamini and Bogomolov (2014). Selective inference on multiple families of hypotheses. *JRSS B* 76, 297-318.
    """
    out = dict(zip(primary, q_values(list(primary.values())).tolist(), strict=True))
    decided = sum(q <= ALPHA for q in out.values())
    for lines in secondary.values():
        found = q_values(list(lines.values())).tolist()
        scaled = (min(1.0, q * len(primary) / decided) if decided else 1.0 for q in found)
        out |= dict(zip(lines, scaled, strict=True))
    return out


def refuted_how(low: float, high: float, bound: Bound) -> Literal["small", "opposite", "none"]:
    """Say how a refuted line is refuted: too small to matter, the other way, or no effect told from none."""
    claimed, other = (low > bound.none, high < bound.none)
    if bound.side == "below":
        claimed, other = other, claimed
    if bound.side == "either":
        claimed, other = claimed or other, False
    return "small" if claimed else "opposite" if other else "none"


def check(low: float, high: float, bound: Bound) -> str:
    """Say whether an identity or a data check ``holds`` or ``fails``."""
    return "holds" if position(low, high, bound) == "supported" else "fails"


# --- the answer to a claim --------------------------------------------------------------------------------------------

_CAUSAL = {"supported": "shown", "refuted": "smaller than matters"}
ANSWERS: Mapping[str, Mapping[str, str]] = {
    "lot": _CAUSAL,
    "natural": _CAUSAL,
    "association": {"supported": "consistent", "refuted": "not borne out"},
    "description": {"supported": "as described", "refuted": "not as described"},
    "check": {},
}
UNANSWERED = ("not applicable", "not testable", "not built", "not measured", "provisional")  # the bank measured nothing


def answer(design: str, primary: str, *, opposite: bool = False, others: Mapping[str, str] | None = None) -> str:
    """Answer a claim from its primary line alone; a secondary line decided the other way makes it *mixed*.

    Parameters
    ----------
    design : str
        What the primary line can show.
    primary : str
        Its verdict.
    opposite : bool
        Whether its interval lies wholly on the wrong side of no effect.
    others : mapping of str to str
        Verdicts of the secondary lines.
    """
    words = ANSWERS[design].get(primary, "open" if primary == "undecided" else primary)
    if words == "smaller than matters" and opposite:
        words = "contradicted"
    against = {"supported": "refuted", "refuted": "supported"}.get(primary)
    other_way = [line for line, found in (others or {}).items() if found == against]
    return f"{words}; mixed: {', '.join(other_way)}" if other_way else words


def bare(answer: str) -> str:
    """Return an answer without what is added to it: what is mixed or in doubt."""
    return re.split("[;,]", answer)[0]


@dataclass(frozen=True)
class Summed:
    """What several real banks, read one by one, say of a claim: ``k`` of ``m`` are ``said``.

    Parameters
    ----------
    k, m : int
        Banks whose answer is the one that the claim wants, and banks that measured it: an open or blocked answer counts
        among the latter, a bank without the tables does not.
    said : str
        The answer that the claim wants; ``conflicting`` where one bank shows it and another contradicts it.
    parts : mapping of str to int
        Banks by answer, the most frequent first.
    """

    k: int
    m: int
    said: str
    parts: Mapping[str, int]


def over_banks(design: str, answers: Iterable[tuple[str, str]]) -> Summed:
    """Sum the answers of several banks to one claim; only real banks count, simulated ones and other trades never.

    Parameters
    ----------
    design : str
        What the claim's primary line can show.
    answers : iterable of (str, str)
        Class of evidence and answer, one pair per bank.
    """
    real = Counter(bare(said) for evidence, said in answers if evidence == "real bank")
    parts = {said: real[said] for said in sorted(real, key=lambda s: (-real[s], s)) if said not in UNANSWERED}
    wanted = "reported" if "reported" in parts else ANSWERS[design].get("supported", "holds")
    said = "conflicting" if {"shown", "contradicted"} <= set(parts) else wanted
    return Summed(parts.get(wanted, 0), sum(parts.values()), said, parts)


# --- simulated banks --------------------------------------------------------------------------------------------------


def truth_verdict(found: str, bound: Bound, truth: float, error: float = 0.0) -> str:
    """Hold a verdict against a truth: ``found``, ``missed``, ``wrong``, ``blocked``, or ``at the bound``.

    Within two Monte-Carlo errors of the bound no side is right: any decision there is wrong.
    """
    if found == "blocked":
        return "blocked"
    at = any(abs(truth - point) <= 2 * error for point in bound.points)
    if found == "undecided":
        return "at the bound" if at else "missed"
    return "found" if not at and position(truth, truth, bound) == found else "wrong"


def power(value: float, low: float, high: float, bound: Bound, truth: float) -> float:
    """Chance that an interval as wide as this one would leave the bound behind, were its centre drawn at the truth."""
    point = min(bound.points, key=lambda b: abs(b - truth))
    if bound.none == 1 and low > 0:
        value, low, high, truth, point = (math.log(v) for v in (value, low, high, truth, point))
    reach = value - low if point < truth else high - value
    if not 0 < reach < math.inf:
        return math.nan
    return 0.5 * math.erfc((z() - z() * abs(truth - point) / reach) / math.sqrt(2))


# --- gates ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deviation:
    """How far an assumption is from holding, with its interval and the limit beyond which the line is not believed.

    Parameters
    ----------
    value, low, high : float
        Estimate and 95% interval.
    limit : float
        On one side of ``none``; as far on the other side counts alike.
    none : float
        Where the assumption holds exactly; 1 for ratios.
    control : bool
        Whether this is a negative control, which is never open where it fails.
    least : bool
        Whether the limit is the least that is asked for (a share that must overlap, a tail index): what lies above it
        is fine, nothing is the value at which it holds exactly, and so it is never doubtful.
    """

    value: float
    low: float
    high: float
    limit: float
    none: float = 0.0
    control: bool = False
    least: bool = False

    @property
    def bound(self) -> Bound:
        """The limit, on the side or on the sides where it must not be left behind."""
        return Bound(self.limit, self.none, "below" if self.least else "either")

    @property
    def closed(self) -> bool:
        """Whether the interval lies wholly beyond the limit."""
        return position(self.low, self.high, self.bound) == "supported"


def outlives(point: float, plain: tuple[float, float], *others: tuple[float, float]) -> bool | None:
    """Tell whether what an interval says of a point stands where an assumption fails: others say how far it may.

    Returns
    -------
    bool or None
        True where all of them lie on one side of the point, False where one lies wholly on the other side than the
        plain one; else None, as the data leave the assumption to be trusted.
    """
    first, *rest = (int(low > point) - int(high < point) for low, high in (plain, *others))
    if any(side * first < 0 for side in rest):
        return False
    return True if first and all(rest) else None


def gates(found: Sequence[Deviation]) -> list[tuple[str, bool]]:
    """State of each gate of a line, and whether an open one is a weak check.

    ``closed``: the interval lies wholly beyond the limit. ``doubtful``: Holm's p over the gates of the line is below
    .05 and the estimate lies beyond half the limit; a negative control that is told from none is doubtful in any case.
    Else ``open``, a weak check where the interval reaches the limit.

    References
    ----------
    Holm (1979). A simple sequentially rejective multiple test procedure. *Scandinavian Journal of Statistics* 6, 65-70.
    """
    p = [1.0 if d.least else _inverted(d.value, d.low, d.high, d.none, d.none) for d in found]
    order = sorted(range(len(p)), key=lambda i: p[i])
    holm, largest = dict.fromkeys(order, 1.0), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, p[i] * (len(p) - rank)))
        holm[i] = largest
    out = []
    for i, d in enumerate(found):
        half = math.sqrt(d.limit) if d.none == 1 else (d.none + d.limit) / 2
        beyond = position(d.value, d.value, Bound(half, d.none, "either")) == "supported"
        if d.closed:
            out.append(("closed", False))
        elif (holm[i] < ALPHA and beyond) or (d.control and p[i] < ALPHA):
            out.append(("doubtful", False))
        else:
            out.append(("open", position(d.low, d.high, d.bound) != "refuted"))
    return out
