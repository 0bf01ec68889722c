//! `host-harness instances`: which instances a state directory knows, and what
//! becomes of those that begin again or have left.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;
use time::OffsetDateTime;

use super::error::{CliError, EXIT_USAGE};
use super::state::State;
use super::{Context, output};
use crate::instances::report::counted;
use crate::log::escape;
use crate::orders::{Answer, Order, Orders};
use crate::store::{Instance, Period, Reader, Standing, Store, StoreError};

/// List instances, poll one now, let one begin again, remove one that has left
///
/// Works on a state directory, as the user of the host. All but `poll` and `scrub`
/// work whether a host runs or not: one that does carries them out, `reset` and
/// `remove` between two polls. `scrub` needs the directory for itself: stop the host first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness instances list --config /etc/host-harness/conductor.toml
  host-harness instances poll --config /etc/host-harness/conductor.toml acme-us
  host-harness instances reset --state ./state acme-us
  host-harness instances redeliver --state ./state acme-us --since 24h
  host-harness instances remove --state ./state acme-us --yes
  host-harness instances scrub --state ./state")]
pub(super) struct Instances {
    #[command(subcommand)]
    action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// Show every instance that the state directory knows, also those that are
    /// in no configuration any more
    List {
        #[command(flatten)]
        state: State,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Let an instance begin again: its next poll collects the whole look-back
    ///
    /// Artifacts that are stored stay, and none is stored twice; what has
    /// changed since it was first collected comes once more, as it is now. For
    /// one whose look-back was made longer, or whose progress cannot be read.
    Reset {
        #[command(flatten)]
        state: State,
        /// Its name, or the id that the configuration gave it
        #[arg(value_name = "INSTANCE")]
        name: String,
    },
    /// Poll an instance of a running host now, whatever it waits for: its interval, a back-off, a pause that its vendor asked for
    Poll {
        #[command(flatten)]
        state: State,
        /// Its name, or the id that the configuration gave it
        #[arg(value_name = "INSTANCE")]
        name: String,
    },
    /// Deliver what is stored of an instance once more, for an output that has lost it
    ///
    /// Artifacts come with the ids that they have. A running host delivers them at once, another one when it starts, and `poll`
    /// with its next poll that has --out.
    Redeliver {
        #[command(flatten)]
        state: State,
        /// Its name, or the id that the configuration gave it
        #[arg(value_name = "INSTANCE")]
        name: String,
        /// Only what was stored from this time on: how long ago (15m, 24h, 7d) or a moment in UTC (2026-01-15, 2026-01-15T11:30)
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
    /// Remove an instance with its progress and all of its artifacts
    ///
    /// Take it out of the configuration first: a running host refuses to remove
    /// it, and one that is started later begins with it anew. What an output
    /// has taken is not touched.
    Remove {
        #[command(flatten)]
        state: State,
        /// Its name, or the id that the configuration gave it
        #[arg(value_name = "INSTANCE")]
        name: String,
        /// Really do it
        #[arg(long)]
        yes: bool,
        /// Remove also artifacts that no output has taken yet
        #[arg(long)]
        undelivered: bool,
    },
    /// Write the database anew, so that nothing is left in it of what was
    /// removed, and it is no larger than it has to be
    ///
    /// It needs the time and the room of a copy.
    Scrub {
        #[command(flatten)]
        state: State,
    },
}

impl Instances {
    pub(super) fn run(self, context: &Context) -> Result<u8, CliError> {
        match self.action {
            Action::List { state, json } => {
                let all = Reader::open(&state.directory()?)?.instances()?;
                if json {
                    let all: Vec<_> = all.iter().map(as_json).collect();
                    output::print_json(&json!({ "instances": all }), true)?;
                } else {
                    output::print(&page(&all))?;
                }
                Ok(0)
            }
            Action::Reset { state, name } => {
                let directory = state.directory()?;
                let instance = Reader::open(&directory)?.known(&name)?;
                let had_progress = match store(&directory)? {
                    Held::Here(store) => store.begin_again(&instance)?,
                    Held::ByHost(locked) => {
                        let order = Order::BeginAgain { instance: instance.id.to_string() };
                        ordered(context, &directory, locked, &order)? == Answer::BegunAgain { had_progress: true }
                    }
                };
                output::print(&format!(
                    "{}: {}\n",
                    escape(&instance.name),
                    if had_progress {
                        "its next poll collects the whole look-back again; what is stored and has not changed is not stored twice"
                    } else {
                        "it had no progress; its next poll collects the whole look-back"
                    }
                ))?;
                Ok(0)
            }
            Action::Poll { state, name } => {
                let directory = state.directory()?;
                let instance = Reader::open(&directory)?.known(&name)?;
                match store(&directory)? {
                    Held::Here(_) => {
                        return Err(CliError::usage("no host runs with this state directory")
                            .help("start one (`host-harness run`), or poll with `host-harness poll`"));
                    }
                    Held::ByHost(locked) => {
                        let order = Order::Poll { instance: instance.id.to_string() };
                        ordered(context, &directory, locked, &order)?;
                    }
                }
                output::print(&format!("{} is polled now; see `status`\n", escape(&instance.name)))?;
                Ok(0)
            }
            Action::Redeliver { state, name, since } => {
                let directory = state.directory()?;
                let instance = Reader::open(&directory)?.known(&name)?;
                let period = Period::between(since.as_deref(), None, OffsetDateTime::now_utc());
                let since = period.map_err(|no_time| CliError::usage(format!("--{no_time}")))?.since;
                let artifacts = match store(&directory)? {
                    Held::Here(store) => store.deliver_again(&instance, since)?,
                    Held::ByHost(locked) => {
                        let order = Order::DeliverAgain { instance: instance.id.to_string(), since };
                        match ordered(context, &directory, locked, &order)? {
                            Answer::Waiting { artifacts } => artifacts,
                            _ => 0,
                        }
                    }
                };
                let what = counted(artifacts, "artifact");
                output::print(&format!("{what} of {} will be delivered once more\n", escape(&instance.name)))?;
                Ok(0)
            }
            Action::Remove { state, name, yes, undelivered } => {
                let directory = state.directory()?;
                let instance = Reader::open(&directory)?.known(&name)?;
                let there = standing(&directory, &instance)?;
                if there.undelivered > 0 && !undelivered {
                    let waiting = counted(there.undelivered, "artifact");
                    return Err(CliError::usage(format!("no output has taken {waiting} of {} yet", instance.name))
                        .help("start the host until they are delivered, or add --undelivered to remove them as well"));
                }
                let what = format!("{} with {}", escape(&instance.name), counted(there.artifacts, "artifact"));
                if !yes {
                    output::print(&format!("{what} would be removed for good; add --yes to do it\n"))?;
                    return Ok(EXIT_USAGE);
                }
                match store(&directory)? {
                    Held::Here(store) => remove(context, &store, &instance)?,
                    Held::ByHost(locked) => {
                        let order = Order::Remove { instance: instance.id.to_string(), undelivered };
                        ordered(context, &directory, locked, &order)?;
                    }
                }
                output::print(&format!("{what} is removed; see `instances scrub`\n"))?;
                Ok(0)
            }
            Action::Scrub { state } => {
                let directory = state.directory()?;
                Reader::open(&directory)?;
                let store = Store::open(&directory)?;
                let spinner = context.spinner("writing the database anew");
                store.scrub()?;
                spinner.finish_and_clear();
                output::print("the database was written anew\n")?;
                Ok(0)
            }
        }
    }
}

/// Who has a store.
enum Held {
    /// This process, which may do with it what it wants.
    Here(Store),
    /// Another one, as this says.
    ByHost(StoreError),
}

/// The store of a directory that has one.
fn store(directory: &Path) -> Result<Held, CliError> {
    match Store::open(directory) {
        Ok(store) => Ok(Held::Here(store)),
        Err(locked @ StoreError::Locked { .. }) => Ok(Held::ByHost(locked)),
        Err(error) => Err(error.into()),
    }
}

/// Has the host that holds the directory carry an order out.
fn ordered(context: &Context, directory: &Path, locked: StoreError, order: &Order) -> Result<Answer, CliError> {
    let spinner = context.spinner("waiting for the host, and for the poll at hand");
    let answer = Orders::of(directory).give(order, |sign| {
        if sign.removed > 0 {
            spinner.set_message(format!("removing: {}", counted(sign.removed, "artifact")));
        }
    });
    spinner.finish_and_clear();
    match answer {
        // What holds it is no host that takes orders: a poll, or one of another version.
        Ok(None) => Err(locked.into()),
        Ok(Some(Answer::Refused { code, message, help })) => {
            let is_usage = code.starts_with("instance-");
            let error = if is_usage { CliError::usage(message) } else { CliError::failed(message) };
            Err(error.help(help))
        }
        Ok(Some(done)) => Ok(done),
        Err(error) => Err(CliError::failed(&error).help(error.help())),
    }
}

/// How much there is of an instance.
fn standing(directory: &Path, instance: &Instance) -> Result<Standing, CliError> {
    let all = Reader::open(directory)?.instances()?;
    all.into_iter()
        .find(|one| one.name == instance.name)
        .ok_or_else(|| CliError::failed(format!("{} is gone", instance.name)))
}

/// Removes everything of an instance.
fn remove(context: &Context, store: &Store, instance: &Instance) -> Result<(), CliError> {
    let spinner = context.spinner("removing");
    store.remove_all(instance, |removed| {
        spinner.set_message(format!("removing: {}", counted(removed, "artifact")));
        true
    })?;
    spinner.finish_and_clear();
    Ok(())
}

/// Name, id, connector, artifacts, undelivered, last step.
fn page(all: &[Standing]) -> String {
    if all.is_empty() {
        return "no instance has ever been polled here\n".to_owned();
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|one| {
            let waiting = match one.undelivered {
                0 => String::new(),
                some => format!(", {some} not delivered"),
            };
            vec![
                escape(&one.name),
                one.handle.as_deref().map_or_else(|| "-".to_owned(), escape),
                escape(&one.connector),
                format!("{}{waiting}", counted(one.artifacts, "artifact")),
                one.last_step
                    .map_or_else(|| "no step yet".to_owned(), |at| format!("last step {}", output::to_the_second(at))),
            ]
        })
        .collect();
    output::table("", &rows)
}

fn as_json(one: &Standing) -> serde_json::Value {
    json!({
        "name": one.name,
        "id": one.handle,
        "connector": one.connector,
        "artifacts": one.artifacts,
        "undelivered": one.undelivered,
        "steps": one.steps,
        "last_step": one.last_step.map(output::to_the_second),
    })
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn each_instance_is_a_line() {
        let one = Standing {
            name: "Acme US".into(),
            handle: Some("acme-us".into()),
            connector: "acme-siem".into(),
            artifacts: 1,
            undelivered: 1,
            steps: 3,
            last_step: Some(OffsetDateTime::UNIX_EPOCH),
        };
        let other = Standing {
            name: "b".into(),
            handle: None,
            artifacts: 1_200,
            undelivered: 0,
            last_step: None,
            ..one.clone()
        };
        insta::assert_snapshot!(page(&[one, other]), @r"
        Acme US  acme-us  acme-siem  1 artifact, 1 not delivered  last step 1970-01-01T00:00:00Z
        b        -        acme-siem  1200 artifacts               no step yet
        ");
        assert_eq!(page(&[]), "no instance has ever been polled here\n");
    }
}
