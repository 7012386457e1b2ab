"""Direct identifiers do not come in: found by name in several languages and by value, refused unless dropped."""

from __future__ import annotations

import random

import pandas as pd
import pytest

from crmresearch import identifiers
from crmresearch.data import pseudonyms
from crmresearch.data.bank import Bank, open_bank
from crmresearch.data.tables import TABLES
from crmresearch.errors import InputError
from test_reading import FACTS

NAMES = {
    "a person's name": (
        "Surname,Kundenname,姓名,Name,nachname,Vorname,prénom,nom,Nom du client,Apellidos,nombre_cliente,Cognome,Nome,"
        "客户姓名,customer_name,LAST_NAME,CustomerName,Kontoinhaber,Client name,first name,客戶名,"
        "Intestatario,Ragione sociale,Raison sociale,Titulaire du compte,Titular,联系人"
    ),
    "a telephone number": (
        "Telefon,tel_privat,telPrivat,Tel.,Handy-Nr,Mobilnummer,phone,Phone Number,téléphone,teléfono móvil,cellulare,"
        "numero di telefono,手机号,手机号码,联系电话,phone_home,telefone,手機,Nº móvil,Portable,Recapito,Telefax,"
        "微信号"
    ),
    "an e-mail address": (
        "E-Mail,e_mail,EMAIL_ADDR,email1,courriel,correo electrónico,电子邮箱,eMail,Kunden-E-Mail,Mail,Correo,Mél"
    ),
    "a postal address": (
        "Adresse,address_line_1,billing address,Straße,Hausnummer,dirección,indirizzo,家庭住址,Rue,Calle,Hausnr,Via"
    ),
    "an identity document": (
        "ssn,SSN_NR,N° sécurité sociale,passeport,DNI,codice fiscale,身份证号,护照号,passport_no,national_id,"
        "RFC,N.I.E.,D.N.I.,S.S.N.,"
        "Personalausweisnummer,Steuer-ID,social_security_number,CPF,身分證"
    ),
    "a card or account number": (
        "IBAN_NR,iban,IBANNr,ibanNumber,银行卡号,card_number,creditCardNumber,numéro de carte,Tarjeta,Carte bancaire,"
        "账号,银行账号,账户号,Kontonummer,Konto-Nr,loan_account_number,N° de cuenta,acct_no,número de cuenta"
    ),
}
HARMLESS = (
    "product_name,campaign_name,city_name,bank_name,email_opened,phone_calls,has_email,address_changes,mobile_banking,"
    "手机银行,手机银行登录次数,电话银行渠道,contact,number_of_emails,nombre_produits,telemarketing,nominal_rate,income,"
    "hotel,stellar,urban,handyman,email_hash,card_category,renamed,account_id,Kundennummer,numero_client,客户号,开户日期,"
    "direct_mail,portable_apps,mobile_app_logins,性别,城市,渠道,交易金额,币种,passive_share,Dependent_count,directmail,panel,tenure,phone_consent,Filiale,Ort,"
    "canal_telefono,telefonbanking,Telefonkontakte,phonebanking,Kartentyp,has_kreditkarte,wechat_usage,accounts,account_new,"
    "numero_tarjetas,账号数,账户类型,Telefonkanal,conto,mailing"
)


@pytest.mark.parametrize("kind", NAMES)
def test_names_of_identifiers_are_known_in_several_languages(kind):
    assert {name: identifiers.named(name) for name in NAMES[kind].split(",")} == dict.fromkeys(
        NAMES[kind].split(","), kind
    )


def test_names_of_other_things_pass():
    assert [name for name in HARMLESS.split(",") if identifiers.named(name)] == []
    assert [c for table in TABLES.values() for c in table.names if identifiers.named(c)] == []


@pytest.mark.parametrize(
    ("holds", "valid", "invalid"),
    [
        (identifiers.iban, ["DE89370400440532013000", "GB82 WEST 1234 5698 7654 32"], ["DE89370400440532013001", "X1"]),
        (identifiers.iban, ["FR1420041010050500013M02606", "CH9300762011623852957"], ["FR1420041010050500013M0260"]),
        (identifiers.resident_id, ["11010519491231002X", "440524188001010014"], ["110105194912310021"]),
        (identifiers.luhn, ["4111111111111111", "5500 0000 0000 0004", "6200000000000005"], ["4111111111111112"]),
    ],
)
def test_checksums(holds, valid, invalid):
    assert all(holds(text) for text in valid)
    assert not any(holds(text) for text in invalid)


RANDOM = random.Random(7)


def resident_ids(n):
    for i in range(n):
        stem = f"110105{1950 + i % 50}0{1 + i % 9}1{i % 9}{i % 1000:03}"
        yield next(stem + c for c in "0123456789X" if identifiers.resident_id(stem + c))


def ibans(n):
    for i in range(n):
        account = f"{37040044:08}{i + 532013000:010}"
        yield f"DE{98 - int(account + '131400') % 97:02}{account}"


