//! Probing: a small question every few seconds that measures the way to a peer and back, and its clock.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Method, StatusCode};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::timeout;

use crate::client::{Connection, Whole, empty, read_whole, timed_out};
use crate::shared::Shared;
use crate::url::UrlPick;

/// A difference of clocks that is worth a line.
const CLOCK_DIFFERENCE: Duration = Duration::from_secs(1);
/// Between two such lines.
const REPEAT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: usize = 4 << 10;

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    #[serde(rename = "OK")]
    ok: bool,
    now: String,
}

/// The answer to a probe, as etcd gives it.
pub(crate) fn answer() -> Vec<u8> {
    let now = OffsetDateTime::from(SystemTime::now()).format(&Rfc3339).unwrap_or_default();
    let mut json = serde_json::to_vec(&Health { ok: true, now }).unwrap_or_default();
    json.push(b'\n');
    json
}

/// Probes one peer for ever. What fails is not said here: the streams say it.
pub(crate) async fn run(peer_id: u64, shared: Arc<Shared>, urls: Arc<UrlPick>) {
    let mut kept: Option<Connection> = None;
    let mut complained: Option<Instant> = None;
    loop {
        tokio::time::sleep(shared.timing.probe).await;
        let url = urls.pick();
        let probing = async {
            let mut connection = match kept.take().filter(Connection::is_open) {
                Some(connection) => connection,
                None => Connection::open(&url, shared.waits()).await?,
            };
            // The way alone is measured, not the dialling.
            let started = Instant::now();
            let response = connection.send(Method::GET, "/raft/probing", HeaderMap::new(), empty()).await?;
            let whole = read_whole(response, ANSWER_LIMIT).await?;
            Ok::<_, io::Error>((connection, whole, started.elapsed()))
        };
        let probed = timeout(shared.timing.read, probing).await.unwrap_or_else(|_| Err(timed_out("a probe")));
        let Ok((connection, whole, took)) = probed else {
            urls.failed(&url);
            continue;
        };
        kept = Some(connection);
        let Some(ahead) = clock_ahead(&whole) else { continue };
        shared.observer.round_trip(peer_id, took);
        let apart = ahead.unsigned_abs().saturating_sub(took);
        if apart > CLOCK_DIFFERENCE && complained.is_none_or(|at| at.elapsed() > REPEAT) {
            complained = Some(Instant::now());
            tracing::warn!(peer = %format_args!("{peer_id:x}"), difference = ?apart, "prober found high clock drift");
        }
    }
}

/// How far the peer's clock is ahead; nothing if it does not answer as it should.
fn clock_ahead(answer: &Whole) -> Option<time::Duration> {
    if answer.status != StatusCode::OK {
        return None;
    }
    let health: Health = serde_json::from_slice(&answer.body).ok()?;
    let now = OffsetDateTime::parse(&health.now, &Rfc3339).ok()?;
    health.ok.then(|| now - OffsetDateTime::from(SystemTime::now()))
}
