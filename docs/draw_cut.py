"""Draws docs/cut.svg: the graph of all-MiniLM-L6-v2 with its last two blocks trained, and the cut that was found in it.

python docs/draw_cut.py    needs no weights: the graph is the same for random ones
"""

from __future__ import annotations

from collections import defaultdict
from html import escape
from pathlib import Path
from typing import Any

from regraft.errors import RegraftError
from regraft.features.cut import find_cut
from regraft.features.cut.find import CutTensor, Graph
from regraft.features.cut.graph import trained_tensors
from regraft.jobs.network import load

NETWORK, TRAINED, TOKENS = "all-minilm-l6-v2", "last 2 blocks, head", 128
WIDE, HIGH, GAP, LEFT = 250, 30, 26, 40
FROZEN, LIVE, CUT = "#dce6f2", "#fbd9b5", "#c0392b"


def box_of(graph: Graph, node: Any) -> str:
    """The box that an operation is drawn in: an input, a block, or what the network does between them."""
    if node in graph.inputs:
        return graph.inputs[node]
    path = graph.path(node)
    block = next((p for p in path if p.rpartition(".")[2].isdigit()), "")
    if block or not path:
        return block or "pooling"
    if len(path) > 1:
        return path[1]
    return "expanded mask" if path[0] == "encoder" else path[0]


def boxes() -> tuple[dict[tuple[str, bool], int], dict[tuple[tuple[str, bool], tuple[str, bool]], str], list[CutTensor]]:
    """(boxes with their rows, arrows with what the cut keeps there, the cut tensors)."""
    net = load(NETWORK, weights=False).train_only(TRAINED)
    inputs = {k: v[:, :1].expand(-1, TOKENS).contiguous() for k, v in net.inputs.items()}
    cut = find_cut(net.module, inputs, net.frozen())
    graph = cut.in_use
    if graph is None:
        raise RegraftError("there is no cut to draw")
    live, data = graph.live(trained_tensors(net.module, net.frozen())), graph.data()
    used = graph.behind([n for n in graph.outputs if n in graph.order])
    shown = [n for n in graph.nodes if n in data and n in used and n.op != "output"]
    key = {n: (box_of(graph, n), n in live) for n in shown}
    rows: dict[tuple[str, bool], int] = defaultdict(int)
    for n in shown:  # the row of a box: one below the lowest that it reads from
        before = [rows[key[r]] + 1 for r in graph.needs[n] if r in key and key[r] != key[n]]
        rows[key[n]] = max([rows[key[n]], *before])
    arrows: dict[tuple[tuple[str, bool], tuple[str, bool]], str] = {}
    for n in shown:
        for r in graph.needs[n]:
            if r in key and key[r] != key[n]:
                crosses = not key[r][1] and key[n][1]
                size = "x".join(str(int(s.node.hint) if hasattr(s, "node") else s) for s in r.meta["val"].shape[1:])
                kind = str(r.meta["val"].dtype).removeprefix("torch.")
                arrows[key[r], key[n]] = f"{size} {kind}" if crosses else arrows.get((key[r], key[n]), "")
    return dict(rows), arrows, list(cut.tensors)


def drawn() -> str:
    """The picture as SVG."""
    rows, arrows, tensors = boxes()
    places: dict[tuple[str, bool], tuple[int, int]] = {}
    lanes: dict[int, int] = defaultdict(int)
    # what is beside the main way (the mask) stands in the right lane
    side = {k for k in rows if "mask" in k[0] or (k[0] == "pooling" and not k[1])}
    for key in sorted(rows, key=lambda k: (rows[k], k in side)):
        lane = max(lanes[rows[key]], 1 if key in side else 0)
        lanes[rows[key]] = lane + 1
        places[key] = (LEFT + lane * (WIDE + 90), 46 + rows[key] * (HIGH + GAP))
    width = max(x for x, _ in places.values()) + WIDE + 60
    height = max(y for _, y in places.values()) + HIGH + 84
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        '<defs><marker id="tip" markerUnits="userSpaceOnUse" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="context-stroke"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="26" font-weight="bold">{NETWORK}, --train "{TRAINED}"</text>',
    ]
    for (start, end), text in arrows.items():
        (x1, y1), (x2, y2) = places[start], places[end]
        cut = not start[1] and end[1]
        colour, thick = (CUT, 2.5) if cut else ("#777", 1)
        pen = f'fill="none" stroke="{colour}" stroke-width="{thick}" marker-end="url(#tip)"'
        start_x, start_y = x1 + WIDE / 2, y1 + HIGH
        if x1 == x2:
            way = f"V{y2 - 2}"
            label = (start_x + 8, y2 - 8)
        elif x2 > x1:
            way = f"C{start_x},{start_y + 20} {x2 + WIDE / 2},{start_y} {x2 + WIDE / 2},{y2 - 2}"
            label = (x2, y2)
        else:  # from the side into the main way
            way = f"C{start_x},{y2 + HIGH / 2} {start_x},{y2 + HIGH / 2} {x2 + WIDE + 2},{y2 + HIGH / 2}"
            label = (x2 + WIDE + 14, y2 + HIGH / 2 - 6)
        out.append(f'<path d="M{start_x},{start_y} {way}" {pen}/>')
        if cut:
            out.append(f'<text x="{label[0]}" y="{label[1]}" font-size="11" fill="{CUT}">{escape(text)}</text>')
    for (name, live), (x, y) in places.items():
        out.append(f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="5" fill="{LIVE if live else FROZEN}" stroke="#555"/>')
        out.append(f'<text x="{x + WIDE / 2}" y="{y + 20}" text-anchor="middle">{escape(name)}</text>')
    y = height - 58
    for x, colour, text in ((LEFT, FROZEN, "trunk: frozen, runs once"), (LEFT + 200, LIVE, "rest: runs at every step")):
        out.append(
            f'<rect x="{x}" y="{y}" width="16" height="16" fill="{colour}" stroke="#555"/><text x="{x + 22}" y="{y + 13}">{text}</text>'
        )
    kept = " + ".join(f"{'x'.join(map(str, t.shape))} {str(t.dtype).removeprefix('torch.')}" for t in tensors)
    out.append(f'<text x="{LEFT}" y="{height - 16}" fill="{CUT}">the cut (red), kept of a text of {TOKENS} tokens: {kept}</text>')
    return "\n".join(line for line in out if line) + "\n</svg>\n"


if __name__ == "__main__":
    Path(__file__).with_name("cut.svg").write_text(drawn(), encoding="utf-8")
