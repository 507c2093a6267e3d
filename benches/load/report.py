"""The report: Markdown with the raw figures, and a plot for each group of rows."""

import pathlib
import platform
import subprocess

from bench import cpu_us

GROUPS = {
    "floor": "Against the floor",
    "engine": "Against floor and engine",
    "pressure": "Under pressure",
    "log": "The prediction log",
    "work": "All the work",
    "peers": "Against other servers",
}


def machine():
    model = "unknown processor"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return model


def said(*command, cwd=None):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=cwd)
    except OSError:
        return "unknown"
    return done.stdout.strip().splitlines()[0] if done.stdout.strip() else "unknown"


def write(bench, results, about):
    """Writes `<name>.md` and its plots; gives the path. `about` has name, command, folder and root."""
    folder, name = about["folder"], about["name"]
    folder.mkdir(parents=True, exist_ok=True)
    parts = [head(bench, about), summary(results)]
    for group, title in GROUPS.items():
        own = [result for result, of in results if of == group]
        if not own:
            continue
        parts.append(f"## {title}\n")
        bars = [bar for result in own for bar in result.bars]
        if bars:
            plot = folder / f"{name}-{group}.svg"
            plot.write_text(svg(title, bars))
            parts.append(f"![{title}]({plot.name})\n")
        parts.extend(section(result) for result in own)
    parts.append(raw(bench.runs))
    path = folder / f"{name}.md"
    path.write_text("\n".join(parts))
    return path


def head(bench, about):
    commit = said("git", "rev-parse", "--short", "HEAD", cwd=about["root"])
    changed = " and changes that are not committed" if said("git", "status", "--porcelain", cwd=about["root"]) != "unknown" else ""
    options = bench.options
    return f"""# {about["date"]}, load: {bench.cores} cores of {machine()}, Linux {platform.release()}

`{about["command"]}`

Commit {commit}{changed}; {said("rustc", "--version")}; Python {platform.python_version()}. Load average before: {about["load"]}.
{options.rounds} rounds of {options.seconds:g} s each, subjects by turns; a ratio is the median over the rounds of what was measured
side by side, with the smallest and the largest behind it. Generator and servers share the {bench.cores} cores. What the rows mean and how they
are measured: [benches/README.md](../README.md).
"""


def verdict(result):
    if result.reason:
        return "not measured"
    return {None: "", True: "met", False: "**missed**"}[result.met]


def summary(results):
    lines = ["## What was shown\n", "| Row | Claim | Goal | Measured | |", "|---|---|---|---|---|"]
    for result, _ in results:
        measured = result.reason or result.measured
        lines.append(f"| {result.name} | {result.claim} | {result.goal} | {cell(measured)} | {verdict(result)} |")
    return "\n".join(lines) + "\n"


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


def section(result):
    lines = [f"### {result.name}: {result.claim}\n"]
    if result.goal:
        lines.append(f"Goal: {result.goal}. {verdict(result)}\n")
    lines.append((f"Not measured: {result.reason}" if result.reason else result.measured) + "\n")
    lines.extend(f"- {cell(note)}" for note in result.notes)
    return "\n".join(lines) + "\n"


# ---- raw figures ----


def raw(runs):
    lines = [
        "## Raw figures\n",
        "Latencies in µs. `cpu` is the server's processor time a request in µs, `gen` the generator's share of a core.\n",
        "| Row | Subject | Round | per s | p50 | p90 | p99 | p99.9 | max | ok | refused | failed | not sent | cpu | gen |",
        "|---|---|---:" + "|---:" * 12 + "|",
    ]
    engines = [
        "",
        "The engine in a loop:\n",
        "| Row | Subject | Round | rows/s | run p50 µs | run p99 µs | processor µs a row |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for run in runs:
        if "rps" in run.figures:
            lines.append(load_line(run))
        else:
            figures = run.figures
            engines.append(
                f"| {run.row} | {run.subject} | {run.round} | {figures['rows_per_s']:,.0f} | {figures['run_p50_us']:,.1f} "
                f"| {figures['run_p99_us']:,.1f} | {figures['cpu_us_per_row']:,.2f} |"
            )
    return "\n".join(lines + (engines if len(engines) > 4 else [])) + "\n"


def load_line(run):
    figures = run.figures
    latency = figures["latency_us"] or {}
    each = [f"{latency[key]:,.0f}" if key in latency else "" for key in ("p50", "p90", "p99", "p999", "max")]
    counts = [f"{figures[key]:,}" for key in ("ok", "refused", "failed", "overflow")]
    shares = [f"{cpu_us(figures):.1f}", f"{figures['generator_cpu_s'] / figures['seconds']:.2f}"]
    columns = [run.row, run.subject, str(run.round), f"{figures['rps']:,.0f}", *each, *counts, *shares]
    return "| " + " | ".join(columns) + " |"


# ---- plots ----

LEFT, WIDTH, STEP, TOP = 330, 420, 24, 46


def svg(title, bars):
    """Bars of ratios, each with its goal as a line. Where they span decades, on a logarithmic scale."""
    import math

    largest = max(max(value, goal or 0) for _, value, goal in bars)
    smallest = min(value for _, value, _ in bars)
    decades = largest > 10 and smallest > 0
    low = min(1.0, smallest) / 2 if decades else 0.0
    high = largest * 1.15 if decades else max(1.0, largest) * 1.08

    def place(value):
        if decades:
            return WIDTH * math.log(value / low) / math.log(high / low)
        return WIDTH * value / high

    height = TOP + STEP * len(bars) + 24
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="12" y="22" font-size="15">{text(title)}</text>',
        f'<text x="{LEFT}" y="38" fill="#666">ratio{", logarithmic" if decades else ""}; a red line is the goal</text>',
    ]
    for number, (label, value, goal) in enumerate(bars):
        y = TOP + STEP * number
        color = "#888" if goal is None else "#2a7" if value >= goal else "#d70"
        out.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{text(label)}</text>')
        out.append(f'<rect x="{LEFT}" y="{y + 3}" width="{max(1, place(value)):.1f}" height="{STEP - 8}" fill="{color}"/>')
        out.append(f'<text x="{LEFT + place(value) + 5:.1f}" y="{y + 14}">{value:.3g}</text>')
        if goal:
            x = LEFT + place(goal)
            out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + STEP - 2}" stroke="#c00" stroke-width="2"/>')
    return "\n".join([*out, "</svg>"]) + "\n"


def text(words):
    return words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
