//! A desk to try the command line at: the real connector, a simulator that could be asked, and an instance that would
//! work but for the one thing that is wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use insightidr_simulator::{InvestigationSpec, World, WorldConfig};

use super::host::{CACHE, Stage, connector};

/// Settings, secret and route of an instance that works.
pub const GOOD: [&str; 4] = ["--set", "region=us", "--secret", "api_key=env:KEY_US"];

/// What a command came to.
pub struct Told {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A stage with one investigation to collect and the connector in its directory.
pub struct Desk {
    pub stage: Stage,
    route: String,
}

impl Desk {
    pub fn new() -> Self {
        let mut world = World::empty_in("us");
        let created = WorldConfig::default().start - time::Duration::hours(1);
        world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        let stage = Stage::of(world);
        std::os::unix::fs::symlink(connector(), stage.dir.path().join("connector.wasm")).unwrap();
        let route = format!("us.api.insight.rapid7.com={}", stage.url());
        Self { stage, route }
    }

    /// Runs a command as it stands, with a proxy in the environment that must not be used: nobody listens there. Where
    /// the simulator listens shows as `SIMULATOR`.
    pub fn run(&self, arguments: &[&str]) -> Told {
        let mut command = self.stage.command(arguments);
        for proxy in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"] {
            command.env(proxy, "http://127.0.0.1:9");
        }
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&self.stage.url(), "SIMULATOR");
        Told { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs `check` or `poll` with the connector, the route and these arguments. Compiled code is shared by all tests.
    pub fn ask(&self, command: &str, arguments: &[&str]) -> Told {
        let mut all = vec![command, "--connector", "connector.wasm", "--cache", CACHE, "--route", &self.route];
        if command == "poll" {
            all.extend(["--instance", "acme", "--state", "state", "--clock", "2026-01-15T12:00:00Z"]);
        }
        all.extend(arguments);
        self.run(&all)
    }

    /// What is said when `check` and `poll` refuse these arguments: the same but for the name of the instance, and
    /// nothing was asked of the vendor.
    pub fn refused(&self, arguments: &[&str]) -> String {
        let said = self.refused_by("check", arguments).replace(" instance=\"check\"", "");
        let polled = self.refused_by("poll", arguments).replace(" instance=\"acme\"", "");
        assert_eq!(said, polled, "check and poll say the same");
        said
    }

    pub fn refused_by(&self, command: &str, arguments: &[&str]) -> String {
        let told = self.ask(command, arguments);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{}", told.stderr);
        assert_eq!(self.stage.simulator.request_count(), 0, "the vendor was asked: {}", told.stderr);
        told.stderr
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.stage.dir.path().join(name)
    }

    /// A file for the owner alone.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// The good arguments and more.
pub fn good<'a>(more: &[&'a str]) -> Vec<&'a str> {
    GOOD.iter().copied().chain(more.iter().copied()).collect()
}
