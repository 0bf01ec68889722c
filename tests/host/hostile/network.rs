//! Attempts on the network: too much of everything, redirects, names that lie, and secrets that come back.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use host_harness::egress::{Lookup, Routes};
use host_harness::sandbox::Limits;
use serde_json::json;

use crate::hostile::evil::{BOMB, WAYS};
use crate::hostile::secrets::{SECRET, assert_none};
use crate::hostile::stage::{BUDGET, Stage, hostile, limits};

/// The host will not have so many at all.
const TOO_MANY: &str = "ErrorCode::ConnectionLimitReached";

/// The host will not have so many at once, and none of those before has ended in time.
const NO_PLACE: &str = "ErrorCode::ConnectionTimeout";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_budget_and_the_places_in_flight_are_refused() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let budget = usize::try_from(BUDGET.requests).unwrap();

    let sequence = stage.poll(&connector, "sequence", "/v1/records").await;
    assert_eq!(sequence.outcomes(), [format!("{} {TOO_MANY}", 100 - budget), format!("{budget} status 200")]);
    assert_eq!(stage.vendor.requests().len(), budget);
    // Most are told by their number alone.
    assert!(sequence.log.len() < 30, "{} lines", sequence.log.len());

    // All at once: those that have a place keep it until their answer is taken, in whatever order the guest takes them.
    let flood = stage.poll(&connector, "flood", "/v1/records").await;
    let outcomes = flood.outcomes();
    let is_known = |one: &String| [" status 200", TOO_MANY, NO_PLACE].iter().any(|end| one.ends_with(end));
    assert!(outcomes.iter().all(is_known), "{outcomes:?}");
    assert!(stage.vendor.requests().len() <= 2 * budget);
    assert!(flood.log.len() < 30, "{} lines", flood.log.len());

    // A server that never answers: eight wait for it, the others for a place, none for ever.
    let stalled = stage.poll(&connector, "flood", "/v1/stall").await;
    assert_eq!(stalled.code(), "ok", "{:?}", stalled.cycle);
    let outcomes = stalled.outcomes();
    let is_known = |one: &String| ["HttpResponseTimeout", TOO_MANY, NO_PLACE].iter().any(|part| one.contains(part));
    assert!(outcomes.iter().all(is_known), "{outcomes:?}");
    assert!(outcomes.iter().any(|one| one.ends_with(NO_PLACE)), "a slow vendor uses up no budget: {outcomes:?}");

    // Bodies that nobody reads keep their places, and nobody else's.
    let hoarded = stage.poll(&connector, "hoard", "/v1/large").await;
    assert_eq!(hoarded.code(), "wall-clock-limit", "{:?}", hoarded.cycle);

    let denied = stage.poll(&connector, "fetch-for-ever", "").await;
    assert!(denied.log.len() < 30, "{} lines", denied.log.len());
    assert_eq!(denied.cycle.usage.egress_denied, 200, "{:?}", denied.cycle.usage);
    assert_eq!(denied.cycle.usage.requests, 0);
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_has_a_small_budget_of_its_own() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let tenant = connector.tenant(stage.options("check-requests", "check:requests", "")).await.unwrap();
    let (report, usage) = stage.beside_the_neighbour(tenant.check()).await;
    let allowed = limits().requests_per_check;
    assert_eq!(report.unwrap().summary, format!("{} {TOO_MANY}, {allowed} status 200", 100 - allowed));
    assert_eq!(usage.requests, allowed);
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_bounded() {
    // Long enough that no place becomes free while the step runs.
    let stage = Stage::with(Limits { first_byte_timeout: Duration::from_secs(60), ..limits() }).await;
    let connector = hostile(&stage).await;
    let upload = async |bytes: usize| stage.poll(&connector, "upload", &bytes.to_string()).await.outcomes();
    assert_eq!(upload(1 << 20).await, ["status 200"]);
    assert!(upload((1 << 20) + 4096).await[0].starts_with("ErrorCode::HttpRequestBodySize"));
    assert_eq!(stage.vendor.requests().len(), 1);

    // Twelve bodies of a mebibyte, none of them ended: the host takes in those that have a place, and little more.
    let hoarded = stage.poll(&connector, "uploads", "").await;
    let places = limits().requests_in_flight;
    assert_eq!(hoarded.code(), "ok", "{:?}", hoarded.cycle);
    let taken: usize = hoarded.outcomes()[0].parse().unwrap();
    // What waits for a place is taken in as far as the pipe to it goes.
    let pipes = 12 * 2 * 64 * 1024;
    assert!(taken >= 1 << 18 && taken <= places * (1 << 20) + pipes, "{taken} bytes were taken in");

    let large = stage.poll(&connector, "large", "20000").await.outcomes();
    assert_eq!(large[0], "ErrorCode::HttpRequestUriTooLong");
    assert!(large[1].starts_with("ErrorCode::HttpRequestHeaderSectionSize"), "{large:?}");
    // More than all headers of one message may have: the guest does not survive making them.
    assert_eq!(stage.poll(&connector, "large", "300000").await.code(), "connector-trap");
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_texts_of_requests_that_are_kept_take_no_memory_of_the_host() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let words = async |bytes: usize| stage.poll(&connector, "words", &bytes.to_string()).await.outcomes();
    // What is no longer than any host name passes where it may stand.
    assert_eq!(words(250).await, ["0 methods", "0 schemes", "100 authorities", "100 paths"]);
    let before = peak_memory();
    for bytes in [40_000, 2 << 20] {
        assert_eq!(words(bytes).await, ["0 methods", "0 schemes", "0 authorities", "0 paths"], "{bytes}");
    }
    if let Some((before, after)) = before.zip(peak_memory()) {
        assert!(after - before < 128 << 10, "from {before} to {after} kB");
    }
    stage.assert_clean();
}

