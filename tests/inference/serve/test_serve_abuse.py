"""Abuse: whatever comes, there is one answer or a closed connection, and the next is served."""

import gzip
import io
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from core.runs.workspace import Workspace
from tests.inference.serve.conftest import SMALL, Served, serving

MB = 1 << 20


@pytest.fixture(autouse=True)
def serves_on(served: Served) -> Iterator[None]:
    """After each of these the server answers, and holds nothing of what was sent."""
    yield
    assert httpx.get(f"{served.url}/healthz").status_code == 200
    until = time.monotonic() + 5
    while served.metric("radfuse_held_bytes") or served.metric("radfuse_queue_images"):
        assert time.monotonic() < until
        time.sleep(0.05)


def raw(served: Served, *pieces: bytes, wait_s: float = 0, timeout_s: float = 20) -> bytes:
    """All that comes back until the server closes; pieces are sent with a pause between."""
    with socket.create_connection(("127.0.0.1", served.port), timeout_s) as connection:
        for piece in pieces:
            try:
                connection.sendall(piece)
            except OSError:
                break
            time.sleep(wait_s)
        found = b""
        try:
            while piece := connection.recv(1 << 16):
                found += piece
        except ConnectionResetError:
            pass
        return found


def raws(served: Served, *requests: Sequence[bytes], wait_s: float = 0) -> list[bytes]:
    """What comes back to each of several connections at once."""
    with ThreadPoolExecutor(len(requests)) as pool:
        return list(pool.map(lambda pieces: raw(served, *pieces, wait_s=wait_s), requests))


def head(*lines: str, method: str = "POST", target: str = "/predict") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: localhost", *lines, "", "")).encode()


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer[:80]
    return int(answer.split()[1])


def image(size: tuple[int, int] = (40, 40), kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("L", size, 90).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..\\..\\boot.ini", "/etc/passwd", "a\0b.png", "..", "\u202egnp.a"]
)
def test_a_name_never_leads_anywhere(served: Served, name: str) -> None:
    (told,) = served.predict((name, image())).json()["images"]
    assert "concepts" in told
    assert not set(told["image"]) & set("/\\\0\u202e")
    assert told["image"] not in ("", ".", "..")


@pytest.mark.parametrize(
    "target",
    ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/predict/../docs"],
)
def test_a_path_never_leads_anywhere(served: Served, target: str) -> None:
    answer = raw(served, head("Connection: close", method="GET", target=target))
    assert status(answer) == 404
    assert b"root:" not in answer


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("LOCALHOST", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("localhost@evil", 421),
        ("", 421), ("localhost, evil", 421), ("localhost:80@evil", 421), ("[::1]evil", 421),
    ],
)  # fmt: skip
def test_asked_under_another_name_it_refuses(served: Served, host: str, expected: int) -> None:
    text = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert status(raw(served, text.encode())) == expected


def test_requests_without_a_host_or_with_two_are_refused(served: Served) -> None:
    assert status(raw(served, b"GET /healthz HTTP/1.1\r\n\r\n")) == 400
    two = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n"
    assert status(raw(served, two)) == 400
    assert status(raw(served, b"GET /healthz HTTP/1.0\r\n\r\n")) == 421


def test_a_page_of_another_place_is_refused(served: Served) -> None:
    headers = {"Origin": "http://evil.example"}
    answer = served.predict(("a.png", image()), headers=headers)
    assert (answer.status_code, answer.json()) == (
        403,
        {"error": "asked by a page of another place"},
    )
    assert "access-control-allow-origin" not in answer.headers
    own = served.predict(("a.png", image()), headers={"Origin": served.url})
    assert own.status_code == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "GET"])
