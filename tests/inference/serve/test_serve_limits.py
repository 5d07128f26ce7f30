"""Who may ask, what limits may be, and what is said of a server that cannot begin."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from core.errors import ConfigError
from core.runs.workspace import Workspace
from inference.serve.guard import Guard
from inference.serve.limits import Doors, Limits, is_local, read_token
from inference.serve.measures import Measures
from tests.inference.serve.conftest import ROOT, SMALL, serving

TOKEN = "a-token-of-more-than-16"


def test_other_hosts_take_a_token() -> None:
    with pytest.raises(ConfigError, match=r"--host 0\.0\.0\.0: others can reach it, so a token"):
        Doors(host="0.0.0.0")
    assert Doors(host="0.0.0.0", token=TOKEN).token == TOKEN
    assert TOKEN not in repr(Doors(token=TOKEN))
    assert [is_local(h) for h in ("127.0.0.2", "::1", "::", "radfuse.example")] == [
        *(True, True, False, False)
    ]


@pytest.mark.parametrize("token", ["short", "a token of several words", "ünïcödé-and-long-enough"])
def test_a_token_that_is_none_is_refused(token: str) -> None:
    with pytest.raises(ConfigError, match="the token"):
        Doors(token=token)


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="--allowed-host 'http://a': expected a name"):
        Doors(allowed_hosts=("http://a",))


def test_a_token_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    assert read_token(file, {"RADFUSE_TOKEN": "other"}) == TOKEN
    assert read_token(None, {"RADFUSE_TOKEN": TOKEN}) == TOKEN
    assert read_token(None, {}) == ""
    file.write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"--token-file .*token: is empty"):
        read_token(file, {})
    with pytest.raises(ConfigError, match=r"^--key-file .*token: is empty"):
        read_token(file, {}, option="--key-file")
    with pytest.raises(ConfigError, match=r"cannot be read \(no such file or directory\)"):
        read_token(tmp_path / "none", {})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"files": 0}, "files: expected 1 to 100,000, found 0"),
        ({"read_s": 0}, "read_s: expected above 0, at most 86,400, found 0"),
        ({"held_bytes": 5}, "held_bytes=5: expected at least those of one request"),
        ({"queue": 3}, "queue=3: expected at least the images of one request, 32"),
    ],
)
def test_limits_that_let_nothing_through_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Limits(**wrong)


def ask(guard: Guard, path: str, **headers: str) -> httpx.Response:
    """An answer of the application, without a socket."""

    async def answer() -> httpx.Response:
        transport = httpx.ASGITransport(app=guard)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path, headers=headers)

    return anyio.run(answer)


def guarded(app: Any, *, token: str = "", **limits: Any) -> Guard:
    return Guard(
        app,
        doors=Doors(token=token, allowed_hosts=("scans.example",)),
        limits=Limits(**limits),
        measures=Measures(),
        methods={"/": "GET", "/healthz": "GET", "/metrics": "GET"},
    )


async def well(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"well"})


def test_without_the_token_only_the_state_is_told() -> None:
    guard = guarded(well, token=TOKEN)
    assert ask(guard, "/healthz").status_code == 200
    for headers in (
        {},
        {"Authorization": "Bearer other"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": "Bearer"},
    ):
        answer = ask(guard, "/metrics", **headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert TOKEN not in answer.text
    assert ask(guard, "/metrics", Authorization=f"Bearer {TOKEN}").status_code == 200
    assert ask(guard, "/", Authorization=f"bearer {TOKEN}").text == "well"


def test_an_allowed_name_is_taken() -> None:
    assert ask(guarded(well), "/", Host="scans.example:8000").status_code == 200
    assert ask(guarded(well), "/", Host="scans.example.org").status_code == 421


def test_a_bug_is_one_line_for_who_asks_and_a_place_for_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise ValueError("Jane Doe")

    answer = ask(guarded(broken), "/")
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "an error of the server; its log says where"},
    )
    log = capsys.readouterr().err
    assert "Doe" not in log.replace('raise ValueError("Jane Doe")', "")
    assert "ValueError" in log
    assert "in broken" in log


def test_what_takes_too_long_is_given_up() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(30)

    answer = ask(guarded(slow, request_s=0.1), "/")
    assert (answer.status_code, answer.json()) == (504, {"error": "not answered within 0.1 s"})


def started(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "cli.py"), "serve", *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=env)


def test_a_port_in_use_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        run = started("-w", str(tmp_path), "--port", port)
    assert run.returncode == 2
    assert run.stderr == (
        f"ConfigError: --host 127.0.0.1 --port {port}: address already in use; choose another"
        " with --port or --host\n"
    )


def test_another_host_without_a_token_is_refused_in_one_line(tmp_path: Path) -> None:
    run = started("-w", str(tmp_path), "--host", "0.0.0.0", RADFUSE_TOKEN="")
    assert run.returncode == 2
    assert run.stderr.startswith("ConfigError: --host 0.0.0.0: others can reach it, so a token is")
    assert run.stderr.count("\n") == 1


def test_a_workspace_without_an_ensemble_ends_the_server(tmp_path: Path) -> None:
    run = started("-w", str(tmp_path), "--port", "0")
    assert run.returncode == 2
    first, *_, last = run.stderr.splitlines()
    assert first.startswith("listening on http://127.0.0.1:")
    assert last.startswith("MissingStageError: ")


def test_told_to_stop_it_finishes_what_is_in_work(whole: Workspace, paths: Sequence[str]) -> None:
    def n_met() -> float:
        """Images in work or answered: what it has not begun to read it need not finish."""
        answered = served.metric('radfuse_requests_total{path="/predict",status="200"}')
        return 4 * answered + served.metric("radfuse_queue_images")

    with serving(whole, *SMALL, "--company-ms", "0") as served:
        idle = socket.create_connection(("127.0.0.1", served.port))
        answers: list[httpx.Response] = []
        asking = [
            threading.Thread(target=lambda: answers.append(served.predict(*paths[:4])))
            for _ in range(4)
        ]
        for one in asking:
            one.start()
        until = time.monotonic() + 20
        while n_met() < 16:
            assert time.monotonic() < until
        served.process.send_signal(signal.SIGTERM)
        for one in asking:
            one.join(30)
        assert served.process.wait(30) == 0
        idle.close()
    assert [answer.status_code for answer in answers] == [200] * 4
    assert served.lines[-1] == "stopped"
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{served.url}/healthz")
