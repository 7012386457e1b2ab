"""The picture of a claim: all its lines on common axes, real evidence and simulated in panels of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from crmresearch import figures, ledger, words
from crmresearch.data.description import EVIDENCE
from crmresearch.figures import Picture
from crmresearch.run.site.runs import Run

say = words.of("site.pictures")
money = words.of("top.figures")
FOLDER = "claims"
FAR = 6  # an interval as many times as wide as the middle one is cut off


def draw(runs: Sequence[Run], claim_id: str, folder: Path) -> tuple[str, str] | None:
    """Draw a claim into ``folder/claims``; return where, and what one sees. None where nothing was measured."""
    several = pictures(runs, claim_id)
    return _put(several, folder, claim_id) if several else None


def _put(several: tuple[Picture, ...], folder: Path, name: str) -> tuple[str, str]:
    figures.use()
    path = folder / FOLDER / f"{name}.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(figures.svg(several))
    return f"{FOLDER}/{path.name}", figures.told(several)


def example(folder: Path) -> tuple[str, str]:
    """Draw an invented line, to learn to read the others."""
    row = {
        "label": "S00",
        "estimate": 1.3,
        "low": 1.15,
        "high": 1.45,
        "over": say("example"),
        "bound": 1.0,
        "truth": 1.36,
    }
    axis = words.joined([say("ratio"), say.names("sides")["above"], say("planted")])
    picture = Picture(
        "intervals",
        pd.DataFrame([row | {"over": say("example")}]),
        say.names("panels")["simulated"],
        axis,
        options={"log": True},
        people=False,  # of nobody
    )
    return _put((picture,), folder, "example")


def pictures(runs: Sequence[Run], claim_id: str) -> tuple[Picture, ...]:
    """One panel for each unit and class of evidence; panels of one unit have the same axis."""
    rows = pd.DataFrame([_row(run, row) for row, run in _measured(runs, claim_id)])
    out = []
    for unit, own in rows.groupby("unit", sort=False) if len(rows) else ():
        log = bool(own["ratio"].all() and (own["low"] > 0).all())
        axis = {"log": log, "limits": _limits(own, log)}
        for kind in EVIDENCE:
            part = own[own["evidence"] == kind]
            if len(part):
                part = part.assign(over=part["over"].mask(part["over"].duplicated(), ""))  # once above all banks
                key = [_held(part), say("planted") if part["truth"].notna().any() else ""]
                text = words.joined([str(unit), *key])
                title = say.names("panels")[kind]  # the ledger keeps no estimate that rests on few people
                out.append(Picture("intervals", part, title, text, options=axis, people=False))
    return tuple(out)


def _measured(runs: Sequence[Run], claim_id: str) -> list[tuple[dict[str, Any], Run]]:
    """Estimates line by line, those of all banks below each other; an identity or a data check has no picture."""
    by_line = zip(*(run.lines[claim_id] for run in runs), strict=True)
    return [
        (row, run)
        for rows in by_line
        for row, run in zip(rows, runs, strict=True)
        if run.has(row) and row["design"] != "check"
    ]


def _row(run: Run, row: dict[str, Any]) -> dict[str, Any]:
    bound = ledger.lines()[row["line_id"]].bound
    points = bound.points if bound else (math.nan,)
    return {
        "label": f"{row['line_id']} {run.about['name']}" if run.key else row["line_id"],
        "estimate": row["estimate"],
        "low": row["ci_low"],
        "high": row["ci_high"],
        "over": row["estimand"],
        "bound": points[0],
        "mirror": points[-1] if len(points) > 1 else math.nan,
        "side": bound.side if bound else "",
        "ratio": bool(bound and bound.none == 1),
        "truth": ledger.goal(row),
        "hollow": row["verdict"] in ("undecided", "blocked"),
        "evidence": run.evidence,
        "unit": _unit(row["unit"], str(run.about["currency"])),
    }


def _unit(unit: str, currency: str) -> str:
    """Name the currency in a unit of money."""
    said, word = words.local(unit), money("money")
    in_english = words.english(said).replace(words.english(word), currency)
    return words.remember(said.replace(word, currency), in_english)


def _held(part: pd.DataFrame) -> str:
    """Say where the claim says that the lines of a panel lie."""
    sides = [s for s in dict.fromkeys(part["side"]) if s]
    return say.names("sides")[sides[0] if len(sides) == 1 else "several"] if sides else ""


def _limits(own: pd.DataFrame, log: bool) -> tuple[float, float]:
    """Ends of the axis: all that is drawn, but no interval so wide that it would hide the others."""
    ends = own[["low", "high"]].replace([np.inf, -np.inf], np.nan)
    known = ends.notna().all(axis=1)  # an estimate whose interval has no end says little of where it lies
    estimates = own["estimate"][known] if known.any() else own["estimate"]
    points = np.concatenate([estimates, *(own[c] for c in ("bound", "mirror", "truth"))])
    least, most = float(np.nanmin(points)), float(np.nanmax(points))
    widths = (ends["high"] - ends["low"]).dropna()
    reach = FAR * float(widths.median()) if len(widths) else 0.0
    low = min(least, max(np.nan_to_num(ends["low"].min(), nan=least), least - reach))
    high = max(most, min(np.nan_to_num(ends["high"].max(), nan=most), most + reach))
    if log:
        pad = (high / low) ** 0.06 if high > low else 1.1
        return low / pad, high * pad
    pad = 0.06 * (high - low or abs(high) or 1.0)
    return low - pad, high + pad
