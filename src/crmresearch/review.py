"""The ledger read as a whole: verdicts that moved, benefits and references bound to lines, claims by theme and bank.

Notebook 99 reads what the others of its run have found. By hand, and without a run, it reads the stored reference.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from crmresearch import ledger, words
from crmresearch.answer import number
from crmresearch.errors import Missing, NotApplicable
from crmresearch.estimators.inference import Estimate
from crmresearch.estimators.verdicts import UNANSWERED, bare, over_banks
from crmresearch.figures import Picture
from crmresearch.result import Result, study

say = words.of("top.review")
theme_words = words.of("site.front")
LAST = "99_ledger"  # reads what the others found
STORED = Path(__file__).resolve().parents[2] / "outputs" / "reference"  # of a clone
OPEN = "open.csv"  # what open banks answered, measured lines alone
SINCE = "since"  # folder in a run with the ledger of an earlier one
WHOLE = ("data", "code", "lock", "register")  # fingerprints of what every notebook shares
FOUND = ("estimate", "ci_low", "ci_high")
RULE = ("bound", "side", "design", "estimand")
# of answers, for a picture that a reader takes in; those that are in none are open
PARTS = {
    "for": ("shown", "consistent", "as described"),
    "against": ("contradicted", "smaller than matters", "not borne out", "not as described", "conflicting"),
    "described": ("reported",),
    "checks": ("holds", "fails"),
    "none": tuple(a for a in UNANSWERED if a != "provisional"),
}


def standing(folder: Path | None, bank: str) -> pd.DataFrame | Missing:
    """Return the ledger as far as it is known: of the run in ``folder``, or the stored one of the reference bank."""
    if folder is not None:
        return _merged(folder)
    if bank != "reference" or not (STORED / "ledger.csv").is_file():
        return Missing(say("by_hand"), ())
    frame = ledger.read(STORED)
    return frame if set(frame["register"]) == {ledger.register_hash()} else Missing(say("stored"), ())


def _merged(folder: Path) -> pd.DataFrame:
    """Return the ledger of a run as far as it has come, this notebook's own findings included."""
    before = (folder / "ledger.csv").exists()  # merged when this notebook began, if others ran
    whole = before and "yes" not in set(ledger.read(folder)["provisional"])
    sources = [json.loads(p.read_text("utf-8")) for p in sorted((folder / "findings").glob("*.json"))]
    return ledger.table(sources, whole=whole)


# --- two runs ---------------------------------------------------------------------------------------------------------


