"""The ledger: findings in, verdicts out, one row per line of the register ``claims.yaml``, one answer per claim.

A notebook records findings with :func:`record`; the runner merges them with :func:`merge`. A verdict follows from the
bound written in the register, the printed 95% interval, the q-value over the lines of the bank, and the gates.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from crmresearch import disclosure, escape, words
from crmresearch.data.places import put
from crmresearch.errors import InputError, Missing
from crmresearch.estimators import verdicts
from crmresearch.estimators.causal.unrecorded import strength
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.verdicts import Bound, Deviation
from crmresearch.result import STATES, Check, states
from crmresearch.rules import rounded

say = words.of("top.ledger")

COLUMNS = (
    *("line_id", "claim_id", "primary", "claim", "bank", "evidence", "design", "estimand", "estimate", "ci_low"),
    *("ci_high", "se", "unit", "n", "bound", "side", "strength", "checks", "p_value", "q_value", "verdict"),
    *("provisional", "truth", "limit", "truth_verdict", "notebook", "cell", "parameters_hash", "data_fingerprint"),
    "register",
)
_NUMBERS = (*("estimate", "ci_low", "ci_high", "se", "n", "bound", "strength", "p_value", "q_value", "truth", "limit"),)
IMPERSONAL = ("S09", "S11", "S24", "S34", "S59")  # their n counts files, tables, lines and what the essays list
MONEY = "CNY"  # of bounds that are an amount: the currency of the reference bank
AMOUNTS = ("money per customer", "money per customer-year", "probability per squared money")  # units of those
DOUBTFUL = ", with a doubtful assumption"  # added to an answer in claims.csv
UNMEASURED = ("not measured", "not testable")


@dataclass(frozen=True)
class Line:
    """One estimand of the register with its design and its bound.

    Parameters
    ----------
    bound : Bound, optional
        None for a line that is described, without a verdict.
    primary : bool
        Whether the claim is answered from this line.
    because : str
        The ground of the bound, where it is not plain.
    why : str
        Why the claim is not testable, where it is not.
    """

    line_id: str
    claim_id: str
    kind: str
    theme: str
    claim: str
    estimand: str
    unit: str
    design: str
    bound: Bound | None
    primary: bool
    notebook: str
    tables: tuple[str, ...]
    because: str = ""
    why: str = ""

    @property
    def money(self) -> bool:
        """Whether it tells of people's money."""
        return bool(re.search(r"\b(money|contribution|income|cost|flows)\b", self.unit))


@cache
def _register() -> tuple[dict[str, Any], str]:
    text = files("crmresearch").joinpath("claims.yaml").read_text("utf-8")
    return words.parsed(text), hashlib.sha256(text.encode()).hexdigest()[:12]


def claims() -> list[dict[str, Any]]:
    """Return the register as it is written, one mapping per claim."""
    found: list[dict[str, Any]] = _register()[0]["claims"]
    return found


def listed(part: str) -> list[dict[str, Any]]:
    """Return what the register lists beside claims: ``changes`` after results had been seen, benefits, references."""
    found: list[dict[str, Any]] = _register()[0][part]
    return found


def answered_from() -> dict[str, list[str]]:
    """Return the lines that answer the question, by the part of the answer they make."""
    found: dict[str, list[str]] = _register()[0]["answer"]
    return found


def register_hash() -> str:
    """Return the register's fingerprint, so that a rule that was changed between two runs is seen."""
    return _register()[1]


@cache
def lines() -> dict[str, Line]:
    """Return every line of the register by its id; a claim that is not testable has one line without a bound."""
    out: dict[str, Line] = {}
    for claim in claims():
        rows = claim["lines"] or {claim["id"]: {"estimand": "", "unit": "", "design": "description"}}
        for line_id, row in rows.items():
            bound = Bound(row["bound"], row.get("none", 0), row["side"]) if "bound" in row else None
            out[line_id] = Line(
                line_id,
                claim["id"],
                claim["kind"],
                claim["theme"],
                claim["claim"],
                row["estimand"],
                row["unit"],
                row["design"],
                bound,
                line_id == next(iter(rows)),
                claim["notebook"],
                tuple(claim["tables"]),
                row.get("because", ""),
                claim.get("why", ""),
            )
    return out


def rule_text(line: Line) -> str:
    """Write a line's decision rule in words."""
    if line.bound is None:
        return say("report")
    if line.design == "check":
        return say("check", side=words.local(line.bound.side), bound=line.bound)
    if line.bound.side == "either":
        return say("either", low=line.bound.points[0], high=line.bound.points[-1])
    return say("side", side=words.local(line.bound.side), bound=line.bound)


def refuted_words(line: Line, low: float, high: float) -> str:
    """Say how a refuted line is refuted."""
    return say.names("refuted")[verdicts.refuted_how(low, high, line.bound)] if line.bound else ""


