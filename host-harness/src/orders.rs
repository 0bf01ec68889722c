//! Orders of an operator to a running host, through the state directory.
//!
//! What: a command that needs the store while a host has it leaves its order in a file there and waits for the answer.
//! Why files: whoever can write to the state directory may give orders and nobody else, and no way into the host over the
//! network is needed. Records of connectors are obeyed in the same way.
//! Promises: an order is taken once, by one host, and none that was given long before: whoever gave it has gone.
//! Not guaranteed: that whoever stops waiting learns what becomes of an order that was taken; it is carried out.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::private;

/// An order that was not taken for so long is not taken any more, and is taken back.
const TAKEN_WITHIN: Duration = Duration::from_secs(10);

/// Whoever took an order shows at least so often that it is at work.
pub(crate) const SIGN_EVERY: Duration = Duration::from_secs(2);

/// Without such a sign for so long it has ended, or hangs.
const SILENT_FOR: Duration = Duration::from_secs(30);

/// An answer that nobody has fetched for so long is nobody's.
const FETCHED_WITHIN: Duration = Duration::from_hours(1);

/// How often an answer is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Most bytes of a file.
const LARGEST: u64 = 64 << 10;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Order {
    /// Let an instance begin again.
    BeginAgain {
        /// Which, by its UUID.
        instance: String,
    },
    /// Remove an instance that is in the configuration no more.
    Remove {
        /// Which, by its UUID.
        instance: String,
        /// Also what no output has taken yet.
        undelivered: bool,
    },
    /// Poll an instance now, whatever it waits for.
    Poll {
        /// Which, by its UUID.
        instance: String,
    },
    /// Deliver once more what is stored of an instance.
    DeliverAgain {
        /// Which, by its UUID.
        instance: String,
        /// Only what was stored from then on.
        #[serde(with = "time::serde::rfc3339::option")]
        since: Option<time::OffsetDateTime>,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub(crate) enum Answer {
    /// It begins again.
    BegunAgain {
        /// Whether there was anything to begin again from.
        had_progress: bool,
    },
    /// It is removed.
    Removed,
    /// It is polled now.
    Polled,
    /// So many artifacts wait for the output that did not before.
    Waiting {
        /// How many.
        artifacts: u64,
    },
    /// It was not done.
    Refused {
        /// A stable name of the reason.
        code: String,
        /// Why.
        message: String,
        /// What the operator can do.
        help: String,
    },
}

/// A sign of whoever carries an order out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Sign {
    /// Which sign it is.
    number: u64,
    /// Artifacts that are gone so far.
    pub(crate) removed: u64,
}

/// Why an order came to nothing, as far as it is known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// A file cannot be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever took it does not say anything any more.
    #[error("the host took the order and has not been heard of for {} s", SILENT_FOR.as_secs())]
    Silent,
}

impl OrderError {
    /// What the operator can do, without a full stop at the end.
    pub(crate) fn help(&self) -> &'static str {
        match self {
            Self::File { .. } => "run this as the user of the host, or stop the host first",
            Self::Silent => {
                "look at the host's log and at `host-harness instances list`, then do it again if it was not done"
            }
        }
    }
}

/// Where orders are.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    directory: PathBuf,
}

impl Orders {
    /// Those of a state directory.
    pub(crate) fn of(state: &Path) -> Self {
        Self { directory: state.join("orders") }
    }

    // ---- the host's side --------------------------------------------------------

    /// Makes the place, for this user alone; what an earlier host has taken and not answered goes.
    ///
    /// # Errors
    /// When that cannot be done, or others could have written there.
    pub(crate) fn open(&self) -> Result<(), OrderError> {
        private::open_directory(&self.directory).map_err(failed("use", &self.directory))?;
        for part in [Part::Taken, Part::Sign] {
            for (ticket, _) in self.files(part)? {
                remove(&self.path(ticket, part))?;
            }
        }
        Ok(())
    }

