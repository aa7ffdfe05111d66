//! Rules between settings, in etcd's order and words, and the refusal of features that are not built yet.

use std::collections::BTreeSet;

use super::settings::Settings;
use super::{Config, Endpoint, Notice, Refusal, duration};

/// Checks a configuration; advice goes to `notices`.
pub(crate) fn check(c: &Config, s: &Settings, notices: &mut Vec<Notice>) -> Result<(), Refusal> {
    bindable(c)?;
    advertised(c, s)?;
    bootstrap_method(s)?;
    timers(c)?;
    checks(s)?;
    logging(c, s)?;
    if !has_log(c) {
        initial_cluster(c)?;
    }
    tls_for_https(c, s)?;
    split_http(c)?;
    unbuilt(c, s)?;
    advise(c, s, notices);
    Ok(())
}

fn bindable(c: &Config) -> Result<(), Refusal> {
    [&c.listen_peer_urls, &c.listen_client_urls, &c.listen_client_http_urls, &c.listen_metrics_urls]
        .into_iter()
        .flatten()
        .try_for_each(Endpoint::check_bindable)
        .map_err(Refusal::verify)
}

fn advertised(c: &Config, s: &Settings) -> Result<(), Refusal> {
    let hostless = |url: &Endpoint| url.host_and_port().is_some_and(|(host, _)| host.is_empty());
    if let Some(url) = c.initial_advertise_peer_urls.iter().find(|u| hostless(u)) {
        let list = join(&c.initial_advertise_peer_urls);
        return Err(Refusal::verify(format!(
            "--initial-advertise-peer-urls {list:?} must be \"host:port\" (unexpected empty host ({url}))"
        )));
    }
    if let Some(url) = c.advertise_client_urls.iter().find(|u| hostless(u)) {
        let list = join(&c.advertise_client_urls);
        return Err(Refusal::verify(format!(
            "--advertise-client-urls {list:?} must be in the format \"host:port\", \"unix:/path/to/socket\" or \
             \"unixs:/path/to/socket\" (unexpected empty host ({url}))"
        )));
    }
    if !s.from_file && s.is_set("listen-client-urls") && !s.is_set("advertise-client-urls") {
        return Err(Refusal::verify(
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
        ));
    }
    Ok(())
}

fn bootstrap_method(s: &Settings) -> Result<(), Refusal> {
    let methods = ["initial-cluster", "discovery-endpoints", "discovery-srv"];
    if methods.into_iter().filter(|m| s.is_set(m)).count() > 1 {
        return Err(Refusal::verify(
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
        ));
    }
    if s.is_set("discovery-endpoints") != s.is_set("discovery-token") {
        return Err(Refusal::verify("both --discovery-token and --discovery-endpoints must be set"));
    }
    if s.is_set("discovery-endpoints") && s.list("discovery-endpoints").iter().any(String::is_empty) {
        return Err(Refusal::verify("--discovery-endpoints must not contain empty endpoints"));
    }
    Ok(())
}

fn timers(c: &Config) -> Result<(), Refusal> {
    let (heartbeat, election) = (c.heartbeat_interval.as_millis(), c.election_timeout.as_millis());
    if heartbeat == 0 {
        return Err(Refusal::verify("--heartbeat-interval must be >0 (set to 0ms)"));
    }
    if election == 0 {
        return Err(Refusal::verify("--election-timeout must be >0 (set to 0ms)"));
    }
    if 5 * heartbeat > election {
        return Err(Refusal::verify(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        )));
    }
    if election > 50_000 {
        return Err(Refusal::verify(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than 50000ms"
        )));
    }
    Ok(())
}

fn checks(s: &Settings) -> Result<(), Refusal> {
    let period = s.nanos("compact-hash-check-time");
    if period <= 0 {
        let period = duration::format(period);
        return Err(Refusal::verify(format!("--compact-hash-check-time must be >0 (set to {period})")));
    }
    let gates = super::gates::FeatureGates::new(
        super::gates::parse(&s.text("feature-gates")).map_err(Refusal::verify)?,
    );
    if gates.enabled("LeaseCheckpointPersist") && !gates.enabled("LeaseCheckpoint") {
        return Err(Refusal::verify(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
        ));
    }
    Ok(())
}

