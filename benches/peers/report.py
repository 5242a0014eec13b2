"""The tables, as Markdown: medians, spreads, ratios within the run, and the bars that Tollgate is held to."""

from __future__ import annotations

from statistics import median
from typing import Callable

TITLES = {
    "nginx": "nginx, plain",
    "haproxy": "HAProxy, plain",
    "haproxy-hs256": "HAProxy, `jwt_verify` HS256",
    "haproxy-rs256": "HAProxy, `jwt_verify` RS256",
    "haproxy-es256": "HAProxy, `jwt_verify` ES256",
    "envoy-rs256": "Envoy, `jwt_authn` RS256 with token cache",
    "tollgate-public": "**Tollgate**, public route",
    "tollgate-one": "**Tollgate**, verified, one token",
    "tollgate-rs256": "**Tollgate**, verified, all tokens",
    "envoy": "Envoy",
    "tollgate": "**Tollgate**",
}
# The storm whose ratio counts: the process as people deploy it.
STORM_OF_THE_BAR = "default workers, not pinned, full load"


def markdown(results: dict) -> str:
    """Everything that was measured; a table without rows is left out."""
    parts = [header(results), requests(results), downloads(results), memory(results), storms(results), bars(results)]
    if results["errors"]:
        parts.append("## Errors\n\n" + "\n".join(f"- {error}" for error in results["errors"]))
    return "\n\n".join(part for part in parts if part)


def header(results: dict) -> str:
    options = results["options"]
    programs = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    count = "One round" if options["rounds"] == 1 else f"Median of {options['rounds']} interleaved rounds"
    others = "the other" if options["cores"] == 2 else "the others"
    return (
        f"# Side by side\n\n{count} of {options['seconds']:g} s; {options['connections']} keep-alive connections; "
        f"{options['tokens']} different tokens per algorithm; each proxy on one core, load and upstream on {others} of "
        f"{options['cores']}. Only ratios within one run mean something. Load average before: "
        f"{results['load_before']:.2f}; the spread in brackets shows what else was running.\n\n{programs}."
    )


def spread(values: list[float], form: Callable[[float], str]) -> str:
    """The median, and from where to where the rounds went."""
    text = form(median(values))
    return text if len(values) == 1 else f"{text} ({form(min(values))}..{form(max(values))})"


def ratio(of: list[float] | None, to: list[float] | None) -> float | None:
    """Between medians; None if one of them was not measured."""
    return median(of) / median(to) if of and to and median(to) > 0 else None


def shown(value: float | None, unit: str = "x") -> str:
    return "" if value is None else f"{value:.2f}{unit}"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Numbers to the right of the first column, aligned right."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def cpu(results: dict, row: str) -> list[float] | None:
    samples = results["rows"].get(row)
    return [sample.cpu_us for sample in samples] if samples else None


def requests(results: dict) -> str:
    if not results["rows"]:
        return ""
    lines = []
    for name, samples in results["rows"].items():
        own = cpu(results, name)
        lines.append([
            TITLES[name],
            spread(own, lambda value: f"{value:.1f}"),
            shown(ratio(own, cpu(results, "nginx"))),
            shown(ratio(own, cpu(results, "haproxy-hs256"))),
            spread([sample.requests_per_second for sample in samples], lambda value: f"{value:.0f}"),
            spread([sample.p50_us / 1000 for sample in samples], lambda value: f"{value:.2f}"),
            spread([sample.p99_us / 1000 for sample in samples], lambda value: f"{value:.2f}"),
            f"{100 * median([sample.busy for sample in samples]):.0f} %",
        ])
    text = "## Requests\n\n" + table(
        ["proxy", "CPU us/request", "to nginx", "to HAProxy HS256", "requests/s", "p50 ms", "p99 ms", "core busy"], lines
    )
    text += "\n\nEvery answer was 200 and came from the upstream"
    if any(name not in ("nginx", "haproxy", "tollgate-public") for name in results["rows"]):
        text += ", which saw all three identity headers on each request of the verifying rows"
    text += "."
    if results["access_lines"]:
        written = sum(entry["lines"] for entry in results["access_lines"])
        asked = sum(entry["requests"] for entry in results["access_lines"])
        text += f" Tollgate wrote {written} access lines for {asked} requests, warm-up included."
    return text


