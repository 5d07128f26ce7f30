"""DICOM files for tests, written from arrays."""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.config import disable_value_validation
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

SECRETS = {
    "PatientName": "Zaphodsson^Trillian",
    "PatientID": "MRN-7741963",
    "PatientBirthDate": "19420211",
    "StudyDate": "20190717",
    "StudyTime": "101523",
    "AccessionNumber": "ACC55120917",
    "InstitutionName": "Saint Magrathea Hospital",
    "InstitutionAddress": "42 Slartibartfast Road",
    "ReferringPhysicianName": "Prefect^Ford",
    "OperatorsName": "Jeltz^Prostetnic",
    "StationName": "HEARTOFGOLD3",
    "StudyDescription": "Vogonography of the towel",
    "SeriesDescription": "Babelfish sequence",
    "ProtocolName": "Krikkit protocol",
    "DeviceSerialNumber": "SN-90210-B",
    "PatientAddress": "Betelgeuse 5",
    "OtherPatientIDs": "OTHER-8812",
    "PatientComments": "Mostly harmless",
}
"""What no file of a workspace and no line on the terminal may hold."""


def made(
    values: npt.NDArray[Any],
    *,
    syntax: str = ExplicitVRLittleEndian,
    n_frames: int | None = None,
    **elements: Any,
) -> FileDataset:
    """A data set of stored values: (H, W), (H, W, 3), or with frames before that.

    Args:
        values: what `PixelData` holds.
        syntax: little or big endian, uncompressed; `FileDataset.compress` makes others.
        n_frames: frames in the first axis; None of one without.
        elements: further elements, or others than the usual ones.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = elements.get("SOPClassUID", CTImageStorage)
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset(
        "",
        {},
        file_meta=meta,
        preamble=bytes(128),
        is_implicit_VR=syntax == ImplicitVRLittleEndian,
        is_little_endian=syntax != ExplicitVRBigEndian,
    )
    frame = values if n_frames is None else values[0]
    if n_frames is not None:
        dataset.NumberOfFrames = n_frames
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Rows, dataset.Columns = frame.shape[:2]
    colours = frame.ndim == 3
    dataset.SamplesPerPixel = 3 if colours else 1
    dataset.PhotometricInterpretation = "RGB" if colours else "MONOCHROME2"
    if colours:
        dataset.PlanarConfiguration = 0
    if values.dtype.kind == "f":
        dataset.BitsAllocated = 8 * values.dtype.itemsize
        name = {4: "FloatPixelData", 8: "DoubleFloatPixelData"}[values.dtype.itemsize]
        setattr(dataset, name, values.tobytes())
    else:
        bits = 8 * values.dtype.itemsize
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit = bits - 1
        dataset.PixelRepresentation = int(values.dtype.kind == "i")
        order = ">" if syntax == ExplicitVRBigEndian else "<"
        content = values.astype(values.dtype.newbyteorder(order)).tobytes()
        dataset.PixelData = content + bytes(len(content) % 2)
        dataset["PixelData"].VR = "OW" if bits > 8 or syntax == ImplicitVRLittleEndian else "OB"
    with disable_value_validation():
        for name, value in elements.items():
            setattr(dataset, name, value)
    return dataset


def written(dataset: FileDataset) -> bytes:
    """The bytes of a data set's file."""
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def content_of(values: npt.NDArray[Any], **elements: Any) -> bytes:
    """The bytes of a file of stored values."""
    return written(made(values, **elements))


def ramp(n: int = 32) -> npt.NDArray[np.int64]:
    """(n, n) whole numbers that rise from 0 to 255 in every row, the first column 0."""
    return np.tile(np.rint(np.linspace(0, 255, n)).astype(np.int64), (n, 1))
