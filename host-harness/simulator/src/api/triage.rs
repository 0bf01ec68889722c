//! The Alert Triage family (facts, section 4).
//!
//! Its paging object is its own. A full search is thin (no MITRE codes), its totals move from call to call, and from the
//! third page on a page may repeat the last row of the page before in place of its own first row; a search for RRNs alone
//! is exact unless [`SimulatorConfig::loose_rrns`](crate::SimulatorConfig::loose_rrns) is set. `index` and `size` count in the query only: in the body they are ignored.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Map, Value, json};
use time::Duration;

use super::Call;
use super::search::objects;
use crate::message::Reply;
use crate::moment::MINUTE;
use crate::query::{Page, Refusal, read_time};
use crate::render;
use crate::render::triage::{Depth, alert, alerted_at, knows, value};
use crate::rng::mix;
use crate::world::Alert;

/// The longest window: six months, counted generously.
const LONGEST: Duration = Duration::days(184);
/// The most RRNs of one read.
const MOST: usize = 100;

/// `POST /idr/at/alerts/ops/search`.
pub(super) fn search(call: &Call<'_>) -> Result<Reply, Refusal> {
    let page = call.query.page(20, 100)?;
    let rrns_only = call.query.flag("rrns_only")?;
    let scope = call.scope()?;
    let body = call.json_body()?;
    let Some(Value::Object(search)) = body.get("search") else {
        return Err(Refusal::bad("search is required"));
    };
    let time = |name: &'static str| match search.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => read_time(name, text).map(Some),
        Some(_) => Err(Refusal::bad(format!("{name} must be a string"))),
    };
    let start = time("start_time")?.ok_or_else(|| Refusal::bad("start_time is required"))?;
    let end = time("end_time")?.unwrap_or(call.now);
    if end < start || end - start > LONGEST {
        return Err(Refusal::bad("The time range must be positive and at most 6 months"));
    }
    if search.get("leql").and_then(Value::as_str).is_some_and(|leql| !leql.is_empty()) {
        return Err(Refusal::bad("leql could not be parsed"));
    }
    let terms = objects(search, "terms")?.into_iter().map(Term::read).collect::<Result<Vec<_>, _>>()?;
    let order = objects(&body, "sorts")?.first().map(|sort| Order::read(sort)).transpose()?;
    let cut = i128::try_from(call.config.start_cut.as_nanos()).unwrap_or(i128::MAX).max(1);
    let start = start.unix_timestamp_nanos();
    let bounds = (start - start.rem_euclid(cut), end.unix_timestamp_nanos());
    let found = find(call, &scope, bounds, &terms, order);
    call.has_page(page, found.len())?;
    Ok(page_of(call, page, rrns_only, &found))
}

