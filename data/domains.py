"""The registered domain of an address: what a merchant owns, by the public suffix list (publicsuffix.org).

The list's private part counts too: shops on one platform, such as a.myshopify.com and b.myshopify.com, are two merchants.
"""

import ipaddress
import re
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from ..core.extras import require

_LONGEST_HOST = 253
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


@cache
def _suffixes() -> Any:
    """The list that comes with the package, with names in Unicode as well as in ASCII; loading takes 50 ms."""
    return require("publicsuffixlist", "cli").PublicSuffixList()


def host_of(address: str) -> str | None:
    """The host of a URL, with or without a scheme, or of a bare host: lower case, ASCII (punycode), no port.

    None if there is none: the text is no address, or its host breaks the rules of DNS.
    """
    address = address.strip()
    try:
        host = urlsplit(address if _SCHEME.match(address) else f"//{address.lstrip('/')}").hostname
        if not host:
            return None
        if _ip(host):
            return host
        plain = host.rstrip(".").replace("\u3002", ".")
        ascii_host = plain.encode("ascii") if plain.isascii() else plain.encode("idna")
    except ValueError:  # a broken IPv6 address or port, or a name that IDNA does not allow
        return None
    host = ascii_host.decode("ascii").lower()
    valid = len(host) <= _LONGEST_HOST and all(_LABEL.fullmatch(label) for label in host.split("."))
    return host if valid else None


def registered_domain(address: str) -> str | None:
    """The registered domain of a URL or host: "https://www.shop.example.co.uk/x" gives "example.co.uk".

    An IP address, a name of one label such as "localhost" and a public suffix itself have none above them and stay as
    they are: each is a site of its own. None if the text has no host.

    :raises MissingExtraError: if publicsuffixlist is not installed.
    """
    host = host_of(address)
    if host is None or _ip(host):
        return host
    return _suffixes().privatesuffix(host) or host


def _ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
