//! Lists whose pages say too little or too much about themselves: what they have is collected all the same.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use crate::common::native::{KEY, Tenant, actions, empty, missing, new_one, polls, sound, start, status};
use crate::evidence_obstacles::{alerts, artifact, evidence_of};
use insightidr_simulator::{
    AlertSpec, FaultProfile, InvestigationId, InvestigationSpec, Outcome, Rule, SimulatorConfig, World,
};
use rapid7_insightidr::api::transport::Request;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Has the JSON of answers that are data changed on its way.
fn spoil(tenant: &mut Tenant, spoils: impl Fn(&Request, &mut Value) + 'static) {
    tenant.link.spoils = Some(Box::new(move |request, response| {
        if response.status == 200
            && let Ok(mut page) = serde_json::from_slice::<Value>(&response.body)
        {
            spoils(request, &mut page);
            response.body = serde_json::to_vec(&page).unwrap();
        }
    }));
}

#[test]
fn a_list_that_tells_only_one_of_its_two_totals_is_read_to_its_end() {
    for name in ["total_data", "total_pages"] {
        let mut world = empty();
        let created = start() - time::Duration::days(1);
        let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        for number in 0..250 {
            let created = created + time::Duration::seconds(number);
            world
                .add_alert(Some(id), AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(created, created) })
                .unwrap();
        }
        let mut tenant = Tenant::of(world);
        spoil(&mut tenant, move |request, page| {
            if request.target.starts_with("/idr/v2/") && page["metadata"].is_object() {
                page["metadata"].as_object_mut().unwrap().remove(name);
            }
        });
        let new = new_one(&tenant);
        let cycle = polls(&mut tenant, 2);
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "without {name}: {cycle:#?}");
        assert_eq!((missing(&tenant, &[new]).len(), actions(&tenant, "alert")), (0, 251), "without {name}");
    }
}

/// Refuses pages behind the first of these lists.
fn refuse_second_page(tenant: &Tenant, path: &str, code: u16) {
    let rule = Rule { query: Some("index=1&*".to_owned()), ..Rule::new(path, status(code)) };
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
}

/// Alerts without evidence, one a second from this time on, in this investigation or none: their RRNs.
fn add_alerts(world: &mut World, of: Option<InvestigationId>, from: OffsetDateTime, count: i64) -> Vec<String> {
    let add = |number| {
        let created = from + time::Duration::seconds(number);
        let spec = AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(created, created) };
        let alert = world.add_alert(of, spec).unwrap();
        world.alert_id(alert).unwrap()
    };
    (0..count).map(add).collect()
}

#[test]
fn a_hundred_alerts_of_an_investigation_are_all_where_the_vendor_refuses_the_page_behind_them() {
    for code in [400, 404] {
        let mut world = empty();
        let created = start() - time::Duration::days(1);
        let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        let rrns = add_alerts(&mut world, Some(id), created, 100);
        let mut tenant = Tenant::of(world);
        refuse_second_page(&tenant, "/idr/v2/investigations/*/alerts", code);
        sound(&mut tenant);
        assert_eq!(missing(&tenant, &rrns).len(), 0, "{code}");
        sound(&mut tenant);
    }
}

#[test]
fn a_list_whose_total_is_too_small_is_read_to_its_end_all_the_same() {
    let mut world = empty();
    let created = start() - time::Duration::days(1);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let mut rrns = add_alerts(&mut world, Some(id), created, 150);
    rrns.extend(add_alerts(&mut world, None, created + time::Duration::hours(1), 150));
    let mut tenant = Tenant::of(world);
    // Both as if there were a hundred, or one less.
    for total in [100, 99] {
        spoil(&mut tenant, move |request, page| {
            if request.target.contains("/alerts?") {
                page["metadata"]["total_data"] = total.into();
                page["metadata"]["total_pages"] = 1.into();
            } else if request.target.contains("/ops/search?") && page["metadata"]["total_items"] == 150 {
                page["metadata"]["total_items"] = 99.into();
                page["metadata"]["is_last_index"] = true.into();
            }
        });
        tenant.checkpoint = None;
        tenant.store.clear();
        tenant.cycle();
        assert_eq!(missing(&tenant, &rrns).len(), 0, "{total}");
    }
}

#[test]
fn a_hundred_alerts_outside_investigations_come_where_the_vendor_refuses_the_page_behind_them() {
    for (code, total) in [(400, 100), (404, 100), (404, 99)] {
        let mut world = empty();
        let rrns = add_alerts(&mut world, None, start() - time::Duration::hours(3), 100);
        let mut tenant = Tenant::of(world);
        refuse_second_page(&tenant, "*/ops/search", code);
        spoil(&mut tenant, move |request, page| {
            if request.target.contains("/ops/search?") && page["metadata"]["total_items"] == 100 {
                page["metadata"]["total_items"] = total.into();
            }
        });
        sound(&mut tenant);
        assert_eq!(missing(&tenant, &rrns).len(), 0, "{code}, {total}");
    }
}

