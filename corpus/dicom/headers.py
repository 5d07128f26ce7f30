"""What is kept of DICOM headers: modality, body part, view, age, sex, and who belongs together.

Nothing else leaves a file, and of these only what is plain: a cell with a part of the patient's
name in it is dropped. Patients, or studies where no patient is named, become groups under names
that cannot be turned back: see docs/dicom.md.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from core.categories import UNKNOWN, Category
from core.errors import first_few
from core.progress import Bar, progress
from corpus.dicom.datasets import NEEDS, broken, can_read, open_header
from corpus.dicom.files import ENDINGS, HEAD, PICTURE_ENDINGS, first_bytes, is_dicom
from corpus.readers.annotations import Annotations
from corpus.readers.files import FoundImage
from corpus.readers.notes import Note, count

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

COLUMNS = ("modality", "body_part", "view", "age", "sex")
"""Columns of metadata that headers fill; `age` in years, `sex` M, F or O, the others as words."""

CATEGORY_OF_MODALITY: Mapping[str, str] = {
    "CT": Category.DRCT,
    "MR": Category.DRMR, "MA": Category.DRMR,
    "US": Category.DRUS, "IVUS": Category.DRUS, "EC": Category.DRUS,
    "DX": Category.DRXR, "CR": Category.DRXR, "DR": Category.DRXR, "RF": Category.DRXR,
    "RG": Category.DRXR, "MG": Category.DRXR, "XR": Category.DRXR, "PX": Category.DRXR,
    "IO": Category.DRXR, "CF": Category.DRXR, "DF": Category.DRXR,
    "PT": Category.DRPE,
    "XA": Category.DRAN, "DS": Category.DRAN,
}  # fmt: skip
"""Categories of the codes of PS3.3, C.7.3.1.1.1, retired ones among them. NM (scintigraphy, SPECT)
has none: what it shows is no positron emission tomography, and none of the seven."""

_EMISSION, _ANATOMY = {"PT", "NM"}, {"CT", "MR"}

_SECONDARY = "1.2.840.10008.5.1.4.1.1.7"
"""SOP class of secondary captures, and the start of its multi-frame kinds."""

_SAYS_FUSED = re.compile("FUS(ED|ION)")

_IDENTITIES = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")

_NO_PATIENT = re.compile(
    r"(anon\w*|unknown|none|null|nil|n/?a|no ?id|noname|unnamed|de-?identified|removed|patient|test"
    r"|x+|0+|-+|\.+|\?+)?",
    re.IGNORECASE,
)

_AGE = re.compile(r"(\d{1,3})\s*([DWMY]?)")
_YEARS = {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1.0, "": 1.0}
_SEXES = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F", "O": "O", "OTHER": "O"}

_HEADER = 1 << 15  # bytes: nearly every header ends before
_AHEAD = 256  # files whose first bytes are in memory at a time

_PLAIN = re.compile(r"[A-Z0-9][A-Z0-9 _./-]{0,31}")


@dataclass(frozen=True, kw_only=True)
class Headers:
    """What the headers of a corpus' DICOM files say.

    Attributes:
        annotations: a row an image with a header that could be read.
        notes: how many they are, and what was strange.
        unread: ids of images whose header cannot be read.
    """

    annotations: Annotations
    notes: tuple[Note, ...]
    unread: tuple[str, ...] = ()

    def contradictions(self, images: Iterable[tuple[str, str]]) -> list[Note]:
        """A note on images that folders or tables give another category than their header does.

        Args:
            images: id and category of each, as they count.
        """
        rows = [(i, given, self.annotations.value(i, "category")) for i, given in images]
        odd = [f"{i}: {given}, not {told}" for i, given, told in rows if told and told != given]
        if not odd:
            return []
        text = f"DICOM: {count(len(odd), 'image')} whose header tells another category than is"
        return [Note(f"{text} named; the named one counts: {first_few(odd)}")]


def header_of(content: bytes) -> Mapping[str, str]:
    """What is kept of the header of a file in memory: its category, and the cells of `COLUMNS`.

    Empty where the file is not DICOM, its header cannot be read, or pydicom is missing.
    """
    if not is_dicom(content[:HEAD]) or not can_read():
        return {}
    dataset, _ = open_header(content)
    try:
        return {} if dataset is None else _kept(dataset).row
    except broken():
        return {}


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What is read of one file. Patient and study stay in memory until groups are named."""

    row: Mapping[str, str]
    patient: str
    study: str
    identities: tuple[str, ...]


