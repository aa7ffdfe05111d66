//! Every method with its gRPC path, its routes in the JSON gateway and the function that serves it. Only tables are here.

/// Hands `(gRPC path, [gateway paths], request, response, whether a learner serves it, function)` of every unary method
/// to the macro `$with`, behind `$args`.
macro_rules! unary_methods {
    ($with:ident $args:tt) => {
        $with! { $args;
            "/etcdserverpb.KV/Range" ["/v3/kv/range"] pb::RangeRequest, pb::RangeResponse, true, kv::range;
            "/etcdserverpb.KV/Put" ["/v3/kv/put"] pb::PutRequest, pb::PutResponse, false, kv::put;
            "/etcdserverpb.KV/DeleteRange" ["/v3/kv/deleterange"] pb::DeleteRangeRequest, pb::DeleteRangeResponse, false, kv::delete_range;
            "/etcdserverpb.KV/Txn" ["/v3/kv/txn"] pb::TxnRequest, pb::TxnResponse, false, kv::txn;
            "/etcdserverpb.KV/Compact" ["/v3/kv/compaction"] pb::CompactionRequest, pb::CompactionResponse, false, kv::compact;
            "/etcdserverpb.Lease/LeaseGrant" ["/v3/lease/grant"] pb::LeaseGrantRequest, pb::LeaseGrantResponse, false, lease::grant;
            "/etcdserverpb.Lease/LeaseRevoke" ["/v3/lease/revoke" | "/v3/kv/lease/revoke"] pb::LeaseRevokeRequest, pb::LeaseRevokeResponse, false, lease::revoke;
            "/etcdserverpb.Lease/LeaseTimeToLive" ["/v3/lease/timetolive" | "/v3/kv/lease/timetolive"] pb::LeaseTimeToLiveRequest, pb::LeaseTimeToLiveResponse, false, lease::time_to_live;
            "/etcdserverpb.Lease/LeaseLeases" ["/v3/lease/leases" | "/v3/kv/lease/leases"] pb::LeaseLeasesRequest, pb::LeaseLeasesResponse, false, lease::leases;
            "/etcdserverpb.Cluster/MemberAdd" ["/v3/cluster/member/add"] pb::MemberAddRequest, pb::MemberAddResponse, false, cluster::add;
            "/etcdserverpb.Cluster/MemberRemove" ["/v3/cluster/member/remove"] pb::MemberRemoveRequest, pb::MemberRemoveResponse, false, cluster::remove;
            "/etcdserverpb.Cluster/MemberUpdate" ["/v3/cluster/member/update"] pb::MemberUpdateRequest, pb::MemberUpdateResponse, false, cluster::update;
            "/etcdserverpb.Cluster/MemberList" ["/v3/cluster/member/list"] pb::MemberListRequest, pb::MemberListResponse, false, cluster::list;
            "/etcdserverpb.Cluster/MemberPromote" ["/v3/cluster/member/promote"] pb::MemberPromoteRequest, pb::MemberPromoteResponse, false, cluster::promote;
            "/etcdserverpb.Maintenance/Alarm" ["/v3/maintenance/alarm"] pb::AlarmRequest, pb::AlarmResponse, false, maintenance::alarm;
            "/etcdserverpb.Maintenance/Status" ["/v3/maintenance/status"] pb::StatusRequest, pb::StatusResponse, true, maintenance::status;
            "/etcdserverpb.Maintenance/Defragment" ["/v3/maintenance/defragment"] pb::DefragmentRequest, pb::DefragmentResponse, false, maintenance::defragment;
            "/etcdserverpb.Maintenance/Hash" ["/v3/maintenance/hash"] pb::HashRequest, pb::HashResponse, false, maintenance::hash;
            "/etcdserverpb.Maintenance/HashKV" ["/v3/maintenance/hashkv"] pb::HashKvRequest, pb::HashKvResponse, false, maintenance::hash_kv;
            "/etcdserverpb.Maintenance/MoveLeader" ["/v3/maintenance/transfer-leadership"] pb::MoveLeaderRequest, pb::MoveLeaderResponse, false, maintenance::move_leader;
            "/etcdserverpb.Maintenance/Downgrade" ["/v3/maintenance/downgrade"] pb::DowngradeRequest, pb::DowngradeResponse, false, downgrade::downgrade;
            "/etcdserverpb.Auth/AuthEnable" ["/v3/auth/enable"] pb::AuthEnableRequest, pb::AuthEnableResponse, false, auth::not_built;
            "/etcdserverpb.Auth/AuthDisable" ["/v3/auth/disable"] pb::AuthDisableRequest, pb::AuthDisableResponse, false, auth::disable;
            "/etcdserverpb.Auth/AuthStatus" ["/v3/auth/status"] pb::AuthStatusRequest, pb::AuthStatusResponse, false, auth::status;
            "/etcdserverpb.Auth/Authenticate" ["/v3/auth/authenticate"] pb::AuthenticateRequest, pb::AuthenticateResponse, false, auth::authenticate;
            "/etcdserverpb.Auth/UserAdd" ["/v3/auth/user/add"] pb::AuthUserAddRequest, pb::AuthUserAddResponse, false, auth::not_built;
            "/etcdserverpb.Auth/UserGet" ["/v3/auth/user/get"] pb::AuthUserGetRequest, pb::AuthUserGetResponse, false, auth::user_get;
            "/etcdserverpb.Auth/UserList" ["/v3/auth/user/list"] pb::AuthUserListRequest, pb::AuthUserListResponse, false, auth::user_list;
            "/etcdserverpb.Auth/UserDelete" ["/v3/auth/user/delete"] pb::AuthUserDeleteRequest, pb::AuthUserDeleteResponse, false, auth::not_built;
            "/etcdserverpb.Auth/UserChangePassword" ["/v3/auth/user/changepw"] pb::AuthUserChangePasswordRequest, pb::AuthUserChangePasswordResponse, false, auth::not_built;
            "/etcdserverpb.Auth/UserGrantRole" ["/v3/auth/user/grant"] pb::AuthUserGrantRoleRequest, pb::AuthUserGrantRoleResponse, false, auth::not_built;
            "/etcdserverpb.Auth/UserRevokeRole" ["/v3/auth/user/revoke"] pb::AuthUserRevokeRoleRequest, pb::AuthUserRevokeRoleResponse, false, auth::not_built;
            "/etcdserverpb.Auth/RoleAdd" ["/v3/auth/role/add"] pb::AuthRoleAddRequest, pb::AuthRoleAddResponse, false, auth::not_built;
            "/etcdserverpb.Auth/RoleGet" ["/v3/auth/role/get"] pb::AuthRoleGetRequest, pb::AuthRoleGetResponse, false, auth::role_get;
            "/etcdserverpb.Auth/RoleList" ["/v3/auth/role/list"] pb::AuthRoleListRequest, pb::AuthRoleListResponse, false, auth::role_list;
            "/etcdserverpb.Auth/RoleDelete" ["/v3/auth/role/delete"] pb::AuthRoleDeleteRequest, pb::AuthRoleDeleteResponse, false, auth::not_built;
            "/etcdserverpb.Auth/RoleGrantPermission" ["/v3/auth/role/grant"] pb::AuthRoleGrantPermissionRequest, pb::AuthRoleGrantPermissionResponse, false, auth::not_built;
            "/etcdserverpb.Auth/RoleRevokePermission" ["/v3/auth/role/revoke"] pb::AuthRoleRevokePermissionRequest, pb::AuthRoleRevokePermissionResponse, false, auth::not_built;
            "/v3lockpb.Lock/Lock" ["/v3/lock/lock"] lk::LockRequest, lk::LockResponse, false, concurrency::lock;
            "/v3lockpb.Lock/Unlock" ["/v3/lock/unlock"] lk::UnlockRequest, lk::UnlockResponse, false, concurrency::unlock;
            "/v3electionpb.Election/Campaign" ["/v3/election/campaign"] el::CampaignRequest, el::CampaignResponse, false, concurrency::campaign;
            "/v3electionpb.Election/Proclaim" ["/v3/election/proclaim"] el::ProclaimRequest, el::ProclaimResponse, false, concurrency::proclaim;
            "/v3electionpb.Election/Leader" ["/v3/election/leader"] el::LeaderRequest, el::LeaderResponse, false, concurrency::leader;
            "/v3electionpb.Election/Resign" ["/v3/election/resign"] el::ResignRequest, el::ResignResponse, false, concurrency::resign;
        }
    };
}

