"""JSON and TOML that no parser should be given as they are."""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError, PredictionsError
from core.storage.documents import parse_json, read_json, read_object, read_toml

DEEP = "[" * 20_000 + "]" * 20_000


def test_json_is_what_it_says() -> None:
    assert parse_json(b'{"a": [1, -2.5, null, true]}') == {"a": [1, -2.5, None, True]}
    assert parse_json("[" * 99 + "]" * 99)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (DEEP, "nests too deeply"),
        ("[" * 150 + "]" * 150, "nests too deeply"),
        ('{"a":' * 20_000 + "1" + "}" * 20_000, "nests too deeply"),
        ("9" * 5_000, "a number of 5,000 digits"),
        ("-" + "9" * 400, "a number of 401 digits"),
        ("{", "Expecting property name"),
        (b"\x80", "utf-8"),
    ],
)
def test_json_that_is_none_is_refused_in_few_words(text: str | bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_json(text)
    assert len(str(caught.value)) < 120


def test_a_file_of_json_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(PredictionsError, match=r"a\.json: no such file; make it again"):
        read_json(path)
    with pytest.raises(PredictionsError, match=r"cannot be read \(Is a directory\)"):
        read_json(tmp_path)
    path.write_text(DEEP, encoding="utf-8")
    with pytest.raises(PredictionsError, match=r"not JSON \(it nests too deeply\); remove it"):
        read_json(path, again="remove it")
    path.write_text("[1]", encoding="utf-8")
    assert read_json(path) == [1]
    with pytest.raises(PredictionsError, match="expected an object, found list"):
        read_object(path)
    path.write_text('{"a": 1}', encoding="utf-8")
    assert read_object(path) == {"a": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + DEEP, "it nests too deeply"),
        ("x = " + "{a = " * 3_000 + "1" + "}" * 3_000, "it nests too deeply"),
        (".".join("a" * 300) + " = 1", "it nests too deeply"),
        ("seed = " + "9" * 5_000, "a number of thousands of digits"),
        ("seed = 0x" + "f" * 5_000, "a number of hundreds of digits"),
        ("seed = [0x" + "f" * 5_000 + "]", "a number of hundreds of digits"),
        ("seed", "Expected '='"),
    ],
)
def test_toml_that_is_none_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"a\.toml: not TOML \({said}") as caught:
        read_toml(tmp_path / "a.toml")
    assert len(str(caught.value)) < 300


def test_settings_of_megabytes_are_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("#" * 70_000, encoding="utf-8")
    with pytest.raises(ConfigError, match="70,000 bytes, more than 65,536"):
        read_toml(tmp_path / "a.toml")


def test_a_mark_at_the_start_is_no_part_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("\ufeffseed = 1\n", encoding="utf-8")
    assert read_toml(tmp_path / "a.toml") == {"seed": 1}


@given(text=st.text() | st.binary())
def test_any_text_is_json_or_a_value_error(text: str | bytes) -> None:
    with suppress(ValueError):
        parse_json(text)