def read_headers(images: Sequence[FoundImage], *, shown: bool = True) -> Headers | None:
    """The headers of those images that are DICOM; None where none is.

    Files that a picture's name says not to be DICOM are not opened, but for three of each folder
    and ending; where one of these is DICOM, all are looked at. A header takes half a millisecond.

    Args:
        images: of distinct ids.
        shown: whether a bar shows how far it got.
    """
    places = _to_look_at(images)
    headers: dict[str, _Header] = {}
    found, unread = list[str](), list[str]()
    bar = progress("reading DICOM headers", total=len(places), unit="files")
    with bar if shown else nullcontext(Bar()) as advance:
        for image, start in _starts(places):
            advance(1)
            if not is_dicom(start):
                continue
            found.append(image.image_id)
            if not can_read():
                continue
            header = _header(image.path, start)
            if header is None:
                unread.append(image.image_id)
            else:
                headers[image.image_id] = header
    if not found:
        return None
    if not can_read():
        text = f"{count(len(found), 'DICOM file')} not read: {NEEDS}"
        nothing = Annotations(path=Path("DICOM headers"), columns=(), rows={})
        note = Note(text, grave=True)
        return Headers(annotations=nothing, notes=(note,), unread=tuple(found))
    groups, notes = _groups(headers, is_all=len(headers) == len(images))
    rows = {i: {**header.row, "group": groups.get(i, "")} for i, header in headers.items()}
    columns = tuple(c for c in COLUMNS if any(row[c] for row in rows.values()))
    told = Counter(row["category"] for row in rows.values() if row["category"])
    kinds = ", ".join(f"{category} {n}" for category, n in sorted(told.items())) or "none"
    text = (
        f"DICOM: headers of {count(len(rows), 'file')}: {', '.join(columns) or 'nothing of use'};"
        f" categories told: {kinds}"
    )
    if unread:
        text += f"; {count(len(unread), 'header')} cannot be read: {first_few(unread)}"
    said = Annotations(path=Path("DICOM headers"), columns=columns, rows=rows)
    return Headers(annotations=said, notes=(Note(text), *notes), unread=tuple(unread))


def _to_look_at(images: Sequence[FoundImage]) -> list[FoundImage]:
    """Images whose first bytes are worth reading, in order."""
    kinds: dict[tuple[Path, str], list[FoundImage]] = defaultdict(list)
    for image in images:
        kinds[image.path.parent, image.path.suffix.lower()].append(image)
    is_packed = {folder: not folder.is_dir() for folder, _ in kinds}
    chosen: set[str] = set()
    for (folder, ending), several in kinds.items():
        if ending in ENDINGS or not (ending in PICTURE_ENDINGS or is_packed[folder]):
            chosen.update(image.image_id for image in several)
            continue
        some = {0, len(several) // 2, len(several) - 1}
        if any(is_dicom(first_bytes(several[place].path, HEAD)) for place in some):
            chosen.update(image.image_id for image in several)
    return [image for image in images if image.image_id in chosen]


def _starts(images: Sequence[FoundImage]) -> Iterator[tuple[FoundImage, bytes]]:
    """Images with the first bytes of their files, which threads read ahead of whoever takes them.

    The headers themselves are read by one thread: Python has several take turns, which is slower.
    """
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(images), _AHEAD):
            some = images[first : first + _AHEAD]
            starts = pool.map(lambda image: first_bytes(image.path, _HEADER), some)
            yield from zip(some, starts, strict=True)


def _header(path: Path, start: bytes) -> _Header | None:
    """What is kept of a header; None where it cannot be read."""
    dataset, goes_on = open_header(start)
    if goes_on and len(start) == _HEADER:
        dataset, _ = open_header(first_bytes(path, -1))
    try:
        return None if dataset is None else _kept(dataset)
    except broken():
        return None


def _kept(dataset: "Dataset") -> _Header:
    modalities = [m for m in _words(dataset, "Modality") if re.fullmatch("[A-Z]{2,16}", m)]
    parts = re.split(r"[^A-Z0-9]+", _text(dataset, "PatientName").upper())
    names = {part for part in parts if len(part) > 2}
    names |= {_text(dataset, "PatientID").upper()} - {""}
    row = {
        "category": _category(dataset, modalities),
        "modality": "/".join(modalities),
        "body_part": _plain(dataset, "BodyPartExamined", names).lower(),
        "view": _plain(dataset, "ViewPosition", names),
        "age": age_in_years(_text(dataset, "PatientAge")),
        "sex": _SEXES.get(_text(dataset, "PatientSex").upper(), ""),
    }
    patient = _text(dataset, "PatientID")
    return _Header(
        row=row,
        patient="" if _NO_PATIENT.fullmatch(patient) else patient,
        study=_text(dataset, "StudyInstanceUID"),
        identities=tuple(filter(None, (_text(dataset, name) for name in _IDENTITIES))),
    )


