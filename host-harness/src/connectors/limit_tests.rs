//! Limits that only show in how far a guest gets: how deep, how long, how often, and beside how many.

use super::Connector;
use super::fixtures::{Fixture, GOOD, component, component_polling, component_with};
use super::step_tests::{CONNECTION_LIMIT_REACHED, Log, budget, engine_with, options, routed_on, tenant};
use crate::contract::types;
use crate::sandbox::{Engine, EngineOptions, Limits, StepError};
use std::time::Duration;
use tokio::time::Instant;

/// A `poll` that waits for an hour.
const WAITING: &str = "(call $block (call $subscribe (i64.const 3600000000000))) (return (i32.const {batch}))";

#[tokio::test]
async fn how_deep_a_guest_may_call_is_what_its_stack_has_room_for() {
    let poll = "(drop (call $deep (i32.const 4000))) (return (i32.const {batch}))";
    let small =
        tenant(&engine_with(Limits { stack_bytes: 64 << 10, ..Limits::default() }), component_polling(poll)).await;
    let error = small.poll(None, budget()).await.0.unwrap_err();
    assert_eq!(error.code(), "connector-trap");
    assert!(error.to_string().contains("stack"), "{error}");
    let large =
        tenant(&engine_with(Limits { stack_bytes: 1 << 20, ..Limits::default() }), component_polling(poll)).await;
    large.poll(None, budget()).await.0.unwrap();
}

#[tokio::test]
async fn a_budget_allows_no_more_requests_than_a_step_may_make() {
    let fetch = "(call $fetch {host} {path})";
    let engine = engine_with(Limits { requests_per_step: 2, ..Limits::default() });
    let (tenant, _told) = routed_on(&engine, &format!("(drop {fetch}) (drop {fetch}) (call $fail {fetch})")).await;
    let (result, usage) = tenant.poll(None, types::Budget { requests: 10, ..budget() }).await;
    assert_eq!(result.unwrap_err().http_status(), Some(CONNECTION_LIMIT_REACHED));
    assert_eq!((usage.requests, usage.egress_denied), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_budget_allows_no_more_time_than_a_step_may_take() {
    let limit = Duration::from_secs(1);
    let engine = engine_with(Limits { wall_per_step: limit, ..Limits::default() });
    let tenant = tenant(&engine, component_polling(WAITING)).await;
    let (result, _) = tenant.poll(None, types::Budget { wall_time_milliseconds: 60_000, ..budget() }).await;
    assert_eq!(result.unwrap_err(), StepError::WallClock { limit });
}

#[tokio::test(start_paused = true)]
async fn a_check_has_a_minute() {
    let check = "(call $block (call $subscribe (i64.const 3600000000000)))";
    let tenant = tenant(&engine_with(Limits::default()), Fixture { check, ..Fixture::version("1.0.0") }.build()).await;
    let error = tenant.check().await.0.unwrap_err();
    assert_eq!(error, StepError::WallClock { limit: Duration::from_secs(70) });
}

#[tokio::test(start_paused = true)]
async fn no_more_steps_run_at_once_than_there_are_places_for() {
    let limits = Limits { wall_per_step: Duration::from_secs(10), ..Limits::default() };
    // Without a pool, whose size would be a limit of its own.
    let options = EngineOptions { limits, pooling: false, max_instances: 2, ..EngineOptions::default() };
    let tenant = tenant(&Engine::new(options).unwrap(), component_polling(WAITING)).await;
    let started = Instant::now();
    let took = futures::future::join_all((0..3).map(async |_| {
        assert_eq!(tenant.poll(None, budget()).await.0.unwrap_err().code(), "wall-clock-limit");
        started.elapsed().as_secs()
    }));
    assert_eq!(took.await, [10, 10, 20], "the third began when a place was free");
}

#[tokio::test(start_paused = true)]
async fn steps_that_hang_hold_up_neither_a_new_connector_nor_the_settings_of_a_new_tenant() {
    let limits = Limits { wall_per_step: Duration::from_secs(100), ..Limits::default() };
    let options = EngineOptions { limits, pooling: false, max_instances: 1, ..EngineOptions::default() };
    let engine = Engine::new(options).unwrap();
    let hanging = tenant(&engine, component_polling(WAITING)).await;
    let began = Instant::now();
    let polls = futures::future::join_all((0..2).map(|_| hanging.poll(None, budget())));
    let beside = async {
        tokio::task::yield_now().await;
        // Described, and configured.
        tenant(&engine, component()).await;
        assert!(began.elapsed() < Duration::from_secs(100), "{:?}", began.elapsed());
    };
    futures::join!(polls, beside);
}

#[tokio::test]
async fn requests_that_lead_nowhere_do_not_flood_the_log() {
    let flood = "(call $pathless (i32.const 300))";
    let engine = engine_with(Limits { refusals_logged: 5, ..Limits::default() });
    let log = Log::default();
    // The test has one thread, so what is set for the thread holds until the end.
    let guard = log.begin();
    let described = component_with(&super::fixtures::descriptor(), GOOD, flood);
    Connector::from_bytes(&engine, described, None).await.unwrap();
    let in_describe = log.text().lines().count();

    let configuring = Fixture { configure: "(call $pathless (i32.const 300))", ..Fixture::version("1.0.0") };
    let connector = Connector::from_bytes(&engine, configuring.build(), None).await.unwrap();
    connector.configure(&[]).await.unwrap();
    let in_configure = log.text().lines().count() - in_describe;

    let polling = tenant(&engine, component_polling(&format!("{flood} {GOOD}"))).await;
    let (result, usage) = polling.poll(None, budget()).await;
    result.unwrap();
    assert_eq!((usage.requests, usage.egress_denied), (0, 300));
    drop(guard);
    let in_poll = log.text().lines().count() - in_describe - in_configure;
    // All lines, whoever wrote them: five refusals, and that there are more.
    assert_eq!((in_describe, in_configure, in_poll), (6, 6, 6), "{}", log.text());
}

#[tokio::test]
async fn a_component_is_compiled_while_others_keep_all_compilers_of_the_process_busy() {
    let (free, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Arc::new(std::sync::Mutex::new(wait));
    let busy = std::thread::spawn(move || {
        // One holds the channel, the others wait for it.
        rayon::broadcast(|_| drop(wait.lock().map(|wait| wait.recv())));
    });
    let engine = engine_with(Limits::default());
    let loaded = Connector::from_bytes(&engine, component(), None);
    let loaded = tokio::time::timeout(Duration::from_secs(60), loaded).await;
    drop(free);
    busy.join().unwrap();
    loaded.expect("it does not wait for them").unwrap().tenant(options()).await.unwrap();
}