def cards(n):
    for i in range(n):
        stem = f"411111{i:09}"
        yield next(stem + c for c in "0123456789" if identifiers.luhn(stem + c))


VALUES = {
    "IBANs": [list(ibans(30)), ["Miete an DE89 3704 0044 0532 0130 00 Mai", *"abcdef"], ["gb82west12345698765432"]],
    "Chinese resident identity numbers": [list(resident_ids(40)), ["证件 11010519491231002X", "-"]],
    "e-mail addresses": [["a.b@c.de"], ["write to x_y+z@bank.co.uk, please", *"abcdef"], ["wang@example.com.cn"] * 2],
    "numbers of payment cards": [
        list(cards(20)),
        ["paid by 4111 1111 1111 1111, thanks", *"abcdef"],
        ["card 5500-0000-0000-0004"],
        [*(f"card {c}" for c in cards(4)), *map(str, range(200))],
        [c[:4] + " " + c[4:8] + " " + c[8:12] + " " + c[12:] for c in cards(9)],
    ],
    "telephone numbers with a country code": [
        ["+491701234567"],
        ["+1 202 555 0143"],
        ["Rückruf: +86 138-0013-8000", "x"],
    ],
    "telephone numbers": [
        ["0170 1234567", "030/1234567", "06 12 34 56 78"],
        ["13800138000", "15912345678", "18612345678"],
        ["555-223-4567", "212-555-0143", "(030) 1234567"],
        ["0049 170 1234567", "0033 6 12345678", "001 202 555 0143"],
    ],
}
OTHERS = {
    "16 digits at random": [str(RANDOM.randrange(4 * 10**15, 5 * 10**15)) for _ in range(2000)],
    "16 digits in order": [str(4 * 10**15 + i) for i in range(2000)],
    "18 digits at random": [str(RANDOM.randrange(10**17, 10**18)) for _ in range(5000)],
    "resident numbers but for their checksum": [f"1101051950{i % 9}01{i:05}"[:17] + "5" for i in range(2000)],
    "DE and 20 digits": [f"DE{RANDOM.randrange(10**20):020}" for _ in range(5000)],
    "padded numbers": [f"{i:012}" for i in range(2000)],
    "short numbers": [str(i) for i in range(2000)],
    "dates": ["2023-01-31", "01.02.2023", "31/12/2023", "2020-05-13 00:00:00+08", "20230131", "03-04-2021"],
    "amounts": ["1250.50", "12345678.90", "0.12345678", "1.250.000,00", "-1 250 000,00", "+12.50"],
    "hashes": ["d41d8cd98f00b204e9800998ecf8427e", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"] * 3,
    "addresses of machines": ["192.168.0.1", "10.0.0.1", "172.16.254.1"],
    "timestamps as ids": ["20230101123456", "20230101123457", "20230101123458"],
}


@pytest.mark.parametrize("what", VALUES)
def test_values_that_identify_are_found(what):
    for values in VALUES[what]:
        assert (identifiers.among(values) or ("nothing",))[0] == what


@pytest.mark.parametrize("what", OTHERS)
def test_values_that_do_not_identify_pass(what):
    assert identifiers.among(OTHERS[what]) is None


# --- a bank's columns -------------------------------------------------------------------------------------------------


@pytest.fixture
def bank(tmp_path, monkeypatch):
    """Write a table and its description, and open them."""
    monkeypatch.setenv("CRMRESEARCH_CACHE", str(tmp_path / "cache"))

    def opened(table, columns, more="", parquet=False):
        frame = pd.DataFrame(columns)
        file = "t.parquet" if parquet else "t.csv"
        frame.to_parquet(tmp_path / file) if parquet else frame.to_csv(tmp_path / file, index=False)
        (tmp_path / "bank.yaml").write_text(f"{FACTS}tables:\n  {table}: {{file: {file}{more}}}\n", "utf-8")
        return open_bank(tmp_path)

    return opened


@pytest.mark.parametrize(
    "name", ["Surname", "IBAN_NR", "Telefon", "E-Mail", "Kundenname", "姓名", "ssn", "Tel.: privat"]
)
def test_an_identifier_by_name_is_refused_and_the_advised_drop_loads(bank, name):
    columns = {"customer_id": ["a", "b"], name: ["x", "y"], "balance": [1, 2]}
    with pytest.raises(InputError, match="a direct identifier") as error:
        bank("snapshot", columns)
    remedy = str(error.value).split("Try: leave the column out: ")[1].split(" under snapshot in bank.yaml")[0]
    assert remedy.startswith("drop: [")
    found = bank("snapshot", columns, ", " + remedy)
    assert found.columns("snapshot") == ("customer_id", "balance")
    assert found.unread("snapshot") == (name,)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("nachname", "Name"), ("x1", "Telefon"), ("姓", "姓名"), ("mail", "E-Mail")]
)
def test_no_mapping_lets_an_identifier_pass(bank, ours, theirs):
    columns = {"customer_id": ["a", "b"], "acquired_on": "2020-01-01", theirs: ["x", "y"]}
    mapped = f", columns: {{'{ours}': '{theirs}'}}"
    with pytest.raises(
        InputError, match=rf"customers\.{ours}: a direct identifier .* is refused, '{theirs}' in t\.csv"
    ) as e:
        bank("customers", columns, mapped)
    remedy = str(e.value).split("Try: leave the column out: ")[1].split(" under customers in bank.yaml")[0]
    assert bank("customers", columns, f"{mapped}, {remedy}").columns("customers") == ("customer_id", "acquired_on")
    assert bank("customers", columns).unread("customers") == (theirs,)  # what is not read needs no key


