//! How to reach Consul: given, or from the `CONSUL_*` variables that its own tools honour.
//!
//! An error names the variable, what was found and what was expected; a token is never shown.

use std::{env, fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use crate::Token;

/// How to reach Consul.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the agent listens.
    pub address: Address,
    /// The ACL token.
    pub token: Token,
    /// TLS, where the address asks for it.
    pub tls: Tls,
    /// Asked of every request (`dc`); the agent's own where it is `None`.
    pub datacenter: Option<String>,
    /// Asked of every request (`ns`); Enterprise alone knows it.
    pub namespace: Option<String>,
    /// Asked of every request (`partition`); Enterprise alone knows it.
    pub partition: Option<String>,
    /// To the end of the TLS handshake.
    pub connect_timeout: Duration,
    /// From the request's first byte to the answer's last; a blocking query's wait comes on top.
    pub request_timeout: Duration,
    /// The largest answer that is read, in bytes.
    pub max_body: usize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            address: Address::default(),
            token: Token::Anonymous,
            tls: Tls::default(),
            datacenter: None,
            namespace: None,
            partition: None,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
            max_body: 64 << 20,
        }
    }
}

/// TLS to the agent: files are read once, when the client is made.
#[derive(Clone, Debug)]
pub struct Tls {
    /// A PEM file of roots; the system's bundle where neither this nor `ca_path` is set.
    pub ca_file: Option<PathBuf>,
    /// A directory of such files.
    pub ca_path: Option<PathBuf>,
    /// The client's certificate and key, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
    /// The name to verify, where it is not the address's host.
    pub server_name: Option<String>,
    /// False accepts any certificate: for experiments alone.
    pub verify: bool,
}

impl Default for Tls {
    fn default() -> Tls {
        Tls { ca_file: None, ca_path: None, client: None, server_name: None, verify: true }
    }
}

/// Where an agent listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// HTTP or HTTPS over TCP.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// Its port.
        port: u16,
        /// `https://`.
        tls: bool,
    },
    /// HTTP over a unix socket.
    Unix(PathBuf),
}

impl Default for Address {
    fn default() -> Address {
        Address::Tcp { host: "127.0.0.1".into(), port: 8500, tls: false }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port, tls } => {
                let scheme = if *tls { "https" } else { "http" };
                match host.parse::<IpAddr>() {
                    Ok(IpAddr::V6(ip)) => write!(f, "{scheme}://[{ip}]:{port}"),
                    _ => write!(f, "{scheme}://{host}:{port}"),
                }
            }
            Address::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// `host:port`, `http://host[:port]`, `https://host[:port]` or `unix:///path`.
    fn from_str(text: &str) -> Result<Address, String> {
        let expected =
            || "host:port, http://host:port, https://host:port or unix:///absolute/path".to_owned();
        if let Some(path) = text.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Address::Unix(path)) } else { Err(expected()) };
        }
        let (tls, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) => return Err(expected()),
        };
        let authority: http::uri::Authority =
            rest.trim_end_matches('/').parse().map_err(|_| expected())?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(expected());
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // A bare `host:` or `host:99999` has a port that does not parse.
            None if authority.as_str().trim_end_matches(']').ends_with(host) => 8500,
            None => return Err(expected()),
        };
        Ok(Address::Tcp { host: host.to_owned(), port, tls })
    }
}

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: found {found}, expected {expected}")]
pub struct ConfigError {
    /// The variable, or the field of [`Config`].
    pub setting: String,
    /// What was found; a token is never shown.
    pub found: String,
    /// What would have been right.
    pub expected: String,
}

impl ConfigError {
    pub(crate) fn new(setting: &str, found: impl fmt::Display, expected: &str) -> ConfigError {
        ConfigError {
            setting: setting.to_owned(),
            found: found.to_string(),
            expected: expected.to_owned(),
        }
    }
}

impl Config {
    /// From the environment: the variables that Consul's own CLI honours.
    pub fn from_env() -> Result<Config, ConfigError> {
        Config::from_vars(|name| env::var(name).ok())
    }

    /// From the given variables. One that is empty counts as not set.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Config, ConfigError> {
        let set = |name: &str| var(name).filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(PathBuf::from);
        let flag = |name: &str| match set(name) {
            None => Ok(None),
            Some(value) => match value.to_ascii_lowercase().as_str() {
                "1" | "t" | "true" => Ok(Some(true)),
                "0" | "f" | "false" => Ok(Some(false)),
                _ => Err(ConfigError::new(name, format_args!("{value:?}"), "true or false")),
            },
        };
        let mut address = match set("CONSUL_HTTP_ADDR") {
            None => Address::default(),
            Some(text) => text.parse().map_err(|expected: String| {
                ConfigError::new("CONSUL_HTTP_ADDR", format_args!("{text:?}"), &expected)
            })?,
        };
        if let (Some(true), Address::Tcp { tls, .. }) = (flag("CONSUL_HTTP_SSL")?, &mut address) {
            *tls = true;
        }
        // The token in a variable wins over the file, as with Consul's own tools.
        let token = match (set("CONSUL_HTTP_TOKEN"), path("CONSUL_HTTP_TOKEN_FILE")) {
            (Some(secret), _) => Token::Secret(secret),
            (None, Some(file)) => Token::File(file),
            (None, None) => Token::Anonymous,
        };
        let client = match (path("CONSUL_CLIENT_CERT"), path("CONSUL_CLIENT_KEY")) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                let expected = "a path, since CONSUL_CLIENT_CERT is set";
                return Err(ConfigError::new("CONSUL_CLIENT_KEY", "nothing", expected));
            }
            (None, Some(_)) => {
                let expected = "a path, since CONSUL_CLIENT_KEY is set";
                return Err(ConfigError::new("CONSUL_CLIENT_CERT", "nothing", expected));
            }
        };
        Ok(Config {
            address,
            token,
            tls: Tls {
                ca_file: path("CONSUL_CACERT"),
                ca_path: path("CONSUL_CAPATH"),
                client,
                server_name: set("CONSUL_TLS_SERVER_NAME"),
                verify: flag("CONSUL_HTTP_SSL_VERIFY")?.unwrap_or(true),
            },
            namespace: set("CONSUL_NAMESPACE"),
            partition: set("CONSUL_PARTITION"),
            ..Config::default()
        })
    }
}

#[cfg(test)]
#[path = "config/tests.rs"]
mod tests;
