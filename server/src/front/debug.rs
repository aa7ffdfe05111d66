//! For a look by hand: what the process and raft are up to (`/debug/vars`), and how much the log says of it.

use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};

use super::Front;
use super::http::{HttpRequest, HttpResponse, PLAIN, method_not_allowed, refusal, text};
use crate::logging::Control;

pub(super) fn vars(front: &Front) -> HttpResponse {
    let raft = front.member.raft_status();
    let standing = front.member.standing();
    let mut vars = serde_json::json!({
        "cmdline": std::env::args().collect::<Vec<_>>(),
        "file_descriptor_limit": rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        "memstats": memory(&std::fs::read_to_string("/proc/self/status").unwrap_or_default()),
        "raft.status": {
            "id": format!("{:x}", standing.member_id),
            "term": raft.term,
            "vote": format!("{:x}", raft.vote),
            "commit": raft.commit,
            "lead": format!("{:x}", standing.leader),
            "raftState": raft.role,
            "applied": raft.applied,
            "leadtransferee": "0",
        },
    });
    if let Some(log) = &front.log {
        vars["lost_log_lines"] = log.lost_lines().into();
    }
    text(StatusCode::OK, "application/json; charset=utf-8", vars.to_string())
}

/// What `PUT /config/local/log` takes, as etcd 3.4 did: the one way to change the log level while a member runs.
#[derive(serde::Deserialize)]
struct LogLevel {
    #[serde(rename = "Level")]
    level: String,
}

/// Longest body of such a request in bytes.
const LOG_LEVEL_MAX: usize = 1024;

pub(super) async fn set_log_level(log: &Control, request: HttpRequest) -> HttpResponse {
    if request.method() != Method::PUT {
        return method_not_allowed("PUT");
    }
    let bad = |text: String| refusal(StatusCode::BAD_REQUEST, format!("{text}\n"));
    let body = match Limited::new(request.into_body(), LOG_LEVEL_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return bad(error.to_string()),
    };
    let level = match serde_json::from_slice::<LogLevel>(&body) {
        Ok(wanted) => wanted.level,
        Err(error) => return bad(format!(r#"the body must be {{"Level":"debug"}} or the like: {error}"#)),
    };
    match log.set_level(&level) {
        Ok(()) => {
            tracing::info!(level, "log level changed");
            text(StatusCode::NO_CONTENT, PLAIN, "")
        }
        Err(error) => bad(error),
    }
}

/// What the kernel counts, in bytes, under those of Go's names that mean the same: memory that was allocated, and all
/// that was asked of the system. Go's others have no meaning here and are left out.
fn memory(status: &str) -> serde_json::Value {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
    };
    let allocated = bytes("RssAnon:").unwrap_or(0);
    serde_json::json!({
        "Alloc": allocated,
        "HeapAlloc": allocated,
        "Sys": bytes("VmSize:").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_is_in_bytes() {
        let memory = super::memory("Name:\tx\nVmSize:\t  200 kB\nRssAnon:\t  3 kB\n");
        assert_eq!(memory, serde_json::json!({"Alloc": 3072, "HeapAlloc": 3072, "Sys": 204_800}));
    }
}
