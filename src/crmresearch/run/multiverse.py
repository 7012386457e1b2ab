"""The multiverse: a claim's line under every analysis choice its study declares, on cached frames, in one process."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import escape, figures, ledger, parameters, rules, words
from crmresearch.data.bank import Bank
from crmresearch.data.places import put
from crmresearch.data.reductions import churn as churn_frames
from crmresearch.data.reductions import cost as cost_frames
from crmresearch.data.reductions import loyalty as loyalty_frames
from crmresearch.data.reductions import value as value_frames
from crmresearch.errors import FitError, InputError, Missing, NotApplicable, first_missing
from crmresearch.estimators import verdicts
from crmresearch.estimators.inference import Estimate
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, study
from crmresearch.studies import churn, cost, loyalty, value
from crmresearch.studies.churn import contacts, index
from crmresearch.studies.cost import grid
from crmresearch.studies.loyalty import structure
from crmresearch.studies.value import shares

say = words.of("multiverse")
Specify = Callable[..., Estimate | Missing]
ROW = 0.24  # inches a specification takes in a figure


def _defaults(notebook: str) -> dict[str, Any]:
    """Return what the register's notebook is run with, so that the registered specification is the ledger's."""
    return {name: p.default for name, p in parameters.read(parameters.find(notebook)).items()}


def _relationship(bank: Bank, given: Mapping[str, Any]) -> Specify:
    groups = tuple(g for g in churn_frames.groups_of(bank) if g != "acquisition_channel")
    months: Any = churn_frames.person_months_by_lag(bank, index.CHOICES["lag"], groups=groups)
    entry: Any = churn_frames.spells(bank, states=churn_frames.STATES)

    def one(exits: str, lag: int, strata: str, weights: str) -> Estimate | Missing:
        missing = first_missing((months, entry))
        if missing is not None:
            return missing
        if f"events {index.CAUSE}" not in months[lag]:
            return Missing(index.say("unrecorded"), ("customers",))
        own = groups if strata == "declared" else ()
        return churn.index.specified(months[lag], int(entry["n"].sum()), exits=exits, groups=own, weights=weights)

    return one


def _contacts(bank: Bank, given: Mapping[str, Any]) -> Specify:
    @functools.cache
    def found(horizon: int) -> Result:
        arms: Any = churn_frames.arms(bank, horizon=horizon)  # a study says itself what is missing
        return churn.randomised(arms, horizon=horizon)

    return lambda exits, horizon: found(horizon).finding(exits)


def _ratios(bank: Bank, given: Mapping[str, Any]) -> Specify:
    money, effect = cost_frames.currency(bank), given["effect_months"]
    frames: tuple[Any, ...] = (
        cost_frames.acquisition(bank),
        cost_frames.upkeep(bank),
        cost_frames.prospects(bank),
        cost_frames.campaigns(bank, horizon_months=effect),
    )
    acquisition, upkeep, people, campaigns = frames
    found = cost.ratios(
        acquisition,
        upkeep,
        cost.response(people, currency=money),
        cost.saved(campaigns, horizon_months=effect, currency=money),
        horizon_months=given["tenure_months"],
        discount_annual=given["annual_discount"],
        resamples=given["resamples"],
        seed=given["seed"],
    )

    def one(winning: str, keeping: str, costs: str, several: float) -> Estimate | Missing:
        line = grid.LINES[winning, keeping]
        paid = found.finding(line)
        if isinstance(paid, Missing) or costs == grid.PAID:
            return paid
        rows = found.table
        own = rows[(rows["line"] == line) & (rows["costs"] == costs)] if "costs" in rows else rows.iloc[:0]
        if own.empty:
            return Missing(say("undated"), ("contacts",))
        value, low, high = (float(own.iloc[0][c]) for c in ("ratio", "ci_low", "ci_high"))
        return replace(paid, value=value, ci_low=low, ci_high=high, se=None)

    return one


def _paths(bank: Bank, given: Mapping[str, Any]) -> Specify:
    many = {k: given[k] for k in ("resamples", "seed")}

    @functools.cache
    def of_wave(wave: int) -> Any:
        survey: Any = loyalty_frames.survey(bank, wave=wave)
        model = loyalty.declared_model(bank.about.constructs, bank.about.paths, survey)
        items: Any = loyalty.prepare_items(survey, model)
        gates = loyalty.path_gates(model, loyalty.htmt(items, model, **many))
        return items, model, gates

    def one(wave: int, scheme: str, scaled: bool) -> Estimate | Missing:
        items, model, gates = of_wave(wave)
        return loyalty.path_model(items, model, gates=gates, scheme=scheme, scaled=scaled, **many).finding("S10c")

    return one


def _shares(bank: Bank, given: Mapping[str, Any]) -> Specify:
    @functools.cache
    def found(months: int, measure: str) -> Estimate | Missing:
        frame = value_frames.contribution(bank, months=months)
        if isinstance(frame, Missing):
            return frame
        known = list(shares.measured(frame))
        if measure == shares.COSTED[0]:
            measure = known[0]  # what stands in for contribution where no cost is known
        elif measure not in known:
            return Missing(say("unloaded"), ("monthly",))
        own = frame.drop(columns=[m for m in known if m != measure])
        return value.concentration(own, seed=given["seed"], resamples=given["resamples"]).finding("S19")

    return found


@dataclass(frozen=True)
class Declared:
    """A claim's primary line, the choices its study declares (the registered value first), and how to take one."""

    line: str
    choices: Mapping[str, Sequence[Any]]
    prepare: Callable[[Bank, Mapping[str, Any]], Specify]


