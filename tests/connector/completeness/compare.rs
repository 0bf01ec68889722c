//! The store against the truth, record by record.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use insightidr_simulator::{Truth, TruthAlert, TruthInvestigation};
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use serde_json::Value;
use time::OffsetDateTime;

use crate::common::native::Tenant;
use crate::common::versions::{assert_only_joined_came_again, collected, has_joined, is_closed, shown, version};
use crate::completeness::scenario::{Polled, Run, Scenario};

/// How often everything is listed again, and what is asked for after that.
const EVERYTHING: time::Duration = time::Duration::hours(7);

/// How much later than its time an alert outside investigations may show up: five days, but for a bit.
const FARTHEST: time::Duration = time::Duration::hours(5 * 24 - 1);

/// A comparison under way.
struct Comparison<'a> {
    scenario: &'a Scenario,
    run: &'a Run,
    truth: &'a Truth,
    /// What was created before is not looked back to.
    floor: OffsetDateTime,
    /// Artifacts by the vendor's name of their record.
    by_name: BTreeMap<&'a str, Vec<&'a Value>>,
    /// The versions collected, by RRN.
    versions: BTreeMap<String, Vec<String>>,
}

/// How many pieces of evidence and actors an alert has come with.
fn pieces(artifact: &Value) -> usize {
    let message: Value = serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap();
    ["evidence", "actors"].map(|list| message[list].as_array().map_or(0, Vec::len)).iter().sum()
}

/// Fails on the first difference.
pub fn with_the_truth(scenario: &Scenario, run: &Run) {
    let truth = &run.tenant.link.simulator.truth();
    let floor = run.first - time::Duration::days(scenario.ways.lookback_days);
    let mut by_name: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for artifact in run.tenant.store.values() {
        by_name.entry(artifact["sourceInfo"].as_str().unwrap()).or_default().push(artifact);
    }
    let comparison = Comparison { scenario, run, truth, floor, by_name, versions: collected(&run.tenant) };
    for one in &truth.investigations {
        comparison.investigation(one);
        comparison.product_alerts(one);
        comparison.comments(one);
        comparison.restricted_evidence(one);
    }
    truth.alerts.iter().for_each(|alert| comparison.alert(alert));
    comparison.nothing_is_invented();
    // What changes after it was forgotten is collected with all its alerts, which the host knows by their ids.
    if !scenario.has_faults() && scenario.ways.remembered.is_none() {
        assert_only_joined_came_again(&run.tenant, truth, scenario.overlap());
    }
}

