//! The Auth service while auth cannot be enabled: reads answer as etcd does with auth off and no users or roles, the
//! rest says that it is not built. Deciding who may do what belongs to the front door and to apply.

use std::sync::Arc;

use stanchion_api::etcdserverpb as pb;
use tonic::Code;

use super::door::Call;
use super::{Front, Raw};
use crate::member::Encoded;
use crate::refusal::{AUTH_NOT_ENABLED, ROLE_NOT_FOUND, Refusal, USER_NOT_FOUND};

/// Auth revision of a store that never saw an auth change.
const FRESH_AUTH_REVISION: u64 = 1;

pub(super) async fn status(
    front: Arc<Front>,
    _: Call,
    _: Raw<pb::AuthStatusRequest>,
) -> Result<Encoded<pb::AuthStatusResponse>, Refusal> {
    let header = Some(front.header());
    Ok(pb::AuthStatusResponse { header, enabled: false, auth_revision: FRESH_AUTH_REVISION }.into())
}

pub(super) async fn disable(
    front: Arc<Front>,
    _: Call,
    _: Raw<pb::AuthDisableRequest>,
) -> Result<Encoded<pb::AuthDisableResponse>, Refusal> {
    Ok(pb::AuthDisableResponse { header: Some(front.header()) }.into())
}

pub(super) async fn authenticate(
    _: Arc<Front>,
    _: Call,
    _: Raw<pb::AuthenticateRequest>,
) -> Result<Encoded<pb::AuthenticateResponse>, Refusal> {
    Err(AUTH_NOT_ENABLED)
}

pub(super) async fn user_list(
    front: Arc<Front>,
    _: Call,
    _: Raw<pb::AuthUserListRequest>,
) -> Result<Encoded<pb::AuthUserListResponse>, Refusal> {
    Ok(pb::AuthUserListResponse { header: Some(front.header()), users: Vec::new() }.into())
}

pub(super) async fn role_list(
    front: Arc<Front>,
    _: Call,
    _: Raw<pb::AuthRoleListRequest>,
) -> Result<Encoded<pb::AuthRoleListResponse>, Refusal> {
    Ok(pb::AuthRoleListResponse { header: Some(front.header()), roles: Vec::new() }.into())
}

pub(super) async fn user_get(
    _: Arc<Front>,
    _: Call,
    _: Raw<pb::AuthUserGetRequest>,
) -> Result<Encoded<pb::AuthUserGetResponse>, Refusal> {
    Err(USER_NOT_FOUND)
}

pub(super) async fn role_get(
    _: Arc<Front>,
    _: Call,
    _: Raw<pb::AuthRoleGetRequest>,
) -> Result<Encoded<pb::AuthRoleGetResponse>, Refusal> {
    Err(ROLE_NOT_FOUND)
}

/// Every change of users, roles and grants.
pub(super) async fn not_built<Req, Resp>(
    _: Arc<Front>,
    _: Call,
    _: Raw<Req>,
) -> Result<Encoded<Resp>, Refusal> {
    Err(Refusal::fixed(Code::Unimplemented, "stanchion: users, roles and auth are not supported yet"))
}
