//! Lies in `describe` and `configure`.

use host_harness::connectors::{LoadError, TenantError};

use crate::hostile::component::describing;
use crate::hostile::stage::{Stage, hostile};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_lies_about_itself_is_refused_by_field() {
    let stage = Stage::new().await;
    for (act, field) in [
        ("header-host", "credentials[0].header"),
        ("header-proxy", "credentials[0].header"),
        ("header-cookie", "credentials[0].header"),
        ("header-override", "credentials[0].header"),
        ("header-crlf", "credentials[0].header"),
        ("header-visible", "credentials[0].header"),
        ("credential-twice", "credentials[1].setting"),
        ("credential-of-a-text", "credentials[1].setting"),
        ("secret-without-credential", "credentials"),
        ("secret-default", "settings[2].default"),
        ("many-settings", "settings"),
        ("streams", "streams"),
        ("control", "display-name"),
        ("backwards", "display-name"),
        ("name-of-none", "name"),
        ("name-with-path", "name"),
        ("docs-script", "vendor-docs"),
        ("never-polled", "default-poll-minutes"),
        ("polled-at-once", "minimum-poll-minutes"),
    ] {
        match stage.load(describing(act)).await {
            Err(error @ LoadError::Descriptor(_)) => {
                let text = error.to_string();
                assert!(text.contains(&format!("wrongly: {field} ")), "{act}: {text}");
                assert!(!text.contains(char::is_control), "{act}: {text:?}");
            }
            other => panic!("{act}: {other:?}"),
        }
    }
    match stage.load(describing("huge")).await {
        Err(LoadError::Describe(error)) => {
            assert!(matches!(error.code(), "connector-trap" | "memory-limit"), "{error}")
        }
        other => panic!("huge: {other:?}"),
    }
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_for_what_no_connector_may_reach_makes_no_tenant() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let canary = stage.canary.address.to_string();
    let origins = [
        "127.0.0.1",
        &canary,
        "localhost",
        "[::1]",
        "0x7f.1",
        "2130706433",
        "169.254.169.254",
        "API.hostile.example",
        "api.hostile.example/admin",
        "user@api.hostile.example",
        "api.hostile.example:443",
        "api.hostile.example\r\nx-a: 1",
        "",
    ];
    let mut lies: Vec<(&str, &str, &str)> = origins.iter().map(|origin| ("origin", *origin, "origin.host")).collect();
    lies.extend([
        ("port-0", "", "origin.port"),
        ("no-rules", "", "rules"),
        ("rules", "", "rules"),
        ("method-connect", "", "rules[2].method"),
        ("method-crlf", "", "rules[2].method"),
        ("path-up", "", "rules[2].path-prefix"),
        ("path-encoded", "", "rules[2].path-prefix"),
        ("path-none", "", "rules[2].path-prefix"),
    ]);
    for (act, argument, field) in lies {
        let options = stage.options("liar", &format!("configure:{act}"), argument);
        let error = stage.beside_the_neighbour(connector.tenant(options)).await.unwrap_err();
        assert_eq!(error.code(), "plan-invalid", "{act} {argument}: {error}");
        assert!(error.to_string().contains(&format!(": {field} ")), "{act} {argument}: {error}");
    }
    let options = stage.options("plain", "configure:plain-http", "");
    assert_eq!(connector.tenant(options).await.unwrap_err().code(), "plan-plain-http");
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_pasted_into_a_setting_does_not_come_back_in_an_error() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    let options = stage.options("pasted", "configure:errors", crate::hostile::secrets::SECRET);
    let error = stage.beside_the_neighbour(connector.tenant(options)).await.unwrap_err();
    let TenantError::Configure(_) = &error else { panic!("{error}") };
    assert_eq!(error.code(), "invalid-settings");
    let text = error.to_string();
    assert!(!text.contains(char::is_control) && text.len() < 1 << 20, "{} bytes", text.len());
    crate::hostile::secrets::assert_none("the error", text.as_bytes());
    stage.assert_clean();
}
