//! The ACL token: given, or kept in a file that is read again when it changes.
//!
//! Its text appears in no `Debug` output, error or log line.

use std::{
    fmt, fs, io,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use crate::Error;

/// Where the ACL token comes from.
#[derive(Clone, Default)]
pub enum Token {
    /// None: Consul's anonymous token.
    #[default]
    Anonymous,
    /// The token itself.
    Secret(String),
    /// A file that holds it, with or without a final line break.
    File(PathBuf),
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Token::Anonymous => f.write_str("Anonymous"),
            Token::Secret(_) => f.write_str("Secret(…)"),
            Token::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// Hands out the token that holds now.
pub(crate) struct TokenSource {
    token: Token,
    read: Mutex<Option<Read>>,
}

struct Read {
    changed: Option<SystemTime>,
    length: u64,
    secret: String,
}

impl TokenSource {
    pub(crate) fn new(token: Token) -> TokenSource {
        TokenSource { token, read: Mutex::new(None) }
    }

    /// The token for a request that goes out now. A file that has become unreadable leaves the
    /// last token in force: it is Consul that judges tokens.
    pub(crate) fn current(&self) -> Result<Option<String>, Error> {
        let path = match &self.token {
            Token::Anonymous => return Ok(None),
            Token::Secret(secret) => return Ok(Some(secret.clone())),
            Token::File(path) => path,
        };
        let mut kept = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match read_if_changed(path, kept.as_ref()) {
            Ok(Some(new)) => *kept = Some(new),
            Ok(None) => {}
            Err(source) if kept.is_none() => {
                return Err(Error::TokenFile { path: path.clone(), source });
            }
            Err(error) => tracing::warn!(
                path = %path.display(), %error,
                "the Consul token file cannot be read; the token read before stays in use"
            ),
        }
        Ok(kept.as_ref().map(|read| read.secret.clone()))
    }
}

fn read_if_changed(path: &PathBuf, kept: Option<&Read>) -> io::Result<Option<Read>> {
    let metadata = fs::metadata(path)?;
    let (changed, length) = (metadata.modified().ok(), metadata.len());
    if kept.is_some_and(|kept| kept.changed == changed && kept.length == length) {
        return Ok(None);
    }
    let secret = fs::read_to_string(path)?.trim().to_owned();
    if secret.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
    }
    Ok(Some(Read { changed, length, secret }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_is_read_again_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "one\n").unwrap();
        let source = TokenSource::new(Token::File(path.clone()));
        assert_eq!(source.current().unwrap().as_deref(), Some("one"));
        fs::write(&path, "second\n").unwrap();
        assert_eq!(source.current().unwrap().as_deref(), Some("second"));
        fs::remove_file(&path).unwrap();
        assert_eq!(source.current().unwrap().as_deref(), Some("second"), "the last one holds");
    }

    #[test]
    fn a_missing_or_empty_token_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let source = TokenSource::new(Token::File(path.clone()));
        let error = source.current().unwrap_err().to_string();
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        fs::write(&path, "\n").unwrap();
        let error = source.current().unwrap_err().to_string();
        assert!(error.contains("empty"), "{error}");
    }

    #[test]
    fn a_token_is_never_printed() {
        assert!(!format!("{:?}", Token::Secret("s3cret".into())).contains("s3cret"));
    }
}
