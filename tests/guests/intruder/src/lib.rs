//! A connector that reaches for files and sockets with nothing but its standard library, as any Rust program would.
//!
//! Whatever is compiled from such code imports `wasi:filesystem` and `wasi:sockets`. It proves that a host refuses it by
//! these imports before a line of it runs (tests/host/hostile/reach.rs). Everything else about it is in order.

// Built natively, as part of the workspace, there is nothing to export.
#![cfg(target_arch = "wasm32")]

#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "generated code; the documentation stands in wit/"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../../wit",
        world: "signal-connector",
        with: {
            "wasi:io/error@0.2.12": wasi::io::error,
            "wasi:io/poll@0.2.12": wasi::io::poll,
            "wasi:io/streams@0.2.12": wasi::io::streams,
            "wasi:clocks/wall-clock@0.2.12": wasi::clocks::wall_clock,
            "wasi:clocks/monotonic-clock@0.2.12": wasi::clocks::monotonic_clock,
            "wasi:http/types@0.2.12": wasi::http::types,
            "wasi:http/outgoing-handler@0.2.12": wasi::http::outgoing_handler,
        },
    });
}

use bindings::exports::witfoo::signal_connector::connector::Guest;
use bindings::witfoo::signal_connector::types::*;
use std::net::{TcpListener, TcpStream, UdpSocket};

struct Intruder;

#[allow(unsafe_code, unreachable_pub, reason = "generated code")]
mod glue {
    use super::{Intruder, bindings};

    bindings::export!(Intruder with_types_in super::bindings);
}

/// What comes of every attempt.
fn attempts() -> String {
    let said = |what: &str, outcome: std::io::Result<String>| format!("{what}: {outcome:?}");
    let list = |path| std::fs::read_dir(path).map(|entries| format!("{} entries", entries.count()));
    [
        said("read", std::fs::read_to_string("/etc/passwd")),
        said("write", std::fs::write("/tmp/intruder", "here").map(|()| "written".to_owned())),
        said("list the root", list("/")),
        said("list here", list(".")),
        said("connect", TcpStream::connect("127.0.0.1:80").map(|_| "connected".to_owned())),
        said("listen", TcpListener::bind("127.0.0.1:0").map(|_| "listening".to_owned())),
        said("datagrams", UdpSocket::bind("127.0.0.1:0").map(|_| "bound".to_owned())),
        said("names", TcpStream::connect("localhost:80").map(|_| "connected".to_owned())),
    ]
    .join("; ")
}

impl Guest for Intruder {
    fn describe() -> Descriptor {
        Descriptor {
            name: "signal-client.intruder".to_owned(),
            display_name: "Intruder".to_owned(),
            category: "Test".to_owned(),
            version: "1.0.0".to_owned(),
            vendor_docs: "https://intruder.example/docs".to_owned(),
            auth_method: "Token".to_owned(),
            default_poll_minutes: 5,
            minimum_poll_minutes: 1,
            multi_instance: true,
            streams: vec![DataStream {
                name: "records".to_owned(),
                noun: "records".to_owned(),
                description: "Records.".to_owned(),
                announced: true,
            }],
            settings: Vec::new(),
            credentials: Vec::new(),
        }
    }

    fn configure(_: Vec<Setting>) -> Result<Plan, Vec<FieldError>> {
        Ok(Plan {
            origin: Origin { scheme: Scheme::Https, host: "api.intruder.example".to_owned(), port: 443 },
            rules: vec![RequestRule { method: "GET".to_owned(), path_prefix: "/".to_owned() }],
        })
    }

    fn check(_: Vec<Setting>) -> Result<CheckReport, Failure> {
        Ok(CheckReport { summary: attempts(), reports: Vec::new() })
    }

    fn poll(_: Vec<Setting>, _: Option<Vec<u8>>, _: Budget) -> Result<Batch, Failure> {
        Ok(Batch {
            artifacts: Vec::new(),
            checkpoint: Vec::new(),
            more: false,
            reports: vec![StreamReport { stream: "records".to_owned(), fetched: 0, state: StreamState::Ok }],
            retry_after_seconds: None,
            hint: Some(attempts()),
        })
    }
}