def inputs(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[tuple[str, str], tuple[str, str]]:
    """Each input of two runs that differs, before and after, by its kind and, if it is of one notebook, by that."""
    found = []
    for run in (old, new):
        prints = run["fingerprints"]
        own = {(kind, ""): str(prints.get(kind, "–")) for kind in WHOLE}
        own |= {("source", name): print for name, print in prints.get("notebooks", {}).items()}
        for name, values in run["parameters"].items():
            own[("parameters", name)] = ", ".join(f"{k} = {v}" for k, v in values.items())
        found.append(own)
    keys = dict.fromkeys([*found[0], *found[1]])
    pairs = {key: (found[0].get(key, "–"), found[1].get(key, "–")) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def same(a: object, b: object) -> bool:
    """Equal, not numbers included; numbers as they are shown."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9)
    return a == b


def why(a: Mapping[Any, Any], b: Mapping[Any, Any], changed: Iterable[tuple[str, str]]) -> list[str]:
    """Name the inputs that can have moved a line: those of its estimate, its bound, or the lines beside it."""
    out: list[str] = []
    found = all(same(a.get(k), b.get(k)) for k in FOUND)
    if not found:
        here = ("", b.get("notebook") or a.get("notebook"))
        out += [kind for kind, of in changed if of in here and kind != "register"]
    if not all(same(a.get(k), b.get(k)) for k in ("bound", "side", "design")):
        out.append("register")
    elif found and not same(a.get("q_value"), b.get("q_value")):
        out.append("beside")
    return out or ["unknown"]


def told(row: Mapping[Any, Any]) -> str:
    """Write the estimate of a line with its interval."""
    if not row or math.isnan(row["estimate"]):
        return "–"
    return f"{number(row['estimate'])} [{number(row['ci_low'])}, {number(row['ci_high'])}]"


def _pairs(before: pd.DataFrame, now: pd.DataFrame) -> list[tuple[dict[Any, Any], dict[Any, Any]]]:
    """Each line of a ledger with what an earlier one says of it."""
    known = _rows(before)
    return [(known.get(k, {}), row) for k, row in _rows(now).items()]


def moves(frames: tuple[pd.DataFrame, pd.DataFrame], runs: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """List the lines whose verdict differs between two ledgers, with what can have moved it.

    Estimates are those of each run: side by side they would tell of the few customers between two loads.

    Parameters
    ----------
    frames : (DataFrame, DataFrame)
        The ledgers of the earlier and of the later run.
    runs : (mapping, mapping)
        What went into each, as ``run.json`` tells it.
    """
    changed, names = inputs(*runs), say.names("inputs_named")
    rows = [
        (b["line_id"], words.local(a["verdict"]), words.local(b["verdict"]),
         ", ".join(names[kind] for kind in why(a, b, changed)))
        for a, b in _pairs(*frames)
        if a and a["verdict"] != b["verdict"] and (b["notebook"], told(b)) != (LAST, "–")
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["line", "before", "now", "moved_by"])


@study
def moved(folder: Path | None) -> Result:
    """Verdicts that moved since an earlier run, what can have moved them, and lines that cannot be compared (S11).

    A line is compared where both runs held it against the same rule. Of one load of a bank nothing can be said.

    Parameters
    ----------
    folder : Path, optional
        The run's folder, which holds the ledger of an earlier run where one was named.
    """
    if folder is None or not (folder / SINCE).is_dir():
        raise NotApplicable(say("moved.one"))
    runs = [json.loads((f / "run.json").read_text("utf-8")) for f in (folder / SINCE, folder)]
    if runs[0]["fingerprints"]["data"] == runs[1]["fingerprints"]["data"]:
        raise NotApplicable(say("moved.same"))
    frames = ledger.read(folder / SINCE), _merged(folder)
    pairs = _pairs(*frames)
    both = [(a, b) for a, b in pairs if told(a) != "–" and told(b) != "–"]
    if not both:
        raise NotApplicable(say("moved.none"))
    apart = [b["line_id"] for a, b in both if not all(same(a[k], b[k]) for k in RULE)]
    table = moves(frames, runs)
    until = [str(run["bank"]["observation_end"]) for run in runs]
    return Result(
        table,
        say("moved.sentence", n=float(len(both)), moved=float(len(table)), until=until, apart=", ".join(apart) or "–"),
        estimates={"S11": _count(len(apart), say("moved.unit"), len(both))},
        counts=(),
    )


# --- what the essays list ---------------------------------------------------------------------------------------------


def _count(value: float, unit: str, n: int) -> Estimate:
    """A count over everything: no sampling interval."""
    return Estimate(value, value, value, unit, n)


def _rows(frame: pd.DataFrame) -> dict[str, dict[Any, Any]]:
    return {r["line_id"]: r for r in frame.to_dict("records")}


@study
def benefits(frame: pd.DataFrame) -> Result:
    """Benefits that the essays list, each with a line of this run that measures it, or none (S24).

    A line whose gate is closed measures nothing.

    Parameters
    ----------
    frame : DataFrame
        From :func:`standing`.
    """
    known, rows, absent = _rows(frame), [], set()
    answers = ledger.answers(frame).set_index("claim_id")["answer"]
    for one in ledger.listed("benefits"):
        measured = [k for k in one["lines"] if told(known[k]) != "–" and known[k]["verdict"] != "blocked"]
        waiting = [ledger.lines()[k].notebook for k in one["lines"] if known[k]["verdict"] == "not measured"]
        absent |= set() if measured else set(waiting)
        row = known[(measured or one["lines"])[0]]
        rows.append((
            words.local(one["benefit"]), row["line_id"] if measured else "–",
            ledger.named(bare(answers[row["claim_id"]])), told(row), words.local(row["unit"]),
        ))  # fmt: skip
    if absent:
        raise NotApplicable(say("benefits.absent", notebooks=", ".join(sorted(absent))))
    without = sum(line == "–" for _, line, *_ in rows)
    return Result(
        pd.DataFrame(rows, columns=["benefit", "line", "answer", "estimate", "unit"]),
        say("benefits.sentence", n=len(rows), without=without),
        estimates={"S24": _count(without, say("benefits.unit"), len(rows))},
        counts=(),
    )


@study
def references() -> Result:
    """References at the end of the essays, and the claims of the register on the subject of each (S59)."""
    known = {c["id"] for c in ledger.claims()}
    listed = ledger.listed("references")
    rows = [(r["author"], str(r["year"]), r["title"], ", ".join(c for c in r["claims"] if c in known)) for r in listed]
    unbound = sum(not claims for *_, claims in rows)
    return Result(
        pd.DataFrame(rows, columns=["author", "year", "title", "claims"]),
        say("references.sentence", n=len(rows), unbound=unbound),
        estimates={"S59": _count(unbound, say("references.unit"), len(rows))},
        counts=(),
    )


@study
def history(frame: pd.DataFrame) -> Result:
    """Historical statements: where the essays have them from, and what is measured in their place (S32, S33, S35)."""
    known, rows, reasons = _rows(frame), [], {}
    status = say.names("history.source")
    for claim in (c for c in ledger.claims() if "source" in c):
        instead = known[claim["instead"]] if "instead" in claim else {}
        found = f"{instead['line_id']}: {words.local(instead['verdict'])}, {told(instead)}" if instead else "–"
        rows.append((claim["id"], words.local(claim["claim"]), status[claim["source"]], found))
        reasons[claim["id"]] = Missing(f"{words.local(claim['why'])} {status[claim['source']]}", ())
    table = pd.DataFrame(rows, columns=["claim", "statement", "source", "instead"])
    return Result(table, say("history.sentence", n=len(rows)), estimates=reasons, counts=())


# --- all claims, all banks --------------------------------------------------------------------------------------------


def side_by_side(folders: Iterable[Path]) -> pd.DataFrame:
    """Return the measured lines of several runs, with the answers to their claims, checks of data left out."""
    parts = []
    for folder in folders:
        frame = ledger.read(folder)
        answers = ledger.answers(frame).set_index("claim_id")["answer"]
        own = frame[frame["estimate"].notna() & frame["design"].ne("check")]
        parts.append(own.assign(answer=own["claim_id"].map(answers)))
    return pd.concat(parts, ignore_index=True)


def at_hand() -> pd.DataFrame:
    """Return what open banks answered, as far as the register's rule of a line is still the one it was held against."""
    if not (STORED / OPEN).is_file():
        return pd.DataFrame(columns=[*ledger.COLUMNS, "answer"])
    frame, known = ledger.read(STORED, OPEN), ledger.lines()

    def stands(row: Mapping[Any, Any]) -> bool:
        line = known.get(row["line_id"])
        if line is None:
            return False
        rule = (math.nan, "") if line.bound is None else (float(line.bound.at), line.bound.side)
        return all(same(row[k], v) for k, v in zip(RULE, (*rule, line.design, line.estimand), strict=True))

    return frame[[stands(r) for r in frame.to_dict("records")]].reset_index(drop=True)


@study
def by_theme(frame: pd.DataFrame, others: pd.DataFrame) -> Result:
    """Every claim by theme: the answer of this bank, and what real banks at hand say of it.

    Parameters
    ----------
    frame : DataFrame
        From :func:`standing`.
    others : DataFrame
        From :func:`at_hand`.
    """
    answers, known = ledger.answers(frame), _rows(frame)
    answers = answers.iloc[answers["theme"].map(list(dict.fromkeys(answers["theme"])).index).argsort(kind="stable")]
    themes, names, rows, parts = theme_words.names("themes"), say.names("parts"), [], []
    for one in answers.to_dict("records"):
        theirs = others[others["claim_id"].eq(one["claim_id"])].drop_duplicates("bank")
        summed = over_banks(one["design"], zip(theirs["evidence"], theirs["answer"], strict=True))
        real = ", ".join(f"{ledger.named(k)} {n}" for k, n in summed.parts.items())
        rows.append((
            themes[one["theme"]], one["claim_id"], words.local(one["claim"]),
            ledger.named(bare(one["answer"])) + ledger.beside(one["answer"]), told(known[one["line_id"]]),
            words.local(known[one["line_id"]]["unit"]), real or "–",
        ))  # fmt: skip
        kind = next((part for part, of in PARTS.items() if bare(one["answer"]) in of), "open")
        parts.append((themes[one["theme"]], names[kind]))
    counted = Counter(parts)
    drawn = [
        (theme, part, counted[theme, part]) for theme in dict.fromkeys(r[0] for r in rows) for part in names.values()
    ]
    tally = {kind: sum(part == name for _, part in parts) for kind, name in names.items()}
    heads = ["theme", "claim_id", "claim", "answer", "estimate", "unit", "real_banks"]
    told_by = {str(k): own["verdict"].ne("not measured").any() for k, own in frame.groupby("notebook")}
    absent = [notebook for notebook, some in sorted(told_by.items()) if not some]
    return Result(
        pd.DataFrame(rows, columns=heads),
        say("themes_sentence", n=len(rows), tally=tally)
        + (say("themes_real", real=said) if (said := sum(r[-1] != "–" for r in rows)) else "")
        + (say("themes_absent", notebooks=", ".join(absent)) if absent else ""),
        picture=Picture(
            "distribution",
            pd.DataFrame(drawn, columns=["label", "part", "count"]),
            say("themes_title", tally=tally),
            say("themes_x"),
            people=False,
        ),
        counts=(),
    )


@study
def real_evidence(others: pd.DataFrame) -> Result:
    """What real banks, and real customers of other trades, say line by line.

    Parameters
    ----------
    others : DataFrame
        From :func:`at_hand`.
    """
    if others.empty:
        raise NotApplicable(say("real.none"))
    order = {line: k for k, line in enumerate(ledger.lines())}
    rows = [
        (
            r["line_id"],
            r["bank"],
            words.local(r["evidence"]),
            words.local(r["verdict"]),
            told(r),
            words.local(r["unit"]),
        )
        for r in sorted(others.to_dict("records"), key=lambda r: (order[r["line_id"]], r["bank"]))
        if r["evidence"] != "simulated"
    ]
    table = pd.DataFrame(rows, columns=["line", "bank", "evidence", "verdict", "estimate", "unit"])
    n, claims = len(table), others["claim_id"].nunique()
    return Result(table, say("real.sentence", n=n, claims=claims, banks=table["bank"].nunique()), counts=())
