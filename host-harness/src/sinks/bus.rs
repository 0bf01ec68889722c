//! The bus: artifacts as messages into a JetStream stream of NATS, as the Conductor's own services hand them on.
//!
//! What: every artifact is a message on one subject, with its id as the message id: what comes again within the stream's
//! window (two minutes unless it says otherwise) the server drops. A portion is delivered when the server has stored
//! every message of it.
//! Why only the server that is named is spoken to, and none of those that it tells of: what leaves this machine is what the
//! operator wrote.
//! Why a connection that failed is dropped, and not mended behind our back: what it has still to send belongs to messages
//! that come again with the next delivery anyway.
//! Why connecting has a time as a whole: the library bounds what an address takes, and neither the look-up of the name nor
//! the number of its addresses.
//! Not guaranteed: that a message which is larger than the server takes ever arrives. It is told, with its id, and waits, as
//! do those behind it, until the server takes it. Nor that a look-up which is given up has ended: nobody can stop the
//! operating system's, which keeps a thread until it does.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, ErrorCode, context::PublishErrorKind};
use async_nats::{ConnectOptions, HeaderMap};
use bytes::Bytes;
use secrecy::{ExposeSecret as _, SecretString};
use url::Url;
use url::form_urlencoded::byte_serialize;
use uuid::Uuid;

use super::{LineForm, Sink, SinkError, SubjectError};
use crate::egress::{Network, NetworkOptions};
use crate::instances::secrets::{Source, Whose};
use crate::store::{Attributed, Undelivered};

/// How long a connection to one address may take to be made.
const CONNECTED_WITHIN: Duration = Duration::from_secs(10);

/// How long all of it may take: looking the name up, and trying its addresses one after the other.
const REACHED_WITHIN: Duration = Duration::from_secs(20);

/// How long the server may take to say that it has stored a message.
const STORED_WITHIN: Duration = Duration::from_secs(20);

/// After how long a connection that was lost tries again by itself: when its messages have been given up.
const MADE_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Most bytes of a subject.
const LONGEST_SUBJECT: usize = 256;

/// What a file of credentials holds, as the tools of NATS write it.
const CREDENTIALS: &str = "-----BEGIN NATS USER JWT-----";

/// A subject that messages can be published on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(String);

impl Subject {
    /// Takes a text for a subject.
    ///
    /// # Errors
    /// When nothing can be published on it.
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        let is_token = |token: &str| {
            !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>'))
        };
        if text.len() > LONGEST_SUBJECT || text.starts_with('$') || !text.split('.').all(is_token) {
            return Err(SubjectError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where the bus is, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusConfig {
    /// The server, `nats://HOST:PORT`, or `tls://HOST:PORT` where nothing is said before TLS.
    pub server: Url,
    /// What messages are published on.
    pub subject: Subject,
    /// Where the credentials are kept: a file of NATS' own, `USER:PASSWORD`, or a token.
    pub credentials: Option<Source>,
}

impl fmt::Display for BusConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (self.server.scheme(), self.server.host_str().unwrap_or_default());
        write!(formatter, "{scheme}://{host}")?;
        if let Some(port) = self.server.port() {
            write!(formatter, ":{port}")?;
        }
        write!(formatter, ", subject {}", self.subject)
    }
}

/// Publishes each artifact.
pub struct BusSink {
    config: BusConfig,
    network: NetworkOptions,
    form: LineForm,
    /// How long connecting may take as a whole.
    patience: Duration,
    /// How long an answer to a message may take.
    stored_within: Duration,
    /// Until something fails.
    connection: Option<Connection>,
    /// The artifact that was too large.
    too_large: Option<Uuid>,
}

/// A connection.
struct Connection {
    client: async_nats::Client,
    context: jetstream::Context,
}

impl BusSink {
    /// A sink that connects with its first delivery.
    #[must_use]
    pub fn new(config: BusConfig, network: NetworkOptions, form: LineForm) -> Self {
        Self {
            config,
            network,
            form,
            patience: REACHED_WITHIN,
            stored_within: STORED_WITHIN,
            connection: None,
            too_large: None,
        }
    }

    /// Connects, if there is no connection.
    ///
    /// # Errors
    /// When the server cannot be reached in time, or refuses the credentials.
    pub async fn connect(&mut self) -> Result<(), SinkError> {
        self.connection().await.map(drop)
    }

    /// Lets go of the connection until the next delivery.
    pub fn release(&mut self) {
        self.connection = None;
    }

    async fn connection(&mut self) -> Result<&Connection, SinkError> {
        let is_up = |connection: &Connection| connection.client.connection_state() == State::Connected;
        let connection = match self.connection.take().filter(is_up) {
            Some(connection) => connection,
            None => self.open().await?,
        };
        Ok(self.connection.insert(connection))
    }

    async fn open(&self) -> Result<Connection, SinkError> {
        let network = self.network.read().await.map_err(|error| self.unreachable(&error))?;
        let options = self.options(&network)?;
        let connecting = options.connect(self.config.server.as_str());
        let connected = tokio::time::timeout(self.patience, connecting).await.map_err(|_| self.not_in_time())?;
        let client = connected.map_err(|error| self.unreachable(&error))?;
        let mut context = jetstream::new(client.clone());
        context.set_timeout(self.stored_within);
        Ok(Connection { client, context })
    }

