//! Connectors that are replaced while a running host polls two tenants with them, without a pause.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};

use host_harness::store::Reader;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::process::{Host, PATIENCE};
use crate::common::vendor::{Vendor, reply};
use crate::hostile::component;
use crate::hostile::secrets::SECRET;
use crate::running::site::{Site, Told, hostile};

/// The tenants.
pub(crate) const TENANTS: [&str; 2] = ["a", "b"];

/// The file that is replaced.
pub(crate) const FILE: &str = "hostile.wasm";

/// How long the vendor takes to answer, so that tenants that always have more to collect collect at a human pace.
const PACE: std::time::Duration = std::time::Duration::from_millis(50);

/// Holds back the vendor's answers.
#[derive(Default)]
pub(crate) struct Gate {
    state: Mutex<Held>,
    moved: Condvar,
}

#[derive(Default)]
struct Held {
    is_closed: bool,
    waiting: usize,
}

impl Gate {
    /// Waits until the gate is open.
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        self.moved.notify_all();
        state = self.moved.wait_while(state, |state| state.is_closed).unwrap();
        state.waiting -= 1;
    }

    /// Lets nothing through any more, and waits until this many requests stand before it.
    pub(crate) fn close(&self, waiting: usize) {
        let mut state = self.state.lock().unwrap();
        state.is_closed = true;
        let (state, time) = self.moved.wait_timeout_while(state, PATIENCE, |state| state.waiting < waiting).unwrap();
        assert!(!time.timed_out(), "{} of {waiting} requests came", state.waiting);
    }

    /// Lets everything through.
    pub(crate) fn open(&self) {
        self.state.lock().unwrap().is_closed = false;
        self.moved.notify_all();
    }
}

/// A host with two tenants, of whom each stores one artifact a step and always has more to collect.
pub(crate) struct Upkeep {
    pub(crate) site: Site,
    pub(crate) vendor: Vendor,
    pub(crate) host: Host,
    pub(crate) gate: Arc<Gate>,
}

impl Upkeep {
    /// Starts the host, with no connector and tenants that always have more to collect.
    pub(crate) fn start() -> Self {
        Self::behaving("poll:paced")
    }

    /// Starts the host, with no connector and tenants that behave like this.
    pub(crate) fn behaving(behaviour: &str) -> Self {
        let gate = Arc::<Gate>::default();
        let way = Arc::clone(&gate);
        let vendor = Vendor::start(move |_, stream| {
            std::thread::sleep(PACE);
            way.pass();
            reply(stream, 200, &[], b"{}")
        });
        let mut site = Site::new();
        site.route(vendor.route("api.hostile.example"));
        site.route(vendor.route("moved.api.hostile.example"));
        site.secret("hostile.key", SECRET);
        site.configure(&TENANTS.map(|name| hostile(name, behaviour, "")).concat());
        let host = site.start(&[]);
        Self { site, vendor, host, gate }
    }

    /// Puts a component made for these acts into the file and gives its digest.
    pub(crate) fn install(&self, acts: &str) -> String {
        let bytes = component::describing(acts);
        self.site.install(FILE, &bytes);
        digest(&bytes)
    }

    /// Waits until the row of a digest has a state, with this code or none, and gives it.
    pub(crate) fn until_connector(&mut self, digest: &str, state: &str, version: &str, code: Option<&str>) -> Value {
        let row = self.host.until(&format!("{digest} is {state} ({code:?})"), |host| {
            let rows = host.status()["connectors"].as_array().unwrap().clone();
            rows.into_iter()
                .find(|row| row["digest"] == digest && row["state"] == state && row["code"].as_str() == code)
        });
        assert_eq!(row["version"], version, "{row:#}");
        row
    }

    /// Waits until both tenants have been polled well by a version that needs to show nothing more.
    pub(crate) fn until_served_by(&mut self, version: &str) {
        let what = format!("{version} serves both tenants");
        self.host.until(&what, |host| {
            let proven = serving(host).is_some_and(|row| row["version"] == version && row["reason"].is_null());
            let polled = |name: &&str| {
                let one = host.instance(name).unwrap();
                one["state"] == "ok" && one["connector"]["version"] == version
            };
            (proven && TENANTS.iter().all(polled)).then_some(())
        });
    }

    /// Steps of all tenants so far.
    fn steps(host: &Host) -> Vec<u64> {
        TENANTS.iter().map(|name| host.instance(name).unwrap()["total"]["steps"].as_u64().unwrap()).collect()
    }

    /// Waits until both tenants have made more steps than now, by a version.
    pub(crate) fn until_both_go_on(&mut self, version: &str) {
        let before = Self::steps(&self.host);
        self.host.until(&format!("both tenants go on with {version}"), |host| {
            Self::steps(host).iter().zip(&before).all(|(now, before)| now > before).then_some(())
        });
        for name in TENANTS {
            let one = self.host.instance(name).unwrap();
            assert_eq!((&one["state"], &one["connector"]["version"]), (&"ok".into(), &version.into()), "{one:#}");
        }
    }

    /// A `connectors` command on this host's state.
    pub(crate) fn connectors(&self, arguments: &[&str]) -> Told {
        let (action, more) = arguments.split_first().unwrap();
        self.site.command(&[&["connectors", action, "--config", "conductor.toml"], more].concat())
    }

    /// Stops the host, and looks at what was collected: for each tenant every artifact once, stored and delivered, from the
    /// first to the last without a gap, made by these versions in this order.
    pub(crate) fn end(self, versions: &[&str]) {
        let Self { site, host, .. } = self;
        let ended = host.stop("TERM");
        assert_eq!(ended.code, 0, "{}", ended.log);
        Self::assert_each_once(&site, versions);
    }

    /// How many artifacts are stored for each tenant. Fails unless they are whole, see [`Upkeep::end`].
    pub(crate) fn assert_each_once(site: &Site, versions: &[&str]) -> Vec<usize> {
        let mut counts = Vec::new();
        let mut stored = BTreeMap::<String, usize>::new();
        for name in TENANTS {
            let hits = Reader::open(&site.path("state")).unwrap().search("", Some(name), 100_000).unwrap();
            let mut made: Vec<(u64, String)> = hits
                .iter()
                .map(|hit| {
                    let artifact: Value = serde_json::from_str(&hit.json).unwrap();
                    *stored.entry(artifact["id"].as_str().unwrap().to_owned()).or_default() += 1;
                    let said = &artifact["message"];
                    (said["number"].as_u64().unwrap(), said["version"].as_str().unwrap().to_owned())
                })
                .collect();
            made.sort();
            counts.push(made.len());
            let numbers: Vec<u64> = made.iter().map(|(number, _)| *number).collect();
            assert_eq!(
                numbers,
                (0..made.len() as u64).collect::<Vec<_>>(),
                "{name}: none is lost and none comes twice"
            );
            let mut order: Vec<&str> = made.iter().map(|(_, version)| version.as_str()).collect();
            order.dedup();
            assert_eq!(order, versions, "{name}: each version goes on where the one before ended");
        }
        let mut delivered = BTreeMap::<String, usize>::new();
        for artifact in site.delivered("hostile") {
            *delivered.entry(artifact["id"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        assert!(delivered == stored, "what is delivered is what is stored, each once");
        counts
    }
}

/// SHA-256, as the host shows it.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The row of the connector that serves.
pub(crate) fn serving(host: &Host) -> Option<Value> {
    host.status()["connectors"].as_array().unwrap().iter().find(|row| row["state"] == "serving").cloned()
}
