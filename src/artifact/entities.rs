//! Who and what was involved in an alert: the actors as fields.
//!
//! Address fields hold addresses only, because the search index refuses
//! anything else there and would lose the artifact.
//!
//! Not guaranteed: of several actors of one type the first is taken; all of
//! them stand in the message.

use std::net::IpAddr;

use serde::Serialize;

use crate::api::records::Members;

/// The fields that entities fill.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entities {
    /// Address the activity came from.
    #[serde(rename = "clientIP", skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
    /// Host the activity came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_hostname: Option<String>,
    /// Account that was used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_name: Option<String>,
}

impl Entities {
    /// Takes an actor of an alert in: an asset, an account or an address.
    pub fn add_actor(&mut self, actor: &Members<'_>) {
        let Some(name) = actor.text("display_name") else { return };
        let name = crate::text::cut(&name, 256).to_owned();
        let kind = actor.text("type");
        let slot = match kind.as_deref() {
            Some("ASSET") if name.parse::<IpAddr>().is_err() => &mut self.client_hostname,
            Some("ACCOUNT") => &mut self.user_name,
            Some("ASSET" | "IP_ADDRESS") if name.parse::<IpAddr>().is_ok() => &mut self.client_ip,
            _ => return,
        };
        if slot.is_none() {
            *slot = Some(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_fill_the_field_of_their_type_and_addresses_only_address_fields() {
        let mut entities = Entities::default();
        for json in [
            r#"{"type":"ASSET","display_name":"pc-7"}"#,
            r#"{"type":"ASSET","display_name":"pc-8"}"#,
            r#"{"type":"ASSET","display_name":"10.1.2.3"}"#,
            r#"{"type":"IP_ADDRESS","display_name":"not an address"}"#,
            r#"{"type":"ACCOUNT","display_name":"jdoe"}"#,
            r#"{"type":"ROBOT","display_name":"r2"}"#,
            r#"{"type":"ACCOUNT"}"#,
        ] {
            entities.add_actor(&Members::parse(json).unwrap());
        }
        assert_eq!(entities.client_hostname.as_deref(), Some("pc-7"));
        assert_eq!(entities.client_ip.as_deref(), Some("10.1.2.3"));
        assert_eq!(entities.user_name.as_deref(), Some("jdoe"));
    }
}
