//! Where secrets come from.
//!
//! Why never from the command line itself: other users of the machine can
//! read it, and shells keep it. A secret is named by its source, an
//! environment variable or a file, and no message here ever holds its value,
//! nor a source that might be one given by mistake.
//! That others can read a file is told once for each content: it is read again
//! and again, for a poll, for a check and to keep its content out of messages.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use secrecy::SecretString;

use crate::contract::types::{Descriptor, SettingKind};
use crate::egress::{SecretError, Secrets};
use crate::files;
use crate::locks::lock;

/// Longest file read, in bytes; a key is far shorter.
const LONGEST_FILE: u64 = 64 * 1024;

/// Where one secret is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In an environment variable of this name.
    Environment(String),
    /// In a file, of which white space around the secret does not count.
    File(PathBuf),
}

/// Whose secrets are read, as the log names them when others can read them, too.
#[derive(Clone, Copy, Debug)]
pub enum Whose<'a> {
    /// Those of an instance.
    Instance {
        /// The slug of its connector.
        connector: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// The host's own, or those of a command.
    Own,
    /// It is only looked what they are: whoever uses them tells.
    Looking,
}

/// What a file looked like when it was told that others can read it.
static TOLD: Mutex<BTreeMap<PathBuf, [u64; 4]>> = Mutex::new(BTreeMap::new());

/// Why the secrets of an instance cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Not `KEY=SOURCE`.
    #[error(
        "a --secret is not of the form KEY=env:NAME or KEY=file:PATH (what was given is not shown: it may be a secret)"
    )]
    Form,
    /// Given twice.
    #[error("the secret {key:?} is given twice")]
    Twice {
        /// The setting.
        key: String,
    },
    /// The connector has no such secret.
    #[error("the connector has no secret {key:?}; it has {}", names(known))]
    Unknown {
        /// The key given.
        key: String,
        /// Those there are.
        known: Vec<String>,
    },
    /// It is an ordinary setting.
    #[error("{key:?} is no secret but an ordinary setting")]
    NotSecret {
        /// The setting.
        key: String,
    },
    /// A required secret is not given.
    #[error("the secret {key:?} ({label}) is missing")]
    Missing {
        /// The setting.
        key: String,
        /// Its label in the form.
        label: String,
    },
    /// The environment variable is not there.
    #[error("the environment variable {name} for the secret {key:?} is not set")]
    Unset {
        /// The setting.
        key: String,
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read {} for the secret {key:?}: {source}", path.display())]
    Unreadable {
        /// The setting.
        key: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is none of a secret.
    #[error("the file {} for the secret {key:?} has more than {LONGEST_FILE} bytes (was a wrong file given?)", path.display())]
    TooLong {
        /// The setting.
        key: String,
        /// The file.
        path: PathBuf,
    },
    /// The value is not text.
    #[error("the secret {key:?} from {origin} is not text")]
    NotText {
        /// The setting.
        key: String,
        /// The source, in words.
        origin: String,
    },
    /// The value cannot be a secret.
    #[error("{origin}: {source}")]
    Value {
        /// The source, in words.
        origin: String,
        /// What is wrong.
        source: SecretError,
    },
}

impl SourceError {
    /// Stable name of the kind of failure, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Form => "secret-form",
            Self::Twice { .. } => "secret-twice",
            Self::Unknown { .. } => "secret-unknown",
            Self::NotSecret { .. } => "secret-not-secret",
            Self::Missing { .. } => "secret-missing",
            Self::Unset { .. } => "secret-unset",
            Self::Unreadable { .. } => "secret-unreadable",
            Self::TooLong { .. } => "secret-too-long",
            Self::NotText { .. } => "secret-not-text",
            Self::Value { source, .. } => source.code(),
        }
    }

    /// What the operator can do.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Form => {
                "put the secret into an environment variable or a file and name that, for example --secret api_key=env:API_KEY".to_owned()
            }
            Self::Twice { .. } => "keep one".to_owned(),
            Self::Unknown { .. } => "see the settings with `host-harness inspect`".to_owned(),
            Self::NotSecret { key } => format!("give it with --set {key}=VALUE"),
            Self::Missing { key, .. } => format!("add --secret {key}=env:NAME or --secret {key}=file:PATH"),
            Self::Unset { name, .. } => format!("set and export it first, for example with: read -rs {name} && export {name}"),
            Self::Unreadable { .. } => "name a file that this user can read".to_owned(),
            Self::TooLong { .. } => "name the file that holds the secret and nothing else".to_owned(),
            Self::NotText { .. } | Self::Value { .. } => "copy the secret again, whole and without anything else".to_owned(),
        }
    }
}

/// Takes `KEY=env:NAME` and `KEY=file:PATH` apart. Nothing is read yet.
pub fn parse(given: &[String]) -> Result<Vec<(String, Source)>, SourceError> {
    let mut sources: Vec<(String, Source)> = Vec::new();
    for text in given {
        let (key, source) = text.split_once('=').ok_or(SourceError::Form)?;
        // A key that is none could be a secret with a = in it.
        if key.is_empty()
            || key.len() > 64
            || !key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        {
            return Err(SourceError::Form);
        }
        let key = key.to_owned();
        if sources.iter().any(|(other, _)| *other == key) {
            return Err(SourceError::Twice { key });
        }
        // Not even the key is shown: `c2VjcmV0==` has one, too.
        sources.push((key, Source::parse(source).ok_or(SourceError::Form)?));
    }
    Ok(sources)
}

