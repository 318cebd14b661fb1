"""GPT-2 in PyTorch: how long training and generation take, to compare with the examples on the same machine.

    python benches/external/gpt2.py train --text input.txt --out torch-train.json
    python benches/external/gpt2.py generate --prompt-tokens 512 --new-tokens 64 --out torch-generate.json

`train` is nanoGPT's setting for tiny Shakespeare on a CPU: characters, 4 blocks, 4 heads, 128 features, context 64, 12
sequences a step, 2,000 steps, no dropout, AdamW 1e-3 with weight decay 0.1 on matrices, 100 steps of warm-up, a cosine to
1e-4, clipping at 1; the last tenth of the text is held out, and its loss is over windows one after another.

`generate` reads a random prompt into a KV cache and then generates greedily, one token at a time, with GPT-2 124M's sizes
and random weights.
"""

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F


class Block(nn.Module):
    def __init__(self, features, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.qkv, self.proj = nn.Linear(features, 3 * features), nn.Linear(features, features)
        self.fc1, self.fc2 = nn.Linear(features, 4 * features), nn.Linear(4 * features, features)

    def project(self, x):
        """Query, key and value, `[batch, heads, length, features / heads]` each."""
        batch, length, features = x.shape
        heads = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, features // self.heads)
        return heads.permute(2, 0, 3, 1, 4).unbind(0)

    def finish(self, x, mixed):
        """What follows the attention."""
        x = x + self.proj(mixed.transpose(1, 2).reshape(x.shape))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))

    def forward(self, x, cache=None):
        query, key, value = self.project(x)
        past, length = 0, x.shape[1]
        if cache is not None:
            past = cache["length"]
            for name, new in ("key", key), ("value", value):
                cache[name][:, :, past : past + length] = new
            key, value = (cache[name][:, :, : past + length] for name in ("key", "value"))
            cache["length"] = past + length
        # With a cache, queries are either the whole sequence or its last token.
        return self.finish(x, F.scaled_dot_product_attention(query, key, value, is_causal=length > 1 and past == 0))

    def prefill(self, x):
        """The output of a whole sequence, its keys and its values."""
        query, key, value = self.project(x)
        return self.finish(x, F.scaled_dot_product_attention(query, key, value, is_causal=True)), key, value

    def extend(self, x, keys, values):
        """The output of the next token, all keys and all values."""
        query, key, value = self.project(x)
        keys, values = torch.cat([keys, key], 2), torch.cat([values, value], 2)
        return self.finish(x, F.scaled_dot_product_attention(query, keys, values)), keys, values

    def step(self, x, position, keys, values):
        """The output of the token at `position`, whose key and value are written to buffers of a fixed length."""
        query, key, value = self.project(x)
        keys.index_copy_(2, position, key)
        values.index_copy_(2, position, value)
        mask = torch.arange(keys.shape[2]) <= position
        return self.finish(x, F.scaled_dot_product_attention(query, keys, values, attn_mask=mask.view(1, 1, 1, -1)))


