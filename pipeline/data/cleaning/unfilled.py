"""Fields of a template that nobody filled in: ``{{name}}``, ``[INSERT NAME]``.

No published list was found, so this one is stated here in full and kept narrow; code between
backticks is never looked at:

- ``{{name}}``: double braces around an identifier of two or more letters, dots allowed; not
  ``${{ x }}`` (GitHub Actions), not LaTeX (``\\frac{{ab}}``), not ``{{a|b}}`` (Wikipedia).
- ``${name}``, ``<<NAME>>``, ``[Company Name]``: only names of the list of FIELDS, as
  ``${name}`` is a variable and ``[name]`` an index in most other places; ``<<NAME>>`` takes any
  name in capitals, and ``[Name]`` alone is not taken.
- ``[insert ...]``, ``[enter ...]``, ``[fill in ...]``, ``[your ...]`` and the Chinese
  ``[您的...]``, ``【请填写...】``, ``[姓名]``.
"""

from __future__ import annotations

import re

from pipeline.data.cleaning.code_spans import prose

# Without blanks, underscores, apostrophes and case.
_FIELD_NAMES = (
    "name firstname lastname fullname yourname username customername clientname companyname "
    "productname projectname recipientname recipientsname sendername sendersname managername "
    "managersname employeename candidatename hiringmanagername employername teamname eventname "
    "schoolname cityname brandname businessname organizationname organisationname charityname "
    "authorname author assistantname botname modelname email emailaddress phonenumber "
    "streetaddress postaladdress jobtitle positiontitle ordernumber invoicenumber accountnumber "
    "trackingnumber contactinformation contactdetails currentdate startdate enddate"
)
FIELDS = frozenset(_FIELD_NAMES.split())
_BRACES = re.compile(r"(?<![\w${}^\\])\{\{\s{0,4}[^\W\d][\w.-]{0,58}\w\s{0,4}\}\}(?!\})")
_DOLLAR = re.compile(r"\$\{([A-Za-z][A-Za-z_]{0,40})\}")
# What redaction itself writes into `<a@b.c>` is no field.
_ANGLES = re.compile(
    r"(?<!<)<<(?!(?:EMAIL_ADDRESS|PHONE_NUMBER|CREDIT_CARD|IBAN_CODE|US_SSN|IP_ADDRESS|CRYPTO"
    r"|CN_RESIDENT_ID)>)[A-Z][A-Z0-9_ ]{1,40}>>(?!>)"
)
_BRACKETS = re.compile(r"(?<![\w\])!])\[([A-Za-z][A-Za-z '’_/-]{2,60})\](?![(\[:])")
_COMMANDS = re.compile(r"(?:insert|enter|fill in|add|type|your|recipient['’]?s)[ _]\S", re.I)
_CHINESE = re.compile(
    r"[\[【](?:(?:您的|你的|请?填写|请?填入|请?插入|请?输入)[^\[\]【】{}\n]{1,20}"
    r"|姓名|您的姓名|公司名称|公司名|客户姓名|联系方式|联系电话|收件人|收件人姓名)[\]】]"
)


def unfilled_fields(text: str) -> tuple[str, ...]:
    """The fields as they stand in the text, each once, in no more than 100 characters."""
    if not ("{" in text or "<<" in text or "[" in text or "【" in text):
        return ()
    text = prose(text)
    found = _BRACES.findall(text) + _ANGLES.findall(text) + _CHINESE.findall(text)
    found += [match[0] for match in _DOLLAR.finditer(text) if _field(match[1])]
    found += [
        match[0]
        for match in _BRACKETS.finditer(text)
        if _COMMANDS.match(match[1]) or (match[1][0].isupper() and _named(match[1]))
    ]
    return tuple(dict.fromkeys(field[:100] for field in found))


def _field(name: str) -> bool:
    return re.sub(r"[^a-z]", "", name.lower()) in FIELDS


def _named(name: str) -> bool:
    return not name.isalpha() and _field(name)
