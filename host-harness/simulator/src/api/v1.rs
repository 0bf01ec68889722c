//! Version 1: investigations with their alerts, comments, restricted evidence (facts, sections 3 and 5).

use http::StatusCode;
use serde_json::json;

use super::{Call, investigations, metadata};
use crate::message::Reply;
use crate::query::Refusal;
use crate::render;
use crate::rng::hash_text;

/// `GET /idr/v1/investigations`: any time when not told, newest first, up to 1,000 a page.
pub(super) fn list(call: &Call<'_>) -> Result<Reply, Refusal> {
    let page = call.query.page(20, 1_000)?;
    let selection = call.query.selection_v1(call.scope()?)?;
    let window = call.query.window(None, call.now)?;
    let now = call.instant();
    let listed = call.snapshot.page(call.timeline, &selection, window, call.config.null_times, now, page);
    let rows: Vec<String> = listed
        .rows
        .iter()
        .filter_map(|number| call.timeline.shown(*number, now))
        .map(|(one, state)| render::legacy::investigation(call.timeline, one, state, now))
        .collect();
    let rest = metadata(call, page, rows.len(), listed.total);
    Ok(Reply::json(render::page("data", &rows, &rest)))
}

/// `GET /idr/v1/comments?target=`: newest first when not told; a third of the targets get no `metadata`. A target that
/// does not exist has no comments.
pub(super) fn comments(call: &Call<'_>) -> Result<Reply, Refusal> {
    let page = call.query.page(20, 100)?;
    let target = call.query.get("target").filter(|target| target.starts_with("rrn:"));
    let target = target.ok_or_else(|| Refusal::bad("target must be the RRN of an investigation"))?;
    let ascending = match call.query.get("sortDirection") {
        None | Some("DESC") => false,
        Some("ASC") => true,
        Some(other) => {
            return Err(Refusal::bad(format!("sortDirection must be ASC or DESC: {other}")));
        }
    };
    let mut comments: Vec<String> = match investigations::find(call, target) {
        Ok((one, _)) => render::legacy::comments(&call.timeline.world, one, call.instant())
            .into_iter()
            .map(|(_, text)| text)
            .collect(),
        Err(_) => Vec::new(),
    };
    if !ascending {
        comments.reverse();
    }
    call.has_page(page, comments.len())?;
    let rows = page.of(&comments);
    let rest =
        if hash_text(target).is_multiple_of(3) { json!({}) } else { metadata(call, page, rows.len(), comments.len()) };
    Ok(Reply::json(render::page("data", rows, &rest)))
}

/// `GET /idr/v1/restricted/investigations/{rrn}/evidence`: 403 (or 404, as set) unless the organization has it.
pub(super) fn restricted(call: &Call<'_>, name: &str) -> Result<Reply, Refusal> {
    let world = &call.timeline.world;
    let home = call.home.and_then(|number| world.organizations.get(number as usize));
    if !home.is_some_and(|organization| organization.restricted) {
        let missing = call.config.no_restricted_status == StatusCode::NOT_FOUND.as_u16();
        return Err(if missing { Refusal::not_found() } else { Refusal::forbidden() });
    }
    let (one, _) = investigations::find(call, name)?;
    let now = call.instant();
    let alerts: Vec<_> = call
        .timeline
        .alerts_of(one, now)
        .into_iter()
        .filter_map(|number| world.alerts.get(number as usize))
        .filter(|alert| alert.evidence_visible <= now)
        .collect();
    Ok(Reply::json(render::evidence::restricted(world, &alerts).to_string()))
}
