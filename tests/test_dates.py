"""Dates as others write them: a column is read, or the first advice, declared word for word, reads what was meant."""

from __future__ import annotations

import datetime
import re
from types import SimpleNamespace

import pytest

import test_remedies
from crmresearch.data import casting
from crmresearch.errors import InputError
from test_remedies import advised

bank = test_remedies.bank
DAYS = ["2020-02-29", "2019-12-01", "2020-03-13"]


def followed(bank, column, values, before=""):
    """Load a column, and follow every first advice; return what was advised and what was read."""
    given = "2020-01-01;" if column == "birth_year" else ""
    names = f"customer_id;{'acquired_on;' if given else ''}{column}\n"
    text = names + "".join(f"{who};{given}{v}\n" for who, v in zip("abcd", values, strict=False))
    spec, told = f", sep: ';'{before}", []
    for _ in range(3):
        try:
            found = bank("customers", text, spec)
        except InputError as error:
            key, value = advised(SimpleNamespace(value=error))
            beside = re.search(r"in the place of its entry under columns and date_format: ({.*?})", str(error))
            more = f", {key}: {value}" + (f", date_format: {beside[1]}" if beside else "")
            assert more not in spec
            spec, told = spec + more, [*told, f"{key}: {value}"]
        else:
            read = found.frame(found.table("customers").order_by("customer_id"))[column]
            return told, [str(v)[:10] for v in read]
    pytest.fail(spec)


@pytest.mark.parametrize(
    ("form", "values"),
    [
        ("%d/%m/%y", ("29/02/20", "01/12/19", "13/03/20")),
        ("%m/%d/%y", ("02/29/20", "12/01/19", "03/13/20")),
        ("%d.%m.%y", ("29.02.20", "1.12.19", "13.3.20")),
        ("%d-%m-%y", ("29-02-20", "01-12-19", "13-03-20")),
        ("%y-%m-%d", ("20-02-29", "19-12-01", "20-03-13")),
        ("%y/%m/%d", ("20/02/29", "19/12/01", "20/03/13")),
        ("%y%m%d", ("200229", "191201", "200313")),
        ("%d%m%y", ("290220", "011219", "130320")),
        ("%d%m%Y", ("29022020", "01122019", "13032020")),
        ("%Y%m%d.0", ("20200229.0", "20191201.0", "20200313.0")),
        ("%Y.%m.%d", ("2020.2.29", "2019.12.1", "2020.3.13")),
        ("%Y. %m. %d.", ("2020. 2. 29.", "2019. 12. 1.", "2020. 3. 13.")),
        ("%d.%m.%Y %H:%M", ("29.02.2020 10:15", "01.12.2019 00:00", "13.03.2020 23:59")),
        ("%m/%d/%Y %I:%M:%S %p", ("2/29/2020 12:00:00 AM", "12/1/2019 1:15:00 PM", "3/13/2020 9:00:00 AM")),
        ("%d. %b %Y", ("29. Februar 2020", "1. Dezember 2019", "13. März 2020")),
        ("%d. %b %Y", ("29. Feb. 2020", "1. Dez. 2019", "13. Mrz. 2020")),
        ("%d %b %Y", ("29 February 2020", "1 Dec 2019", "13 Mar. 2020")),
        ("%b %d, %Y", ("February 29, 2020", "Dec 1, 2019", "Mar 13, 2020")),
        ("%d-%b-%y", ("29-FEB-20", "01-DEC-19", "13-MAR-20")),
        ("%a, %d %b %Y", ("Sat, 29 Feb 2020", "Sun, 1 Dec 2019", "Fri, 13 Mar 2020")),
        ("%Y年%m月%d日", ("2020年2月29日", "2019年12月1日", "2020年03月13日")),
        ("%y年%m月%d日", ("20年2月29日", "19年12月1日", "20年3月13日")),
        ("%Y年%m月%d日 %H:%M", ("2020年2月29日 10:15", "2019年12月1日 00:00", "2020年3月13日 9:05")),
        ("%Y年%m月%d日", ("２０２０年２月２９日", "２０１９年１２月１日", "２０２０年３月１３日")),
        ("%d.%m.%Y", ("２９．０２．２０２０", "０１．１２．２０１９", "１３．０３．２０２０")),
        ("%d %b %Y", ("29 févr. 2020", "1er déc. 2019", "13 mars 2020")),
        ("%d %b %Y", ("29 de febrero de 2020", "1 de diciembre de 2019", "13 de marzo de 2020")),
        ("%d/%b/%Y", ("29/fev/2020", "01/dez/2019", "13/mar/2020")),
        ("%d %b %Y", ("29 feb 2020", "1 dec 2019", "13 mrt 2020")),
        ("%b %d, %Y", ("February 29th, 2020", "December 1st, 2019", "March 13th, 2020")),
        ("%a, %d.%m.%Y", ("Sa, 29.02.2020", "So, 01.12.2019", "Fr, 13.03.2020")),
        ("%a %d %b %Y", ("samedi 29 février 2020", "dimanche 1 décembre 2019", "vendredi 13 mars 2020")),
        ("%Y년 %m월 %d일", ("2020년 2월 29일", "2019년 12월 1일", "2020년 3월 13일")),
        ("%G-W%V-%u", ("2020-W09-6", "2019-W48-7", "2020-W11-5")),
        ("%Y-%j", ("2020-060", "2019-335", "2020-073")),
        ("", ("２０２０－０２－２９", "２０１９/１２/０１", "2020-03-1３")),
    ],
)
def test_a_way_of_writing_days_is_found_and_reads_them(bank, form, values):
    told, read = followed(bank, "acquired_on", values)
    assert told == ([f"date_format: {{acquired_on: '{form}'}}"] if form else [])
    assert read == DAYS


