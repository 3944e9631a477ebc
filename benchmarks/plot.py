"""The plot of the page: for each path a group of bars, ours beside the peers, on a logarithmic scale.

Law: the same results and the same matplotlib give the same file, byte for byte; text stays text.
"""

from __future__ import annotations

from benchmarks.page import OURS, PAGE, by_path, cost, kept, unit

PLOT = PAGE.with_suffix(".svg")
OURS_COLOUR, THEIR_COLOUR = "#1f6f8b", "#b8b8b8"


def bars() -> list[tuple[str, float, bool]]:
    """Label, cost and whether it is ours, of every path that has a peer; groups are set apart by an empty one."""
    found: list[tuple[str, float, bool]] = []
    for result in kept().values():
        for path, rows in by_path(result["rows"]).items():
            if len(rows) > 1:
                found += [
                    (
                        f"{path}: {row['contender']} ({cost(row):.3g} {unit(row)})",
                        cost(row),
                        row["contender"].startswith(OURS),
                    )
                    for row in rows
                ]
                found.append(("", 0.0, False))
    return found[:-1]


def write() -> None:
    """Draw it; without matplotlib the plot that is there stays."""
    try:
        import matplotlib as mpl  # noqa: PLC0415 - in the extra `bench`
    except ImportError:
        print("no matplotlib: the plot was not drawn")
        return
    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after its backend is chosen

    shown = bars()
    with mpl.rc_context({"svg.hashsalt": "unimsg", "svg.fonttype": "none", "font.size": 8}):
        figure, axes = plt.subplots(figsize=(10, 0.17 * len(shown) + 0.8), layout="constrained")
        places = range(len(shown))
        colours = [OURS_COLOUR if ours else THEIR_COLOUR for _, _, ours in shown]
        axes.barh(
            list(places), [max(value, 1e-3) if label else 1e-3 for label, value, _ in shown], color=colours
        )
        axes.set_yticks(
            [place for place in places if shown[place][0]], [label for label, _, _ in shown if label]
        )
        axes.set_xscale("log")
        axes.set_xlim(left=0.01)
        axes.invert_yaxis()
        axes.set_xlabel("cost, less is better; units stand with each bar")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        figure.savefig(PLOT, metadata={"Date": None, "Creator": None})
        plt.close(figure)
