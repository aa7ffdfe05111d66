//! The table of every flag: name, kind, default, config-file key, help. Nothing is parsed here.
//!
//! The environment variable of a flag is `ETCD_` and its name in upper case with `-` as `_`. Where several spellings
//! of a thing exist (command line, environment, config file) all of them go through this one table.

/// What values a flag takes and how its text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `1 t T TRUE true True` and the matching words for false; on the command line only in the `=` form.
    Bool,
    /// An unsigned integer of at most this many bits, Go syntax (`0x10`, `0b1`, `1_000`).
    Uint(u32),
    /// A signed 64-bit integer, Go syntax.
    Int,
    /// Go duration on the command line (`1h30m`), integer nanoseconds in a config file.
    Duration,
    /// Any text.
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Comma-separated words; a list in a config file.
    List,
    /// Comma-separated listen or advertise URLs.
    Urls,
    /// `Name=bool,…`.
    Gates,
}

/// One flag.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Default in command-line spelling.
    pub(crate) default: &'static str,
    /// Dotted config-file key; `None`: the file has no such key.
    pub(crate) file_key: Option<&'static str>,
    pub(crate) help: &'static str,
}

/// A titled group of flags, in the order of the help text.
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) flags: &'static [Flag],
}

const fn flag(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, file_key: Some(name), help }
}

const fn keyed(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    file_key: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, default, file_key: Some(file_key), help }
}

const fn unkeyed(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, default, file_key: None, help }
}

use Kind::{Bool, Duration, Gates, Int, List, Text, Uint, Urls, Word};

/// Flags that etcd's server accepts and ignores without a word; they behave like boolean flags.
pub(crate) const IGNORED: &[&str] = &[
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-heartbeat-interval",
    "peer-election-timeout",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
    "test.coverprofile",
    "test.outputdir",
];

pub(crate) const SECTIONS: &[Section] = &[
    Section { title: "Member", flags: MEMBER },
    Section { title: "Clustering", flags: CLUSTERING },
    Section { title: "Security", flags: SECURITY },
    Section { title: "Auth", flags: AUTH },
    Section { title: "Logging, profiling and tracing", flags: LOGGING },
    Section { title: "Checks, compaction and tuning", flags: TUNING },
    Section { title: "Process", flags: PROCESS },
];

const MEMBER: &[Flag] = &[
    flag("name", Text, "default", "Human-readable name for this member."),
    flag("data-dir", Text, "", "Path to the data directory (default \"<name>.etcd\")."),
    flag("wal-dir", Text, "", "Path to a dedicated directory for the write-ahead log."),
    flag("snapshot-count", Uint(64), "10000", "Applied entries that trigger a raft snapshot."),
    flag("snapshot-catchup-entries", Uint(64), "5000", "Entries kept behind a snapshot for slow followers."),
    flag("heartbeat-interval", Uint(64), "100", "Time (ms) between heartbeats of the leader."),
    flag("election-timeout", Uint(64), "1000", "Time (ms) without a leader after which an election starts."),
    flag(
        "initial-election-tick-advance",
        Bool,
        "true",
        "Shorten the wait for the first election after boot.",
    ),
    flag("listen-peer-urls", Urls, "http://localhost:2380", "URLs to accept peer traffic on."),
    flag("listen-client-urls", Urls, "http://localhost:2379", "URLs to accept client traffic on."),
    flag(
        "listen-client-http-urls",
        Urls,
        "",
        "URLs for clients that speak HTTP only; splits HTTP from gRPC.",
    ),
    flag("listen-metrics-urls", Urls, "", "Extra URLs that serve metrics and health only."),
    flag("max-snapshots", Uint(64), "5", "Snapshot files to keep (0 keeps all)."),
    flag("max-wals", Uint(64), "5", "WAL segment files to keep (0 keeps all)."),
    flag(
        "quota-backend-bytes",
        Int,
        "0",
        "Raise an alarm above this database size (0: 2 GiB, negative: no quota).",
    ),
    flag(
        "backend-bbolt-freelist-type",
        Text,
        "",
        "Accepted for compatibility; the free page structure has one form.",
    ),
    flag(
        "backend-batch-interval",
        Duration,
        "0s",
        "Longest time before pending writes are committed (0: 100ms).",
    ),
    flag("backend-batch-limit", Int, "0", "Pending operations that trigger a commit (0: 10000)."),
    flag("max-txn-ops", Uint(64), "128", "Operations permitted in one list of a transaction."),
    flag("max-request-bytes", Uint(64), "1572864", "Largest client request in bytes."),
    flag("max-concurrent-streams", Uint(32), "4294967295", "Concurrent streams per client connection."),
    flag("grpc-keepalive-min-time", Duration, "5s", "Clients that ping more often are disconnected."),
    flag("grpc-keepalive-interval", Duration, "2h0m0s", "Period of server pings to idle clients (0: off)."),
    flag("grpc-keepalive-timeout", Duration, "20s", "Wait for a ping's answer before closing (0: off)."),
    keyed("socket-reuse-port", Bool, "false", "socket-options.reuse-port", "Set SO_REUSEPORT on listeners."),
    keyed(
        "socket-reuse-address",
        Bool,
        "false",
        "socket-options.reuse-address",
        "Set SO_REUSEADDR on listeners.",
    ),
    unkeyed("raft-read-timeout", Duration, "5s", "Read deadline on peer connections (at least 5s)."),
    unkeyed("raft-write-timeout", Duration, "5s", "Write deadline on peer connections (at least 5s)."),
    flag("enable-grpc-gateway", Bool, "true", "Serve the JSON gateway."),
    flag("memory-mlock", Bool, "false", "Lock memory, the database map in particular, into RAM."),
    flag("feature-gates", Gates, "", "Feature gates as Name=true,Other=false."),
    flag(
        "hold-cluster-version",
        Bool,
        "false",
        "Keep the cluster and storage version found, so that the way back to an older etcd stays open (not in etcd).",
    ),
];

