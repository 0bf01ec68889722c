//! Another region, and the key of another organization: what is remembered says nothing of them.

use std::time::Duration;

use crate::common::native::{Tenant, empty, polls, sound, start};
use insightidr_simulator::{AlertSpec, Change, InvestigationSpec, World, WorldConfig};
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use rapid7_insightidr::contract::{Setting, SettingValue};

/// A tenant with an alert that its investigation, one of two, lists two hours after its own API: their RRNs.
fn joining() -> (Tenant, String, String) {
    let mut world = empty();
    let created = start() - time::Duration::hours(1);
    let of = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let joined = start() + time::Duration::hours(2);
    let at = created + time::Duration::minutes(1);
    let spec = AlertSpec { triage_visible_at: Some(created), ..AlertSpec::new(at, joined) };
    let alert = world.add_alert(Some(of), spec).unwrap();
    world.add_change(of, joined, Change::Priority("LOW".into())).unwrap();
    let names = (world.investigation_rrn(of).unwrap().to_owned(), world.alert_id(alert).unwrap());
    (Tenant::of(world), names.0, names.1)
}

#[test]
fn an_alert_is_one_record_whatever_the_triage_api_calls_its_organization() {
    for id in [Some("0815"), None] {
        let (mut tenant, _, rrn) = joining();
        tenant.link.spoils = Some(Box::new(move |request, response| {
            if request.target.ends_with("/ops/rrns") && response.status == 200 {
                let mut page: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
                for alert in page["alerts"].as_array_mut().unwrap() {
                    alert["organization"]["id"] = id.into();
                }
                response.body = serde_json::to_vec(&page).unwrap();
            }
        }));
        polls(&mut tenant, 6);
        assert_eq!(tenant.collected().get(&rrn), Some(&1), "before it joins");
        polls(&mut tenant, 12);
        assert_eq!(tenant.collected().get(&rrn), Some(&1), "{id:?}");
    }
}

#[test]
fn an_alert_is_one_record_although_its_investigation_does_not_name_its_organization() {
    for absent in [false, true] {
        let (mut tenant, of_rrn, rrn) = joining();
        tenant.link.spoils = Some(Box::new(move |request, response| {
            if request.target.starts_with("/idr/v2/investigations") && response.status == 200 {
                let mut body: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
                let mut rows: Vec<_> =
                    body.get_mut("data").and_then(|data| data.as_array_mut()).into_iter().flatten().collect();
                for row in rows.iter_mut().filter(|row| row["rrn"] == of_rrn.as_str()) {
                    row["organization_id"] = serde_json::Value::Null;
                    if absent {
                        row.as_object_mut().unwrap().remove("organization_id");
                    }
                }
                response.body = serde_json::to_vec(&body).unwrap();
            }
        }));
        polls(&mut tenant, 6);
        assert_eq!(tenant.collected().get(&rrn), Some(&1), "before it joins");
        polls(&mut tenant, 12);
        assert_eq!(tenant.collected().get(&rrn), Some(&1), "and when it has joined, by the same id");
    }
}

#[test]
fn another_region_is_another_tenant_and_begins_from_its_beginning() {
    let world = WorldConfig { seed: 71, investigations: 20, ..WorldConfig::default() };
    let mut tenant = Tenant::of(World::generate(&world));
    let first = sound(&mut tenant);
    let before = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap();
    tenant.settings = vec![Setting { key: "region".to_owned(), value: SettingValue::Text("eu".to_owned()) }];
    let second = sound(&mut tenant);
    assert_eq!(second.fetched, first.fetched, "nothing that is known of the one region counts in the other");
    let after = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap();
    assert_eq!((before.host.as_str(), after.host.as_str()), ("us.api.insight.rapid7.com", "eu.api.insight.rapid7.com"));
}

/// A tenant of another organization in the same region.
fn organization(seed: u64) -> Tenant {
    Tenant::of(World::generate(&WorldConfig { seed, investigations: 120, ..WorldConfig::default() }))
}

