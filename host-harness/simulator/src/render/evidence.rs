//! Evidence in every shape of the facts (6.4 and section 5).
//!
//! `data` is a string. It may hold JSON, JSON with further JSON strings inside, plain text, broken JSON, nothing, or
//! something very deep or very long that an attacker arranged. Which one an evidence record has follows from its seed.

use serde_json::{Value, json};

use super::alert::Story;
use crate::moment::{Micros, vendor};
use crate::rng::{Dice, hex32, mix, short_id, uuid_of};
use crate::world::{Alert, World};

/// The shapes, each with the `event_type` that goes with it.
const SHAPES: [(&str, &str); 16] = [
    ("process", "process_start_event"),
    ("process_tree", "process_start_event"),
    ("ingress", "ingress_auth"),
    ("ingress_string", "ingress_auth"),
    ("dns", "dns_query"),
    ("web", "web_proxy"),
    ("file", "file_modification_event"),
    ("asset_auth", "asset_auth"),
    ("firewall", "firewall"),
    ("text", "raw"),
    ("syslog", "raw"),
    ("broken", "raw"),
    ("empty", "raw"),
    ("array", "host_to_user_observation"),
    ("deep", "generic_json"),
    ("long", "powershell"),
];

/// The evidence records of an alert that are there at this instant.
pub(crate) fn records(world: &World, alert: &Alert, now: Micros) -> Vec<String> {
    let there = |count: usize| alert.pieces(count, alert.evidence_visible, now);
    if let Some(records) = alert.pinned.as_ref().and_then(|pinned| pinned.evidence.as_ref()) {
        return records.get(..there(records.len())).unwrap_or_default().to_vec();
    }
    let Some(organization) = world.organizations.get(alert.organization as usize) else {
        return Vec::new();
    };
    let story = Story::of(alert);
    // What came in pieces is looked through once more when it is whole.
    let again = alert.is_piecemeal() && now >= alert.evidence_whole;
    let updated = if again { alert.evidence_whole } else { alert.evidence_visible };
    (0..alert.evidence)
        .take(there(usize::from(alert.evidence)))
        .map(|ordinal| {
            let seed = mix(story.seed, 0xE71D + u64::from(ordinal));
            let (shape, event) = shape_of(seed);
            let evented = alert.created - story.age / 2;
            let mut record = json!({
                "rrn": rrn(organization, seed),
                "version": 1 + u8::from(again),
                "created_at": vendor(alert.evidence_visible),
                "updated_at": vendor(updated),
                "evented_at": vendor(evented),
                "external_source": "IDR ABA",
                "data": data(shape, &story, alert.created - story.age, seed)});
            // The specification's text names the member otherwise than the payloads do.
            let member = if seed.is_multiple_of(11) { "external_type" } else { "event_type" };
            if let Some(members) = record.as_object_mut() {
                members.insert(member.to_owned(), json!(event));
                world.odd.thin_out(
                    members,
                    seed,
                    0,
                    &["version", "updated_at", "evented_at", "external_source", member],
                );
            }
            record.to_string()
        })
        .collect()
}

/// The RRNs of an alert's generated evidence, for the truth.
pub(crate) fn names(world: &World, alert: &Alert) -> Vec<String> {
    let pinned = alert.pinned.as_ref().and_then(|pinned| pinned.evidence.as_ref());
    if let Some(records) = pinned {
        return named(records);
    }
    let Some(organization) = world.organizations.get(alert.organization as usize) else {
        return Vec::new();
    };
    let story = Story::of(alert);
    (0..alert.evidence).map(|ordinal| rrn(organization, mix(story.seed, 0xE71D + u64::from(ordinal)))).collect()
}

/// The RRNs of records that have one.
pub(crate) fn named(records: &[String]) -> Vec<String> {
    let values = records.iter().filter_map(|record| serde_json::from_str::<Value>(record).ok());
    values.filter_map(|record| record.get("rrn").and_then(Value::as_str).map(str::to_owned)).collect()
}

fn rrn(organization: &crate::world::Organization, seed: u64) -> String {
    format!("rrn:alerts:{}:{}:evidence:1:{}", organization.alert_region(), organization.id, hex32(seed))
}

/// The shape of a seed: the very deep and the very long ones are rarer.
fn shape_of(seed: u64) -> (&'static str, &'static str) {
    let mut dice = Dice::new(seed);
    match dice.pick(&SHAPES) {
        ("deep" | "long", _) if dice.chance(70) => ("process", "process_start_event"),
        shape => shape,
    }
}

