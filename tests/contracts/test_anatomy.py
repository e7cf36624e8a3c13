"""What every network can be asked for: seen, selected, frozen, trained, changed, followed again, saved and loaded.

The architectures are libraries' own, small and with random weights.
"""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from regraft.anatomy import Net, look_at
from regraft.anatomy.adapters import adapter_parameters, adapters
from regraft.anatomy.freezing import layer_groups
from regraft.anatomy.net import step_once
from regraft.anatomy.parts import inside
from regraft.anatomy.select import Selected
from regraft.errors import UsageError
from regraft.pretrained.operators import declare_missing_operators

torch = pytest.importorskip("torch")
declare_missing_operators()
pytest.importorskip("timm")
pytest.importorskip("transformers")
nn = torch.nn

CLASSES = 5
TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 60,
    "max_position_embeddings": 40,
}
SMALL = {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 48, "vocab_size": 60}
DROPS = {"drop_rate": 0.1, "drop_path_rate": 0.2}


class Headed(nn.Module):
    """An encoder of transformers, the mean of what it gives, and a linear output layer."""

    def __init__(self, encoder: Any, width: int = 32) -> None:
        super().__init__()
        self.encoder, self.drop, self.head = encoder, nn.Dropout(0.1), nn.Linear(width, CLASSES)

    def forward(self, **inputs: Any) -> Any:
        return self.head(self.drop(self.encoder(**inputs).last_hidden_state.mean(1)))


@dataclass(frozen=True)
class Kind:
    """One architecture: how it is made and what it takes; `insert` a layer after which another one can stand."""

    make: Callable[[], Any]
    takes: Callable[[], dict[str, Any]]
    head: str
    insert: str


def images(size: int = 64, name: str = "x") -> Callable[[], dict[str, Any]]:
    return lambda: {name: torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))}


def words() -> dict[str, Any]:
    ids = torch.randint(4, 60, (2, 12), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 8:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def sound(name: str, *shape: int) -> Callable[[], dict[str, Any]]:
    return lambda: {name: torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))}


def timm(name: str, head: str, insert: str, size: int = 64, **options: Any) -> Kind:
    def make() -> Any:
        import timm

        return timm.create_model(name, pretrained=False, num_classes=CLASSES, **options)

    return Kind(make, images(size), head, insert)


def hf(model: str, config: str, insert: str, takes: Callable[[], dict[str, Any]] = words, part: str = "", **options: Any) -> Kind:
    def make() -> Any:
        import transformers

        settings = getattr(transformers, config)(**options)
        settings._attn_implementation = "sdpa" if part != "eager" else "eager"
        whole = getattr(transformers, model)(settings)
        if getattr(whole, "pooler", None) is not None:
            whole.pooler = None
        return Headed(whole.get_encoder() if part == "encoder" else whole)

    return Kind(make, takes, "head", insert)


VIT = {"img_size": 64, "embed_dim": 32, "depth": 3, "num_heads": 2, "drop_path_rate": 0.2, "proj_drop_rate": 0.1}
THIN = {"depths": (1, 1, 2, 1), "drop_path_rate": 0.2}
MAXVIT = {"img_size": 64, "embed_dim": (32, 32, 32, 64), "depths": (1, 1, 1, 1), "drop_path_rate": 0.2}
BERT = "encoder.encoder.layer.1.output.dropout"

