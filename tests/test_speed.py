"""What must be fast, measured against the plain way and the machine: `tox -e bench`.

The suite itself skips these. Every number of a row comes from the same minute, and is the best of some
passes over the same samples: what the machine does for others only ever adds.
"""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from mmbench.batching import Split
from mmbench.evaluation import TOGETHER
from mmbench.nn import Dropout, products
from mmbench.nn.products import matmul
from mmbench.training import predict, stacked
from mmbench_datasets.iemocap import IEMOCAPTwin
from mmbench_missing.intra import Intra
from tests.speed import METHODS, STEPS, made, ours, plain

ROOT = Path(__file__).parent.parent

CORES = 2
"""Of a small machine: threads that torch takes by itself, and jobs that mmbench does at a time."""
ROUNDS = 6
PATIENCE = 12.0
"""Seconds that a row may take on a busy machine, which then has fewer rounds."""
PRODUCTS = [(640, 40, 160), (640, 160, 40), (640, 40, 120)]
"""(m, k, n) of (m, k) @ (k, n): a batch's feed-forward layers and queries, keys and values."""
HEADINGS = (
    f"{'ms for a step':20} {'plain':>7} {'1 thread':>9} {'ours':>7} {'ratio':>6}"
    f" {'floor':>7} {'executed':>9} {'reached':>8}"
)


@pytest.fixture(autouse=True)
def one_thread():
    """As a job has it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clock(run: Callable[[], object], threads: int = 1) -> float:
    """Seconds."""
    torch.set_num_threads(threads)
    started = time.perf_counter()
    run()
    taken = time.perf_counter() - started
    torch.set_num_threads(1)
    return taken


def rounds(seconds: float) -> int:
    """How many there may be of that many seconds each."""
    return max(2, min(ROUNDS, int(PATIENCE / seconds)))


def threads_of(run_plainly: Callable[..., None]) -> int:
    """What torch takes by itself, or 1 on a machine too busy for two threads to keep in step.

    There they wait for each other at every product, and a step takes a hundred times as long.
    """
    alone = clock(partial(run_plainly, 1))
    return CORES if clock(partial(run_plainly, 1), CORES) < 3 * alone else 1


class Products(TorchDispatchMode):
    """Counts the floating-point operations of products, forward and backward.

    As `FlopCounterMode` does, which fails where `autograd.grad` is asked for the gradient of a leaf.
    """

    def __init__(self) -> None:
        super().__init__()
        self.flops = 0

    def matmul(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        """What `mmbench.nn.products` asks numpy for."""
        self.flops += 2 * a.size * b.shape[-1]
        np.matmul(a, b, out=out)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        count = flop_registry.get(func.overloadpacket)
        if count is not None:
            rest = {name: value for name, value in kwargs.items() if name != "out"}
            self.flops += count(*args, **rest, out_val=out)
        return out


def flops(run: Callable[[], object]) -> int:
    """Of one step; attention in the open, for a fused one has no products to see."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), Products() as counted, pytest.MonkeyPatch.context() as m:
            m.setattr(products, "np", counted)
            run()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counted.flops // STEPS


class Machine:
    """How fast one thread multiplies matrices of the model's sizes."""

    def __init__(self) -> None:
        self.pairs = [(torch.randn(m, k), torch.randn(k, n)) for m, k, n in PRODUCTS]
        self.best = [float("inf")] * len(PRODUCTS)

    def measure(self) -> None:
        for at, (a, b) in enumerate(self.pairs):
            for _ in range(50):
                self.best[at] = min(self.best[at], clock(partial(matmul, a, b)))

    @property
    def flops_per_second(self) -> float:
        return sum(2 * m * k * n for m, k, n in PRODUCTS) / sum(self.best)


@pytest.mark.parametrize(
    ("step", "depth", "ratio", "reached"),
    [
        ("teacher", 2, 0, 0.25),
        ("teacher", 4, 0, 0.25),
        ("student", 2, 0, 0.25),
        ("student", 4, 0, 0.25),
        ("late-fusion", 2, 2, 0),
    ],
)
def test_a_step(benchmark, summary, step, depth, ratio, reached):
    run, run_plainly, machine = ours(step, depth), plain(step, depth), Machine()
    floor, executed = flops(run_plainly), flops(run)
    threads = threads_of(run_plainly)
    default, single = [], []

    def others() -> None:  # between two passes of ours, so that a busy minute is everybody's
        default.append(clock(run_plainly, threads))
        single.append(clock(run_plainly))
        machine.measure()

    others()  # the first pass is slower
    benchmark.pedantic(run, setup=others, rounds=rounds(clock(others)), warmup_rounds=1)
    taken = 1e3 * benchmark.stats.stats.min / STEPS
    took, alone = (1e3 * min(times) / STEPS for times in (default, single))
    least, least_now = (1e3 * n / machine.flops_per_second for n in (floor, executed))
    if not summary:
        summary += [
            "Steps on the shapes of IEMOCAP, by the reference and by ours on 1 thread.",
            HEADINGS,
        ]
    summary.append(
        f"{step if depth is None else f'{step}, depth {depth}':20} {took:7.1f} {alone:9.1f} {taken:7.1f} {took / taken:6.1f}"
        f" {least:7.2f} {least_now:9.2f} {least / taken:8.2f}"
        f"   (threads {threads}, {machine.flops_per_second / 1e9:.0f} GFLOP/s, {floor / 1e6:.0f} MFLOP)"
    )
    assert min(took, alone) / taken >= ratio
    assert least / taken >= reached


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_step(benchmark, summary, name):
    run, run_plainly = ours(name), plain(name)
    for warm_up in (run, run, run_plainly, run_plainly):  # by the third epoch all has begun
        warm_up()
    threads = threads_of(run_plainly)
    default, single = [], []

    def others() -> None:
        default.append(clock(run_plainly, threads))
        single.append(clock(run_plainly))

    benchmark.pedantic(run, setup=others, rounds=rounds(clock(others)))
    taken = 1e3 * benchmark.stats.stats.min / STEPS
    took, alone = (1e3 * min(times) / STEPS for times in (default, single))
    summary.append(
        f"{name:20} {took:7.1f} {alone:9.1f} {taken:7.1f} {min(took, alone) / taken:6.1f}"
        f"   (threads {threads})"
    )
    assert min(took, alone) / taken >= 2


