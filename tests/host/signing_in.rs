//! How secrets sign in: by a connector that says what becomes of its secret, through the host, at a vendor that looks.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::common::audit::SMALL_BUDGET;
use crate::common::host::{guest, host_harness};
use crate::common::vendor::{Request, Vendor, reply};
use host_harness::connectors::{Connector, Tenant, TenantError, TenantOptions};
use host_harness::contract::types::{Budget, FailureReason, RetryAdvice, Setting, SettingValue};
use host_harness::egress::{NetworkOptions, Routes, Secrets};
use host_harness::sandbox::{Clock, Engine, EngineOptions, StepError};
use insta::assert_snapshot;

/// A secret with what has to be encoded on the way.
const SECRET: &str = "s3cr3t+of/the=client&0";

/// The API and the server that gives tokens, and what it has given so far.
struct Site {
    api: Vendor,
    login: Vendor,
    given: Arc<AtomicU32>,
}

/// What a token is called that was given as the nth.
fn token(nth: u32) -> String {
    format!("t0ken-{nth}-of-the-vendor")
}

impl Site {
    /// Its API takes what `takes` says, of the value of the header; its tokens hold for an hour.
    fn taking(takes: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        let given = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&given);
        let api = Vendor::start(move |request, stream| {
            let header = request.headers("x-probe-token").join(", ");
            // What it was given comes back, as a careless vendor does.
            let status = if takes(&header) { 200 } else { 401 };
            reply(stream, status, &[], format!("echo {header} {SECRET}").as_bytes())
        });
        let login = Vendor::start(move |_, stream| {
            let nth = counter.fetch_add(1, Ordering::SeqCst) + 1;
            let body = format!(r#"{{"access_token":"{}","token_type":"bearer","expires_in":3600}}"#, token(nth));
            // As CrowdStrike's does.
            reply(stream, 201, &[("content-type", "application/json")], body.as_bytes())
        });
        Self { api, login, given }
    }

    fn new() -> Self {
        Self::taking(|_| true)
    }

    /// Where the connector's hosts really are.
    fn routes(&self) -> [String; 2] {
        [
            format!("api.probe.example=http://{}", self.api.address),
            format!("login.probe.example=http://{}", self.login.address),
        ]
    }

    /// An instance whose secret signs in in this way. No two tests may share a name, or one would have the other's token.
    async fn tenant(&self, name: &str, how: &str) -> Result<Tenant, TenantError> {
        let engine = Engine::new(EngineOptions { max_instances: 4, ..EngineOptions::default() }).unwrap();
        let connector = Connector::load(&engine, &guest("probe_guest"), None).await.unwrap();
        let mut secrets = Secrets::new();
        secrets.insert("token", SECRET.into()).unwrap();
        let options = TenantOptions {
            name: name.to_owned(),
            settings: vec![Setting { key: "note".to_owned(), value: SettingValue::Text(how.to_owned()) }],
            secrets,
            routes: Routes::parse(self.routes()).unwrap(),
            clock: Clock::system(),
            network: NetworkOptions::default(),
        };
        connector.tenant(options).await
    }

    /// The headers that the API was given.
    fn signed(&self) -> Vec<String> {
        self.api.requests().iter().map(|request: &Request| request.headers("x-probe-token").join(", ")).collect()
    }
}

/// Enough for a step that is done once more.
const BUDGET: Budget = Budget { requests: 50, ..SMALL_BUDGET };

/// What the connector saw in one step.
async fn step(tenant: &Tenant) -> Result<String, StepError> {
    let batch = tenant.poll(None, BUDGET).await.0?;
    Ok(batch.artifacts[0].json.clone())
}

