//! What belongs to an investigation besides its alerts: alerts of Rapid7's
//! other products, comments, restricted evidence.
//!
//! Each kind has an endpoint of its own that may be missing. It is asked
//! whenever the investigation is worked on, each record becomes an artifact
//! once. An endpoint that answers 403, or has never answered anything but 404,
//! is not there: investigations go without it, and it is asked again a day
//! later.
//!
//! Not guaranteed: a record that is added to an investigation without any
//! change that its row shows is found when the row changes next. For comments,
//! being looked at (`last_accessed`) counts as a change, and those of whatever
//! is not closed are read at every listing of everything.

use serde_json::value::RawValue;

use super::Step;
use super::checkpoint::{Known, MAX_ALERTS, Triage};
use super::evidence::is_absence;
use super::listing::Listing;
use crate::api::client::{Client, Stop};
use crate::api::transport::{Clock, Transport};
use crate::api::{calls, errors, paging};
use crate::artifact::extra::{Extra, Kind};
use crate::artifact::investigation::Investigation;
use crate::contract::{Failure, FailureReason, RetryAdvice};
use crate::descriptor::{COMMENTS, PRODUCT_ALERTS, RESTRICTED};
use crate::times::Utc;

/// A kind and what its endpoint gave for one investigation.
pub(super) type ReadExtra = (Kind, Result<Vec<Box<RawValue>>, Stop>);

/// The kinds in the order in which the checkpoint knows them.
const KINDS: [(Kind, &str); 3] =
    [(Kind::ProductAlert, PRODUCT_ALERTS), (Kind::Comment, COMMENTS), (Kind::Restricted, RESTRICTED)];
/// Seconds after which a missing endpoint is asked again.
const ASK_AGAIN: i64 = 86_400;
/// Pages of comments on one investigation.
const PAGES: u64 = 100;

/// The stream of a kind.
fn stream(kind: Kind) -> &'static str {
    match kind {
        Kind::ProductAlert => PRODUCT_ALERTS,
        Kind::Comment => COMMENTS,
        Kind::Restricted => RESTRICTED,
    }
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// The kinds that are wanted and not known to be missing.
    pub(super) fn extra_kinds(&self) -> Vec<Kind> {
        let wanted =
            [self.settings.collect_product_alerts, self.settings.collect_comments, self.settings.collect_restricted];
        let began = self.cycle_began();
        KINDS
            .iter()
            .zip(wanted)
            .zip(self.state.beyond.extras)
            .filter(|((_, wanted), access)| {
                let missing =
                    matches!(access, Triage::Unavailable(_, since) if began.seconds_since(*since) < ASK_AGAIN);
                *wanted && !missing
            })
            .map(|(((kind, _), _), _)| *kind)
            .collect()
    }

    /// Turns what was read of an investigation into artifacts. Tells whether
    /// something is missing that has to be asked for again.
    ///
    /// # Errors
    ///
    /// What would have stopped any other request.
    pub(super) fn emit_extras(
        &mut self,
        of: &Investigation<'_>,
        extras: Vec<ReadExtra>,
        known: &mut Known,
    ) -> Result<bool, Stop> {
        let (host, now) = (self.settings.region.host, self.cycle_began());
        let mut missing = false;
        let mut stop = None;
        for (kind, result) in extras {
            let Some(access) = self.state.beyond.extras.get_mut(kind as usize) else { continue };
            let rows = match result {
                Ok(rows) => {
                    *access = Triage::Available;
                    rows
                }
                Err(Stop::Failed(failure)) if is_absence(&failure) => {
                    if failure.reason == FailureReason::Forbidden || *access != Triage::Available {
                        *access = Triage::Unavailable(failure.http_status.unwrap_or(0), now);
                    }
                    continue;
                }
                Err(Stop::Failed(failure)) if crate::api::client::is_local(&failure) => {
                    self.output.degrade(stream(kind), *failure);
                    missing = true;
                    continue;
                }
                Err(why) => {
                    stop = stop.or(Some(why));
                    continue;
                }
            };
            for raw in &rows {
                let extra = Extra::of(kind, raw, of);
                let key = extra.key();
                if let Err(position) = known.alerts.binary_search(&key) {
                    self.output.push(extra.artifact(of, host, now).into_contract(stream(kind)));
                    self.output.count(stream(kind), 1);
                    if known.alerts.len() < MAX_ALERTS {
                        known.alerts.insert(position, key);
                    }
                }
            }
        }
        stop.map_or(Ok(missing), Err)
    }

    /// Since when whatever was looked at may have a new comment that an
    /// earlier listing of this kind has not led to.
    pub(super) fn comments_since(&self, listing: Listing) -> Option<Utc> {
        let [open, everything] = self.state.beyond.listed;
        let since = if listing == Listing::Open { open } else { everything };
        since.map(|since| since.plus_seconds(self.settings.overlap_minutes.saturating_mul(-60)))
    }

    /// Why a stream of these is not there, if it is not.
    pub(super) fn unavailable_extra(&self, name: &str) -> Option<Failure> {
        let position = KINDS.iter().position(|(_, stream)| *stream == name)?;
        match self.state.beyond.extras.get(position)? {
            Triage::Unavailable(status, _) => Some(unavailable(name, *status)),
            Triage::Unknown | Triage::Available => None,
        }
    }
}

