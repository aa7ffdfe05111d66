//! From the replica's words to the front's: replies with whole headers, refusals with etcd's texts.

use bytes::Bytes;
use prost::Message;
use stanchion_api::etcdserverpb as pb;
use stanchion_mvcc::RangeResult;
use stanchion_replica::apply::{ReadFailure, Refusal as Verdict, Reply};
use stanchion_replica::membership::{ChangeError, Member};

use crate::member::{Encoded, Standing};
use crate::refusal::{self, Refusal};

/// The encoded answer, its header filled in.
pub(super) fn encode(reply: Reply, standing: &Standing) -> Bytes {
    fn fill<M: Message>(
        mut message: M,
        standing: &Standing,
        header: fn(&mut M) -> &mut Option<pb::ResponseHeader>,
    ) -> Bytes {
        let header = header(&mut message);
        let revision = header.as_ref().map_or(standing.revision, |header| header.revision);
        *header = Some(standing.header(revision));
        message.encode_to_vec().into()
    }
    match reply {
        Reply::Put(m) => fill(m, standing, |m| &mut m.header),
        Reply::DeleteRange(m) => fill(m, standing, |m| &mut m.header),
        Reply::Txn(m) => fill(m, standing, |m| &mut m.header),
        Reply::Range(m) => fill(m, standing, |m| &mut m.header),
        Reply::Compaction(m) => fill(m, standing, |m| &mut m.header),
        Reply::LeaseGrant(m) => fill(m, standing, |m| &mut m.header),
        Reply::LeaseRevoke(m) => fill(m, standing, |m| &mut m.header),
        Reply::LeaseCheckpoint(m) => fill(m, standing, |m| &mut m.header),
        Reply::Alarm(m) => fill(m, standing, |m| &mut m.header),
        Reply::Done => Bytes::new(),
    }
}

/// A range's answer around the stored pairs, which are not decoded.
pub(super) fn range(result: RangeResult, standing: &Standing, revision: i64) -> Encoded<pb::RangeResponse> {
    let head = pb::RangeResponse { header: Some(standing.header(revision)), ..Default::default() };
    let tail = pb::RangeResponse { more: result.more, count: result.count as i64, ..Default::default() };
    Encoded::from_bytes(result.rows.framed_between(&head.encode_to_vec(), &tail.encode_to_vec()))
}

/// etcd's text for a verdict.
pub(super) fn refused(verdict: Verdict) -> Refusal {
    match verdict {
        Verdict::KeyNotFound => refusal::KEY_NOT_FOUND,
        Verdict::EmptyKey => refusal::EMPTY_KEY,
        Verdict::LeaseNotFound => refusal::LEASE_NOT_FOUND,
        Verdict::LeaseExists => refusal::LEASE_EXISTS,
        Verdict::LeaseTtlTooLarge => refusal::LEASE_TTL_TOO_LARGE,
        Verdict::Compacted => refusal::COMPACTED,
        Verdict::Future => refusal::FUTURE_REVISION,
        Verdict::NoSpace => refusal::NO_SPACE,
        Verdict::Corrupt => refusal::CORRUPT,
        Verdict::Membership(error) => match error {
            ChangeError::IdExists => refusal::MEMBER_EXISTS,
            ChangeError::IdRemoved | ChangeError::IdNotFound => refusal::MEMBER_NOT_FOUND,
            ChangeError::PeerUrlExists => refusal::PEER_URL_EXISTS,
            ChangeError::NotLearner => refusal::NOT_A_LEARNER,
            ChangeError::TooManyLearners => refusal::TOO_MANY_LEARNERS,
        },
        Verdict::Unknown { what } => Refusal::unknown(what),
    }
}

/// etcd's text for a read that failed.
pub(super) fn read_failed(failure: ReadFailure) -> Refusal {
    match failure {
        ReadFailure::Refused(verdict) => refused(verdict),
        ReadFailure::Store(error) => Refusal::unknown(error),
    }
}

/// A member as clients see it.
pub(super) fn member(member: &Member) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

/// A member as another one has listed it.
pub(super) fn listed_member(member: stanchion_peer::MemberInfo) -> pb::Member {
    pb::Member {
        id: member.id,
        name: member.name,
        peer_ur_ls: member.peer_urls,
        client_ur_ls: member.client_urls,
        is_learner: member.is_learner,
    }
}