#[test]
fn a_hundred_pieces_of_evidence_are_kept_where_the_vendor_refuses_the_page_behind_them() {
    for code in [400, 404] {
        let (mut tenant, rrns) = alerts(1, 100);
        refuse_second_page(&tenant, "*/evidences", code);
        sound(&mut tenant);
        assert_eq!(evidence_of(&tenant, &rrns[0]), 100, "{code}");
    }
}

#[test]
fn a_hundred_investigations_without_times_of_alerts_are_all_where_the_vendor_refuses_the_page_behind_them() {
    let mut world = empty();
    for number in 0..100 {
        let created = start() - time::Duration::days(40) - time::Duration::hours(number);
        let spec = InvestigationSpec { untimed: true, ..InvestigationSpec::new(created, created) };
        world.add_investigation(spec).unwrap();
    }
    let mut tenant = Tenant::of(world);
    refuse_second_page(&tenant, "/idr/v2/investigations", 404);
    sound(&mut tenant);
    polls(&mut tenant, 1);
    sound(&mut tenant);
}

#[test]
fn evidence_is_kept_in_the_end_where_its_total_is_one_too_high() {
    for pieces in [0, 1, 150] {
        let (mut tenant, rrns) = alerts(1, pieces);
        spoil(&mut tenant, |request, page| {
            if request.target.contains("/evidences?") {
                let total = page["metadata"]["total_items"].as_u64().unwrap();
                page["metadata"]["total_items"] = (total + 1).into();
            }
        });
        polls(&mut tenant, 1);
        assert!(artifact(&tenant, &rrns[0]).is_none(), "the rest may come");
        polls(&mut tenant, 10);
        let alert = artifact(&tenant, &rrns[0]).unwrap();
        assert_eq!(alert["tags"].as_array().unwrap().last().unwrap(), "evidence-cut");
        let message: Value = serde_json::from_str(alert["message"].as_str().unwrap()).unwrap();
        assert!(message["triage"].is_object() && message["actors"].is_array(), "{pieces}: {message:#}");
        assert_eq!(evidence_of(&tenant, &rrns[0]), usize::from(pieces));
    }
}

#[test]
fn investigations_behind_the_end_of_a_window_that_the_vendor_rounds_up_come_with_the_next_and_once() {
    let mut tenant = Tenant::of(empty());
    tenant.link.pace = Duration::from_millis(200);
    let rounded = tenant.link.simulator.clone();
    tenant.link.spoils = Some(Box::new(move |request, response| {
        let Some((_, end)) = request.target.split_once("end_time=") else { return };
        let end = end.split('&').next().unwrap();
        let up = OffsetDateTime::parse(end, &Rfc3339).unwrap() + time::Duration::seconds(50);
        let target = request.target.replace(end, &up.format(&Rfc3339).unwrap());
        let mut again = insightidr_simulator::Request::get("us", KEY, target);
        if let Some(version) = request.accept_version {
            again.headers.insert("accept-version", http::HeaderValue::from_static(version));
        }
        if let Outcome::Reply(reply) = rounded.handle(again) {
            response.body = reply.body.to_vec();
        }
    }));
    // A hundred and fifty with each list: more than a page of them is behind the end.
    let names = Rc::new(RefCell::new(Vec::new()));
    let made = Rc::clone(&names);
    tenant.link.meanwhile = Some(Box::new(move |simulator, target| {
        if target.contains("sort=created_time") && made.borrow().len() < 1_500 {
            let now = simulator.now();
            simulator.change_world(|world| {
                for number in 0..150 {
                    let at = now - time::Duration::milliseconds(number);
                    let id = world.add_investigation(InvestigationSpec::new(at, at)).unwrap();
                    made.borrow_mut().push(world.investigation_rrn(id).unwrap().to_owned());
                }
            });
        }
    }));
    for _ in 0..12 {
        tenant.advance(Duration::from_secs(600));
        sound(&mut tenant);
    }
    assert_eq!((missing(&tenant, &names.borrow()).len(), tenant.repeated), (0, 0));
}

#[test]
fn a_hundred_pieces_of_evidence_are_kept_where_their_total_is_one_too_high_and_the_page_behind_them_is_refused() {
    let (mut tenant, rrns) = alerts(1, 100);
    refuse_second_page(&tenant, "*/evidences", 404);
    spoil(&mut tenant, |request, page| {
        if request.target.contains("/evidences?") {
            page["metadata"]["total_items"] = 101.into();
        }
    });
    polls(&mut tenant, 20);
    let alert = artifact(&tenant, &rrns[0]).unwrap();
    assert_eq!((evidence_of(&tenant, &rrns[0]), alert["tags"].to_string().contains("cut")), (100, true));
}

#[test]
fn totals_of_a_search_that_move_stop_nothing_where_the_page_behind_the_last_is_refused() {
    let mut world = empty();
    let rrns = add_alerts(&mut world, None, start() - time::Duration::hours(3), 200);
    let config = SimulatorConfig { loose_rrns: true, page_behind: 404, ..SimulatorConfig::default() };
    let mut tenant = Tenant::with(world, config);
    polls(&mut tenant, 1);
    assert_eq!(missing(&tenant, &rrns).len(), 0);
}
