//! Worlds from a seed.
//!
//! Each investigation is drawn from its own seed, so that asking for more of them does not change the ones before.
//! What is drawn: bursts with equal creation times, fractions of every length, late visibility, alerts that arrive with
//! the investigation, later, and months later, and people who view, assign, prioritise, close and reopen. No claim is
//! made that the proportions are those of a real tenant.

use super::draw::{cut, fields, person, pick, tags};
use super::vocabulary::title;
use super::{Alert, AlertKind, Change, EVIDENCE_DELAY, Investigation, World, spec};
use crate::config::WorldConfig;
use crate::moment::{DAY, HOUR, MINUTE, Micros, SECOND, micros};
use crate::render;
use crate::rng::{Dice, mix};

/// Days before the start in which the ordinary investigations are created: inside the default window of 28.
const HISTORY_DAYS: i64 = 27;

impl World {
    /// The world of this configuration; equal configurations give equal worlds.
    pub fn generate(config: &WorldConfig) -> Self {
        let mut world = World::bare(config.seed, config.start);
        world.end = end_of(config);
        world.odd = config.odd;
        for (number, organization) in config.organizations.iter().enumerate() {
            let id = world.add_organization(
                &organization.region,
                &organization.name,
                config.triage,
                config.restricted_evidence,
            );
            let plan = Plan {
                config,
                organization: id.0,
                seed: mix(config.seed, 0x0005_EED0 + number as u64),
                start: micros(config.start),
                end: world.end,
                delay: i64::try_from(config.longest_delay.as_micros()).unwrap_or(DAY),
            };
            plan.fill(&mut world);
        }
        world
    }
}

/// When the world comes to rest.
fn end_of(config: &WorldConfig) -> Micros {
    micros(config.start).saturating_add(i64::from(config.horizon_days) * DAY)
}

/// What is needed to draw the records of one organization.
struct Plan<'a> {
    config: &'a WorldConfig,
    organization: u32,
    seed: u64,
    start: Micros,
    end: Micros,
    delay: Micros,
}

/// The age of an investigation when the simulator starts.
#[derive(Clone, Copy, PartialEq)]
enum Age {
    Recent,
    Old,
    Future,
    /// It gains alerts until the end.
    Growing,
}

