"""The report of a corpus: one HTML file that opens anywhere, without a network and without scripts.

`build.write_report` makes it; nothing is imported here, so that the command line's `--help` stays quick.
"""
