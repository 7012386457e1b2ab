"""What identifies a person directly: names of columns in several languages, and values with a checksum or a shape.

The one place that knows: a bank's columns are tested with it when they are loaded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

# --- by name ----------------------------------------------------------------------------------------------------------

# Parts of a name written together and without accents (``E-Mail`` is email); each is long enough to stand anywhere.
_PARTS = {
    "a person's name": (
        "surname lastname firstname forename givenname middlename maidenname fullname familyname nickname username "
        "customername clientname holdername ownername accountname personname nameofcustomer nameofclient "
        "nachname vorname familienname geburtsname kundenname namedeskunden kontoinhaber inhabername rufname "
        "prenom nomdefamille nomclient nomduclient nomcomplet nomutilisateur titulairename "
        "apellido nombrecliente nombredelcliente nombrecompleto nombreusuario primernombre segundonombre "
        "titulaireducompte titulardelacuenta intestatario ragionesociale raisonsociale razonsocial ansprechpartner "
        "cognome nomecliente nomedelcliente nomecompleto nominativo sobrenome nomecliente achternaam voornaam nazwisko"
    ),
    "a telephone number": (
        "telephone telefon telefono telefoon mobilephone mobileno mobilenum mobilenr cellphone cellulare celular "
        "handynummer handynr mobilnummer mobilnr mobiltel movilnum numeromovil numeroportable phonenum phoneno phonenr "
        "rufnummer faxnum faxnr telefax"
    ),
    "an e-mail address": "emailaddr mailadresse mailaddress courriel correoelectronico postaelettronica mailprivat",
    "a postal address": (
        "streetaddress homeaddress postaladdress mailingaddress addressline anschrift wohnadresse hausnummer hausnr "
        "domicilio indirizzo endereco codigodomicilio"
    ),
    "an identity document": (
        "passport passeport pasaporte passaporto reisepass passnummer passnr personalausweis ausweisnummer ausweisnr "
        "socialsecurity securitesociale seguridadsocial sozialversicherung nationalid nationalinsurance identitycard "
        "identitydocument carteidentite cartedidentite cartaidentita documentoidentidad codicefiscale driverslicen "
        "drivinglicen fuehrerschein fuhrerschein steuernummer steuerid taxpayerid cedula rentenversicherungsnummer"
    ),
    "a card or account number": (
        "creditcardn cardnumber cardno kreditkartennummer kreditkartennr kartennummer kartennr numerodecarte "
        "numerocarte numerotarjeta numerocarta accountno accountnr accountnum acctno acctnr acctnum kontonummer "
        "kontonr numerodecuenta numerocuenta numerodecompte numerocompte numerodeconto numeroconto"
    ),
}
# Words that must stand by themselves: in longer ones they may be anything.
_WORDS = {
    "a person's name": "handle",
    "a telephone number": "tel telnr telno phone handy fax gsm tlf whatsapp wechat",
    "an e-mail address": "email",
    "a postal address": "address addr adresse adress adres strasse street direccion straat",
    "an identity document": "ssn nino nir dni nif nie rfc curp cpf cnpj nric hkid pesel bsn aadhaar passnr svnr ahv",
    "a card or account number": "iban ibannr ibanno",
}
# And these nothing else, numbers aside: direct_mail is a campaign, portable_usage is none.
_ALONE = {
    "a person's name": "titulaire titular inhaber contatto",
    "a telephone number": "portable movil mobile recapito",
    "an e-mail address": "mail mel correo pec",
    "a postal address": "rue calle via domicile",
    "an identity document": "nss",
    "a card or account number": "rib tarjeta cartebancaire",
}
# "name" is a person's only alone or beside these.
_NAME = "name names nom nombre nome naam"
_PERSON = (
    "customer customers client clients cliente clienti kunde kunden person personal persona holder owner inhaber "
    "member user account titulaire titular titolare contact full first last middle family given legal complete "
    "nr no num number id code text raw of des der de du del della di the la le el en cn zh"
)
# What is said about an address or a telephone is no address: email_opened, phone_calls, address_changes.
_ABOUT = (
    "count anzahl has is flag opened open opens click clicks clicked sent received rate share valid verified consent "
    "canal canale kanal kontakte contactos contacts anruf anrufe nutzung uso usage cambio cambios tarjetas cuentas "
    "comptes optin opt allowed ok change changes changed since date day days month months type typ art kind status "
    "channel campaign cost costs spend banking app call calls calling marketing service quality satisfaction hash "
    "hashed sha md5 length score use used country city town region plan available known given response responded"
)
_SIGNS = {  # written without blanks
    "a person's name": "姓名 姓氏 名字 客户名 客戶名 户名 戶名 联系人 聯絡人 氏名 顧客名 성명 이름 고객명",
    "a telephone number": "手机 手機 电话 電話 座机 联系方式 聯繫方式 微信号 微信號 QQ号 携帯 전화 휴대폰",
    "an e-mail address": "邮箱 郵箱 邮件 郵件 电邮 電郵 メール 이메일",
    "a postal address": "地址 住址 住所 주소",
    "an identity document": "身份证 身分证 身份證 身分證 证件号 證件號 护照 護照 社保号 社保卡 マイナンバー 주민등록",
    "a card or account number": "卡号 卡號 账号 帐号 帳號 账户号 帐户号 帳戶號 口座番号 계좌번호",
}
_ABOUT_SIGNS = re.compile(
    "银行(?!账|帐|卡号)|銀行(?!帳|卡號)|次数|次數|数量|數量|号数|號數|渠道|是否|类型|類型|日期|时间|時間|状态|狀態"
)
# What is done by telephone or mail, in words that are written together: telefonbanking, emailmarketing.
_ABOUT_PARTS = re.compile("banking|marketing|kampagne|campagn|campan|kanal|kontakte|nutzung|anruf|wechsel|anzahl|typ$")


def _table(parts: dict[str, str]) -> dict[str, str]:
    return {word: kind for kind, words in parts.items() for word in words.split()}


_PART, _WORD, _SIGN, _SOLE = map(_table, (_PARTS, _WORDS, _SIGNS, _ALONE))


def named(column: str) -> str | None:
    """Tell what kind of direct identifier a column's name announces, if any.

    Parameters
    ----------
    column : str
        A name in English, German, French, Spanish, Italian, Portuguese, Chinese, Japanese or Korean; compound,
        abbreviated, with or without accents (``IBAN_NR``, ``Kundenname``, ``tel_privat``, ``身份证号``).
    """
    text = unicodedata.normalize("NFKC", re.sub(r"\b[Nn][°º]", "numero ", column))
    for sign, kind in _SIGN.items():
        if sign in text and not _ABOUT_SIGNS.search(text):
            return kind
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", text).casefold()
    text = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    text = re.sub(r"\b(?:[a-z]\.){2,}", lambda m: m[0].replace(".", "") + " ", text.replace("_", " "))  # D.N.I.
    words = re.findall(r"[a-z]+", re.sub(r"\be[ -]?mail", "email", text))
    if set(words) & set(_ABOUT.split()) or any(map(_ABOUT_PARTS.search, words)):
        return None
    for word in words:
        if word in _WORD:
            return _WORD[word]
    alone = "".join(word for word in words if word not in ("n", "no", "nr", "num", "numero"))
    if alone in _SOLE:
        return _SOLE[alone]
    together = "".join(words)
    for part, kind in _PART.items():
        if part in together:
            return kind
    names, beside = set(_NAME.split()), set(_PERSON.split())
    if set(words) & names and set(words) <= names | beside:
        return "a person's name"
    return None


# --- by value ---------------------------------------------------------------------------------------------------------

IBAN_LENGTH = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d{2})",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 "
        "ES24 FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 "
        "LC32 LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI28 NL18 NO15 OM23 PK24 PL28 PS29 PT25 "
        "QA29 RO24 RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30",
    )
}


def iban(text: str) -> bool:
    """Tell whether a text is an IBAN (ISO 13616: length, 1 modulo 97); a word may follow groups of four."""
    found = text.replace(" ", "").upper()
    length = IBAN_LENGTH.get(found[:2], 0)
    if len(found) < length or (len(found) > length and " " not in text) or not length:
        return False
    found = found[:length]
    return int("".join(str(int(c, 36)) for c in found[4:] + found[:4])) % 97 == 1


def resident_id(text: str) -> bool:
    """Tell whether a text of eighteen signs is a Chinese resident identity number (ISO 7064, mod 11-2)."""
    total = sum(int(c) << (17 - i) for i, c in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17].upper()


def luhn(text: str) -> bool:
    """Tell whether the digits of a text end in their Luhn check digit, as those of payment cards do."""
    digits = [int(c) for c in text if c.isdigit()][::-1]
    return sum(d if i % 2 == 0 else sum(divmod(2 * d, 10)) for i, d in enumerate(digits)) % 10 == 0


@dataclass(frozen=True)
class Shape:
    """How an identifier looks, what else must hold, and how often it must be found among different values.

    Attributes
    ----------
    what : str
        Its name, in the plural.
    pattern : pattern
        How it looks, within a longer text or alone.
    holds : callable, optional
        The checksum.
    least : int
        Fewest values that are believed: what has a date or a country in it is not found by chance.
    share : float
        Least share of *all* different values; 0 where one in a remark is one too many.
    """

    what: str
    pattern: re.Pattern[str]
    holds: Callable[[str], bool] | None = None
    least: int = 1
    share: float = 0.0


_IBAN = r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?)(?![A-Z0-9])"
_CARD = r"(?<![\w.,-])(?:[3-6]\d|2[2-7])\d{2}(?:\d{10,15}|[ -]?\d{6}[ -]?\d{5})(?![\w.,]?\d)"
_GROUPED = r"(?<![\w.,-])(?:[3-6]\d|2[2-7])\d{2}([ -])\d{4}\1\d{4}\1\d{2,7}(?![\w.,]?\d)"
_COUNTRY = r"(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]|[2-9]\d{2})"
_GAP = r"[ ./()-]{0,3}"
SHAPES = (
    Shape("IBANs", re.compile(_IBAN, re.IGNORECASE), iban),
    Shape(
        "Chinese resident identity numbers",
        re.compile(r"(?<!\d)[1-9]\d{5}(?:18|19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dX](?!\d)", re.I),
        resident_id,
    ),
    Shape("e-mail addresses", re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}")),
    Shape(
        "telephone numbers with a country code",
        re.compile(rf"(?<![\w+.])\+{_COUNTRY}(?:{_GAP}\d){{7,12}}(?![\d.,]*\d)"),
    ),
    Shape("numbers of payment cards", re.compile(_GROUPED), luhn),
    Shape("numbers of payment cards", re.compile(_CARD), luhn, least=3),
    Shape(
        "telephone numbers",
        re.compile(
            r"^(?:1(?:3\d|4[5-9]|5[0-35-9]|6[2567]|7[0-8]|8\d|9\d)\d{8}"  # a Chinese mobile
            rf"|00{_COUNTRY}(?=.*[ /()-]){_GAP}(?:\d{_GAP}){{6,11}}\d"
            r"|0[1-9]\d{0,4}[ /()-]{1,3}(?:\d[ /-]?){3,8}\d"
            r"|\(\d{2,5}\)[ -]?\d[\d -]{4,9}\d"
            r"|[2-9]\d{2}[-.][2-9]\d{2}[-.]\d{4})$"
        ),
        least=3,
        share=0.5,
    ),
)
# What every shape has, for engines whose expressions look neither ahead nor behind.
COARSE = r"@|([0-9][^0-9]{0,3}){8}"


def among(values: Iterable[str], total: int | None = None) -> tuple[str, int] | None:
    """Find direct identifiers among the different values of a column.

    A checksum is also met by chance (one card number in ten). So at least half of the values that look like an
    identifier must meet it, and cards and telephones must make up half of all values.

    Parameters
    ----------
    values : iterable of str
        Different values; those that do not match :data:`COARSE` may be left out.
    total : int, optional
        How many different values there are.

    Returns
    -------
    (str, int) or None
        What was found, and how many values hold it.
    """
    texts = list(values)
    total = len(texts) if total is None else total
    for shape in SHAPES:
        looks = found = 0
        for text in texts:
            matches = [m[0] for m in shape.pattern.finditer(text)]
            looks += bool(matches)
            found += any(shape.holds(m) for m in matches) if shape.holds else bool(matches)
        if found >= max(shape.least, looks / 2, shape.share * total):
            return shape.what, found
    return None