/// The `data` string.
fn data(shape: &str, story: &Story, event: Micros, seed: u64) -> String {
    let mut dice = Dice::new(mix(seed, 0xDA7A));
    let at = vendor(event);
    let (image, command) = story.process;
    let name = image.rsplit(['\\', '/']).next().unwrap_or(image);
    let hashes = json!({"md5": hex32(seed), "sha1": format!("{}{}", hex32(seed), &hex32(mix(seed, 1)).get(..8).unwrap_or_default()),
        "sha256": format!("{}{}", hex32(mix(seed, 2)), hex32(mix(seed, 3)))});
    let process = json!({
        "pid": dice.below(65_000), "name": name, "exe_path": image, "cmd_line": command, "username": format!("CORP\\{}", story.user.0),
        "start_time": at, "hash_reputation": {"reputation": "Malicious", "reliability": "High", "first_analyzed_time": at},
        "hashes": hashes, "exe_file": {"owner": "BUILTIN\\Administrators", "size": 9_007_199_254_740_993_u64, "hashes": hashes}});
    match shape {
        "process" => json!({"timestamp": at, "hostname": story.host, "dns_domain": "corp.example.com", "os_type": "WINDOWS",
            "r7_hostid": hex32(seed), "process": process,
            "parent_process": {"pid": 4, "name": "explorer.exe", "exe_path": r"C:\Windows\explorer.exe", "cmd_line": "explorer.exe"},
            "r7_context": {"asset": {"type": "asset", "name": story.host, "rrn": format!("rrn:uba:us::asset:{}", short_id(seed, 12))},
                "user": {"type": "user", "name": story.user.1}}})
        .to_string(),
        // The process in a string in the string.
        "process_tree" => json!({"timestamp": at, "contentType": "process_start_event",
            "content": json!({"hostname": story.host, "process": process, "eventCode": 4688}).to_string(),
            "eventSource": {"name": "Endpoint Agents", "id": uuid_of(seed), "type": "ENDPOINT"}})
        .to_string(),
        "ingress" => json!({"timestamp": at, "user": story.user.1, "account": format!("{}@example.com", story.user.0),
            "result": "FAILED_BAD_PASSWORD", "source_ip": story.client, "service": "o365", "geoip_city": "Boston",
            "geoip_country_code": "US", "geoip_organization": "Example Transit",
            "source_json": {"Operation": "UserLoginFailed", "RecordType": 15, "ClientIP": story.client, "ErrorNumber": "50126",
                "UserId": format!("{}@example.com", story.user.0), "ExtendedProperties": [{"Name": "RequestType", "Value": "OAuth2:Token"}]},
            "custom_data": {"source account": "x"}})
        .to_string(),
        "ingress_string" => json!({"timestamp": at, "account": story.user.0, "source_ip": format!("{}:50443", story.client),
            "source_json": json!({"eventName": "ConsoleLogin", "sourceIPAddress": story.client,
                "userIdentity": json!({"type": "IAMUser", "userName": story.user.0}).to_string()}).to_string()})
        .to_string(),
        "dns" => json!({"timestamp": at, "asset": story.host, "user": story.user.0, "source_address": story.client,
            "query": story.domain, "public_suffix": "test", "top_private_domain": story.domain, "query_type": "A",
            "source_data": format!("{at} {} query: {} IN A + (10.0.0.2)", story.client, story.domain)})
        .to_string(),
        "web" => json!({"timestamp": at, "source_asset": story.host, "source_user": story.user.0, "source_address": story.client,
            "destination_address": story.server, "destination_port": 443, "url": format!("https://{}/a?b=c%20d&e=\"f\"", story.domain),
            "http_method": "POST", "outgoing_bytes": 18_446_744_073_709_551_615_u64, "incoming_bytes": "1204",
            "user_agent": "Mozilla/5.0 (\u{202E}evil)"})
        .to_string(),
        "file" => json!({"timestamp": at, "hostname": story.host, "user": story.user.0, "file_event": "CREATE",
            "file_path": image, "file_name": name, "file_extension": "exe", "file_hash": hashes, "target_file": {"path": image, "hashes": null}})
        .to_string(),
        // A local account, and a name where an address is expected.
        "asset_auth" if seed.is_multiple_of(3) => json!({"timestamp": at, "destination_asset": story.host,
            "destination_asset_address": if seed.is_multiple_of(2) { story.server } else { story.host },
            "destination_local_account": story.user.0, "source_asset_address": story.client, "logon_type": "NETWORK",
            "result": "FAILED_BAD_PASSWORD", "service": "ntlm", "new_authentication": "false"})
        .to_string(),
        "asset_auth" => json!({"timestamp": at, "destination_asset": story.host, "destination_user": story.user.0,
            "destination_local_account": "", "source_asset": null, "source_asset_address": story.client, "logon_type": "NETWORK",
            "result": "SUCCESS", "service": "kerberos", "new_authentication": "true"})
        .to_string(),
        "firewall" => json!({"timestamp": at, "asset": story.host, "source_address": story.client, "source_port": "51034",
            "destination_address": story.server, "destination_port": "3389", "transport_protocol": "TCP", "direction": "OUTBOUND",
            "connection_status": "ACCEPT", "geoip_country_name": "unknown", "source_ip": "not an address", "dest_ip": 3_232_235_777_u32})
        .to_string(),
        "text" => format!("User {} was seen on {} from {}", story.user.1, story.host, story.client),
        "syslog" => format!("<134>Jan 15 12:00:00 fw01 %ASA-4-106023: Deny tcp src outside:{}/51034 dst inside:{}/445\n\t\"x\"\\",
            story.client, story.server),
        "broken" => {
            let whole = json!({"timestamp": at, "user": story.user.0, "source_ip": story.client, "note": "cut off here"}).to_string();
            whole.chars().take(whole.chars().count().saturating_sub(9)).collect()
        }
        "empty" => String::new(),
        "array" => json!([{"timestamp": at, "user": story.user.0}, "loose", 7, null, {"address": story.client}]).to_string(),
        "deep" => {
            let depth = 3_000;
            format!("{}{}{}", r#"{"a":["#.repeat(depth), json!(story.client), "]}".repeat(depth))
        }
        _ => json!({"timestamp": at, "hostname": story.host, "script": "IEX ".repeat(20_000), "user": story.user.0}).to_string(),
    }
}

/// The answer of the restricted endpoint for an investigation: occurrences with `details` whose `content` and
/// `logline` are strings of JSON.
pub(crate) fn restricted(world: &World, alerts: &[&Alert]) -> Value {
    let occurrences: Vec<Value> = alerts
        .iter()
        .map(|alert| {
            let story = Story::of(alert);
            let seed = mix(story.seed, 0x0D1);
            let event = alert.created - story.age;
            // Strings of JSON, of JSON in JSON, and of what was JSON before it was cut.
            let shape = ["process", "process", "process_tree", "dns", "broken", "text"];
            let shape = shape.get((seed % 6) as usize).copied().unwrap_or("process");
            let content = data(shape, &story, event, seed);
            let source = json!({"name": "Endpoint Agents", "id": uuid_of(seed), "type": "ENDPOINT"});
            let mut evidence = vec![
                json!({"type": "OdinMatchEvidence", "title": "Detection", "description": "",
                    "details": {"odinIndicatorId": short_id(seed, 12), "odinIndicatorVersion": 3, "matchId": uuid_of(seed),
                        "detectionRuleRrn": story.rule_rrn}}),
                json!({"type": "OdinMatchContentEvidence", "title": "Content", "description": null,
                    "details": {"contentType": "process_start_event", "content": content, "eventSource": source}}),
            ];
            if seed.is_multiple_of(3) {
                evidence.push(json!({"type": "HoneypotConnectionEvidence", "title": "Honeypot", "description": "",
                    "details": {"account": {"name": story.user.0}, "logline": data("ingress_string", &story, event, seed)}}));
            }
            match seed % 7 {
                0 => evidence.push(json!({"type": "UnknownEvidence", "title": null, "details": {"logline": data("broken", &story, event, seed)}})),
                1 => evidence.push(json!({"type": "AuthenticationEvidence", "title": "Log entry", "description": "",
                    "details": {"account": {"name": null}, "logline": ""}})),
                2 => evidence.push(json!({"type": "OdinMatchContentEvidence", "title": "Content", "details": null})),
                _ => {}
            }
            json!({"headline": story.title, "start_time": vendor(alert.created), "alert": world.id_of(alert), "evidence": evidence})
        })
        .collect();
    json!({"indicator_occurrences": occurrences})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WorldConfig;

    #[test]
    fn every_shape_occurs_and_every_record_is_one_json_object() {
        let world = World::generate(&WorldConfig { investigations: 400, ..WorldConfig::default() });
        let mut kinds = [0_usize; 4];
        for alert in &world.alerts {
            for record in records(&world, alert, Micros::MAX) {
                let record: Value = serde_json::from_str(&record).unwrap();
                let text = record["data"].as_str().unwrap();
                let kind = match serde_json::from_str::<Value>(text) {
                    Ok(value) if value.is_object() => 0,
                    Ok(_) => 1,
                    Err(error) if error.to_string().contains("recursion") => 2,
                    Err(_) => 3,
                };
                kinds[kind] += 1;
            }
            assert_eq!(names(&world, alert).len(), usize::from(alert.evidence));
        }
        assert!(kinds.iter().all(|count| *count > 0), "{kinds:?}");
        let mut seen: Vec<&str> = (0..4_000).map(|seed| shape_of(seed).0).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), SHAPES.len());
    }
}
