"""Two runs of one bank: which verdicts moved, and which input moved them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from crmresearch import words
from crmresearch.escape import markdown
from crmresearch.run.site.chips import chip, number, raw
from crmresearch.run.site.runs import Run

say = words.of("site.comparison")
WHOLE = ("data", "code", "lock", "register")  # fingerprints of what every notebook shares
FOUND = ("estimate", "ci_low", "ci_high", "checks")


def address(number: int) -> str:
    """Where the comparison lies in the site, without ending."""
    return f"comparison-{number}"


def title(old: Run, new: Run) -> str:
    """Name the bank and both runs."""
    return say("title", bank=old.about["name"], old=_named(old), new=_named(new))


def _named(run: Run) -> str:
    started = str(run.json("status").get("started", ""))[:10]
    return f"{run.folder.name} ({started})" if started else run.folder.name


def page(old: Run, new: Run) -> str:
    """Write the comparison of two runs."""
    changed = _inputs(old, new)
    before, after = ({r["line_id"]: r for r in run.frame.to_dict("records")} for run in (old, new))
    pairs = [(before.get(k, {}), after.get(k, {})) for k in {**after, **before}]
    moved = [(a, b) for a, b in pairs if _moved(a, b)]
    verdicts = sum(a.get("verdict") != b.get("verdict") for a, b in moved)
    parts = [f"# {markdown(title(old, new))}\n", say("lead", verdicts=verdicts, lines=len(moved)), say("inputs")]
    inputs = [(name, *map(escape, pair)) for name, pair in _told(old, new).items()]
    parts += [_table(say.names("input_heads").values(), inputs) if inputs else say("same_inputs")]
    if moved:
        rows = [_row(a, b, changed) for a, b in moved]
        parts += [say("moved"), _table(say.names("heads").values(), rows)]
    return "\n".join(parts)


def _inputs(old: Run, new: Run) -> set[str]:
    """Inputs that differ: whole ones by name, those of one notebook as ``notebook/parameters`` and the like."""
    prints = [run.json("run")["fingerprints"] for run in (old, new)]
    out = {name for name in WHOLE if prints[0].get(name) != prints[1].get(name)}
    sources = [p.get("notebooks", {}) for p in prints]
    out |= {f"{n}/source" for n in {*sources[0], *sources[1]} if sources[0].get(n) != sources[1].get(n)}
    values = [run.json("run")["parameters"] for run in (old, new)]
    out |= {f"{n}/parameters" for n in {*values[0], *values[1]} if values[0].get(n) != values[1].get(n)}
    return out


def _told(old: Run, new: Run) -> dict[str, tuple[str, str]]:
    """Each input that differs, by its name for people, before and after."""
    a, b = (run.json("run") for run in (old, new))
    names = say.names("inputs_named")
    out = {
        names[k]: (str(a["fingerprints"].get(k, "–")), str(b["fingerprints"].get(k, "–")))
        for k in WHOLE
        if a["fingerprints"].get(k) != b["fingerprints"].get(k)
    }
    for notebook in sorted({*a["parameters"], *b["parameters"]}):
        x, y = (run["parameters"].get(notebook, {}) for run in (a, b))
        keys = [k for k in {**x, **y} if x.get(k) != y.get(k)]
        if keys:
            pair = [", ".join(f"{k} = {v[k]}" if k in v else f"{k}: –" for k in keys) for v in (x, y)]
            out[f"{names['parameters']}, {notebook}"] = (pair[0], pair[1])
        p, q = (run["fingerprints"].get("notebooks", {}).get(notebook, "–") for run in (a, b))
        if p != q:
            out[f"{names['source']}, {notebook}"] = (p, q)
    return out


def _same(a: object, b: object) -> bool:
    """Equal, not numbers included; numbers as they are shown."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9)
    return a == b


def _moved(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> bool:
    return not all(_same(a.get(k), b.get(k)) for k in (*FOUND, "verdict"))


def _why(a: Mapping[Any, Any], b: Mapping[Any, Any], changed: set[str]) -> list[str]:
    """Name the inputs that can have moved a line: those of its estimate, its bound, or the lines beside it."""
    out: list[str] = []
    found = all(_same(a.get(k), b.get(k)) for k in FOUND)
    if not found:
        notebook = b.get("notebook") or a.get("notebook")
        own = {c.partition("/")[2] for c in changed if c.startswith(f"{notebook}/")}
        out += [c for c in ("data", "code", "lock", "source", "parameters") if c in changed | own]
    if not all(_same(a.get(k), b.get(k)) for k in ("bound", "side", "design")):
        out.append("register")
    elif found and not _same(a.get("q_value"), b.get("q_value")):
        out.append("beside")
    return out or ["unknown"]


def _row(a: Mapping[Any, Any], b: Mapping[Any, Any], changed: set[str]) -> tuple[str, ...]:
    def found(row: Mapping[Any, Any]) -> str:
        if not row or math.isnan(row["estimate"]):
            return "–"
        return f"{number(row['estimate'])} [{number(row['ci_low'])}, {number(row['ci_high'])}]"

    names = say.names("inputs_named")
    verdicts = [chip(row["verdict"]) if row else "–" for row in (a, b)]
    shown = verdicts[0] if verdicts[0] == verdicts[1] else " → ".join(verdicts)
    one = b or a
    why = ", ".join(names[c] for c in _why(a, b, changed))
    return f"<strong>{escape(one['line_id'])}</strong> {escape(one['estimand'])}", shown, found(a), found(b), why


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return raw(
        f'<div class="crm-scroll" tabindex="0" role="region" aria-label="{say("table")}"><table class="crm-plain">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
