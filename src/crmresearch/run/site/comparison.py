"""Two runs of one bank: which verdicts moved, and which input moved them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from crmresearch import review, words
from crmresearch.escape import markdown
from crmresearch.run.site import tables
from crmresearch.run.site.chips import chip, raw
from crmresearch.run.site.runs import Run

say = words.of("site.comparison")
review_words = words.of("top.review")


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
    changed = review.inputs(old.json("run"), new.json("run"))
    before, after = ({r["line_id"]: r for r in run.frame.to_dict("records")} for run in (old, new))
    pairs = [(before.get(k, {}), after.get(k, {})) for k in {**after, **before}]
    moved = [(a, b) for a, b in pairs if not all(review.same(a.get(k), b.get(k)) for k in (*review.FOUND, "verdict"))]
    verdicts = sum(a.get("verdict") != b.get("verdict") for a, b in moved)
    parts = [f"# {markdown(title(old, new))}\n", say("lead", verdicts=verdicts, lines=len(moved)), say("inputs")]
    names = review_words.names("inputs_named")
    inputs = [(words.joined([names[kind], of], ", "), *map(escape, two)) for (kind, of), two in changed.items()]
    parts += [_table(say.names("input_heads").values(), inputs) if inputs else say("same_inputs")]
    if moved:
        rows = [_row(a, b, changed) for a, b in moved]
        parts += [say("moved"), _table(say.names("heads").values(), rows)]
    return "\n".join(parts)


def _row(a: Mapping[Any, Any], b: Mapping[Any, Any], changed: Mapping[tuple[str, str], Any]) -> tuple[str, ...]:
    names = review_words.names("inputs_named")
    verdicts = [chip(row["verdict"]) if row else "–" for row in (a, b)]
    shown = verdicts[0] if verdicts[0] == verdicts[1] else " → ".join(verdicts)
    one = b or a
    why = ", ".join(names[c] for c in review.why(a, b, changed))
    return (
        f"<strong>{escape(one['line_id'])}</strong> {escape(one['estimand'])}",
        shown,
        review.told(a),
        review.told(b),
        why,
    )


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{h}</th>' for h in heads)
    body = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return raw(tables.framed(f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'))
