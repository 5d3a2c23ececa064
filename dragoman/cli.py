"""The `dragoman` command. Owns options, progress and exit codes; every decision is the library's.

Importing this loads the option parser and nothing else, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from dragoman import __version__

if TYPE_CHECKING:
    from dragoman.console import Console

app = typer.Typer(
    name="dragoman",
    help="Reads a model written in any framework and hands it over in another form, with proof that nothing was lost.",
    epilog="Exit codes: 0 done, 2 usage, 3 unsupported, 4 not equivalent, 5 refused as unsafe, 6 malformed, "
    "7 over budget, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

NOT_EQUIVALENT = 4
UNSUPPORTED = 3
OVER_BUDGET = 7
INTERRUPTED = 130
TERMINATED = 143
INTERNAL = 1
_VERIFY_SECONDS = 120.0
SOURCE_HELP = "A .pt2 file, a model folder, or package.module:factory (returns a model or (model, args))."


class _Interrupted(Exception):
    """Ctrl-C, with what it means for the output."""


class _Terminated(BaseException):
    """SIGTERM, which no library on the way takes for an error of its own."""


def _at_least_zero(value: float | None) -> float | None:
    if value is not None and not value >= 0:
        raise typer.BadParameter("a number of seconds is 0 or more")
    return value


Source = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME:DTYPE[DIMS]", help="Such as x:f32[batch,3,224,224]; names are dynamic."),
]
BUDGET_HELP = "Time that verification may take. By default 120, and for convert three times what reading took."
Budget = Annotated[float | None, typer.Option("--budget", metavar="SECONDS", callback=_at_least_zero, help=BUDGET_HELP)]
Trust = Annotated[bool, typer.Option("--trust", help="Allow SOURCE to execute code while it is loaded (.pt2 files).")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the warnings of libraries.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"dragoman {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of every command."""


