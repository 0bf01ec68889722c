//! Who may ask.
//!
//! What: the `Host` header must name this host, no page of another site may ask, and where a token is set the request
//! must carry it.
//! Why the `Host` header: a web page can make its own name point to this machine and then read whatever is served
//! here, but it cannot change what the browser writes into `Host`. Addresses cannot be used so and are always taken, but for
//! 0.0.0.0: browsers have let pages of anywhere reach this machine by it, and it is nobody's address.
//! Why no page of another site: it could not read the answer, but it could keep the store busy with searches. Browsers
//! say so in `Sec-Fetch-Site`, which no page can change; other programs leave it out.
//! Why the file of the token is looked at for every request: a token that was rotated counts at once, the old one no
//! more; while it cannot be read nobody gets in.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Uri};
use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::watch::Look;
use crate::instances::secrets::{self, Source, SourceError, Whose};

/// Key under which the token is read, for messages.
const KEY: &str = "bearer_token";

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No `Host`, or more than one.
    #[error("the request must have one Host header")]
    NoHost,
    /// It names another host.
    #[error("this host is not known under that name; ask it by address or localhost, or add the name to allowed_hosts")]
    OtherHost,
    /// A page of another site asks for it.
    #[error("a page of another site must not ask; open this address by itself")]
    OtherSite,
    /// No token, or a wrong one.
    #[error("the request must carry the token: Authorization: Bearer <token>")]
    Token,
}

impl Refusal {
    /// Stable name, for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NoHost => "host-missing",
            Self::OtherHost => "host-not-allowed",
            Self::OtherSite => "cross-site",
            Self::Token => "unauthorized",
        }
    }
}

/// The rules.
#[derive(Debug)]
pub struct Access {
    allowed_hosts: Vec<String>,
    token: Option<Token>,
}

/// Where the token is and what it was at the last look.
#[derive(Debug)]
struct Token {
    source: Source,
    last: Mutex<(Look, Option<[u8; 32]>)>,
}

impl Access {
    /// Rules with these names besides addresses and `localhost`, and this token.
    ///
    /// # Errors
    /// When the token cannot be read now.
    pub fn new(allowed_hosts: Vec<String>, token: Option<Source>) -> Result<Self, SourceError> {
        let token = match token {
            None => None,
            Some(source) => {
                let look = look(&source, None);
                let digest = read(&source)?;
                Some(Token { source, last: Mutex::new((look, Some(digest))) })
            }
        };
        Ok(Self { allowed_hosts, token })
    }

    /// Judges the host of a request.
    ///
    /// # Errors
    /// When it does not name this host.
    pub fn check_host(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        let mut all = headers.get_all(HOST).iter();
        let (Some(host), None) = (all.next(), all.next()) else { return Err(Refusal::NoHost) };
        let host = host.to_str().map_err(|_| Refusal::OtherHost)?;
        // A request to a proxy names its target twice; both count.
        let hosts = [Some(host), uri.authority().map(http::uri::Authority::as_str)];
        if hosts.into_iter().flatten().all(|host| self.is_known(host)) { Ok(()) } else { Err(Refusal::OtherHost) }
    }

    fn is_known(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) if port.is_empty() || port.starts_with(':') => {
                return address.parse::<std::net::Ipv6Addr>().is_ok_and(|address| is_somebody(address.into()));
            }
            Some(_) => return false,
            None => match host.rsplit_once(':') {
                Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
                Some(_) => return false,
                None => host,
            },
        };
        let name = name.to_ascii_lowercase();
        name == "localhost" || name.parse().is_ok_and(is_somebody) || self.allowed_hosts.contains(&name)
    }

    /// Judges where a request of a browser comes from.
    ///
    /// # Errors
    /// When it is a page of another site.
    pub fn check_site(headers: &HeaderMap) -> Result<(), Refusal> {
        let mut all = headers.get_all("sec-fetch-site").iter().map(http::HeaderValue::as_bytes);
        // Of one site are also pages at another port of this machine, and beside an allowed name.
        if all.any(|site| [&b"cross-site"[..], b"same-site"].iter().any(|other| site.eq_ignore_ascii_case(other))) {
            return Err(Refusal::OtherSite);
        }
        Ok(())
    }

    /// Judges the token of a request.
    ///
    /// # Errors
    /// When one is set and the request does not carry it.
    pub fn check_token(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = &self.token else { return Ok(()) };
        let given = headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes).unwrap_or_default();
        let (scheme, given) = given.split_at(given.len().min(7));
        let is_bearer = scheme.eq_ignore_ascii_case(b"bearer ");
        // Digests have one length, so comparing them tells nothing of that of the token.
        let given: [u8; 32] = Sha256::digest(given).into();
        let expected = token.digest().ok_or(Refusal::Token)?;
        if bool::from(given.ct_eq(&expected)) && is_bearer { Ok(()) } else { Err(Refusal::Token) }
    }
}