def downloads(results: dict) -> str:
    if not results["download"]:
        return ""
    envoy = results["download"].get("envoy")
    gigabytes = results["options"]["download_bytes"] / 1e9
    return f"## One download of {gigabytes:g} GB\n\n" + table(
        ["proxy", "CPU s/GB", "to Envoy"],
        [[TITLES[kind], spread(values, lambda value: f"{value:.2f}"), shown(ratio(values, envoy))]
         for kind, values in results["download"].items()],
    )


def memory(results: dict) -> str:
    parts = []
    if results["download_memory"]:
        parts.append("## Memory while 20 downloads run\n\n" + table(
            ["proxy", "growth, slow readers, MB", "growth, fast readers, MB"],
            [[TITLES[kind], *(spread([value[readers] / 1e6 for value in values], lambda value: f"{value:.1f}")
                              for readers in ("slow", "fast"))] for kind, values in results["download_memory"].items()],
        ))
    if results["idle"]:
        count = results["options"]["idle_connections"]
        parts.append(f"## Memory of an idle keep-alive connection\n\nOf {count}, after one request each.\n\n" + table(
            ["proxy", "KB each"],
            [[TITLES[kind], spread([value / 1024 for value in values], lambda value: f"{value:.1f}")]
             for kind, values in results["idle"].items()],
        ))
    return "\n\n".join(parts)


def storm_ratios(results: dict, name: str) -> list[float] | None:
    samples = results["storm"].get(name)
    return [sample["during"]["p99_us"] / sample["without"]["p99_us"] for sample in samples] if samples else None


def storms(results: dict) -> str:
    if not results["storm"]:
        return ""
    lines = []
    for name, samples in results["storm"].items():
        logins: dict[int, int] = {}
        for sample in samples:
            for status, count in sample["logins"].items():
                logins[status] = logins.get(status, 0) + count
        lines.append([
            name,
            *(spread([sample[when]["p99_us"] / 1000 for sample in samples], lambda value: f"{value:.2f}")
              for when in ("without", "during")),
            spread(storm_ratios(results, name), lambda value: f"{value:.2f}x"),
            *(f"{median([sample[when]['requests_per_second'] for sample in samples]):.0f}" for when in ("without", "during")),
            ", ".join(f"{count} of {status}" for status, count in sorted(logins.items())),
        ])
    return "## Forwarding during a login storm\n\n" + table(
        ["Tollgate", "p99 ms without", "p99 ms during", "ratio", "requests/s without", "during", "logins answered"], lines
    )


def bars(results: dict) -> str:
    """What Tollgate is held to. A bar whose value is missing is not listed."""
    if not any("tollgate" in results[part] or any(name.startswith("tollgate") for name in results[part])
               for part in ("rows", "download", "download_memory", "idle")) and not results["storm"]:
        return ""
    verified = cpu(results, "tollgate-rs256")
    growth = results["download_memory"].get("tollgate")
    idle = results["idle"].get("tollgate")
    storm = storm_ratios(results, STORM_OF_THE_BAR)
    download = ratio(results["download"].get("tollgate"), results["download"].get("envoy"))
    # What, value, bar, goal (None: no further goal), unit. Lower is better everywhere.
    held: list[tuple[str, float | None, float, float | None, str]] = [
        ("CPU per request, verified, to HAProxy HS256", ratio(verified, cpu(results, "haproxy-hs256")), 0.9, 0.65, "x"),
        ("CPU per request, verified, to HAProxy RS256", ratio(verified, cpu(results, "haproxy-rs256")), 0.4, None, "x"),
        ("CPU per request, verified, to nginx plain", ratio(verified, cpu(results, "nginx")), 1.7, 1.25, "x"),
        (f"p99 during a login storm to without ({STORM_OF_THE_BAR})", median(storm) if storm else None, 2.0, 1.2, "x"),
        ("CPU of a download, to Envoy", download, 2.0, 1.0, "x"),
        ("Memory growth while 20 downloads run",
         median([max(value.values()) for value in growth]) / 1e6 if growth else None, 8.0, None, " MB"),
        ("Memory of an idle connection", median(idle) / 1024 if idle else None, 20.0, 4.0, " KB"),
    ]
    lines = [
        [what, shown(value, unit), f"{bar:g}{unit}", "" if goal is None else f"{goal:g}{unit}",
         "no" if value > bar else "yes" if goal is None or value > goal else "yes, and the goal"]
        for what, value, bar, goal, unit in held if value is not None
    ]
    return "## Bars\n\n" + table(["what", "value", "bar", "goal", "reached"], lines) if lines else ""
