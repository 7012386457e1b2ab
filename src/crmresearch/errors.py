"""What can go wrong, and what is merely missing.

Few types, so that a reader can filter them: :class:`CrmError` stops, :class:`CrmWarning` is worth reading,
:class:`Missing` is an answer ("this bank brings no such table") and never an exception.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class CrmError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(CrmError, ValueError):
    """Input that cannot be used.

    The message says what is wrong, where, how many rows, and what to try.
    """


class FitError(CrmError, RuntimeError):
    """A model that could not be fitted; the message says what to try."""


class RankError(InputError, FitError):
    """Columns of a regression that are combinations of others: an input to mend, and no fit until then."""


class NotApplicable(InputError):
    """A question that the data cannot answer; a study that raises it returns a result that says so.

    Parameters
    ----------
    reason : str
        One sentence: what is missing or too small.
    *tables : str
        The tables that would be needed.
    """

    def __init__(self, reason: str, *tables: str) -> None:
        super().__init__(reason)
        self.tables = tables


class CrmWarning(UserWarning):
    """Base of every warning this package raises."""


class FitWarning(CrmWarning):
    """A fit that ended, but deserves a look (flat direction, corner solution)."""


@dataclass(frozen=True)
class Missing:
    """Stands for a frame that a bank cannot give.

    Reductions return it, studies pass it on, and the ledger writes its reason beside ``not applicable``.

    Parameters
    ----------
    reason : str
        One sentence: which table, column or kind of row is missing.
    tables : tuple of str
        The tables that would be needed.
    """

    reason: str
    tables: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return self.reason


def first_missing(values: Iterable[object]) -> Missing | None:
    """Return the first :class:`Missing` among ``values``, or None."""
    return next((v for v in values if isinstance(v, Missing)), None)
