"""Answers in sentences, rendered from the ledger by words alone: no sentence chooses its lines or its verdict.

Which lines answer the question, and in which order, stands in the register (``answer``).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from crmresearch import ledger, words
from crmresearch.errors import Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.verdicts import bare, position
from crmresearch.result import Result

say = words.of("top.answer")
BENEATH = {"planted": "truth", "tends_to": "limit"}  # columns of an answer on a simulated bank, of a ledger
NOTHING = 1e-12  # sums that add up to nothing leave this much behind, and not on every machine the same


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
        return number(value)
    form = _words(line_id)["number"]
    return words.careful.format(form, x=value, hundred=100 * value).replace("-", "−")


def _round(number: str) -> str:
    """Write a bound, which is a round number, as one."""
    return re.sub(r"\.0+(?=%|$)", "", number)


def _words(line_id: str) -> Mapping[str, str]:
    found: Any = say.names("lines")[line_id]
    return dict(found)


def _text(row: Mapping[str, Any], answer: str, currency: str, others: int) -> str:
    line, known = ledger.lines()[row["line_id"]], _words(row["line_id"])
    if math.isnan(row["estimate"]):
        forms = say.names("lacking")
        missing = forms.get(row["verdict"], forms["no estimate"])  # a closed gate may leave none, whatever the verdict
        closed = "; ".join(text for state, text in ledger.split_checks(row["checks"]) if state == "closed")
        return missing.format(topic=known["topic"], reason=closed or words.local(str(row["checks"])).rstrip(".。"))
    value, low, high = (_number(line.line_id, row[k]) for k in ("estimate", "ci_low", "ci_high"))
    interval = say("exact") if row["ci_low"] == row["ci_high"] else f"[{low}, {high}]"
    found = known["found"].format(value=value, interval=interval, money=currency)
    side, at = (words.local(line.bound.side), _round(_number(line.line_id, line.bound.at))) if line.bound else ("", "")
    clause = say.names("clauses")[bare(answer)].format(side=side, bound=at)
    _, _, mixed = answer.partition("; mixed: ")
    against = mixed.removesuffix(ledger.DOUBTFUL).split(", ") if mixed else []
    otherwise = say("mixed", n=len(against), of=others) if against else ""
    return f"{found}{words.local(': ')}{clause}{_because(row, line)}{otherwise}"


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
    told = beneath(row, functools.partial(_number, row["line_id"]))
    what = say.names("aims")["limit" if pd.isna(row["truth"]) else "truth"]
    return told and say(
        "against", told=told, judged=say.names("judged").get(row["truth_verdict"], "").format(what=what)
    )


def beneath(row: Mapping[str, Any], written: Callable[[float], str]) -> str:
    """Say what was planted, what the estimator tends to, and whether the interval holds that; empty of a real bank."""
    planted, tends = pd.notna(row["truth"]), pd.notna(row["limit"])
    if math.isnan(row["estimate"]) or not (planted or tends):
        return ""
    held = say("covers" if row["ci_low"] <= (row["limit"] if tends else row["truth"]) <= row["ci_high"] else "misses")
    truth, limit = written(row["truth"]), written(row["limit"])
    if planted and tends:
        return say("planted_limit", truth=truth, limit=limit, held=held)
    return say("planted", truth=truth, held=held) if planted else say("limit", limit=limit, held=held)


# --- one notebook ----------------------------------------------------------------------------------------------------


def of_notebook(
    name: str, found: Mapping[str, Estimate | Missing], truth: Mapping[str, Mapping[str, float]], evidence: str
) -> Result:
    """Answer what one notebook asked: what was learnt, how sure it is, and what it does not show.

    Parameters
    ----------
    name : str
        The notebook's name.
    found : mapping of line id to Estimate or Missing
        What it kept.
    truth : mapping
        What was planted, by line; empty where nothing was.
    evidence : str
        The bank's class of evidence.

    Returns
    -------
    Result
        One row per claim; its answer is read from this notebook alone.
    """
    lines = {k: ledger.checked(k, v) for k, v in found.items()}
    frame = ledger.table([{"notebook": name, "lines": lines, "parameters_hash": "", "truth": truth}])
    claims = frame.loc[frame["line_id"].isin(list(found)), "claim_id"]
    frame = frame[frame["claim_id"].isin(claims)]
    answers = ledger.answers(frame)
    rows = frame.set_index("line_id").loc[answers["line_id"]].reset_index()
    table = pd.DataFrame(  # what was found first, as a narrow screen shows it
        {
            "line": rows["line_id"],
            "estimate": [number(v) for v in rows["estimate"]],
            "interval": [_interval(row) for row in rows.to_dict("records")],
            **{name: [number(v) for v in rows[of]] for name, of in BENEATH.items() if rows[of].notna().any()},
            "answer": [ledger.named(bare(v)) + ledger.beside(v) for v in answers["answer"]],
            "unit": rows["unit"].map(words.local),
            "claim": rows["claim"].map(words.local),
        }
    )
    return Result(table, _sentence(frame, answers, evidence), counts=())


def number(value: float, nothing: float = NOTHING) -> str:
    """Write a number of any unit with three significant digits; a size below ``nothing`` is 0."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    size = abs(value)
    if size <= nothing:
        return "0"
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size < 0.0001:
        text = f"{value:.1e}"
    else:
        text = f"{value:.{min(6, max(0, 2 - math.floor(math.log10(size))))}f}"
    return text.replace("-", "−")


def _interval(row: Mapping[Any, Any]) -> str:
    if math.isnan(row["estimate"]):
        return ""
    if row["ci_low"] == row["ci_high"]:
        return say("exact")
    return f"[{number(row['ci_low'])}, {number(row['ci_high'])}]"


def _sentence(frame: pd.DataFrame, answers: pd.DataFrame, evidence: str) -> str:
    """A few sentences: what was learnt, how sure, what it does not show."""
    by_answer = answers.groupby(answers["answer"].map(bare), sort=False)["line_id"]
    listed = "; ".join(say("each", said=ledger.named(said), ids=", ".join(ids)) for said, ids in by_answer)
    measured = frame[frame["estimate"].notna()]
    states = [state for text in measured["checks"] for state, _ in ledger.split_checks(text)]
    failed, trusted = states.count("closed"), states.count("declared")
    parts = [say("learnt", n=len(answers), listed=listed)]
    if states:
        doubtful, weak = states.count("doubtful"), states.count("weak check")
        n = len(states) - trusted
        parts.append(say("sure", n=n, failed=failed, doubtful=doubtful, weak=weak, trusted=trusted))
    aim = measured["limit"].fillna(measured["truth"])
    if aim.notna().any():
        held = int(((measured["ci_low"] <= aim) & (aim <= measured["ci_high"])).sum())
        parts.append(say("held", held=held, n=int(aim.notna().sum())))
    loose = measured.loc[measured["design"].eq("association") & measured["primary"].eq("yes"), "line_id"]
    if len(loose):
        parts.append(say("no_cause", ids=", ".join(loose)))
    parts.append(say("simulated") if evidence == "simulated" else say("alone"))
    return " ".join(parts)
