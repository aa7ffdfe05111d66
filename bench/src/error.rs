//! What can go wrong before or during a run, in words for the person who started it.

use std::io;

/// Why there are no figures, or only some.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failure {
    /// Nobody answers there.
    #[error("{endpoint} cannot be reached: {reason}")]
    Unreachable {
        /// `host:port`
        endpoint: String,
        /// The system's words.
        reason: String,
    },
    /// A connection ended while it was in use.
    #[error("the connection to {endpoint} was lost: {reason}")]
    Lost {
        /// `host:port`
        endpoint: String,
        /// What was seen last.
        reason: String,
    },
    /// An answer that is not gRPC's, or not one that the request can have.
    #[error("{endpoint} does not answer as an etcd server does: {what}")]
    Foreign {
        /// `host:port`
        endpoint: String,
        /// What came instead.
        what: String,
    },
    /// The server refused a request.
    #[error("{method}: {message} (code {code})")]
    Refused {
        /// The path of the method.
        method: &'static str,
        /// The gRPC status code.
        code: u32,
        /// The server's words.
        message: String,
    },
    /// The cluster wants to know who asks.
    #[error("the cluster demands authentication ({message}): give --user NAME:PASSWORD")]
    AuthNeeded {
        /// The server's words.
        message: String,
    },
    /// The cluster is somebody's.
    #[error(
        "the cluster holds {count} keys outside {prefix:?}: this tool writes and would disturb whoever they belong to; \
         --beside-foreign-keys says that it may"
    )]
    ForeignKeys {
        /// Keys that do not begin with the prefix.
        count: i64,
        /// The prefix that the run writes under.
        prefix: String,
    },
    /// Somebody asked it to end.
    #[error("interrupted; tables and plots hold the scenarios that were done")]
    Interrupted,
    /// Settings that contradict each other.
    #[error("{0}")]
    Settings(String),
    /// A file, process or socket on this side.
    #[error("{what}: {reason}")]
    Local {
        /// What was tried.
        what: String,
        /// The system's words.
        reason: String,
    },
}

impl Failure {
    /// An error of this side's system.
    pub fn local(what: impl Into<String>, error: &io::Error) -> Failure {
        Failure::Local { what: what.into(), reason: error.to_string() }
    }

    /// Does it mean that nothing further will come? A refusal of one request is counted and the run goes on.
    pub(crate) fn ends_the_run(&self) -> bool {
        !matches!(self, Failure::Refused { .. })
    }

    /// A refused request, seen for what it means.
    pub(crate) fn from_status(method: &'static str, code: u32, message: String) -> Failure {
        let wants_user = ["user name is empty", "invalid auth token", "permission denied"];
        if wants_user.iter().any(|words| message.contains(words)) || code == 16 {
            return Failure::AuthNeeded { message };
        }
        Failure::Refused { method, code, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_wants_a_user_says_how_to_give_one() {
        for (code, message) in [
            (3, "etcdserver: user name is empty"),
            (16, "etcdserver: invalid auth token"),
            (7, "etcdserver: permission denied"),
        ] {
            let failure = Failure::from_status("/etcdserverpb.KV/Put", code, message.to_owned());
            assert!(failure.ends_the_run());
            assert!(failure.to_string().contains("--user NAME:PASSWORD"), "{failure}");
        }
    }

    #[test]
    fn one_refused_request_does_not_end_a_run() {
        let failure =
            Failure::from_status("/etcdserverpb.KV/Put", 8, "etcdserver: too many requests".to_owned());
        assert!(!failure.ends_the_run());
    }
}
