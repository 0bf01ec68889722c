//! Removing secrets from a stream of bytes without changing its length.
//!
//! What: overwrites each occurrence of a secret with asterisks, also when it is spread over several chunks. The length
//! stays, so `content-length` stays true.
//! Why: some services echo request headers in errors; the guest must not learn the secret from such an answer.
//! Cost: one vectorised search per form and chunk, and a copy of a chunk only when something is found in it or held
//! back from the one before. At most one byte less than the longest form is ever held back, and only when the end of
//! a chunk is the beginning of a form.
//! Not guaranteed: where one secret of a tenant begins with another whole one, and a chunk ends exactly after the
//! shorter, the rest of the longer passes.

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

    /// Takes the next chunk; gives what can be passed on now, which may be nothing.
    pub(super) fn push(&mut self, chunk: Bytes) -> Bytes {
        if self.redactor.needles().is_empty() {
            return chunk;
        }
        if self.held.is_empty() && !self.redactor.finds_in(&chunk) {
            let keep = self.prefix_at_end(&chunk);
            let mut chunk = chunk;
            let tail = chunk.split_off(chunk.len().saturating_sub(keep));
            self.held.extend_from_slice(&tail);
            return chunk;
        }
        let mut bytes = std::mem::take(&mut self.held);
        bytes.extend_from_slice(&chunk);
        self.overwrite(&mut bytes);
        let keep = self.prefix_at_end(&bytes);
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

    /// How many bytes at the end are a beginning, not the whole, of some form.
    fn prefix_at_end(&self, bytes: &[u8]) -> usize {
        let mut keep = 0;
        for needle in self.redactor.needles() {
            let needle = needle.needle();
            let longest = needle.len().saturating_sub(1).min(bytes.len());
            let found = (keep + 1..=longest)
                .rev()
                .find(|length| needle.get(..*length).is_some_and(|prefix| bytes.ends_with(prefix)));
            keep = found.unwrap_or(keep);
        }
        keep
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
    fn ordinary_bytes_pass_unchanged_and_at_once() {
        let mut scrubber = scrubber(&["0d9e7a7a-53b6"]);
        assert_eq!(scrubber.push(Bytes::from_static(b"{\"data\":[]}")), b"{\"data\":[]}".as_slice());
        assert!(scrubber.finish().is_empty());
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(run(&["0d9e7a7a-53b6"], &[&all, &all]), [all.clone(), all].concat());
    }

    #[test]
    fn several_secrets_are_overwritten_in_one_stream() {
        assert_eq!(run(&["first", "second"], &[b"first sec", b"ond fir", b"st fi"]), b"***** ****** ***** fi");
    }
}
