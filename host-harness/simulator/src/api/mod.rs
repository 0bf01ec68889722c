//! The endpoints: which there are, and what each answers to a key that may read it.
//!
//! Everything before that (host, key, rate limit, faults) is the simulator's part. Endpoints change nothing.

mod investigations;
mod search;
mod triage;
mod v1;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::config::SimulatorConfig;
use crate::listing::Snapshot;
use crate::message::Reply;
use crate::moment::{Micros, micros};
use crate::query::{Page, Query, Refusal};
use crate::rng::mix;
use crate::world::timeline::Timeline;

/// A request that has passed the gate.
pub(crate) struct Call<'a> {
    pub(crate) timeline: &'a Timeline,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) config: &'a SimulatorConfig,
    pub(crate) now: OffsetDateTime,
    /// The key's own organization.
    pub(crate) home: Option<u32>,
    /// All organizations of its region.
    pub(crate) region: Vec<u32>,
    /// The key may use the Alert Triage API.
    pub(crate) triage: bool,
    pub(crate) query: Query,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
    /// Requests served before this one; totals of triage searches move with it.
    pub(crate) sequence: u64,
}

/// An endpoint with the names in its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint<'a> {
    Validate,
    List,
    Search,
    Single(&'a str),
    Alerts(&'a str),
    ProductAlerts(&'a str),
    ListV1,
    Comments,
    Restricted(&'a str),
    TriageSearch,
    TriageByRrn,
    TriageSingle(&'a str),
    Evidences(&'a str),
    Actors(&'a str),
}

impl<'a> Endpoint<'a> {
    /// The endpoint at a path, given as decoded segments, and the only method it takes.
    pub(crate) fn at(segments: &[&'a str]) -> Option<(Self, &'static str)> {
        Some(match segments {
            ["validate"] => (Self::Validate, "GET"),
            ["idr", "v2", "investigations"] => (Self::List, "GET"),
            ["idr", "v2", "investigations", "_search"] => (Self::Search, "POST"),
            ["idr", "v2", "investigations", id] if !id.is_empty() => (Self::Single(id), "GET"),
            ["idr", "v2", "investigations", id, "alerts"] => (Self::Alerts(id), "GET"),
            ["idr", "v2", "investigations", id, "rapid7-product-alerts"] => (Self::ProductAlerts(id), "GET"),
            ["idr", "v1", "investigations"] => (Self::ListV1, "GET"),
            ["idr", "v1", "comments"] => (Self::Comments, "GET"),
            ["idr", "v1", "restricted", "investigations", id, "evidence"] => (Self::Restricted(id), "GET"),
            ["idr", "at", "alerts", "ops", "search"] => (Self::TriageSearch, "POST"),
            ["idr", "at", "alerts", "ops", "rrns"] => (Self::TriageByRrn, "POST"),
            ["idr", "at", "alerts", rrn] if !rrn.is_empty() => (Self::TriageSingle(rrn), "GET"),
            ["idr", "at", "alerts", rrn, "evidences"] => (Self::Evidences(rrn), "GET"),
            ["idr", "at", "alerts", rrn, "actors"] => (Self::Actors(rrn), "GET"),
            _ => return None,
        })
    }

    /// The `Accept-version` that is documented for it (facts, section 1).
    fn version(&self) -> Option<&'static str> {
        match self {
            Self::List | Self::Search | Self::Single(_) | Self::Alerts(_) | Self::ProductAlerts(_) => {
                Some("investigations-preview")
            }
            Self::Comments => Some("comments-preview"),
            _ if self.is_triage() => Some("strong-force-preview"),
            _ => None,
        }
    }

    fn is_triage(&self) -> bool {
        matches!(
            self,
            Self::TriageSearch | Self::TriageByRrn | Self::TriageSingle(_) | Self::Evidences(_) | Self::Actors(_)
        )
    }
}

/// What a request says in `Accept-version`.
pub(crate) fn accept_version(headers: &HeaderMap) -> Option<&str> {
    headers.get("accept-version").and_then(|version| version.to_str().ok())
}

/// The answer of an endpoint.
pub(crate) fn answer(call: &Call<'_>, endpoint: Endpoint<'_>) -> Result<Reply, Refusal> {
    let version = endpoint.version().filter(|_| call.config.versions_needed);
    if version.is_some() && version != accept_version(call.headers) {
        return Err(Refusal::bad("Accept-version is missing or not the one of this API"));
    }
    if endpoint.is_triage() && !call.triage {
        let status = StatusCode::from_u16(call.config.no_triage_status).unwrap_or(StatusCode::FORBIDDEN);
        let missing = if status == StatusCode::NOT_FOUND { Refusal::not_found() } else { Refusal::forbidden() };
        return Err(Refusal { status, ..missing });
    }
    match endpoint {
        Endpoint::Validate => Ok(Reply::json(r#"{"message":"Authorized"}"#)),
        Endpoint::List => investigations::list(call),
        Endpoint::Search => search::search(call),
        Endpoint::Single(id) => investigations::single(call, id),
        Endpoint::Alerts(id) => investigations::alerts(call, id),
        Endpoint::ProductAlerts(id) => investigations::product_alerts(call, id),
        Endpoint::ListV1 => v1::list(call),
        Endpoint::Comments => v1::comments(call),
        Endpoint::Restricted(id) => v1::restricted(call, id),
        Endpoint::TriageSearch => triage::search(call),
        Endpoint::TriageByRrn => triage::by_rrn(call),
        Endpoint::TriageSingle(rrn) => triage::single(call, rrn),
        Endpoint::Evidences(rrn) => triage::evidences(call, rrn),
        Endpoint::Actors(rrn) => triage::actors(call, rrn),
    }
}

impl Call<'_> {
    /// Now, in the world's unit.
    pub(crate) fn instant(&self) -> Micros {
        micros(self.now)
    }

    /// The organizations that the request covers: the key's own, or with `multi-customer=true` the whole region.
    pub(crate) fn scope(&self) -> Result<Vec<u32>, Refusal> {
        if self.query.flag("multi-customer")? { Ok(self.region.clone()) } else { Ok(self.home.into_iter().collect()) }
    }

    /// Refuses a page behind the last, where the simulator is set to.
    fn has_page(&self, page: Page, total: usize) -> Result<(), Refusal> {
        if page.index == 0 || page.index.saturating_mul(page.size) < total as u64 {
            return Ok(());
        }
        match self.config.page_behind {
            400 => Err(Refusal::bad(format!("There is no page {}", page.index))),
            404 => Err(Refusal::not_found()),
            _ => Ok(()),
        }
    }

    /// The JSON object in the body. Another content type is a 415, anything else a 400.
    pub(crate) fn json_body(&self) -> Result<Map<String, Value>, Refusal> {
        let kind = self.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("application/json") {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Refusal { status, message: format!("Content type '{kind}' not supported") });
        }
        match serde_json::from_slice(self.body) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) => Err(Refusal::bad("The request body must be a JSON object")),
            Err(error) => Err(Refusal::bad(format!("The request body is not readable: {error}"))),
        }
    }
}

/// The paging object of v1 and v2. `size` is at times what was asked for and at times what came back (facts 6.1).
fn metadata(call: &Call<'_>, page: Page, shown: usize, total: usize) -> Value {
    let odd = mix(call.timeline.world.seed, page.index) % 2 == 1;
    let size = if odd && shown > 0 { shown as u64 } else { page.size };
    if call.config.no_totals {
        return json!({"metadata": {"index": page.index, "size": size}});
    }
    json!({"metadata": {"index": page.index, "size": size, "total_pages": (total as u64).div_ceil(page.size), "total_data": total}})
}
