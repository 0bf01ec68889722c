//! The gate against small servers of our own. Here the servers and the gate; in the modules what is asked of them.

mod answers;
mod network;
mod transport;

use super::resolver::{Lookup, system_lookup};
use super::{Gate, GateOptions, NetworkOptions, Policy, Redactor, Routes, Secrets, StepMeter};
use crate::contract::types;
use crate::sandbox::Limits;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wasmtime_wasi_http::{Error, WasiBody};

const SECRET: &str = "hunter2-hunter2";

/// What a server does with a request.
enum Reply {
    /// Writes these pieces, each flushed, and goes on.
    Pieces(Vec<Vec<u8>>),
    /// Writes this and closes.
    Close(Vec<u8>),
    /// Writes this and then nothing more.
    Stall(Vec<u8>),
}

/// A server and what it has seen.
struct Server {
    address: SocketAddr,
    /// Number of the connection and text of each request.
    seen: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Server {
    async fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&seen);
        let reply = Arc::new(reply);
        tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, connection, Arc::clone(&all), Arc::clone(&reply)));
            }
        });
        Self { address, seen }
    }

    /// A server that answers everything with the same text.
    async fn with(response: &str) -> Self {
        let response = response.as_bytes().to_vec();
        Self::start(move |_| Reply::Pieces(vec![response.clone()])).await
    }

    fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(_, text)| text.clone()).collect()
    }

    fn connections(&self) -> BTreeSet<usize> {
        self.seen.lock().unwrap().iter().map(|(connection, _)| *connection).collect()
    }
}

/// Serves one connection.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    connection: usize,
    seen: Arc<Mutex<Vec<(usize, String)>>>,
    reply: Arc<impl Fn(&str) -> Reply>,
) {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            match stream.read_buf(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => continue,
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
        while bytes.len() < end + 4 + length {
            stream.read_buf(&mut bytes).await.unwrap();
        }
        let rest = bytes.split_off(end + 4 + length);
        let request = String::from_utf8(std::mem::replace(&mut bytes, rest)).unwrap();
        let answer = reply(&request);
        seen.lock().unwrap().push((connection, request));
        match answer {
            Reply::Pieces(pieces) => {
                for piece in pieces {
                    let _ = stream.write_all(&piece).await;
                    let _ = stream.flush().await;
                    tokio::task::yield_now().await;
                }
            }
            Reply::Close(text) => {
                let _ = stream.write_all(&text).await;
                return;
            }
            Reply::Stall(text) => {
                let _ = stream.write_all(&text).await;
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A response with a body of known length.
fn response(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    text.extend_from_slice(body);
    text
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn policy(scheme: types::Scheme, port: u16) -> Policy {
    Policy::from_plan(&types::Plan {
        origin: types::Origin { scheme, host: "api.example.com".into(), port },
        rules: ["GET", "POST"]
            .map(|method| types::RequestRule { method: method.into(), path_prefix: "/v1/".into() })
            .to_vec(),
    })
}

fn redactor() -> Redactor {
    let mut secrets = Secrets::new();
    secrets.insert("api_key", SECRET.into()).unwrap();
    Redactor::new(&secrets)
}

/// How a gate of these tests differs from the usual one.
struct Setup {
    limits: Limits,
    network: NetworkOptions,
    policy: Policy,
    routes: Routes,
    lookup: Lookup,
    trusted: BTreeSet<String>,
}

/// The limits with an hour for everything, so that no answer depends on how busy this machine is: a test that waits on
/// purpose sets its own times.
fn patient() -> Limits {
    let hour = Duration::from_hours(1);
    Limits {
        // The first to end, where several run.
        dns_timeout: hour / 2,
        connect_timeout: hour,
        first_byte_timeout: hour,
        between_bytes_timeout: hour,
        ..Limits::default()
    }
}

impl Setup {
    fn new() -> Self {
        Self {
            limits: patient(),
            network: NetworkOptions::default(),
            policy: policy(types::Scheme::Https, 443),
            routes: Routes::new(),
            lookup: system_lookup(),
            trusted: BTreeSet::new(),
        }
    }

    fn routed(address: SocketAddr) -> Self {
        Self { routes: Routes::parse([format!("api.example.com=http://{address}")]).unwrap(), ..Self::new() }
    }

    fn gate(self) -> Gate {
        let network = self.network.read_here().unwrap();
        let options = GateOptions {
            connector: "fixture",
            instance: "one",
            policy: self.policy,
            credentials: vec![("x-api-key".parse().unwrap(), HeaderValue::from_static(SECRET))],
            redactor: redactor(),
            routes: &self.routes,
            network: &network,
            limits: &self.limits,
        };
        Gate::trusting(options, self.lookup, self.trusted).unwrap()
    }
}

fn gate_to(server: &Server) -> Gate {
    Setup::routed(server.address).gate()
}

fn request(uri: &str) -> Request<WasiBody> {
    request_with("GET", uri, &[], b"")
}

fn request_with(method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> Request<WasiBody> {
    let mut builder = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let body = Full::new(Bytes::copy_from_slice(body)).map_err(|never| match never {}).boxed_unsync();
    builder.body(body).unwrap()
}

async fn send(gate: &Gate, request: Request<WasiBody>) -> Result<Response<WasiBody>, Error> {
    gate.send(Arc::new(StepMeter::new(100)), request, None).await
}

/// Gets a path; the head, and the body or the error in it.
async fn get(gate: &Gate) -> Result<(http::response::Parts, Result<Bytes, Error>), Error> {
    let (parts, body) = send(gate, request("https://api.example.com/v1/x")).await?.into_parts();
    Ok((parts, body.collect().await.map(http_body_util::Collected::to_bytes)))
}

/// The error that getting a path ends with, by its debug text.
async fn failure(gate: &Gate) -> String {
    match get(gate).await {
        Err(error) => format!("{error:?}"),
        Ok((_, Err(error))) => format!("body {error:?}"),
        Ok((parts, Ok(body))) => panic!("{parts:?} {body:?}"),
    }
}
