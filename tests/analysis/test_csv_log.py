from __future__ import annotations

import math
from pathlib import Path

import pytest

from failguard.analysis.csv_log import read_csv
from failguard.analysis.log import Log
from failguard.errors import InputError


def written(path: Path, content: str | bytes) -> Path:
    path = path / "log.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def columns_of(log: Log) -> dict[str, list[float | None]]:
    rows = list(log.rows())
    assert rows == list(log.rows()), "the rows can be read again"
    return {name: [row[i] for row in rows] for i, name in enumerate(log.names)}


@pytest.mark.parametrize(
    "content",
    [
        "epoch,loss,val_loss\n0,1.5,\n1,0.5,2\n",
        "epoch;loss;val_loss\n0;1,5;\n1;0,5;2\n",
        "epoch\tloss\tval_loss\n0\t1.5\t\n1\t0.5\t2\n",
        b"\xef\xbb\xbfepoch,loss,val_loss\r\n0,1.5,\r\n1,0.5,2\r\n",
        "epoch,loss,val_loss\n0,1.5,\n1,0.5,2\n".encode("utf-16"),
        "# a comment\n\n epoch , loss , val_loss \n0, 1.5, NA\n\n1, 0.5, 2\n",
        '"epoch","loss","val_loss"\n"0","1.5","None"\n"1","0.5","2"\n',
        "epoch,loss,val_loss\n0,1.5\n1,0.5,2,\n",
        "epoch,loss,val_loss\n0,1.5,null\nepoch,loss,val_loss\n1,0.5,2",
    ],
    ids=["comma", "semicolon", "tab", "bom", "utf-16", "comments", "quotes", "short and long rows", "header again"],
)
def test_dialects(tmp_path: Path, content: str | bytes) -> None:
    log = read_csv(written(tmp_path, content))
    assert columns_of(log) == {"epoch": [0.0, 1.0], "loss": [1.5, 0.5], "val_loss": [None, 2.0]}


def test_latin_1(tmp_path: Path) -> None:
    log = read_csv(written(tmp_path, "époque,loss\n0,1\n".encode("latin-1")))
    assert log.names == ["époque", "loss"]
    assert "Latin-1" in log.notes[0]


def test_mixed_encodings(tmp_path: Path) -> None:
    log = read_csv(written(tmp_path, "époque,loss\n0,1\n".encode() + b"1,0.5\n# caf\xe9\n"))
    assert log.names == ["époque", "loss"]
    assert [row[1] for row in log.rows()][:2] == [1.0, 0.5]
    assert "Latin-1" in log.notes[0]


def test_nan_and_inf_are_values(tmp_path: Path) -> None:
    log = read_csv(written(tmp_path, "loss\nnan\ninf\n-Infinity\n1e400\n"))
    column = [row[0] for row in log.rows()]
    assert math.isnan(column[0] or 0.0)
    assert column[1:] == [math.inf, -math.inf, math.inf]


def test_text_is_kept_apart(tmp_path: Path) -> None:
    log = read_csv(written(tmp_path, "epoch,phase,loss\n0,train,1\n1,val,oops\n"))
    assert log.names == ["epoch", "loss"]
    assert log.text == {"phase": "row 2: 'train'", "loss": "row 3: 'oops'"}


def test_a_repeated_header_is_said(tmp_path: Path) -> None:
    assert "2 times" in read_csv(written(tmp_path, "loss\n1\nloss\n1\n")).notes[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("# only a comment\n", "is empty"),
        ("epoch,loss\n", "no row of numbers"),
        ("epoch,loss\na,b\n", "no row of numbers"),
        ("0,1.5\n1,0.5\n", "no header"),
        ("loss,loss\n1,2\n", "more than once"),
        ("loss,x\n1,2,3\n", "Row 2 .* has 3 cells, the header 2"),
        (b"\x00\x01\x02", "no text file"),
        (b"\xff\xfe\x00", "cannot be read"),
        ('loss\n"' + "1" * 200_000 + '"\n', "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_csv(written(tmp_path, content))


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_csv(tmp_path / "nope.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_csv(tmp_path)
