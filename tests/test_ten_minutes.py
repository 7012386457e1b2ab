"""From an export to a run: the examples of data/README.md load, and a suggestion for the same files loads too."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import poor_banks as poor
from crmresearch.data.bank import open_bank
from crmresearch.errors import InputError
from crmresearch.run.cli import app
from crmresearch.run.suggest import suggest

README = (Path(__file__).parents[1] / "data" / "README.md").read_text("utf-8")
EXAMPLES = {m[1]: m[2] for m in re.finditer(r"```yaml\n# ([\w ]+)\n(.*?)```", README, re.DOTALL)}
N = 60


def people() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Customers and their months: every fifth leaves; days and amounts as a bank has them."""
    rng = np.random.default_rng(5)
    came = pd.Timestamp("2016-01-04") + pd.to_timedelta(rng.integers(0, 2000, N), "D")
    left = pd.Series(pd.Timestamp("2022-03-10") + pd.to_timedelta(rng.integers(0, 600, N), "D"))
    left[np.arange(N) % 5 > 0] = pd.NaT
    customers = pd.DataFrame({"id": [f"K{i:03}" for i in range(N)], "came": came, "left": left})
    customers["cause"] = [None if pd.isna(day) else ("own" if i % 2 else "bank") for i, day in enumerate(left)]
    customers["town"] = np.where(np.arange(N) % 3, "Ulm", "Bonn")
    customers["mail"] = np.arange(N) % 4 > 0
    months = pd.DataFrame({"month": pd.date_range("2022-01-01", "2023-12-01", freq="MS")})
    months = customers[["id", "left"]].merge(months, how="cross")
    months = months[~(months["month"] > months["left"])].drop(columns="left")
    for name, high in (("balance", 9000), ("interest", 20), ("fees", 9), ("cost", 8), ("risk", 2)):
        months[name] = rng.uniform(0.01, high, len(months)).round(2)
    return customers, months


def german(values) -> list[str]:
    return [f"{v:,.2f}".translate(str.maketrans(",.", ".,")) for v in values]


def write(example: str, folder: Path) -> list[Path]:
    """Write the files that an example describes."""
    c, m = people()
    if example == "excel export":
        c["cause"] = c["cause"].map({"own": "customer", "bank": "bank"})
        path = folder / "export.xlsx"
        with pd.ExcelWriter(path) as book:
            columns = {"id": "Client", "came": "Since", "left": "Closed", "cause": "Reason", "town": "Town"}
            c[list(columns)].rename(columns=columns).to_excel(book, sheet_name="Customers", index=False)
            columns = dict(
                zip(m.columns, ("Client", "Month", "Balance", "Interest", "Fees", "Cost", "Risk"), strict=True)
            )
            m.rename(columns=columns).to_excel(book, sheet_name="Months", index=False)
        return [path]
    if example == "german csv":
        table = pd.DataFrame(
            {"Kundennr": c["id"], "Nachname": "Müller", "Kunde seit": c["came"].dt.strftime("%d.%m.%Y")}
        )
        table["Gekündigt am"] = c["left"].dt.strftime("%d.%m.%Y")
        table["Grund"] = c["cause"].map({"own": "Kunde", "bank": "Bank"})
        table["Ort"], table["Werbung"] = c["town"], np.where(c["mail"], "ja", "nein")
        moves = pd.DataFrame({"Kundennr": m["id"], "Monat": m["month"].dt.strftime("%d.%m.%Y")})
        names = ("Saldo", "Zinsertrag", "Gebühren", "Kosten", "Risikokosten")
        files, sep, encoding = ("kunden.csv", "monate.csv"), ";", "cp1252"
        figures = german
    else:
        table = pd.DataFrame({"客户号": c["id"], "姓名": "王伟", "手机号": "13800138000"})
        table["开户日期"], table["销户日期"] = (c[day].dt.strftime("%Y年%m月%d日") for day in ("came", "left"))
        table["销户原因"] = c["cause"].map({"own": "主动", "bank": "被动"})
        table["城市"], table["营销同意"] = np.where(c["town"] == "Ulm", "苏州", "无锡"), np.where(c["mail"], "是", "否")
        moves = pd.DataFrame({"客户号": m["id"], "月份": m["month"].dt.strftime("%Y-%m-%d")})
        names = ("余额", "利息收入", "手续费", "服务成本", "风险成本")
        files, sep, encoding = ("客户.csv", "余额.csv"), ",", "gbk"
        figures = list
    for name, column in zip(names, ("balance", "interest", "fees", "cost", "risk"), strict=True):
        moves[name] = figures(m[column])
    for name, frame in zip(files, (table, moves), strict=True):
        frame.to_csv(folder / name, sep=sep, encoding=encoding, index=False)
    return [folder / name for name in files]


