//! Lists whose pages say too little or too much about themselves: what they have is collected all the same.

use crate::common::native::{Tenant, actions, empty, missing, new_one, polls, start};
use insightidr_simulator::{AlertSpec, InvestigationSpec};
use rapid7_insightidr::api::transport::Request;
use serde_json::Value;

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
