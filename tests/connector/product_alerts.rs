//! Alerts of Rapid7's other products of which one element has many, and restricted evidence that comes in another order.

use std::cell::Cell;

use crate::common::native::{Tenant, actions, empty, polls, sound, start};
use insightidr_simulator::{AlertSpec, Change, InvestigationSpec, World};
use rapid7_insightidr::contract::{Setting, SettingValue};
use serde_json::{Value, json};

/// An element with so many alerts of an agent, from this number on.
fn agents(numbers: impl Iterator<Item = usize>) -> String {
    let details: Vec<Value> =
        numbers.map(|number| json!({"alert_id": format!("agent-{number}-"), "alert_type": "Honey File"})).collect();
    json!({"type": "INSIGHT AGENT", "insight_agent_details": details}).to_string()
}

/// A world with an investigation that has such an element, and that changes in the second poll.
fn with_agents(count: usize) -> World {
    let mut world = empty();
    let created = start() - time::Duration::days(1);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_product_alert(id, &agents(0..count)).unwrap();
    world.add_change(id, start() + time::Duration::minutes(15), Change::Priority("CRITICAL".into())).unwrap();
    world
}

/// In how many artifacts this alert is named.
fn named(tenant: &Tenant, number: usize) -> usize {
    let product_alerts = tenant.store.values().filter(|one| one["action"] == "product_alert");
    product_alerts.filter(|one| one["message"].as_str().unwrap().contains(&format!("agent-{number}-"))).count()
}

#[test]
fn every_alert_of_an_element_with_hundreds_of_them_is_collected() {
    for count in [1, 32, 33, 40, 256, 300, 2_000] {
        let mut tenant = Tenant::of(with_agents(count));
        sound(&mut tenant);
        assert!((0..count).all(|number| named(&tenant, number) > 0), "of {count}");
        if count <= 256 {
            assert_eq!(actions(&tenant, "product_alert"), count);
        }
        let before = tenant.store.len();
        polls(&mut tenant, 3);
        assert_eq!((tenant.store.len(), tenant.repeated), (before + 1, 0), "only the other priority of {count}");
    }
}

#[test]
fn an_alert_that_is_added_to_an_element_with_many_comes_wherever_it_stands() {
    for count in [32, 256, 400] {
        for is_first in [false, true] {
            let mut tenant = Tenant::of(with_agents(count));
            sound(&mut tenant);
            tenant.link.spoils = Some(Box::new(move |request, response| {
                if request.target.ends_with("/rapid7-product-alerts") {
                    let others = 0..count;
                    let all: Vec<usize> = if is_first {
                        [9_999].into_iter().chain(others).collect()
                    } else {
                        others.chain([9_999]).collect()
                    };
                    response.body = format!("[{}]", agents(all.into_iter())).into_bytes();
                }
            }));
            polls(&mut tenant, 3);
            assert!(named(&tenant, 9_999) > 0, "to {count}");
        }
    }
}

#[test]
fn restricted_evidence_whose_pieces_come_in_another_order_is_the_same() {
    let mut world = World::empty();
    world.set_start(start());
    let created = start() - time::Duration::hours(3);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
    for hours in 1..6 {
        let priority = if hours % 2 == 0 { "LOW" } else { "HIGH" };
        world.add_change(id, start() + time::Duration::hours(hours), Change::Priority(priority.into())).unwrap();
    }
    let mut tenant = Tenant::of(world);
    let key = "collect_restricted_evidence".to_owned();
    tenant.settings.push(Setting { key, value: SettingValue::Boolean(true) });
    let turn = Cell::new(0);
    tenant.link.spoils = Some(Box::new(move |request, response| {
        if request.target.contains("/restricted/") && response.status == 200 {
            let mut page: Value = serde_json::from_slice(&response.body).unwrap();
            turn.set(turn.get() + 1);
            for one in page["indicator_occurrences"].as_array_mut().unwrap() {
                let pieces = one["evidence"].as_array_mut().unwrap();
                assert!(pieces.len() > 1);
                if turn.get() % 2 == 0 {
                    pieces.reverse();
                }
            }
            response.body = serde_json::to_vec(&page).unwrap();
        }
    }));
    polls(&mut tenant, 40);
    assert_eq!(actions(&tenant, "evidence"), 1);
}
