//! Whether the Alert Triage API is there.
//!
//! Only tenants with the vendor's Alerts experience have it. Where it never was nothing waits for it, and it is asked again
//! every hour. Where it was there before, what needs it waits for [`PATIENCE`], and it is asked in every cycle until it is
//! back.
//!
//! Not guaranteed: that one is told from the other before it has ever answered.

use super::Step;
use super::access::{ASK_AGAIN, Access, PATIENCE, is_absence};
use crate::api::client::Stop;
use crate::api::transport::{Clock, Transport};
use crate::api::{calls, errors};
use crate::contract::{Failure, FailureReason, RetryAdvice};

/// The API, in messages.
pub(super) const NAME: &str = "the Alert Triage API";
/// What can be done where it is missing.
pub(super) const REMEDY: &str = "Alerts come without evidence until then; to have it, use a key whose role may read alerts, and ask Rapid7 for the Alerts experience if that does not help.";

/// The state of its streams when it was there before and is gone for longer than is waited for; `status` is that of its last
/// answer, if there was one in this step.
#[must_use]
fn gone(status: Option<u16>) -> Failure {
    let answers = status.map(|status| format!(" and answers {status}")).unwrap_or_default();
    Failure {
        http_status: status,
        request_sent: status.is_some(),
        ..errors::plain(
            if status == Some(404) { FailureReason::NotFound } else { FailureReason::Forbidden },
            format!("{NAME} was there and is gone{answers}: has the role of the key's user been changed?"),
            &format!("Everything else is collected, and it is asked again in every poll. {REMEDY}"),
            RetryAdvice::AfterChange,
        )
    }
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Finds out whether the API is there, when that is not known or the
    /// answer is an hour old; in every cycle where it was there before and is not any more. That it is not there it has to say
    /// twice, and for some time where it was there before: alerts do not wait for it then, and go without what it would have
    /// given.
    ///
    /// # Errors
    ///
    /// That this cannot be known now: the request failed for another reason, or others have ended all to the API. Or that it
    /// was there, as long as that is waited for.
    pub(super) async fn probe_if_due(&mut self) -> Result<(), Stop> {
        let now = self.cycle_began();
        if self.state.triage == Access::Available || self.state.triage.is_missing(now) {
            return Ok(());
        }
        if self.absent.is_some() {
            return self.wait_for_triage();
        }
        let before = self.state.triage;
        // What has ended requests to it is the answer to something else.
        let was_halted = self.client.is_triage_halted();
        let request = calls::triage_search(now.plus_seconds(-ASK_AGAIN), now, 0, 1);
        let mut answer = self.client.send(&request).await;
        if matches!(&answer, Err(Stop::Failed(failure)) if is_absence(failure)) {
            answer = self.client.send(&request).await;
        }
        let found = match answer {
            Ok(_) => Access::Available,
            Err(Stop::Failed(failure)) if is_absence(&failure) && !was_halted => match before {
                // It was there until now. What seems to be so since a time to come was noted by a clock that was ahead.
                Access::Doubtful(since) => {
                    let since = since.filter(|since| *since <= now).unwrap_or(now);
                    self.state.triage = Access::Doubtful(Some(since));
                    self.absent = Some(failure);
                    return self.wait_for_triage();
                }
                _ => Access::missing(&failure, now),
            },
            Err(stop) => return Err(stop),
        };
        self.state.triage = found;
        // That it is there after all is found out in every step in which something of it is not.
        self.output.progress |= !matches!((before, found), (Access::Doubtful(_), Access::Available));
        Ok(())
    }

    /// Where the API was there and has said in this step that it is not.
    ///
    /// # Errors
    ///
    /// That, as long as it is waited for.
    fn wait_for_triage(&self) -> Result<(), Stop> {
        match (&self.absent, self.triage_is_missing()) {
            (Some(failure), None) => Err(Stop::Failed(failure.clone())),
            _ => Ok(()),
        }
    }

    /// Why the Alert Triage API is unavailable, if it is.
    pub(super) fn triage_is_missing(&self) -> Option<Failure> {
        if self.is_triage_gone() {
            let status = self.absent.as_ref().and_then(|failure| failure.http_status);
            return Some(gone(status));
        }
        self.state.triage.failure(NAME, REMEDY)
    }

    /// Whether it was there and is believed to be gone.
    pub(super) fn is_triage_gone(&self) -> bool {
        let Access::Doubtful(Some(since)) = self.state.triage else { return false };
        self.cycle_began().seconds_since(since) >= PATIENCE
    }

    /// Notes that something of the Alert Triage API is not there: perhaps that has gone as a whole.
    pub(super) fn doubt_triage(&mut self) {
        if self.state.triage == Access::Available {
            self.state.triage = Access::Doubtful(None);
        }
    }
}
