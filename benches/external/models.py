"""The models of benches/models in PyTorch, eager and compiled, and in ONNX Runtime, f32 and dynamic int8, to the same JSON.

    python benches/external/models.py --out external.json
    python benches/external/models.py --out external.json --workload minilm --minilm DIR --sentences sts-dev.csv

Dense models of the same sizes on the same inputs as `cargo bench --features tokenizers --bench models`, in f32 on all cores; all variants of a pass take
turns. Weights are random but for --minilm, a folder with config.json, model.safetensors and tokenizer.json. Peak memory is the
resident memory of one more pass above what is resident before it, where Linux tells (/proc/self/clear_refs); for ONNX Runtime it is
taken without the arena, which never gives memory back.

Needs torch, onnxruntime, onnx, onnxscript, tokenizers and safetensors: see README.md. torch.compile needs a C++ compiler as well.
What does not run is named in the JSON.
"""

import argparse
import ctypes
import gc
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F

from common import check_recordable, commit, measure, origin, write
from gpt2 import Block, Gpt2
from networks import Bert, ViT
from onnx_runtime import KINDS, Exported

FORMAT = 2
SENTENCES = 128
BATCHES = (1, 8, 32)
CLASSES = 10
# Image size, patch, features, depth, heads, MLP ratio; images of a batch.
VITS = {
    "vit-small": ((32, 4, 128, 4, 4, 3), 64),
    "vit-s": ((32, 4, 768, 8, 8, 3), 8),
    "vit-s-224": ((224, 16, 384, 12, 6, 4), 8),
    "vit-b": ((224, 16, 768, 12, 12, 4), 4),
}
# Vocabulary, context, features, depth, heads; tokens of the prompt and after it.
GPT2 = ((50257, 1024, 768, 12, 12), 512, 32)
BLOCK = (768, 12, 512)
WORKLOADS = ("minilm", *VITS, "gpt2", "gpt2-block")
# Seconds in which the threads of another library stop to spin.
PAUSE = 0.005


