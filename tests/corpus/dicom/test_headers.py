"""What leaves the headers of DICOM files, and what does not."""

from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from core.categories import CATEGORIES
from corpus.dicom import datasets, headers
from corpus.dicom.headers import CATEGORY_OF_MODALITY, Headers, age_in_years, read_headers
from corpus.readers.files import FoundImage
from tests.corpus.dicom.made_files import SECRETS, content_of, made, ramp, written

GREY = ramp().astype("uint8")


def images(folder: Path, *contents: bytes, ending: str = ".dcm") -> list[FoundImage]:
    found = []
    for number, content in enumerate(contents):
        path = folder / f"im{number}{ending}"
        path.write_bytes(content)
        found.append(FoundImage(image_id=f"im{number}", path=path, split="train"))
    return found


def read(folder: Path, *contents: bytes) -> Headers:
    found = read_headers(images(folder, *contents))
    assert found is not None
    return found


def row(folder: Path, **elements: Any) -> dict[str, str]:
    """What is kept of one header, the group left out."""
    rows = read(folder, content_of(GREY, **elements)).annotations.rows
    return {name: value for name, value in rows["im0"].items() if name != "group"}


def groups(folder: Path, *elements: dict[str, str], further: int = 0) -> list[str]:
    """Groups of files with these elements, beside so many images that are not DICOM."""
    found = images(folder, *(content_of(GREY, **some) for some in elements))
    others = [
        FoundImage(image_id=f"j{n}", path=folder / f"{n}.jpg", split="train")
        for n in range(further)
    ]
    said = read_headers([*found, *others])
    assert said is not None
    return [said.annotations.value(image.image_id, "group") for image in found]


def test_five_columns_and_the_category_are_kept(tmp_path: Path) -> None:
    assert row(
        tmp_path,
        Modality="DX",
        BodyPartExamined="CHEST ",
        ViewPosition="pa",
        PatientAge="045Y",
        PatientSex="F",
        **SECRETS,
    ) == {
        "category": "DRXR",
        "modality": "DX",
        "body_part": "chest",
        "view": "PA",
        "age": "45",
        "sex": "F",
    }


def test_a_column_that_no_file_fills_is_none(tmp_path: Path) -> None:
    found = read(tmp_path, content_of(GREY, Modality="CT", PatientSex="M"))
    assert found.annotations.columns == ("modality", "sex")


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("045Y", "45"), ("006M", "0.5"), ("012W", "0.23"), ("030D", "0.08"), ("000Y", "0"),
        ("45Y", "45"), ("  7 y ", "7"), ("45", "45"), ("", ""), ("45 years", ""), ("-1Y", ""),
        ("1045Y", ""),
    ],
)  # fmt: skip
def test_ages_are_numbers_of_years(text: str, years: str) -> None:
    assert age_in_years(text) == years


@pytest.mark.parametrize(
    ("said", "kept"), [("M", "M"), ("f", "F"), ("Male", "M"), ("O", "O"), ("U", ""), ("", "")]
)
def test_sexes_are_m_f_and_o(said: str, kept: str, tmp_path: Path) -> None:
    assert row(tmp_path, PatientSex=said)["sex"] == kept


@pytest.mark.parametrize(("modality", "category"), CATEGORY_OF_MODALITY.items())
def test_a_modality_tells_its_category(modality: str, category: str, tmp_path: Path) -> None:
    assert category in CATEGORIES
    assert row(tmp_path, Modality=modality)["category"] == category


@pytest.mark.parametrize("modality", ["NM", "OT", "SC", "SR", "SEG", "RTDOSE", "", "NONSENSE"])
def test_other_modalities_tell_none(modality: str, tmp_path: Path) -> None:
    assert row(tmp_path, Modality=modality)["category"] == ""


