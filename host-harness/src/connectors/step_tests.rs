//! Steps of fixtures, good and evil, through the whole of loading, configuring and polling.

use super::fixtures::{self, ARTIFACT_ID, GOOD, component, component_polling, component_with};
use super::{Connector, Tenant, TenantError, TenantOptions};
use crate::contract::types;
use crate::egress::{NetworkOptions, Routes, Secrets};
use crate::sandbox::{Clock, Engine, EngineOptions, Limits, StepError};
use std::time::Duration;

pub(super) fn engine_with(limits: Limits) -> Engine {
    Engine::new(EngineOptions { limits, pooling: true, max_instances: 4, ..EngineOptions::default() }).unwrap()
}

pub(super) fn engine() -> Engine {
    engine_with(Limits::default())
}

pub(super) fn options() -> TenantOptions {
    let mut secrets = Secrets::new();
    secrets.insert("api_key", "hunter2-hunter2".into()).unwrap();
    let region = types::Setting { key: "region".into(), value: types::SettingValue::Text("us".into()) };
    TenantOptions {
        name: "one".into(),
        settings: vec![region],
        secrets,
        routes: Routes::new(),
        clock: Clock::system(),
        network: NetworkOptions::default(),
    }
}

pub(super) async fn tenant(engine: &Engine, component: Vec<u8>) -> Tenant {
    let connector = Connector::from_bytes(engine, component, None).await.unwrap();
    connector.tenant(options()).await.unwrap()
}

pub(super) fn budget() -> types::Budget {
    types::Budget { requests: 10, artifacts: 10, artifact_bytes: 1 << 20, wall_time_milliseconds: 60_000 }
}

/// Runs one `poll` that is expected to fail.
async fn failing(limits: Limits, poll: &str) -> StepError {
    let tenant = tenant(&engine_with(limits), component_polling(poll)).await;
    tenant.poll(None, budget()).await.0.unwrap_err()
}

#[tokio::test]
async fn a_connector_is_loaded_described_configured_checked_and_polled() {
    let engine = engine();
    let connector = Connector::from_bytes(&engine, component(), None).await.unwrap();
    assert_eq!(*connector.descriptor(), fixtures::descriptor());
    assert_eq!((connector.slug(), connector.contract_version()), ("fixture", "0.1.0"));
    assert_eq!(connector.digest().len(), 64);
    assert!(!connector.from_cache());
    assert_eq!(connector.configure(&[]).await.unwrap().egress, fixtures::plan());

    let tenant = connector.tenant(options()).await.unwrap();
    assert_eq!(tenant.plan().egress, fixtures::plan());
    let (report, _) = tenant.check().await;
    assert_eq!(report.unwrap().summary, "Authorized\\n");
    let (batch, usage) = tenant.poll(Some(vec![1; 100]), budget()).await;
    let batch = batch.unwrap();
    assert_eq!(batch.artifacts[0].id, ARTIFACT_ID);
    assert_eq!(batch.checkpoint, b"state");
    assert_eq!(usage.guest_peak_bytes, 2 * 65536);
    assert_eq!((usage.requests, usage.egress_denied), (0, 0));
    assert!(usage.guest_cpu.unwrap() <= usage.wall);
}

#[tokio::test]
async fn without_a_pool_steps_run_all_the_same() {
    let engine = Engine::new(EngineOptions { pooling: false, ..EngineOptions::default() }).unwrap();
    assert!(!engine.is_pooling());
    tenant(&engine, component()).await.poll(None, budget()).await.0.unwrap();
}

#[tokio::test]
async fn nothing_survives_in_a_guest_between_steps() {
    // Returns a good batch when a byte of memory is 0, and sets it; traps when it is not.
    let poll = "(if (i32.load8_u (i32.const 8)) (then unreachable))
                (i32.store8 (i32.const 8) (i32.const 1)) (return (i32.const {batch}))";
    let tenant = tenant(&engine(), component_polling(poll)).await;
    for _ in 0..20 {
        tenant.poll(None, budget()).await.0.unwrap();
    }
}

#[tokio::test]
async fn a_failure_of_the_connector_comes_cleaned() {
    let error = failing(Limits::default(), "(return (i32.const {failure}))").await;
    assert_eq!((error.code(), error.http_status()), ("unauthorized", Some(401)));
    assert_eq!((error.to_string().as_str(), error.remedy().as_str()), ("the key\\nwas refused", "Check the key."));
}

