//! Which text format a scraper asks for (RFC 9110 §12.5.1; Prometheus, "Content negotiation").

use http::HeaderMap;
use http::header::ACCEPT;

pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
pub(super) const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    OpenMetrics,
    Plain,
}

/// OpenMetrics where it is asked for by name and nothing else of ours is preferred to it.
pub(super) fn format(headers: &HeaderMap) -> Format {
    let (mut open_metrics, mut plain) = (0.0, 0.0);
    let ranges = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in ranges.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default().to_ascii_lowercase();
        let (mut quality, mut version) = (1.0, None);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                "q" => quality = value.trim().parse().unwrap_or(0.0),
                "version" => version = Some(value.trim().trim_matches('"')),
                _ => {}
            }
        }
        match (media.as_str(), version) {
            ("application/openmetrics-text", None | Some("1.0.0")) => {
                open_metrics = f32::max(open_metrics, quality);
            }
            ("text/plain", None | Some("0.0.4")) => plain = f32::max(plain, quality),
            _ => {}
        }
    }
    if open_metrics > 0.0 && open_metrics >= plain { Format::OpenMetrics } else { Format::Plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(accept: &'static str) -> Format {
        format(&HeaderMap::from_iter([(ACCEPT, http::HeaderValue::from_static(accept))]))
    }

    #[test]
    fn prometheus_gets_openmetrics() {
        let of_2_42 = "application/openmetrics-text;version=1.0.0,\
                       application/openmetrics-text;version=0.0.1;q=0.75,\
                       text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(asked(of_2_42), Format::OpenMetrics);
        let of_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                    application/openmetrics-text;version=0.0.1;q=0.4,\
                    text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,\
                    text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(asked(of_3), Format::OpenMetrics);
    }

    #[test]
    fn who_asks_for_nothing_or_anything_gets_the_older_format() {
        assert_eq!(format(&HeaderMap::new()), Format::Plain);
        assert_eq!(asked("*/*"), Format::Plain);
        assert_eq!(asked("text/html, */*;q=0.8"), Format::Plain);
    }

    #[test]
    fn a_preference_and_a_refusal_are_obeyed() {
        assert_eq!(asked("application/openmetrics-text;q=0.2, text/plain"), Format::Plain);
        assert_eq!(asked("application/openmetrics-text;q=0"), Format::Plain);
        assert_eq!(asked("application/openmetrics-text;version=0.0.1"), Format::Plain);
        assert_eq!(asked("Application/OpenMetrics-Text; version=\"1.0.0\""), Format::OpenMetrics);
    }

    #[test]
    fn garbage_gets_the_older_format() {
        assert_eq!(asked(";;,=;q=,application/openmetrics-text;q=NaN"), Format::Plain);
        assert_eq!(asked("application/openmetrics-text;q=x"), Format::Plain);
    }
}
