//! Log payloads without re-encoding: wrapping the bytes of a request into an `InternalRaftRequest`, and looking at one
//! without decoding the request inside. Deciding what a request does is not done here.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint,
    key_len, skip_field,
};

use crate::etcdserverpb::RequestHeader;

const ID_FIELD: u32 = 1;
const HEADER_FIELD: u32 = 100;

/// Why bytes are not a usable `InternalRaftRequest`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RaftRequestError {
    /// The bytes are no well-formed message.
    #[error("log payload of {len} bytes does not decode: {source}")]
    Malformed {
        /// Length of the whole payload in bytes.
        len: usize,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// A field claims more bytes than there are.
    #[error(
        "log payload of {len} bytes is cut short: field {field} needs {expected} bytes, {found} are left"
    )]
    Truncated {
        /// Length of the whole payload in bytes.
        len: usize,
        /// Number of the field.
        field: u32,
        /// Bytes that the field's length asks for.
        expected: u64,
        /// Bytes that are left.
        found: usize,
    },
    /// Two different requests in one entry, which no proposer writes.
    #[error("log payload holds two requests, {first:?} and {second:?}")]
    TwoRequests {
        /// The one found first.
        first: RequestKind,
        /// The one found after it.
        second: RequestKind,
    },
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// Which request an entry carries; the number is its field in `InternalRaftRequest`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RequestKind { $($(#[$doc])* $name = $number,)* }

        impl RequestKind {
            /// Every kind, by rising field number.
            pub const ALL: &'static [RequestKind] = &[$(RequestKind::$name,)*];

            /// The kind with this field number.
            pub fn from_field(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

kinds! {
    /// A v2 request of 3.5 and older; reserved since.
    V2 = 2,
    /// `RangeRequest`, not proposed any more.
    Range = 3,
    /// `PutRequest`.
    Put = 4,
    /// `DeleteRangeRequest`.
    DeleteRange = 5,
    /// `TxnRequest`.
    Txn = 6,
    /// `CompactionRequest`.
    Compaction = 7,
    /// `LeaseGrantRequest`.
    LeaseGrant = 8,
    /// `LeaseRevokeRequest`.
    LeaseRevoke = 9,
    /// `AlarmRequest`.
    Alarm = 10,
    /// `LeaseCheckpointRequest`.
    LeaseCheckpoint = 11,
    /// `AuthEnableRequest`.
    AuthEnable = 1000,
    /// `AuthDisableRequest`.
    AuthDisable = 1011,
    /// `InternalAuthenticateRequest`.
    Authenticate = 1012,
    /// `AuthStatusRequest`.
    AuthStatus = 1013,
    /// `AuthUserAddRequest`.
    AuthUserAdd = 1100,
    /// `AuthUserDeleteRequest`.
    AuthUserDelete = 1101,
    /// `AuthUserGetRequest`.
    AuthUserGet = 1102,
    /// `AuthUserChangePasswordRequest`.
    AuthUserChangePassword = 1103,
    /// `AuthUserGrantRoleRequest`.
    AuthUserGrantRole = 1104,
    /// `AuthUserRevokeRoleRequest`.
    AuthUserRevokeRole = 1105,
    /// `AuthUserListRequest`.
    AuthUserList = 1106,
    /// `AuthRoleListRequest`.
    AuthRoleList = 1107,
    /// `AuthRoleAddRequest`.
    AuthRoleAdd = 1200,
    /// `AuthRoleDeleteRequest`.
    AuthRoleDelete = 1201,
    /// `AuthRoleGetRequest`.
    AuthRoleGet = 1202,
    /// `AuthRoleGrantPermissionRequest`.
    AuthRoleGrantPermission = 1203,
    /// `AuthRoleRevokePermissionRequest`.
    AuthRoleRevokePermission = 1204,
    /// `membershippb.ClusterVersionSetRequest`.
    ClusterVersionSet = 1300,
    /// `membershippb.ClusterMemberAttrSetRequest`.
    ClusterMemberAttrSet = 1301,
    /// `membershippb.DowngradeInfoSetRequest`.
    DowngradeInfoSet = 1302,
    /// `DowngradeVersionTestRequest`.
    DowngradeVersionTest = 9900,
}

impl RequestKind {
    /// The field number in `InternalRaftRequest`.
    pub fn field(self) -> u32 {
        self as u32
    }
}

/// Encoded size in bytes of `header` and a request of `request_len` bytes as an `InternalRaftRequest`.
pub fn wrapped_len(header: &RequestHeader, kind: RequestKind, request_len: usize) -> usize {
    field_len(HEADER_FIELD, header.encoded_len()) + field_len(kind.field(), request_len)
}

/// Wraps the encoded `request` as it is: the result is `InternalRaftRequest { header, <kind>: request }`.
///
/// Fields stand in rising order, as etcd writes them.
pub fn wrap(header: &RequestHeader, kind: RequestKind, request: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(wrapped_len(header, kind, request.len()));
    if kind.field() < HEADER_FIELD {
        put_field(&mut out, kind.field(), request);
    }
    encode_key(HEADER_FIELD, WireType::LengthDelimited, &mut out);
    encode_varint(header.encoded_len() as u64, &mut out);
    header.encode_raw(&mut out);
    if kind.field() > HEADER_FIELD {
        put_field(&mut out, kind.field(), request);
    }
    out.freeze()
}

fn field_len(number: u32, len: usize) -> usize {
    key_len(number) + encoded_len_varint(len as u64) + len
}

fn put_field(out: &mut BytesMut, number: u32, content: &[u8]) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(content.len() as u64, out);
    out.put_slice(content);
}

/// An `InternalRaftRequest` whose inner request is still encoded, as a slice of the entry.
#[derive(Debug, Clone, PartialEq)]
pub struct RaftRequest {
    id: u64,
    /// Who proposed it; absent in entries of very old servers.
    pub header: Option<RequestHeader>,
    /// The request and its encoded bytes; `None` if the entry holds none that is known.
    pub request: Option<(RequestKind, Bytes)>,
}

impl RaftRequest {
    /// Reads the outer message only; unknown fields are skipped.
    pub fn parse(entry: Bytes) -> Result<Self, RaftRequestError> {
        let len = entry.len();
        let mut view = RaftRequest { id: 0, header: None, request: None };
        let mut rest = entry;
        while !rest.is_empty() {
            view.field(&mut rest).map_err(|e| match e {
                FieldError::Decode(source) => RaftRequestError::Malformed { len, source },
                FieldError::Short { field, expected, found } => {
                    RaftRequestError::Truncated { len, field, expected, found }
                }
                FieldError::Two(first, second) => RaftRequestError::TwoRequests { first, second },
            })?;
        }
        Ok(view)
    }

    /// The id under which the proposer waits: the older field 1 when it is set, else the header's.
    pub fn id(&self) -> u64 {
        match (&self.header, self.id) {
            (Some(header), 0) => header.id,
            (_, id) => id,
        }
    }

    fn field(&mut self, rest: &mut Bytes) -> Result<(), FieldError> {
        let (number, wire) = decode_key(rest)?;
        match (number, wire, RequestKind::from_field(number)) {
            (ID_FIELD, WireType::Varint, _) => self.id = decode_varint(rest)?,
            (HEADER_FIELD, WireType::LengthDelimited, _) => {
                let bytes = delimited(number, rest)?;
                self.header.get_or_insert_default().merge(bytes)?;
            }
            (_, WireType::LengthDelimited, Some(kind)) => self.take(kind, delimited(number, rest)?)?,
            _ => skip_field(wire, number, rest, DecodeContext::default())?,
        }
        Ok(())
    }

    fn take(&mut self, kind: RequestKind, bytes: Bytes) -> Result<(), FieldError> {
        self.request = match self.request.take() {
            None => Some((kind, bytes)),
            // A message field given twice is merged, and merging two encodings is joining them.
            Some((first, earlier)) if first == kind => Some((kind, [earlier, bytes].concat().into())),
            Some((first, _)) => return Err(FieldError::Two(first, kind)),
        };
        Ok(())
    }
}

enum FieldError {
    Decode(prost::DecodeError),
    Short { field: u32, expected: u64, found: usize },
    Two(RequestKind, RequestKind),
}

impl From<prost::DecodeError> for FieldError {
    fn from(error: prost::DecodeError) -> Self {
        FieldError::Decode(error)
    }
}

fn delimited(field: u32, rest: &mut Bytes) -> Result<Bytes, FieldError> {
    let expected = decode_varint(rest)?;
    match usize::try_from(expected) {
        Ok(len) if len <= rest.len() => Ok(rest.split_to(len)),
        _ => Err(FieldError::Short { field, expected, found: rest.len() }),
    }
}