def _text(dataset: "Dataset", keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def _words(dataset: "Dataset", keyword: str) -> list[str]:
    """The values of an element that may have several, in capitals."""
    value = dataset.get(keyword) or ""
    several = value.split("\\") if isinstance(value, str) else value
    return [str(word).strip(" \0").upper() for word in several]


def _plain(dataset: "Dataset", keyword: str, names: set[str]) -> str:
    """A word of the header in capitals; "" for what is none, or has a part of a name in it."""
    value = " ".join(_words(dataset, keyword)[:1]).strip()
    if not _PLAIN.fullmatch(value) or names & {value, *re.split(r"[^A-Z0-9]+", value)}:
        return ""
    return re.sub(r"[ _]+", " ", value)


def age_in_years(text: str) -> str:
    """An age as DICOM writes it, in years with two decimals at most; "" for anything else.

    Example:
        >>> [age_in_years(t) for t in ("045Y", "006M", "012W", "030D", "old")]
        ['45', '0.5', '0.23', '0.08', '']
    """
    found = _AGE.fullmatch(text.strip().upper())
    return f"{round(int(found[1]) * _YEARS[found[2]], 2):g}" if found else ""


def _category(dataset: "Dataset", modalities: Sequence[str]) -> str:
    """The category of one modality, combined of two that are fused, else unknown.

    The modalities of the study tell of that only for a picture made of others, a secondary capture
    in colours, which says itself that it is fused: such studies have reports and projections of one
    half as well.
    """
    if _fused(modalities):
        return Category.DRCO.value
    if _text(dataset, "SOPClassUID").startswith(_SECONDARY):
        said = " ".join((*_words(dataset, "ImageType"), *_words(dataset, "SeriesDescription")))
        coloured = _text(dataset, "SamplesPerPixel") == "3"
        of_both = _fused(_words(dataset, "ModalitiesInStudy"))
        if coloured and of_both and _SAYS_FUSED.search(said):
            return Category.DRCO.value
    known = {CATEGORY_OF_MODALITY.get(modality, UNKNOWN) for modality in modalities}
    return str(known.pop()) if len(known) == 1 else UNKNOWN


def _fused(modalities: Iterable[str]) -> bool:
    several = set(modalities)
    return bool(several & _EMISSION and several & _ANATOMY)


def _groups(headers: Mapping[str, _Header], *, is_all: bool) -> tuple[dict[str, str], list[Note]]:
    """Image id to its group, named by a keyed hash; images without patient and study have none.

    The key is made of every identity in the corpus: the same files give the same groups wherever
    they are prepared, other files other ones, and who has not the files cannot try out ids.

    Args:
        headers: by image id.
        is_all: whether these are all images. Then one patient for all is no patient but a stopgap,
            and one group for all could not be dealt.
    """
    patients = {header.patient for header in headers.values() if header.patient}
    studies = {header.study for header in headers.values() if header.study}
    notes = []
    if is_all and len(patients) == 1 and len(studies) > 1:
        headers = {i: replace(header, patient="") for i, header in headers.items()}
        notes.append(Note("DICOM: one patient's id in all files; the study is the group instead"))
    elif is_all and len(patients or studies) == 1 and len(headers) > 1:
        text = "DICOM: all files are of one patient and study; every image is a group of its own"
        return {}, [Note(text)]
    secret = {i for header in headers.values() for i in (*header.identities, header.patient)}
    key = blake2b("\0".join(sorted(secret)).encode()).digest()

    def name(kind: str, identity: str) -> str:
        return kind + blake2b(f"{kind}{identity}".encode(), key=key, digest_size=8).hexdigest()

    groups = {}
    for image_id, header in headers.items():
        if header.patient:
            groups[image_id] = name("p", header.patient)
        elif header.study:
            groups[image_id] = name("s", header.study)
    n_patients = len({g for g in groups.values() if g.startswith("p")})
    n_studies = len(set(groups.values())) - n_patients
    kinds = ((n_patients, "patient"), (n_studies, "study"))
    told = [count(n, kind) for n, kind in kinds if n]
    if told:
        notes.append(Note(f"DICOM: {' and '.join(told)} as groups"))
    return groups, notes
