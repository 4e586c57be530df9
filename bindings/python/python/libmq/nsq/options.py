"""The options that Reader and Writer share, as settings of libmq.connect()."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._types import Settings

#: Options of pynsq's connections, with their defaults.
DEFAULTS: dict[str, Any] = {
    "timeout": 1.0,
    "heartbeat_interval": 30,
    "requeue_delay": 90,
    "tls_v1": False,
    "tls_options": None,
    "snappy": False,
    "deflate": False,
    "deflate_level": 6,
    "user_agent": None,
    "output_buffer_size": 16 * 1024,
    "output_buffer_timeout": 250,
    "sample_rate": 0,
    "auth_secret": None,
    "msg_timeout": None,
    "hostname": None,
}


class Options:
    """Checked options."""

    def __init__(self, given: dict[str, Any]) -> None:
        unknown = sorted(set(given) - set(DEFAULTS))
        assert not unknown, f"unknown options: {', '.join(unknown)}"
        self.values = {**DEFAULTS, **given}
        value = self.values
        assert isinstance(value["timeout"], float), "timeout is a float"
        assert isinstance(value["heartbeat_interval"], int) and value["heartbeat_interval"] >= 1
        assert isinstance(value["requeue_delay"], int) and value["requeue_delay"] >= 0
        assert isinstance(value["tls_options"], (dict, type(None))), "tls_options is a dict"
        assert isinstance(value["deflate_level"], int) and 1 <= value["deflate_level"] <= 9
        assert not (value["snappy"] and value["deflate"]), "snappy or deflate, not both"
        assert isinstance(value["output_buffer_size"], int) and value["output_buffer_size"] >= 0
        assert isinstance(value["output_buffer_timeout"], int) and value["output_buffer_timeout"] >= 0
        assert isinstance(value["sample_rate"], int) and 0 <= value["sample_rate"] < 100
        assert isinstance(value["auth_secret"], (str, bytes, type(None)))
        timeout = value["msg_timeout"]
        assert timeout is None or (isinstance(timeout, (float, int)) and timeout > 0)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def settings(self) -> Settings:
        """As libmq.connect() takes them. Buffers are the library's own, and need no settings."""
        value = self.values
        settings: Settings = {"heartbeat_interval": min(value["heartbeat_interval"], 60)}
        if value["snappy"]:
            settings["compression"] = "snappy"
        if value["deflate"]:
            settings["compression"] = f"deflate-{value['deflate_level']}"
        if value["user_agent"]:
            settings["user_agent"] = value["user_agent"]
        if value["hostname"]:
            settings["client_id"] = value["hostname"].split(".")[0]
        if value["auth_secret"] is not None:
            secret = value["auth_secret"]
            settings["auth_secret"] = secret.decode() if isinstance(secret, bytes) else secret
        if value["tls_v1"]:
            tls: dict[str, Any] = value["tls_options"] or {}
            if tls.get("cert_reqs", ssl.CERT_REQUIRED) == ssl.CERT_NONE:
                settings["tls_insecure"] = True
            if tls.get("ca_certs"):
                settings["tls_root_ca_file"] = tls["ca_certs"]
            if tls.get("certfile"):
                settings["tls_cert_file"] = tls["certfile"]
            if tls.get("keyfile"):
                settings["tls_key_file"] = tls["keyfile"]
        return settings

    def scheme(self) -> str:
        """The scheme of brokers' URLs."""
        return "mqs" if self.values["tls_v1"] else "mq"


def addresses(name: str, value: str | Iterable[str] | None) -> list[str]:
    """A list of addresses, which may be given as one."""
    if value is None:
        return []
    listed = [value] if isinstance(value, str) else list(value)
    assert all(isinstance(address, str) for address in listed), f"{name} are strings"
    return listed


def lookup_address(address: str) -> str:
    """host:port of a lookup server that may be given as a URL."""
    if address.startswith("https://"):
        raise NotImplementedError("libmq.nsq asks lookup servers over http, not https")
    address = address.removeprefix("http://").split("/")[0].split("?")[0]
    return address
