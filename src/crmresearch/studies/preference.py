"""Study 9: what attributes of a product are worth to those who choose, and whether service or yield keeps people."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import words
from crmresearch.errors import Missing, NotApplicable
from crmresearch.estimators.choice import Choice, conditional_logit, spread
from crmresearch.estimators.inference import Estimate, ends, levels, normal, rates
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Mark, Picture
from crmresearch.result import Check, Result, gate, study

say = words.of("preference")
OWN = ("person", "task", "first", "chosen", "age")
OPT_OUT = "opt_out"  # attribute of the option that is none of the products
GAP = "older less younger"
LEAST = 30  # persons of a group that is fitted by itself
MIN_Z = 3.0  # of the price, below which a ratio to it means nothing
FIRST = 0.2  # log odds of the option that stands first: 55 choices of 100 where order is all there is
EXITS = 50  # of customers with priority, and of others
LEAST_MOVED = 10  # places, and months, that the rate moves in: an error by cluster needs as many
LATER = 0.03  # log hazard, the bound of S20a, by which next month's rate may seem to act
MOVED = 10.0  # basis points, twice the bound of S49 and S54, by which leaving out "nothing" may move a worth


def fitted(frame: pd.DataFrame, *more: str) -> Choice:
    """Fit the attributes of a frame of options that differ within its tasks."""
    columns = [c for c in (*attributes(frame), *more) if frame.groupby("task")[c].nunique().max() > 1]
    x = frame[columns].to_numpy(float)
    return conditional_logit(x, frame["chosen"], frame["task"], frame["person"].to_numpy(), columns)


def attributes(frame: pd.DataFrame) -> list[str]:
    """Return the columns of the attributes."""
    return [str(c) for c in frame if c not in OWN]


def groups(frame: pd.DataFrame, older_from: int) -> dict[str, pd.DataFrame]:
    """Split those whose age is known at an age; all as one group where one side would be too small."""
    old = frame["age"] >= older_from
    young = frame["age"] < older_from
    parts = {"younger": frame[young], "older": frame[old]}
    if min(part["person"].nunique() for part in parts.values()) < LEAST:
        return {"everybody": frame}
    return parts


@study
def worth(frame: pd.DataFrame, *, price: str, service: str, guarantee: str, older_from: int) -> Result:
    """What attributes are worth in units of one of them (S20, S49, S49a), and to older less younger customers (S54).

    Each age group is fitted by itself, since tastes that differ are no average of one model; the worth to everybody is
    the mean over persons.

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.preference.choices`.
    price : str
        Attribute in whose units the others are told; wanted (a yield) or paid (a fee).
    service, guarantee : str
        Attributes of the claims.
    older_from : int
        Age from which customers count as older.

    References
    ----------
    McFadden (1974), in Zarembka (ed.), *Frontiers in Econometrics*, 105-142; Hole (2007), *Health Economics* 16,
    827-840, on intervals of what people are willing to pay.
    """
    _enough(frame, price)
    parts = groups(frame, older_from)
    fits = {name: fitted(part) for name, part in parts.items()}
    known = [name for name in attributes(frame) if all(name in fit.names for fit in fits.values())]
    if price not in known or known == [price]:
        raise NotApplicable(say("no_price", price=price, known=", ".join(known)), "choices")
    table = pd.DataFrame([row for name in known if name != price for row in _rows(fits, name, price)])
    unit, told = unit_of(price), min(abs(fit.z(price)) for fit in fits.values())

    def line(name: str, group: str) -> Estimate | Missing:
        found = table[(table["attribute"] == name) & (table["group"] == group)]
        if unit != say("points"):
            return Missing(say("not_points", price=price), ("choices",))
        if name not in known:
            return Missing(say("no_attribute", name=name, known=", ".join(known)), ("choices",))
        if found.empty:
            return Missing(say("no_ages", least=LEAST, age=older_from), ("choices", "customers"))
        row = found.iloc[0]
        return Estimate(row["worth"], row["low"], row["high"], unit, int(row["n"]), se=row["se"])

    served = line(service, "everybody")
    shown = table[table["group"] != GAP]
    named = say.names("groups")
    return Result(
        table.assign(group=table["group"].map(named)).drop(columns="se").rename(columns=say.names("columns")),
        _sentence(table, service, unit, parts, frame["person"].nunique()),
        (
            gate(say, "told", told >= MIN_Z, price=price, z=told, limit=MIN_Z),
            gate(say, "first", _first(frame)),
            *_alike(frame, parts, fits, price, service),
            gate(say, "stated", None),
        ),
        {"S20": served, "S49": served, "S49a": line(guarantee, "everybody"), "S54": line(guarantee, GAP)},
        Picture(
            "intervals",
            shown.rename(columns={"attribute": "label", "worth": "estimate"}).assign(group=shown["group"].map(named)),
            _title(table, service, unit),
            say("x", unit=unit, n=table["n"].max()),
            options={"marks": [Mark(0, style="limit")]},
        ),
    )


def unit_of(price: str) -> str:
    """Return the unit of what is told in units of an attribute."""
    return say("points") if price.endswith("_bp") else say("units", price=price)


def _enough(frame: pd.DataFrame, price: str) -> None:
    if price not in attributes(frame):
        raise NotApplicable(say("no_price", price=price, known=", ".join(attributes(frame))), "choices")
    if (people := frame["person"].nunique()) < LEAST:
        raise NotApplicable(say("too_few", n=people, least=LEAST), "choices")


def _rows(fits: dict[str, Choice], name: str, price: str) -> Iterator[dict[str, Any]]:
    """One row per group, then everybody, then the difference of the two."""
    found = [fit.worth(name, price) for fit in fits.values()]
    n = np.array([fit.people for fit in fits.values()])
    for group, fit, w in zip(fits, fits.values(), found, strict=True):
        low, high = w.fieller.ends
        exact = {"fieller_low": low, "fieller_high": high}
        yield _row(name, group, w.value, w.se, fit.people) | exact
    if len(fits) == 2:
        value, se = (np.array([getattr(w, k) for w in found]) for k in ("value", "se"))
        for group, weight in {"everybody": n / n.sum(), GAP: np.array([-1.0, 1.0])}.items():
            yield _row(name, group, float(weight @ value), float(np.sqrt(weight**2 @ se**2)), int(n.sum()))


def _row(name: str, group: str, value: float, se: float, n: int) -> dict[str, Any]:
    low, high = ends(value, se)
    return {"attribute": name, "group": group, "worth": value, "low": low, "high": high, "se": se, "n": n}


def _first(frame: pd.DataFrame) -> Deviation:
    """Log odds of the option that stands first, beyond its attributes."""
    fit = fitted(frame, "first")
    k = fit.names.index("first")
    value, se = fit.params[k], np.sqrt(fit.covariance[k, k])
    return Deviation(value, *ends(value, se), limit=FIRST)


def _alike(
    frame: pd.DataFrame, parts: dict[str, pd.DataFrame], fits: dict[str, Choice], price: str, service: str
) -> tuple[Check, ...]:
    """Whether the worth of the service holds among those who chose something: options substitute alike only then.

    References
    ----------
    Hausman and McFadden (1984), *Econometrica* 52, 1219-1240.
    """
    if OPT_OUT not in attributes(frame) or not all(service in fit.names for fit in fits.values()):
        return ()
    moved, variance, n = 0.0, 0.0, sum(fit.people for fit in fits.values())
    for part, fit in zip(parts.values(), fits.values(), strict=True):
        none = part[OPT_OUT] != 0
        nothing = part.loc[none & part["chosen"].astype(bool), "task"]
        within = fitted(part[~none & ~part["task"].isin(nothing)]).worth(service, price)
        whole, weight = fit.worth(service, price), fit.people / n
        moved += weight * (within.value - whole.value)
        variance += weight**2 * max(within.se**2 - whole.se**2, 0.0)
    return (gate(say, "alike", Deviation(moved, *ends(moved, np.sqrt(variance)), limit=MOVED)),)


def _sentence(table: pd.DataFrame, service: str, unit: str, parts: dict[str, pd.DataFrame], asked: int) -> str:
    told, n = table.set_index(["attribute", "group"]), int(table["n"].max())
    sentence = say("people", n=n, tasks=sum(part["task"].nunique() for part in parts.values()))
    if asked > n:
        sentence += say("no_age", n=asked - n)
    if (service, "everybody") not in told.index:
        return sentence
    sentence += say("service", row=told.loc[(service, "everybody")], service=service, unit=unit)
    if (service, "older") in told.index:
        sentence += say("ages", older=told.loc[(service, "older")], younger=told.loc[(service, "younger")])
    return sentence + "."


def _title(table: pd.DataFrame, service: str, unit: str) -> str:
    row = table[(table["attribute"] == service) & (table["group"] == "everybody")]
    if row.empty or row["low"].iloc[0] <= 0 <= row["high"].iloc[0]:
        return say("title_open", unit=unit)
    return say("title", row=row.iloc[0], service=service, unit=unit)


# --- how much groups differ -------------------------------------------------------------------------------------------


@study
def differences(frame: pd.DataFrame, *, price: str, attribute: str, age_bands: Sequence[int]) -> Result:
    """How much the worth of an attribute differs between age bands beyond sampling (S54a).

    Parameters
    ----------
    frame : DataFrame
        From :func:`crmresearch.data.reductions.preference.choices`.
    price, attribute : str
        Attribute in whose units, and the one that is told.
    age_bands : sequence of int
        Ages at which bands begin, after the youngest. Declared beforehand: the largest of several differences is
        positive by construction, their spread is not.
    """
    _enough(frame, price)
    if attribute not in attributes(frame):
        raise NotApplicable(say("no_attribute", name=attribute, known=", ".join(attributes(frame))), "choices")
    rows, told = [], np.inf
    for low, high in itertools.pairwise(_edges(frame, age_bands)):
        part = frame[(frame["age"] >= low) & (frame["age"] < high)]
        fit = fitted(part)
        if not {price, attribute} <= set(fit.names):
            continue
        one, told = fit.worth(attribute, price), min(told, abs(fit.z(price)))
        rows.append(_row(_band(low, high), "", one.value, one.se, fit.people))
    if len(rows) < 2:
        raise NotApplicable(say("no_bands", least=LEAST), "choices", "customers")
    table, unit = pd.DataFrame(rows).drop(columns="group"), unit_of(price)
    found = spread(table["worth"], table["se"])
    line: Estimate | Missing = Estimate(found.value, found.low, found.high, unit, int(table["n"].sum()))
    if unit != say("points"):
        line = Missing(say("not_points", price=price), ("choices",))
    table = table.rename(columns={"attribute": "band"}).drop(columns="se")
    ageless = frame.loc[frame["age"].isna(), "person"].nunique()
    return Result(
        table.rename(columns=say.names("columns")),
        say("spread", found=found, bands=len(table), name=attribute, unit=unit)
        + (say("no_age", n=ageless) if ageless else ""),
        (gate(say, "told", told >= MIN_Z, price=price, z=told, limit=MIN_Z), gate(say, "stated", None)),
        {"S54a": line},
        Picture(
            "intervals",
            table.rename(columns={"band": "label", "worth": "estimate"}),
            say("spread_title" if found.p < 0.05 else "spread_title_open", name=attribute),
            say("spread_x", name=attribute, unit=unit, n=table["n"].sum()),
            options={"marks": [Mark(0, style="limit")]},
        ),
    )


def _edges(frame: pd.DataFrame, age_bands: Sequence[int]) -> list[float]:
    """Edges of the bands; one of too few is joined to its neighbour: who is left out could be had by subtraction."""
    ages, edges = frame.groupby("person")["age"].first(), [-np.inf]
    for edge in (*sorted(age_bands), np.inf):
        if ages.between(edges[-1], edge, inclusive="left").sum() >= LEAST:
            edges.append(edge)
    return [*edges[:-1], np.inf]


def _band(low: float, high: float) -> str:
    if np.isinf(low):
        return say("band.under", high=high)
    return say("band.over", low=low) if np.isinf(high) else say("band.between", low=low, high=high - 1)


# --- deeds ------------------------------------------------------------------------------------------------------------


@study
def served(stays: pd.DataFrame) -> Result:
    """Log hazard of exit with priority service less that with a yield one standard deviation above rivals' (S20a).

    Places, calendar months and years of tenure are held. Next month's rate stands beside: it cannot act yet.

    Parameters
    ----------
    stays : DataFrame
        From :func:`crmresearch.data.reductions.preference.served`.

    References
    ----------
    McCullagh and Nelder (1989), *Generalized Linear Models*, 6; errors by cluster: MacKinnon, Nielsen and Webb (2023),
    *Journal of Econometrics* 232, 272-299.
    """
    exits = stays.groupby("priority")["exits"].sum().reindex([False, True], fill_value=0)
    if exits.min() < EXITS:
        raise NotApplicable(say("few_exits", n=int(exits.min()), least=EXITS), "customers")
    gaps = stays[["city", "month", "gap"]].drop_duplicates(["city", "month"])
    if (moved := min(_moved(gaps))) < LEAST_MOVED:
        raise NotApplicable(say("one_rate", n=moved, least=LEAST_MOVED), "markets")
    step = float(gaps["gap"].std())
    later = gaps.assign(month=gaps["month"] - 1).merge(gaps[["city", "month"]])
    told = stays.merge(later.rename(columns={"gap": "later"}), "left", ["city", "month"])
    some = told.groupby("city")["exits"].transform("sum") * told.groupby("month")["exits"].transform("sum") > 0
    told = told[some]  # a place or month without an exit tells nothing
    told = told.assign(priority=told["priority"].astype(float), gap=told["gap"] / step, later=told["later"] / step)
    unit, n = say("log_hazard"), int(exits.sum())
    priority, gap = (normal(*_hazard(told, *two), unit, n) for two in (("priority", "gap"), ("gap", "priority")))
    found = normal(*_hazard(told.assign(gap=told["priority"] + told["gap"]), "priority", "gap"), unit, n)
    seen = told[told["later"].notna()]
    placebo = None  # of months that do not follow each other
    if min(_moved(later)) >= LEAST_MOVED:
        value, se = _hazard(seen, "later", "priority", "gap")
        placebo = Deviation(value, *ends(value, se), limit=LATER, control=True)
    named = say.names("served.rows")
    hazards = {"priority": priority, "rate": gap, "less": found}
    rows = [(named[k], f.value, f.ci_low, f.ci_high, n) for k, f in hazards.items()]
    table = pd.DataFrame(rows, columns=["label", "estimate", "low", "high", "n"])
    return Result(
        table.rename(columns=say.names("served.columns")),
        say("served.sentence", found=found, priority=priority, rate=gap, step=step, n=n),
        (gate(say, "wealth", None), gate(say, "later", placebo)),
        {"S20a": found},
        counts=[say.names("served.columns")["n"]],
        picture=Picture(
            "intervals", table, say("served.title", found=found), say("served.x", n=n, step=step),
            options={"marks": [Mark(0, style="none")]},
        ),
    )  # fmt: skip


def _moved(gaps: pd.DataFrame) -> tuple[float, float]:
    """Places and months that the rate moves in, as if all moved alike, once what is the place's and the month's is out.

    References
    ----------
    Kish (1965). *Survey Sampling*, 11.7: the effective number of unequal parts.
    """
    out = gaps.copy()
    for _ in range(100):  # alternating means; a table without holes needs one
        for key in ("city", "month"):
            out["gap"] -= out.groupby(key)["gap"].transform("mean")
    out["gap"] = out["gap"].where(out["gap"].abs() > 1e-6, 0.0) ** 2
    parts = [out.groupby(key)["gap"].sum() for key in ("city", "month")]
    city, month = (float(p.sum() ** 2 / (p**2).sum()) if p.any() else 0.0 for p in parts)
    return city, month


def _hazard(stays: pd.DataFrame, *columns: str) -> tuple[float, float]:
    """Coefficient of the first column, given the others, and its error by place or by month."""
    held = [levels(stays[k]) for k in ("city", "month", "year")]
    x = np.column_stack([stays[list(columns)].to_numpy(float), np.ones(len(stays)), *held])
    clusters = [stays[k].to_numpy() for k in ("city", "month")]
    b, se = rates(x, stays["exits"], stays["at_risk"], clusters)
    return float(b[0]), float(se[0])
