//! What a guest sees of an answer besides its words: the pieces it comes in, and what it is packed in.

use super::*;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use wasmtime_wasi_http::Error;

/// Bytes of every piece but the last.
const PIECE: usize = 16 * 1024;

/// A server that sends these one after the other, each when the one before has arrived.
async fn in_parts(parts: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut seen).await.unwrap();
        }
        for part in parts {
            stream.write_all(&part).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    address
}

/// The pieces in which a gate hands a body over.
async fn pieces(address: SocketAddr) -> Vec<Result<Bytes, Error>> {
    let gate = Setup::routed(address).gate();
    let mut body = send(&gate, request("https://api.example.com/v1/x")).await.unwrap().into_body();
    let mut pieces = Vec::new();
    while let Some(frame) = body.frame().await {
        pieces.push(frame.map(|frame| frame.into_data().unwrap()));
    }
    pieces
}

/// Letters that cannot be compressed much.
fn noise(count: usize) -> String {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[(state >> 26) as usize])
    };
    (0..count).map(|_| next()).collect()
}

#[tokio::test]
async fn where_a_compressed_body_is_cut_says_nothing_of_what_is_in_it() {
    let mut all = Vec::new();
    for known in 0..=SECRET.len() {
        // A vendor that repeats the guest's words, here a guess, many times beside the credential.
        let guess = format!("{}{}", &SECRET[..known], "!?%$&/()=+*#~|<"[..SECRET.len() - known].to_owned());
        let text = format!("{SECRET} {}{}", format!("{guess} {}", noise(3)).repeat(400), noise(40_000));
        let packed = gzip(text.as_bytes());
        // What fits into the first packet, however much it holds.
        let (first, second) = packed.split_at(5_000);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", packed.len());
        let address = in_parts(vec![[head.as_bytes(), first].concat(), second.to_vec()]).await;
        let pieces: Vec<Bytes> = pieces(address).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(pieces.concat(), text.replace(SECRET, &"*".repeat(SECRET.len())).as_bytes(), "{known}");
        all.push(pieces.iter().map(Bytes::len).collect::<Vec<_>>());
    }
    let (first, others) = all.split_first().unwrap();
    assert!(first.len() > 2 && first[..first.len() - 1].iter().all(|length| *length == PIECE), "{first:?}");
    for (known, lengths) in others.iter().enumerate() {
        assert_eq!(lengths, first, "{} letters", known + 1);
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_hands_over_whole_pieces_only() {
    let body = noise(PIECE + 5_000);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len() + 1);
    let pieces = pieces(in_parts(vec![head.into_bytes()]).await).await;
    let lengths: Vec<Option<usize>> = pieces.iter().map(|piece| piece.as_ref().ok().map(Bytes::len)).collect();
    assert_eq!(lengths, [Some(PIECE), None], "{:?}", pieces.last());
    assert!(matches!(pieces[1], Err(Error::HttpResponseIncomplete)), "{:?}", pieces[1]);
}

#[tokio::test]
async fn a_short_answer_comes_whole_however_it_arrives() {
    let parts = ["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", "def", "ghi"].map(|part| part.as_bytes().to_vec());
    let pieces: Vec<Bytes> = pieces(in_parts(parts.to_vec()).await).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(pieces, ["abcdefghi"]);
}

#[tokio::test]
async fn what_is_compressed_twice_is_not_passed_on() {
    let once = gzip(SECRET.as_bytes());
    let twice = gzip(&once);
    for (codings, body, passes) in [
        ("content-encoding: gzip\r\n", &once, true),
        ("content-encoding: gzip\r\ncontent-encoding: gzip\r\n", &twice, false),
        ("content-encoding: gzip\r\ncontent-encoding: br\r\n", &twice, false),
        ("content-encoding: gzip\r\nContent-Encoding: identity\r\n", &once, false),
        ("content-encoding: gzip, gzip\r\n", &twice, false),
    ] {
        let answer = response(codings, body);
        let server = Server::start(move |_| Reply::Pieces(vec![answer.clone()])).await;
        match get(&gate_to(&server)).await {
            Ok((_, body)) => assert!(passes && body.unwrap() == "*".repeat(SECRET.len()), "{codings}"),
            Err(error) => assert!(!passes && matches!(error, Error::HttpResponseContentCoding(_)), "{error:?}"),
        }
    }
}
