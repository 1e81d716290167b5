r"""The formats of strings as regular expressions over characters, and as expressions over the contents of JSON strings.

All are taken from their RFCs. Where a format is not regular or its tables are large, less is allowed than the RFC
allows, never more: `regex` nests groups three deep and takes no look-arounds or back-references; host names have no
"--" in third place (encoded international names); a leap second is at 23:59:60 UTC, written with offset zero.
"""

from __future__ import annotations

from functools import lru_cache

from ..expression import Expression
from ..patterns import Encoding, lower, parse


def known_format(name: str) -> bool:
    """Whether a format is enforced, which is so in every draft; the others are annotations."""
    return name in FORMATS


@lru_cache(256)
def format_expression(name: str, encoding: Encoding) -> Expression:
    """The texts of a format out of FORMATS."""
    return lower(parse(FORMATS[name], "python"), encoding)


def _date() -> str:
    day31, day30 = r"(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])", r"(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    leap = r"(?:[0-9][0-9](?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
    return rf"(?:[0-9]{{4}}-(?:{day31}|{day30}|02-(?:0[1-9]|1[0-9]|2[0-8]))|{leap}-02-29)"


def _time() -> str:
    usual = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
    return rf"(?:{usual}|23:59:60(?:\.[0-9]+)?(?:[Zz]|[+-]00:00))"


def _duration() -> str:
    day, week = "[0-9]+D", "[0-9]+W"
    month = f"[0-9]+M(?:{day})?"
    date = f"(?:{day}|{month}|[0-9]+Y(?:{month})?)"
    minute = "[0-9]+M(?:[0-9]+S)?"
    time = f"T(?:[0-9]+H(?:{minute})?|{minute}|[0-9]+S)"
    return f"P(?:{date}(?:{time})?|{time}|{week})"


_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = rf"(?:{_OCTET}\.){{3}}{_OCTET}"


def _ipv6() -> str:
    group = "[0-9A-Fa-f]{1,4}"
    last = f"(?:{group}:{group}|{_IPV4})"
    found = [f"(?:{group}:){{6}}{last}", f"::(?:{group}:){{5}}{last}"]
    for before in range(1, 6):  # groups before the gap, at most; then 5 - before groups and the last two
        head = f"(?:{group}(?::{group}){{0,{before - 1}}})?"
        found.append(f"{head}::(?:{group}:){{{5 - before}}}{last}")
    found.append(f"(?:{group}(?::{group}){{0,5}})?::{group}")
    found.append(f"(?:{group}(?::{group}){{0,6}})?::")
    return f"(?:{'|'.join(found)})"


_IPV6 = _ipv6()


_LETTER = "A-Za-z0-9"


def _host(letter: str) -> str:
    """Labels without "--" in third place: up to three of at most 63 characters, or ten of at most 24."""

    def label(most: int) -> str:
        fourth = f"(?:[{letter}][{letter}-]|-[{letter}])[{letter}-]{{0,{most - 5}}}[{letter}]"
        return f"(?:[{letter}]|[{letter}][{letter}-]?[{letter}]|[{letter}][{letter}-](?:-[{letter}]|{fourth}))"

    return rf"(?:{label(63)}(?:\.{label(63)}){{0,2}}|{label(24)}(?:\.{label(24)}){{3,9}})"


_WIDE = (  # letters that every table of international names allows
    "A-Za-z0-9\u00e0-\u00f6\u00f8-\u00ff\u03b1-\u03c1\u03c3-\u03c9\u0430-\u044f"
    "\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
)
_WIDE_LABEL = f"(?:[{_WIDE}](?:[{_WIDE}-]?[{_WIDE}]{{1,8}})?)"

_ATEXT = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_DOMAIN = rf"(?:{_host(_LETTER)}|\[{_IPV4}\]|\[IPv6:{_IPV6}\])"
_EMAIL = rf"""(?:(?=[^@]{{1,64}}@){_ATEXT}+(?:\.{_ATEXT}+)*|"(?:[ !#-\[\]-~]|\\[ -~]){{1,30}}")@{_DOMAIN}"""
_WIDE_ATEXT = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u00e0-\u00ff\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3-]"
_IDN_EMAIL = rf"(?=[^@]{{1,20}}@){_WIDE_ATEXT}+(?:\.{_WIDE_ATEXT}+)*@{_WIDE_LABEL}(?:\.{_WIDE_LABEL}){{0,5}}"

_UCS = "\u00a0-\ud7ff\uf900-\ufdcf\ufdf0-\uffef\U00010000-\U0001fffd\U00020000-\U0002fffd\U00030000-\U0003fffd"


def _uri(more: str, relative: bool) -> str:
    """RFC 3986, and with `more` letters RFC 3987."""
    hexes, free = "%[0-9A-Fa-f]{2}", rf"A-Za-z0-9._~{more}"
    letter = rf"(?:[{free}!$&'()*+,;=:@-]|{hexes})"
    user, name = rf"(?:[{free}!$&'()*+,;=:-]|{hexes})*", rf"(?:[{free}!$&'()*+,;=-]|{hexes})*"
    future = r"v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+"
    authority = rf"(?:{user}@)?(?:\[(?:{_IPV6}|{future})\]|{name})(?::[0-9]*)?"
    rest = f"(?:/{letter}*)*"
    rooted = f"/(?:{letter}+(?:/{letter}*)*)?"
    query = rf"(?:\?(?:{letter}|[/?])*)?(?:#(?:{letter}|[/?])*)?"
    absolute = f"[A-Za-z][A-Za-z0-9+.-]*:(?://{authority}{rest}|{rooted}|{letter}+{rest}|){query}"
    if not relative:
        return absolute
    no_colon = rf"(?:[{free}!$&'()*+,;=@-]|{hexes})+"
    return f"(?:{absolute}|(?://{authority}{rest}|{rooted}|{no_colon}{rest}|){query})"


def _uri_template() -> str:
    hexes = "%[0-9A-Fa-f]{2}"
    plain = rf"(?:[!#$&(-;=?-\[\]_a-z~{_UCS}]|{hexes})"
    name = rf"(?:[A-Za-z0-9_]|{hexes})"
    variable = rf"{name}(?:\.?{name})*(?:\*|:[1-9][0-9]{{0,3}})?"
    return rf"(?:{plain}|\{{[+#./;?&=,!@|]?{variable}(?:,{variable})*\}})*"


_POINTER = "(?:/(?:[^~/]|~[01])*)*"


def _regex() -> str:
    literal = r"[^\\^$.*+?()\[\]{}|/]"
    escape = r"\\[dDwWsSbBtnrfv^$.*+?()\[\]{}|/\\]"
    in_class = r"(?:[^\\\[\]^&~-]|\\[dDwWsStnrfv^$.*+?()\[\]{}|/\\-]|a-z|A-Z|0-9|a-f|A-F|1-9)"
    count = r"(?:(?:[*+?]|\{[0-9]{1,3},?\})\??)?"
    atom = body = rf"{literal}|\.|{escape}|\[\^?{in_class}+-?\]"
    for _ in range(4):
        term = rf"(?:\^|\$|(?:{body}){count})"
        nested = rf"{term}*(?:\|{term}*)*"
        body = rf"{atom}|\((?:\?:)?{nested}\)"
    return nested


FORMATS: dict[str, str] = {
    "date": _date(),
    "time": _time(),
    "date-time": f"{_date()}[Tt]{_time()}",
    "duration": _duration(),
    "email": _EMAIL,
    "idn-email": _IDN_EMAIL,
    "hostname": _host(_LETTER),
    "idn-hostname": rf"{_WIDE_LABEL}(?:\.{_WIDE_LABEL}){{0,5}}",
    "ipv4": _IPV4,
    "ipv6": _IPV6,
    "uri": _uri("", False),
    "uri-reference": _uri("", True),
    "iri": _uri(_UCS, False),
    "iri-reference": _uri(_UCS, True),
    "uri-template": _uri_template(),
    "uuid": "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",
    "json-pointer": _POINTER,
    "relative-json-pointer": f"(?:0|[1-9][0-9]*)(?:#|{_POINTER})",
    "regex": _regex(),
}
