"""Answers in sentences, rendered from the ledger by words alone: no sentence chooses its lines or its verdict.

Which lines answer the question, and in which order, stands in the register (``answer``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crmresearch import ledger, words
from crmresearch.estimators.verdicts import position

say = words.of("top.answer")


@dataclass(frozen=True)
class Said:
    """What one line of the register says in the answer.

    Parameters
    ----------
    line_id, answer : str
        The line, and the answer to its claim as the ledger gives it.
    text : str
        Estimate, interval and what follows from them; what is missing, where nothing was measured.
    planted : str
        On a simulated bank, the truth beside it; else empty.
    """

    line_id: str
    answer: str
    text: str
    planted: str


def sentences(frame: pd.DataFrame, currency: str) -> dict[str, list[Said]]:
    """Answer the question from a ledger: one sentence per part of the answer, each of one line or two.

    Parameters
    ----------
    frame : DataFrame
        The ledger of one bank.
    currency : str
        The bank's money.
    """
    answers = ledger.answers(frame).set_index("claim_id")["answer"]
    rows: dict[str, Any] = {row["line_id"]: row for row in frame.to_dict("records")}
    out: dict[str, list[Said]] = {}
    for part, chosen in ledger.answered_from().items():
        for line_id in chosen:
            row = rows[line_id]
            answer = answers[row["claim_id"]]
            others = frame["claim_id"].eq(row["claim_id"]) & frame["estimate"].notna() & frame["line_id"].ne(line_id)
            text = _text(row, answer, currency, int(others.sum()))
            out.setdefault(part, []).append(Said(line_id, answer, text, _planted(row)))
    return out


def _number(line_id: str, value: float) -> str:
    """Write a value of a line in the unit of its sentence."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    form = _words(line_id)["number"]
    return form.format(x=value, hundred=100 * value).replace("-", "−")


def _round(number: str) -> str:
    """Write a bound, which is a round number, as one."""
    return re.sub(r"\.0+(?=%|$)", "", number)


def _words(line_id: str) -> Mapping[str, str]:
    found: Any = say.names("lines")[line_id]
    return dict(found)


def _text(row: Mapping[str, Any], answer: str, currency: str, others: int) -> str:
    line, known = ledger.lines()[row["line_id"]], _words(row["line_id"])
    if math.isnan(row["estimate"]):
        missing = say.names("lacking")[row["verdict"]]
        return missing.format(topic=known["topic"], reason=str(row["checks"]).rstrip("."))
    value, low, high = (_number(line.line_id, row[k]) for k in ("estimate", "ci_low", "ci_high"))
    interval = say("exact") if row["ci_low"] == row["ci_high"] else f"[{low}, {high}]"
    found = known["found"].format(value=value, interval=interval, money=currency)
    side, at = (line.bound.side, _round(_number(line.line_id, line.bound.at))) if line.bound else ("", "")
    clause = say.names("clauses")[ledger.bare(answer)].format(side=side, bound=at)
    _, _, mixed = answer.partition("; mixed: ")
    against = mixed.removesuffix(ledger.say("doubtful")).split(", ") if mixed else []
    otherwise = say("mixed", n=len(against), of=others) if against else ""
    return f"{found}: {clause}{_because(row, line)}{otherwise}"


def _because(row: Mapping[str, Any], line: ledger.Line) -> str:
    """Say which assumption stops a verdict or is in doubt, or that many lines at once leave none."""
    reasons, gates = say.names("because"), ledger.split_checks(row["checks"])
    for state in ("closed", "declared", "doubtful"):
        named = "; ".join(text for found, text in gates if found == state)
        if named and (state != "declared" or (row["verdict"] == "undecided" and line.design != "association")):
            return reasons[state].format(named=named)
    told = line.bound is not None and position(row["ci_low"], row["ci_high"], line.bound) != "undecided"
    return reasons["many"] if told and row["verdict"] == "undecided" else ""


def _planted(row: Mapping[str, Any]) -> str:
    if math.isnan(row["truth"]) or math.isnan(row["estimate"]):
        return ""
    own = not math.isnan(row["limit"])
    held = row["limit"] if own else row["truth"]
    return say(
        "planted",
        truth=_number(row["line_id"], row["truth"]),
        limit=say("limit", limit=_number(row["line_id"], row["limit"])) if own else "",
        held=say("covers") if row["ci_low"] <= held <= row["ci_high"] else say("misses"),
        judged=say.names("judged").get(row["truth_verdict"], ""),
    )
