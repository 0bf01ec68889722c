//! Which organization the records are of.
//!
//! A key belongs to an organization. Where it is replaced by that of another one, in the same region, what is remembered
//! says nothing of the new one: its history would be taken for looked through. So the organization of the rows is
//! remembered, and another one begins anew, as another region does.
//!
//! Not guaranteed: that it is noticed before the first row of the new one is listed; until then nothing of it is lost,
//! since then everything is listed from the look-back on. A key that sees several organizations at once is known by rows
//! of both on one page; until such a page comes, it may begin anew.

use serde::{Deserialize, Serialize};

use super::Step;
use super::checkpoint::Checkpoint;
use crate::api::client::Stop;
use crate::artifact::identity::hash64;
use crate::artifact::investigation::Investigation;

/// The organization that rows were seen of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Organization {
    /// None yet.
    #[default]
    Unknown,
    /// This one: a hash of its id.
    One(u64),
    /// Several on one page: the key sees more than one.
    Several,
}

impl Organization {
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

impl<T, C> Step<'_, T, C> {
    /// Notes the organization of listed rows.
    ///
    /// # Errors
    ///
    /// That the step is over, when it is another one than before: the next one begins anew.
    pub(super) fn note_organization(&mut self, rows: &[Investigation<'_>]) -> Result<(), Stop> {
        match (self.state.organization, Organization::of(rows)) {
            (_, Organization::Unknown) | (Organization::Several, _) => Ok(()),
            (Organization::One(known), Organization::One(seen)) if known != seen => {
                self.state = Checkpoint {
                    organization: Organization::One(seen),
                    bounds: self.state.bounds,
                    ..Checkpoint::new(&self.state.host)
                };
                self.output.progress = true;
                self.moved = true;
                Err(Stop::Spent)
            }
            (_, seen) => {
                self.state.organization = seen;
                Ok(())
            }
        }
    }
}
