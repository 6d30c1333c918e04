//! `drydock session create|list|show|extend|delete`.

use super::{Output, harmless, signals::Endings};
use crate::{client::Client, config::Span, sessions::now};
use clap::{Args, Subcommand};
use drydock_protocol::api::{CreateSession, Created, Extend, Queued, Session, SessionLine, Status};
use hyper::Method;
use std::{cell::RefCell, fmt::Write, path::Path, time::Duration};

/// Options of `drydock session`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a session and wait until it is ready.
    Create {
        /// Which playground.
        #[arg(long, default_value = "linux")]
        playground: String,
        /// Number of nodes.
        #[arg(long)]
        nodes: Option<u8>,
        /// Its life, such as 90m or 2h.
        #[arg(long)]
        ttl: Option<Span>,
        /// Fail when the host is full, instead of waiting in the queue.
        #[arg(long)]
        no_wait: bool,
    },
    /// List the sessions that have not ended.
    List,
    /// Show a session, with the measured steps of its start and end.
    Show {
        /// The session's id.
        id: String,
    },
    /// Let a session live longer.
    Extend {
        /// The session's id.
        id: String,
        /// By how much, such as 30m.
        #[arg(long, default_value = "1h")]
        by: Span,
    },
    /// End sessions and delete everything of them.
    Delete {
        /// The sessions' ids.
        #[arg(required = true)]
        ids: Vec<String>,
    },
}

/// Runs the command.
pub async fn run(state_dir: &Path, options: Options, output: Output) -> anyhow::Result<()> {
    let client = Client::new(state_dir);
    match options.command {
        Command::Create { playground, nodes, ttl, no_wait } => {
            let wish = CreateSession { playground, nodes, ttl_seconds: ttl.map(Span::seconds) };
            output.print(&create(&client, &wish, no_wait).await?, created_text)
        }
        Command::List => output.print(&client.get::<Vec<SessionLine>>("/sessions").await?, |l| list_text(l)),
        Command::Show { id } => {
            output.print(&client.get::<Session>(&format!("/sessions/{}", plain(&id)?)).await?, show_text)
        }
        Command::Extend { id, by } => {
            let path = format!("/sessions/{}/extend", plain(&id)?);
            let (_, session): (_, Session) =
                client.json(Method::POST, &path, Some(&Extend { seconds: by.seconds() })).await?;
            output
                .print(&session, |s| format!("{} ends in {}", s.id, span(s.expires_at.saturating_sub(now()))))
        }
        Command::Delete { ids } => delete(&client, &ids, output).await,
    }
}

/// Ends them all, whatever becomes of each; fails if not all of them are gone.
async fn delete(client: &Client, ids: &[String], output: Output) -> anyhow::Result<()> {
    let (mut deleted, mut failed) = (Vec::new(), Vec::new());
    for id in ids {
        let done = match plain(id) {
            Ok(id) => client.done::<()>(Method::DELETE, &format!("/sessions/{id}"), None).await,
            Err(e) => Err(e),
        };
        match done {
            Ok(()) => deleted.push(id),
            Err(e) => failed.push((id, format!("{e:#}"))),
        }
    }
    let told: Vec<_> =
        failed.iter().map(|(id, why)| serde_json::json!({ "id": id, "message": why })).collect();
    output.print(&serde_json::json!({ "deleted": deleted, "failed": told }), |_| String::new())?;
    let told: Vec<_> = failed.iter().map(|(id, why)| format!("{}: {why}", harmless(id))).collect();
    anyhow::ensure!(failed.is_empty(), "{}", told.join("\n"));
    Ok(())
}

/// An id that may stand in a path.
pub fn plain(id: &str) -> anyhow::Result<drydock_protocol::SessionId> {
    Ok(id.parse()?)
}

async fn create(client: &Client, wish: &CreateSession, no_wait: bool) -> anyhow::Result<Created> {
    let mut endings = Endings::new()?;
    let ticket = RefCell::new(None);
    tokio::select! {
        made = wait(client, wish, no_wait, &ticket) => made,
        told = endings.first() => {
            // Who comes next must not wait for us until the server thinks that we are gone.
            if let Some(ticket) = ticket.take()
                && let Err(e) = leave(client, &ticket).await
            {
                tracing::debug!(error = %e, "the place in the queue was gone already");
            }
            Err(told.into())
        }
    }
}

async fn leave(client: &Client, ticket: &str) -> anyhow::Result<()> {
    client.done::<()>(Method::DELETE, &format!("/queue/{ticket}"), None).await
}

