"""What an estimator returns: a table, one sentence, a plot, its assumption checks and its findings.

A :class:`Result` holds no table but the protected one (:mod:`crmresearch.disclosure`), so whatever is made from it, on
display or in a file, is made from what may leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import wraps
from html import escape
from typing import TYPE_CHECKING, Any, Literal, ParamSpec

import pandas as pd

from crmresearch import disclosure, figures, words
from crmresearch.disclosure import Counts
from crmresearch.errors import FitError, InputError, Missing, NotApplicable, Reader, Withheld, answered
from crmresearch.estimators import verdicts
from crmresearch.estimators.inference import Estimate, sizes
from crmresearch.estimators.verdicts import Deviation
from crmresearch.figures import Picture
from crmresearch.rules import blunt, rules

if TYPE_CHECKING:
    from matplotlib.axes import Axes


P = ParamSpec("P")
say = words.of("top.result")


@dataclass(frozen=True)
class Check:
    """One assumption, looked at.

    Parameters
    ----------
    name : str
        The assumption in a few words, e.g. ``"proportional hazards"``.
    status : {'open', 'closed', 'declared'}
        ``open``: the data do not speak against it. ``closed``: they do, and the verdict is ``blocked``. ``declared``:
        data cannot show it (latent confounding, say); it allows ``undecided`` at most, an association aside.
    detail : str
        One sentence with the value and the threshold.
    deviation : Deviation, optional
        How far the assumption is from holding, where that was measured: the ledger looks at all measured gates of a
        line together and may call an open one doubtful, or a weak check.
    """

    name: str
    status: Literal["open", "closed", "declared"]
    detail: str
    deviation: Deviation | None = None

    @classmethod
    def of(cls, name: str, passed: bool, detail: str) -> Check:
        """Make a check from a truth value."""
        return cls(name, "open" if passed else "closed", detail)


def gate(tell: words.Words, key: str, passed: bool | Deviation | None, **values: Any) -> Check:
    """Make a check whose name and detail are the templates ``key.name`` and ``key.detail``; ``None`` is declared.

    What was measured (a :class:`.Deviation`) is closed where its interval lies wholly beyond the limit; interval and
    limit are added to the detail.
    """
    detail, measured = tell(f"{key}.detail", **values), passed if isinstance(passed, Deviation) else None
    if isinstance(passed, Deviation):
        limit = say("least" if passed.least else "most", limit=passed.limit)
        detail, passed = say("measured", detail=detail, found=passed, limit=limit), not passed.closed
    status: Literal["open", "closed", "declared"] = "declared" if passed is None else "open" if passed else "closed"
    return Check(tell(f"{key}.name"), status, detail, measured)


def one_in(*given: object) -> float:
    """One customer in how many the smallest sample among frames is of; 1 where all were studied."""
    return max((float(a.attrs.get("one_in", 1)) for a in given if isinstance(a, pd.DataFrame)), default=1.0)


def sampled(sentence: str, *given: object) -> str:
    """Add that only part of the customers was studied, where that is so."""
    part = one_in(*given)
    return sentence if part == 1 else words.joined([sentence, say("sampling", one_in=part)], by=" ")


STATES = ("open", "weak check", "doubtful", "closed", "declared")


def states(checks: Iterable[Check]) -> list[tuple[str, Check]]:
    """State of each gate of a line: those that were measured are looked at together."""
    known = list(checks)
    measured = [c.deviation for c in known if c.deviation is not None]
    found = iter(verdicts.gates(measured))
    out = []
    for c in known:
        if c.deviation is None:
            out.append((str(c.status), c))
        else:
            state, weak = next(found)
            out.append(("weak check" if weak else state, c))
    return out


def unlooked(name: str) -> Check:
    """Make the check of an assumption that this bank's data are too few to look at: it is taken on trust."""
    return Check(name, "declared", say("unlooked"))


