"""Who sees the pages, and what every answer says."""

import subprocess
import sys
from typing import Any

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from browser.guard import BrowserGuard
from core.errors import ConfigError
from inference.serve.limits import Doors

KEY = "k" * 20


def client(base: str = "http://127.0.0.1:8123", key: str = KEY, **doors: Any) -> TestClient:
    app = BrowserGuard(
        PlainTextResponse("page"), doors=Doors(port=8123, token=key, **doors), port=8123
    )
    return TestClient(app, base_url=base, follow_redirects=False)


def test_the_key_is_asked_for_once_and_then_lies_in_a_cookie() -> None:
    asks = client()
    assert asks.get("/").status_code == 403
    assert asks.get("/?key=wrong").status_code == 403
    entered = asks.get(f"/image?id=a%26b&key={KEY}")
    assert (entered.status_code, entered.headers["location"]) == (303, "/image?id=a%26b")
    cookie = entered.headers["set-cookie"]
    assert cookie == f"radfuse-8123={KEY}; Path=/; HttpOnly; SameSite=Strict"
    assert asks.get("/image?id=a").text == "page"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost:8@evil", ""])
def test_other_names_are_refused(host: str) -> None:
    asks = client()
    asks.cookies.set("radfuse-8123", KEY)
    answer = asks.get("/", headers={"host": host})
    assert answer.status_code == 421
    assert "page" not in answer.text


def test_a_further_name_may_be_allowed() -> None:
    asks = client("http://scans.example", allowed_hosts=("scans.example",))
    assert asks.get(f"/?key={KEY}").status_code == 303


def test_every_answer_has_the_policy_even_a_refusal() -> None:
    asks = client()
    for answer in (asks.get("/"), asks.get(f"/?key={KEY}"), asks.get("/")):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "no-store" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:8123", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-length": "99999999"}, 413),
    ],
)
def test_changes_come_from_these_pages_and_are_small(headers: dict[str, str], status: int) -> None:
    asks = client()
    asks.cookies.set("radfuse-8123", KEY)
    assert asks.post("/mark", content=b"id=a", headers=headers).status_code == status


def test_other_methods_are_refused() -> None:
    asks = client()
    asks.cookies.set("radfuse-8123", KEY)
    assert asks.put("/mark").status_code == 405
    assert asks.delete("/mark").status_code == 405


def test_a_place_that_others_reach_needs_a_key() -> None:
    with pytest.raises(ConfigError, match="a token is needed"):
        Doors(host="0.0.0.0", token="")


def test_the_pages_start_without_torch() -> None:
    """Networks are loaded when a heat map is asked for: an archive is looked at in a second."""
    names = "browser.run, browser.pages.app, browser.state, inference.serve.listen"
    code = f"import sys, {names}; print(sorted({{'torch', 'timm', 'numba'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
