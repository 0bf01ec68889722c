//! Removing secrets from a stream of bytes without changing its length.
//!
//! What: overwrites each occurrence of a secret with asterisks, also when it is spread over several chunks. The length
//! stays, so `content-length` stays true.
//! Why: some services echo request headers in errors; the guest must not learn the secret from such an answer.
//! Why the same number of bytes is held back whatever they are: a guest sees where one piece of a body ends and the
//! next begins. Were a piece shorter only when it ends in the beginning of a secret, a guest whose own words a vendor
//! repeats could find the secret letter by letter.
//! Cost: one vectorised search per form and chunk, and a copy of every chunk but the first. One byte less than the
//! longest form is held back until the body ends.
//! Not guaranteed: where one secret of a tenant begins with another whole one, and a chunk ends within the longer, the
//! rest of the longer passes.

use super::Redactor;
use bytes::{Bytes, BytesMut};

/// The scrubber of one response body.
#[derive(Debug)]
pub(super) struct Scrubber {
    redactor: Redactor,
    /// The end of what came, which may be the beginning of a secret.
    held: BytesMut,
}

impl Scrubber {
    /// A scrubber at the beginning of a stream.
    pub(super) fn new(redactor: Redactor) -> Self {
        Self { redactor, held: BytesMut::new() }
    }

    /// Takes the next chunk; gives what can be passed on now, which may be nothing. How much that is depends on the
    /// lengths of the chunks alone.
    pub(super) fn push(&mut self, mut chunk: Bytes) -> Bytes {
        // The longest comes first.
        let Some(longest) = self.redactor.needles().first().map(|needle| needle.needle().len()) else {
            return chunk;
        };
        let keep = longest.saturating_sub(1);
        if self.held.is_empty() && !self.redactor.finds_in(&chunk) {
            let tail = chunk.split_off(chunk.len().saturating_sub(keep));
            self.held.extend_from_slice(&tail);
            return chunk;
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(&chunk);
        self.overwrite(&mut bytes);
        self.held = bytes.split_off(bytes.len().saturating_sub(keep));
        bytes.freeze()
    }

    /// What was held back, at the end of the stream.
    pub(super) fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    /// Overwrites every occurrence.
    fn overwrite(&self, bytes: &mut [u8]) {
        for needle in self.redactor.needles() {
            let length = needle.needle().len();
            let mut from = 0;
            while let Some(at) = bytes.get(from..).and_then(|rest| needle.find(rest)) {
                let start = from + at;
                if let Some(found) = bytes.get_mut(start..start + length) {
                    found.fill(b'*');
                }
                from = start + length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Secrets;
    use super::*;
    use secrecy::SecretString;

    fn scrubber(values: &[&str]) -> Scrubber {
        let mut secrets = Secrets::new();
        for (at, value) in values.iter().enumerate() {
            secrets.insert(format!("key{at}"), SecretString::from(*value)).unwrap();
        }
        Scrubber::new(Redactor::new(&secrets))
    }

    fn run(values: &[&str], chunks: &[&[u8]]) -> Vec<u8> {
        let mut scrubber = scrubber(values);
        let mut out = Vec::new();
        for chunk in chunks {
            out.extend_from_slice(&scrubber.push(Bytes::copy_from_slice(chunk)));
        }
        out.extend_from_slice(&scrubber.finish());
        out
    }

    #[test]
    fn a_secret_is_overwritten_however_the_stream_is_cut() {
        let secret = "aab-aabc";
        let text = b"x aab-aab-aabc aab-aabcaab-aabc aab-aab".as_slice();
        let expected = b"x aab-******** **************** aab-aab".as_slice();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let chunks = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(run(&[secret], &chunks), expected, "cut at {first} and {second}");
            }
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(run(&[secret], &single), expected);
    }

    #[test]
    fn ordinary_bytes_pass_unchanged() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(run(&["0d9e7a7a-53b6-4f0b"], &[&all, &all]), [all.clone(), all].concat());
        // Without a secret they pass at once.
        let mut scrubber = scrubber(&[]);
        assert_eq!(scrubber.push(Bytes::from_static(b"{\"data\":[]}")), b"{\"data\":[]}".as_slice());
        assert!(scrubber.finish().is_empty());
    }

    #[test]
    fn where_a_body_is_cut_says_nothing_of_what_is_in_it() {
        let secret = "0d9e7a7a-53b6-4f0b";
        // A vendor that repeats what a guest has guessed: nothing of the secret, some of it, all but one letter, all.
        let lengths = |guess: &str, size: usize| -> Vec<usize> {
            let body = format!("{}{guess}", "x".repeat(200 - guess.len()));
            let mut scrubber = scrubber(&[secret]);
            let mut lengths: Vec<usize> =
                body.as_bytes().chunks(size).map(|chunk| scrubber.push(Bytes::copy_from_slice(chunk)).len()).collect();
            lengths.push(scrubber.finish().len());
            lengths
        };
        for size in [1, 7, 50, 64, 199, 200] {
            let expected = lengths("", size);
            for known in 1..=secret.len() {
                assert_eq!(lengths(&secret[..known], size), expected, "{known} letters, in pieces of {size}");
            }
        }
    }

    #[test]
    fn several_secrets_are_overwritten_in_one_stream() {
        assert_eq!(run(&["first", "second"], &[b"first sec", b"ond fir", b"st fi"]), b"***** ****** ***** fi");
    }
}