DECLARED = {
    "S06": Declared("S06", index.CHOICES, _relationship),
    "S10": Declared("S10c", structure.CHOICES, _paths),
    "S19": Declared("S19", shares.CHOICES, _shares),
    "S40": Declared("S40", grid.CHOICES, _ratios),
    "S42": Declared("S42", contacts.CHOICES, _contacts),
}


def checked(claims: Sequence[str]) -> list[str]:
    """Return claims whose studies declare choices, or refuse.

    Raises
    ------
    InputError
        If a claim is unknown or named twice, or no choice reaches it.
    """
    known = {claim["id"] for claim in ledger.claims()}
    wrong = [f"no claim {c} in claims.yaml" if c not in known else f"no choice reaches {c}, so it is left out"
             for c in claims if c not in DECLARED]  # fmt: skip
    wrong += ["a claim is named twice"] if len(set(claims)) < len(claims) else []
    if wrong:
        raise InputError("\n".join([*wrong, f"choices are declared for {', '.join(DECLARED)}"]))
    return list(claims)


def specifications(bank: Bank, claim: str) -> pd.DataFrame:
    """Estimate a claim's primary line under every combination of its choices; the first is the registered one.

    A verdict is that of the specification alone: its interval against the bound, and its own gates.
    """
    declared = DECLARED[claim]
    line = ledger.lines()[declared.line]
    one = declared.prepare(bank, _defaults(line.notebook))
    rows = []
    for k, chosen in enumerate(itertools.product(*declared.choices.values())):
        setting = dict(zip(declared.choices, chosen, strict=True))
        held = line
        if "several" in setting and line.bound is not None:
            held = replace(line, bound=replace(line.bound, at=setting["several"]))
        try:
            found = one(**setting)
        except (FitError, NotApplicable) as error:
            found = Missing(str(error))
        said = ledger.checked(declared.line, found)
        row = {"claim": claim, "line": line.line_id, "choices": json.dumps(setting), "default": k == 0}
        row |= {"bound": held.bound.at if held.bound else math.nan, "why": said.get("reason", "")}
        if isinstance(found, Estimate) and "value" in said:
            p = math.nan
            if held.bound is not None and not math.isnan(found.ci_low):
                p = verdicts.p_value(found.value, found.ci_low, found.ci_high, held.bound)
            row |= {"estimate": found.value, "ci_low": found.ci_low, "ci_high": found.ci_high, "n": said["n"],
                    "verdict": ledger.verdict(held, found, p)}  # fmt: skip
        else:
            row |= {"estimate": math.nan, "ci_low": math.nan, "ci_high": math.nan, "n": math.nan,
                    "verdict": "not measured"}  # fmt: skip
        rows.append(row)
    facts = {"bank": bank.about.name, "notebook": line.notebook, "data": bank.engine.fingerprint()[:12]}
    return pd.DataFrame(rows).assign(**facts, register=ledger.register_hash()[:12])


def explained(frame: pd.DataFrame, log: bool) -> dict[str, float]:
    """Share of the variance of estimates between specifications that lies between the values of each choice.

    Each choice is looked at alone; where all combinations were estimated the shares add up to one at most, and what is
    left is that choices act together. 0 is a choice that does not reach the line.
    """
    known = frame[np.isfinite(frame["estimate"]) & ((frame["estimate"] > 0) | (not log))]
    y = np.log(known["estimate"]) if log else known["estimate"]
    settings = pd.DataFrame(list(known["choices"].map(json.loads)), index=known.index)
    total = float(((y - y.mean()) ** 2).sum())
    return {
        str(c): float(((y.groupby(settings[c]).transform("mean") - y.mean()) ** 2).sum()) / total if total > 0 else 0.0
        for c in settings
    }


