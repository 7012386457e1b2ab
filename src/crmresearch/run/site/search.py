"""The site's search: Chinese is found by pairs of signs, and a claim by its name, its words or the essays' own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from sphinx.domains import Domain, ObjType
from sphinx.search.en import SearchEnglish

from crmresearch import ledger, words

say = words.of("site.search")
WORDS = re.compile(r"[\u3400-\u9fff]+|[^\W\u3400-\u9fff]+")


def _pairs(text: str) -> list[str]:
    """Words of a text; a run of Chinese signs, which no space divides, as its overlapping pairs."""
    found: list[str] = []
    for word in WORDS.findall(text):
        chinese = word[0] >= "\u3400" and len(word) > 1
        found += [word[k : k + 2] for k in range(len(word) - 1)] if chinese else [word]
    return found


class Search(SearchEnglish):
    """English and Chinese in one index; the browser splits what is asked for in the same way."""

    js_splitter_code = r"""
var splitQuery = (query) =>
  (query.match(/[\u3400-\u9fff]+|(?:(?![\u3400-\u9fff])[\p{L}\p{N}_])+/gu) || []).flatMap((word) =>
    /^[\u3400-\u9fff]{2,}$/.test(word) ? [...word].slice(1).map((sign, k) => [...word][k] + sign) : [word]);
"""

    def split(self, input: str) -> list[str]:
        """Split a text into what the index holds."""
        return _pairs(input)


class Claims(Domain):
    """The claims of the register, so that the search leads to each of them."""

    name = label = "claim"
    object_types: ClassVar = {"claim": ObjType("claim")}

    def get_type_name(self, type: ObjType, primary: bool = False) -> str:
        """What a claim is called beside its words."""
        return say("claim")

    def get_objects(self) -> Iterator[tuple[str, str, str, str, str, int]]:
        """Words and place of each claim."""
        for claim in ledger.claims():
            said = f"{claim['id']} {words.local(claim['claim'])} {'、'.join(claim['anchor'])}".strip()
            yield said, said, "claim", "index", f"claim-{claim['id']}", 0

    def merge_domaindata(self, docnames: Any, otherdata: Any) -> None:
        """Nothing is read from pages."""
