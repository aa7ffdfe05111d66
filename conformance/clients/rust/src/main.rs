//! Rust's etcd-client against one server: pairs, transactions, leases, a watch, a lock and an election. One line for each.

use std::error::Error;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, DeleteOptions, EventType, GetOptions, LockOptions, PutOptions, SortOrder,
    SortTarget, Txn, TxnOp, TxnOpResponse, WatchOptions,
};

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let address = std::env::args().nth(1).ok_or("an address is needed")?;
    let client = Client::connect([address], None).await?;
    pairs(client.clone()).await?;
    transactions(client.clone()).await?;
    leases(client.clone()).await?;
    watch(client.clone()).await?;
    lock(client.clone()).await?;
    election(client.clone()).await?;
    cluster(client).await
}

fn expect(holds: bool, what: &str) -> Outcome {
    if holds { Ok(()) } else { Err(what.into()) }
}

async fn pairs(mut client: Client) -> Outcome {
    client.put("rust/a", "1", None).await?;
    let put = client.put("rust/a", "2", Some(PutOptions::new().with_prev_key())).await?;
    expect(put.prev_key().is_some_and(|kv| kv.value() == b"1"), "previous value")?;
    client.put("rust/b", "3", None).await?;
    let options = GetOptions::new().with_prefix().with_sort(SortTarget::Value, SortOrder::Descend);
    let got = client.get("rust/", Some(options)).await?;
    expect(got.count() == 2 && got.kvs()[0].key() == b"rust/b", "sorted range")?;
    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let deleted = client.delete("rust/", Some(options)).await?;
    expect(deleted.deleted() == 2 && deleted.prev_kvs().len() == 2, "delete")?;
    let refused = client.put("", "v", None).await.err().ok_or("an empty key was taken")?;
    expect(refused.to_string().contains("key is not provided"), &refused.to_string())?;
    println!("rust: put, get, delete");
    Ok(())
}

async fn transactions(mut client: Client) -> Outcome {
    let txn = Txn::new()
        .when([Compare::version("rust/t", CompareOp::Equal, 0)])
        .and_then([TxnOp::put("rust/t", "1", None), TxnOp::get("rust/t", None)])
        .or_else([TxnOp::delete("rust/t", None)]);
    let done = client.txn(txn.clone()).await?;
    let answers = done.op_responses();
    let read = matches!(&answers[1], TxnOpResponse::Get(got) if got.count() == 1);
    expect(done.succeeded() && answers.len() == 2 && read, "first transaction")?;
    expect(!client.txn(txn).await?.succeeded(), "second transaction")?;
    println!("rust: transaction");
    Ok(())
}

async fn leases(mut client: Client) -> Outcome {
    let id = client.lease_grant(600, None).await?.id();
    client.put("rust/l", "v", Some(PutOptions::new().with_lease(id))).await?;
    let (mut keeper, mut renewed) = client.lease_keep_alive(id).await?;
    for _ in 0..3 {
        keeper.keep_alive().await?;
        expect(renewed.message().await?.is_some_and(|answer| answer.ttl() == 600), "renewal")?;
    }
    let options = etcd_client::LeaseTimeToLiveOptions::new().with_keys();
    let left = client.lease_time_to_live(id, Some(options)).await?;
    expect(left.granted_ttl() == 600 && left.keys() == [b"rust/l"], "time to live")?;
    expect(client.leases().await?.leases().iter().any(|lease| lease.id() == id), "leases")?;
    client.lease_revoke(id).await?;
    expect(client.get("rust/l", None).await?.count() == 0, "revoked lease")?;
    println!("rust: lease");
    Ok(())
}

async fn watch(mut client: Client) -> Outcome {
    let put = client.put("rust/w", "0", None).await?;
    let from = put.header().ok_or("no header")?.revision();
    let options = WatchOptions::new().with_start_revision(from).with_prev_key();
    let mut stream = client.watch("rust/w", Some(options)).await?;
    client.put("rust/w", "1", None).await?;
    client.delete("rust/w", None).await?;
    let mut seen = 0;
    while seen < 3 {
        let answer = tokio::time::timeout(Duration::from_secs(120), stream.message()).await??;
        for event in answer.ok_or("the watch ended")?.events() {
            let kv = event.kv().ok_or("an event without a pair")?;
            expect(kv.mod_revision() == from + seen, "revision of an event")?;
            expect((event.event_type() == EventType::Delete) == (seen == 2), "type of an event")?;
            seen += 1;
        }
    }
    println!("rust: watch");
    Ok(())
}

async fn lock(mut client: Client) -> Outcome {
    let one = client.lease_grant(600, None).await?.id();
    let two = client.lease_grant(600, None).await?.id();
    let held = client.lock("rust-lock", Some(LockOptions::new().with_lease(one))).await?.key().to_vec();
    let mut other = client.clone();
    let waits = other.lock("rust-lock", Some(LockOptions::new().with_lease(two)));
    tokio::pin!(waits);
    expect(tokio::time::timeout(Duration::from_millis(300), &mut waits).await.is_err(), "a second holder")?;
    client.unlock(held).await?;
    let key = tokio::time::timeout(Duration::from_secs(120), waits).await??.key().to_vec();
    client.unlock(key).await?;
    println!("rust: lock");
    Ok(())
}

async fn election(mut client: Client) -> Outcome {
    let lease = client.lease_grant(600, None).await?.id();
    let won = client.campaign("rust-election", "first", lease).await?;
    let leader = won.leader().ok_or("no leader key")?.clone();
    let options = etcd_client::ProclaimOptions::new().with_leader(leader.clone());
    client.proclaim("second", Some(options)).await?;
    let now = client.leader("rust-election").await?;
    expect(now.kv().is_some_and(|kv| kv.value() == b"second"), "leader")?;
    client.resign(Some(etcd_client::ResignOptions::new().with_leader(leader))).await?;
    println!("rust: election");
    Ok(())
}

async fn cluster(mut client: Client) -> Outcome {
    expect(client.member_list().await?.members().len() == 1, "members")?;
    expect(!client.status().await?.version().is_empty(), "status")?;
    let revision = client.get("x", None).await?.header().ok_or("no header")?.revision();
    client.compact(revision, None).await?;
    let mut snapshot = client.snapshot().await?;
    let mut bytes = 0;
    while let Some(part) = snapshot.message().await? {
        bytes += part.blob().len();
    }
    expect(bytes % 512 == 32, "length of the snapshot")?;
    client.defragment().await?;
    println!("rust: members, status, compaction, snapshot, defragmentation");
    Ok(())
}