/// Whether a listing for changes shows that somebody may have written a comment.
/// Those are read in the next cycle, one investigation at a time, so that each
/// step gets on.
pub(super) fn may_have_comments(row: &Investigation<'_>, listing: Listing, since: Option<Utc>) -> bool {
    let looked_at =
        || row.members.time("last_accessed").is_some_and(|accessed| since.is_none_or(|since| accessed > since));
    match listing {
        Listing::New | Listing::Gained => false,
        Listing::Open => looked_at(),
        Listing::Everything => row.is_open() || looked_at(),
    }
}

/// The state of a stream whose endpoint is not there.
pub(super) fn unavailable(stream: &str, status: u16) -> Failure {
    let remedy = match stream {
        RESTRICTED => {
            "Ask Rapid7's support to enable it for the organization, or switch off Collect restricted evidence."
        }
        COMMENTS => "Use a key whose role may read comments, or switch off Collect comments.",
        _ => "Nothing has to be done if the tenant has no other Rapid7 product.",
    };
    Failure {
        http_status: Some(status),
        request_sent: true,
        ..errors::plain(
            if status == 404 { FailureReason::NotFound } else { FailureReason::Forbidden },
            format!(
                "the endpoint of {} answers {status}: this tenant or key does not have it",
                stream.replace('-', " ")
            ),
            &format!("Everything else is collected. It is asked again a day later. {remedy}"),
            RetryAdvice::AfterSeconds(u64::try_from(ASK_AGAIN).unwrap_or(0)),
        )
    }
}

/// Reads all records of a kind of one investigation.
pub(super) async fn read<T: Transport, C: Clock>(
    client: &Client<'_, T, C>,
    kind: Kind,
    rrn: &str,
) -> Result<Vec<Box<RawValue>>, Stop> {
    let mut records = Vec::new();
    for index in 0..PAGES {
        let request = match kind {
            Kind::ProductAlert => calls::product_alerts(rrn),
            Kind::Comment => calls::comments(rrn, index, paging::PAGE_SIZE),
            Kind::Restricted => calls::restricted_evidence(rrn),
        };
        let response = client.send(&request).await?;
        let (rows, more) = match kind {
            Kind::ProductAlert => paging::bare(&response.body).map(|rows| (rows, false)),
            Kind::Comment => {
                paging::comments(&response.body, index, paging::PAGE_SIZE).map(|page| (page.rows, page.more))
            }
            Kind::Restricted => paging::listed(&response.body, &["indicator_occurrences"]).map(|rows| (rows, false)),
        }
        .map_err(|why| client.malformed(&request, &response, &why))?;
        records.extend(rows.into_iter().map(ToOwned::to_owned));
        if !more {
            break;
        }
    }
    Ok(records)
}