def idle(frame: pd.DataFrame) -> list[str]:
    """Return the choices that cannot reach a line: all else being equal, neither estimate nor verdict moves."""
    settings = pd.DataFrame(list(frame["choices"].map(json.loads)), index=frame.index)
    seen = settings.assign(found=frame["estimate"].map("{:.9g}".format) + frame["verdict"])
    out = []
    for choice in settings:
        others = [c for c in settings if c != choice]
        found = seen.groupby(others)["found"].nunique() if others else pd.Series(seen["found"].nunique())
        out += [str(choice)] if found.max() <= 1 else []
    return out


def _label(choices: str, declared: Declared) -> str:
    names = say.names("choices")
    moved = [
        f"{names[k]}: {words.local(str(v))}" for k, v in json.loads(choices).items() if v != declared.choices[k][0]
    ]
    return ", ".join(moved) or say("registered")


@study
def curve(frame: pd.DataFrame) -> Result:
    """Specification curve of one claim: estimates in order, what is on either side, how much each choice explains.

    Parameters
    ----------
    frame : DataFrame
        From :func:`specifications`.
    """
    claim = str(frame["claim"].iloc[0])
    declared, names = DECLARED[claim], say.names("choices")
    line = ledger.lines()[declared.line]
    known = frame[np.isfinite(frame["estimate"])].sort_values("estimate", kind="stable")
    if known.empty:
        raise NotApplicable(str(frame["why"].iloc[0]), *line.tables)
    counts = known["verdict"].value_counts()
    held, against = int(counts.get("supported", 0)), int(counts.get("refuted", 0))
    parts = explained(known, line.bound is not None and line.bound.none == 1)
    left = idle(frame)
    told = ", ".join(say("part", name=names[k], share=v) for k, v in parts.items() if k not in left)
    unreached = ", ".join(names[k] for k in left)
    if line.bound is None:
        title = say("title_described", claim=claim, known=len(known), low=known["estimate"].min(),
                    high=known["estimate"].max())  # fmt: skip
        sentence = say("described", title=title)
    else:
        title = say("title", claim=claim, known=len(known), held=held)
        sentence = say("sentence", claim=claim, known=len(known), held=held, against=against, tried=len(frame))
    sentence += " " + say("explained", told=told) if told else ""
    sentence += " " + say("idle", names=unreached) if left else ""
    bounds = sorted(set(known["bound"].dropna()))
    marks = [Mark(at, style="limit") for at in bounds]
    drawn = known.iloc[::-1].assign(label=[_label(c, declared) for c in known.iloc[::-1]["choices"]])
    drawn = drawn[~drawn["label"].duplicated()].assign(strong=lambda d: d["default"])
    options = {"marks": marks, "log": bool(line.bound and line.bound.none == 1 and (known["ci_low"] > 0).all())}
    axis = say("x", unit=words.local(line.unit), n=int(frame.loc[frame["default"], "n"].fillna(0).iloc[0]))
    picture = Picture("intervals", drawn, title, axis, options=options, size=(9.0, 1.4 + ROW * len(drawn)))
    return Result(frame.reset_index(drop=True), sentence, picture=picture)


def run(bank: Bank, claims: Sequence[str], out: Path) -> dict[str, Result]:
    """Write ``multiverse.csv`` and a curve per claim; return the curves.

    Raises
    ------
    InputError
        If a claim is refused (see :func:`checked`).
    """
    claims = checked(claims)
    rules.use(bank.about.disclosure)
    figures.use(bank.source_line, out / "figures", "multiverse", bank.about.currency)
    found = {claim: curve(specifications(bank, claim)) for claim in claims}
    kept = [result.table for result in found.values() if result.applicable]
    out.mkdir(parents=True, exist_ok=True)
    if kept:
        put(out / "multiverse.csv", escape.csv(pd.concat(kept, ignore_index=True)), private=False)
    for claim, result in found.items():
        if result.applicable:
            with contextlib.redirect_stdout(io.StringIO()):  # a terminal shows no picture
                figures.show(result.plot(), alt=result.alt, name=claim)
    return found