impl Comparison<'_> {
    /// Artifacts of a record.
    fn count(&self, name: &str) -> usize {
        self.by_name.get(name).map_or(0, Vec::len)
    }

    fn investigation(&self, one: &TruthInvestigation) {
        let (scenario, truth) = (self.scenario, self.truth);
        let found = self.versions.get(&one.rrn);
        if one.created > self.floor && one.visible_at <= truth.now && one.gone_at.is_none_or(|gone| gone > truth.now) {
            assert!(found.is_some(), "{} is missing", one.rrn);
        }
        let Some(found) = found else { return };
        assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "{} has a version twice: {found:#?}", one.rrn);
        let real: BTreeSet<String> = one.versions.iter().map(|state| version(&state.value())).collect();
        assert!(found.iter().all(|version| real.contains(version)), "{} has an invented version: {found:#?}", one.rrn);
        // What is closed is only listed again from time to time: what counts is what showed at a sound poll, unless the
        // poll before may have seen it closed. So is what came to show later than the overlap.
        let in_time = one.visible_at - one.created <= scenario.overlap();
        let mut was_open = one.created > self.floor && !scenario.has_absence() && in_time;
        for poll in &self.run.polls {
            let Some(version) = shown(one, poll.before) else {
                // It may have come to show, and closed, while that went on.
                was_open &= shown(one, poll.after).is_none_or(|later| !is_closed(&later));
                continue;
            };
            // What came and went while it was polled cannot be seen for certain.
            let lasted = shown(one, poll.after).as_ref() == Some(&version);
            // That one which was forgotten is not open any more only the listing of everything tells.
            let is_told = scenario.ways.remembered.is_none() || !is_closed(&version);
            if poll.sound && lasted && was_open && is_told {
                let at = poll.before;
                let story = || self.story(Some(&one.rrn));
                assert!(
                    found.contains(&version),
                    "{} lacks what showed at {at}: {version} {found:#?}{}",
                    one.rrn,
                    story()
                );
            }
            let later = shown(one, poll.after);
            was_open = one.created > self.floor
                && !scenario.has_absence()
                && !is_closed(&version)
                && later.is_some_and(|later| !is_closed(&later));
        }
        if let Some(last) = shown(one, truth.now) {
            let is_last = found.last() == Some(&last);
            assert!(is_last, "{} lacks its last state {last}: {found:#?}{}", one.rrn, self.story(Some(&one.rrn)));
        }
    }

    /// What there is to know of an investigation when something of it is missing.
    fn story(&self, rrn: Option<&str>) -> String {
        let mut story = String::new();
        for poll in &self.run.polls {
            let sound = if poll.sound { "sound" } else { "not sound" };
            write!(story, "\npoll from {} to {}, {sound}", poll.before, poll.after).unwrap();
        }
        let checkpoint = self.run.tenant.checkpoint.clone().map(|bytes| Checkpoint::decode(bytes).unwrap());
        if let Some(rrn) = rrn {
            write!(story, "\nremembered: {:?}", checkpoint.and_then(|known| known.known.get(rrn))).unwrap();
            let one = self.truth.investigations.iter().find(|one| one.rrn == rrn);
            write!(story, "\n{one:#?}").unwrap();
            let alerts = self.truth.alerts.iter().filter(|alert| alert.investigation.as_deref() == Some(rrn));
            alerts.for_each(|alert| write!(story, "\nalert {} from {} on", alert.id, alert.visible_at).unwrap());
        }
        story
    }

    /// Until when everything that was there is certain to have been looked at: an investigation is worked on after its
    /// row has come to show what it shows in the end.
    fn worked_on(&self, one: &TruthInvestigation) -> Option<OffsetDateTime> {
        if self.scenario.has_absence() || !self.versions.contains_key(&one.rrn) {
            return None;
        }
        let last = shown(one, self.truth.now)?;
        one.versions.iter().find(|state| version(&state.value()) == last).map(|state| state.at)
    }

    fn product_alerts(&self, one: &TruthInvestigation) {
        let names = |id: &str| ["THREAT_COMMAND", "INSIGHT_AGENT"].map(|kind| format!("{}:{kind}.{id}", one.rrn));
        for alert in &one.product_alerts {
            let count: usize = names(&alert.id).iter().map(|name| self.count(name)).sum();
            let wanted = self.scenario.ways.product_alerts
                && self.worked_on(one).is_some_and(|worked_on| alert.visible_at <= worked_on);
            assert!(count <= 1 && (count == 1 || !wanted), "{count} times product alert {} of {}", alert.id, one.rrn);
        }
    }

    fn comments(&self, one: &TruthInvestigation) {
        let is_open = shown(one, self.truth.now).is_some_and(|version| !is_closed(&version));
        for comment in &one.comments {
            let count = self.count(&comment.rrn);
            // Comments on what is not closed, and those of people, are found by the listing of everything.
            // Of one that had to make room only what has changed is looked at.
            let is_listed = (is_open || comment.on_row)
                && self.scenario.ways.remembered.is_none()
                && comment.created + EVERYTHING < self.truth.now;
            let wanted = self.scenario.ways.comments
                && self.worked_on(one).is_some_and(|worked_on| is_listed || comment.created <= worked_on);
            assert!(count <= 1 && (count == 1 || !wanted), "{count} times comment {comment:?} of {}", one.rrn);
        }
    }

    fn restricted_evidence(&self, one: &TruthInvestigation) {
        let alerts = || self.truth.alerts.iter().filter(|alert| alert.investigation.as_deref() == Some(&one.rrn));
        let prefix = format!("{}:evidence.", one.rrn);
        let found = self.by_name.range(prefix.as_str()..).take_while(|(name, _)| name.starts_with(&prefix));
        let found: Vec<usize> = found.map(|(_, artifacts)| artifacts.len()).collect();
        assert!(found.iter().all(|count| *count == 1), "restricted evidence of {} came twice", one.rrn);
        assert!(found.len() <= alerts().count(), "{} has invented restricted evidence", one.rrn);
        let wanted = self.scenario.place.restricted && self.scenario.ways.restricted;
        if let Some(worked_on) = self.worked_on(one).filter(|_| wanted) {
            let there = |alert: &&TruthAlert| alert.visible_at.max(alert.evidence_visible_at) <= worked_on;
            assert!(found.len() >= alerts().filter(there).count(), "{} lacks restricted evidence", one.rrn);
        }
    }

    /// Whether a collector that reads again as far back as the overlap can have seen the alert with its investigation.
    fn is_in_time(&self, alert: &TruthAlert) -> bool {
        let overlap = self.scenario.overlap();
        alert.visible_at - alert.created <= overlap && alert.on_row_at - alert.created <= overlap
    }

    /// Whether it can have seen it among those of the triage API.
    fn is_in_triage_in_time(&self, alert: &TruthAlert) -> bool {
        let (place, ways) = (&self.scenario.place, &self.scenario.ways);
        place.triage
            && ways.uninvestigated
            && !self.scenario.has_absence()
            && alert.triage
            && self.searched_by(alert) > self.floor
            && alert.triage_visible_at - self.searched_by(alert) <= self.scenario.overlap()
    }

    /// Which of its times the search goes by.
    fn searched_by(&self, alert: &TruthAlert) -> OffsetDateTime {
        if self.scenario.place.by_alerted { alert.alerted_at } else { alert.created }
    }

    /// Whether a collector that looks back five days, every six hours where nothing fails, must have come upon it.
    fn is_looked_back_to(&self, alert: &TruthAlert) -> bool {
        let (place, ways) = (&self.scenario.place, &self.scenario.ways);
        place.triage
            && ways.uninvestigated
            && alert.triage
            && !self.scenario.has_faults()
            && place.silent_regions == 0
            && self.searched_by(alert) > self.floor
            && alert.triage_visible_at - self.searched_by(alert) < FARTHEST
            && alert.triage_visible_at + EVERYTHING < self.truth.now
    }

    /// Whether its investigation's row tells of it; if not, whether it was there when that was worked on, or the listing of
    /// everything has come upon it since.
    fn is_told(&self, alert: &TruthAlert, rrn: &str) -> bool {
        let Some(one) = self.truth.investigations.iter().find(|one| one.rrn == rrn) else { return false };
        // What the vendor deletes before a poll goes well cannot be read any more.
        if let Some(gone) = one.gone_at.filter(|gone| *gone <= self.truth.now) {
            let in_time = |poll: &Polled| poll.sound && poll.before > alert.visible_at && poll.after < gone;
            if !self.run.polls.iter().any(in_time) {
                return false;
            }
        }
        if !one.untimed {
            return true;
        }
        let is_open = shown(one, self.truth.now).is_some_and(|version| !is_closed(&version));
        let is_listed = is_open && alert.visible_at + EVERYTHING < self.truth.now;
        // One that had to make room is not gone back to unless its row has changed.
        one.created > self.floor
            && self.scenario.ways.remembered.is_none()
            && self.worked_on(one).is_some_and(|worked_on| is_listed || alert.visible_at <= worked_on)
    }

    fn alert(&self, alert: &TruthAlert) {
        let overlap = self.scenario.overlap();
        let count = self.count(&alert.id);
        let artifacts = self.by_name.get(alert.id.as_str()).into_iter().flatten();
        let mut versions: Vec<(usize, &Value)> = artifacts.map(|artifact| (pieces(artifact), *artifact)).collect();
        versions.sort_by_key(|(pieces, _)| *pieces);
        // Once more when more evidence has come to it.
        let is_more = versions.windows(2).all(|pair| pair[0].0 < pair[1].0);
        assert!(count <= 2 && is_more, "{} came {count} times", alert.id);
        let collected = |rrn: &String| self.versions.contains_key(rrn);
        let wanted = match &alert.investigation {
            Some(rrn) if has_joined(alert) => collected(rrn) && self.is_in_triage_in_time(alert),
            Some(rrn) => collected(rrn) && self.is_in_time(alert) && self.is_told(alert, rrn),
            None => self.is_in_triage_in_time(alert) || self.is_looked_back_to(alert),
        };
        if wanted && self.scenario.ways.alerts && alert.visible_at + overlap < self.truth.now {
            assert!(count > 0, "{alert:#?} is missing{}", self.story(alert.investigation.as_deref()));
        }
        if let Some((_, artifact)) = versions.last() {
            self.details(alert, artifact);
        }
    }

    /// The evidence of an alert, and what its rule says.
    fn details(&self, alert: &TruthAlert, artifact: &Value) {
        let (place, ways) = (&self.scenario.place, &self.scenario.ways);
        let is_early = alert.evidence_visible_at - alert.created <= self.scenario.overlap();
        if !place.triage || !alert.triage || !is_early || !ways.evidence {
            return;
        }
        let message: Value = serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap();
        let says = |tag: &str| artifact["tags"].as_array().is_some_and(|tags| tags.contains(&tag.into()));
        let tagged = says("evidence-unavailable") || says("evidence-cut");
        if message.get("witfoo_cut").is_some() || (tagged && self.scenario.has_faults()) {
            return;
        }
        let pieces = message["evidence"].as_array().into_iter().flatten();
        let found: Vec<&str> = pieces.filter_map(|piece| piece["rrn"].as_str()).collect();
        // What comes later than the overlap comes too late.
        if alert.evidence_whole_at - alert.created > self.scenario.overlap() {
            assert!(alert.evidence.iter().zip(&found).all(|(real, found)| real == found), "the evidence of {alert:#?}");
            return;
        }
        assert_eq!(found, alert.evidence, "the evidence of {alert:#?}{}", self.story(alert.investigation.as_deref()));
        let actors = message["actors"].as_array().into_iter().flatten();
        let found: Vec<&str> = actors.filter_map(|actor| actor["rrn"].as_str()).collect();
        assert_eq!(found, alert.actors, "the actors of {alert:#?}");
        // Where records of alerts seem not to be there, as of a tenant that has no such read, nothing but evidence names any.
        let has_no_record = message.get("investigation").is_some() && message.get("triage").is_none();
        if self.scenario.has_absence() && has_no_record {
            return;
        }
        let texts = artifact["attackTechniqueIds"].as_array().into_iter().flatten();
        let found: BTreeSet<&str> = texts.filter_map(Value::as_str).collect();
        let is_technique = |code: &&str| code.starts_with('T') && code.ends_with(|end: char| end.is_ascii_digit());
        let wanted: BTreeSet<&str> = alert.mitre_tcodes.iter().map(String::as_str).filter(is_technique).collect();
        assert_eq!(found, wanted, "the techniques of {alert:#?}");
    }

    fn nothing_is_invented(&self) {
        let truth = self.truth;
        let alerts = truth.alerts.iter().map(|alert| alert.id.as_str());
        let comments = truth.investigations.iter().flat_map(|one| &one.comments).map(|comment| comment.rrn.as_str());
        let real: BTreeSet<&str> = alerts.chain(comments).collect();
        for (name, artifacts) in &self.by_name {
            let action = artifacts[0]["action"].as_str().unwrap_or_default();
            if matches!(action, "alert" | "comment") {
                assert!(real.contains(name), "{action} {name} is invented");
            }
        }
        let product_alerts = truth.investigations.iter().map(|one| one.product_alerts.len()).sum::<usize>();
        let found = self.by_name.values().flatten().filter(|artifact| artifact["action"] == "product_alert").count();
        assert!(found <= product_alerts, "{found} product alerts of {product_alerts}");
        assert!(self.scenario.ways.comments || self.actions(&self.run.tenant, "comment") == 0);
        assert!(self.scenario.ways.product_alerts || found == 0);
        assert!(self.scenario.ways.restricted || self.actions(&self.run.tenant, "evidence") == 0);
        assert!(self.scenario.ways.alerts || self.actions(&self.run.tenant, "alert") == 0);
    }

    fn actions(&self, tenant: &Tenant, action: &str) -> usize {
        tenant.store.values().filter(|artifact| artifact["action"] == action).count()
    }
}