    /// Takes the orders that were given since the last look. One that cannot be understood is answered.
    ///
    /// # Errors
    /// When the place cannot be read.
    pub(crate) fn take(&self) -> Result<Vec<(Uuid, Order)>, OrderError> {
        let mut orders = Vec::new();
        for (ticket, age) in self.files(Part::Given)? {
            let given = self.path(ticket, Part::Given);
            if age > TAKEN_WITHIN {
                // What cannot be removed is not taken the next time, either.
                let _ = remove(&given);
                continue;
            }
            let taken = self.path(ticket, Part::Taken);
            // Whoever gave it may take it back in this moment.
            match fs::rename(&given, &taken) {
                Ok(()) => {}
                Err(error) => {
                    if error.kind() != io::ErrorKind::NotFound {
                        tracing::warn!("an order cannot be taken: {}", failed("take", &given)(error));
                    }
                    continue;
                }
            }
            match read::<Order>(&taken) {
                Ok(Some(order)) => orders.push((ticket, order)),
                Ok(None) => {}
                Err(error) => {
                    let help = "run the same version of the program as the host, as its user".to_owned();
                    let refused = Answer::Refused { code: "order-unknown".into(), message: error.to_string(), help };
                    // Whoever waits sees in time that nobody answers.
                    let _ = self.answer(ticket, &refused);
                }
            }
        }
        for (ticket, age) in self.files(Part::Answer)? {
            if age > FETCHED_WITHIN {
                let _ = remove(&self.path(ticket, Part::Answer));
            }
        }
        Ok(orders)
    }

    /// Shows that an order is being carried out, and how far.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) fn sign(&self, ticket: Uuid, number: u64, removed: u64) -> Result<(), OrderError> {
        write(&self.path(ticket, Part::Sign), &Sign { number, removed })
    }

    /// Answers an order.
    ///
    /// # Errors
    /// When that cannot be written.
    pub(crate) fn answer(&self, ticket: Uuid, answer: &Answer) -> Result<(), OrderError> {
        write(&self.path(ticket, Part::Answer), answer)?;
        remove(&self.path(ticket, Part::Sign))?;
        remove(&self.path(ticket, Part::Taken))
    }

    // ---- the operator's side ----------------------------------------------------

    /// Gives an order and waits for the answer; `None` when nobody takes it. `progress` is told of every sign.
    ///
    /// # Errors
    /// When files cannot be written or read, or whoever took it is silent.
    pub(crate) fn give(&self, order: &Order, progress: impl Fn(&Sign)) -> Result<Option<Answer>, OrderError> {
        match fs::metadata(&self.directory) {
            // A host that runs has made it, and reads what its own user writes.
            Ok(there) => private::check_owner(&there).map_err(failed("use", &self.directory))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("use", &self.directory)(error)),
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // No two processes of a user begin in one nanosecond with the same number.
        let ticket = Uuid::from_u64_pair(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), std::process::id().into());
        let given = self.path(ticket, Part::Given);
        write(&given, order)?;
        let mut since = Instant::now();
        let mut is_taken = false;
        let mut last = None;
        loop {
            let answer = self.path(ticket, Part::Answer);
            if let Some(answer_of_host) = read(&answer)? {
                remove(&answer)?;
                return Ok(Some(answer_of_host));
            }
            if !is_taken && !given.exists() {
                (is_taken, since) = (true, Instant::now());
            }
            if is_taken {
                let sign: Option<Sign> = read(&self.path(ticket, Part::Sign))?;
                if sign.is_some() && sign != last {
                    sign.iter().for_each(&progress);
                    (last, since) = (sign, Instant::now());
                } else if since.elapsed() > SILENT_FOR {
                    return Err(OrderError::Silent);
                }
            } else if since.elapsed() > TAKEN_WITHIN {
                match fs::remove_file(&given) {
                    // It is taken in this moment.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    removed => return removed.map(|()| None).map_err(failed("take back", &given)),
                }
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    // ---- files ------------------------------------------------------------------

    /// The files of one part, with how long ago they were written.
    fn files(&self, part: Part) -> Result<Vec<(Uuid, Duration)>, OrderError> {
        let entries = fs::read_dir(&self.directory).map_err(failed("read", &self.directory))?;
        let one = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            let ticket = Uuid::try_parse(name.strip_suffix(part.ending())?).ok()?;
            let written = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
            // One that seems to be still to come, but for a moment, was written by a clock that was ahead, nobody knows when.
            let age = written
                .elapsed()
                .unwrap_or_else(|ahead| if ahead.duration() > TAKEN_WITHIN { Duration::MAX } else { Duration::ZERO });
            Some((ticket, age))
        };
        Ok(entries.flatten().filter_map(one).collect())
    }

    fn path(&self, ticket: Uuid, part: Part) -> PathBuf {
        self.directory.join(format!("{ticket}{}", part.ending()))
    }
}

