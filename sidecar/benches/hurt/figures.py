"""What the calls of one run say, and the tables of it."""

from collections import Counter

from bench.tables import table

LONG = 250  # ms
MOST = 8  # reasons that are told of each


def percentile(ascending, per_mille):
    return ascending[min(len(ascending) - 1, len(ascending) * per_mille // 1000)] if ascending else 0.0


def figures(calls, later):
    """Of calls as `load` wrote them; `later` is the second from which the hurt should be dealt with."""
    took = sorted(call["ms"] for call in calls)
    after = sorted(call["ms"] for call in calls if call["due"] >= later)
    failed = [call for call in calls if call["status"] != 0]
    return {
        "calls": len(calls),
        "failed": len(failed),
        "statuses": Counter(call["status"] for call in failed),
        "reasons": reasons(failed),
        "p50": percentile(took, 500), "p99": percentile(took, 990), "max": took[-1] if took else 0.0,
        "later p99": percentile(after, 990),
        "later long": sum(ms > LONG for ms in after) / max(1, len(after)),
    }


def reasons(failed):
    """Why calls failed: of each reason how many, and when the first and the last of them was due."""
    found = {}
    for call in failed:
        reason = " ".join(filter(None, [str(call["status"]), call["reason"], call["message"]]))[:200]
        found.setdefault(reason, []).append(call["due"])
    return [{"reason": reason, "calls": len(due), "first": min(due), "last": max(due)}
            for reason, due in sorted(found.items(), key=lambda one: -len(one[1]))]


def row_table(row, found, later):
    head = ["", "calls", "failed", "statuses", "p50", "p99", "max", f"p99 from {later:g} s",
            f"over {LONG} ms from {later:g} s"]
    lines = []
    for name, one in found.items():
        statuses = ", ".join(f"{count} x {status}" for status, count in sorted(one["statuses"].items()))
        lines.append([name, str(one["calls"]), f"{one['failed'] / max(1, one['calls']) * 100:.2f} %", statuses]
                     + [f"{one[key]:.0f} ms" for key in ("p50", "p99", "max", "later p99")]
                     + [f"{one['later long'] * 100:.2f} %"])
    why = [f"- {name}, {one['calls']} x {one['reason']}, due at {one['first']:.2f} to {one['last']:.2f} s"
           for name, each in found.items() for one in each["reasons"][:MOST]]
    return "\n".join([f"### {row.name}\n\n{table(head, lines)}", *([""] + why if why else [])])
