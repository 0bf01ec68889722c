//! A host that runs, the real one, with up to a thousand tenants: its share of a CPU, its memory, how late polls begin.
//!
//! Its memory is read while no poll runs, and its peak from the system. How late polls begin is the difference between the
//! times that its status page gives for the next poll and, later, for the last.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::curves::Chart;
use crate::report::Report;
use crate::setting::{KEY, Setting, Vendor, simulator};

/// Tenants, and the minutes between two polls of each.
const SITES: [(usize, u64); 4] = [(100, 1), (300, 1), (1_000, 1), (1_000, 5)];
/// Investigations of a tenant, with an alert each.
const INVESTIGATIONS: usize = 20;
/// How often the status is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What was seen of a host over an interval in which nothing was new.
struct Seen {
    tenants: usize,
    minutes: u64,
    /// Share of one CPU.
    cpu: f64,
    /// Bytes in memory while no poll ran.
    idle: f64,
    /// Most bytes in memory.
    peak: f64,
    /// Seconds, in order.
    late: Vec<f64>,
    polls: f64,
}

/// Measures and reports.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
    let vendor = Vendor::of(simulator(INVESTIGATIONS, 1, Duration::from_millis(20)))?;
    let mut all = Vec::new();
    for (tenants, minutes) in SITES {
        let seen = observe(setting, &vendor, tenants, minutes)?;
        let at = |share: f64| {
            let place = (seen.late.len().saturating_sub(1) as f64 * share).round() as usize;
            seen.late.get(place).copied().unwrap_or_default()
        };
        eprintln!(
            "  {tenants} tenants every {minutes} min: {:.1} % of a CPU, {:.2} ms a poll, {:.1} MB idle, {:.1} MB at most, \
             late p50 {:.0} ms, p99 {:.0} ms, {:.0} polls",
            seen.cpu * 100.0,
            seen.cpu * (60 * seen.minutes) as f64 * 1e3 / seen.tenants as f64,
            seen.idle / 1e6,
            seen.peak / 1e6,
            at(0.5) * 1e3,
            at(0.99) * 1e3,
            seen.polls
        );
        if (tenants, minutes) == (1_000, 5) {
            report.add("1,000 tenants every 5 minutes, share of a CPU", "%", None, vec![seen.cpu * 100.0]);
            report.add("1,000 tenants every 5 minutes, begin late, p50", "ms", None, vec![at(0.5) * 1e3]);
            report.add("1,000 tenants every 5 minutes, begin late, p99", "ms", None, vec![at(0.99) * 1e3]);
        }
        all.push(seen);
    }
    let every_minute: Vec<&Seen> = all.iter().filter(|seen| seen.minutes == 1).collect();
    // The pool of instances and the tenants that are kept ready are full by then: what is left is what a tenant takes.
    if let [.., few, many] = every_minute.as_slice() {
        let more = (many.tenants - few.tenants) as f64;
        report.add("memory of one more idle tenant", "KiB", Some("<= 4"), vec![(many.idle - few.idle) / more / 1024.0]);
    }
    let points =
        |value: &dyn Fn(&Seen) -> f64| every_minute.iter().map(|seen| (seen.tenants as f64, value(seen))).collect();
    Chart {
        file: "tenants-cpu",
        title: "A host with tenants that are polled every minute",
        x: "tenants",
        y: "% of one CPU",
        curves: vec![(String::new(), points(&|seen| seen.cpu * 100.0))],
    }
    .draw()?;
    Chart {
        file: "tenants-memory",
        title: "A host with tenants that are polled every minute: its memory",
        x: "tenants",
        y: "MB",
        curves: vec![
            ("at most".to_owned(), points(&|seen| seen.peak / 1e6)),
            ("while no poll runs".to_owned(), points(&|seen| seen.idle / 1e6)),
        ],
    }
    .draw()
}

/// Runs a host until every tenant has been polled, and looks at it for two intervals more.
fn observe(setting: &Setting, vendor: &Vendor, tenants: usize, minutes: u64) -> anyhow::Result<Seen> {
    let host = Host::start(setting, vendor, tenants, minutes)?;
    let interval = Duration::from_secs(60 * minutes);
    // First cycles, spread over an interval.
    let patience = Instant::now() + interval * 2 + Duration::from_secs(60);
    while host.status()?.iter().any(|tenant| tenant.last.is_none() || tenant.polling) {
        ensure!(Instant::now() < patience, "not every tenant was polled within two intervals");
        std::thread::sleep(LOOK);
    }
    let mut planned: HashMap<String, OffsetDateTime> = HashMap::new();
    let (mut late, mut idle) = (Vec::new(), Vec::new());
    let (began, cpu) = (Instant::now(), host.cpu()?);
    while began.elapsed() < interval * 2 {
        let status = host.status()?;
        if !status.iter().any(|tenant| tenant.polling) {
            idle.push(host.memory("VmRSS")?);
        }
        for tenant in status {
            ensure!(tenant.is_well, "{} is not well", tenant.name);
            if let Some(next) = tenant.next.filter(|_| !tenant.polling) {
                let before = planned.insert(tenant.name, next);
                if let (Some(before), Some(last)) = (before, tenant.last)
                    && before != next
                {
                    late.push((last - before).as_seconds_f64());
                }
            }
        }
        std::thread::sleep(LOOK);
    }
    let spent = (host.cpu()? - cpu) / began.elapsed().as_secs_f64();
    late.sort_by(f64::total_cmp);
    let idle = if idle.is_empty() { host.memory("VmRSS")? } else { crate::report::median(&idle) };
    let polls = late.len() as f64;
    Ok(Seen { tenants, minutes, cpu: spent, idle, peak: host.memory("VmHWM")?, late, polls })
}

