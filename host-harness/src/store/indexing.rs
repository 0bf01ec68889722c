//! The search text of the artifacts of a commit.
//!
//! Why two threads: taking the words out of an artifact takes as long as writing them into the index, and neither needs
//! the other. The writing stays where the transaction is; the words are taken out beside it, a few artifacts ahead.
//! Not guaranteed: that there is a second thread. Where none can be started, and for a few artifacts, one does both.

use std::sync::mpsc::{channel, sync_channel};
use std::thread;

use rusqlite::{CachedStatement, Transaction, params};

use super::text::Searchable;
use crate::contract::types::Artifact;

/// Artifacts that are handed over at a time.
const CHUNK: usize = 32;
/// Chunks that are ready before they are asked for.
const AHEAD: usize = 2;

/// Indexes new artifacts under their numbers.
pub(super) fn index(transaction: &Transaction<'_>, new: &[(i64, &Artifact)]) -> rusqlite::Result<()> {
    let mut row = transaction.prepare_cached(
        "INSERT INTO artifact_text (rowid, src_ip, dst_ip, hostname, user, severity, stream, text)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    thread::scope(|scope| {
        let (full, ready) = sync_channel(AHEAD);
        let (give_back, empty) = channel::<Vec<Searchable>>();
        if new.len() > CHUNK {
            let ahead = move || {
                for chunk in new.chunks(CHUNK) {
                    let texts = read(chunk, empty.try_recv().unwrap_or_default());
                    // Nobody waits for it after a failure of the store.
                    if full.send(texts).is_err() {
                        return;
                    }
                }
            };
            // If it cannot be started, nothing comes from it.
            drop(thread::Builder::new().name("search-text".to_owned()).spawn_scoped(scope, ahead));
        } else {
            drop(full);
        }
        let mut texts = Vec::new();
        for chunk in new.chunks(CHUNK) {
            texts = ready.recv().unwrap_or_else(|_| read(chunk, std::mem::take(&mut texts)));
            for ((seq, _), text) in chunk.iter().zip(&texts) {
                write(&mut row, *seq, text)?;
            }
            // It may have ended.
            let _ = give_back.send(std::mem::take(&mut texts));
        }
        Ok(())
    })
}

/// Takes out the words of some artifacts, into texts that are not needed any more.
fn read(chunk: &[(i64, &Artifact)], mut texts: Vec<Searchable>) -> Vec<Searchable> {
    texts.resize_with(chunk.len(), Searchable::default);
    for ((_, artifact), text) in chunk.iter().zip(&mut texts) {
        text.read(&artifact.stream, &artifact.json);
    }
    texts
}

/// Writes the row of one.
fn write(row: &mut CachedStatement<'_>, seq: i64, text: &Searchable) -> rusqlite::Result<()> {
    row.execute(params![
        seq,
        text.src_ip,
        text.dst_ip,
        text.hostname,
        text.user,
        text.severity,
        text.stream,
        text.text
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, artifact, batch, found, store};
    use super::CHUNK;

    #[test]
    fn however_many_come_at_once_each_is_found_by_its_own_words() {
        let (_dir, store, instance) = store();
        let chunk = u32::try_from(CHUNK).expect("small");
        let mut first = 0;
        for count in [1, chunk, chunk + 1, 9 * chunk + 7] {
            // Every third was there before, and has a word that is not indexed.
            let of = |number: u32, word: &str| artifact(number, &format!(r#","program":"{word}{number}""#));
            let last = first + count;
            let before = (first..last).step_by(3).map(|number| of(number, "old")).collect();
            let all = (first..last).map(|number| of(number, "new")).collect();
            store.commit_step(&instance, &batch(before, b""), NOW).expect("some");
            store.commit_step(&instance, &batch(all, b""), NOW).expect("all");
            for number in first..last {
                let (word, other) = if (number - first).is_multiple_of(3) { ("old", "new") } else { ("new", "old") };
                assert_eq!(found(&store, &format!("{word}{number}")), [u128::from(number)]);
                assert!(found(&store, &format!("{other}{number}")).is_empty());
            }
            first = last;
        }
    }

    #[test]
    fn a_store_that_fails_in_the_middle_of_the_words_keeps_nobody_waiting() {
        let (_dir, store, instance) = store();
        store.commit_step(&instance, &batch(vec![artifact(0, "")], b"good"), NOW).expect("first");
        // Words enough to be written out before the end.
        let words = |number: u32| (0..2_000).map(|word| format!("w{number}x{word} ")).collect::<String>();
        let all = (1..600).map(|number| artifact(number, &format!(r#","program":"{}""#, words(number)))).collect();
        store
            .database
            .with(|connection| {
                let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0))?;
                connection.execute_batch(&format!("PRAGMA max_page_count = {}", pages + 1_000))
            })
            .expect("limit");
        let failed = store.commit_step(&instance, &batch(all, b"bad"), NOW).expect_err("full");
        assert_eq!(failed.code(), "state-full");
        assert_eq!(store.counts().expect("counts").artifacts, 1);
        assert_eq!(store.checkpoint(&instance).expect("checkpoint").as_deref(), Some(&b"good"[..]));
    }
}
