//! What version 1 shows: investigations with their alerts inside, and comments (facts, section 3).

use serde_json::{Map, Value, json};

use super::alert::Story;
use crate::moment::{DAY, HOUR, Micros, vendor};
use crate::oddities::late;
use crate::rng::{Dice, mix, uuid_of};
use crate::world::timeline::{State, Timeline};
use crate::world::{Investigation, Organization, World};

/// The element of `GET /idr/v1/investigations`. `assignee` is absent when there is none.
pub(crate) fn investigation(timeline: &Timeline, one: &Investigation, state: &State, now: Micros) -> String {
    let alerts: Vec<Value> = timeline
        .alerts_of(one, now)
        .into_iter()
        .filter_map(|number| timeline.world.alerts.get(number as usize))
        .map(|alert| {
            let story = Story::of(alert);
            json!({"type": story.kind, "type_description": story.description,
                "first_event_time": vendor(alert.created - story.age)})
        })
        .collect();
    let mut out = Map::new();
    out.insert("id".to_owned(), json!(one.uuid()));
    // Old records do not have one.
    if !one.seed.is_multiple_of(5) {
        out.insert("rrn".to_owned(), json!(one.rrn));
    }
    out.insert("title".to_owned(), json!(state.fields.title));
    out.insert("status".to_owned(), json!(state.fields.status));
    out.insert("source".to_owned(), json!(if state.fields.source == "USER" { "MANUAL" } else { &state.fields.source }));
    out.insert("created_time".to_owned(), json!(vendor(one.created)));
    if let Some(person) = &state.fields.assignee {
        out.insert("assignee".to_owned(), json!(person));
    }
    out.insert("alerts".to_owned(), Value::Array(alerts));
    Value::Object(out).to_string()
}

/// A comment that comes from the seed of its investigation.
pub(crate) struct DrawnComment {
    /// When it was written.
    pub(crate) at: Micros,
    ordinal: u64,
    /// The type of its creator.
    by: &'static str,
}

impl DrawnComment {
    /// Whether a person wrote it in the product, which moves `last_accessed`.
    pub(crate) fn is_by_user(&self) -> bool {
        self.by == "USER"
    }

    /// Its RRN.
    fn rrn(&self, organization: Option<&Organization>, one: &Investigation) -> String {
        let (region, id) = organization.map_or(("us", ""), |o| (o.region.as_str(), o.id.as_str()));
        format!("rrn:collaboration:{region}:{id}:comment:{}", uuid_of(mix(one.seed, self.ordinal)))
    }

    /// It as JSON text.
    fn render(&self, world: &World, organization: Option<&Organization>, one: &Investigation) -> String {
        let mut dice = Dice::new(mix(one.seed, 0x00C0_33E7 + self.ordinal));
        let rrn = self.rrn(organization, one);
        let mut out = json!({
            "rrn": rrn, "target": one.rrn, "created_time": vendor(self.at),
            "visibility": dice.pick(&["PUBLIC", "INTERNAL"]),
            "creator": {"type": self.by, "name": "Ellen Example"},
            "body": dice.pick(&["checked with the user\nno further action", "", "see \u{202E}gnp.exe\u{0000}", "{\"a\":"])});
        let kept = json!({"rrn": rrn.replace(":comment:", ":attachment:"), "file_name": "a.png", "size": 1_u64 << 40,
            "scan_status": "CLEAN"});
        if let Some(members) = out.as_object_mut() {
            match dice.below(4) {
                0 => {
                    members.insert("attachments".to_owned(), Value::Null);
                }
                1 => {
                    members.insert("attachments".to_owned(), json!([]));
                }
                2 => {
                    // A comment that is only a file.
                    members.insert("body".to_owned(), Value::Null);
                    members.insert("attachments".to_owned(), json!([kept]));
                }
                _ => {}
            }
            let seed = mix(one.seed, 0x00C0_33E8 + self.ordinal);
            world.odd.thin_out(members, seed, 0, &["creator", "visibility", "body", "attachments"]);
        }
        out.to_string()
    }
}

/// The comments that come from the seed: one generated investigation in five has one to three, in the days after it
/// appears, whatever its state is by then; some have others at any time; none after `end`.
pub(crate) fn drawn_comments(one: &Investigation, end: Micros) -> Vec<DrawnComment> {
    let mut dice = Dice::new(mix(one.seed, 0xC033));
    let count = if one.generated && dice.chance(20) { 1 + dice.below(3) } else { 0 };
    let mut at = one.visible;
    let drawn = (0..count).map(|ordinal| {
        at += dice.between(HOUR / 4, 2 * DAY);
        DrawnComment { at, ordinal, by: dice.pick(&["USER", "USER", "ORG_API_KEY", "SYSTEM"]) }
    });
    let mut drawn: Vec<DrawnComment> = drawn.filter(|comment| comment.at <= end).collect();
    if one.late_extras {
        let mut dice = Dice::new(mix(one.seed, 0xC034));
        let by = ["USER", "ORG_API_KEY", "SYSTEM"];
        let late = (3..5 + dice.below(2)).map(|ordinal| DrawnComment {
            at: late(one, end, &mut dice),
            ordinal,
            by: dice.pick(&by),
        });
        drawn.extend(late);
    }
    drawn
}

/// The comments of an investigation that exist at this instant, as (creation, JSON text), oldest first.
pub(crate) fn comments(world: &World, one: &Investigation, now: Micros) -> Vec<(Micros, String)> {
    let organization = world.organizations.get(one.organization as usize);
    let drawn = drawn_comments(one, world.end).into_iter();
    let mut comments = one.comments.clone();
    comments.extend(drawn.map(|comment| (comment.at, comment.render(world, organization, one))));
    comments.retain(|(created, _)| *created <= now);
    comments.sort_by_key(|(created, _)| *created);
    comments
}
