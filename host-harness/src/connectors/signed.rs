//! The way out of a tenant for one step, signed in.
//!
//! What: where a secret is sent as it is, or in another form of itself, the way is the same for all steps. Where it gets
//! tokens, a step begins with one that will outlast it; a step that has failed because a token from before was turned away
//! is to be done once more with a new one, because servers take tokens back before their time.
//! Why a step is thrown away and not a request sent again: a step is a pure transaction, so that is the one thing that is
//! known to change nothing.
//! Not guaranteed: that a vendor says 401 or 403 when it does not take a token.

use super::signing::Signatures;
use crate::contract::types::{Failure, FailureReason};
use crate::egress::{Gate, NetworkError, Redactor, Secrets, TokenSource};
use crate::locks::lock;
use crate::sandbox::{StepError, Usage};
use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use std::sync::{Arc, Mutex};

/// The way out, and what keeps what signs in there out of texts.
pub(super) struct Signed {
    pub(super) gate: Arc<Gate>,
    pub(super) redactor: Redactor,
}

/// The way out of one step.
pub(super) struct Signature {
    pub(super) signed: Arc<Signed>,
    /// The token, where there is one.
    token: Option<SecretString>,
}

/// Makes it.
pub(super) struct Signer {
    /// Without a token.
    plain: Arc<Signed>,
    tokens: Option<Tokens>,
}

/// What it takes to add a token.
struct Tokens {
    header: HeaderName,
    source: TokenSource,
    /// The other headers.
    fixed: Vec<(HeaderName, HeaderValue)>,
    /// What is kept out of texts besides the last token and the one before, which a vendor may repeat.
    secrets: Secrets,
    /// The last one that was made, and its token.
    latest: Mutex<Option<(SecretString, Arc<Signed>)>>,
}

impl Signer {
    /// `gate` has the headers that are known from the beginning, and `redactor` knows their secrets.
    pub(super) fn new(gate: Gate, redactor: Redactor, signatures: Signatures) -> Self {
        let Signatures { fixed, token, secrets } = signatures;
        let tokens = token.map(|(header, source)| Tokens { header, source, fixed, secrets, latest: Mutex::new(None) });
        Self { plain: Arc::new(Signed { gate: Arc::new(gate), redactor }), tokens }
    }

    /// The way out for a step that is about to begin.
    ///
    /// # Errors
    /// When no token is had.
    pub(super) async fn sign(&self) -> Result<Signature, StepError> {
        let Some(tokens) = &self.tokens else {
            return Ok(Signature { signed: Arc::clone(&self.plain), token: None });
        };
        let token = tokens.source.token().await.map_err(StepError::Failure)?;
        let unusable = |error: NetworkError| StepError::Host { why: error.to_string() };
        let signed = tokens.signed(&self.plain.gate, &token).map_err(unusable)?;
        Ok(Signature { signed, token: Some(token) })
    }

    /// Whether a step that has failed so has to be done once more, with the way out that is given. What is turned away beside
    /// something that was collected is no reason to throw that away: the next step begins with another token.
    ///
    /// # Errors
    /// When no other token is had, and the one there was is not taken any more: then that is why the step has failed.
    pub(super) async fn again(
        &self,
        signature: &Signature,
        usage: &Usage,
        failure: Option<&Failure>,
    ) -> Result<Option<Signature>, StepError> {
        let (Some(tokens), Some(token)) = (&self.tokens, &signature.token) else { return Ok(None) };
        let is_worth_it = tokens.source.received(token, usage.reception);
        let is_refused =
            |failure: &Failure| matches!(failure.reason, FailureReason::Unauthorized | FailureReason::Forbidden);
        if !is_worth_it || !failure.is_some_and(is_refused) {
            return Ok(None);
        }
        let other = self.sign().await?;
        let is_other = other.token.as_ref().is_some_and(|other| other.expose_secret() != token.expose_secret());
        Ok(is_other.then_some(other))
    }
}

impl Tokens {
    /// The way out with a token.
    fn signed(&self, gate: &Gate, token: &SecretString) -> Result<Arc<Signed>, NetworkError> {
        let mut latest = lock(&self.latest);
        let before = match &*latest {
            Some((value, signed)) if value.expose_secret() == token.expose_secret() => return Ok(Arc::clone(signed)),
            Some((value, _)) => Some(value.clone()),
            None => None,
        };
        // It was checked when it came, so this does not happen.
        let wrong = || NetworkError::Client { why: "the token cannot stand in a request".to_owned() };
        let value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(|_| wrong())?;
        let mut secrets = self.secrets.clone();
        // No setting has such a key.
        for (key, token) in [("the token", Some(token.clone())), ("the token before", before)] {
            if let Some(token) = token {
                secrets.insert(key, token).map_err(|_| wrong())?;
            }
        }
        let redactor = Redactor::new(&secrets);
        let mut credentials = self.fixed.clone();
        credentials.push((self.header.clone(), value));
        let signed = Arc::new(Signed { gate: Arc::new(gate.signed(credentials, redactor.clone())), redactor });
        *latest = Some((token.clone(), Arc::clone(&signed)));
        Ok(signed)
    }
}
