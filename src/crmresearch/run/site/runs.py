"""The runs that a site shows: one alone, or several beside each other, each bank once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from crmresearch import ledger
from crmresearch.data.description import EVIDENCE
from crmresearch.errors import InputError
from crmresearch.multiverse import NOTEBOOK


@dataclass(frozen=True)
class Run:
    """One run as the site shows it.

    Parameters
    ----------
    folder : Path
        The run's folder.
    key : str
        Name of its pages' folder; empty where the site shows this run alone.
    """

    folder: Path
    key: str = ""

    def __post_init__(self) -> None:
        for needed in ("run.json", "ledger.csv", "claims.csv"):
            if not (self.folder / needed).exists():
                raise InputError(
                    f"{self.folder} is not a run's folder: it has no {needed}; crmresearch run --out DIR makes one"
                )

    @cached_property
    def language(self) -> str:
        """The language that the run's outputs are in."""
        return str(self.json("run").get("fingerprints", {}).get("language", "en"))

    def json(self, name: str) -> dict[str, Any]:
        """Read one of the run's JSON files; what is not there is empty."""
        path = self.folder / f"{name}.json"
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}

    @cached_property
    def about(self) -> Mapping[str, Any]:
        """What the bank says of itself."""
        return dict(self.json("run")["bank"])

    @property
    def evidence(self) -> str:
        """The bank's class of evidence."""
        return str(self.about["evidence"])

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The ledger."""
        return ledger.read(self.folder)

    @cached_property
    def answers(self) -> Mapping[str, str]:
        """The answer to each claim."""
        table = ledger.answers(self.frame)
        return dict(zip(table["claim_id"], table["answer"], strict=True))

    @cached_property
    def lines(self) -> Mapping[str, list[dict[Any, Any]]]:
        """Rows of the ledger by claim, the primary line first."""
        if list(self.frame["line_id"]) != list(ledger.lines()):
            raise InputError(f"{self.folder} was made with another register of claims; run its bank again")
        return {str(k): part.to_dict("records") for k, part in self.frame.groupby("claim_id", sort=False)}

    @cached_property
    def tried(self) -> Mapping[str, dict[Any, Any]]:
        """In how many specifications each line was estimated, and holds; empty where the run did not ask."""
        path = self.folder / "tables" / f"{NOTEBOOK}_claims.csv"
        if not path.exists() or not (self.folder / "notebooks" / f"{NOTEBOOK}.ipynb").exists():
            return {}
        rows = pd.read_csv(path).dropna(subset=["known", "compared", "held"]).to_dict("records")
        return {row["line"]: row for row in rows if row["known"]}

    def line(self, line_id: str) -> dict[Any, Any]:
        """Row of one line."""
        return next(r for r in self.lines[ledger.lines()[line_id].claim_id] if r["line_id"] == line_id)

    def idle(self, claim_id: str) -> bool:
        """Whether nothing in this run estimated or looked at a claim."""
        return all(row["verdict"] in ledger.UNMEASURED and not self.has(row) for row in self.lines[claim_id])

    def measures(self, claim_id: str) -> bool:
        """Whether this run estimated any line of a claim."""
        return any(map(self.has, self.lines[claim_id]))

    @staticmethod
    def has(row: Mapping[Any, Any]) -> bool:
        """Whether there is an estimate of a line."""
        return bool(pd.notna(row["estimate"]))

    @cached_property
    def failed(self) -> list[str]:
        """Notebooks that did not finish."""
        return [n for n, s in self.json("status").get("notebooks", {}).items() if s["status"] != "completed"]

    @property
    def notebooks(self) -> list[Path]:
        """The executed notebooks."""
        return sorted((self.folder / "notebooks").glob("*.ipynb"))

    @property
    def about_page(self) -> str:
        """The page about this run, without ending."""
        return f"about/{self.key}" if self.key else "about-this-run"

    def page(self, notebook: str) -> str:
        """Where a notebook's page lies in the site, without ending."""
        return "/".join(part for part in ("notebooks", self.key, notebook) if part)

    def anchor(self, line_id: str) -> str:
        """Where a line of this run stands on the first page."""
        return f"{line_id}-{self.key}" if self.key else line_id


def chosen(folders: Sequence[Path]) -> tuple[list[Run], list[tuple[Run, Run]]]:
    """Return the runs that a site shows, by evidence, and pairs of runs of one bank to compare.

    Of several runs of a bank the last named is shown, so that no bank counts twice; each earlier one is compared to it.
    """
    by_bank: dict[str, list[Path]] = {}
    for folder in folders:
        by_bank.setdefault(str(Run(folder).about["name"]), []).append(folder)
    several = len(by_bank) > 1
    found = {bank: [Run(folder, bank if several else "") for folder in own] for bank, own in by_bank.items()}
    shown = sorted((own[-1] for own in found.values()), key=lambda r: EVIDENCE.index(r.evidence))
    return shown, [(earlier, own[-1]) for own in found.values() for earlier in own[:-1]]