/// What the status page says of a tenant.
struct Tenant {
    name: String,
    polling: bool,
    is_well: bool,
    next: Option<OffsetDateTime>,
    last: Option<OffsetDateTime>,
}

/// A host that runs.
struct Host {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Host {
    fn start(setting: &Setting, vendor: &Vendor, tenants: usize, minutes: u64) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir(at("connectors"))?;
        std::fs::copy(&setting.connector, at("connectors/rapid7.wasm"))?;
        std::fs::write(at("key"), KEY)?;
        std::fs::set_permissions(at("key"), std::fs::Permissions::from_mode(0o600))?;
        let mut text = format!(
            "[host]\nstate = \"state\"\nconnectors = \"connectors\"\nsink = \"none\"\nlisten = \"127.0.0.1:0\"\n\
             most_instances_per_type = 10000\nroutes = [\"us.api.insight.rapid7.com={}\"]\n",
            vendor.url()
        );
        for tenant in 0..tenants {
            text.push_str(&format!(
                "[[instance]]\nid = \"t{tenant}\"\nname = \"t{tenant}\"\nintegration_type = \"rapid7-insightidr\"\n\
                 poll_interval_minutes = {minutes}\n[instance.settings]\nregion = \"us\"\n\
                 collect_evidence = false\ncollect_product_alerts = false\ncollect_uninvestigated_alerts = false\n\
                 [instance.secrets]\napi_key = \"file:key\"\n"
            ));
        }
        std::fs::write(at("conductor.toml"), text)?;
        let now = vendor.simulator.now().format(&Rfc3339)?;
        let mut child = Command::new(crate::setting::program()?)
            .current_dir(folder.path())
            .args(["run", "--config", "conductor.toml", "--clock", &now, "--log-to", "stderr"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let log = child.stderr.take().context("the host's log")?;
        let (found, address) = std::sync::mpsc::channel();
        // The log is read to its end, or the host would wait for somebody to read it.
        std::thread::spawn(move || {
            for line in BufReader::new(log).lines().map_while(Result::ok) {
                if let Some((_, address)) = line.split_once("status, metrics and search at http://") {
                    let _ = found.send(address.to_owned());
                }
            }
        });
        let address = address.recv_timeout(Duration::from_secs(60)).context("the host does not start")?;
        Ok(Self { child, address, _folder: folder })
    }

    fn status(&self) -> anyhow::Result<Vec<Tenant>> {
        let mut stream = TcpStream::connect(&self.address)?;
        write!(stream, "GET /status HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let head = answer.windows(4).position(|part| part == b"\r\n\r\n").context("no head")?;
        let page: Value = serde_json::from_slice(answer.get(head + 4..).unwrap_or_default())?;
        let time = |value: Option<&Value>| value?.as_str().and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let instances = page.get("instances").and_then(Value::as_array).context("no instances")?;
        let tenant = |one: &Value| Tenant {
            name: one.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            polling: one.get("polling").and_then(Value::as_bool).unwrap_or_default(),
            is_well: one.get("state").and_then(Value::as_str) == Some("ok"),
            next: time(one.get("next_poll")),
            last: time(one.get("last_poll")),
        };
        Ok(instances.iter().map(tenant).collect())
    }

    /// Seconds on the CPU so far.
    fn cpu(&self) -> anyhow::Result<f64> {
        let text = self.file("stat")?;
        // The name of the program may hold anything, and ends with a bracket.
        let (_, rest) = text.rsplit_once(") ").context("/proc/…/stat")?;
        let ticks: u64 = rest.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        // USER_HZ, on every Linux.
        Ok(ticks as f64 / 100.0)
    }

    /// A figure of its memory, in bytes.
    fn memory(&self, name: &str) -> anyhow::Result<f64> {
        let text = self.file("status")?;
        let line =
            text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).context("/proc/…/status")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024.0)
    }

    fn file(&self, name: &str) -> anyhow::Result<String> {
        let file = Path::new("/proc").join(self.child.id().to_string()).join(name);
        std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
    }
}
