"""The multiverse: a claim's line under every analysis choice its study declares, on cached frames, in one process."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import escape, figures, ledger, parameters, rules, words
from crmresearch.answer import number
from crmresearch.data.bank import Bank
from crmresearch.data.places import put
from crmresearch.data.reductions.named import Named
from crmresearch.disclosure import safe
from crmresearch.errors import FitError, InputError, Missing, NotApplicable, Reader
from crmresearch.estimators import verdicts
from crmresearch.estimators.blocks import Functional
from crmresearch.estimators.inference import Estimate, z
from crmresearch.estimators.inference.resampling import MIN_GROUPS
from crmresearch.estimators.joint import joint_test
from crmresearch.figures import Mark, Picture
from crmresearch.result import Result, study
from crmresearch.rules import blunt
from crmresearch.studies import Choices
from crmresearch.studies.declared import choices

say = words.of("multiverse")
NOTEBOOK = "98_multiverse"  # which asks, and whose overview the site tells
ROW = 0.24  # inches a specification takes in a figure
VERDICTS = ("supported", "refuted", "undecided", "blocked")
SEED = 2026  # of the signs of the joint test
JOINT = ("t", "joint_p", "share_by_chance", "share_p")
NOTHING = {**dict.fromkeys(("estimate", "ci_low", "ci_high"), math.nan), "n": 0}


def declared() -> dict[str, Choices]:
    """Return by claim what its study declares."""
    return {ledger.lines()[line].claim_id: found for line, found in choices().items()}


def checked(claims: str | Iterable[str]) -> list[str]:
    """Return claims (or their names in one text) whose studies declare choices, or refuse.

    Raises
    ------
    InputError
        If a claim is unknown or named twice, or no choice reaches it.
    """
    claims = re.findall(r"[^\s,]+", claims) if isinstance(claims, str) else list(claims)
    known, there = {claim["id"] for claim in ledger.claims()}, declared()
    wrong = [f"no claim {c} in claims.yaml" if c not in known else f"no choice reaches {c}, so it is left out"
             for c in claims if c not in there]  # fmt: skip
    wrong += ["a claim is named twice"] if len(set(claims)) < len(claims) else []
    wrong += [] if claims else ["no claim is named"]
    if wrong:
        raise InputError("\n".join([*wrong, f"choices are declared for {', '.join(there)}"]))
    return claims


def tried(bank: Bank, claims: str | Iterable[str]) -> dict[str, pd.DataFrame]:
    """Estimate the primary line of each claim under every combination of its choices, on frames that are made once.

    Each specification is read alone: a verdict is that of its own interval against the bound and its own gates, without
    the adjustment over the lines of a bank that the ledger makes. The first row of a claim is the registered one.

    Returns
    -------
    dict of str to DataFrame
        By claim: ``claim, line, choices`` (JSON), ``default, bound`` (missing where the setting estimates what the
        bound is not for), ``estimate, ci_low, ci_high, n, verdict, why``, what the joint test says (``t`` of those that
        take part, the rest alike in all rows; see :func:`.joint_test`), and where it comes from.
    """
    frames = Named(bank)
    return {claim: _specifications(frames, claim) for claim in checked(claims)}


def _specifications(frames: Named, claim: str) -> pd.DataFrame:
    of, bank = declared()[claim], frames.bank
    line = ledger.lines()[of.line]
    given = {name: p.default for name, p in parameters.read(parameters.find(line.notebook)).items()}
    one, rows = of.ask(frames, given), []
    for k, chosen in enumerate(itertools.product(*of.options.values())):
        setting = dict(zip(of.options, chosen, strict=True))
        bound = line.bound and of.bound(line.bound, setting)
        try:
            found = one(setting)
        except (FitError, NotApplicable) as error:
            found = Missing(str(error))
        said = ledger.checked(of.line, found)
        row = {"claim": claim, "line": of.line, "choices": json.dumps(setting), "default": k == 0}
        row |= {"bound": bound.at if bound else math.nan, **NOTHING, "verdict": "not measured"}
        if isinstance(found, Estimate) and "value" in said:
            ends = found.value, found.ci_low, found.ci_high
            p = math.nan if bound is None or math.isnan(found.ci_low) else verdicts.p_value(*ends, bound)
            row |= dict(zip(NOTHING, (*ends, said["n"]), strict=True))
            row["verdict"] = ledger.verdict(replace(line, bound=bound), found, p)
        rows.append(row | {"why": said.get("reason", "")})
    facts = {"bank": bank.about.name, "notebook": line.notebook, "data": bank.engine.fingerprint()[:12]}
    return _jointly(pd.DataFrame(rows), frames, given).assign(**facts, register=ledger.register_hash()[:12])


def _alike(frame: pd.DataFrame) -> pd.Series:
    """Mark specifications that differ from another one in the bound alone; the registered value stays."""
    options, still = declared()[str(frame["claim"].iloc[0])].options, idle(frame, "estimate")
    return frame["choices"].map(lambda text: any(json.loads(text)[c] != options[c][0] for c in still))


def _able(frame: pd.DataFrame) -> pd.Series:
    """Mark specifications that are decided or open by their own interval, which has both ends."""
    ends = np.isfinite(frame[["ci_low", "ci_high"]].to_numpy(float)).all(axis=1)
    return frame["verdict"].isin(VERDICTS[:3]) & pd.Series(ends, frame.index)


def _jointly(frame: pd.DataFrame, frames: Named, given: Mapping[str, Any]) -> pd.DataFrame:
    """Test the specifications of a claim together: those that have a bound, an interval and contributions by block.

    One whose gate is closed takes no part, and one that differs in the bound alone is no other estimate; nor does one
    whose contributions cannot be told, or not in the sets of the others. These are counted where the test is told.
    """
    of, frame = declared()[str(frame["claim"].iloc[0])], frame.assign(**dict.fromkeys(JOINT, math.nan))
    bound = ledger.lines()[of.line].bound
    able = _able(frame) & ~_alike(frame)
    if of.above is None or bound is None or not able.any():
        return frame
    sign, above, found = -1.0 if bound.side == "below" else 1.0, of.above(frames, given), {}
    for k, row in frame[able].iterrows():
        try:
            far = above(json.loads(row["choices"]), row["bound"])
        except (FitError, NotApplicable):
            continue
        if isinstance(far, Functional) and 0 < far.se < math.inf and len(far.influence) >= MIN_GROUPS:
            found[k] = sign * far
    sets = max((len(far.influence) for far in found.values()), default=0)
    found = {k: far for k, far in found.items() if len(far.influence) == sets}
    if not found:
        return frame
    test = joint_test([*found.values()], seed=SEED)
    frame.loc[[*found], "t"] = [blunt(float(t), n) for t, n in zip(test.t, frame.loc[[*found], "n"], strict=True)]
    return frame.assign(joint_p=test.median_p, share_by_chance=test.by_chance, share_p=test.share_p)


def _joint_words(frame: pd.DataFrame) -> str:
    """Say what the specifications show together, and which of them take no part."""
    t = frame["t"].dropna()
    if t.empty:
        return say("joint_unbounded") if frame["bound"].isna().all() else say("joint_nothing")
    out, alike, free, able = frame["t"].isna(), _alike(frame), frame["bound"].isna(), _able(frame)
    why = (alike, free & ~alike, ~(able | free | alike), able & ~(free | alike))
    same, other, shut, unknown = (int((some & out).sum()) for some in why)
    left = [
        say("joint_alike", count=same) if same else "",
        say("joint_free", count=other) if other else "",
        say("joint_shut", count=shut) if shut else "",
        say("joint_unknown", count=unknown) if unknown else "",
    ]
    share = float((t > z()).mean())
    told = say("joint", of=len(t), median=t.median(), share=share, row=frame.iloc[0])
    rest = say("joint_left", why=words.joined(left, ", ")) if any(left) else ""
    return words.joined([told, rest], " ")


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


def idle(frame: pd.DataFrame, *what: str) -> list[str]:
    """Return the choices that cannot reach a line: all else being equal, neither estimate nor verdict moves."""
    settings = pd.DataFrame(list(frame["choices"].map(json.loads)), index=frame.index)
    found = [frame[c].map("{:.9g}".format) if c == "estimate" else frame[c] for c in what or ("estimate", "verdict")]
    seen, out = settings.assign(found=pd.concat(found, axis=1).agg(" ".join, axis=1)), []
    for choice in settings:
        others = [c for c in settings if c != choice]
        moved = seen.groupby(others)["found"].nunique().max() if others else seen["found"].nunique()
        out += [str(choice)] if moved <= 1 else []
    return out


def _label(setting: Mapping[str, Any], of: Choices) -> str:
    values = say.names("values")
    moved = [values[f"{k} {v}"] for k, v in setting.items() if v != of.options[k][0]]
    return words.joined(moved, ", ") or say("registered")


def _counts(frame: pd.DataFrame) -> dict[str, int]:
    """How many specifications were tried, estimated, held against a bound, and what came of those."""
    known = frame[frame["estimate"].notna()]
    compared = known[known["bound"].notna()]
    found = compared["verdict"].value_counts()
    of = {"held": int(found.get("supported", 0)), "against": int(found.get("refuted", 0))}
    return {"tried": len(frame), "known": len(known), "compared": len(compared), **of}


@study
def curve(frame: pd.DataFrame) -> Result:
    """Specification curve of one claim: estimates in order, what is on either side, how much each choice explains.

    Parameters
    ----------
    frame : DataFrame
        Of one claim, from :func:`tried`.

    Returns
    -------
    Result
        One row per choice: ``choice, values`` (the registered one first), ``explained`` (share of the variance between
        specifications), ``reaches``.
    """
    claim = str(frame["claim"].iloc[0])
    of, names = declared()[claim], say.names("choices")
    line, short, values = ledger.lines()[of.line], say.names("short")[claim], say.names("values")
    known = frame[np.isfinite(frame["estimate"])].sort_values("estimate", kind="stable")
    if known.empty:
        raise NotApplicable(str(frame["why"].iloc[0]) or say("stopped"), *line.tables)
    log, n = line.bound is not None and line.bound.none == 1, _counts(frame)
    left, still = idle(frame), idle(frame, "estimate")
    parts = {k: 0.0 if k in still else v for k, v in explained(known, log).items()}
    table = pd.DataFrame(
        {
            "choice": names[k],
            "values": words.joined([values[f"{k} {v}"] for v in of.options[k]]),
            "explained": share,
            "reaches": say("idle") if k in left else say("verdict") if k in still else say("estimate"),
        }
        for k, share in parts.items()
    )
    if line.bound is None:
        title = say("title_described", short=short, known=n["known"], low=known["estimate"].min(),
                    high=known["estimate"].max())  # fmt: skip
        told = [say("described", title=title)]
    else:
        title = say("title", short=short, compared=n["compared"], held=n["held"])
        told = [say("sentence", short=short, n=n, open=n["compared"] - n["held"] - n["against"])]
        told += [say("uncompared", count=n["known"] - n["compared"])] if n["known"] > n["compared"] else []
    if n["tried"] > n["known"]:
        why = frame.loc[frame["estimate"].isna(), "why"].mode().iloc[0]
        told += [say("unmeasured", count=n["tried"] - n["known"], why=why or say("blocked"))]
    drawn = _picture(frame, known, title, log and bool((known["ci_low"] > 0).all()))
    return Result(table, words.joined([*told, say("alone"), _joint_words(frame)], " "), picture=drawn, counts=())


def _picture(frame: pd.DataFrame, known: pd.DataFrame, title: str, log: bool) -> Picture:
    """Each estimate once: choices that move the bound alone are lines across, and colours hold for the registered."""
    of = declared()[str(frame["claim"].iloc[0])]
    line, still = ledger.lines()[of.line], idle(frame, "estimate")
    settings = known["choices"].map(json.loads)
    drawn = known[[all(s[c] == of.options[c][0] for c in still) for s in settings]].iloc[::-1].copy()
    drawn["label"] = [_label(json.loads(c), of) for c in drawn["choices"]]
    drawn["text"] = drawn["estimate"].map(number).where(drawn["default"])
    if line.bound is not None:
        names = {**{v: words.local(v) for v in VERDICTS}, "reported": say("no_bound")}
        free = drawn["bound"].isna()
        group = pd.Categorical(drawn["verdict"].mask(free, "reported").map(names), [*names.values()])
        drawn = drawn.assign(hollow=free, group=group)
    marks = []
    for at in sorted(set(known["bound"].dropna())):
        own = line.bound is not None and at == line.bound.at
        marks.append(Mark(at, say("bound", at=at) if own else f"{at:g}", "claim" if own else "limit"))
    n, unit = (int(drawn["n"].min()), int(drawn["n"].max())), words.local(line.unit)
    axis = say("x", claim=str(frame["claim"].iloc[0]), unit=unit, least=n[0])
    axis += say("to", most=n[1]) if n[1] > n[0] else ""
    size = (9.0, 1.6 + ROW * len(drawn))
    return Picture(
        "intervals", drawn.drop(columns="bound"), title, axis, options={"marks": marks, "log": log}, size=size
    )


@study
def overview(frames: Mapping[str, pd.DataFrame]) -> Result:
    """In how many specifications each claim holds, between what its estimates lie, and what explains most of that.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        From :func:`tried`.

    Returns
    -------
    Result
        One row per claim: ``claim, line, tried, known, compared, held, against, least, registered, most, choice,
        explained``; of the joint test ``jointly`` (specifications that take part), ``median_t, joint_p, share_p``.
    """
    rows = []
    for claim, frame in frames.items():
        line = ledger.lines()[frame["line"].iloc[0]]
        parts = explained(frame, line.bound is not None and line.bound.none == 1)
        most, top = max(((share, choice) for choice, share in parts.items() if share > 0), default=(math.nan, ""))
        known = frame["estimate"]
        row = {
            "claim": claim,
            "line": line.line_id,
            **_counts(frame),
            "least": known.min(),
            "registered": known.iloc[0],
        }
        row |= {"most": known.max(), "explained": most, "choice": say.names("choices").get(top, "")}
        t = frame["t"].dropna()
        row |= {"jointly": len(t), "median_t": t.median() if len(t) else math.nan}
        row |= {"joint_p": frame["joint_p"].iloc[0], "share_p": frame["share_p"].iloc[0]}
        rows.append(row | {"people": frame.loc[known.notna(), "n"].min() if known.notna().any() else 0})
    table = pd.DataFrame(rows)
    bound = table[table["compared"] > 0]
    every = bound.loc[bound["held"] == bound["compared"], "claim"]
    told = say("overview", claims=len(table), every=words.joined([*every], ", ") or say("none"))
    asked = table[table["jointly"] > 0]
    beyond = words.joined([*asked.loc[asked["joint_p"] <= verdicts.ALPHA, "claim"]], ", ") or say("none")
    together = [say("together", asked=words.joined([*asked["claim"]], ", "), beyond=beyond)] if len(asked) else []
    told = words.joined([told, say("alone"), *together], " ")
    return Result(safe(table, ("people",), parts=False), told)


@study
def every(frames: Mapping[str, pd.DataFrame]) -> Result:
    """All specifications of all claims, one row each: what becomes ``multiverse.csv``.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        From :func:`tried`.
    """
    table = pd.concat(frames.values(), ignore_index=True)
    known = int(table["estimate"].notna().sum())
    return Result(safe(table, parts=False), say("every", tried=len(table), known=known))


def unreached() -> Result:
    """List the primary lines of the register for which no study declares a choice."""
    rows: dict[str, list[str]] = {}
    for line in ledger.lines().values():
        if line.primary and line.line_id not in choices():
            rows.setdefault(line.notebook, []).append(line.line_id)
    table = pd.DataFrame([(name, ", ".join(own)) for name, own in sorted(rows.items())], columns=["notebook", "lines"])
    return Result(table, say("unreached", count=sum(map(len, rows.values()))), counts=())


def run(bank: Bank, claims: Sequence[str], out: Path) -> dict[str, Result]:
    """Write ``multiverse.csv`` and a curve per claim, by the rules that hold for notebooks; return the curves.

    Raises
    ------
    InputError
        If a claim is refused (see :func:`checked`).
    """
    claims, before = checked(claims), Reader.in_notebook
    rules.use(bank.about.disclosure)
    figures.use(bank.source_line, out / "figures", "multiverse", bank.about.currency)
    Reader.in_notebook = True  # what a notebook withholds, no other file tells
    try:
        frames = tried(bank, claims)
        found = {claim: curve(frame) for claim, frame in frames.items()}
        table = every(frames).table
    finally:
        Reader.in_notebook = before
    out.mkdir(parents=True, exist_ok=True)
    put(out / "multiverse.csv", escape.csv(table), private=False)
    for claim, result in found.items():
        if result.applicable:
            with contextlib.redirect_stdout(io.StringIO()):  # a terminal shows no picture
                figures.show(result.plot(), alt=result.alt, name=claim)
    return found