/// Reads the secrets that the connector's form asks for. Every given one must
/// be in the form, every required one must be given.
pub fn read(descriptor: &Descriptor, sources: &[(String, Source)], whose: Whose<'_>) -> Result<Secrets, SourceError> {
    check(descriptor, sources)?;
    take(sources, whose)
}

/// Checks that the sources fit the connector's form, without reading any.
pub fn check(descriptor: &Descriptor, sources: &[(String, Source)]) -> Result<(), SourceError> {
    let secret_fields = || descriptor.settings.iter().filter(|field| matches!(field.kind, SettingKind::Secret));
    for (key, _) in sources {
        if secret_fields().any(|field| field.key == *key) {
            continue;
        }
        let key = key.clone();
        return Err(if descriptor.settings.iter().any(|field| field.key == key) {
            SourceError::NotSecret { key }
        } else {
            SourceError::Unknown { key, known: secret_fields().map(|field| field.key.clone()).collect() }
        });
    }
    for field in secret_fields().filter(|field| field.required) {
        if !sources.iter().any(|(key, _)| *key == field.key) {
            return Err(SourceError::Missing { key: field.key.clone(), label: field.label.clone() });
        }
    }
    Ok(())
}

/// Reads secrets, whatever form they belong to.
pub fn take(sources: &[(String, Source)], whose: Whose<'_>) -> Result<Secrets, SourceError> {
    let mut secrets = Secrets::new();
    for (key, source) in sources {
        let value = source.value(key, whose)?;
        secrets.insert(key, value).map_err(|error| SourceError::Value { origin: source.words(), source: error })?;
    }
    Ok(secrets)
}

impl Source {
    /// `env:NAME` or `file:PATH`; nothing else is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() && !name.contains('\0') => Some(Self::Environment(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Some(Self::File(PathBuf::from(path))),
            _ => None,
        }
    }

    /// The source for messages.
    fn words(&self) -> String {
        match self {
            Self::Environment(name) => format!("the environment variable {name}"),
            Self::File(path) => format!("the file {}", path.display()),
        }
    }

    /// Reads a secret that may have several lines, as it is.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) fn text(&self, key: &str, whose: Whose<'_>) -> Result<SecretString, SourceError> {
        self.value(key, whose)
    }

    /// Reads the value.
    fn value(&self, key: &str, whose: Whose<'_>) -> Result<SecretString, SourceError> {
        let not_text = || SourceError::NotText { key: key.to_owned(), origin: self.words() };
        match self {
            Self::Environment(name) => match std::env::var(name) {
                Ok(value) => Ok(value.into()),
                Err(std::env::VarError::NotPresent) => {
                    Err(SourceError::Unset { key: key.to_owned(), name: name.clone() })
                }
                Err(std::env::VarError::NotUnicode(_)) => Err(not_text()),
            },
            Self::File(path) => {
                let unreadable = |source| SourceError::Unreadable { key: key.to_owned(), path: path.clone(), source };
                let file = files::open(path).map_err(unreadable)?;
                let metadata = file.metadata().map_err(unreadable)?;
                warn_of_others(path, &metadata, key, whose);
                let mut bytes = Vec::new();
                file.take(LONGEST_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
                if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LONGEST_FILE {
                    return Err(SourceError::TooLong { key: key.to_owned(), path: path.clone() });
                }
                Ok(String::from_utf8(bytes).map_err(|_| not_text())?.into())
            }
        }
    }
}

/// Tells that others can read a file, unless that was told of this content.
fn warn_of_others(path: &Path, metadata: &Metadata, key: &str, whose: Whose<'_>) {
    if matches!(whose, Whose::Looking) {
        return;
    }
    if !metadata.is_file() || metadata.mode() & 0o044 == 0 {
        // Should it be opened to others again, that is news.
        lock(&TOLD).remove(path);
        return;
    }
    let nanoseconds = metadata.mtime_nsec().unsigned_abs();
    let look = [metadata.ino(), metadata.mtime().unsigned_abs(), nanoseconds, metadata.size()];
    if lock(&TOLD).insert(path.to_owned(), look) == Some(look) {
        return;
    }
    let shown = path.display();
    let text =
        format!("the file {shown} with the secret {key:?} can be read by others; protect it with: chmod 600 {shown}");
    match whose {
        Whose::Instance { connector, name } => tracing::warn!(connector, instance = name, "{text}"),
        Whose::Own | Whose::Looking => tracing::warn!("{text}"),
    }
}

