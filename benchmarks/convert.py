#!/usr/bin/env python3
"""Conversion time, peak memory and size, beside `torch.onnx.export(dynamo=True)`, model by model.

    python benchmarks/convert.py                                # the models of the promise: about half an hour
    python benchmarks/convert.py --models resnet50,bert_base --repeats 1
    python benchmarks/convert.py --verify                       # our total with verification on, beside theirs
    python benchmarks/convert.py --stack                        # Llama stacks of 4, 16, 64 layers: growth with depth
    python benchmarks/convert.py --json out.json --markdown docs/benchmarks/convert.md

Ends with status 1 if a demand is not met.

Each conversion runs in a fresh process. In each round the models come in random order, and for each model the tools run
one after the other in random order, so that a ratio compares neighbours in time. Seconds are cold but without imports
and without building the model: convert_once.py lists what is imported beforehand, the same for every tool. Memory is
the peak of resident pages over what was resident with the model loaded. "Processor" is the ratio in processor seconds,
which other work on the machine disturbs less. "Difference" is between ONNX Runtime's output and the module's, on one
input, in parts of the largest value.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import convert_results as results
from command_line import add_outputs, finish, names
from convert_results import EXPORT, FORMS, OURS, PEER
from fresh_process import Request, Result, run_fresh
from tables import Page

PROMISED = (
    *("resnet50", "mobilenetv3_large_100", "efficientnet_b0", "convnext_tiny", "vit_base_patch16_224"),
    *("swin_tiny_patch4_window7_224", "bert_base", "gpt2", "gpt2_masked", "llama", "t5_small"),
    *("whisper_tiny_encoder", "clip_vision", "lstm", "gru", "transformer_encoder", "detector", "unet"),
)
STACK = ("llama_stack_4", "llama_stack_16", "llama_stack_64")


@dataclass(frozen=True)
class Job:
    """One conversion to be measured."""

    model: str
    tool: str
    form: str
    round: int

    def request(self, options: argparse.Namespace) -> Request:
        """What the fresh process is told."""
        return {
            "model": self.model,
            "tool": self.tool,
            "external": self.form == "external",
            "verify": options.verify and self.tool == OURS,
            "check": options.check and self.round == 0,
            "threads": options.threads,
            "folder": options.folder,
        }


def jobs(
    models: Sequence[str], tools: Sequence[str], forms: Sequence[str], options: argparse.Namespace
) -> Iterator[Job]:
    """Round by round: models in random order, forms in turn, tools in random order."""
    chance = random.Random(options.seed)
    for turn in range(options.repeats):
        for model in chance.sample(list(models), len(models)):
            for form in forms:
                if form == "embedded" and turn >= options.embedded_repeats:
                    continue
                for tool in chance.sample(list(tools), len(tools)):
                    yield Job(model, tool, form, turn)


def measure(listed: Sequence[Job], options: argparse.Namespace) -> list[Result]:
    """Run the jobs one after another, telling each on standard error."""
    samples: list[Result] = []
    for number, job in enumerate(listed, 1):
        found = run_fresh("convert_once.py", job.request(options), threads=options.threads, timeout=options.timeout)
        samples.append({"model": job.model, "tool": job.tool, "form": job.form, "round": job.round, **found})
        told = found.get("failure", "").splitlines()
        outcome = f"failed: {told[0][:120]}" if told else f"{found['seconds']:.2f} s, {found['resident'] >> 20} MiB"
        print(f"[{number}/{len(listed)}] {job.model} {job.form} {job.tool}: {outcome}", file=sys.stderr, flush=True)
    return samples


def page(options: argparse.Namespace) -> Page:
    """Measure, and put what came out in order."""
    if options.stack:
        return stack_page(options)
    models = options.models or PROMISED
    forms = ("external",) if options.verify else options.forms
    samples = measure(list(jobs(models, (OURS, PEER), forms, options)), options)
    samples.sort(key=lambda s: models.index(s["model"]))
    title = "Conversion with verification beside torch.onnx" if options.verify else "Conversion beside torch.onnx"
    done = Page(title, about(), samples=samples)
    done.tables += [results.conversion_table(samples, form) for form in forms]
    done.demands += results.verified_demands(samples) if options.verify else results.conversion_demands(samples, forms)
    failures = results.failure_table(samples)
    done.tables += [failures] if failures.rows else []
    return done


def stack_page(options: argparse.Namespace) -> Page:
    """The same for stacks of growing depth, beside torch.export alone as well."""
    models = options.models or STACK
    tools = (OURS, EXPORT) if options.no_peer else (OURS, EXPORT, PEER)
    samples = measure(list(jobs(models, tools, ("external",), options)), options)
    samples.sort(key=lambda s: models.index(s["model"]))
    done = Page("Growth with depth", about(), samples=samples)
    done.tables.append(results.stack_table(samples))
    failures = results.failure_table(samples)
    done.tables += [failures] if failures.rows else []
    done.demands += results.stack_demands(samples)
    return done


def about() -> str:
    """How it is measured: the last paragraph of this file's docstring."""
    return (__doc__ or "").rsplit("\n\n", maxsplit=1)[-1].replace("\n", " ").strip()


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n", maxsplit=1)[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--models", type=names, default=(), help="names of the zoo, with commas, or 'all'")
    parser.add_argument("--forms", type=names, default=FORMS, help="external, embedded, or both with a comma")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--embedded-repeats", type=int, default=1, help="how many rounds embed the weights as well")
    parser.add_argument("--verify", action="store_true", help="our conversion with verification on")
    parser.add_argument("--stack", action="store_true", help="growth with depth instead of the zoo")
    parser.add_argument("--no-peer", action="store_true", help="with --stack: leave torch.onnx out, it takes minutes")
    parser.add_argument("--no-check", dest="check", action="store_false", help="do not run the files in ONNX Runtime")
    parser.add_argument("--threads", type=int, default=1, help="threads of each tool's libraries")
    parser.add_argument("--seed", type=int, default=0, help="of the order of measurement")
    parser.add_argument("--timeout", type=float, default=1800.0, help="seconds for one conversion")
    parser.add_argument("--folder", default=None, help="where the models are written; removed afterwards")
    add_outputs(parser)
    options = parser.parse_args()
    if options.models == ("all",):
        from subjects import entries

        options.models = tuple(entries())
    unknown = set(options.forms) - set(FORMS)
    if unknown:
        parser.error(f"--forms: {', '.join(sorted(unknown))} is none of {', '.join(FORMS)}")
    return options


def main() -> int:
    """Measure and print; 1 if a demand is not met."""
    options = parse_options()
    return finish(page(options), options)


if __name__ == "__main__":
    sys.exit(main())
