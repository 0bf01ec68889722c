//! The bus over a made-up server that speaks as much of NATS as it takes, and fails as a server can.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::super::{DrainError, drain};
use super::*;
use crate::contract::types::{Artifact, Batch};
use crate::locks::lock;
use crate::store::{Instance, Store};

/// What a server does with messages.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Stores all.
    Stores,
    /// Stores so many, and ends the connection then.
    EndsAfter(usize),
    /// Has no stream.
    HasNoStream,
    /// Has no room.
    IsFull,
    /// Stores none of so many bytes.
    StoresLess(usize),
    /// Lets nobody in.
    RefusesAll,
}

/// A server.
struct Server {
    address: String,
    /// What it does from the next connection on.
    does: Arc<Mutex<Does>>,
    /// What clients said when they came.
    came: Arc<Mutex<Vec<Value>>>,
    /// Messages in their order: subject, headers, body.
    stored: Arc<Mutex<Vec<(String, String, String)>>>,
}

impl Server {
    async fn start(does: Does) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let server = Self {
            address: format!("nats://{}", listener.local_addr().expect("address")),
            does: Arc::new(Mutex::new(does)),
            came: Arc::default(),
            stored: Arc::default(),
        };
        let (does, came, stored) = (Arc::clone(&server.does), Arc::clone(&server.came), Arc::clone(&server.stored));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let does = *lock(&does);
                // A client that goes ends it.
                tokio::spawn(serve(stream, does, Arc::clone(&came), Arc::clone(&stored)));
            }
        });
        server
    }

    /// The ids of what it has stored, as it would tell messages apart.
    fn ids(&self) -> BTreeMap<String, usize> {
        let mut ids = BTreeMap::new();
        for (_, headers, _) in lock(&self.stored).iter() {
            let id = headers.lines().find_map(|line| line.strip_prefix("Nats-Msg-Id: ")).expect("an id");
            *ids.entry(id.to_owned()).or_default() += 1;
        }
        ids
    }

    fn sink(&self, form: LineForm) -> BusSink {
        BusSink::new(config(&self.address, None), NetworkOptions::default(), form)
    }
}

/// Serves one client.
async fn serve(
    stream: TcpStream,
    does: Does,
    came: Arc<Mutex<Vec<Value>>>,
    stored: Arc<Mutex<Vec<(String, String, String)>>>,
) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let info = json!({
        "server_id": "S", "server_name": "S", "version": "2.10.0", "go": "", "host": "127.0.0.1", "port": 4222,
        "headers": true, "max_payload": 2_000, "proto": 1, "client_id": 1,
        "connect_urls": ["127.0.0.1:1"],
    });
    write.write_all(format!("INFO {info}\r\n").as_bytes()).await?;
    let (mut of_connection, mut sid) = (0, String::new());
    loop {
        let mut line = String::new();
        if read.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["CONNECT", ..] => {
                lock(&came).push(serde_json::from_str(line.trim_start_matches("CONNECT").trim()).expect("JSON"));
                if does == Does::RefusesAll {
                    write.write_all(b"-ERR 'Authorization Violation'\r\n").await?;
                    return Ok(());
                }
            }
            ["SUB", _, of_client] => sid = (*of_client).to_owned(),
            ["PING"] => write.write_all(b"PONG\r\n").await?,
            ["HPUB", subject, reply, of_headers, all] => {
                let (of_headers, all): (usize, usize) = (of_headers.parse().expect("n"), all.parse().expect("n"));
                let mut message = vec![0; all + 2];
                read.read_exact(&mut message).await?;
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                if does == Does::EndsAfter(of_connection) {
                    return Ok(());
                }
                of_connection += 1;
                let answer = match does {
                    Does::HasNoStream => {
                        let none = "NATS/1.0 503\r\n\r\n";
                        format!("HMSG {reply} {sid} {0} {0}\r\n{none}\r\n", none.len())
                    }
                    Does::IsFull => {
                        let error = json!({ "error": { "code": 503, "err_code": 10077, "description": "maximum messages exceeded" } });
                        let error = error.to_string();
                        format!("MSG {reply} {sid} {}\r\n{error}\r\n", error.len())
                    }
                    Does::StoresLess(most) if all - of_headers >= most => {
                        let error = json!({ "error": { "code": 400, "err_code": 10054, "description": "message size exceeds maximum allowed" } });
                        let error = error.to_string();
                        format!("MSG {reply} {sid} {}\r\n{error}\r\n", error.len())
                    }
                    _ => {
                        let (headers, body) = message[..all].split_at(of_headers);
                        let mut stored = lock(&stored);
                        stored.push(((*subject).to_owned(), text(headers), text(body)));
                        let ack = json!({ "stream": "DATA", "seq": stored.len() }).to_string();
                        format!("MSG {reply} {sid} {}\r\n{ack}\r\n", ack.len())
                    }
                };
                write.write_all(answer.as_bytes()).await?;
            }
            _ => {}
        }
    }
}

fn config(address: &str, credentials: Option<Source>) -> BusConfig {
    BusConfig {
        server: address.parse().expect("address"),
        subject: Subject::new("acme.data.artifacts.raw").expect("subject"),
        credentials,
    }
}

