//! The Watch service: one task per stream, between the client's requests and the member's deliveries.
//! Finding events is the member's work.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval_at};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::door::Call;
use super::{Front, Inbound, Outbound};
use crate::member::{Encoded, NewWatcher, WatchControl, WatchDelivery};
use crate::refusal::{COMPACTED, NO_LEADER, Refusal};

/// Id in answers that belong to no watcher.
const NO_WATCHER: i64 = -1;
/// Field of the events in a response.
const EVENTS_FIELD: u32 = 11;
const NO_PUT: i32 = pb::watch_create_request::FilterType::Noput as i32;
const NO_DELETE: i32 = pb::watch_create_request::FilterType::Nodelete as i32;

type Responses = mpsc::Sender<Result<Encoded<pb::WatchResponse>, Status>>;

pub(super) async fn watch(
    front: Arc<Front>,
    call: Call,
    requests: Inbound<pb::WatchRequest>,
) -> Result<Outbound<pb::WatchResponse>, Refusal> {
    let (responses, out) = mpsc::channel(1);
    tokio::spawn(serve_stream(front, call, requests, responses));
    Ok(Box::pin(ReceiverStream::new(out)))
}

/// What the front remembers of a watcher.
struct Watcher {
    fragment: bool,
    progress: Progress,
}

/// Whether a watcher wants periodic progress, and whether the next tick brings it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Unwanted,
    Due,
    /// Events went out since the last tick, which say as much.
    Skipped,
}

struct Session {
    front: Arc<Front>,
    control: Box<dyn WatchControl>,
    deliveries: mpsc::Receiver<WatchDelivery>,
    watchers: BTreeMap<i64, Watcher>,
    responses: Responses,
}

/// The client is gone.
struct Gone;

async fn serve_stream(
    front: Arc<Front>,
    call: Call,
    mut requests: Inbound<pb::WatchRequest>,
    responses: Responses,
) {
    let (control, deliveries) = front.member.watch_stream();
    let mut session = Session {
        front: front.clone(),
        control,
        deliveries,
        watchers: BTreeMap::new(),
        responses: responses.clone(),
    };
    let lost = front.leader_lost(&call);
    tokio::pin!(lost);
    let every = progress_interval(&front);
    let mut progress = interval_at(tokio::time::Instant::now() + every, every);
    progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut half_closed = false;
    loop {
        let step = tokio::select! {
            () = responses.closed() => return,
            () = &mut lost => {
                let _ = responses.send(Err(NO_LEADER.into())).await;
                return;
            }
            request = requests.next(), if !half_closed => match request {
                // The client says no more, and goes on listening.
                None => { half_closed = true; Ok(()) }
                Some(Ok(request)) => session.request(request.message).await,
                Some(Err(status)) => {
                    let _ = responses.send(Err(status)).await;
                    return;
                }
            },
            delivery = session.deliveries.recv() => match delivery {
                Some(delivery) => session.deliver(delivery).await,
                None => {
                    let _ = responses.send(Err(crate::refusal::STOPPED.into())).await;
                    return;
                }
            },
            _ = progress.tick() => { session.progress_tick(); Ok(()) }
        };
        if let Err(Gone) = step {
            return;
        }
    }
}

/// The configured interval and up to a tenth more, so that streams do not report in step.
fn progress_interval(front: &Front) -> Duration {
    let base = front.limits.watch_progress_interval.max(Duration::from_millis(100));
    base + base / 10 * (front.member.next_id() % 1000) as u32 / 1000
}

