//! Artifacts on a real NATS server, which is killed, as is the host. Left out of `make test`, whose machine may have none:
//! `make bus` runs it, and `NATS_SERVER` names the server's program.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use futures::StreamExt as _;
use serde_json::Value;

use crate::common::process::PATIENCE;
use crate::running::site::{Site, insightidr};

const USER: &str = "conductor";
const PASSWORD: &str = "bus-password-0123456789";
const SUBJECT: &str = "acme.data.artifacts.raw";

/// A server that is killed with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(directory: &Path, port: u16) -> Self {
        let program = std::env::var("NATS_SERVER").expect("NATS_SERVER names a nats-server: use `make bus`");
        let child = Command::new(program)
            .args(["-js", "-a", "127.0.0.1", "-p", &port.to_string(), "--user", USER, "--pass", PASSWORD, "-sd"])
            .arg(directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts");
        Self(child)
    }
}

/// A connection of the test's own.
async fn context(port: u16) -> jetstream::Context {
    let began = Instant::now();
    loop {
        let options = ConnectOptions::new().user_and_password(USER.to_owned(), PASSWORD.to_owned());
        match options.connect(format!("nats://127.0.0.1:{port}")).await {
            Ok(client) => return jetstream::new(client),
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
#[ignore = "needs a nats-server: `make bus`"]
fn a_real_bus_has_every_artifact_once_whatever_is_killed_meanwhile() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut site = Site::new();
    let directory = site.path("nats");
    let server = Server::start(&directory, port);
    let mut stream = runtime.block_on(async {
        let context = context(port).await;
        let config = stream::Config {
            name: "DATA".into(),
            subjects: vec!["acme.data.artifacts.>".into()],
            duplicate_window: Duration::from_secs(600),
            ..Default::default()
        };
        context.create_stream(config).await.unwrap()
    });
    site.set(&format!("sink = \"nats://127.0.0.1:{port}\"\nsink_subject = {SUBJECT:?}"));
    site.set("sink_lines = \"with-instance\"\nsink_credentials = \"file:nats.key\"");
    site.secret("nats.key", "conductor:wrong-password");
    site.install_insightidr();
    site.configure(&insightidr("one"));

    // Let in by nobody, the host says so, and polls all the same.
    let mut host = site.start(&[]);
    host.until_state("one", "ok");
    let failure = host.until("it is told", |host| {
        Some(host.status()["host"]["sink"]["failure"].clone()).filter(|failure| !failure.is_null())
    });
    assert_eq!(failure["code"], "output-unwritable", "{failure:#}");
    assert!(failure["message"].as_str().unwrap().contains(SUBJECT) && !host.log().contains("wrong-password"));
    let told = site.command(&["run", "--config", "conductor.toml", "--check"]);
    assert_eq!((told.code, told.stderr.contains("cannot reach nats://127.0.0.1")), (2, true), "{told:?}");
    host.signal("KILL");
    drop(host);

    site.secret("nats.key", &format!("{USER}:{PASSWORD}"));
    assert_eq!(site.command(&["run", "--config", "conductor.toml", "--check"]).code, 0);
    let mut host = site.start(&[]);
    let is_delivered = |host: &crate::common::process::Host| {
        let status = host.status();
        let new: u64 = status["instances"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|one| one["total"]["artifacts_new"].as_u64())
            .sum();
        let waiting = host
            .get("/metrics")
            .1
            .lines()
            .find_map(|line| line.strip_prefix("signal_client_outbox_depth ")?.parse::<f64>().ok());
        (new > 0 && waiting == Some(0.0)).then_some(new)
    };
    host.until("all is delivered", is_delivered);

    // The server goes while there is more to deliver, and comes back.
    drop(server);
    site.configure(&[insightidr("one"), insightidr("two")].concat());
    host.until_state("two", "ok");
    host.until("it is told", |host| (!host.status()["host"]["sink"]["failure"].is_null()).then_some(()));
    let _server = Server::start(&directory, port);
    let new = host.until("all is delivered", |host| {
        is_delivered(host).filter(|_| host.status()["host"]["sink"]["failure"].is_null())
    });
    host.signal("KILL");
    drop(host);
    let mut host = site.start(&[]);
    host.until("it is polled once more", |host| {
        (host.instance("two")?["polls"]["ok"].as_u64() > Some(1)).then_some(())
    });
    assert_eq!(host.stop("TERM").code, 0);

    let messages = runtime.block_on(async {
        stream = context(port).await.get_stream("DATA").await.unwrap();
        let consumer = stream.create_consumer(jetstream::consumer::pull::OrderedConfig::default()).await.unwrap();
        let count = stream.info().await.unwrap().state.messages;
        let all = consumer.messages().await.unwrap().take(usize::try_from(count).unwrap());
        all.map(|message| message.unwrap()).collect::<Vec<_>>().await
    });
    let mut by_instance = BTreeMap::<String, Vec<String>>::new();
    for message in &messages {
        assert_eq!(message.subject.as_str(), SUBJECT);
        let body: Value = serde_json::from_slice(&message.payload).unwrap();
        let (instance, id) = (body["instance"].as_str().unwrap(), body["artifact"]["id"].as_str().unwrap());
        let header = message.headers.as_ref().unwrap().get("Nats-Msg-Id").unwrap().to_string();
        assert_eq!(header, format!("{instance}/{id}"));
        by_instance.entry(instance.to_owned()).or_default().push(id.to_owned());
    }
    for ids in by_instance.values_mut() {
        let count = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), count, "none is there twice");
    }
    assert_eq!(by_instance["one"], by_instance["two"], "both see the same organization");
    assert_eq!(u64::try_from(messages.len()).unwrap(), new, "and none is lost");
}
