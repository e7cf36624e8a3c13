"""Frozen means frozen: no parameter, statistic or counter of the pretrained part moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import regraft
from regraft.anatomy import freeze, layer_at, replace_layer
from regraft.errors import ModelError
from regraft.features.engines.torch import TorchTrunk
from regraft.modality import MODALITIES
from regraft.pretrained import find_model, packaged
from regraft.pretrained.architectures import build

torch = pytest.importorskip("torch")
nn = torch.nn

IMAGES = {"size": 16, "crop_pct": 1.0, "interpolation": "bilinear", "mean": [0.5] * 3, "std": [0.5] * 3}


class Moody(nn.Module):
    """Everything that behaves otherwise in training: batch norm, dropout, a counter in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5)
        self.inner = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, momentum=None))

    def forward(self, x: Any) -> Any:
        return self.drop(torch.relu(self.inner(self.norm(self.conv(x))))).mean((2, 3))


def snapshot(network: Any) -> dict[str, bytes]:
    return {name: tensor.detach().contiguous().numpy().tobytes() for name, tensor in network.state_dict().items()}


def pixels(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"pixels": rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)} for _ in range(count)]


def test_running_the_trunk_changes_no_parameter_and_no_buffer():
    torch.manual_seed(0)
    network = Moody().train()
    before = snapshot(network)
    trunk = TorchTrunk(network, MODALITIES["image"], IMAGES, 4, "cpu")
    rows = [trunk(pixels(count, seed)) for seed, count in enumerate((4, 1, 3, 4))]
    assert snapshot(trunk.network) == before
    assert "norm.num_batches_tracked" in before, "the counters are among what was compared"
    assert trunk(pixels(4, 0)).tobytes() == rows[0].tobytes(), "dropout is off: the same input gives the same row"


def test_a_partly_filled_tile_gives_the_rows_of_a_full_one():
    torch.manual_seed(0)
    trunk = TorchTrunk(Moody(), MODALITIES["image"], IMAGES, 4, "cpu")
    windows = pixels(4, 0)
    whole = trunk(windows)
    for count in (1, 2, 3):
        assert trunk(windows[:count]).tobytes() == whole[:count].tobytes()


def test_a_frozen_network_trains_nothing():
    network = freeze(Moody().train())
    assert not any(p.requires_grad for p in network.parameters())
    assert not any(module.training for module in network.modules())


def test_a_network_that_gives_no_row_an_example_is_refused():
    class Maps(nn.Module):
        def forward(self, x: Any) -> Any:
            return x

    with pytest.raises(ModelError, match="gave"):
        TorchTrunk(Maps(), MODALITIES["image"], IMAGES, 2, "cpu")(pixels(2, 0))


def test_layers_are_found_and_replaced_by_path():
    network = Moody()
    assert layer_at(network, "inner.0") is network.inner[0]
    new = nn.Conv2d(8, 8, 3)
    assert replace_layer(network, "inner.0", new) is network and network.inner[0] is new
    replace_layer(network, "drop", nn.Identity())
    assert isinstance(network.drop, nn.Identity)
    for path in ("iner.0", "inner.7", "conv.weight.x"):
        with pytest.raises(ModelError, match=path):
            layer_at(network, path)
    with pytest.raises(ModelError, match="did you mean 'inner.0'"):
        replace_layer(network, "iner.0", nn.Identity())


def data_of(task: str, folder: Path, make: dict[str, Callable[..., Path]]) -> Path:
    if task == "text":
        return make["text"](folder / "texts.csv")
    return make[task](folder / "files", count=3)


@pytest.mark.weights
@pytest.mark.parametrize("name", ["efficientnet-lite0", "all-minilm-l6-v2", "whisper-tiny-en"])
def test_after_fit_the_backbone_is_bit_for_bit_what_it_was(name, tmp_path, make_images, make_texts, make_tones):
    from safetensors.torch import load_file

    facts = find_model(name)
    data = data_of(facts.task, tmp_path, {"image": make_images, "text": make_texts, "audio": make_tones})
    run = regraft.fit(data, model=name, threads=1, out=str(tmp_path / "run"))
    kept = load_file(run.path / "bundle" / "model.safetensors")
    head = run.model.manifest["head"]["path"]
    own = {f"{head}.weight", f"{head}.bias"}
    assert own <= set(kept)
    theirs = packaged.weights(facts)
    assert set(kept) - own == set(theirs), "nothing of the network is lost, nothing is added but the output layer"
    for key, tensor in theirs.items():
        assert kept[key].dtype == tensor.dtype and torch.equal(kept[key], tensor), key
    assert kept[f"{head}.weight"].shape == (len(run.result["labels"]), facts.features)
    network = run.network()
    assert not network.training
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == {k: tuple(v.shape) for k, v in kept.items()}
    with_old = build(facts.architecture, 0)
    with_old.load_state_dict(theirs)
    network.train()
    network.eval()
    assert all(torch.equal(tensor, network.state_dict()[key]) for key, tensor in with_old.state_dict().items())