NETWORKS: dict[str, Kind] = {
    "resnet": timm("resnet18", "fc", "layer2.0", channels=(8, 16, 24, 32), **DROPS),
    "resnext": timm("resnext50_32x4d", "fc", "layer2.0", layers=(1, 1, 1, 1), **DROPS),
    "densenet": timm("densenet121", "classifier", "features.denseblock2", growth_rate=8, block_config=(2, 2, 2, 2), drop_rate=0.1),
    "efficientnet": timm("efficientnet_b0", "classifier", "blocks.2.0", **DROPS),
    "efficientnet-lite": timm("efficientnet_lite0", "classifier", "blocks.2.0", **DROPS),
    "mobilenetv2": timm("mobilenetv2_035", "classifier", "blocks.2.0", **DROPS),
    "mobilenetv3": timm("mobilenetv3_small_050", "classifier", "blocks.2.0", **DROPS),
    "mobilenetv4": timm("mobilenetv4_conv_small_035", "classifier", "blocks.2.0", **DROPS),
    "convnext": timm("convnext_atto", "head.fc", "stages.1.blocks.0", dims=(8, 16, 24, 32), **THIN),
    "convnextv2": timm("convnextv2_atto", "head.fc", "stages.1.blocks.0", dims=(8, 16, 24, 32), **THIN),
    "regnet": timm("regnety_002", "head.fc", "s2.b1", **DROPS),
    "vit": timm("vit_tiny_patch16_224", "head", "blocks.1", **VIT),
    "deit3": timm("deit3_small_patch16_224", "head", "blocks.1", **VIT),
    "dinov2-reg": timm("vit_small_patch14_reg4_dinov2", "head", "blocks.1", size=56, **{**VIT, "img_size": 56}),
    "swin": timm(
        "swin_tiny_patch4_window7_224",
        "head.fc",
        "layers.1.blocks.0",
        img_size=64,
        embed_dim=8,
        num_heads=(1, 2, 2, 4),
        window_size=4,
        **THIN,
    ),
    "maxvit": timm(
        "maxvit_rmlp_pico_rw_256",
        "head.fc",
        "stages.1.blocks.0",
        img_size=64,
        embed_dim=(32, 32, 32, 64),
        depths=(1, 1, 1, 1),
        drop_path_rate=0.2,
    ),
    "fastvit": timm("fastvit_t8", "head.fc", "stages.1.blocks.0", layers=(1, 1, 1, 1), drop_path_rate=0.2),
    "efficientvit": timm("efficientvit_b0", "head.classifier.4", "stages.1.blocks.0"),
    "bert": hf("BertModel", "BertConfig", BERT, **TINY),
    "distilbert": hf(
        "DistilBertModel",
        "DistilBertConfig",
        "encoder.transformer.layer.1.ffn",
        dim=32,
        n_layers=3,
        n_heads=2,
        hidden_dim=48,
        vocab_size=60,
    ),
    "roberta": hf("RobertaModel", "RobertaConfig", BERT, **TINY, pad_token_id=1),
    "modernbert": hf("ModernBertModel", "ModernBertConfig", "encoder.layers.1.mlp", **TINY, pad_token_id=0, mlp_dropout=0.1),
    "deberta": hf("DebertaV2Model", "DebertaV2Config", BERT, part="eager", **TINY, relative_attention=True, pos_att_type=["p2c", "c2p"]),
    "mpnet": hf("MPNetModel", "MPNetConfig", BERT, part="eager", **TINY, pad_token_id=1),
    "xlm-r": hf("XLMRobertaModel", "XLMRobertaConfig", BERT, **TINY, pad_token_id=1),
    "whisper": hf(
        "WhisperModel",
        "WhisperConfig",
        "encoder.layers.1.fc2",
        sound("input_features", 8, 40),
        part="encoder",
        d_model=32,
        encoder_layers=3,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        num_mel_bins=8,
        max_source_positions=20,
        vocab_size=60,
        dropout=0.1,
        encoder_layerdrop=0.2,
        pad_token_id=1,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    ),
    "wav2vec2": hf(
        "Wav2Vec2Model",
        "Wav2Vec2Config",
        "encoder.encoder.layers.1.feed_forward",
        sound("input_values", 1200),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        conv_dim=(16, 16),
        conv_kernel=(10, 3),
        conv_stride=(5, 2),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        mask_time_prob=0.0,
        layerdrop=0.0,
    ),
    "ast": hf(
        "ASTModel",
        "ASTConfig",
        "encoder.layers.1.dropout",
        sound("input_values", 64, 16),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        num_mel_bins=16,
        max_length=64,
        patch_size=8,
        frequency_stride=8,
        time_stride=8,
        hidden_dropout_prob=0.1,
    ),
    "clip-vision": hf(
        "CLIPVisionModel",
        "CLIPVisionConfig",
        "encoder.encoder.layers.1.mlp",
        images(32, "pixel_values"),
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=48,
        image_size=32,
        patch_size=8,
        attention_dropout=0.1,
    ),
}


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    made.cache_clear()
    opened.cache_clear()