@pytest.mark.parametrize(
    ("modality", "category"),
    [
        (["PT", "CT"], "DRCO"),
        (["MR", "PT"], "DRCO"),
        (["NM", "CT"], "DRCO"),
        (["CT", "CT"], "DRCT"),
        (["CT", "MR"], ""),  # side by side or fused: the header does not say
        (["CR", "DX"], "DRXR"),
    ],
)
def test_two_modalities_that_are_fused_are_combined(
    modality: list[str], category: str, tmp_path: Path
) -> None:
    found = row(tmp_path, Modality=modality)
    assert found["category"] == category
    assert found["modality"] == "/".join(modality)


def test_a_fused_capture_is_combined_only_where_it_says_so(tmp_path: Path) -> None:
    capture = {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "Modality": "PT",
        "ModalitiesInStudy": ["CT", "PT"],
        "SeriesDescription": "Fused transaxials",
        "SamplesPerPixel": 3,
        "PhotometricInterpretation": "RGB",
    }
    assert row(tmp_path, **capture)["category"] == "DRCO"
    # Plain slices of the same study, a capture in greys, and a report in colours are not.
    assert row(tmp_path, Modality="PT", ModalitiesInStudy=["CT", "PT"])["category"] == "DRPE"
    assert row(tmp_path, **{**capture, "SamplesPerPixel": 1})["category"] == "DRPE"
    assert row(tmp_path, **{**capture, "SeriesDescription": "Dose"})["category"] == "DRPE"
    assert row(tmp_path, **{**capture, "ModalitiesInStudy": ["PT"]})["category"] == "DRPE"


def test_a_cell_with_a_part_of_the_name_in_it_is_dropped(tmp_path: Path) -> None:
    secret = {"PatientName": "Zaphodsson^Trillian", "PatientID": "MRN77"}
    for value in ("TRILLIAN KNEE", "ZAPHODSSON", "MRN77", "Knee of a patient, aged 40!", "K" * 40):
        found = row(tmp_path, BodyPartExamined=value, ViewPosition=value, **secret)
        assert (found["body_part"], found["view"]) == ("", "")
    assert row(tmp_path, BodyPartExamined="C_SPINE", **secret)["body_part"] == "c spine"


def test_images_of_a_patient_are_a_group_and_its_name_tells_nothing(tmp_path: Path) -> None:
    one, two = {"PatientID": "MRN-1", "StudyInstanceUID": "1.2"}, {"PatientID": "MRN-2"}
    first, second, third = groups(tmp_path, one, {**one, "StudyInstanceUID": "1.3"}, two)
    assert first == second != third
    assert "MRN" not in first
    assert len(first) == 1 + 16


def test_without_a_patient_the_study_is_the_group(tmp_path: Path) -> None:
    study = {"StudyInstanceUID": "1.2.3"}
    for nobody in ("", "ANONYMOUS", "anon01", "unknown", "00000", "N/A"):
        a, b, c = groups(
            tmp_path,
            {**study, "PatientID": nobody},
            {**study, "PatientID": nobody},
            {"StudyInstanceUID": "1.2.4", "PatientID": nobody},
        )
        assert a == b != c
        assert a.startswith("s")


def test_one_id_for_all_files_is_no_patient(tmp_path: Path) -> None:
    files = [{"PatientID": "TRIAL", "StudyInstanceUID": f"1.{n // 2}"} for n in range(4)]
    a, b, c, d = groups(tmp_path, *files)
    assert a == b != c == d
    found = read(tmp_path, *(content_of(GREY, **some) for some in files))
    assert any("one patient's id in all files" in note.text for note in found.notes)
    # Beside other images it may well be one patient.
    assert len(set(groups(tmp_path, *files, further=3))) == 1


def test_one_group_for_all_is_none(tmp_path: Path) -> None:
    files = [{"PatientID": "TRIAL", "StudyInstanceUID": "1.2"}] * 3
    assert groups(tmp_path, *files) == ["", "", ""]


