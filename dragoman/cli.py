"""The `dragoman` command. Owns options, progress and exit codes; every decision is the library's.

Importing this loads the option parser and nothing else, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from dragoman import __version__

app = typer.Typer(
    name="dragoman",
    help="Reads a model written in any framework and hands it over in another form, with proof that nothing was lost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130
INTERNAL = 1
SOURCE_HELP = "A .pt2 file, a model folder, or package.module:factory (returns a model or (model, args))."

Source = Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE_HELP)]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME:DTYPE[DIMS]", help="Such as x:f32[batch,3,224,224]; names are dynamic."),
]
Budget = Annotated[float, typer.Option("--budget", metavar="SECONDS", help="Time that verification may take.")]
Trust = Annotated[bool, typer.Option("--trust", help="Allow SOURCE to execute code while it is loaded (.pt2 files).")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


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
    budget: Budget = 120.0,
    keep: Annotated[bool, typer.Option("--keep", help="Write the result even if it differs from the source.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Convert SOURCE, verify the result against it, and write the result with a certificate."""
    from dragoman.face import convert as run
    from dragoman.summary import Console

    console = Console()
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


@app.command()
def inspect(
    source: Source,
    inputs: Inputs = None,
    text: Annotated[bool, typer.Option("--text", help="Print the whole graph.")] = False,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Show inputs, outputs, parameters and operators of SOURCE, and everything that has no translation."""
    from dragoman.face import inspect as run
    from dragoman.summary import Console

    console = Console()
    console.inspection(run(source, inputs=inputs or (), trust=trust, progress=console.stage), text=text)


@app.command()
def verify(
    first: Annotated[str, typer.Argument(metavar="A|CERT", help="A source, an .onnx file, or a certificate.")],
    second: Annotated[str | None, typer.Argument(metavar="B", help="What to compare with: an .onnx file.")] = None,
    inputs: Inputs = None,
    budget: Budget = 120.0,
    trust: Trust = False,
    debug: Debug = False,
) -> None:
    """Compare two models, or replay a certificate."""
    from dragoman.face import replay
    from dragoman.face import verify as run
    from dragoman.summary import Console

    console = Console()
    if second is None:
        comparison = replay(first, budget=budget, trust=trust, progress=console.stage)
    else:
        comparison = run(first, second, specs=inputs or (), budget=budget, trust=trust, progress=console.stage)
    console.comparison(comparison)
    if not comparison.verdict.holds:
        from dragoman.ir.errors import NotEquivalent

        raise typer.Exit(NotEquivalent.exit_code)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where to write the models.")] = Path("demo-output"),
    debug: Debug = False,
) -> None:
    """Convert a real ResNet-50 and a real BERT, random weights, and show what happens."""
    from dragoman.demo import run

    run(folder)


def main() -> NoReturn:
    """Run the command line; ends the process with the exit code of DESIGN §8."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    sys.exit(status(sys.argv[1:]))


def status(arguments: list[str]) -> int:
    """Run the command line on arguments; returns the exit code."""
    try:
        result: Any = app(arguments, standalone_mode=False, prog_name="dragoman")
        return int(result) if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return _complain("interrupted; nothing was written", INTERRUPTED)
    except Exception as error:
        if "--debug" in arguments:
            import traceback

            traceback.print_exc()
        return _explain(error)


def _explain(error: Exception) -> int:
    """Print what an exception means to the user; returns the exit code."""
    show = getattr(error, "show", None)  # the option parser's own errors know how to show themselves
    if callable(show):
        show()
        return int(getattr(error, "exit_code", 2))
    if type(error).__name__ == "Abort":
        return _complain("interrupted; nothing was written", INTERRUPTED)
    from dragoman.ir.errors import DragomanError

    if isinstance(error, DragomanError):
        return _complain(f"{type(error).__name__}: {error}", error.exit_code)
    if isinstance(error, MemoryError):
        return _complain("out of memory; nothing was written", INTERNAL)
    return _complain(
        f"internal error: {type(error).__name__}: {error}\n"
        "This is a defect of dragoman. --debug shows where it happened.",
        INTERNAL,
    )


def _complain(message: str, code: int) -> int:
    from dragoman.ir.text import printable

    print("\n".join(printable(line) for line in message.split("\n")), file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