@functools.cache
def made(name: str) -> Any:
    torch.manual_seed(0)
    return NETWORKS[name].make().eval()


@functools.cache
def opened(name: str) -> Net:
    kind = NETWORKS[name]
    return look_at(made(name), kind.takes(), [kind.head])


ALIKE = ("mobilenetv2", "deit3", "roberta", "xlm-r")
"""Networks of the same code as efficientnet, vit and bert, which other tests take along."""


@pytest.fixture(params=[pytest.param(k, marks=pytest.mark.long) if k in ALIKE else k for k in NETWORKS])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def bits(module: Any) -> dict[str, bytes]:
    return {n: t.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes() for n, t in module.state_dict().items()}


def result(net: Net) -> Any:
    with torch.no_grad():
        return net.module.eval()(**net.inputs)


def loss_of(net: Net) -> Callable[[Any], Any]:
    return lambda module: nn.functional.cross_entropy(module(**net.inputs), torch.tensor([0, 1]))


def look_again(net: Net) -> Net:
    return replace(net, module=copy.deepcopy(net.module))


def test_opening_changes_nothing_and_gives_the_same_outputs(name: str):
    module = made(name)
    before, modes = bits(module), [m.training for m in module.modules()]
    net = look_at(module, NETWORKS[name].takes(), [NETWORKS[name].head])
    assert bits(module) == before and [m.training for m in module.modules()] == modes
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.module.modules() if m._get_name() != "ModelOutput")
    with torch.no_grad():
        expected = module(**net.inputs)
    assert torch.equal(result(net), expected)
    assert net.seen.outputs == (tuple(expected.shape),)
    assert bits(net.module) == before


def test_rows_hold_every_parameter_once_in_the_order_of_the_data(name: str):
    net = opened(name)
    rows = net.rows()
    every = sum(p.numel() for p in net.module.parameters())
    assert net.totals() == (every, every)
    assert sum(r.parameters for r in rows if r.depth == 1) == every
    leaves = [r for r in rows if not r.children]
    assert sum(r.parameters for r in leaves) == every
    assert len({r.path for r in rows}) == len(rows)
    for level in (1, 2):
        assert [r.path for r in net.rows(level)] == [r.path for r in rows if r.depth <= level]
    top = [r.order for r in rows if r.depth == 1]
    assert top == sorted(top)
    assert {r.path for r in rows} >= {p for p, _ in net.module.named_modules() if p}
    assert net.seen.macs > 0 and all(r.macs >= 0 for r in rows)


def test_shapes_of_rows_are_those_of_a_real_pass(name: str):
    net = opened(name)
    given: dict[str, Any] = {}

    def watch(path: str) -> Callable[..., None]:
        def hook(module: Any, args: Any, output: Any) -> None:
            first = output
            while isinstance(first, (tuple, list, dict)):
                first = next(iter(first.values() if isinstance(first, dict) else first), None)
            if isinstance(first, torch.Tensor):
                given.setdefault(path, tuple(first.shape))

        return hook

    hooks = [m.register_forward_hook(watch(p)) for p, m in net.module.named_modules() if p]
    with torch.no_grad():
        net.module.eval()(**net.inputs)
    for hook in hooks:
        hook.remove()
    rows = {r.path: r for r in net.rows()}
    assert {p for p, r in rows.items() if r.calls} >= set(given)
    for path, shape in given.items():
        assert rows[path].output == shape[1:], path


def test_every_parameter_lies_in_one_part(name: str):
    net = opened(name)
    items = list(net.parts.items())
    assert len(net.parts.blocks) >= 2
    for n, _ in net.module.named_parameters():
        assert sum(any(inside(n, p) for p in paths) for _, paths in items) == 1, n
    head = NETWORKS[name].head
    assert net.parts.head == (head,) and net.parts.stem, "what looks at the input first comes before the blocks"
    first = [min(net.seen.first(p) for p in block) for block in net.parts.blocks]
    assert first == sorted(first)
    assert {r.part for r in net.rows() if r.path == head} == {"head"}


