"""Targets, one file each. A file here defines `TARGET` and is found by being here."""
