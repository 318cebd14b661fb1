"""The sentence encoder and the vision transformers of benches/models, as one writes them in PyTorch. GPT-2 is in gpt2.py."""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Attention(nn.Module):
    """Query, key and value from one layer, or each from its own."""

    def __init__(self, features, heads, joined):
        super().__init__()
        self.heads = heads
        sizes = [3 * features] if joined else 3 * [features]
        self.inputs = nn.ModuleList(nn.Linear(features, size) for size in sizes)
        self.output = nn.Linear(features, features)

    def forward(self, x, mask=None):
        batch, tokens, features = x.shape
        parts = [part for layer in self.inputs for part in layer(x).split(features, -1)]
        heads = (part.view(batch, tokens, self.heads, features // self.heads).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, features))


class BertLayer(nn.Module):
    def __init__(self, features, heads, hidden, epsilon):
        super().__init__()
        self.attention = Attention(features, heads, joined=False)
        self.attention_norm = nn.LayerNorm(features, epsilon)
        self.intermediate, self.output = nn.Linear(features, hidden), nn.Linear(hidden, features)
        self.output_norm = nn.LayerNorm(features, epsilon)

    def forward(self, x, mask):
        x = self.attention_norm(x + self.attention(x, mask))
        return self.output_norm(x + self.output(F.gelu(self.intermediate(x))))


class Bert(nn.Module):
    """Token ids `[batch, length]` to sentence embeddings of length 1; the mask is false where a token is padding."""

    def __init__(self, vocabulary=30522, features=384, depth=6, heads=12, hidden=1536, positions=512, types=2, epsilon=1e-12):
        super().__init__()
        self.words, self.positions = nn.Embedding(vocabulary, features), nn.Embedding(positions, features)
        self.types, self.norm = nn.Embedding(types, features), nn.LayerNorm(features, epsilon)
        self.layers = nn.ModuleList(BertLayer(features, heads, hidden, epsilon) for _ in range(depth))

    def forward(self, tokens, mask=None):
        x = self.words(tokens) + self.positions.weight[: tokens.shape[1]] + self.types.weight[0]
        x = self.norm(x)
        visible = None if mask is None else mask[:, None, None, :]
        for layer in self.layers:
            x = layer(x, visible)
        total = x.sum(1) if mask is None else (x * mask.unsqueeze(2)).sum(1)
        return F.normalize(total, dim=1)

    @classmethod
    def from_checkpoint(cls, config, tensors):
        """The model of a Hugging Face `config.json` and its tensors by name."""
        model = cls(
            config["vocab_size"],
            config["hidden_size"],
            config["num_hidden_layers"],
            config["num_attention_heads"],
            config["intermediate_size"],
            config["max_position_embeddings"],
            config.get("type_vocab_size", 2),
            config.get("layer_norm_eps", 1e-12),
        )
        names = {
            "words": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "types": "embeddings.token_type_embeddings",
            "norm": "embeddings.LayerNorm",
        }
        parts = {
            "attention.inputs.0": "attention.self.query",
            "attention.inputs.1": "attention.self.key",
            "attention.inputs.2": "attention.self.value",
            "attention.output": "attention.output.dense",
            "attention_norm": "attention.output.LayerNorm",
            "intermediate": "intermediate.dense",
            "output": "output.dense",
            "output_norm": "output.LayerNorm",
        }
        for index in range(len(model.layers)):
            names |= {f"layers.{index}.{own}": f"encoder.layer.{index}.{other}" for own, other in parts.items()}

        def tensor(own):
            module, _, kind = own.rpartition(".")
            return tensors[f"{names[module]}.{kind}"]

        model.load_state_dict({own: tensor(own) for own in model.state_dict()})
        return model


class ViTBlock(nn.Module):
    def __init__(self, features, heads, hidden):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention = Attention(features, heads, joined=True)
        self.fc1, self.fc2 = nn.Linear(features, hidden), nn.Linear(hidden, features)

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """Images `[batch, 3, size, size]` to logits, from the class token."""

    def __init__(self, size, patch, features, depth, heads, mlp_ratio, classes=10):
        super().__init__()
        self.patch = patch
        self.embedding = nn.Linear(3 * patch * patch, features)
        self.first = nn.Parameter(0.02 * torch.randn(1, 1, features))
        self.positions = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2 + 1, features))
        self.blocks = nn.ModuleList(ViTBlock(features, heads, int(mlp_ratio * features)) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(features), nn.Linear(features, classes)

    def forward(self, images):
        batch, patch = images.shape[0], self.patch
        grid = images.shape[2] // patch
        patches = images.view(batch, 3, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
        patches = self.embedding(patches.reshape(batch, grid * grid, -1))
        x = torch.cat([self.first.expand(batch, -1, -1), patches], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))
