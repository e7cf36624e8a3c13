"""What is told of a race: networks, looks and rounds come in; its JSON, the choice in words and what is to be warned of go out.

It measures nothing, and which network is taken is only its to say where none could be looked at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regraft.events import Said
from regraft.facts import Figure, ModelFacts
from regraft.jobs.racing.judging import Gap
from regraft.jobs.racing.running import Field
from regraft.pretrained import default_model
from regraft.pretrained.catalogue import entry_of, ordered_right
from regraft.strategy.race import QUICKER, TRAINED, Look, Standing, reached


@dataclass
class Story:
    """The rounds of a race as they went, and what came of it."""

    racing: Field
    rounds: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def tell(self, look: Look, running: Sequence[str], now: Standing) -> None:
        """Say how a round went, and note it."""
        figures = [f"{name} {self.racing.runners[name].found['figure']['value']:.3f}" for name in look.names]
        left = f"{len(running)} left" if len(running) > 1 else "one left"
        self.racing.emit(Said(f"{look.seen:,} {self.racing.modality.nouns}: {', '.join(figures)}; {left}"))
        self.rounds.append(
            {
                "examples": look.seen,
                "networks": {name: {k: _plain(v) for k, v in self.racing.runners[name].found.items()} for name in look.names},
                "dropped": [name for name in look.names if name not in running],
                "first": now.chosen,
                "regret": round(now.regret, 6),
            }
        )

    def result(self, stopped: str, now: Standing | None, last: Look | None, bare: Mapping[str, Any]) -> dict[str, Any]:
        """The race as JSON. `now` and `last` are None where no round was judged; `bare` is what the judge found without a network."""
        winner = now.chosen if now else self._without_looks()
        ran = [self._row(facts, winner) for facts in self.racing.entered.networks]
        entered = {facts.name for facts in self.racing.entered.networks}
        more = [{"name": name, "why": why.said, "kind": why.kind.name} for name, why in self.racing.out.items() if name not in entered]
        return {
            "task": self.racing.labelled.dataset.task,
            "target": self.racing.target.name,
            "metric": self.racing.metric,
            "compared": self.racing.target.compared,
            "n": len(self.racing.train),
            "seen": last.seen if last else 0,
            "winner": winner,
            "stopped": stopped,
            "regret": round(now.regret, 6) if now else None,
            "reasons": self._reasons(winner, now, last, stopped),
            "candidates": ran,
            "others": more,
            "rounds": self.rounds,
            "baseline": {"constant": bare["constant"], "without_network": bare["figure"]} if last else {},
            "limits": self.racing.limits.to_json(),
        }

    def _row(self, facts: ModelFacts, winner: str) -> dict[str, Any]:
        entry, runner = entry_of(facts), self.racing.runners.get(facts.name)
        dropped = None if facts.name == winner else self.racing.out.get(facts.name)
        found = runner.found if runner else {}
        return {
            "name": facts.name,
            "parameters": facts.parameters,
            "licence": facts.licence,
            "published": entry.published,
            "prior": entry.accuracy,
            **{name: _plain(found.get(name)) for name in ("seen", "figure", "gap", "gain", "promised", "pilot", "scores")},
            "pace": None if runner is None or runner.pace is None else float(f"{runner.pace:.4g}"),
            "latency": None if runner is None or runner.latency is None else round(runner.latency, 2),
            "seconds": round(runner.seconds, 2) if runner else 0.0,
            "worse_than_no_network": "gain" in found and found["gain"].high < 0,
            "dropped": dropped.said if dropped else "",
            "dropped_kind": dropped.kind.name if dropped else "",
        }

    def _without_looks(self) -> str:
        """The network to take when none could be looked at: the task's usual one, where it is among them, else the one with the best
        published figure.
        """
        names = [facts.name for facts in self.racing.entered.networks]
        able = [name for name in names if name not in self.racing.out or self.racing.out[name].kind.able] or names
        usual = default_model(self.racing.labelled.dataset.task).name
        return usual if usual in able else able[0]

    def _reasons(self, winner: str, now: Standing | None, last: Look | None, stopped: str) -> list[str]:
        """The choice in words."""
        if now is None or last is None:
            how = (
                "the usual one of its kind"
                if winner == default_model(self.racing.labelled.dataset.task).name
                else "the best published figure"
            )
            return [f"{winner} is taken without a race ({stopped}): {how}"]
        others = [name for name in last.names if name != winner]
        found = self.racing.runners[winner].found["figure"]
        on = f"with a new output layer, cross-validated on {last.seen:,} {self.racing.modality.nouns}"
        said = [f"{winner} is taken: {self.racing.metric} {found['value']:.3f} {on}"]
        if now.why == QUICKER:
            best = last.names[last.best()]
            said[0] += f"; {best} is as good as equal ({self.racing.runners[best].found['figure']['value']:.3f}), and slower"
        elif now.why == TRAINED:
            ends = dict(zip(last.names, reached(last), strict=True))
            ahead = last.names[int(last.means.argmin())]
            value = self.racing.runners[ahead].found["figure"]["value"]
            said[0] += f"; {ahead} has the better head ({value:.3f}), but trained as far as there is time it is expected to reach"
            said[0] += f" {ends[ahead]:.3f}, and {winner} {ends[winner]:.3f}"
        elif others:
            said[0] += "; " + "; ".join(f"{name} {self.racing.runners[name].found['figure']['value']:.3f}" for name in others)
        said += [self._of_pilot(name) for name in last.names if "pilot" in self.racing.runners[name].found]
        if len(self.racing.runners) > 1:
            lost = f"{now.regret * 100:.1f} points" if self.racing.target.name != "number" else f"{now.regret:.3g}"
            said.append(f"to stop here ({stopped}) is expected to lose {lost} against the best of them")
        return [*said, *filter(None, [self._by_published(winner)])]

    def _of_pilot(self, name: str) -> str:
        """What a short training of a network gave."""
        pilot = self.racing.runners[name].found["pilot"]
        judged = f"on {pilot['judged']} held-out {self.racing.modality.nouns}"
        return f"{pilot['steps']} steps of training took {name} from {pilot['head']:.3f} to {pilot['figure']:.3f} {judged}"

    def _by_published(self, winner: str) -> str:
        """What published figures would have said, where that is another network; nothing where they say nothing."""
        first, taken = (
            entry_of(self.racing.entered.networks[0]),
            entry_of(next(f for f in self.racing.entered.networks if f.name == winner)),
        )
        right = ordered_right(first, taken)
        if right is None or first.name == winner:
            return ""
        often = f"such figures order two networks as other data does about {right * 100:.0f} times of 100"
        return f"by published figures it would have been {first.name} ({first.published}); {often}"

    def verdict(self, winner: str) -> str:
        """What to say of a winner that is not clearly better than no network."""
        gain: Figure | None = self.racing.runners[winner].found.get("gain") if winner in self.racing.runners else None
        if gain is None or gain.low > 0:
            return ""
        worse = "worse" if gain.high < 0 else "not clearly better"
        return f"{winner} is {worse} than no network here: {self.racing.target.difference(gain)} on the examples of the race"


def _plain(value: Any) -> Any:
    if isinstance(value, Gap):
        return value.figure.to_json()
    return value.to_json() if isinstance(value, Figure) else value
