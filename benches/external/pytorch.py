"""The layers of benches/layers/catalogue.json in PyTorch, to the same JSON.

    python benches/external/pytorch.py --out torch.json
    python benches/external/pytorch.py --out torch.json --only blast --tokens 1 64 512 --device cuda
    cargo bench --features baselines --bench layers -- --plot flex.json torch.json --out DIR

Dense, low rank and BLAST, each eager and through torch.compile; the fastest of a kind counts. BLAST is the product of
the paper (Lee et al., NeurIPS 2024) as one writes it in PyTorch: two batched matrix products and between them the
coupling as a broadcast product that is summed. Structures that PyTorch has no short form of are left out, and named.

Needs PyTorch; torch.compile on a processor needs a C++ compiler as well, and is left out without one.
"""

import argparse
import json
import math
import re
import shutil
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from common import check_recordable, commit, measure, origin, write

FORMAT = 1
CATALOGUE = Path(__file__).parent.parent / "layers" / "catalogue.json"
DTYPES = {"f32": torch.float32, "f64": torch.float64, "f16": torch.float16, "bf16": torch.bfloat16}
PASSES = ("forward", "forward-backward")


def cases(args):
    """Layer, tokens and pass to structures, as `cases` of benches/layers/catalogue.rs finds them."""
    catalogue = json.loads(CATALOGUE.read_text())
    groups = catalogue["selections"]
    if args.all:
        layers = [layer for model in catalogue["models"] for layer in model["layers"]]
        groups = [{"layers": layers, "structures": catalogue["structures"], **dict.fromkeys(PASSES, catalogue["tokens"])}]
    found = {}
    for group in groups:
        for layer in args.layers or group["layers"]:
            for name in PASSES:
                if (args.direction and args.direction != name) or (not group[name] and not args.direction):
                    continue
                for tokens in args.tokens or group[name]:
                    d_input, d_output = map(int, layer.split("x"))
                    structures = found.setdefault((d_input, d_output, tokens, name), [])
                    for structure in args.structure or group["structures"]:
                        if (not args.only or args.only in structure) and structure not in structures:
                            structures.append(structure)
    key = lambda case: (case[0] * case[1], case[0], PASSES.index(case[3]), case[2])
    return [(case, found[case]) for case in sorted(found, key=key) if found[case]]


def settings(structure):
    """`blast:b=4,ratio=0.5` as its name and a dictionary."""
    name, _, rest = structure.partition(":")
    return name, dict(setting.split("=") for setting in rest.split(",") if setting)


