//! What becomes of a call that is made twice: what may be sent again, and what may be sent twice at
//! the same time.

use http::Method;

/// What is known of a method's calls. Ordered: each may be repeated wherever the one before may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Idempotency {
    /// Nothing: twice may be once too often.
    #[default]
    Unknown,
    /// HTTP says of its verb that twice in a row has the effect of once (PUT, DELETE). Nobody said it
    /// of this method, where another call may come between: an old write that runs late undoes a
    /// newer one.
    ByVerb,
    /// Who wrote its proto or its route says that it may be made twice, or its verb that it changes
    /// nothing.
    Declared,
}

impl Idempotency {
    /// What HTTP says of its methods (RFC 9110, 9.2.1 and 9.2.2).
    pub fn of_http(method: &Method) -> Self {
        match (method.is_safe(), method.is_idempotent()) {
            (true, _) => Self::Declared,
            (false, true) => Self::ByVerb,
            (false, false) => Self::Unknown,
        }
    }

    /// What it is where the config says, or does not, that calls may be repeated.
    pub fn told(self, may_repeat: Option<bool>) -> Self {
        match may_repeat {
            Some(true) => Self::Declared,
            Some(false) => Self::Unknown,
            None => self,
        }
    }

    /// Whether a call may be made twice with the effect of once.
    pub fn may_repeat(self) -> bool {
        self >= Self::ByVerb
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_methods_are_what_their_rfc_says() {
        for (methods, expected) in [
            (
                &[Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE][..],
                Idempotency::Declared,
            ),
            (&[Method::PUT, Method::DELETE], Idempotency::ByVerb),
            (&[Method::POST, Method::PATCH, Method::CONNECT], Idempotency::Unknown),
        ] {
            for method in methods {
                assert_eq!(Idempotency::of_http(method), expected, "{method}");
            }
        }
    }

    #[test]
    fn a_config_lets_calls_be_repeated_or_forbids_it() {
        use Idempotency::{ByVerb, Declared, Unknown};
        for (known, told, expected) in [
            (Unknown, None, Unknown),
            (ByVerb, None, ByVerb),
            (Declared, None, Declared),
            (Unknown, Some(true), Declared),
            (ByVerb, Some(true), Declared),
            (Declared, Some(false), Unknown),
        ] {
            assert_eq!(known.told(told), expected, "{known:?}, {told:?}");
        }
    }
}