/// Names in quotes, or `none`.
fn names(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::super::tests::descriptor;
    use super::*;

    fn given(texts: &[&str]) -> Result<Vec<(String, Source)>, SourceError> {
        parse(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    fn read_all(texts: &[&str]) -> Result<Secrets, SourceError> {
        read(&descriptor(), &given(texts)?, Whose::Own)
    }

    #[test]
    fn a_source_is_an_environment_variable_or_a_file() {
        let sources = given(&["api_key=env:KEY", "token=file:/a=b:c"]).expect("sources");
        assert_eq!(
            sources,
            [("api_key".into(), Source::Environment("KEY".into())), ("token".into(), Source::File("/a=b:c".into()))]
        );
    }

    #[test]
    fn what_may_be_a_secret_given_by_mistake_is_never_shown() {
        for text in [
            "hunter2hunter2",
            "api_key=hunter2",
            "api_key=hunter2:x",
            "api_key=env:",
            "hunter2==",
            "Hunter2=env:X",
            "=env:hunter2",
        ] {
            let error = given(&[text]).expect_err(text);
            assert!(!format!("{error} {error:?} {}", error.help()).to_lowercase().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn secrets_must_fit_the_form() {
        let error = |texts: &[&str]| read_all(texts).map(|_| ()).expect_err("must fail");
        insta::assert_snapshot!(error(&[]), @r#"the secret "api_key" (API Key) is missing"#);
        insta::assert_snapshot!(error(&[]).help(), @"add --secret api_key=env:NAME or --secret api_key=file:PATH");
        insta::assert_snapshot!(error(&["api_kee=env:X"]), @r#"the connector has no secret "api_kee"; it has "api_key""#);
        insta::assert_snapshot!(error(&["region=env:X"]), @r#""region" is no secret but an ordinary setting"#);
        insta::assert_snapshot!(error(&["region=env:X"]).help(), @"give it with --set region=VALUE");
        insta::assert_snapshot!(error(&["api_key=env:A", "api_key=env:B"]), @r#"the secret "api_key" is given twice"#);
    }

    #[test]
    fn a_source_that_gives_nothing_is_named() {
        let error = |texts: &[&str]| read_all(texts).map(|_| ()).expect_err("must fail");
        insta::assert_snapshot!(
            error(&["api_key=env:HOST_HARNESS_NOT_SET"]),
            @r#"the environment variable HOST_HARNESS_NOT_SET for the secret "api_key" is not set"#
        );
        insta::assert_snapshot!(
            error(&["api_key=file:/no/such/key"]),
            @r#"cannot read /no/such/key for the secret "api_key": No such file or directory (os error 2)"#
        );
        insta::assert_snapshot!(
            error(&["api_key=file:/dev/null"]),
            @"the file /dev/null: the secret api_key is empty; give its value"
        );
        assert_eq!(error(&["api_key=file:/"]).code(), "secret-unreadable");
    }

    #[test]
    fn a_file_is_read_without_its_line_end() {
        use secrecy::ExposeSecret;
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("key");
        fs::write(&path, "0123-4567\n").expect("file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("mode");
        let secrets = read_all(&[&format!("api_key=file:{}", path.display())]).expect("secrets");
        assert_eq!(secrets.get("api_key").map(ExposeSecret::expose_secret), Some("0123-4567"));
    }

    #[test]
    fn that_others_can_read_a_file_is_told_once_for_each_content_and_with_its_instance() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("key");
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).expect("file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        };
        let sources = [("api_key".to_owned(), Source::File(path.clone()))];
        let told = |whose| crate::log::captured(|| drop(take(&sources, whose).expect("read")));
        let acme = Whose::Instance { connector: "acme-siem", name: "acme" };
        write("0123-4567", 0o644);
        assert_eq!(told(Whose::Looking), "", "whoever uses it tells");
        let line = told(acme);
        assert!(line.starts_with("[WARN] acme-siem: the file ") && line.ends_with(" instance=\"acme\"\n"), "{line}");
        assert_eq!(told(acme) + &told(Whose::Own), "", "once");
        write("another-key", 0o644);
        assert_eq!(told(acme).lines().count(), 1, "of another content");
        write("another-key", 0o600);
        assert_eq!(told(acme), "");
        write("another-key", 0o604);
        assert_eq!(told(acme).lines().count(), 1, "again");
    }

    #[test]
    fn a_file_that_is_too_long_is_refused_and_no_length_is_made_up() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("key");
        let error = |length| {
            fs::write(&path, vec![b'a'; length]).expect("file");
            read_all(&[&format!("api_key=file:{}", path.display())]).map(|_| ()).expect_err("must fail")
        };
        let (read, cut) = (error(65_536), error(100_000));
        assert!(read.to_string().contains("the secret api_key has 65536 bytes; at most 8192"), "{read}");
        assert!(cut.to_string().contains("key for the secret \"api_key\" has more than 65536 bytes"), "{cut}");
        assert_eq!((read.code(), cut.code()), ("secret-too-long", "secret-too-long"));
    }

    #[test]
    fn a_file_that_is_not_text_is_refused() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("key");
        fs::write(&path, [0xff, 0xfe]).expect("file");
        let error = read_all(&[&format!("api_key=file:{}", path.display())]).map(|_| ()).expect_err("must fail");
        assert_eq!(error.code(), "secret-not-text");
    }
}