def test_without_patient_and_study_there_is_no_group(tmp_path: Path) -> None:
    assert groups(tmp_path, {}, {}) == ["", ""]


def test_groups_are_the_same_in_two_runs_and_differ_between_corpora(tmp_path: Path) -> None:
    def files(n: int) -> list[bytes]:
        ids = ({"PatientID": f"MRN-{k}", "SOPInstanceUID": f"1.2.{k}"} for k in range(n))
        return [content_of(GREY, **some) for some in ids]

    three, four = files(3), files(4)
    once = read(tmp_path, *three).annotations.rows
    assert once == read(tmp_path, *three).annotations.rows
    assert once["im0"]["group"] != read(tmp_path, *four).annotations.rows["im0"]["group"]


def test_a_corpus_without_dicom_says_nothing(tmp_path: Path) -> None:
    assert read_headers(images(tmp_path, b"\xff\xd8\xff", ending=".jpg")) is None
    assert read_headers([]) is None


def test_pictures_by_name_are_not_opened_but_for_three_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = headers.first_bytes

    def counted(path: Path, n_bytes: int) -> bytes:
        opened.append(path.name)
        return real(path, n_bytes)

    monkeypatch.setattr(headers, "first_bytes", counted)
    found = images(tmp_path, *[b"\xff\xd8\xff"] * 50, ending=".jpg")
    assert read_headers(found) is None
    assert sorted(opened) == ["im0.jpg", "im25.jpg", "im49.jpg"]


def test_dicom_under_the_names_of_pictures_is_found(tmp_path: Path) -> None:
    contents = [content_of(GREY, Modality="MR")] * 5
    found = read_headers(images(tmp_path, *contents, ending=".png"))
    assert found is not None
    assert len(found.annotations.rows) == 5


@pytest.mark.parametrize("ending", ["", ".113", ".IMA", ".dicom"])
def test_names_without_an_ending_are_opened(ending: str, tmp_path: Path) -> None:
    found = read_headers(images(tmp_path, content_of(GREY, Modality="MR"), ending=ending))
    assert found is not None
    assert found.annotations.value("im0", "category") == "DRMR"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", DeflatedExplicitVRLittleEndian])
def test_a_header_longer_than_what_is_read_first_is_read_whole(syntax: str, tmp_path: Path) -> None:
    dataset = made(GREY, syntax=syntax, Modality="CT", PatientSex="F")
    dataset.add_new((0x0009, 0x0010), "LO", "PRIVATE")
    noise = b"".join(generate_uid().encode() for _ in range(2000))
    dataset.add_new((0x0009, 0x1001), "OB", noise)
    assert read(tmp_path, written(dataset)).annotations.value("im0", "sex") == "F"


def test_a_broken_header_is_counted(tmp_path: Path) -> None:
    found = read(tmp_path, bytes(128) + b"DICM" + b"\2\0\0\0UL\4\0", content_of(GREY))
    assert "1 header cannot be read: ['im0']" in found.notes[0].text


def test_without_pydicom_the_files_are_counted_and_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (datasets, headers):
        monkeypatch.setattr(module, "can_read", lambda: False)
    (note,) = read(tmp_path, content_of(GREY)).notes
    assert note.grave
    assert note.text.startswith("1 DICOM file not read")
    assert "pip install 'radfuse[dicom]'" in note.text


def test_contradictions_with_folders_and_tables_are_counted(tmp_path: Path) -> None:
    found = read(tmp_path, content_of(GREY, Modality="CT"), content_of(GREY, Modality="MR"))
    (note,) = found.contradictions([("im0", "DRCT"), ("im1", "DRCT"), ("jpeg", "DRUS")])
    assert note.text == (
        "DICOM: 1 image whose header tells another category than is named; the named one counts:"
        " ['im1: DRCT, not DRMR']"
    )
    assert not found.contradictions([("im0", "DRCT"), ("im1", "DRMR")])
