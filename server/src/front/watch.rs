//! The Watch service: one session per stream, between the client's requests and the member's deliveries.
//! Finding events is the member's work.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use stanchion_api::etcdserverpb as pb;
use stanchion_api::etcdserverpb::watch_request::RequestUnion;
use tokio::time::{Interval, MissedTickBehavior, interval_at};
use tokio_stream::Stream;
use tonic::Status;

use super::door::Call;
use super::{Front, Inbound, Outbound};
use crate::member::{Answer, Deliveries, Encoded, NewWatcher, WatchControl, WatchDelivery};
use crate::refusal::{COMPACTED, NO_LEADER, Refusal, STOPPED};

/// Id in answers that belong to no watcher.
const NO_WATCHER: i64 = -1;
/// Field of the events in a response.
const EVENTS_FIELD: u32 = 11;
const NO_PUT: i32 = pb::watch_create_request::FilterType::Noput as i32;
const NO_DELETE: i32 = pb::watch_create_request::FilterType::Nodelete as i32;

pub(super) async fn watch(
    front: Arc<Front>,
    call: Call,
    requests: Inbound<pb::WatchRequest>,
) -> Result<Outbound<pb::WatchResponse>, Refusal> {
    Ok(Box::pin(Session::new(front, call, requests)))
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

/// What goes out, in this order.
enum Item {
    Response(pb::WatchResponse),
    Events(Parts),
    /// The stream ends with it.
    End(Status),
}

/// Items that are made ready before what waits goes out; a delivery of the member may bring one more.
const WAITING: usize = 16;

/// One watch stream: the answers to a client's requests and the member's deliveries. It works when the connection asks
/// for the next answer, so that what happened at once is written at once, and a client that does not read keeps nothing
/// but what the member holds for it.
struct Session {
    front: Arc<Front>,
    control: Box<dyn WatchControl>,
    deliveries: Deliveries,
    /// `None` once the client has said all that it will; it goes on listening.
    requests: Option<Inbound<pb::WatchRequest>>,
    watchers: BTreeMap<i64, Watcher>,
    waiting: VecDeque<Item>,
    /// A worker encodes events; everything else waits for it.
    beside: Option<Answer<(Bytes, Parts)>>,
    leader_lost: Pin<Box<dyn Future<Output = ()> + Send>>,
    progress: Interval,
    ended: bool,
}

/// The configured interval and up to a tenth more, so that streams do not report in step.
fn progress_interval(front: &Front) -> Duration {
    let base = front.limits.watch_progress_interval.max(Duration::from_millis(100));
    base + base / 10 * (front.member.next_id() % 1000) as u32 / 1000
}

impl Stream for Session {
    type Item = Result<Encoded<pb::WatchResponse>, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            if let Some(beside) = &mut self.beside {
                let encoded = ready!(beside.as_mut().poll(context));
                self.beside = None;
                return Poll::Ready(Some(match encoded {
                    Ok((part, rest)) => Ok(self.sent(part, rest)),
                    Err(stopped) => Err(self.end(stopped.into())),
                }));
            }
            let Some(item) = self.waiting.pop_front() else {
                if self.advance(context) {
                    continue;
                }
                return Poll::Pending;
            };
            match item {
                Item::Response(response) => return Poll::Ready(Some(Ok(response.into()))),
                Item::Events(parts) if parts.is_long() => {
                    let front = self.front.clone();
                    self.beside =
                        Some(Box::pin(
                            async move { front.lanes.aside(async move { Ok(parts.cut()) }).await },
                        ));
                }
                Item::Events(parts) => {
                    let (part, rest) = parts.cut();
                    return Poll::Ready(Some(Ok(self.sent(part, rest))));
                }
                Item::End(status) => return Poll::Ready(Some(Err(self.end(status)))),
            }
        }
    }
}

impl Session {
    fn new(front: Arc<Front>, call: Call, requests: Inbound<pb::WatchRequest>) -> Session {
        let (control, deliveries) = front.member.watch_stream();
        let every = progress_interval(&front);
        let mut progress = interval_at(tokio::time::Instant::now() + every, every);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let looking = front.clone();
        Session {
            front,
            control,
            deliveries,
            requests: Some(requests),
            watchers: BTreeMap::new(),
            waiting: VecDeque::new(),
            beside: None,
            leader_lost: Box::pin(async move { looking.leader_lost(&call).await }),
            progress,
            ended: false,
        }
    }

    /// What is left of `parts` goes out next.
    fn sent(&mut self, part: Bytes, rest: Parts) -> Encoded<pb::WatchResponse> {
        if !rest.is_empty() {
            self.waiting.push_front(Item::Events(rest));
        }
        Encoded::from_bytes(part)
    }

    fn end(&mut self, status: Status) -> Status {
        self.ended = true;
        status
    }