const CLUSTERING: &[Flag] = &[
    flag(
        "initial-advertise-peer-urls",
        Urls,
        "http://localhost:2380",
        "Peer URLs told to the other members.",
    ),
    flag("initial-cluster", Text, "default=http://localhost:2380", "Members for bootstrapping, name=url,…."),
    flag("initial-cluster-state", Word(&["new", "existing"]), "new", "Whether to bootstrap or to join."),
    flag("initial-cluster-token", Text, "etcd-cluster", "Salt of the cluster and member ids."),
    flag("advertise-client-urls", Urls, "http://localhost:2379", "Client URLs published in the member list."),
    keyed("discovery-endpoints", List, "", "discovery-config.client.endpoints", "v3 discovery endpoints."),
    keyed("discovery-token", Text, "", "discovery-config.token", "v3 discovery token."),
    keyed("discovery-dial-timeout", Duration, "2s", "discovery-config.client.dial-timeout", "Dial timeout."),
    keyed(
        "discovery-request-timeout",
        Duration,
        "5s",
        "discovery-config.client.request-timeout",
        "Request timeout.",
    ),
    keyed(
        "discovery-keepalive-time",
        Duration,
        "2s",
        "discovery-config.client.keepalive-time",
        "Ping period.",
    ),
    keyed(
        "discovery-keepalive-timeout",
        Duration,
        "6s",
        "discovery-config.client.keepalive-timeout",
        "Ping timeout.",
    ),
    keyed(
        "discovery-insecure-transport",
        Bool,
        "true",
        "discovery-config.client.secure.insecure-transport",
        "Plain connection to the discovery service.",
    ),
    keyed(
        "discovery-insecure-skip-tls-verify",
        Bool,
        "false",
        "discovery-config.client.secure.insecure-skip-tls-verify",
        "Do not verify the discovery service's certificate.",
    ),
    keyed(
        "discovery-cert",
        Text,
        "",
        "discovery-config.client.secure.cert",
        "Client certificate for discovery.",
    ),
    keyed("discovery-key", Text, "", "discovery-config.client.secure.key", "Client key for discovery."),
    keyed("discovery-cacert", Text, "", "discovery-config.client.secure.cacert", "CA bundle for discovery."),
    keyed("discovery-user", Text, "", "discovery-config.client.auth.username", "user or user:password."),
    keyed("discovery-password", Text, "", "discovery-config.client.auth.password", "Password for discovery."),
    unkeyed("discovery-fallback", Word(&["exit", "proxy"]), "exit", "Only \"exit\" is supported."),
    flag("discovery-srv", Text, "", "DNS SRV domain to bootstrap from."),
    flag("discovery-srv-name", Text, "", "Suffix of the SRV service names."),
    flag("strict-reconfig-check", Bool, "true", "Refuse membership changes that would lose the quorum."),
    flag("pre-vote", Bool, "true", "Run raft's extra election phase."),
    flag("auto-compaction-retention", Text, "0", "Retention of automatic compaction (0: off)."),
    flag("auto-compaction-mode", Text, "periodic", "\"periodic\" or \"revision\"."),
    flag(
        "v2-deprecation",
        Word(&["write-only", "write-only-skip-check", "write-only-drop-data", "gone"]),
        "write-only",
        "Accepted for compatibility; always write-only.",
    ),
    flag("max-learners", Int, "1", "Learners allowed at the same time."),
    flag("force-new-cluster", Bool, "false", "Make existing data a one-member cluster of this node."),
];

