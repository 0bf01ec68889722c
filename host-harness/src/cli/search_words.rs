//! The words of a query apart from the options of `search`, before clap sees either.
//!
//! What: the options are put before the words, and `--` between them.
//! Why: a word may begin with a hyphen, as `-severity:low` does. clap can let such words through, but takes everything
//! from the first one on for words then, options too.
//! Not guaranteed: that a word is meant which has the name of an option; that one comes within the quotes of the query, or
//! behind a `--`.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::vec::IntoIter;

use clap::{Arg, Command, CommandFactory as _};

use super::Cli;
use super::error::CliError;
use crate::config::suggestion;

/// The command whose arguments are set apart.
const SEARCH: &str = "search";

/// The arguments of this program, with the words of a search behind a `--`. Those of other commands stay as they are.
pub(super) fn set_apart(arguments: Vec<OsString>) -> Result<Vec<OsString>, CliError> {
    if !arguments.iter().any(|argument| argument == SEARCH) {
        return Ok(arguments);
    }
    let mut program = Cli::command();
    // Only then every command has the options of all.
    program.build();
    let Some(search) = program.find_subcommand(SEARCH) else { return Ok(arguments) };
    let mut rest = arguments.clone().into_iter().peekable();
    let mut before: Vec<OsString> = rest.next().into_iter().collect();
    // The command is the first that is neither an option of all nor the value of one.
    while let Some(argument) = rest.next() {
        let option = option(&program, &argument);
        let is_search = argument == SEARCH;
        before.push(argument);
        match option {
            Some(option) => before.extend(value(option, before.last(), &mut rest)),
            None if is_search => break,
            None => return Ok(arguments),
        }
    }
    let (options, words) = apart(search, rest)?;
    before.extend(options);
    if !words.is_empty() {
        before.push("--".into());
        before.extend(words);
    }
    Ok(before)
}

/// Options with their values, and words.
fn apart(search: &Command, mut rest: Peekable<IntoIter<OsString>>) -> Result<(Vec<OsString>, Vec<OsString>), CliError> {
    let (mut options, mut words) = (Vec::new(), Vec::new());
    while let Some(argument) = rest.next() {
        if argument == "--" {
            words.extend(rest);
            break;
        }
        if let Some(option) = option(search, &argument) {
            let value = value(option, Some(&argument), &mut rest);
            options.push(argument);
            options.extend(value);
            continue;
        }
        match argument.to_str().and_then(|text| text.strip_prefix("--")) {
            Some(name) => return Err(unknown(search, name)),
            None => words.push(argument),
        }
    }
    Ok((options, words))
}

/// The option that an argument names, with its value or without.
fn option<'a>(command: &'a Command, argument: &OsStr) -> Option<&'a Arg> {
    let text = argument.to_str()?;
    let is_named = |option: &&Arg| match text.strip_prefix("--") {
        Some(name) => option.get_long() == Some(name.split_once('=').map_or(name, |(name, _)| name)),
        None => {
            option.get_short().is_some_and(|short| text.strip_prefix('-').is_some_and(|rest| rest == short.to_string()))
        }
    };
    command.get_arguments().find(is_named)
}

/// The value of an option that comes as an argument of its own. What begins with a hyphen is none, as clap has it.
fn value(option: &Arg, argument: Option<&OsString>, rest: &mut Peekable<IntoIter<OsString>>) -> Option<OsString> {
    let begins_with = |text: &OsStr, with: u8| text.as_encoded_bytes().first() == Some(&with);
    let has_value = argument.is_some_and(|argument| argument.as_encoded_bytes().contains(&b'='));
    if has_value || !option.get_action().takes_values() {
        return None;
    }
    rest.next_if(|next| !begins_with(next, b'-'))
}

/// What looks like an option and is none. Of a value behind it nothing is shown.
fn unknown(search: &Command, text: &str) -> CliError {
    let name = text.split(|c: char| c == '=' || c.is_whitespace()).next().unwrap_or_default();
    let known: Vec<String> = search.get_arguments().filter_map(Arg::get_long).map(|name| format!("--{name}")).collect();
    let written = format!("--{name}");
    let suggestion = suggestion(&written, known.iter().map(String::as_str));
    CliError::usage(format!("{written} is no option of `{SEARCH}`; {suggestion}"))
        .help(format!("to search for it as text, put it into the quotes of the query: '\"{written}\"'"))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn told(arguments: &str) -> Result<String, String> {
        let all = ["host-harness"].into_iter().chain(arguments.split_whitespace()).map(OsString::from).collect();
        let apart = set_apart(all).map_err(|error| error.to_string())?;
        Ok(apart.iter().skip(1).map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    /// What clap says of what is told.
    fn parsed(arguments: &str) -> Result<Cli, String> {
        let told = told(arguments)?;
        let all = ["host-harness"].into_iter().chain(told.split_whitespace());
        Cli::try_parse_from(all).map_err(|error| error.to_string())
    }

    #[test]
    fn words_may_begin_with_a_hyphen_and_options_stand_before_and_behind_them() {
        for (given, expected) in [
            ("search --state s -severity:high", "search --state s -- -severity:high"),
            ("search -severity:high --state s", "search --state s -- -severity:high"),
            (
                "search failed --limit 5 -user:jdoe --json --state=s OR x",
                "search --limit 5 --json --state=s -- failed -user:jdoe OR x",
            ),
            (
                "--log-level warn search --state s x --log-format json",
                "--log-level warn search --state s --log-format json -- x",
            ),
            ("search --state s powershell -enc", "search --state s -- powershell -enc"),
            ("search --state s - x", "search --state s -- - x"),
            ("search --state s -- --json -h", "search --state s -- --json -h"),
            ("search --state search search", "search --state search -- search"),
            ("search --state s", "search --state s"),
        ] {
            assert_eq!(told(given).as_deref(), Ok(expected), "{given}");
            assert!(parsed(given).is_ok(), "{given}");
        }
    }

    #[test]
    fn other_commands_and_requests_for_help_stay_as_they_are() {
        for given in ["help search", "simulate --api-key search -x", "search --help", "search -h"] {
            assert_eq!(told(given).as_deref(), Ok(given));
        }
    }

    #[test]
    fn what_looks_like_an_option_and_is_none_is_refused_with_the_nearest_and_with_how_it_is_searched_for() {
        insta::assert_snapshot!(told("search --state s x --limt=hunter2").unwrap_err(), @r#"
        error: --limt is no option of `search`; did you mean "--limit"?
        help: to search for it as text, put it into the quotes of the query: '"--limt"'
        "#);
        let far = told("search --state s --encodedcommand x").unwrap_err();
        assert!(far.contains("--encodedcommand is no option of `search`; there is --state, --config, "), "{far}");
        assert!(told("search --state s \"--encodedcommand\" x").is_ok());
    }

    #[test]
    fn an_option_without_its_value_takes_no_word_for_it() {
        let error = parsed("search --state s --instance -severity:high").unwrap_err();
        assert!(error.contains("--instance <NAME>"), "{error}");
    }
}
