"""Which addresses may be fetched: http(s) on the merchant's own registered domain, and only hosts with public addresses.

A merchant writes the links. Without a guard one could make the fetcher read services inside the operator's network
(server-side request forgery). Every redirect is checked again, and the connection goes to the very address that was
checked, so that a name server cannot answer differently the second time.
"""

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from ....core.errors import MerchantGuardError
from ....data.domains import registered_domain

Resolve = Callable[[str, int], list[str]]
"""Gives the addresses of a host."""

_PORTS = {"http": 80, "https": 443}


class LookupRefused(MerchantGuardError):
    """An address may not be fetched; the message says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A checked address: the host to name, and the numeric address to connect to."""

    url: str
    scheme: str
    host: str
    port: int
    address: str
    path: str


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host by the system's resolver.

    :raises LookupRefused: if it has none.
    """
    try:
        return list(
            dict.fromkeys(
                str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )
        )
    except (OSError, UnicodeError) as error:
        raise LookupRefused(f"{host[:100]}: has no address ({error})") from error


@dataclass(frozen=True, slots=True)
class Guard:
    """Checks addresses for one merchant.

    :param domain: the merchant's domain; only its registered domain and what is below it may be fetched.
    :param allowed: networks that are allowed although they are not public, for tests of a local site.
    :param ports: allowed ports; None, the standard ones.
    """

    domain: str
    allowed: tuple[str, ...] = ()
    ports: frozenset[int] | None = None
    resolver: Resolve = resolve

    def check(self, url: str) -> Target:
        """The target of an address.

        :raises LookupRefused: if it may not be fetched.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise LookupRefused(f"{url[:200]!r}: is no address ({error})") from error
        host = (parts.hostname or "").rstrip(".").lower()
        if parts.scheme not in _PORTS or not host:
            raise LookupRefused(f"{url[:200]!r}: only http and https are fetched")
        if parts.username is not None or parts.password is not None:
            raise LookupRefused(f"{url[:200]!r}: holds a user name")
        if port not in (self.ports or frozenset(_PORTS.values())):
            raise LookupRefused(f"{url[:200]!r}: port {port} is not fetched")
        if not self._is_own(host):
            raise LookupRefused(f"{url[:200]!r}: is not on the merchant's domain {self.domain}")
        addresses = self.resolver(host, port)
        for address in addresses:
            if not self._is_public(address):
                raise LookupRefused(f"{url[:200]!r}: leads to {address}, which is not a public address")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(url, parts.scheme, host, port, addresses[0], path)

    def _is_own(self, host: str) -> bool:
        own = self.domain.rstrip(".").lower()
        if host == own:
            return True
        registered = registered_domain(own)
        return registered is not None and registered_domain(host) == registered

    def _is_public(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if any(found in ipaddress.ip_network(network) for network in self.allowed):
            return True
        if isinstance(found, ipaddress.IPv6Address):
            inner = found.ipv4_mapped or found.sixtofour or (found.teredo or (None, None))[1]
            # NAT64 carries an IPv4 address in its last four bytes.
            if found in ipaddress.ip_network("64:ff9b::/96"):
                inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
            if inner is not None:
                return inner.is_global and not inner.is_multicast
        return found.is_global and not found.is_multicast
