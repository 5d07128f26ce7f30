import codecs
import csv
from pathlib import Path

import pytest

from core.errors import CorpusError
from corpus.readers.tables.columns import MANIFEST, known_names, plain, rename
from corpus.readers.tables.sheet import Sheet, read_header, read_sheet, read_table
from corpus.readers.tables.text import read_text

KNOWN = known_names(MANIFEST)

TABLE = "path,split,concepts\na.jpg,train,C1\nb.jpg,valid,C2\n"

ROWS = [["a.jpg", "train", "C1"], ["b.jpg", "valid", "C2"]]


def sheet(folder: Path, content: str | bytes) -> Sheet:
    path = folder / "m.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_sheet(path, known=KNOWN)


def texts(found: Sheet) -> list[str]:
    return [note.text for note in found.notes]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (TABLE, []),
        (TABLE.replace(",", ";"), ["m.csv: separated by semicolons"]),
        (TABLE.replace(",", "\t"), ["m.csv: separated by TABs"]),
        (TABLE.replace(",", "|"), ["m.csv: separated by bars"]),
        ("sep=,\n" + TABLE, ["m.csv: separated by commas, as a line says"]),
        ("sep=;\r\n" + TABLE.replace(",", ";"), ["m.csv: separated by semicolons, as a line says"]),
        ('"sep=^"\n' + TABLE.replace(",", "^"), ["m.csv: separated by '^', as a line says"]),
        (TABLE.replace("\n", "\r\n"), []),
        (TABLE.replace("\n", "\r"), []),
        (TABLE.replace("\n", "\r\n", 2), []),
        ("\n\n" + TABLE.replace("\n", "\n\n"), []),
        ("# mine\n# of Monday\n" + TABLE, ["m.csv: 2 comments above it passed over"]),
        ("#" + TABLE, []),
        ("\n".join(",".join(f'"{c}"' for c in x.split(",")) for x in TABLE.split()) + "\n", []),
        (
            "\n".join(",".join(f"'{c}'" for c in x.split(",")) for x in TABLE.split()) + "\n",
            ["m.csv: cells in single quotes"],
        ),
        (TABLE.replace(",", " , "), ["m.csv: 9 cells with blanks around, stripped"]),
        (TABLE.replace("\n", ",,\n"), ["m.csv: 2 columns without a name or a value, left out"]),
        (
            TABLE.replace("C1", "C1,").replace("C2", "C2,"),
            ["m.csv: 2 lines end in empty cells, left out"],
        ),
    ],
)
def test_a_table_is_read_in_any_dialect_which_is_said(
    tmp_path: Path, content: str, said: list[str]
) -> None:
    found = sheet(tmp_path, content)
    assert found.header == ("path", "split", "concepts")
    assert [list(row) for row in found.rows] == ROWS
    assert texts(found) == said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (codecs.BOM_UTF8 + TABLE.encode(), []),
        (TABLE.encode("utf-16"), ["m.csv: read as UTF-16"]),
        (codecs.BOM_UTF16_BE + TABLE.encode("utf-16-be"), ["m.csv: read as UTF-16"]),
        (TABLE.encode("utf-16-le"), ["m.csv: read as UTF-16"]),
        (TABLE.encode("utf-32"), ["m.csv: read as UTF-32"]),
        (
            "\ufeff".join(("", *TABLE.splitlines(keepends=True))).encode(),
            ["m.csv: 2 byte order marks inside the text, dropped"],
        ),
    ],
)
def test_a_table_is_read_in_any_unicode_encoding(
    tmp_path: Path, content: bytes, said: list[str]
) -> None:
    found = sheet(tmp_path, content)
    assert [list(row) for row in found.rows] == ROWS
    assert texts(found) == said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            TABLE.replace("C1", "Müller").encode("latin-1"),
            r"line 2: not readable as UTF-8 text \(invalid start byte\); in Windows-1252 the"
            r" line is 'a.jpg,train,Müller'; save the file as UTF-8",
        ),
        (TABLE.replace("C1", "C\0").encode(), r"line 2: a zero byte \(NUL\) in it; remove it"),
        (b"PK\x03\x04 and so on", "this is a zip or an Excel workbook; save it as CSV UTF-8"),
        (TABLE.replace("C1", '"C1').encode(), "line 2: a quote is opened and never closed"),
        (
            TABLE.replace("C1", '"C"1"').encode(),
            "line 2: a quote inside a quoted cell; write it twice",
        ),
        (TABLE.replace(",C1", "").encode(), "line 2: expected 3 columns, found 2"),
        (TABLE.replace("C1", "C1,C3").encode(), "found 4; quote a cell that holds the separator"),
        ((TABLE + "# end\n").encode(), "line 4: expected 3 columns, found 1; a comment\\? remove"),
        (
            TABLE.replace("path,", "path,,").replace("jpg,", "jpg,x,").encode(),
            "column 2 has no name, but 'x' in line 2; name it, or remove it",
        ),
        (
            (b",path\nid_a,a.jpg\nid_b,b.jpg\n"),
            "column 1 has no name, but 'id_a' in line 2; call it image_id if it holds the ids",
        ),
    ],
)
def test_what_is_no_table_is_refused_by_file_and_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(CorpusError, match=f"m.csv: .*{message}"):
        sheet(tmp_path, content)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (",path,split\n0,a.jpg,train\n1,b.jpg,valid\n", "the first column counts the rows"),
        ('"","path","split"\n"1","a.jpg","train"\n"2","b.jpg","valid"\n', "the first column"),
        ("Unnamed: 0,path,split\n7,a.jpg,train\n3,b.jpg,valid\n", "the first column counts"),
        ("path,Unnamed: 0.1,split\na.jpg,0,train\nb.jpg,1,valid\n", "column 'Unnamed: 0.1' counts"),
        ("path\tsplit\n1\ta.jpg\ttrain\n2\tb.jpg\tvalid\n", "numbers of the rows before the first"),
        (
            "path,split,Unnamed: 2\na.jpg,train,\nb.jpg,valid,\n",
            "1 column without a name or a value",
        ),
    ],
)
def test_an_index_that_nobody_named_is_left_out_and_said(
    tmp_path: Path, content: str, said: str
) -> None:
    found = sheet(tmp_path, content)
    assert found.header == ("path", "split")
    assert [row[0] for row in found.rows] == ["a.jpg", "b.jpg"]
    assert said in texts(found)[-1]


