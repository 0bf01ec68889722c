//! Every request that must not leave, and every header that is not a connector's to set: one table.

use serde_json::{Value, json};

use crate::hostile::evil::Canary;
use crate::hostile::stage::{Stage, hostile};

/// Nothing of it leaves: the policy says no.
const DENIED: &str = "ErrorCode::HttpRequestDenied";
/// A guest cannot set this header.
const FORBIDDEN: &str = "header HeaderError::Forbidden";
/// Not even a header.
const SYNTAX: &str = "header HeaderError::InvalidSyntax";

/// Tries each request and compares what comes of it. Several may be right where it is the library's choice at which point
/// it says no.
async fn compare(attempts: &[(Value, &[&str])]) {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    for part in attempts.chunks(20) {
        let list: Vec<&Value> = part.iter().map(|(attempt, _)| attempt).collect();
        let aftermath = stage.poll(&connector, "attempts", &json!(list).to_string()).await;
        assert_eq!(aftermath.code(), "ok", "{:?}", aftermath.cycle);
        let outcomes = aftermath.outcomes();
        assert_eq!(outcomes.len(), part.len());
        for ((attempt, expected), outcome) in part.iter().zip(outcomes) {
            assert!(expected.iter().any(|one| outcome.starts_with(one)), "{attempt}: {outcome}");
        }
    }
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_the_planned_origin_is_reached() {
    let canary = Canary::start();
    let port = canary.address.port();
    let mut attempts: Vec<(Value, &[&str])> = vec![
        (json!({"authority": "api.hostile.example:443"}), &["status 200"]),
        (json!({"authority": "API.hostile.EXAMPLE"}), &["status 200"]),
        (json!({"scheme": "http"}), &[DENIED]),
        (json!({"scheme": "ftp"}), &[DENIED, "no such scheme", "ErrorCode::HttpProtocolError"]),
        (json!({"scheme": "file", "path": "/etc/passwd"}), &[DENIED, "no such scheme", "ErrorCode::HttpProtocolError"]),
    ];
    let inside = format!("127.0.0.1:{port}");
    let others = [
        "other.example".to_owned(),
        "hostile.example".to_owned(),
        "api.hostile.example.".to_owned(),
        "api.hostile.example.evil.example".to_owned(),
        "api.hostile.example:80".to_owned(),
        "api.hostile.example:444".to_owned(),
        "api.hostile.example:0".to_owned(),
        "user@api.hostile.example".to_owned(),
        "user:password@api.hostile.example".to_owned(),
        format!("api.hostile.example@{inside}"),
        format!("api.hostile.example:443@{inside}"),
        inside,
        format!("localhost:{port}"),
        format!("127.1:{port}"),
        format!("0.0.0.0:{port}"),
        format!("2130706433:{port}"),
        format!("0x7f000001:{port}"),
        format!("0177.0.0.1:{port}"),
        format!("[::1]:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("[::ffff:7f00:1]:{port}"),
        format!("[64:ff9b::7f00:1]:{port}"),
        "10.0.0.1".to_owned(),
        "192.168.0.1".to_owned(),
        "169.254.169.254".to_owned(),
        "[fe80::1]".to_owned(),
        "[fd00:ec2::254]".to_owned(),
        "metadata.google.internal".to_owned(),
    ];
    attempts.extend(others.map(|authority| {
        let expected: &[&str] = &[DENIED, "no such authority"];
        (json!({"authority": authority}), expected)
    }));
    compare(&attempts).await;
    assert_eq!(canary.calls(), 0, "somebody within the host's network was called");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_but_the_planned_methods_and_paths_leaves() {
    let mut attempts: Vec<(Value, &[&str])> = vec![
        (json!({"path": "/v1/a/b?c=/../d"}), &["status 200"]),
        (json!({"method": "POST", "path": "/v1/search"}), &["status 200"]),
        (json!({"method": "POST", "path": "/v1/records"}), &[DENIED]),
    ];
    for method in ["DELETE", "PUT", "PATCH", "CONNECT", "TRACE", "OPTIONS", "get", "GETS"] {
        attempts.push((json!({"method": method}), &[DENIED, "no such method"]));
    }
    for method in ["GET ", "GET\r\n", "GET /admin HTTP/1.1\r\nx:", ""] {
        attempts.push((json!({"method": method}), &["no such method", "ErrorCode::HttpRequestMethodInvalid"]));
    }
    for path in [
        "/",
        "/v1",
        "/v2/records",
        "/V1/records",
        "/admin",
        "/v1/../admin",
        "/v1/x/../../admin",
        "/v1/./x",
        "/v1/%2e%2e/admin",
        "/v1/%2E%2e/admin",
        "/v1/.%2e/admin",
        "/v1/..%2fadmin",
        "/v1/%2e%2e%2fadmin",
        "/v1/%252e%252e/admin",
        "/v1/..;/admin",
        "/v1/..;x=1/admin",
        "/v1//admin",
        "//v1/records",
        "/v1/x%00",
        "/v1/x%0d%0ax-smuggled:%201",
        "/v1/%5c..%5cadmin",
        "/v1/%zz",
    ] {
        attempts.push((json!({"path": path}), &[DENIED]));
    }
    for path in [
        "/v1/..\\admin",
        "/v1/\u{2025}/admin",
        "/v1/x\r\nx-smuggled: 1",
        "/v1/x HTTP/1.1\r\nhost: other.example\r\n\r\nGET /admin",
        "/v1/x\0",
        "/v1/x#/../admin",
        "http://127.0.0.1/",
        "v1/records",
        "*",
    ] {
        // What can be made at all is refused; a fragment never leaves.
        let expected: &[&str] =
            if path.contains('#') { &[DENIED, "no such path", "status 200"] } else { &[DENIED, "no such path"] };
        attempts.push((json!({"path": path}), expected));
    }
    compare(&attempts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_header_that_is_the_hosts_can_be_set_and_none_can_be_smuggled() {
    let mut attempts: Vec<(Value, &[&str])> = Vec::new();
    for name in [
        "x-hostile-token",
        "X-Hostile-Token",
        "Host",
        "Connection",
        "Keep-Alive",
        "Transfer-Encoding",
        "Upgrade",
        "TE",
        "Trailer",
        "Expect",
        "Proxy-Authorization",
        "Proxy-Connection",
        "Proxy-Anything",
        "Authorization",
        "Cookie",
        "Forwarded",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X_Hostile_Token",
        "x-hostile_token",
        "X_Forwarded_Host",
        "X-Original-Host",
        "X-Real-IP",
        "True-Client-IP",
        "X-Cluster-Client-IP",
        "X-Method",
        "Range",
        "If-Range",
        "Accept-Charset",
    ] {
        attempts.push((json!({"header": [name, "127.0.0.1"]}), &[FORBIDDEN]));
    }
    for (name, value) in [
        ("x-a", "1\r\nx-hostile-token: other"),
        ("x-a", "1\nhost: other.example"),
        ("x-a", "1\r\n\r\nGET /admin HTTP/1.1"),
        ("x-a", "1\0"),
        ("x-a\r\nx-b", "1"),
        ("x-a: 1\r\nhost", "other.example"),
        ("x a", "1"),
        ("", "1"),
        ("x-hostile-token ", "1"),
    ] {
        attempts.push((json!({"header": [name, value]}), &[SYNTAX]));
    }
    // Replaced by the host, or the guest's to set.
    for (name, value) in [("content-length", "0"), ("accept-encoding", "br"), ("user-agent", "other"), ("x-own", "1")] {
        attempts.push((json!({"header": [name, value]}), &["status 200"]));
    }
    // Such a length does not become a head of a message with another one.
    attempts.push((json!({"header": ["content-length", "5"]}), &["status 200", "ErrorCode::", "header HeaderError::"]));
    compare(&attempts).await;
}
