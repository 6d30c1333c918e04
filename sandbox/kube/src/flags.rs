//! Command lines as upstream's components read them (pflag). Flags that are real and change nothing here are taken with a line in the log,
//! so that what people learned of a real control plane does not stop this one; others are refused in upstream's words. Called by `main`.

mod names;

use clap::{Command, Parser};
use std::ffi::OsString;
use std::process::exit;

/// A command line, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sorted {
    /// For the component's own parser.
    args: Vec<OsString>,
    /// Names of flags that change nothing.
    unused: Vec<String>,
}

/// Reads a component's command line. Ends the process if it is none, as upstream: with 1.
pub fn parse<C: Parser>(component: &str, args: Vec<OsString>) -> C {
    let sorted = match sort(component, &C::command(), args) {
        Ok(sorted) => sorted,
        Err(words) => fail(&words),
    };
    for flag in &sorted.unused {
        tracing::warn!("Flag --{flag} has no effect here");
    }
    match C::try_parse_from(sorted.args) {
        Ok(command) => command,
        // Help and version.
        Err(answer) if !answer.use_stderr() => answer.exit(),
        Err(error) => fail(&words_of(&error)),
    }
}

/// What is wrong, in pflag's words where it has some.
pub(crate) fn words_of(error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue};
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    if let (Some(flag), Some(value)) = (text(ContextKind::InvalidArg), text(ContextKind::InvalidValue)) {
        // `--secure-port <SECURE_PORT>`
        let flag = flag.split([' ', '=', '[']).next().unwrap_or_default();
        let why = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let why = if why.starts_with("time: ") { why } else { reason(&why, value) };
        return format!("invalid argument {value:?} for {flag:?} flag: {why}");
    }
    let words = error.to_string();
    // What follows is how to use it.
    words.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ").trim_end().into()
}

/// Why a value is none, as Go's `strconv` has it.
fn reason(why: &str, value: &str) -> String {
    let is_number = value.parse::<i128>().is_ok();
    match why {
        _ if is_number && why.contains("not in") => {
            format!("strconv.ParseInt: parsing {value:?}: value out of range")
        }
        "invalid float literal" => format!("strconv.ParseFloat: parsing {value:?}: invalid syntax"),
        _ if why.contains("digit") || why.contains("integer") => {
            format!("strconv.ParseInt: parsing {value:?}: invalid syntax")
        }
        // Of a choice nothing but the choices is told.
        "" => format!("strconv.ParseBool: parsing {value:?}: invalid syntax"),
        why => why.into(),
    }
}

fn fail(words: &str) -> ! {
    eprintln!("Error: {words}");
    exit(1)
}

/// How much is to be logged (`-v`).
pub fn verbosity(args: &[OsString]) -> u8 {
    let mut level = 0;
    let mut args = args.iter().filter_map(|arg| arg.to_str());
    while let Some(arg) = args.next() {
        let value = match arg.strip_prefix("--v").or_else(|| arg.strip_prefix("-v")) {
            Some("") => args.next(),
            Some(rest) => Some(rest.strip_prefix('=').unwrap_or(rest)),
            None => None,
        };
        level = value.and_then(|value| value.parse().ok()).unwrap_or(level);
    }
    level
}