def test_other_methods_are_refused(served: Served, method: str) -> None:
    answer = httpx.request(method, f"{served.url}/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_a_request_that_says_it_is_too_large_is_refused_at_once(served: Served) -> None:
    start = time.monotonic()
    said = head("Content-Type: image/png", f"Content-Length: {50 * MB}")
    expecting = head("Content-Type: image/png", f"Content-Length: {5 * MB}", "Expect: 100-continue")
    answers = raws(served, [said], [expecting])
    assert [status(answer) for answer in answers] == [413, 413]
    assert b'{"error": "a request of more than 2,097,152 bytes"}' in answers[0]
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("length", ["-1", "1e9", "99999999999999999999999", "abc"])
def test_a_length_that_is_none_is_refused(served: Served, length: str) -> None:
    answer = raw(served, head("Content-Type: image/png", f"Content-Length: {length}"))
    assert status(answer) in (400, 413)


def test_a_request_that_turns_out_too_large_is_refused(served: Served) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(30):
            yield bytes(MB // 10)

    answer = httpx.post(
        f"{served.url}/predict", content=pieces(), headers={"Content-Type": "image/png"}
    )
    assert answer.status_code == 413
    files = [("images", ("a.png", bytes(3 * MB)))]
    assert httpx.post(f"{served.url}/predict", files=files).status_code == 413


def test_a_body_without_an_end_is_not_listened_to_for_ever(served: Served) -> None:
    start = time.monotonic()
    begun = head("Content-Type: image/png", "Transfer-Encoding: chunked")
    chunk = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    answer = raw(served, begun, *(chunk for _ in range(200)), wait_s=0.02)
    assert status(answer) in (408, 413)
    assert answer.count(b"HTTP/1.1") == 1
    assert time.monotonic() - start < 15


def test_more_files_or_fields_than_allowed_are_refused(served: Served, paths: list[str]) -> None:
    answer = served.predict(*paths[:5])
    assert (answer.status_code, answer.json()) == (413, {"error": "more than 4 files"})
    data = {f"field{number}": "x" for number in range(1000)}
    answer = served.predict(paths[0], data=data)
    assert (answer.status_code, answer.json()) == (413, {"error": "more than 16 fields"})
    answer = served.predict(paths[0], data={"category": "CT" * 1000})
    assert answer.status_code == 413
    answer = served.predict(paths[0], data={"hospital": "x"})
    assert answer.status_code == 422
    assert answer.json()["error"].startswith("unknown field 'hospital': expected category, top")
    for top in ("-1", "101", "many", "\u0663"):
        assert served.predict(paths[0], data={"top": top}).status_code == 422


def chunk_of_png(kind: bytes, content: bytes) -> bytes:
    whole = kind + content
    return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))


