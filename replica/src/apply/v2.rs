//! v2 requests in logs of 3.5 and before: those releases published members and the cluster version in this form.
//!
//! Everything else that is written so is data of the v2 store, which has gone from etcd: it has no effect.

use bytes::Bytes;
use prost::Message;
use serde::Deserialize;
use stanchion_api::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};

use super::Request;

/// What is read of `etcdserverpb.Request`.
#[derive(Clone, PartialEq, Message)]
struct V2Request {
    #[prost(string, tag = "2")]
    method: String,
    #[prost(string, tag = "3")]
    path: String,
    #[prost(string, tag = "4")]
    value: String,
}

const METHODS: [&str; 5] = ["PUT", "POST", "DELETE", "QGET", "SYNC"];

/// What a v2 request is to the members.
#[derive(Debug)]
pub(crate) enum V2 {
    /// The same as this request.
    Request(Request),
    /// Nothing.
    Nothing,
}

/// The v2 request in an entry; `None` if it is none. No request of today begins like one: where a v2 request has its
/// method they have a message, and none of the methods is one.
pub(crate) fn read(data: Bytes) -> Option<V2> {
    let request = V2Request::decode(data).ok().filter(|r| METHODS.contains(&r.method.as_str()))?;
    let put = request.method == "PUT";
    Some(put.then(|| meaning(&request)).flatten().map_or(V2::Nothing, V2::Request))
}

fn meaning(request: &V2Request) -> Option<Request> {
    if request.path == "/0/version" {
        return Some(Request::ClusterVersion(ClusterVersionSetRequest { ver: request.value.clone() }));
    }
    let id = request.path.strip_prefix("/0/members/")?.strip_suffix("/attributes")?;
    let member_id = u64::from_str_radix(id, 16).ok()?;
    let member_attributes = Some(attributes(&request.value)?);
    Some(Request::MemberAttributes(ClusterMemberAttrSetRequest { member_id, member_attributes }))
}

/// What a member published of itself, in the JSON of the v2 store.
pub(crate) fn attributes(json: &str) -> Option<Attributes> {
    #[derive(Deserialize)]
    struct Published {
        #[serde(default)]
        name: String,
        #[serde(rename = "clientURLs", default)]
        client_urls: Option<Vec<String>>,
    }
    let published: Published = serde_json::from_str(json).ok()?;
    Some(Attributes { name: published.name, client_urls: published.client_urls.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use stanchion_api::etcdserverpb as pb;
    use stanchion_api::raft_request::{RequestKind, wrap};

    use super::*;

    fn entry(method: &str, path: &str, value: &str) -> Bytes {
        // As 3.5 writes it: every scalar, its id first, what nobody reads behind.
        let text = V2Request { method: method.into(), path: path.into(), value: value.into() };
        let mut bytes = vec![0x08, 0x81, 0x9a, 0x9a, 0x28];
        bytes.extend(text.encode_to_vec());
        bytes.extend([0x28, 0, 0x32, 0, 0x38, 0, 0x48, 0, 0x50, 0, 0x80, 0x01, 0]);
        bytes.into()
    }

    #[test]
    fn members_and_versions_are_published_so() {
        let path = "/0/members/249a333af4fe0c78/attributes";
        let value = r#"{"name":"n1","clientURLs":["http://127.0.0.1:24790"]}"#;
        match read(entry("PUT", path, value)) {
            Some(V2::Request(Request::MemberAttributes(request))) => {
                assert_eq!(request.member_id, 0x249a_333a_f4fe_0c78);
                assert_eq!(request.member_attributes.unwrap().name, "n1");
            }
            other => panic!("{other:?}"),
        }
        match read(entry("PUT", "/0/version", "3.5.0")) {
            Some(V2::Request(Request::ClusterVersion(request))) => assert_eq!(request.ver, "3.5.0"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn other_v2_data_is_nothing_and_requests_of_today_are_none() {
        for (method, path) in [("PUT", "/1/a"), ("SYNC", ""), ("DELETE", "/0/version"), ("QGET", "/1")] {
            assert!(matches!(read(entry(method, path, "v")), Some(V2::Nothing)), "{method} {path}");
        }
        let put = pb::PutRequest { key: "PUT".into(), value: "PUT".into(), ..Default::default() };
        let header = pb::RequestHeader { id: 7, ..Default::default() };
        assert!(read(wrap(&header, RequestKind::Put, &put.encode_to_vec())).is_none());
        assert!(read(Bytes::from_static(b"\xff\xff")).is_none());
    }
}
