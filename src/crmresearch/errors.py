"""What can go wrong, and what is merely missing.

Few types, so that a reader can filter them: :class:`CrmError` stops, :class:`CrmWarning` is worth reading,
:class:`Missing` is an answer ("this bank brings no such table") and never an exception.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


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


@dataclass(frozen=True)
class Withheld(Missing):
    """Stands for an estimate that was computed, and that the rules of disclosure do not tell."""


def first_missing(values: Iterable[object]) -> Missing | None:
    """Return the first :class:`Missing` among ``values``, or None."""
    return next((v for v in values if isinstance(v, Missing)), None)


class Reader:
    """Who asks: a caller of the library, whom errors tell what to mend, or a notebook, which must go on."""

    in_notebook = False  # set by notebook.start


def answered(
    turn: Callable[[Missing], Any] = lambda missing: missing,
    always: tuple[type[CrmError], ...] = (),
    *tables: str,
    passing: bool = True,
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Make a function answer with what ``turn`` makes of a :class:`Missing` where it has nothing else to say.

    A :class:`Missing` argument is handed on (unless ``passing`` is False: the function deals with them itself). Errors
    of the types ``always`` become an answer; in a notebook, so does every unusable input and every failed fit. There
    the outermost call answers alone: what a function calls inside raises, as everywhere.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            missing = first_missing((*args, *kwargs.values())) if passing else None
            if missing is not None:
                return cast(T, turn(missing))
            asked, Reader.in_notebook = Reader.in_notebook, False
            caught = (InputError, FitError) if asked else always
            try:
                return function(*args, **kwargs)
            except caught as error:
                return cast(T, turn(Missing(str(error), getattr(error, "tables", ()) or tables)))
            except ValueError as error:
                if not asked or type(error).__name__ != "LinAlgError":  # of numpy: a matter of the bank's numbers
                    raise
                return cast(
                    T, turn(Missing(f"a model has no solution here, as where columns do not vary ({error})", tables))
                )
            finally:
                Reader.in_notebook = asked

        return wrapper

    return decorate