@dataclass(frozen=True)
class Result:
    """Table, sentence, plot, checks and estimates of one analysis.

    Parameters
    ----------
    table : DataFrame
        Aggregates only; what the rules hide is taken out at once.
    sentence : str
        The answer in one sentence, rendered from values.
    checks : tuple of Check
        Assumptions that hold for every estimate of this result.
    estimates : mapping of str to Estimate or Missing
        By ledger line, e.g. ``{"S40": Estimate(...)}``; a line for which this bank lacks something is ``Missing``.
    picture : Picture or tuple of Picture, optional
        What :meth:`plot` draws: data and the name of a kind of figure; several stand side by side.
    counts : sequence of str, or of sequences of str, optional
        Columns of ``table`` that count people, those of one group a whole and its parts; ``()`` where no row is about
        people. By default what the table was protected by, or its column ``n``; a table with neither is refused.
    money : sequence of str
        Columns of ``table`` that are sums, means, quantiles or shares of money over the people of a row. Whose it is
        says a column ``whose`` (:func:`.rules.whose`), which such a table needs, and so does a figure in money.
    digits : int
        Digits after the point on display.
    details : mapping
        Objects for further computation (fits, curves, resamples); never displayed.
    model : object, optional
        The fitted library object behind the table, for going on from here; never displayed, as it may hold rows of
        customers.
    """

    table: pd.DataFrame
    sentence: str
    checks: tuple[Check, ...] = ()
    estimates: Mapping[str, Any] = field(default_factory=dict)
    picture: Picture | tuple[Picture, ...] | None = None
    counts: Counts | None = None
    digits: int = 3
    details: Mapping[str, Any] = field(default_factory=dict)
    missing: Missing | None = None
    money: Sequence[str] = ()
    model: Any = None
    hidden: Mapping[str, int] = field(init=False, default_factory=dict)  # rows, by the rule that hides them
    off: Mapping[float, float] = field(init=False, default_factory=dict)  # numbers of hidden rows: people behind each
    fitted: frozenset[tuple[float, ...]] = field(init=False, default=frozenset())  # rows, parameters, events

    def __post_init__(self) -> None:
        """Pass the table through the door, and keep nothing else of it."""
        safe = disclosure.declared(self.table, self.counts)
        shown = [unit for p in self.pictures for unit in (p.options.get("unit"), p.options.get("x_unit"))]
        told_of = len(safe.frame) or any(isinstance(e, Estimate) for e in self.estimates.values())
        if (self.money or "money" in shown) and told_of and not safe.frame.attrs.get(disclosure.WHOSE):
            raise InputError(
                f"a table of money ({', '.join(self.money) or 'in its figure'}) does not say whose it is; add a column "
                "whose, from rules.whose of what each person contributes"
            )
        off = safe.frame.attrs.pop(disclosure.OFF, {})
        for name, value in (("table", safe.frame), ("counts", safe.counts), ("hidden", safe.rules), ("off", off)):
            object.__setattr__(self, name, value)

    @classmethod
    def not_applicable(cls, missing: Missing) -> Result:
        """Return the result of a study whose data are not there."""
        return cls(pd.DataFrame(), say("not_applicable", missing=missing), missing=missing, counts=())

    @property
    def applicable(self) -> bool:
        """Whether the bank had what this study needs."""
        return self.missing is None

    def finding(self, line: str) -> Estimate | Missing:
        """Return the estimate of one ledger line, or why there is none."""
        if self.missing is not None:
            return self.missing
        try:
            estimate = self.estimates[line]
        except KeyError:
            raise InputError(
                f"this result has no estimate for {line}; it has {', '.join(self.estimates) or 'none'}"
            ) from None
        if isinstance(estimate, Missing):
            return estimate
        own = {c.name for c in estimate.checks}
        merged = estimate.checks + tuple(c for c in self.checks if c.name not in own)
        return replace(estimate, checks=merged)

    @property
    def gates(self) -> list[tuple[str, Check]]:
        """Every gate, of the result or of one of its estimates, once: in the worst state that a line sees it in."""
        own = [self.finding(line) for line, e in self.estimates.items() if isinstance(e, Estimate)]
        found: dict[tuple[str, str], tuple[str, Check]] = {}
        for checks in [self.checks, *(e.checks for e in own if isinstance(e, Estimate))]:
            for state, c in states(checks):
                key = (c.name, c.detail)
                if key not in found or STATES.index(found[key][0]) < STATES.index(state):
                    found[key] = (state, c)
        return list(found.values())

    def plot(self, ax: Axes | None = None) -> Any:
        """Draw the result; return the axes (an array of axes if it has several panels), or None."""
        return None if self.picture is None else figures.draw(self.picture, ax)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """What is drawn, one by one."""
        return self.picture if isinstance(self.picture, tuple) else (self.picture,) if self.picture else ()

    @property
    def alt(self) -> str:
        """What one sees in the plot, for readers who do not see it: told from the data that are drawn."""
        return figures.told(self.pictures)

    def __repr__(self) -> str:
        parts = [self.sentence]
        if len(self.table):
            parts += [disclosure.text(self.table, self.digits), *([""] if self.gates else [])]  # no gate is a row of it
        parts += [f"[{words.local(state)}] {c.name}: {c.detail}" for state, c in self.gates]
        return "\n".join(parts)

    def _repr_html_(self) -> str:
        html = [f"<p>{escape(self.sentence)}</p>"]
        if len(self.table):
            html.append(disclosure.html(self.table, self.digits))
        if self.gates:
            items = "".join(
                f"<li><strong>{escape(words.local(state))}</strong> {escape(c.name)}: {escape(c.detail)}</li>"
                for state, c in self.gates
            )
            html.append(f"<p>{say('gates')}</p><ul>{items}</ul>")
        return "\n".join(html)


