"""Two runs of one bank: which verdicts moved, and which input moved them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from crmresearch import words
from crmresearch.answer import number
from crmresearch.escape import markdown
from crmresearch.run.site import tables
from crmresearch.run.site.chips import chip, raw
from crmresearch.run.site.runs import Run

say = words.of("site.comparison")
WHOLE = ("data", "code", "lock", "register")  # fingerprints of what every notebook shares
FOUND = ("estimate", "ci_low", "ci_high")


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
    moved = [(a, b) for a, b in pairs if not all(_same(a.get(k), b.get(k)) for k in (*FOUND, "verdict"))]
    verdicts = sum(a.get("verdict") != b.get("verdict") for a, b in moved)
    parts = [f"# {markdown(title(old, new))}\n", say("lead", verdicts=verdicts, lines=len(moved)), say("inputs")]
    names = say.names("inputs_named")
    inputs = [(words.joined([names[kind], of], ", "), *map(escape, two)) for (kind, of), two in changed.items()]
    parts += [_table(say.names("input_heads").values(), inputs) if inputs else say("same_inputs")]
    if moved:
        rows = [_row(a, b, changed) for a, b in moved]
        parts += [say("moved"), _table(say.names("heads").values(), rows)]
    return "\n".join(parts)


def _inputs(old: Run, new: Run) -> dict[tuple[str, str], tuple[str, str]]:
    """Each input that differs, before and after, by its kind and, if it is of one notebook, by that."""
    described = [run.json("run") for run in (old, new)]
    found = []
    for run in described:
        prints = run["fingerprints"]
        own = {(kind, ""): str(prints.get(kind, "–")) for kind in WHOLE}
        own |= {("source", name): print for name, print in prints.get("notebooks", {}).items()}
        for name, values in run["parameters"].items():
            own[("parameters", name)] = ", ".join(f"{k} = {v}" for k, v in values.items())
        found.append(own)
    keys = dict.fromkeys([*found[0], *found[1]])
    pairs = {key: (found[0].get(key, "–"), found[1].get(key, "–")) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def _same(a: object, b: object) -> bool:
    """Equal, not numbers included; numbers as they are shown."""
    if isinstance(a, float) and isinstance(b, float):
        return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9)
    return a == b


def _why(a: Mapping[Any, Any], b: Mapping[Any, Any], changed: Mapping[tuple[str, str], Any]) -> list[str]:
    """Name the inputs that can have moved a line: those of its estimate, its bound, or the lines beside it."""
    out: list[str] = []
    found = all(_same(a.get(k), b.get(k)) for k in FOUND)
    if not found:
        here = ("", b.get("notebook") or a.get("notebook"))
        out += [kind for kind, of in changed if of in here and kind != "register"]
    if not all(_same(a.get(k), b.get(k)) for k in ("bound", "side", "design")):
        out.append("register")
    elif found and not _same(a.get("q_value"), b.get("q_value")):
        out.append("beside")
    return out or ["unknown"]


def _row(a: Mapping[Any, Any], b: Mapping[Any, Any], changed: Mapping[tuple[str, str], Any]) -> tuple[str, ...]:
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
    return raw(tables.framed(f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'))
