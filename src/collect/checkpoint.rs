//! What is remembered between steps.
//!
//! The bytes are opaque to the host: a magic, a format version, a hash of the
//! body, and the body: the length of what is remembered of investigations, that
//! in blocks, and the rest in postcard. A newer connector reads every older format;
//! bytes that cannot be read are a failure that leaves them where they are,
//! never a silent start from zero.
//!
//! Bound: [`MAX_KNOWN`] investigations and [`MAX_BYTES`]. Past it some are
//! forgotten ([`super::forgetting`]).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::access::Access;
use super::condensed::{self, Condensed};
use super::forgetting::Bounds;
use super::former;
use super::memory::{self, Memory};
use super::organization::Organization;
use super::passes::Pass;
use crate::artifact::identity::hash64;
use crate::contract::{Failure, FailureReason, RetryAdvice};
use crate::times::Utc;

/// First bytes of every checkpoint.
const MAGIC: &[u8; 5] = b"R7IDR";
/// The format written. Format 2 is format 1 followed by [`Beyond`]; format 3
/// has what is remembered in blocks and a checksum that costs less; format 4 has
/// the blocks in one piece, which [`Memory`] keeps as it is; format 5 has what
/// is condensed by the day and the RRN, format 6 with work left marked in it;
/// format 7 is format 6 followed by [`Since7`], format 8 that by [`Since8`].
pub const FORMAT: u8 = 8;
/// Magic, format, hash.
const HEADER: usize = 14;
/// Room for what a step adds to a checkpoint, made before anything else is
/// there, so that the buffer can grow where it is.
const ROOM: usize = 96 * 1024;
/// Bytes of what is written behind the blocks, about, besides what is condensed.
const REST: usize = 4 * 1024;
/// Most investigations remembered.
pub const MAX_KNOWN: usize = 20_000;
/// Most bytes written: below the contract's 1 MiB.
pub const MAX_BYTES: usize = 448 * 1024;
/// Most alerts of one investigation remembered as collected. Of one that has
/// more, some are collected again, under the same ids, whenever it changes; see
/// [`super::passes`].
pub const MAX_ALERTS: usize = 4_000;
/// Stands for the cycle in which an investigation was last listed when it was
/// not there when it was last asked for. The first cycle is 1.
pub const MISSING: u32 = 0;

/// The state of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The API host that all of this came from. Another region is another
    /// tenant: it starts from its own beginning.
    pub host: String,
    /// Everything created before this instant has been listed. Absent before
    /// the first full listing.
    pub watermark: Option<Utc>,
    /// The listing of new investigations under way.
    pub window: Option<Window>,
    /// Created before this and never seen to change: not collected. Where the
    /// initial look-back of the first cycle began.
    pub floor: Option<Utc>,
    /// Everything that gained an alert before this instant has been listed.
    pub gained: Option<Utc>,
    /// When everything was last listed again.
    pub relisted: Option<Utc>,
    /// Number of the cycle, to tell what was listed in it.
    pub number: u32,
    /// The cycle under way; absent between cycles.
    pub cycle: Option<Cycle>,
    /// Investigations by RRN; written by itself.
    #[serde(skip)]
    pub known: Memory,
    /// Whether the tenant has the Alert Triage API.
    pub triage: Access,
    /// Steps of the cycle that a refusal of the vendor ended, or its allowance
    /// before anything was done.
    pub rate_limited: u32,
    /// What format 2 has added.
    pub beyond: Beyond,
    /// What was created up to here may have been known and been forgotten.
    pub forgotten: Option<Utc>,
    /// What is left of that; written behind all else.
    #[serde(skip)]
    pub condensed: Condensed,
    /// What format 7 has added; written behind that.
    #[serde(skip)]
    pub since_7: Since7,
    /// What format 8 has added; written last.
    #[serde(skip)]
    pub since_8: Since8,
    /// What it is kept within; not written.
    #[serde(skip)]
    pub bounds: Bounds,
}

