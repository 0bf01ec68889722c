//! What leaves, what comes back, and what goes wrong on the way.

use super::*;

#[tokio::test]
async fn a_request_arrives_as_it_was_written_with_host_and_credential() {
    let server = Server::with("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let gate = gate_to(&server);
    let uri = "https://api.example.com/v1/rrn:a:us:b%3Ac/alerts?start_time=2026-01-01T00:00:00Z&sort=a,ASC&q=%2F..%2F";
    let headers =
        [("accept-encoding", "br"), ("accept-version", "preview"), ("content-length", "7"), ("user-agent", "other/1")];
    send(&gate, request_with("POST", uri, &headers, b"{\"a\":1}")).await.unwrap();
    let requests = server.requests();
    let text = &requests[0];
    let line = "POST /v1/rrn:a:us:b%3Ac/alerts?start_time=2026-01-01T00:00:00Z&sort=a,ASC&q=%2F..%2F HTTP/1.1\r\n";
    assert!(text.starts_with(line), "{text}");
    for header in [
        "host: api.example.com",
        "x-api-key: hunter2-hunter2",
        "accept-encoding: gzip",
        "accept-version: preview",
        "content-length: 7",
        concat!("user-agent: signal-client/", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(text.matches(&format!("\r\n{header}\r\n")).count(), 1, "{header} in {text}");
    }
    assert!(!text.contains("other/1"), "{text}");
    assert!(text.ends_with("\r\n\r\n{\"a\":1}"), "{text}");
}

#[tokio::test]
async fn what_is_refused_never_reaches_the_network() {
    let server = Server::with("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let gate = gate_to(&server);
    let meter = Arc::new(StepMeter::new(100));
    let refused = [
        request("http://api.example.com/v1/x"),
        request("https://other.example.com/v1/x"),
        request("https://api.example.com/v2/x"),
        request("https://api.example.com/v1/%2e%2e/v2"),
        request_with("DELETE", "https://api.example.com/v1/x", &[], b""),
        request_with("GET", "https://api.example.com/v1/x", &[("x-api-key", "mine")], b""),
        request_with("GET", "https://api.example.com/v1/x", &[("host", "other.example.com")], b""),
        request_with("GET", "https://api.example.com/v1/x", &[("authorization", "Bearer x")], b""),
        request_with("GET", "https://api.example.com/v1/x", &[("proxy-authorization", "Basic x")], b""),
        request_with("POST", "https://api.example.com/v1/x", &[("content_length", "0")], b"POST /v1/y HTTP/1.1"),
    ];
    let count = u32::try_from(refused.len()).unwrap();
    for request in refused {
        let error = gate.send(Arc::clone(&meter), request, None).await.unwrap_err();
        assert!(matches!(error, Error::HttpRequestDenied), "{error:?}");
    }
    assert_eq!((meter.denied(), meter.requests()), (count, 0));
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn what_is_too_large_to_send_is_refused() {
    let server = Server::with("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let limits = Limits { request_body_bytes: 10, request_head_bytes: 100, ..patient() };
    let gate = Setup { limits, ..Setup::routed(server.address) }.gate();
    let uri = "https://api.example.com/v1/x";
    let body = send(&gate, request_with("POST", uri, &[], &[b'x'; 11])).await.unwrap_err();
    assert!(matches!(body, Error::HttpRequestBodySize(Some(10))), "{body:?}");
    let head = send(&gate, request_with("GET", uri, &[("x-long", &"x".repeat(100))], b"")).await.unwrap_err();
    assert!(matches!(head, Error::HttpRequestHeaderSectionSize(Some(110))), "{head:?}");
    let long = send(&gate, request(&format!("{uri}?{}", "x".repeat(9000)))).await.unwrap_err();
    assert!(matches!(long, Error::HttpRequestUriTooLong), "{long:?}");
    assert!(server.requests().is_empty());
    send(&gate, request_with("POST", uri, &[], &[b'x'; 10])).await.unwrap();
}

#[tokio::test]
async fn a_redirect_is_handed_over_and_not_followed() {
    let server = Server::with("HTTP/1.1 302 Found\r\nlocation: /v1/elsewhere\r\ncontent-length: 0\r\n\r\n").await;
    let (parts, _) = get(&gate_to(&server)).await.unwrap();
    assert_eq!((parts.status.as_u16(), parts.headers["location"].to_str().unwrap()), (302, "/v1/elsewhere"));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn gzip_is_undone_and_no_header_says_otherwise() {
    let text = "{\"data\":[]}".repeat(1000);
    let packed = gzip(text.as_bytes());
    let server = Server::start(move |_| Reply::Pieces(vec![response("content-encoding: gzip\r\n", &packed)])).await;
    let meter = Arc::new(StepMeter::new(1));
    let answer =
        gate_to(&server).send(Arc::clone(&meter), request("https://api.example.com/v1/x"), None).await.unwrap();
    assert!(!answer.headers().contains_key("content-encoding"));
    assert!(!answer.headers().contains_key("content-length"));
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), text.as_bytes());
    assert_eq!(meter.received(), text.len() as u64);
}

#[tokio::test]
async fn bodies_end_at_their_cap_after_decompression() {
    let limits = || Limits { response_body_bytes: 10_000, ..patient() };
    let bomb = gzip(&vec![b'x'; 1_000_000]);
    assert!(bomb.len() < 10_000);
    let server = Server::start(move |_| Reply::Pieces(vec![response("content-encoding: gzip\r\n", &bomb)])).await;
    let gate = Setup { limits: limits(), ..Setup::routed(server.address) }.gate();
    assert_eq!(failure(&gate).await, "body HttpResponseBodySize(Some(10000))");

    // Said beforehand, it is not even begun.
    let server = Server::with("HTTP/1.1 200 OK\r\ncontent-length: 10001\r\n\r\n").await;
    let gate = Setup { limits: limits(), ..Setup::routed(server.address) }.gate();
    assert_eq!(failure(&gate).await, "HttpResponseBodySize(Some(10001))");

    let server = Server::start(|_| Reply::Pieces(vec![response("", &[b'x'; 10_000])])).await;
    let gate = Setup { limits: limits(), ..Setup::routed(server.address) }.gate();
    assert_eq!(get(&gate).await.unwrap().1.unwrap().len(), 10_000);
}

#[tokio::test]
async fn an_endless_head_ends_at_its_cap() {
    let limits = Limits { response_head_bytes: 1000, ..patient() };
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-long: {}\r\n\r\n", "x".repeat(1000));
    let server = Server::with(&long).await;
    let gate = Setup { limits, ..Setup::routed(server.address) }.gate();
    assert!(failure(&gate).await.starts_with("HttpResponseHeaderSectionSize(Some("));
}

#[tokio::test]
async fn a_wrong_content_encoding_is_an_error_and_hangs_nothing() {
    let server = Server::start(|_| Reply::Pieces(vec![response("content-encoding: gzip\r\n", b"{\"data\":[]}")])).await;
    assert_eq!(failure(&gate_to(&server)).await, "body HttpProtocolError");
    let cut = gzip(&b"abcdefgh".repeat(1000));
    let cut = cut[..cut.len() - 9].to_vec();
    let server = Server::start(move |_| Reply::Pieces(vec![response("content-encoding: gzip\r\n", &cut)])).await;
    assert!(failure(&gate_to(&server)).await.starts_with("body "));
    let server = Server::start(|_| Reply::Pieces(vec![response("content-encoding: br\r\n", b"xxxx")])).await;
    assert_eq!(failure(&gate_to(&server)).await, "HttpResponseContentCoding(Some(\"br\"))");
    let server = Server::start(|_| Reply::Pieces(vec![response("content-encoding: identity\r\n", b"xxxx")])).await;
    assert_eq!(get(&gate_to(&server)).await.unwrap().1.unwrap(), b"xxxx".as_slice());
}

#[tokio::test]
async fn an_echo_of_the_secret_never_reaches_the_guest() {
    let server = Server::start(|request| {
        // In a header of its own, in another, and in the body cut in two.
        assert!(request.contains(SECRET));
        let head = format!(
            "HTTP/1.1 401 Unauthorized\r\nx-api-key: other\r\nx-echo: key={SECRET}\r\nx-fine: 1\r\nset-cookie: a=b\r\n\
             transfer-encoding: chunked\r\n\r\n"
        );
        let pieces = [head.as_str(), "c\r\n{\"a\":\"hunter\r\n", "c\r\n2-hunter2\"}\n\r\n", "0\r\n\r\n"];
        Reply::Pieces(pieces.map(|piece| piece.as_bytes().to_vec()).to_vec())
    })
    .await;
    let (parts, body) = get(&gate_to(&server)).await.unwrap();
    assert_eq!(parts.status.as_u16(), 401);
    let names: Vec<&str> = parts.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-fine"]);
    assert_eq!(body.unwrap(), b"{\"a\":\"***************\"}\n".as_slice());
}

#[tokio::test]
async fn silence_ends_in_a_timeout_of_its_own_kind() {
    let server = Server::start(|_| Reply::Stall(vec![])).await;
    // The time for the head as a whole, connecting included, is what the guest asks for; the client's own time for
    // connecting cannot end first.
    let options = wasmtime_wasi_http::RequestOptions {
        connect_timeout: Some(Duration::ZERO),
        first_byte_timeout: Some(Duration::from_millis(60)),
        between_bytes_timeout: None,
    };
    let meter = Arc::new(StepMeter::new(100));
    let asked = request("https://api.example.com/v1/x");
    let error = gate_to(&server).send(meter, asked, Some(options)).await.unwrap_err();
    assert!(matches!(error, Error::HttpResponseTimeout), "{error:?}");

    let limits = Limits { between_bytes_timeout: Duration::from_millis(30), ..patient() };
    let server = Server::start(|_| Reply::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec())).await;
    let gate = Setup { limits, ..Setup::routed(server.address) }.gate();
    assert_eq!(failure(&gate).await, "body ConnectionReadTimeout");
}

#[tokio::test]
async fn broken_connections_are_told_apart() {
    let server = Server::start(|_| Reply::Close(vec![])).await;
    assert_eq!(failure(&gate_to(&server)).await, "ConnectionTerminated");
    let server = Server::start(|_| Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-".to_vec())).await;
    assert_eq!(failure(&gate_to(&server)).await, "ConnectionTerminated");
    let server = Server::start(|_| Reply::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec())).await;
    assert_eq!(failure(&gate_to(&server)).await, "body HttpResponseIncomplete");
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab";
    let server = Server::start(|_| Reply::Close(chunked.to_vec())).await;
    assert_eq!(failure(&gate_to(&server)).await, "body HttpResponseIncomplete");
    let server = Server::start(|_| Reply::Close(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())).await;
    assert_eq!(failure(&gate_to(&server)).await, "HttpProtocolError");

    // Reset: the listener takes the connection and drops it with the request unread.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gate = Setup::routed(listener.local_addr().unwrap()).gate();
    let dropping = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
        drop(stream);
    });
    assert_eq!(failure(&gate).await, "ConnectionTerminated");
    dropping.await.unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gate = Setup::routed(listener.local_addr().unwrap()).gate();
    drop(listener);
    assert_eq!(failure(&gate).await, "ConnectionRefused");
}

#[tokio::test]
async fn connections_are_kept_for_one_tenant_and_never_shared_with_another() {
    let server = Server::with("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let (one, other) = (gate_to(&server), gate_to(&server));
    for _ in 0..5 {
        get(&one).await.unwrap().1.unwrap();
        get(&other).await.unwrap().1.unwrap();
    }
    assert_eq!(server.requests().len(), 10);
    assert_eq!(server.connections().len(), 2);
}

#[tokio::test]
async fn connections_that_lie_idle_are_closed() {
    let server = Server::with("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let limits = Limits { idle_timeout: Duration::from_millis(10), ..patient() };
    let gate = Setup { limits, ..Setup::routed(server.address) }.gate();
    for _ in 0..3 {
        get(&gate).await.unwrap().1.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(server.connections().len(), 3);
}

#[tokio::test]
async fn a_connection_that_nobody_takes_is_a_timeout_of_connecting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Room for one that waits to be accepted; Linux leaves the others without an answer.
    socket2::SockRef::from(&listener).listen(0).unwrap();
    let _waiting = tokio::net::TcpStream::connect(address).await.unwrap();
    let limits = Limits { connect_timeout: Duration::from_millis(100), ..patient() };
    let gate = Setup { limits, ..Setup::routed(address) }.gate();
    assert_eq!(failure(&gate).await, "ConnectionTimeout");
}

#[tokio::test]
async fn requests_in_flight_are_limited_until_their_bodies_are_read() {
    let server = Server::with("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let limits = Limits { requests_in_flight: 2, first_byte_timeout: Duration::from_millis(50), ..patient() };
    let gate = Setup { limits, ..Setup::routed(server.address) }.gate();
    let uri = "https://api.example.com/v1/x";
    let first = send(&gate, request(uri)).await.unwrap();
    let _second = send(&gate, request(uri)).await.unwrap();
    let third = send(&gate, request(uri)).await.unwrap_err();
    assert!(matches!(third, Error::ConnectionTimeout), "of a slow vendor, no budget that is used up: {third:?}");
    first.into_body().collect().await.unwrap();
    send(&gate, request(uri)).await.unwrap();
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_request_that_has_no_body_brings_none() {
    let server = Server::with("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let gate = gate_to(&server);
    let uri = "https://api.example.com/v1/x";
    // What a server that does not read it would take for the next request.
    let next = b"DELETE /v1/x HTTP/1.1\r\nhost: api.example.com\r\n\r\n";
    let error = send(&gate, request_with("GET", uri, &[], next)).await.unwrap_err();
    assert!(matches!(error, Error::HttpRequestDenied), "{error:?}");
    let rules = ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "PATCH", "PUT"];
    let rules = rules.map(|method| types::RequestRule { method: method.into(), path_prefix: "/v1/".into() }).to_vec();
    let origin = types::Origin { scheme: types::Scheme::Https, host: "api.example.com".into(), port: 443 };
    let policy = Policy::from_plan(&types::Plan { origin, rules });
    let all = Setup { policy, ..Setup::routed(server.address) }.gate();
    for method in ["HEAD", "DELETE", "OPTIONS", "TRACE"] {
        let error = send(&all, request_with(method, uri, &[], next)).await.unwrap_err();
        assert!(matches!(error, Error::HttpRequestDenied), "{method}: {error:?}");
        assert!(server.requests().is_empty());
    }
    for method in ["PATCH", "PUT"] {
        send(&all, request_with(method, uri, &[], next)).await.unwrap();
    }
    send(&all, request_with("DELETE", uri, &[], b"")).await.unwrap();
    send(&gate, request_with("POST", uri, &[], next)).await.unwrap();
    send(&gate, request_with("GET", uri, &[], b"")).await.unwrap();
}

#[tokio::test]
async fn a_body_in_letters_that_are_not_searched_is_not_passed_on() {
    for (content_type, passes) in [
        ("application/json", true),
        ("application/json;charset=UTF-8", true),
        ("text/html; charset=\"iso-8859-1\"", true),
        ("text/plain; charset=utf-16", false),
        ("text/plain; a=b; Charset = \"UTF-16LE\"", false),
        ("text/plain; charset=utf-7", false),
        ("text/plain; charset=ibm037; charset=utf-8", false),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: 2\r\n\r\n{{}}");
        let result = get(&gate_to(&Server::with(&head).await)).await;
        assert_eq!(result.is_ok(), passes, "{content_type}: {result:?}");
    }
}

#[tokio::test]
async fn a_guest_cannot_ask_for_more_time_than_it_has() {
    let server = Server::start(|_| Reply::Stall(vec![])).await;
    let short = Duration::from_millis(30);
    let limits = Limits { connect_timeout: short, first_byte_timeout: short, ..patient() };
    let hour = Some(Duration::from_hours(1));
    let options = wasmtime_wasi_http::RequestOptions {
        connect_timeout: hour,
        first_byte_timeout: hour,
        between_bytes_timeout: hour,
    };
    let gate = Setup { limits, ..Setup::routed(server.address) }.gate();
    let sent = gate.send(Arc::new(StepMeter::new(100)), request("https://api.example.com/v1/x"), Some(options));
    let error = tokio::time::timeout(Duration::from_secs(20), sent).await.expect("it ends").unwrap_err();
    assert!(matches!(error, Error::HttpResponseTimeout), "{error:?}");
}

#[tokio::test]
async fn a_header_whose_name_holds_a_secret_does_not_come_in() {
    let server = Server::start(|_| {
        Reply::Pieces(vec![
            format!("HTTP/1.1 200 OK\r\nx-{SECRET}: 1\r\nx-fine: 1\r\ncontent-length: 0\r\n\r\n").into_bytes(),
        ])
    })
    .await;
    let (parts, _) = get(&gate_to(&server)).await.unwrap();
    let names: Vec<&str> = parts.headers.keys().map(http::HeaderName::as_str).collect();
    assert!(!names.iter().any(|name| name.contains(&SECRET.to_lowercase())), "{names:?}");
}
