"""By which names a service may be called, and which pages may write to it.

A browser sends the name that a page used in `Host`. A page of another site can give its own name the address of this
machine (DNS rebinding), and would then be served as if it were ours; it cannot choose what stands in `Host`.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection, Iterable

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
ANY_ADDRESS = "address"
"""Stands for all addresses in numbers: nobody can make another name of one."""
ANY = "*"


def hosts_of(bound: str, more: Iterable[str] = ()) -> frozenset[str]:
    """The names of a service that listens on an address: of this machine alone, or those of this machine.

    Args:
        bound: address or name it listens on.
        more: further names, for instance of the proxy in front of it; `*`: any.
    """
    added = {name.lower() for name in more}
    if bound.lower() in LOOPBACK:
        return LOOPBACK | added
    own = {socket.gethostname().lower(), socket.getfqdn().lower(), bound.lower()}
    return LOOPBACK | own | added | {ANY_ADDRESS}


def is_allowed(name: str, allowed: Collection[str]) -> bool:
    """Whether a service with these names may be called by a name (or address), in lower case and without a port."""
    if name in allowed or ANY in allowed:
        return True
    if ANY_ADDRESS not in allowed:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def name_in(host: bytes) -> str:
    """The name in a `Host` header, without its port, in lower case; empty where there is none."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0] if "]" in text else ""
    return text.rpartition(":")[0] if ":" in text else text


def is_same_site(origin: bytes, host: bytes) -> bool:
    """Whether the page at an `Origin` came from the service that is called by this `Host`."""
    return origin.partition(b"://")[2].lower() == host.lower()