/// What is remembered since format 2.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beyond {
    /// Every alert outside investigations that was created before this instant
    /// has been collected.
    pub uninvestigated: Option<Utc>,
    /// Keys of alerts that need not be read again, because they were collected
    /// or are none of those, with their creation in microseconds since 1970:
    /// those that may be listed again.
    pub outside: BTreeMap<u64, i64>,
    /// Cycles in a row in which that listing failed at one alert.
    pub outside_failures: u32,
    /// Whether the endpoints beside the alerts of an investigation are there,
    /// in the order of [`crate::artifact::extra::Kind`].
    pub extras: [Access; 3],
    /// When the last listing of what is not closed began, and the last one of
    /// everything: what was looked at since may have a new comment.
    pub listed: [Option<Utc>; 2],
}

/// What is remembered since format 7.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since7 {
    /// Whose investigations were listed.
    pub organization: Organization,
    /// HTTP status of the last answer because of which alerts could not be collected, 0 for none.
    pub status: u16,
    /// When what a key may be refused was refused last, and whether for the first time: see [`super::access::Refused`].
    pub refused: [Option<Utc>; 2],
}

/// What is remembered since format 8.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Since8 {
    /// Investigations of more alerts than are remembered, or than a step has listed: how far they were gone through.
    pub passes: Vec<Pass>,
    /// Investigations that were read singly in the present cycle because of a status that no list is asked for by.
    pub beside: u32,
    /// The beginning of the cycle since which what is not closed is not asked for by its status.
    pub unfiltered: Option<Utc>,
}

/// A listing of what was created between two instants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Created after this (excluded).
    pub after: Utc,
    /// Created before this (excluded).
    pub before: Utc,
    /// Page within the window: above 0 only while more than a page of
    /// investigations share the millisecond behind `after`.
    pub index: u64,
}

/// A cycle: from the first step after an interval to the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cycle {
    /// When it began: what it collects up to.
    pub began: Utc,
    /// How far it is.
    pub phase: Phase,
}

/// The parts of a cycle, in their order: new data first, so that under a tight
/// limit it does not wait for the re-listing of what is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// What was created since the last cycle.
    New,
    /// What gained alerts since the last cycle: the next page.
    Gained(u64),
    /// What is owed something: the RRN up to which that is done.
    Owed(Option<String>),
    /// What is not closed, or, if the flag is set, everything: the window left.
    Known(Window, bool),
    /// What has left the list of what is not closed: the RRN up to which that
    /// is done.
    Left(Option<String>),
    /// Alerts outside investigations, between `Gained` and `Owed`: the time of
    /// creation up to which this cycle has them.
    Outside(Option<Utc>),
    /// As `Known`, on the way around a page that has failed.
    Around(Window, bool, Detour),
}

/// The way around a page of a list that has failed: windows that are listed one after the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detour {
    /// Seconds of the next window; none is all that is left.
    pub span: Option<i64>,
    /// Seconds of a window that is passed over if it fails; less than an hour is one.
    pub least: i64,
    /// Windows in a row that have failed, the first included.
    pub failed: u32,
}

/// What is remembered of an investigation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// When it was created; when it was first seen if it does not say.
    pub created: i64,
    /// Hash of the version that was last turned into an artifact.
    pub fingerprint: u64,
    /// Ordinal of that version.
    pub ordinal: u32,
    /// Keys of the alerts, and whatever else belongs to it, that were turned
    /// into artifacts, in order; among them the marks of alerts that may get more evidence ([`super::growing`]).
    pub alerts: Vec<u64>,
    /// Work left to do on it.
    pub owed: Owed,
    /// Whether it was not closed when it was last seen.
    pub open: bool,
    /// Whether it is only known, because it was there before the look-back, and
    /// no version of it has been turned into an artifact.
    pub silent: bool,
    /// The cycle in which it was last listed, or [`MISSING`].
    pub listed: u32,
}

