//! The tokens that this process keeps, and when another one is worth asking for.
//!
//! What: a token is used until it would not outlast a step. One that a vendor turns away (401, or 403: rights stand in many
//! tokens) is replaced, at most once a minute. If the new one is turned away when it is used for the first time, or is the
//! same, the vendor means something else; then no token is suspected for a quarter of an hour.
//! Why so: vendors refuse a key at one of their APIs for good, and a connector may provoke refusals. Neither may have
//! a server asked for tokens step after step, of which some count what they give.
//! Not guaranteed: that tokens of tenants that have left are gone before they expire; they are then, with the next that comes.

use crate::locks::lock;
use secrecy::{ExposeSecret, SecretString};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// How long no token is suspected after a new one was turned away, or was none.
const BELIEVED: Duration = Duration::from_mins(15);

/// How long none is suspected after one was replaced.
const SETTLED: Duration = Duration::from_mins(1);

/// Longest time for which a token that should be replaced is used before another is asked for again.
const WITHOUT: Duration = Duration::from_hours(1);

/// What a token is kept by: a hash of all that it was had with.
pub(super) type Key = [u8; 32];

/// A token.
#[derive(Clone)]
pub struct Token {
    /// What it is.
    pub value: SecretString,
    /// Whether no step has had it before.
    pub is_new: bool,
}

/// A token that is kept.
struct Kept {
    value: SecretString,
    until: Instant,
    /// From then on another one is asked for.
    due: Instant,
    /// Until then no token is suspected.
    believed_until: Option<Instant>,
    /// Whether it was turned away.
    is_suspect: bool,
}

/// The tokens of this process: one for each tenant that has such.
static KEPT: LazyLock<Mutex<HashMap<Key, Kept>>> = LazyLock::new(Mutex::default);

/// The token to begin a step with, unless another one is to be asked for.
pub(super) fn current(key: &Key) -> Option<Token> {
    let now = Instant::now();
    let all = lock(&KEPT);
    let kept = all.get(key).filter(|kept| now < kept.due)?;
    Some(Token { value: kept.value.clone(), is_new: false })
}

/// Keeps a token that holds for so long, of which so much has to be left when a step begins.
pub(super) fn keep(key: Key, value: SecretString, holds: Duration, margin: Duration) -> Token {
    let now = Instant::now();
    let mut all = lock(&KEPT);
    all.retain(|_, kept| now < kept.until);
    let before = all.get(&key);
    // A server may give the same again.
    let is_new = before.is_none_or(|before| before.value.expose_secret() != value.expose_secret());
    let believed_until = match before {
        Some(before) if !is_new && before.is_suspect => Some(now + BELIEVED),
        before => before.and_then(|before| before.believed_until),
    };
    let (until, due) = (now + holds, now + used_for(holds, margin));
    let kept = Kept { value: value.clone(), until, due, believed_until, is_suspect: false };
    all.insert(key, kept);
    Token { value, is_new }
}

/// The token that is due to be replaced, after no other was had: for as long as the server is to be left alone.
pub(super) fn make_do(key: &Key, for_now: Duration) -> Option<Token> {
    let now = Instant::now();
    let mut all = lock(&KEPT);
    let kept = all.get_mut(key).filter(|kept| now < kept.until)?;
    kept.due = now + for_now.min(WITHOUT);
    Some(Token { value: kept.value.clone(), is_new: false })
}

/// A step with this token was turned away. Whether the next one is to begin with another.
pub(super) fn turned_away(key: &Key, token: &Token) -> bool {
    let now = Instant::now();
    let mut all = lock(&KEPT);
    let Some(kept) = all.get_mut(key).filter(|kept| kept.value.expose_secret() == token.value.expose_secret()) else {
        // It was replaced meanwhile.
        return !token.is_new;
    };
    if token.is_new {
        kept.believed_until = Some(now + BELIEVED);
        return false;
    }
    if kept.believed_until.is_some_and(|until| now < until) {
        return false;
    }
    kept.believed_until = Some(now + SETTLED);
    (kept.due, kept.is_suspect) = (now, true);
    true
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

    fn is(token: Option<Token>, value: &str) -> bool {
        token.is_some_and(|token| token.value.expose_secret() == value)
    }

    async fn pass(minutes: u64) {
        tokio::time::advance(Duration::from_mins(minutes)).await;
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
        // Others of these tests make what has expired go.
        assert!(keep(key, "first".into(), 24 * HOUR, MARGIN).is_new);
        pass(24 * 60 - 6).await;
        assert!(is(current(&key), "first"));
        pass(1).await;
        assert!(current(&key).is_none());
        // No other is had: what there is holds still, and is not asked about in each step.
        let minute = Duration::from_mins(1);
        assert!(is(make_do(&key, minute), "first") && is(current(&key), "first"));
        pass(1).await;
        assert!(current(&key).is_none());
        pass(4).await;
        assert!(make_do(&key, minute).is_none(), "it has expired");
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_is_turned_away_is_replaced_once_and_a_new_one_that_is_too_suspects_none() {
        let key = [2; 32];
        let first = keep(key, "first".into(), 24 * HOUR, MARGIN);
        let used = current(&key).unwrap();
        assert!(turned_away(&key, &used) && !turned_away(&key, &used), "once a minute");
        assert!(current(&key).is_none(), "another one is asked for");
        let second = keep(key, "second".into(), 24 * HOUR, MARGIN);
        assert!(second.is_new);
        // Somebody who still has the first is no reason.
        assert!(!turned_away(&key, &first) && turned_away(&key, &used) && is(current(&key), "second"));
        // Of the second, which nobody had before, the vendor means something else.
        assert!(!turned_away(&key, &second));
        for _ in 0..14 {
            pass(1).await;
            assert!(!turned_away(&key, &current(&key).unwrap()) && is(current(&key), "second"));
        }
        pass(1).await;
        assert!(turned_away(&key, &current(&key).unwrap()) && current(&key).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_the_tokens_of_another_back_with_each_new_one_costs_a_token_a_poll_and_no_poll() {
        let key = [6; 32];
        keep(key, "0".into(), 24 * HOUR, MARGIN);
        for poll in 1..20 {
            pass(5).await;
            assert!(turned_away(&key, &current(&key).unwrap()), "{poll}");
            assert!(keep(key, poll.to_string().into(), 24 * HOUR, MARGIN).is_new);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_gives_the_same_token_again_is_not_asked_in_each_step() {
        let key = [3; 32];
        keep(key, "same".into(), 24 * HOUR, MARGIN);
        let mut asked = 0;
        for _ in 0..60 {
            let token = current(&key).unwrap_or_else(|| {
                asked += 1;
                keep(key, "same".into(), 24 * HOUR, MARGIN)
            });
            assert!(!token.is_new);
            turned_away(&key, &token);
            pass(1).await;
        }
        assert_eq!(asked, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_that_have_expired_are_gone_when_another_comes() {
        keep([4; 32], "left".into(), HOUR, MARGIN);
        pass(60).await;
        keep([5; 32], "came".into(), HOUR, MARGIN);
        assert!(!lock(&KEPT).contains_key(&[4; 32]));
    }
}