#[tokio::test]
async fn a_batch_that_breaks_the_contract_is_refused_whole() {
    let error = failing(Limits::default(), "(return (i32.const {bad}))").await;
    assert_eq!(error.code(), "bad-batch");
    assert!(error.to_string().contains("artifact 0"), "{error}");
}

#[tokio::test]
async fn a_stack_that_grows_beyond_its_end_is_told_from_another_wrong_address() {
    // A frame below address 0, as the end of a recursion, and an address that is simply wrong.
    let told = async |offset: u32, address: i32| {
        let poll = format!("(drop (i32.load offset={offset} (i32.const {address}))) {GOOD}");
        failing(Limits::default(), &poll).await.to_string()
    };
    let wrong = told(0, 0x7000_0000).await;
    assert_eq!(wrong, "the connector crashed: wasm trap: out of bounds memory access");
    let deep = format!("{wrong}, below the beginning of memory, where recursion that is too deep ends");
    for (offset, address) in [(0, -16), (0, -100_000), (8_192, -16)] {
        assert_eq!(told(offset, address).await, deep, "{offset} {address}");
    }
}

#[tokio::test]
async fn a_trap_fails_one_step_and_no_other() {
    let engine = engine();
    let evil = tenant(&engine, component_polling("unreachable")).await;
    let good = tenant(&engine, component()).await;
    for _ in 0..10 {
        let error = evil.poll(None, budget()).await.0.unwrap_err();
        assert_eq!(error.code(), "connector-trap");
        assert!(error.to_string().contains("unreachable"), "{error}");
        good.poll(None, budget()).await.0.unwrap();
    }
}

#[tokio::test]
async fn a_pointer_out_of_bounds_is_a_trap() {
    assert_eq!(failing(Limits::default(), "(return (i32.const -4))").await.code(), "connector-trap");
    assert_eq!(failing(Limits::default(), "(return (i32.const 3))").await.code(), "connector-trap");
}

#[tokio::test]
async fn a_guest_that_takes_all_memory_meets_its_limit() {
    let limits = Limits { memory_bytes: 4 << 20, ..Limits::default() };
    let poll = "(loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    let tenant = tenant(&engine_with(limits), component_polling(poll)).await;
    let (result, usage) = tenant.poll(None, budget()).await;
    assert_eq!(result.unwrap_err(), StepError::MemoryLimit { limit: 4 << 20 });
    assert_eq!(usage.guest_peak_bytes, 4 << 20);
}

