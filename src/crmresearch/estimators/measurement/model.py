"""What a survey measures and how it hangs together: constructs, their items, the paths between them.

A model is data (``bank.yaml`` declares it) and is checked before any estimate: a loop, an unknown item, an item without
variance, 98/99 codes or an item scored backwards are refused, with the rows that are wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from crmresearch.errors import InputError, NotApplicable
from crmresearch.estimators.inference import complete, z

# A construct plays a role when its name begins with the prefix; claims are written in roles, banks in their own names.
ROLES: dict[str, tuple[str, ...]] = {
    "image": ("ima",),
    "expectation": ("exp",),
    "quality": ("qua",),
    "value": ("val",),
    "satisfaction": ("sat",),
    "loyalty": ("loy",),
    "privacy": ("pri", "conc"),
}
CODES = (77, 88, 97, 98, 99, 998, 999, -1, -8, -9, -98, -99)  # usual codes of "do not know" and "refused"
MIN_ROWS = 50  # fewest complete answers that are worth a model


@dataclass(frozen=True)
class PathModel:
    """Constructs, their items, and directed paths without a loop.

    Parameters
    ----------
    constructs : mapping of str to sequence of str
        Items of each construct. One alone is taken as it stands, without error: its reliability is not estimated.
    paths : sequence of (str, str)
        From, to.
    modes : mapping of str to {'A', 'B'}, optional
        Reflective (A, the default) or formative (B) blocks of the PLS path model.
    reversed_items : sequence of str
        Items worded the other way round; :func:`complete_answers` turns them.
    scale : (float, float), or mapping of str to (float, float), optional
        Lowest and highest answer of the items, of all or by construct; needed to turn items that never reach an end.

    Raises
    ------
    InputError
        For a construct without items, an item in two constructs, a path to an unknown construct, a
        repeated path, a loop, an unknown mode or a reversed item that no construct has.
    """

    constructs: Mapping[str, Sequence[str]]
    paths: Sequence[tuple[str, str]] = ()
    modes: Mapping[str, str] = field(default_factory=dict)
    reversed_items: Sequence[str] = ()
    scale: tuple[float, float] | Mapping[str, tuple[float, float]] | None = None

    def __post_init__(self) -> None:
        empty = [name for name, items in self.constructs.items() if not items]
        if empty:
            raise InputError(f"construct {', '.join(empty)} has no item")
        items = [i for block in self.constructs.values() for i in block]
        twice = sorted({i for i in items if items.count(i) > 1})
        if twice:
            raise InputError(f"item {', '.join(twice)} is listed in two places; an item belongs to one construct")
        unknown = sorted({c for path in self.paths for c in path} - set(self.constructs))
        if unknown:
            raise InputError(f"paths name {', '.join(unknown)}; the constructs are {', '.join(self.constructs)}")
        if len(set(self.paths)) < len(self.paths):
            raise InputError("a path is declared twice; list each once")
        if set(self.modes) - set(self.constructs) or set(self.modes.values()) - {"A", "B"}:
            raise InputError("modes map a construct to A (reflective) or B (formative)")
        if set(self.reversed_items) - set(items):
            raise InputError(f"reversed items {sorted(set(self.reversed_items) - set(items))} belong to no construct")
        object.__setattr__(self, "constructs", {k: tuple(v) for k, v in self.constructs.items()})
        object.__setattr__(self, "paths", tuple((a, b) for a, b in self.paths))
        _ = self.order  # raises when there is a loop

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Constructs in the order they were declared."""
        return tuple(self.constructs)

    def ends(self, construct: str) -> tuple[float, float] | None:
        """Lowest and highest answer of a construct's items, where declared."""
        return self.scale.get(construct) if isinstance(self.scale, Mapping) else self.scale

    @cached_property
    def items(self) -> tuple[str, ...]:
        """All items, block by block."""
        return tuple(i for block in self.constructs.values() for i in block)

    @cached_property
    def member(self) -> np.ndarray:
        """Matrix with 1 where an item (row) belongs to a construct (column)."""
        return np.eye(len(self.names))[self.block]

    @cached_property
    def block(self) -> np.ndarray:
        """Construct number of each item."""
        return np.repeat(np.arange(len(self.names)), [len(b) for b in self.constructs.values()])

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Constructs sorted so that every path points forward; raises on a loop."""
        left, out = list(self.names), []
        while left:
            free = [c for c in left if not any(b == c and a in left for a, b in self.paths)]
            if not free:
                raise InputError(f"the paths run in a loop through {', '.join(left)}; a path model needs an order")
            out.append(free[0])
            left.remove(free[0])
        return tuple(out)

    @cached_property
    def adjacency(self) -> np.ndarray:
        """Matrix with 1 in row *to*, column *from*."""
        matrix = np.zeros((len(self.names), len(self.names)))
        for a, b in self.paths:
            matrix[self.names.index(b), self.names.index(a)] = 1
        return matrix

    def predictors(self, name: str) -> tuple[str, ...]:
        """Constructs with a path to ``name``."""
        return tuple(c for c in self.names if (c, name) in self.paths)

    def need(self, *roles: str) -> tuple[str, ...]:
        """Return the constructs that play these roles; raises :class:`NotApplicable` where one is not asked for."""
        found = [self.role(r) for r in roles]
        if None in found:
            lacking = ", ".join(r for r, c in zip(roles, found, strict=True) if c is None)
            raise NotApplicable(f"the survey has no construct for {lacking}; it has {', '.join(self.names)}")
        return tuple(str(c) for c in found)

    def role(self, role: str) -> str | None:
        """Return the construct that plays a role (``"satisfaction"``), or None."""
        return playing(role, self.names)

    @cached_property
    def connected(self) -> PathModel:
        """The model without constructs that no path touches."""
        linked = {c for path in self.paths for c in path}
        if not linked:
            raise InputError("the model declares no paths; add them to bank.yaml")
        return self if linked == set(self.names) else self.only(*(c for c in self.names if c in linked))

    def only(self, *names: str) -> PathModel:
        """Return the model restricted to some constructs."""
        keep = {c: b for c, b in self.constructs.items() if c in names}
        items = {i for b in keep.values() for i in b}
        return PathModel(
            keep,
            [p for p in self.paths if p[0] in keep and p[1] in keep],
            {c: m for c, m in self.modes.items() if c in keep},
            [i for i in self.reversed_items if i in items],
            self.scale,
        )


def playing(role: str, names: Iterable[str]) -> str | None:
    """Return the first name that plays a role, or None."""
    return next((c for c in names if c.lower().startswith(ROLES[role])), None)


def complete_answers(frame: pd.DataFrame, model: PathModel) -> pd.DataFrame:
    """Return the model's items as numbers, reversed items turned, complete answers only.

    Parameters
    ----------
    frame : DataFrame
        One row per respondent; a column per item. A column ``responded``, where present, selects the respondents.

    Returns
    -------
    DataFrame
        Float columns in the order of ``model.items``; the index of ``frame`` is kept.

    Raises
    ------
    NotApplicable
        Fewer complete answers than are worth a model.
    InputError
        Unknown item, text in an item, codes such as 98 or 99 left in, an item without variance, an item that runs
        against the rest of its construct and is not declared as reversed.
    """
    unknown = [i for i in model.items if i not in frame.columns]
    if unknown:
        raise InputError(f"item {', '.join(unknown)} is not in the survey; it has {', '.join(map(str, frame.columns))}")
    rows = frame[frame["responded"].astype(bool)] if "responded" in frame.columns else frame
    items = rows[list(model.items)].apply(pd.to_numeric, errors="coerce").astype(float)
    text = (items.isna() & rows[list(model.items)].notna()).sum()
    if text.any():
        name = text.idxmax()
        raise InputError(
            f"item {name} holds text in {int(text.max())} rows; answers must be numbers. Try, for the table survey: "
            f"missing: {{{name}: [words]}} for words that mean none, or recode: {{{name}: {{words: 1}}}} for answers"
        )
    for name, k in zip(model.items, model.block, strict=True):
        _refuse_codes(items[name], model.ends(model.names[k]))
    items = items.dropna()
    if len(items) < MIN_ROWS:
        raise NotApplicable(f"{len(items)} of {len(rows)} respondents answered every item; {MIN_ROWS} are needed")
    flat = [i for i in model.items if items[i].nunique() < 2]
    if flat:
        names = ", ".join(flat)
        raise InputError(
            f"item {names} has one answer in all {len(items)} rows: no variance. Try: leave it out of constructs; "
            f"where bank.yaml has none, drop: [{names}] for the table survey"
        )
    for construct in model.names:
        block = list(model.constructs[construct])
        low, high = model.ends(construct) or (items[block].min().min(), items[block].max().max())
        for name in (i for i in block if i in model.reversed_items):
            items[name] = low + high - items[name]
        _refuse_backward(items[block], construct)
    return items


def _refuse_codes(answers: pd.Series, scale: tuple[float, float] | None) -> None:
    values = answers.dropna()
    if values.empty:
        raise InputError(f"item {answers.name} is empty")
    if scale is not None:
        low, high = scale
    else:
        # without a declared scale a code gives itself away by the gap to the highest true answer
        usual = values[~np.isin(values, CODES)]
        low, high = (usual.min(), usual.max()) if len(usual) else (values.min(), values.max())
        width = max(high - low, 1)
        low, high = (min(low, 0), high + 2 * width) if low >= 0 else (low - width, high + 2 * width)
        true = sorted(usual[~usual.isin((8, 9))].unique())
        if usual.max() in (8, 9) and true[-4:] in ([2, 3, 4, 5], [1, 2, 3, 4], [1, 2, 3]) and len(usual) >= MIN_ROWS:
            high = true[-1]  # 8 and 9 behind answers from 1 to 5 are codes, too
    wrong = values[(values < low) | (values > high)]
    if len(wrong):
        seen = ", ".join(f"{v:g}" for v in sorted(wrong.unique()))
        raise InputError(
            f"item {answers.name} has {len(wrong)} rows with {seen}, outside its scale: codes for 'do not know' or "
            "'refused' must be recoded to missing in bank.yaml; declare, for the table survey, "
            f"missing: {{{answers.name}: [{seen}]}}, or the scale of its construct"
        )


def _refuse_backward(block: pd.DataFrame, construct: str) -> None:
    """Refuse an item whose correlation with the rest of its construct is below 0 beyond sampling error."""
    if block.shape[1] < 2:
        return
    corr = np.corrcoef(block.to_numpy(), rowvar=False)
    rest = corr.sum(axis=1) - 1  # covariance of each item with the sum of the others, all standardised
    spread = np.sqrt(corr.sum() - 2 * rest - 1)  # standard deviation of that sum
    for name, r in zip(block.columns, rest / spread, strict=True):
        if np.arctanh(np.clip(r, -0.999, 0.999)) + z() / np.sqrt(len(block) - 3) < 0:
            raise InputError(
                f"item {name} runs against the other items of {construct} (correlation {r:.2f}, {len(block)} rows); "
                f"list it under reversed in bank.yaml (reversed: [{name}]), or take it out"
            )


def construct_scores(items: pd.DataFrame, model: PathModel) -> pd.DataFrame:
    """Return one standardised score per construct: the mean of its standardised items.

    Equal weights need no fit, so scores mean the same in every wave and in every resample.
    """
    complete(**{str(c): items[c] for c in model.items})
    standard = (items - items.mean()) / items.std(ddof=0)
    raw = pd.DataFrame({c: standard[list(block)].mean(axis=1) for c, block in model.constructs.items()})
    return (raw - raw.mean()) / raw.std(ddof=0)