def _without_hidden(result: Result) -> Result:
    """Take from a result the estimates of its hidden rows, and the sentence and titles that may tell of such rows."""
    found = {k: e for k, e in result.estimates.items() if isinstance(e, Estimate)}
    own = {k for k, e in found.items() if any(e.n <= n and blunt(v, e.n) == e.value for v, n in result.off.items())}
    if own or (result.money and result.hidden):
        why = words.joined([*result.hidden])
        told = {k: Withheld(say("row")) if k in own else e for k, e in result.estimates.items()}
        drawn = tuple(replace(p, title=say("kept_title", why=why)) for p in result.pictures)
        for name, value in (("estimates", told), ("sentence", say("kept", why=why)), ("picture", drawn or None)):
            object.__setattr__(result, name, value)
    return result


def leading(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Return a table with these columns first, as far as it has them: what a row is, then what was found."""
    first = [c for c in columns if c in table]
    return table[[*first, *(c for c in table if c not in first)]]


def study(function: Callable[P, Result], *tables: str) -> Callable[P, Result]:
    """Let a study pass on what is missing, and say why when the data are too few for its model.

    Given a :class:`Missing` argument it returns a result that says so, and where it raises :class:`.NotApplicable`. A
    model that cannot be fitted (a bank with a handful of exits, say) is no error of the run either: the result is not
    applicable, with the reason; in a notebook, so are data that the study refuses (see :func:`.answered`), estimates
    that all rest on too few people to be shown, and money whose whole table is hidden, as sentence and estimates are
    made of the same people. Every model that was fitted on the way says how large it is (:func:`.sized`): where one
    leaves too few residual degrees of freedom, or has too few events a parameter, nothing of the result is told.
    ``tables`` are those that it would need, where the reason names none.
    """
    guarded = answered(Result.not_applicable, (NotApplicable, FitError), *tables)(function)

    @wraps(function)
    def enough(*args: P.args, **values: P.kwargs) -> Result:
        with sizes() as fitted:
            result = guarded(*args, **values)
        if result.applicable:
            object.__setattr__(result, "sentence", sampled(result.sentence, *args, *values.values()))
        if result.applicable and not all(disclosure.model_allowed(*size) for size in fitted):
            return Result.not_applicable(
                Withheld(say("freedom", least=rules.freedom, events=rules.per_parameter), tables)
            )
        object.__setattr__(result, "fitted", frozenset(fitted))
        if not Reader.in_notebook:
            return result
        estimates = [e for e in result.estimates.values() if result.counts and isinstance(e, Estimate)]
        few = [disclosure.few(e.n) for e in estimates]
        if few and all(few):
            return Result.not_applicable(Withheld(few[0], tables))
        if result.money and 0 < len(result.table) == sum(result.hidden.values()):
            return Result.not_applicable(Withheld(say("hidden", why=words.joined([*result.hidden])), tables))
        return _without_hidden(result)

    return enough
