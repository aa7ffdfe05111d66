//! Founders that find each other: in a registry that another member keeps, and in DNS.

use std::net::{SocketAddr, UdpSocket};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use stanchion_server::discovery::srv::{SrvError, Wanted, find};

use super::*;

/// A member that is not told who the others are, but where it learns it.
fn founder(dir: &Path, name: &str, more: &[(&str, &str)]) -> Member {
    let ports = ports(2);
    let (peer, client) = (format!("http://127.0.0.1:{}", ports[0]), format!("http://127.0.0.1:{}", ports[1]));
    let data_dir = dir.join(name).display().to_string();
    let own = [
        ("name", name),
        ("data-dir", data_dir.as_str()),
        ("listen-peer-urls", peer.as_str()),
        ("initial-advertise-peer-urls", peer.as_str()),
        ("listen-client-urls", client.as_str()),
        ("advertise-client-urls", client.as_str()),
    ];
    let args = own.iter().chain(more).map(|(flag, value)| format!("--{flag}={value}")).collect();
    Member::new(name, args, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn founders_meet_in_a_registry() {
    let dir = tempfile::tempdir().unwrap();
    let mut registry = founder(dir.path(), "registry", &[]);
    registry.set("initial-cluster", &format!("registry={}", flag(&registry, "initial-advertise-peer-urls")));
    registry.start();
    registry.until_said("ready to serve client requests").await;
    let how = [("discovery-endpoints", registry.client.as_str()), ("discovery-token", "t1")];

    // Without a size nobody knows when the founders are complete.
    let mut early = founder(dir.path(), "early", &how);
    early.start();
    assert_eq!(early.ended().await.code(), Some(1));
    assert!(early.said("discovery: size key not found"));

    put(&registry, "/_etcd/registry/t1/_config/size", "3").await;
    let mut members: Vec<Member> = ["a", "b", "c"].map(|name| founder(dir.path(), name, &how)).into();
    members.iter_mut().for_each(Member::start);
    agreed_leader(&members).await;
    put(&members[0], "k", "1").await;
    assert_eq!(get(&members[2], "k").await.as_deref(), Some("1"));

    let mut late = founder(dir.path(), "late", &how);
    late.start();
    assert_eq!(late.ended().await.code(), Some(1));
    assert!(late.said("discovery: cluster is full"));

    // With a log the registry is not needed any more.
    registry.kill();
    members[1].kill();
    members[1].start();
    agreed_leader(&members).await;
    assert_eq!(get(&members[1], "k").await.as_deref(), Some("1"));
}

/// Answers questions for SRV records of one domain on a thread of its own, until the test ends.
fn name_server(records: Vec<(&'static str, u16)>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut packet = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut packet) {
            let question = Message::from_vec(&packet[..length]).unwrap();
            let query = question.queries[0].clone();
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.add_query(query.clone());
            for (service, port) in &records {
                let name = Name::from_ascii(format!("_{service}._tcp.example.test.")).unwrap();
                if query.query_type() == RecordType::SRV && *query.name() == name {
                    let srv = SRV::new(0, 0, *port, Name::from_ascii("localhost.").unwrap());
                    answer.add_answer(Record::from_rdata(name, 60, RData::SRV(srv)));
                }
            }
            if answer.answers.is_empty() {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            socket.send_to(&answer.to_vec().unwrap(), client).unwrap();
        }
    });
    address
}

fn resolver(server: SocketAddr) -> TokioResolver {
    let mut connection = ConnectionConfig::udp();
    connection.port = server.port();
    let server = NameServerConfig::new(server.ip(), true, vec![connection]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap()
}

#[tokio::test]
async fn dns_names_the_founders() {
    let records = vec![
        ("etcd-server", 11),
        ("etcd-server", 12),
        ("etcd-server", 13),
        ("etcd-server-ssl-prod", 21),
        ("etcd-server-prod", 22),
    ];
    let resolver = resolver(name_server(records));
    let advertised = ["http://127.0.0.1:12".to_owned()];
    let wanted = Wanted { domain: "example.test", service_suffix: "", name: "own", advertised: &advertised };
    assert_eq!(
        find(&resolver, &wanted).await.unwrap(),
        ["0=http://localhost:11", "own=http://localhost:12", "1=http://localhost:13"]
    );

    // Both services together, with the suffix that tells clusters of one domain apart.
    let advertised = ["http://127.0.0.1:22".to_owned()];
    let suffixed = Wanted { service_suffix: "prod", advertised: &advertised, ..wanted };
    assert_eq!(
        find(&resolver, &suffixed).await.unwrap(),
        ["0=https://localhost:21", "own=http://localhost:22"]
    );
    // A record of the wrong scheme is not ours.
    let advertised = ["http://127.0.0.1:21".to_owned()];
    let wrong = Wanted { service_suffix: "prod", advertised: &advertised, ..wanted };
    let refused = find(&resolver, &wrong).await.unwrap_err();
    assert!(matches!(&refused, SrvError::NotAmong { .. }), "{refused}");

    let advertised = ["http://127.0.0.1:99".to_owned()];
    let stranger = Wanted { advertised: &advertised, ..wanted };
    let refused = find(&resolver, &stranger).await.unwrap_err();
    assert!(
        refused.to_string().contains("cannot find local etcd member \"own\" in SRV records"),
        "{refused}"
    );
    let nowhere = Wanted { domain: "other.test", ..wanted };
    let refused = find(&resolver, &nowhere).await.unwrap_err();
    assert!(refused.to_string().contains("error querying DNS SRV records for _etcd-server-ssl"), "{refused}");
}