#[tokio::test]
async fn a_secret_is_sent_in_the_form_that_the_connector_says() {
    for (how, expected) in [
        ("as it is", SECRET),
        ("prefixed", "Probe s3cr3t+of/the=client&0"),
        ("password", "Basic cHJvYmUtdXNlcjpzM2NyM3Qrb2YvdGhlPWNsaWVudCYw"),
        ("user", "Basic czNjcjN0K29mL3RoZT1jbGllbnQmMDo="),
    ] {
        let site = Site::new();
        let seen = step(&site.tenant("forms", how).await.unwrap()).await.unwrap();
        assert_eq!(site.signed(), [expected], "{how}");
        assert!(site.login.requests().is_empty());
        // What came back of it, the connector has not seen.
        assert!(seen.contains("echo ") && !seen.contains(expected) && !seen.contains(SECRET), "{seen}");
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_and_neither_it_nor_the_secret_is_seen() {
    // The vendor repeats both to the connector.
    let site = Site::new();
    // A host may set an instance up anew for each poll.
    for _ in 0..3 {
        let tenant = site.tenant("once", "token").await.unwrap();
        for _ in 0..2 {
            let seen = step(&tenant).await.unwrap();
            assert!(seen.contains("echo ") && !seen.contains(&token(1)) && !seen.contains("s3cr3t"), "{seen}");
        }
    }
    assert_eq!(site.signed(), vec![format!("Bearer {}", token(1)); 6]);
    let [request] = site.login.requests().try_into().unwrap_or_else(|all| panic!("{all:?}"));
    let body = String::from_utf8(request.body.clone()).unwrap();
    assert_eq!(
        (request.method.as_str(), request.target.as_str(), body.as_str()),
        (
            "POST",
            "/oauth2/token",
            "grant_type=client_credentials&scope=read+write&audience=https%3A%2F%2Fapi.probe.example%2F"
        )
    );
    // `probe:client` and the secret, each encoded as in a form, RFC 6749.
    let basic = "Basic cHJvYmUlM0FjbGllbnQ6czNjcjN0JTJCb2YlMkZ0aGUlM0RjbGllbnQlMjYw";
    assert_eq!(request.headers("authorization"), [basic]);
    assert_eq!(request.headers("host"), ["login.probe.example"]);
    assert_eq!(request.headers("content-type"), ["application/x-www-form-urlencoded"]);

    // Another instance has one of its own.
    step(&site.tenant("another", "token").await.unwrap()).await.unwrap();
    assert_eq!(site.given.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_client_may_sign_in_by_the_form() {
    let site = Site::new();
    step(&site.tenant("form", "token by form").await.unwrap()).await.unwrap();
    let request = &site.login.requests()[0];
    let body = String::from_utf8(request.body.clone()).unwrap();
    assert!(body.ends_with("&client_id=probe%3Aclient&client_secret=s3cr3t%2Bof%2Fthe%3Dclient%260"), "{body}");
    assert!(request.headers("authorization").is_empty());
}

#[tokio::test]
async fn a_token_that_is_taken_back_before_its_time_costs_no_poll() {
    let taken_back = Arc::new(AtomicBool::new(false));
    let is_taken_back = Arc::clone(&taken_back);
    let site =
        Site::taking(move |header| header != format!("Bearer {}", token(1)) || !is_taken_back.load(Ordering::SeqCst));
    let tenant = site.tenant("taken back", "token").await.unwrap();
    step(&tenant).await.unwrap();
    taken_back.store(true, Ordering::SeqCst);
    let (result, usage) = tenant.poll(None, BUDGET).await;
    let seen = result.unwrap().artifacts[0].json.clone();
    assert_eq!(usage.requests, 2, "that of the step that was thrown away counts");
    let [first, second] = [1, 2].map(|nth| format!("Bearer {}", token(nth)));
    assert_eq!(site.signed(), [first.clone(), first, second]);
    assert!(!seen.contains(&token(2)), "{seen}");
    step(&tenant).await.unwrap();
    assert_eq!(site.given.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_token_that_is_taken_back_while_no_other_is_had_is_not_used_and_the_servers_failure_counts() {
    let gone = Arc::new(AtomicBool::new(false));
    let (is_down, takes_none) = (Arc::clone(&gone), Arc::clone(&gone));
    let login = Vendor::start(move |_, stream| {
        let status = if is_down.load(Ordering::SeqCst) { 503 } else { 200 };
        reply(stream, status, &[], br#"{"access_token":"the-only-token"}"#)
    });
    let site = Site { login, ..Site::taking(move |_| !takes_none.load(Ordering::SeqCst)) };
    let tenant = site.tenant("down", "token").await.unwrap();
    step(&tenant).await.unwrap();
    gone.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let StepError::Failure(failure) = step(&tenant).await.unwrap_err() else { panic!("it is a failure") };
        assert_eq!(failure.reason, FailureReason::Unavailable);
        assert!(failure.message.starts_with("no token was had from "), "{failure:?}");
    }
    assert_eq!((site.login.requests().len(), site.signed().len()), (4, 2), "no step is begun with it");
    gone.store(false, Ordering::SeqCst);
    step(&tenant).await.unwrap();
}

#[tokio::test]
async fn a_vendor_that_takes_no_token_at_all_costs_one_token_and_one_request_a_step() {
    let site = Site::taking(|_| false);
    let tenant = site.tenant("never", "token").await.unwrap();
    for polls in 1..=3 {
        let StepError::Failure(failure) = step(&tenant).await.unwrap_err() else { panic!("it is a failure") };
        assert_eq!((failure.reason, failure.http_status), (FailureReason::Unauthorized, Some(401)));
        assert_eq!((site.given.load(Ordering::SeqCst), site.signed().len()), (1, polls));
    }
}

/// What the server answers (status, headers, body), and what comes of it.
type Answer = (u16, &'static [(&'static str, &'static str)], &'static str, FailureReason, RetryAdvice, &'static str);

#[tokio::test]
async fn without_a_token_no_step_is_begun_and_the_reason_is_told() {
    let long = format!(r#"{{"access_token":"{}"}}"#, "x".repeat(70_000)).leak();
    let table: [Answer; 14] = [
        (
            401,
            &[],
            r#"{"error":"invalid_client","error_description":"no s3cr3t+of/the=client&0 as in Basic cHJvYmUlM0FjbGllbnQ6czNjcjN0JTJCb2YlMkZ0aGUlM0RjbGllbnQlMjYw"}"#,
            FailureReason::Unauthorized,
            RetryAdvice::AfterChange,
            "invalid_client: no [redacted] as in [redacted]",
        ),
        (400, &[], r#"{"error":"invalid_scope"}"#, FailureReason::Forbidden, RetryAdvice::AfterChange, "invalid_scope"),
        // What is no word of the standard is not shown.
        (
            400,
            &[],
            r#"{"error":"hello","error_description":"world"}"#,
            FailureReason::Unauthorized,
            RetryAdvice::AfterChange,
            "the server gave none",
        ),
        (403, &[], "{}", FailureReason::Forbidden, RetryAdvice::AfterChange, "the server gave none"),
        (
            200,
            &[],
            r#"{"error":"unauthorized_client"}"#,
            FailureReason::Unauthorized,
            RetryAdvice::AfterChange,
            "unauthorized_client",
        ),
        (401, &[], "<html>", FailureReason::Unauthorized, RetryAdvice::AfterChange, "the server gave none"),
        (404, &[], "", FailureReason::NotFound, RetryAdvice::AfterChange, "the server gave none"),
        (
            429,
            &[("retry-after", "77")],
            "",
            FailureReason::RateLimited,
            RetryAdvice::AfterSeconds(77),
            "the server gave none",
        ),
        (503, &[], "", FailureReason::Unavailable, RetryAdvice::BackOff, "the server gave none"),
        (
            302,
            &[("location", "https://evil.example/")],
            "",
            FailureReason::MalformedResponse,
            RetryAdvice::BackOff,
            "the server gave none",
        ),
        (
            200,
            &[],
            "<html>",
            FailureReason::MalformedResponse,
            RetryAdvice::BackOff,
            "the answer is not the JSON object that it should be",
        ),
        (
            200,
            &[],
            r#"{"access_token":"abcdefgh","token_type":"mac"}"#,
            FailureReason::MalformedResponse,
            RetryAdvice::BackOff,
            "the token is of another type than Bearer",
        ),
        (
            200,
            &[],
            r#"{"access_token":"abc\ndefgh"}"#,
            FailureReason::MalformedResponse,
            RetryAdvice::BackOff,
            "the access_token cannot stand in a header",
        ),
        (200, &[], long, FailureReason::MalformedResponse, RetryAdvice::BackOff, "the answer broke off or is too long"),
    ];
    for (at, (status, headers, body, reason, retry, what)) in table.into_iter().enumerate() {
        let login = Vendor::start(move |_, stream| reply(stream, status, headers, body.as_bytes()));
        let site = Site { login, ..Site::new() };
        let tenant = site.tenant(&format!("refused {at}"), "token").await.unwrap();
        let StepError::Failure(failure) = step(&tenant).await.unwrap_err() else { panic!("it is a failure") };
        assert_eq!((failure.reason, failure.retry), (reason, retry), "{failure:?}");
        assert_eq!(failure.http_status, Some(status));
        let place = "https://login.probe.example/oauth2/token";
        assert_eq!(failure.message, format!("no token was had from {place}: {what}"));
        assert!(failure.remedy.ends_with('.'), "{failure:?}");
        assert!(site.api.requests().is_empty(), "no step is begun without a token");
        // A check says the same.
        assert_eq!(tenant.check().await.0.unwrap_err(), StepError::Failure(failure));
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unavailable() {
    let mut site = Site::new();
    site.login.address.set_port(1);
    let StepError::Failure(failure) = step(&site.tenant("nobody", "token").await.unwrap()).await.unwrap_err() else {
        panic!("it is a failure")
    };
    assert_eq!((failure.reason, failure.request_sent), (FailureReason::Unavailable, false));
    assert!(failure.remedy.contains("reaches https://login.probe.example/oauth2/token"), "{failure:?}");
}

#[tokio::test]
async fn what_the_connector_says_of_its_secrets_is_checked_as_its_plan_is() {
    let site = Site::new();
    let error = site.tenant("nowhere", "token from nowhere").await.unwrap_err();
    assert_eq!(error.code(), "plan-invalid");
    assert_snapshot!(error, @r#"the connector makes a plan that breaks the contract: sign-in[0].token-origin.host "localhost" must be a DNS name in lower case, with a dot, never an address"#);
    let error = site.tenant("refused", "refused").await.unwrap_err();
    assert_eq!(error.code(), "invalid-settings");
    assert_snapshot!(error, @"the settings are not valid: note: does not say how to sign in");
}

#[test]
fn the_command_tells_what_came_of_signing_in_and_inspect_where_the_secret_goes() {
    let login = Vendor::start(|_, stream| {
        reply(stream, 401, &[], br#"{"error":"invalid_client","error_description":"Client is disabled."}"#)
    });
    let site = Site { login, ..Site::new() };
    let dir = tempfile::tempdir().unwrap();
    let probe = guest("probe_guest");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(host_harness());
        let output = command.current_dir(dir.path()).env("PROBE", SECRET).args(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let probe = probe.to_str().unwrap();
    let [api, login] = site.routes();
    let poll = ["poll", "--connector", probe, "--instance", "p", "--state", "state", "--set", "note=token"];
    let (code, _, errors) =
        run(&[&poll[..], &["--secret", "token=env:PROBE", "--route", &api, "--route", &login]].concat());
    assert_eq!(code, Some(1), "{errors}");
    let told: Vec<&str> = errors.lines().filter(|line| line.starts_with("[ERROR]")).collect();
    assert_snapshot!(told.join("\n"), @r#"[ERROR] probe: poll failed: no token was had from https://login.probe.example/oauth2/token: invalid_client: Client is disabled (HTTP 401, unauthorized). Verify the client's identifier in the settings and its secret (Token), that they belong together and neither has expired, and the other settings of signing in. instance="p""#);

    let (code, page, errors) = run(&["inspect", probe, "--set", "note=token"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    let planned = page.split("With these settings").nth(1).unwrap().split("\n\n").next().unwrap();
    let planned: Vec<&str> = planned.trim().lines().map(str::trim).collect();
    assert_snapshot!(planned.join("\n"), @r#"
    reaches   https://api.probe.example
    requests  GET /
    token     in x-probe-token: a token that the host gets from https://login.probe.example/oauth2/token for the client "probe:client" by Basic, with the scope "read write", audience "https://api.probe.example/"
    "#);
    let (_, page, _) = run(&["inspect", probe, "--json", "--set", "note=prefixed"]);
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_snapshot!(page["plan"], @r#"{"origins":["https://api.probe.example"],"rules":[{"method":"GET","path_prefix":"/"}],"secrets":[{"form":"prefixed","header":"x-probe-token","prefix":"Probe ","setting":"token"}],"token_origins":[]}"#);
    let (code, _, errors) = run(&["inspect", probe, "--set", "note=refused"]);
    assert_eq!(code, Some(2));
    assert_snapshot!(errors, @r"
    error: the connector does not take these settings:
      note: does not say how to sign in
    help: see the settings with `host-harness inspect`
    ");
}
