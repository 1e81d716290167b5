"""Whether an engine's steps overlap, and the loop that follows from it."""

from __future__ import annotations

from ..errors import InvalidRequest
from ..kernels.ops import Compute
from .device_executor import DeviceExecutor
from .executor import ModelExecutor
from .loading import LoadedModel
from .loop import EngineLoop
from .options import EngineOptions
from .sampling.sampler import Sampler
from .scheduling.scheduler import Scheduler
from .scheduling.stepping import OneByOne, Overlapped


def overlaps(compute: Compute, options: EngineOptions) -> bool:
    """Whether steps are planned while others run. Raises InvalidRequest where that is asked for and impossible."""
    if options.overlap is None:
        return compute.chooses and options.device != "cpu"
    if options.overlap and not compute.chooses:
        raise InvalidRequest(
            f"overlap=True: on {options.device} tokens are chosen by the host, so no step can be launched before they "
            'are known; leave overlap out, or run on device="cuda"'
        )
    return options.overlap


def engine_loop(model: LoadedModel, scheduler: Scheduler, sampler: Sampler, options: EngineOptions) -> EngineLoop:
    """A loop that has begun to run, in the way that the scheduler was made for."""
    if not scheduler.config.overlap:
        executor = ModelExecutor(model.run, sampler, options.page_size)
        return EngineLoop(scheduler, executor, OneByOne(scheduler, executor))
    device = DeviceExecutor(model.run, model.compute.choose, sampler, options.page_size)
    return EngineLoop(scheduler, device, Overlapped(scheduler, device))