/// The most memory that this process has had, in kilobytes, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_received_is_bounded() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let most = limits().response_body_bytes;
    assert!(u64::try_from(BOMB).unwrap() > 10 * most);
    for path in ["/v1/bomb", "/v1/endless-body"] {
        let aftermath = stage.poll(&connector, "measure", path).await;
        let outcome = &aftermath.outcomes()[0];
        let bytes: u64 = outcome.strip_suffix(" bytes, then broken").expect(outcome).parse().unwrap();
        assert!(bytes <= most, "{path}: {outcome}");
        assert!(aftermath.cycle.usage.bytes_received <= most + (1 << 20), "{path}: {:?}", aftermath.cycle.usage);
    }
    for path in ["/v1/endless-head", "/v1/endless-hints", "/v1/large-head"] {
        let aftermath = stage.poll(&connector, "measure", path).await;
        let outcome = &aftermath.outcomes()[0];
        assert!(outcome.starts_with("ErrorCode::"), "{path}: {outcome}");
    }
    // One byte after the other, each in time: the step's own time ends it.
    assert_eq!(stage.poll(&connector, "measure", "/v1/drip").await.code(), "wall-clock-limit");
    // What comes along with an answer is no answer to anything.
    let list = json!([{"path": "/v1/two-answers"}, {"path": "/v1/records"}, {"path": "/v1/records"}]).to_string();
    let outcomes = stage.poll(&connector, "attempts", &list).await.outcomes();
    assert!(outcomes.iter().all(|outcome| !outcome.contains("299")), "{outcomes:?}");
    assert_eq!(outcomes[0], "status 200");
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_leads_nowhere_that_is_not_planned() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    for (path, status, location) in [
        ("/v1/redirect", "status 302", format!("http://{}/inside", stage.canary.address)),
        ("/v1/redirect-planned", "status 307", "https://api.hostile.example/admin".to_owned()),
    ] {
        let outcomes = stage.poll(&connector, "follow", path).await.outcomes();
        assert_eq!(outcomes, [status, &location, "ErrorCode::HttpRequestDenied"]);
    }
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_inside_is_refused_whatever_it_said_before() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let canary = stage.canary.address;
    // The plan names the canary's port, so nothing but the address stands in the way.
    let options = |name: &str| {
        let mut options = stage.options(name, "poll:attempts", "[{}, {}, {}]");
        options.routes = Routes::new();
        options
    };
    for address in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "fd00:ec2::254",
        "fe80::1",
        "168.63.129.16",
    ] {
        let address: IpAddr = address.parse().unwrap();
        let lookup: Lookup = Arc::new(move |_| Box::pin(async move { Ok(vec![address]) }));
        let name = format!("resolves-{address}").replace(':', "-");
        let tenant = connector.tenant_resolving(options(&name), lookup).await.unwrap();
        let outcomes = stage.poll_tenant(&tenant).await.outcomes();
        assert_eq!(outcomes, ["ErrorCode::DestinationIpProhibited"; 3], "{address}");
    }

    // A name that changes with every question: first an address on the internet that belongs to nobody, then this host.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let lookup: Lookup = Arc::new(move |_| {
        let turn = counted.fetch_add(1, Ordering::SeqCst);
        let address: IpAddr = if turn.is_multiple_of(2) { "2d00::1".parse().unwrap() } else { canary.ip() };
        Box::pin(async move { Ok(vec![address]) })
    });
    let tenant = connector.tenant_resolving(options("rebinding"), lookup).await.unwrap();
    let aftermath = stage.poll_tenant(&tenant).await;
    let outcomes = aftermath.outcomes();
    assert_eq!(outcomes[1], "ErrorCode::DestinationIpProhibited", "{outcomes:?}");
    assert!(outcomes.iter().all(|outcome| outcome.starts_with("ErrorCode::")), "{outcomes:?}");
    assert_eq!(asked.load(Ordering::SeqCst), 3, "a name is asked for once for each connection, so check and use agree");
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_a_vendor_sends_back_is_seen_by_nobody() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    for way in WAYS.into_iter().chain(["no-http"]) {
        for (act, code) in [("echo", "ok"), ("echo-fail", "internal"), ("echo-trap", "connector-trap")] {
            // Log, report, checkpoint and output are searched for the secret by the stage.
            let aftermath = stage.poll(&connector, act, &format!("/v1/echo/{way}")).await;
            assert_eq!(aftermath.code(), code, "{act} {way}: {:?}", aftermath.cycle);
            assert!(
                aftermath.log.iter().any(|line| line["message"].as_str().unwrap().starts_with("seen: ")),
                "{act} {way}"
            );
        }
    }
    let told = stage.poll(&connector, "echo", "/v1/echo/raw").await;
    let seen = told.artifacts[0]["message"].as_str().unwrap();
    assert!(seen.contains(&format!("you said {}, did you?", "*".repeat(SECRET.len()))), "the rest was there: {seen}");

    let tenant = connector.tenant(stage.options("check-echo", "check:echo", "")).await.unwrap();
    let (report, _) = tenant.check().await;
    assert_none("the summary of a check", format!("{report:?}").as_bytes());
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_host_can_be_seen_and_no_clock_is_finer_than_a_millisecond() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let aftermath = stage.poll(&connector, "look", "").await;
    let seen = &aftermath.artifacts[0]["message"];
    assert_eq!((&seen["environment"], &seen["arguments"], &seen["input"]), (&json!([]), &json!([]), &json!("0 bytes")));
    assert_eq!((&seen["fine_monotonic_readings"], &seen["fine_wall_readings"]), (&json!(0), &json!(0)));
    assert_eq!((&seen["monotonic_resolution"], &seen["wall_resolution"]), (&json!(1_000_000), &json!(1_000_000)));
    stage.assert_clean();
}
