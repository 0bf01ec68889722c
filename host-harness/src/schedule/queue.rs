//! One queue for everything that is due some time.
//!
//! Why a heap of own: one timer serves any number of instances, an entry is 48 bytes, and what has been due longest
//! comes first, so nobody can push in by being due again and again.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tokio::time::Instant;
use uuid::Uuid;

/// Who is due when. Everyone is in it at most once.
#[derive(Debug, Default)]
pub struct Queue {
    heap: BinaryHeap<Reverse<(Instant, u64, Uuid)>>,
    /// The number of the entry that counts, for everyone in the queue; others in the heap are stale.
    current: HashMap<Uuid, u64>,
    next: u64,
}

impl Queue {
    /// Makes somebody due at a time, in place of any time before.
    pub fn set(&mut self, id: Uuid, due: Instant) {
        self.next += 1;
        self.current.insert(id, self.next);
        self.heap.push(Reverse((due, self.next, id)));
        if self.heap.len() > 64 + 2 * self.current.len() {
            let current = &self.current;
            self.heap.retain(|Reverse((_, number, id))| current.get(id) == Some(number));
        }
    }

    /// Takes somebody out; nothing happens when he is not in it.
    pub fn remove(&mut self, id: Uuid) {
        self.current.remove(&id);
    }

    /// When the first one is due; none when the queue is empty.
    pub fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((due, number, id))) = self.heap.peek() {
            if self.current.get(id) == Some(number) {
                return Some(*due);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes out whoever has been due longest, if anybody is; of those due at the same time, who was put in first.
    pub fn pop(&mut self, now: Instant) -> Option<Uuid> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse((_, _, id)) = self.heap.pop()?;
        self.current.remove(&id);
        Some(id)
    }

    /// Whether somebody is in it.
    #[must_use]
    pub fn contains(&self, id: Uuid) -> bool {
        self.current.contains_key(&id)
    }

    /// How many are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.current.len()
    }

    /// Whether nobody is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn who_has_been_due_longest_comes_first_and_nobody_before_his_time() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for (number, seconds) in [(1, 3), (2, 1), (3, 2), (4, 1), (5, 9)] {
            queue.set(id(number), now + Duration::from_secs(seconds));
        }
        let at = now + Duration::from_secs(3);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop(at)).collect();
        assert_eq!(order, [2, 4, 3, 1].map(id));
        assert_eq!((queue.len(), queue.next_due()), (1, Some(now + Duration::from_secs(9))));
    }

    #[test]
    fn a_new_time_replaces_the_old_one_and_who_is_removed_does_not_come() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.set(id(1), now);
        queue.set(id(2), now);
        queue.set(id(1), now + Duration::from_secs(1));
        queue.remove(id(2));
        assert_eq!(queue.pop(now), None);
        assert_eq!(queue.pop(now + Duration::from_secs(1)), Some(id(1)));
        assert!(queue.is_empty());
    }

    #[test]
    fn replaced_entries_do_not_pile_up() {
        let now = Instant::now();
        let mut queue = Queue::default();
        for _ in 0..10_000 {
            queue.set(id(1), now);
        }
        assert!(queue.heap.len() <= 70, "{}", queue.heap.len());
    }
}