/// A store with so many artifacts, one of which has so many bytes more.
fn store(count: u128, large: Option<(u128, usize)>) -> (tempfile::TempDir, Store, Instance) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(dir.path()).expect("store");
    let instance = store.instance("Müller & Söhne", "acme-siem", OffsetDateTime::UNIX_EPOCH).expect("instance");
    let artifact = |number: u128| {
        let id = uuid::Uuid::from_u128(number).to_string();
        let more = large.filter(|(at, _)| *at == number).map_or(String::new(), |(_, bytes)| "x".repeat(bytes));
        Artifact { json: json!({ "id": id, "message": more }).to_string(), id, stream: "events".into() }
    };
    let batch = Batch {
        artifacts: (0..count).map(artifact).collect(),
        checkpoint: Vec::new(),
        more: false,
        reports: Vec::new(),
        retry_after_seconds: None,
        hint: None,
    };
    store.commit_step(&instance, &batch, OffsetDateTime::UNIX_EPOCH).expect("committed");
    (dir, store, instance)
}

fn waiting(store: &Store) -> u64 {
    store.counts().expect("counts").undelivered
}

#[tokio::test]
async fn every_artifact_is_a_message_with_its_id_and_the_server_that_is_named_is_the_only_one() {
    let server = Server::start(Does::Stores).await;
    let (_dir, store, instance) = store(2_500, None);
    let mut delivered = 0;
    let mut sink = server.sink(LineForm::Artifact);
    drain(&store, &instance, &mut sink, &mut delivered).await.expect("delivered");
    assert_eq!((delivered, waiting(&store), server.ids().len()), (2_500, 0, 2_500));
    let stored = lock(&server.stored);
    let expected: Vec<String> = (0..2_500).map(|n| uuid::Uuid::from_u128(n).to_string()).collect();
    let ids: Vec<String> = stored
        .iter()
        .map(|(_, _, body)| serde_json::from_str::<Value>(body).expect("JSON")["id"].as_str().expect("id").to_owned())
        .collect();
    assert_eq!(ids, expected, "in their order");
    let (subject, headers, _) = &stored[0];
    assert_eq!(subject, "acme.data.artifacts.raw");
    assert_eq!(headers, &format!("NATS/1.0\r\nNats-Msg-Id: {}\r\n\r\n", expected[0]));
    assert_eq!(lock(&server.came).len(), 1, "over one connection");
    assert_eq!(lock(&server.came)[0]["name"].as_str().map(|name| name.starts_with("host-harness ")), Some(true));
}

#[tokio::test]
async fn with_its_instance_a_message_says_whose_it_is_and_is_told_from_the_same_of_another() {
    let server = Server::start(Does::Stores).await;
    let (_dir, store, instance) = store(1, None);
    drain(&store, &instance, &mut server.sink(LineForm::WithInstance), &mut 0).await.expect("delivered");
    let id = uuid::Uuid::from_u128(0);
    assert_eq!(server.ids().into_keys().collect::<Vec<_>>(), [format!("M%C3%BCller+%26+S%C3%B6hne/{id}")]);
    let body: Value = serde_json::from_str(&lock(&server.stored)[0].2).expect("JSON");
    assert_eq!((&body["instance"], &body["artifact"]["id"]), (&"Müller & Söhne".into(), &id.to_string().into()));
}

#[tokio::test]
async fn what_is_not_stored_waits_and_comes_again_with_the_same_id() {
    let (_dir, store, instance) = store(30, None);
    let server = Server::start(Does::EndsAfter(10)).await;
    // Nobody answers on a connection that has ended: that takes its time for each of them.
    let impatient = |mut sink: BusSink| {
        sink.stored_within = STORED_WITHIN / 3;
        sink
    };
    let mut sink = impatient(server.sink(LineForm::Artifact));
    // Those that are acknowledged are delivered, whatever becomes of the others. Another connection takes the next ones.
    let mut delivered = 0;
    drain(&store, &instance, &mut sink, &mut delivered).await.expect("ten over each connection");
    assert_eq!((delivered, waiting(&store), server.ids().len()), (30, 0, 30), "none is lost");
    assert!(server.ids().values().all(|times| *times == 1), "and none came twice");
    assert!(lock(&server.came).len() >= 3);

    let (_dir, store, instance) = self::store(3, None);
    let server = Server::start(Does::EndsAfter(0)).await;
    let mut sink = impatient(server.sink(LineForm::Artifact));
    let error = drain(&store, &instance, &mut sink, &mut 0).await.expect_err("none is stored");
    assert!(matches!(&error, DrainError::Sink(SinkError::NotStored { .. })), "{error}");
    assert_eq!((waiting(&store), server.ids().len()), (3, 0));
    *lock(&server.does) = Does::Stores;
    drain(&store, &instance, &mut sink, &mut 0).await.expect("delivered");
    assert_eq!((waiting(&store), server.ids().len()), (0, 3));
}

