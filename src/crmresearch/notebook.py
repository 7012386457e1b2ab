"""What a notebook needs from the run around it: checked parameters, its bank, and a place for what it finds.

The place travels by environment (``CRMRESEARCH_OUT``), so that no path reaches a notebook. Without it, as when a
notebook is opened by hand, everything is shown and nothing is written.
"""

from __future__ import annotations

import functools
import html
import os
import re
import sys
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from crmresearch import answer, disclosure, escape, figures, ledger, parameters, rules, words
from crmresearch.data.engines import PACKAGES
from crmresearch.data.places import put
from crmresearch.data.pseudonyms import pseudonym
from crmresearch.errors import InputError, Missing, Reader, Withheld
from crmresearch.estimators.inference import Estimate
from crmresearch.result import Result

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank


say = words.of("top.notebook")
_PLACE = re.compile(r"(?:~|[A-Za-z]:)?[/\\](?:[\w.@+ -]+[/\\])+[\w.@+-]*")  # of a file, on any system
VERSIONS = ("crmresearch", "pandas", "numpy", "scipy", "statsmodels", "lifelines", *PACKAGES)


@dataclass
class Notebook:
    """The run as one notebook sees it; made by :func:`start`."""

    name: str
    values: Mapping[str, Any]
    bank: Bank
    folder: Path | None
    meanings: Mapping[str, str]
    rules: str = "default"  # of disclosure
    found: dict[str, Estimate | Missing] = field(default_factory=dict)
    kept: dict[str, tuple[int, Mapping[str, int]]] = field(default_factory=dict)  # rows; those hidden, by rule
    counts: dict[str, list[list[str]]] = field(default_factory=dict)  # columns that count people, by table's file

    def keep(self, result: Result, table: str, *lines: str) -> None:
        """Write a result's table (small cells suppressed) and its findings for the named ledger lines.

        Parameters
        ----------
        result : Result
            What a study returned; a result that does not apply is recorded with its reason.
        table : str
            Name of the table's file, without ending.
        *lines : str
            Ledger lines this result decides, e.g. ``"S40"``.

        Raises
        ------
        InputError
            If a line is not in the register, the result has no estimate for it, or it tells of money that no column of
            the table is said to hold.
        """
        bare = [line for line in lines if line in ledger.lines() and ledger.lines()[line].money]
        if result.applicable and bare and not result.money:
            raise InputError(f"{', '.join(bare)} tell of money; say which columns do (Result.money), and whose it is")
        currency = self.bank.about.currency
        findings = {line: ledger.comparable(line, result.finding(line), currency) for line in lines}
        for line, finding in findings.items():
            ledger.checked(line, finding)  # a wrong line fails here too, where nothing is written
        self.found |= findings
        if result.applicable:
            self.kept[table] = (len(result.table), result.hidden)
            self.counts[f"{self.name}_{table}.csv"] = disclosure.grouped(result.counts) if result.counts else []
        if self.folder is None:
            return
        ledger.record(
            self.folder,
            self.name,
            findings,
            bank=self.bank.about.name,
            evidence=self.bank.about.evidence,
            parameters=self.values if self.rules == "default" else {**self.values, "disclosure": self.rules},
            data=self.bank.engine.fingerprint(),
            truth=self.bank.about.truth,
        )
        if result.applicable and len(result.table):
            self._write(self.folder / "tables" / f"{self.name}_{table}.csv", result.table)
        suppressed = {
            f"{self.name}_{name}.csv": {
                "rows": sum(hidden.values()),
                "rule": "; ".join(f"{rule} ({rows})" for rule, rows in hidden.items()),
            }
            for name, (_, hidden) in self.kept.items()
            if hidden
        }
        headlines = {
            line: "as computed" if "value" in ledger.checked(line, finding) else "withheld"
            for line, finding in self.found.items()
            if ledger.lines()[line].primary and isinstance(finding, Estimate | Withheld)
        }
        decided = {"suppressed": suppressed, "headlines": headlines, "counts": self.counts}
        ledger.write_json(self.folder / "disclosure" / f"{self.name}.json", decided)

    def keep_restricted(self, frame: pd.DataFrame, name: str) -> None:
        """Write rows about single customers who agreed to marketing to ``restricted/``; they are shown nowhere.

        Parameters
        ----------
        frame : DataFrame
            One row per customer, with ``customer_id``; its pseudonym stands in the list.
        name : str
            Name of the list's file, without ending.
        """
        agreed: Iterable[Any] = ()  # without a table of customers no consent is recorded
        if "customers" in self.bank.tables:
            t = self.bank.table("customers")
            agreed = self.bank.frame(t.filter(t.consent_marketing == "yes").select("customer_id"))["customer_id"]
        frame = frame[frame["customer_id"].isin(agreed)]
        print(say("agreed", n=len(frame)) if len(frame) else say("refused"))
        if self.folder is None or frame.empty:
            return
        if self.bank.pseudonymous:
            frame = frame.assign(customer_id=pseudonym(frame["customer_id"]))
        folder = self.folder / "restricted"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write(folder / f"{self.name}_{name}.csv", frame)

    @staticmethod
    def _write(path: Path, frame: pd.DataFrame) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        named = any(n is not None for n in frame.index.names)
        put(path, escape.csv(frame, index=named), private=path.parent.name == "restricted")

    def protected(self) -> Result:
        """Return what the rules of disclosure hid in the tables kept so far, and what that cost."""
        hidden = [(table, n, rule) for table, (_, by_rule) in self.kept.items() for rule, n in by_rule.items()]
        told = say(
            "protected",
            hidden=sum(n for _, n, _ in hidden),
            rows=sum(rows for rows, _ in self.kept.values()),
            tables=len(self.kept),
            missing=sum(isinstance(e, Missing) for e in self.found.values()),
            lines=len(self.found),
            rules=self.rules,
            least=rules.rules.below,
        )
        return Result(pd.DataFrame(hidden, columns=["table", "hidden", "rule"]), told, counts=())

    def answer(self) -> Result:
        """Return what this notebook learnt of its claims, how sure it is, and what it does not show."""
        about = self.bank.about
        return answer.of_notebook(self.name, self.found, about.truth, about.evidence)

    def finish(self) -> Result:
        """List the files this notebook wrote and the versions it ran with."""
        from importlib.metadata import version

        written = []
        if self.folder is not None:
            for part in ("tables", "figures", "restricted", "findings"):
                written += [f"{part}/{p.name}" for p in sorted((self.folder / part).glob(f"{self.name}*"))]
        rows = [("file", name) for name in written] + [("version", f"{name} {version(name)}") for name in VERSIONS]
        sentence = say("by_hand") if self.folder is None else say("written", n=len(written))
        return Result(pd.DataFrame(rows, columns=["kind", "name"]), sentence, counts=())

    def _rows(self) -> list[tuple[str, str, str]]:
        return [(k, str(v), words.local(self.meanings[k])) for k, v in self.values.items()]

    def __repr__(self) -> str:
        lines = [f"{k} = {v}  # {about}" for k, v, about in self._rows()]
        return "\n".join([say("opened", name=self.name, bank=self.bank), *lines])

    def _repr_html_(self) -> str:
        about = self.bank.about
        frame = pd.DataFrame(self._rows(), columns=["parameter", "value", "meaning"])
        name, evidence, title = (html.escape(words.local(text)) for text in (about.name, about.evidence, about.title))
        limits = "".join(f"<li>{html.escape(words.local(limit))}</li>" for limit in about.cannot_answer)
        cannot = f"<p>{say('cannot')}</p><ul>{limits}</ul>" if limits else ""
        head = f"<p>{say('bank', name=name, evidence=evidence, title=title)}</p>"
        return head + disclosure.html(frame) + cannot


