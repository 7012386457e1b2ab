"""Who must not be found in a run: the identifiers and pseudonyms of a bank, as written and in other spellings."""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from crmresearch.data import pseudonyms
from crmresearch.data.engines import PEOPLE
from crmresearch.data.pseudonyms import normal
from crmresearch.errors import InputError

if TYPE_CHECKING:
    from crmresearch.data.bank import Bank

SHORT = 6  # shorter identifiers are numbers and words that mean something else as well
DENSE = 1e-3  # and so are numbers, where so many of all numbers of their length are identifiers
PARTS = 8  # an identifier may be written in so many groups
_ATOM = re.compile(r"[^\W_]+")
_RUN = re.compile(r"\d+|\D+")
_GAPS = frozenset(" -+./_@:#*~&=\u2009\u202f\u2011")  # what may part the groups of an identifier
_DIGIT_GAPS = frozenset(" -+/_\u2009\u202f\u2011")  # of digits: a point makes another number of them
# a day or a number in thousands is no group of an identifier: 3,000 2021-01-01 holds neither 0002021 nor 20210101
_PLAIN = re.compile(
    r"(?<![\w-])\d{4}([-/])(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])(?![\w-])"
    r"|(?<![\w.,])\d{1,3}(?:,\d{3})+(?![\w,])"
)
_CALLED = "id|nr|no|num|number|nummer|key|code"
_PLACE = re.compile(
    r"(?i)\b(?:customer|client|kunden?|prospect|account|konto|person|member|user|referrer|manager|holder)s?"
    rf"(?:[ _.-]*(?:{_CALLED})\b\W{{0,5}}|\s*[#=]\s*[\"']?|:(?:\s+[\"']?|[\"'])|\s(?=\S*\d{{5}}))"
    r"([\w+][^\s\"',;<>|)}\]]*)"
    # a number behind "customers" is a count of them
    r"|(?:客户|客戶)(?:(?:号码?|號碼?|编号|編號|代码|ID)\W{0,4}|\s*[#=]\s*|\s?(?=[\w-]*\d{5}))([\w-]+)"
)


class People:
    """The identifiers and pseudonyms of a bank, in a set, so that a text is looked up word by word.

    Parameters
    ----------
    names : iterable of str
        What must not be found: identifiers in their normal form, or with a key what it makes of them.
    shapes : mapping of (int, bool) to int
        How many identifiers there are, by length and whether all their signs are digits.
    key : bytes
        The key, where identifiers are known by what it makes of them.

    Attributes
    ----------
    left_out : list of str
        What is not looked for everywhere, in words.
    """

    def __init__(self, names: Iterable[str], shapes: Mapping[tuple[int, bool], int], key: bytes = b"") -> None:
        self.names, self.key = frozenset(names), key
        dense = {(n, True) for (n, number), k in shapes.items() if number and k > DENSE * 9 * 10 ** (n - 1)}
        everywhere = {s for s in shapes if s[0] >= SHORT and s not in dense}
        self.lengths = frozenset([n for n, _ in everywhere] + ([pseudonyms.DIGITS] if key else []))
        self.longest = max(self.lengths, default=0)
        few = sum(k for s, k in shapes.items() if s not in everywhere)
        self.left_out = (
            [f"{few:,} identifiers that are any number or short word, outside places that name one"] if few else []
        )

    @classmethod
    def called(cls, identifiers: Iterable[str]) -> People:
        """Return the people of these identifiers; of none, nobody is found."""
        names = {normal(text) for text in identifiers} - {""}
        return cls(names, Counter((len(n), n.isdecimal()) for n in names))

    @classmethod
    def of(cls, bank: Bank) -> People:
        """Return the people of a loaded bank, those aside whose identifiers are row numbers."""
        places = [(t, c) for t in bank.tables for c in pseudonyms.COLUMNS if c in bank.columns(t)]
        if not bank.pseudonymous or not places:  # a bank of markets alone knows nobody
            known = [(t, c) for t, c in places if t not in bank.about.unlinked]
            parts = [f'SELECT "{c}" FROM "{t}" WHERE "{c}" IS NOT NULL' for t, c in known]
            return cls.called(i for (i,) in (bank.engine.run(" UNION ".join(parts)) if parts else ()))
        rows = bank.engine.run(f"SELECT right(name, {pseudonyms.DIGITS}), found_by, size, number FROM {PEOPLE}")
        shapes = Counter((size, number) for _, _, size, number in rows if size)
        return cls((n for row in rows for n in row[:2] if n), shapes, pseudonyms.key())

    def __len__(self) -> int:
        return len(self.names)

    def sketch(self, size: int = 1_024) -> list[str]:
        """Return the least digests of the names: two sets that share people share some of them."""
        return heapq.nsmallest(size, (hashlib.sha256(name.encode()).hexdigest()[:16] for name in self.names))

    def named(self, text: str) -> set[str]:
        """Tell whether a text names one of them: the rule that it breaks, or nothing."""
        if not self.names:
            return set()
        text = unicodedata.normalize("NFKC", text)
        words = {
            *self._candidates(_PLAIN.sub("|", text.casefold())),
            *(normal(m[1] or m[2]) for m in _PLACE.finditer(text)),
        }
        words |= {word[::-1] for word in words if not word.isdecimal()}  # a number turned round is another number
        found = not self.names.isdisjoint(words)
        if self.key and not found:
            found = any(pseudonyms.digest(self.key, f"={word}") in self.names for word in words)
        return {"customer identifier"} if found else set()

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
        for atom in {a for *_, a in atoms if not a.isalpha() and not a.isdecimal()}:
            edges = [0, *(m.end() for m in _RUN.finditer(atom))]
            for edge in edges:  # inside a longer word, beside where letters and digits meet
                for n in self.lengths:
                    for start in (edge, edge - n):
                        part = atom[max(start, 0) : start + n]
                        if len(part) == n and (not part.isdecimal() or {start, start + n} <= {*edges}):
                            yield part

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
