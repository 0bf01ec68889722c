//! The hostile connector's accomplice: a vendor that sends back what it should not, and a listener that nobody may call.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::common::vendor::{Request, Vendor, reply};
use crate::hostile::secrets;

/// Somebody within the host's own network. Whoever connects is counted.
pub(crate) struct Canary {
    pub(crate) address: SocketAddr,
    calls: Arc<AtomicUsize>,
}

impl Canary {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, calls }
    }

    /// How often it was called.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Every way in which the vendor sends the secret back in a response.
pub(crate) const WAYS: [&str; 19] = [
    "raw",
    "json",
    "gson",
    "html",
    "utf-16",
    "percent",
    "percent-lower",
    "base64",
    "hex",
    "hex-upper",
    "header",
    "header-base64",
    "header-hex",
    "error",
    "gzip",
    "pieces",
    "trailer",
    "coding",
    "reason",
];

/// Bytes of the gzip bomb when it has gone off.
pub(crate) const BOMB: usize = 64 << 20;

/// The vendor. It redirects to the canary.
pub(crate) fn vendor(canary: SocketAddr) -> Vendor {
    let bomb = bomb();
    Vendor::start(move |request, stream| match request.path() {
        "/v1/redirect" => reply(stream, 302, &[("location", &format!("http://{canary}/inside"))], b""),
        "/v1/redirect-planned" => {
            // The planned host, but a path that is not planned.
            reply(stream, 307, &[("location", "https://api.hostile.example/admin")], b"")
        }
        "/v1/large" => reply(stream, 200, &[], &[b'x'; 300_000]),
        "/v1/bomb" => reply(stream, 200, &[("content-encoding", "gzip")], &bomb),
        "/v1/stall" => wait_for_the_end(stream),
        "/v1/endless-body" => endless(stream, b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", {
            let mut chunk = b"4000\r\n".to_vec();
            chunk.resize(6 + 0x4000, b'x');
            chunk.extend_from_slice(b"\r\n");
            chunk
        }),
        "/v1/endless-head" => endless(stream, b"HTTP/1.1 200 OK\r\n", b"x-more: xxxxxxxxxxxxxxxxxxxx\r\n"),
        "/v1/endless-hints" => endless(stream, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        "/v1/large-head" => {
            let header = "x".repeat(7_000);
            let names: Vec<String> = (0..20).map(|n| format!("x-{n}")).collect();
            let headers: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), header.as_str())).collect();
            reply(stream, 200, &headers, b"")
        }
        "/v1/two-answers" => {
            // In one write: what arrives after the next request was sent is that request's answer to any client of
            // HTTP/1.1. No other tenant meets it, because none shares a connection.
            let both = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nHTTP/1.1 299 Forged\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(both).is_ok()
        }
        "/v1/drip" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n");
            // A server that is slow on purpose.
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            false
        }
        path if path.starts_with("/v1/echo/") => echo(request, stream),
        _ => reply(stream, 200, &[], b"{}"),
    })
}

/// Sends the secret back in the way that the path names.
fn echo(request: &Request, stream: &mut TcpStream) -> bool {
    let secret = request.headers("x-hostile-token").concat();
    let way = request.path().rsplit('/').next().unwrap_or_default();
    let sentence = |text: &str| format!("you said {text}, did you?").into_bytes();
    match way {
        "raw" => reply(stream, 200, &[], &sentence(&secret)),
        "json" => reply(stream, 200, &[], secret.replace('/', "\\/").as_bytes()),
        "gson" => reply(stream, 200, &[], &sentence(&secret.replace('=', "\\u003d"))),
        "html" => reply(stream, 200, &[], &sentence(&secret.replace('/', "&#x2F;").replace('=', "&#x3D;"))),
        "utf-16" => {
            let body: Vec<u8> = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
            reply(stream, 200, &[("content-type", "text/plain; charset=utf-16le")], &body)
        }
        "percent" => reply(stream, 200, &[], &sentence(&secrets::percent())),
        "percent-lower" => reply(stream, 200, &[], &sentence(&secrets::percent().to_lowercase().replace(&secret, ""))),
        "base64" => reply(stream, 200, &[], &sentence(&secrets::base64())),
        "hex" => reply(stream, 200, &[], &sentence(&secrets::hex())),
        "hex-upper" => reply(stream, 200, &[], &sentence(&secrets::hex().to_uppercase())),
        "header" => {
            let own = [("x-echo", secret.as_str()), ("x-hostile-token", &secret), ("set-cookie", &secret)];
            reply(stream, 200, &own, b"see the head")
        }
        "header-base64" => reply(stream, 200, &[("x-echo", &format!("Basic {}", secrets::base64()))], b"see the head"),
        "header-hex" => reply(stream, 200, &[("x-echo", &secrets::hex())], b"see the head"),
        "error" => reply(stream, 500, &[("x-echo", &secret)], &sentence(&secret)),
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&sentence(&secret)).unwrap();
            reply(stream, 200, &[("content-encoding", "gzip")], &encoder.finish().unwrap())
        }
        "pieces" => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            for byte in sentence(&secret) {
                let _ = stream.write_all(&[b'1', b'\r', b'\n', byte, b'\r', b'\n']);
            }
            stream.write_all(b"0\r\n\r\n").is_ok()
        }
        "trailer" => {
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-echo\r\n\r\n";
            let rest = format!("2\r\n{{}}\r\n0\r\nx-echo: {secret}\r\n\r\n");
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(rest.as_bytes())).is_ok()
        }
        // Where a client that is told nothing would show it: in the reason, and in what is no HTTP at all.
        "reason" => {
            let _ = stream.write_all(
                format!("HTTP/1.1 500 {secret}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").as_bytes(),
            );
            false
        }
        "no-http" => {
            let _ = stream.write_all(format!("{secret}\r\n\r\n").as_bytes());
            false
        }
        "coding" => reply(stream, 200, &[("content-encoding", &secret)], b"{}"),
        other => panic!("no such way: {other}"),
    }
}

/// Says nothing until the other end goes away.
fn wait_for_the_end(stream: &mut TcpStream) -> bool {
    use std::io::Read;
    let _ = stream.read(&mut [0; 1]);
    false
}

/// Writes the same for ever.
fn endless(stream: &mut TcpStream, head: &[u8], piece: impl AsRef<[u8]>) -> bool {
    let _ = stream.write_all(head);
    while stream.write_all(piece.as_ref()).is_ok() {}
    false
}

/// Zeros, many of them, in few bytes.
fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..BOMB / 0x10_0000 {
        encoder.write_all(&[0; 0x10_0000]).unwrap();
    }
    encoder.finish().unwrap()
}
