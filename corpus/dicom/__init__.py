"""DICOM files: found by content, read as pixels, and the little of their headers that is kept."""
