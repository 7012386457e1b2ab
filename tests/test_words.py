"""Words and code agree: every key exists, placeholders are what is given, no template lies unused."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any

import numpy as np
import pytest

from crmresearch import words
from crmresearch.errors import InputError, Missing
from crmresearch.estimators.inference import Estimate
from crmresearch.lab import simulated

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "crmresearch"
LANGUAGES = sorted(p.stem for p in (PACKAGE / "words").glob("*.yaml"))


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Templates of a language by key; what translates the English of elsewhere is none."""
    for key, value in node.items():
        here = f"{path}.{key}" if path else str(key)
        if here == "elsewhere":
            continue
        if isinstance(value, dict):
            yield from leaves(value, here)
        else:
            yield here, str(value)


def placeholders(template: str) -> set[str]:
    """Values a template names; those within a format count too."""
    found = set()
    for _, name, spec, _ in Formatter().parse(template):
        if name is not None:
            found.add(re.split(r"[.\[]", name)[0])
            found |= placeholders(spec or "")
    return found


def literals(node: ast.expr) -> list[str] | None:
    """Texts an expression can be: a literal, or a choice between literals."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        first, second = literals(node.body), literals(node.orelse)
        return first + second if first is not None and second is not None else None
    return None


def branches(tree: ast.AST) -> dict[str, str]:
    """Names that stand for a branch of the words, as in ``say = words.of("churn.causes")``."""
    out = {}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and ast.unparse(node.value.func) in ("words.of", "of")
            and isinstance(node.targets[0], ast.Name)
        ):
            out[node.targets[0].id] = ast.literal_eval(node.value.args[0])
    return out


OBSCURE: list[str] = []


def sources() -> Iterator[tuple[str, str]]:
    """Name and code of every module and every notebook."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), path.read_text("utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        yield path.name, "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def uses(name: str, code: str) -> Iterator[tuple[str, set[str] | None, str]]:
    """Every template that code asks for: key, values given (None: plain names), and where."""
    tree = ast.parse(code)
    known = branches(tree)
    passed_on = {
        id(inner)
        for f in ast.walk(tree)
        if isinstance(f, ast.FunctionDef) and known.keys() & {a.arg for a in f.args.args}
        for inner in ast.walk(f)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in passed_on:
            continue
        where = f"{name}:{node.lineno}"
        called = node.func
        owner = called.value if isinstance(called, ast.Attribute) and called.attr == "names" else called
        given: set[str] | None = {str(k.arg) for k in node.keywords}
        if isinstance(owner, ast.Name) and owner.id in known and node.args:
            keys, branch = literals(node.args[0]), known[owner.id]
            if keys is None or "None" in (given or ()):
                OBSCURE.append(f"{where}: key and values must be written out, not made or unpacked")
                continue
            yield from ((f"{branch}.{k}", None if owner is not called else given, where) for k in keys)
        elif isinstance(called, ast.Name) and called.id == "gate" and isinstance(node.args[0], ast.Name):
            keys, branch = literals(node.args[1]), known[node.args[0].id]
            given = (given or set()) - {"verdict"}
            if keys is None or "None" in given:
                OBSCURE.append(f"{where}: key and values must be written out, not made or unpacked")
                continue
            for key in keys:
                yield f"{branch}.{key}.name", set(), where
                yield f"{branch}.{key}.detail", given, where


USES = [use for name, code in sources() for use in uses(name, code)]


def test_keys_and_values_are_written_out():
    assert OBSCURE == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_key_exists_and_names_the_values_it_is_given(language):
    tree = dict(leaves(words.catalogue(language)))
    wrong = []
    for key, given, where in USES:
        if given is None:
            if not any(k.startswith(f"{key}.") for k in tree):
                wrong.append(f"{where}: no names under {key}")
        elif key not in tree:
            wrong.append(f"{where}: no template {key}")
        elif placeholders(tree[key]) != given:
            wrong.append(f"{where}: {key} names {sorted(placeholders(tree[key]))}, given {sorted(given)}")
    assert wrong == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_template_lies_unused(language):
    asked = {key for key, given, _ in USES if given is not None}
    trees = tuple(f"{key}." for key, given, _ in USES if given is None)
    unused = [k for k, _ in leaves(words.catalogue(language)) if k not in asked and not k.startswith(trees)]
    assert unused == []


# --- languages --------------------------------------------------------------------------------------------------------

ENGLISH = dict(leaves(words.catalogue("en")))
OTHERS = [x for x in LANGUAGES if x != "en"]
# what is no name and yet the same in every language: statistics, commands, tables and columns of the contract
SAME = re.findall(
    r"\S+",
    """rho alpha omega gamma gamma-gamma probit logit cloglog beta zh_CN Brier Jaccard Holm
    lifelines doi plspm pair a n p q
    csv yaml bank crmresearch run list make recover constructs from to tables monthly transactions reductions value
    tenure_windows contribution_ channel segment acquisition by window referrer_id calibration_share worlds
    day week month centroid factorial path base churn cost loyalty all months on book""",
)


def fields(template: str) -> list[tuple[str, str]]:
    """What a template does with its values: each with its format, so that a number is told alike in every language."""
    found = [(f"{name}!{turn}" if turn else name, re.sub(r"^[^|]*\|[^|]*", "|", spec or ""))
             for _, name, spec, turn in Formatter().parse(template) if name is not None]  # fmt: skip
    return sorted(found)


def written_in_english() -> set[str]:
    """What readers see of the register, the catalogue, the simulated bank and the notebooks."""
    import yaml

    from crmresearch import ledger, parameters
    from crmresearch.run.site import pages

    found = {
        text
        for line in ledger.lines().values()
        for text in (line.claim, line.estimand, line.unit, line.because, line.why)
    }
    found |= {change["why"] for change in ledger.listed("changes")} | {b["benefit"] for b in ledger.listed("benefits")}
    catalogue = yaml.safe_load((PACKAGE / "data" / "catalogue.yaml").read_text("utf-8"))
    banks = [*catalogue.values(), *(simulated.about(simulated.Settings(world=w)) for w in simulated.world_names())]
    found |= {text for bank in banks for text in (bank["title"], *bank["cannot_answer"])}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        found |= {p.comment for p in parameters.read(path).values()}
        found |= {pages._title(json.loads(path.read_text("utf-8"))), pages._label(path.stem).partition(" ")[2]}
    return {" ".join(text.split()) for text in found if text}


def codes() -> set[str]:
    """Words of the program that readers see: verdicts, answers, designs, evidence, sides of a bound."""
    from crmresearch.run.site import chips

    groups = ("answers", "verdicts", "designs", "truths", "evidence")
    return {k for group in groups for k in chips.say.names(group)} | {"above", "below", "yes", "no", ".", ";"}


@pytest.mark.parametrize("language", OTHERS)
def test_languages_have_the_same_keys_and_values(language):
    tree = dict(leaves(words.catalogue(language)))
    assert list(tree) == list(ENGLISH)
    assert {k: fields(v) for k, v in tree.items()} == {k: fields(v) for k, v in ENGLISH.items()}
    assert [k for k, v in tree.items() if not v.strip() and ENGLISH[k].strip()] == []


@pytest.mark.parametrize("language", OTHERS)
def test_what_is_written_in_english_elsewhere_is_translated(language):
    groups = words.catalogue(language)["elsewhere"]
    known = [text for name, group in groups.items() if name != words.CELLS for text in group]
    needed = written_in_english() | codes()
    assert sorted(needed - set(known)) == []
    assert (
        sorted(
            t
            for g in groups
            if g not in ("codes", "columns", "values", words.CELLS, "refusals", "headings", "theme")
            for t in groups[g]
            if t not in needed
        )
        == []
    )
    assert len(known) == len(set(known))


def test_no_english_is_left_in_chinese():
    tree = words.catalogue("zh")
    elsewhere = [pair for group in tree["elsewhere"].values() for pair in group.items()]
    left = []
    for english, text in [*((ENGLISH[k], v) for k, v in leaves(tree)), *elsewhere]:
        plain = re.sub(r"[{][^{}]*[}]|`[^`]*`|<[^>]*>|[]][(][^)]*[)]|[\w-]+[.](?:csv|html)", " ", text)
        for word in re.findall(r"(?<![A-Za-z0-9_])[A-Za-z][A-Za-z_]*(?:-[A-Za-z]+)*", plain):
            name = word.isupper() or (not word.islower() and word in english)
            if not name and word not in SAME and word not in simulated.world_names():
                left.append((word, text))
    assert left == []


class Any_(float):
    """A value of whatever kind a template takes."""

    def __getattr__(self, name: str) -> Any_:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> Any_:
        return self

    def __format__(self, spec: str) -> str:
        spec = re.sub(r"^[^|]*\|[^|]*\|?", "", spec)  # words for a direction
        spec = re.sub("m$", "f", spec)
        return "2026-11" if spec.startswith("%") else format(float(self), spec) if "d" not in spec else str(int(self))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_template_can_be_filled(language):
    for key, text in leaves(words.catalogue(language)):
        filled = text.format_map({name: Any_(2.0) for name in placeholders(text)})
        assert "{" not in filled, key


def test_no_study_holds_a_sentence():
    found = []
    for path in sorted((PACKAGE / "studies").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        docs = {
            id(n.body[0].value)
            for n in ast.walk(tree)
            if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef) and n.body and isinstance(n.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            text = node.value if isinstance(node, ast.Constant) and id(node) not in docs else ""
            if isinstance(text, str) and " " in text and len(re.findall(r"[^\W\d_]{2,}", text)) >= 4:
                found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}: {text[:60]}")
    assert found == []


# --- the catalogue itself ---------------------------------------------------------------------------------------------


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(
        words, "catalogue", lambda _: {"a": {"b": {"kept": "{row[kept]:.1%} of {n:,}", "names": {"x": "an x"}}}}
    )
    return words.of("a.b")


def test_templates_carry_their_formats(small):
    assert small("kept", row={"kept": 0.4567}, n=1234) == "45.7% of 1,234"
    assert small.names("names") == {"x": "an x"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_number_that_counts_others_stands_where_a_count_of_people_does(language):
    told = re.compile(r"(?i:customers|clients|persons|people|prospects|respondents) ?[=:] ?[{](?!told|ranked)[^}:]*[}]")
    assert [text for _, text in leaves(words.catalogue(language)) if told.search(text)] == []  # the scan withheld a run


def test_unknown_keys_and_forgotten_values_are_refused(small):
    with pytest.raises(InputError, match=r"no words for a\.b\.lost"):
        small("lost")
    with pytest.raises(InputError, match=r"a\.b\.kept needs a value that is not there: 'n'"):
        small("kept", row={"kept": 1.0})


def test_a_language_without_words_is_refused_with_those_there_are():
    with pytest.raises(InputError, match=r"no words in the language 'xx'; there are .*en"):
        words.catalogue("xx")


def told(node: ast.expr) -> str | None:
    """A text as it is written, with a number for each value; nothing where it is put together elsewhere."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "17" for v in node.values)
    return None


def refusals() -> Iterator[tuple[str, str]]:
    """Reasons why something cannot be answered, as reductions and estimators write them."""
    for part in ("data", "estimators"):
        for path in sorted((PACKAGE / part).rglob("*.py")):
            tree = ast.parse(path.read_text("utf-8"))
            named: dict[str, list[str]] = {}
            for node in ast.walk(tree):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and told(node.value):
                    named.setdefault(node.targets[0].id, []).append(str(told(node.value)))
            for node in ast.walk(tree):
                called = ast.unparse(node.func) if isinstance(node, ast.Call) and node.args else ""
                if called in ("Missing", "NotApplicable", "FitError", "reasons.append"):
                    [first, *_] = node.args
                    own = named.get(first.id, []) if isinstance(first, ast.Name) else [told(first)]
                    yield from ((path.name, text) for text in own if text)


@pytest.mark.parametrize("language", OTHERS)
def test_reasons_are_translated(language, monkeypatch):
    monkeypatch.setenv(words.LANGUAGE, language)
    assert [(where, text) for where, text in refusals() if words.local(text) == text] == []
    monkeypatch.setenv(words.LANGUAGE, "en")
    assert all(words.local(text) == text for _, text in refusals())


def test_several_reasons_are_translated_one_by_one(monkeypatch):
    monkeypatch.setenv(words.LANGUAGE, "zh")
    first, second = "the bank 'own' brings no table survey", "the survey has no wave 3; it has 2"
    both = words.local(f"{first}; table customers of the bank 'own' brings no column city")
    assert both.startswith(words.local(first))
    assert "table" not in both
    assert "wave" not in words.local(second)
    assert "own" in both
    for name in ("customers", "transactions", "survey"):  # names of tables, some of which are words of columns, too
        assert f" {name} " in words.local(f"the bank 'own' brings no table {name}")
    apart = "a covariate separates those who left from those who stayed (see the separation gate)"
    assert "covariate" not in words.local(f"with 59 exits, a Cox regression does not converge; {apart}")
    assert words.cell("kept") != words.local("kept")  # a stage, and the column of a share
    assert words.back(words.cell("customers")) == "customers"


# --- few people -------------------------------------------------------------------------------------------------------

PEOPLE = r"customers?|prospects?|persons?|people|respondents?|exits?|wins|answers"


def test_a_count_of_people_is_written_so_that_few_are_not_told():
    """Only whole numbers written with a comma pass the door that makes <10 of few."""
    asked = {"least", "needed", "threshold", "cell", "by", "cause"}  # what is wanted, and what they are
    found = {k: re.findall(rf"[{{](\w+)[}}] (?:{PEOPLE})\b", text) for k, text in ENGLISH.items()}
    assert {k: names for k, names in found.items() if set(names) - asked} == {}


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("income is missing or infinite in 3 of 120 rows; drop or fill them first", "infinite in <10 of 120 rows"),
        ("4 customers; the jackknife needs 100", "<10 customers; the jackknife needs 100"),
        ("7 exits and 12 customers without one in 12 months", "<10 exits and 12 customers"),
        ("1,204 rows are missing", "1,204 rows are missing"),
        ("worth (n = 1,005 persons)", "worth (n = 1,005 persons)"),
        ("n = 453 to 1,597, exits over expected", "n = 453 to 1,597, exits over expected"),
        ("10,009 customers, 2.5 exits a month", "10,009 customers, 2.5 exits a month"),
        ("concentration needs at least 2 customers", "at least 2 customers"),
        ("spend takes 2 values; a response curve needs at least three", "spend takes 2 values"),
    ],
)
def test_reasons_tell_no_number_of_few_people(reason, told):
    assert told in words.told(reason)
    assert told in words.of("top.result")("not_applicable", missing=Missing(reason))


DIRECTED = re.compile(
    r"\b(?:rose|fell|rises?|falls?|grew|drop(?:s|ped)|raises?|lowers?)(?: \w+){0,3} by \{[^}|]*:[^}|]*[fm%]\}"
    r"|\b(?:gains|loses|saves|keeps|adds) \{[^}|]*:[^}|]*[fm%]\}"
    r"|\{[^}|]*:[^}|]*[fm%]\}(?: \[[^\]]*\])?(?: (?!or )[a-z]+)? (?!or )"
    r"(?:more|less|fewer|higher|lower|longer|shorter)\b(?! \{)"
    r"|(?:上升|下降|升高|降低|多|少|高|低)(?:留住|值)? ?\{[^}|]*:\+[^}|]*[fm%]\}"
)
ONE_SIGN = {  # written only where the number has that sign, or has but one
    "churn.randomised.title_fewer": "lowers exits by {points:.1f}",
    "churn.randomised.title_more": "raises exits by {points:.1f}",
    "cost.saved.title": "keeps {kept.value:.1%}",
    "strategy.paid.title_loses": "loses {loss:,.2m}",
    "strategy.aimed.title": "keeps {kept.value:.1f}",
    "strategy.held.title": "adds {found.value:.2f}",
    "cost.losing.five.sentence": "{points:.0f} points more",  # a parameter above 0
    "cost.losing.five.undiscounted": "rises by {gain:.0%}",
    "cost.split.budget": "adds {gain:,.1m}",  # the best split is no worse than today's
    "loyalty.structure.prediction.sentence": "saves {low:.0%}",  # the smaller end of a range
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_number_that_may_be_negative_is_behind_no_word_for_one_direction(language):
    found = {}

    def walk(node, key):
        for part, below in node.items() if isinstance(node, dict) else ():
            walk(below, f"{key}.{part}".lstrip("."))
        if isinstance(node, str) and (match := DIRECTED.search(node)):
            found[key] = match[0]

    walk(words.catalogue(language), "")
    assert found == (ONE_SIGN if language == "en" else {})


@pytest.mark.parametrize(
    ("spec", "value", "told"),
    [
        (",.0m", 0.0321, "0.032"), (",.0m", 3.14, "3.1"), (",.0m", 5, "5"), (",.0m", 31.4, "31"), (",.0m", 0, "0"),
        ("+,.2m", -0.00456, "-0.0046"), ("+,.2m", 1234.567, "+1,234.57"), (",.2m", 1_234_567.89, "1,234,568"),
        (",.0m", 1_500_000, "1,500,000"), (",.1m", float("inf"), "inf"), (",.2m", np.float64("nan"), "–"),
        (",.2m", Estimate(0.004, -0.02, 200_000.4, "", 60), "0.0040 [-0.020, 200,000]"),
    ],
)  # fmt: skip
def test_money_of_any_currency_is_told_by_digits_that_count(spec, value, told):
    """In dinars what a customer brings was 0, in yen edges of bands were 1.5e+06."""
    assert words.careful.format(f"{{x:{spec}}}", x=value) == told


@pytest.mark.parametrize(
    ("template", "value", "told"),
    [
        ("exits {x:rose|fell} by {x:||.1%}", 0.006, "exits rose by 0.6%"),
        ("exits {x:rose|fell} by {x:||.1%}", -0.006, "exits fell by 0.6%"),
        ("流失{x:上升|下降} {x:||.1%}", -0.006, "流失下降 0.6%"),
        ("{x:||,.0f} {x:more|less}", Estimate(-7.0, -9.0, 2.0, "", 60), "7 [-2, 9] less"),
        ("{x:||,.0f} {x:more|less}", Estimate(7.0, -2.0, 9.0, "", 60), "7 [-2, 9] more"),
        ("{x:||,.0f} {x:more|less}", Estimate(-7.0, -9.0, 2.0, "", 6), "– more"),
        ("{x:more|less}", float("nan"), "more"),
        ("{x:||,.0m} {x:more|less}", Estimate(-0.0321, -0.2, 1.5, "", 60), "0.032 [-1.5, 0.20] less"),
    ],
)
def test_a_direction_is_said_in_words_and_not_by_a_sign(template, value, told):
    assert words.careful.format(template, x=value) == told
