"""Colours, fonts and the bare layout -> what all figures of circuits share."""

from __future__ import annotations

# Okabe-Ito colours, told apart by colour-blind readers; the dashes say the same once more.
LOWERS, RAISES, THIRD = "#0072b2", "#d55e00", "#009e73"
NEUTRAL, FAINT, INK = "#555555", "#d9d9d9", "#222222"
WIDTH, HEIGHT = 860, 600
FONT = {"family": "system-ui, sans-serif", "size": 13, "color": INK}


def bare_layout(title: str) -> dict[str, object]:
    """Plotly's layout of a figure on white; no theme of plotly's is touched."""
    return {
        "title": {"text": title, "x": 0.02, "font": {"size": 16}},
        "font": FONT,
        "width": WIDTH,
        "height": HEIGHT,
        "plot_bgcolor": "white",
        "paper_bgcolor": "white",
        "margin": {"l": 110, "r": 30, "t": 60, "b": 90},
        "legend": {"orientation": "h", "y": -0.14, "x": 0, "yanchor": "top"},
        "hovermode": "closest",
    }
