//! The membership as the JSON of etcd's old (v2) store: what `.snap` files and snapshot messages carry.
//!
//! Members up to 3.5 take their membership from it and refuse to go on without it; later ones ignore it. Only the
//! branch `/0` is known here. It is written in the smallest form that every release reads.

use serde_json::{Map, Value, json};

use super::{Cluster, Member};

/// Writes members, removed members and the cluster's version, like `3.7.0`.
#[must_use]
pub fn to_v2_json(cluster: &Cluster, version: Option<&str>) -> Vec<u8> {
    let members = cluster.members().map(|member| (hex(member.id), member_node(member)));
    let removed = cluster.removed().map(|id| {
        let path = format!("/0/removed_members/{}", hex(id));
        (hex(id), leaf(&path, ""))
    });
    let mut own = Map::new();
    own.insert("members".to_owned(), directory("/0/members", members));
    own.insert("removed_members".to_owned(), directory("/0/removed_members", removed));
    if let Some(version) = version {
        own.insert("version".to_owned(), leaf("/0/version", version));
    }
    let root =
        directory("/", [("0".to_owned(), directory("/0", own)), ("1".to_owned(), directory("/1", []))]);
    json!({ "Root": root, "CurrentIndex": 3, "CurrentVersion": 2 }).to_string().into_bytes()
}

/// Reads them back; the version is absent before the first members have agreed on one.
///
/// # Errors
/// What is wrong, in words.
pub fn from_v2_json(bytes: &[u8]) -> Result<(Cluster, Option<String>), String> {
    let store: Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let own = store.pointer("/Root/Children/0").ok_or("no branch /0")?;
    let members = children(own, "members").map(|(name, node)| read_member(name, node));
    let removed = children(own, "removed_members").map(|(name, _)| read_id(name));
    let cluster = Cluster::new(
        members.collect::<Result<Vec<Member>, String>>()?,
        removed.collect::<Result<Vec<u64>, String>>()?,
    );
    let version = own.pointer("/Children/version/Value").and_then(Value::as_str);
    Ok((cluster, version.filter(|version| !version.is_empty()).map(str::to_owned)))
}

fn member_node(member: &Member) -> Value {
    let path = format!("/0/members/{}", hex(member.id));
    let mut raft = json!({ "peerURLs": member.peer_urls });
    if member.is_learner {
        raft["isLearner"] = Value::Bool(true);
    }
    let mut parts = vec![("raftAttributes", raft)];
    if member.is_started() {
        let mut attributes = json!({ "name": member.name });
        if !member.client_urls.is_empty() {
            attributes["clientURLs"] = json!(member.client_urls);
        }
        parts.push(("attributes", attributes));
    }
    let leaves = parts
        .into_iter()
        .map(|(name, value)| (name.to_owned(), leaf(&format!("{path}/{name}"), &value.to_string())));
    directory(&path, leaves)
}

fn read_member(name: &str, node: &Value) -> Result<Member, String> {
    let part = |part: &str| -> Result<Value, String> {
        match node.pointer(&format!("/Children/{part}/Value")).and_then(Value::as_str) {
            Some(text) => serde_json::from_str(text).map_err(|e| format!("{part} of member {name}: {e}")),
            None => Ok(Value::Null),
        }
    };
    let (raft, attributes) = (part("raftAttributes")?, part("attributes")?);
    if raft.is_null() {
        return Err(format!("member {name} has no raftAttributes"));
    }
    Ok(Member {
        id: read_id(name)?,
        peer_urls: strings(&raft["peerURLs"]),
        is_learner: raft["isLearner"].as_bool().unwrap_or(false),
        name: attributes["name"].as_str().unwrap_or_default().to_owned(),
        client_urls: strings(&attributes["clientURLs"]),
    })
}

fn read_id(name: &str) -> Result<u64, String> {
    u64::from_str_radix(name, 16).map_err(|_| format!("{name:?} is no member id"))
}

fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

fn children<'a>(node: &'a Value, name: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let found = node.pointer(&format!("/Children/{name}/Children")).and_then(Value::as_object);
    found.into_iter().flatten().map(|(name, node)| (name.as_str(), node))
}

/// Ids as etcd writes them in paths: without leading zeros.
fn hex(id: u64) -> String {
    format!("{id:x}")
}

