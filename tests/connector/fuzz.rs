//! Whatever a vendor, an attacker or a disk makes of the bytes: no panic, and
//! nothing that grows without bound.
//!
//! The same functions are the targets of `fuzz/` for a coverage-guided fuzzer;
//! here they run on stable, with inputs that begin as what is real and are then
//! damaged, besides arbitrary bytes.

use proptest::prelude::*;
use rapid7_insightidr::fuzz;

/// Inputs that come close to what is real.
const SEEDS: [&str; 9] = [
    r#"{"data":[{"rrn":"rrn:investigation:us:o:investigation:A","created_time":"2026-01-01T00:00:00.5Z","status":"OPEN","tags":["x"],"assignee":{"name":"a","email":""}}],"metadata":{"index":0,"size":1,"total_pages":1,"total_data":1}}"#,
    r#"{"data":[{"id":"rrn:alerts:us1:o:alert:1:ab","detection_rule_rrn":{"rule_name":"N","rule_rrn":"r"},"created_time":"2026-01-01T00:00:00Z"}],"metadata":{"index":0,"size":1,"total_pages":1,"total_data":1}}"#,
    r#"{"evidences":[{"rrn":"e","data":"{\"process\":{\"name\":\"a.exe\",\"hashes\":{\"md5\":\"d41d8cd98f00b204e9800998ecf8427e\"}}}"}],"metadata":{"index":0,"size":100,"items_in_index":1,"total_items":1,"is_last_index":true}}"#,
    r#"{"alerts":[{"rrn":"r","rule":{"mitre_tcodes":["T1110","Credential Access"]},"organization":{"product_token":"x"},"rule_keys_of_interest":[{"key":"account","values":["a"]}]}],"region_failures":[]}"#,
    r#"[{"type":"THREAT_COMMAND","threat_command_details":{"alert_id":"1"}},{"type":"X","insight_agent_details":[{"alert_id":2}]}]"#,
    r#"{"indicator_occurrences":[{"headline":"h","start_time":"2026-01-01T00:00:00Z","evidence":[{"details":{"content":"{}","logline":"{\"user\":1}"}}]}]}"#,
    "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\nRateLimit-Remaining: 249\nX-RateLimit-Reset: 1e99\nR7-Correlation-Id: x",
    "R7IDR\u{1}",
    "\"\\ud800\\u0000\"",
];

/// A seed with pieces taken out, doubled and overwritten, or arbitrary bytes.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let damaged = (
        prop::sample::select(SEEDS.to_vec()),
        prop::collection::vec((any::<prop::sample::Index>(), 0_u8..4, any::<u8>(), 1_usize..40), 0..8),
    )
        .prop_map(|(seed, damage)| {
            let mut bytes = seed.as_bytes().to_vec();
            for (at, how, byte, length) in damage {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                let end = (at + length).min(bytes.len());
                match how {
                    0 => drop(bytes.drain(at..end)),
                    1 => bytes[at] = byte,
                    2 => {
                        let piece = bytes[at..end].to_vec();
                        bytes.splice(at..at, piece);
                    }
                    _ => drop(bytes.splice(at..at, std::iter::repeat_n(b"[{\"\\"[usize::from(byte % 4)], length))),
                }
            }
            bytes
        });
    prop_oneof![4 => damaged, 1 => prop::collection::vec(any::<u8>(), 0..512)]
}

/// What is behind the header of a checkpoint that an earlier version, or this one, has written: damaged.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let bodies: Vec<Vec<u8>> = (1..=7)
        .map(|format| std::fs::read(format!("tests/fixtures/checkpoint-format-{format}.bin")).unwrap())
        .map(|bytes| bytes[14..].to_vec())
        .collect();
    let damage = prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3, any::<u8>(), 1_usize..9), 0..4);
    (prop::sample::select(bodies), damage).prop_map(|(mut bytes, damage)| {
        for (at, how, byte, length) in damage {
            let at = at.index(bytes.len().max(1));
            let end = (at + length).min(bytes.len());
            match how {
                0 => drop(bytes.drain(at.min(end)..end)),
                1 if at < bytes.len() => bytes[at] = byte,
                _ => drop(bytes.splice(at.min(end)..at.min(end), std::iter::repeat_n(byte, length))),
            }
        }
        bytes
    })
}

fn config() -> ProptestConfig {
    let cases = std::env::var("SOAK_CASES").ok().and_then(|cases| cases.parse::<u32>().ok()).map_or(2_000, |n| n * 100);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn responses_are_read_or_refused(bytes in input()) {
        fuzz::responses(&bytes);
    }

    #[test]
    fn records_are_mapped_whatever_they_are(bytes in input()) {
        fuzz::mapping(&bytes);
    }

    #[test]
    fn checkpoints_are_read_or_refused(bytes in input()) {
        fuzz::checkpoint(&bytes);
    }

    #[test]
    fn damaged_checkpoints_that_have_the_right_checksum_are_read_or_refused(bytes in body()) {
        fuzz::checkpoint(&bytes);
    }

    #[test]
    fn headers_are_read_or_ignored(bytes in input()) {
        fuzz::headers(&bytes);
    }
}