/// The same for methods that answer one request with a stream; an empty route means gRPC only.
macro_rules! server_streams {
    ($with:ident $args:tt) => {
        $with! { $args;
            "/etcdserverpb.KV/RangeStream" [""] pb::RangeRequest, pb::RangeStreamResponse, false, kv::range_stream;
            "/etcdserverpb.Maintenance/Snapshot" ["/v3/maintenance/snapshot"] pb::SnapshotRequest, pb::SnapshotResponse, true, maintenance::snapshot;
            "/v3electionpb.Election/Observe" ["/v3/election/observe"] el::LeaderRequest, el::LeaderResponse, false, concurrency::observe;
        }
    };
}

/// The same for methods with a stream in both directions.
macro_rules! both_streams {
    ($with:ident $args:tt) => {
        $with! { $args;
            "/etcdserverpb.Watch/Watch" ["/v3/watch"] pb::WatchRequest, pb::WatchResponse, false, watch::watch;
            "/etcdserverpb.Lease/LeaseKeepAlive" ["/v3/lease/keepalive"] pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse, false, lease::keep_alive;
        }
    };
}

pub(super) use {both_streams, server_streams, unary_methods};

/// Services on the client port, for the text about an unknown method.
pub(super) const SERVICES: &[&str] = &[
    "etcdserverpb.KV",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Auth",
    "v3lockpb.Lock",
    "v3electionpb.Election",
    "grpc.health.v1.Health",
];