def test_words_choose_layers(name: str):
    net = opened(name)
    count = len(net.parts.blocks)
    everything = {n for n, _ in net.module.named_parameters()}
    assert set(net.select("all").parameters(net.module)) == everything
    pieces = [net.select(word).parameters(net.module) for word in ("stem", "blocks", "head")]
    neck = net.select("neck").parameters(net.module) if net.parts.neck else []
    assert sorted(p for piece in [*pieces, neck] for p in piece) == sorted(everything)
    assert set(net.select(f"last {count} blocks").paths) >= set(net.select("blocks").paths)
    assert set(net.select("first 1 block").paths) == set(net.parts.blocks[0])
    assert net.select("norms").paths
    assert set(net.select("all, -head").parameters(net.module)) == everything - set(net.select("head").parameters(net.module))
    with pytest.raises(UsageError, match="the network has"):
        net.select(f"last {count + 1} blocks")
    for path in net.parts.blocks[0]:
        if not path[-1].isdigit():
            with pytest.raises(UsageError, match="did you mean"):
                net.select(path + "x")


def test_what_is_frozen_keeps_every_bit_and_what_trains_moves(name: str):
    net = look_again(opened(name).train_only("last 1 block, head"))
    module, live = net.module, net.trained
    before = bits(module)
    frozen = [p for _, paths in net.parts.items() for p in paths if p not in live and p in net.seen.calls]
    assert frozen

    def outputs() -> dict[str, Any]:
        out: dict[str, Any] = {}
        keep = lambda p: lambda m, a, o: out.setdefault(p, o if isinstance(o, torch.Tensor) else None)
        hooks = [module.get_submodule(p).register_forward_hook(keep(p)) for p in frozen]
        torch.manual_seed(len(out))
        module(**net.inputs)
        for hook in hooks:
            hook.remove()
        return out

    with torch.no_grad():
        module.eval()
        in_use = outputs()
        with net.frozen().training(module):
            in_training = outputs()
    for path in frozen:
        if in_use[path] is not None:
            assert torch.equal(in_use[path], in_training[path]), path
    torch.manual_seed(3)
    for _ in range(2):
        step_once(net, loss_of(net))
    after = bits(module)
    moved = {n for n in before if before[n] != after[n]}
    assert all(n in live for n in moved)
    used = [n for n in live.parameters(module)]
    assert {n for n in used if n in moved} >= {n for n, p in module.named_parameters() if n in live and p.ndim > 1 and "_embed" not in n}
    assert not [n for n, _ in module.named_buffers() if n in moved], "statistics are kept where nothing is said"
    assert not any(m.training for m in module.modules())


def test_all_that_trains_is_in_training_mode(name: str):
    net = look_again(opened(name))
    with net.frozen(adapt=True).training(net.module) as module:
        assert [p for p, m in module.named_modules() if not m.training] == []
    with net.frozen().training(net.module) as module:
        assert all(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules() if not m.training)


def test_groups_hold_every_trained_parameter_once(name: str):
    net = opened(name)
    groups = layer_groups(net.module, net.parts, net.trained)
    names = [n for _, held in groups for n in held]
    assert sorted(names) == sorted(n for n, _ in net.module.named_parameters())
    depth = {n: d for d, held in groups for n in held}
    count = len(net.parts.blocks)
    assert {depth[n] for n in net.select("head").parameters(net.module)} == {0}
    assert {depth[n] for n in net.select("stem").parameters(net.module)} == {count + 1}
    for i, block in enumerate(net.parts.blocks):
        assert {d for n, d in depth.items() if any(inside(n, p) for p in block)} <= {count - i}
    part = layer_groups(net.module, net.parts, net.train_only("first 1 block, head").trained)
    assert [d for d, _ in part] == [0, count], "a depth does not depend on what else trains"


