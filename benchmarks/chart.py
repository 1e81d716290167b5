"""Draws the chart of the report: for each workload, how many times faster ramify is than each peer."""

from __future__ import annotations

from pathlib import Path

COLOURS = ("#0b6e99", "#4fa3c7", "#b3541e", "#e08e4f", "#3c7a3c", "#86b886", "#7a7a7a", "#b9a7d1")


def draw(
    workloads: list[str],
    ratios: dict[str, dict[str, float]],
    bars: dict[str, float],
    labels: dict[str, str],
    target: Path,
) -> None:
    """Write a PNG with a group of bars for each workload on a logarithmic scale; the dashes are what we aim at.

    `ratios`: peer title -> workload -> our speed over the peer's; `labels`: what a group is called below.
    Needs matplotlib (the `bench` extra).
    """
    import matplotlib  # the drawing alone needs it, and measuring should work without

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    peers = [peer for peer, values in ratios.items() if values]
    width = 0.84 / max(1, len(peers))
    everything = [value for values in ratios.values() for value in values.values()] + list(bars.values()) + [1.0]
    with pyplot.style.context("default"):
        figure, axes = pyplot.subplots(figsize=(11, 4.8), dpi=150)
        for index, peer in enumerate(peers):
            places = [position for position, name in enumerate(workloads) if name in ratios[peer]]
            heights = [ratios[peer][workloads[position]] for position in places]
            left = [position - 0.42 + width * (index + 0.5) for position in places]
            colour = COLOURS[index % len(COLOURS)]
            axes.bar(left, [h - 1 for h in heights], width * 0.92, bottom=1, color=colour, label=peer, zorder=2)
        for position, name in enumerate(workloads):
            found = [values[name] for values in ratios.values() if name in values]
            if found:
                axes.text(position, max(found) * 1.06, f"{min(found):.2g}x", ha="center", weight="bold", fontsize=9)
            if name in bars:
                axes.hlines(bars[name], position - 0.45, position + 0.45, "#c22", "dashed", lw=1.4, zorder=3)
        axes.plot(
            [],
            [],
            "--",
            color="#c22",
            label="our bar against the best peer; the number above a group is what it is today",
        )
        axes.axhline(1.0, color="black", lw=1, zorder=3)
        axes.set_yscale("log")
        axes.set_ylim(min(1.0, *everything) / 1.3, max(everything) * 1.35)
        ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if min(everything) / 1.3 <= tick]
        axes.yaxis.set_major_locator(FixedLocator(ticks))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda tick, _: f"{tick:g}x"))
        axes.set_xticks(range(len(workloads)), [labels.get(name, name) for name in workloads], fontsize=8.5)
        axes.set_ylabel("ramify's speed over the peer's")
        axes.set_title(
            "How many times faster ramify is than each peer (log scale; above 1x we are faster)", fontsize=11
        )
        axes.grid(axis="y", color="#ddd", zorder=0)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=3, frameon=False, fontsize=8.5)
        figure.tight_layout()
        figure.savefig(target)
        pyplot.close(figure)
