//! The versions of the cluster and of the file through the real binary.

use stanchion_mvcc::schema;

use super::process::Server;

fn storage_version(dir: &std::path::Path) -> Option<String> {
    let disk = std::sync::Arc::new(stanchion_disk::RealDisk);
    let path = dir.join("data/member/snap/db");
    let (store, _) = stanchion_mvcc::Store::open(disk, &path, &Default::default()).unwrap();
    schema::storage_version(&store.read()).unwrap()
}

/// Makes the directory look as if a 3.6 had written it last.
fn age(dir: &std::path::Path) {
    let disk = std::sync::Arc::new(stanchion_disk::RealDisk);
    let path = dir.join("data/member/snap/db");
    let (store, _) = stanchion_mvcc::Store::open(disk, &path, &Default::default()).unwrap();
    let mut txn = store.write();
    schema::put_cluster_version(&mut txn, "3.6.0");
    schema::put_storage_version(&mut txn, Some("3.6.0"));
    let _ = txn.end();
    store.commit().unwrap();
}

fn stop(server: Server) {
    let _ = server.stop(rustix::process::Signal::TERM);
}

#[test]
fn dwn_1_versions_rise_unless_they_are_held() {
    let dir = tempfile::tempdir().unwrap();
    stop(Server::start(dir.path(), &[]));
    assert_eq!(storage_version(dir.path()).as_deref(), Some("3.7.0"));
    age(dir.path());

    let held = Server::start(dir.path(), &["--hold-cluster-version"]);
    let version = held.get("/version").1;
    assert_eq!(version, r#"{"etcdserver":"3.7.1","etcdcluster":"3.6.0","storage":"3.6.0"}"#);
    stop(held);
    assert_eq!(storage_version(dir.path()).as_deref(), Some("3.6.0"));

    let free = Server::start(dir.path(), &[]);
    let raised = r#"{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}"#;
    let line = free.line("updated storage version");
    assert!(line.contains(r#""new_storage_version":"3.7.0""#), "{line}");
    assert_eq!(free.get("/version").1, raised);
    stop(free);
    assert_eq!(storage_version(dir.path()).as_deref(), Some("3.7.0"));
}

#[test]
fn dwn_10_a_newer_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    stop(Server::start(dir.path(), &[]));
    let disk = std::sync::Arc::new(stanchion_disk::RealDisk);
    let path = dir.path().join("data/member/snap/db");
    let (store, _) = stanchion_mvcc::Store::open(disk, &path, &Default::default()).unwrap();
    let mut txn = store.write();
    schema::put_cluster_version(&mut txn, "3.8.0");
    let _ = txn.end();
    store.commit().unwrap();
    drop(store);
    let Err(refused) = Server::try_start(super::process::command(dir.path(), &[])) else {
        panic!("it serves a newer cluster's directory");
    };
    assert!(
        refused.output.contains("server version is lower than determined cluster version"),
        "{refused:?}"
    );
}
