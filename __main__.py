"""The command line: `python -m ramify demo | generate | chat | score | info`."""

from __future__ import annotations

import argparse
import sys
import typing
from collections.abc import Sequence
from dataclasses import fields

from . import __version__
from .errors import RamifyError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 1 (ramify's own error, told in one line) or 130 (Ctrl-C)."""
    given = _parser().parse_args(arguments)
    from .runtime.terminal import commands  # here, so that --help and --version do not load torch

    try:
        getattr(commands, given.command)(given)
    except RamifyError as error:
        print(f"ramify: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output went away: nothing is left to say
        sys.stderr.close()
        return 0
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="ramify", description="Programs that call language models, run fast.")
    parser.add_argument("--version", action="version", version=f"ramify {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    engine = _engine_options()

    demo = commands.add_parser("demo", parents=[engine], help="see a real model answer, and its prefix cache at work")
    demo.set_defaults(command="demo")

    generate = commands.add_parser("generate", parents=[engine], help="continue a text, streaming to the terminal")
    generate.add_argument("prompt", nargs="?", help="the text (default: read it from standard input)")
    _sampling_options(generate)

    chat = commands.add_parser(
        "chat", parents=[engine], help="talk with the model; Ctrl-C stops an answer, Ctrl-D ends"
    )
    chat.add_argument("--system", help="what the model is told before the conversation")
    _sampling_options(chat)

    score = commands.add_parser("score", parents=[engine], help="how probable each of several continuations is")
    score.add_argument("prompt")
    score.add_argument("continuation", nargs="+")

    commands.add_parser("info", parents=[engine], help="what a model is, and how it would run here")
    return parser


def _engine_options() -> argparse.ArgumentParser:
    """A parent parser with an option for each field of EngineOptions, help and allowed values included."""
    from .runtime.options import EngineOptions

    parent = argparse.ArgumentParser(add_help=False)
    group = parent.add_argument_group("engine")
    group.add_argument("--model", default="smollm2", help="smollm2, a Hugging Face directory, a .gguf file or a hub id")
    hints = typing.get_type_hints(EngineOptions)
    for item in fields(EngineOptions):
        hint, flag = hints[item.name], "--" + item.name.replace("_", "-")
        text = item.metadata["help"].replace("%", "%%")
        if item.default is not None:
            text += " (default: %(default)s)"
        if bool in (hint, *typing.get_args(hint)):
            group.add_argument(flag, action=argparse.BooleanOptionalAction, default=item.default, help=text)
        elif typing.get_origin(hint) is typing.Literal:
            group.add_argument(flag, choices=typing.get_args(hint), default=item.default, help=text)
        else:
            kind = int if int in (hint, *typing.get_args(hint)) else str
            group.add_argument(flag, type=kind, default=item.default, metavar="N" if kind is int else "NAME", help=text)
    return parent


def _sampling_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "--max-tokens", type=int, metavar="N", help="longest answer (default: to the end of the context)"
    )
    group.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 takes the best token (default)")
    group.add_argument("--top-p", type=float, default=1.0, metavar="P", help="sample from the best tokens of this mass")
    group.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same text")
    group.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end before this text; repeatable")
    obey = parser.add_argument_group("what the answer must obey (one of these)").add_mutually_exclusive_group()
    obey.add_argument("--regex", metavar="PATTERN", help="a regular expression")
    obey.add_argument("--json-schema", metavar="FILE", help="a JSON schema, in a file")
    obey.add_argument("--ebnf", metavar="FILE", help="a grammar (Lark, GBNF or EBNF), in a file")
    obey.add_argument("--choice", action="append", metavar="TEXT", help="one of these texts; repeatable")


if __name__ == "__main__":
    sys.exit(main())