@pytest.mark.parametrize("depth", [2, 4])
def test_five_seeds_of_hrlf(benchmark, summary, depth):
    """Ours is a process for each core, with one thread; the plain way trains one seed after another."""
    epochs = [plain(step, depth, seed) for seed in range(5) for step in ("teacher", "student")]
    threads = threads_of(epochs[0])
    plain_rates: list[float] = []
    our_rates: list[float] = []

    def plainly() -> None:
        seconds = clock(lambda: [epoch() for epoch in epochs], threads)
        plain_rates.append(STEPS * len(epochs) / seconds)

    def in_processes() -> None:
        for child in children:
            child.stdin.write("2\n")
            child.stdin.flush()
        rates = [float(child.stdout.readline()) for child in children]
        our_rates.append(sum(rates))

    with ExitStack() as stack:
        children = [
            stack.enter_context(
                Popen(
                    [sys.executable, "-m", "tests.speed", str(depth), str(seed)],
                    cwd=ROOT,
                    stdin=PIPE,
                    stdout=PIPE,
                    text=True,
                )
            )
            for seed in range(CORES)
        ]
        assert all(child.stdout.readline() == "ready\n" for child in children)
        plainly()
        benchmark.pedantic(in_processes, setup=plainly, rounds=rounds(clock(plainly)))
    most, ours_most = max(plain_rates), max(our_rates)
    summary.append(
        f"HRLF, depth {depth}, seed-steps a second on {CORES} cores:"
        f" plain {most:.1f} (threads {threads}), ours {ours_most:.1f}, ratio {ours_most / most:.1f}"
    )
    assert ours_most / most >= 8


@pytest.mark.parametrize("step", ["teacher", "student"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_five_seeds_side_by_side(benchmark, summary, device, step):
    """As one, in this process, against one after the other."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU here")
    together = ours(step, 4, range(5), device)
    each = [ours(step, 4, [seed], device) for seed in range(5)]
    turns = []

    def done(run: Callable[[], object]) -> None:
        run()
        if device == "cuda":
            torch.cuda.synchronize()

    def in_turn() -> None:
        turns.append(clock(lambda: done(lambda: [run() for run in each])))

    in_turn()
    benchmark.pedantic(done, (together,), setup=in_turn, rounds=ROUNDS, warmup_rounds=1)
    taken = benchmark.stats.stats.min
    summary.append(
        f"Five seeds of HRLF's {step}, depth 4, on {device}: side by side {1e3 * taken / STEPS:.1f} ms"
        f" a step, in turn {1e3 * min(turns) / STEPS:.1f}, ratio {min(turns) / taken:.2f}"
    )
    assert device == "cpu" or min(turns) / taken >= 4


def test_evaluation_in_one_pass(benchmark, summary):
    """Against bare forward passes over as many samples, all of whose batches are there already."""
    method, samples = made("student", 4).eval(), IEMOCAPTwin().split("test")
    conditions = Intra().conditions(list(samples.valid))[:TOGETHER]
    masks = [
        Intra().masks(
            c, samples.valid, ids=samples.ids, dataset="iemocap-twin", split="test", mask_seed=0
        )
        for c in conditions
    ]
    test = Split(samples)
    bare = []

    def forward() -> None:
        with torch.no_grad():
            batches = [batch for batch, _ in stacked(test, masks)]
            bare.append(clock(lambda: [method(batch) for batch in batches]))

    forward()
    benchmark.pedantic(predict, (method, test, masks), setup=forward, rounds=ROUNDS)
    taken = benchmark.stats.stats.min
    count = len(samples.ids) * len(masks)
    summary.append(
        f"Evaluation of HRLF, depth 4: {count / taken:.0f} samples a second,"
        f" bare forward passes {count / min(bare):.0f}, ratio {min(bare) / taken:.2f}"
    )
    assert min(bare) / taken >= 0.8


@pytest.mark.parametrize("layer", [Dropout(0.25), torch.nn.Dropout(0.25)], ids=["ours", "torch"])
def test_dropout_of_attention_weights(benchmark, layer):
    weights = torch.rand(32, 10, 50, 50)
    benchmark.pedantic(layer, (weights,), rounds=20, warmup_rounds=3)
