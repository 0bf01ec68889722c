//! `host-harness status`: what the resident host is doing.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::HeaderValue;
use http::header::{AUTHORIZATION, HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::net::TcpStream;
use url::Url;

use super::error::{CliError, EXIT_FAILED};
use super::output;
use super::selection::Selection;
use super::status_page::{is_good, page};
use crate::config;
use crate::instances::secrets::{self, Source, Whose};

/// Show what a running host is doing
///
/// Asks the host over HTTP. Exit code 0: every instance shown is ok, starting or
/// disabled and has a connector, the configuration is sound and the output works,
/// or with --watch nobody reads any more; 1: something is wrong, or nobody answers; 2: wrong
/// usage, or the token cannot be read.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness status --config /etc/host-harness/conductor.toml
  host-harness status --config /etc/host-harness/conductor.toml --failed
  host-harness status --url http://127.0.0.1:9630 --watch
  host-harness status --json")]
pub(super) struct Status {
    /// The configuration of the host: says where it listens and which token it wants
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "token"])]
    config: Option<PathBuf>,
    /// Where the host listens, http:// only [default: http://127.0.0.1:9630]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Where the token is kept: env:NAME or file:PATH
    #[arg(long, value_name = "SOURCE")]
    token: Option<String>,
    /// Show it again every few seconds until interrupted
    #[arg(long)]
    watch: bool,
    /// Print the status as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    selection: Selection,
}

/// Seconds between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(2);

/// How long the host may take to answer.
const WITHIN: Duration = Duration::from_secs(20);

/// Most bytes of a status.
const MOST_BYTES: usize = 256 << 20;

/// Where to ask, and with what.
struct Target {
    host: String,
    port: u16,
    token: Option<Source>,
}

impl Status {
    pub(super) async fn run(self) -> Result<u8, CliError> {
        let target = self.target()?;
        // A token that cannot be read is nobody else's fault.
        target.authorization()?;
        let mut has_answered = false;
        loop {
            let status = match target.ask().await {
                // One who watches wants to see the host come back.
                Err(error) if self.watch && has_answered => {
                    let text = format!("{error}\nit is asked again every {} s\n", EVERY.as_secs());
                    if self.json {
                        // What reads the objects is no person.
                        let _ = write!(std::io::stderr(), "{text}");
                    } else if !output::print(&format!("\x1b[2J\x1b[H{text}"))? {
                        return Ok(0);
                    }
                    tokio::time::sleep(EVERY).await;
                    continue;
                }
                other => other?,
            };
            let mut status = status;
            self.selection.apply(&mut status, has_answered)?;
            has_answered = true;
            let good = is_good(&status);
            let is_read = if self.json {
                output::print_json(&status, false)?
            } else if self.watch {
                // Clears the screen and begins at its top.
                output::print(&format!("\x1b[2J\x1b[H{}", page(&status)))?
            } else {
                output::print(&page(&status))?
            };
            if !self.watch {
                return Ok(if good { 0 } else { EXIT_FAILED });
            }
            if !is_read {
                return Ok(0);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn target(&self) -> Result<Target, CliError> {
        if let Some(file) = &self.config {
            let host = config::load_host(file)?;
            let Some(address) = host.listen else {
                return Err(CliError::usage("the host of this configuration does not listen: listen is \"off\""));
            };
            let ip = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { bracketed(address) };
            return Ok(Target { host: ip, port: address.port(), token: host.bearer_token });
        }
        let text = self.url.clone().unwrap_or_else(|| format!("http://127.0.0.1:{}", config::DEFAULT_PORT));
        let wrong =
            || CliError::usage("--url is no address of a host").help("write for example --url http://127.0.0.1:9630");
        let url = Url::parse(&text).map_err(|_| wrong())?;
        if url.scheme() == "https" {
            return Err(CliError::usage("--url must begin with http://: the host itself does not speak TLS")
                .help("name the address where the host listens, not that of a proxy in front of it"));
        }
        let host = url.host_str().filter(|_| url.scheme() == "http" && url.username().is_empty()).ok_or_else(wrong)?;
        let token = self
            .token
            .as_deref()
            .map(|text| {
                Source::parse(text).ok_or_else(|| {
                    CliError::usage("--token is not env:NAME or file:PATH (what was given is not shown)")
                })
            })
            .transpose()?;
        Ok(Target { host: host.to_owned(), port: url.port_or_known_default().unwrap_or(80), token })
    }
}

/// The address without port, as it stands in a URL.
fn bracketed(address: SocketAddr) -> String {
    if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() }
}

impl Target {
    async fn ask(&self) -> Result<Value, CliError> {
        let nobody = |why: String| {
            CliError::failed(format!("no host answers at {}:{}: {why}", self.host, self.port))
                .help("start it with `host-harness run`, or name its configuration with --config; if listen was edited since its start, name the address from before with --url")
        };
        let authorization = self.authorization()?;
        let answer = tokio::time::timeout(WITHIN, self.exchange(authorization)).await;
        let (status, body) = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(nobody(error)),
            Err(_) => return Err(nobody(format!("it took more than {} s", WITHIN.as_secs()))),
        };
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        match status {
            200 if value.get("instances").is_some() => Ok(value),
            401 => Err(CliError::failed("the host wants a token, or another one")
                .help("name its configuration with --config, or the token's place with --token")),
            _ => Err(nobody(format!("what is there answers with HTTP {status} and is none"))),
        }
    }

    /// The header with the token, if one is wanted.
    fn authorization(&self) -> Result<Option<HeaderValue>, CliError> {
        let Some(source) = &self.token else { return Ok(None) };
        let secrets = secrets::take(&[("token".to_owned(), source.clone())], Whose::Own)?;
        let token = secrets.get("token").map(ExposeSecret::expose_secret).unwrap_or_default();
        let header = HeaderValue::from_str(&format!("Bearer {token}"));
        // The error would say nothing more.
        header
            .map(Some)
            .map_err(|_| CliError::usage("the token cannot be sent: it has other characters than those of a line"))
    }

    async fn exchange(&self, authorization: Option<HeaderValue>) -> Result<(u16, Bytes), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.port)).await.map_err(|error| text(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
        tokio::spawn(connection);
        let mut request = http::Request::get("/status").header(HOST, format!("{}:{}", self.host, self.port));
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| text(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await.map_err(|error| text(&error))?;
        Ok((status, body.to_bytes()))
    }
}
