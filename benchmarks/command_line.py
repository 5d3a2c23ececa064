"""What the commands of this folder have in common: lists with commas, where results go, how they end."""

from __future__ import annotations

import argparse
from pathlib import Path

from tables import Page


def names(text: str) -> tuple[str, ...]:
    """A list with commas."""
    return tuple(part for part in text.split(",") if part)


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """The options that say where samples and page go."""
    parser.add_argument("--json", type=Path, help="write every sample there")
    parser.add_argument("--markdown", type=Path, help="write the page there")


def finish(page: Page, options: argparse.Namespace) -> int:
    """Print and write the page; the exit status: 1 if a demand is not met."""
    page.write(options.json, options.markdown)
    return int(page.failed())