/// Asks until the session is made. `ticket` is the place in the queue that is held meanwhile.
async fn wait(
    client: &Client,
    wish: &CreateSession,
    no_wait: bool,
    ticket: &RefCell<Option<String>>,
) -> anyhow::Result<Created> {
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Answer {
        Created(Created),
        Queued(Queued),
    }
    let (_, mut answer) = client.json(Method::POST, "/sessions", Some(wish)).await?;
    let mut last = 0;
    loop {
        match answer {
            Answer::Created(created) => return Ok(created),
            Answer::Queued(q) if no_wait => {
                leave(client, &q.ticket).await?;
                anyhow::bail!(
                    "The host is full: it would be place {} in the queue, about {} to wait.",
                    q.place,
                    span(q.estimate_seconds)
                );
            }
            Answer::Queued(q) => {
                ticket.replace(Some(q.ticket.clone()));
                if q.place != last {
                    eprintln!(
                        "The host is full: place {} in the queue, about {} to wait.",
                        q.place,
                        span(q.estimate_seconds)
                    );
                    last = q.place;
                }
                // The queue is asked, it does not tell.
                tokio::time::sleep(Duration::from_secs(2)).await;
                answer = client.get(&format!("/queue/{}", q.ticket)).await?;
            }
        }
    }
}

fn created_text(created: &Created) -> String {
    let mut text =
        format!("Session {} is ready after {:.0} ms.\n{}\n", created.id, created.ready_ms, created.url);
    for node in &created.nodes {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {:8} {}", node.name.to_string(), harmless(&node.address));
    }
    text.trim_end().to_owned()
}

fn list_text(lines: &[SessionLine]) -> String {
    let mut text = format!(
        "{:12} {:12} {:9} {:>5} {:>8} {:>8} {:>9} {:>9} {:>8}",
        "ID", "PLAYGROUND", "STATUS", "NODES", "AGE", "LEFT", "MEMORY", "PROCESSES", "CPU"
    );
    for l in lines {
        let (age, left) = (now().saturating_sub(l.created_at), l.expires_at.saturating_sub(now()));
        let (memory, processes) = l.usage.map_or_else(unknown, |u| figures(u.memory, u.processes));
        let cpu = l.usage.map_or_else(|| "?".to_owned(), |u| format!("{} s", u.cpu_seconds));
        let _ = write!(
            text,
            "\n{:12} {:12} {:9} {:>5} {:>8} {:>8} {:>9} {processes:>9} {cpu:>8}",
            l.id.as_str(),
            l.playground,
            status_name(l.status),
            l.nodes,
            span(age),
            span(left),
            memory + " MiB",
        );
    }
    text
}

fn show_text(s: &Session) -> String {
    let mut text = format!("Session {} ({}), {}", s.id, s.playground, status_name(s.status));
    match &s.ended_because {
        Some(why) => drop(write!(text, ". {}", harmless(why))),
        None => drop(write!(text, ", ends in {}", span(s.expires_at.saturating_sub(now())))),
    }
    if let Some(state) = &s.state {
        let l = &s.limits;
        let _ = write!(
            text,
            "\n  limits: {} CPUs, {} MiB of memory, {} MiB of disk, {} processes, {} nodes",
            f64::from(l.cpu_millis) / 1000.0,
            l.memory >> 20,
            l.disk >> 20,
            l.processes,
            s.max_nodes
        );
        for n in &state.nodes {
            let (memory, processes) = n.usage.map_or_else(unknown, |u| figures(u.memory, u.processes));
            let _ = write!(
                text,
                "\n  {:8} {:16} {:9} {memory:>6} MiB {processes:>5} processes",
                n.name.to_string(),
                harmless(&n.address),
                format!("{:?}", n.power).to_lowercase(),
            );
        }
        let _ = write!(text, "\n  {} terminals, {} viewers", state.terminals.len(), state.viewers.len());
    }
    if !s.trace.is_empty() {
        let _ = write!(text, "\n\n{:>10} {:>10}  step", "at ms", "took ms");
    }
    for step in &s.trace {
        let (at, took) = (step.start_micros as f64 / 1000.0, step.micros as f64 / 1000.0);
        let _ = write!(text, "\n{at:>10.2} {took:>10.2}  {}", harmless(&step.name));
    }
    text
}

/// Memory in MiB and processes.
fn figures(memory: u64, processes: u32) -> (String, String) {
    ((memory >> 20).to_string(), processes.to_string())
}

/// The same where nobody can see them.
fn unknown() -> (String, String) {
    ("?".into(), "?".into())
}

fn status_name(status: Status) -> &'static str {
    match status {
        Status::Starting => "starting",
        Status::Running => "running",
        Status::Asleep => "asleep",
        Status::Ended => "ended",
    }
}

/// A length of time for people.
pub fn span(seconds: u64) -> String {
    match seconds {
        s if s < 60 => format!("{s}s"),
        s if s < 3600 => format!("{}m", s / 60),
        s if s < 86_400 => format!("{}h{:02}m", s / 3600, s % 3600 / 60),
        s => format!("{}d{:02}h", s / 86_400, s % 86_400 / 3600),
    }
}