def parameters(structure, n, m, dtype, device):
    """The factors and the product of a structure, or None. The bias comes last among the factors."""
    name, given = settings(structure)

    def draw(*shape):
        return torch.randn(*shape, dtype=dtype, device=device) / math.sqrt(shape[-1])

    def rank(per_rank):
        """As `Rank` of burn-structured-nn: the highest within a ratio, or a multiple of 16 or 8 up to 2 % below it."""
        if "r" in given:
            return int(given["r"])
        highest = int(float(given.get("ratio", 0.5)) * m * n / per_rank)
        multiples = (highest - highest % multiple for multiple in (16, 8))
        return next((r for r in multiples if highest - r <= 0.02 * highest), highest)

    if name == "dense":
        return [draw(m, n), draw(m)], F.linear
    if name == "low-rank":
        r = rank(m + n)
        return [draw(r, n), draw(m, r), draw(m)], lambda x, v, u, bias: F.linear(F.linear(x, v), u, bias)
    if name == "blast" and re.fullmatch(r"\d+(x\d+)?", given.get("b", "")):
        sides = given["b"].split("x")
        b1, b2 = int(sides[0]), int(sides[-1])
        r = rank(m + n + b1 * b2)

        def product(x, v, s, u, bias):
            z = torch.bmm(x.view(-1, b2, n // b2).transpose(0, 1), v)
            t = (s.unsqueeze(2) * z).sum(1)
            return torch.bmm(t, u.transpose(1, 2)).transpose(0, 1).reshape(-1, m) + bias

        return [draw(b2, n // b2, r), draw(b1, b2, r), draw(b1, m // b1, r), draw(m)], product
    return None


def needed(params, multiplications, n, m, tokens, name, size):
    """The least arithmetic and traffic of a pass, as in benches/layers/candidates.rs."""
    x, y, flops = tokens * n, tokens * m, tokens * (2 * multiplications + m)
    if name == "forward":
        return {"flops": float(flops), "bytes": float(size * (params + x + y))}
    return {"flops": 3.0 * flops, "bytes": float(size * (3 * params + 3 * x + 2 * y))}


class Rotation:
    """Values handed out in turn, enough of them to fill `window` bytes."""

    def __init__(self, window, size, make):
        self.values = [make() for _ in range(max(1, min(64, -(-window // max(size, 1)))))]
        self.at = 0

    def next(self):
        self.at = (self.at + 1) % len(self.values)
        return self.values[self.at]


def runner(product, factors, inputs, backward, sync, calls):
    def run():
        for _ in range(calls):
            x, weights = inputs.next(), factors.next()
            if backward:
                y = product(x, *weights)
                torch.autograd.grad(y.sum(), [x, *weights])
            else:
                with torch.no_grad():
                    product(x, *weights)
        sync()

    return run


def peak(device, dtype_name, dtype, sync):
    """A large product and a large copy or sum, as in benches/layers/roofline.rs."""

    def fastest(run):
        times = []
        for _ in range(6):
            begin = time.perf_counter()
            run()
            sync()
            times.append(time.perf_counter() - begin)
        return min(times[1:])

    best = (0.0, "")
    for size in (512, 1024, 2048, 4096, 8192):
        a, b = (torch.randn(size, size, dtype=dtype, device=device) for _ in range(2))
        seconds = fastest(lambda: a @ b)
        best = max(best, (2 * size**3 / seconds, f"{size}x{size}x{size}, PyTorch"))
        if seconds > 0.1:
            break
    count = 256 * 2**20
    source = torch.ones(count // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    copied = 2 * count / fastest(lambda: target.copy_(source))
    summed = count / fastest(lambda: source.sum())
    bytes_of = "copy by PyTorch" if copied > summed else "sum by PyTorch"
    return {
        "device": device,
        "dtype": dtype_name,
        "flops_per_second": best[0],
        "flops_of": best[1],
        "bytes_per_second": max(copied, summed),
        "bytes_of": bytes_of,
    }


def measure_case(case, structures, args, dtype, sync, compiles):
    """The rows of a case."""
    n, m, tokens, name = case
    backward, size, window = name == "forward-backward", dtype.itemsize, args.rotation << 20
    draw = lambda: torch.randn(tokens, n, dtype=dtype, device=args.device, requires_grad=backward)
    inputs = Rotation(window, tokens * n * size, draw)
    # One code object is compiled for many shapes: each for itself, and none thrown out within a case.
    torch._dynamo.reset()
    torch._dynamo.config.recompile_limit = 64
    runs, labels, about = [], [], {}
    for structure in ["dense", *structures]:
        found = parameters(structure, n, m, dtype, args.device)
        if found is None:
            continue
        factors, product = found
        count = sum(factor.numel() for factor in factors)
        copy = lambda: [factor.clone().requires_grad_(backward) for factor in factors]
        rotation = Rotation(window, count * size, copy)
        about[structure] = count
        variants = [("eager", product)]
        if compiles:
            variants.append(("torch.compile", torch.compile(product, dynamic=False)))
        for variant, call in variants:
            run = runner(call, rotation, inputs, backward, sync, args.calls)
            role = "dense" if structure == "dense" else "structured"
            runs.append(run)
            labels.append((structure, role, variant))
    times = measure(runs, args.seconds, 3 if args.quick else 7, args.calls)
    dense = [
        {"role": role, "name": f"F.linear, {variant}", **timed}
        for (_, role, variant), timed in zip(labels, times)
        if role == "dense"
    ]
    rows = []
    for structure in structures:
        if structure not in about:
            continue
        own = [(variant, timed) for (other, _, variant), timed in zip(labels, times) if other == structure]
        candidates = dense + [{"role": "structured", "name": variant, **timed} for variant, timed in own]
        candidates += [{"role": "reference", "name": variant, **timed} for variant, timed in own if variant == "eager"]
        params = about[structure]
        rows.append({
            "device": args.device,
            "dtype": args.dtype,
            "d_input": n,
            "d_output": m,
            "tokens": tokens,
            "pass": name,
            "structure": structure,
            "params_ratio": params / about["dense"],
            "work": needed(params, params - m, n, m, tokens, name, size),
            "dense_work": needed(m * n + m, m * n, n, m, tokens, name, size),
            "candidates": candidates,
        })
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ...")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--all", action="store_true", help="the whole catalogue")
    parser.add_argument("--only", help="only structures whose text contains this")
    parser.add_argument("--layers", nargs="+", help="such as 768x3072, instead of the catalogue's")
    parser.add_argument("--structure", nargs="+", help="such as blast:b=4,ratio=0.5, instead of the catalogue's")
    parser.add_argument("--tokens", nargs="+", type=int, help="instead of the catalogue's")
    parser.add_argument("--pass", dest="direction", choices=PASSES, help="only this pass")
    parser.add_argument("--seconds", type=float, default=0.4, help="for each figure")
    parser.add_argument("--rotation", type=int, default=64, help="MiB of weights and inputs to rotate through")
    parser.add_argument("--calls", type=int, help="calls in a row before waiting for the device; 1 on cpu, else 20")
    parser.add_argument("--no-compile", action="store_true", help="eager only")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    args = parser.parse_args()
    if args.quick:
        args.seconds /= 10
    if args.calls is None:
        args.calls = 1 if args.device == "cpu" else 20
    selected = cases(args)
    if not selected:
        sys.exit("error: nothing to measure")
    compiles = not args.no_compile and (args.device != "cpu" or any(map(shutil.which, ("g++", "clang++", "c++"))))
    if not compiles:
        print("eager only", file=sys.stderr)
    at = commit()
    check_recordable(args.out, at)
    sync = torch.cuda.synchronize if args.device.startswith("cuda") else lambda: None
    dtype = DTYPES[args.dtype]
    torch.manual_seed(0)
    results = {
        "format": FORMAT,
        **origin(f"pytorch {torch.__version__}", "pytorch.py", at, args.seconds, torch.get_num_threads()),
        "rotation_mib": args.rotation,
        "peaks": [{**peak(args.device, args.dtype, dtype, sync), "calls": args.calls}],
        "not_run": [],
        "rows": [],
    }
    left_out = {s for _, structures in selected for s in structures if settings(s)[0] not in ("blast", "low-rank")}
    results["not_run"] = [f"{structure}: not written in PyTorch here" for structure in sorted(left_out)]
    for case, structures in selected:
        rows = measure_case(case, structures, args, dtype, sync, compiles)
        for row in rows:
            best = lambda role: min((c["median_ms"], c["name"]) for c in row["candidates"] if c["role"] == role)
            (dense, _), (own, variant) = best("dense"), best("structured")
            print(
                f"{row['d_input']}x{row['d_output']} {row['structure']}, {row['tokens']} tokens, {row['pass']}: "
                f"dense {dense:.3f} ms, {own:.3f} ms ({variant}), {dense / own:.2f}x",
                flush=True,
            )
        results["rows"] += rows
        write(args.out, results)


if __name__ == "__main__":
    main()