class Gpt2(nn.Module):
    def __init__(self, vocab, context, features, depth, heads):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocab, features), nn.Embedding(context, features)
        self.blocks = nn.ModuleList(Block(features, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(features)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                residual = name.endswith(("proj.weight", "fc2.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * depth) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def features(self, tokens, caches=None):
        past = caches[0]["length"] if caches else 0
        x = self.tokens(tokens) + self.positions.weight[past : past + tokens.shape[1]]
        for index, block in enumerate(self.blocks):
            x = block(x, caches[index] if caches else None)
        return self.norm(x)

    def logits(self, features):
        return F.linear(features, self.tokens.weight)

    def prefill(self, tokens):
        """The features of the last token, then keys and values of each block."""
        x, past = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]], []
        for block in self.blocks:
            x, key, value = block.prefill(x)
            past += [key, value]
        return self.norm(x[:, -1:]), *past

    def extend(self, token, past):
        """`prefill` of one more token."""
        start = past[0].shape[2]
        x, grown = self.tokens(token) + self.positions.weight[start : start + 1], []
        for block, keys, values in zip(self.blocks, past[::2], past[1::2]):
            x, keys, values = block.extend(x, keys, values)
            grown += [keys, values]
        return self.norm(x), *grown

    def step(self, token, position, past):
        """The logits after the token at `position`, a tensor of one number; `past` are buffers as in `Block.step`."""
        x = self.tokens(token) + self.positions(position)
        for block, keys, values in zip(self.blocks, past[::2], past[1::2]):
            x = block.step(x, position, keys, values)
        return self.logits(self.norm(x))

    def caches(self, capacity):
        heads, features = self.blocks[0].heads, self.tokens.weight.shape[1]
        empty = lambda: torch.zeros(1, heads, capacity, features // heads)
        return [{"key": empty(), "value": empty(), "length": 0} for _ in self.blocks]


def train(args):
    text = Path(args.text).read_text(encoding="utf-8")
    symbols = sorted(set(text))
    index = {symbol: position for position, symbol in enumerate(symbols)}
    ids = torch.tensor([index[symbol] for symbol in text])
    held_out = len(ids) * 9 // 10
    training, validation = ids[:held_out], ids[held_out:]
    context, batch, steps, warmup, peak, least = 64, 12, args.steps, 100, 1e-3, 1e-4
    model = Gpt2(len(symbols), context, 128, 4, 4)
    step_of = torch.compile(model.features) if args.compile else model.features
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=peak, betas=(0.9, args.beta_2))

    def rate(step):
        if step < warmup:
            return peak * (step + 1) / (warmup + 1)
        return least + (peak - least) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    def loss_of(inputs, targets):
        return F.cross_entropy(model.logits(step_of(inputs)).flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def evaluate():
        windows = (len(validation) - 1) // context
        inputs = validation[: windows * context].view(windows, context)
        targets = validation[1 : windows * context + 1].view(windows, context)
        losses = [loss_of(inputs[i : i + 64], targets[i : i + 64]) * len(inputs[i : i + 64]) for i in range(0, windows, 64)]
        return (sum(losses) / windows).item()

    seconds, curve = 0.0, []
    for step in range(steps):
        began = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        starts = torch.randint(len(training) - context - 1, (batch,))
        inputs = torch.stack([training[s : s + context] for s in starts])
        targets = torch.stack([training[s + 1 : s + context + 1] for s in starts])
        loss = loss_of(inputs, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        seconds += time.perf_counter() - began
        if (step + 1) % 250 == 0 or step + 1 == steps:
            curve.append({"step": step + 1, "validation_loss": evaluate()})
            print(f"step {step + 1}: validation loss {curve[-1]['validation_loss']:.4f}, {seconds:.1f} s")
    return {"steps": steps, "seconds": seconds, "compiled": args.compile, "seed": args.seed, "curve": curve}


@torch.no_grad()
def generate(args):
    model = Gpt2(50257, 1024, 768, 12, 12)
    prompt = torch.randint(50257, (1, args.prompt_tokens))
    rows = []
    for _ in range(args.rounds):
        caches = model.caches(args.prompt_tokens + args.new_tokens)
        began = time.perf_counter()
        token = model.logits(model.features(prompt, caches)[:, -1:]).argmax(-1)
        prefill = time.perf_counter() - began
        began = time.perf_counter()
        for _ in range(args.new_tokens - 1):
            token = model.logits(model.features(token, caches)).argmax(-1)
        rows.append((args.prompt_tokens / prefill, (args.new_tokens - 1) / (time.perf_counter() - began)))
        print(f"prefill {rows[-1][0]:.1f}, decode {rows[-1][1]:.2f} tokens/s")
    prefills, decodes = (sorted(values) for values in zip(*rows))
    middle = len(rows) // 2
    return {
        "prompt_tokens": args.prompt_tokens,
        "new_tokens": args.new_tokens,
        "prefill_tokens_per_second": prefills[middle],
        "decode_tokens_per_second": decodes[middle],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "generate"])
    parser.add_argument("--text", help="text to train on")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--beta-2", type=float, default=0.99)
    parser.add_argument("--compile", action="store_true", help="train through torch.compile")
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", help="file for the figures")
    args = parser.parse_args()
    if args.what == "train" and not args.text:
        parser.error("train needs --text")
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    result = train(args) if args.what == "train" else generate(args)
    result = {"program": f"PyTorch {torch.__version__}", "threads": args.threads, "machine": platform.processor(), **result}
    if args.out:
        Path(args.out).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
