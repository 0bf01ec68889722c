//! The gate and the network around it: names and addresses, TLS, and proxies.

use super::*;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wasmtime_wasi_http::Error;

/// A resolver with one answer for every name.
fn answer(addresses: Vec<IpAddr>) -> Lookup {
    Arc::new(move |_| {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    })
}

#[tokio::test]
async fn a_name_that_leads_into_the_own_network_is_refused_before_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let lookup = answer(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let gate = Setup { lookup, policy: policy(types::Scheme::Https, port), ..Setup::new() }.gate();
    let error = send(&gate, request(&format!("https://api.example.com:{port}/v1/x"))).await.unwrap_err();
    assert!(matches!(error, Error::DestinationIpProhibited), "{error:?}");
    let accepted = futures::future::FutureExt::now_or_never(listener.accept());
    assert!(accepted.is_none(), "nobody connected");
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_an_error_of_names() {
    let nothing: Lookup = Arc::new(|_| Box::pin(async { Err(std::io::Error::other("no such name")) }));
    assert!(failure(&Setup { lookup: nothing, ..Setup::new() }.gate()).await.starts_with("DnsError"));
    assert!(failure(&Setup { lookup: answer(vec![]), ..Setup::new() }.gate()).await.starts_with("DnsError"));
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_is_silent_is_a_timeout_of_names() {
    let silent: Lookup = Arc::new(|_| Box::pin(std::future::pending()));
    let begun = tokio::time::Instant::now();
    assert_eq!(failure(&Setup { lookup: silent, ..Setup::new() }.gate()).await, "DnsTimeout");
    let took = begun.elapsed();
    assert!((took.as_secs_f64() - patient().dns_timeout.as_secs_f64()).abs() < 1.0, "{took:?}");
}

/// A lookup that never ends and that nobody can stop, like the operating system's; how many there are.
fn endless() -> (Lookup, Arc<AtomicUsize>) {
    let begun = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&begun);
    let lookup: Lookup = Arc::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
        Box::pin(std::future::pending())
    });
    (lookup, begun)
}

#[tokio::test(start_paused = true)]
async fn requests_given_up_at_once_leave_no_lookups_behind_them() {
    let (lookup, unfinished) = endless();
    let gate = Setup { lookup, ..Setup::new() }.gate();
    let soon = Some(std::time::Duration::from_millis(1));
    let options = wasmtime_wasi_http::RequestOptions {
        connect_timeout: soon,
        first_byte_timeout: soon,
        between_bytes_timeout: soon,
    };
    let meter = Arc::new(super::StepMeter::new(500));
    for _ in 0..500 {
        let asked = request("https://api.example.com/v1/x");
        gate.send(Arc::clone(&meter), asked, Some(options)).await.unwrap_err();
    }
    assert_eq!(meter.requests(), 500);
    assert!(unfinished.load(Ordering::Relaxed) <= 2, "{unfinished:?}");
}

/// A TLS server for `name`, speaking HTTP/2 or HTTP/1.1 as the client likes; its port and the file of its authority.
async fn tls_server(name: &str, folder: &std::path::Path) -> (u16, std::path::PathBuf, Arc<AtomicUsize>) {
    let signed = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let file = folder.join("authority.pem");
    std::fs::write(&file, signed.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                counted.fetch_add(1, Ordering::Relaxed);
                let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                    // What the server sees: version, authority, host, and whether the credential is there.
                    let text = format!(
                        "{:?} {:?} {:?} {:?}",
                        request.version(),
                        request.uri().authority().map(|authority| authority.as_str()),
                        request.headers().get("host").map(|host| host.to_str().unwrap()),
                        request.headers().contains_key("x-api-key"),
                    );
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(text))))
                });
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let io = wasmtime_wasi_http::io::TokioIo::new(stream);
                if h2 {
                    let _ = hyper::server::conn::http2::Builder::new(Spawn).serve_connection(io, service).await;
                } else {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                }
            });
        }
    });
    (port, file, connections)
}

/// Runs hyper's tasks on tokio.
#[derive(Clone)]
struct Spawn;

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::spawn(future);
    }
}

/// A gate without a route whose planned name leads to a server on loopback, as if that were public.
fn direct(port: u16, authorities: Vec<std::path::PathBuf>) -> Gate {
    Setup {
        lookup: answer(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]),
        trusted: BTreeSet::from(["api.example.com".to_owned()]),
        policy: policy(types::Scheme::Https, port),
        network: NetworkOptions { extra_ca_files: authorities, proxy: None },
        ..Setup::new()
    }
    .gate()
}

