"""How a circuit is found: the settings of `circuit find`, refused without anything that computes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from circuits.graph import Graph
from circuits.judging.significance import check_enough
from circuits.methods.names import METHOD_NAMES, STEPPED, UNSIGNED
from data_gen.errors import InputError, nearest
from data_gen.pairs.edits import edit_named

MOST_PAIRS = 10_000
"""Every pair is drawn, run and held with a number for each edge; a few hundred tell circuits apart."""
SELECTIONS = ("top", "greedy", "significant")
"""How a circuit is chosen from the scores: `circuits.select`."""
DEFAULT_STEPS = "the method's own number"


@dataclass(frozen=True, kw_only=True)
class FindSettings:
    """How a circuit is found. Raises `InputError` for what no circuit can be found with."""

    edit: str
    method: str = "eap-ig"
    pairs: int = 64
    select: str = "top"
    edges: int = 50
    """Edges of the circuit, all of them where the model has fewer; `significant` takes what it finds."""
    q: float = 0.05
    """False-discovery rate of `significant`."""
    steps: int | None = None
    """Integration steps, of methods that take some; `None` is the method's own number."""
    check_steps: bool = False
    """Score again with twice the steps, and say how far that moves the scores."""
    whole_answers: bool = False
    """Ask for every token in which the answers differ, not for the first alone."""
    by_role: bool = False
    """Share every edge's score out to the roles of the tokens too, and follow the strongest between them."""
    seed: int = 0
    """Draws the pairs."""

    def __post_init__(self) -> None:
        edit_named(self.edit)
        for what, name, known in (
            ("method", self.method, METHOD_NAMES),
            ("selection", self.select, SELECTIONS),
        ):
            if name not in known:
                raise InputError(
                    f"unknown {what} `{name}`{nearest(name, known)}", hint=f"known: {', '.join(known)}"
                )
        usual = {"pairs": FindSettings.pairs, "edges": FindSettings.edges, "steps": DEFAULT_STEPS}
        for name, default in usual.items():
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(
                    f"{name} is {value}, expected at least 1",
                    hint=f"leave --{name} out: it is {default} then",
                )
        if self.pairs > MOST_PAIRS:
            raise InputError(
                f"pairs is {self.pairs:,}, expected at most {MOST_PAIRS:,}: every pair is drawn, run and held",
                hint="a few hundred are many; `pairs_needed` says from how many on a circuit stays the same",
            )
        if not 0 < self.q < 1:
            raise InputError(
                f"q is {self.q}, expected a false-discovery rate between 0 and 1", hint=".05 is usual"
            )
        if self.select == "significant" and self.method in UNSIGNED:
            raise InputError(
                f"method `{self.method}` gives an edge one number for all pairs, so no edge is significant by it",
                hint="choose top or greedy edges, or a method that scores each pair, such as `eap-ig`",
            )
        if self.select == "significant":
            check_enough(self.pairs, self.q)
        if (self.steps is not None or self.check_steps) and self.method not in STEPPED:
            asked = "--steps" if self.steps is not None else "--check-steps"
            raise InputError(
                f"method `{self.method}` has no steps", hint=f"leave {asked} out, or take `eap-ig`"
            )

    def check_fits(self, graph: Graph, run: Path) -> None:
        """Raise `InputError` for more edges than the graph of the run's model has; the default takes what there are."""
        most = len(graph.edges)
        if most < self.edges != FindSettings.edges:
            raise InputError(
                f"edges is {self.edges:,}, and the graph of {run} has {most:,}",
                hint=f"ask for fewer, or leave --edges out: it is {FindSettings.edges} then, or all there are",
            )
