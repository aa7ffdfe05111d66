//! Peer URLs: where a peer is dialled, and which of its URLs is tried next.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

/// Where a peer listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUrl {
    text: String,
    target: Target,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Why a text is no peer URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerUrlError {
    /// TLS between peers does not exist here yet.
    #[error("peer URL {url}: TLS between peers is not supported, use http or unix")]
    Tls {
        /// The URL.
        url: String,
    },
    /// No scheme, host and port, or something behind them.
    #[error("{url:?} is no peer URL: {what}")]
    Malformed {
        /// The text.
        url: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl PeerUrl {
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Host and port, as the `Host` header has them.
    #[must_use]
    pub fn authority(&self) -> String {
        match &self.target {
            Target::Tcp { host, port } => format!("{host}:{port}"),
            Target::Unix(_) => "localhost".to_owned(),
        }
    }
}

impl fmt::Display for PeerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for PeerUrl {
    type Err = PeerUrlError;

    fn from_str(text: &str) -> Result<Self, PeerUrlError> {
        let wrong = |what| PeerUrlError::Malformed { url: text.to_owned(), what };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("no scheme"))?;
        let target = match scheme {
            "http" => {
                let url = url::Url::parse(text).map_err(|_| wrong("cannot be parsed"))?;
                let host = url.host_str().ok_or_else(|| wrong("no host"))?.to_owned();
                let port = url.port_or_known_default().ok_or_else(|| wrong("no port"))?;
                if url.path() != "/" || url.query().is_some() {
                    return Err(wrong("a path"));
                }
                Target::Tcp { host, port }
            }
            "unix" if !rest.is_empty() => Target::Unix(PathBuf::from(rest)),
            "https" | "unixs" => return Err(PeerUrlError::Tls { url: text.to_owned() }),
            _ => return Err(wrong("unknown scheme")),
        };
        Ok(Self { text: text.to_owned(), target })
    }
}

/// Parses all URLs of a peer.
pub(crate) fn parse_all(texts: &[String]) -> Result<Vec<PeerUrl>, PeerUrlError> {
    let urls: Vec<PeerUrl> = texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    if urls.is_empty() {
        return Err(PeerUrlError::Malformed { url: String::new(), what: "no URL" });
    }
    Ok(urls)
}

/// The URLs of one peer, and the one that is used until it fails.
#[derive(Debug)]
pub(crate) struct UrlPick {
    urls: RwLock<Arc<[PeerUrl]>>,
    picked: AtomicUsize,
}

impl UrlPick {
    pub(crate) fn new(urls: Vec<PeerUrl>) -> Self {
        Self { urls: RwLock::new(urls.into()), picked: AtomicUsize::new(0) }
    }

    pub(crate) fn replace(&self, urls: Vec<PeerUrl>) {
        *self.urls.write() = urls.into();
        self.picked.store(0, Ordering::Relaxed);
    }

    /// The URL of the day.
    pub(crate) fn pick(&self) -> PeerUrl {
        let urls = self.urls.read();
        urls[self.picked.load(Ordering::Relaxed) % urls.len()].clone()
    }

    /// `url` has failed: the next one is picked, unless somebody has done so already.
    pub(crate) fn failed(&self, url: &PeerUrl) {
        let urls = self.urls.read();
        let picked = self.picked.load(Ordering::Relaxed);
        if &urls[picked % urls.len()] == url {
            self.picked.store((picked + 1) % urls.len(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_refused_with_a_reason() {
        let url: PeerUrl = "http://127.0.0.1:2380".parse().unwrap();
        assert_eq!(url.authority(), "127.0.0.1:2380");
        assert_eq!("http://[::1]:80".parse::<PeerUrl>().unwrap().authority(), "[::1]:80");
        assert_eq!(
            "unix://localhost:0".parse::<PeerUrl>().unwrap().target,
            Target::Unix("localhost:0".into())
        );
        for (text, what) in [
            ("https://a:1", "TLS"),
            ("unixs://a:1", "TLS"),
            ("a:1", "no scheme"),
            ("ftp://a:1", "unknown scheme"),
            ("http://a:1/x", "a path"),
        ] {
            let error = text.parse::<PeerUrl>().unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
        assert!(parse_all(&[]).is_err());
    }

    #[test]
    fn a_failed_url_gives_way_once() {
        let urls = parse_all(&["http://a:1".into(), "http://b:1".into()]).unwrap();
        let pick = UrlPick::new(urls.clone());
        assert_eq!(pick.pick(), urls[0]);
        pick.failed(&urls[0]);
        pick.failed(&urls[0]);
        assert_eq!(pick.pick(), urls[1]);
        pick.failed(&urls[1]);
        assert_eq!(pick.pick(), urls[0]);
        pick.replace(vec![urls[1].clone()]);
        assert_eq!(pick.pick(), urls[1]);
    }
}
