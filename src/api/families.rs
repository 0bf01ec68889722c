//! Kinds of requests, and what is known of each in a step: whether it answers, and
//! what is left of the allowance it uses up.
//!
//! Why apart: what is down, limited or refused for one kind says nothing of the
//! others, and must not hold them up.
//!
//! Not guaranteed: that the vendor divides its services in the same way. Where
//! several are one, each is found to be down for itself.

use std::cell::{Cell, RefCell};

use super::{calls, rate};
use crate::contract::Failure;

/// Requests of an allowance that are left to others with the same key.
pub(super) const RESERVE: u64 = 2;

/// Kinds of requests that fail each on their own: for the vendor they are different services, and what one of them cannot
/// answer says nothing about the others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Lists of investigations, and whatever else has no family of its own: without them nothing can be done.
    Lists,
    /// Single investigations.
    Singles,
    /// The alerts of an investigation.
    AlertLists,
    /// The Alert Triage API.
    Triage,
    /// Alerts of other products.
    Products,
    /// Comments.
    Comments,
    /// Restricted evidence.
    Restricted,
}

impl Family {
    pub(super) fn of(target: &str) -> Self {
        let path = target.split('?').next().unwrap_or(target);
        let single = path.strip_prefix(calls::INVESTIGATIONS).and_then(|rest| rest.strip_prefix('/'));
        if path.starts_with(calls::TRIAGE) {
            Self::Triage
        } else if path.ends_with("/rapid7-product-alerts") {
            Self::Products
        } else if path.starts_with(calls::COMMENTS) {
            Self::Comments
        } else if path.starts_with(calls::RESTRICTED) {
            Self::Restricted
        } else if single.is_some_and(|rest| rest.ends_with("/alerts")) {
            Self::AlertLists
        } else if single.is_some() {
            Self::Singles
        } else {
            Self::Lists
        }
    }
}

/// The endpoint of the Alert Triage API that is asked whether that is there.
pub(super) const SEARCH: u8 = 1;
/// Its endpoints of evidence and of actors.
pub(super) const OF_EVIDENCE: u8 = 4 | 8;
/// Its endpoint of single alerts, and the only one of any other family.
pub(super) const SINGLE: u8 = 16;

/// The bit of an endpoint within its family: of several one may be limited for itself.
pub(super) fn endpoint(target: &str) -> u8 {
    let path = target.split('?').next().unwrap_or(target);
    let names = ["/search", "/rrns", "/evidences", "/actors"];
    names.iter().zip([SEARCH, 2, 4, 8]).find(|(name, _)| path.ends_with(*name)).map_or(SINGLE, |(_, bit)| bit)
}

/// What is left of an allowance, as last heard.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowance {
    pub(super) remaining: Option<u64>,
    pub(super) wait: Option<u64>,
    pub(super) in_flight: u64,
    /// Requests sent so far, and which of them said what is left.
    pub(super) sent: u64,
    pub(super) heard_by: u64,
}

impl Allowance {
    /// Hears what the answer to the request with this number says. Answers come
    /// in any order: an older one that promises more was overtaken.
    pub(super) fn hear(&mut self, number: u64, rate: rate::Rate) {
        let Some(remaining) = rate.remaining else { return };
        if number > self.heard_by || self.remaining.is_none_or(|known| remaining < known) {
            self.remaining = Some(remaining);
            self.wait = rate.wait;
            self.heard_by = self.heard_by.max(number);
        }
    }
}

/// An allowance in a step. Each of the vendor's APIs (`/idr/v2`, `/idr/v1`, `/idr/at`) may have one of its own; where it
/// is shared, their answers say so.
#[derive(Default)]
pub(super) struct Limit {
    pub(super) allowance: Cell<Allowance>,
    /// The most that was said to be left of it.
    pub(super) most: Cell<Option<u64>>,
}

impl Limit {
    /// Whether another request may be made, beside those under way.
    pub(super) fn has_more(&self) -> bool {
        self.has_more_beside(self.allowance.get().in_flight)
    }

    /// The same beside so many under way.
    pub(super) fn has_more_beside(&self, in_flight: u64) -> bool {
        self.allowance.get().remaining.is_none_or(|remaining| remaining > in_flight + RESERVE)
    }

    /// Whether nothing has been said of it.
    pub(super) fn is_unheard(&self) -> bool {
        self.allowance.get().remaining.is_none()
    }
}

/// What is known in a step of requests of a [`Family`].
#[derive(Default)]
pub(super) struct Api {
    /// Requests in a row that it has not answered.
    pub(super) strikes: Cell<u32>,
    /// The endpoints that have answered a request in this step, as [`endpoint`] has them.
    pub(super) answered: Cell<u8>,
    /// What has ended requests to it.
    halted: RefCell<Option<Box<Failure>>>,
    /// What has ended requests to single endpoints of it, as [`endpoint`] has them.
    refused: RefCell<Vec<(u8, Box<Failure>)>>,
}

impl Api {
    /// Ends requests to it.
    pub(super) fn halt(&self, why: &Failure) {
        self.halted.borrow_mut().get_or_insert_with(|| Box::new(why.clone()));
    }

    /// Ends requests to one of its endpoints.
    pub(super) fn refuse(&self, endpoint: u8, why: &Failure) {
        self.refused.borrow_mut().push((endpoint, Box::new(why.clone())));
    }

    /// Whether requests to all of it were ended.
    pub(super) fn is_halted(&self) -> bool {
        self.halted.borrow().is_some()
    }

    /// What has ended requests to an endpoint of it, if something has.
    pub(super) fn halted(&self, endpoint: u8) -> Option<Box<Failure>> {
        let of_all = self.halted.borrow().clone();
        of_all.or_else(|| self.refused.borrow().iter().find(|(one, _)| *one == endpoint).map(|(_, why)| why.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_overtaken_does_not_promise_what_is_used_up() {
        let rate = |remaining| rate::Rate { remaining: Some(remaining), wait: Some(remaining) };
        let mut allowance = Allowance::default();
        allowance.hear(2, rate(7));
        allowance.hear(1, rate(8));
        assert_eq!((allowance.remaining, allowance.wait), (Some(7), Some(7)));
        allowance.hear(1, rate(3));
        assert_eq!(allowance.remaining, Some(3), "the lower of two is the safe one");
        allowance.hear(3, rate::Rate { remaining: None, wait: Some(1) });
        assert_eq!(allowance.wait, Some(3), "who does not say it says nothing");
        allowance.hear(4, rate(50));
        assert_eq!(allowance.remaining, Some(50), "a later request sees a new window");
    }
}
