"""The ledger: findings in, verdicts out, one row per estimand of the register ``claims.yaml``.

A notebook records findings with :func:`record`; the runner merges them with :func:`merge`. A verdict follows from the
rule written in the register, the 95% interval, the q-value over all hypotheses of the run, and the gates.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from crmresearch import words
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import Estimate, q_values
from crmresearch.result import Check

say = words.of("top.ledger")
Q_LEVEL = 0.05  # false discovery rate over the hypotheses of one run

COLUMNS = (
    *("claim_id", "claim", "bank", "evidence", "estimand", "estimate", "ci_low", "ci_high", "unit", "n", "rule"),
    *("checks", "p_value", "q_value", "verdict", "notebook", "cell", "parameters_hash"),
)
_NUMBERS = ("estimate", "ci_low", "ci_high", "n", "p_value", "q_value")


@dataclass(frozen=True)
class Line:
    """One estimand of the register with its decision rule."""

    line_id: str
    claim_id: str
    kind: str
    claim: str
    estimand: str
    unit: str
    notebook: str
    tables: tuple[str, ...]
    rule: Mapping[str, Any]
    why: str = ""


@cache
def claims() -> tuple[dict[str, Any], ...]:
    """Return the register as it is written, one mapping per claim."""
    import yaml

    text = files("crmresearch").joinpath("claims.yaml").read_text("utf-8")
    return tuple(yaml.safe_load(text)["claims"])


@cache
def lines() -> dict[str, Line]:
    """Return every line of the register by its id; a claim that is not testable has one line without a rule."""
    out: dict[str, Line] = {}
    for claim in claims():
        rows = claim["lines"] or {claim["id"]: {"estimand": "", "unit": ""}}
        for line_id, row in rows.items():
            rule = {k: row[k] for k in ("supported", "refuted", "all_of", "report") if k in row}
            out[line_id] = Line(
                line_id,
                claim["id"],
                claim["kind"],
                claim["claim"],
                row["estimand"],
                row["unit"],
                claim["notebook"],
                tuple(claim["tables"]),
                rule,
                claim.get("why", ""),
            )
    return out


def rule_text(rule: Mapping[str, Any]) -> str:
    """Write a decision rule in words."""
    if "all_of" in rule:
        return say("all_of", lines=", ".join(rule["all_of"]))
    if rule.get("report"):
        return say("report")
    sides = [(name, *side) for name in ("supported", "refuted") for side in rule.get(name, {}).items()]
    return "; ".join(say("side", verdict=name, side=side, bound=bound) for name, side, bound in sides)


def _lies(interval: tuple[float, float], where: Mapping[str, float]) -> bool:
    low, high = interval
    return all(low > bound if side == "above" else high < bound for side, bound in where.items())


def verdict(line: Line, estimate: Estimate, q_value: float | None) -> str:
    """Apply a line's rule and gates to an estimate.

    Closed gates come first. Hypotheses need q <= .05 besides their rule; a declared assumption allows ``undecided`` at
    most, since the data cannot show whether it holds.
    """
    closed = [c for c in estimate.checks if c.status == "closed"]
    if closed:
        return "blocked" if any(c.verdict == "blocked" for c in closed) else "undecided"
    if line.rule.get("report"):
        return "reported"
    interval = (estimate.ci_low, estimate.ci_high)
    if any(math.isnan(v) for v in interval):
        return "undecided"
    if any(c.status == "declared" for c in estimate.checks):
        return "undecided"
    if _lies(interval, line.rule["supported"]):
        enough = line.kind != "H" or (q_value is not None and q_value <= Q_LEVEL)
        return "supported" if enough else "undecided"
    return "refuted" if _lies(interval, line.rule["refuted"]) else "undecided"


def write_json(path: Path, content: object) -> None:
    """Write JSON under a temporary name and rename it, so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    text = json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True, allow_nan=True)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(path)


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
) -> None:
    """Add findings to ``folder/findings/<notebook>.json``; a line recorded again replaces the earlier one.

    Parameters
    ----------
    folder : Path
        The run's folder.
    notebook : str
        Name of the notebook without ending, e.g. ``"01_customer_value"``.
    findings : mapping of line id to Estimate or Missing
        Ids must be in the register; a hypothesis with a rule needs a ``p_value`` against the rule's boundary.
    bank, evidence : str
        Name and evidence class of the bank.
    parameters : mapping
        The notebook's parameters, for the fingerprint.

    Raises
    ------
    InputError
        If a line is unknown, or a hypothesis comes without its p-value.
    """
    path = folder / "findings" / f"{notebook}.json"
    content = json.loads(path.read_text("utf-8")) if path.exists() else {"lines": {}}
    content |= {
        "notebook": notebook,
        "bank": bank,
        "evidence": evidence,
        "parameters_hash": parameters_hash(parameters),
    }
    for line_id, finding in findings.items():
        content["lines"][line_id] = checked(line_id, finding)
    write_json(path, content)


def checked(line_id: str, finding: Estimate | Missing) -> dict[str, Any]:
    """Return a finding as plain data, or refuse it."""
    line = lines().get(line_id)
    if line is None:
        import difflib

        near = difflib.get_close_matches(line_id, lines(), 1)
        raise InputError(f"no line {line_id} in claims.yaml" + (f"; did you mean {near[0]}?" if near else ""))
    if isinstance(finding, Missing):
        return {"reason": finding.reason}
    needs_p = line.kind == "H" and "supported" in line.rule and not math.isnan(finding.ci_low)
    if needs_p and finding.p_value is None:
        raise InputError(
            f"{line_id} is a hypothesis: its estimate needs a p_value against the rule ({rule_text(line.rule)})"
        )
    return asdict(finding)


