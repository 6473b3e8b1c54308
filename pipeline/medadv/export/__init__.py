"""Who hands on? Stored samples as DICOM, NIfTI and PNG for other software, marked as derived."""
