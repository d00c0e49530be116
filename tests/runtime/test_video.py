"""Frames come by their times, upright and one by one, and a file that cannot be decoded says from where on."""

import io
import random
import re
import sys
import tracemalloc
from pathlib import Path

import pytest
from PIL import Image

from foveate.errors import FoveateError, InputError, VideoError
from foveate.runtime.video import read_clip, read_frames
from videos import number_of, write_video

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'foveate[video]'")

PAGE = Path(__file__).parents[2] / "docs" / "sessions.md"
UNEVEN = (0.0, 0.1, 0.25, 0.5, 1.2, 3.0, 3.1)
FORMATS = [
    ("a.mp4", "libx264", "yuv420p"), ("a.mov", "mpeg4", "yuv420p"), ("a.mkv", "libx264", "yuv420p"),
    ("a.webm", "libvpx-vp9", "yuv420p"), ("a.avi", "mpeg4", "yuv420p"), ("a.gif", "gif", "gray"),
    ("a.apng", "apng", "rgb24"),
]  # fmt: skip


def on_screen(times, moment):
    """The number of the frame that is shown at a moment: the last one that came."""
    return max(number for number, seconds in enumerate(times) if seconds <= moment + 1e-6)


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), FORMATS)
def test_frames_by_time(tmp_path, name, codec, pix_fmt):
    path = write_video(tmp_path / name, UNEVEN, codec, pix_fmt)
    for every in (0.2, 0.5, 1.0):
        frames = list(read_frames(path, every))
        shown = {}  # by frame, the first moment
        for step in range(int(3.1 / every) + 1):
            shown.setdefault(on_screen(UNEVEN, every * step), every * step)
        assert [(number_of(image), seconds) for seconds, image in frames] == [*shown.items()]
        assert {(image.mode, image.size) for _, image in frames} == {("RGB", (64, 48))}


@pytest.mark.parametrize(("name", "codec", "pix_fmt"), FORMATS)
def test_a_clip_is_even_in_time(tmp_path, name, codec, pix_fmt):
    path = write_video(tmp_path / name, UNEVEN, codec, pix_fmt)
    for count in (1, 2, 3):
        clip = read_clip(path, count)
        moments = [3.1 * step / max(count - 1, 1) for step in range(count)]
        assert [seconds for seconds, _ in clip] == pytest.approx(moments, abs=0.02)
        assert [number_of(image) for _, image in clip] == [on_screen(UNEVEN, moment) for moment in moments]
    numbers = [number_of(image) for _, image in read_clip(path, 100)]
    assert numbers == list(range(len(UNEVEN)))  # each of them once


def test_a_stream_of_matroska_knows_no_number_of_frames(tmp_path):
    """What this library is for: a count by the header would give nothing."""
    with av.open(write_video(tmp_path / "a.mkv", UNEVEN)) as container:
        assert container.streams.video[0].frames == 0


def test_times_count_from_the_first_frame(tmp_path):
    path = write_video(tmp_path / "a.mkv", [5.0 + seconds for seconds in UNEVEN])
    assert [(seconds, number_of(image)) for seconds, image in read_frames(path, 1.0)] == [
        (0.0, 0), (1.0, 3), (2.0, 4), (3.0, 5)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("angle", "size", "corner"), [(90, (48, 64), (2, 61)), (-90, (48, 64), (45, 2)), (180, (64, 48), (61, 45))]
)
def test_frames_are_upright(tmp_path, angle, size, corner):
    """A phone writes the frames as they lie and how to turn them, counter-clockwise."""
    path = write_video(tmp_path / "a.mp4", UNEVEN, "libx264", rotation=angle)
    for _, image in [*read_frames(path), *read_clip(path, 2)]:
        red, green, _ = image.getpixel(corner)
        assert image.size == size
        assert red > 200 > 100 > green


def test_transparency_is_white(tmp_path):
    frames = [Image.new("RGBA", (32, 32), (0, 0, 255, alpha)) for alpha in (0, 255)]
    frames[0].save(tmp_path / "a.apng", "PNG", save_all=True, append_images=frames[1:], duration=1000)
    assert [image.getpixel((5, 5)) for _, image in read_frames(tmp_path / "a.apng")] == [(255, 255, 255), (0, 0, 255)]


def test_an_open_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", UNEVEN, "libx264")
    with open(path, "rb") as file:
        data = file.read()
    for source in (io.BytesIO(data), io.BytesIO(data)):
        assert [number_of(image) for _, image in read_clip(source, 3)] == [0, 4, 6]
        assert len(list(read_frames(source))) == 4