class Candidate:
    """One pass in one variant; `for_memory` makes the same pass as its memory is measured, if that differs."""

    def __init__(self, name, variant, run, for_memory=None):
        self.name, self.variant, self.run, self.for_memory = name, variant, run, for_memory or (lambda: run)


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.not_run = args, folder, []

    def wants(self, name):
        return not self.args.passes or name in self.args.passes

    def skip(self, what, error):
        reason = str(error).strip().splitlines() or [""]
        self.not_run.append(f"{what}: {type(error).__name__}: {reason[0][:200]}" if isinstance(error, Exception) else f"{what}: {error}")
        print(self.not_run[-1], file=sys.stderr)

    def pytorch(self, workload, name, function, run_of, **options):
        """The pass eager and compiled; `run_of` makes it of `function`, the part to compile. The compiled one runs once here."""
        found = [Candidate(name, "pytorch eager", run_of(function))]
        if not self.args.no_compile:
            try:
                torch._dynamo.reset()
                run = run_of(torch.compile(function, **options))
                run()
                found.append(Candidate(name, "pytorch compiled", run))
            except Exception as error:  # The compiler's own, of many kinds.
                self.skip(f"{workload}, {name}, pytorch compiled", error)
        return found

    def onnx(self, workload, names, export, run_of):
        """Passes in ONNX Runtime; `run_of` makes one of its name and its session."""
        if self.args.no_onnx:
            return []
        try:
            exported, found = export(), []
            for kind in KINDS:
                call = exported.session(kind, self.args.threads)
                for name in filter(self.wants, names):
                    run = run_of(name, call)
                    run()
                    memory = lambda name=name, kind=kind: run_of(name, exported.session(kind, self.args.threads, arena=False))
                    found.append(Candidate(name, f"onnxruntime {kind}", run, memory))
            return found
        except Exception as error:
            self.skip(f"{workload}, onnxruntime", error)
            return []

    def groups(self, workload):
        """Candidates that take turns, the items of each pass, what they are, and the parameters of the model."""
        torch.manual_seed(0)
        if workload == "minilm":
            if not (self.args.minilm and self.args.sentences):
                self.skip(workload, "needs --minilm and --sentences")
                return
            yield self.minilm()
        elif workload == "gpt2":
            yield self.gpt2()
        else:
            yield from self.network(workload)

    def minilm(self):
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        folder = self.args.minilm
        config = json.loads((folder / "config.json").read_text())
        model = Bert.from_checkpoint(config, load_file(folder / "model.safetensors")).eval()
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        limit = folder / "sentence_bert_config.json"
        limit = json.loads(limit.read_text()).get("max_seq_length") if limit.exists() else None
        limit = limit or (tokenizer.truncation or {}).get("max_length", 128)
        tokenizer.enable_truncation(min(limit, config["max_position_embeddings"]))
        tokenizer.no_padding()
        lines = (line.split("\t") for line in self.args.sentences.read_text(encoding="utf-8").splitlines())
        every = [text for line in lines for text in (line[5:7] if len(line) >= 7 else ["\t".join(line)]) if text.strip()]
        count = min(SENTENCES, len(every))
        sentences = [every[index * len(every) // count] for index in range(count)]
        sentences.sort(key=lambda sentence: len(tokenizer.encode(sentence).ids))

        def batch_of(sentences):
            ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(sentences)]
            tokens = np.full((len(ids), max(map(len, ids))), config.get("pad_token_id", 0), dtype=np.int64)
            mask = np.zeros(tokens.shape, dtype=bool)
            for row, own in enumerate(ids):
                tokens[row, : len(own)], mask[row, : len(own)] = own, True
            return tokens, mask

        def run_of(batch, embed):
            def run():
                for at in range(0, count, batch):
                    embed(*batch_of(sentences[at : at + batch]))

            return run

        def in_pytorch(batch):
            def run_with(function):
                def embed(tokens, mask):
                    with torch.inference_mode():
                        # A sentence alone has no padding, and attention without a mask is faster.
                        return function(torch.from_numpy(tokens), torch.from_numpy(mask) if batch > 1 else None).numpy()

                return run_of(batch, embed)

            return run_with

        def export():
            dim = torch.export.Dim
            shape = {0: dim.AUTO, 1: dim.AUTO}
            example = tuple(map(torch.from_numpy, batch_of(sentences[-4:])))
            return Exported(model, example, self.folder, "minilm", dynamic_shapes=(shape, shape))

        names = {f"batch-{batch}": batch for batch in BATCHES}
        found = []
        for name in filter(self.wants, names):
            found += self.pytorch("minilm", name, model, in_pytorch(names[name]), dynamic=True)
        found += self.onnx("minilm", names, export, lambda name, call: run_of(names[name], lambda *x: call(*x)[0].numpy()))
        return found, dict.fromkeys(names, count), "sentences", parameters(model)

    def network(self, workload):
        """A vision transformer or a block of GPT-2: inference, then training."""
        tiny = self.args.tiny
        if workload == "gpt2-block":
            features, heads, items = (16, 2, 8) if tiny else BLOCK
            shape, unit, make = (1, items, features), "tokens", lambda: Block(features, heads)
            loss_of = lambda output: output.square().mean()
        else:
            sizes, items = ((8, 4, 16, 1, 2, 3), 2) if tiny else VITS[workload]
            shape, unit, make = (items, 3, sizes[0], sizes[0]), "images", lambda: ViT(*sizes, classes=CLASSES)
            loss_of = lambda output: -F.log_softmax(output, 1).sum() / (CLASSES * items)
        batch, model = torch.randn(shape), make().eval()

        def inference(function):
            def run():
                with torch.inference_mode():
                    function(batch)

            return run

        def training(function):
            # Each variant trains the one model, whose values do not change the time.
            optimizer = torch.optim.AdamW(trained.parameters(), lr=1e-3, fused=True)

            def run():
                optimizer.zero_grad(set_to_none=True)
                loss_of(function(batch)).backward()
                optimizer.step()

            return run

        about = ({"inference": items, "training": items}, unit, parameters(model))
        if self.wants("inference"):
            found = self.pytorch(workload, "inference", model, inference)
            export = lambda: Exported(model, (batch,), self.folder, workload)
            found += self.onnx(workload, ["inference"], export, lambda _, call: lambda: call(batch))
            yield found, *about
        if self.wants("training"):
            trained = make().train()
            yield self.pytorch(workload, "training", trained, training), *about
            self.skip(f"{workload}, training, onnxruntime", "the package has no training")

    def gpt2(self):
        sizes, prompt_tokens, new_tokens = ((64, 32, 16, 1, 2), 8, 4) if self.args.tiny else GPT2
        model = Gpt2(*sizes).eval()
        prompt = torch.randint(sizes[0], (1, prompt_tokens))

        def prefilled(tokens):
            features, *past = model.prefill(tokens)
            return model.logits(features), *past

        with torch.inference_mode():
            logits, *past = prefilled(prompt)
        first, past = logits.argmax(-1).clone(), [one.clone() for one in past]

        def timed(next_token, token):
            """Seconds of the new tokens but the first, which fills caches."""
            token = next_token(token)
            begin = time.perf_counter()
            for _ in range(new_tokens):
                token = next_token(token)
            return time.perf_counter() - begin

        def prefill(function):
            def run():
                with torch.inference_mode():
                    function(prompt)[0].argmax(-1)

            return run

        def decode(step):
            def run():
                room = torch.zeros(*past[0].shape[:2], 1 + new_tokens, past[0].shape[3])
                buffers, position = [torch.cat([one, room], 2) for one in past], torch.tensor([prompt_tokens - 1])

                def next_token(token):
                    position.add_(1)
                    return step(token, position, buffers).argmax(-1)

                with torch.inference_mode():
                    return timed(next_token, first)

            return run

        def sliced():
            """Eager, over views of the buffers that hold no more than the tokens so far."""
            caches = model.caches(prompt_tokens + 1 + new_tokens)
            for cache, keys, values in zip(caches, past[::2], past[1::2]):
                cache["key"][:, :, :prompt_tokens], cache["value"][:, :, :prompt_tokens] = keys, values
                cache["length"] = prompt_tokens
            with torch.inference_mode():
                return timed(lambda token: model.logits(model.features(token, caches)).argmax(-1), first)

        def export_decode():
            extended = Extended(model)
            dynamic = ({0: None}, [{2: torch.export.Dim.AUTO} for _ in past])
            return Exported(extended, (first, past), self.folder, "gpt2-decode", dynamic_shapes=dynamic)

        def decode_onnx(_, call):
            as_values = [onnxruntime.OrtValue.ortvalue_from_numpy(one.numpy()) for one in past]

            def run():
                state = as_values

                def next_token(token):
                    nonlocal state
                    logits, *state = call(token, *state)
                    return logits.numpy().argmax(-1)

                return timed(next_token, first.numpy())

            return run

        found = []
        if self.wants("prefill"):
            found += self.pytorch("gpt2", "prefill", prefilled, prefill)
            export = lambda: Exported(Prefilled(model), (prompt,), self.folder, "gpt2-prefill")
            found += self.onnx("gpt2", ["prefill"], export, lambda _, call: lambda: call(prompt)[0].numpy().argmax(-1))
        if self.wants("decode"):
            compiled = [one for one in self.pytorch("gpt2", "decode", model.step, decode) if one.variant != "pytorch eager"]
            found += [Candidate("decode", "pytorch eager", sliced), *compiled]
            found += self.onnx("gpt2", ["decode"], export_decode, decode_onnx)
        return found, {"prefill": prompt_tokens, "decode": new_tokens}, "tokens", parameters(model)


class Prefilled(torch.nn.Module):
    """A prompt to logits, keys and values, to be exported.

    The head has a matrix of its own: one that is also the embedding would be transposed, or dequantized, in every call.
    """

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.register_buffer("head", model.tokens.weight.detach().T.contiguous())

    def forward(self, tokens):
        features, *past = self.model.prefill(tokens)
        return features @ self.head, *past


class Extended(Prefilled):
    """One more token and the keys and values before it to logits and all keys and values."""

    def forward(self, token, past):
        features, *past = self.model.extend(token, past)
        return features @ self.head, *past


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def resident(field):
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def peak_memory(run):
    """Bytes at the peak of a pass beyond those resident before it; None where the system does not tell."""
    run()
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    run()
    return max(0, resident("VmHWM") - before)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--workload", nargs="+", choices=WORKLOADS, default=WORKLOADS, help="only these models")
    parser.add_argument("--pass", dest="passes", nargs="+", help="only these passes, such as inference, batch-1 or decode")
    parser.add_argument("--minilm", type=Path, help="the folder of all-MiniLM-L6-v2")
    parser.add_argument("--sentences", type=Path, help="one a line, or STS-Benchmark's columns; as for the Rust program")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time and fewer rounds")
    parser.add_argument("--no-compile", action="store_true", help="PyTorch eager only")
    parser.add_argument("--no-onnx", action="store_true", help="PyTorch only")
    parser.add_argument("--tiny", action="store_true", help="the smallest sizes, to see that the script works")
    args = parser.parse_args()
    at = commit()
    check_recordable(args.out, at)
    fewest = 3 if args.quick else 5
    args.seconds /= 10 if args.quick else 1
    torch.set_num_threads(args.threads)
    programs = f"pytorch {torch.__version__}, onnxruntime {onnxruntime.__version__}"
    results = {"format": FORMAT, **origin(programs, "models.py", at, args.seconds, args.threads), "not_run": [], "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, Path(folder))
        results["not_run"] = bench.not_run
        if not args.no_compile and not any(map(shutil.which, ("g++", "clang++", "c++"))):
            args.no_compile = True
            bench.skip("pytorch compiled", "no C++ compiler")
        for workload in args.workload:
            for candidates, items, unit, params in bench.groups(workload):
                times = measure([one.run for one in candidates], args.seconds, fewest, most=100, pause=PAUSE)
                for one, time_of in zip(candidates, times):
                    row = {
                        "workload": workload,
                        "pass": one.name,
                        "device": "cpu",
                        "variant": one.variant,
                        "structure": "dense",
                        "params": params,
                        "flops_ratio": 1.0,
                        "items": items[one.name],
                        "unit": unit,
                        "time": time_of,
                        "peak_bytes": peak_memory(one.for_memory()),
                    }
                    results["rows"].append(row)
                    speed = 1e3 * row["items"] / time_of["median_ms"]
                    print(f"{workload} {one.name}, {one.variant}: {speed:.1f} {unit}/s", flush=True)
                del candidates
            write(args.out, results)
            for file in Path(folder).iterdir():
                file.unlink()


if __name__ == "__main__":
    main()
