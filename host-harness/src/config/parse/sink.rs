//! Where artifacts go: `sink` of `[host]`, and the keys beside it.

use url::Url;

use super::super::SinkConfig;
use super::super::reader::{At, Section};
use super::Parser;
use crate::sinks::{BusConfig, LineForm, Subject};

/// What `sink_lines` says.
pub(super) fn lines(section: &Section<'_, '_>) -> LineForm {
    section.text("sink_lines").map_or(LineForm::default(), |form| match form.value.as_str() {
        "artifact" => LineForm::Artifact,
        "with-instance" => LineForm::WithInstance,
        _ => {
            section.wrong(form.at, "sink_lines", "\"artifact\" or \"with-instance\"");
            LineForm::default()
        }
    })
}

impl<'a> Parser<'a> {
    /// Where artifacts go.
    pub(super) fn sink(&self, section: &Section<'a, '_>, sink: Option<At<String>>) -> SinkConfig {
        let subject = section.text("sink_subject");
        let credentials = section.text("sink_credentials");
        let at_bus = [
            subject.as_ref().map(|one| ("sink_subject", one.at)),
            credentials.as_ref().map(|one| ("sink_credentials", one.at)),
        ];
        let sink = sink.unwrap_or(At { value: "none".to_owned(), at: 0 });
        if sink.value.starts_with("nats:") || sink.value.starts_with("tls:") {
            return self.bus(section, &sink, subject, credentials).map_or(SinkConfig::None, SinkConfig::Bus);
        }
        for (key, at) in at_bus.into_iter().flatten() {
            let reason = format!("{key} in [host] is for a sink \"nats://HOST:PORT\"");
            self.report.problem(at, "config-value", reason, "remove it, or correct the sink");
        }
        match sink.value.split_once(':') {
            Some(("file", path)) if !path.is_empty() => SinkConfig::File(self.path(path)),
            _ if sink.value == "stdout" => SinkConfig::Stdout,
            _ if sink.value == "none" => SinkConfig::None,
            _ => {
                section.wrong(sink.at, "sink", "\"file:PATH\", \"nats://HOST:PORT\", \"stdout\" or \"none\"");
                SinkConfig::None
            }
        }
    }

    /// The bus; nothing, and what is wrong reported, when it is none.
    fn bus(
        &self,
        section: &Section<'a, '_>,
        sink: &At<String>,
        subject: Option<At<String>>,
        credentials: Option<At<String>>,
    ) -> Option<BusConfig> {
        let server = self.server(sink);
        let credentials = credentials.map(|text| self.source("sink_credentials", &text));
        let subject = section.required("sink_subject", subject, "sink_subject = \"acme.data.artifacts.raw\"");
        let subject = subject.and_then(|text| {
            let subject = Subject::new(&text.value);
            if let Err(error) = &subject {
                let reason = format!("sink_subject in [host] is no subject: {error}");
                self.report.problem(text.at, "config-value", reason, "write for example \"acme.data.artifacts.raw\"");
            }
            subject.ok()
        });
        // What is wrong with a source was told; without it the server would be asked as nobody.
        let credentials = match credentials {
            Some(source) => Some(source?),
            None => None,
        };
        Some(BusConfig { server: server?, subject: subject?, credentials })
    }

    /// The address of a server. What it holds besides is not shown: it may be a password.
    fn server(&self, sink: &At<String>) -> Option<Url> {
        let problem = |reason: &str, help: &str| {
            self.report.problem(sink.at, "config-value", reason, help);
            None
        };
        let form = "write nats://HOST:PORT, or tls://HOST:PORT";
        let Some(url) = Url::parse(&sink.value).ok().filter(|url| url.host_str().is_some_and(|host| !host.is_empty()))
        else {
            return problem("sink in [host] is no address of a server", form);
        };
        if !url.username().is_empty() || url.password().is_some() {
            return problem(
                "sink in [host] holds credentials",
                "put them into a file and write sink_credentials = \"file:PATH\"; since they stood here, change them",
            );
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return problem("sink in [host] has more than a server's address", form);
        }
        Some(url)
    }
}
