//! Who is due, and the places of those that are being polled.
//!
//! Why two queues: an instance that keeps failing may hang until its time is up, each time. Those that are backing off have
//! a queue, and a quarter of the places, of their own: however many of them there are, the others are polled.
//! Promises: of those for whom there is a place, who has been due longest comes first.

use std::collections::HashMap;

use tokio::time::Instant;
use uuid::Uuid;

use super::Queue;

/// The queues and the places.
#[derive(Debug)]
pub struct Places {
    most: usize,
    well: Queue,
    failing: Queue,
    /// Who holds a place, and whether as one that fails.
    taken: HashMap<Uuid, bool>,
}

/// The answer of [`Places::take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This one has a place now.
    Begin(Uuid),
    /// Nobody is due before this time for whom there is a place; `None` when nobody waits at all.
    At(Option<Instant>),
    /// All places are taken.
    Full,
}

impl Places {
    /// So many places, at least one.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most: most.max(1), well: Queue::default(), failing: Queue::default(), taken: HashMap::new() }
    }

    /// Makes somebody due at a time, in place of any time before; `fails` when it is backing off.
    pub fn set(&mut self, id: Uuid, due: Instant, fails: bool) {
        let (queue, other) =
            if fails { (&mut self.failing, &mut self.well) } else { (&mut self.well, &mut self.failing) };
        other.remove(id);
        queue.set(id, due);
    }

    /// Takes somebody out of the queues; a place that he holds stays his.
    pub fn remove(&mut self, id: Uuid) {
        self.well.remove(id);
        self.failing.remove(id);
    }

    /// Whether somebody is in a queue.
    #[must_use]
    pub fn waits(&self, id: Uuid) -> bool {
        self.well.contains(id) || self.failing.contains(id)
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    /// Gives a place to whoever has been due longest, if there is one for him.
    pub fn take(&mut self, now: Instant) -> Next {
        if self.taken.len() >= self.most {
            return Next::Full;
        }
        let may_fail = self.taken.values().filter(|fails| **fails).count() < self.most.div_ceil(4);
        let dues = [self.well.next_due(), self.failing.next_due().filter(|_| may_fail)];
        let fails = match dues {
            [Some(well), Some(failing)] => failing < well,
            [_, failing] => failing.is_some(),
        };
        let queue = if fails { &mut self.failing } else { &mut self.well };
        match queue.pop(now) {
            Some(id) => {
                self.taken.insert(id, fails);
                Next::Begin(id)
            }
            None => Next::At(dues.into_iter().flatten().min()),
        }
    }

    /// Takes a place back; nothing happens when he holds none.
    pub fn give_back(&mut self, id: Uuid) {
        self.taken.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_has_been_due_longest_comes_first_and_those_that_fail_have_a_quarter_of_the_places() {
        let now = Instant::now();
        let mut places = Places::new(8);
        let id = |number: u64| Uuid::from_u128(number.into());
        // Ten that fail have been due longest.
        (0..10).for_each(|number| places.set(id(number), now + Duration::from_millis(number), true));
        (10..20).for_each(|number| places.set(id(number), now + Duration::from_millis(number), false));
        let later = now + Duration::from_secs(1);
        let begun: Vec<Next> = (0..9).map(|_| places.take(later)).collect();
        let wanted = [0, 1, 10, 11, 12, 13, 14, 15].map(|number| Next::Begin(id(number)));
        assert_eq!(begun[..8], wanted);
        assert_eq!((begun[8], places.taken()), (Next::Full, 8));
        places.give_back(id(11));
        assert_eq!(places.take(later), Next::Begin(id(16)), "the places of those that fail are still taken");
        places.give_back(id(0));
        assert_eq!(places.take(later), Next::Begin(id(2)));
    }

    #[test]
    fn who_is_put_anew_waits_in_one_queue_and_who_is_taken_out_in_none() {
        let now = Instant::now();
        let (mut places, one, other) = (Places::new(1), Uuid::from_u128(1), Uuid::from_u128(2));
        places.set(one, now, true);
        places.set(one, now + Duration::from_secs(5), false);
        places.set(other, now, false);
        places.remove(other);
        assert!(places.waits(one) && !places.waits(other));
        assert_eq!(places.take(now), Next::At(Some(now + Duration::from_secs(5))));
        assert_eq!(places.take(now + Duration::from_secs(5)), Next::Begin(one));
        places.give_back(one);
        assert_eq!(places.take(now + Duration::from_secs(9)), Next::At(None));
    }
}
