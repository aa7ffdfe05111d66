//! Listen and advertise URLs: `http`, `https`, `unix` and `unixs`, as etcd reads and prints them.

use std::fmt;
use std::net::IpAddr;

/// A URL split as far as a listener or a dialler needs it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// `http`, `https`, `unix` or `unixs`.
    pub scheme: String,
    /// `host:port`; for unix sockets the part before the path, which may be empty.
    pub host: String,
    /// Path of a unix socket after the host; empty for `http` and `https`.
    pub path: String,
}

impl Endpoint {
    /// Reads one URL. The error texts are etcd's.
    ///
    /// # Errors
    /// A scheme other than the four, a missing port, or a path.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("URL scheme must be http, https, unix, or unixs: {text}"));
        };
        let (host, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let url = Self { scheme: scheme.to_owned(), host: host.to_owned(), path: path.to_owned() };
        match scheme {
            "unix" | "unixs" => return Ok(url),
            "http" | "https" => {}
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        }
        if url.host_and_port().is_none() {
            return Err(format!("URL address does not have the form \"host:port\": {text}"));
        }
        if !path.is_empty() {
            return Err(format!("URL must not contain a path: {text}"));
        }
        Ok(url)
    }

    /// Host and port apart, brackets of an IPv6 address removed; `None` for unix sockets and malformed hosts.
    #[must_use]
    pub fn host_and_port(&self) -> Option<(&str, &str)> {
        if self.is_unix() {
            return None;
        }
        let (host, port) = self.host.rsplit_once(':')?;
        let host = match host.strip_prefix('[') {
            Some(inner) => inner.strip_suffix(']')?,
            None if host.contains(':') => return None,
            None => host,
        };
        Some((host, port))
    }

    /// Whether this is a unix socket.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        self.scheme.starts_with("unix")
    }

    /// Whether the scheme asks for TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.scheme.as_str(), "https" | "unixs")
    }

    /// The file of a unix socket: an absolute path, or `name:1` in the working directory.
    #[must_use]
    pub fn socket_path(&self) -> Option<String> {
        self.is_unix().then(|| format!("{}{}", self.host, self.path))
    }

    /// Whether a listener can bind it: an IP address, `localhost` or a unix socket.
    ///
    /// # Errors
    /// etcd's text for a host name.
    pub fn check_bindable(&self) -> Result<(), String> {
        let Some((host, _)) = self.host_and_port() else { return Ok(()) };
        if host.is_empty() || host == "localhost" || host.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        Err(format!("expected IP in URL for binding ({self})"))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.host, self.path)
    }
}

/// Reads a list of URLs and sorts it, as etcd does with every URL list.
pub(crate) fn parse_list(texts: &[String]) -> Result<Vec<Endpoint>, String> {
    let mut list = texts.iter().map(|t| Endpoint::parse(t)).collect::<Result<Vec<_>, _>>()?;
    list.sort();
    list.dedup();
    Ok(list)
}

/// Checks and sorts a list, kept as text.
pub(crate) fn normalize(texts: &[String]) -> Result<Vec<String>, String> {
    Ok(parse_list(texts)?.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_with_etcds_words() {
        for (text, error) in [
            ("ftp://a:1", "URL scheme must be http, https, unix, or unixs: ftp://a:1"),
            ("localhost:2379", "URL scheme must be http, https, unix, or unixs: localhost:2379"),
            ("http://localhost", "URL address does not have the form \"host:port\": http://localhost"),
            ("http://localhost:1/x", "URL must not contain a path: http://localhost:1/x"),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap_err(), error);
        }
    }

    #[test]
    fn splits_hosts_and_sockets() {
        assert_eq!(Endpoint::parse("http://[::1]:80").unwrap().host_and_port(), Some(("::1", "80")));
        assert_eq!(Endpoint::parse("unix:///tmp/s.sock").unwrap().socket_path().unwrap(), "/tmp/s.sock");
        assert_eq!(Endpoint::parse("unix://name:1").unwrap().socket_path().unwrap(), "name:1");
        assert!(Endpoint::parse("http://example.com:2379").unwrap().check_bindable().is_err());
        assert!(Endpoint::parse("http://127.0.0.1:2379").unwrap().check_bindable().is_ok());
    }
}
