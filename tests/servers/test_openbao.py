"""The secret store keeps versions of a secret, and answers only who has a token."""

from __future__ import annotations

import httpx

from servers.testbed.openbao import OpenBao


def test_a_secret_is_written_read_and_versioned(openbao: OpenBao) -> None:
    with httpx.Client(base_url=openbao.url, headers={"X-Vault-Token": openbao.token}, trust_env=False) as client:
        for value in ["first", "second"]:
            written = client.post("/v1/secret/data/lake", json={"data": {"password": value}})
            written.raise_for_status()
        newest = client.get("/v1/secret/data/lake").json()["data"]
        assert newest["data"] == {"password": "second"}
        assert newest["metadata"]["version"] == 2
        older = client.get("/v1/secret/data/lake", params={"version": 1}).json()["data"]
        assert older["data"] == {"password": "first"}


def test_without_the_token_nothing_is_read(openbao: OpenBao) -> None:
    with httpx.Client(base_url=openbao.url, trust_env=False) as client:
        assert client.get("/v1/secret/data/lake").status_code == 403
        stranger = client.get("/v1/secret/data/lake", headers={"X-Vault-Token": "guess"})
        assert stranger.status_code == 403
