import asyncio
import re
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import pytest
from PIL import Image

from foveate.apps.serve import images
from foveate.apps.serve.errors import RequestError
from foveate.apps.serve.images import ImageSource, decode_images
from foveate.errors import ImageError
from foveate.runtime.files import decode_image
from served import PATIENCE, bomb, data_url, to_file

IMAGE = Image.new("RGB", (30, 20), (200, 40, 40))
SOURCE = ImageSource(pixels=1000, size=10_000)


def read(url, source=SOURCE):
    fetched = asyncio.run(source.fetch([url]))
    (data,) = source.read([url], fetched)
    return data


def refusal(call, *arguments):
    """Status and message."""
    with pytest.raises(RequestError) as refused:
        call(*arguments)
    message = refused.value.message
    assert message.endswith(".")
    assert message.count(". ") <= 1
    return refused.value.status, message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_data_urls(kind):
    data = to_file(IMAGE, kind)
    assert read(data_url(data, f"image/{kind.lower()}")) == data
    assert decode_images([data])[0].size == (30, 20)


def test_other_spellings_of_a_data_url():
    data = to_file(IMAGE)
    for head in ("DATA:image/png;base64,", "data:image/x-thing;name=a.png;base64,", "data:image/jpeg;BASE64,"):
        assert read(data_url(data).replace("data:image/png;base64,", head)) == data


@pytest.mark.parametrize(
    "url",
    [
        "data:text/html;base64,PGI+", "data:application/pdf;base64,AAAA", "data:;base64,AAAA", "data:image/png,abc",
        "data:image/png;base64", "data:" + "a" * 10_000, "data:image/png;" + "a=b;" * 100_000 + "base64,AAAA",
    ],
)  # fmt: skip
def test_wrong_types(url):
    assert refusal(read, url)[0] == 400


@pytest.mark.parametrize("data", ["%%%", "AAA", "AAAA\nAAAA", "AA=A", "\u00e4\u00e4\u00e4\u00e4"])
def test_broken_base64(data):
    assert refusal(read, f"data:image/png;base64,{data}") == (
        400, "The image's base64 is broken: encode the whole file, without line breaks."
    )  # fmt: skip


def test_other_files():
    for data in (b"", b"hello", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"):
        assert refusal(read, data_url(data))[0] == 400
    for kind in ("BMP", "TIFF", "ICO", "PPM"):  # known to Pillow, but not accepted from clients
        assert "PNG, JPEG, WEBP, GIF" in refusal(read, data_url(to_file(IMAGE, kind)))[1]


def test_large_images_are_refused_by_their_header():
    assert read(data_url(to_file(Image.new("1", (50, 20)))))
    large = 413, "The images have more than 1000 pixels, which is this server's limit: scale them down."
    assert refusal(read, data_url(to_file(Image.new("1", (51, 20))))) == large
    assert len(SOURCE.read([data_url(to_file(Image.new("1", (25, 20))))] * 2)) == 2
    assert refusal(SOURCE.read, [data_url(to_file(Image.new("1", (25, 20))))] * 3) == large  # together


def test_images_that_are_too_thin():
    """A processor that scales the shorter side to 336 pixels would make 336 x 336,000 of 1 x 1000."""
    for size in ((50, 1), (1, 50)):
        assert read(data_url(to_file(Image.new("1", size))))
    for size in ((51, 1), (1, 900)):
        status, message = refusal(read, data_url(to_file(Image.new("1", size))))
        assert (status, "too thin" in message) == (400, True)


@pytest.mark.parametrize("side", [10_000, 40_000])  # 100 megapixels; more than Pillow itself opens
def test_decompression_bombs(side):
    data = bomb(side, side)
    assert len(data) < 2_000_000
    source = ImageSource(pixels=25_000_000, size=10**7)
    status, message = refusal(read, data_url(data), source)
    assert (status, "more than 25000000 pixels, which is this server's limit" in message) == (413, True)
    with warnings.catch_warnings():  # of another thread
        warnings.simplefilter("ignore")
        assert refusal(read, data_url(data), source) == (status, message)


def test_decoding_leaves_the_filters_of_warnings_alone():
    """They are the whole process's: a thread that restores them would undo what another one does."""
    filters, seen = warnings.filters, []

    class Watched(BytesIO):
        def read(self, size=-1, /):
            seen.append(warnings.filters is filters)
            return super().read(size)

    assert decode_image(Watched(to_file(Image.new("RGB", (8, 8))))).size == (8, 8)
    assert seen
    assert all(seen)


def test_damaged_files_are_refused_when_they_are_decoded():
    data = to_file(Image.effect_noise((30, 20), 50))
    cut = read(data_url(data[: len(data) // 2]))
    with pytest.raises(ImageError, match="damaged or cut short"):
        decode_images([cut])


def test_no_files_and_no_other_origins():
    for url in ("/etc/passwd", "file:///etc/passwd", "examples/scene.png", "", "http://127.0.0.1:1/a.png", "ftp://a/b"):
        status, message = refusal(read, url)
        assert status == 400
        assert "data:image/png;base64" in message


@pytest.fixture(scope="module")
def site():
    """A site with images, and the paths requested from it."""
    requested = []

    class Images(BaseHTTPRequestHandler):
        def do_GET(self):
            requested.append(self.path)
            if self.path == "/away":
                self.send_response(302)
                self.send_header("Location", "/good.png")
                self.end_headers()
                return
            data = {"/good.png": to_file(IMAGE), "/large.png": b"\0" * 20_000, "/text": b"hello"}.get(self.path)
            self.send_response(200 if data else 404)
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Images)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requested
    server.shutdown()
    server.server_close()


def test_origins_that_the_server_fetches_from(site, monkeypatch):
    monkeypatch.setattr(images, "FETCH_SECONDS", PATIENCE)
    origin, _ = site
    source = ImageSource(pixels=1000, size=10_000, origins=(origin,))
    assert decode_images([read(f"{origin}/good.png", source)])[0].size == (30, 20)
    assert refusal(read, f"{origin}/large.png", source)[0] == 413
    for path in ("/none", "/text", "/away", "/\0", "/\x7f", "/" + "a" * 70_000):
        assert refusal(read, origin + path, source)[0] == 400
    assert refusal(read, "http://127.0.0.1:9/a.png", ImageSource(1000, 10_000, ("http://127.0.0.1:9",)))[0] == 400


def test_no_other_origin_is_fetched_from(site):
    origin, requested = site
    source = ImageSource(pixels=1000, size=10_000, origins=(origin,))
    before = len(requested)
    port = re.sub(r".*:", "", origin)
    for url in (
        f"http://user@127.0.0.1:{port}/good.png", f"http://localhost:{port}/good.png", f"https://127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}.example.com/good.png", "http://[::1/good.png", f"//127.0.0.1:{port}/good.png",
        f"http://127.0.0.1:{port}@example.com/good.png",
    ):  # fmt: skip
        assert refusal(read, url, source)[0] == 400
    assert len(requested) == before
