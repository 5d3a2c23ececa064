"""Suites that others wrote, driven whole: pass rates with every exclusion and its reason go to docs/conformance.md."""
