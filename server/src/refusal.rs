//! Refusals as clients see them: a gRPC code and etcd's exact text. Clients act on the text, so it is the contract.
//! Deciding when to refuse is not done here.

use std::borrow::Cow;
use std::fmt;

use tonic::{Code, Status};

/// A request's refusal on its way to the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// gRPC status code as it goes over the wire.
    pub code: Code,
    /// The whole status message.
    pub message: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with a fixed text.
    pub const fn fixed(code: Code, message: &'static str) -> Self {
        Refusal { code, message: Cow::Borrowed(message) }
    }

    /// An error without a place in the catalogue: code Unknown and its own text.
    pub fn unknown(message: impl fmt::Display) -> Self {
        Refusal { code: Code::Unknown, message: Cow::Owned(message.to_string()) }
    }

    /// How Go prints this status inside another text, as in the cancel reason of a watch.
    pub fn go_text(&self) -> String {
        format!("rpc error: code = {:?} desc = {}", self.code, self.message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Status::new(refusal.code, refusal.message)
    }
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $name:ident = $code:ident $text:literal;)*) => {
        $($(#[$doc])* pub const $name: Refusal = Refusal::fixed(Code::$code, $text);)*

        /// Every fixed refusal, for tests and for mapping texts back.
        pub const ALL: &[Refusal] = &[$($name,)*];
    };
}

catalogue! {
    /// Empty key in a request, an operation or a compare.
    EMPTY_KEY = InvalidArgument "etcdserver: key is not provided";
    /// `ignore_value` or `ignore_lease` on a missing key; a transaction's operation without a request.
    KEY_NOT_FOUND = InvalidArgument "etcdserver: key not found";
    /// A value beside `ignore_value`.
    VALUE_PROVIDED = InvalidArgument "etcdserver: value is provided";
    /// A lease beside `ignore_lease`.
    LEASE_PROVIDED = InvalidArgument "etcdserver: lease is provided";
    /// More operations than `--max-txn-ops`.
    TOO_MANY_OPS = InvalidArgument "etcdserver: too many operations in txn request";
    /// Two writes of one transaction meet.
    DUPLICATE_KEY = InvalidArgument "etcdserver: duplicate key given in txn request";
    /// Metadata `client-api-version` is no UTF-8.
    INVALID_CLIENT_API_VERSION = InvalidArgument "etcdserver: invalid client api version";
    /// Unknown sort order or target.
    INVALID_SORT = InvalidArgument "etcdserver: invalid sort option";
    /// The revision is at or below the compacted one.
    COMPACTED = OutOfRange "etcdserver: mvcc: required revision has been compacted";
    /// The revision is above the current one.
    FUTURE_REVISION = OutOfRange "etcdserver: mvcc: required revision is a future revision";
    /// Quota reached or NOSPACE alarm active.
    NO_SPACE = ResourceExhausted "etcdserver: mvcc: database space exceeded";
    /// No such lease.
    LEASE_NOT_FOUND = NotFound "etcdserver: requested lease not found";
    /// The lease id is in use.
    LEASE_EXISTS = FailedPrecondition "etcdserver: lease already exists";
    /// TTL above 9,000,000,000 seconds.
    LEASE_TTL_TOO_LARGE = OutOfRange "etcdserver: too large lease TTL";
    /// The watch call was cancelled.
    WATCH_CANCELED = Cancelled "etcdserver: watch canceled";
    /// The new member's id is in use.
    MEMBER_EXISTS = FailedPrecondition "etcdserver: member ID already exist";
    /// A peer URL belongs to another member.
    PEER_URL_EXISTS = FailedPrecondition "etcdserver: Peer URLs already exists";
    /// Strict reconfiguration check: too few started voters.
    NOT_ENOUGH_STARTED = Unknown "etcdserver: re-configuration failed due to not enough started members";
    /// Peer URLs that cannot be used.
    BAD_MEMBER_URLS = InvalidArgument "etcdserver: given member URLs are invalid";
    /// Unknown or removed member.
    MEMBER_NOT_FOUND = NotFound "etcdserver: member not found";
    /// Promotion of a voter.
    NOT_A_LEARNER = FailedPrecondition "etcdserver: can only promote a learner member";
    /// Promotion of a learner that lags.
    LEARNER_NOT_READY = FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader";
    /// More learners than `--max-learners`.
    TOO_MANY_LEARNERS = FailedPrecondition "etcdserver: too many learner members in cluster";
    /// The wrapped request exceeds `--max-request-bytes`.
    REQUEST_TOO_LARGE = InvalidArgument "etcdserver: request is too large";
    /// Applying lags too far behind committing.
    TOO_MANY_REQUESTS = Unknown "etcdserver: too many requests";
    /// Auth is off.
    AUTH_NOT_ENABLED = FailedPrecondition "etcdserver: authentication is not enabled";
    /// No such user.
    USER_NOT_FOUND = FailedPrecondition "etcdserver: user name not found";
    /// No such role.
    ROLE_NOT_FOUND = FailedPrecondition "etcdserver: role name not found";
    /// The permission is missing.
    PERMISSION_DENIED = PermissionDenied "etcdserver: permission denied";
    /// No leader is known.
    NO_LEADER = Unavailable "etcdserver: no leader";
    /// Only the leader can do this.
    NOT_LEADER = FailedPrecondition "etcdserver: not leader";
    /// The leader changed while the request waited.
    LEADER_CHANGED = Unavailable "etcdserver: leader changed";
    /// The member stops.
    STOPPED = Unavailable "etcdserver: server stopped";
    /// The request timeout passed.
    TIMEOUT = Unavailable "etcdserver: request timed out";
    /// The request timeout passed around the loss of a leader.
    TIMEOUT_LEADER_LOSS = Unavailable "etcdserver: request timed out, possibly due to previous leader failure";
    /// The request timeout passed without a connection to the leader or a quorum.
    TIMEOUT_CONNECTION_LOST = Unavailable "etcdserver: request timed out, possibly due to connection lost";
    /// The applied index did not catch up within a second.
    TIMEOUT_APPLY = Unavailable "etcdserver: request timed out, waiting for the applied index took too long";
    /// Strict reconfiguration check: no safe quorum is connected.
    UNHEALTHY = Unavailable "etcdserver: unhealthy cluster";
    /// CORRUPT alarm active.
    CORRUPT = DataLoss "etcdserver: corrupt cluster";
    /// A learner does not serve this.
    LEARNER = FailedPrecondition "etcdserver: rpc not supported for learner";
    /// The transferee is unknown or a learner.
    BAD_TRANSFEREE = FailedPrecondition "etcdserver: bad leader transferee";
    /// A target that is no `X.Y` or `X.Y.Z`.
    DOWNGRADE_FORMAT = InvalidArgument "etcdserver: wrong downgrade target version format";
    /// A target that is not exactly one minor below.
    DOWNGRADE_TARGET = InvalidArgument "etcdserver: invalid downgrade target version";
    /// The cluster version is not known yet.
    DOWNGRADE_NO_VERSION = FailedPrecondition "etcdserver: cluster version not found during downgrade";
    /// A downgrade is under way.
    DOWNGRADE_IN_PROGRESS = FailedPrecondition "etcdserver: cluster has a downgrade job in progress";
    /// The caller went away while the proposal was pending.
    CANCELED = Cancelled "etcdserver: request canceled";
    /// A deadline passed before the request reached raft.
    DEADLINE = DeadlineExceeded "context deadline exceeded";
    /// An action that does not exist.
    UNKNOWN_METHOD = Unknown "etcdserver: unknown method";
    /// The transfer outlasted the caller's deadline.
    TRANSFER_TIMEOUT = Unknown "etcdserver: request timed out, leader transfer took too long";
    /// Leadership went away during a renewal.
    NOT_PRIMARY_LESSOR = Unknown "not a primary lessor";
    /// raft refused the proposal, as during a leader transfer.
    PROPOSAL_DROPPED = Unknown "raft proposal dropped";
    /// A streamed range in another order than by rising key.
    STREAM_SORT = Unimplemented "RangeStream does not support custom sort orders";
    /// A streamed range with bounds on revisions.
    STREAM_FILTER = Unimplemented "RangeStream does not support revision filters";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_prints_the_status_with_its_code_name() {
        assert_eq!(
            PERMISSION_DENIED.go_text(),
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
        );
    }

    #[test]
    fn texts_are_unique() {
        let mut texts: Vec<_> = ALL.iter().map(|r| r.message.as_ref()).collect();
        texts.sort_unstable();
        let count = texts.len();
        texts.dedup();
        assert_eq!(texts.len(), count);
    }
}
