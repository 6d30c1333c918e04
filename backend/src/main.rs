//! The `drydock` command. Parses the command line and hands over; see `drydock_backend::commands`.

use anyhow::Context;
use clap::{Parser, Subcommand};
use drydock_backend::{commands, config::Config, log, serve};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

/// A playground for Docker and Kubernetes: Linux nodes in the browser.
#[derive(Debug, Parser)]
#[command(name = "drydock", version, max_term_width = 100, arg_required_else_help = true)]
struct Line {
    /// Where everything is kept. Several servers can run beside each other, each with its own.
    #[arg(
        long,
        global = true,
        env = "DRYDOCK_STATE_DIR",
        default_value = "/var/lib/drydock",
        value_name = "DIR"
    )]
    state_dir: PathBuf,
    #[command(flatten)]
    output: commands::Output,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the page and the API. Sessions outlive the server.
    Serve(Box<Config>),
    /// End all sessions, and the server.
    Stop,
    /// Make, list, show, extend and end sessions.
    Session(commands::session::Options),
    /// Run a command in a node.
    Exec(commands::exec::Options),
    /// Copy files between this machine and a node.
    Cp(commands::cp::Options),
    /// Show and set who may log in at the image registry from a session.
    Registry(commands::registry::Options),
    /// Prepare, list, export and import node images.
    Image(commands::image::ImageArgs),
    /// Tell what this host can and cannot do.
    Doctor(commands::doctor::DoctorArgs),
    /// The root process behind a server, which starts it.
    #[command(hide = true)]
    Warden(commands::warden::Options),
}

/// The status of a program that SIGPIPE has ended, as shells tell it.
const READER_GONE: u8 = 128 + 13;
/// The status of a command line that means nothing, which starting again does not mend; it is also clap's.
const WRONG_LINE: u8 = 2;

fn main() -> ExitCode {
    drydock_runtime::heap::join_at_once();
    let line: Line = match Config::parse_with_file("serve", std::env::args_os()) {
        Ok(line) => line,
        Err(e) => e.exit(),
    };
    log::start();
    let json = line.output.json;
    match run(line) {
        Ok(status) => ExitCode::from(status),
        Err((_, e)) if e.is::<commands::ReaderGone>() => ExitCode::from(READER_GONE),
        Err((_, ref e)) if let Some(told) = e.downcast_ref::<commands::signals::ToldToEnd>() => {
            ExitCode::from(told.status())
        }
        Err((status, e)) => {
            let text = match json {
                true => serde_json::json!({ "error": { "message": format!("{e:#}") } }).to_string(),
                false => format!("drydock: {e:#}"),
            };
            // The exit status tells it, too.
            let _nobody_reads = writeln!(io::stderr(), "{text}");
            ExitCode::from(status)
        }
    }
}

fn run(line: Line) -> Result<u8, (u8, anyhow::Error)> {
    let dir = std::path::absolute(&line.state_dir).context("--state-dir").map_err(|e| (1, e))?;
    let output = line.output;
    let done = |result: anyhow::Result<()>| result.map(|()| 0).map_err(|e| (1, e));
    match line.command {
        Command::Serve(config) => {
            config.check().map_err(|e| (WRONG_LINE, anyhow::Error::msg(e)))?;
            done(serve::run(&dir, *config))
        }
        Command::Stop => done(commands::stop::run(&dir, output)),
        Command::Image(args) => done(commands::image::run(args, &dir, output.json)),
        Command::Warden(options) => done(commands::warden::run(&dir, options).map(drop)),
        Command::Doctor(args) => done(commands::doctor::run(args, &dir, output.json)),
        Command::Session(options) => done(commands::block_on(commands::session::run(&dir, options, output))),
        Command::Registry(options) => {
            done(commands::block_on(commands::registry::run(&dir, options, output)))
        }
        Command::Cp(options) => done(commands::block_on(commands::cp::run(&dir, options, output))),
        Command::Exec(options) => match commands::block_on(commands::exec::run(&dir, options)) {
            Ok(status) => Ok(u8::try_from(status).unwrap_or(255)),
            Err(e) => Err((commands::exec::NOT_RUN as u8, e)),
        },
    }
}