fn leaf(path: &str, value: &str) -> Value {
    node(path, value, &Value::Null)
}

/// A directory has children, if only an empty set of them: that tells it from a leaf.
fn directory(path: &str, children: impl IntoIterator<Item = (String, Value)>) -> Value {
    node(path, "", &Value::Object(children.into_iter().collect()))
}

fn node(path: &str, value: &str, children: &Value) -> Value {
    json!({
        "Path": path,
        "CreatedIndex": 1,
        "ModifiedIndex": 1,
        // Go's zero time: it never expires.
        "ExpireTime": "0001-01-01T00:00:00Z",
        "Value": value,
        "Children": children,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_comes_back() {
        let member = |id, name: &str, is_learner| Member {
            id,
            peer_urls: vec![format!("http://127.0.0.1:{id}")],
            is_learner,
            name: name.to_owned(),
            client_urls: if name.is_empty() { Vec::new() } else { vec!["http://127.0.0.1:1".to_owned()] },
        };
        let cluster = Cluster::new(
            [member(0x0c78, "a", false), member(7, "", false), member(u64::MAX, "b", true)],
            [9, 0xabc],
        );
        assert_eq!(
            from_v2_json(&to_v2_json(&cluster, Some("3.5.0"))),
            Ok((cluster.clone(), Some("3.5.0".to_owned())))
        );
        assert_eq!(from_v2_json(&to_v2_json(&cluster, None)), Ok((cluster, None)));
    }

    /// Cut from a file of etcd 3.5.1: the parts that count.
    #[test]
    fn what_etcd_writes_is_read() {
        let json = br#"{"Root":{"Path":"/","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z",
            "Value":"","Children":{"0":{"Path":"/0","CreatedIndex":0,"ModifiedIndex":0,
            "ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{"members":{"Path":"/0/members",
            "CreatedIndex":1,"ModifiedIndex":1,"ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
            "249a333af4fe0c78":{"Path":"/0/members/249a333af4fe0c78","CreatedIndex":1,"ModifiedIndex":1,
            "ExpireTime":"0001-01-01T00:00:00Z","Value":"","Children":{
            "attributes":{"Path":"/0/members/249a333af4fe0c78/attributes","CreatedIndex":2,"ModifiedIndex":2,
            "ExpireTime":"0001-01-01T00:00:00Z",
            "Value":"{\"name\":\"m1\",\"clientURLs\":[\"http://127.0.0.1:24790\"]}","Children":null},
            "raftAttributes":{"Path":"/0/members/249a333af4fe0c78/raftAttributes","CreatedIndex":1,
            "ModifiedIndex":1,"ExpireTime":"0001-01-01T00:00:00Z",
            "Value":"{\"peerURLs\":[\"http://127.0.0.1:24791\"]}","Children":null}}}}},
            "version":{"Path":"/0/version","CreatedIndex":3,"ModifiedIndex":3,
            "ExpireTime":"0001-01-01T00:00:00Z","Value":"3.5.0","Children":null}}},
            "1":{"Path":"/1","CreatedIndex":0,"ModifiedIndex":0,"ExpireTime":"0001-01-01T00:00:00Z","Value":"",
            "Children":{}}}},"WatcherHub":{},"CurrentIndex":3,"Stats":{},"CurrentVersion":2}"#;
        let (cluster, version) = from_v2_json(json).unwrap();
        let member = cluster.member(0x249a_333a_f4fe_0c78).unwrap();
        assert_eq!((member.name.as_str(), version.as_deref()), ("m1", Some("3.5.0")));
        assert_eq!(member.peer_urls, ["http://127.0.0.1:24791"]);
        assert_eq!(member.client_urls, ["http://127.0.0.1:24790"]);
    }

    #[test]
    fn damage_is_named() {
        assert!(from_v2_json(b"{").is_err());
        assert_eq!(from_v2_json(b"{}"), Err("no branch /0".to_owned()));
        let nameless = br#"{"Root":{"Children":{"0":{"Children":{"members":{"Children":{"zz":{}}}}}}}}"#;
        assert_eq!(from_v2_json(nameless), Err("member zz has no raftAttributes".to_owned()));
    }
}