@app.command()
def convert(
    source: Source,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="The file to write.")],
    to: Annotated[str, typer.Option("--to", help="The form to hand over: onnx.")] = "onnx",
    inputs: Inputs = None,
    opset: Annotated[int | None, typer.Option("--opset", help="The ONNX opset, 17 or newer.")] = None,
    target: Annotated[str, typer.Option("--for", help="portable: only ai.onnx operators.")] = "portable",
    external: Annotated[
        str, typer.Option("--external-data", help="Weights beside the model: auto (large models), always, never.")
    ] = "auto",
    verify: Annotated[bool, typer.Option("--verify/--no-verify", help="Compare the result with the source.")] = True,
    budget: Budget = None,
    keep: Annotated[bool, typer.Option("--keep", help="Write the result even if it differs from the source.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Convert SOURCE, verify the result against it, and write the result with a certificate."""
    with _shown(debug, output) as console:
        from dragoman.conversion import convert as run

        report = run(
            source,
            output,
            to=to,
            inputs=inputs or (),
            opset=opset,
            target=target,
            external=external,
            verify=verify,
            budget=budget,
            keep=keep,
            overwrite=overwrite,
            trust=trust,
            progress=console.stage,
        )
        console.report(report)
    if report.verdict is not None and not report.verdict.holds:
        raise typer.Exit(NOT_EQUIVALENT)


@app.command()
def inspect(
    source: Source,
    inputs: Inputs = None,
    text: Annotated[bool, typer.Option("--text", help="Print the whole graph.")] = False,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Show inputs, outputs, parameters and operators of SOURCE, and everything that has no translation."""
    with _shown(debug) as console:
        from dragoman.inspection import inspect as run

        found = run(source, inputs=inputs or (), trust=trust, progress=console.stage)
        console.inspection(found, text=text)
    if found.unsupported:
        raise typer.Exit(UNSUPPORTED)


@app.command()
def verify(
    first: Annotated[
        str, typer.Argument(metavar="A|CERT", help="A source; or a certificate, or the .onnx file that has one.")
    ],
    second: Annotated[str | None, typer.Argument(metavar="B", help="What to compare with: an .onnx file.")] = None,
    inputs: Inputs = None,
    budget: Budget = None,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Compare two models, or replay a certificate."""
    with _shown(debug) as console:
        from dragoman.face import replay
        from dragoman.face import verify as run

        seconds = _VERIFY_SECONDS if budget is None else budget
        if second is None:
            comparison = replay(_certificate(first), budget=seconds, trust=trust, progress=console.stage)
        else:
            comparison = run(first, second, specs=inputs or (), budget=seconds, trust=trust, progress=console.stage)
        console.comparison(comparison)
    if not comparison.verdict.holds:
        raise typer.Exit(NOT_EQUIVALENT)


def _certificate(named: str) -> Path:
    """The certificate that is meant: itself, or the one beside an output."""
    from dragoman.certificate import SUFFIX, certificate_path
    from dragoman.ir.errors import UsageError

    path = Path(named)
    if path.name.endswith(SUFFIX):
        return path
    if path.is_file() and certificate_path(path).is_file():
        return certificate_path(path)
    if path.is_file() and path.suffix == ".json":
        return path
    raise UsageError(
        f"verify takes two models, or one certificate: {named} is none and there is no {path.name}{SUFFIX}"
    )


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where to write the models.")] = Path("demo-output"),
    debug: Debug = False,
) -> None:
    """Convert a real ResNet-50 and a real BERT, random weights, and show what happens."""
    with _shown(debug) as console:
        from dragoman.demo import run

        held = run(folder, console)
    if not held:
        raise typer.Exit(NOT_EQUIVALENT)


@contextmanager
def _shown(debug: bool, output: Path | None = None) -> Generator[Console]:
    """A console for a command; Ctrl-C is told with what became of the output."""
    before = _stamp(output)
    try:
        from dragoman.console import Console

        with Console(warnings=debug) as console:
            yield console
    except KeyboardInterrupt:
        if output is None:
            raise _Interrupted("interrupted") from None
        if _stamp(output) != before:
            raise _Interrupted(f"interrupted after {output} had been written") from None
        state = "was left as it was" if before else "was not written"
        raise _Interrupted(f"interrupted; {output} {state}") from None


def _stamp(path: Path | None) -> tuple[int, int] | None:
    """What tells a file from the one that replaces it; None where there is none."""
    try:
        found = os.lstat(path) if path is not None else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns) if found is not None else None


# ---- the process --------------------------------------------------------------------------------------


def main() -> NoReturn:
    """Run the command line; ends the process with the exit code of DESIGN §8."""
    import signal

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  (open until the end)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal that lacks a character ends no conversion
    signal.signal(signal.SIGTERM, _terminated)
    sys.unraisablehook = _swallowed
    sys.exit(status(sys.argv[1:]))


def _terminated(number: int, frame: object) -> NoReturn:
    raise _Terminated  # unlike the signal itself, this removes what is half-written


def _swallowed(what: Any) -> None:
    """Python drops what is raised in a callback: a Ctrl-C that came in one is sent again, anything else is reported."""
    if issubclass(what.exc_type, KeyboardInterrupt):
        import _thread
        import threading

        threading.Timer(0.05, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(what)


def status(arguments: list[str]) -> int:
    """Run the command line on arguments; returns the exit code."""
    try:
        result: Any = app(arguments, standalone_mode=False, prog_name="dragoman")
        code = int(result) if isinstance(result, int) else 0
    except (KeyboardInterrupt, _Interrupted) as interruption:
        return _complain(str(interruption) or "interrupted", INTERRUPTED)
    except _Terminated:
        return _complain("terminated", TERMINATED)
    except Exception as error:
        return _explain(error, debug="--debug" in arguments)
    return code if code != INTERRUPTED else _complain("interrupted", INTERRUPTED)


def _explain(error: Exception, *, debug: bool) -> int:
    """Print what an exception means to the user; returns the exit code."""
    show = getattr(error, "show", None)  # the option parser's own errors know how to show themselves
    if callable(show):
        show()
        return int(getattr(error, "exit_code", 2))
    if type(error).__name__ == "Abort":  # how older option parsers tell of Ctrl-C
        return _complain("interrupted", INTERRUPTED)
    if debug:
        import traceback

        traceback.print_exception(error)
    from dragoman.ir.errors import DragomanError

    if isinstance(error, DragomanError):
        return _complain(f"{type(error).__name__}: {error}", error.exit_code)
    if isinstance(error, MemoryError):
        return _complain("out of memory; nothing was written", OVER_BUDGET)
    return _complain(
        f"internal error: {type(error).__name__}: {error}\n"
        "This is a defect of dragoman. --debug shows where it happened.",
        INTERNAL,
    )


def _complain(message: str, code: int) -> int:
    from dragoman.ir.errors import printable

    print("\n".join(printable(line) for line in message.split("\n")), file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