#[tokio::test]
async fn http_2_over_tls_is_used_with_one_connection_for_many_requests() {
    let folder = tempfile::tempdir().unwrap();
    let (port, authority, connections) = tls_server("api.example.com", folder.path()).await;
    let gate = direct(port, vec![authority]);
    let uri = format!("https://api.example.com:{port}/v1/x");
    for _ in 0..3 {
        let answer = send(&gate, request(&uri)).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        let expected = format!("HTTP/2.0 Some(\"api.example.com:{port}\") None true");
        assert_eq!(String::from_utf8_lossy(&answer), expected);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_route_over_tls_keeps_the_planned_host_in_the_request() {
    let folder = tempfile::tempdir().unwrap();
    let (port, authority, _) = tls_server("localhost", folder.path()).await;
    let network = NetworkOptions { extra_ca_files: vec![authority], proxy: None };
    let routes = Routes::parse([format!("api.example.com=https://localhost:{port}")]).unwrap();
    let gate = Setup { network, routes, ..Setup::new() }.gate();
    let (_, body) = get(&gate).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&body.unwrap()), "HTTP/1.1 None Some(\"api.example.com\") true");
}

#[tokio::test]
async fn certificates_that_are_not_trusted_or_of_another_name_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let uri = |port| format!("https://api.example.com:{port}/v1/x");
    let (port, _, connections) = tls_server("api.example.com", folder.path()).await;
    let error = send(&direct(port, vec![]), request(&uri(port))).await.unwrap_err();
    assert!(matches!(error, Error::TlsCertificateError), "{error:?}");
    assert_eq!(connections.load(Ordering::Relaxed), 0);
    let (port, authority, _) = tls_server("other.example.com", folder.path()).await;
    let error = send(&direct(port, vec![authority]), request(&uri(port))).await.unwrap_err();
    assert!(matches!(error, Error::TlsCertificateError), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_an_error_of_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let uri = format!("https://api.example.com:{port}/v1/x");
    let error = send(&direct(port, vec![]), request(&uri)).await.unwrap_err();
    assert!(matches!(error, Error::TlsProtocolError), "{error:?}");
}

#[tokio::test]
async fn a_proxy_is_used_when_it_is_configured_but_not_for_what_is_routed() {
    let proxy = Server::with("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let network =
        || NetworkOptions { extra_ca_files: vec![], proxy: Some(format!("http://{}", proxy.address).parse().unwrap()) };
    let gate = Setup { network: network(), policy: policy(types::Scheme::Http, 80), ..Setup::new() }.gate();
    send(&gate, request("http://api.example.com/v1/x")).await.unwrap();
    assert!(proxy.requests()[0].starts_with("GET http://api.example.com/v1/x HTTP/1.1\r\n"), "{:?}", proxy.requests());

    let simulator = Server::with("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let gate = Setup { network: network(), ..Setup::routed(simulator.address) }.gate();
    get(&gate).await.unwrap().1.unwrap();
    assert_eq!((simulator.requests().len(), proxy.requests().len()), (1, 1));
}

#[test]
fn what_the_operator_can_do_about_a_proxy_or_a_certificate_is_logged() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let network =
        NetworkOptions { extra_ca_files: vec![], proxy: Some(format!("http://u:hunter2@{dead}").parse().unwrap()) };
    let log = crate::log::captured(|| {
        runtime.block_on(async {
            let gate = Setup { network, policy: policy(types::Scheme::Https, 443), ..Setup::new() }.gate();
            for _ in 0..2 {
                send(&gate, request("https://api.example.com/v1/x")).await.unwrap_err();
            }
        });
    });
    assert_eq!(log.matches(&format!("is not reached through the proxy {dead}")).count(), 1, "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    let directory = tempfile::tempdir().unwrap();
    let log = crate::log::captured(|| {
        runtime.block_on(async {
            let (port, _, _) = tls_server("api.example.com", directory.path()).await;
            send(&direct(port, vec![]), request(&format!("https://api.example.com:{port}/v1/x"))).await.unwrap_err();
        });
    });
    assert_eq!(log.matches("extra_ca_files").count(), 1, "{log}");
}

#[tokio::test]
async fn every_file_of_authorities_counts() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, other, _) = tls_server("other.example.com", one.path()).await;
    let (port, authority, _) = tls_server("api.example.com", two.path()).await;
    let gate = direct(port, vec![other, authority]);
    send(&gate, request(&format!("https://api.example.com:{port}/v1/x"))).await.unwrap();
}
