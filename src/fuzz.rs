//! Targets for fuzzers: bytes from outside go in, and nothing may panic or
//! grow beyond a bound.
//!
//! Used by the property tests on stable (`tests/connector/fuzz.rs`) and by the
//! coverage-guided targets in `fuzz/`. Not part of the component.

use serde_json::value::RawValue;

use crate::api::paging;
use crate::api::rate;
use crate::api::transport::Response;
use crate::artifact::alert::{Alert, Context};
use crate::artifact::extra::{Extra, Kind};
use crate::artifact::investigation::Investigation;
use crate::artifact::triage_alert::TriageAlert;
use crate::artifact::{evidence, message};
use crate::collect::checkpoint::{Checkpoint, FORMAT, MAX_BYTES, checksum};
use crate::times::Utc;

/// Times more bytes that an artifact may have than its record: escapes double
/// a message, and names and identity come on top.
const MOST: usize = 3;

/// Reads a response as each of the vendor's lists.
pub fn responses(bytes: &[u8]) {
    let mut rows = 0;
    for index in [0, 1] {
        rows += paging::v2(bytes, index).map_or(0, |page| page.rows.len());
        rows += paging::triage(bytes, index).map_or(0, |page| page.rows.len());
        rows += paging::triage_rrns(bytes, index).map_or(0, |page| page.rows.len());
        rows += paging::comments(bytes, index, 100).map_or(0, |page| page.rows.len());
    }
    rows += paging::bare(bytes).map_or(0, |rows| rows.len());
    rows += paging::listed(bytes, &["alerts", "indicator_occurrences"]).map_or(0, |rows| rows.len());
    assert!(rows <= bytes.len().saturating_mul(10), "rows come from bytes");
}

/// Maps a record, and every element of a list, as each kind of record.
pub fn mapping(bytes: &[u8]) {
    let Ok(raw) = serde_json::from_slice::<Box<RawValue>>(bytes) else { return };
    let members = crate::api::records::Members::of(&raw);
    let rows = ["data", "evidences", "alerts", "indicator_occurrences"].iter().flat_map(|name| members.list(name));
    for raw in rows.chain([raw.as_ref().into()]) {
        let investigation = Investigation::of(raw);
        let alert = Alert::of(raw);
        let mut context = Context { evidence: vec![message::line(raw)], ..Context::default() };
        context.entities.fill_from(evidence::entities(raw));
        let now = Utc(0);
        let mut artifacts = vec![
            investigation.artifact(0, "us.example", &[], now),
            investigation.artifact(u32::MAX, "us.example", &[], now),
            alert.artifact(&investigation, context.clone(), 0, "us.example", now),
            TriageAlert::of(raw).artifact(context, "us.example", now, |_| false),
        ];
        for kind in [Kind::ProductAlert, Kind::Comment, Kind::Restricted] {
            let all = Extra::all_of(kind, raw, &investigation);
            artifacts.extend(all.iter().map(|extra| extra.artifact(&investigation, "us.example", now)));
        }
        for artifact in artifacts {
            let artifact = artifact.into_contract("alerts");
            assert!(!artifact.json.contains('\n'), "an artifact is one line");
            // What reads it here follows no deeper than that.
            let is_deep = bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > 100;
            assert!(serde_json::from_str::<serde_json::Value>(&artifact.json).is_ok() || is_deep, "it is JSON");
            assert!(
                artifact.json.len() <= raw.get().len().saturating_mul(4 * MOST).saturating_add(8_192),
                "it is bounded"
            );
        }
    }
}

/// Reads a checkpoint, and the same with a header that fits, so that what is
/// behind it is reached too; what can be read can be written and read again.
pub fn checkpoint(bytes: &[u8]) {
    let mut candidates = vec![bytes.to_vec()];
    for format in 1..=FORMAT {
        let mut sealed = b"R7IDR".to_vec();
        sealed.push(format);
        sealed.extend_from_slice(&checksum(format, bytes).to_le_bytes());
        sealed.extend_from_slice(bytes);
        candidates.push(sealed);
    }
    for bytes in candidates {
        if let Ok(checkpoint) = Checkpoint::decode(bytes)
            && let Ok(written) = checkpoint.clone().encode()
        {
            assert!(written.len() <= MAX_BYTES || checkpoint.known.is_empty(), "it is bounded");
            assert_eq!(Checkpoint::decode(written).as_ref(), Ok(&checkpoint), "what is written is read");
        }
    }
}

/// Reads lines of `name: value` as the headers of a response.
pub fn headers(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let headers = text
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let response = Response { status: 429, headers, body: bytes.to_vec() };
    for now in [Utc(0), Utc(1_768_478_400_000_000)] {
        let rate = rate::read(&response, now);
        assert!(rate.wait.is_none_or(|wait| wait <= 86_400), "a wait that nobody means is not believed");
    }
}