def _stopped(line: Line, found: Estimate) -> str:
    """What gates make of a verdict, whatever the estimate says; empty where they leave it alone.

    An assumption that data cannot show leaves an association what it is; an effect that rests on it is undecided. So
    is what cannot vary: an interval without width comes from data that are all alike, not from much of them.
    """
    states = {c.status for c in found.checks}
    if "closed" in states:
        return "blocked"
    if line.design == "check":
        return ""
    trusted = "declared" in states and line.design != "association"
    return "undecided" if trusted or found.ci_low == found.ci_high else ""


def verdict(line: Line, found: Estimate, q_value: float = math.nan) -> str:
    """Apply a line's bound and gates to an estimate; closed gates come first."""
    if line.kind == "X":
        return "not testable"
    stopped = _stopped(line, found)
    if line.bound is None:
        return "blocked" if stopped == "blocked" else "reported"
    if stopped or math.isnan(found.ci_low):
        return stopped or "undecided"
    if line.design == "check":
        return verdicts.check(found.ci_low, found.ci_high, line.bound)
    return verdicts.verdict(found.ci_low, found.ci_high, line.bound, q_value)


def adjusted(found: Mapping[str, Estimate]) -> tuple[dict[str, float], dict[str, float]]:
    """p-values and q-values of one bank's findings: one step over its primary lines, then within each claim.

    Every line that the bank measured takes part. One that a gate or a declared assumption stops counts among the many
    with p = 1: it decides nothing, so it must not lend its small p to the others either.
    """
    register, p = lines(), {}
    for k, e in found.items():
        line = register[k]
        if line.bound is not None and line.design != "check" and line.kind != "X" and not math.isnan(e.ci_low):
            p[k] = verdicts.p_value(e.value, e.ci_low, e.ci_high, line.bound)
    primary: dict[str, float] = {}
    within: dict[str, dict[str, float]] = {}
    for k, chance in p.items():
        family = primary if register[k].primary else within.setdefault(register[k].claim_id, {})
        family[k] = 1.0 if _stopped(register[k], found[k]) else chance
    return p, verdicts.adjusted(primary, within)


def write_json(path: Path, content: object) -> None:
    """Write JSON under a temporary name and rename it, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=True)
    put(path, (text + "\n").encode(), private=False)


def parameters_hash(values: Mapping[str, object]) -> str:
    """Return a short fingerprint of a notebook's parameters."""
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True, default=str).encode()).hexdigest()[:12]


