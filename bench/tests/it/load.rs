//! Every family of workloads for some operations, open loop, ceiling, and what goes wrong.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;

use crate::member::{Member, load};

/// Runs without warm-up and echo, as JSON.
const QUICK: &str = "--json --warm-up=0 --ceiling=0 --duration=10";

/// Runs a workload and looks whether each of `kinds` was seen.
fn runs(member: &Member, flags: &str, kinds: &[&str]) -> stanchion_bench::Report {
    let ended = load(&member.endpoint, &format!("{QUICK} {flags}"));
    assert_eq!(ended.code, Some(0), "{flags}: {}{}", ended.out, ended.log);
    let report = ended.report();
    assert!(
        report.partial.is_none() && report.errors.is_empty() && report.unanswered == 0,
        "{flags}: {report:?}"
    );
    for name in kinds {
        let kind = report.kind(name).unwrap_or_else(|| panic!("{flags}: no {name}: {report:?}"));
        assert!(kind.count > 0 && kind.min_us > 0.0 && kind.min_us <= kind.p50_us, "{flags}: {kind:?}");
        assert!(kind.p50_us <= kind.p99_us && kind.p99_us <= kind.max_us * 1.001, "{flags}: {kind:?}");
    }
    report
}

#[test]
fn puts_reads_and_transactions_of_every_shape() {
    let member = Member::start();
    let few = "--operations=60 --clients=4 --connections=2 --threads=2";
    for order in ["sequential", "random", "zipf"] {
        let report = runs(&member, &format!("{few} put --order={order} --keys=50"), &["put"]);
        assert_eq!(report.operations, 60);
    }
    runs(&member, "--operations=4 put --value-size=1048576", &["put"]);
    runs(&member, "--operations=4 put --value-size=16", &["put"]);
    let data = "--keys=1200 --value-size=64";
    for shape in ["point", "span --limit=1000", "page --limit=500", "page --limit=1000", "count"] {
        runs(&member, &format!("{few} range {data} --shape={shape}"), &["range"]);
        runs(&member, &format!("{few} range {data} --shape={shape} --keys-only --serializable"), &["range"]);
    }
    runs(&member, &format!("{few} range {data} --back=100"), &["range"]);
    runs(&member, &format!("{few} mixed {data} --reads=0.5"), &["put", "range"]);
    for shape in ["put", "cas", "multi"] {
        runs(&member, &format!("{few} txn {data} --shape={shape}"), &["txn"]);
    }
    // Four clients on one key: some must lose.
    runs(&member, &format!("{few} txn --keys=1 --value-size=64 --shape=cas"), &["txn", "txn, lost"]);
    runs(&member, "--operations=3 list --keys=1200 --value-size=64", &["list"]);
    runs(&member, "--operations=3 list --keys=1200 --value-size=64 --page=0", &["list"]);
    runs(&member, &format!("{few} churn {data}"), &["connect and get", "+ connect"]);
}

#[test]
fn leases_watches_kube_and_maintenance() {
    let member = Member::start();
    let few = "--operations=40 --clients=4 --connections=2";
    runs(&member, &format!("{few} lease --shape=grant"), &["grant"]);
    runs(&member, &format!("{few} lease --shape=keep-alive"), &["keep-alive"]);
    runs(&member, "--operations=2 --clients=2 lease --shape=expire --ttl=1", &["life", "+ too late by"]);
    for spread in ["--streams=3", "--streams=60", "--streams=2 --watched-keys=60"] {
        let report = runs(
            &member,
            &format!("--operations=10 --threads=2 --clients=2 --connections=2 watch --watchers=60 {spread}"),
            &["put to last event", "+ put", "+ event"],
        );
        let events = if spread.contains("keys") { 10 } else { 600 };
        assert_eq!(report.kind("+ event").unwrap().count, events, "{spread}");
        assert_eq!(report.operations, 10);
    }
    let kube = runs(
        &member,
        "--operations=600 --clients=4 kube --keys=600",
        &["update", "get", "create event", "list"],
    );
    assert!(kube.figures["events"] > 0.0);
    for task in ["compaction", "defragmentation", "snapshot"] {
        let flags = format!(
            "--duration=0.6 --clients=2 maintenance --keys=500 --every=0.05 --reads=0.5 --task={task}"
        );
        runs(&member, &flags, &["put", "range", &format!("+ {task}")]);
    }
}

#[test]
fn an_open_loop_keeps_its_rate_and_the_server_is_sampled() {
    let member = Member::start();
    let flags = format!("--duration=1 --rate=200 --clients=8 --pids={} put", member.pid());
    let report = runs(&member, &flags, &["put"]);
    assert_eq!(report.operations, 200);
    assert_eq!(report.servers[0].pid, member.pid());
    assert!(report.servers[0].anonymous_bytes > 0);
    assert!(report.syncs.unwrap() > 0);
}

#[test]
fn the_ceiling_is_measured_and_shown() {
    let member = Member::start();
    let ended = load(&member.endpoint, "--warm-up=0 --duration=0.2 --ceiling=0.2 put");
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.log);
    assert!(ended.out.contains("ceiling, a bare gRPC echo"), "{}", ended.out);
    assert!(ended.out.contains("p99.9"), "{}", ended.out);
}