fn logging(c: &Config, s: &Settings) -> Result<(), Refusal> {
    match s.text("logger").as_str() {
        "zap" => {}
        "capnslog" => return Err(Refusal::fatal("--logger=capnslog is removed in v3.5")),
        other => return Err(Refusal::fatal(format!("unknown logger option {other:?}"))),
    }
    let level = c.log_level.to_lowercase();
    if !["debug", "info", "warn", "error", "dpanic", "panic", "fatal"].contains(&level.as_str()) {
        return Err(Refusal {
            exit_code: 2,
            ..Refusal::fatal(format!("unrecognized level: {:?}", c.log_level))
        });
    }
    if !["json", "console"].contains(&c.log_format.as_str()) {
        return Err(Refusal::fatal(format!(
            "unknown log format: {}, supported values json, console",
            c.log_format
        )));
    }
    if c.log_outputs.len() > 1 && c.log_outputs.iter().any(|o| o == "default") {
        return Err(Refusal::fatal("multi logoutput for \"default\" is not supported yet"));
    }
    Ok(())
}

/// A member that has run before knows its cluster from its log: it may have moved since the cluster was founded.
fn has_log(c: &Config) -> bool {
    // A directory that cannot be read is refused where it is opened.
    stanchion_wal::exists(&stanchion_disk::RealDisk, &c.wal_dir).unwrap_or(false)
}

/// The member's own entry in the initial cluster must be there and carry exactly the advertised URLs.
fn initial_cluster(c: &Config) -> Result<(), Refusal> {
    if c.discovery.is_some() || c.discovery_srv.is_some() {
        // It is not known yet.
        return Ok(());
    }
    let failed = |error: String| Refusal::fatal("discovery failed").with("error", error);
    let mut own = Vec::new();
    let mut all = Vec::new();
    for item in c.initial_cluster.split(',').filter(|item| !item.is_empty()) {
        let (name, url) = item
            .split_once('=')
            .filter(|(name, url)| !name.is_empty() && !url.is_empty())
            .ok_or_else(|| failed(format!("empty URL given for {:?}", item.trim_end_matches('='))))?;
        let url = Endpoint::parse(url).map_err(failed)?;
        if name == c.name {
            own.push(url.clone());
        }
        all.push((name, url));
    }
    if own.is_empty() {
        return Err(failed(format!(
            "couldn't find local name {:?} in the initial cluster configuration",
            c.name
        )));
    }
    own.sort();
    let advertised = &c.initial_advertise_peer_urls;
    if let Some(url) = own.iter().find(|url| !advertised.contains(url)) {
        return Err(failed(format!(
            "--initial-cluster has {}={url} but missing from --initial-advertise-peer-urls={}",
            c.name,
            join(advertised)
        )));
    }
    if let Some(url) = advertised.iter().find(|url| !own.contains(url)) {
        let own: Vec<String> = own.iter().map(|url| format!("{}={url}", c.name)).collect();
        return Err(failed(format!(
            "--initial-advertise-peer-urls has {url} but missing from --initial-cluster={}",
            own.join(",")
        )));
    }
    // A name that stands twice is a member with two URLs; a URL that stands twice is a mistake.
    let urls: BTreeSet<&Endpoint> = all.iter().map(|(_, url)| url).collect();
    if urls.len() < all.len() {
        let mut list: Vec<String> = all.iter().map(|(name, url)| format!("{name}={url}")).collect();
        list.sort();
        return Err(failed(format!("initial cluster {} has duplicate url", list.join(","))));
    }
    Ok(())
}

fn tls_for_https(c: &Config, s: &Settings) -> Result<(), Refusal> {
    let have = s.bool("auto-tls") || (s.is_set("cert-file") && s.is_set("key-file"));
    if have {
        return Ok(());
    }
    let urls = c.listen_client_urls.iter().chain(&c.listen_client_http_urls);
    match urls.into_iter().find(|url| url.is_tls()) {
        Some(url) => Err(Refusal::fatal("discovery failed").with(
            "error",
            format!("TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"),
        )),
        None => Ok(()),
    }
}

