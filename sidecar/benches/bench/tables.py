"""The figures as tables: Markdown, with columns that line up in a terminal too."""

REFERENCES = ("envoy", "floor")  # the others' CPU time is printed as a multiple of theirs, both sides together


def row_table(row, found):
    """One row of the benchmark: what each pair cost in it."""
    title = f"### {row.name}\n\n{row.message}-byte messages" + (f", {row.answer}-byte answers" if row.answer else "")
    references = [name for name in REFERENCES if "both" in found.get(name, {})]
    head = (["", "outbound", "inbound", "both"] + [f"/ {name}" for name in references]
            + ["calls/s", "p50", "p99", "p99.9"] + [f"p99 / {name}" for name in references[:1]] + ["RSS after"])
    lines = []
    for name, one in found.items():
        line = [name]
        if "both" in one:
            line += [f"{one[key]:.1f} us" for key in ("outbound", "inbound", "both")]
            line += [f"{one['both'] / found[reference]['both']:.2f}" for reference in references]
        else:
            line += [""] * (3 + len(references))
        line += [f"{one['rate']:.0f}"] + [f"{one[key] / 1e3:.2f} ms" for key in ("p50", "p99", "p99.9")]
        line += [f"{one['p99'] / found[reference]['p99']:.2f}" for reference in references[:1]]
        line.append(f"{one['outbound MB']:.1f} + {one['inbound MB']:.1f} MB" if "both" in one else "")
        lines.append(line)
    return f"{title}\n\n{table(head, lines)}"


def memory_table(found, connections):
    """Each side's memory, outbound + inbound."""
    head = ["", "at rest", "peak, 1 GiB each way", f"growth, {connections} idle connections",
            "100,000 calls, lost"]
    lines = [[name] + [megabytes(one[key]) for key in ("rest", "stream", "idle")] + [str(one["lost"])]
             for name, one in found.items()]
    failed = [f"\n\n{name}, 1 GiB each way: {one['stream']}" for name, one in found.items()
              if isinstance(one["stream"], str)]
    return f"### Memory\n\noutbound + inbound\n\n{table(head, lines)}" + "".join(failed)


def megabytes(sides):
    return "failed" if isinstance(sides, str) else f"{sides['outbound']:.1f} + {sides['inbound']:.1f} MB"


def workers_table(results, names):
    """What a call costs with more workers, as a multiple of the first count, and how they share it."""
    head = [""] + [cell for name in names for cell in (name, "share")]
    lines = []
    for row, found in results.items():
        line = [row]
        for name in names:
            shares = [found[name].get(f"{side} share", 1.0) for side in ("outbound", "inbound")]
            line += [f"{found[name]['both'] / found[names[0]]['both']:.2f}",
                     " + ".join(f"{share * 100:.0f} %" for share in shares)]
        lines.append(line)
    return ("### Workers\n\nCPU time a call, both sides, and the share of it on the busiest worker (outbound + "
            f"inbound)\n\n{table(head, lines)}")


def table(head, lines):
    width = [max(3, *(len(line[at]) for line in [head, *lines])) for at in range(len(head))]
    shown = [head, ["-" * one for one in width], *lines]
    return "\n".join("| " + " | ".join(
        cell.ljust(one) if at == 0 else cell.rjust(one) for at, (cell, one) in enumerate(zip(line, width))) + " |"
        for line in shown)