def png_bomb(width: int, height: int, *, depth: int = 8) -> bytes:
    header = struct.pack(">2I5B", width, height, depth, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + width * depth // 8)
    rows = b"".join(packer.compress(row) for _ in range(min(height, 2000))) + packer.flush()
    parts = [chunk_of_png(k, c) for k, c in ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_bomb() -> bytes:
    content = bytearray(image((8, 8), "TIFF"))
    where = struct.unpack_from("<I", content, 4)[0]
    for place in range(where + 2, where + 26, 12):  # its first two tags: width and height
        struct.pack_into(
            "<HHII", content, place, *struct.unpack_from("<HHI", content, place), 60000
        )
    return bytes(content)


def gif_bomb() -> bytes:
    content = bytearray(image((8, 8), "GIF"))
    struct.pack_into("<2H", content, 6, 60000, 60000)
    return bytes(content)


def jpeg_bomb() -> bytes:
    content = bytearray(image((8, 8), "JPEG"))
    struct.pack_into(">2H", content, content.index(b"\xff\xc0") + 5, 60000, 60000)
    return bytes(content)


def scans_bomb() -> bytes:
    content = image((800, 800), "JPEG")
    return content[:-2] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" * 50_000


def tiff_of(**tags: int) -> bytes:
    """A TIFF of 8 x 8 pixels by its first two tags, and what further ones say."""
    names = {"width": 256, "height": 257, "bits": 258, "samples": 277, "layers": 32997}
    names |= {"tile_width": 322, "tile_height": 323}
    entries = [(256, 4, 1, 8), (257, 4, 1, 8), *((names[n], 4, 1, tags[n]) for n in tags)]
    return tiff_pages([entries])


def tiff_pages(pages: Sequence[Sequence[tuple[int, int, int, int]]]) -> bytes:
    """A TIFF of pages of tags: number, type, count, and value or place."""
    content = b"II*\0" + struct.pack("<I", 8)
    for number, entries in enumerate(pages, start=1):
        tags = b"".join(struct.pack("<HHII", *entry) for entry in entries)
        after = len(content) + 6 + len(tags) if number < len(pages) else 0
        content += struct.pack("<H", len(entries)) + tags + struct.pack("<I", after)
    return content


def progressive_bomb() -> bytes:
    """The last scan of a progressive JPEG many times: each goes over all pixels."""
    file = io.BytesIO()
    Image.new("L", (990, 990), 90).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    return content[:-2] + content[content.rindex(b"\xff\xda") : -2] * 900


def chunks_bomb() -> bytes:
    content = image()
    return content[:33] + chunk_of_png(b"quXy", b"") * 100_001 + content[33:]


def dicom_bomb() -> bytes:
    from tests.corpus.dicom.made_files import content_of, ramp

    return content_of(ramp().astype(np.uint8), Rows=60000, Columns=60000)


MANY_VALUES = "a TIFF of more values than 1,000,000 pixels have: make it smaller first"

BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "png": (lambda: png_bomb(30_000, 30_000), "30000 x 30000 pixels, more than 1,000,000"),
    "deep png": (lambda: png_bomb(30_000, 30_000, depth=16), "30000 x 30000 pixels"),
    "thin png": (lambda: png_bomb(2_000_000, 1), "2000000 x 1 pixels"),
    "tiff": (tiff_bomb, MANY_VALUES),
    "gif": (gif_bomb, "60000 x 60000 pixels"),
    "jpeg": (jpeg_bomb, "60000 x 60000 pixels"),
    "scans": (scans_bomb, "a JPEG of 50,001 scans"),
    "progressive": (progressive_bomb, "a JPEG of 906 scans"),
    "comments": (lambda: image(kind="JPEG")[:2] + b"\xff\xfe\0\2" * 10_001, "10,000 parts"),
    "fill bytes": (lambda: b"\xff\xd8" + b"\xff" * 10_010, "10,000 parts"),
    "chunks": (chunks_bomb, "a PNG of more than 100,000 chunks"),
    "tags twice": (lambda: tiff_of(width=60000, height=60000), "says twice what its pixels are"),
    "samples": (lambda: tiff_of(samples=65535), MANY_VALUES),
    "tiles": (lambda: tiff_of(tile_width=40000, tile_height=40000), MANY_VALUES),
    "layers": (lambda: tiff_of(layers=1_000_000), MANY_VALUES),
    "pages": (lambda: tiff_pages([[(256, 4, 1, 8)]] * 5_001), "more than 5,000 pages"),
    "tags": (lambda: tiff_pages([[(256, 4, 1, 8)] * 5_000] * 21), "too many, or lie over"),
    "large tags": (lambda: tiff_pages([[(700, 1, 90, 0)] * 9]), "too many, or lie over"),
    "size in words": (lambda: tiff_pages([[(256, 2, 1, 8)]]), "whose size is no whole number"),
    "numbers": (lambda: b"P5 60000 60000 65535\n" + bytes(100), "60000 x 60000 pixels"),
    "postscript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "dicom": (dicom_bomb, "a DICOM frame of more than 1,000,000 pixels"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_by_their_header(served: Served, kind: str) -> None:
    (make, reason), before, start = BOMBS[kind], served.memory, time.monotonic()
    content = make()
    answer = served.predict(("bomb", content))
    assert answer.status_code == 422, answer.text
    (told,) = answer.json()["images"]
    assert reason in told["error"]
    assert time.monotonic() - start < 10
    assert served.memory - before < 50 * MB


def test_a_packed_body_is_not_unpacked(served: Served) -> None:
    packed = gzip.compress(image())
    headers = {"Content-Type": "image/png", "Content-Encoding": "gzip"}
    answer = httpx.post(f"{served.url}/predict", content=packed, headers=headers)
    assert answer.status_code == 415
    (told,) = served.predict(("a.png.gz", packed), ("b.png", image())).json()["images"][:1]
    assert told["error"] == "not an image"


@pytest.mark.parametrize(
    ("kind", "content", "expected"),
    [
        ("application/json", b"{}", 415),
        ("text/html", b"<p>", 415),
        ("", b"abc", 415),
        ("application/x-www-form-urlencoded", b"category=CT", 415),
        ("multipart/form-data", b"--x", 422),
        ("multipart/form-data; boundary=x", b"", 422),
        ("multipart/form-data; boundary=x", b"garbage", 422),
        ("multipart/form-data; boundary=x", b"--x--\r\n", 422),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n", 422),
        (f"multipart/form-data; boundary={'x' * 500}", b"--x", 422),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="a";'
         b' filename="a.png"\r\n\r\ncut', 422),
        ("multipart/form-data; boundary=x", b"--x\r\n" + b"A" * 9000 + b": b\r\n\r\n--x--", 422),
        ("image/png", b"", 422),
        ("application/octet-stream", b"\0" * 100, 422),
    ],
)  # fmt: skip
def test_what_is_no_image_and_no_form_is_refused_in_one_line(
    served: Served, kind: str, content: bytes, expected: int
) -> None:
    headers = {"Content-Type": kind} if kind else {}
    answer = httpx.post(f"{served.url}/predict", content=content, headers=headers)
    assert answer.status_code == expected
    assert answer.text.count("\n") == 1
    assert answer.json()["error"]


def test_half_a_request_is_answered_in_time(served: Served) -> None:
    start = time.monotonic()
    begun = head("Content-Type: image/png", "Content-Length: 1000") + b"\x89PNG"
    no_head, no_body = raws(served, [b"POST /predict HTTP/1.1\r\nHost: loc"], [begun])
    assert (status(no_head), status(no_body)) == (408, 408)
    assert b"not there within 1 s" in no_body
    assert time.monotonic() - start < 12


def test_a_byte_at_a_time_is_too_slow(served: Served) -> None:
    start = time.monotonic()
    begun = head("Content-Type: image/png", "Content-Length: 1000")
    by_signs = [bytes([sign]) for sign in head("A: b")]
    for answer in raws(served, by_signs, [begun, *(b"a" for _ in range(60))], wait_s=0.2):
        assert status(answer) == 408
        assert answer.count(b"HTTP/1.1") == 1
    assert time.monotonic() - start < 30


def test_a_connection_that_says_nothing_is_closed(served: Served) -> None:
    assert raw(served) == b""
    with httpx.Client(base_url=served.url) as client:  # and one that has nothing more to say
        assert client.get("/healthz").status_code == 200
        time.sleep(1.5)
        assert client.get("/healthz").status_code == 200  # by a new connection


def test_garbage_is_answered_once(served: Served) -> None:
    assert status(raw(served, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")) == 400  # TLS
    assert status(raw(served, b"GET / HTTP/x\r\n\r\n")) == 400
    first = head(method="GET", target="/healthz")
    answer = raw(served, first + b"\0\1\2garbage\r\n\r\n" + first)
    assert [line.split()[1] for line in answer.split(b"\n") if line.startswith(b"HTTP/")] == [
        b"200",
        b"400",
    ]
    broken = head("Content-Type: image/png", "Transfer-Encoding: chunked") + b"zz\r\nabc"
    assert status(raw(served, broken)) == 400


def test_nothing_is_taken_for_a_second_request(served: Served) -> None:
    second = head(method="GET", target="/healthz")
    both = head("Content-Length: 3", "Transfer-Encoding: chunked", "Content-Type: image/png")
    for first in (both + b"0\r\n\r\n", b"PRI * HTTP/2.0\r\nHost: localhost\r\n\r\nSM\r\n\r\n"):
        answer = raw(served, first + second)
        assert (status(answer), answer.count(b"HTTP/1.1 ")) == (400, 1)
        assert b"connection: close" in answer.lower()


def test_requests_in_a_row_on_one_connection_are_answered_in_their_order(served: Served) -> None:
    text = image()
    one = head("Content-Type: image/png", f"Content-Length: {len(text)}", target="/predict?name=")
    one = one.replace(b"?name=", b"?name=%s") + text
    names = [f"image{number}".encode() for number in range(5)]
    last = head("Connection: close", method="GET", target="/healthz")
    answer = raw(served, b"".join(one.replace(b"%s", name) for name in names) + last)
    assert answer.count(b"HTTP/1.1 200") == 6
    places = [answer.index(b'"image": "' + name + b'"') for name in names]
    assert places == sorted(places)


def test_a_large_head_is_refused(served: Served) -> None:
    line, lines, target = raws(
        served,
        [head(f"X: {'a' * 40_000}")],
        [head(*(f"X{n}: {'a' * 90}" for n in range(1000)))],
        [head(method="GET", target="/" + "a" * 40_000)],
    )
    assert (status(line), status(target)) == (431, 431)
    assert status(lines) in (400, 431)


def test_who_hangs_up_leaves_nothing_behind(served: Served, paths: Sequence[str]) -> None:
    content = Path(paths[0]).read_bytes()
    whole = head("Content-Type: image/jpeg", f"Content-Length: {len(content)}") + content
    for end in (20, len(whole) // 2, len(whole)):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", served.port)) as connection:
                connection.sendall(whole[:end])


def test_too_many_connections_are_told_so(served: Served) -> None:
    open_ones = []
    try:
        for _ in range(30):
            connection = socket.create_connection(("127.0.0.1", served.port), 10)
            open_ones.append(connection)
        open_ones[-1].sendall(head(method="GET", target="/healthz"))
        answer = open_ones[-1].recv(4096)
        assert status(answer) == 503
        assert b"retry-after: 1" in answer.lower()
    finally:
        for connection in open_ones:
            connection.close()
    until = time.monotonic() + 5
    while httpx.get(f"{served.url}/healthz").status_code != 200:
        assert time.monotonic() < until


def test_many_at_once_are_served_or_refused_and_none_is_lost(
    served: Served, paths: Sequence[str]
) -> None:
    def ask(number: int) -> int:
        return served.predict(*paths[:2]).status_code

    before = served.metric("radfuse_images_total")
    with ThreadPoolExecutor(20) as pool:
        found = Counter(pool.map(ask, range(40)))
    assert set(found) <= {200, 503}
    assert served.metric("radfuse_images_total") == before + 2 * found[200]


@pytest.mark.slow
def test_two_hundred_clients_for_a_minute(whole: Workspace, paths: Sequence[str]) -> None:
    options = list(SMALL)
    options[options.index("--max-connections") + 1] = "220"
    options[options.index("--read-seconds") + 1] = "30"
    with serving(whole, *options) as served:
        served.predict(*paths[:4])
        stop = time.monotonic() + 60
        found: Counter[int | str] = Counter()
        lock, content = threading.Lock(), [Path(p).read_bytes() for p in paths]

        def client(number: int) -> None:
            own: Counter[int | str] = Counter()
            with httpx.Client(base_url=served.url, timeout=60) as session:
                while time.monotonic() < stop:
                    own["asked"] += 1
                    files = [("images", ("a.jpg", content[number % 8]))]
                    try:
                        own[session.post("/predict", files=files).status_code] += 1
                    except httpx.TransportError as error:
                        own[type(error).__name__] += 1
            with lock:
                found.update(own)

        memory, before = [served.memory], served.memory
        clients = [threading.Thread(target=client, args=(number,)) for number in range(200)]
        for one in clients:
            one.start()
        while any(one.is_alive() for one in clients):
            memory.append(served.memory)
            time.sleep(1)
        for one in clients:
            one.join()
        print(dict(found), f"memory {before / MB:.0f} MB, at most {max(memory) / MB:.0f}")
        n_asked = found.pop("asked")
        assert set(found) <= {200, 503}
        assert sum(found.values()) == n_asked
        assert found[200] > 0
        assert max(memory) - before < 200 * MB
        assert served.metric("radfuse_queue_images") == 0
