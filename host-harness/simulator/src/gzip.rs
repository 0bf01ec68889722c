//! Compression, ordinary and malicious.

use std::io::Write;

use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc};
use http::{HeaderValue, header};

use crate::message::{Reply, Request};

/// One mebibyte of blanks, the unit of a bomb.
static UNIT: [u8; 1 << 20] = [b' '; 1 << 20];

/// The bytes as gzip; as they are if that fails, which memory writers do not.
pub(crate) fn compress(body: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

/// A gzip stream of the body followed by so many mebibytes of blanks, made without ever holding them.
///
/// Each block is byte-aligned and refers to nothing before it, so the block of one mebibyte is compressed once and
/// repeated. Length and checksum are right: a client that does inflate it all gets valid JSON.
pub(crate) fn bomb(body: &[u8], megabytes: usize) -> Option<Vec<u8>> {
    let block = |bytes: &[u8]| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).ok()?;
        encoder.flush().ok()?;
        Some(encoder.get_ref().clone())
    };
    let (first, unit) = (block(body)?, block(&UNIT)?);
    let mut checksum = Crc::new();
    checksum.update(body);
    let mut of_unit = Crc::new();
    of_unit.update(&UNIT);
    let mut out = vec![0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 2, 255];
    out.extend_from_slice(&first);
    for _ in 0..megabytes {
        out.extend_from_slice(&unit);
        checksum.combine(&of_unit);
    }
    // An empty last block.
    out.extend_from_slice(&[0x03, 0x00]);
    out.extend_from_slice(&checksum.sum().to_le_bytes());
    let length = body.len().wrapping_add(megabytes.wrapping_mul(UNIT.len()));
    out.extend_from_slice(&(length as u32).to_le_bytes());
    Some(out)
}

/// Compresses a body for a client that takes gzip, unless a fault has had its way with the encoding.
pub(crate) fn compress_reply(reply: &mut Reply, request: &Request) {
    let accepted = request.headers.get(header::ACCEPT_ENCODING).and_then(|names| names.to_str().ok());
    let wanted = accepted.is_some_and(|names| names.split(',').any(|name| name.trim().starts_with("gzip")));
    if !wanted || reply.headers.contains_key(header::CONTENT_ENCODING) || reply.body.is_empty() {
        return;
    }
    if let Some(packed) = compress(&reply.body) {
        reply.body = packed.into();
        reply.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn a_bomb_is_small_valid_and_large_inside() {
        let bomb = bomb(b"{\"data\":[]}", 8).unwrap();
        assert!(bomb.len() < 20_000, "{}", bomb.len());
        let mut inside = String::new();
        GzDecoder::new(bomb.as_slice()).read_to_string(&mut inside).unwrap();
        assert_eq!(inside.len(), 11 + 8 * (1 << 20));
        assert!(serde_json::from_str::<serde_json::Value>(&inside).is_ok());
    }

    #[test]
    fn compression_round_trips() {
        let packed = compress(b"hello hello hello").unwrap();
        let mut inside = String::new();
        GzDecoder::new(packed.as_slice()).read_to_string(&mut inside).unwrap();
        assert_eq!(inside, "hello hello hello");
    }
}
