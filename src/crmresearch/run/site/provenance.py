"""Where a site comes from: the essays, the code and the hour of each run, and how to cite what it shows."""

from __future__ import annotations

from html import escape

from crmresearch import words
from crmresearch.run.site.chips import raw, rows
from crmresearch.run.site.runs import Run

say = words.of("site.provenance")


def essays() -> str:
    """Return the essays by author, title and year."""
    about, untold = say.names("about"), say("untold")
    body = "".join(
        f'<tr><td lang="zh-Hans">{title}</td><td>{untold}</td><td>{untold}</td><td>{escape(about[key])}</td></tr>'
        for key, title in say.names("titles").items()
    )
    heads = "".join(f'<th scope="col">{head}</th>' for head in say.names("essay_heads").values())
    table = f'<table class="crm-plain"><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
    return say("essays") + raw(table)


def made(run: Run) -> str:
    """Say when and by which code a run was made, and how to cite it."""
    status, prints = run.json("status"), run.json("run")["fingerprints"]
    date, commit = str(status.get("started", ""))[:10] or say("untold"), status.get("commit") or say("untold")
    register, version = str(prints.get("register", ""))[:12], run.json("run")["versions"].get("crmresearch", "")
    facts = {"date": date, "commit": commit, "register": register, "version": version}
    named = rows((head, facts[key]) for key, head in say.names("made_heads").items())
    bank = {"title": "", "citation": "", "licence": "", **run.about}
    cited = [say("software", date=date, commit=commit, register=register, version=version), say("data", bank=bank)]
    items = "".join(f"<li>{escape(c)}</li>" for c in cited)
    return "\n".join([say("made"), named, say("cite"), raw(f"<ul>{items}</ul>")])
