//! How this network is reached: additional certification authorities and a forward proxy.
//!
//! Why: companies inspect TLS or let traffic out only through a proxy. Both are an operator's word, given here
//! explicitly; nothing is taken from the environment.
//! Not guaranteed: behind a proxy, the proxy resolves names and chooses addresses.

use crate::files;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use url::Url;

/// How the network is reached. By default directly, trusting the public authorities of `webpki-roots`.
#[derive(Clone, Default)]
pub struct NetworkOptions {
    /// PEM files of certification authorities trusted besides the public ones.
    pub extra_ca_files: Vec<PathBuf>,
    /// A forward proxy, `http://[USER:PASSWORD@]HOST:PORT`. Requests that a route sends elsewhere do not use it.
    pub proxy: Option<Url>,
}

/// Why the network cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A file of certification authorities cannot be used.
    #[error("cannot use the certificates in {}: {why}; give a readable PEM file", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The proxy is not one.
    #[error("cannot use the proxy: {why}; give http://HOST:PORT")]
    Proxy {
        /// What is wrong with it.
        why: String,
    },
    /// The client could not be made.
    #[error("cannot set up the HTTP client: {why}")]
    Client {
        /// What is wrong.
        why: String,
    },
}

impl NetworkError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Certificates { .. } => "network-certificates",
            Self::Proxy { .. } => "network-proxy",
            Self::Client { .. } => "network-client",
        }
    }
}

impl fmt::Debug for NetworkOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The proxy's user and password are left out.
        let proxy = self.proxy.as_ref().and_then(Url::host_str);
        f.debug_struct("NetworkOptions").field("extra_ca_files", &self.extra_ca_files).field("proxy", &proxy).finish()
    }
}

/// Most bytes of a file of certification authorities: those of the whole world are a quarter of a megabyte.
const MOST_BYTES: u64 = 4 << 20;

/// How long a file system may take for the files.
const READ_WITHIN: Duration = Duration::from_secs(20);

/// Threads that read such files at once. Those that a file system on the network leaves waiting stay taken.
static READING: Semaphore = Semaphore::const_new(64);

/// A way to the network whose files have been read.
#[derive(Clone)]
pub struct Network {
    roots: RootCertStore,
    proxy: Option<Url>,
}

impl NetworkOptions {
    /// Reads the files on a thread of its own, because a file system may keep whoever reads waiting.
    ///
    /// # Errors
    /// When a file cannot be used, or is not read in time.
    pub async fn read(&self) -> Result<Network, NetworkError> {
        let Some(first) = self.extra_ca_files.first().cloned() else { return self.read_here() };
        let options = self.clone();
        let work = async {
            let place = READING.acquire().await.map_err(|error| NetworkError::Client { why: error.to_string() })?;
            let read = move || {
                let _place = place;
                options.read_here()
            };
            let read = tokio::task::spawn_blocking(read).await;
            read.unwrap_or_else(|error| Err(NetworkError::Client { why: error.to_string() }))
        };
        let late = |_| NetworkError::Certificates {
            path: first,
            why: format!("reading takes longer than {} s", READ_WITHIN.as_secs()),
        };
        tokio::time::timeout(READ_WITHIN, work).await.map_err(late)?
    }

    /// Reads the files. This may block.
    pub(super) fn read_here(&self) -> Result<Network, NetworkError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for path in &self.extra_ca_files {
            let wrong = |why: String| NetworkError::Certificates { path: path.clone(), why };
            let bytes = files::read(path, MOST_BYTES).map_err(|error| wrong(error.to_string()))?;
            let mut found = 0_usize;
            for certificate in CertificateDer::pem_slice_iter(&bytes) {
                let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
                found += 1;
            }
            if found == 0 {
                return Err(wrong("it holds no certificate".to_owned()));
            }
        }
        Ok(Network { roots, proxy: self.proxy.clone() })
    }
}

impl Network {
    /// The TLS configuration of a client: TLS 1.2 and 1.3 by ring, HTTP/2 preferred when `http2` is set.
    pub(crate) fn tls(&self, http2: bool) -> Result<ClientConfig, NetworkError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| NetworkError::Client { why: error.to_string() })?
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        // A configuration of one's own is used as it is, so the protocols to offer must be named here.
        config.alpn_protocols =
            if http2 { vec![b"h2".to_vec(), b"http/1.1".to_vec()] } else { vec![b"http/1.1".to_vec()] };
        Ok(config)
    }

    /// The address of the proxy, when there is one.
    pub(super) fn proxy_url(&self) -> Option<&Url> {
        self.proxy.as_ref()
    }

    /// The proxy for the client and the name it has, when there is one.
    pub(super) fn proxy(&self) -> Result<Option<(reqwest::Proxy, String)>, NetworkError> {
        let Some(url) = &self.proxy else {
            return Ok(None);
        };
        let wrong = |why: &str| NetworkError::Proxy { why: why.to_owned() };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("its scheme is neither http nor https"));
        }
        let host = url.host_str().ok_or_else(|| wrong("it names no host"))?.to_owned();
        let proxy = reqwest::Proxy::all(url.clone()).map_err(|error| wrong(&error.without_url().to_string()))?;
        Ok(Some((proxy, host)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt as _;

    #[tokio::test]
    async fn unusable_certificate_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.pem");
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "no certificate here").unwrap();
        let broken = folder.path().join("broken.pem");
        std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let pipe = folder.path().join("pipe.pem");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [missing, empty, broken, pipe, PathBuf::from("/dev/zero")] {
            let options = NetworkOptions { extra_ca_files: vec![path.clone()], proxy: None };
            let error = options.read().await.err().unwrap();
            assert_eq!(error.code(), "network-certificates");
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        }
        NetworkOptions::default().read().await.unwrap().tls(true).unwrap();
    }

    #[tokio::test]
    async fn files_are_read_beside_what_else_runs() {
        let options = NetworkOptions { extra_ca_files: vec!["missing.pem".into()], proxy: None };
        // A future that reads by itself is ready at once.
        assert!(options.read().now_or_never().is_none());
        assert!(options.read().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn files_that_are_not_read_in_time_are_not_waited_for() {
        let _taken = READING.acquire_many(64).await.unwrap();
        let options = NetworkOptions { extra_ca_files: vec!["missing.pem".into()], proxy: None };
        let error = options.read().await.err().unwrap();
        assert!(error.to_string().contains("missing.pem: reading takes longer than 20 s"), "{error}");
        NetworkOptions::default().read().await.unwrap();
    }

    #[test]
    fn the_password_of_a_proxy_is_never_shown() {
        let options = NetworkOptions {
            extra_ca_files: vec![],
            proxy: Some("http://u:hunter2@proxy.example:3128".parse().unwrap()),
        };
        assert!(!format!("{options:?}").contains("hunter2"));
        let network = |options: &NetworkOptions| options.read_here().unwrap();
        assert_eq!(network(&options).proxy().unwrap().unwrap().1, "proxy.example");
        let wrong =
            NetworkOptions { extra_ca_files: vec![], proxy: Some("ftp://u:hunter2@proxy.example".parse().unwrap()) };
        let error = network(&wrong).proxy().unwrap_err();
        assert_eq!(error.code(), "network-proxy");
        assert!(!error.to_string().contains("hunter2"));
    }
}
