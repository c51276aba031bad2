"""Tables of paired runs: their events, and how far the variants move from s=0."""

import pandas as pd


def run_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a paired run: its event, and each variant's distance there and at the end.

    runs: rows of `bifurcation.paired_run`. Columns: run, step and where ("–" without an event),
    control (largest distance), and for each variant LABEL: "LABEL gradient" (relative difference
    at the event), "LABEL jump", "LABEL end" (L1 distances).
    """
    rows = []
    for run in runs.to_dict("records"):
        event = run["event"]
        row = {
            "run": f"{run['activation']} {run['precision']} seed {run['seed']}",
            "step": event["step"] if event else "–",
            "where": f"{event['layer']}, neuron {event['neuron']}" if event else "–",
            "control": f"{max(run['distance']['control']):g}",
        }
        for label in [label for label in run["distance"] if label != "control"]:
            distance = run["distance"][label]
            gradient = event["relative_gradient_difference"][label] if event else 0.0
            row[f"{label} gradient"] = f"{gradient:.2g}"
            row[f"{label} jump"] = f"{distance[event['step']] if event else 0.0:.2g}"
            row[f"{label} end"] = f"{distance[-1]:.2g}"
        rows.append(row)
    return pd.DataFrame(rows)
