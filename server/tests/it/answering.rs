//! A member that only answers questions, by hand: what a test wants others to be told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};

/// Answers requests for a path on a port of its own until the test ends, each on one connection. `answer` is given the
/// path; `None` is "not found". Every answer says that it comes from cluster 1234.
pub(crate) fn answering(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut reader = BufReader::new(stream);
            let mut request = String::new();
            // The first line has the path, and an empty one ends the head.
            while reader.read_line(&mut request).is_ok_and(|length| length > 2) {}
            let body = request.split(' ').nth(1).and_then(&answer);
            let status = if body.is_some() { "200 OK" } else { "404 Not Found" };
            let body = body.unwrap_or_default();
            let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nX-Etcd-Cluster-ID: 1234\r\n");
            // Who has gone needs no answer.
            let _ = write!(reader.get_mut(), "{head}Content-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    address
}
