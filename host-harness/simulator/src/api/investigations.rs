//! Investigations of version 2: list, single, alerts, product alerts (facts 2.1, 2.3 to 2.5).

use bytes::Bytes;

use super::{Call, metadata};
use crate::listing::Selection;
use crate::message::Reply;
use crate::moment::Micros;
use crate::query::{DEFAULT_WINDOW, Page, Refusal};
use crate::render;
use crate::world::Investigation;
use crate::world::timeline::State;

/// The most rows of a page.
const MOST: u64 = 100;
/// Rows of a page when the client does not say.
const DEFAULT: u64 = 20;

/// `GET /idr/v2/investigations`.
pub(super) fn list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let page = call.query.page(DEFAULT, MOST)?;
    let selection = call.query.selection(call.scope()?, call.config.knows_waiting)?;
    let window = call.query.window(Some(DEFAULT_WINDOW), call.now)?;
    rows(call, &selection, window, page)
}

/// A page of a selection within a window.
pub(super) fn rows(
    call: &Call<'_>,
    selection: &Selection,
    window: (Micros, Micros),
    page: Page,
) -> Result<Reply, Refusal> {
    let now = call.instant();
    let cut = Micros::try_from(call.config.start_cut.as_micros()).unwrap_or(Micros::MAX).max(1);
    let window = (window.0 - window.0.rem_euclid(cut), window.1);
    let listed = call.snapshot.page(call.timeline, selection, window, call.config.null_times, now, page);
    call.has_page(page, listed.total)?;
    let rows: Vec<Bytes> = listed
        .rows
        .iter()
        .filter_map(|number| call.timeline.shown(*number, now))
        .map(|(one, state)| state.row(&call.timeline.world, one).clone())
        .collect();
    let rest = metadata(call, page, rows.len(), listed.total);
    Ok(Reply::json(render::page("data", &rows, &rest)))
}

/// The investigation of this RRN or UUID, in the state it is in now.
pub(super) fn find<'a>(call: &'a Call<'_>, name: &str) -> Result<(&'a Investigation, &'a State), Refusal> {
    let scope = call.scope()?;
    if call.query.flag("multi-customer")? && !name.starts_with("rrn:") {
        return Err(Refusal::bad("multi-customer requests need the RRN of the investigation"));
    }
    call.timeline
        .find(name)
        .and_then(|number| call.timeline.shown(number, call.instant()))
        .filter(|(one, _)| scope.contains(&one.organization))
        .ok_or_else(Refusal::not_found)
}

/// `GET /idr/v2/investigations/{id}`.
pub(super) fn single(call: &Call<'_>, name: &str) -> Result<Reply, Refusal> {
    let (one, state) = find(call, name)?;
    Ok(Reply::json(render::investigation::single(&call.timeline.world, one, state)))
}

/// `GET /idr/v2/investigations/{id}/alerts`: newest first; empty while the alerts of a young investigation are not there.
pub(super) fn alerts(call: &Call<'_>, name: &str) -> Result<Reply, Refusal> {
    let page = call.query.page(DEFAULT, MOST)?;
    let (one, _) = find(call, name)?;
    let world = &call.timeline.world;
    let listed = call.timeline.alerts_of(one, call.instant());
    call.has_page(page, listed.len())?;
    let rows: Vec<Bytes> = page
        .of(&listed)
        .iter()
        .filter_map(|number| world.alerts.get(*number as usize))
        .map(|alert| render::alert::summary(world, alert))
        .collect();
    let rest = metadata(call, page, rows.len(), listed.len());
    Ok(Reply::json(render::page("data", &rows, &rest)))
}

/// `GET /idr/v2/investigations/{id}/rapid7-product-alerts`: a bare array, all at once.
pub(super) fn product_alerts(call: &Call<'_>, name: &str) -> Result<Reply, Refusal> {
    let (one, _) = find(call, name)?;
    let alerts = render::product::alerts(&call.timeline.world, one, call.instant());
    Ok(Reply::json(render::array(&alerts)))
}
