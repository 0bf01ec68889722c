//! Identity: the id of an artifact and its name among senders.
//!
//! The id is a time-based UUID made from the event time and a hash of what the
//! record is and which version of it, so that the same version of the same
//! record has the same id wherever and however often it is made, ids sort by
//! time, and a state that returns (closed, reopened, closed) is a version of
//! its own.
//!
//! Not guaranteed: 61 bits of the hash go into an id, so two records of the
//! same microsecond share an id with a chance of one in 10^18.

use sha2::{Digest, Sha256};
use uuid::Builder;

use super::investigation::UNIDENTIFIED;
use crate::times::Utc;

/// Ticks of 100 ns from the start of the Gregorian calendar to 1970.
const GREGORIAN: i64 = 0x01B2_1DD2_1381_4000;

/// Parts of the RRN of anything but an alert: `rrn`, service, region, organization, kind, id.
const RRN_PARTS: usize = 6;
/// Where in an RRN its organization is.
const OWNER: usize = 3;

/// Whose an RRN says that something is.
#[must_use]
pub fn owner(rrn: &str) -> Option<&str> {
    rrn.starts_with("rrn:").then(|| rrn.split(':').nth(OWNER)).flatten().filter(|owner| !owner.is_empty())
}

/// What an artifact stands for.
#[derive(Debug, Clone, Copy)]
pub struct Version<'a> {
    /// The vendor's organization.
    pub organization: &'a str,
    /// The record's own identifier: an RRN, or an alert's UUID.
    pub record: &'a str,
    /// Which version of it, from 0.
    pub ordinal: u32,
    /// Fingerprint of the version's content.
    pub fingerprint: u64,
}

impl Version<'_> {
    /// The id, in lower case.
    #[must_use]
    pub fn id(&self, event: Utc) -> String {
        let mut hashed = Vec::with_capacity(self.organization.len() + self.record.len() + 32);
        for part in ["rapid7_insightidr", self.organization, self.record] {
            hashed.extend_from_slice(part.as_bytes());
            hashed.push(0);
        }
        hashed.extend_from_slice(&self.ordinal.to_le_bytes());
        hashed.extend_from_slice(&self.fingerprint.to_le_bytes());
        let digest: [u8; 32] = Sha256::digest(&hashed).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        let ticks = u64::try_from(event.0.saturating_mul(10).saturating_add(GREGORIAN)).unwrap_or(0);
        // The multicast bit says that the node is no real network card.
        Builder::from_gregorian_timestamp(ticks, u16::from_be_bytes([a, b]), &[c | 1, d, e, f, g, h])
            .into_uuid()
            .hyphenated()
            .to_string()
    }

    /// The `senderHost`: the API host, the record's short id and the version's
    /// ordinal, as in `us.api.insight.rapid7.com/ABCDEF123456.0`. A short id that
    /// others may have too is followed by a hash of the whole.
    ///
    /// Why so: the Conductor's filter collapses artifacts that agree in eleven
    /// fields within ten minutes, and this is the one of them that is free to
    /// tell two investigations, or two versions of one, apart.
    #[must_use]
    pub fn sender_host(&self, api_host: &str) -> String {
        let short = self.record.rsplit(':').next().unwrap_or(self.record);
        let mut name = crate::text::shown(short, 64);
        if name != short || !self.has_short_id() {
            name.push_str(&format!("-{:08x}", hash64([self.record.as_bytes()]) >> 32));
        }
        [api_host, "/", &name, ".", &self.ordinal.to_string()].concat()
    }

    /// Whether what stands behind the last colon of the record's identifier is that of no other record: in an RRN, and in a
    /// name that was made of a record's content. An alert of another product has an id of its own behind the investigation's.
    fn has_short_id(&self) -> bool {
        let parts = self.record.split(':').count();
        parts == 1
            || self.record.starts_with("rrn:alerts:")
            || self.record.starts_with("rrn:") && parts == RRN_PARTS
            || self.record.starts_with(UNIDENTIFIED)
    }
}

/// The first 64 bits of a hash, for fingerprints and sets.
#[must_use]
pub fn hash64<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    // Gathered before: the hash takes much longer for small parts.
    let mut hashed = Vec::with_capacity(512);
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hashed.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hashed.extend_from_slice(part);
    }
    let digest: [u8; 32] = Sha256::digest(&hashed).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version<'_> = Version {
        organization: "org",
        record: "rrn:investigation:us:org:investigation:ABC",
        ordinal: 0,
        fingerprint: 7,
    };

    #[test]
    fn the_same_version_has_the_same_id_and_any_other_has_another() {
        let at = Utc::parse("2026-11-01T10:00:00.757109Z").unwrap();
        let id = VERSION.id(at);
        assert_eq!(id, VERSION.id(at));
        for other in [
            Version { ordinal: 1, ..VERSION },
            Version { fingerprint: 8, ..VERSION },
            Version { organization: "other", ..VERSION },
            Version { record: "x", ..VERSION },
        ] {
            assert_ne!(id, other.id(at));
        }
        assert_ne!(id, VERSION.id(Utc(at.0 + 1)));
    }

    #[test]
    fn ids_are_version_1_uuids_that_carry_the_event_time() {
        let at = Utc::parse("2026-11-01T10:00:00.757109Z").unwrap();
        let id = uuid::Uuid::parse_str(&VERSION.id(at)).unwrap();
        assert_eq!(id.get_version_num(), 1);
        assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        assert_eq!(Utc::from_unix(seconds, nanos), at);
    }

    #[test]
    fn times_before_every_calendar_do_not_panic() {
        for at in [i64::MIN, -1, 0, i64::MAX] {
            assert_eq!(VERSION.id(Utc(at)).len(), 36);
        }
    }

    #[test]
    fn the_sender_tells_investigations_and_versions_apart() {
        assert_eq!(VERSION.sender_host("us.example"), "us.example/ABC.0");
        assert_eq!(Version { ordinal: 3, ..VERSION }.sender_host("us.example"), "us.example/ABC.3");
    }

    #[test]
    fn a_short_id_that_others_may_have_is_followed_by_a_hash_of_the_whole() {
        let sender = |record: &str| Version { record, ..VERSION }.sender_host("us.example");
        for (record, short) in [
            ("0d9e7a7a-53b6-4f0b-8a8e-1fb1b6b8ab1d", "0d9e7a7a-53b6-4f0b-8a8e-1fb1b6b8ab1d"),
            ("rrn:alerts:us1:org:alert:1:0123", "0123"),
            ("rrn:collaboration:us:org:comment:C", "C"),
            ("unidentified:7577d60ded2b91a0", "7577d60ded2b91a0"),
        ] {
            assert_eq!(sender(record), format!("us.example/{short}.0"));
        }
        let long = "x".repeat(64);
        for (one, other) in [
            (format!("{long}1"), format!("{long}2")),
            (format!("{}:T.a:1", VERSION.record), format!("{}:T.b:1", VERSION.record)),
            (format!("{}:T.1", VERSION.record), format!("{}D:T.1", VERSION.record)),
            ("a:1".to_owned(), "b:1".to_owned()),
        ] {
            assert_ne!(sender(&one), sender(&other));
        }
        assert!(sender("a:1").starts_with("us.example/1-") && sender("a:1").len() == "us.example/1-01234567.0".len());
    }
}
