//! `/debug/vars`: what the process and raft are up to, for a look by hand.

use http::StatusCode;

use super::Front;
use super::http::HttpResponse;
use super::http::text;

pub(super) fn vars(front: &Front) -> HttpResponse {
    let raft = front.member.raft_status();
    let standing = front.member.standing();
    let vars = serde_json::json!({
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
    text(StatusCode::OK, "application/json; charset=utf-8", vars.to_string())
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
