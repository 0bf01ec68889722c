//! What a connector and a tenant cannot see: secrets, the host's surroundings, and other tenants.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::host::{connector, guest, host_harness, key};
use host_harness::connectors::{Connector, Tenant, TenantOptions};
use host_harness::contract::types::{Budget, Setting, SettingValue};
use host_harness::egress::{NetworkOptions, Routes, Secrets};
use host_harness::sandbox::{Clock, Engine, EngineOptions};
use insightidr_simulator::{
    ApiKey, ClockMode, OrganizationConfig, RequestRecord, Server, Simulator, SimulatorConfig, World, WorldConfig,
};
use serde_json::Value;

// ---- a connector that looks at everything -----------------------------------------

/// A secret that cannot come about by chance, and whose parts a search index would keep apart.
const SECRET: &str = "zq7x9k2w4m8p/h3j+6t5v1n0r=yd";

/// A server that sends every request back, in a header and in the body.
struct Echo {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = heads.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if let Some(head) = stream.ok().and_then(answer) {
                    seen.lock().unwrap().push(head);
                }
            }
        });
        Self { address, heads }
    }
}

/// Reads one request and sends its head back: whole in a header for each of its headers, and in the body, as it is and
/// percent-encoded. The body comes in chunks of seven bytes, so that nothing of interest is in one piece.
fn answer(mut stream: TcpStream) -> Option<String> {
    let mut head = String::new();
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    while !head.ends_with("\r\n\r\n") {
        if lines.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let mut response = "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n".to_owned();
    for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        response.push_str(&format!("echo-{}: {}\r\n", name.to_lowercase(), value.trim()));
    }
    response.push_str("\r\n");
    for chunk in format!("{head}{}", percent_encoded(SECRET)).as_bytes().chunks(7) {
        response.push_str(&format!("{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk)));
    }
    response.push_str("0\r\n\r\n");
    stream.write_all(response.as_bytes()).ok()?;
    Some(head)
}

fn percent_encoded(text: &str) -> String {
    let encode =
        |byte: u8| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(encode).collect()
}

/// The forms of the secret that are looked for, and the longest of the words that an index would split it into.
fn forms() -> [String; 4] {
    [SECRET.to_owned(), percent_encoded(SECRET), "zq7x9k2w4m8p".to_owned(), "6t5v1n0r".to_owned()]
}

fn assert_clean(what: &str, bytes: &[u8]) {
    // An index keeps words in lower case.
    let bytes = bytes.to_ascii_lowercase();
    for form in forms().map(|form| form.to_ascii_lowercase()) {
        let found = bytes.windows(form.len()).position(|window| window == form.as_bytes());
        if let Some(at) = found {
            let around = &bytes[at.saturating_sub(80)..(at + 80).min(bytes.len())];
            panic!("{form} stands in {what}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

/// Every file under a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[test]
fn a_connector_that_dumps_all_it_can_see_has_seen_no_secret_and_nothing_of_its_host() {
    let echo = Echo::start();
    let dir = tempfile::tempdir().unwrap();
    let connector = guest("probe_guest");
    let route = format!("api.probe.example=http://{}", echo.address);
    let run = |arguments: &[&str]| {
        let mut command = Command::new(host_harness());
        command.current_dir(dir.path()).env("PROBE_TOKEN", SECRET).env("SURROUNDINGS", "surroundings-of-the-host");
        command.args(arguments).output().unwrap()
    };
    let poll = |more: &[&str]| {
        let mut arguments = vec!["poll", "--connector", connector.to_str().unwrap(), "--instance", "probe"];
        arguments.extend(["--set", "note=a note", "--secret", "token=env:PROBE_TOKEN", "--route", &route]);
        arguments.extend(["--state", "state", "--out", "out.jsonl", "--log-level", "trace"]);
        arguments.extend(more);
        run(&arguments)
    };
    let first = poll(&["--json"]);
    let second = poll(&[]);
    for output in [&first, &second] {
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let search = run(&["search", "--state", "state", "--json", "stream:probe"]);
    let found = String::from_utf8(search.stdout.clone()).unwrap();
    assert_eq!(found.lines().count(), 2, "{found}");

    // The secret went where it belongs, once with each request.
    let heads = echo.heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 2);
    for head in &heads {
        assert_eq!(head.matches(SECRET).count(), 1, "{head}");
        assert!(head.contains(&format!("x-probe-token: {SECRET}\r\n")), "{head}");
        assert!(head.to_lowercase().contains("host: api.probe.example\r\n"), "the planned host is asked for: {head}");
    }

    // The connector handed out what it saw.
    let artifacts = std::fs::read_to_string(dir.path().join("out.jsonl")).unwrap();
    let artifact: Value = serde_json::from_str(artifacts.lines().next().unwrap()).unwrap();
    let seen: Value = serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap();
    assert_eq!(seen["environment"], Value::Array(Vec::new()), "{seen:#}");
    assert_eq!(seen["arguments"], Value::Array(Vec::new()), "{seen:#}");
    let settings = seen["settings"].as_str().unwrap();
    assert!(settings.contains("a note") && !settings.contains("token"), "{settings}");
    // It saw the answer but for the header that held the secret, and stars where the secret was in the body.
    let answer = seen["answer"].as_str().unwrap();
    assert!(answer.starts_with("200\n") && answer.contains("GET /echo"), "{answer}");
    assert!(answer.contains("echo-host: api.probe.example") && !answer.contains("echo-x-probe-token"), "{answer}");
    assert!(answer.contains(&format!("x-probe-token: {}\r\n", "*".repeat(SECRET.len()))), "{answer}");
    let log = String::from_utf8(first.stderr.clone()).unwrap();
    assert!(log.contains("seen: "), "the connector's own words are in the log: {log}");
    assert!(log.lines().any(|line| line.starts_with("[INFO] probe: fetched 1 dumps")), "{log}");

    // And it is nowhere else: no output, no log, no file, compiled code and database included.
    for output in [&first, &second, &search] {
        assert_clean("standard output", &output.stdout);
        assert_clean("standard error", &output.stderr);
        assert!(!String::from_utf8_lossy(&output.stderr).contains("surroundings-of-the-host"));
    }
    assert!(!artifacts.contains("surroundings-of-the-host"));
    let files = files(dir.path());
    assert!(
        files.iter().any(|file| file.ends_with("state.sqlite")) && files.iter().any(|file| file.ends_with("out.jsonl"))
    );
    for file in files {
        assert_clean(&file.display().to_string(), &std::fs::read(&file).unwrap());
    }
}

// ---- two tenants ---------------------------------------------------------------------

/// One tenant of the real connector.
#[derive(Clone, Copy)]
struct Customer {
    /// Name of the instance, and of the organization.
    name: &'static str,
    /// Where it lives.
    region: &'static str,
}

impl Customer {
    fn key(self) -> String {
        key(self.name)
    }

    async fn tenant(self, connector: &Connector, simulator: &Simulator, url: &str) -> Tenant {
        let mut secrets = Secrets::new();
        secrets.insert("api_key", self.key().into()).unwrap();
        let region = Setting { key: "region".to_owned(), value: SettingValue::Text(self.region.to_owned()) };
        let options = TenantOptions {
            name: self.name.to_owned(),
            settings: vec![region],
            secrets,
            routes: Routes::parse([format!("{}.api.insight.rapid7.com={url}", self.region)]).unwrap(),
            clock: Clock::virtual_at(simulator.now()),
            network: NetworkOptions::default(),
        };
        connector.tenant(options).await.unwrap()
    }
}

/// A whole cycle: artifacts by id.
async fn cycle(tenant: &Tenant) -> BTreeMap<String, String> {
    let budget = Budget { requests: 100, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 };
    let mut checkpoint = None;
    let mut artifacts = BTreeMap::new();
    loop {
        let batch =
            tenant.poll(checkpoint, budget).await.0.unwrap_or_else(|error| panic!("{}: {error}", tenant.name()));
        artifacts.extend(batch.artifacts.into_iter().map(|artifact| (artifact.id, artifact.json)));
        if !batch.more {
            return artifacts;
        }
        checkpoint = Some(batch.checkpoint);
    }
}

/// What was asked: each tenant asks the same, whoever else does. Where a step's budget ends depends on the order of the
/// answers, so some of it may be asked again by the next step.
fn asked(requests: &[RequestRecord]) -> BTreeSet<String> {
    requests.iter().map(|one| format!("{} {} {}?{}", one.region, one.method, one.path, one.query)).collect()
}

/// Polls two customers alone and then at once, in one process and one engine.
async fn alone_and_together(customers: [Customer; 2]) {
    let config = WorldConfig {
        organizations: customers.map(|one| OrganizationConfig::new(one.region, one.name)).to_vec(),
        investigations: 60,
        ..WorldConfig::default()
    };
    let keys =
        customers.map(|one| ApiKey { organization: Some(one.name.to_owned()), ..ApiKey::new(one.region, one.key()) });
    // A little latency, so that the two are really under way at once.
    let latency = Duration::from_millis(2);
    let config_ =
        SimulatorConfig { keys: keys.to_vec(), clock: ClockMode::Frozen, latency, ..SimulatorConfig::default() };
    let simulator = Simulator::new(World::generate(&config), config_);
    let server = Server::start(simulator.clone()).await.unwrap();
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let connector = Connector::load(&engine, &connector(), None).await.unwrap();
    let [first, second] = customers;

    let mut alone = Vec::new();
    let mut asked_alone = BTreeSet::new();
    for customer in customers {
        simulator.reset_counters();
        alone.push(cycle(&customer.tenant(&connector, &simulator, &server.url()).await).await);
        asked_alone.extend(asked(&simulator.requests()));
    }
    assert!(alone.iter().all(|artifacts| artifacts.len() > 60));

    simulator.reset_counters();
    let (one, other) = (
        first.tenant(&connector, &simulator, &server.url()).await,
        second.tenant(&connector, &simulator, &server.url()).await,
    );
    let together = tokio::join!(cycle(&one), cycle(&other));
    assert_eq!(together.0, alone[0], "{} collects what it collects alone", first.name);
    assert_eq!(together.1, alone[1], "{} collects what it collects alone", second.name);

    // A key in a request of the other would have been refused or would have shown the other's records.
    let requests = simulator.requests();
    let refused: Vec<&RequestRecord> =
        requests.iter().filter(|one| !one.authorized || one.status != Some(200)).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let other: Vec<String> = asked(&requests).symmetric_difference(&asked_alone).cloned().collect();
    assert_eq!(other, Vec::<String>::new(), "asked only alone, or only together");
    // The organizations stand in the order of the customers.
    let organizations = simulator.truth().organizations;
    for (own, artifacts) in [&together.0, &together.1].into_iter().enumerate() {
        for (position, organization) in organizations.iter().enumerate() {
            let mentioned = artifacts.values().filter(|json| json.contains(&organization.id)).count();
            assert_eq!(mentioned > 0, own == position, "{} and {}", customers[own].name, customers[position].name);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tenants_in_two_regions_at_once_have_nothing_of_each_other() {
    let customers = [Customer { name: "acme", region: "us" }, Customer { name: "globex", region: "eu" }];
    alone_and_together(customers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_tenants_at_one_origin_at_once_have_nothing_of_each_other() {
    let customers = [Customer { name: "acme", region: "us" }, Customer { name: "globex", region: "us" }];
    alone_and_together(customers).await;
}
