"""Who must not be found in a run: the identifiers and pseudonyms of a bank, as written and in other spellings."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from crmresearch.errors import InputError

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank

SHORT = 6  # shorter identifiers are numbers and words that mean something else as well
DENSE = 1e-3  # and so are numbers, where so many of all numbers of their length are identifiers
COLUMNS = ("customer_id", "referrer_id", "prospect_id", "manager_id")  # of tables, that name people
PARTS = 8  # an identifier may be written in so many groups
_ATOM = re.compile(r"[^\W_]+")
_GAPS = frozenset(" -+./_@:#*~&=\u2009\u202f\u2011")  # what may part the groups of an identifier
_DIGIT_GAPS = frozenset(" -+/_\u2009\u202f\u2011")  # of digits: a point makes another number of them
_PLACE = re.compile(
    r"(?i)\b(?:customer|client|kunden?|prospect|account|konto|person|member|user|referrer|manager|holder)s?"
    r"(?:[ _.-]*(?:id|nr|no|num|number|nummer|key|code)\b\W{0,5}|\s*[#=:]\s*[\"']?|\s(?=\S*\d{5}))([^\s\"',;<>|)}\]]+)"
    r"|(?:客户|客戶)(?:号|號|编号)?\W{0,4}([\w-]+)"
)


def normal(text: str) -> str:
    """Write an identifier without what may be written otherwise: case, width, signs and blanks."""
    return "".join(_ATOM.findall(unicodedata.normalize("NFKC", text).casefold()))


class People:
    """The identifiers of a bank, in a set, so that a text is looked up word by word.

    Attributes
    ----------
    left_out : list of str
        What is not looked for everywhere, in words.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names) - {""}
        by_shape = Counter((len(n), n.isdecimal()) for n in self.names)
        dense = {(n, True) for (n, number), k in by_shape.items() if number and k > DENSE * 9 * 10 ** (n - 1)}
        self.everywhere = {s for s in by_shape if s[0] >= SHORT and s not in dense}
        self.lengths = frozenset(n for n, _ in self.everywhere)
        self.longest = max(self.lengths, default=0)
        self._all_with_digits = all(any(c.isdecimal() for c in n) for n in self.names)
        few = sum(k for s, k in by_shape.items() if s not in self.everywhere)
        self.left_out = (
            [f"{few:,} identifiers that are any number or short word, outside places that name one"] if few else []
        )

    @classmethod
    def nobody(cls) -> People:
        """Return the people of no bank."""
        return cls(())

    @classmethod
    def of(cls, bank: Bank) -> People:
        """Return the people of a bank: every identifier of its tables, those aside that are row numbers."""
        parts = []
        for table in bank.tables:
            if table not in bank.about.unlinked:
                columns = [c for c in COLUMNS if c in bank.columns(table)]
                parts += [f'SELECT DISTINCT "{c}" AS v FROM "{table}" WHERE "{c}" IS NOT NULL' for c in columns]
        rows = bank.engine.run(" UNION ".join(parts)) if parts else []
        return cls(normal(v) for (v,) in rows)

    def __len__(self) -> int:
        return len(self.names)

    def named(self, text: str) -> set[str]:
        """Tell whether a text names one of them: the rule that it breaks, or nothing."""
        if not self.names or (self._all_with_digits and not any(map(str.isdecimal, text))):
            return set()
        text = unicodedata.normalize("NFKC", text)
        places = (normal(m[1] or m[2]) for m in _PLACE.finditer(text))
        if any(c in self.names for c in (*self._candidates(text.casefold()), *places)):
            return {"customer identifier"}
        return set()

    def _candidates(self, text: str) -> Iterator[str]:
        """Yield what may be an identifier: words, and words that single signs part, of the lengths that there are."""
        atoms = [(m.start(), m.end(), m[0]) for m in _ATOM.finditer(text)]
        for i, (start, _, _) in enumerate(atoms):
            joined, end = "", start
            for begin, finish, atom in atoms[i : i + PARTS]:
                if joined:
                    gap = text[end:begin]
                    both = joined.isdecimal() and atom.isdecimal()
                    if gap not in (_DIGIT_GAPS if both else _GAPS):
                        break
                joined, end = joined + atom, finish
                if len(joined) >= self.longest:
                    break
                if len(joined) in self.lengths:
                    yield from self._unless_number(joined, text, start, end)
            if len(joined) == self.longest:
                yield from self._unless_number(joined, text, start, end)

    @staticmethod
    def _unless_number(joined: str, text: str, start: int, end: int) -> Iterator[str]:
        """Yield a word, digits aside that are a part of a number: behind its point, or before a fraction."""
        if joined.isdecimal():
            fraction = re.match(r"\.(\d+)", text[end : end + 20])
            if re.fullmatch(r"\d\.", text[max(0, start - 2) : start]) or (fraction and fraction[1].strip("0")):
                return
        yield joined


def of_run(folder: Path, bank: str | None = None, from_dir: Path | None = None) -> People | None:
    """Return the people of a run's bank: of the database it was made from, or of the bank as it is now; None without.

    Raises
    ------
    InputError
        If ``bank`` is another one than the run's, or cannot be opened.
    """
    from crmresearch.data.bank import loaded, open_bank

    facts = json.loads((folder / "run.json").read_text("utf-8"))
    name = facts["bank"]["name"]
    if bank is not None:
        opened = open_bank(bank, from_dir)
        if opened.name != name:
            raise InputError(f"{folder} is a run of the bank {name}, not of {opened.name}; name that one with --bank")
        return People.of(opened)
    if (found := loaded(facts["fingerprints"]["data"])) is not None:
        return People.of(found)
    try:
        return People.of(open_bank(name))
    except InputError:
        return None