fn sort(component: &str, own: &Command, args: Vec<OsString>) -> Result<Sorted, String> {
    let mut sorted = Sorted::default();
    let mut args = args.into_iter();
    sorted.args.extend(args.next());
    while let Some(arg) = args.next() {
        let Some(text) = arg.to_str().map(String::from) else {
            sorted.args.push(arg);
            continue;
        };
        if text == "--" {
            sorted.args.push(arg);
            sorted.args.extend(args);
            break;
        }
        if let Some(flag) = text.strip_prefix("--") {
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name.replace('_', "-"), Some(value.to_string())),
                None => (flag.replace('_', "-"), None),
            };
            let missing = || format!("flag needs an argument: --{name}");
            match takes_value(component, own, &name) {
                None => return Err(format!("unknown flag: --{name}")),
                // Made by the parser itself, and without a value.
                Some(_) if matches!(&*name, "help" | "version") => {
                    sorted.args.push(format!("--{name}").into())
                }
                Some((is_own, needs)) => {
                    let value = match value {
                        Some(value) => value.into(),
                        None if needs => args.next().ok_or_else(missing)?,
                        None => "true".into(),
                    };
                    if is_own {
                        let mut whole = OsString::from(format!("--{name}="));
                        whole.push(value);
                        sorted.args.push(whole);
                    } else if name != VERBOSITY {
                        sorted.unused.push(name);
                    }
                }
            }
        } else if let Some(letters) = text.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            match letters.strip_prefix(VERBOSITY) {
                Some("") => {
                    args.next().ok_or_else(|| format!("flag needs an argument: 'v' in {text}"))?;
                }
                Some(_) => {}
                None if letters.starts_with('h') => sorted.args.push("--help".into()),
                None => {
                    let first = letters.chars().next().unwrap_or_default();
                    return Err(format!("unknown shorthand flag: '{first}' in {text}"));
                }
            }
        } else {
            sorted.args.push(arg);
        }
    }
    Ok(sorted)
}

/// What [`verbosity`] reads.
const VERBOSITY: &str = "v";

/// Whether a flag is the component's own, and whether a value must follow it; none: there is no such flag.
fn takes_value(component: &str, own: &Command, name: &str) -> Option<(bool, bool)> {
    let known = own.get_arguments().find(|arg| {
        arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|all| all.contains(&name))
    });
    if let Some(arg) = known {
        let is_bool = arg.get_num_args().is_some_and(|count| count.min_values() == 0);
        return Some((true, !is_bool));
    }
    match name {
        "help" | "version" => Some((true, false)),
        VERBOSITY => Some((false, true)),
        _ => names::unused(component, name).map(|needs| (false, needs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "kube-apiserver", version)]
    struct Own {
        #[arg(long)]
        etcd_servers: Option<String>,
        #[arg(long, num_args = 0..=1, default_missing_value = "true")]
        anonymous_auth: Option<bool>,
    }

    fn sorted(args: &[&str]) -> Result<(Vec<String>, Vec<String>), String> {
        let all = std::iter::once("kube-apiserver").chain(args.iter().copied()).map(OsString::from).collect();
        let sorted = sort("kube-apiserver", &<Own as clap::CommandFactory>::command(), all)?;
        let args = sorted.args.into_iter().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
        Ok((args, sorted.unused))
    }

    #[test]
    fn upstreams_flags_are_taken_and_others_refused() {
        let (own, unused) = sorted(&[
            "--audit-policy-file=/p",
            "--audit-log-path",
            "/var/log/audit.log",
            "--etcd-servers",
            "https://s",
            "--profiling",
            "--version",
            "--anonymous_auth",
            "--feature-gates=A=true",
            "-v",
            "4",
            "-v=2",
            "--v=3",
        ])
        .unwrap();
        assert_eq!(own, ["--etcd-servers=https://s", "--version", "--anonymous-auth=true"]);
        assert_eq!(unused, ["audit-policy-file", "audit-log-path", "profiling", "feature-gates"]);
        for (args, words) in [
            (&["--etcd-server=x"][..], "unknown flag: --etcd-server"),
            (&["--leader-elect"], "unknown flag: --leader-elect"),
            (&["-x"], "unknown shorthand flag: 'x' in -x"),
            (&["--audit-log-path"], "flag needs an argument: --audit-log-path"),
        ] {
            assert_eq!(sorted(args).unwrap_err(), words);
        }
    }

    #[test]
    fn the_level_of_the_log_is_read_in_all_its_forms() {
        let level = |args: &[&str]| verbosity(&args.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(level(&["-v=4"]), 4);
        assert_eq!(level(&["--v", "5"]), 5);
        assert_eq!(level(&["-v6", "--vmodule=x=9"]), 6);
        assert_eq!(level(&["--version"]), 0);
    }
}
