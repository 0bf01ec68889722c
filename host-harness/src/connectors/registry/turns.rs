//! One judgement of a content at a time.
//!
//! Why: two files may hold the same component, and a file may be renamed or touched while it is compiled. Judged at once,
//! the second judgement would find the component still being compiled, as if it had been abandoned, and would try it on
//! live instances a second time. One after the other, the second one finds what the first has come to.
//! Not guaranteed: any order among those that wait, beyond first come, first served.

use super::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// Who judges what, by digest.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<BTreeMap<String, Arc<Turn<()>>>>);

impl Turns {
    /// Waits until no other judgement of this content is under way; the turn ends when what is given is dropped.
    pub(super) async fn take(&self, digest: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = lock(&self.0);
            // Those that nobody has and nobody waits for.
            all.retain(|_, turn| Arc::strong_count(turn) > 1);
            Arc::clone(all.entry(digest.to_owned()).or_default())
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn the_same_content_is_judged_by_one_at_a_time_and_another_at_once() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        let mut second = Box::pin(turns.take("a"));
        assert!(second.as_mut().now_or_never().is_none());
        drop(turns.take("b").await);
        drop(first);
        drop(second.await);
        drop(turns.take("c").await);
        assert_eq!(lock(&turns.0).len(), 1, "those that are over are forgotten");
    }
}
