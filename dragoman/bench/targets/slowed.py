"""A target for the study of the harness itself; never measured unasked."""

from __future__ import annotations

from dragoman.bench.study import Slowed

TARGET = Slowed()
