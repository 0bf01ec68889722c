//! What the connector says of itself.
//!
//! Every fact here stands in the operator's guide; a test in `tests/` compares
//! the two.

use crate::contract::{Credential, DataStream, Descriptor};
use crate::settings::{self, KEY_HEADER, KEY_SETTING};

/// The stream of investigations.
pub const INVESTIGATIONS: &str = "investigations";
/// The stream of alerts.
pub const ALERTS: &str = "alerts";
/// The stream of evidence and actors, which enriches alerts.
pub const EVIDENCE: &str = "evidence";

/// The stream of alerts that belong to no investigation.
pub const UNINVESTIGATED: &str = "uninvestigated-alerts";
/// The stream of alerts of Rapid7's other products.
pub const PRODUCT_ALERTS: &str = "product-alerts";
/// The stream of comments.
pub const COMMENTS: &str = "comments";
/// The stream of restricted evidence.
pub const RESTRICTED: &str = "restricted-evidence";

/// The descriptor.
#[must_use]
pub fn describe() -> Descriptor {
    Descriptor {
        name: "signal-client.rapid7-insightidr".to_owned(),
        display_name: "Rapid7 InsightIDR".to_owned(),
        category: "SIEM".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        vendor_docs: "https://docs.rapid7.com/insightidr/api-overview/".to_owned(),
        auth_method: "API Key".to_owned(),
        default_poll_minutes: 5,
        minimum_poll_minutes: 1,
        multi_instance: true,
        streams: vec![
            stream(INVESTIGATIONS, "Threat investigations with alerts and evidence", true),
            stream(ALERTS, "Detection rule triggers and anomaly alerts", true),
            stream(EVIDENCE, "Evidence and actors behind alerts, where the tenant has the Alert Triage API", false),
            stream(UNINVESTIGATED, "Alerts outside investigations, where the tenant has the Alert Triage API", false),
            stream(PRODUCT_ALERTS, "Alerts of other Rapid7 products in investigations", false),
            stream(COMMENTS, "Comments on investigations, if switched on", false),
            stream(RESTRICTED, "Restricted evidence of investigations, if switched on and enabled by Rapid7", false),
        ],
        settings: settings::fields(),
        credentials: vec![Credential { setting: KEY_SETTING.to_owned(), header: KEY_HEADER.to_owned() }],
    }
}

fn stream(name: &str, description: &str, announced: bool) -> DataStream {
    DataStream { name: name.to_owned(), noun: name.replace('-', " "), description: description.to_owned(), announced }
}