impl Known {
    /// Whether it was not there for so long that it was believed to be gone, and what it was owed with it.
    #[must_use]
    pub fn is_believed_gone(&self) -> bool {
        self.listed == MISSING && self.owed == Owed::Nothing && !self.silent
    }

    /// Remembers that a record was turned into an artifact. When as many are
    /// remembered as may be, one that is not `at_hand` (in order) makes room.
    pub fn remember(&mut self, key: u64, at_hand: &[u64]) {
        if self.alerts.len() >= MAX_ALERTS {
            let gone = self.alerts.iter().position(|known| at_hand.binary_search(known).is_err());
            let Some(gone) = gone else { return };
            self.alerts.remove(gone);
        }
        if let Err(position) = self.alerts.binary_search(&key) {
            self.alerts.insert(position, key);
        }
    }
}

/// Work left to do on an investigation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owed {
    /// None.
    #[default]
    Nothing,
    /// Its alerts have not been listed to the end: go on at this page.
    Page(u64),
    /// Its alerts could not be collected so many times: try again in the first
    /// cycle that begins at this instant or later. With none it is the last look
    /// for what an endpoint does not know; from [`super::alerts::OF_EXTRAS`] on
    /// it was something else that belongs to it, and another mark tells that it
    /// was evidence ([`super::alerts::waits_for`]).
    Failed(u32, Utc),
    /// Its alerts may not all be visible yet: list them again in every cycle,
    /// for the last time in the first one at this instant or later.
    Until(Utc),
}

