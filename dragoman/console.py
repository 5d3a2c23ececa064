"""The terminal: stages as they run on standard error, results on standard output.

What models and their factories print goes to standard error too, so that a result can be piped; warnings that
libraries address to programmers are not shown.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, redirect_stdout
from types import TracebackType
from typing import TYPE_CHECKING, Any

from dragoman.ir.errors import OutputError
from dragoman.quiet import without_warnings_of_libraries
from dragoman.summary import WIDTH, report_lines

if TYPE_CHECKING:
    from dragoman.conversion import Report
    from dragoman.inspection import Inspection
    from dragoman.ir.equivalence import Comparison
    from dragoman.ir.findings import Verdict

_WORTH_SHOWING = 0.005  # seconds
_STYLES = {"PROVEN": "bold green", "VERIFIED": "bold green", "INCONCLUSIVE": "bold yellow", "DIFFERENT": "bold red"}


class Console:
    """A context manager: within it stages are shown as they run, and after it the screen is in order in any case."""

    def __init__(self, *, warnings: bool = False) -> None:
        from rich.console import Console as RichConsole

        # The streams are named here: what is put in their place while a model is traced is none of the terminal.
        self._errors = RichConsole(file=sys.stderr)
        self._out = RichConsole(file=sys.stdout, soft_wrap=True)
        self._warnings = warnings
        self._spinner: Any = None
        self._stage = ""
        self._started = 0.0
        self._within = ExitStack()

    def __enter__(self) -> Console:
        self._within.enter_context(redirect_stdout(sys.stderr))
        if not self._warnings:
            self._within.enter_context(without_warnings_of_libraries())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_spinner()
        self._within.close()

    # ---- stages --------------------------------------------------------------------------------------

    def stage(self, name: str) -> None:
        """Begin a stage: the one before is printed with its time."""
        if name == self._stage:
            return
        self._finish()
        self._stage, self._started = name, time.perf_counter()
        if self._errors.is_terminal:
            self._start_spinner(name)

    def _start_spinner(self, name: str) -> None:
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        self._spinner = Progress(*columns, console=self._errors, transient=True)
        self._spinner.add_task(name, total=None)
        self._spinner.start()

    def _stop_spinner(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None

    def _finish(self) -> None:
        self._stop_spinner()
        seconds = time.perf_counter() - self._started
        if self._stage and seconds >= _WORTH_SHOWING:
            self._errors.print(f"  {self._stage:<{WIDTH}}{seconds:8.2f} s", style="dim", highlight=False, markup=False)
        self._stage = ""

    # ---- results -------------------------------------------------------------------------------------

    def heading(self, text: str) -> None:
        """A line above what follows."""
        self._finish()
        self._print(f"\n{text}", "bold")

    def report(self, report: Report) -> None:
        """The summary of a conversion."""
        self._finish()
        first, *rest = report_lines(report)
        self._print(first, _style(report.verdict))
        for line in rest:
            self._print(line)

    def comparison(self, comparison: Comparison) -> None:
        """The page of a comparison."""
        self._finish()
        first, *rest = str(comparison).split("\n")
        self._print(first, _style(comparison.verdict))
        for line in rest:
            self._print(line)

    def inspection(self, inspection: Inspection, *, text: bool) -> None:
        """Inputs, outputs, parameters and operators; then the whole graph if asked for."""
        self._finish()
        self._print(str(inspection))
        if text and inspection.model is not None:
            self._write(f"{inspection.model}\n")

    def page(self, text: str) -> None:
        """A text as it is."""
        self._finish()
        self._print(text)

    def _print(self, text: str, style: str | None = None) -> None:
        with self._out.capture() as rendered:
            self._out.print(text, style=style, highlight=False, markup=False, emoji=False)
        self._write(rendered.get())

    def _write(self, text: str) -> None:
        """Raises OutputError for a full disk behind standard output, BrokenPipeError where the reader has gone."""
        try:
            self._out.file.write(text)
            self._out.file.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"standard output cannot be written to: {error.strerror or error}") from error


def _style(verdict: Verdict | None) -> str:
    return _STYLES[str(verdict)] if verdict is not None else "bold yellow"