#[tokio::test]
async fn a_guest_that_spins_meets_its_limit_while_others_go_on() {
    let limit = Duration::from_millis(100);
    let engine = engine_with(Limits { cpu_per_step: limit, ..Limits::default() });
    let evil = tenant(&engine, component_polling("(loop (br 0)) unreachable")).await;
    let good = tenant(&engine, component()).await;
    // On one thread: the good one gets its turns only because the evil one is made to yield.
    let mut spinning = Box::pin(evil.poll(None, budget()));
    let mut polls = 0;
    let (result, usage) = loop {
        tokio::select! {
            biased;
            outcome = &mut spinning => break outcome,
            (result, _) = good.poll(None, budget()) => { result.unwrap(); polls += 1; }
        }
    };
    assert_eq!(result.unwrap_err(), StepError::CpuLimit { limit });
    assert!(usage.guest_cpu.unwrap() >= limit);
    assert!(polls > 0);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_waits_meets_the_wall_clock_and_waiting_costs_no_cpu() {
    let wait = "(call $block (call $subscribe (i64.const 3600000000000))) (return (i32.const {batch}))";
    let tenant = tenant(&engine(), component_polling(wait)).await;
    let (result, usage) = tenant.poll(None, budget()).await;
    // The budget's minute and the grace.
    assert_eq!(result.unwrap_err(), StepError::WallClock { limit: Duration::from_secs(70) });
    assert!(usage.guest_cpu.unwrap() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_guest_may_wait_longer_than_its_cpu_limit() {
    let limits = Limits { cpu_per_step: Duration::from_secs(1), ..Limits::default() };
    let wait = "(call $block (call $subscribe (i64.const 30000000000))) (return (i32.const {batch}))";
    tenant(&engine_with(limits), component_polling(wait)).await.poll(None, budget()).await.0.unwrap();
}

#[tokio::test]
async fn a_guest_that_hoards_handles_meets_its_limit() {
    let limits = Limits { handles: 100, ..Limits::default() };
    let error = failing(limits, "(loop (drop (call $subscribe (i64.const 1))) (br 0)) unreachable").await;
    assert_eq!(error.code(), "connector-trap");
}

#[tokio::test]
async fn a_result_larger_than_the_host_takes_is_not_allocated() {
    // A batch whose checkpoint claims a hundred kilobytes.
    let poll =
        "(i32.store (i32.add (i32.const {batch}) (i32.const 20)) (i32.const 100000)) (return (i32.const {batch}))";
    let limits = Limits { hostcall_bytes: 50_000, ..Limits::default() };
    assert_eq!(failing(limits, poll).await.code(), "connector-trap");
    let limits = Limits { checkpoint_bytes: 99_999, ..Limits::default() };
    assert_eq!(failing(limits, poll).await.code(), "bad-batch");
}

#[tokio::test]
async fn a_guest_that_ends_itself_is_told_from_one_that_crashes() {
    let error = failing(Limits::default(), "(call $exit (i32.const 1)) unreachable").await;
    assert_eq!(error.code(), "connector-trap");
    assert!(error.to_string().contains("ended itself with status 1"), "{error}");
}

#[tokio::test]
async fn a_guest_sees_the_clock_that_the_host_sets() {
    let connector = Connector::from_bytes(
        &engine(),
        component_polling("(call $now (i32.const 64)) (call $fail (i32.wrap_i64 (i64.load (i32.const 64))))"),
        None,
    )
    .await
    .unwrap();
    let clock = Clock::virtual_at(time::OffsetDateTime::from_unix_timestamp(200).unwrap());
    let tenant = connector.tenant(TenantOptions { clock: clock.clone(), ..options() }).await.unwrap();
    assert_eq!(tenant.poll(None, budget()).await.0.unwrap_err().http_status(), Some(200));
    clock.advance(Duration::from_secs(5));
    assert_eq!(tenant.poll(None, budget()).await.0.unwrap_err().http_status(), Some(205));
}

#[tokio::test]
async fn secrets_that_do_not_fit_the_form_are_refused() {
    let connector = Connector::from_bytes(&engine(), component(), None).await.unwrap();
    let code = async |change: fn(&mut TenantOptions)| {
        let mut options = options();
        change(&mut options);
        let error: TenantError = connector.tenant(options).await.unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        error.code()
    };
    assert_eq!(code(|o| o.secrets = Secrets::new()).await, "secret-missing");
    assert_eq!(code(|o| o.secrets.insert("other", "hunter2-hunter2".into()).unwrap()).await, "secret-unknown");
    assert_eq!(
        code(|o| {
            let value = types::SettingValue::Text("hunter2-hunter2".into());
            o.settings.push(types::Setting { key: "api_key".into(), value });
        })
        .await,
        "secret-among-settings"
    );
    assert_eq!(code(|o| o.name = "a\nb".into()).await, "instance-name");
    assert_eq!(code(|o| o.network.extra_ca_files.push("/does/not/exist.pem".into())).await, "network-certificates");
}

#[tokio::test]
async fn more_steps_than_places_wait_for_their_turn() {
    let engine = Engine::new(EngineOptions { max_instances: 2, ..EngineOptions::default() }).unwrap();
    let tenant = tenant(&engine, component()).await;
    let polls = (0..50).map(|_| tenant.poll(None, budget()));
    for (result, _) in futures::future::join_all(polls).await {
        result.unwrap();
    }
}

/// Where the log of a test goes.
#[derive(Clone, Default)]
pub(super) struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Keeps what this thread logs, libraries and all, until the guard is dropped.
    pub(super) fn begin(&self) -> tracing::subscriber::DefaultGuard {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        tracing::subscriber::set_default(subscriber)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn what_a_guest_logs_is_told_with_its_origin_and_capped() {
    let limits = Limits { log_lines: 10, log_line_bytes: 20, ..Limits::default() };
    // At level `info`, for ever.
    let poll = "(loop (call $write (i32.const 2) (i32.const {text}) (i32.const 64)) (br 0)) unreachable";
    let engine = engine_with(Limits { cpu_per_step: Duration::from_millis(50), ..limits });
    let tenant = tenant(&engine, component_polling(poll)).await;
    let log = Log::default();
    // The test has one thread, so what is set for the thread holds until the end.
    let guard = log.begin();
    assert_eq!(tenant.poll(None, budget()).await.0.unwrap_err().code(), "cpu-limit");
    drop(guard);
    let text = log.text();
    assert_eq!(text.matches("xxxxxxxxxxxxxxxxxxxx…").count(), 10, "{text}");
    assert_eq!(text.matches("dropped").count(), 1, "{text}");
    assert!(
        text.lines().all(|line| line.contains("connector=\"fixture\"") && line.contains("instance=\"one\"")),
        "{text}"
    );
}

// ---- requests ---------------------------------------------------------------------

/// What [`fixtures`] report for an error code of `wasi:http`, by its place in the enumeration.
pub(super) const CONNECTION_LIMIT_REACHED: u16 = 600 + 11;
const REQUEST_DENIED: u16 = 600 + 15;

/// A server that answers every request with 200, and gives what it was sent.
async fn server() -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = format!("api.example.com=http://{}", listener.local_addr().unwrap());
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while stream.read_buf(&mut seen).await.is_ok_and(|n| n > 0) {
                    if seen.ends_with(b"\r\n\r\n") {
                        let _ = tell.send(String::from_utf8(std::mem::take(&mut seen)).unwrap());
                        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                    }
                }
            });
        }
    });
    (route, told)
}

