"""Every rule of strategy/settings.py as a row of a table: facts, what follows, and the source that the rule names."""

from __future__ import annotations

import ast
import inspect

import pytest

from regraft.strategy import settings as rules
from regraft.strategy.settings import Settings, changed, settings_for


def conv(examples: int = 500, **more: bool) -> Settings:
    return settings_for(examples, 5_000_000, **{"convolutions": True, "whole": False, **more})


def former(parameters: int, *, whole: bool = False, examples: int = 500, **more: bool) -> Settings:
    return settings_for(examples, parameters, convolutions=False, whole=whole, **more)


MINILM, BERT = 22_000_000, 110_000_000

TABLE = [
    ("batch", "Masters & Luschi 2018", conv(999).batch, 16),
    ("batch", "Masters & Luschi 2018", conv(1000).batch, 32),
    ("steps", "Kolesnikov et al. 2020", rules.STEPS, 400),
    ("epochs of few", "Mosbach et al. 2021", conv(20).epochs, 20),
    ("epochs between", "Mosbach et al. 2021", conv(999).epochs, 6),
    ("epochs of many", "Devlin et al. 2019: 2 to 4", conv(10**6).epochs, 3),
    ("rate, convolutions", "ConvNeXt", (conv().lr, conv().layer_decay), (3e-4, 0.8)),
    ("rate, small transformer in part", "Turc et al.", (former(MINILM).lr, former(MINILM).layer_decay), (3e-4, 0.75)),
    ("rate, small transformer", "BEiT", former(MINILM, whole=True).lr, 1e-4),
    ("rate, large transformer", "BEiT", former(BERT).lr, 1e-4),
    ("rate of the head: that of the last block", "LP-FT", settings_for(500, convolutions=True, whole=True).lr, 3e-4),
    ("rate of scales alone", "Ben Zaken et al. 2022", former(MINILM, scales=True).lr, pytest.approx(9e-4)),
    ("rate of adapters", "Hu et al. 2022", conv().adapters, 5.0),
    ("warm-up", "Mosbach et al. 2021", conv().warm_up, 0.1),
    ("decay", "Loshchilov & Hutter 2019", conv().weight_decay, 0.01),
    ("decay goes with the rate", "Kornblith et al. 2019", changed(conv(), {"lr": 3e-3}).weight_decay, pytest.approx(0.001)),
    ("clipping", "Pascanu et al. 2013", conv().clip, 1.0),
    ("batch norms, few", "Keras", conv(999, whole=True).adapt, False),
    ("batch norms, many", "Keras", conv(1000, whole=True).adapt, True),
    ("batch norms, a part", "Keras", conv(5000).adapt, False),
    ("mixup, few", "Kolesnikov et al. 2020", conv(19_999, whole=True, images=True).mixup, 0.0),
    ("mixup, many", "Kolesnikov et al. 2020", conv(20_000, whole=True, images=True).mixup, 0.1),
    ("mixup, texts", "Kolesnikov et al. 2020", former(MINILM, whole=True, examples=10**5).mixup, 0.0),
    ("pull to the start: the head a tenth", "Li et al. 2018", changed(conv(), {"l2_sp": 5.0}).l2_sp_head, 0.5),
    ("pull to the start: no decay", "Li et al. 2018", changed(conv(), {"l2_sp": 5.0}).weight_decay, 0.0),
    ("head of several layers", "DINOv2", (rules.head_settings(500).epochs, rules.head_settings(500).lr), (31, 1e-3)),
    ("folds", "Blum, Kalai & Langford 1999", rules.folds_to_train(5, 10.0, 2000), 3),
    # what was seen not to help, or not always, waits to be asked for (docs/log.md)
    *((name, "docs/log.md", getattr(conv(), name), 0) for name in ("smoothing", "cutmix", "balanced", "l2_sp", "ema", "patience", "find")),
    *((name, "docs/log.md", getattr(conv(), name), value) for name, value in (("accumulate", 1), ("checkpointing", False), ("wise", True))),
]


@pytest.mark.parametrize(("rule", "source", "found", "expected"), TABLE, ids=[f"{row[0]}: {row[3]}" for row in TABLE])
def test_rules(rule, source, found, expected):
    assert found == expected, rule
    assert source in inspect.getsource(rules), "the rule does not name its source"


def test_every_rule_says_something():
    tree = ast.parse(inspect.getsource(rules)).body
    for node, after in zip(tree, [*tree[1:], None], strict=True):
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
        if isinstance(node, ast.Assign) and node.targets[0].id in ("STEPS", "EPOCHS", "SMALL", "SCALES", "WARM_UP", "CLIP", "MIXUP"):
            assert isinstance(after, ast.Expr), node.targets[0].id
