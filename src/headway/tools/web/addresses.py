"""Public and private addresses, by a list of our own.

Python's `ipaddress` has one too, but it differs from version to version. The networks are those of
IANA's special-purpose address registries (RFC 6890 and after) that are not for ordinary servers;
those that are reached from everywhere but belong to the network's own machinery are among them.
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_OTHERS_4 = tuple(map(IPv4Network, (
    "0.0.0.0/8",        # this network (RFC 791)
    "10.0.0.0/8",       # private (RFC 1918)
    "100.64.0.0/10",    # shared by a provider's customers (RFC 6598); clouds have services there
    "127.0.0.0/8",      # loopback (RFC 1122)
    "169.254.0.0/16",   # link-local (RFC 3927); what a cloud tells its machines
    "172.16.0.0/12",    # private (RFC 1918)
    "192.0.0.0/24",     # protocol assignments (RFC 6890); a cloud's own services
    "192.0.2.0/24",     # documentation (RFC 5737)
    "192.31.196.0/24",  # AS112 (RFC 7535)
    "192.52.193.0/24",  # AMT (RFC 7450)
    "192.88.99.0/24",   # 6to4 relays, deprecated (RFC 7526)
    "192.168.0.0/16",   # private (RFC 1918)
    "192.175.48.0/24",  # AS112 (RFC 7534)
    "198.18.0.0/15",    # benchmarks (RFC 2544)
    "198.51.100.0/24",  # documentation (RFC 5737)
    "203.0.113.0/24",   # documentation (RFC 5737)
    "224.0.0.0/4",      # multicast (RFC 5771)
    "240.0.0.0/4",      # reserved, and broadcast (RFC 1112)
    "168.63.129.16/32", # a public address at which Azure answers its machines
)))  # fmt: skip

_UNICAST_6 = IPv6Network("2000::/3")
"""The network of ordinary servers (RFC 4291); loopback and private addresses are outside of it."""

_OTHERS_6 = tuple(map(IPv6Network, (
    "2001::/23",          # protocol assignments (RFC 2928): Teredo, ORCHID, benchmarks
    "2001:db8::/32",      # documentation (RFC 3849)
    "2620:4f:8000::/48",  # AS112 (RFC 7534)
    "3fff::/20",          # documentation (RFC 9637)
)))  # fmt: skip

_MAPPED = (
    (IPv6Network("::ffff:0:0/96"), 0),    # IPv4-mapped (RFC 4291)
    (IPv6Network("64:ff9b::/96"), 0),     # NAT64 (RFC 6052)
    (IPv6Network("2002::/16"), 80),       # 6to4 (RFC 3056)
)  # fmt: skip
"""Networks whose addresses contain one of IPv4, and how many bits come after it."""

_CARRYING = (
    *_MAPPED,
    (IPv6Network("::ffff:0:0:0/96"), 0),  # translated (RFC 2765)
    (IPv6Network("::/96"), 0),            # IPv4-compatible, deprecated (RFC 4291)
    (IPv6Network("64:ff9b:1::/48"), 0),   # NAT64 of one's own (RFC 8215)
)  # fmt: skip
"""Likewise, with those that nobody reaches from everywhere."""


def is_public(text: str) -> bool:
    """Return whether an address is public, also one of IPv4 inside one of IPv6.

    A text that is no address is not.
    """
    address = _parsed(text)
    if address is None:
        return False
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _OTHERS_4)
    for inner in _inside(address, _MAPPED):
        return is_public(str(inner))
    return address in _UNICAST_6 and not any(address in network for network in _OTHERS_6)


def is_in(text: str, networks: Iterable[Network]) -> bool:
    """Return whether an address is in one of these networks, or leads to one that is."""
    address = _parsed(text)
    if address is None:
        return True  # nobody knows where it leads
    leads_to = [address]
    if isinstance(address, IPv6Address):
        leads_to += _inside(address, _CARRYING)
        if address.teredo is not None:
            leads_to += address.teredo
    return any(each in network for network in networks for each in leads_to)


def network_of(text: str) -> Network:
    """Return the network that a text names: `10.0.0.0/8`, or one address.

    Raises:
        ValueError: It names none; the text says what is wrong.
    """
    try:
        return ip_network(text.strip(), strict=False)
    except ValueError:
        raise ValueError("is no network; write 10.0.0.0/8, fd00::/8 or one address") from None


def _inside(
    address: IPv6Address, networks: Iterable[tuple[IPv6Network, int]]
) -> Iterator[IPv4Address]:
    for network, behind in networks:
        if address in network:
            yield IPv4Address(int(address) >> behind & 0xFFFFFFFF)


def _parsed(text: str) -> Address | None:
    try:
        return ip_address(text.partition("%")[0])
    except ValueError:
        return None
