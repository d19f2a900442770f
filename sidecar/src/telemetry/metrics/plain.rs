//! Prometheus' older text format 0.0.4, for whoever does not ask for OpenMetrics.
//!
//! The two differ in the lines about a metric: the older one puts a counter's `_total` and an
//! info's `_info` into the name, and knows neither the type info nor units nor an end.

/// OpenMetrics text, as [`Metrics::encode`](super::Metrics::encode) writes it, in format 0.0.4.
pub fn to_plain(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len());
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                other => ("", other),
            };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                push(&mut out, &["# HELP ", name, suffix, " ", help, "\n"]);
            }
            push(&mut out, &["# TYPE ", name, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            push(&mut out, &[line, "\n"]);
        }
    }
    out
}

fn push(out: &mut String, parts: &[&str]) {
    out.extend(parts.iter().copied());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_infos_carry_their_suffix_in_the_name() {
        let openmetrics = "# HELP a All a\n# TYPE a counter\na_total{x=\"# HELP\"} 1\n\
                           # HELP b B\n# TYPE b info\nb_info{v=\"1\"} 1\n\
                           # HELP c_seconds C\n# TYPE c_seconds gauge\n# UNIT c_seconds seconds\n\
                           c_seconds 2.5\n# EOF\n";
        let plain = "# HELP a_total All a\n# TYPE a_total counter\na_total{x=\"# HELP\"} 1\n\
                     # HELP b_info B\n# TYPE b_info gauge\nb_info{v=\"1\"} 1\n\
                     # HELP c_seconds C\n# TYPE c_seconds gauge\nc_seconds 2.5\n";
        assert_eq!(to_plain(openmetrics), plain);
    }
}
