"""Model -> ports, runs, gradients and circuits played alone: what every method and judge is built on."""