    fn options(&self, network: &Network) -> Result<ConnectOptions, SinkError> {
        let tls = network.tls(false).map_err(|error| self.unreachable(&error))?;
        let is_tls = self.config.server.scheme() == "tls";
        let options = ConnectOptions::new()
            .name(concat!("host-harness ", env!("CARGO_PKG_VERSION")))
            .connection_timeout(CONNECTED_WITHIN)
            .ignore_discovered_servers()
            // Whoever delivers makes another connection. What was on its way comes again from there, in its order; until then this
            // one sends nothing behind it.
            .max_reconnects(1)
            .reconnect_delay_callback({
                let is_made = AtomicBool::new(false);
                move |_| if is_made.swap(true, Ordering::Relaxed) { MADE_AGAIN_AFTER } else { Duration::ZERO }
            })
            .require_tls(is_tls)
            .tls_client_config(tls);
        let Some(source) = &self.config.credentials else { return Ok(options) };
        let text: SecretString =
            source.text("sink_credentials", Whose::Own).map_err(|error| self.unreachable(&error))?;
        let text = text.expose_secret().trim();
        if text.contains(CREDENTIALS) {
            // The library's own error names no part of the credentials.
            return options.credentials(text).map_err(|error| self.unreachable(&error));
        }
        Ok(match text.split_once(':') {
            Some((user, password)) => options.user_and_password(user.to_owned(), password.to_owned()),
            None => options.token(text.to_owned()),
        })
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> SinkError {
        SinkError::Unreachable { output: self.config.to_string(), why: chain(error) }
    }

    /// Nobody says what it was that took so long.
    fn not_in_time(&self) -> SinkError {
        let seconds = self.patience.as_secs();
        let why = format!(
            "there is no connection after {seconds} s: its name is not resolved, or nothing speaks NATS at its addresses"
        );
        SinkError::Unreachable { output: self.config.to_string(), why }
    }

    fn not_stored(&self, error: &jetstream::context::PublishError) -> SinkError {
        let output = self.config.to_string();
        match error.kind() {
            PublishErrorKind::StreamNotFound => SinkError::NoStream { output },
            _ => SinkError::NotStored { output, why: chain(error) },
        }
    }

    /// The body of the message of an artifact.
    fn body(&self, artifact: &Undelivered) -> Bytes {
        match self.form {
            LineForm::Artifact => Bytes::from(artifact.json.clone()),
            // What is stored is a text, or JSON: both can be written.
            LineForm::WithInstance => serde_json::to_vec(&Attributed::from(artifact)).unwrap_or_default().into(),
        }
    }

    /// What tells a message from others. Two tenants may have one organization, and then what is the same is told apart
    /// by whoever asked for it with whose it is.
    fn message_id(&self, artifact: &Undelivered) -> String {
        match self.form {
            LineForm::Artifact => artifact.id.to_string(),
            // A header is a line of ASCII, and names of instances may have any letters.
            LineForm::WithInstance => {
                byte_serialize(artifact.instance.as_bytes()).chain(["/", &artifact.id.to_string()]).collect()
            }
        }
    }

    /// Publishes these and waits until they are stored; gives how many that are, from the first on.
    async fn publish(&mut self, artifacts: &[Undelivered]) -> Result<usize, SinkError> {
        self.connection().await?;
        let Some(Connection { client, context }) = &self.connection else { return Ok(0) };
        // Alone, so that those behind it do not come again with each attempt.
        let is_alone = artifacts.first().is_some_and(|first| Some(first.id) == self.too_large);
        let artifacts = if is_alone { artifacts.get(..1).unwrap_or_default() } else { artifacts };
        let most = client.max_payload();
        let mut stored = Vec::with_capacity(artifacts.len());
        for artifact in artifacts {
            let body = self.body(artifact);
            let bytes = body.len();
            let mut headers = HeaderMap::new();
            headers.insert(async_nats::header::NATS_MESSAGE_ID, self.message_id(artifact));
            match context.publish_with_headers(self.config.subject.0.clone(), headers, body).await {
                Ok(ack) => stored.push(ack),
                // What comes before it does not wait with it.
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded && !stored.is_empty() => break,
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    let output = self.config.to_string();
                    return Err(SinkError::TooLarge { output, id: artifact.id, bytes, most: Some(most) });
                }
                Err(error) => return Err(self.not_stored(&error)),
            }
        }
        let count = stored.len();
        for (at, ack) in stored.into_iter().enumerate() {
            let Err(error) = ack.await else { continue };
            let (Some(first), 0) = (artifacts.first(), at) else {
                // Those before it are stored, and do not come again. What is wrong shows with the next delivery.
                self.release();
                return Ok(at);
            };
            let is_too_large = chain_of(&error).any(|one| {
                let known = one.downcast_ref::<jetstream::Error>();
                known.is_some_and(|known| known.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM)
            });
            if is_too_large {
                let (output, bytes) = (self.config.to_string(), self.body(first).len());
                return Err(SinkError::TooLarge { output, id: first.id, bytes, most: None });
            }
            return Err(self.not_stored(&error));
        }
        Ok(count)
    }
}

impl Sink for BusSink {
    async fn deliver(&mut self, artifacts: &[Undelivered]) -> Result<usize, SinkError> {
        let published = self.publish(artifacts).await;
        self.too_large = match &published {
            Err(SinkError::TooLarge { id, .. }) => Some(*id),
            // It may still be, when the server is back.
            Err(_) => self.too_large,
            Ok(_) => None,
        };
        // One that is too large says nothing of the connection.
        if published.as_ref().is_err_and(|error| !error.is_of_one()) {
            self.release();
        }
        published
    }
}

impl fmt::Debug for BusSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_connected = self.connection.is_some();
        formatter.debug_struct("BusSink").field("config", &self.config).field("is_connected", &is_connected).finish()
    }
}

/// An error and what it comes from.
fn chain_of<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |one| one.source())
}

/// The same in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = String::new();
    for said in chain_of(error).map(ToString::to_string) {
        // Some say what their source says.
        if text.is_empty() {
            text = said;
        } else if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
    }
    text
}

#[cfg(test)]
mod tests;
