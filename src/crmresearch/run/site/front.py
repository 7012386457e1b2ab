"""The first page: the question, its answer in five sentences, and the claims by theme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path

from crmresearch import ledger, words
from crmresearch.run.site import claims, comparison, listing, pictures
from crmresearch.run.site.chips import chip, raw, slug, toctree
from crmresearch.run.site.runs import Run

say = words.of("site.front")


def page(runs: Sequence[Run], source: Path, lost: Mapping[str, str], moved: Sequence[tuple[Run, Run]]) -> str:
    """Write the first page; pictures of claims go into ``source``.

    Parameters
    ----------
    runs : sequence of Run
        In the order of their evidence.
    source : Path
        Folder of the pages.
    lost : mapping of str to str
        Banks that could not be run, and why.
    moved : sequence of (Run, Run)
        Pairs of runs of one bank that are compared on a page of their own.
    """
    draw = partial(pictures.draw, folder=source)
    register = {line.claim_id: line for line in ledger.lines().values() if line.primary}
    idle = [c for c in register if all(run.idle(c) for run in runs)]
    checks = [c for c, line in register.items() if line.design == "check" and c not in idle]
    judged = [c for c in register if c not in idle and c not in checks]
    parts = [say("question"), raw(_notes(runs, lost)), say("answer"), raw(claims.answer(runs)), say("claims")]
    if runs[0].key:
        parts += [raw(banks(runs, lost))]
    counted = [c for c, line in register.items() if line.design != "check"]
    told = {kind: [claims.main_answer(own, c) for c in counted] for kind, own in claims.by_evidence(runs).items()}
    measured = sum(any(run.measures(c) for run in runs) for c in judged)
    parts += [
        raw(f'<p class="crm-lead">{_lead(runs, len(register), measured)}</p>{claims.tiles(told)}{listing.finder()}')
    ]
    for theme, title in say.names("themes").items():
        own = [c for c in judged if register[c].theme == theme]
        if own:
            parts += [f"## {title}\n", raw(claims.cards(runs, own, draw))]
    if checks:
        parts += [say("checks"), raw(claims.cards(runs, checks, draw))]
    if idle:
        folded = (
            f"<details><summary>{say('idle_count', n=len(idle))}</summary>{claims.cards(runs, idle, draw)}</details>"
        )
        parts += [say("idle"), raw(folded)]
    if moved:
        rows = (
            f'<li><a href="{comparison.address(k)}.html">{escape(comparison.title(old, new))}</a></li>'
            for k, (old, new) in enumerate(moved, 1)
        )
        parts += [say("moved"), raw(f"<ul>{''.join(rows)}</ul>")]
    parts += [say("more"), raw(f"<p>{say('links')}</p>"), ""]
    pages = [f"{say('ledger')} <self>", f"{say('listing')} <ledger>", "studies", "how-to-read", "methods"]
    pages += ["about-this-run", "downloads", "reference"]
    return "\n".join([*parts, *toctree([*pages, *(comparison.address(k + 1) for k in range(len(moved)))])])


def _lead(runs: Sequence[Run], known: int, measured: int) -> str:
    if len(runs) > 1:
        return say("lead_joined", claims=known, measured=measured, banks=len(runs))
    bank = {k: escape(words.local(str(v))) for k, v in runs[0].about.items()}
    period = say("period", bank=bank) if runs[0].about.get("observation_start") else ""
    return say("lead", claims=known, measured=measured, bank=bank, period=period)


def _notes(runs: Sequence[Run], lost: Mapping[str, str]) -> str:
    """What each class of evidence can show, and what is incomplete."""
    notes = [
        f'<p class="crm-note crm-evidence-{slug(kind)}">{say.names("evidence")[kind]}</p>'
        for kind in claims.by_evidence(runs)
    ]
    if any(run.language != words.language() for run in runs):
        notes.append(f'<p class="crm-note">{say("other")}</p>')
    alarms = []
    for run in runs:
        name = f"<strong>{escape(run.key)}.</strong> " if run.key else ""
        if run.failed:
            alarms.append(name + say("incomplete", notebooks=escape(", ".join(run.failed))))
        if run.frame["provisional"].eq("yes").any():
            alarms.append(name + say("part"))
    alarms += [say("lost", bank=escape(bank), why=escape(why)) for bank, why in lost.items()]
    return "".join(notes) + "".join(f'<p class="crm-note crm-alarm">{a}</p>' for a in alarms)


def banks(runs: Sequence[Run], lost: Mapping[str, str]) -> str:
    """The banks of a joined site: evidence, period, and how many claims each can speak to."""
    rows = []
    for run in runs:
        about = {k: escape(words.local(str(v))) for k, v in run.about.items()}
        period = say("period", bank=about) if run.about.get("observation_start") else ""
        n = sum(run.measures(c) for c in run.lines if run.lines[c][0]["design"] != "check")
        name = f'<a href="{run.about_page}.html">{about["name"]}</a>'
        rows.append(f"<strong>{name}</strong> {chip(run.evidence)} {say('bank', bank=about, period=period, n=n)}")
    rows += [say("lost", bank=escape(name), why=escape(why)) for name, why in lost.items()]
    return f'<ul class="crm-banks">{"".join(f"<li>{row}</li>" for row in rows)}</ul>'