@pytest.mark.parametrize(
    ("values", "forms"),
    [
        (("2020-02-29", "01.12.2019", "2020-03-13"), ["%Y-%m-%d", "%d.%m.%Y"]),
        (("29.02.2020", "20191201", "13.03.2020"), ["%d.%m.%Y", "%Y%m%d"]),
        (("29/02/2020", "1 Dec 2019", "13/03/2020"), ["%d/%m/%Y", "%d %b %Y"]),
        (("2020年2月29日", "2019-12-01", "2020年3月13日"), ["%Y年%m月%d日", "%Y-%m-%d"]),
    ],
)
def test_two_ways_in_one_column_are_declared_as_a_list(bank, values, forms):
    told, read = followed(bank, "acquired_on", values)
    assert told == [f"date_format: {{acquired_on: {forms}}}"]
    assert read == DAYS


@pytest.mark.parametrize("word", ["-", "n/a", "00.00.0000", "unbekannt", "无数据", "0"])
def test_a_format_and_words_for_none_are_advised_together(bank, word):
    told, read = followed(bank, "left_on", ("29.02.2020", word, "13.03.2020"), ", constants: {acquired_on: 2019-01-01}")
    assert told == ["date_format: {left_on: '%d.%m.%Y'}", f"missing: {{left_on: ['{word}']}}"]
    assert read == ["2020-02-29", "NaT", "2020-03-13"]


@pytest.mark.parametrize("spec", ["", ", missing: {acquired_on: [0000-00-00]}"])
@pytest.mark.parametrize(
    "values", [("29.02.2019", "01.12.2019"), ("30.02.2020", "01.12.2019"), ("31.04.2020", "1.12.2019")]
)
def test_a_day_that_does_not_exist_is_to_be_corrected(bank, values, spec):
    text = "customer_id,acquired_on\n" + "".join(f"{who},{v}\n" for who, v in zip("ab", values, strict=True))
    with pytest.raises(InputError, match=re.escape("; correct the rest (no such day, or written otherwise)")):
        bank("customers", text, spec)
    with pytest.raises(InputError, match=re.escape("(1 row: 1). Try: correct these rows (no such day, or")):
        bank("customers", text, f"{spec}, date_format: '%d.%m.%Y'")


