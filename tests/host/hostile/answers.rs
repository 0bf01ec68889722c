//! Answers that break the contract, stretch it, or try to speak with another's voice.

use host_harness::instances::report::End;
use serde_json::json;

use crate::common::audit::event_id;
use crate::hostile::stage::{Stage, hostile};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_breaks_the_contract_is_committed_nowhere() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    for (act, code, says) in [
        ("huge-artifact", "bad-batch", "bytes together"),
        ("huge-answer", "connector-trap", "fuel"),
        ("many-artifacts", "bad-batch", "30000 artifacts"),
        ("no-json", "bad-batch", "artifact 0: it is not a JSON object"),
        ("cut-json", "bad-batch", "artifact 0: it is not a JSON object"),
        ("two-lines", "bad-batch", "more than one line"),
        ("two-objects", "bad-batch", "artifact 0: it is not a JSON object"),
        ("other-id-inside", "bad-batch", "the id inside"),
        ("two-ids-inside", "bad-batch", "duplicate field"),
        ("no-uuid", "bad-batch", "is not a UUID"),
        ("twice", "bad-batch", "artifact 2: the id"),
        ("other-stream", "bad-batch", "is not described"),
        ("huge-checkpoint", "bad-batch", "the checkpoint has 1048577 bytes"),
        ("many-reports", "bad-batch", "two reports"),
        ("other-report", "bad-batch", "which is not described"),
    ] {
        let aftermath = stage.poll(&connector, act, "").await;
        let failure = aftermath.cycle.failure.clone().unwrap_or_else(|| panic!("{act} was taken"));
        assert_eq!(failure.code, code, "{act}: {failure:?}");
        assert!(failure.message.contains(says), "{act}: {}", failure.message);
        assert!(!failure.message.contains(|c: char| c.is_control()), "{act}: {:?}", failure.message);
        assert_eq!((aftermath.artifacts.len(), aftermath.checkpoint), (0, None), "{act}");
        assert_eq!(aftermath.cycle.status().as_str(), "failed", "{act}");
    }
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_stretches_the_contract_is_taken_and_hurts_nobody() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    for act in ["deep", "deep-text", "half-characters", "huge-number"] {
        let aftermath = stage.poll(&connector, act, "").await;
        assert_eq!((aftermath.code(), aftermath.cycle.new), ("ok", 1), "{act}: {:?}", aftermath.cycle);
        assert_eq!(aftermath.artifacts.len(), 1, "{act}");
    }
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_with_anothers_id_is_an_artifact_of_its_own_tenant() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    // The neighbour's own id; that the neighbour collects what it always did is asserted by the stage.
    let aftermath = stage.poll(&connector, "other-tenant", &event_id(0)).await;
    assert_eq!((aftermath.code(), aftermath.cycle.new), ("ok", 1));
    // A second tenant brings the same id: both are kept, each under its own name.
    let options = stage.options("second", "poll:other-tenant", &event_id(0));
    let second = connector.tenant(options).await.unwrap();
    let aftermath = stage.poll_tenant(&second).await;
    assert_eq!((aftermath.cycle.new, aftermath.cycle.repeated), (1, 0));
    assert_eq!(aftermath.artifacts[0]["id"], json!(event_id(0)));
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_ends_however_often_a_connector_wants_to_go_on() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let more = stage.poll(&connector, "more", "").await;
    assert_eq!((more.code(), more.cycle.end, more.cycle.steps), ("ok", End::StepLimit, 20));
    let nothing = stage.poll(&connector, "more-of-nothing", "").await;
    assert_eq!((nothing.code(), nothing.cycle.steps), ("no-progress", 4));
    // A wait beyond all time.
    let wait = stage.poll(&connector, "wait", "").await;
    assert_eq!((wait.code(), wait.cycle.steps, wait.cycle.new), ("rate-limited", 1, 1));
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_brings_more_than_a_days_worth_is_held_and_told() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    // Each step brings a few hundred bytes; the neighbour brings little.
    stage.store.limit_daily(4_000);
    let flood = stage.poll(&connector, "more", "").await;
    let failure = flood.cycle.failure.as_ref().unwrap();
    assert!((2..19).contains(&flood.cycle.steps), "{}", flood.cycle.steps);
    assert_eq!((flood.code(), failure.code.as_str()), ("daily-limit", "daily-limit"));
    assert!(failure.sentence().contains("it goes on at midnight UTC"), "{failure:?}");
    // What came before is there, and the next day goes on from it.
    stage.store.limit_daily(u64::MAX);
    let next = stage.poll(&connector, "more", "").await;
    assert_eq!((next.cycle.new, next.cycle.repeated), (20, 0));
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_and_numbers_that_make_no_sense_are_cleaned() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let most = crate::hostile::stage::limits().text_bytes + '…'.len_utf8();
    for (act, code) in [("fail", "internal"), ("tricks", "ok"), ("absurd", "ok")] {
        let aftermath = stage.poll(&connector, act, "").await;
        assert_eq!(aftermath.code(), code, "{act}: {:?}", aftermath.cycle);
        let mut texts = Vec::new();
        if let Some(failure) = aftermath.cycle.first_failure() {
            assert_eq!(failure.http_status, None, "65535 is no status");
            texts.extend([failure.message.clone(), failure.remedy.clone()]);
            texts.extend(failure.correlation_id.clone());
        }
        texts.extend(aftermath.cycle.hint.clone());
        for text in texts {
            assert!(text.len() <= most, "{act}: {} bytes", text.len());
            assert!(!text.contains(|c: char| c.is_control() || c == '\u{202e}'), "{act}: {text:?}");
        }
    }
    for (act, code) in [("tricks", "ok"), ("fail", "internal"), ("other-stream", "bad-batch"), ("many", "bad-batch")] {
        let tenant = connector.tenant(stage.options(act, &format!("check:{act}"), "")).await.unwrap();
        let (report, _) = stage.beside_the_neighbour(tenant.check()).await;
        assert_eq!(report.as_ref().map_or_else(|error| error.code(), |_| "ok"), code, "{act}");
        if let Err(error) = &report {
            let is_told = error.to_string().contains("a check report that breaks the contract");
            assert_eq!(is_told, code == "bad-batch", "{error}");
        }
        if let Ok(report) = report {
            assert!(report.summary.len() <= most && !report.summary.contains(char::is_control), "{}", report.summary);
        }
    }
    stage.assert_clean();
}
