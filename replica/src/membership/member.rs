//! One member, and the JSON in which the `members` bucket and conf changes carry it.

use serde::{Deserialize, Serialize};

/// A member of the cluster. The JSON form is that of the `members` bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Never 0.
    pub id: u64,
    /// Where the other members reach it.
    #[serde(rename = "peerURLs", default, deserialize_with = "null_as_empty")]
    pub peer_urls: Vec<String>,
    /// It receives the log but does not vote.
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    pub is_learner: bool,
    /// Empty until the member has published itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Empty until the member has published itself.
    #[serde(
        rename = "clientURLs",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_empty"
    )]
    pub client_urls: Vec<String>,
}

impl Member {
    /// Whether the member has published its name, which it does once it runs.
    #[must_use]
    pub fn is_started(&self) -> bool {
        !self.name.is_empty()
    }

    /// The JSON of the `members` bucket.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the JSON of the `members` bucket.
    ///
    /// # Errors
    /// The parser's text.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

/// The context of a conf change that adds, promotes or updates a member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeContext {
    /// The member as it shall be.
    #[serde(flatten)]
    pub member: Member,
    /// A learner becomes a voter; nothing else of `member` counts then.
    #[serde(rename = "isPromote", default, skip_serializing_if = "is_false")]
    pub is_promote: bool,
}

impl ChangeContext {
    /// The JSON of a conf change's context.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the context of a conf change.
    ///
    /// # Errors
    /// The parser's text.
    pub fn from_json(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

/// Plain data always has a JSON form.
fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_else(|e| panic!("a member has no JSON form: {e}"))
}

// serde hands over a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde calls")]
fn is_false(flag: &bool) -> bool {
    !flag
}

fn null_as_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_the_bucket_form() {
        let json = br#"{"id":14104732411336048408,"peerURLs":["http://127.0.0.1:24797"],"isLearner":true}"#;
        let member = Member::from_json(json).unwrap();
        assert_eq!(
            (member.id, member.is_learner, member.is_started()),
            (14_104_732_411_336_048_408, true, false)
        );
        assert_eq!(member.to_json(), json);
        let voter = Member { id: 7, peer_urls: vec!["u".into()], name: "n".into(), ..Member::default() };
        assert_eq!(voter.to_json(), br#"{"id":7,"peerURLs":["u"],"name":"n"}"#);
    }

    #[test]
    fn reads_a_promotion() {
        let context = ChangeContext::from_json(br#"{"id":5,"peerURLs":null,"isPromote":true}"#).unwrap();
        assert!(context.is_promote && context.member.peer_urls.is_empty());
        assert!(ChangeContext::from_json(b"{\"id\":-1}").is_err());
    }
}