def test_the_snippet_of_the_page(tmp_path, monkeypatch, capsys):
    (snippet,) = re.findall(r"^```\n(from foveate.runtime.video .*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    write_video(tmp_path / "clip.mp4", UNEVEN, "libx264")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(snippet, names)
    assert capsys.readouterr().out.splitlines() == [f"{moment} (64, 48)" for moment in (0.0, 0.5, 1.5, 3.0)]
    assert len(names["clip"]) == 5


def test_memory_does_not_grow_with_the_video(tmp_path):
    """A minute more of it costs none."""
    peaks = []
    for count in (20, 400):
        path = write_video(tmp_path / f"{count}.mkv", [0.1 * number for number in range(count)], size=(320, 240))
        tracemalloc.start()
        assert sum(1 for _ in read_frames(path, 0.1)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0] + 320 * 240 * 3


@pytest.fixture
def steady(tmp_path):
    """The bytes of a video of 6 s, 10 frames a second, in which the first byte of any frame's data is not far."""

    def write(name, codec, **options):
        path = write_video(tmp_path / name, [0.1 * n for n in range(60)], codec, size=(160, 120), **options)
        with open(path, "rb") as file:
            return file.read()

    return write


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"movflags": "faststart"}), ("a.mkv", "libx264", {}), ("a.mkv", "mpeg4", {}),
        ("a.webm", "libvpx-vp9", {}),
    ],
)  # fmt: skip
def test_a_file_that_is_cut_short_says_where(steady, name, codec, options):
    data, before = steady(name, codec, **options), []
    with pytest.raises(VideoError, match=r"The video cannot be decoded after frame \d+ at [1-5]\.\d\d s \(.+\): save"):
        before += read_frames(io.BytesIO(data[: len(data) * 6 // 10]), 0.1)
    with pytest.raises(VideoError, match="cannot be decoded after frame"):
        read_clip(io.BytesIO(data[: len(data) * 6 // 10]), 4)


def test_frames_before_the_damage_come(steady):
    data, before = bytearray(steady("a.mkv", "libx264")), []
    data[len(data) // 2 : len(data) // 2 + 60] = bytes(range(60))
    with pytest.raises(VideoError, match=r"after frame (\d+) at"):
        before.extend(seconds for seconds, _ in read_frames(io.BytesIO(data), 0.1))
    assert 10 < len(before) < 50


def test_files_that_are_no_videos(tmp_path, steady):
    with pytest.raises(VideoError, match=r"There is no video .*none\.mp4: check the path"):
        next(read_frames(tmp_path / "none.mp4"))
    with pytest.raises(VideoError, match="cannot be read"):
        next(read_frames(tmp_path))
    whole = steady("a.mp4", "libx264")
    picture, list_of_files = io.BytesIO(), f"#EXTM3U\n#EXTINF:1,\nfile://{tmp_path}/a.mp4\n#EXT-X-ENDLIST\n"
    Image.new("RGB", (32, 32)).save(picture, "PNG")
    for name, data in {
        "empty.mp4": b"", "text.mp4": b"no video\n" * 99, "text.txt": b"no video\n" * 99, "head.mp4": whole[:100],
        "half.mp4": whole[: len(whole) // 2], "image.png": picture.getvalue(), "list.m3u8": list_of_files.encode(),
        "list.txt": f"ffconcat version 1.0\nfile {tmp_path}/a.mp4\n".encode(),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
        for read in (lambda path: next(read_frames(path)), lambda path: read_clip(path, 2)):
            with pytest.raises(VideoError, match=f"{name} (is no video that can be read|holds no video)"):
                read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_damaged_bytes_give_frames_or_a_sentence(steady, name):
    """And end: a damaged time may be years ahead."""
    kinds = {
        "a.mp4": ("libx264", {"movflags": "faststart"}),
        "a.mkv": ("mpeg4", {}),
        "a.gif": ("gif", {"pix_fmt": "gray"}),
    }
    codec, options = kinds[name]
    whole, generator, refused = steady(name, codec, **options), random.Random(0), 0
    for trial in range(60):
        data = bytearray(whole)
        for _ in range(3):
            data[generator.randrange(min(len(data), 400 if trial % 2 else 10**9))] = generator.randrange(256)
        try:
            assert len(list(read_frames(io.BytesIO(data), 0.1))) <= 60
        except VideoError:
            refused += 1
    assert refused


def test_a_path_is_no_address(tmp_path):
    with pytest.raises(VideoError, match="There is no video"):
        next(read_frames("http://127.0.0.1:9/a.mp4"))


def test_a_file_with_sound_alone(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16000)
        frame = av.AudioFrame(format="s16", layout="mono", samples=1600)
        frame.sample_rate, frame.pts = 16000, 0
        container.mux([*stream.encode(frame), *stream.encode(None)])
    with pytest.raises(VideoError, match="holds no video"):
        next(read_frames(tmp_path / "a.mkv"))


def test_frames_that_are_too_large(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", UNEVEN, "libx264")
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoError, match="from its first frame on"):
        next(read_frames(path))


@pytest.mark.parametrize("every", [0, -1.0, float("nan"), float("inf"), "1s", None, True])
def test_wrong_intervals(every):
    with pytest.raises(InputError, match="seconds above 0"):
        read_frames("none.mp4", every)


@pytest.mark.parametrize("count", [0, -1, 1.0, None, True])
def test_wrong_counts(count):
    with pytest.raises(InputError, match="number of frames"):
        read_clip("none.mp4", count)


def test_without_pyav(monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    for read in (read_frames, read_clip):
        with pytest.raises(FoveateError, match=r"pip install 'foveate\[video\]'"):
            read("none.mp4", 1)