const SECURITY: &[Flag] = &[
    keyed("cert-file", Text, "", "client-transport-security.cert-file", "Server certificate for clients."),
    keyed("key-file", Text, "", "client-transport-security.key-file", "Its key."),
    keyed(
        "client-cert-file",
        Text,
        "",
        "client-transport-security.client-cert-file",
        "Own client certificate.",
    ),
    keyed("client-key-file", Text, "", "client-transport-security.client-key-file", "Its key."),
    keyed(
        "client-cert-auth",
        Bool,
        "false",
        "client-transport-security.client-cert-auth",
        "Require client certificates.",
    ),
    unkeyed("client-crl-file", Text, "", "Revocation list for client certificates (DER)."),
    keyed(
        "client-cert-allowed-hostname",
        List,
        "",
        "client-transport-security.allowed-hostname",
        "Names a client certificate must be valid for.",
    ),
    keyed("trusted-ca-file", Text, "", "client-transport-security.trusted-ca-file", "CA bundle for clients."),
    keyed(
        "auto-tls",
        Bool,
        "false",
        "client-transport-security.auto-tls",
        "Self-signed certificate for clients.",
    ),
    keyed("peer-cert-file", Text, "", "peer-transport-security.cert-file", "Certificate for peers."),
    keyed("peer-key-file", Text, "", "peer-transport-security.key-file", "Its key."),
    keyed(
        "peer-client-cert-file",
        Text,
        "",
        "peer-transport-security.client-cert-file",
        "Outgoing peer certificate.",
    ),
    keyed("peer-client-key-file", Text, "", "peer-transport-security.client-key-file", "Its key."),
    keyed(
        "peer-client-cert-auth",
        Bool,
        "false",
        "peer-transport-security.client-cert-auth",
        "Require peer certificates.",
    ),
    keyed(
        "peer-trusted-ca-file",
        Text,
        "",
        "peer-transport-security.trusted-ca-file",
        "CA bundle for peers.",
    ),
    keyed(
        "peer-auto-tls",
        Bool,
        "false",
        "peer-transport-security.auto-tls",
        "Self-signed certificate for peers.",
    ),
    unkeyed("peer-crl-file", Text, "", "Revocation list for peer certificates (DER)."),
    keyed(
        "peer-cert-allowed-cn",
        List,
        "",
        "peer-transport-security.allowed-cn",
        "Common names allowed for peers.",
    ),
    keyed(
        "peer-cert-allowed-hostname",
        List,
        "",
        "peer-transport-security.allowed-hostname",
        "Names a peer certificate must be valid for.",
    ),
    keyed(
        "peer-skip-client-san-verification",
        Bool,
        "false",
        "peer-transport-security.skip-client-san-verification",
        "Do not compare a peer certificate's names with its address.",
    ),
    flag("self-signed-cert-validity", Uint(64), "1", "Validity of generated certificates in years."),
    flag("cipher-suites", List, "", "TLS 1.2 cipher suites."),
    flag("tls-min-version", Text, "TLS1.2", "TLS1.2 or TLS1.3."),
    flag("tls-max-version", Text, "", "TLS1.2 or TLS1.3 (empty: newest)."),
    flag("cors", Text, "*", "Origins for CORS."),
    flag("host-whitelist", Text, "*", "Host names accepted in HTTP requests on plaintext listeners."),
];