def test_only_an_id_of_the_contract_may_be_an_identifier(bank, monkeypatch, identifiers_as_they_came):
    monkeypatch.setattr(pseudonyms, "key", identifiers_as_they_came)
    columns = {"Kundenname": ["x", "y"], "acquired_on": "2020-01-01"}
    found = bank("customers", columns, ", columns: {customer_id: Kundenname}").frame(
        "SELECT customer_id FROM customers"
    )
    assert not {"x", "y"} & set(found["customer_id"])
    with pytest.raises(InputError, match=r"customers\.acquisition_channel: a direct identifier .*drop: \[Kundenname\]"):
        bank("customers", columns | {"customer_id": ["a", "b"]}, ", columns: {acquisition_channel: Kundenname}")


@pytest.mark.parametrize("what", VALUES)
@pytest.mark.parametrize("parquet", [False, True])
def test_an_identifier_by_value_is_refused_and_the_advised_drop_loads(bank, what, parquet):
    values = VALUES[what][0]
    columns = {"customer_id": [f"c{i}" for i in range(len(values))], "remark": values}
    with pytest.raises(InputError, match=rf"snapshot\.remark: holds {what}, which are refused \(") as error:
        bank("snapshot", columns, parquet=parquet)
    assert not any(value in str(error.value) for value in values)
    remedy = str(error.value).split("Try: leave the column out: ")[1].split(" under snapshot in bank.yaml")[0]
    assert bank("snapshot", columns, ", " + remedy, parquet).columns("snapshot") == ("customer_id",)


@pytest.mark.parametrize("what", ["IBANs", "Chinese resident identity numbers", "numbers of payment cards"])
def test_ids_that_identify_are_replaced(bank, what, monkeypatch, identifiers_as_they_came):
    monkeypatch.setattr(pseudonyms, "key", identifiers_as_they_came)
    values = VALUES[what][0]
    found = bank("customers", {"customer_id": values, "acquired_on": "2020-01-01"})
    assert not set(values) & set(found.frame("SELECT customer_id FROM customers")["customer_id"])
    assert found.rows("customers") == len(values)


@pytest.mark.parametrize("kind", [int, float])
def test_cards_stored_as_numbers_are_found(bank, kind):
    columns = {"customer_id": list("abcd"), "z": [kind(c) for c in cards(4)]}
    with pytest.raises(InputError, match=r"snapshot\.z: holds numbers of payment cards"):
        bank("snapshot", columns, parquet=True)


def test_a_long_column_is_looked_at_evenly():
    n = 120_000
    ids = [f"c{i}" for i in range(n)]
    about = {"name": "x", "currency": "EUR", "evidence": "simulated", "dated": False}
    for values in (list(ibans(n)), (["x", *("a@b.de" if i == n // 2 + 1 else "y" for i in range(n - 1))])):
        with pytest.raises(InputError, match=r"snapshot\.remark: holds (IBANs|e-mail addresses)"):
            Bank.from_frames({"snapshot": pd.DataFrame({"customer_id": ids, "remark": values})}, about)


@pytest.mark.parametrize("hidden", ["call a@b.de", "an DE89 3704 0044 0532 0130 00", "客户 11010519491231002X 来电"])
def test_one_remark_in_many_is_found(hidden):
    n = 120_000
    remarks = [f"visit {i:x} 回访" for i in range(n)]
    frame = pd.DataFrame({"customer_id": [f"c{i}" for i in range(n)], "remark": remarks})
    frame.loc[n // 2 + 1, "remark"] = hidden
    about = {"name": "x", "currency": "EUR", "evidence": "simulated", "dated": False}
    with pytest.raises(InputError, match=r"snapshot\.remark: holds .* \(1 of 120,000 different values"):
        Bank.from_frames({"snapshot": frame}, about)


def test_drop_names_columns_of_the_file(bank):
    with pytest.raises(InputError, match=r"drop names no column of t\.csv; did you mean 'Surname'"):
        bank("snapshot", {"customer_id": ["a"], "Surname": ["x"]}, ", drop: [Surnam]")
