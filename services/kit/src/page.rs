//! Pages of a list: how many, and after which one.
//!
//! A token says after which ID the next page starts, and of which list. It is opaque to callers,
//! and good only for the list that made it: the same service, method and filter.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use tonic::Status;

use crate::invalid;

/// Of the token's own form: raised when that changes, so that old tokens are refused, not misread.
const VERSION: u8 = 1;
const DEFAULT_SIZE: u16 = 50;
const MAX_SIZE: u16 = 1_000;

/// One page of the list `scope`, as a request asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    scope: String,
    size: u16,
    after: i64,
}

impl Page {
    /// Reads `page_size` and `page_token`. A size of 0 is 50, one above 1,000 is 1,000 (AIP-158);
    /// INVALID_ARGUMENT for a negative size, and for a token that this list did not make.
    pub fn parse(scope: &str, page_size: i32, page_token: &str) -> Result<Self, Status> {
        let size = match page_size {
            0 => DEFAULT_SIZE,
            size => u16::try_from(size.min(i32::from(MAX_SIZE))).map_err(|_| {
                invalid("page_size", format_args!("found {size}, expected 0 to {MAX_SIZE}"))
            })?,
        };
        let after = match page_token {
            "" => 0,
            token => read(scope, token).ok_or_else(|| {
                let why =
                    "not a token of this list, expected the one of the page before, or nothing";
                invalid("page_token", why)
            })?,
        };
        Ok(Self { scope: scope.to_owned(), size, after })
    }

    /// The page holds what comes after this ID.
    pub fn after(&self) -> i64 {
        self.after
    }

    /// How many rows to read: one more than the page holds, which tells whether another follows.
    pub fn rows(&self) -> i64 {
        i64::from(self.size) + 1
    }

    /// Cuts what was read to the page; with it goes the token of the next one, where more follows.
    pub fn cut<T>(&self, mut rows: Vec<T>, id: impl Fn(&T) -> i64) -> (Vec<T>, Option<String>) {
        let more = rows.len() > usize::from(self.size);
        rows.truncate(usize::from(self.size));
        let token = rows.last().filter(|_| more).map(|last| write(&self.scope, id(last)));
        (rows, token)
    }
}

fn write(scope: &str, after: i64) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(after.to_be_bytes());
    bytes.extend(scope.as_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read(scope: &str, token: &str) -> Option<i64> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (&VERSION, rest) = bytes.split_first()? else { return None };
    let (after, of) = rest.split_first_chunk()?;
    let after = i64::from_be_bytes(*after);
    (of == scope.as_bytes() && after > 0).then_some(after)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn token(scope: &str) -> String {
        let page = Page::parse(scope, 2, "").unwrap();
        page.cut(vec![7, 8, 9], |id| *id).1.unwrap()
    }

    #[test]
    fn a_token_leads_to_what_follows_its_page() {
        let next = Page::parse("users", 2, &token("users")).unwrap();
        assert_eq!(next.after(), 8);
        assert_eq!(next.rows(), 3);
    }

    #[test]
    fn the_last_page_has_no_token() {
        let page = Page::parse("users", 3, "").unwrap();
        assert_eq!(page.cut(vec![7, 8, 9], |id| *id), (vec![7, 8, 9], None));
        assert_eq!(page.cut(vec![], |id| *id), (vec![], None));
    }

    #[test]
    fn a_size_has_a_default_and_a_cap() {
        let rows = |size| Page::parse("users", size, "").map(|page| page.rows());
        assert_eq!(rows(0).unwrap(), 51);
        assert_eq!(rows(1_000).unwrap(), 1_001);
        assert_eq!(rows(i32::MAX).unwrap(), 1_001);
        let refused = rows(-1).unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert_eq!(refused.message(), "page_size: found -1, expected 0 to 1000");
    }

    #[test]
    fn a_token_of_another_list_or_of_nobody_is_refused() {
        let mut bytes = URL_SAFE_NO_PAD.decode(token("users")).unwrap();
        bytes[0] = VERSION + 1;
        let newer = URL_SAFE_NO_PAD.encode(bytes);
        for garbage in [token("orders:1"), newer, write("users", -1), "é!".into(), "AA".into()] {
            let refused = Page::parse("users", 2, &garbage).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{garbage:?}");
            assert!(refused.message().starts_with("page_token: "), "{}", refused.message());
        }
    }
}