/// The numbers of the alerts within exclusive bounds that meet every term, in order; in an arbitrary one when none is
/// asked for. Without terms the answer is kept, so that paging does not search again.
fn find(call: &Call<'_>, scope: &[u32], bounds: (i128, i128), terms: &[Term], order: Option<Order>) -> Arc<Vec<u32>> {
    let (timeline, now) = (call.timeline, call.instant());
    let world = &timeline.world;
    let make = || {
        let mut found: Vec<(i64, u64, u32)> = (0_u32..)
            .zip(&world.alerts)
            .filter(|(_, alert)| knows(alert, now) && scope.contains(&alert.organization))
            .filter(|(_, alert)| {
                let time = if call.config.searches_by_alerted { alerted_at(alert) } else { alert.created };
                let time = i128::from(time) * 1_000;
                bounds.0 < time && time < bounds.1
            })
            .filter(|(_, alert)| {
                terms.is_empty() || {
                    let shown = value(timeline, alert, Depth::Thin, now);
                    terms.iter().all(|term| term.holds(&shown))
                }
            })
            .map(|(number, alert)| {
                let key = match order {
                    None => 0,
                    Some(Order { descending: false }) => alert.created,
                    Some(Order { descending: true }) => alert.created.saturating_neg(),
                };
                (key, mix(world.seed, alert.seed), number)
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(.., number)| number).collect()
    };
    if terms.is_empty() {
        let key = (scope.to_vec(), bounds, order.map(|order| order.descending));
        timeline.kept_search(key, now, make)
    } else {
        Arc::new(make())
    }
}

/// The page of a search.
fn page_of(call: &Call<'_>, page: Page, rrns_only: bool, found: &[u32]) -> Reply {
    let (timeline, now) = (call.timeline, call.instant());
    let nth = |number: &u32| timeline.world.alerts.get(*number as usize);
    let mut shown: Vec<&Alert> = page.of(found).iter().filter_map(nth).collect();
    let mut total = found.len() as u64;
    if (!rrns_only || call.config.loose_rrns) && total > page.size {
        total += mix(timeline.world.seed, call.sequence) % 9;
        let before =
            (page.index.saturating_mul(page.size) as usize).checked_sub(1).and_then(|at| found.get(at)).and_then(nth);
        if page.index >= 2
            && mix(timeline.world.seed, page.index).is_multiple_of(2)
            && let (Some(first), Some(before)) = (shown.first_mut(), before)
        {
            *first = before;
        }
    }
    let (rrns, alerts): (Vec<String>, Vec<Bytes>) = if rrns_only {
        (shown.iter().map(|one| Value::from(timeline.world.id_of(one)).to_string()).collect(), Vec::new())
    } else {
        (Vec::new(), shown.iter().map(|one| alert(timeline, one, Depth::Thin, now)).collect())
    };
    let rest =
        json!({"metadata": paging(page, shown.len(), total, found.len()), "aggregates": [], "region_failures": []});
    let mut body = Vec::from(*b"{\"rrns\":");
    body.extend_from_slice(&render::array(&rrns));
    body.push(b',');
    body.extend_from_slice(render::page("alerts", &alerts, &rest).get(1..).unwrap_or_default());
    Reply::json(body)
}

/// The family's own paging object.
fn paging(page: Page, shown: usize, total: u64, real: usize) -> Value {
    let last = page.index.saturating_add(1).saturating_mul(page.size) >= real as u64;
    json!({"index": page.index, "size": page.size, "items_in_index": shown, "total_items": total, "is_last_index": last})
}

/// `POST /idr/at/alerts/ops/rrns`: the alerts of up to 100 RRNs, in an order of its own; unknown ones are left out, and
/// with `strict=true` it is 404 when none is known.
pub(super) fn by_rrn(call: &Call<'_>) -> Result<Reply, Refusal> {
    let strict = call.query.flag("strict")?;
    let scope = call.scope()?;
    let body = call.json_body()?;
    let rrns: Option<Vec<&str>> =
        body.get("rrns").and_then(Value::as_array).and_then(|rrns| rrns.iter().map(Value::as_str).collect());
    let mut rrns = rrns.ok_or_else(|| Refusal::bad("rrns must be an array of strings"))?;
    if rrns.is_empty() || rrns.len() > MOST {
        return Err(Refusal::bad(format!("rrns must hold 1 to {MOST} RRNs")));
    }
    rrns.sort_unstable();
    rrns.dedup();
    let now = call.instant();
    let depth = if call.config.thin_hydration { Depth::Thin } else { Depth::Full };
    let alerts: Vec<Bytes> = rrns
        .into_iter()
        .filter_map(|rrn| known(call, &scope, rrn))
        .map(|one| alert(call.timeline, one, depth, now))
        .collect();
    if strict && alerts.is_empty() {
        return Err(Refusal::not_found());
    }
    // One client reads no other member than `alerts`; whether the others of a search are there is not known.
    let rest = match call.timeline.world.seed % 3 {
        0 => json!({}),
        1 => json!({"region_failures": []}),
        _ => json!({"rrns": [], "aggregates": [], "region_failures": [], "metadata": null}),
    };
    Ok(Reply::json(render::page("alerts", &alerts, &rest)))
}

/// The triage alert of this RRN, if the key may see it now.
fn known<'a>(call: &'a Call<'_>, scope: &[u32], rrn: &str) -> Option<&'a Alert> {
    let number = call.timeline.find_alert(rrn)?;
    let alert = call.timeline.world.alerts.get(number as usize)?;
    (knows(alert, call.instant()) && scope.contains(&alert.organization)).then_some(alert)
}

/// As [`known`], with the refusals: 400 for what is no alert RRN (a UUID, say), 404 for an unknown one.
fn named<'a>(call: &'a Call<'_>, rrn: &str) -> Result<&'a Alert, Refusal> {
    if !rrn.starts_with("rrn:alerts:") {
        return Err(Refusal { status: StatusCode::BAD_REQUEST, message: format!("Invalid alert RRN: {rrn}") });
    }
    known(call, &call.scope()?, rrn).ok_or_else(Refusal::not_found)
}

/// `GET /idr/at/alerts/{rrn}`.
pub(super) fn single(call: &Call<'_>, rrn: &str) -> Result<Reply, Refusal> {
    Ok(Reply::json(alert(call.timeline, named(call, rrn)?, Depth::Full, call.instant())))
}

/// `GET /idr/at/alerts/{rrn}/evidences`: none, or not all, while the evidence of a young alert is not there.
pub(super) fn evidences(call: &Call<'_>, rrn: &str) -> Result<Reply, Refusal> {
    let page = call.query.page(20, 100)?;
    let one = named(call, rrn)?;
    let records = render::evidence::records(&call.timeline.world, one, call.instant());
    let total = counted(call, one, page, records.len()) + usize::from(call.config.long_evidence_totals);
    part(call, "evidences", &records, page, total)
}

/// What a page of a list of so many says that there are: while pieces of the alert are still to come, at times one more or one
/// less, and otherwise on the next page or in the next minute.
fn counted(call: &Call<'_>, one: &Alert, page: Page, there: usize) -> usize {
    if !one.is_in_pieces(call.instant()) {
        return there;
    }
    let minute = call.instant().div_euclid(MINUTE).unsigned_abs();
    match mix(mix(one.seed, minute), page.index) % 4 {
        0 => there + 1,
        1 => there.saturating_sub(1),
        _ => there,
    }
}

/// `GET /idr/at/alerts/{rrn}/actors`.
pub(super) fn actors(call: &Call<'_>, rrn: &str) -> Result<Reply, Refusal> {
    let page = call.query.page(20, 100)?;
    let one = named(call, rrn)?;
    let actors = render::triage::actors(&call.timeline.world, one, call.instant());
    part(call, "actors", &actors, page, counted(call, one, page, actors.len()))
}

/// A page of these, of which so many are said to be there.
fn part(call: &Call<'_>, member: &str, all: &[String], page: Page, total: usize) -> Result<Reply, Refusal> {
    call.has_page(page, all.len())?;
    let shown = page.of(all);
    let rest = json!({"metadata": paging(page, shown.len(), total as u64, all.len())});
    Ok(Reply::json(render::page(member, shown, &rest)))
}

/// A condition of a search: one of the fields meets one of the values.
struct Term {
    fields: Vec<String>,
    operator: &'static str,
    values: Vec<String>,
}

impl Term {
    fn read(term: &Map<String, Value>) -> Result<Self, Refusal> {
        let texts = |name: &str| -> Result<Vec<String>, Refusal> {
            let texts = term.get(name).and_then(Value::as_array).filter(|texts| !texts.is_empty());
            let texts = texts.and_then(|texts| texts.iter().map(|text| text.as_str().map(str::to_owned)).collect());
            texts.ok_or_else(|| Refusal::bad(format!("terms.{name} must be an array of strings")))
        };
        let operator = term.get("operator").and_then(Value::as_str).unwrap_or_default();
        let known = ["EQUALS", "NOT_EQUALS", "CONTAINS", "GREATER_THAN", "LESS_THAN"];
        let operator = known.into_iter().find(|known| *known == operator);
        Ok(Self {
            fields: texts("field_ids")?,
            operator: operator.ok_or_else(|| Refusal::bad("terms.operator is unknown"))?,
            values: texts("terms")?,
        })
    }

    fn holds(&self, alert: &Value) -> bool {
        let one = |own: &str, value: &str| match self.operator {
            "EQUALS" => own == value,
            "NOT_EQUALS" => own != value,
            "CONTAINS" => own.to_lowercase().contains(&value.to_lowercase()),
            "GREATER_THAN" => own > value,
            _ => own < value,
        };
        self.fields.iter().any(|field| {
            let own = field.split('.').try_fold(alert, |value, part| value.get(part)).and_then(Value::as_str);
            own.is_some_and(|own| match self.operator {
                "NOT_EQUALS" => self.values.iter().all(|value| one(own, value)),
                _ => self.values.iter().any(|value| one(own, value)),
            })
        })
    }
}

/// An order by one of the alert's times, which differ so little here that creation stands for all.
#[derive(Clone, Copy)]
struct Order {
    descending: bool,
}

impl Order {
    fn read(sort: &Map<String, Value>) -> Result<Self, Refusal> {
        let text = |name: &str| sort.get(name).and_then(Value::as_str).unwrap_or_default();
        let fields = ["created_at", "alerted_at", "ingested_at", "updated_at"];
        if !fields.contains(&text("field_id")) {
            return Err(Refusal::bad(format!("Field '{}' cannot be sorted by", text("field_id"))));
        }
        match text("order") {
            "ASCENDING_NULLS_LAST" | "ASCENDING_NULLS_FIRST" => Ok(Self { descending: false }),
            "DESCENDING_NULLS_LAST" | "DESCENDING_NULLS_FIRST" => Ok(Self { descending: true }),
            other => Err(Refusal::bad(format!("Order '{other}' is unknown"))),
        }
    }
}