def _tell(heard: set[str], message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Say what a library warns of once, in words: without its place, and numbers do not make it another warning."""
    text = _PLACE.sub("…", str(message)).strip()
    alike = re.sub(r"\d[\d.,e+-]*", "#", text)
    if alike not in heard:
        heard.add(alike)
        print(say("warned", text=text))


def start(name: str, **values: Any) -> Notebook:
    """Check a notebook's parameters, open its bank, set the figures' theme and source line.

    Parameters
    ----------
    name : str
        The notebook's name without ending.
    **values
        Every parameter of its parameters cell.

    Raises
    ------
    InputError
        If the notebook or a parameter is unknown (also one that papermill or a cell like the parameters' own set, and
        nothing reads), a parameter is missing, of the wrong type or out of range, or the bank is unknown.
    """
    takes = parameters.read(parameters.find(name))
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    misspelt = parameters.undeclared(shell.user_ns.get("In", ()), takes) if shell else []
    parameters.check(name, takes, values | dict.fromkeys(misspelt))
    forgotten = sorted(set(takes) - set(values))
    if forgotten:
        raise InputError(f"{name}: pass every parameter to notebook.start; missing: {', '.join(forgotten)}")
    from crmresearch.data.bank import open_bank

    bank = open_bank(values["bank_name"])
    out = os.environ.get("CRMRESEARCH_OUT")
    folder = Path(out) if out else None
    Reader.in_notebook = True
    warnings.showwarning = functools.partial(_tell, set())
    chosen = rules.use(bank.about.disclosure)
    figures.use(bank.source_line, folder / "figures" if folder else None, name, bank.about.currency)
    if figures.shared.english:
        print(say("no_font"))
    return Notebook(name, dict(values), bank, folder, {k: p.comment for k, p in takes.items()}, chosen)
