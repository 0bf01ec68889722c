//! The tokens that this process keeps, and when another one is worth asking for.
//!
//! What: a token is used until it would not outlast a step. One that the vendor has taken and then turns away (401, or 403:
//! rights stand in many tokens) is replaced; one that it has never taken says that the vendor means something else, and then
//! no token is suspected for a quarter of an hour, nor after a 403, nor where the server gives the same again. After a 401
//! it is a minute.
//! Why so: vendors refuse a key at one of their APIs for good, and a connector may provoke refusals. Neither may have
//! a server asked for tokens step after step, of which some count what they give.
//! Not guaranteed: that tokens of tenants that have left are gone before they expire; they are then, with the next that comes.

use super::meter::Reception;
use crate::locks::lock;
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// How long no token is suspected after one that was never taken, or a 403, or where there is none other.
const BELIEVED: Duration = Duration::from_mins(15);

/// How long none is suspected after one was replaced for a 401.
const SETTLED: Duration = Duration::from_mins(1);

/// Longest time for which a token that should be replaced is used before another is asked for again.
const WITHOUT: Duration = Duration::from_hours(1);

/// What a token is kept by: a hash of all that it was had with.
pub(super) type Key = [u8; 32];

/// A token that is kept.
struct Kept {
    value: SecretString,
    until: Instant,
    /// From then on another one is asked for; not after `until`.
    due: Instant,
    /// Until then no token is suspected.
    believed_until: Option<Instant>,
    /// Whether the vendor has taken it.
    is_taken: bool,
    /// How it was turned away, if it was.
    turned_away: Option<Refusal>,
}

/// How something is turned away.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// 401: it is not taken any more.
    Unauthorized,
    /// 403: it may not do this, but perhaps others may.
    Forbidden,
}

/// The tokens of this process: one for each tenant that has such.
static KEPT: LazyLock<Mutex<HashMap<Key, Kept>>> = LazyLock::new(Mutex::default);

/// The token to begin a step with, unless another one is to be asked for.
pub(super) fn current(key: &Key) -> Option<SecretString> {
    let now = Instant::now();
    let all = lock(&KEPT);
    all.get(key).filter(|kept| now < kept.due).map(|kept| kept.value.clone())
}

/// Keeps a token that holds for so long, of which so much has to be left when a step begins.
pub(super) fn keep(key: Key, value: SecretString, holds: Duration, margin: Duration) {
    let now = Instant::now();
    let mut all = lock(&KEPT);
    all.retain(|_, kept| now < kept.until);
    let before = all.get(&key);
    // A server may give the same again.
    let same = before.filter(|before| before.value.expose_secret() == value.expose_secret());
    let believed_until = match same {
        Some(same) if same.turned_away.is_some() => Some(now + BELIEVED),
        _ => before.and_then(|before| before.believed_until),
    };
    let is_taken = same.is_some_and(|same| same.is_taken);
    let (until, due) = (now + holds, now + used_for(holds, margin));
    all.insert(key, Kept { value, until, due, believed_until, is_taken, turned_away: None });
}

/// The token that is due to be replaced, after no other was had: for as long as the server is to be left alone. One that is
/// not taken any more is none.
pub(super) fn make_do(key: &Key, for_now: Duration) -> Option<SecretString> {
    let now = Instant::now();
    let mut all = lock(&KEPT);
    let is_good = |kept: &&mut Kept| now < kept.until && kept.turned_away != Some(Refusal::Unauthorized);
    let kept = all.get_mut(key).filter(is_good)?;
    kept.due = (now + for_now.min(WITHOUT)).min(kept.until);
    Some(kept.value.clone())
}

/// Notes how the vendor has received a step with this token. Whether the next one is to begin with another because of that.
pub(super) fn received(key: &Key, token: &SecretString, reception: Reception) -> bool {
    let now = Instant::now();
    let refusal = match reception {
        Reception { unauthorized: true, .. } => Some(Refusal::Unauthorized),
        Reception { forbidden: true, .. } => Some(Refusal::Forbidden),
        _ => None,
    };
    let mut all = lock(&KEPT);
    let Some(kept) = all.get_mut(key).filter(|kept| kept.value.expose_secret() == token.expose_secret()) else {
        // It was replaced meanwhile.
        return refusal.is_some();
    };
    kept.is_taken |= reception.taken;
    let Some(refusal) = refusal else { return false };
    if !kept.is_taken {
        kept.believed_until = Some(now + BELIEVED);
        return false;
    }
    if kept.believed_until.is_some_and(|until| now < until) {
        return false;
    }
    let believed = if refusal == Refusal::Unauthorized { SETTLED } else { BELIEVED };
    kept.believed_until = Some(now + believed);
    (kept.due, kept.turned_away) = (now, Some(refusal));
    true
}

/// Has every step from now on begin with a new token: somebody has put something right.
pub fn renew_tokens() {
    let now = Instant::now();
    lock(&KEPT).values_mut().for_each(|kept| kept.renew(now));
}

impl Kept {
    /// Another one is asked for.
    fn renew(&mut self, now: Instant) {
        (self.due, self.believed_until) = (now, None);
    }
}