    /// Takes in what the client, the member and the clocks say; false if all of them are silent.
    fn advance(&mut self, context: &mut Context<'_>) -> bool {
        if self.leader_lost.as_mut().poll(context).is_ready() {
            self.waiting.push_back(Item::End(NO_LEADER.into()));
            return true;
        }
        let asked = self.take_request(context);
        let told = self.take_deliveries(context, WAITING);
        let ticked = self.progress.poll_tick(context).is_ready();
        if ticked {
            self.progress_tick();
        }
        asked || told || ticked
    }

    fn take_request(&mut self, context: &mut Context<'_>) -> bool {
        let Some(requests) = &mut self.requests else { return false };
        match requests.as_mut().poll_next(context) {
            Poll::Pending => return false,
            Poll::Ready(None) => self.requests = None,
            Poll::Ready(Some(Ok(request))) => self.request(request.message, context),
            Poll::Ready(Some(Err(status))) => self.waiting.push_back(Item::End(status)),
        }
        true
    }

    /// Queues up to `most` deliveries that are ready; whether there were any.
    fn take_deliveries(&mut self, context: &mut Context<'_>, most: usize) -> bool {
        for taken in 0..most {
            match self.deliveries.as_mut().poll_next(context) {
                Poll::Pending => return taken > 0,
                Poll::Ready(Some(delivery)) => self.deliver(delivery),
                Poll::Ready(None) => {
                    self.waiting.push_back(Item::End(STOPPED.into()));
                    return true;
                }
            }
        }
        true
    }

    fn request(&mut self, request: pb::WatchRequest, context: &mut Context<'_>) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id, context),
            Some(RequestUnion::ProgressRequest(_)) => self.control.request_progress_all(),
            None => {}
        }
    }

    fn create(&mut self, mut create: pb::WatchCreateRequest) {
        if create.start_revision < 0 {
            return self.refuse(COMPACTED.message.into_owned());
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
            Err(refused) => self.refuse(refused.to_string()),
            Ok(created) => {
                let progress = if create.progress_notify { Progress::Due } else { Progress::Unwanted };
                self.watchers.insert(created.id, Watcher { fragment: create.fragment, progress });
                // Deliveries are read here alone, so none of this watcher can overtake this answer.
                let header = Some(self.front.member.standing().header(created.revision));
                self.send(pb::WatchResponse {
                    header,
                    watch_id: created.id,
                    created: true,
                    ..Default::default()
                });
            }
        }
    }

    fn refuse(&mut self, cancel_reason: String) {
        let response = pb::WatchResponse {
            header: Some(self.front.header()),
            watch_id: NO_WATCHER,
            created: true,
            canceled: true,
            cancel_reason,
            ..Default::default()
        };
        self.send(response);
    }

    fn cancel(&mut self, id: i64, context: &mut Context<'_>) {
        if !self.control.cancel(id) {
            return;
        }
        // What was queued before goes out before, so that nothing of this watcher is left when its id is used again.
        self.take_deliveries(context, usize::MAX);
        self.watchers.remove(&id);
        let header = Some(self.front.header());
        self.send(pb::WatchResponse { header, watch_id: id, canceled: true, ..Default::default() });
    }

    fn deliver(&mut self, delivery: WatchDelivery) {
        let standing = self.front.member.standing();
        match delivery {
            WatchDelivery::Events { id, revision, events } => {
                let Some(watcher) = self.watchers.get_mut(&id) else { return };
                if watcher.progress == Progress::Due {
                    watcher.progress = Progress::Skipped;
                }
                let limit = if watcher.fragment { self.front.limits.max_message_bytes() } else { usize::MAX };
                let header = standing.header(revision);
                self.waiting.push_back(Item::Events(Parts { header, id, events, sent: 0, limit }));
            }
            WatchDelivery::Progress { id, revision } => {
                let header = Some(standing.header(revision));
                self.send(pb::WatchResponse { header, watch_id: id, ..Default::default() });
            }
            WatchDelivery::Compacted { id, compact_revision } => {
                let header = Some(standing.header(0));
                self.send(pb::WatchResponse {
                    header,
                    watch_id: id,
                    canceled: true,
                    compact_revision,
                    ..Default::default()
                });
            }
        }
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

    fn send(&mut self, response: pb::WatchResponse) {
        self.waiting.push_back(Item::Response(response));
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

    fn is_empty(&self) -> bool {
        self.sent == self.events.len()
    }

    /// The next response, and what comes after it.
    fn cut(mut self) -> (Bytes, Parts) {
        let left = &self.events[self.sent..];
        let (part, later) = left.split_at(fitting(&self.header, self.id, left, self.limit));
        let head = pb::WatchResponse {
            header: Some(self.header),
            watch_id: self.id,
            fragment: !later.is_empty(),
            ..Default::default()
        };
        let response = assemble(&head, part);
        self.sent += part.len();
        (response, self)
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