const AUTH: &[Flag] = &[
    flag("auth-token", Text, "simple", "Token provider: simple, or jwt,option=value,…."),
    flag("bcrypt-cost", Uint(64), "10", "Cost of password hashing, 4 to 31."),
    flag("auth-token-ttl", Uint(64), "300", "Life of simple tokens in seconds."),
];

const LOGGING: &[Flag] = &[
    flag("logger", Text, "zap", "Only \"zap\"."),
    flag("log-outputs", List, "default", "default, stderr, stdout, file paths, systemd/journal."),
    flag("log-level", Text, "info", "debug, info, warn, error, dpanic, panic or fatal."),
    flag("log-format", Text, "json", "json or console."),
    flag("enable-log-rotation", Bool, "false", "Rotate the single log file."),
    flag(
        "log-rotation-config-json",
        Text,
        r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#,
        "Limits of the rotation.",
    ),
    flag("enable-pprof", Bool, "false", "Serve /debug/pprof/."),
    flag("metrics", Text, "basic", "basic, or extensive with latency histograms per RPC."),
    flag("enable-distributed-tracing", Bool, "false", "Export spans over OTLP."),
    flag("distributed-tracing-address", Text, "localhost:4317", "Address of the collector."),
    flag("distributed-tracing-service-name", Text, "etcd", "Service name attribute."),
    flag("distributed-tracing-instance-id", Text, "", "Instance id attribute."),
    flag("distributed-tracing-sampling-rate", Int, "0", "Sampled spans per million."),
];

const TUNING: &[Flag] = &[
    flag("corrupt-check-time", Duration, "0s", "Period of the full hash comparison with peers (0: off)."),
    flag("compact-hash-check-time", Duration, "1m0s", "Period of the comparison of compaction hashes."),
    flag("compaction-batch-limit", Int, "0", "Revisions deleted per compaction batch (0: 1000)."),
    flag("compaction-sleep-interval", Duration, "0s", "Pause between compaction batches (0: 10ms)."),
    flag(
        "watch-progress-notify-interval",
        Duration,
        "0s",
        "Period of watch progress notifications (0: 10m).",
    ),
    flag("warning-apply-duration", Duration, "100ms", "Warn when applying takes longer."),
    flag("warning-unary-request-duration", Duration, "300ms", "Warn when a request takes longer."),
    flag(
        "bootstrap-defrag-threshold-megabytes",
        Uint(64),
        "0",
        "Defragment at start if this much is freed (0: never).",
    ),
    flag("downgrade-check-time", Duration, "5s", "Period of the downgrade monitor."),
    flag("unsafe-no-fsync", Bool, "false", "Skip fsync: a crash loses data."),
];

const PROCESS: &[Flag] = &[
    unkeyed(
        "config-file",
        Text,
        "",
        "Path to a config file; all other flags and variables are then ignored.",
    ),
    unkeyed("version", Bool, "false", "Print the version and exit."),
];

/// All flags, section by section.
pub(crate) fn all() -> impl Iterator<Item = &'static Flag> {
    SECTIONS.iter().flat_map(|section| section.flags)
}

/// The flag of this name.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    all().find(|flag| flag.name == name)
}

/// The environment variable of a flag.
pub(crate) fn env_name(flag: &str) -> String {
    format!("ETCD_{}", flag.to_uppercase().replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::Value;

    #[test]
    fn names_are_unique_and_every_default_parses() {
        let mut names: Vec<_> = all().map(|f| f.name).chain(IGNORED.iter().copied()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for flag in all() {
            Value::parse(flag.kind, flag.default).unwrap_or_else(|e| panic!("{}: {e}", flag.name));
        }
    }

    #[test]
    fn environment_names() {
        assert_eq!(env_name("initial-cluster"), "ETCD_INITIAL_CLUSTER");
    }
}