def _estimate(row: Mapping[str, Any]) -> Estimate:
    return Estimate(**{**row, "checks": tuple(Check(**c) for c in row["checks"])})


def _conjunction(line: Line, found: Mapping[str, Estimate | Missing]) -> Estimate | Missing | None:
    """The weakest part stands for the whole: largest p-value, every gate of every part."""
    parts = [found.get(part) for part in line.rule["all_of"]]
    if any(part is None for part in parts):
        return None
    missing = next((p for p in parts if isinstance(p, Missing)), None)
    if missing is not None:
        return missing
    estimates = [p for p in parts if isinstance(p, Estimate)]
    weakest = max(estimates, key=lambda e: math.inf if e.p_value is None else e.p_value)
    gates = {(c.name, c.detail): c for e in estimates for c in e.checks}
    return replace(weakest, checks=tuple(gates.values()))


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
    return "; ".join(f"{c.status}: {c.name} ({c.detail})" for c in checks)


def split_checks(text: str) -> list[tuple[str, str]]:
    """Take the ``checks`` column of the ledger apart again: status and words of each gate."""
    pairs = (part.partition(": ") for part in re.split(r"; (?=(?:open|closed|declared): )", text) if part)
    return [(status, words) for status, _, words in pairs]


def table(findings: Iterable[Mapping[str, Any]], cells: Mapping[tuple[str, str], str] | None = None) -> pd.DataFrame:
    """Turn the findings of a run into the ledger, one row per line of the register and bank.

    Parameters
    ----------
    findings : iterable of mapping
        Contents of the findings files.
    cells : mapping, optional
        Cell id by (notebook, line).
    """
    sources = list(findings)
    found: dict[str, Estimate | Missing] = {}
    origin: dict[str, Mapping[str, Any]] = {}
    for source in sources:
        for line_id, kept in source["lines"].items():
            found[line_id] = Missing(kept["reason"]) if "reason" in kept else _estimate(kept)
            origin[line_id] = source
    register = lines()
    for line in register.values():
        if "all_of" in line.rule:
            whole = _conjunction(line, found)
            if whole is not None:
                found[line.line_id] = whole
                origin[line.line_id] = origin[line.rule["all_of"][0]]
    p_values = {
        k: e.p_value
        for k, e in found.items()
        if isinstance(e, Estimate) and e.p_value is not None and register[k].kind == "H" and not math.isnan(e.p_value)
    }
    adjusted = dict(zip(p_values, q_values(list(p_values.values())).tolist(), strict=True))
    verdicts: dict[str, str] = {}
    for line_id, finding in found.items():
        line = register[line_id]
        if isinstance(finding, Missing):
            verdicts[line_id] = "not applicable"
        elif "all_of" not in line.rule:
            verdicts[line_id] = verdict(line, finding, adjusted.get(line_id))
    for line in register.values():
        if "all_of" in line.rule and isinstance(found.get(line.line_id), Estimate):
            parts = [verdicts[p] for p in line.rule["all_of"]]
            verdicts[line.line_id] = next(
                (v for v in ("blocked", "refuted", "undecided", "not applicable") if v in parts), "supported"
            )
    one_bank = next(iter(sources), {})
    rows = []
    for line_id, line in register.items():
        source = origin.get(line_id, one_bank)
        row: dict[str, Any] = dict.fromkeys(COLUMNS, "") | dict.fromkeys(_NUMBERS, math.nan)
        row |= {
            "claim_id": line_id,
            "claim": line.claim,
            "bank": source.get("bank", ""),
            "evidence": source.get("evidence", ""),
            "estimand": line.estimand,
            "unit": line.unit,
            "rule": rule_text(line.rule),
            "notebook": line.notebook,
        }
        here = found.get(line_id)
        if here is None:
            row["verdict"] = "not testable" if line.kind == "X" else "not measured"
            row["checks"] = line.why
        else:
            row["verdict"] = "not testable" if line.kind == "X" else verdicts[line_id]
            row["notebook"] = source["notebook"]
            row["parameters_hash"] = source["parameters_hash"]
            kept = line.rule.get("all_of", [line_id])[0]  # a conjunction points at its first part
            row["cell"] = (cells or {}).get((source["notebook"], kept), "")
            if isinstance(here, Missing):
                row["checks"] = here.reason
            else:
                row |= {"estimate": here.value, "ci_low": here.ci_low, "ci_high": here.ci_high}
                row |= {"n": here.n, "p_value": _number(here.p_value), "q_value": adjusted.get(line_id, math.nan)}
                row["checks"] = _join_checks(here.checks)
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def merge(folder: Path) -> pd.DataFrame:
    """Merge ``findings/*.json`` of a run into findings.json, ledger.csv and ledger.json; return the ledger.

    Numbers are written with nine significant digits, which is below what two machines may differ in.
    """
    sources = [json.loads(p.read_text("utf-8")) for p in sorted((folder / "findings").glob("*.json"))]
    frame = table(sources, _cells(folder))
    write_json(folder / "findings.json", sources)
    frame.to_csv(folder / "ledger.csv", index=False, float_format="%.9g", lineterminator="\n")
    plain = [{k: None if _is_nan(v) else v for k, v in row.items()} for row in frame.to_dict("records")]
    write_json(folder / "ledger.json", plain)
    return frame


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def read(folder: Path) -> pd.DataFrame:
    """Read a run's ``ledger.csv``."""
    path = folder / "ledger.csv"
    if not path.exists():
        raise InputError(f"no ledger.csv in {folder.name}; a finished run has one (crmresearch run --out DIR)")
    return pd.read_csv(path, keep_default_na=False, na_values={c: [""] for c in _NUMBERS})