fn split_http(c: &Config) -> Result<(), Refusal> {
    match c.listen_client_http_urls.iter().find(|url| c.listen_client_urls.contains(url)) {
        Some(url) => Err(Refusal::fatal("discovery failed").with(
            "error",
            format!(
                "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
            ),
        )),
        None => Ok(()),
    }
}

/// Features that this version does not have: a flag that asks for one is refused, never ignored.
fn unbuilt(c: &Config, s: &Settings) -> Result<(), Refusal> {
    let asked = |name: &'static str| s.is_set(name).then_some(name);
    let on = |name: &'static str| s.bool(name).then_some(name);
    let tls = [
        "cert-file",
        "key-file",
        "client-cert-file",
        "client-key-file",
        "client-crl-file",
        "client-cert-allowed-hostname",
        "trusted-ca-file",
        "peer-cert-file",
        "peer-key-file",
        "peer-client-cert-file",
        "peer-client-key-file",
        "peer-trusted-ca-file",
        "peer-crl-file",
        "peer-cert-allowed-cn",
        "peer-cert-allowed-hostname",
        "cipher-suites",
        "discovery-cert",
        "discovery-key",
        "discovery-cacert",
    ];
    let switches = [
        "auto-tls",
        "peer-auto-tls",
        "client-cert-auth",
        "peer-client-cert-auth",
        "memory-mlock",
        "enable-pprof",
        "enable-distributed-tracing",
        "enable-log-rotation",
    ];
    let to_registry = ["discovery-insecure-transport"];
    let refused = tls
        .into_iter()
        .find_map(asked)
        .or_else(|| switches.into_iter().find_map(on))
        .or_else(|| to_registry.into_iter().find(|name| !s.bool(name)));
    if let Some(name) = refused {
        return Err(Refusal::verify(format!(
            "--{name} is not supported by this version of stanchion; remove it"
        )));
    }
    if s.text("auth-token") != "simple" {
        return Err(Refusal::verify(
            "--auth-token: only \"simple\" is supported by this version of stanchion",
        ));
    }
    if c.log_outputs.iter().any(|output| output == "systemd/journal") {
        return Err(Refusal::fatal(
            "--log-outputs=systemd/journal is not supported by this version of stanchion",
        ));
    }
    Ok(())
}

fn advise(c: &Config, s: &Settings, notices: &mut Vec<Notice>) {
    if s.is_set("max-snapshots") {
        notices.push(Notice::warn("--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8."));
    }
    if s.is_set("v2-deprecation") {
        notices.push(Notice::warn(
            "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, \
             ignoring user input.",
        ));
    }
    if !s.is_set("data-dir") {
        notices.push(
            Notice::info("'data-dir' was empty; using default")
                .with("data-dir", c.data_dir.display().to_string()),
        );
    }
    if c.quota_backend_bytes.is_some_and(|quota| quota > 8 << 30) {
        notices.push(Notice::warn("quota exceeds the maximum value"));
    }
    if c.max_request_bytes > 10 << 20 {
        notices.push(Notice::warn("exceeded recommended request limit"));
    }
    if c.unsafe_no_fsync {
        notices.push(Notice::warn(
            "running with unsafe-no-fsync: writes are acknowledged before they are on disk; a crash loses data",
        ));
    }
}

