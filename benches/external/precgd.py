"""PrecGD, the factorization of the BLAST paper, in PyTorch: how long its steps take.

    python benches/external/precgd.py
    cargo run --release --features compress --example factorize_matrix -- --target blast --methods prec-gd
    cargo run --release --features compress --example factorize_matrix -- --target low-rank --methods prec-gd

The same steps (Lee et al., NeurIPS 2024, algorithm 2) as one writes them with batched products and solves: U, V and s in
turn, each against its damped Gram matrices, on random targets like those of the example. What is random differs, so the
errors are alike but not equal; the work is the same.
"""

import argparse
import time

import torch


def target(kind, size, blocks, rank, dtype):
    side = size // blocks
    if kind == "low-rank":
        return torch.randn(size, rank, dtype=dtype) @ torch.randn(rank, size, dtype=dtype)
    u, v = torch.randn(2, blocks, side, rank, dtype=dtype)
    return product(u, coupled(torch.rand(blocks, blocks, rank, dtype=dtype), v))


def coupled(s, factor):
    """`[factor_j diag(s_ij)]_j` for every i."""
    return (s[:, :, None, :] * factor[None]).flatten(1, 2)


def product(u, right):
    return torch.bmm(u, right.transpose(1, 2)).flatten(0, 1)


def factorize(a, blocks, rank, steps, damping):
    """The relative errors at the start and after every step, and the seconds."""
    (m, n), dtype = a.shape, a.dtype
    p, q = m // blocks, n // blocks
    a = a / a.std(correction=0)
    u, v = (torch.randn(blocks, rows, rank, dtype=dtype) * 1e-3 / rank**0.5 for rows in (p, q))
    s = torch.randn(blocks, blocks, rank, dtype=dtype)
    identity, size = torch.eye(rank, dtype=dtype), a.norm()

    def residual():
        right = coupled(s, v)
        return right, product(u, right) - a

    def solved(gram, gradient, error):
        return torch.linalg.solve(gram + damping * error.norm() * identity, gradient)

    errors = []
    began = time.perf_counter()
    for step in range(steps):
        rate = 2 * (1 - step / steps)
        right, error = residual()
        errors.append((error.norm() / size).item())
        gradient = torch.bmm(error.view(blocks, p, n), right).transpose(1, 2)
        u = u - rate * solved(right.transpose(1, 2) @ right, gradient, error).transpose(1, 2)
        _, error = residual()
        left = coupled(s.transpose(0, 1), u)
        gradient = left.transpose(1, 2) @ error.view(m, blocks, q).transpose(0, 1)
        v = v - rate * solved(left.transpose(1, 2) @ left, gradient, error).transpose(1, 2)
        _, error = residual()
        gram = (u.transpose(1, 2) @ u)[:, None] * (v.transpose(1, 2) @ v)[None]
        products = (u.transpose(1, 2) @ error.view(blocks, p, n)).view(blocks, rank, blocks, q).transpose(1, 2)
        gradient = (products * v.transpose(1, 2)[None]).sum(-1, keepdim=True)
        s = s - rate * solved(gram, gradient, error)[..., 0]
    errors.append((residual()[1].norm() / size).item())
    return errors, time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256, help="rows and columns")
    parser.add_argument("--blocks", type=int, default=16, help="into how many a side is cut")
    parser.add_argument("--target-rank", type=int, default=8)
    parser.add_argument("--ranks", type=int, nargs="+", default=[8, 32], help="of the factors")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--damping", type=float, default=0.1, help="relative to the residual")
    parser.add_argument("--precision", choices=["f32", "f64"], default="f64")
    parser.add_argument("--runs", type=int, default=5, help="of which the fastest counts")
    args = parser.parse_args()
    if args.blocks < 1 or args.size % args.blocks:
        parser.error(f"--size {args.size} cannot be cut into {args.blocks} blocks")
    dtype = {"f32": torch.float32, "f64": torch.float64}[args.precision]
    print(f"pytorch {torch.__version__}, {torch.get_num_threads()} threads")
    for kind in ("blast", "low-rank"):
        for rank in args.ranks:
            torch.manual_seed(0)
            a = target(kind, args.size, args.blocks, args.target_rank, dtype)
            runs = [factorize(a, args.blocks, rank, args.steps, args.damping) for _ in range(args.runs)]
            errors, seconds = min(runs, key=lambda run: run[1])
            print(f"{kind}, rank {rank}: relative error {errors[-1]:.3e} after {args.steps} steps, {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