def checked(net: Net, start: Net) -> Net:
    """A changed network: it runs forward and backward, its recipe gives the same bits, and its state can be saved and loaded."""
    from safetensors.torch import load, save

    again = start.follow(net.recipe())
    assert bits(again.module) == bits(net.module)
    expected = result(net)
    assert torch.isfinite(expected).all() and tuple(expected.shape) == net.seen.outputs[0]
    assert torch.equal(result(again), expected)
    saved = load(save({n: t.clone().contiguous() for n, t in net.module.state_dict().items()}))
    other = again.module
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(saved)
    with torch.no_grad():
        assert torch.equal(other.eval()(**net.inputs), expected)
    mine = look_again(net)
    step_once(mine, loss_of(mine))
    assert net.diff().lines()
    items = list(net.parts.items())
    for n, _ in net.module.named_parameters():
        assert sum(any(inside(n, p) for p in paths) for _, paths in items) == 1, n
    return net


def test_the_head_is_replaced_and_layers_come_in(name: str):
    start, kind = opened(name), NETWORKS[name]
    before = bits(start.module)
    net = start.freeze("all").replace("head", "Sequential(Linear(16), ReLU(), Dropout(0.2), Linear(3))")
    assert net.seen.outputs == ((2, 3),)
    assert all(inside(n, kind.head) for n in net.trained.parameters(net.module)), "what is new trains, what was frozen stays so"
    net = net.insert("Dropout(0.3)", after=kind.insert).append("Identity")
    checked(net, start)
    kept = {n: b for n, b in bits(net.module).items() if not inside(n, kind.head)}
    old = {n: b for n, b in before.items() if not inside(n, kind.head)}
    assert sorted(kept.values()) == sorted(old.values()), "what was not named keeps its weights"
    assert torch.equal(result(start.insert("Identity", after=kind.insert)), result(start))
    assert bits(start.module) == before


def test_adapters_begin_at_nothing_train_alone_and_can_be_merged(name: str):
    pytest.importorskip("peft")
    start, kind = opened(name), NETWORKS[name]
    net = start.lora("blocks", rank=2)
    assert bits(start.follow(net.recipe()).module) == bits(net.module)
    assert torch.equal(result(net), result(start))
    assert net.parts == start.parts and set(net.kept.values()) >= set(start.module.state_dict())
    own = look_again(net)
    held = adapters(own.module)
    assert held and not any(inside(path, kind.head) for path in held)
    own = replace(own, trained=Selected(tuple(adapter_parameters(own.module))))
    before = bits(own.module)
    for _ in range(2):
        step_once(own, loss_of(own), rate=1e-2)
    after = bits(own.module)
    moved = {n for n in before if before[n] != after[n]}
    assert moved and moved <= adapter_parameters(own.module)
    assert {n.split(".lora_")[0] for n in moved} == set(held), "every adapter is reached"
    with torch.no_grad():
        expected = result(own)
        assert not torch.equal(expected, result(net))
        alone = own.merged().eval()
        assert torch.allclose(alone(**net.inputs), expected, atol=1e-4, rtol=1e-4)
    assert {n: t.shape for n, t in alone.state_dict().items()} == {n: t.shape for n, t in start.module.state_dict().items()}
    assert bits(own.module) == after, "the network that is merged stays as it is"


def test_the_last_block_goes_with_what_the_message_says(name: str):
    start = opened(name)
    text = ", ".join(start.parts.blocks[-1])
    for _ in range(4):
        try:
            net = start.remove(text)
            break
        except UsageError as error:
            # what takes the block's channels, and nothing else, cannot stay: the advice is followed
            assert f"remove(path={text})" in str(error)
            text = error.move.removeprefix("--remove ").strip('"')
    else:
        raise AssertionError(f"following the advice leads nowhere: {text}")
    checked(net, start)
    gone = start.select(text)
    assert not any(n in gone for n, _ in net.module.named_parameters())
    kept = {n: b for n, b in bits(start.module).items() if n not in gone and not inside(n, NETWORKS[name].head)}
    assert kept.items() <= bits(net.module).items()
    went = [path for path, _, _ in net.diff().went]
    assert all(any(inside(p, w) for w in went) for p in gone.paths if list(start.module.get_submodule(p).parameters()))