#[tokio::test]
async fn every_failure_says_what_to_do_and_nothing_is_taken_for_delivered() {
    let mut told = Vec::new();
    for does in [Does::HasNoStream, Does::IsFull, Does::RefusesAll] {
        let (_dir, store, instance) = store(3, None);
        let server = Server::start(does).await;
        let error = drain(&store, &instance, &mut server.sink(LineForm::Artifact), &mut 0).await.expect_err("fails");
        assert_eq!(waiting(&store), 3);
        let DrainError::Sink(error) = error else { panic!("{error}") };
        told.push(format!("{}: {error}; {}", error.code(), error.help()).replace(&server.address, "SERVER"));
    }
    let nobody = BusSink::new(config("nats://127.0.0.1:1", None), NetworkOptions::default(), LineForm::Artifact);
    let error = { nobody }.connect().await.expect_err("nobody is there");
    told.push(format!("{}: {error}", error.code()));
    let network = NetworkOptions { extra_ca_files: vec!["missing.pem".into()], proxy: None };
    let error = BusSink::new(config("tls://127.0.0.1:1", None), network, LineForm::Artifact).connect().await;
    told.push(error.expect_err("no such file").to_string());
    insta::assert_snapshot!(told.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn connecting_ends_when_its_time_is_up_whatever_takes_so_long() {
    // The system takes connections for it, and nobody ever says a word. An address alone would have more time.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = format!("nats://{}", silent.local_addr().expect("address"));
    let mut sink = BusSink::new(config(&address, None), NetworkOptions::default(), LineForm::Artifact);
    assert!(sink.patience > CONNECTED_WITHIN, "the one may answer that is asked second");
    sink.patience = CONNECTED_WITHIN / 2;
    let begun = tokio::time::Instant::now();
    let error = sink.connect().await.expect_err("nobody answers");
    assert_eq!((begun.elapsed().as_secs(), error.code()), (5, "output-unwritable"));
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot reach {address}, subject acme.data.artifacts.raw: there is no")),
        "{text}"
    );
    assert!(text.contains("after 5 s") && text.contains("name is not resolved"), "{text}");
}

#[tokio::test]
async fn one_that_is_too_large_is_named_and_waits_and_what_comes_before_it_does_not() {
    // More than the server takes, and more than its stream does.
    for (does, bytes, most) in [(Does::Stores, 3_000, ", but at most 2000"), (Does::StoresLess(500), 600, " has")] {
        let server = Server::start(does).await;
        let (_dir, store, instance) = store(10, Some((4, bytes)));
        let mut sink = server.sink(LineForm::Artifact);
        let error = drain(&store, &instance, &mut sink, &mut 0).await.expect_err("too large");
        let DrainError::Sink(error) = error else { panic!("{error}") };
        assert_eq!((error.code(), error.is_of_one()), ("output-too-large", true));
        let text = error.to_string();
        assert!(text.contains("00000000-0000-0000-0000-000000000004") && text.ends_with(most), "{text}");
        assert_eq!(waiting(&store), 6);
        assert!((0..4).all(|n| server.ids()[&uuid::Uuid::from_u128(n).to_string()] == 1), "{:?}", server.ids());
    }
}

#[tokio::test]
async fn credentials_are_a_user_and_a_password_or_a_token_or_a_file_of_natss_own_and_are_never_shown() {
    let server = Server::start(Does::Stores).await;
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("credentials");
    let sink = || {
        BusSink::new(
            config(&server.address, Some(Source::File(path.clone()))),
            NetworkOptions::default(),
            LineForm::Artifact,
        )
    };
    for (text, user, password, token) in [
        ("acme:pass:word-42\n", "acme".into(), "pass:word-42".into(), Value::Null),
        ("token-0123456789\n", Value::Null, Value::Null, "token-0123456789".into()),
    ] {
        std::fs::write(&path, text).expect("written");
        sink().connect().await.expect("connected");
        let came = lock(&server.came).pop().expect("somebody came");
        assert_eq!((&came["user"], &came["pass"], &came["auth_token"]), (&user, &password, &token));
        assert!(!format!("{:?}", sink()).contains(text.trim()));
    }
    std::fs::write(&path, format!("{CREDENTIALS}\nsecret-that-is-broken\n")).expect("written");
    let error = sink().connect().await.expect_err("no credentials").to_string();
    assert!(!error.contains("secret-that-is-broken"), "{error}");
    std::fs::remove_file(&path).expect("removed");
    let error = sink().connect().await.expect_err("no file").to_string();
    assert!(error.contains("sink_credentials") && error.contains("No such file"), "{error}");
}

#[test]
fn a_subject_is_one_that_can_be_published_on() {
    for good in ["a", "acme-1.data.artifacts.raw", "A_b.c"] {
        assert_eq!(Subject::new(good).map(|subject| subject.to_string()).as_deref(), Ok(good));
    }
    for bad in ["", ".", "a..b", "a.", "a b", "a.*", "a.>", "a\r\nPUB x", "$SYS.x", "ä", &"x".repeat(257)] {
        assert_eq!(Subject::new(bad), Err(SubjectError), "{bad:?}");
    }
}