/// A tenant whose `poll` does as told and whose requests go to a server.
async fn routed(poll: &str) -> (Tenant, tokio::sync::mpsc::UnboundedReceiver<String>) {
    routed_on(&engine(), poll).await
}

/// The same on this engine.
pub(super) async fn routed_on(engine: &Engine, poll: &str) -> (Tenant, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (route, told) = server().await;
    let connector = Connector::from_bytes(engine, component_polling(poll), None).await.unwrap();
    let options = TenantOptions { routes: Routes::parse([route]).unwrap(), ..options() };
    (connector.tenant(options).await.unwrap(), told)
}

#[tokio::test]
async fn a_planned_request_leaves_with_the_secret_that_the_guest_never_had() {
    let (tenant, mut told) = routed("(call $fail (call $fetch {host} {path}))").await;
    let (result, usage) = tenant.poll(None, budget()).await;
    assert_eq!(result.unwrap_err().http_status(), Some(200));
    assert_eq!((usage.requests, usage.egress_denied), (1, 0));
    let request = told.recv().await.unwrap();
    assert!(request.starts_with("GET /v1/records?x=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("x-api-key: hunter2-hunter2\r\n"), "{request}");
    assert!(request.contains("host: api.example.com\r\n"), "{request}");
}

#[tokio::test]
async fn what_is_not_planned_never_leaves() {
    for target in ["{other-host} {path}", "{host} {other-path}"] {
        let (tenant, mut told) = routed(&format!("(call $fail (call $fetch {target}))")).await;
        let (result, usage) = tenant.poll(None, budget()).await;
        assert_eq!(result.unwrap_err().http_status(), Some(REQUEST_DENIED));
        assert_eq!((usage.requests, usage.egress_denied), (0, 1));
        assert!(told.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_guest_cannot_set_the_header_of_a_credential() {
    // Appending gives 1 and the number of `forbidden`.
    let poll = "(call $fail (i32.add (i32.const 300) (call $header {key-header})))";
    let tenant = tenant(&engine(), component_polling(poll)).await;
    assert_eq!(tenant.poll(None, budget()).await.0.unwrap_err().http_status(), Some(302));
}

#[tokio::test]
async fn the_budget_of_requests_is_enforced_by_the_host() {
    let poll = "(drop (call $fetch {host} {path})) (drop (call $fetch {host} {path})) (call $fail (call $fetch {host} {path}))";
    let (tenant, _told) = routed(poll).await;
    let (result, usage) = tenant.poll(None, types::Budget { requests: 2, ..budget() }).await;
    assert_eq!(result.unwrap_err().http_status(), Some(CONNECTION_LIMIT_REACHED));
    assert_eq!((usage.requests, usage.egress_denied, usage.bytes_received), (2, 1, 0));
}

#[tokio::test]
async fn describe_runs_with_every_request_denied() {
    let describe =
        format!("(if (i32.ne (call $fetch {{host}} {{path}}) (i32.const {REQUEST_DENIED})) (then unreachable))");
    Connector::from_bytes(&engine(), component_with(&fixtures::descriptor(), GOOD, &describe), None).await.unwrap();
}