@pytest.mark.parametrize("form", ["", "%d/%m/%Y", "%Y/%m/%d"])
@pytest.mark.parametrize("day", ["29/02/20", "01/12/19", "20/02/03"])
def test_years_of_two_digits_are_no_years_of_the_first_century(bank, day, form):
    with pytest.raises(InputError, match="must be a date"):
        bank("customers", f"customer_id,acquired_on\na,{day}\n", f", date_format: '{form}'" if form else "")


def test_times_in_utc_are_told_by_their_sign(bank):
    told, read = followed(bank, "acquired_on", ("2020-02-28T23:00:00Z", "2019-12-01T10:00:00Z", "2020-03-13T10:00:00Z"))
    assert told == ["timezone: {acquired_on: UTC}"]
    assert read == ["2020-02-28", *DAYS[1:]]


@pytest.mark.parametrize(
    "months",
    [
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "janv. févr. mars avr. mai juin juil. août sept. oct. nov. déc.",
        "ene feb mar abr may jun jul ago sep oct nov dic",
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
        "jan fev mar abr mai jun jul ago set out nov dez",
        "januari februari maart april mei juni juli augustus september oktober november december",
        "Jänner Februar März April Mai Juni Juli August September Oktober November Dezember",
        "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC",
    ],
)
def test_names_of_months_are_read_in_several_languages(bank, months):
    days = [f"5 {month} 2020" for month in months.split()]
    text = "customer_id;acquired_on\n" + "".join(f"c{k:02d};{day}\n" for k, day in enumerate(days))
    found = bank("customers", text, ", sep: ';', date_format: '%d %b %Y'")
    read = found.frame("SELECT acquired_on FROM customers ORDER BY customer_id")["acquired_on"]
    assert read.dt.month.tolist() == [*range(1, 13)]
    assert [datetime.datetime.strptime(casting.english(day), "%d %b %Y").month for day in days] == [*range(1, 13)]


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (("2020Q1", "2020Q2", "2019Q4"), ["2020-01-01", "2020-04-01", "2019-10-01"]),
        (("2020-Q1", "2020-Q2", "2019-Q4"), ["2020-01-01", "2020-04-01", "2019-10-01"]),
        (("T1 2020", "T2 2020", "T4 2019"), ["2020-01-01", "2020-04-01", "2019-10-01"]),
        (("1. Quartal 2020", "2. Quartal 2020", "4. Quartal 2019"), ["2020-01-01", "2020-04-01", "2019-10-01"]),
        (("109/02/29", "108/12/01", "109/03/13"), DAYS),
        (("'2020-02-29", "'2019-12-01", "'2020-03-13"), DAYS),
    ],
)
def test_what_no_format_reads_gets_a_formula_that_reads_it(bank, values, read):
    told, found = followed(bank, "acquired_on", values)
    assert [t.partition(":")[0] for t in told] == ["derived"]
    assert found == read


@pytest.mark.parametrize(
    ("values", "read"),
    [
        (("85", "52", "05"), ["1985", "1952", "2005"]),
        (("８５", "５２", "０５"), ["1985", "1952", "2005"]),
        (("１９８５", "１９５２", "2005"), ["1985", "1952", "2005"]),
        (("1985", "52", "5"), ["1985", "1952", "2005"]),
        (("13.05.1985", "29.02.1952", "1.1.2005"), ["1985", "1952", "2005"]),
        (("1985-05-13", "1952-02-29", "2005-01-01"), ["1985", "1952", "2005"]),
        (("1985年5月13日", "1952年2月29日", "2005年1月1日"), ["1985", "1952", "2005"]),
    ],
)
def test_years_of_birth_of_two_digits_full_width_or_as_days_are_read_as_advised(bank, values, read):
    assert followed(bank, "birth_year", values)[1] == read
