//! Evidence and actors that come to an alert piece by piece: what comes after the first is not lost.

use std::time::Duration;

use crate::common::native::{Tenant, empty, polls, sound, start};
use insightidr_simulator::{AlertSpec, InvestigationSpec};
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use serde_json::Value;

/// One alert, made now, whose five pieces of evidence come within so many minutes: the tenant, and the alert's RRN.
fn in_pieces(minutes: i64) -> (Tenant, String) {
    let mut world = empty();
    let id = world.add_investigation(InvestigationSpec::new(start(), start())).unwrap();
    let whole = start() + time::Duration::minutes(minutes);
    let spec = AlertSpec { evidence_records: 5, evidence_whole_at: Some(whole), ..AlertSpec::new(start(), start()) };
    let alert = world.add_alert(Some(id), spec).unwrap();
    let rrn = world.alert_id(alert).unwrap();
    (Tenant::of(world), rrn)
}

/// How many pieces of evidence each version of an alert has.
fn versions(tenant: &Tenant, rrn: &str) -> Vec<usize> {
    let alerts = tenant.store.values().filter(|artifact| artifact["sourceInfo"] == rrn);
    let mut found: Vec<usize> = alerts
        .map(|artifact| {
            let message: Value = serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap();
            message["evidence"].as_array().map_or(0, Vec::len)
        })
        .collect();
    found.sort_unstable();
    found
}

/// Keys that are remembered of the only investigation.
fn keys(tenant: &Tenant) -> usize {
    let checkpoint = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap();
    checkpoint.known.scan(None, u8::MAX).map(|(_, known)| known.alerts.len()).sum()
}

#[test]
fn what_comes_to_an_alert_after_its_first_evidence_comes_with_another_version_of_it() {
    let (mut tenant, rrn) = in_pieces(8);
    tenant.advance(Duration::from_secs(1));
    sound(&mut tenant);
    assert_eq!(versions(&tenant, &rrn), [1], "it does not wait for the rest");
    tenant.advance(Duration::from_secs(700));
    sound(&mut tenant);
    assert_eq!(versions(&tenant, &rrn), [1], "as long as more may come it is left alone");
    tenant.advance(Duration::from_secs(600));
    sound(&mut tenant);
    assert_eq!(versions(&tenant, &rrn), [1, 5]);
    assert_eq!(keys(&tenant), 1, "then nothing more is remembered of it");
    let requests = tenant.link.simulator.request_count();
    polls(&mut tenant, 1);
    let again = tenant.link.simulator.requests().into_iter().skip(usize::try_from(requests).unwrap());
    assert!(!again.into_iter().any(|request| request.path.ends_with("/evidences")), "nor asked for");
    assert!(tenant.again.is_empty());
}

#[test]
fn an_alert_to_which_nothing_more_comes_comes_once() {
    let (mut tenant, rrn) = in_pieces(0);
    polls(&mut tenant, 6);
    assert_eq!(versions(&tenant, &rrn), [5]);
    assert_eq!(keys(&tenant), 1);
}

#[test]
fn more_evidence_comes_although_its_read_fails_when_it_is_due() {
    let (mut tenant, rrn) = in_pieces(8);
    tenant.advance(Duration::from_secs(1));
    sound(&mut tenant);
    tenant.link.spoils = Some(Box::new(|request, response| {
        if request.target.contains("/evidences") {
            (response.status, response.body) = (500, Vec::new());
        }
    }));
    tenant.advance(Duration::from_secs(1_300));
    tenant.cycle();
    tenant.link.spoils = None;
    polls(&mut tenant, 2);
    assert_eq!(versions(&tenant, &rrn), [1, 5]);
}

#[test]
fn more_evidence_comes_with_a_change_of_its_investigation_too() {
    let (mut tenant, rrn) = in_pieces(8);
    tenant.advance(Duration::from_secs(1));
    sound(&mut tenant);
    let simulator = tenant.link.simulator.clone();
    simulator.change_world(|world| {
        let id = world.investigation_ids().next().unwrap();
        let at = start() + time::Duration::minutes(21);
        world.add_change(id, at, insightidr_simulator::Change::Status("INVESTIGATING".into())).unwrap();
    });
    tenant.advance(Duration::from_secs(22 * 60));
    sound(&mut tenant);
    assert_eq!(versions(&tenant, &rrn), [1, 5]);
}