/// How long steps begin with a token that holds for so long and of which so much has to be left. Half of its time it is used
/// in any case: servers give some for less than a step takes.
fn used_for(holds: Duration, margin: Duration) -> Duration {
    holds.saturating_sub(margin.min(holds / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const MARGIN: Duration = Duration::from_mins(5);

    const TAKEN: Reception = Reception { taken: true, unauthorized: false, forbidden: false };
    const REVOKED: Reception = Reception { unauthorized: true, ..TAKEN };
    const PART_FORBIDDEN: Reception = Reception { forbidden: true, ..TAKEN };
    const NEVER: Reception = Reception { taken: false, unauthorized: true, forbidden: false };

    fn is(token: Option<SecretString>, value: &str) -> bool {
        token.is_some_and(|token| token.expose_secret() == value)
    }

    async fn pass(minutes: u64) {
        tokio::time::advance(Duration::from_mins(minutes)).await;
    }

    /// Keeps a token for a day. Others of these tests make what has expired go.
    fn keep_a_day(key: Key, value: &str) -> SecretString {
        keep(key, value.into(), 24 * HOUR, MARGIN);
        value.into()
    }

    #[test]
    fn a_token_outlasts_a_step_or_is_used_for_half_of_its_time() {
        for (holds, used) in [(3600, 3300), (601, 301), (600, 300), (300, 150), (10, 5), (0, 0)] {
            assert_eq!(used_for(Duration::from_secs(holds), MARGIN), Duration::from_secs(used), "{holds}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_used_until_it_would_not_outlast_a_step() {
        let key = [1; 32];
        assert!(current(&key).is_none());
        keep_a_day(key, "first");
        pass(24 * 60 - 6).await;
        assert!(is(current(&key), "first"));
        pass(1).await;
        assert!(current(&key).is_none());
        // No other is had: what there is holds still, and is not asked about in each step.
        let minute = Duration::from_mins(1);
        assert!(is(make_do(&key, minute), "first") && is(current(&key), "first"));
        pass(1).await;
        assert!(current(&key).is_none());
        pass(3).await;
        assert!(is(make_do(&key, 15 * minute), "first"));
        pass(1).await;
        assert!(current(&key).is_none(), "no step begins with one that has expired");
        assert!(make_do(&key, minute).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_turned_away_is_replaced_and_one_that_is_never_taken_suspects_none() {
        let key = [2; 32];
        let first = keep_a_day(key, "first");
        assert!(!received(&key, &first, TAKEN));
        assert!(received(&key, &first, NEVER) && !received(&key, &first, NEVER), "once a minute");
        assert!(current(&key).is_none(), "another one is asked for");
        assert!(make_do(&key, HOUR).is_none(), "and nothing begins with what is not taken any more");
        let second = keep_a_day(key, "second");
        assert!(received(&key, &first, NEVER) && is(current(&key), "second"), "it was replaced meanwhile");
        // The second has never been taken: the vendor means something else.
        pass(1).await;
        assert!(!received(&key, &second, NEVER));
        for _ in 0..14 {
            pass(1).await;
            assert!(!received(&key, &second, REVOKED) && is(current(&key), "second"));
        }
        pass(1).await;
        assert!(received(&key, &second, NEVER) && current(&key).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_taken_back_in_its_first_step_is_replaced() {
        let key = [7; 32];
        let first = keep_a_day(key, "first");
        assert!(received(&key, &first, REVOKED) && current(&key).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forbidden_for_good_costs_a_token_a_quarter_of_an_hour_and_keeps_nothing_from_being_used() {
        let key = [8; 32];
        let mut asked = 0;
        keep_a_day(key, "0");
        for _ in 0..60 {
            let token = current(&key).unwrap_or_else(|| {
                assert!(make_do(&key, Duration::ZERO).is_some());
                asked += 1;
                keep_a_day(key, &asked.to_string())
            });
            received(&key, &token, PART_FORBIDDEN);
            pass(1).await;
        }
        assert_eq!(asked, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_the_tokens_of_another_back_with_each_new_one_costs_a_token_a_poll_and_no_poll() {
        let key = [6; 32];
        keep_a_day(key, "0");
        for poll in 1..20 {
            let token = current(&key).unwrap();
            received(&key, &token, TAKEN);
            pass(5).await;
            assert!(received(&key, &token, NEVER), "{poll}");
            keep_a_day(key, &poll.to_string());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_gives_the_same_token_again_is_not_asked_in_each_step() {
        let key = [3; 32];
        let mut asked = 0;
        keep_a_day(key, "same");
        for _ in 0..60 {
            let token = current(&key).unwrap_or_else(|| {
                asked += 1;
                keep_a_day(key, "same")
            });
            received(&key, &token, REVOKED);
            pass(1).await;
        }
        assert_eq!(asked, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_put_right_is_seen_at_once_by_whoever_says_so() {
        let key = [9; 32];
        let first = keep_a_day(key, "first");
        assert!(!received(&key, &first, NEVER) && current(&key).is_some());
        lock(&KEPT).get_mut(&key).unwrap().renew(Instant::now());
        assert!(current(&key).is_none());
        let second = keep_a_day(key, "second");
        assert!(received(&key, &second, REVOKED), "and nobody is believed any more");
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_have_expired_are_gone_when_another_comes() {
        keep([4; 32], "left".into(), HOUR, MARGIN);
        pass(60).await;
        keep([5; 32], "came".into(), HOUR, MARGIN);
        assert!(!lock(&KEPT).contains_key(&[4; 32]));
    }
}