#[test]
fn a_cluster_that_holds_foreign_keys_is_left_alone() {
    let member = Member::start();
    runs(&member, "--operations=3 --prefix=mine/ put --keys=3 --order=sequential", &["put"]);
    let refused = load(&member.endpoint, &format!("{QUICK} --operations=3 --prefix=other/ put"));
    assert_eq!(refused.code, Some(1));
    assert!(refused.log.contains("holds 3 keys outside \"other/\""), "{}", refused.log);
    assert!(refused.out.is_empty());
    runs(&member, "--operations=3 --prefix=other/ --beside-foreign-keys put", &["put"]);
}

#[test]
fn what_cannot_be_done_is_said() {
    // Nobody listens on the first port; one that was free a moment ago may be taken by now.
    let nobody = "127.0.0.1:1".to_owned();
    let ended = load(&nobody, "put");
    assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""));
    assert!(ended.log.contains(&format!("{nobody} cannot be reached")), "{}", ended.log);

    for (flags, words) in [
        ("--rate=-1 put", "it wants more than 0"),
        ("--clients=0 put", "at least 1"),
        ("put --value-size=2000000", "more than etcd takes"),
        ("put --order=sideways", "invalid value"),
        ("--prefix= put", "empty prefix"),
        ("mixed --reads=1.5", "not a share"),
        ("", "Usage"),
    ] {
        let ended = load(&nobody, flags);
        assert_eq!(ended.code, Some(2), "{flags}");
        assert!(ended.log.contains(words), "{flags}: {}", ended.log);
    }
    for (flags, words) in [
        ("range --shape=span --limit=10 --keys=9", "there are no such"),
        ("watch --watchers=2 --streams=3", "at least one"),
        ("watch --value-size=3", "too few"),
    ] {
        let ended = load(&nobody, flags);
        assert_eq!(ended.code, Some(2), "{flags}");
        assert!(ended.log.contains(words), "{flags}: {}", ended.log);
    }
    let member = Member::start();
    let ended = load(&member.endpoint, "--connections=2 put");
    assert_eq!(ended.code, Some(2));
    assert!(ended.log.contains("2 connections for 1 clients"), "{}", ended.log);
}

#[test]
fn what_is_no_etcd_is_told_from_one_that_is_down() {
    let member = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = member.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in member.incoming().map_while(Result::ok) {
            // Whoever asked sees an answer that is not HTTP/2.
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let ended = load(&endpoint, "put");
    assert_eq!(ended.code, Some(1), "{}", ended.log);
    assert!(ended.log.contains(&endpoint), "{}", ended.log);
}

#[test]
fn figures_of_a_server_that_dies_are_marked_partial() {
    let mut echo =
        Command::new(env!("CARGO_BIN_EXE_load")).arg("echo-server").stdout(Stdio::piped()).spawn().unwrap();
    let mut endpoint = String::new();
    BufReader::new(echo.stdout.take().unwrap()).read_line(&mut endpoint).unwrap();
    let (endpoint, answered) = counting_proxy(endpoint.trim().trim_start_matches("http://").to_owned());
    let mut running = Command::new(env!("CARGO_BIN_EXE_load"))
        .arg(format!("--endpoints={endpoint}"))
        .args([
            "--json",
            "--ceiling=0",
            "--warm-up=0",
            "--duration=600",
            "--beside-foreign-keys",
            "--clients=2",
            "put",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Far more than the handshakes and the first look at the keys take, so puts have been answered.
    answered.recv().expect("the load asks");
    echo.kill().unwrap();
    echo.wait().unwrap();
    let status = running.wait().unwrap();
    let report: stanchion_bench::Report = serde_json::from_reader(running.stdout.take().unwrap()).unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(report.partial.unwrap().contains("was lost"));
    assert!(report.operations > 0 && report.seconds < 590.0);
}

/// Passes connections on to a server; tells when one of them has carried a hundred thousand bytes of answers.
fn counting_proxy(server: String) -> (String, mpsc::Receiver<()>) {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = proxy.local_addr().unwrap().to_string();
    let (tell, answered) = mpsc::channel();
    std::thread::spawn(move || {
        for client in proxy.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&server).unwrap();
            let (from_client, to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pass_on(from_client, to_server, |_| ()));
            let tell = tell.clone();
            std::thread::spawn(move || {
                pass_on(server, client, |passed| {
                    if passed > 100_000 {
                        // Only the first word of it is listened to.
                        let _ = tell.send(());
                    }
                });
            });
        }
    });
    (endpoint, answered)
}

/// Copies bytes until one side ends, then ends the other.
fn pass_on(mut from: TcpStream, mut to: TcpStream, mut seen: impl FnMut(usize)) {
    let (mut buffer, mut passed) = ([0; 4096], 0);
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        passed += length;
        seen(passed);
    }
    // The other side may have gone first.
    let _ = to.shutdown(std::net::Shutdown::Both);
}
