"""A program: a Python function over a state, and the ways to run it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ..errors import InvalidRequest, ProgramError
from .arguments import arguments_of
from .backends.base import Backend
from .batch import MOST_THREADS, checked, raising, run_rows, threads
from .checking import sampling_of
from .defaults import at_hand, resolve
from .expressions import Piece
from .graph.explain import Explanation
from .graph.graph import Graph
from .graph.passes import ALL_PASSES, Passes
from .graph.rows import held, warm_rows
from .graph.templates import Templates, templates_of
from .options import DEFAULT, ExecutionOptions
from .prefix import HeldPrefixes
from .run_context import RunContext
from .running import begin, in_program, run_async, run_here, run_streaming, too_deep
from .sampling import Sampling
from .state import ProgramState

OURS = (
    "seed",
    "repetition_penalty",
    "logit_bias",
    "timeout",
    "retries",
)  # beyond SGLang's, unless the program has them


class ProgramCall(Piece):
    """`f(x)` inside another program, to be appended: `s += f(x)` runs f on s."""

    __slots__ = ("arguments", "keywords", "program")

    def __init__(self, program: SglFunction, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> None:
        self.program = program
        self.arguments = arguments
        self.keywords = keywords

    def append_to(self, state: ProgramState) -> None:
        """Run it on the state."""
        if self.program.is_async:
            raise ProgramError(
                f"program {self.program.name!r} is async and cannot be appended: write "
                f"`await {self.program.name}(s, ...)`"
            )
        self.program(state, *self.arguments, **self.keywords)

    def __repr__(self) -> str:
        return f"{self.program.name}(...)"

    def __getitem__(self, name: str) -> Any:
        return self.__getattr__(name)

    def __getattr__(self, name: str) -> Any:
        raise ProgramError(
            f"{self.program.name}(...) inside another program is a piece to append, and has no {name!r}: write "
            f"`s += {self.program.name}(...)`, or {self.program.name}.run(...) to run it by itself"
        )


class SglFunction:
    """What `@function` makes of a Python function. Call its `run`, or call it inside another program."""

    def __init__(
        self,
        func: Callable[..., Any],
        num_api_spec_tokens: int | None = None,
        bind_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        if not callable(func):
            raise InvalidRequest(f"function({func!r:.60}): it takes a Python function")
        self.signature = inspect.signature(func)
        parameters = list(self.signature.parameters.values())
        if not parameters or parameters[0].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
            raise ProgramError(
                f"program {getattr(func, '__name__', func)!r}: its first argument must be the state: "
                f"def {getattr(func, '__name__', 'f')}(s, ...)"
            )
        if inspect.isgeneratorfunction(func) or inspect.isasyncgenfunction(func):
            raise ProgramError(
                f"program {getattr(func, '__name__', func)!r}: its body has a `yield`, so a call would run nothing; "
                "return what it makes, or stream it: run(stream=True).text_iter()"
            )
        if num_api_spec_tokens is not None:
            if isinstance(num_api_spec_tokens, bool) or not isinstance(num_api_spec_tokens, int):
                raise InvalidRequest(f"num_api_spec_tokens={num_api_spec_tokens!r} must be a whole number")
            if not 1 <= num_api_spec_tokens <= 1_000_000:
                raise InvalidRequest(f"num_api_spec_tokens={num_api_spec_tokens} must be from 1 to 1,000,000")
        self.func = func
        self.num_api_spec_tokens = num_api_spec_tokens
        self.bind_arguments: dict[str, Any] = dict(bind_arguments or {})
        self.pin_prefix_rid: str | None = None
        self._held = HeldPrefixes()
        self.is_async = inspect.iscoroutinefunction(func)
        self.arg_names = [parameter.name for parameter in parameters[1:]]
        self.arg_defaults = [parameter.default for parameter in parameters if parameter.default is not parameter.empty]
        if any(name in RUN_DEFAULTS for name in self.arg_names):
            self.__dict__["run"] = self._run_with_own
        self.name: str = getattr(func, "__name__", type(func).__name__)
        self.__name__ = self.name
        self.__doc__ = func.__doc__
        self.__wrapped__ = func
        self.__module__ = getattr(func, "__module__", __name__)

    def bind(self, **kwargs: Any) -> SglFunction:
        """The same program with these arguments given."""
        parameters = self.signature.parameters.values()
        unknown = [name for name in kwargs if name not in self.arg_names]
        if unknown and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            raise InvalidRequest(
                f"program {self.name!r} has no argument {unknown[0]!r}; it has {', '.join(self.arg_names) or 'none'}"
            )
        made = SglFunction(self.func, self.num_api_spec_tokens, {**self.bind_arguments, **kwargs})
        made.pin_prefix_rid = self.pin_prefix_rid
        return made

    def run(
        self,
        *args: Any,
        max_new_tokens: int = 128,
        n: int = 1,
        stop: str | Sequence[str] | None = None,
        stop_token_ids: Sequence[int] | None = None,
        stop_regex: str | Sequence[str] | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = -1,
        min_p: float = 0.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        ignore_eos: bool = False,
        return_logprob: bool | None = None,
        logprob_start_len: int | None = None,
        top_logprobs_num: int | None = None,
        return_text_in_logprobs: bool | None = None,
        stream: bool = False,
        backend: Any = None,
        use_thread: bool = True,
        **kwargs: Any,
    ) -> ProgramState:
        """Run it. Returns when its Python body has; reading a value waits for it.

        The sampling settings hold for gens that say nothing else. Beyond SGLang's: seed, repetition_penalty,
        logit_bias, timeout (seconds for one call), retries, and options=ExecutionOptions(...). Where the program has
        an argument of a setting's name (say `n`), what is given is the program's. stream=True returns at once, and
        the body goes on in a thread. use_thread=False: each append waits for its end. An exception in the body
        propagates; a backend's error is kept in `error()` and raised where its value is read. Inside an event loop:
        `await program.run_async(...)`.
        """
        given = {name: value for name, value in locals().items() if name in RUN_DEFAULTS}
        context = self.context(given, args, kwargs, backend)
        context.step_by_step = not use_thread
        context.streaming = stream
        keywords = self.keywords(kwargs)
        if stream:
            self.check_arguments(args, keywords)
            return run_streaming(self, begin(context), args, keywords)
        return run_here(self, begin(context), args, keywords)

    def _run_with_own(self, *args: Any, **kwargs: Any) -> ProgramState:
        """`run` of a program that has an argument of a setting's name, say `n`: what is given is the program's."""
        own = {name: kwargs.pop(name) for name in self.arg_names if name in RUN_DEFAULTS and name in kwargs}
        return SglFunction.run(self.bind(**own) if own else self, *args, **kwargs)

    async def run_async(self, *args: Any, backend: Any = None, **kwargs: Any) -> ProgramState:
        """`await program.run_async(...)`: the same as run, for programs of both kinds; the event loop goes on.

        Returns when the body has and all that it appended has run.
        """
        given = {
            name: default if name in self.arg_names else kwargs.pop(name, default)
            for name, default in RUN_DEFAULTS.items()
        }
        context = self.context(given, args, kwargs, backend)
        return await run_async(self, begin(context), args, self.keywords(kwargs))

    def run_batch(
        self,
        batch_kwargs: Iterable[Any],
        *,
        max_new_tokens: int = 128,
        n: int = 1,
        stop: str | Sequence[str] | None = None,
        stop_token_ids: Sequence[int] | None = None,
        stop_regex: str | Sequence[str] | None = None,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = -1,
        min_p: float = 0.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        ignore_eos: bool = False,
        return_logprob: bool | None = None,
        logprob_start_len: int | None = None,
        top_logprobs_num: int | None = None,
        return_text_in_logprobs: bool | None = None,
        backend: Any = None,
        num_threads: str | int = "auto",
        progress_bar: bool = False,
        generator_style: bool = False,
        in_order: bool = True,
        in_threads: bool = False,
        errors: str = "raise",
        **ours: Any,
    ) -> Any:
        """Run it on every row: dicts of arguments, or tuples by position. Returns states, in order.

        num_threads: how many programs are under way at once (none of them is a thread). generator_style: an iterator
        instead of a list; with in_order=False, states come as they finish. in_threads: bodies that wait for other
        things than values (the network, files) get a thread each, of num_threads ("auto": 96). A row whose body raises
        does not stop the others: errors="raise" raises BatchFailed after the last one (its `generations` are the
        states), errors="return" leaves it in the state's `error()`.
        """
        given = {name: value for name, value in locals().items() if name in RUN_DEFAULTS}
        if errors not in ("raise", "return"):
            raise InvalidRequest(f'errors={errors!r:.40} is not allowed: it must be "raise" or "return"')
        rows = self._rows(batch_kwargs)
        defaults, options = self._settings(given, ours)
        if ours:
            raise InvalidRequest(
                f"run_batch has no argument {next(iter(ours))!r}; a program's arguments are in its rows"
            )
        limit = threads(num_threads, MOST_THREADS if in_threads else options.programs_at_once)
        if not rows:
            return iter(()) if generator_style else []
        used = resolve(backend)

        def new_context(args: Sequence[Any], kwargs: Mapping[str, Any]) -> RunContext:
            return self._new_context(used, defaults, options, args, kwargs)

        warm = warm_rows(self.func, used, rows, defaults, options)
        states = run_rows(self, new_context, rows, limit, progress_bar, in_order or not generator_style, in_threads)
        if warm is not None:
            states = held(states, warm)
        if generator_style:
            return states if errors == "return" else raising(states, self.name)
        made = list(states)
        return made if errors == "return" else checked(made, self.name)

    # -- the request graph ----------------------------------------------------------------------------------------

    def compile(self, *, passes: Passes = ALL_PASSES) -> SglFunction:
        """The same program, run from templates: the body is traced once for each shape of arguments.

        A body that looks at a generated value cannot be a template as a whole; then it runs as always. Texts,
        variables and errors are the same either way. Globals and closures count as they were at the trace.
        """
        templates = templates_of(self.func)
        body = Templates(self.func if templates is None else templates.func, self.name, passes).body()
        made = SglFunction(body, self.num_api_spec_tokens, self.bind_arguments)
        made.pin_prefix_rid = self.pin_prefix_rid
        return made

    def explain(self, *args: Any, backend: Any = None, **kwargs: Any) -> Explanation:
        """What the program will ask of the model, before anything runs: printed; returned for .svg(), .mermaid().

        Arguments that are left out stand for any text. Tokens are counted by the backend, if one is there already.
        """
        templates = templates_of(self.func) or Templates(self.func, self.name, ALL_PASSES)
        found = templates.explain(args, self.keywords(kwargs), _PLAIN, at_hand(backend))
        print(found)  # noqa: T201 - it is asked for to be read
        return found

    def trace(self, *, backend: Any = None, **kwargs: Any) -> Graph:
        """The request graph of a call with these arguments; those that are left out stand for any text."""
        templates = templates_of(self.func) or Templates(self.func, self.name, ALL_PASSES)
        arguments, missing = templates.stand_ins(self.keywords(kwargs))
        return templates.template(arguments, _PLAIN, stand_ins=missing).graph

    def cache(self, backend: Any = None) -> str:
        """Prefill what every run begins with, and hold it at the backend while the program lives. Returns that text."""
        return self._held.hold(resolve(backend), self.trace(backend=backend), self.bind_arguments)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """On a state, `f(s, ...)`: run the body on it, and return what it returns (the state, where that is None).

        Inside another program without a state: a piece to append. Elsewhere: the same as `run`.
        """
        if args and isinstance(args[0], ProgramState):
            if self.is_async and not _awaitable():
                raise ProgramError(
                    f"program {self.name!r} is async, and this body is not: make it `async def`, and "
                    f"`await {self.name}(s, ...)`"
                )
            try:
                result = self.func(args[0], *args[1:], **(self.keywords(kwargs) if self.bind_arguments else kwargs))
            except RecursionError:
                raise too_deep(self) from None
            return args[0] if result is None else result
        if in_program():
            return ProgramCall(self, args, kwargs)
        return self.run(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<program {self.name}({', '.join(['s', *self.arg_names])})>"

    # -- arguments ------------------------------------------------------------------------------------------------

    def keywords(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The bound arguments and these."""
        return {**self.bind_arguments, **kwargs}

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any], what: str = "") -> None:
        """Raises InvalidRequest when the body cannot be called so."""
        try:
            self.signature.bind(None, *args, **kwargs)
        except TypeError as error:
            raise InvalidRequest(
                f"program {self.name!r}{what}: {error}; its arguments are {', '.join(self.arg_names) or 'none'}"
            ) from None

    def context(
        self, given: Mapping[str, Any], args: Sequence[Any], kwargs: dict[str, Any], backend: Any
    ) -> RunContext:
        """A new run's context. Takes our own settings out of kwargs."""
        defaults, options = self._settings(given, kwargs)
        return self._new_context(resolve(backend), defaults, options, args, self.keywords(kwargs))

    def _new_context(
        self,
        backend: Backend,
        defaults: Sampling,
        options: ExecutionOptions,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
    ) -> RunContext:
        said = arguments_of(self.signature, args, kwargs)
        return RunContext(self.name, backend, defaults, options, said, speculate=self.num_api_spec_tokens)

    def _settings(self, given: Mapping[str, Any], kwargs: dict[str, Any]) -> tuple[Sampling, ExecutionOptions]:
        ours = {name: kwargs.pop(name) for name in OURS if name in kwargs and name not in self.arg_names}
        options = DEFAULT
        if "options" in kwargs and "options" not in self.arg_names:
            options = kwargs.pop("options") or DEFAULT
            if not isinstance(options, ExecutionOptions):
                raise InvalidRequest(f"options={options!r:.60} must be ExecutionOptions(...)")
        return sampling_of(f"program {self.name!r}", False, {**given, **ours}), options

    def _rows(self, batch: Iterable[Any]) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Every row as positional and keyword arguments, checked before anything runs."""
        if isinstance(batch, str | bytes | Mapping) or not isinstance(batch, Iterable):
            raise InvalidRequest(f"run_batch takes a list of rows, dicts or tuples of arguments, not {batch!r:.60}")
        rows = []
        for index, row in enumerate(batch):
            if isinstance(row, Mapping):
                args, kwargs = (), self.keywords(row)
            elif isinstance(row, tuple | list):
                args, kwargs = tuple(row), dict(self.bind_arguments)
            else:
                raise InvalidRequest(f"run_batch: row {index} is {row!r:.60}, not a dict or a tuple of arguments")
            self.check_arguments(args, kwargs, f", row {index}")
            rows.append((args, kwargs))
        return rows


def _awaitable() -> bool:
    """Whether an event loop runs here, so that a coroutine may be awaited."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


RUN_DEFAULTS: dict[str, Any] = {
    name: parameter.default
    for name, parameter in inspect.signature(SglFunction.run).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY and name not in ("stream", "backend", "use_thread")
}
_PLAIN = sampling_of("run", False, RUN_DEFAULTS)