fn join(urls: &[Endpoint]) -> String {
    urls.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use crate::config::{Command, Config, Notice, Refusal, load};

    fn run(args: &[&str]) -> Result<(Config, Vec<Notice>), Refusal> {
        let args: Vec<String> = args.iter().map(|s| (*s).to_owned()).collect();
        match load(&args, &[])? {
            Command::Serve { config, notices } => Ok((*config, notices)),
            Command::Print(text) => panic!("{text}"),
        }
    }

    fn error(args: &[&str]) -> String {
        let refusal = run(args).unwrap_err();
        assert_eq!(refusal.exit_code, 1, "{refusal:?}");
        refusal.fields.into_iter().find(|(k, _)| *k == "error").map_or(refusal.message, |(_, e)| e)
    }

    #[test]
    fn the_defaults_pass_and_a_name_alone_makes_its_cluster() {
        let (config, _) = run(&[]).unwrap();
        assert_eq!(config.initial_cluster, "default=http://localhost:2380");
        assert_eq!(config.wal_dir.to_str(), Some("default.etcd/member/wal"));
        assert_eq!(config.election_ticks(), 10);
        let (config, _) = run(&["--name=m1"]).unwrap();
        assert_eq!(config.initial_cluster, "m1=http://localhost:2380");
        assert_eq!(config.data_dir.to_str(), Some("m1.etcd"));
    }

    #[test]
    fn timers_are_checked() {
        assert_eq!(error(&["--heartbeat-interval=0"]), "--heartbeat-interval must be >0 (set to 0ms)");
        assert_eq!(
            error(&["--election-timeout=400"]),
            "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]"
        );
        assert_eq!(
            error(&["--election-timeout=60000"]),
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms"
        );
    }

    #[test]
    fn urls_are_checked() {
        assert_eq!(
            error(&["--listen-client-urls=http://127.0.0.1:2379"]),
            "--advertise-client-urls is required when --listen-client-urls is set explicitly"
        );
        assert_eq!(
            error(&["--listen-client-urls=http://example.com:2379", "--advertise-client-urls=http://a:1"]),
            "expected IP in URL for binding (http://example.com:2379)"
        );
        assert_eq!(
            error(&["--advertise-client-urls=http://:2379"]),
            "--advertise-client-urls \"http://:2379\" must be in the format \"host:port\", \"unix:/path/to/socket\" \
             or \"unixs:/path/to/socket\" (unexpected empty host (http://:2379))"
        );
    }

    #[test]
    fn the_initial_cluster_must_hold_this_member() {
        assert_eq!(
            error(&["--name=x", "--initial-cluster=y=http://localhost:2380"]),
            "couldn't find local name \"x\" in the initial cluster configuration"
        );
        assert_eq!(
            error(&["--initial-cluster=default=http://localhost:1"]),
            "--initial-cluster has default=http://localhost:1 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380"
        );
    }

    #[test]
    fn no_two_members_share_a_url_and_a_name_may_have_two() {
        for list in [
            "default=http://localhost:2380,b=http://localhost:2380",
            "b=http://h:1,default=http://localhost:2380,c=http://h:1",
        ] {
            let mut sorted: Vec<&str> = list.split(',').collect();
            sorted.sort_unstable();
            let expected = format!("initial cluster {} has duplicate url", sorted.join(","));
            assert_eq!(error(&[&format!("--initial-cluster={list}")]), expected);
        }
        run(&["--initial-cluster=default=http://localhost:2380,b=http://h:1,b=http://h:2"]).unwrap();
        // With the member's own name the second URL must be advertised as well.
        assert_eq!(
            error(&["--initial-cluster=default=http://localhost:2380,default=http://h:1"]),
            "--initial-cluster has default=http://h:1 but missing from \
             --initial-advertise-peer-urls=http://localhost:2380"
        );
    }

    #[test]
    fn unbuilt_features_are_refused_not_ignored() {
        for flag in
            ["--cert-file=x", "--auto-tls", "--auth-token=jwt,sign-method=RS256", "--discovery-cert=x"]
        {
            assert!(error(&[flag]).contains("supported by this version"), "{flag}");
        }
    }

    #[test]
    fn a_bad_log_level_exits_with_2() {
        let refusal = run(&["--log-level=loud"]).unwrap_err();
        assert_eq!((refusal.exit_code, refusal.message.as_str()), (2, "unrecognized level: \"loud\""));
    }

    #[test]
    fn positional_arguments_are_refused() {
        assert_eq!(error(&["foo"]), "\"foo\" is not a valid flag");
    }
}
