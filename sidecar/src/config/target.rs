//! What rules look at of a request: its path, in its normal form or as it came, and its headers.
//!
//! Apps read `//x`, `/%78` and `/./x` as `/x`, some of them at least. So a rule about `/x` is about
//! all of these, and nobody steps around it by another spelling; the app gets the path as it came.
//! Only what must not be stepped around looks at the path as it came, too: what makes a call
//! repeatable must not be about `/x/..%2Fdelete` for being about what is below `/x/`.

use std::cell::OnceCell;

use http::HeaderMap;
use http::request::Parts;

/// One request, as rules look at it.
#[derive(Debug)]
pub struct Target<'h> {
    path: &'h str,
    /// None inside: the path came in it. Found only where a rule asks for it.
    normal: OnceCell<Option<String>>,
    /// Its headers.
    pub headers: &'h HeaderMap,
}

impl<'h> Target<'h> {
    /// Of this request.
    pub fn of(head: &'h Parts) -> Self {
        Self { path: head.uri.path(), normal: OnceCell::new(), headers: &head.headers }
    }

    /// Its path as it came.
    pub(super) fn path(&self) -> &str {
        self.path
    }

    /// Its path in its normal form.
    pub(super) fn normal(&self) -> &str {
        self.normal.get_or_init(|| normal(self.path)).as_deref().unwrap_or(self.path)
    }
}

/// The normal form of a path; none where it is in it. Printable ASCII is not encoded, save `%`, all
/// else is; `\` is a slash; there are no empty segments, and no dot segments (RFC 3986, 6.2.2).
pub(super) fn normal(path: &str) -> Option<String> {
    if is_plain(path.as_bytes()) || !path.starts_with('/') {
        return None;
    }
    let decoded = decoded(path.as_bytes());
    let mut segments = Vec::new();
    let mut is_below = false;
    for segment in decoded.split('/') {
        is_below = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    let mut normal = String::with_capacity(decoded.len());
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    if is_below || segments.is_empty() {
        normal.push('/');
    }
    Some(normal)
}

/// Whether a path is in its normal form for certain: so are all of gRPC. Without branches, as
/// every call with a rule about it comes here.
fn is_plain(path: &[u8]) -> bool {
    let is_odd = |byte: u8| (byte == b'%') | (byte == b'\\') | !matches!(byte, 0x21..=0x7e);
    let odd = path.iter().fold(false, |odd, byte| odd | is_odd(*byte));
    let pairs = path.iter().zip(path.iter().skip(1));
    !pairs.fold(odd, |odd, (a, b)| odd | ((*a == b'/') & ((*b == b'/') | (*b == b'.'))))
}

fn decoded(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let [byte, after @ ..] = rest {
        let escaped = escaped(rest);
        rest = escaped.map_or(after, |_| after.get(2..).unwrap_or_default());
        match escaped.unwrap_or(*byte) {
            b'\\' => out.push('/'),
            b'%' => out.push_str("%25"),
            byte @ 0x21..=0x7e => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The byte that a text encodes at its beginning (RFC 3986, 2.1).
fn escaped(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()
}

/// Whether each `%` in a text encodes a byte.
pub(super) fn is_well_encoded(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut signs = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'%');
    signs.all(|(at, _)| bytes.get(at..).is_some_and(|rest| escaped(rest).is_some()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_apps_may_read_alike_has_one_normal_form() {
        for (path, expected) in [
            ("//x", "/x"),
            ("/%78", "/x"),
            ("/./x", "/x"),
            ("/y/../x", "/x"),
            ("/../../x", "/x"),
            ("/%2e%2E/x", "/x"),
            ("/y%2F..%2fx", "/x"),
            ("/y\\..%5cx", "/x"),
            ("///x///y/.", "/x/y/"),
            ("/x/y/..", "/x/"),
            ("/..", "/"),
            ("/%c3%a9 é", "/%C3%A9%20%C3%A9"),
            ("/%2541", "/%2541"),
            ("/%%34%31", "/%2541"),
            ("/%zz%", "/%25zz%25"),
        ] {
            assert_eq!(normal(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_is_in_its_normal_form_stays_as_it_is() {
        for path in ["/", "/a.v1.B/C", "/a/b.", "/a..b/", "/X", "*", "/a;b=c,d~e"] {
            assert_eq!(normal(path), None, "{path}");
        }
        for path in ["/.well-known/x", "/..a/...", "/%25", "/a%20"] {
            assert_eq!(normal(path).as_deref(), Some(path));
        }
    }

    proptest! {
        #[test]
        fn a_normal_form_is_its_own(path in "/([a-c./%\\\\]|%2[0-9a-fA-F]|\\PC){0,12}") {
            let once = normal(&path).unwrap_or(path);
            prop_assert_eq!(normal(&once).unwrap_or(once.clone()), once);
        }
    }
}
