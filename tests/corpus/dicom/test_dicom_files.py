from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from corpus.dicom.files import is_dicom, looks_like_dicom
from tests.corpus.dicom.made_files import content_of, made, ramp, written

GREY = ramp().astype("uint8")

WHOLE = content_of(GREY, Modality="CT", PatientID="1")


def without_meta(content: bytes) -> bytes:
    return content[128 + 4 :]


def test_a_preamble_and_four_letters_are_dicom() -> None:
    assert is_dicom(WHOLE)
    assert is_dicom(bytes(range(128)) + b"DICM")


def test_a_file_that_begins_with_its_meta_group_is_dicom() -> None:
    assert is_dicom(without_meta(WHOLE))


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_bare_data_set_is_dicom_in_any_writing(syntax: str) -> None:
    content = written(made(GREY, syntax=syntax, Modality="CT", StudyDate="20200101"))
    tag = b"\x00\x08\x00\x16" if syntax == ExplicitVRBigEndian else b"\x08\x00\x16\x00"
    assert is_dicom(content[content.index(tag) :])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x08\x00",
        bytes(4096),
        b"\x08\x00" + bytes(600),
        b"\x02\x00\x00\x00UL\x04\x00",
        b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(600),
        b"\x89PNG\r\n\x1a\n" + bytes(600),
        b"II*\x00\x08\x00\x00\x00" + bytes(600),
        b"MM\x00*\x00\x00\x00\x08" + bytes(600),
        b"BM" + bytes(600),
        b"GIF89a" + bytes(600),
        b"RIFF\x08\x00\x00\x00WEBP" + bytes(600),
        b"image_id,group\n" * 60,
    ],
)
def test_other_content_is_not_dicom(content: bytes) -> None:
    assert not is_dicom(content)


@pytest.mark.parametrize(
    ("name", "content", "is_one"),
    [
        ("IM0001", WHOLE, True),
        ("1.2.840.113", WHOLE, True),
        ("1.2.840.113.dcm", WHOLE, True),
        ("a.IMA", WHOLE, True),
        ("a.dicom", b"broken", True),  # counted as an image that cannot be read
        ("scan.v2", WHOLE, True),
        ("a.jpg", WHOLE, False),  # an image already
        ("a.csv", WHOLE, False),
        ("DICOMDIR", WHOLE, False),
        ("README", b"text", False),
    ],
)
def test_a_file_without_a_pictures_ending_is_known_by_name_or_content(
    name: str, content: bytes, is_one: bool, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    assert looks_like_dicom(tmp_path / name) == is_one


def test_a_file_that_is_not_there_is_not_dicom(tmp_path: Path) -> None:
    assert not looks_like_dicom(tmp_path / "IM0001")
    assert not looks_like_dicom(tmp_path)
