//! What is written is read, of every format; damage is told; bounds are kept.

use super::super::condensed::{Kept, Trace};
use super::super::organization::Seen;
use super::*;

fn sample() -> Checkpoint {
    let known = Known {
        created: 5,
        fingerprint: u64::MAX,
        ordinal: 3,
        alerts: vec![1, u64::MAX],
        owed: Owed::Page(2),
        open: true,
        silent: true,
        listed: 7,
    };
    Checkpoint {
        host: "us.api.insight.rapid7.com".to_owned(),
        watermark: Some(Utc(1)),
        window: Some(Window { after: Utc(-5), before: Utc(7), index: 1 }),
        floor: Some(Utc(-9)),
        gained: Some(Utc(2)),
        relisted: None,
        number: 7,
        cycle: Some(Cycle { began: Utc(9), phase: Phase::Owed(Some("rrn:a".to_owned())) }),
        known: [("rrn:ä".to_owned(), known.clone()), ("rrn:ö".to_owned(), known.clone()), ("s".to_owned(), known)]
            .into_iter()
            .collect(),
        triage: Access::Unavailable(403, Utc(3)),
        rate_limited: 1,
        beyond: Beyond {
            uninvestigated: Some(Utc(4)),
            outside: [(1, -1), (u64::MAX, i64::MAX)].into(),
            outside_failures: 2,
            extras: [Access::Available, Access::Unknown, Access::Unavailable(404, Utc(5))],
            listed: [Some(Utc(6)), None],
        },
        forgotten: Some(Utc(7)),
        condensed: Condensed::default(),
        since_7: Since7 {
            organization: Organization { seen: Seen::One(u64::MAX), moves: 2, since: Some(Utc(8)) },
            status: 403,
            refused: [None, Some(Utc(9))],
        },
        since_8: Since8 {
            passes: vec![Pass { rrn: u64::MAX, began: Utc(10), through: Some(Utc(-10)) }],
            beside: 11,
            unfiltered: Some(Utc(12)),
        },
        bounds: Bounds::default(),
    }
}

#[test]
fn what_is_forgotten_with_work_left_to_do_is_not_taken_for_done() {
    let known = |created, owed| Known { created, fingerprint: 7, owed, listed: 1, ..Known::default() };
    let entry = |number: i64, owed| (format!("rrn:{number:06}"), known(number * 1_000_000, owed));
    let more = 2_000;
    let all = i64::try_from(MAX_KNOWN).unwrap() + more;
    let mut state = Checkpoint::new("h");
    state.known = (0..all)
        .map(|number| entry(number, if number < more { Owed::Nothing } else { Owed::Failed(1, Utc(0)) }))
        .collect();
    let state = Checkpoint::decode(state.encode().unwrap()).unwrap();
    let kept = |number: i64| {
        let (rrn, known) = entry(number, Owed::Nothing);
        (state.known.get(&rrn).is_some(), state.condensed.look_up(&[Trace::of(&rrn, known.created, 7)])[0])
    };
    assert_eq!(kept(0), (false, Kept::Same));
    let owed = (more..all).find(|number| !kept(*number).0).expect("some of them had to make room");
    assert_eq!(kept(owed), (false, Kept::Owed));
}

#[test]
fn what_is_written_is_read() {
    let bytes = sample().encode().unwrap();
    assert_eq!(Checkpoint::decode(bytes).unwrap(), sample());
}

/// Kept as written by the version that introduced each format; see
/// `tests/fixtures`.
#[test]
fn every_format_that_was_ever_written_is_read() {
    let bytes: [&[u8]; 8] = [
        include_bytes!("../../../tests/fixtures/checkpoint-format-1.bin"),
        include_bytes!("../../../tests/fixtures/checkpoint-format-2.bin"),
        include_bytes!("../../../tests/fixtures/checkpoint-format-3.bin"),
        include_bytes!("../../../tests/fixtures/checkpoint-format-4.bin"),
        include_bytes!("../../../tests/fixtures/checkpoint-format-5.bin"),
        include_bytes!("../../../tests/fixtures/checkpoint-format-6.bin"),
        include_bytes!("../../../tests/fixtures/checkpoint-format-7.bin"),
        include_bytes!("../../../tests/fixtures/checkpoint-format-8.bin"),
    ];
    for (format, bytes) in (1..).zip(bytes) {
        assert_eq!(bytes.get(5), Some(&format));
        let checkpoint = Checkpoint::decode(bytes.to_vec()).unwrap();
        assert_eq!(checkpoint.host, "us.api.insight.rapid7.com");
        assert!(!checkpoint.known.is_empty() && checkpoint.cycle.is_some());
        assert_eq!(checkpoint.beyond == Beyond::default(), format == 1, "format {format}");
        assert_eq!(checkpoint.since_7 == Since7::default(), format < 7, "format {format}");
        assert_eq!(checkpoint.since_8 == Since8::default(), format < 8, "format {format}");
        // And written in the newest.
        let again = checkpoint.clone().encode().unwrap();
        assert_eq!(again.get(5), Some(&FORMAT));
        assert_eq!(Checkpoint::decode(again).unwrap(), checkpoint);
    }
}

#[test]
fn every_damage_is_a_typed_failure() {
    let good = sample().encode().unwrap();
    for position in 0..good.len() {
        let mut bad = good.clone();
        bad[position] ^= 0x55;
        assert_eq!(Checkpoint::decode(bad).unwrap_err().reason, FailureReason::CheckpointUnreadable, "byte {position}");
        let cut = good[..position].to_vec();
        assert_eq!(Checkpoint::decode(cut).unwrap_err().reason, FailureReason::CheckpointUnreadable);
    }
    let mut newer = good;
    newer[5] = FORMAT + 1;
    assert!(Checkpoint::decode(newer).unwrap_err().message.contains("written by a newer version"));
}

#[test]
fn of_a_few_that_are_too_large_together_most_are_kept() {
    let mut checkpoint = Checkpoint::new("h");
    checkpoint.bounds.bytes = 100_000;
    for number in 0..9i64 {
        // Of no order, so that they do not become small.
        let alerts = (0..2_000_u64).map(|at| at.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ number as u64).collect();
        checkpoint.known.insert(
            format!("rrn:investigation:us:org:investigation:{number:012}"),
            Known { created: number, alerts, ..Known::default() },
        );
    }
    let checkpoint = Checkpoint::decode(checkpoint.encode().unwrap()).unwrap();
    let kept: Vec<i64> = checkpoint.known.iter().map(|(_, known)| known.created).collect();
    assert!(kept.len() >= 4 && kept.last() == Some(&8), "{kept:?}");
}

#[test]
fn it_stays_within_its_bounds_and_forgets_the_oldest_without_work_first() {
    let mut checkpoint = Checkpoint::new("h");
    for number in 0..30_000i64 {
        let owed = if number == 0 { Owed::Page(1) } else { Owed::Nothing };
        let alerts = vec![u64::MAX; 20];
        checkpoint.known.insert(
            format!("rrn:investigation:us:org:investigation:{number:012}"),
            Known { created: number, alerts, owed, ..Known::default() },
        );
    }
    let bytes = checkpoint.encode().unwrap();
    assert!(bytes.len() <= MAX_BYTES);
    let checkpoint = Checkpoint::decode(bytes).unwrap();
    let first = checkpoint.known.iter().next().unwrap().1;
    assert_eq!((first.created, first.owed), (0, Owed::Page(1)), "work left to do is kept");
    assert_eq!(checkpoint.known.iter().last().unwrap().1.created, 29_999, "the newest is kept");
    assert!(checkpoint.known.len() > 1_000);
}
