"""scheduler_shift{3,5}_steps{8,20,50}: timesteps, sigmas and every step of UniPC and flow-match Euler.
scheduler_hunyuan: timesteps and sigmas of the levels that diffusers' HunyuanVideoPipeline gives to its scheduler."""
import numpy
import torch

import common  # noqa: F401  first, as it says where diffusers is
from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler


def unipc(shift):
    """UniPC as Wan's pipelines configure it."""
    return UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=shift,
    )


def trajectory(scheduler, sample):
    """Samples [steps + 1, ...] from `sample` on, and the velocities [steps, ...] that stand in for a model's."""
    samples, velocities = [sample], []
    for i, timestep in enumerate(scheduler.timesteps):
        velocity = 0.6 * sample + 0.3 * torch.sin(3 * sample + float(i))
        sample = scheduler.step(velocity, timestep, sample, return_dict=False)[0]
        velocities.append(velocity)
        samples.append(sample)
    return torch.stack(samples), torch.stack(velocities)


def reference(references, shift, steps):
    """Both schedulers with one shift and number of steps."""
    tensors = {}
    for name, scheduler in ("unipc", unipc(shift)), ("euler", FlowMatchEulerDiscreteScheduler(shift=shift)):
        scheduler.set_timesteps(steps)
        tensors[f"{name}.timesteps"] = scheduler.timesteps
        tensors[f"{name}.sigmas"] = scheduler.sigmas
        samples, velocities = trajectory(scheduler, references.randn(1, 1, 4, 2, 3, 3))
        tensors[f"{name}.samples"] = samples
        tensors[f"{name}.velocities"] = velocities
    references.save(f"scheduler_shift{int(shift)}_steps{steps}", tensors)


def hunyuan(references):
    """Flow-match Euler with given levels, for several shifts and numbers of steps."""
    tensors = {}
    for shift, steps in (7.0, 50), (5.0, 50), (17.0, 6):
        scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
        scheduler.set_timesteps(sigmas=numpy.linspace(1.0, 0.0, steps + 1)[:-1])
        tensors[f"shift{int(shift)}_steps{steps}.timesteps"] = scheduler.timesteps
        tensors[f"shift{int(shift)}_steps{steps}.sigmas"] = scheduler.sigmas
    references.save("scheduler_hunyuan", tensors)


def make(references):
    hunyuan(references)
    for shift in 3.0, 5.0:
        for steps in 8, 20, 50:
            reference(references, shift, steps)