def holds_what_was_exported(bank) -> None:
    c, m = people()
    found = bank.frame("SELECT * FROM customers ORDER BY customer_id")
    assert found["customer_id"].tolist() == c["id"].tolist()
    assert found["acquired_on"].tolist() == c["came"].tolist()
    assert found["left_on"].dropna().tolist() == c["left"].dropna().tolist()
    assert found["exit_cause"].value_counts().to_dict() == {"bank_initiated": 6, "voluntary": 6}
    if bank.require("customers.consent_marketing") is None:
        assert (found["consent_marketing"] == "yes").tolist() == c["mail"].tolist()
    sums = bank.frame("SELECT sum(balance) AS b, sum(fees) AS f, sum(service_cost) AS s, count(*) AS n FROM monthly")
    assert sums.iloc[0].tolist() == pytest.approx([m["balance"].sum(), m["fees"].sum(), m["cost"].sum(), len(m)])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bank").mkdir()
    return tmp_path / "bank"


@pytest.mark.parametrize("example", ["excel export", "german csv", "chinese gbk"])
def test_an_example_of_the_page_loads_checks_and_runs(folder, example):
    write(example, folder)
    (folder / "bank.yaml").write_text(EXAMPLES[example], "utf-8")
    result = CliRunner().invoke(app, ["bank", "check", str(folder)])
    assert result.exit_code == 0, result.output
    assert not re.search("Müller|王伟|13800138000", result.output)
    bank = open_bank(folder)
    holds_what_was_exported(bank)
    rows = poor.run(bank, folder.parent, [p for p in poor.NOTEBOOKS if p.stem.startswith("00")])
    assert len(rows)


@pytest.mark.parametrize("example", EXAMPLES)
def test_a_suggestion_for_the_same_files_loads_as_it_stands(folder, example):
    paths = write(example, folder)
    out = folder / "bank.yaml"
    result = CliRunner().invoke(app, ["bank", "describe", "--suggest", *map(str, paths), "--out", str(out)])
    assert result.exit_code == 0, result.output
    text = out.read_text("utf-8")
    assert text.count("# guessed") > 5
    assert "name: mybank  # to fill in" in text
    assert not re.search("Müller|王伟|13800138000|K001", text)
    holds_what_was_exported(open_bank(folder))
    about = open_bank(folder).about
    assert (str(about.observation_start), str(about.observation_end)) == ("2022-01-01", "2023-12-31")
    again = CliRunner().invoke(app, ["bank", "describe", "--suggest", *map(str, paths), "--out", str(out)])
    assert "is there already" in str(again.exception)


