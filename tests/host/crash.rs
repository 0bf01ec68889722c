//! `kill -9` at random moments of a large collection: nothing is lost, nothing
//! is in the store twice.
//!
//! `SOAK_KILLS` sets how often the host is killed; `make soak` does it 200 times.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::common::host::{CACHE, Stage, connector, text};
use host_harness::store::Reader;
use insightidr_simulator::{World, WorldConfig};
use time::format_description::well_known::Rfc3339;

/// A sequence of numbers that looks random and is the same for a seed.
struct Dice(u64);

impl Dice {
    /// The next number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Takes out of a file, as any reader has to, the lines that were being written when a host died, and gives them. The host
/// ends such a line when it opens the file again, and the artifact comes again as a whole.
fn pass_over_broken_lines(file: &Path) -> Vec<Vec<u8>> {
    let text = std::fs::read(file).unwrap_or_default();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let (whole, broken): (Vec<&[u8]>, Vec<&[u8]>) =
        lines.partition(|line| serde_json::from_slice::<serde_json::Value>(line).is_ok());
    let whole: Vec<u8> = whole.into_iter().flat_map(|line| [line, b"\n"].concat()).collect();
    std::fs::write(file, whole).unwrap();
    broken.into_iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn a_host_that_is_killed_again_and_again_loses_nothing_and_stores_nothing_twice() {
    let kills: u64 = std::env::var("SOAK_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(12);
    let seed = std::env::var("SOAK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("SOAK_SEED={seed}");
    let mut dice = Dice(seed);
    // Enough that the collection outlasts the kills: each gets it a little further.
    let investigations = usize::try_from(400 + kills * 25).unwrap();
    let world = WorldConfig { seed: 77, investigations, evidence_per_alert: 1, ..WorldConfig::default() };
    let stage = Stage::of(World::generate(&world));
    let start = stage.simulator.now();
    // Small steps, so that there are many moments between two of them.
    let budget = 60;
    let steps = ["--budget-requests", "60"];
    // What it takes without kills; it leaves the compiled connector for the others, who would not live to compile it.
    let whole = Stage::of(World::generate(&world));
    whole.poll_with("us", &steps).assert_ok();
    let needed = whole.simulator.request_count();
    let (mut interrupted, mut asking) = (0, 0);
    for _ in 0..kills {
        let connector = connector();
        let route = format!("us.api.insight.rapid7.com={}", stage.url());
        let clock = stage.simulator.now().format(&Rfc3339).unwrap();
        let mut arguments = vec!["poll", "--connector", connector.to_str().unwrap(), "--instance", "us"];
        arguments.extend(["--set", "region=us", "--secret", "api_key=env:KEY_US", "--route", &route]);
        arguments.extend(["--clock", &clock, "--state", "state", "--out", "us.jsonl"]);
        arguments.extend(["--cache", CACHE]);
        arguments.extend(steps);
        let before = stage.simulator.request_count();
        let mut host = stage.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Some die in their start; most after so many requests, in a step, a commit or a delivery.
        if dice.below(6) > 0 {
            let at = before + 1 + dice.below(4 * budget);
            while stage.simulator.request_count() < at && host.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        std::thread::sleep(Duration::from_millis(dice.below(30)));
        interrupted += u64::from(host.try_wait().unwrap().is_none());
        host.kill().unwrap();
        host.wait().unwrap();
        asking += u64::from(stage.simulator.request_count() > before);
    }
    assert!(interrupted * 2 > kills, "most polls were under way when they were killed: {interrupted} of {kills}");
    assert!(asking * 2 > kills, "most had asked for something: {asking} of {kills}");
    // What was committed is not asked for again: each kill costs the requests of two steps at most, of one that is being
    // stored and of the next one, and a poll that came through those of a poll with nothing new, which are fewer.
    let killed = stage.simulator.request_count();
    let output = stage.dir.path().join("us.jsonl");
    let broken = pass_over_broken_lines(&output);
    let last = stage.poll_with("us", &steps);
    last.assert_ok();
    assert_eq!(last.json["artifacts"]["repeated"], 0, "what was stored before is never collected again: {last:#?}");
    let spent = stage.simulator.request_count();
    println!("{} lines were broken by kills", broken.len());
    println!(
        "{spent} requests, {killed} of them in {asking} of {kills} polls that were killed; {needed} without kills"
    );
    assert!(spent <= needed + 2 * kills * budget, "{spent} requests with {kills} kills, {needed} without any");
    // A young alert waits for its evidence as long as the overlap: all of that is there an hour later.
    let young = stage.missing("us", start);
    stage.simulator.advance(time::Duration::hours(1));
    stage.poll_with("us", &steps).assert_ok();
    let missing = stage.missing("us", start);
    assert!(young.iter().all(|id| !missing.contains(id)), "{young:?} {missing:?}");
    let delivered = stage.delivered("us");
    assert!(broken.len() as u64 <= interrupted, "a kill breaks one line at most: {}", broken.len());
    let all = std::fs::read(&output).unwrap();
    for line in broken {
        let is_whole = |other: &[u8]| other.len() > line.len() && other.starts_with(&line);
        assert!(
            all.split(|byte| *byte == b'\n').any(is_whole),
            "{} does not come again",
            String::from_utf8_lossy(&line)
        );
    }
    let ids: BTreeSet<String> = delivered.iter().map(|artifact| text(&artifact["id"])).collect();
    let counts = Reader::open(&stage.dir.path().join("state")).unwrap().counts().unwrap();
    assert_eq!(counts.artifacts, ids.len() as u64, "every stored artifact was delivered and none is stored twice");
    assert_eq!(counts.undelivered, 0);
    let names: Vec<(String, String)> = delivered
        .iter()
        .map(|artifact| (text(&artifact["id"]), text(&artifact["senderHost"])))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let versions: BTreeSet<&String> = names.iter().map(|(_, name)| name).collect();
    assert_eq!(versions.len(), names.len(), "no version of a record has two ids");
}
