//! Settings, all of them from the environment: `ADDR`, `DATABASE_URL`, `OUTBOUND`.
//!
//! A value that cannot be used is refused at the start, by the variable's name.

use std::{collections::HashMap, fmt, net::SocketAddr, path::PathBuf};

use http::Uri;

/// The variables that a service was started with.
#[derive(Clone, Debug, Default)]
pub struct Environment(HashMap<String, String>);

/// A variable whose value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadVariable {
    name: &'static str,
    found: String,
    expected: &'static str,
}

/// Where a service keeps its data.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of its own, which may be shared by instances on one machine.
    Sqlite(PathBuf),
    /// A PostgreSQL server, by its URL. It may hold a password, and so is never shown.
    Postgres(String),
}

impl Environment {
    /// The process's own.
    pub fn of_process() -> Self {
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))).collect())
    }

    /// One made of these variables.
    pub fn from_variables<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(variables.into_iter().map(owned).collect())
    }

    /// `ADDR`: where to listen, on loopback alone, since whoever reaches a bare service may call
    /// it. Port 0 lets the system choose.
    pub fn address(&self, default: SocketAddr) -> Result<SocketAddr, BadVariable> {
        self.read("ADDR", default, "a loopback address with a port, for example 127.0.0.1:50051", {
            |found| found.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback())
        })
    }

    /// `DATABASE_URL`: a file (`sqlite:PATH`) or a server (`postgres://…`).
    pub fn database(&self, default: &str) -> Result<Database, BadVariable> {
        let default = Database::Sqlite(PathBuf::from(default));
        self.read("DATABASE_URL", default, "sqlite:PATH or postgres://USER@HOST/NAME", |found| {
            if found.starts_with("postgres://") || found.starts_with("postgresql://") {
                return found.parse::<Uri>().ok().map(|_| Database::Postgres(found.to_owned()));
            }
            let path = found.strip_prefix("sqlite:")?;
            let path = path.strip_prefix("//").unwrap_or(path);
            // What a URL gives a meaning of its own, and SQLite's own names for no file at all.
            let plain = !path.contains(['?', '#', '%', '\0']) && !path.starts_with(':');
            (plain && !path.is_empty()).then(|| Database::Sqlite(PathBuf::from(path)))
        })
    }

    /// `OUTBOUND`: the outbound port of the sidecar, for calls to other services.
    pub fn outbound(&self) -> Result<Uri, BadVariable> {
        let default = Uri::from_static("http://127.0.0.1:15001");
        self.read("OUTBOUND", default, "the URL of a port, for example http://127.0.0.1:15001", {
            |found| {
                let uri: Uri = found.parse().ok()?;
                let plain = uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/");
                (plain && uri.query().is_none() && uri.port_u16()? != 0).then_some(uri)
            }
        })
    }

    fn read<T>(
        &self,
        name: &'static str,
        default: T,
        expected: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, BadVariable> {
        let Some(found) = self.0.get(name) else { return Ok(default) };
        parse(found).ok_or_else(|| BadVariable { name, found: without_user(found), expected })
    }
}

/// The value as it may be shown: what stands before an `@` may be a password.
fn without_user(found: &str) -> String {
    match found.rsplit_once('@') {
        Some((_, rest)) => format!("…@{rest}"),
        None => found.to_owned(),
    }
}

impl fmt::Display for BadVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, found, expected } = self;
        write!(f, "{name}: found {found:?}, expected {expected}")
    }
}

impl std::error::Error for BadVariable {}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(_) => write!(f, "postgres"),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