impl Session {
    async fn request(&mut self, request: pb::WatchRequest) -> Result<(), Gone> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => {
                self.control.request_progress_all();
                Ok(())
            }
            None => Ok(()),
        }
    }

    async fn create(&mut self, mut create: pb::WatchCreateRequest) -> Result<(), Gone> {
        if create.start_revision < 0 {
            return self.refuse(COMPACTED.message.into_owned()).await;
        }
        if create.key.is_empty() {
            create.key = Bytes::from_static(b"\0");
        }
        let created = self.control.create(NewWatcher {
            id: create.watch_id,
            no_put: create.filters.contains(&NO_PUT),
            no_delete: create.filters.contains(&NO_DELETE),
            key: create.key,
            range_end: create.range_end,
            start_revision: create.start_revision,
            prev_kv: create.prev_kv,
        });
        match created {
            Err(refused) => self.refuse(refused.to_string()).await,
            Ok(created) => {
                let progress = if create.progress_notify { Progress::Due } else { Progress::Unwanted };
                self.watchers.insert(created.id, Watcher { fragment: create.fragment, progress });
                // Deliveries are read by this task alone, so none of this watcher can overtake this answer.
                let header = Some(self.front.member.standing().header(created.revision));
                self.send(pb::WatchResponse {
                    header,
                    watch_id: created.id,
                    created: true,
                    ..Default::default()
                })
                .await
            }
        }
    }

    async fn refuse(&mut self, cancel_reason: String) -> Result<(), Gone> {
        let response = pb::WatchResponse {
            header: Some(self.front.header()),
            watch_id: NO_WATCHER,
            created: true,
            canceled: true,
            cancel_reason,
            ..Default::default()
        };
        self.send(response).await
    }

    async fn cancel(&mut self, id: i64) -> Result<(), Gone> {
        if !self.control.cancel(id) {
            return Ok(());
        }
        // What was queued before goes out before, so that nothing of this watcher is left when its id is used again.
        while let Ok(delivery) = self.deliveries.try_recv() {
            self.deliver(delivery).await?;
        }
        self.watchers.remove(&id);
        let header = Some(self.front.header());
        self.send(pb::WatchResponse { header, watch_id: id, canceled: true, ..Default::default() }).await
    }

    async fn deliver(&mut self, delivery: WatchDelivery) -> Result<(), Gone> {
        let standing = self.front.member.standing();
        match delivery {
            WatchDelivery::Events { id, revision, events } => {
                let Some(watcher) = self.watchers.get_mut(&id) else { return Ok(()) };
                if watcher.progress == Progress::Due {
                    watcher.progress = Progress::Skipped;
                }
                let fragment = watcher.fragment;
                self.send_events(standing.header(revision), id, events, fragment).await
            }
            WatchDelivery::Progress { id, revision } => {
                let header = Some(standing.header(revision));
                self.send(pb::WatchResponse { header, watch_id: id, ..Default::default() }).await
            }
            WatchDelivery::Compacted { id, compact_revision } => {
                let header = Some(standing.header(0));
                let response = pb::WatchResponse {
                    header,
                    watch_id: id,
                    canceled: true,
                    compact_revision,
                    ..Default::default()
                };
                self.send(response).await
            }
        }
    }

    async fn send_events(
        &mut self,
        header: pb::ResponseHeader,
        id: i64,
        events: Vec<Bytes>,
        fragment: bool,
    ) -> Result<(), Gone> {
        let limit = if fragment { self.front.limits.max_message_bytes() } else { usize::MAX };
        let mut parts = Parts { header, id, events, sent: 0, limit };
        while parts.sent < parts.events.len() {
            let part = if parts.is_long() {
                let beside = self.front.lanes.aside(async move { Ok((parts.next(), parts)) }).await;
                let Ok((part, rest)) = beside else { return Err(Gone) };
                parts = rest;
                part
            } else {
                parts.next()
            };
            self.emit(Encoded::from_bytes(part)).await?;
        }
        Ok(())
    }

    fn progress_tick(&mut self) {
        for (id, watcher) in &mut self.watchers {
            match watcher.progress {
                Progress::Unwanted => {}
                Progress::Due => self.control.request_progress(*id),
                Progress::Skipped => watcher.progress = Progress::Due,
            }
        }
    }

    async fn send(&mut self, response: pb::WatchResponse) -> Result<(), Gone> {
        self.emit(response.into()).await
    }

    async fn emit(&mut self, response: Encoded<pb::WatchResponse>) -> Result<(), Gone> {
        self.responses.send(Ok(response)).await.map_err(|_| Gone)
    }
}

