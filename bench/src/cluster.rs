//! The cluster that is measured: where it is, whether it may be written to, and keys put there beforehand.

use std::sync::Arc;

use bytes::Bytes;
use stanchion_api::etcdserverpb::{
    AuthenticateRequest, AuthenticateResponse, PutRequest, RangeRequest, RangeResponse, RequestOp,
    TxnRequest, TxnResponse, request_op,
};

use crate::error::Failure;
use crate::keys::{Keys, Values, prefix_end, seeded};
use crate::wire::{Connection, Method};

/// Puts in one transaction of the filling: below etcd's limit of 128.
const FILL_OPERATIONS: usize = 100;
/// Bytes in one transaction of the filling: below etcd's limit of 1.5 MiB.
const FILL_BYTES: usize = 1 << 20;
/// Transactions of the filling that are under way at once.
const FILL_IN_FLIGHT: usize = 16;

/// Endpoints, and who asks.
#[derive(Clone)]
pub(crate) struct Cluster {
    endpoints: Arc<[String]>,
    token: Option<Arc<str>>,
}

impl Cluster {
    /// Looks whether the endpoints (`host:port`, `http://` allowed) answer, and signs in if there is a user.
    pub(crate) async fn reach(endpoints: &[String], user: Option<&str>) -> Result<Cluster, Failure> {
        let endpoints: Arc<[String]> =
            endpoints.iter().map(|url| host_and_port(url)).collect::<Result<_, _>>()?;
        let mut cluster = Cluster { endpoints, token: None };
        for at in 0..cluster.endpoints.len() {
            cluster.connect(at).await?;
        }
        if let Some(user) = user {
            let (name, password) = user
                .split_once(':')
                .ok_or_else(|| Failure::Settings("--user wants NAME:PASSWORD".to_owned()))?;
            let question = AuthenticateRequest { name: name.to_owned(), password: password.to_owned() };
            let connection = cluster.connect(0).await?;
            let answer: AuthenticateResponse = connection.unary(Method::Authenticate, &question).await?;
            cluster.token = Some(answer.token.into());
        }
        Ok(cluster)
    }

    /// Connection number `number`: the endpoints take turns.
    pub(crate) async fn connect(&self, number: usize) -> Result<Connection, Failure> {
        Connection::open(&self.endpoints[number % self.endpoints.len()], self.token.as_deref()).await
    }

    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Refuses a cluster that holds keys outside `prefix`.
    pub(crate) async fn refuse_foreign_keys(&self, prefix: &str) -> Result<(), Failure> {
        let connection = self.connect(0).await?;
        let mut count = 0;
        let begin = Bytes::from_static(&[0]);
        let below = (begin.clone(), Bytes::copy_from_slice(prefix.as_bytes()));
        let above = (prefix_end(prefix), begin);
        for (from, to) in [below, above] {
            count += count_keys(&connection, from, to).await?;
        }
        if count > 0 {
            return Err(Failure::ForeignKeys { count, prefix: prefix.to_owned() });
        }
        Ok(())
    }

    /// Puts all of `keys` unless they are there; whether anything was written.
    pub(crate) async fn fill(&self, keys: &Arc<Keys>, values: &Arc<Values>) -> Result<bool, Failure> {
        let connection = self.connect(0).await?;
        let there = count_keys(&connection, keys.at(0), keys.at(keys.count())).await?;
        if u64::try_from(there) == Ok(keys.count()) {
            let first = RangeRequest { key: keys.at(0), ..Default::default() };
            let answer: RangeResponse = connection.unary(Method::Range, &first).await?;
            if answer.kvs.first().is_some_and(|kv| kv.value.len() == values.size()) {
                return Ok(false);
            }
        }
        let batch = FILL_OPERATIONS.min(FILL_BYTES / (values.size() + 32)).max(1) as u64;
        let mut next = 0;
        let mut under_way = tokio::task::JoinSet::new();
        let mut random = seeded(0, 0);
        while next < keys.count() || !under_way.is_empty() {
            if next < keys.count() && under_way.len() < FILL_IN_FLIGHT {
                let end = keys.count().min(next + batch);
                let puts = (next..end).map(|place| put_operation(keys.at(place), values.draw(&mut random)));
                let txn = TxnRequest { success: puts.collect(), ..Default::default() };
                let connection = connection.clone();
                under_way.spawn(async move { connection.unary::<TxnResponse>(Method::Txn, &txn).await });
                next = end;
            } else if let Some(done) = under_way.join_next().await {
                done.expect("a put does not panic")?;
            }
        }
        Ok(true)
    }
}

/// A put as a part of a transaction.
pub(crate) fn put_operation(key: Bytes, value: Bytes) -> RequestOp {
    let put = PutRequest { key, value, ..Default::default() };
    RequestOp { request: Some(request_op::Request::RequestPut(put)) }
}

/// How many keys there are in a range.
async fn count_keys(connection: &Connection, key: Bytes, range_end: Bytes) -> Result<i64, Failure> {
    let question = RangeRequest { key, range_end, count_only: true, ..Default::default() };
    Ok(connection.unary::<RangeResponse>(Method::Range, &question).await?.count)
}

fn host_and_port(url: &str) -> Result<String, Failure> {
    if url.starts_with("https://") {
        return Err(Failure::Settings(format!("{url}: TLS is not spoken here; give an http:// endpoint")));
    }
    let rest = url.strip_prefix("http://").unwrap_or(url).trim_end_matches('/');
    match rest.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => Ok(rest.to_owned()),
        _ => Err(Failure::Settings(format!("{url}: not an endpoint; it wants http://HOST:PORT"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_with_ports() {
        assert_eq!(host_and_port("http://127.0.0.1:2379/").unwrap(), "127.0.0.1:2379");
        assert_eq!(host_and_port("localhost:1").unwrap(), "localhost:1");
        for wrong in ["", "localhost", ":1", "http://a:b", "https://a:1", "a:70000"] {
            assert!(matches!(host_and_port(wrong), Err(Failure::Settings(_))), "{wrong}");
        }
    }
}