#[test]
fn the_key_of_another_organization_begins_from_its_beginning_and_says_so() {
    let mut tenant = organization(71);
    sound(&mut tenant);
    let mut fresh = organization(72);
    sound(&mut fresh);
    for _ in 0..3 {
        tenant.advance(Duration::from_secs(600));
        sound(&mut tenant);
        fresh.advance(Duration::from_secs(600));
    }
    tenant.link.simulator = organization(72).link.simulator;
    tenant.advance(Duration::from_secs(1_800));
    let batch = tenant.step().unwrap();
    assert!(batch.more && batch.hint.unwrap().contains("another InsightIDR organization"));
    let cycle = sound(&mut tenant);
    sound(&mut fresh);
    assert!(cycle.new > 100, "{cycle:#?}");
    let lacks: Vec<&String> = fresh.store.keys().filter(|id| !tenant.store.contains_key(*id)).collect();
    assert!(lacks.is_empty(), "{} of {} are missing", lacks.len(), fresh.store.len());
    // And that is it.
    tenant.advance(Duration::from_secs(600));
    assert_eq!(tenant.step().unwrap().hint, None);
}

#[test]
fn a_former_key_that_is_put_back_brings_what_has_come_meanwhile_and_the_ids_of_before() {
    let mut tenant = organization(71);
    sound(&mut tenant);
    let before = tenant.store.len();
    let former = std::mem::replace(&mut tenant.link.simulator, organization(72).link.simulator);
    tenant.advance(Duration::from_secs(600));
    former.advance(Duration::from_secs(600).try_into().unwrap());
    sound(&mut tenant);
    let now = former.now();
    let late = former.change_world(|world| {
        let id = world.add_investigation(InvestigationSpec::new(now, now)).unwrap();
        world.investigation_rrn(id).unwrap().to_owned()
    });
    tenant.link.simulator = former;
    let repeated = tenant.repeated;
    tenant.advance(Duration::from_secs(3_600));
    sound(&mut tenant);
    assert!(tenant.collected().contains_key(&late), "what has come while another key was there");
    let again = tenant.repeated - repeated;
    assert!(again > before / 2, "{again} of {before} have the ids they had");
}

#[test]
fn a_key_that_sees_several_organizations_does_not_begin_anew_at_every_page() {
    let mut tenant = organization(71);
    tenant.link.spoils = Some(Box::new(|_, response| {
        let Ok(mut page) = serde_json::from_slice::<serde_json::Value>(&response.body) else { return };
        let Some(rows) = page.get_mut("data").and_then(|data| data.as_array_mut()) else { return };
        for row in rows.iter_mut().filter(|row| row["organization_id"].is_string()) {
            let number = row["rrn"].as_str().and_then(|rrn| rrn.bytes().last()).unwrap_or_default();
            row["organization_id"] = format!("organization {}", number % 2).into();
        }
        response.body = serde_json::to_vec(&page).unwrap();
    }));
    let first = sound(&mut tenant);
    for _ in 0..40 {
        tenant.advance(Duration::from_secs(3_600));
        sound(&mut tenant);
    }
    assert!(first.new > 100 && tenant.repeated < 20, "{first:#?} {}", tenant.repeated);
}

#[test]
fn a_key_that_sees_one_organization_in_old_rows_and_another_in_new_ones_does_not_begin_anew_for_ever() {
    let mut world = empty();
    for day in 1..300 {
        world.add_investigation(InvestigationSpec::new(start() - time::Duration::days(day), start())).unwrap();
    }
    let mut tenant = Tenant::of(world);
    tenant.link.spoils = Some(Box::new(|request, response| {
        let Ok(mut page) = serde_json::from_slice::<serde_json::Value>(&response.body) else { return };
        let Some(rows) = page.get_mut("data").and_then(|data| data.as_array_mut()) else { return };
        // No page ever shows both.
        let first = rows.first().and_then(|row| row["created_time"].as_str()).unwrap_or_default().to_owned();
        let is_new = first.as_str() > "2025-12" || request.target.contains("DESC");
        for row in rows.iter_mut().filter(|row| row["organization_id"].is_string()) {
            row["organization_id"] = if is_new { "new" } else { "old" }.into();
        }
        response.body = serde_json::to_vec(&page).unwrap();
    }));
    let mut moves = 0;
    for _ in 0..60 {
        while let Ok(batch) = tenant.step() {
            moves += usize::from(batch.hint.is_some_and(|hint| hint.contains("another InsightIDR organization")));
            assert!(moves <= 4, "it begins anew without end");
            if !batch.more {
                break;
            }
        }
        tenant.advance(Duration::from_secs(1_800));
    }
    assert!(moves > 0, "the world of this test makes it begin anew");
}
