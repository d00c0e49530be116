"""Cut files into shards, and read rows, without Ray and without a model."""

import json
from contextlib import suppress

import pytest
from PIL import Image

from foveate.apps.batch.formats import open_source
from foveate.apps.batch.source import Shard, get_id
from foveate.errors import InputError

ROWS = [{"image": f"{i}.png", "question": f"what is {i}?", "id": i} for i in range(7)]


def lines_file(tmp_path, text, name="q.jsonl"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def table_file(tmp_path, columns, name="q.parquet", **options):
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'foveate[batch]'")
    from pyarrow import parquet

    parquet.write_table(pa.table(columns), tmp_path / name, **options)
    return tmp_path / name


def read_all(source, size):
    shards = source.scan(size).shards
    pairs = [pair for shard in shards for pair in source.read_numbered(shard)]
    assert [number for number, _ in pairs] == list(range(len(pairs)))
    assert sum(shard.rows for shard in shards) == len(pairs)
    return [record for _, record in pairs]


# -- JSON lines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_cut_by_number(tmp_path, size):
    source = open_source(lines_file(tmp_path, "\n".join(map(json.dumps, ROWS))))
    shards = source.scan(size).shards
    assert [shard.rows for shard in shards[:-1]] == [size] * (len(shards) - 1)
    assert [shard.number for shard in shards] == list(range(-(-7 // size)))
    assert [shard.first for shard in shards] == list(range(0, 7, size))
    assert read_all(source, size) == ROWS


def test_shards_are_read_in_any_order(tmp_path):
    source = open_source(lines_file(tmp_path, "\n".join(map(json.dumps, ROWS))))
    last, first = source.scan(4).shards[1], source.scan(4).shards[0]
    assert [number for number, _ in source.read_numbered(last)] == [4, 5, 6]
    assert [record["id"] for _, record in source.read_numbered(first)] == [0, 1, 2, 3]


def test_line_ends_blank_lines_and_a_byte_order_mark(tmp_path):
    text = "\ufeff" + json.dumps(ROWS[0]) + "\r\n\r\n  \t\n" + json.dumps(ROWS[1]) + "\n\n" + json.dumps(ROWS[2])
    assert read_all(open_source(lines_file(tmp_path, text)), 2) == ROWS[:3]


def test_only_newlines_end_lines(tmp_path):
    rows = [{"image": "a.png", "question": f"what\u2028is\x85this{c}?"} for c in "\u2029\v\f"]
    rows.append({"image": "ünïcode – 图片.png", "question": "was ist das? 这是什么? 🟥"})
    text = "\n".join(json.dumps(row, ensure_ascii=False).replace("\v", "\\u000b").replace("\f", "\\f") for row in rows)
    assert read_all(open_source(lines_file(tmp_path, text)), 3) == rows


def test_lines_that_are_no_json(tmp_path):
    text = b'{"image":\n\xff\xfe\nnull\n[1]\n' + b"[" * 100_000 + b"\n" + json.dumps(ROWS[0]).encode()
    records = read_all(open_source(lines_file(tmp_path, text)), 2)
    assert records == [None, None, None, [1], None, ROWS[0]]


@pytest.mark.parametrize("text", ["", "\n\n", " \r\n"])
def test_a_file_without_rows(tmp_path, text):
    assert open_source(lines_file(tmp_path, text)).scan(4).shards == []


def test_the_fingerprint_is_of_the_bytes(tmp_path):
    text = "\n".join(map(json.dumps, ROWS))
    (tmp_path / "elsewhere").mkdir()
    paths = [
        lines_file(tmp_path, text),
        lines_file(tmp_path / "elsewhere", text, "other.jsonl"),
        lines_file(tmp_path, text.replace("what", "that"), "third.jsonl"),
    ]
    first, copy, other = (open_source(path).scan(4).fingerprint for path in paths)
    assert first == copy != other


def test_a_file_that_changes_after_the_scan(tmp_path):
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    source = open_source(lines_file(tmp_path, text))
    shard = source.scan(100).shards[0]
    lines_file(tmp_path, text + "{}")
    assert len(list(source.read_numbered(shard))) == 7  # rows that came later belong to no shard
    lines_file(tmp_path, text[: text.rindex("{")])
    with pytest.raises(InputError, match="changed while it was read"):
        list(source.read_numbered(shard))


def test_a_file_that_is_removed_after_the_scan(tmp_path):
    source = open_source(lines_file(tmp_path, json.dumps(ROWS[0])))
    shard = source.scan(1).shards[0]
    source.path.unlink()
    with pytest.raises(InputError, match="same path on every machine"):
        list(source.read_numbered(shard))


# -- Parquet -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("group", [1, 3, 100])
def test_tables_are_cut_by_number(tmp_path, size, group):
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    path = table_file(tmp_path, {**columns, "more": ["x"] * 7}, row_group_size=group)
    assert read_all(open_source(path), size) == ROWS


def test_a_shard_reads_no_more_than_it_needs(tmp_path, monkeypatch):
    path = table_file(tmp_path, {"image": ["a"] * 100, "question": ["b"] * 100}, row_group_size=10)
    from pyarrow.parquet import ParquetFile

    calls = []
    real = ParquetFile.iter_batches
    monkeypatch.setattr(ParquetFile, "iter_batches", lambda self, **kw: calls.append(kw) or real(self, **kw))
    source = open_source(path)
    assert len(list(source.read_numbered(Shard(1, 25, 10)))) == 10
    assert (calls[0]["row_groups"], calls[0]["columns"]) == ([2, 3], ["image", "question"])


def test_images_in_a_table(tmp_path):
    Image.new("RGB", (3, 2), "red").save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    structs = [{"bytes": data, "path": "gone.png"}, {"bytes": None, "path": "a.png"}]
    for images in (["a.png", str(tmp_path / "a.png")], [data, data], structs):
        source = open_source(table_file(tmp_path, {"image": images, "question": ["what?"] * 2}))
        for record in read_all(source, 1):
            image = source.parse(record).open_image()
            assert (image.size, image.getpixel((0, 0))) == ((3, 2), (255, 0, 0))


def test_a_table_without_a_column(tmp_path):
    path = table_file(tmp_path, {"photo": ["a"], "question": ["b"]})
    with pytest.raises(InputError, match=r"no column 'image' \(it has photo, question\)"):
        open_source(path).scan(1)


def test_a_file_that_is_not_parquet(tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'foveate[batch]'")
    for content in (b"", b"PAR1 and so on", b"{}\n" * 100):
        with pytest.raises(InputError, match="give a Parquet file"):
            open_source(lines_file(tmp_path, content, "q.parquet")).scan(1)


def test_the_fingerprint_of_a_table(tmp_path):
    """Every row counts, whatever the file around it; a column that is not read does not."""
    columns = {"image": [f"{i}.png" for i in range(500)], "question": ["what?"] * 500}
    before = open_source(table_file(tmp_path, columns)).scan(4).fingerprint
    other_layout = table_file(tmp_path, {**columns, "more": [1] * 500}, "copy.parquet", row_group_size=7)
    assert before == open_source(other_layout).scan(9).fingerprint
    columns["image"][250] = "zzz.png"  # as long as before
    assert before != open_source(table_file(tmp_path, columns, "other.parquet")).scan(4).fingerprint


# -- files that change ---------------------------------------------------------------------------------------------

CHANGES = {
    "edited": (lambda rows: [*rows[:4], {**rows[4], "question": "what is 9?"}, *rows[5:]], 4),
    "id": (lambda rows: [*rows[:4], {**rows[4], "id": 9}, *rows[5:]], 4),
    "image": (lambda rows: [{**rows[0], "image": "9.png"}, *rows[1:]], 0),
    "longer": (lambda rows: [*rows[:1], {**rows[1], "question": "what?" * 999}, *rows[2:]], 1),
    "removed": (lambda rows: [*rows[:3], *rows[4:]], 3),
    "removed first": (lambda rows: rows[1:], 0),
    "removed last": (lambda rows: rows[:-1], 6),
    "added": (lambda rows: [*rows[:2], {**rows[2], "id": 8}, *rows[2:]], 2),
    "added first": (lambda rows: [{**rows[2], "id": 8}, *rows], 0),
    "added last": (lambda rows: [*rows, rows[0]], 7),
    "swapped": (lambda rows: [*rows[:5], rows[6], rows[5]], 5),
    "doubled": (lambda rows: [*rows[:5], rows[4], *rows[6:]], 5),
    "emptied": (lambda rows: [], 0),
    "half": (lambda rows: rows[:3], 3),
    "other columns": (lambda rows: [{"picture": "a", "question": "b"}] * 7, 0),
}


def write_rows(path, rows):
    if path.suffix == ".jsonl":
        return lines_file(path.parent, "".join(json.dumps(row) + "\n" for row in rows), path.name)
    columns = rows[0] if rows else ROWS[0]
    return table_file(path.parent, {name: [row[name] for row in rows] for name in columns}, path.name, row_group_size=3)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["q.jsonl", "q.parquet"])
def test_no_row_but_those_of_the_scan(tmp_path, name, change):
    """Read shard by shard after a change: each row is as it was, or an error names a row that is not."""
    source = open_source(write_rows(tmp_path / name, ROWS))
    scan, (edit, first) = source.scan(2), CHANGES[change]
    source.check_unchanged(scan)
    changed = edit(ROWS)
    write_rows(tmp_path / name, changed)
    named = set()
    for shard in scan.shards:
        try:
            for number, record in source.read_numbered(shard):
                assert record == ROWS[number]
        except InputError as error:
            row = int(str(error).partition("row ")[2].split()[0])
            assert shard.first <= row < shard.first + shard.rows
            named.add(row)
    assert change == "added last" or named
    with pytest.raises(InputError, match=rf"changed while it was read: row {first} \(from 0\)"):
        source.check_unchanged(scan)
    write_rows(tmp_path / name, ROWS)
    source.check_unchanged(scan)  # restored


@pytest.mark.parametrize("name", ["q.jsonl", "q.parquet"])
@pytest.mark.parametrize("content", [None, b"", b"PAR1", b"\0" * 900, b"PAR1" + b"x" * 500 + b"PAR1"])
def test_a_file_that_is_lost_or_overwritten(tmp_path, name, content):
    source = open_source(write_rows(tmp_path / name, ROWS))
    scan = source.scan(4)
    source.path.unlink()
    if content is not None:
        source.path.write_bytes(content)
    with pytest.raises(InputError, match=r"[Rr]ow 4 "):
        list(source.read_numbered(scan.shards[1]))
    with pytest.raises(InputError, match="row 0 "):
        source.check_unchanged(scan)


@pytest.mark.parametrize("cut", range(0, 700, 23))
def test_tables_cut_and_damaged_anywhere(tmp_path, cut):
    path = write_rows(tmp_path / "q.parquet", ROWS)
    source, whole = open_source(path), path.read_bytes()
    scan = source.scan(3)
    for content in (whole[: len(whole) * cut // 700], whole[:cut] + b"\xff\0\xff" + whole[cut + 3 :]):
        path.write_bytes(content)
        for shard in scan.shards:
            with suppress(InputError):
                for number, record in source.read_numbered(shard):
                    assert record == ROWS[number]


def test_a_file_that_is_touched_has_not_changed(tmp_path):
    source = open_source(write_rows(tmp_path / "q.jsonl", ROWS))
    scan = source.scan(4)
    source.path.write_text("\r\n\n".join(map(json.dumps, ROWS)))
    source.check_unchanged(scan)


# -- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (None, "no JSON object"),
        ([1], "no JSON object"),
        ({"image": "a.png"}, "'question'"),
        ({"image": "a.png", "question": " \n"}, "'question'"),
        ({"image": "a.png", "question": 3}, "'question'"),
        ({"question": "what?"}, "'image'"),
        ({"question": "what?", "image": ""}, "'image'"),
        ({"question": "what?", "image": 7}, "'image'"),
        ({"question": "what?", "image": {}}, "'image'"),
        ({"question": "what?", "image": {"bytes": None, "path": None}}, "'image'"),
    ],
)
def test_rows_that_cannot_be_used(tmp_path, record, says):
    source = open_source(lines_file(tmp_path, "{}"))
    with pytest.raises(InputError, match=says):
        source.parse(record)


def test_paths_start_at_the_file(tmp_path, monkeypatch):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    lines_file(tmp_path, "{}")
    monkeypatch.chdir(tmp_path.parent)
    from pathlib import Path

    source = open_source(Path(tmp_path.name) / "q.jsonl")
    monkeypatch.chdir("/")
    for path in ("a.png", str(tmp_path / "a.png")):
        assert source.parse({"image": path, "question": "what?"}).open_image().size == (3, 2)


def test_ids():
    records = [{"id": "a"}, {"id": 0}, {"id": None}, {}, None, {"id": [1]}]
    assert [get_id(record, i) for i, record in enumerate(records)] == ["a", 0, "row-2", "row-3", "row-4", "[1]"]


def test_files_that_cannot_be_used(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    for name, says in (
        ("q.csv", "neither"),
        ("q.jsonl.gz", "neither"),
        ("none.jsonl", "no file"),
        ("folder.jsonl", "no"),
    ):
        with pytest.raises(InputError, match=says):
            open_source(tmp_path / name)
