//! Who founds a cluster, when the members' list is not given but found: in DNS, or in a registry that another etcd keeps.
//!
//! What lives here: asking, and the errors of that. What may not: what is done with the list; that is the same as with a
//! list that was given.

pub mod registry;
pub mod srv;

use crate::config::{Config, Endpoint};

/// The advertised peer URLs, as text.
fn advertised(config: &Config) -> Vec<String> {
    config.initial_advertise_peer_urls.iter().map(Endpoint::to_string).collect()
}

/// `name=url,name=url…` of this member alone.
fn own_entry(config: &Config) -> String {
    let entries = advertised(config).into_iter().map(|url| format!("{}={url}", config.name));
    entries.collect::<Vec<_>>().join(",")
}

/// The members' list as `--initial-cluster` would give it, and the cluster's token.
///
/// # Errors
/// The list cannot be found, or this member is not in it.
pub async fn initial_cluster(config: &Config) -> anyhow::Result<(String, String)> {
    if let Some(discovery) = &config.discovery {
        // The token tells clusters apart, and the registry's own is unique.
        return Ok((own_entry(config), discovery.token.clone()));
    }
    let token = config.initial_cluster_token.clone();
    let Some(domain) = &config.discovery_srv else { return Ok((config.initial_cluster.clone(), token)) };
    let resolver = srv::system_resolver()?;
    let wanted = srv::Wanted {
        domain,
        service_suffix: &config.discovery_srv_name,
        name: &config.name,
        advertised: &advertised(config),
    };
    let list = srv::find(&resolver, &wanted).await?;
    for entry in &list {
        tracing::info!(node = entry, "got bootstrap from DNS for etcd-server");
    }
    Ok((list.join(","), token))
}

/// Waits in the registry until the founders are complete, if there is a registry.
///
/// # Errors
/// [`registry::RegistryError`].
pub async fn await_founders(
    config: &Config,
    member_id: u64,
) -> Result<Option<String>, registry::RegistryError> {
    let Some(discovery) = &config.discovery else { return Ok(None) };
    tracing::info!("Bootstrapping cluster using v3 discovery.");
    registry::join(discovery, member_id, &own_entry(config)).await.map(Some)
}