def record(
    folder: Path,
    notebook: str,
    findings: Mapping[str, Estimate | Missing],
    *,
    bank: str,
    evidence: str,
    parameters: Mapping[str, object],
    data: str = "",
    truth: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Add findings to ``folder/findings/<notebook>.json``; a line recorded again replaces the earlier one.

    Parameters
    ----------
    folder : Path
        The run's folder.
    notebook : str
        Name of the notebook without ending, e.g. ``"01_customer_value"``.
    findings : mapping of line id to Estimate or Missing
        Ids must be in the register.
    bank, evidence : str
        Name and evidence class of the bank.
    parameters : mapping
        The notebook's parameters, for the fingerprint.
    data : str
        Fingerprint of the bank's data.
    truth : mapping, optional
        What was planted, by line: ``world``, the ``limit`` of the estimator, and the Monte-Carlo ``error`` of either.

    Raises
    ------
    InputError
        If a line is unknown.
    """
    path = folder / "findings" / f"{notebook}.json"
    content = json.loads(path.read_text("utf-8")) if path.exists() else {"lines": {}}
    content |= {
        "notebook": notebook,
        "bank": bank,
        "evidence": evidence,
        "parameters_hash": parameters_hash(parameters),
        "data": data,
        "truth": {k: dict(v) for k, v in (truth or {}).items()},
    }
    for line_id, finding in findings.items():
        content["lines"][line_id] = checked(line_id, finding)
    write_json(path, content)


def checked(line_id: str, finding: Estimate | Missing) -> dict[str, Any]:
    """Return a finding as plain data, or refuse it; one that rests on too few people is kept as that reason alone."""
    line = lines().get(line_id)
    if line is None:
        import difflib

        near = difflib.get_close_matches(line_id, lines(), 1)
        raise InputError(f"no line {line_id} in claims.yaml" + (f"; did you mean {near[0]}?" if near else ""))
    if isinstance(finding, Missing):
        return {"reason": words.told(finding.reason)}
    if line_id not in IMPERSONAL and (few := disclosure.few(finding.n)):
        return {"reason": few}
    return asdict(finding) | ({} if line_id in IMPERSONAL else {"n": rounded(finding.n)})


def comparable(line_id: str, finding: Estimate | Missing, currency: str) -> Estimate | Missing:
    """Close a gate where the register's bound is an amount of money of another currency than the bank's."""
    line = lines().get(line_id)
    amount = line is not None and line.bound is not None and line.bound.at != 0 and line.unit in AMOUNTS
    if not amount or currency == MONEY or not isinstance(finding, Estimate):
        return finding
    other = Check(say("currency"), "closed", say("in_currency", of=MONEY, here=currency))
    return replace(finding, checks=(*finding.checks, other))


def _estimate(row: Mapping[str, Any]) -> Estimate:
    checks = []
    for c in row["checks"]:
        measured = c["deviation"] and Deviation(**c["deviation"])
        checks.append(Check(**{**c, "deviation": measured}))
    return Estimate(**{**row, "checks": tuple(checks)})


def _cells(folder: Path) -> dict[tuple[str, str], str]:
    """Find the notebook cell that keeps each line, so that the site can point at it."""
    out = {}
    for path in sorted((folder / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text("utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and "nb.keep(" in source:
                for line_id in lines():
                    if f'"{line_id}"' in source:
                        out[path.stem, line_id] = cell.get("id", "")
    return out


def _join_checks(checks: Iterable[Check]) -> str:
    return "; ".join(f"{state}: {c.name} ({c.detail})" for state, c in states(checks))


def split_checks(text: str) -> list[tuple[str, str]]:
    """Take the ``checks`` column of the ledger apart again: state and words of each gate."""
    pairs = (part.partition(": ") for part in re.split(rf"; (?=(?:{'|'.join(STATES)}): )", text) if part)
    return [(state, words) for state, _, words in pairs]


def table(
    findings: Iterable[Mapping[str, Any]], cells: Mapping[tuple[str, str], str] | None = None, *, whole: bool = True
) -> pd.DataFrame:
    """Turn the findings of a run into the ledger, one row per line of the register and bank.

    Parameters
    ----------
    findings : iterable of mapping
        Contents of the findings files.
    cells : mapping, optional
        Cell id by (notebook, line).
    whole : bool
        Whether every notebook was run to its end; else the verdicts are provisional.
    """
    sources = list(findings)
    found: dict[str, Estimate | Missing] = {}
    origin: dict[str, Mapping[str, Any]] = {}
    for source in sources:
        for line_id, kept in source["lines"].items():
            found[line_id] = Missing(kept["reason"]) if "reason" in kept else _estimate(kept)
            origin[line_id] = source
    p_values, q_values = adjusted({k: e for k, e in found.items() if isinstance(e, Estimate)})
    one_bank = next(iter(sources), {})
    rows = []
    for line_id, line in lines().items():
        source = origin.get(line_id, one_bank)
        row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | dict.fromkeys(_NUMBERS, math.nan) | _registered(line)
        row |= {"bank": source.get("bank", ""), "evidence": source.get("evidence", ""), "provisional": "no"}
        row["data_fingerprint"] = source.get("data", "")
        here = found.get(line_id)
        if here is None:
            row["verdict"] = "not testable" if line.kind == "X" else "not measured"
            row["checks"] = line.why or say("unmeasured", notebook=line.notebook)
        else:
            row |= {"notebook": source["notebook"], "parameters_hash": source["parameters_hash"]}
            row["cell"] = (cells or {}).get((source["notebook"], line_id), "")
            if isinstance(here, Missing):
                row["checks"] = here.reason
                row["verdict"] = "not testable" if line.kind == "X" else "not applicable"
            else:
                row |= _measured(line, here, p_values.get(line_id, math.nan), q_values.get(line_id, math.nan))
                row |= _held_against(line, row["verdict"], source["truth"].get(line_id, {}))
                if not whole and line.bound is not None and line.design != "check":
                    row["provisional"] = "yes"
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _registered(line: Line) -> dict[str, Any]:
    """What the register says of a line, whatever was found."""
    bound = {} if line.bound is None else {"bound": float(line.bound.at), "side": line.bound.side}
    return {
        "line_id": line.line_id,
        "claim_id": line.claim_id,
        "primary": "yes" if line.primary else "no",
        "claim": line.claim,
        "design": line.design,
        "estimand": line.estimand,
        "unit": line.unit,
        "notebook": line.notebook,
        "register": register_hash(),
        **bound,
    }


def _measured(line: Line, here: Estimate, p: float, q: float) -> dict[str, Any]:
    """What was found of a line, and what follows from it."""
    row: dict[str, Any] = {
        "unit": here.unit,  # as it was measured: a bank with spend alone has shares of spend
        "estimate": here.value,
        "ci_low": here.ci_low,
        "ci_high": here.ci_high,
        "se": math.nan if here.se is None else here.se,
        "n": here.n,
        "checks": _join_checks(here.checks),
        "p_value": p,
        "q_value": q,
        "verdict": verdict(line, here, q),
    }
    if line.design == "association" and line.bound is not None:
        size, at = strength(here, line.bound, line.unit), line.bound.at
        if not math.isnan(size):  # what every association takes on trust
            detail = say("e_value", size=size, at=at) if line.bound.none == 1 else say("robustness", size=size, at=at)
            taken = Check(say("unrecorded"), "declared", detail)
            row |= {"strength": size, "checks": _join_checks((*here.checks, taken))}
    return row


def _held_against(line: Line, found: str, truth: Mapping[str, float]) -> dict[str, Any]:
    """Truth of a simulated bank and limit of the estimator, whichever is known, and the verdict held against it."""
    if not truth:
        return {}
    row: dict[str, Any] = {"truth": truth.get("world", math.nan), "limit": truth.get("limit", math.nan)}
    if line.bound is not None and line.design != "check":
        row["truth_verdict"] = verdicts.truth_verdict(found, line.bound, goal(row), truth.get("error", 0.0))
    return row


def goal(row: Mapping[str, Any]) -> float:
    """Return the truth of a line of a simulated bank; where nobody can write it down, what large banks give."""
    return float(row["limit"] if pd.isna(row["truth"]) else row["truth"])


def answers(frame: pd.DataFrame) -> pd.DataFrame:
    """Answer each claim from the ledger: one row per claim and bank.

    The primary line alone decides; a secondary one decided the other way is named. A run of a part of the register
    answers no claim: it is ``provisional``.
    """
    out, claims = [], dict[str, list[dict[Any, Any]]]()
    for row in frame.to_dict("records"):  # once: a frame a claim would be most of what a short run costs
        claims.setdefault(row["claim_id"], []).append(row)
    for rows in claims.values():
        line, row = next((lines()[r["line_id"]], r) for r in rows if lines()[r["line_id"]].primary)
        others = {r["line_id"]: r["verdict"] for r in rows if r["line_id"] != line.line_id}
        opposite = bool(line.bound and verdicts.refuted_how(row["ci_low"], row["ci_high"], line.bound) == "opposite")
        said = verdicts.answer(line.design, row["verdict"], opposite=opposite, others=others)
        doubtful = pd.notna(row["n"]) and any(state == "doubtful" for state, _ in split_checks(row["checks"]))
        if row["verdict"] == "not measured":
            said = "not built"
        elif any(r["provisional"] == "yes" for r in rows):
            said = "provisional"
        elif doubtful:
            said += DOUBTFUL
        kept = ("claim_id", "claim", "bank", "evidence", "line_id", "design", "verdict")
        out.append({k: row[k] for k in kept} | {"theme": line.theme, "answer": said})
    columns = ["claim_id", "theme", "claim", "bank", "evidence", "line_id", "design", "verdict", "answer"]
    return pd.DataFrame(out, columns=columns)


def named(answer: str) -> str:
    """Say an answer in the reader's language; *open* is a word for gates as well."""
    return say("open") if answer == "open" else words.local(answer)


def beside(answer: str) -> str:
    """Say what is added to an answer: which lines are decided the other way, whether an assumption is in doubt."""
    added = answer.removeprefix(verdicts.bare(answer))
    mixed = added.removesuffix(DOUBTFUL).removeprefix("; mixed: ")
    return (say("mixed", ids=mixed) if mixed else "") + (say("doubtful") if added.endswith(DOUBTFUL) else "")


def merge(folder: Path, *, whole: bool = True) -> pd.DataFrame:
    """Merge ``findings/*.json`` of a run into findings.json, ledger.csv, ledger.json and claims.csv; return the ledger.

    Numbers are written with nine significant digits, which is below what two machines may differ in.
    """
    sources = [json.loads(p.read_text("utf-8")) for p in sorted((folder / "findings").glob("*.json"))]
    frame = table(sources, _cells(folder), whole=whole)
    write_json(folder / "findings.json", sources)
    put(folder / "ledger.csv", escape.csv(frame), private=False)
    plain = [{k: None if _is_nan(v) else v for k, v in row.items()} for row in frame.to_dict("records")]
    write_json(folder / "ledger.json", plain)
    put(folder / "claims.csv", escape.csv(answers(frame)), private=False)
    return frame


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def read(folder: Path, name: str = "ledger.csv") -> pd.DataFrame:
    """Read a run's ledger, or another table of lines."""
    path = folder / name
    if not path.exists():
        raise InputError(f"no ledger.csv in {folder.name}; a finished run has one (crmresearch run --out DIR)")
    return pd.read_csv(path, keep_default_na=False, na_values={c: [""] for c in _NUMBERS})