/// Events and bytes of which the encoding would keep the other calls of a serving thread waiting.
const LONG_EVENTS: usize = 256;
const LONG_BYTES: usize = 256 * 1024;

/// The responses that bring events to a watcher, one after the other.
struct Parts {
    header: pb::ResponseHeader,
    id: i64,
    events: Vec<Bytes>,
    /// Events that are in responses already.
    sent: usize,
    /// Bytes of a response that are too many; one event may be that long.
    limit: usize,
}

impl Parts {
    fn is_long(&self) -> bool {
        let left = &self.events[self.sent..];
        left.len() >= LONG_EVENTS || left.iter().map(Bytes::len).sum::<usize>() >= LONG_BYTES
    }

    fn next(&mut self) -> Bytes {
        let left = &self.events[self.sent..];
        let (part, later) = left.split_at(fitting(&self.header, self.id, left, self.limit));
        let head = pb::WatchResponse {
            header: Some(self.header),
            watch_id: self.id,
            fragment: !later.is_empty(),
            ..Default::default()
        };
        self.sent += part.len();
        assemble(&head, part)
    }
}

/// How many of `events` (at least one) make a response below `limit` bytes.
fn fitting(header: &pb::ResponseHeader, id: i64, events: &[Bytes], limit: usize) -> usize {
    let bare =
        pb::WatchResponse { header: Some(*header), watch_id: id, fragment: true, ..Default::default() };
    let mut size = bare.encoded_len();
    for (taken, event) in events.iter().enumerate() {
        size += field_len(event);
        if taken > 0 && size >= limit {
            return taken;
        }
    }
    events.len()
}

fn field_len(event: &Bytes) -> usize {
    key_len(EVENTS_FIELD) + encoded_len_varint(event.len() as u64) + event.len()
}

/// The encoding of `head` with `events` in it, which are not decoded.
fn assemble(head: &pb::WatchResponse, events: &[Bytes]) -> Bytes {
    let size = head.encoded_len() + events.iter().map(field_len).sum::<usize>();
    let mut out = BytesMut::with_capacity(size);
    head.encode_raw(&mut out);
    for event in events {
        encode_key(EVENTS_FIELD, WireType::LengthDelimited, &mut out);
        encode_varint(event.len() as u64, &mut out);
        out.put_slice(event);
    }
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use stanchion_api::mvccpb::{Event, KeyValue};

    fn events(sizes: &[usize]) -> Vec<Bytes> {
        let event = |&size: &usize| {
            let kv = KeyValue { key: "k".into(), value: vec![1; size].into(), ..Default::default() };
            Event { kv: Some(kv), ..Default::default() }.encode_to_vec().into()
        };
        sizes.iter().map(event).collect()
    }

    #[test]
    fn assembled_bytes_are_the_message() {
        let head = pb::WatchResponse {
            watch_id: 3,
            fragment: true,
            header: Some(Default::default()),
            ..Default::default()
        };
        let read = pb::WatchResponse::decode(assemble(&head, &events(&[1, 2]))).unwrap();
        assert_eq!(read.events.len(), 2);
        assert_eq!(pb::WatchResponse { events: vec![], ..read }, head);
    }

    #[test]
    fn wch_29_parts_stay_below_the_limit_but_hold_an_event() {
        let header = pb::ResponseHeader::default();
        let five = events(&[100; 5]);
        assert_eq!(fitting(&header, 0, &five, usize::MAX), 5);
        assert_eq!(fitting(&header, 0, &five, 10), 1);
        let two = fitting(&header, 0, &five, 300);
        assert_eq!(two, 2);
        let head = pb::WatchResponse { header: Some(header), fragment: true, ..Default::default() };
        assert!(assemble(&head, &five[..two]).len() < 300);
        assert!(assemble(&head, &five[..three(two)]).len() >= 300);
    }

    fn three(two: usize) -> usize {
        two + 1
    }
}
