"""Samples as files for whole-system tests: NIfTI, DICOM and PNG, marked as derived and synthetic."""
