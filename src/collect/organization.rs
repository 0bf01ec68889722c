//! Which organization the records are of.
//!
//! A key belongs to an organization. Where it is replaced by that of another one, in the same region, what is remembered
//! says nothing of the new one: its history would be taken for looked through. So the organization of the rows is
//! remembered, and another one begins anew, as another region does.
//!
//! A key that sees several organizations at once must not begin anew for ever: it is known by rows of two on one page, and by
//! more than [`MOST_MOVES`] changes within a day. From then on, until the region is changed, nothing begins anew.
//!
//! Not guaranteed: that it is noticed before the first row of the new organization is listed; nothing of it is lost by that,
//! since then everything is listed from the look-back on. What was known of the former one is not kept: when its key comes
//! back it begins anew too.

use serde::{Deserialize, Serialize};

use super::Step;
use super::checkpoint::{Checkpoint, Since7};
use crate::api::client::Stop;
use crate::artifact::identity::hash64;
use crate::artifact::investigation::Investigation;
use crate::times::Utc;

/// Changes within a day that are those of keys.
const MOST_MOVES: u8 = 4;

/// The organization that rows were seen of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seen {
    /// None yet.
    #[default]
    Unknown,
    /// This one: a hash of its id.
    One(u64),
    /// The key sees more than one.
    Several,
}

/// What is known of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// That of the last rows.
    pub seen: Seen,
    /// How often it was another one within a day,
    pub moves: u8,
    /// which began then.
    pub since: Option<Utc>,
}

impl Seen {
    /// That of rows; unknown when none of them says it.
    fn of(rows: &[Investigation<'_>]) -> Self {
        let mut ids = rows.iter().filter_map(|row| row.members.text("organization_id"));
        match ids.next() {
            None => Self::Unknown,
            Some(first) if ids.all(|id| id == first) => Self::One(hash64([first.as_bytes()])),
            Some(_) => Self::Several,
        }
    }
}

impl Organization {
    /// Whether all rows that were seen last are of this one.
    pub(super) fn is(self, id: &str) -> bool {
        self.seen == Seen::One(hash64([id.as_bytes()]))
    }

    /// After rows of another one at this time.
    fn moved(self, to: Seen, now: Utc) -> Self {
        let since = self.since.filter(|since| (0..86_400).contains(&now.seconds_since(*since)));
        let moves = if since.is_some() { self.moves.saturating_add(1) } else { 1 };
        let seen = if moves > MOST_MOVES { Seen::Several } else { to };
        Self { seen, moves, since: since.or(Some(now)) }
    }
}

impl<T, C> Step<'_, T, C> {
    /// Notes the organization of rows that were listed at this time.
    ///
    /// # Errors
    ///
    /// That the step is over, when it is another one than before: the next one begins anew.
    pub(super) fn note_organization(&mut self, rows: &[Investigation<'_>], now: Utc) -> Result<(), Stop> {
        let organization = self.state.since_7.organization;
        let seen = Seen::of(rows);
        match (organization.seen, seen) {
            (_, Seen::Unknown) | (Seen::Several, _) => {}
            (Seen::One(known), Seen::One(id)) if known == id => {}
            (Seen::One(_), Seen::One(_)) => {
                let organization = organization.moved(seen, now);
                if organization.seen == Seen::Several {
                    self.state.since_7.organization = organization;
                    return Ok(());
                }
                self.state = Checkpoint {
                    since_7: Since7 { organization, ..Since7::default() },
                    bounds: self.state.bounds,
                    ..Checkpoint::new(&self.state.host)
                };
                self.output.progress = true;
                self.moved = true;
                return Err(Stop::Spent);
            }
            (Seen::Unknown | Seen::One(_), _) => self.state.since_7.organization.seen = seen,
        }
        Ok(())
    }
}