def test_a_cell_may_hold_separators_quotes_and_line_ends(tmp_path: Path) -> None:
    found = sheet(tmp_path, 'path,note\na.jpg,"two\nlines, ""quoted"""\nb.jpg,c\nd.jpg\n'[:-6])
    assert found.column("note") == ['two\nlines, "quoted"', "c"]
    # the second row begins below the two lines of the first
    assert found.places == ["line 2", "line 4"]


def test_thousands_of_columns_are_read(tmp_path: Path) -> None:
    names = [f"c{k}" for k in range(4000)]
    found = sheet(tmp_path, ",".join(["path", *names]) + "\na.jpg" + ",1" * 4000 + "\n")
    assert len(found.header) == 4001


def test_names_of_columns_differ_in_letters_and_blanks() -> None:
    header, notes = rename([" Image_ID", "File Path", "Split"], MANIFEST, file="/x/m.csv")
    assert header == ("image_id", "path", "split")
    assert [note.text for note in notes] == [
        "m.csv: columns by other names: 'File Path' is path, ' Image_ID' is image_id,"
        " 'Split' is split"
    ]


@pytest.mark.parametrize("name", ["image", "filename", "file", "file_path", "Image Index", "Path"])
def test_the_path_has_many_names(name: str) -> None:
    assert rename([name, "split"], MANIFEST, file="m.csv")[0] == ("path", "split")


@pytest.mark.parametrize("name", ["labels", "cuis", "CUIs", "cui", "concept", "tags", "labelCUIS"])
def test_the_concepts_have_many_names(name: str) -> None:
    assert rename(["path", name], MANIFEST, file="m.csv")[0] == ("path", "concepts")


def test_a_column_of_the_name_itself_counts_before_its_other_names() -> None:
    header = ("path", "image", "split", "labels", "concepts")
    assert rename(header, MANIFEST, file="m.csv") == (header, [])


def test_two_columns_that_could_be_the_same_are_refused() -> None:
    with pytest.raises(CorpusError, match="columns 'file' and 'filename' could each be 'path'"):
        rename(["file", "filename"], MANIFEST, file="m.csv")
    with pytest.raises(CorpusError, match="columns 'Path' and 'PATH' could each be 'path'"):
        rename(["Path", "PATH"], MANIFEST, file="m.csv")
    with pytest.raises(CorpusError, match=r"m.csv: column 'x' stands twice; keep one"):
        rename(["x", "x"], MANIFEST, file="m.csv")


def test_a_needed_column_is_asked_for_with_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("a,b\n1,2\n")
    with pytest.raises(CorpusError, match=r"g.csv: no column \['image_id'\].*found \['a', 'b'\]"):
        read_table(tmp_path / "g.csv", meanings={"image_id": ()}, needed=("image_id",))


def test_the_header_alone_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("sep=;\n\n#path;split\na;b\n")
    assert read_header(tmp_path / "m.csv", known=KNOWN) == ("path", "split")
    (tmp_path / "m.csv").write_text("")
    assert read_header(tmp_path / "m.csv", known=KNOWN) == ()


def test_a_missing_file_and_a_folder_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none.csv: no such file"):
        read_text(tmp_path / "none.csv")
    with pytest.raises(CorpusError, match="a folder; expected a file"):
        read_text(tmp_path)


def test_plain_names_have_letters_and_digits_alone() -> None:
    assert plain("Follow-up #2") == "followup2"


def test_the_limit_of_the_csv_module_is_as_before(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"image_id,concepts\na,{'C1;' * 60_000}C2\n", encoding="utf-8")
    before = csv.field_size_limit()
    with pytest.raises(CorpusError, match="line 2: column 'concepts': 180,002 characters"):
        read_sheet(tmp_path / "a.csv", known={"imageid"})
    assert csv.field_size_limit() == before
