"""The scan finds every planted leak of a small run, raises no false alarm, and says what it did not look at."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import struct
import zlib
from pathlib import Path

import pandas as pd
import pytest

from crmresearch import disclosure, rules
from crmresearch.data.bank import open_bank
from crmresearch.run.people import People
from crmresearch.run.scan import PNG, scan
from test_cli import crm  # noqa: F401

WHO = People.called(["client-0007", "+49 170 5550100", "11010119900307123X", "4711", "DE/88:12"])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes) -> bytes:
    start = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    return PNG + start + b"".join(chunks) + chunk(b"IDAT", zlib.compress(b"\0\0")) + chunk(b"IEND", b"")


def packed_as(name: str) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(name, "wb", fileobj=out) as file:
        file.write(b"x")
    return out.getvalue()


PICTURE = base64.b64encode(png()).decode()


def cell(**more: object) -> dict[str, object]:
    return {"cell_type": "code", "id": "c0", "metadata": {}, "source": "1", "outputs": [], "execution_count": 1, **more}


def output(**data: str) -> dict[str, object]:
    return cell(outputs=[{"output_type": "display_data", "metadata": {}, "data": data}])


def notebook(*cells: object, **metadata: object) -> str:
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return clean(tmp_path / "run")


def clean(folder: Path) -> Path:
    """Write a run with what runs have, numbers of every kind among it, and nothing that must not leave."""
    shown = (
        "retention .846 [.837, .853], n = 20,000\n  year  4711  0.4711  +12.5 +13.5 +14.5 +15.5\n2020-01-02 10:11:12"
    )
    pages = {
        "run.json": '{"bank": {"name": "mine"}, "fingerprints": {"data": "0"}, "seed": 4711}',
        "ledger.csv": "line_id,estimate,n,bound\nS01,0.5,4711,0.5\nS34,0,9,\nS09,0,3,\n",
        "tables/00_a.csv": "group,n,left,share\nbranch,4711,0,0.471100000001\nonline,32,11,\nother,,,\n",
        "tables/00_b.csv": "group,n,share\nbranch,4711,0.0017\nonline,5000,0.002\ntotal,9711,\n",
        "findings/00_a.json": '{"lines": {"S34": {"n": 9, "value": 0.0}, "S01": {"n": 4711}}}',
        "site/rule.md": "Fewer than 10 customers, or <10 persons; 5.5 customers a day, n = 4,711, at least 5 people.",
        "notebooks/00_a.ipynb": notebook(output(**{"text/plain": shown, "image/png": PICTURE})),
        f"site/_images/15398840650{'e' * 53}.svg": '<path d="M 4111 1111 1111 1111 L 5500.0000 0000.0004z"/>',
        "site/about.html": "<table><tr><th>title</th><td>Telephone campaigns</td></tr></table>"
        f'<img src="_images/15398840650{"e" * 53}.svg">',
        "site/index.html": f'<p>{shown}</p><a href="a/b.html">x</a> <img src="data:image/png;base64,{PICTURE}">\n'
        "<table><tr><th>group</th><th>n</th></tr><tr><td>branch</td><td>&lt;10</td></tr></table>\n"
        "see https://example.org/home/page and and/or 5/6 at 0x12, customers 4711",
        "figures/00_a.svg": '<svg><path d="M 4111 1111\nL 1111 1111 4111111111111111 L 57.6 307.584 z"/></svg>',
        "site/searchindex.js": 'Search.setIndex({"terms":{"client":[0,4711],"customer_id":4711},'
        "terms:{client:4711,referrer_id:[4711]}})",
        "logs/00_a.log": "Traceback in " + "/" + "home/ann/lib.py\n",
        "restricted/00_a_list.csv": "customer_id\nclient-0007\n",
    }
    for name, text in pages.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "figures" / "00_a.png").write_bytes(png(chunk(b"tEXt", b"Software\0matplotlib 3.11, 2020-01-02")))
    return folder


BETWEEN = "people between two tables, but for those in files whose rows have one name"


def test_no_false_alarm_and_what_is_not_looked_at_is_said(run):
    (run / "report.pdf").write_bytes(b"%PDF-1.7\n\0\1")
    report = scan(run, WHO)
    assert report.breaches == []
    assert report.left_out == [
        "restricted/, which stays here",
        "the pixels of 1 pictures",
        "what cannot be read: report.pdf",
        BETWEEN,
        "1 identifiers that are any number or short word, outside places that name one",
    ]
    assert scan(run, None).left_out[-1] == "identifiers of customers, as their bank is not known"


ID = "client-0007"
PARTS = "client</span><span>-</span><span>0007"
WINDOWS, SHARE = "\\".join(("C:", "bank", "kunden.csv")), "\\" + "\\".join(("", "server", "share", "kunden.csv"))
LEAKS = {  # by the rule that they break
    "customer identifier": {
        "in parts of a drawing": ("figures/a.svg", "<text>client<tspan>-0007</tspan></text>"),
        "beside a comment": ("site/a.html", "<p>client-00<!-- x -->07</p>"),
        "a hyphen that is not seen": ("site/a.html", "<p>client-00&shy;07</p>"),
        "a space without width": ("site/a.html", "<p>client-\u200b0007</p>"),
        "in two lines": ("site/a.html", "<p>client-\n  0007</p>"),
        "Markdown": ("site/a.md", "client-**00**07"),
        "other digits": ("site/a.html", "client-\u0660\u0660\u0660\u0667"),
        "an address": ("site/a.html", '<a href="x?q=%63lient%2D0007">'),
        "an address twice": ("site/a.html", '<a href="x?q=client%252D0007">'),
        "an entity of an entity": ("site/a.html", "client&amp;#45;0007"),
        "base64": ("site/a.html", base64.b64encode(f"seen by {ID}".encode()).decode()),
        "base64 of addresses": ("a.json", json.dumps(base64.urlsafe_b64encode(b"~~~>> " + ID.encode()).decode())),
        "an escape": ("site/_static/x.js", 'var x = "client\\u002d0007"'),
        "another escape": ("site/_static/x.js", 'var x = "client\\x2d0007"'),
        "put together": ("site/_static/x.js", 'var x = "client-" + "0007"'),
        "a style sheet": ("site/_static/x.css", '.x:after {content: "client\\2d 0007"}'),
        "lines of JSON": ("findings/a.jsonl", '{"x": "client\\u002d0007"}\n'),
        "colours of a terminal": ("logs/a.log", "\x1b[31mclient\x1b[0m-0007"),
        "UTF-32": ("tables/a.csv", f"group,note\nx,{ID}\n".encode("utf-32")),
        "name of what is packed": ("tables/b.gz", packed_as(ID)),
        "a file's name in code": ("tables/client%2D0007.csv", "group\nx\n"),
        "unknown part of a picture": ("figures/a.png", png(chunk(b"prVt", ID.encode()))),
        "two bytes a sign": ("figures/a.png", png(chunk(b"eXIf", ID.encode("utf-16-le")))),
        "name of a profile": ("figures/a.png", png(chunk(b"iCCP", ID.encode() + b"\0\0"))),
        "attachment": (
            "notebooks/a.ipynb",
            notebook(cell(attachments={"x.txt": {"text/plain": base64.b64encode(f"see {ID}".encode()).decode()}})),
        ),
        "attached picture": (
            "notebooks/a.ipynb",
            notebook(
                cell(attachments={"x": {"image/png": base64.b64encode(png(chunk(b"prVt", ID.encode()))).decode()}})
            ),
        ),
        "in a page": ("site/a.html", f"<p>{ID}</p>"),
        "upper case": ("site/a.html", f"<p>{ID.upper()}</p>"),
        "other spelling": ("site/a.html", "<p>client 0007</p>"),
        "in parts": ("site/a.html", f"<span>{PARTS}</span>"),
        "beside an image": ("site/a.html", f'<img src="data:image/png;base64,{PICTURE}" alt="{ID}">'),
        "as an entity": ("site/a.html", "<p>client&#45;0007</p>"),
        "search index": ("site/searchindex.js", 'Search.setIndex({"terms":{"client-0007":1}})'),
        "a script": ("site/_static/x.js", f"// {ID}"),
        "a drawing": ("figures/a.svg", f"<svg><metadata>{ID}</metadata></svg>"),
        "a line of a drawing": ("figures/a.svg", f'<svg><path d="M 1 2 {ID}"/></svg>'),
        "text of a picture": ("figures/a.png", png(chunk(b"tEXt", f"Title\0{ID}".encode()))),
        "packed text of a picture": ("figures/a.png", png(chunk(b"zTXt", b"Title\0\0" + zlib.compress(ID.encode())))),
        "international text": (
            "figures/a.png",
            png(chunk(b"iTXt", b"Title\0\1\0de\0Titel\0" + zlib.compress(ID.encode()))),
        ),
        "picture in a page": (
            "site/a.html",
            "<img src='data:image/png;base64,"
            + base64.b64encode(png(chunk(b"tEXt", f"Title\0{ID}".encode()))).decode()
            + "'>",
        ),
        "picture in a notebook": (
            "notebooks/a.ipynb",
            notebook(output(**{"image/png": base64.b64encode(png(chunk(b"tEXt", f"T\0{ID}".encode()))).decode()})),
        ),
        "metadata": ("notebooks/a.ipynb", notebook(cell(metadata={"note": ID}))),
        "metadata's name": ("notebooks/a.ipynb", notebook(**{ID: 1})),
        "text/plain": ("notebooks/a.ipynb", notebook(output(**{"text/plain": f"0  {ID}"}))),
        "code": ("notebooks/a.ipynb", notebook(cell(source=f"who = '{ID}'"))),
        "CSV of any case": ("tables/A.CSV", f"group,note\nx,{ID}\n"),
        "packed CSV": ("tables/a.csv.gz", gzip.compress(f"group,note\nx,{ID}\n".encode())),
        "UTF-16": ("tables/a.csv", f"group;note\nx;{ID}\n".encode("utf-16")),
        "a log": ("logs/a.log", ID),
        "a file's name": (f"tables/{ID}.csv", "group\nx\n"),
        "short, where ids stand": ("site/a.html", "customer 4711, customer no. 4711"),
        "short, by name": ("findings/a.json", '{"customer_id": 4711}'),
        "slashes": ("site/a.html", "DE 88-12"),
        "telephone as id": ("site/a.html", "4917055 50100 and 49-170-5550100"),
        "resident id as id": ("site/a.html", "110101 19900307 123x"),
    },
    "what is no part of it": {"behind a picture": ("figures/a.png", png() + b"PK\3\4 packed")},
    "embedded file that cannot be read": {
        "document in a notebook": (
            "notebooks/a.ipynb",
            notebook(output(**{"application/pdf": base64.b64encode(b"%PDF-1.7\n\0\1").decode()})),
        )
    },
    "fewer than 10 people in 'n'": {
        "small cell of a text": (
            "notebooks/a.ipynb",
            notebook(output(**{"text/plain": "group   n  share\n    x   3   0.10\n    y  50   0.90"})),
        ),
        "small cell of Markdown": ("site/a.md", "| group | n |\n|---|---|\n| x | 3 |\n"),
        "small cell of a line": ("tables/a.csv", "group,x,y\nn,3,50\n"),
        "small cell with a point": ("tables/a.csv", "group,n\nx,3.00\n"),
        "small cell with its share": ("tables/a.csv", "group,n\nx,3 (12%)\n"),
        "small cell with a mark": ("tables/a.csv", "group,n\nx,3*\n"),
        "small cell that is about": ("tables/a.csv", "group,n\nx,~3\n"),
        "rest of a total": ("tables/a.csv", "group,n\nx,50\ny,\nTotal,53\n"),
        "small cell": ("tables/a.csv", "group,n\nx,2\ny,50\n"),
        "small cell of a notebook": (
            "notebooks/a.ipynb",
            notebook(
                output(**{"text/html": "<table><tr><th>g</th><th>n</th></tr><tr><td>x</td><td>9</td></tr></table>"})
            ),
        ),
    },
    "fewer than 10 people": {
        "small cell of JSON": ("findings/a.json", '{"S01": {"n": 3}}'),
        "in a sentence": ("site/a.html", "<p>Of 300 customers 3 customers left</p>"),
        "of a mean": ("figures/a.txt", "mean 5.2 (n = 3)"),
        "in Chinese": ("site/a.html", "其中 3 位客户已流失"),
        "in bold letters": ("site/a.md", "Of 300, **3** customers left"),
        "beside another blank": ("site/a.html", "<p>3&nbsp;customers, n&thinsp;=&#8239;30</p>"),
        "behind a colon": ("figures/a.txt", "Exits by branch; customers: 3"),
        "of a title": ("figures/a.svg", "<title>Stay, N = 3</title>"),
        "of clients": ("figures/a.txt", "A bar for 4 clients"),
        "column of JSON": ("findings/a.json", '{"n": [50, 3]}'),
        "column of JSON by rows": ("findings/a.json", '{"exits": {"0": 50, "1": 3}}'),
    },
    "fewer than 10 people in 'Number of customers'": {
        "small cell by another name": ("tables/a.csv", "# made today\ngroup,Number of customers\nx,3\n")
    },
    "fewer than 10 people in 'left'": {"complement": ("tables/a.csv", "group,n,left\nx,50,47\n")},
    "fewer than 10 people in 'wins'": {"complement of prospects": ("tables/a.csv", "group,prospects,wins\nx,50,47\n")},
    "fewer than 10 people in 'answered'": {
        "complement of invited": ("tables/a.csv", "group,invited,answered\nx,50,44\n")
    },
    "fewer than 10 people by 'share'": {"by a share": ("tables/a.csv", "group,share,n\nx,0.04,50\n")},
    "fewer than 10 people by 'share who left'": {
        "by the share of the others": ("tables/a.csv", "group,n,share who left\nx,50,96%\n")
    },
    "fewer than 10 people in 'n_2023'": {"column of a year": ("tables/a.csv", "group,n_2023\nx,3\n")},
    "identifier column": {
        "heading": ("tables/a.csv", "Kunden-Nr,share\n1,.5\n"),
        "heading of a page": ("site/a.html", "<table><tr><th>customer_id</th></tr></table>"),
    },
    "column of a person's name": {"heading of names": ("tables/a.csv", "Nachname,share\nx,.5\n")},
    "IBANs": {"IBAN": ("site/a.html", "to DE89 3704 0044 0532 0130 00 today")},
    "Chinese resident identity numbers": {"resident id": ("tables/a.csv", "group,note\nx,11010519491231002X\n")},
    "e-mail addresses": {"e-mail": ("notebooks/a.ipynb", notebook(cell(source="# ann.smith@bank.example.org")))},
    "telephone numbers with a country code": {"telephone": ("site/a.html", "call +49 170 5550199")},
    "telephone number": {
        "local telephone": ("site/a.html", "Telefon: 0170/5550199"),
        "mobile": ("site/a.html", "13800138000"),
    },
    "numbers of payment cards": {"card": ("site/a.html", "paid by 4111 1111 1111 1111")},
    "telephone numbers": {
        "column of telephones": ("tables/a.csv", "group,note\n" + "".join(f"x,0170/55501{k:02d}\n" for k in range(9)))
    },
    "fewer than 10 people in 'exits'": {
        "small cell of a page": (
            "site/a.html",
            "<table>\n<tr><th>group</th><th>exits</th></tr>\n<tr><td>x</td>\n<td>3</td></tr></table>",
        )
    },
    "local path": {
        "data": ("site/a.html", "read from /" + "data/bank/kunden.csv"),
        "opt": ("run2.json", '{"from": "/' + 'opt/bank"}'),
        "srv": ("findings/a.json", '["/' + 'srv/bank/x"]'),
        "Windows": ("notebooks/a.ipynb", notebook(cell(source=f"open(r'{WINDOWS}')"))),
        "Windows in JSON": ("findings/a.json", json.dumps({"path": WINDOWS})),
        "share": ("site/a.html", f"on {SHARE}"),
        "home": ("site/a.html", "in ~/bank/kunden"),
        "file": ("site/a.html", "file:" + "///bank/x"),
    },
    "password in an address": {"password": ("run2.json", '{"from": "postgresql://ann:geheim@host/bank"}')},
    "secret": {
        "token": ("site/a.html", "gh" + "p_" + "a1" * 18),
        "a key": ("site/a.html", "-----BEGIN RSA " + "PRIVATE KEY-----"),
        "password by name": ("findings/a.json", '{"db_password": "hunter2hunter2"}'),
    },
    "object address": {"address of an object": ("site/a.html", "<function f at 0x7f00deadbeef>")},
}


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [pytest.param(*one, rule, id=kind) for rule, own in LEAKS.items() for kind, one in own.items()],
)
def test_every_planted_leak_is_found(run, name, content, rule):
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    found = {(b.file, b.rule) for b in scan(run, WHO).breaches}
    assert found == {(name, rule)}


def test_a_parquet_file_is_read_with_its_notes_and_a_link_is_none(run):
    import pyarrow as pa
    import pyarrow.parquet as parquet

    table = pa.table({"group": ["x", "y"], "n": [50, 4], "note": ["", ID]})
    parquet.write_table(table.replace_schema_metadata({"by": "ann@bank.example.org"}), run / "tables" / "a.parquet")
    (run / "tables" / "b.csv").symlink_to("/etc/hostname")
    os.mkfifo(run / "tables" / "c.csv")  # would never end
    kinds = pa.DictionaryArray.from_arrays(pa.array([0, 0]), pa.array(["x", ID]))  # no row has the second
    parquet.write_table(pa.table({"kind": kinds}), run / "tables" / "d.parquet")
    parquet.write_table(pa.table({"row": [{"n": 3, "group": "x"}]}), run / "tables" / "e.parquet")
    declared = pd.DataFrame({"group": ["x", "y"], "first": [50, 4]})
    disclosure.safe(declared, ("first",)).assign(first=[50, 4]).to_parquet(run / "tables" / "g.parquet")
    noted = pa.schema([pa.field("group", pa.string(), metadata={"by": ID})])
    parquet.write_table(pa.table([pa.array(["x"])], schema=noted), run / "tables" / "f.parquet")
    assert {(b.file, b.rule) for b in scan(run, WHO).breaches} == {
        ("tables/a.parquet", "customer identifier"),
        ("tables/a.parquet", "e-mail addresses"),
        ("tables/a.parquet", "fewer than 10 people in 'n'"),
        ("tables/b.csv", "link to another place"),
        ("tables/d.parquet", "customer identifier"),
        ("tables/e.parquet", "fewer than 10 people"),
        ("tables/f.parquet", "customer identifier"),
        ("tables/g.parquet", "fewer than 10 people in 'first'"),
    }


def test_a_million_identifiers_are_one_look_a_word():
    people = People.called(f"id{k:09d}" for k in range(1_000_000))
    text = " ".join(f"word{k} {k} 0.{k:09d}" for k in range(2_000))
    looked: list[str] = list(people._candidates(text))
    assert len(looked) < 10_000  # and none of them at a million patterns
    assert people.named(text) == set()
    assert people.named(text + " id000999999") == {"customer identifier"}


@pytest.mark.parametrize(
    ("ids", "text", "found"),
    [
        ([str(k) for k in range(100_000, 200_000)], "total 123456, mean 150000", False),  # any number is an id
        ([str(k) for k in range(100_000, 200_000)], "client 123456", True),
        ([str(768805383 + 7 * k) for k in range(100)], "0.768805383 and 768805383.25", False),  # parts of numbers
        ([str(768805383 + 7 * k) for k in range(100)], "768805383.0 stays, as does 768805383.", True),
        (["17", "Ab1"], "17 of Ab1", False),
        (["17", "Ab1"], "Kunde Nr. Ab1; client_id=17", True),
        (["客户甲一二三四"], "见客户甲一二三四", False),  # a word within others is another one
        (["1139"], "1993\uff1a仍为客户 1139, 已流失 0", False),  # a count
        (["1139"], "客户号 1139", True),
        (["1139"], "客户编号\uff1a1139", True),
        (["10139"], "客户 10139 来电", True),
        (["customer-a"], "customer A stays", True),
        (["10-100"], "from 10 to 100", False),
        # identifiers with leading zeros, or with the year before: each run of such a bank was withheld
        ([f"{k:07d}" for k in range(3_000)], "645 3,000 2021-01-01", False),
        ([f"{k:07d}" for k in range(3_000)], "12,0002021 or 0002 021", True),
        ([f"2021{k:04d}" for k in range(2_000)], "from 2021-01-01 to 2021/12/20", False),
        ([f"2021{k:04d}" for k in range(2_000)], "from 20210101 or 2021 0101", True),
    ],
)
def test_numbers_and_short_words_are_identifiers_where_they_are_called_so(ids, text, found):
    assert bool(People.called(ids).named(text)) == found


# --- whose identifiers -----------------------------------------------------------------------------------------------


@pytest.fixture
def bank(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "bank"
    folder.mkdir()
    (folder / "bank.yaml").write_text(
        "{name: mine, currency: EUR, observation_start: 2020-01-01, observation_end: 2020-12-31, "
        "evidence: simulated, tables: {customers: customers.csv}}"
    )
    rows = "".join(f"{k},2019-01-01,2020-01-01\n" for k in range(990_000_001, 990_001_201))
    (folder / "customers.csv").write_text("customer_id,acquired_on,observed_from\n" + rows)
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CRMRESEARCH_BANKS", raising=False)
    return folder


def test_a_bank_given_by_path_is_known_by_what_was_loaded_and_else_by_its_name(run, bank, crm):  # noqa: F811
    facts = {"bank": {"name": "mine"}, "fingerprints": {"data": "none"}}
    (run / "run.json").write_text(json.dumps(facts))
    code, out, err = crm("check", str(run))
    assert code == 1  # nothing was found, but nobody was looked for
    assert "customers were not looked for; name it: --bank PATH" in err
    code, out, err = crm("check", str(run), "--bank", str(bank))  # the remedy
    assert (code, err) == (0, "")
    assert "1,200 identifiers and pseudonyms looked for" in out
    facts["fingerprints"]["data"] = open_bank(bank).engine.fingerprint()
    (run / "run.json").write_text(json.dumps(facts))
    text = (bank / "customers.csv").read_text()
    (bank / "customers.csv").unlink()
    assert crm("check", str(run))[0] == 0  # what the run was made from is still loaded
    (run / "tables" / "x.csv").write_text("group,note\nx,990-000-123\n")
    code, out, _ = crm("check", str(run))
    assert code == 1
    assert "tables/x.csv, line 2: customer identifier" in out
    facts["bank"]["name"] = "other"
    (bank / "customers.csv").write_text(text)
    (run / "run.json").write_text(json.dumps(facts))
    code, _, err = crm("check", str(run), "--bank", str(bank))
    assert code == 2
    assert "is a run of the bank other, not of mine" in err


@pytest.mark.parametrize("chosen", ["default", "eurostat", "abs, least=20, base=5"])
def test_the_rules_that_a_run_writes_down_are_no_breach_of_them(run, chosen):
    values = rules.read(chosen)
    (run / "disclosure.json").write_text(json.dumps({"threshold": values["least"], "rules": values}))
    assert [b for b in scan(run, WHO).breaches if b.file == "disclosure.json"] == []


PERSON = "C00004711"  # a letter and digits, as identifiers often are
ENCODED = {
    "hex": PERSON.encode().hex(),
    "hex in groups": PERSON.encode().hex(" "),
    "hex as a number": f"0x{PERSON.encode().hex()}",
    "base32": base64.b32encode(PERSON.encode()).decode(),
    "base32 in small letters": base64.b32encode(f"see {PERSON}".encode()).decode().lower().rstrip("="),
    "turned round": PERSON[::-1],
    "turned round with signs": f"see {PERSON[:4:-1]}-{PERSON[4::-1]}.",
    "turned round, small": PERSON[::-1].lower(),
    "behind a word": f"cust{PERSON}",
    "before a word": f"{PERSON}x",
    "within a word": f"row{PERSON}end",
    "within a name of a file": f"figures/cohort{PERSON}b.png",
}
NONE = {
    "another": "C00004712x",
    "cut short": "C0000471",
    "a fingerprint": "a3f9" * 16,
    "hex of words": b"hello world".hex(),
    "digits": "471100004711000047110000",
}


@pytest.mark.parametrize("kind", ENCODED)
def test_an_identifier_in_another_spelling_or_a_longer_word_is_found(kind):
    from crmresearch.run.leaks import said

    assert "customer identifier" in said(ENCODED[kind], People.called([PERSON]), 10)


@pytest.mark.parametrize("kind", NONE)
def test_what_looks_alike_is_no_false_alarm(kind):
    from crmresearch.run.leaks import said

    assert "customer identifier" not in said(NONE[kind], People.called([PERSON]), 10)