impl Token {
    /// Its digest; none while it cannot be read.
    fn digest(&self) -> Option<[u8; 32]> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = look(&self.source, Some(&last.0));
        if now.differs(&last.0) {
            let digest = read(&self.source);
            if let Err(error) = &digest {
                tracing::error!("nobody gets in over HTTP: {error}");
            }
            last.1 = digest.ok();
        }
        last.0 = now;
        last.1
    }
}

/// Whether an address can be that of a machine.
fn is_somebody(address: IpAddr) -> bool {
    !address.to_canonical().is_unspecified()
}

fn look(source: &Source, before: Option<&Look>) -> Look {
    match source {
        Source::File(path) => Look::at(path, before),
        Source::Environment(_) => Look::default(),
    }
}

/// Reads the token.
fn read(source: &Source) -> Result<[u8; 32], SourceError> {
    let secrets = secrets::take(&[(KEY.to_owned(), source.clone())], Whose::Own)?;
    let value = secrets.get(KEY).map(|secret| secret.expose_secret().to_owned()).unwrap_or_default();
    Ok(Sha256::digest(value.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn host(access: &Access, host: &str) -> Result<(), Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("header"));
        access.check_host(&Uri::from_static("/status"), &headers)
    }

    #[test]
    fn only_names_that_cannot_be_made_to_point_here_are_taken() {
        let access = Access::new(vec!["conductor.example.com".into()], None).expect("access");
        for good in [
            "localhost",
            "LocalHost:9630",
            "127.0.0.1:9630",
            "[::1]:9630",
            "[::1]",
            "10.1.2.3",
            "Conductor.example.com:80",
        ] {
            assert_eq!(host(&access, good), Ok(()), "{good}");
        }
        for bad in [
            "evil.example.com",
            "localhost.evil.example.com",
            "evil.example.com:9630",
            "127.0.0.1.evil.example.com",
            "[::1].evil.example.com",
            "127.0.0.1:x",
            "",
            "[evil]",
            "localhost:",
            "::1",
            "0.0.0.0:9630",
            "[::]:9630",
            "[::ffff:0.0.0.0]",
        ] {
            assert_eq!(host(&access, bad), Err(Refusal::OtherHost), "{bad}");
        }
    }

    #[test]
    fn a_request_without_a_host_with_two_or_with_a_target_elsewhere_is_refused() {
        let access = Access::new(Vec::new(), None).expect("access");
        let mut headers = HeaderMap::new();
        assert_eq!(access.check_host(&Uri::from_static("/"), &headers), Err(Refusal::NoHost));
        headers.append(HOST, "localhost".parse().expect("header"));
        let elsewhere = Uri::from_static("http://evil.example.com/status");
        assert_eq!(access.check_host(&elsewhere, &headers), Err(Refusal::OtherHost));
        headers.append(HOST, "localhost".parse().expect("header"));
        assert_eq!(access.check_host(&Uri::from_static("/"), &headers), Err(Refusal::NoHost));
    }

    #[test]
    fn the_token_must_be_the_one_in_the_file_as_it_is_now() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let file = dir.path().join("token");
        fs::write(&file, "first-token\n").expect("file");
        let access = Access::new(Vec::new(), Some(Source::File(file.clone()))).expect("access");
        let check = |text: &str| {
            let mut headers = HeaderMap::new();
            if !text.is_empty() {
                headers.insert(AUTHORIZATION, text.parse().expect("header"));
            }
            access.check_token(&headers)
        };
        assert_eq!(check("Bearer first-token"), Ok(()));
        assert_eq!(check("bearer first-token"), Ok(()));
        for bad in
            ["", "Bearer", "Bearer ", "Bearer first-toke", "Bearer first-token ", "first-token", "Basic first-token"]
        {
            assert_eq!(check(bad), Err(Refusal::Token), "{bad}");
        }
        fs::write(&file, "second-token\n").expect("file");
        assert_eq!((check("Bearer first-token"), check("Bearer second-token")), (Err(Refusal::Token), Ok(())));
        fs::remove_file(&file).expect("removed");
        assert_eq!(check("Bearer second-token"), Err(Refusal::Token), "without a token nobody gets in");
    }

    #[test]
    fn a_token_that_cannot_be_read_at_the_start_is_an_error() {
        let missing = Source::File("/no/such/token".into());
        assert_eq!(Access::new(Vec::new(), Some(missing)).expect_err("must fail").code(), "secret-unreadable");
    }
}
