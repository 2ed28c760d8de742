"""What the two training programs share: flat parameters, the optimizer, EMA, graph capture, checkpoints, logs.

Everything a step does lives on the device (learning rate and step count are tensors), so that one CUDA graph can hold
a whole training step; on a CPU the same code runs without a graph, for smoke tests.
"""
import datetime
import json
import math
import os
import sys
import time

import torch

#: When the program began; BEGUN where it began again by itself.
START = float(os.environ.get("BEGUN", time.time()))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
#: Files of a checkpoint stay below what the GPU machine hands back.
PART_BYTES = 14 << 20


def log(*words):
    """Prints with the seconds since the start."""
    print(f"[{time.time() - START:7.1f}]", *words, flush=True)


def setup(seed):
    """Seeds, fast matrix products, and diffusers' source on the path (DIFFUSERS_SRC)."""
    if "DIFFUSERS_SRC" in os.environ:
        sys.path.insert(0, os.environ["DIFFUSERS_SRC"])
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True


def orthogonalize(g):
    """Muon's quintic Newton-Schulz iteration: the nearest (semi-)orthogonal matrices of g [k, rows, columns]."""
    x = g.to(torch.bfloat16 if g.is_cuda else torch.float32)
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.mT if tall else x).float()


class Trainer:
    """Parameters of a module in one flat buffer, with Muon for its inner matrices, Adam for the rest, and an EMA.

    Same-shaped matrices lie side by side, so Muon sees each group as one batched tensor without copies.
    `is_matrix(name, parameter)` says which parameters Muon takes; kernels count as matrices [out, everything else].
    """

    def __init__(self, module, is_matrix, betas=(0.9, 0.98), momentum=0.95, weight_decay=0.01, ema=0.999, muon_scale=1.0):
        self.betas, self.momentum, self.weight_decay, self.ema_decay, self.muon_scale = betas, momentum, weight_decay, ema, muon_scale
        named = [(n, p) for n, p in module.named_parameters()]
        groups = {}
        for n, p in named:
            groups.setdefault((p.shape[0], p.numel() // p.shape[0]) if is_matrix(n, p) else None, []).append((n, p))
        order = [k for k in groups if k is not None] + ([None] if None in groups else [])
        device = named[0][1].device
        self.flat = torch.cat([p.detach().float().reshape(-1) for k in order for _, p in groups[k]])
        self.grad, self.first = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.names, self.params, self.grads, self.ranges, self.groups, at = [], [], [], [], [], 0
        for key in order:
            begin = at
            for n, p in groups[key]:
                end = at + p.numel()
                p.data = self.flat[at:end].view(p.shape)
                self.names.append(n)
                self.params.append(p)
                self.grads.append(self.grad[at:end].view(p.shape))
                self.ranges.append((at, end))
                at = end
            self.groups.append((key, begin, at))
        self.adam_from = next((b for k, b, _ in self.groups if k is None), at)
        self.second = torch.zeros_like(self.flat[self.adam_from:])
        self.ema = self.flat.clone()
        scalar = lambda v: torch.tensor(float(v), device=device)
        self.lr, self.count, self.norm = scalar(0), scalar(0), scalar(0)

    def step(self, loss):
        """One update from a loss; a batch whose gradient is not finite changes nothing but the moments' decay."""
        torch._foreach_copy_(self.grads, list(torch.autograd.grad(loss, self.params)))
        with torch.no_grad():
            self.norm.copy_(self.grad.norm())
            fine = torch.isfinite(self.norm)
            self.grad.copy_(torch.where(fine, self.grad * (1.0 / self.norm.clamp(min=1.0)), 0.0))
            self.count += 1
            b1, b2 = self.betas
            a = self.adam_from
            self.first[a:].lerp_(self.grad[a:], 1 - b1)
            self.second.lerp_(self.grad[a:] ** 2, 1 - b2)
            m = self.first[a:] / (1 - b1 ** self.count)
            v = self.second / (1 - b2 ** self.count)
            self.flat[a:].sub_(self.lr * (m / (v.sqrt() + 1e-8)))
            for key, begin, end in self.groups:
                if key is None:
                    continue
                rows, columns = key
                w, g, mom = (t[begin:end].view(-1, rows, columns) for t in (self.flat, self.grad, self.first))
                mom.lerp_(g, 1 - self.momentum)
                # Scaled so that an element moves as far as Adam would move it: one learning rate serves both.
                u = orthogonalize(g.lerp(mom, self.momentum)) * (0.2 * self.muon_scale * math.sqrt(max(rows, columns)))
                w.sub_(self.lr * (u + self.weight_decay * w))
            rate = torch.clamp((self.count + 1) / (self.count + 10), max=self.ema_decay)
            self.ema.lerp_(self.flat, 1 - rate)

    def copy_ema(self, module):
        """Writes the averaged weights into another instance of the module."""
        own = dict(module.named_parameters())
        with torch.no_grad():
            for n, p, (b, e) in zip(self.names, self.params, self.ranges):
                own[n].copy_(self.ema[b:e].view(p.shape))
        return module

    def save(self, folder, info, ema=True):
        """A checkpoint: weights and EMA in float16, in parts that a run's output limits allow, and state.json.

        Without `ema` only the weights: a later piece then starts its average from them.
        """
        from safetensors.torch import save_file

        os.makedirs(folder, exist_ok=True)
        tensors = {}
        for n, p, (b, e) in zip(self.names, self.params, self.ranges):
            tensors[n] = self.flat[b:e].view(p.shape).half().cpu()
            if ema:
                tensors["ema." + n] = self.ema[b:e].view(p.shape).half().cpu()
        parts, size = [{}], 0
        for n, t in tensors.items():
            if size + t.numel() * 2 > PART_BYTES:
                parts.append({})
                size = 0
            parts[-1][n] = t
            size += t.numel() * 2
        for i, part in enumerate(parts):
            save_file(part, f"{folder}/state-{i}.safetensors.part")
            os.replace(f"{folder}/state-{i}.safetensors.part", f"{folder}/state-{i}.safetensors")
        with open(f"{folder}/state.json", "w") as f:
            json.dump({**info, "parts": len(parts)}, f, indent=1)

    def load(self, folder):
        """Takes a checkpoint back; the optimizer's moments start anew. Returns its info."""
        from safetensors.torch import load_file

        with open(f"{folder}/state.json") as f:
            info = json.load(f)
        tensors = {}
        for i in range(info["parts"]):
            tensors.update(load_file(f"{folder}/state-{i}.safetensors"))
        with torch.no_grad():
            for n, p, (b, e) in zip(self.names, self.params, self.ranges):
                self.flat[b:e].copy_(tensors[n].reshape(-1))
                self.ema[b:e].copy_(tensors.get("ema." + n, tensors[n]).reshape(-1))
        return info


class Workers:
    """The processes that train one model together, each with its own clips and its own GPU; or the only one.

    RANK and WORLD_SIZE, MASTER_ADDR and MASTER_PORT say which one this is, as torchrun sets them. Every few steps the
    weights and moments are averaged over all (local SGD). Whoever loses the others goes on alone.
    """

    def __init__(self):
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.together, self.nccl = False, None
        if DEVICE == "cuda" and "LOCAL_RANK" in os.environ:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))

    @property
    def slow(self):
        """Whether an average goes through the host, and takes as long as a step or two."""
        return DEVICE == "cuda" and not self.nccl

    @property
    def leads(self):
        """Whether this one's weights are those that are exported."""
        return self.rank == 0 or not self.together

    def meet(self, *tensors, seconds=40):
        """Finds the others and takes the first one's tensors. To be called when no CUDA graph is captured any more."""
        if self.size == 1:
            return
        import torch.distributed as dist

        try:
            # What has to be agreed on goes over gloo, where a lost process is an error and not a GPU that waits.
            dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=seconds))
            self.together = True
            if DEVICE == "cuda":
                self._try_nccl()
            self.average(*tensors, of_first=True)
        except RuntimeError as e:
            self.part(e)

    def _try_nccl(self):
        """Leaves gloo's copies through the host where NCCL does not work within 20 s."""
        import torch.distributed as dist

        begin, group, fine = time.time(), None, 0.0
        try:
            group = dist.new_group(backend="nccl", timeout=datetime.timedelta(seconds=60))
            ones = torch.ones(1 << 20, device=DEVICE)
            work = dist.all_reduce(ones, group=group, async_op=True)
            while not work.is_completed() and time.time() - begin < 20:
                time.sleep(0.01)
            if work.is_completed():
                work.wait()
                fine = float((ones == self.size).all().item())
        except RuntimeError as e:
            log("NCCL:", str(e)[:300])
        answers = torch.tensor([fine])
        dist.all_reduce(answers)
        if answers.item() == self.size:
            self.nccl = group
        elif group is not None:
            try:
                group._get_backend(torch.device(DEVICE)).abort()
            except (RuntimeError, AttributeError) as e:
                log("NCCL:", str(e)[:300])
        log(f"{self.size} processes meet after {time.time() - begin:.1f} s, weights go over {'NCCL' if self.nccl else 'gloo'}")

    def part(self, why):
        """Goes on alone."""
        if self.together:
            log(f"process {self.rank} of {self.size} goes on alone: {str(why)[:300]}")
        elif self.size > 1:
            log(f"process {self.rank} of {self.size} trains alone, since it did not find the others: {str(why)[:300]}")
        self.together = False

    def agree(self, numbers):
        """The first process's numbers, which all wait for; one's own where there are no others any more."""
        if not self.together:
            return numbers
        import torch.distributed as dist

        try:
            t = torch.tensor(numbers, dtype=torch.float64) * (self.rank == 0)
            dist.all_reduce(t)
            return t.tolist()
        except RuntimeError as e:
            self.part(e)
            return numbers

    def average(self, *tensors, of_first=False):
        """Replaces tensors by their mean over the processes, or by the first one's; not at all where one is lost."""
        if not self.together:
            return
        import torch.distributed as dist

        try:
            with torch.no_grad():
                flat = torch.cat([t.reshape(-1).float() for t in tensors])
                if self.slow:
                    flat = flat.cpu()
                if of_first and self.rank:
                    flat.zero_()
                dist.all_reduce(flat, group=self.nccl)
                if not of_first:
                    flat /= self.size
                for t, of in zip(tensors, flat.split([t.numel() for t in tensors])):
                    t.copy_(of.view(t.shape))
        except RuntimeError as e:
            self.part(e)

    def part_of(self, count):
        """The slice of `count` things that is this process's."""
        if not self.together:
            return slice(0, count)
        each = -(-count // self.size)
        return slice(min(count, each * self.rank), min(count, each * (self.rank + 1)))

    def gather(self, own, count):
        """All processes' uint8 arrays in the first one, each its `part_of(count)`; None in the others.

        Where something is missing, the arrays before it.
        """
        if not self.together:
            return own
        import numpy as np
        import torch.distributed as dist

        try:
            if self.rank:
                dist.send(torch.tensor([len(own)]), 0)
                for one in own:
                    dist.send(torch.from_numpy(one), 0)
                return None
            parts, whole, each = [own], len(own) == self.part_of(count).stop, -(-count // self.size)
            for other in range(1, self.size):
                n = torch.zeros(1, dtype=torch.long)
                dist.recv(n, other)
                part = np.zeros((int(n), *own.shape[1:]), np.uint8)
                for one in part:
                    dist.recv(torch.from_numpy(one), other)
                if whole:
                    parts.append(part)
                whole = whole and len(part) == min(count, each * (other + 1)) - min(count, each * other)
            return np.concatenate(parts)
        except RuntimeError as e:
            self.part(e)
            return None if self.rank else own


class Captured:
    """A training step over fixed input buffers: warmed up, then captured as a CUDA graph (plain calls on a CPU)."""

    def __init__(self, run, trainer, warmup=3, pool=None):
        """`pool`: memory that several graphs share, of which only results that are copied at once outlast a call."""
        self.graph = None
        if DEVICE == "cpu":
            self.run = run
            return
        # Warm-up compiles and tunes; with the learning rate at 0 it trains nothing.
        trainer.lr.fill_(0)
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(warmup):
                run()
        torch.cuda.current_stream().wait_stream(side)
        torch.cuda.synchronize()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            self.out = run()
        torch.cuda.synchronize()

    def __call__(self):
        if self.graph is None:
            return self.run()
        self.graph.replay()
        return self.out


def compiled(f, dynamic=False):
    """`f` compiled on a GPU (COMPILE=0: not), plain on a CPU, where compiling costs more than a smoke test takes."""
    if DEVICE == "cpu" or os.environ.get("COMPILE", "1") == "0":
        return f
    torch._dynamo.config.recompile_limit = 64
    return torch.compile(f, dynamic=dynamic)


def cosine(fraction, step, peak, warmup, floor=0.01):
    """Learning rate: linear warm-up by steps, then a cosine over the run's fraction of time."""
    return peak * min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction))))


def psnr(a, b):
    """Decibels between clips in [-1, 1]."""
    return 10 * math.log10(4 / max(1e-12, ((a.float() - b.float()) ** 2).mean().item()))
