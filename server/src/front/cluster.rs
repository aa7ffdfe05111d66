//! The Cluster service; its headers carry revision 0.

use std::sync::Arc;

use stanchion_api::etcdserverpb as pb;
use url::Url;

use super::door::Call;
use super::{Front, Raw};
use crate::member::Encoded;
use crate::refusal::{BAD_MEMBER_URLS, Refusal};

pub(super) async fn list(
    front: Arc<Front>,
    _: Call,
    request: Raw<pb::MemberListRequest>,
) -> Result<Encoded<pb::MemberListResponse>, Refusal> {
    let members = front.member.members(request.message.linearizable).await?;
    Ok(pb::MemberListResponse { header: front.cluster_header(), members }.into())
}

pub(super) async fn add(
    front: Arc<Front>,
    _: Call,
    request: Raw<pb::MemberAddRequest>,
) -> Result<Encoded<pb::MemberAddResponse>, Refusal> {
    let urls = request.message.peer_ur_ls;
    check_peer_urls(&urls)?;
    let (member, members) = front.member.member_add(urls, request.message.is_learner).await?;
    Ok(pb::MemberAddResponse { header: front.cluster_header(), member: Some(member), members }.into())
}

pub(super) async fn remove(
    front: Arc<Front>,
    _: Call,
    request: Raw<pb::MemberRemoveRequest>,
) -> Result<Encoded<pb::MemberRemoveResponse>, Refusal> {
    let members = front.member.member_remove(request.message.id).await?;
    Ok(pb::MemberRemoveResponse { header: front.cluster_header(), members }.into())
}

/// etcd lets unusable URLs through here, and every member that dials them dies: they are refused as in [`add`].
pub(super) async fn update(
    front: Arc<Front>,
    _: Call,
    request: Raw<pb::MemberUpdateRequest>,
) -> Result<Encoded<pb::MemberUpdateResponse>, Refusal> {
    check_peer_urls(&request.message.peer_ur_ls)?;
    let members = front.member.member_update(request.message.id, request.message.peer_ur_ls).await?;
    Ok(pb::MemberUpdateResponse { header: front.cluster_header(), members }.into())
}

pub(super) async fn promote(
    front: Arc<Front>,
    _: Call,
    request: Raw<pb::MemberPromoteRequest>,
) -> Result<Encoded<pb::MemberPromoteResponse>, Refusal> {
    let members = front.member.member_promote(request.message.id).await?;
    Ok(pb::MemberPromoteResponse { header: front.cluster_header(), members }.into())
}

impl Front {
    fn cluster_header(&self) -> Option<pb::ResponseHeader> {
        Some(self.member.standing().header(0))
    }
}

fn check_peer_urls(urls: &[String]) -> Result<(), Refusal> {
    if !urls.is_empty() && urls.iter().all(|url| is_peer_url(url)) { Ok(()) } else { Err(BAD_MEMBER_URLS) }
}

fn is_peer_url(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    match url.scheme() {
        "unix" | "unixs" => true,
        // The parser hides a port that is the scheme's default, so the text is asked.
        "http" | "https" => {
            let authority = text.split_once("://").map_or("", |(_, rest)| rest);
            let has_port = authority
                .rsplit_once(':')
                .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            has_port && !authority.contains('/')
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clu_4_peer_urls_have_scheme_host_and_port_but_no_path() {
        for good in ["http://127.0.0.1:2380", "https://a.b:80", "http://[::1]:80", "unix://localhost:0"] {
            assert!(is_peer_url(good), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:2380",
            "http://a",
            "http://a:1/",
            "http://a:1/p",
            "ftp://a:1",
            "http://:1",
            "http://a:x",
        ] {
            assert!(!is_peer_url(bad), "{bad}");
        }
        assert_eq!(check_peer_urls(&[]), Err(BAD_MEMBER_URLS));
    }
}