/// The files of an order.
#[derive(Clone, Copy)]
enum Part {
    /// The order, which nobody has taken.
    Given,
    /// The order, which somebody has taken.
    Taken,
    /// The last sign of whoever did.
    Sign,
    /// The answer.
    Answer,
}

impl Part {
    /// What the name ends with.
    fn ending(self) -> &'static str {
        match self {
            Self::Given => ".given.json",
            Self::Taken => ".taken.json",
            Self::Sign => ".sign.json",
            Self::Answer => ".answer.json",
        }
    }
}

/// The error of an operation.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OrderError {
    let path = path.to_owned();
    move |source| OrderError::File { action, path, source }
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, OrderError> {
    let Some(bytes) = private::read(path, LARGEST).map_err(failed("read", path))? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from).map_err(failed("understand", path))
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), OrderError> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::from).map_err(failed("write", path))?;
    private::replace(path, &[&bytes]).map_err(failed("write", path))
}

fn remove(path: &Path) -> Result<(), OrderError> {
    private::remove(path).map_err(failed("remove", path))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::locks::lock;

    fn orders() -> (tempfile::TempDir, Orders) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let orders = Orders::of(dir.path());
        orders.open().expect("opened");
        (dir, orders)
    }

    fn reset() -> Order {
        Order::BeginAgain { instance: Uuid::from_u128(7).to_string() }
    }

    /// Takes what is given, waiting for it.
    fn taken(orders: &Orders) -> (Uuid, Order) {
        loop {
            if let Some(one) = orders.take().expect("taken").pop() {
                return one;
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn an_order_is_taken_once_and_whoever_gave_it_sees_how_far_it_is_and_what_came_of_it() {
        let (dir, orders) = orders();
        let seen = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| orders.give(&reset(), |sign| lock(&seen).push(sign.removed)));
            let (ticket, order) = taken(&orders);
            assert_eq!(order, reset());
            assert_eq!(orders.take().expect("taken"), [], "it is taken");
            orders.sign(ticket, 1, 500).expect("signed");
            while lock(&seen).is_empty() {
                std::thread::yield_now();
            }
            orders.answer(ticket, &Answer::BegunAgain { had_progress: true }).expect("answered");
            let answer = asked.join().expect("no panic").expect("heard");
            assert_eq!(answer, Some(Answer::BegunAgain { had_progress: true }));
        });
        assert_eq!(*lock(&seen), [500]);
        assert_eq!(fs::read_dir(dir.path().join("orders")).expect("list").count(), 0, "nothing is left");
    }

    #[test]
    fn what_cannot_be_understood_is_refused_and_what_nobody_waits_for_is_not_done() {
        let (dir, orders) = orders();
        let place = |ticket: Uuid, part: Part| orders.path(ticket, part);
        let (odd, old, left) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        write(&place(odd, Part::Given), &serde_json::json!({ "order": "dance" })).expect("given");
        write(&place(old, Part::Given), &reset()).expect("given");
        write(&place(left, Part::Answer), &Answer::Removed).expect("answered");
        let ahead = Uuid::from_u128(4);
        write(&place(ahead, Part::Given), &reset()).expect("given");
        let future = std::time::SystemTime::now() + Duration::from_hours(1);
        fs::File::open(place(ahead, Part::Given)).expect("file").set_modified(future).expect("made new");
        let ago = |age: Duration| std::time::SystemTime::now() - age - Duration::from_secs(1);
        for (path, age) in [(place(old, Part::Given), TAKEN_WITHIN), (place(left, Part::Answer), FETCHED_WITHIN)] {
            fs::File::open(path).expect("file").set_modified(ago(age)).expect("made old");
        }
        assert_eq!(orders.take().expect("taken"), []);
        let refused: Answer = read(&place(odd, Part::Answer)).expect("read").expect("answered");
        assert!(matches!(&refused, Answer::Refused { code, .. } if code == "order-unknown"), "{refused:?}");
        assert_eq!(fs::read_dir(dir.path().join("orders")).expect("list").count(), 1, "the answer alone");
        // What an earlier host has taken is nobody's.
        write(&place(old, Part::Taken), &reset()).expect("taken");
        orders.open().expect("opened");
        assert_eq!(orders.take().expect("taken"), []);
        assert!(!place(old, Part::Taken).exists());
    }

    #[test]
    fn without_a_host_that_takes_orders_none_is_given() {
        let dir = tempfile::tempdir().expect("temporary directory");
        assert_eq!(Orders::of(dir.path()).give(&reset(), |_| ()).expect("no failure"), None);
        assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);
    }
}
