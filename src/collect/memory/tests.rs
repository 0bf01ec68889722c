//! It is a map, whatever is done to it, and survives what is no block at all.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use std::collections::BTreeMap;

use super::super::checkpoint::Owed;
use super::block::marks_of;
use super::*;

fn known() -> impl Strategy<Value = Known> {
    (any::<i64>(), any::<u64>(), prop::collection::vec(any::<u64>(), 0..4), any::<bool>(), any::<bool>()).prop_map(
        |(created, fingerprint, alerts, owed, open)| Known {
            created,
            fingerprint,
            alerts,
            owed: if owed { Owed::Page(3) } else { Owed::Nothing },
            open,
            ..Known::default()
        },
    )
}

/// RRNs of one tenant: much in common, some the beginning of others, some not ASCII.
fn rrn() -> impl Strategy<Value = String> {
    "(rrn:investigation:us:[ab]{1,2}:)?[a-cäö]{0,4}"
}

#[test]
fn blocks_stay_well_filled_however_entries_come() {
    let mut memory = Memory::default();
    for number in 0..10_000_u64 {
        // In the order of nothing, a few at a time.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        memory.insert(format!("rrn:investigation:us:4be49362-6b0f-4a5b:{mixed:016x}"), Known::default());
        if number % 100 == 0 {
            memory.pack();
        }
    }
    memory.pack();
    let grown = memory.bytes();
    memory.retain(|_, _| true);
    assert_eq!(memory.len(), 10_000);
    assert!(grown * 10 <= memory.bytes() * 11, "{grown} bytes, {} packed anew", memory.bytes());
}

proptest! {
    #[test]
    fn texts_are_in_the_order_of_their_bytes(one in "[ab]{0,20}[äa]?", other in "[ab]{0,20}[äb]?") {
        prop_assert_eq!(order(one.as_bytes(), other.as_bytes()), one.cmp(&other));
        let same = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        prop_assert_eq!(common(one.as_bytes(), other.as_bytes()), same);
    }

    #[test]
    fn it_is_a_map(
        rounds in prop::collection::vec(prop::collection::vec((rrn(), known()), 0..200), 1..6),
        after in prop::option::of(rrn()),
        missing in rrn(),
    ) {
        let mut map = BTreeMap::new();
        let mut memory = Memory::default();
        for round in rounds {
            for (rrn, known) in round {
                map.insert(rrn.clone(), known.clone());
                memory.insert(rrn, known);
            }
            prop_assert_eq!(memory.len(), map.len());
            prop_assert!(memory.iter().eq(map.clone()));
            for (rrn, known) in &map {
                prop_assert_eq!(memory.get(rrn), Some(known.clone()));
            }
            prop_assert_eq!(memory.get(&missing), map.get(&missing).cloned());
            for marks in [OWED, OPEN, OWED | OPEN] {
                let wanted = |rrn: &String, known: &Known| {
                    marks_of(known) & marks != 0 && after.as_ref().is_none_or(|after| rrn > after)
                };
                let expected = map.clone().into_iter().filter(|(rrn, known)| wanted(rrn, known));
                let found = memory.scan(after.as_deref(), marks);
                prop_assert!(found.filter(|(rrn, known)| wanted(rrn, known)).eq(expected));
                prop_assert!(memory.scan(after.as_deref(), marks).all(|(rrn, _)| after.as_ref().is_none_or(|after| rrn > *after)));
            }
            memory.pack();
            let bytes = memory.into_buffer();
            let end = bytes.len();
            let read = Memory::stored(bytes, end).unwrap();
            prop_assert!(read.iter().eq(map.clone()));
            memory = read;
        }
        memory.retain(|_, known| known.open);
        map.retain(|_, known| known.open);
        prop_assert_eq!(memory.len(), map.len());
        prop_assert!(memory.iter().eq(map));
    }

    #[test]
    fn what_was_found_is_what_is_there_as_long_as_it_is_not_changed(
        before in prop::collection::vec((rrn(), known()), 0..100),
        changes in prop::collection::vec((rrn(), known()), 0..40),
        packs in any::<u64>(),
    ) {
        let mut memory: Memory = before.into_iter().collect();
        let rrns: Vec<String> = memory.iter().map(|(rrn, _)| rrn).chain(changes.iter().map(|(rrn, _)| rrn.clone())).collect();
        let found = rrns.iter().map(|rrn| memory.find(rrn)).collect::<Vec<_>>();
        for (at, (rrn, known)) in changes.into_iter().enumerate() {
            memory.insert(rrn, known);
            if packs >> at & 0xff == 0 {
                memory.pack();
            }
            for (rrn, found) in rrns.iter().zip(&found) {
                prop_assert_eq!(memory.again(rrn, found.clone()).into_known(), memory.get(rrn));
            }
        }
        memory.retain(|_, known| known.open);
        for (rrn, found) in rrns.iter().zip(found) {
            prop_assert_eq!(memory.again(rrn, found).into_known(), memory.get(rrn));
        }
    }

    #[test]
    fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..300), rrn in rrn()) {
        let mut buffer = vec![0; RESERVED];
        for _ in 0..2 {
            buffer.extend(block::head(&(ANY, bytes.len().min(7), bytes.len())));
            buffer.extend(&bytes);
        }
        let end = buffer.len();
        let mut memory = Memory::stored(buffer, end).unwrap();
        let _ = memory.get(&rrn);
        prop_assert!(memory.iter().count() <= 600);
        memory.insert(rrn.clone(), Known::default());
        memory.pack();
        prop_assert!(memory.iter().any(|(found, _)| found == rrn));
    }
}