impl Checkpoint {
    /// A beginning.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self { host: host.to_owned(), ..Self::default() }
    }

    /// Reads a stored checkpoint.
    ///
    /// # Errors
    ///
    /// `checkpoint-unreadable`, with what is wrong with it.
    pub fn decode(mut bytes: Vec<u8>) -> Result<Self, Failure> {
        // While nothing else is in memory it can grow where it is.
        bytes.reserve_exact(ROOM.min((MAX_BYTES + ROOM / 4).saturating_sub(bytes.len())));
        let (header, body) = bytes.split_at_checked(HEADER).ok_or_else(|| unreadable("it is cut short"))?;
        let [m0, m1, m2, m3, m4, format, hash @ ..] = header else { return Err(unreadable("it is cut short")) };
        if [*m0, *m1, *m2, *m3, *m4] != *MAGIC {
            return Err(unreadable("it was not written by this connector"));
        }
        if *format > FORMAT {
            return Err(unreadable(&format!(
                "it has format {format}, written by a newer version; this version reads formats up to {FORMAT}"
            )));
        }
        if hash != checksum(*format, body).to_le_bytes() {
            return Err(unreadable("its checksum is wrong"));
        }
        if *format < 4 {
            return former::read(*format, body);
        }
        let (length, _) = body.split_first_chunk::<4>().ok_or_else(|| unreadable("it is cut short"))?;
        let end = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX).saturating_add(memory::RESERVED);
        let rest = bytes.get(end..).ok_or_else(|| unreadable("its blocks are cut short"))?;
        let wrong = |error| unreadable(&format!("its content is not that of format {format} ({error})"));
        let (mut checkpoint, rest) = postcard::take_from_bytes::<Self>(rest).map_err(wrong)?;
        checkpoint.condensed = match *format {
            4 => whole::<condensed::Former>(postcard::take_from_bytes(rest), *format)?.condensed(checkpoint.forgotten),
            5 => whole::<Condensed>(postcard::take_from_bytes(rest), *format)?.of_format_5(checkpoint.forgotten),
            6 => whole(postcard::take_from_bytes(rest), *format)?,
            7 => {
                let (condensed, since_7) = whole(postcard::take_from_bytes(rest), *format)?;
                checkpoint.since_7 = since_7;
                condensed
            }
            _ => {
                let (condensed, since_7, since_8) = whole(postcard::take_from_bytes(rest), *format)?;
                (checkpoint.since_7, checkpoint.since_8) = (since_7, since_8);
                condensed
            }
        };
        checkpoint.known = Memory::stored(bytes, end).ok_or_else(|| unreadable("its blocks make no sense"))?;
        Ok(checkpoint)
    }

    /// Writes it, within its bounds.
    ///
    /// # Errors
    ///
    /// `internal`, if it cannot be written, which no input can cause.
    pub fn encode(mut self) -> Result<Vec<u8>, Failure> {
        self.known.pack();
        // More than has to be: not to look for the oldest again at the end of every step.
        let Bounds { known, bytes: most_bytes, .. } = self.bounds;
        if self.known.len() > known {
            self.forget(known - known / 20);
        }
        let rest = loop {
            let rest = Vec::with_capacity(self.condensed.bytes().saturating_add(REST));
            let rest = postcard::to_extend(&self, rest)
                .and_then(|rest| postcard::to_extend(&(&self.condensed, &self.since_7, &self.since_8), rest));
            let rest = rest.map_err(|error| {
                crate::api::errors::plain(
                    FailureReason::Internal,
                    format!("the checkpoint cannot be written: {error}"),
                    "This is a defect of the connector: report it with this message.",
                    RetryAdvice::BackOff,
                )
            })?;
            let bytes = self.known.bytes();
            if bytes.saturating_add(rest.len()) <= most_bytes || self.known.is_empty() {
                break rest;
            }
            // At once as many as it takes, were all of them alike.
            let wide = |size: usize| u64::try_from(size).unwrap_or(u64::MAX);
            let room = wide(most_bytes.saturating_sub(rest.len()));
            let fit = wide(self.known.len()).saturating_mul(room) / wide(bytes.max(1));
            let fit = usize::try_from(fit).unwrap_or(usize::MAX).min(self.known.len());
            // Always at least one, so that this ends.
            self.forget(fit.saturating_sub(fit.div_ceil(10).max(1)));
        };
        // The blocks stay where they are: what is before them has its place, and what is behind is short.
        let mut bytes = self.known.into_buffer();
        let length = u32::try_from(bytes.len().saturating_sub(memory::RESERVED)).unwrap_or(u32::MAX);
        bytes.reserve_exact(rest.len());
        bytes.extend_from_slice(&rest);
        if let Some((header, body)) = bytes.split_at_mut_checked(HEADER) {
            if let Some(place) = body.first_chunk_mut() {
                *place = length.to_le_bytes();
            }
            let hash = checksum(FORMAT, body).to_le_bytes();
            let said = MAGIC.iter().chain(&[FORMAT]).chain(&hash);
            header.iter_mut().zip(said).for_each(|(place, byte)| *place = *byte);
        }
        Ok(bytes)
    }
}

/// What was read, when nothing is left behind it.
pub(super) fn whole<T>(read: Result<(T, &[u8]), postcard::Error>, format: u8) -> Result<T, Failure> {
    match read {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(unreadable("bytes follow its end")),
        Err(error) => Err(unreadable(&format!("its content is not that of format {format} ({error})"))),
    }
}

/// The checksum of a body. It finds damage, not forgery.
#[must_use]
pub fn checksum(format: u8, body: &[u8]) -> u64 {
    if format >= 3 { xxhash_rust::xxh64::xxh64(body, 0) } else { hash64([body]) }
}

pub(super) fn unreadable(why: &str) -> Failure {
    crate::api::errors::plain(
        FailureReason::CheckpointUnreadable,
        format!("the stored checkpoint cannot be read: {why}"),
        "The stored checkpoint is kept as it is. Run a connector version that reads it, restore the state from a backup, \
         or remove the instance's state to collect again from the initial look-back.",
        RetryAdvice::AfterChange,
    )
}

#[cfg(test)]
mod tests;
