"""What leaves as a package: only what passes, a manifest to sign, the same bytes, and no difference of a few people."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import stat
import zipfile
from pathlib import Path

import pytest

from crmresearch.errors import InputError
from crmresearch.run.people import People
from crmresearch.run.release import _rounded, release
from crmresearch.run.scan import scan
from test_scan import png

NOBODY = People.called(["client-0007"])


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Write a small run of a bank in some state; return its folder."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))

    def written(name: str, data: str, rows: str, bank: str = "mine") -> Path:
        run = tmp_path / name
        files = {
            "run.json": json.dumps({"bank": {"name": bank}, "fingerprints": {"data": data}}),
            "ledger.csv": "line_id,estimate,n\nS01,0.5,400\nS34,0,9\n",
            "disclosure.json": '{"suppressed": {"01_a_groups.csv": {"rows": 2, "rule": "fewer than 10 people"}}}',
            "tables/01_a_groups.csv": "group,share,n,left\n" + rows,
            "figures/01_a_curve.txt": "A curve that falls.",
            "notebooks/01_a.ipynb": "{}",
            "site/index.html": "<p>page</p>",
            "restricted/01_a_list.csv": "customer_id\nclient-0007\n",
            "logs/01_a.log": "",
        }
        for file, text in files.items():
            (run / file).parent.mkdir(parents=True, exist_ok=True)
            (run / file).write_text(text)
        (run / "figures" / "01_a_curve.png").write_bytes(png())
        return run

    return written


ROWS = "branch,0.512345678,300,40\nonline,0.412345678,100,12\nother,,,\n"


def content(out: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(out) as file:
        assert file.testzip() is None
        return {name: file.read(name) for name in file.namelist()}


def test_what_passes_is_packed_with_a_manifest_to_sign_and_the_same_bytes(make, tmp_path):
    run = make("run", "d1", ROWS)
    done = release(run, tmp_path / "a.zip", NOBODY)
    found = content(tmp_path / "a.zip")
    assert {name.split("/")[0] for name in found} == {
        "run.json", "ledger.csv", "disclosure.json", "tables", "figures", "notebooks", "site",
        "manifest.csv", "sign.txt",
    }  # fmt: skip
    manifest = {row["path"]: row for row in csv.DictReader(io.StringIO(found["manifest.csv"].decode()))}
    assert set(manifest) | {"manifest.csv", "sign.txt"} == set(found)
    table = manifest["tables/01_a_groups.csv"]
    assert (table["rows"], table["smallest count"], table["rows suppressed"]) == ("3", "12", "2")
    assert table["rules"] == "fewer than 10 people"
    assert table["sha256"] == hashlib.sha256(found["tables/01_a_groups.csv"]).hexdigest()
    assert manifest["figures/01_a_curve.png"]["what it is"] == "figure: A curve that falls."
    assert done.fingerprint == hashlib.sha256(found["manifest.csv"]).hexdigest()
    assert done.fingerprint in found["sign.txt"].decode()
    assert release(run, tmp_path / "b.zip", NOBODY).fingerprint == done.fingerprint
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with pytest.raises(InputError, match=r"a\.zip is there already"):
        release(run, tmp_path / "a.zip", NOBODY)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("site/leak.html", "<p>client-0007</p>"),
        ("tables/small.csv", "group,n\nx,3\n"),
        ("report.pdf", "%PDF\0\1"),
        ("tables/packed.csv.bz2", "BZh91AY&SY\x11\x02 without a zero"),
        ("tables/path.csv", "group,from\nx,/" + "data/bank\n"),
    ],
)
def test_what_does_not_pass_stays_and_is_named(make, tmp_path, name, text):
    run = make("run", "d1", ROWS)
    (run / name).write_text(text)
    done = release(run, tmp_path / "a.zip", NOBODY)
    assert {b.file for b in done.left_out} == {name}
    assert name not in content(tmp_path / "a.zip")


@pytest.mark.parametrize(
    ("file", "text", "secret"),
    [
        ("figures/01_a_curve.txt", "A curve of client-0007.", "client-0007"),
        ("figures/01_a_curve.txt", "A curve of 3 customers.", "3 customers"),
        (
            "disclosure.json",
            '{"suppressed": {"01_a_groups.csv": {"rows": 2, "rule": "of client-0007"}}}',
            "client-0007",
        ),
    ],
)
def test_what_does_not_pass_is_told_by_no_manifest(make, tmp_path, file, text, secret):
    run = make("run", "d1", ROWS)
    (run / file).write_text(text)
    release(run, tmp_path / "a.zip", NOBODY)
    found = content(tmp_path / "a.zip")
    assert file not in found
    assert [name for name, part in found.items() if secret.encode() in part] == []


@pytest.mark.parametrize(
    ("cut", "data", "refused"),
    [
        (("to 13", 303, "from 13", 97), "d1", True),
        (("to 13", 309, "from 13", 91), "d1", True),
        (("to 11", 300, "from 11", 93), "d1", True),
        (("to 13", 310, "from 13", 90), "d1", False),
        (("to 13", 300, "from 13", 100), "d1", False),
        (("to 13", 303, "from 13", 97), "d2", False),  # another quarter
    ],
)
def test_the_same_people_cut_at_another_edge_tell_of_nobody(make, tmp_path, cut, data, refused):
    rows = "{},0.5123457,{},40\n{},0.4123457,{},20\n"
    release(make("first", "d1", rows.format("to 12", 300, "from 12", 100)), tmp_path / "first.zip", NOBODY)
    second = make("second", data, rows.format(*cut))
    if not refused:
        release(second, tmp_path / "second.zip", NOBODY)
        return
    with pytest.raises(InputError, match=r"01_a_groups\.csv differ .*release with --round"):
        release(second, tmp_path / "second.zip", NOBODY)
    release(second, tmp_path / "second.zip", NOBODY, rounded=True)


@pytest.mark.parametrize(
    ("rows", "data", "refused"),
    [
        (ROWS, "d1", False),  # the same once more
        (ROWS.replace("300", "301"), "d2", True),  # one customer more
        (ROWS.replace("300", "291"), "d2", True),
        (ROWS.replace(",40", ",41"), "d1", True),  # another parameter tells one apart
        (ROWS.replace("300", "310").replace(",40", ",50"), "d2", False),
        (ROWS.replace("0.512345678", "0.512345679"), "d2", True),  # one changed for another
        (ROWS.replace("0.512345678", "0.612345679"), "d1", False),  # the same people, another question
        (ROWS.replace("branch", "branches"), "d2", False),
        (ROWS.replace("0.512345678", "0.5"), "d1", False),
    ],
)
def test_a_release_that_differs_by_a_few_people_is_refused_and_the_remedy_works(make, tmp_path, rows, data, refused):
    release(make("first", "d1", ROWS), tmp_path / "first.zip", NOBODY)
    second = make("second", data, rows)
    if not refused:
        release(second, tmp_path / "second.zip", NOBODY)
        return
    with pytest.raises(InputError, match=r"01_a_groups\.csv differ .* fewer than 10 people.*release with --round"):
        release(second, tmp_path / "second.zip", NOBODY)
    assert not (tmp_path / "second.zip").exists()
    done = release(second, tmp_path / "second.zip", NOBODY, rounded=True)
    found = content(tmp_path / "second.zip")
    assert set(found) == {"ledger.csv", "tables/01_a_groups.csv", "manifest.csv", "sign.txt"}
    first, *table = csv.reader(io.StringIO(found["tables/01_a_groups.csv"].decode()))
    assert first == ["group", "share", "n", "left"]
    assert all(int(cell) % 10 == 0 for row in table for cell in row[2:] if cell)
    assert table[0][1] in ("0.5", "0.513", "0.516", "0.517", "0.613")
    assert "in round numbers" in found["sign.txt"].decode()
    assert done.left_out == []


def shown(n: int, left: int = 40, share: float = 0.5) -> str:
    """Write a notebook with a table that stands in no file."""
    cells = f"<tr><td>branch</td><td>{n}</td><td>{left}</td><td>{share}</td></tr>"
    table = f"<table><tr><th>group</th><th>n</th><th>left</th><th>share</th></tr>{cells}</table>"
    return json.dumps(
        {"cells": [{"outputs": [{"data": {"text/html": ["<table></table>", table]}}, {"text": "x"}]}, {}]}
    )


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("tables/01_a_groups.csv", ROWS.replace("0.512345678", "0.5"), ROWS.replace("0.512345678", "0.51")),  # 150, 153
        ("figures/01_a_curve.txt", "Of 1,187 customers 40% stay.", "Of 1,188 customers 40% stay."),
        ("figures/01_a_curve.txt", "Share kept (n = 300).", "Share kept (n = 299)."),
        ("notebooks/01_a.ipynb", '{"x": "Among 312 respondents"}', '{"x": "Among 315 respondents"}'),
        ("notebooks/01_a.ipynb", shown(300), shown(299)),
        ("notebooks/01_a.ipynb", shown(300, 40), shown(300, 43)),
        ("notebooks/01_a.ipynb", shown(300, 40, 0.25), shown(300, 40, 0.26)),  # 75 and 78
    ],
)
def test_what_shares_and_sentences_count_is_compared_too(make, tmp_path, file, before, after):
    head = "group,share,n,left\n" if file.startswith("tables") else ""
    first, second = make("first", "d1", ROWS), make("second", "d1", ROWS)
    (first / file).write_text(head + before)
    (second / file).write_text(head + after)
    release(first, tmp_path / "first.zip", NOBODY)
    with pytest.raises(InputError, match="fewer than 10 people"):
        release(second, tmp_path / "second.zip", NOBODY)
    release(second, tmp_path / "second.zip", NOBODY, rounded=True)


OTHERS = People.called(["member-0001", "member-0002"])
CHANGED = ROWS.replace("300", "301")


@pytest.mark.parametrize(
    ("bank", "data", "people", "refused"),
    [
        ("mine", "d2", NOBODY, True),
        ("renamed", "d2", NOBODY, True),
        ("renamed", "d2", People.called(["client-0007", *(f"client-{k}" for k in range(1_000, 1_900))]), True),
        ("mine", "d2", OTHERS, False),  # another bank of the same name
        ("other", "d2", OTHERS, False),
        ("mine", "d2", People.called(()), True),  # whose people are not known goes by its name
        ("other", "d2", People.called(()), False),
        ("mine", "d2", People(["client0007"], {}, b"another key"), True),  # pseudonyms of another key, too
    ],
)
def test_earlier_releases_are_those_of_the_same_people_whatever_the_bank_is_called(
    make, tmp_path, bank, data, people, refused
):
    release(make("first", "d1", ROWS), tmp_path / "first.zip", NOBODY)
    second = make("second", data, CHANGED, bank=bank)
    if refused:
        with pytest.raises(InputError, match="fewer than 10 people"):
            release(second, tmp_path / "second.zip", people)
    else:
        release(second, tmp_path / "second.zip", people)


def test_the_record_is_the_user_s_alone_and_every_earlier_release_counts(make, tmp_path):
    release(make("first", "d1", ROWS), tmp_path / "first.zip", NOBODY)
    kept = tmp_path / "cache" / "releases"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in kept.glob("*.json")} == {"d1.json": 0o600}
    assert "client" not in (kept / "d1.json").read_text()
    release(make("third", "d3", ROWS.replace("300", "320").replace("100", "120")), tmp_path / "third.zip", NOBODY)
    with pytest.raises(InputError, match="fewer than 10 people"):  # not the last alone
        release(make("fourth", "d4", CHANGED), tmp_path / "fourth.zip", NOBODY)


def test_a_record_that_went_by_the_bank_s_name_still_counts(make, tmp_path):
    release(make("first", "d1", ROWS), tmp_path / "first.zip", NOBODY)
    kept = tmp_path / "cache" / "releases"
    [old] = json.loads((kept / "d1.json").read_text())
    (kept / "mine.json").write_text(json.dumps([{k: old[k] for k in ("fingerprint", "data", "cells")}]))
    (kept / "d1.json").unlink()
    with pytest.raises(InputError, match="fewer than 10 people"):
        release(make("second", "d2", CHANGED), tmp_path / "second.zip", NOBODY)


@pytest.mark.parametrize("form", ["{:.12g}", "{:.4f}", "{:.1%}"])
def test_shares_of_a_rounded_release_tell_of_counts_no_more_than_the_round_counts_do(form):
    """Who tries all pairs of counts that may give what a row shows is left with those that its counts leave."""
    shown, by_counts, by_digits = {}, {}, {}
    for n in range(25, 120):
        for k in range(10, n - 9):
            text = f"group,n,left,share,rest\na,{n},{k},{form.format(k / n)},{form.format(1 - k / n)}\n"
            told = _rounded(text, 10).decode().splitlines()[1]
            counts = tuple(round(c / 10) for c in (n, k, n - k))
            shown.setdefault(told, set()).add((n, k))
            by_counts.setdefault(counts, set()).add((n, k))
            by_digits.setdefault((counts, f"{k / n:.3g}"), set()).add((n, k))
    assert sorted(map(sorted, shown.values())) == sorted(map(sorted, by_counts.values()))
    table = f"group,n,left,of_left\na,300,40,{form.format(0.5)}\nb,407,31,{form.format(12 / 31)}\n"
    assert [row.split(",")[3].strip("%") for row in _rounded(table, 10).decode().splitlines()[1:]] in (
        ["0.5", "0.333"], ["50", "33.3"]
    )  # fmt: skip
    assert sum(len(pairs) == 1 for pairs in by_digits.values()) > 1_000  # three digits told most of them


@pytest.mark.parametrize("form", ["{:.12g}", "{:.3f}"])
def test_ratios_above_one_and_their_ends_tell_of_counts_no_more_than_the_round_counts_do(form):
    """Who tries all pairs of counts is left with those that give the same round counts; ends leave him some, too."""
    shown, by_counts, by_ends, by_digits = {}, {}, {}, {}
    for n in range(25, 100):
        for k in range(10, 150):
            ratio, se = k / n, (1 / k + 1 / n) ** 0.5
            ends = ",".join(form.format(ratio * math.exp(z * se)) for z in (-1.96, 1.96))
            text = f"group,exits,wins,per_win,low,high\na,{k},{n},{form.format(ratio)},{ends}\n"
            cells = _rounded(text, 10).decode().splitlines()[1].split(",")
            counts = tuple(round(c / 10) for c in (k, n))
            if ratio > 1:
                shown.setdefault(tuple(cells[:4]), set()).add((k, n))
                by_counts.setdefault(counts, set()).add((k, n))
                by_ends.setdefault(tuple(cells), set()).add((k, n))
                by_digits.setdefault((counts, f"{ratio:.3g}"), set()).add((k, n))
    assert sorted(map(sorted, shown.values())) == sorted(map(sorted, by_counts.values()))
    alone = [len(pairs) == 1 for pairs in by_digits.values()]
    assert sum(alone) > 1_000  # three digits told most of them
    assert sum(len(pairs) for pairs in by_ends.values() if len(pairs) < 3) < 0.1 * sum(map(len, shown.values()))


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        ("300,40,13.3333%", "300,40,13.3%"),
        ("300,40,+13.3333%", "300,40,+13.3%"),
        ("304,44,+14.473684%", "300,40,+13.3%"),
        ("304,44,-14.473684%", "300,40,-13.3%"),
        ("44,304,690.909091%", "40,300,750%"),
        ("44,304,+690.909091%", "40,300,+750%"),
        ("44,304,123.45678%", "40,300,123%"),  # of no two counts
    ],
)
def test_percentages_above_100_or_with_a_sign_are_rounded_too(cells, told):
    assert _rounded(f"group,n,left,change\na,{cells}\n", 10).decode().splitlines()[1] == f"a,{told}"


def test_a_run_s_own_threshold_holds_when_it_is_checked_and_released(make, tmp_path):
    run = make("run", "d1", ROWS)
    (run / "disclosure.json").write_text('{"threshold": 20, "suppressed": {}}')
    assert [b.rule for b in scan(run, NOBODY).breaches] == ["fewer than 20 people in 'left'"]
    first = make("first", "d1", ROWS.replace(",12", ",30"))
    (first / "disclosure.json").write_text('{"threshold": 20, "suppressed": {}}')
    release(first, tmp_path / "first.zip", NOBODY)
    (first / "tables" / "01_a_groups.csv").write_text(
        "group,share,n,left\n" + ROWS.replace(",12", ",30").replace("100", "112")
    )
    with pytest.raises(InputError, match="fewer than 20 people"):
        release(first, tmp_path / "second.zip", NOBODY)


def test_columns_that_a_result_declares_are_counts_of_a_release_too(make, tmp_path):
    """They are rounded, stand in the manifest, and are compared with earlier releases."""
    runs = []
    for k, first in enumerate((41, 44)):
        run = make(f"run{k}", f"data{k}", ROWS)
        (run / "disclosure.json").write_text(json.dumps({"suppressed": {}, "counts": {"02_b.csv": [["First", "did"]]}}))
        (run / "tables/02_b.csv").write_text(f"month,First,did\n2020-01,{first},23\n")
        runs.append(run)
    release(runs[0], tmp_path / "one.zip", NOBODY)
    manifest = content(tmp_path / "one.zip")["manifest.csv"].decode()
    row = next(r for r in csv.DictReader(io.StringIO(manifest)) if r["path"] == "tables/02_b.csv")
    assert row["smallest count"] == "23"
    with pytest.raises(InputError, match=r"02_b\.csv"):
        release(runs[1], tmp_path / "two.zip", NOBODY)
    release(runs[1], tmp_path / "round.zip", NOBODY, rounded=True)
    assert content(tmp_path / "round.zip")["tables/02_b.csv"].decode().splitlines()[1] == "2020-01,40,20"