impl Plan<'_> {
    fn fill(&self, world: &mut World) {
        let growth = self.config.growth_per_day.saturating_mul(self.config.horizon_days as usize);
        let first = world.investigations.len() as u32;
        let groups = [
            (Age::Recent, self.config.investigations),
            (Age::Old, self.config.old_investigations),
            (Age::Future, growth),
            (Age::Growing, self.config.odd.growing_investigations),
        ];
        for (group, (age, count)) in groups.into_iter().enumerate() {
            let mut before = None;
            for number in 0..count {
                let seed = mix(self.seed, ((group as u64) << 40) + number as u64);
                let created = self.investigation(world, seed, age, before);
                before = Some(created);
            }
        }
        for number in 0..self.config.standalone_alerts.saturating_add(growth) {
            let future = number >= self.config.standalone_alerts;
            self.standalone_alert(world, mix(self.seed, (9 << 40) + number as u64), future, first);
        }
    }

    /// Adds one investigation; returns its creation.
    fn investigation(&self, world: &mut World, seed: u64, age: Age, before: Option<Micros>) -> Micros {
        let mut dice = Dice::new(seed);
        let drawn = match age {
            Age::Recent => self.start - dice.between(SECOND, HISTORY_DAYS * DAY),
            Age::Old => self.start - dice.between(40 * DAY, 380 * DAY),
            Age::Future => dice.between(self.start + SECOND, self.end.max(self.start + SECOND)),
            Age::Growing => self.start - dice.between(SECOND, 20 * DAY),
        };
        // Bursts share one instant to the microsecond: exclusive bounds then cut through them.
        let created = match before {
            Some(before) if dice.chance(6) => before,
            _ => cut(drawn, &mut dice),
        };
        let mut visible = created + self.lag(&mut dice);
        if age != Age::Future {
            visible = visible.min(self.start);
        }
        let manual = dice.chance(15);
        let fields = fields(&mut dice, manual);
        let organization = world.organizations.get(self.organization as usize);
        let rrn = organization.map(|organization| spec::investigation_rrn(organization, seed)).unwrap_or_default();
        let retention = i64::from(self.config.retention_days) * DAY;
        let mut investigation = Investigation {
            seed,
            organization: self.organization,
            rrn,
            created,
            visible,
            gone: (retention > 0).then_some(created + retention),
            first: fields,
            changes: Vec::new(),
            alerts: Vec::new(),
            product_alerts: Vec::new(),
            comments: Vec::new(),
            generated: true,
            late_extras: self.config.odd.has_late_extras(seed),
            untimed: mix(seed, 0x7173) % 100 < u64::from(self.config.untimed_percent),
        };
        if self.config.changes {
            self.changes(&mut investigation, &mut dice);
            // Who writes a comment in the product looks at the investigation; programs do not.
            for comment in render::legacy::drawn_comments(&investigation, self.end) {
                if comment.is_by_user() {
                    investigation.changes.push((comment.at, Change::Viewed));
                }
            }
        }
        let number = world.investigations.len() as u32;
        self.alerts(world, &mut investigation, number, &mut dice, manual, age);
        world.investigations.push(investigation);
        created
    }

    /// How long a record stays unseen: seconds mostly, minutes at times, the longest delay rarely.
    fn lag(&self, dice: &mut Dice) -> Micros {
        let lag = match dice.below(100) {
            0..=69 => dice.between(0, 10 * SECOND),
            70..=94 => dice.between(0, 2 * MINUTE),
            _ => dice.between(2 * MINUTE, self.delay),
        };
        lag.min(self.delay)
    }

    /// What people do to it.
    fn changes(&self, investigation: &mut Investigation, dice: &mut Dice) {
        let mut at = investigation.created;
        let steps = dice.below(7);
        let mut closed = investigation.first.status == "CLOSED";
        let mut status = investigation.first.status.clone();
        for _ in 0..steps {
            at += match dice.below(4) {
                0 => dice.between(SECOND, 20 * MINUTE),
                1 => dice.between(MINUTE, 6 * HOUR),
                2 => dice.between(HOUR, 2 * DAY),
                _ => dice.between(DAY, 12 * DAY),
            };
            if at > self.end {
                return;
            }
            let change = match dice.below(10) {
                0..=2 => Change::Viewed,
                3 => Change::Priority(pick(dice, &["CRITICAL", "HIGH", "MEDIUM", "LOW", "UNSPECIFIED"])),
                4 => Change::Assignee(person(dice)),
                5 => Change::Tags(tags(dice)),
                6 if !closed => Change::Title(title(dice)),
                _ => {
                    // Opened again, it returns to the state it had: a version that must not pass for a repetition.
                    let next = if closed {
                        pick(dice, &["OPEN", "INVESTIGATING"])
                    } else {
                        pick(dice, &["INVESTIGATING", "WAITING", "CLOSED", "CLOSED"])
                    };
                    if next == "CLOSED" && dice.chance(60) {
                        let verdict = ["BENIGN", "MALICIOUS", "FALSE_POSITIVE", "SECURITY_TEST", "NOT_APPLICABLE"];
                        investigation.changes.push((at, Change::Disposition(pick(dice, &verdict))));
                    }
                    closed = next == "CLOSED";
                    if next == status {
                        continue;
                    }
                    status.clone_from(&next);
                    Change::Status(next)
                }
            };
            investigation.changes.push((at, change));
        }
        if closed && dice.chance(25) {
            // Closed, opened and closed again, each some time after the other.
            let opened = at + dice.between(10 * MINUTE, DAY);
            let again = opened + dice.between(10 * MINUTE, DAY);
            if again <= self.end {
                investigation.changes.push((opened, Change::Status("OPEN".into())));
                investigation.changes.push((again, Change::Status("CLOSED".into())));
            }
        }
    }

    /// Its alerts: those it appears with, and those that come later.
    fn alerts(
        &self,
        world: &mut World,
        investigation: &mut Investigation,
        number: u32,
        dice: &mut Dice,
        manual: bool,
        age: Age,
    ) {
        let mean = self.config.alerts_per_investigation as u64;
        let first = match (self.config.exact_alerts, manual) {
            (true, _) => mean,
            (false, true) => 0,
            (false, false) if mean == 0 => 0,
            (false, false) => 1 + dice.below(mean.saturating_mul(2).saturating_sub(1)),
        };
        // Rarely all of them come late, at one instant: one by one they could be lost to a collector that has seen the
        // first and rightly thinks it old.
        let late = dice.chance(1).then(|| investigation.visible + dice.between(0, 3 * self.delay));
        for ordinal in 0..first {
            let created =
                (investigation.created - dice.between(-SECOND, 30 * SECOND)).max(investigation.created - MINUTE);
            let soon = investigation.visible.max(created) + dice.between(2 * SECOND, 90 * SECOND);
            let mut visible = late.map_or(soon, |late| late.max(created));
            if age != Age::Future {
                visible = visible.min(self.start);
            }
            let times = (cut(created, dice), investigation.visible, visible);
            self.alert(world, investigation, number, ordinal, times, dice);
        }
        if self.config.exact_alerts {
            return;
        }
        let later = match age {
            Age::Growing => (self.config.odd.growing_alerts as u64).saturating_sub(first),
            Age::Old => u64::from(dice.chance(80)),
            _ if manual => 0,
            _ => u64::from(dice.chance(20)) * (1 + dice.below(3)),
        };
        let mut before = None;
        for ordinal in 0..later {
            let from = if age == Age::Old { self.start - 2 * DAY } else { investigation.created };
            let drawn = cut(dice.between(from, self.end.max(from)), dice);
            // Where there are many, they come in bursts.
            let created = before.filter(|_| age == Age::Growing && dice.chance(30)).unwrap_or(drawn);
            before = Some(created);
            let visible = created + self.lag(dice);
            // The row may already show an alert that the list does not have yet.
            let on_row = dice.between(created, visible);
            self.alert(world, investigation, number, first + ordinal, (created, on_row, visible), dice);
        }
    }

    /// One alert of an investigation, with its creation and when the row and the list show it.
    fn alert(
        &self,
        world: &mut World,
        investigation: &mut Investigation,
        number: u32,
        ordinal: u64,
        (created, on_row, visible): (Micros, Micros, Micros),
        dice: &mut Dice,
    ) {
        let kind = match dice.below(10) {
            0..=5 => AlertKind::DetectionRule,
            6..=8 => AlertKind::UserBehavior,
            _ => AlertKind::Investigation,
        };
        let seed = mix(investigation.seed, 0xA1E_0000 + ordinal);
        let triage_visible = self.triage_visible(seed, created, visible);
        investigation.alerts.push(world.alerts.len() as u32);
        let evidence_visible = visible.max(triage_visible) + EVIDENCE_DELAY + dice.between(0, 2 * MINUTE);
        world.alerts.push(Alert {
            seed,
            organization: self.organization,
            investigation: Some(number),
            kind,
            created,
            on_row,
            visible,
            triage_visible,
            evidence_visible,
            evidence_whole: evidence_visible + self.config.odd.spread(seed),
            evidence: self.evidence(dice),
            pinned: None,
        });
    }

    /// When the triage API knows an alert of an investigation: as soon as that lists it, for one in three earlier, for
    /// one in twenty up to two minutes later (never later than the start when it is listed by then).
    fn triage_visible(&self, seed: u64, created: Micros, visible: Micros) -> Micros {
        let mut dice = Dice::new(mix(seed, 0x7A1A));
        match dice.below(100) {
            0..=32 => dice.between(created, visible),
            33..=37 if visible <= self.start => (visible + dice.between(SECOND, 2 * MINUTE)).min(self.start),
            33..=37 => visible + dice.between(SECOND, 2 * MINUTE),
            _ => visible,
        }
    }

    /// A triage alert without investigation; one in five is made part of one later, unless worlds are to be exact.
    /// `first` is the organization's first investigation.
    fn standalone_alert(&self, world: &mut World, seed: u64, future: bool, first: u32) {
        let mut dice = Dice::new(seed);
        let (from, to) = if future {
            (self.start + SECOND, self.end)
        } else {
            (self.start - HISTORY_DAYS * DAY, self.start - self.delay)
        };
        let created = cut(dice.between(from, to.max(from)), &mut dice);
        let known = created + self.lag(&mut dice) + self.config.odd.lateness(seed);
        let evidence_visible = known + EVIDENCE_DELAY + dice.between(0, 2 * MINUTE);
        let evidence = self.evidence(&mut dice);
        let joined = if self.config.exact_alerts { None } else { self.joins(world, &mut dice, known, first) };
        let visible = joined.map_or(known, |(_, at)| at);
        let number = world.alerts.len() as u32;
        if let Some(investigation) =
            joined.and_then(|(investigation, _)| world.investigations.get_mut(investigation as usize))
        {
            investigation.alerts.push(number);
        }
        world.alerts.push(Alert {
            seed,
            organization: self.organization,
            investigation: joined.map(|(investigation, _)| investigation),
            kind: AlertKind::DetectionRule,
            created,
            on_row: visible,
            visible,
            triage_visible: known,
            evidence_visible,
            evidence_whole: evidence_visible + self.config.odd.spread(seed),
            evidence,
            pinned: None,
        });
    }

    /// Which investigation an alert becomes part of, and when: after half an hour to a day. It is one of the first
    /// hundred, so that further ones change nothing.
    fn joins(&self, world: &World, dice: &mut Dice, known: Micros, first: u32) -> Option<(u32, Micros)> {
        let (chosen, nth, at) = (dice.chance(20), dice.below(100), known + dice.between(HOUR / 2, DAY));
        let nth = u32::try_from(nth).ok().filter(|nth| chosen && (*nth as usize) < self.config.investigations)?;
        let number = first.checked_add(nth)?;
        let is_there = |one: &Investigation| one.visible <= at && one.gone.is_none_or(|gone| at < gone);
        (at <= self.end && world.investigations.get(number as usize).is_some_and(is_there)).then_some((number, at))
    }

    /// How many evidence records an alert has.
    fn evidence(&self, dice: &mut Dice) -> u16 {
        let most = self.config.evidence_per_alert as u64;
        let count = if self.config.exact_alerts { most } else { dice.below(most.saturating_add(1)) };
        u16::try_from(count).unwrap_or(u16::MAX)
    }
}