TABLES = {
    "umfrage.csv": "Kundennr;Telefon;eingeladen;geantwortet;sat1;sat2;loy1\nA;1;ja;ja;3;99;4\n"
    "B;2;ja;nein;5;4;98\n",
    "buchungen.csv": "Kunde;Buchungstag;Betrag;Kanal\nA;31.12.2022;-1.250,50;Filiale\nB;01.02.2023;12,00;Netz\n",
    "clients.csv": "no_client|date_ouverture|date_cloture|consentement\nA|2019-02-01||oui\nB|2019-02-28|2023-03-01|non",
    "clienti.csv": "codice_cliente\tcliente_dal\tdata_chiusura\tconsenso\nA\t05/12/2019\t\tsì\n"
    "B\t25/12/2019\t9999-12-31\tno\n",
    "clientes.csv": '\ufeff"Código cliente","Fecha de alta","Fecha de baja","DNI"\nA,05.12.19,,1\n'
    'B,25.12.19,01.02.23,2\n',
    "mensuel.csv": "N° client;Mois;Solde\nA;01/2022;1 250,50\nB;02/2022;980,00\n",
    "交易.csv": '客户编号,交易日期,金额\n1,2022年3月5日,"1,250.50"\n2,2022年12月5日,-80.00\n',
    "holdings.csv.gz": "customer,product,opened,closed\nA,card,20190203,\nB,loan,20200405,\n",
}  # fmt: skip
SAYS = {
    "umfrage.csv": ["survey", "drop: [Telefon]", "missing: {sat2: [99], loy1: [98]}", "sat: [sat1, sat2]"],
    "buchungen.csv": ["transactions", "date_format: '%d.%m.%Y'", "decimal: ','", "amount: Betrag"],
    "clients.csv": ["customers", "sep: '|'", "consent_marketing: {non: no, oui: yes}", "left_on: date_cloture"],
    "clienti.csv": [
        "customers",
        'sep: "\\t"',
        "date_format: '%d/%m/%Y'",
        "or the month first?",
        "missing: {left_on: [",
    ],
    "clientes.csv": ["customers", "customer_id: Código cliente", "date_format: '%d.%m.%y'", "drop: [DNI]"],
    "mensuel.csv": ["monthly", "date_format: '%m/%Y'", "decimal: ','", "thousands: ' '"],
    "交易.csv": ["transactions", "thousands: ','"],
    "holdings.csv.gz": ["holdings", "date_format: '%Y%m%d'", "product_family: product"],
}


@pytest.mark.parametrize("name", TABLES)
def test_files_in_several_languages_are_told_and_load(folder, name):
    (folder / name).write_bytes(TABLES[name].encode())
    if name.endswith(".gz"):
        import gzip

        (folder / name).write_bytes(gzip.compress(TABLES[name].encode()))
    text = suggest([folder / name], folder)
    assert [said for said in SAYS[name] if said not in text.replace("'no'", "no").replace("'yes'", "yes")] == []
    (folder / "bank.yaml").write_text(text, "utf-8")
    assert open_bank(folder).tables == (SAYS[name][0],)


def test_what_cannot_be_guessed_is_marked(folder):
    (folder / "x.csv").write_text("customer_id,colour\na,red\nb,blue\n")
    (folder / "y.csv").write_text("a,b\n1,2\n")
    (folder / "customers.csv").write_text("client,town\na,Ulm\nb,Bonn\n")
    text = suggest([folder / "customers.csv", folder / "y.csv"], folder)
    assert "# to fill in: columns for acquired_on" in text
    assert "# to fill in: what y.csv holds (could not be told)" in text
    result = CliRunner().invoke(app, ["bank", "describe", "--suggest", str(folder / "y.csv")])
    assert "no table could be guessed" in str(result.exception)
    result = CliRunner().invoke(app, ["bank", "describe", "--suggest", str(folder / "none.csv")])
    assert "none.csv does not exist" in str(result.exception)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.xlsx", b"no book", "x.xlsx is damaged"),
        ("x.parquet", b"PAR1" + b"x" * 99, "x.parquet is damaged"),
        ("x.csv", b"", "x.csv is empty"),
        ("x.csv", b"\n\n\n", "no table could be guessed"),
        ("x.csv", bytes(range(256)) * 9, "line 1 of x.csv names 1 of 2 columns"),
        ("x.csv.gz", b"no gzip", "x.csv.gz is a damaged or incomplete gzip file"),
        ("x.sqlite", b"SQLite format 3", "x.sqlite is no CSV"),
    ],
)
def test_a_file_that_cannot_be_looked_at_is_one_line(folder, name, content, said):
    (folder / name).write_bytes(content)
    result = CliRunner().invoke(app, ["bank", "describe", "--suggest", str(folder / name)])
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
    assert "\n" not in str(result.exception)
